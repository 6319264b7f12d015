//! What a sandbox mounts to work in a story's workspace, whichever way its files are laid out.

use std::path::{Path, PathBuf};

use super::base::Layers;
use super::checkout::Backend;
use super::fsmonitor;
use super::private_git::{self, History};
use super::removal;
use super::state;
use super::stories::{Story, Upper, WorkspaceError, Workspaces};
use crate::sandbox::policy::{self, Access, Grant, Limits, Network, OwnFile, Policy, Tier, WorkspaceSource};
use crate::sandbox::profile::WorkspaceMode;
use crate::sandbox::{Cause, Engine};

/// The folder the payload works in, and what lies over or beside it.
#[derive(Clone, Debug)]
pub struct Mounts {
    pub workspace: policy::Workspace,
    pub grants: Vec<Grant>,
    pub files: Vec<OwnFile>,
}

impl Workspaces {
    /// What a role that may do so much with the story's files mounts.
    pub fn mounts(&self, story: &Story, mode: WorkspaceMode) -> Result<Mounts, WorkspaceError> {
        let inside = private_git::folder_inside(&self.repository);
        let access = if mode == WorkspaceMode::Read { Access::Read } else { Access::Write };
        let mut grants = self.history(story)?;
        let source = match story.backend {
            Backend::Overlay => self.overlay(story, mode)?,
            Backend::Checkout => {
                if mode == WorkspaceMode::Discard {
                    return Err(WorkspaceError::NeedsOverlay { story: story.story.clone() });
                }
                let folder = self.folder(&story.slug());
                let reason = "the story's private git directory".to_owned();
                grants.push(Grant { host: folder.join("git"), inside: inside.join(".git"), access, reason });
                WorkspaceSource::Folder(folder.join("tree"))
            }
        };
        // All that differs from the base lies in one folder, as far as nothing is written to memory over it.
        let changes = match &source {
            WorkspaceSource::Overlay { upper: policy::Upper::Folders { upper, .. }, .. } => Some(upper),
            WorkspaceSource::Overlay { lower, .. } if access == Access::Read => lower.first(),
            _ => None,
        };
        let mut files = Vec::new();
        if let Some(changes) = changes {
            let (shown, made) = fsmonitor::furnish(changes, &inside, story.base_id()?);
            grants.extend(shown);
            files = made;
        }
        Ok(Mounts { workspace: policy::Workspace { source, inside, access }, grants, files })
    }

    fn overlay(&self, story: &Story, mode: WorkspaceMode) -> Result<WorkspaceSource, WorkspaceError> {
        let layers = Layers::new(&self.state, &self.repository);
        let stack = layers.ensure(story.base_id()?)?;
        let git = private_git::ensure(&self.state, &self.repository, &stack)?;
        let base = git.into_iter().zip(stack.trees()).flat_map(|(git, tree)| [git, tree]);
        let folder = self.folder(&story.slug());
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        if mode == WorkspaceMode::Write && story.upper == Upper::Disk {
            return Ok(WorkspaceSource::Overlay { lower: base.collect(), upper: policy::Upper::Folders { upper, work } });
        }
        // Who may not change the story, or writes to memory first, sees it as a lower layer: the kernel never writes there.
        let lower = std::iter::once(upper).chain(base).collect();
        Ok(WorkspaceSource::Overlay { lower, upper: policy::Upper::Private })
    }

    /// The repository's own objects, read-only, for who asked for them.
    fn history(&self, story: &Story) -> Result<Vec<Grant>, WorkspaceError> {
        if story.history == History::Shallow {
            return Ok(Vec::new());
        }
        let grant = |(at, host)| Grant {
            host,
            inside: PathBuf::from(format!("{}/{at}", private_git::OBJECTS_INSIDE)),
            access: Access::Read,
            reason: "history = full".to_owned(),
        };
        Ok(private_git::object_folders(&self.repository)?.into_iter().enumerate().map(grant).collect())
    }
}

/// Can a sandbox of this engine mount an overlay whose writes go below `state`? It is tried, with nothing in it to execute.
pub fn overlay_works(engine: &Engine, state: &Path) -> bool {
    let place = state.join(state::unique(".try-"));
    let [lower, upper, work] = ["lower", "upper", "work"].map(|name| place.join(name));
    if [&lower, &upper, &work].into_iter().any(|folder| fs_err::create_dir_all(folder).is_err()) {
        return false;
    }
    let source = WorkspaceSource::Overlay { lower: vec![lower], upper: policy::Upper::Folders { upper, work } };
    let policy = Policy {
        profile: "overlay".to_owned(),
        tier: Tier::Full,
        workspace: policy::Workspace { source, inside: "/workspace".into(), access: Access::Write },
        grants: Vec::new(),
        links: Vec::new(),
        files: Vec::new(),
        masks: Vec::new(),
        caches: Vec::new(),
        trees: Vec::new(),
        network: Network::default(),
        limits: Limits::default(),
        environment: Vec::new(),
        addresses: Vec::new(),
        listeners: Vec::new(),
        socket: None,
        terminal: false,
    };
    let ran = engine.sandbox(&policy).command("/nothing").output(0);
    // Everything was built when the program that is not there was looked for.
    let works = ran.is_ok_and(|finished| finished.outcome.cause == Cause::ExecFailed);
    drop(removal::discard(&place, &state.join("trash")));
    works
}

//! From a role and the files it works on to a policy.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{Workshop, network};
use crate::config::Role;
use crate::sandbox::plan::{Unenforceable, plan};
use crate::sandbox::policy::{Access, NetworkMode, Policy, Tier, Upper, Workspace, WorkspaceSource};
use crate::sandbox::profile::{Profile, ProfileError, WorkspaceMode, load};
use crate::sandbox::resolve::{ExecOptions, ResolveError, resolve};
use crate::sandbox::toolchains::{Host, Surroundings};
use crate::workspace::mounting::Mounts;

/// The files that a process works on.
#[derive(Debug)]
pub enum Files {
    /// A story's own workspace, mounted for a role that may do so much with it.
    Story(Mounts),
    /// A commit's tree, top layer first; what is written is dropped after the process.
    Tree { lower: Vec<PathBuf>, inside: PathBuf },
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Unenforceable(#[from] Unenforceable),
    #[error("the profile {profile} asks for the tier no-userns, and a story's files need mounts")]
    Tier { profile: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl PolicyError {
    /// What to do next.
    pub fn next(&self) -> String {
        match self {
            Self::Profile(_) => "see `cofferdam profile list`, and mend the profile that is named".to_owned(),
            Self::Resolve(error) => error.next(),
            Self::Unenforceable(_) => "cofferdam doctor names what mends it".to_owned(),
            Self::Tier { .. } => "choose a profile of the tier full".to_owned(),
            Self::Io { .. } => "is the repository still there, and may you read it?".to_owned(),
        }
    }
}

/// Policies without files, by role and program: what a host offers is looked for once, not for each process.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<HashMap<Asked, Policy>>);

/// The role, whether its configured agent is meant, and the program.
type Asked = (Role, bool, Option<OsString>);

impl Known {
    pub(crate) fn forget(&self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}

/// The policy of a role on these files. `program` is what will be run, when it is named by an absolute path.
///
/// # Errors
/// When the profile cannot be read, or asks for what must not be granted.
pub fn policy(shop: &Workshop, role: Role, files: Files, program: Option<&Path>) -> Result<Policy, PolicyError> {
    let base = base(shop, role, role != Role::Gate, program)?;
    Ok(with_files(base, files, shop.mode_of(role)?))
}

/// The policy of our own process that looks at files: the built-in profile of a verifier, whatever agent of that role is configured, and no network.
///
/// # Errors
/// As [`policy`].
pub fn own(shop: &Workshop, files: Files) -> Result<Policy, PolicyError> {
    Ok(with_files(base(shop, Role::Verifier, false, None)?, files, WorkspaceMode::Read))
}

fn base(shop: &Workshop, role: Role, configured: bool, program: Option<&Path>) -> Result<Policy, PolicyError> {
    let key = (role, configured, program.map(|path| path.as_os_str().to_owned()));
    let known = shop.policies.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&key).cloned();
    Ok(match known {
        Some(policy) => policy,
        None => {
            let ours = role == Role::Verifier && !configured;
            let name = if ours { role.name().to_owned() } else { shop.profile_of(role) };
            let profile = load::load(&name, shop.around.profiles.as_deref())?;
            let limits = shop.config().limits.get(&role).copied().unwrap_or_default();
            let config = shop.config();
            let allow = if ours { Vec::new() } else { config.network.get(&role).cloned().unwrap_or_default() };
            let models = !ours && network::is_agent(role) && !network::endpoints(&config, &shop.around).is_empty();
            let options = ExecOptions {
                // Nothing is opened that nobody configured: without a host or a model there is no network at all.
                net: (models || !allow.is_empty()).then_some(NetworkMode::Gateway),
                allow,
                program: key.2.clone(),
                limits: crate::sandbox::policy::Limits {
                    memory: limits.memory,
                    pids: limits.pids,
                    cpus: limits.cpus,
                    wall: limits.wall,
                    silence: limits.silence,
                    output: limits.output,
                    disk: limits.disk,
                    files: limits.files,
                    ..Default::default()
                },
                ..ExecOptions::default()
            };
            let policy = without_files(&profile, options, shop.root(), &shop.around)?;
            if policy.tier != Tier::Full {
                return Err(PolicyError::Tier { profile: name });
            }
            shop.policies.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(key, policy.clone());
            policy
        }
    })
}

impl Workshop {
    /// What a role may do with the files.
    ///
    /// # Errors
    /// When its profile cannot be read.
    pub fn mode_of(&self, role: Role) -> Result<WorkspaceMode, PolicyError> {
        Ok(load::load(&self.profile_of(role), self.around.profiles.as_deref())?.files.workspace)
    }

    /// Whether this host can enforce what a role needs: asked before anything is begun.
    ///
    /// # Errors
    /// What is missing.
    pub fn check(&self, role: Role) -> Result<(), PolicyError> {
        let files = Files::Tree { lower: vec![self.root().to_owned()], inside: "/workspace/check".into() };
        plan(&policy(self, role, files, None)?, &self.engine.facts)?;
        Ok(())
    }
}

/// What a profile grants beside the files to work on. `checkout` is the user's own: nothing of it is shown.
///
/// # Errors
/// The first thing that cannot or must not be granted.
pub fn without_files(profile: &Profile, options: ExecOptions, checkout: &Path, around: &Surroundings) -> Result<Policy, PolicyError> {
    let checkout = fs_err::canonicalize(checkout).map_err(|source| PolicyError::Io { path: checkout.to_owned(), source })?;
    let net = (profile.network.mode != NetworkMode::Host).then_some(NetworkMode::None);
    let options = ExecOptions { cwd: checkout.clone(), net: options.net.or(net), ..options };
    let mut policy = resolve(&Host::default(), profile, &options, around)?.policy;
    // The user's checkout gave the policy a place to start from; nothing of it is mounted.
    policy.grants.retain(|grant| !grant.inside.starts_with(&checkout));
    policy.links.retain(|link| !link.inside.starts_with(&checkout));
    policy.masks.retain(|mask| !mask.inside.starts_with(&checkout));
    policy.caches.retain(|cache| !cache.inside.starts_with(&checkout));
    Ok(policy)
}

/// Puts the files to work on into a policy.
pub fn with_files(mut policy: Policy, files: Files, mode: WorkspaceMode) -> Policy {
    let access = if mode == WorkspaceMode::Read { Access::Read } else { Access::Write };
    match files {
        Files::Tree { lower, inside } => {
            policy.workspace = Workspace { source: WorkspaceSource::Overlay { lower, upper: Upper::Private }, inside, access };
        }
        Files::Story(mounts) => {
            policy.workspace = mounts.workspace;
            policy.grants.extend(mounts.grants);
            policy.files.extend(mounts.files);
        }
    }
    policy
}

//! How a process of any role is run: what it may touch, where its words go, how it is asked to stop.
//!
//! ```text
//! profile + limits + files ─▶ Policy ─▶ sandbox ─▶ transcript (without secrets) + receipt, both evidence
//! ```
//!
//! Agents, evaluators and gates all come through here: there is no other way to start a process for a story.

pub mod form;
pub mod network;
pub mod policy;
pub mod process;
pub mod stop;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::config::secrets::known_secrets;
use crate::config::{Config, Role};
use crate::sandbox::Engine;
use crate::sandbox::toolchains::Surroundings;
use crate::store::Evidence;
use crate::workspace::stories::{WorkspaceError, Workspaces};

pub use crate::base::redact::Secrets;
pub use network::Purse;
pub use policy::{Files, PolicyError, policy};
pub use process::{Process, ProcessError, Ran};
pub use stop::Stop;

/// What programs say that they are, each asked once.
#[derive(Debug, Default)]
pub struct Versions(Mutex<BTreeMap<String, String>>);

impl Versions {
    /// The known answer, else what `ask` gives. Two never ask at the same time; no answer is not remembered.
    pub fn get(&self, program: &str, ask: impl FnOnce() -> Option<String>) -> Option<String> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = known.get(program) {
            return Some(answer.clone());
        }
        let answer = ask()?;
        known.insert(program.to_owned(), answer.clone());
        Some(answer)
    }
}

/// What all processes of a run share.
#[derive(Debug)]
pub struct Workshop {
    pub engine: Engine,
    pub evidence: Evidence,
    /// What must never be kept. A login is renewed by its own program, so there may be more of it when an agent is called.
    secrets: RwLock<Secrets>,
    pub around: Surroundings,
    /// The worktree that the run was started from. Stories are read there; nothing is ever written there.
    root: PathBuf,
    /// The configuration as it is now: it is read anew when the target moves.
    config: RwLock<Arc<Config>>,
    pub(crate) policies: policy::Known,
    /// What programs of agents say that they are.
    pub versions: Versions,
    doors: network::Doors,
}

impl Workshop {
    pub fn new(engine: Engine, evidence: Evidence, around: Surroundings, root: &Path, config: Arc<Config>) -> Self {
        let secrets = RwLock::new(known_secrets(&around.variables, &config));
        Self {
            engine,
            evidence,
            secrets,
            around,
            root: root.to_owned(),
            config: RwLock::new(config),
            policies: policy::Known::default(),
            versions: Versions::default(),
            doors: network::Doors::default(),
        }
    }

    /// Values that must never be kept, beside those that are known already.
    pub fn conceal(&self, more: impl IntoIterator<Item = (String, Vec<u8>)>) {
        let mut secrets = self.secrets.write().unwrap_or_else(PoisonError::into_inner);
        *secrets = std::mem::take(&mut *secrets).and(more);
    }

    /// All of them that are known by now.
    pub fn secrets(&self) -> Secrets {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The repository's workspaces: opened by each thread for itself.
    ///
    /// # Errors
    /// When the repository cannot be opened any more.
    pub fn workspaces(&self) -> Result<Workspaces, WorkspaceError> {
        let mut workspaces = Workspaces::open(&self.root)?;
        workspaces.state.keep_layers(self.config().workspace.layers.bytes());
        workspaces.state.compact_in_background();
        Ok(workspaces)
    }

    /// Where a person's own texts of roles are.
    pub fn prompts(&self) -> Option<PathBuf> {
        self.around.profiles.as_deref().and_then(Path::parent).map(|folder| folder.join("prompts"))
    }

    /// Where a person's own adapters are.
    pub fn adapters(&self) -> Option<PathBuf> {
        self.around.profiles.as_deref().and_then(Path::parent).map(|folder| folder.join("adapters"))
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a new configuration, for everything that begins from now on.
    pub fn set_config(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.policies.forget();
    }

    /// The profile of a role: the one that is configured, else the one of its name.
    pub fn profile_of(&self, role: Role) -> String {
        let config = self.config();
        config.agents.get(&role).and_then(|agent| agent.profile.clone()).unwrap_or_else(|| built_in_profile(role).to_owned())
    }
}

/// Roles without a profile of their own borrow one that allows no more than they need.
fn built_in_profile(role: Role) -> &'static str {
    match role {
        Role::Implementer => "implementer",
        Role::Verifier => "verifier",
        Role::Gate => "gate",
        Role::Planner | Role::Reviewer | Role::Diagnoser => "reviewer",
    }
}

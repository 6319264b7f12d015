//! Configuration: layers of TOML become one [`Config`], and every value remembers where it came from.
//!
//! ```text
//! default.toml < the user's config.toml < the target branch's cofferdam.toml < flags
//!        └──────────── layer: checked against keys ────────────┘ ─▶ merged settings ─▶ build ─▶ Config
//! ```
//!
//! All but [`load`] and [`secrets`] is pure. The target branch's file comes from its commit, never from a work tree: an agent that edits the
//! file changes nothing about its own verification.

pub mod build;
pub mod keys;
pub mod layer;
pub mod load;
pub mod schema;
pub mod secrets;
pub mod value;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::size::Size;

/// The name of the file at the root of the target branch.
pub const FILE: &str = "cofferdam.toml";

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub project: Project,
    pub run: Run,
    /// Of one story.
    pub budget: Budget,
    /// Of one run.
    pub run_budget: Budget,
    pub agents: BTreeMap<Role, Agent>,
    pub gates: Vec<Gate>,
    pub verify: Verify,
    /// Hosts that a role may reach. A role that is not here reaches nothing.
    pub network: BTreeMap<Role, Vec<String>>,
    pub credentials: Vec<Credential>,
    pub limits: BTreeMap<Role, Limits>,
    pub workspace: Workspace,
    pub sandbox: Sandbox,
    pub merge: Merge,
    pub queue: Queue,
    pub ci: Ci,
    pub streams: BTreeMap<String, Stream>,
    pub invariants: Invariants,
    pub health: Health,
    pub notify: Notify,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub target: String,
    pub stories: String,
    /// Nobody set `stories`: other usual places may be looked at.
    pub stories_by_default: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub parallel: u64,
    pub start_on: StartOn,
    pub iterations: u64,
    pub review_cycles: u64,
    pub review_notify: u64,
    pub stagnation: u64,
    pub approach_failures: u64,
    pub integration_every: u64,
    pub retry_delay: Duration,
}

/// What a story must have reached before those after it start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartOn {
    #[default]
    Merged,
    /// Stacked on a commit that has not landed yet.
    ReadyForReview,
}

/// Upper bounds. `None` is "no bound".
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    pub model_calls: Option<u64>,
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
    pub wall: Option<Duration>,
}

/// Whoever does something in a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    Planner,
    Implementer,
    Reviewer,
    Verifier,
    Diagnoser,
    Gate,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    pub adapter: String,
    pub model: Option<String>,
    /// The program and its arguments, with adapter `command`; else empty.
    pub command: Vec<String>,
    /// The sandbox profile; else the one that is named like the role.
    pub profile: Option<String>,
    pub contract: Contract,
    pub login: LoginUse,
}

/// What is done with a login that the agent's own program keeps on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginUse {
    /// The gateway reads its token for each request; a placeholder lies inside.
    Gateway,
    /// The file itself is copied into the sandbox.
    Share,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    With,
    Before,
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gate {
    pub name: String,
    pub run: String,
    /// Its own, else `limits.gate.wall`.
    pub timeout: Option<Duration>,
    pub cache: Vec<String>,
    /// Hosts it may reach, beside those that every gate may.
    pub network: Vec<String>,
    /// Where the tests it ran are counted.
    pub report: Option<Report>,
    pub when: When,
}

/// A gate's report of its tests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub format: ReportFormat,
    /// The file it writes; none is its output.
    pub path: Option<String>,
}

/// Reports that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFormat {
    Junit,
    Tap,
    /// `cargo test` and `cargo nextest`.
    Cargo,
    Pytest,
    /// `go test -v`, or `go test -json`.
    Go,
    /// `node --test`, in its `spec` or `tap` form.
    Node,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// On every candidate.
    Always,
    /// Every few landings, and at the end.
    Integration,
    /// Before the run is declared done.
    Final,
    /// On what has landed.
    Post,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    pub protected: Vec<String>,
    pub tests: Vec<String>,
    pub reviewers: u64,
    pub max_files: u64,
    pub max_bytes: Size,
    pub binaries: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub host: String,
    pub header: String,
    pub from: Secret,
    /// The model API that the host speaks, when it is not one of the providers' own hosts.
    pub api: Option<String>,
    /// The requests that get it; empty is every one to that host.
    pub methods: Vec<String>,
    pub path: Option<String>,
    /// The variable that holds a placeholder inside.
    pub variable: Option<String>,
}

/// Where a credential is taken from. The credential itself is never part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    Env(String),
    File(String),
    Command(String),
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Limits {
    pub memory: Option<Size>,
    pub pids: Option<u64>,
    pub cpus: Option<f64>,
    pub wall: Option<Duration>,
    /// How long it may neither print nor work.
    pub silence: Option<Duration>,
    pub output: Option<Size>,
    pub disk: Option<Size>,
    pub files: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    pub backend: Backend,
    /// Does an agent write to memory of a fixed size while it runs?
    pub in_memory: bool,
    /// Base layers that nothing uses, together.
    pub layers: Size,
    /// Each warm cache.
    pub caches: Size,
    pub copy: Vec<String>,
    pub setup: Option<String>,
}

impl Default for Workspace {
    /// Of a repository without a `cofferdam.toml`.
    fn default() -> Self {
        Self { backend: Backend::Auto, in_memory: false, layers: Size::gib(20), caches: Size::gib(10), copy: Vec::new(), setup: None }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Auto,
    Overlay,
    Checkout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// `no-userns` was asked for by name.
    pub allow_no_userns: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    pub style: Style,
    /// The remote a landing is pushed to.
    pub push: Option<String>,
    pub update_checkout: UpdateCheckout,
    pub landing: Landing,
    /// What is prepared to take back a landing that turned out red lands by itself; else a human approves it.
    pub revert: bool,
}

/// What happens to a story that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landing {
    /// It enters the queue by itself.
    Queue,
    /// A human approves the commit first.
    Approval,
    /// Ready is where the run ends.
    Stop,
}

/// What happens to a checkout of the target when it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateCheckout {
    /// Its files and its index stay byte for byte as they are.
    Never,
    FastForwardIfClean,
}

/// How stories are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Candidates that are built and tested at the same time.
    pub slots: u64,
    /// The most stories that are tested and landed as one.
    pub batch: u64,
}

/// External CI as a gate of every candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ci {
    /// None is no external CI.
    pub provider: Option<CiProvider>,
    /// Checks that must succeed on a candidate.
    pub required: Vec<String>,
    /// Checks that must succeed on what has landed.
    pub after: Vec<String>,
    /// The remote that candidates are pushed to.
    pub push: Option<String>,
    pub repository: String,
    pub api: String,
    pub token: Option<Secret>,
    pub command: Vec<String>,
    pub poll: Duration,
    pub timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CiProvider {
    GitHub,
    /// A program of this host, outside of every sandbox.
    Command,
}

/// The name under which external CI is a gate.
pub const CI_GATE: &str = "ci";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Merge,
    Squash,
    Rebase,
}

/// A label of stories with a priority and a cap of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    pub priority: u64,
    pub parallel: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invariants {
    pub require: Vec<String>,
    pub serial: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    pub interval: Duration,
    pub stale_after: Duration,
}

/// Who hears of what happens, outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// A program of this host, outside of every sandbox. Empty is nobody.
    pub command: Vec<String>,
    /// What an event is signed with.
    pub secret: Option<Secret>,
    /// Kinds of events, or whole families.
    pub on: Vec<String>,
}

/// The priority of what names none. 1 goes first, 9 last.
pub const DEFAULT_PRIORITY: u64 = 5;

impl Role {
    pub const ALL: [Self; 6] = [Self::Planner, Self::Implementer, Self::Reviewer, Self::Verifier, Self::Diagnoser, Self::Gate];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Implementer => "implementer",
            Self::Reviewer => "reviewer",
            Self::Verifier => "verifier",
            Self::Diagnoser => "diagnoser",
            Self::Gate => "gate",
        }
    }
}

impl ReportFormat {
    pub const ALL: [Self; 6] = [Self::Junit, Self::Tap, Self::Cargo, Self::Pytest, Self::Go, Self::Node];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Junit => "junit",
            Self::Tap => "tap",
            Self::Cargo => "cargo",
            Self::Pytest => "pytest",
            Self::Go => "go",
            Self::Node => "node",
        }
    }
}

impl Report {
    /// `FORMAT` or `FORMAT:PATH`.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, path) = text.split_once(':').map_or((text, None), |(name, path)| (name, Some(path)));
        let format = ReportFormat::ALL.into_iter().find(|format| format.name() == name).ok_or("names no known kind of report")?;
        if format == ReportFormat::Junit && path.is_none() {
            return Err("names no file; write junit:PATH");
        }
        match path.and_then(crate::base::path::flaw) {
            Some(why) => Err(why),
            None => Ok(Self { format, path: path.map(str::to_owned) }),
        }
    }
}

//! Runs gates: a fresh sandbox over the clean tree of one commit, and nothing of it is left but the log.
//!
//! The tree is an overlay of the commit's base layer, so ignored files, leftover processes and edited definitions of a story are not there:
//! what the gate writes goes to a folder of this run and is dropped with it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::gate::{self, Definition, Ended, Key, Seen};
use super::gate_memory::{Memory, Record};
use super::gate_network::{Door, Open};
use crate::base::redact::{Redactor, Secrets};
use crate::base::text::bytes_line;
use crate::config::secrets::known_secrets;
use crate::config::{Config, Limits as ConfigLimits, Role};
use crate::egress::{Grant, Tally};
use crate::report::{self, Counts, ReportError};
use crate::sandbox::policy::{Access, NetworkMode, Policy, Tier, Upper, Workspace, WorkspaceSource};
use crate::sandbox::profile::load::{ProfileError, load};
use crate::sandbox::resolve::{ExecOptions, ResolveError, resolve};
use crate::sandbox::toolchains::{Host, Surroundings};
use crate::sandbox::{Cause, Destination, Engine, Outcome, SandboxError, changes};
use crate::store::Evidence;
use crate::store::evidence::EvidenceWriter;
use crate::workspace::base::{BaseError, Layers};
use crate::workspace::cache::{Bounds, CacheError, Caches, Run};
use crate::workspace::git::{GitError, Oid, Repository};
use crate::workspace::private_git::{self, History};
use crate::workspace::removal;
use crate::workspace::state::{self, Lock, State, StateError};

/// A report larger than this is a flood.
const REPORT_MIB: usize = 32;
/// No more refused targets of one run are told.
const MOST_REFUSED: usize = 20;
/// How much of the log's end people and the next attempt read.
const TAIL: usize = 8 << 10;
/// Making and sweeping folders is short; whoever holds the lock longer hangs.
const SHORT_WAIT: Duration = Duration::from_secs(60);
/// A tree that differs in more files from what a warm cache was built from gains little by it.
const NEWER_MAX: usize = 20_000;

/// Why a gate said nothing. It is neither red nor green.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Base(#[from] BaseError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Profile(#[from] ProfileError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("gates need a worktree; this repository has none")]
    NoWorktree,
    #[error("the gateway of gate `{gate}` cannot be opened, so it was not run or was ended: {source}")]
    Gateway { gate: String, source: io::Error },
    #[error("gate `{gate}` could not be started: {why}")]
    NotStarted { gate: String, why: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What one question to a gate came to.
#[derive(Clone, Debug)]
pub struct Ran {
    pub record: Record,
    /// Remembered, and not run again.
    pub cached: bool,
    /// Of the run that counts; none when it was remembered.
    pub outcome: Option<Outcome>,
    /// What its gateway saw, when it may reach anything.
    pub tally: Tally,
}

/// Everything that the gates of one repository share.
#[derive(Debug)]
pub struct Gates<'a> {
    engine: &'a Engine,
    repository: Repository,
    state: State,
    evidence: Evidence,
    around: Surroundings,
    limits: ConfigLimits,
    /// Hosts that every gate may reach.
    network: Vec<String>,
    /// Keys that the gateway puts in.
    grants: Vec<Grant>,
    /// What no log of a gate may keep: a host may say back what it was sent.
    secrets: Secrets,
    memory: Memory,
    caches: Caches,
}

/// What was worked out a moment ago, by everything that it was worked out from: it looks at every folder of the toolchains.
static KNOWN: Mutex<BTreeMap<String, (Instant, Terms)>> = Mutex::new(BTreeMap::new());
/// Tools that are upgraded while a run goes on are noticed after so long.
const STALE: Duration = Duration::from_secs(5);

/// Under which a gate runs, and by which its results are remembered.
#[derive(Clone, Debug)]
struct Terms {
    policy: Policy,
    profile: String,
    toolchain: String,
}

impl<'a> Gates<'a> {
    /// For the repository that holds `place`, with the limits and the network of its target's configuration.
    ///
    /// # Errors
    /// When the repository or its state cannot be used.
    pub fn open(engine: &'a Engine, place: &Path, config: &Config, evidence: Evidence) -> Result<Self, GateError> {
        let repository = Repository::discover(place)?;
        let state = State::of(&repository)?;
        let memory = Memory::of(&state)?;
        let limits = config.limits.get(&Role::Gate).copied().unwrap_or_default();
        let around = Surroundings::of_process();
        let caches = Caches::of(&state, Bounds { bytes: config.workspace.caches, ..Bounds::default() })?;
        Ok(Self {
            engine,
            repository,
            state,
            evidence,
            secrets: known_secrets(&around.variables, config),
            around,
            limits,
            network: config.network.get(&Role::Gate).cloned().unwrap_or_default(),
            grants: Vec::new(),
            memory,
            caches,
        })
    }

    /// The same, with keys that are put in where a gate may reach their hosts. They never enter its sandbox.
    #[must_use]
    pub fn with_keys(mut self, grants: Vec<Grant>) -> Self {
        self.grants = grants;
        self
    }

    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// The result of a gate on a commit: remembered, or run now, and run once more when it is red; `suspected` is told of the first run then.
    ///
    /// # Errors
    /// When it could not be run; that is no verdict on the tree.
    pub fn ask(
        &self,
        gate: &Definition,
        commit: Oid,
        fresh: bool,
        stop: &dyn Fn() -> Option<OwnedFd>,
        suspected: &dyn Fn(&Record),
    ) -> Result<Ran, GateError> {
        let terms = self.terms(gate)?;
        let key = self.key(gate, commit, &terms)?;
        let policy = terms.policy;
        if let Some(record) = self.memory.recall(&key).filter(|_| !fresh) {
            return Ok(Ran { record, cached: true, outcome: None, tally: Tally::default() });
        }
        let first = self.run(gate, commit, &key, policy.clone(), stop())?;
        let may_be_a_flake = matches!(first.record.seen.ended, Ended::Exited { code } if code != 0);
        let mut ran = first;
        if may_be_a_flake {
            suspected(&ran.record);
            // The same tree once more: a result that changes says something about the gate, and not about the tree.
            let mut again = self.run(gate, commit, &key, policy, stop())?;
            again.record.flaky = again.record.seen.ended == (Ended::Exited { code: 0 });
            again.record.logs.splice(0..0, ran.record.logs);
            again.record.wall_ms = again.record.wall_ms.saturating_add(ran.record.wall_ms);
            ran = again;
        }
        if ran.record.seen.is_remembered() {
            self.memory.keep(&ran.record)?;
        }
        Ok(ran)
    }

    /// What gates wrote to their caches on this commit becomes what the next ones find: it has landed.
    ///
    /// # Errors
    /// When the caches cannot be read.
    pub fn promote_caches(&self, landed: Oid) -> Result<(), GateError> {
        let landed = landed.to_string();
        for aside in self.caches.aside()?.into_iter().filter(|aside| aside.label == landed) {
            self.caches.promote(&aside.cache, &aside.id, &landed)?;
        }
        Ok(())
    }

    /// Drops what gates wrote to their caches on commits that nobody waits for any more.
    ///
    /// # Errors
    /// When the caches cannot be read.
    pub fn forget_caches(&self, live: &[Oid]) -> Result<(), GateError> {
        let live: BTreeSet<String> = live.iter().map(ToString::to_string).collect();
        for aside in self.caches.aside()?.into_iter().filter(|aside| !live.contains(&aside.label)) {
            self.caches.forget(&aside.cache, &aside.id)?;
        }
        Ok(())
    }

    /// What is remembered of a gate on a commit, without running anything.
    ///
    /// # Errors
    /// When there is no policy for it.
    pub fn remembered(&self, gate: &Definition, commit: Oid) -> Result<Option<Record>, GateError> {
        Ok(self.memory.recall(&self.key(gate, commit, &self.terms(gate)?)?))
    }

    fn terms(&self, gate: &Definition) -> Result<Terms, GateError> {
        let name = format!("{:?} {:?} {:?} {}", self.repository.worktree(), self.limits, self.network, gate.hash());
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (since, _)| since.elapsed() < STALE);
        if let Some((_, terms)) = known.get(&name) {
            return Ok(terms.clone());
        }
        // Held meanwhile: several gates that begin together ask for the same.
        let policy = self.policy(gate)?;
        let terms = Terms { profile: gate::digest(&policy), toolchain: toolchain(&policy), policy };
        known.insert(name, (Instant::now(), terms.clone()));
        Ok(terms)
    }

    fn key(&self, gate: &Definition, commit: Oid, terms: &Terms) -> Result<Key, GateError> {
        Ok(Key {
            tree: self.repository.tree_of(commit)?.to_string(),
            definition: gate.hash(),
            profile: terms.profile.clone(),
            toolchain: terms.toolchain.clone(),
        })
    }

    /// The policy of a gate, without the folders of one run.
    fn policy(&self, gate: &Definition) -> Result<Policy, GateError> {
        let profile = load("gate", self.around.profiles.as_deref())?;
        let checkout = self.repository.worktree().ok_or(GateError::NoWorktree)?;
        let checkout = fs_err::canonicalize(checkout)?;
        let (given, own) = (&self.limits, &profile.limits);
        let mut limits = crate::sandbox::policy::Limits {
            memory: given.memory,
            pids: given.pids,
            cpus: given.cpus,
            wall: gate.timeout.or(given.wall),
            output: given.output,
            disk: given.disk,
            files: given.files,
            ..crate::sandbox::policy::Limits::default()
        };
        // A repository's own file narrows the profile and never widens it; a gate's own timeout is what its author asks for.
        limits.memory = lower(limits.memory, own.memory);
        limits.pids = lower(limits.pids, own.pids);
        limits.output = lower(limits.output, own.output);
        limits.disk = lower(limits.disk, own.disk);
        limits.files = lower(limits.files, own.files);
        // Nothing is opened that nobody named.
        let allow = [&self.network[..], &gate.network[..]].concat();
        let mode = if allow.is_empty() { NetworkMode::None } else { NetworkMode::Gateway };
        let options = ExecOptions {
            cwd: checkout.clone(),
            net: (profile.network.mode != NetworkMode::Host).then_some(mode),
            allow,
            // Also where a lower tier is allowed: the clean tree is an overlay, and there is none without a namespace of its own.
            require: Some(Tier::Full),
            limits,
            ..ExecOptions::default()
        };
        let mut policy = resolve(&Host::default(), &profile, &options, &self.around)?.policy;
        // The user's checkout gave the policy a place to start from; nothing of it is mounted.
        policy.grants.retain(|grant| !grant.inside.starts_with(&checkout));
        policy.links.retain(|link| !link.inside.starts_with(&checkout));
        policy.masks.retain(|mask| !mask.inside.starts_with(&checkout));
        policy.caches.retain(|cache| !cache.inside.starts_with(&checkout));
        // A person's language and terminal must not decide what lands: the same tree has the same result in the morning and from a service.
        const PERSONAL: [&str; 4] = ["TERM", "COLORTERM", "NO_COLOR", "LANGUAGE"];
        policy.environment.retain(|(name, _)| {
            let name = name.to_string_lossy();
            !(PERSONAL.contains(&name.as_ref()) || name == "LANG" || name.starts_with("LC_"))
        });
        policy.environment.push(("LANG".into(), "C.UTF-8".into()));
        policy.environment.push(("CI".into(), "true".into()));
        let inside = private_git::folder_inside(&self.repository);
        policy.workspace =
            Workspace { source: WorkspaceSource::Overlay { lower: Vec::new(), upper: Upper::Private }, inside, access: Access::Write };
        Ok(policy)
    }

    fn run(&self, gate: &Definition, commit: Oid, key: &Key, mut policy: Policy, stop: Option<OwnedFd>) -> Result<Ran, GateError> {
        let room = Room::make(&self.state)?;
        let stack = Layers::new(&self.state, &self.repository).ensure(commit)?;
        let git = private_git::ensure(&self.state, &self.repository, &stack)?;
        // A gate may ask git what it is looking at, and whether it changed what it generated.
        private_git::begin(&room.upper(), &self.repository, commit, "candidate", None, History::Shallow)?;
        // What an earlier landed run left, as it was; what this run writes is its own, and dropped unless this very tree lands.
        let mut warm =
            gate.cache.iter().map(|path| Ok((self.caches.open(&cache_name(gate, path))?, path))).collect::<Result<Vec<_>, CacheError>>()?;
        let newer = self.newer(commit, &room, warm.iter_mut().map(|(run, _)| run))?;
        let base = git.into_iter().zip(stack.trees()).flat_map(|(git, tree)| [git, tree]);
        policy.workspace.source = WorkspaceSource::Overlay {
            lower: newer.into_iter().chain(base).collect(),
            upper: Upper::Folders { upper: room.upper(), work: room.work() },
        };
        policy.caches.extend(warm.iter().map(|(run, path)| run.mount(policy.workspace.inside.join(path))));
        let unopened = |source| GateError::Gateway { gate: gate.name.clone(), source };
        let door = Door::of(&mut policy, &self.grants).map_err(unopened)?;
        let log = Log::new(self.evidence.writer()?, self.secrets.clone());
        let started = Instant::now();
        let command = self.engine.sandbox(&policy).command("/bin/sh").args(["-c", gate.run.as_str()].map(OsString::from));
        let mut running = command.stdout(log.destination()).stderr(log.destination()).spawn()?;
        if let Some(stop) = stop {
            running.stop_on(stop);
        }
        let open = door.map(|door| door.open(running.listeners())).transpose().map_err(unopened)?;
        let finished = running.wait();
        let tally = open.map(Open::close).unwrap_or_default();
        let outcome = finished?.outcome;
        for line in tally.lines().filter(|line| line.refused).take(MOST_REFUSED) {
            log.add(&format!("cofferdam: denied: {} ({}) — `network` of the gate names what it may reach\n", line.target, line.why));
        }
        let wall_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let ended = ended(gate, &outcome, &policy)?;
        let (log_id, tail) = log.finish()?;
        let report = gate.report.as_ref().map(|report| self.count(report, &room, &policy, &log_id));
        let mut record = Record::new(&gate.name, key.clone(), Seen::new(ended, report.transpose()?));
        record.logs = vec![log_id];
        record.tail = tail;
        record.wall_ms = wall_ms;
        room.remove(&self.state)?;
        if record.seen.ended == (Ended::Exited { code: 0 }) {
            for (run, _) in warm {
                run.set_aside(&commit.to_string())?;
            }
        }
        Ok(Ran { record, cached: false, outcome: Some(outcome), tally })
    }

    /// What was built in a warm cache was built from another commit. Tools that go by times, like make, take a source that is older than what
    /// was built for one that is built already; when a tree's files were laid down says nothing about that. So every file that differs from
    /// what was built is laid once more over the tree, as new as this run. Where that cannot be known, the run starts cold.
    fn newer<'r>(&self, commit: Oid, room: &Room, warm: impl Iterator<Item = &'r mut Run>) -> Result<Option<PathBuf>, GateError> {
        let mut warm: Vec<&mut Run> = warm.filter(|run| run.is_warm()).collect();
        if warm.is_empty() {
            return Ok(None);
        }
        let built: Option<BTreeSet<Oid>> =
            warm.iter().map(|run| run.landed()?.parse().ok().filter(|landed| self.repository.tree_of(*landed).is_ok())).collect();
        let folder = room.newer();
        fs_err::create_dir(&folder)?;
        let built: Option<Vec<Oid>> = built.map(|built| built.into_iter().collect());
        let layers = Layers::new(&self.state, &self.repository);
        if let Some(built) = built
            && layers.write_newer(&folder, commit, &built, NEWER_MAX)?
        {
            return Ok(Some(folder));
        }
        for run in &mut warm {
            run.start_cold()?;
        }
        Ok(None)
    }

    /// Every process of the run is dead: what it wrote is read without following anything.
    fn count(
        &self,
        report: &crate::config::Report,
        room: &Room,
        policy: &Policy,
        log: &crate::base::id::EvidenceId,
    ) -> Result<Result<Counts, ReportError>, GateError> {
        let bytes = match &report.path {
            None => self.evidence.read(log).map_err(|error| io::Error::other(error.to_string()))?,
            Some(path) => {
                // Only what this run wrote: a report that lies in the tree was written by whoever made the tree, and one in a cache by
                // an earlier run.
                let (folder, within) = written_to(policy, room, Path::new(path));
                let upper = OwnedFd::from(fs_err::File::open(folder)?.into_file());
                match changes::content(&upper, &within, (REPORT_MIB << 20) + 1) {
                    None => return Ok(Err(ReportError::Missing { path: path.clone() })),
                    Some(bytes) if bytes.len() > REPORT_MIB << 20 => return Ok(Err(ReportError::TooLarge { limit: REPORT_MIB })),
                    Some(bytes) => bytes,
                }
            }
        };
        Ok(report::count(report.format, &bytes))
    }
}

/// The folder that takes what is written at a path of the workspace, and the path in it.
fn written_to(policy: &Policy, room: &Room, path: &Path) -> (PathBuf, PathBuf) {
    let inside = policy.workspace.inside.join(path);
    let cache = policy.caches.iter().find_map(|cache| match &cache.upper {
        Upper::Folders { upper, .. } => Some((upper.clone(), inside.strip_prefix(&cache.inside).ok()?.to_owned())),
        Upper::Private => None,
    });
    cache.unwrap_or_else(|| (room.upper(), path.to_owned()))
}

/// Gates do not share caches: what one leaves must not decide about another. Of letters, digits and `-` alone: such a name is its folder's.
fn cache_name(gate: &Definition, path: &str) -> String {
    let readable: String = gate.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let hash = gate::digest(&(&gate.name, path));
    format!("gate-{readable}-{}", &hash[..12])
}

fn lower<T: PartialOrd + Copy>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if a < b { a } else { b }),
        (a, b) => a.or(b),
    }
}

/// How the command ended, in what a judge needs to know.
fn ended(gate: &Definition, outcome: &Outcome, policy: &Policy) -> Result<Ended, GateError> {
    let detail = || outcome.detail.clone().unwrap_or_else(|| "a limit was hit".to_owned());
    Ok(match outcome.cause {
        Cause::Exited => Ended::Exited { code: outcome.exit_code },
        Cause::Signalled => Ended::Killed { why: format!("the command was ended by signal {}", outcome.signal.unwrap_or(0)) },
        Cause::Cancelled => Ended::Cancelled,
        // No shell is no verdict on the tree.
        Cause::ExecFailed => return Err(GateError::NotStarted { gate: gate.name.clone(), why: detail() }),
        Cause::Wall => {
            let limit = policy.limits.wall.map(crate::base::duration::display).unwrap_or_default();
            Ended::Killed { why: format!("it took longer than its timeout of {limit}") }
        }
        Cause::Silence | Cause::Cpu | Cause::Memory | Cause::Pids | Cause::Disk | Cause::Files | Cause::Output => {
            Ended::Killed { why: format!("it was ended: {}", detail()) }
        }
    })
}

/// What the tools are, as far as folders tell: an upgrade replaces files, and that changes the time of their folder.
fn toolchain(policy: &Policy) -> String {
    let mut folders: BTreeSet<PathBuf> = policy.grants.iter().map(|grant| grant.host.clone()).collect();
    for (name, value) in &policy.environment {
        if name == "PATH" {
            folders.extend(std::env::split_paths(value));
        }
    }
    let mut seen = Vec::new();
    let mut look = |path: &Path| {
        if let Ok(metadata) = fs_err::metadata(path) {
            seen.push((path.to_string_lossy().into_owned(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec()));
        }
    };
    for folder in &folders {
        look(folder);
        let Ok(below) = fs_err::read_dir(folder) else { continue };
        let mut below: Vec<PathBuf> =
            below.flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).take(1000).collect();
        below.sort();
        below.iter().for_each(|path| look(path));
    }
    gate::digest(&(env!("CARGO_PKG_VERSION"), seen))
}

/// The folders of one run, held by a lock that ends with us, however we end.
struct Room {
    folder: PathBuf,
    _lock: Lock,
}

impl Room {
    fn place(state: &State) -> PathBuf {
        state.root().join("gate-runs")
    }

    /// Makes one, and takes away those whose holder was killed.
    fn make(state: &State) -> Result<Self, GateError> {
        let place = Self::place(state);
        fs_err::create_dir_all(&place)?;
        let _all = state.lock("gate-runs", SHORT_WAIT)?;
        for entry in fs_err::read_dir(&place)? {
            let folder = entry?.path();
            if Lock::acquire(&folder.join("lock"), "a gate's run", Duration::ZERO).is_ok() {
                removal::discard(&folder, &state.trash())?;
            }
        }
        let folder = place.join(state::unique("run-"));
        fs_err::create_dir(&folder)?;
        let lock = Lock::acquire(&folder.join("lock"), "a gate's run", Duration::ZERO)?;
        fs_err::create_dir(folder.join("upper"))?;
        fs_err::create_dir(folder.join("work"))?;
        Ok(Self { folder, _lock: lock })
    }

    /// What lies over the tree so that it is newer than what was built from another one.
    fn newer(&self) -> PathBuf {
        self.folder.join("newer")
    }

    fn upper(&self) -> PathBuf {
        self.folder.join("upper")
    }

    fn work(&self) -> PathBuf {
        self.folder.join("work")
    }

    fn remove(self, state: &State) -> io::Result<()> {
        removal::discard(&self.folder, &state.trash())
    }
}

/// Both streams in the order in which they came: to evidence, and the end of it for people.
#[derive(Clone)]
struct Log(Arc<Mutex<LogParts>>);

struct LogParts {
    writer: Option<EvidenceWriter>,
    redactor: Redactor,
    tail: Vec<u8>,
    failed: Option<io::Error>,
}

impl LogParts {
    fn keep(&mut self, bytes: &[u8]) {
        if let Some(Err(error)) = self.writer.as_mut().map(|writer| writer.write_all(bytes)) {
            // A gate whose log cannot be kept has no result; it is said at the end.
            self.failed = Some(error);
            self.writer = None;
        }
        self.tail.extend_from_slice(bytes);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
    }
}

impl Log {
    fn new(writer: EvidenceWriter, secrets: Secrets) -> Self {
        Self(Arc::new(Mutex::new(LogParts { writer: Some(writer), redactor: Redactor::new(secrets), tail: Vec::new(), failed: None })))
    }

    fn destination(&self) -> Destination {
        let log = self.clone();
        Destination::Function(Box::new(move |bytes| log.take(bytes)))
    }

    /// A line of ours.
    fn add(&self, line: &str) {
        self.take(line.as_bytes());
    }

    fn take(&self, bytes: &[u8]) {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let clean = parts.redactor.push(bytes);
        parts.keep(&clean);
    }

    fn finish(self) -> io::Result<(crate::base::id::EvidenceId, String)> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = parts.redactor.finish();
        parts.keep(&rest);
        if let Some(error) = parts.failed.take() {
            return Err(error);
        }
        let writer = parts.writer.take().ok_or_else(|| io::Error::other("the log was finished already"))?;
        let tail: Vec<String> = parts.tail.split(|byte| *byte == b'\n').map(bytes_line).collect();
        Ok((writer.finish()?, tail.join("\n").trim_end().to_owned()))
    }
}

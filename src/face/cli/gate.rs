//! `cofferdam gate`: the gates on a commit, before any money is spent.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use serde::Serialize;
use serde_json::json;

use super::busy::Busy;
use super::failure::{Exit, Failure};
use super::project::ProjectArgs;
use super::state::{self, State, VERSION};
use super::{exec, printer, profile, workspace};
use crate::base::duration;
use crate::base::id::{CommitId, EvidenceId, IdError, TreeId};
use crate::base::text::{one_line, plural};
use crate::config::load::{Loaded, Target};
use crate::config::{Config, When};
use crate::event::{GateResult, Kind};
use crate::queue::gate::{Definition, Floor, judge};
use crate::queue::gate_run::{GateError, Gates, Ran};
use crate::role::network::grants;
use crate::sandbox::Engine;
use crate::sandbox::plan::Facts;
use crate::sandbox::policy::Tier;
use crate::store::{Evidence, Store};
use crate::workspace::git::Oid;

#[derive(Debug, clap::Args)]
#[command(after_help = "Gates are those of the target branch's cofferdam.toml. Exit code 5 when one is red.")]
pub struct Args {
    /// Only these gates [default: all but those that run after a landing]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// The commit to test; nothing that is not committed takes part
    #[arg(long, value_name = "REF", default_value = "HEAD")]
    commit: String,
    /// Run also what is remembered for this very tree
    #[arg(long)]
    fresh: bool,
    /// How many gates run at once
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u8).range(1..=64))]
    jobs: u8,
    #[command(flatten)]
    project: ProjectArgs,
    /// The results as a JSON document
    #[arg(long)]
    json: bool,
}

/// One line of the result.
#[derive(Debug, Serialize)]
struct Line {
    gate: String,
    result: GateResult,
    flaky: bool,
    cached: bool,
    executed: Option<u64>,
    failed: Option<u64>,
    skipped: Option<u64>,
    problems: u32,
    why: Vec<String>,
    wall_ms: u64,
    /// What the gate may reach, of itself.
    network: Vec<String>,
    evidence: Vec<EvidenceId>,
    log_tail: String,
}

/// # Errors
/// When there are no such gates, or one could not be run.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let loaded = args.project.load()?;
    let gates = chosen(&loaded, &args.names)?;
    let mut store = State::find()?.store_to_write()?;
    let evidence = store.evidence();
    let place = loaded.root.clone();
    let repository = crate::workspace::git::Repository::discover(&place).map_err(|error| workspace::failed(&error.into()))?;
    let commit = repository.commit(&args.commit).map_err(|error| workspace::failed(&error.into()))?;
    let engine = engine()?;
    let job = Job { engine: &engine, loaded: &loaded, commit, evidence, fresh: args.fresh, jobs: usize::from(args.jobs), quiet: args.json };
    if !args.json {
        printer::err(&format!("gates on {} ({}), in fresh sandboxes", &commit.to_string()[..12], one_line(&args.commit)));
    }
    let results = job.run(&gates)?;
    let tree = repository.tree_of(commit).map_err(|e| workspace::failed(&e.into()))?;
    record(&mut store, &loaded, (commit, tree), &results, args.names.is_empty())?;
    if matches!(&loaded.target, Target::At { commit: at, .. } if *at == commit.to_string()) {
        // It has landed: what its gates left in their caches warms the next ones.
        job.open().and_then(|gates| gates.promote_caches(commit)).map_err(|error| failed(&error))?;
    }
    report(args, &loaded, commit, &tree, results)
}

fn engine() -> Result<Engine, Failure> {
    let program = std::env::current_exe().map_err(|e| Failure::new(Exit::Failure, "cofferdam cannot find itself").because(&e))?;
    Engine::with_helper(Facts::read(), &program)
        .map_err(|e| Failure::new(Exit::Failure, "the helper that starts sandboxes cannot be started").because(&e))
}

/// What the target's gates of these names say of a commit. What was paid for is in the log, and what is remembered is not paid for again.
///
/// # Errors
/// When one could not be run.
pub(super) fn on(loaded: &Loaded, state: &State, commit: Oid, names: &[String], quiet: bool) -> Result<Vec<(String, GateResult)>, Failure> {
    let gates = chosen(loaded, names)?;
    let mut store = state.store_to_write()?;
    let engine = engine()?;
    let job = Job { engine: &engine, loaded, commit, evidence: store.evidence(), fresh: false, jobs: 2, quiet };
    let lines = job.run(&gates)?;
    let repository = crate::workspace::git::Repository::discover(&loaded.root).map_err(|error| workspace::failed(&error.into()))?;
    let tree = repository.tree_of(commit).map_err(|error| workspace::failed(&error.into()))?;
    record(&mut store, loaded, (commit, tree), &lines, false)?;
    Ok(lines.into_iter().map(|line| (line.gate, line.result)).collect())
}

/// What was paid for is in the log, and its evidence can be looked at.
fn record(store: &mut Store, loaded: &Loaded, (commit, tree): (Oid, Oid), lines: &[Line], all: bool) -> Result<(), Failure> {
    let wrong = |error: IdError| Failure::new(Exit::Failure, "git gave an id that is none").because(&error);
    let (commit, tree): (CommitId, TreeId) = (commit.to_string().parse().map_err(wrong)?, tree.to_string().parse().map_err(wrong)?);
    let mut events = Vec::new();
    for line in lines.iter().filter(|line| !line.cached) {
        events.push(Kind::GateFinished {
            gate: line.gate.clone(),
            commit: commit.clone(),
            tree: tree.clone(),
            result: line.result,
            flaky: line.flaky,
            problems: line.problems,
            detail: Some(line.log_tail.clone()),
            evidence: line.evidence.clone(),
            cached: false,
            wall_ms: line.wall_ms,
        });
    }
    if let (true, Target::At { branch, commit: at }) = (all, &loaded.target)
        && *at == commit.as_str()
    {
        let known = store.overview().map_err(state::failure)?.target;
        if known.is_none_or(|known| known.commit != commit) {
            events.push(Kind::TargetMoved { target: format!("refs/heads/{branch}"), from: None, to: commit.clone() });
        }
        let red: Vec<&str> = lines.iter().filter(|line| line.result != GateResult::Pass).map(|line| line.gate.as_str()).collect();
        let detail = (!red.is_empty()).then(|| format!("red: {}", red.join(", ")));
        let evidence = lines.iter().find(|line| line.result != GateResult::Pass).and_then(|line| line.evidence.last().cloned());
        events.push(Kind::TargetChecked { commit, green: red.is_empty(), detail, evidence });
    }
    store.append(events.into_iter().map(|kind| state::said(None, kind)).collect()).map(drop).map_err(state::failure)
}

fn chosen(loaded: &Loaded, names: &[String]) -> Result<Vec<Definition>, Failure> {
    let all: Vec<Definition> = loaded.config.gates.iter().map(Definition::from).collect();
    let at = match &loaded.target {
        Target::At { branch, .. } => format!("the cofferdam.toml of branch {}", one_line(branch)),
        Target::Unborn | Target::NoRepository => "the configuration".to_owned(),
    };
    if all.is_empty() {
        return Err(Failure::usage(format!("{at} defines no gate"))
            .why("without a gate nothing is proven, and nothing can land")
            .next("add one and commit it:\n[[gate]]\nname = \"test\"\nrun = \"cargo test\""));
    }
    for name in names {
        if !all.iter().any(|gate| gate.name == *name) {
            let known: Vec<&str> = all.iter().map(|gate| gate.name.as_str()).collect();
            let next = match crate::base::suggest::nearest(name, known.iter().copied()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("name one of {}", crate::base::text::list(&known)),
            };
            return Err(Failure::usage(format!("{at} defines no gate `{}`", one_line(name))).next(next));
        }
    }
    let wanted = |gate: &Definition| if names.is_empty() { gate.when != When::Post } else { names.contains(&gate.name) };
    Ok(all.into_iter().filter(wanted).collect())
}

/// What came of each gate, by its place.
type Results = Vec<(usize, Result<Line, GateError>)>;

/// Everything the workers share.
struct Job<'a> {
    engine: &'a Engine,
    loaded: &'a Loaded,
    commit: Oid,
    evidence: Evidence,
    fresh: bool,
    jobs: usize,
    quiet: bool,
}

impl Job<'_> {
    fn config(&self) -> &Config {
        &self.loaded.config
    }

    fn open(&self) -> Result<Gates<'_>, GateError> {
        Ok(Gates::open(self.engine, &self.loaded.root, self.config(), self.evidence.clone())?.with_keys(grants(self.config())))
    }

    /// Runs the gates side by side; the results come in the order of the definitions.
    fn run(&self, gates: &[Definition]) -> Result<Vec<Line>, Failure> {
        let stopper = Stopper::new().map_err(|e| Failure::new(Exit::Failure, "signals cannot be received").because(&e))?;
        let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let busy = Busy::new(&format!("{} running", plural(gates.len() as u64, "gate", "gates")), self.quiet);
        std::thread::scope(|scope| {
            let workers: Vec<_> =
                (0..self.jobs.min(gates.len())).map(|_| scope.spawn(|| self.work(gates, (&next, &results), (&stopper, &busy)))).collect();
            let listener = scope.spawn(|| stopper.listen());
            for worker in workers {
                // A worker that panicked has left its gate without a result, which is found below.
                drop(worker.join());
            }
            stopper.done();
            drop(listener.join());
        });
        if stopper.asked.load(Ordering::SeqCst) {
            return Err(Failure::new(Exit::Interrupted, "interrupted; no gate is running any more"));
        }
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(at, _)| *at);
        let lines = results.into_iter().map(|(_, line)| line.map_err(|error| failed(&error)));
        let lines = lines.collect::<Result<Vec<_>, _>>()?;
        if lines.len() == gates.len() { Ok(lines) } else { Err(Failure::new(Exit::Failure, "a gate ended without a result")) }
    }

    fn work(&self, gates: &[Definition], (next, results): (&AtomicUsize, &Mutex<Results>), (stopper, busy): (&Stopper, &Busy)) {
        let opened = self.open();
        loop {
            let at = next.fetch_add(1, Ordering::SeqCst);
            let Some(gate) = gates.get(at).filter(|_| !stopper.asked.load(Ordering::SeqCst)) else { return };
            let line = match &opened {
                Ok(opened) => opened.ask(gate, self.commit, self.fresh, &|| stopper.channel(), &|_| {}).map(|ran| line(gate, &ran)),
                Err(error) => Err(GateError::NotStarted { gate: gate.name.clone(), why: error.to_string() }),
            };
            if let (Ok(line), false) = (&line, self.quiet) {
                busy.out(&shown(line));
            }
            results.lock().unwrap_or_else(PoisonError::into_inner).push((at, line));
        }
    }
}

fn line(gate: &Definition, ran: &Ran) -> Line {
    let seen = &ran.record.seen;
    let judged = judge(seen, Floor::default());
    Line {
        gate: gate.name.clone(),
        result: judged.result,
        flaky: ran.record.flaky,
        cached: ran.cached,
        executed: seen.counts.map(|counts| counts.executed),
        failed: seen.counts.map(|counts| counts.failed),
        skipped: seen.counts.map(|counts| counts.skipped),
        problems: judged.problems,
        why: judged.why,
        wall_ms: ran.record.wall_ms,
        network: gate.network.clone(),
        evidence: ran.record.logs.clone(),
        log_tail: ran.record.tail.clone(),
    }
}

fn shown(line: &Line) -> String {
    let word = match line.result {
        GateResult::Pass => "green",
        GateResult::Red => "RED",
        GateResult::Cancelled => "stopped",
        GateResult::Error => "error",
    };
    let took = duration::display(std::time::Duration::from_millis(line.wall_ms));
    let mut facts = vec![if line.cached { "remembered for this tree".to_owned() } else { took }];
    if let (Some(executed), Some(skipped)) = (line.executed, line.skipped) {
        facts.push(plural(executed, "test", "tests"));
        if skipped > 0 {
            facts.push(format!("{skipped} skipped"));
        }
    }
    if !line.network.is_empty() {
        facts.push(format!("network: {}", one_line(&line.network.join(", "))));
    }
    if line.flaky {
        facts.push("FLAKY: red at first, green on the same tree".to_owned());
    }
    let shown = format!("{word:<8}{} ({})", one_line(&line.gate), facts.join(", "));
    line.why.iter().fold(shown, |shown, why| shown + "\n        " + &one_line(why))
}

fn report(args: &Args, loaded: &Loaded, commit: Oid, tree: &Oid, lines: Vec<Line>) -> Result<ExitCode, Failure> {
    let red: Vec<&Line> = lines.iter().filter(|line| line.result != GateResult::Pass).collect();
    if args.json {
        let target = match &loaded.target {
            Target::At { branch, commit } => Some(json!({"ref": branch, "commit": commit})),
            Target::Unborn | Target::NoRepository => None,
        };
        printer::json(&json!({
            "version": VERSION, "commit": commit.to_string(), "tree": tree.to_string(), "definitions": target,
            "green": red.is_empty(), "gates": lines,
        }));
        return Ok(if red.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Exit::Red as u8) });
    }
    let Some(first) = red.first() else { return Ok(ExitCode::SUCCESS) };
    printer::error_line(&format!("\nthe end of the log of {}:\n{}", one_line(&first.gate), first.log_tail));
    let names: Vec<&str> = red.iter().map(|line| line.gate.as_str()).collect();
    let mut failure =
        Failure::new(Exit::Red, format!("{} red on {}", plural(red.len() as u64, "gate is", "gates are"), &commit.to_string()[..12]))
            .why(format!("red: {}", names.join(", ")));
    if let Some(log) = first.evidence.last() {
        failure = failure.next(format!("the whole log: cofferdam evidence show {}", log.short()));
    }
    Err(failure.next("mend it before stories are built on it; `cofferdam run` refuses to start on a red base"))
}

/// How a gate that could not be run reads on the command line.
pub(super) fn failed(error: &GateError) -> Failure {
    match error {
        GateError::Sandbox(error) => {
            let failure = exec::failed(error, Tier::Full);
            // 125 belongs to `exec` alone.
            let exit = if failure.exit == Exit::ExecOurs { Exit::Failure } else { failure.exit };
            Failure { exit, ..failure }
        }
        GateError::Profile(error) => profile::failed(error),
        GateError::Resolve(error) => profile::refused(error),
        GateError::NoWorktree => Failure::usage(error.to_string()).next("work in a clone with a worktree"),
        GateError::Gateway { .. } => Failure::new(Exit::Failure, error.to_string())
            .next("check the gate's network in cofferdam.toml; cofferdam doctor tells about this host"),
        GateError::NotStarted { .. } => Failure::new(Exit::Failure, error.to_string()).next("cofferdam doctor shows what this host lacks"),
        GateError::Git(_) | GateError::Cache(_) | GateError::Base(_) | GateError::State(_) | GateError::Io(_) => {
            Failure::new(Exit::Failure, error.to_string())
        }
    }
}

/// Passes a request to stop on to every gate that runs.
struct Stopper {
    signals: SignalFd,
    asked: AtomicBool,
    channels: Mutex<Vec<OwnedFd>>,
    /// Closed when nobody needs us any more.
    over: Mutex<Option<OwnedFd>>,
    until: OwnedFd,
}

impl Stopper {
    fn new() -> std::io::Result<Self> {
        // Blocked before the threads begin: each inherits it, and the signal arrives here alone.
        let set = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        set.thread_block()?;
        let signals = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let (until, over) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        Ok(Self { signals, asked: AtomicBool::new(false), channels: Mutex::default(), over: Mutex::new(Some(over)), until })
    }

    /// What one sandbox listens to.
    fn channel(&self) -> Option<OwnedFd> {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK).ok()?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if self.asked.load(Ordering::SeqCst) {
            // It came too late to be asked: it is asked now.
            let _ = nix::unistd::write(&writer, &[Signal::SIGTERM as u8]);
        }
        channels.push(writer);
        Some(reader)
    }

    fn listen(&self) {
        loop {
            let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN), PollFd::new(self.until.as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::NONE).is_err() {
                continue;
            }
            if fds[1].revents().is_some_and(|events| !events.is_empty()) {
                return;
            }
            if let Ok(Some(signal)) = self.signals.read_signal() {
                let number = u8::try_from(signal.ssi_signo).unwrap_or(Signal::SIGTERM as u8);
                let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
                self.asked.store(true, Ordering::SeqCst);
                for channel in channels.iter() {
                    // A gate that has ended listens no more.
                    let _ = nix::unistd::write(channel, &[number]);
                }
            }
        }
    }

    fn done(&self) {
        drop(self.over.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

//! `cofferdam demo`: five stories, scripted agents, and the real thing: `cofferdam run` in a repository made for it.
//!
//! The run is a process of its own, so that nothing of the caller's environment reaches it. What is told comes from its events, what is
//! claimed at the end from its store.

pub mod agent;
mod facts;
mod scene;
mod tell;

use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::printer;
use crate::event::{Actor, Event, Kind};
use crate::sandbox::{Layer, Receipt};
use crate::store::{Filter, Store};
use crate::workspace::git::Repository;
use facts::{Around, Facts, STORIES};
use scene::{Scene, SceneError};
use tell::{Ending, Names, Teller};

/// A demo that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(180);
/// What is kept of the run's own messages.
const MESSAGES: u64 = 64 << 10;

/// Shows in a temporary repository how five stories are worked on, judged and landed
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cofferdam demo                  a few seconds, no key, no network, nothing left behind\n  cofferdam demo --keep club      leaves the repository to explore: cd club && cofferdam status"
)]
pub struct Args {
    /// Make the repository in this folder, and leave it to explore
    #[arg(long, value_name = "DIR", conflicts_with = "list")]
    keep: Option<PathBuf>,
    /// Say what each story shows, and do nothing
    #[arg(long)]
    list: bool,
    /// Print one JSON document at the end
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When the run cannot be made, or what it is to show was not seen.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.list {
        if args.json {
            let stories: Vec<_> = tell::SHOWS.iter().map(|(id, shows)| serde_json::json!({ "id": id, "shows": shows })).collect();
            printer::json(&serde_json::json!({ "version": 1, "stories": stories }));
        } else {
            printer::out(&tell::list());
        }
        return Ok(ExitCode::SUCCESS);
    }
    let program =
        std::env::current_exe().map_err(|error| Failure::new(Exit::Failure, "this program's own file cannot be found").because(&error))?;
    // From here on a signal is heard between two lines, so that nothing is left behind whenever it comes.
    let signals = signals().map_err(|error| Failure::new(Exit::Failure, "signals cannot be heard").because(&error))?;
    let scene = Scene::make(args.keep.as_deref(), &program).map_err(unmade)?;
    let began = Instant::now();
    let names = Names { home: scene.home().display().to_string(), repository: scene.repository.display().to_string() };
    let mut teller = (!args.json).then(|| {
        printer::out("cofferdam demo: five stories, scripted agents as real processes, real sandboxes.");
        printer::out("No key, no network, no git: nothing outside of one temporary folder is touched.\n");
        Teller::new(Names { home: names.home.clone(), repository: names.repository.clone() })
    });
    let ran = watch(&scene, &program, &signals, &mut |event| {
        if let Some(line) = teller.as_mut().and_then(|teller| teller.line(event)) {
            printer::out(&line);
        }
    })
    .map_err(|error| Failure::new(Exit::Failure, "the run of the demo cannot be watched").because(&error))?;
    let seconds = began.elapsed().as_secs_f64();
    if ran.asked {
        drop(scene);
        printer::err("cofferdam: the demo was interrupted; its processes are ended");
        return Ok(ExitCode::from(Exit::Interrupted as u8));
    }
    refused(&ran)?;
    let (facts, around, evidence) =
        look(&scene).map_err(|failure| Failure { why: [failure.why, vec![ran.said.clone()]].concat(), ..failure })?;
    if let (Some(why), true) = (&facts.ended, facts.agents == 0) {
        // What only shows when it is tried, such as a chroot: the doctor tries it too.
        let sick =
            Command::new(&program).arg("doctor").output().is_ok_and(|doctor| doctor.status.code() == Some(Exit::Unenforceable as i32));
        let exit = if sick { Exit::Unenforceable } else { Exit::Failure };
        let failure = Failure::new(exit, "the run of the demo ended before any agent began").why(why.clone());
        let said = ran.said.trim();
        let failure = if said.is_empty() { failure } else { failure.why(said.to_owned()) };
        return Err(failure.next("cofferdam doctor tries the sandbox step by step"));
    }
    let checks = facts::checks(&facts, around);
    let held = checks.iter().all(|(_, held)| *held);
    let state = scene.state().unwrap_or_default().display().to_string();
    let kept = args.keep.as_ref().map(|folder| (folder.display().to_string(), state));
    let history = history(&scene);
    if args.json {
        printer::json(&Document::of(&facts, &checks, &history, seconds, kept.clone()));
    } else {
        let kept = kept.as_ref().map(|(folder, state)| (folder.as_str(), state.as_str()));
        let ending =
            Ending { layers: around.layers, facts: &facts, names: &names, checks: &checks, history: &history, evidence, seconds, kept };
        printer::out(&tell::summary(&ending));
    }
    drop(scene);
    if held {
        return Ok(ExitCode::SUCCESS);
    }
    let missing = checks.iter().filter(|(_, held)| !held).map(|(what, _)| format!("not seen: {what}"));
    let failure = missing.fold(Failure::new(Exit::Failure, "the demo did not show what it is there to show"), Failure::why);
    let failure = facts.ended.iter().fold(failure, |failure, why| failure.why(format!("the run ended: {why}")));
    let said = ran.said.trim();
    let failure = if ran.code == Some(0) || said.is_empty() { failure } else { failure.why(format!("the run said: {said}")) };
    Err(failure.next("cofferdam doctor tells what this host can enforce; cofferdam demo --keep DIR leaves the run to look at"))
}

fn unmade(error: SceneError) -> Failure {
    let failure = match &error {
        SceneError::Taken { .. } => return Failure::usage(error.to_string()).next("name a folder that is empty, or not there yet"),
        SceneError::Path { .. } => Failure::usage("the demo cannot be made there"),
        SceneError::Git(_) | SceneError::Io(_) => Failure::new(Exit::Failure, "the demo's repository cannot be made"),
    };
    failure.because(&error).next("is there space, and may you write there? TMPDIR names another place")
}

/// A pipe on which requests to stop arrive, by their numbers. They are handled and not blocked: what is blocked here would be blocked in
/// the run as well.
fn signals() -> std::io::Result<OwnedFd> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let inside = runtime.enter();
    let [mut interrupt, mut terminate, mut hang_up] =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    drop(inside);
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                let signal = tokio::select! {
                    _ = interrupt.recv() => Signal::SIGINT,
                    _ = terminate.recv() => Signal::SIGTERM,
                    _ = hang_up.recv() => Signal::SIGHUP,
                };
                // Nobody reads any more: the demo is over.
                let _ = nix::unistd::write(&writer, &[signal as u8]);
            }
        });
    });
    Ok(reader)
}

/// How the run ended.
struct Ran {
    code: Option<i32>,
    /// Its messages.
    said: String,
    /// Somebody asked to stop.
    asked: bool,
}

/// Runs it to its end, and hands on every event as it comes. Requests to stop are passed on.
fn watch(scene: &Scene, program: &Path, signals: &OwnedFd, each: &mut dyn FnMut(&Event)) -> std::io::Result<Ran> {
    use std::os::unix::process::CommandExt as _;
    let mut command = scene.run(program);
    // A group of its own: a Ctrl-C of the terminal arrives here alone, once.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = command.spawn()?;
    let (Some(mut events), Some(messages)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(std::io::Error::other("the run has no streams"));
    };
    let reader = std::thread::spawn(move || {
        let mut said = Vec::new();
        drop(messages.take(MESSAGES).read_to_end(&mut said));
        String::from_utf8_lossy(&said).into_owned()
    });
    let began = Instant::now();
    let (mut lines, mut asked) = (Vec::new(), false);
    loop {
        let left = PATIENCE.saturating_sub(began.elapsed());
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) => {
                child.kill()?;
                drop(child.wait());
                return Err(std::io::Error::other(format!("it was ended, because it took longer than {} s", PATIENCE.as_secs())));
            }
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let [has_events, has_signals] = fds.map(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        let mut number = [0];
        if has_signals && nix::unistd::read(signals, &mut number) == Ok(1) {
            asked = true;
            pass_on(&child, number[0]);
        }
        if has_events {
            let mut bytes = [0; 16 << 10];
            let count = events.read(&mut bytes)?;
            if count == 0 {
                break;
            }
            lines.extend_from_slice(&bytes[..count]);
            while let Some(end) = lines.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = lines.drain(..=end).collect();
                if let Some(event) = read(&line) {
                    each(&event);
                }
            }
        }
    }
    let status = child.wait()?;
    Ok(Ran { code: status.code(), said: reader.join().unwrap_or_default(), asked })
}

fn pass_on(child: &Child, number: u8) {
    let signal = Signal::try_from(i32::from(number)).unwrap_or(Signal::SIGTERM);
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// An event from a line of `run --json`.
fn read(line: &[u8]) -> Option<Event> {
    #[derive(serde::Deserialize)]
    struct Line {
        at: jiff::Timestamp,
        story: Option<String>,
        kind: String,
        data: serde_json::Value,
    }
    let line: Line = serde_json::from_slice(line).ok()?;
    let story = line.story.map(|story| story.parse()).transpose().ok()?;
    Some(Event { at: line.at, run: None, story, actor: Actor::Runner, kind: Kind::from_parts(&line.kind, line.data).ok()? })
}

/// A run that could not begin says why itself.
fn refused(ran: &Ran) -> Result<(), Failure> {
    let said = ran.said.trim().to_owned();
    match ran.code {
        Some(6) => Err(Failure::new(Exit::Unenforceable, "the sandbox cannot be enforced on this host, and nothing runs without it")
            .why(said)
            .next("cofferdam doctor names what is missing, and the command that mends it")),
        Some(2) => Err(Failure::new(Exit::Failure, "the demo's own plan was refused").why(said).next("this is a fault of cofferdam")),
        _ => Ok(()),
    }
}

/// What the store says, and what lies beside it.
fn look(scene: &Scene) -> Result<(Facts, Around, usize), Failure> {
    let fail = |why: &dyn std::error::Error| Failure::new(Exit::Failure, "the store of the demo cannot be read").because(why);
    let state = scene.state().ok_or_else(|| Failure::new(Exit::Failure, "the demo left no store"))?;
    let store = Store::open_existing(&state).map_err(|error| fail(&error))?;
    let store = store.ok_or_else(|| Failure::new(Exit::Failure, "the run of the demo did not begin"))?;
    let mut facts = Facts::default();
    let mut unreadable = None;
    store
        .events(&Filter::default(), |stored| match stored.event() {
            Ok(event) => {
                facts.take(&event);
                ControlFlow::Continue(())
            }
            Err(error) => {
                unreadable = Some(error);
                ControlFlow::Break(())
            }
        })
        .map_err(|error| fail(&error))?;
    if let Some(error) = unreadable {
        return Err(fail(&error));
    }
    let chain_is_whole = matches!(store.verify(), Ok(Ok(_)));
    let (count, key_is_secret) = evidence(&state.join("evidence"), scene.canary().as_bytes()).map_err(|error| fail(&error))?;
    let tip = Repository::discover(&scene.repository).ok().and_then(|repository| repository.reference("refs/heads/main"));
    let last = facts.landed.last().map(|(_, commit)| commit.to_string());
    let main_is_last = last.is_some() && tip.map(|tip| tip.to_string()) == last;
    let layers = layers(&store, &facts).map_err(|error| fail(&*error))?;
    let around = Around { layers, chain_is_whole, key_is_secret, hooks_are_untouched: scene.hooks_are_untouched(), main_is_last };
    Ok((facts, around, count))
}

/// The least of all receipts. One that lacks something counts for nothing, and so do all when an agent's is missing.
fn layers(store: &Store, facts: &Facts) -> Result<(usize, usize), Box<dyn std::error::Error>> {
    let mut receipts: Vec<Receipt> = Vec::new();
    for id in &facts.receipts {
        receipts.extend(serde_json::from_slice::<Receipt>(&store.evidence().read(id)?));
    }
    if receipts.len() != facts.agents as usize || receipts.iter().any(|receipt| receipt.missing().next().is_some()) {
        return Ok((0, 0));
    }
    let least = |of: fn(&Layer) -> bool| receipts.iter().map(|receipt| receipt.layers.iter().filter(|layer| of(layer)).count()).min();
    let (enforced, tried) = (least(|layer| layer.enforced), least(|layer| layer.enforced && layer.probed == Some(true)));
    Ok((enforced.unwrap_or_default(), tried.unwrap_or_default()))
}

/// How many pieces of evidence there are, and whether none of them holds this text.
fn evidence(folder: &Path, text: &[u8]) -> std::io::Result<(usize, bool)> {
    let (mut count, mut is_secret, mut open) = (0, true, vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
                continue;
            }
            count += 1;
            is_secret &= !fs_err::read(entry.path())?.windows(text.len()).any(|part| part == text);
        }
    }
    Ok((count, is_secret))
}

/// `abc1234 subject` of every commit of main, the first one first.
fn history(scene: &Scene) -> Vec<String> {
    let Ok(repository) = Repository::discover(&scene.repository) else { return Vec::new() };
    let mut lines = Vec::new();
    let mut at = repository.reference("refs/heads/main");
    while let Some(commit) = at {
        let subject = repository.message_of(commit).unwrap_or_default().lines().next().unwrap_or_default().to_owned();
        lines.push(format!("{} {subject}", commit.to_string().get(..7).unwrap_or_default()));
        at = repository.parents_of(commit).ok().and_then(|parents| parents.first().copied());
    }
    lines.reverse();
    lines
}

/// What `--json` prints.
#[derive(Serialize)]
struct Document {
    version: u32,
    seconds: f64,
    stories: Vec<serde_json::Value>,
    history: Vec<String>,
    checks: Vec<serde_json::Value>,
    repository: Option<String>,
    state: Option<String>,
}

impl Document {
    fn of(facts: &Facts, checks: &[(&str, bool)], history: &[String], seconds: f64, kept: Option<(String, String)>) -> Self {
        let nothing = facts::Story::default();
        let story = |id: &&str| {
            let story = facts.stories.get(*id).unwrap_or(&nothing);
            let caught = story
                .caught
                .iter()
                .map(|c| serde_json::json!({ "attempt": c.attempt, "evaluator": c.evaluator, "path": c.path, "text": c.text }));
            let denied = story.denied.iter().map(|d| serde_json::json!({ "call": d.call, "target": d.target, "errno": d.errno }));
            serde_json::json!({
                "id": id,
                "attempts": story.attempts,
                "commit": story.landed.as_ref().map(ToString::to_string),
                "caught": caught.collect::<Vec<_>>(),
                "denied": denied.collect::<Vec<_>>(),
                "conflict": story.conflict,
                "stopped": story.stopped,
            })
        };
        let (repository, state) = kept.unzip();
        Self {
            version: 1,
            seconds,
            stories: STORIES.iter().map(story).collect(),
            history: history.to_vec(),
            checks: checks.iter().map(|(what, held)| serde_json::json!({ "what": what, "held": held })).collect(),
            repository,
            state,
        }
    }
}

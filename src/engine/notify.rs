//! Tells a program of the person's own what happened: each event that they want to hear of, at least once, in order, signed.
//!
//! The log is the queue: what was told is a number in a file beside it. A program that fails is asked again, at growing intervals, and what was not
//! told when the run ends is told by the next one. Nothing waits for it.

use std::io::Write;
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::base::id::hex_text;
use crate::base::text::one_line;
use crate::config::Notify;
use crate::role::network::secret;
use crate::store::{Filter, Store, Stored};

/// How often the log is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// A program that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What is left to tell when the run is over has this long.
const AT_THE_END: Duration = Duration::from_secs(10);
/// Events that are taken from the log at once.
const AT_ONCE: usize = 64;
/// The number of the last event that was told, or that nobody wants to hear of.
const TOLD: &str = "notified";

/// Whoever tells, on a thread of its own.
#[derive(Debug)]
pub struct Notifier {
    over: Arc<AtomicBool>,
    trouble: Arc<Mutex<Option<String>>>,
    thread: JoinHandle<()>,
}

struct Teller {
    folder: PathBuf,
    root: PathBuf,
    notify: Notify,
    key: Option<ring::hmac::Key>,
    patience: Duration,
    told: u64,
    over: Arc<AtomicBool>,
    /// Since when it is over.
    ending: Option<Instant>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Notifier {
    /// Begins behind what was told before; in a repository where nothing was, behind `now`. None when nobody wants to hear anything.
    ///
    /// # Errors
    /// When the secret cannot be read.
    pub fn start(folder: &Path, root: &Path, notify: &Notify, now: u64) -> Result<Option<Self>, String> {
        if notify.command.is_empty() {
            return Ok(None);
        }
        let key =
            notify.secret.as_ref().map(secret).transpose().map_err(|why| format!("the secret of notify.secret cannot be read: {why}"))?;
        let (over, trouble) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(None)));
        let mut teller = Teller {
            folder: folder.to_owned(),
            root: root.to_owned(),
            notify: notify.clone(),
            key: key.map(|key| ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.as_bytes())),
            patience: PATIENCE,
            told: now,
            over: over.clone(),
            ending: None,
            trouble: trouble.clone(),
        };
        match last_told(folder) {
            Some(told) => teller.told = told,
            // Or a first run whose program takes nothing would leave no place for the next one to begin at.
            None => teller.write_down(),
        }
        let thread =
            std::thread::Builder::new().name("notify".to_owned()).spawn(move || teller.work()).map_err(|error| error.to_string())?;
        Ok(Some(Self { over, trouble, thread }))
    }

    /// What went wrong since it was asked last.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The last events are stored: they are told, in a bounded time. Returns what went wrong since it was asked last.
    pub fn finish(self) -> Option<String> {
        self.over.store(true, Ordering::SeqCst);
        // One that panicked has told what it told.
        drop(self.thread.join());
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn last_told(folder: &Path) -> Option<u64> {
    fs_err::read_to_string(folder.join(TOLD)).ok()?.trim().parse().ok()
}

impl Teller {
    fn work(&mut self) {
        loop {
            if self.over.load(Ordering::SeqCst) {
                self.ending.get_or_insert_with(Instant::now);
            }
            let events = self.news();
            if events.is_empty() && self.ending.is_some() {
                return;
            }
            for event in &events {
                // One that takes its time with each event may have been left many of them.
                if self.is_late() || (self.wants(event) && !self.tell(event)) {
                    return;
                }
                self.told = event.seq;
                if self.wants(event) {
                    self.write_down();
                }
            }
            if events.is_empty() {
                std::thread::sleep(LOOK);
            } else if events.len() < AT_ONCE {
                self.write_down();
            }
        }
    }

    /// The run is over, and so is the time that is left to tell of it.
    fn is_late(&mut self) -> bool {
        self.over.load(Ordering::SeqCst) && self.ending.get_or_insert_with(Instant::now).elapsed() >= AT_THE_END
    }

    fn write_down(&self) {
        // What cannot be written down is told again by the next run: once too often, and never too seldom.
        drop(crate::store::place::write_whole(&self.folder.join(TOLD), self.told.to_string().as_bytes()));
    }

    fn news(&self) -> Vec<Stored> {
        let mut events = Vec::new();
        if let Ok(Some(store)) = Store::open_existing(&self.folder) {
            let read = store.events(&Filter { since: self.told, ..Filter::default() }, |stored| {
                events.push(stored);
                if events.len() < AT_ONCE { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            drop(read);
        }
        events
    }

    fn wants(&self, event: &Stored) -> bool {
        let names = |on: &String| event.kind.strip_prefix(on.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.notify.on.iter().any(names)
    }

    /// Until it is told. False when the run is over and its time is up.
    fn tell(&mut self, event: &Stored) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_once(event) {
                Ok(()) => return true,
                Err(why) => {
                    let what = format!("notify.command did not take event {}: {why}; it is told again", event.seq);
                    *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
                }
            }
            let until = Instant::now() + pause;
            while Instant::now() < until {
                if self.is_late() {
                    return false;
                }
                std::thread::sleep(LOOK.min(pause));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn try_once(&self, event: &Stored) -> Result<(), String> {
        let said = event.json();
        let [program, arguments @ ..] = self.notify.command.as_slice() else { return Ok(()) };
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.root).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.env("COFFERDAM_EVENT", &event.kind).env("COFFERDAM_REPOSITORY", &self.root);
        if let Some(key) = &self.key {
            let signature = hex_text(ring::hmac::sign(key, said.as_bytes()).as_ref());
            command.env("COFFERDAM_SIGNATURE", format!("sha256={signature}"));
        }
        // A group of its own, so that whatever it started ends with it when it hangs.
        let mut child = command.process_group(0).spawn().map_err(|error| format!("{} cannot be started: {error}", one_line(program)))?;
        if let Some(mut to) = child.stdin.take() {
            // A program that reads nothing may be content with the name of the event; a long event must not wait for it.
            std::thread::spawn(move || drop(to.write_all(said.as_bytes())));
        }
        let begun = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("{} ended with {status}", one_line(program))),
                Ok(None) if begun.elapsed() < self.patience => std::thread::sleep(Duration::from_millis(10)),
                Ok(None) => {
                    // It is not reaped yet, so the group is still its own.
                    let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                    drop(child.wait());
                    return Err(format!("{} did not end within {} s", one_line(program), self.patience.as_secs()));
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::event::{Actor, Event, Kind};

    fn notify(command: &[&str]) -> Notify {
        Notify { command: command.iter().map(|word| (*word).to_owned()).collect(), secret: None, on: vec!["run".to_owned()] }
    }

    #[test]
    fn where_the_first_run_began_is_known_to_the_next_whatever_was_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let begin = |now| Notifier::start(folder.path(), folder.path(), &notify(&["false"]), now).expect("started").expect("wanted");
        begin(7).finish();
        assert_eq!(last_told(folder.path()), Some(7));
        begin(9).finish();
        assert_eq!(last_told(folder.path()), Some(7), "what came meanwhile is still to be told");
    }

    fn teller(folder: &Path, command: &[&str]) -> Teller {
        Teller {
            folder: folder.to_owned(),
            root: folder.to_owned(),
            notify: notify(command),
            key: None,
            patience: PATIENCE,
            told: 0,
            over: Arc::default(),
            ending: None,
            trouble: Arc::default(),
        }
    }

    #[test]
    fn what_many_events_are_told_of_when_the_run_is_over_is_bounded_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(folder.path()).expect("a store");
        let event = || Event { at: Timestamp::UNIX_EPOCH, run: None, story: None, actor: Actor::Runner, kind: Kind::RunResumed {} };
        store.append(vec![event(), event()]).expect("stored");
        let long_ago = Instant::now().checked_sub(AT_THE_END).expect("a moment");
        let mut teller = Teller { over: Arc::new(AtomicBool::new(true)), ending: Some(long_ago), ..teller(folder.path(), &["true"]) };
        teller.work();
        assert_eq!(teller.told, 0, "its time was up");
        (teller.over, teller.ending) = (Arc::new(AtomicBool::new(true)), None);
        teller.work();
        assert_eq!(teller.told, 2);
    }

    #[test]
    fn a_program_that_hangs_is_ended_with_whatever_it_started() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut store = Store::open(folder.path()).expect("a store");
        store
            .append(vec![Event { at: Timestamp::UNIX_EPOCH, run: None, story: None, actor: Actor::Runner, kind: Kind::RunResumed {} }])
            .expect("stored");
        let hangs = teller(folder.path(), &["/bin/sh", "-c", "(sleep 1; touch late) & wait"]);
        let hangs = Teller { patience: Duration::from_millis(100), ..hangs };
        let events = hangs.news();
        let why = hangs.try_once(&events[0]).expect_err("it hangs");
        assert!(why.contains("did not end"), "{why}");
        std::thread::sleep(Duration::from_secs(2));
        assert!(!folder.path().join("late").exists(), "what it started goes on");
    }
}

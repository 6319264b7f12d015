//! One process of a role: run to its end, with everything it says kept as evidence.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use super::network::{Open, Purse};
use super::{Stop, Workshop};
use crate::base::id::EvidenceId;
use crate::base::redact::Redactor;
use crate::base::text::one_line;
use crate::egress::Tally;
use crate::sandbox::{Destination, Outcome, Policy, SandboxError};
use crate::store::evidence::EvidenceWriter;

/// How much of the end of the output is kept at hand, for a message.
const TAIL: usize = 4 << 10;
/// A line that is shown while the process runs.
const SHOWN: usize = 200;

/// Takes a line that a process said, safe to print.
pub type Listener = Arc<dyn Fn(&str) + Send + Sync>;

/// Takes the bytes of standard output (0) and error (1).
pub type Tap = Arc<dyn Fn(usize, &[u8]) + Send + Sync>;

/// Serves the socket that the process has inside, until the other descriptor is at its end.
pub type Reception<'a> = &'a (dyn Fn(OwnedFd, &OwnedFd) + Sync);

/// A process about to be run.
pub struct Process<'a> {
    pub shop: &'a Workshop,
    pub policy: &'a Policy,
    /// The program and its arguments.
    pub arguments: Vec<OsString>,
    pub stop: &'a Stop,
    pub listener: Option<Listener>,
    /// Takes everything that it says, by stream, without secrets.
    pub tap: Option<Tap>,
    /// For a process whose policy has a socket.
    pub reception: Option<Reception<'a>>,
}

impl std::fmt::Debug for Process<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").field("arguments", &self.arguments).finish_non_exhaustive()
    }
}

/// How it ended.
#[derive(Debug)]
pub struct Ran {
    pub outcome: Outcome,
    /// Both streams, as they came, without secrets.
    pub transcript: EvidenceId,
    pub receipt: EvidenceId,
    /// The end of the transcript.
    pub tail: String,
    /// What its gateway saw.
    pub tally: Tally,
    /// What took the writes of an overlay that is not the workspace's own folder.
    pub upper: Option<OwnedFd>,
}

/// Why nothing can be said about a process.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("there is nothing to run")]
    Nothing,
    #[error("its transcript cannot be kept: {0}")]
    Evidence(io::Error),
    #[error("its gateway cannot be opened, so it was not run or was ended: {0}")]
    Gateway(io::Error),
    #[error("no request to stop could reach it: {0}")]
    Stop(io::Error),
    #[error("it ran, and what it wrote to memory could not be taken: {0}")]
    Keep(String),
}

/// Where both streams go.
struct Sink {
    writer: Option<EvidenceWriter>,
    failed: Option<io::Error>,
    redactors: [Redactor; 2],
    tail: Vec<u8>,
    listener: Option<Listener>,
    lines: [Lines; 2],
    tap: Option<Tap>,
}

/// Lines that are shown of one piece of output: a flood is not read along.
const AT_ONCE: usize = 50;

/// The beginning of a line whose end has not come.
#[derive(Debug, Default)]
struct Lines(Vec<u8>);

impl Lines {
    /// The last of the lines that are whole now, safe to print. What overwrites itself, such as a bar, is a line each time.
    fn push(&mut self, bytes: &[u8]) -> VecDeque<String> {
        let mut lines = VecDeque::new();
        for part in bytes.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (part, is_whole) = match part {
                [part @ .., b'\n' | b'\r'] => (part, true),
                part => (part, false),
            };
            let room = SHOWN.saturating_sub(self.0.len()).min(part.len());
            self.0.extend_from_slice(&part[..room]);
            if is_whole {
                let line = std::mem::take(&mut self.0);
                let line = line.trim_ascii();
                if !line.is_empty() {
                    lines.push_back(one_line(&String::from_utf8_lossy(line)).into_owned());
                    lines.drain(..lines.len().saturating_sub(AT_ONCE));
                }
            }
        }
        lines
    }
}

impl Sink {
    fn take(&mut self, stream: usize, bytes: &[u8]) {
        let clean = self.redactors[stream].push(bytes);
        self.keep(stream, &clean);
    }

    fn keep(&mut self, stream: usize, clean: &[u8]) {
        if clean.is_empty() {
            return;
        }
        if let Some(tap) = &self.tap {
            tap(stream, clean);
        }
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.write_all(clean)
        {
            // A full disk: what is not kept is said, and the process is judged without its words.
            self.failed = Some(error);
            self.writer = None;
        }
        self.tail.extend_from_slice(clean);
        let over = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..over);
        if let Some(listener) = &self.listener {
            for line in self.lines[stream].push(clean) {
                listener(&line);
            }
        }
    }

    fn finish(&mut self) -> io::Result<EvidenceId> {
        for stream in 0..self.redactors.len() {
            let rest = self.redactors[stream].finish();
            self.keep(stream, &rest);
        }
        match (self.writer.take(), self.failed.take()) {
            (Some(writer), None) => writer.finish(),
            (_, Some(error)) => Err(error),
            (None, None) => Err(io::Error::other("it was kept before")),
        }
    }
}

impl Process<'_> {
    /// Runs it to its end. When this returns, nothing of it is alive.
    ///
    /// # Errors
    /// When it could not be started, or its words could not be kept.
    pub fn run(self) -> Result<Ran, ProcessError> {
        self.run_paid(None)
    }

    /// The same for an agent: the configured models are there, and the purse pays for their calls.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_paid(self, purse: Option<&Purse>) -> Result<Ran, ProcessError> {
        let shop = self.shop;
        let mut arguments = self.arguments.into_iter();
        let program = arguments.next().ok_or(ProcessError::Nothing)?;
        let sink = Arc::new(Mutex::new(Sink {
            writer: Some(shop.evidence.writer().map_err(ProcessError::Evidence)?),
            failed: None,
            redactors: [Redactor::new(shop.secrets()), Redactor::new(shop.secrets())],
            tail: Vec::new(),
            listener: self.listener,
            lines: Default::default(),
            tap: self.tap,
        }));
        let stream = |number: usize| {
            let sink = sink.clone();
            Destination::Function(Box::new(move |bytes| sink.lock().unwrap_or_else(PoisonError::into_inner).take(number, bytes)))
        };
        let mut policy = self.policy.clone();
        let door = shop.furnish(&mut policy, purse).map_err(ProcessError::Gateway)?;
        let command = shop.engine.sandbox(&policy).command(program).args(arguments).stdout(stream(0)).stderr(stream(1));
        let requests = self.stop.requests().map_err(ProcessError::Stop)?;
        let mut running = command.spawn()?;
        running.stop_on(requests);
        let open = door.map(|door| shop.open(door, running.listeners())).transpose().map_err(ProcessError::Gateway)?;
        let socket = running.socket().zip(self.reception);
        let (end, alive) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| ProcessError::Stop(e.into()))?;
        let finished = std::thread::scope(|scope| {
            if let Some((socket, receive)) = socket {
                scope.spawn(move || receive(socket, &end));
            }
            let finished = running.wait();
            drop(alive);
            finished
        });
        let tally = open.map(Open::close).unwrap_or_default();
        let finished = finished?;
        let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
        let transcript = sink.finish().map_err(ProcessError::Evidence)?;
        let receipt = serde_json::to_vec_pretty(&finished.outcome.receipt).map_err(|e| ProcessError::Evidence(e.into()))?;
        let receipt = shop.evidence.put(&receipt).map_err(ProcessError::Evidence)?;
        let tail = String::from_utf8_lossy(&sink.tail).into_owned();
        Ok(Ran { outcome: finished.outcome, transcript, receipt, tail, upper: finished.upper, tally })
    }
}

impl ProcessError {
    /// What to do next.
    pub fn next(&self) -> String {
        match self {
            Self::Sandbox(SandboxError::Unenforceable(_)) => "cofferdam doctor names what mends it".to_owned(),
            Self::Sandbox(_) => "cofferdam doctor tells whether a sandbox can be built here".to_owned(),
            Self::Nothing => "name a program in agents.ROLE.command".to_owned(),
            Self::Evidence(_) | Self::Keep(_) => "free some space on the disk that holds the state folder".to_owned(),
            Self::Gateway(_) => "check network in cofferdam.toml; cofferdam doctor tells about this host".to_owned(),
            Self::Stop(_) => "raise the limit of open files (ulimit -n)".to_owned(),
        }
    }
}

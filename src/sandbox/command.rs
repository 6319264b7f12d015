//! `Sandbox::new(&policy).command("cargo").arg("test").spawn()`: as `std::process::Command`, but confined.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::engine::Engine;
use super::launch::LaunchError;
use super::message::{self, Order, ToInit};
use super::outcome::Outcome;
use super::plan::{self, Unenforceable};
use super::policy::Policy;
use super::prepare::PrepareError;
use super::streams::{Destination, Incoming, Outgoing};
use super::supervise::{Running, Wiring};
use super::wire::Text;
use super::{cgroup, sys};

/// Why a command did not run. When it did run, however it ended, there is an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error(transparent)]
    Unenforceable(#[from] Unenforceable),
    #[error("the sandbox could not be built: {step}: {detail}")]
    Step { step: String, errno: i32, detail: String },
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error("the limits could not be set: {0}")]
    Group(#[from] cgroup::Error),
    #[error("this process has threads, and no helper was started before them")]
    NoHelper,
    #[error("the helper that launches sandboxes is gone: {0}")]
    Helper(io::Error),
    #[error("the sandbox's init ended before the command started")]
    Vanished,
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

pub(super) fn io_error(what: &'static str) -> impl Fn(io::Error) -> SandboxError {
    move |source| SandboxError::Io { what, source }
}

/// The payload's ends of its three streams.
struct Streams {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// A policy about to be applied.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox<'a> {
    pub(super) engine: &'a Engine,
    pub(super) policy: &'a Policy,
}

impl<'a> Sandbox<'a> {
    pub fn command(self, program: impl AsRef<OsStr>) -> Command<'a> {
        Command {
            sandbox: self,
            arguments: vec![program.as_ref().to_owned()],
            stdin: None,
            stdout: Destination::Nothing,
            stderr: Destination::Nothing,
        }
    }
}

/// A command to run in a sandbox.
#[derive(Debug)]
pub struct Command<'a> {
    sandbox: Sandbox<'a>,
    arguments: Vec<OsString>,
    stdin: Option<OwnedFd>,
    stdout: Destination,
    stderr: Destination,
}

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub struct Finished {
    pub outcome: Outcome,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// The folder that took the writes of the workspace's overlay.
    pub upper: Option<OwnedFd>,
}

impl<'a> Command<'a> {
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }

    /// Relays this descriptor to the command's standard input. Without it the input is empty.
    #[must_use]
    pub fn stdin(mut self, source: OwnedFd) -> Self {
        self.stdin = Some(source);
        self
    }

    #[must_use]
    pub fn stdout(mut self, destination: Destination) -> Self {
        self.stdout = destination;
        self
    }

    #[must_use]
    pub fn stderr(mut self, destination: Destination) -> Self {
        self.stderr = destination;
        self
    }

    /// Runs it to its end and keeps up to `cap` bytes of each stream.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn output(self, cap: usize) -> Result<Finished, SandboxError> {
        self.stdout(Destination::Memory(cap)).stderr(Destination::Memory(cap)).spawn()?.wait()
    }

    /// Starts it. Everything is enforced and self-tested before the program's first instruction.
    ///
    /// # Errors
    /// When a layer cannot be enforced, or the sandbox cannot be built. Nothing is left behind.
    pub fn spawn(self) -> Result<Running<'a>, SandboxError> {
        let started = std::time::Instant::now();
        let Sandbox { engine, policy } = self.sandbox;
        let plan = plan::plan(policy, &engine.facts)?;
        let (mut vessel, rest) = engine.float(&plan)?;
        let (streams, stdin, stdout, stderr) = wire(self.stdin, self.stdout, self.stderr, policy.terminal)?;
        let prepared = engine.prepare(&rest, &plan)?;
        let counts = prepared.iter().map(Vec::len).collect();
        let order = Order {
            steps: rest,
            prepared: counts,
            folder: plan.folder.clone(),
            arguments: self.arguments.iter().map(|a| Text(Cow::Owned(a.clone()))).collect(),
            environment: policy.environment.iter().map(|(k, v)| (Text(Cow::Owned(k.clone())), Text(Cow::Owned(v.clone())))).collect(),
            terminal: policy.terminal,
            supervisor: i32::try_from(std::process::id()).unwrap_or(0),
        };
        let own = [streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd()];
        let descriptors: Vec<_> = own.into_iter().chain(prepared.iter().flatten().map(AsFd::as_fd)).collect();
        let apart = vessel.apart();
        // One that is gone has said why; that is heard below.
        drop(message::order(vessel.control(), order, &descriptors));
        drop((streams, prepared));
        // While the sandbox is being completed, its group is made; it goes on when it has joined.
        let group = engine.group(&mut vessel, &policy.limits)?;
        let files: Vec<BorrowedFd<'_>> = group.join_fds()?.collect();
        drop(message::send(vessel.control(), &ToInit::Join, &files));
        let running = Running::begin(Wiring { engine, policy, plan, group, vessel, apart, stdin, stdout, stderr, started })?;
        running.settle();
        Ok(running)
    }
}

type Wired = (Streams, Incoming, Option<Outgoing>, Option<Outgoing>);

/// Pipes between the payload and us; with a terminal of its own the payload gets them from init instead.
fn wire(stdin: Option<OwnedFd>, stdout: Destination, stderr: Destination, terminal: bool) -> Result<Wired, SandboxError> {
    let failed = io_error("no pipes for the command's streams");
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| io_error("no pipes for the command's streams")(e.into()));
    let null = || sys::open_at(sys::cwd(), c"/dev/null", libc::O_RDWR, 0).map_err(io_error("/dev/null"));
    if terminal {
        let streams = Streams { stdin: null()?, stdout: null()?, stderr: null()? };
        return Ok((streams, Incoming::pending(stdin), Some(Outgoing::pending(stdout)), None));
    }
    let (theirs_in, incoming) = match stdin {
        None => (null()?, Incoming::nothing()),
        Some(source) => {
            let (reader, writer) = pipe()?;
            (reader, Incoming::new(source, writer).map_err(&failed)?)
        }
    };
    let (out_reader, out_writer) = pipe()?;
    let (err_reader, err_writer) = pipe()?;
    let streams = Streams { stdin: theirs_in, stdout: out_writer, stderr: err_writer };
    let outgoing = Outgoing::new(out_reader, stdout).map_err(&failed)?;
    let errors = Outgoing::new(err_reader, stderr).map_err(&failed)?;
    Ok((streams, incoming, Some(outgoing), Some(errors)))
}

/// Is this descriptor worth relaying? /dev/null is not.
pub fn is_null(fd: &impl AsFd) -> bool {
    let null = nix::sys::stat::stat("/dev/null").map(|s| s.st_rdev);
    let this = nix::sys::stat::fstat(fd).map(|s| s.st_rdev);
    matches!((null, this), (Ok(a), Ok(b)) if a == b)
}

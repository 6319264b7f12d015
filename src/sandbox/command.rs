//! `Sandbox::new(&policy).command("cargo").arg("test").spawn()`: as `std::process::Command`, but confined.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::cgroup::{self, Cgroups, Group};
use super::helper::Helper;
use super::launch::{Admission, Job, LaunchError, Launcher, Streams};
use super::outcome::Outcome;
use super::plan::{self, Facts, Unenforceable};
use super::policy::{Policy, Tier};
use super::streams::{Destination, Incoming, Outgoing};
use super::supervise::{Running, Wiring};
use super::sys;

/// Why a command did not run. When it did run, however it ended, there is an [`Outcome`].
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error(transparent)]
    Unenforceable(#[from] Unenforceable),
    #[error("the sandbox could not be built: {step}: {detail}")]
    Step { step: String, errno: i32, detail: String },
    #[error(transparent)]
    Launch(#[from] LaunchError),
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

/// What sandboxes of one process share: what the host can do, where groups are made, and who forks.
#[derive(Debug)]
pub struct Engine {
    pub facts: Facts,
    pub cgroups: Cgroups,
    launcher: Forker,
}

#[derive(Debug)]
enum Forker {
    /// This process is single-threaded and forks by itself.
    Here(std::sync::Mutex<Launcher>),
    Helper(Helper),
}

impl Engine {
    /// For a single-threaded process that runs one sandbox after the other, such as `cofferdam exec`.
    pub fn here(facts: Facts) -> Self {
        Self { facts, cgroups: groups(), launcher: Forker::Here(std::sync::Mutex::default()) }
    }

    /// For a threaded process: a single-threaded helper forks for it.
    ///
    /// # Errors
    /// When the helper cannot be started.
    pub fn with_helper(facts: Facts, program: &std::path::Path) -> io::Result<Self> {
        Ok(Self { facts, cgroups: groups(), launcher: Forker::Helper(Helper::start(program)?) })
    }

    pub fn sandbox<'a>(&'a self, policy: &'a Policy) -> Sandbox<'a> {
        Sandbox { engine: self, policy }
    }
}

/// Where groups are made, without those that a killed cofferdam left there.
fn groups() -> Cgroups {
    let cgroups = Cgroups::find();
    // What cannot be taken away now is tried again by the next start; it is no reason not to work.
    drop(cgroups.sweep());
    cgroups
}

/// A policy about to be applied.
#[derive(Clone, Copy, Debug)]
pub struct Sandbox<'a> {
    engine: &'a Engine,
    policy: &'a Policy,
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
        let job = Job {
            plan,
            arguments: self.arguments,
            environment: policy.environment.clone(),
            privileged: engine.facts.uid == 0,
            terminal: policy.terminal,
            supervisor: i32::try_from(std::process::id()).unwrap_or(0),
        };
        let group = Group::create(&engine.cgroups, &policy.limits)?;
        let (control, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|e| io_error("no control socket")(e.into()))?;
        let (streams, stdin, stdout, stderr) = wire(self.stdin, self.stdout, self.stderr, policy.terminal)?;
        let clone = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned();
        let entry = Admission {
            into: group.clone_into_fd()?.map(clone).transpose().map_err(io_error("no group"))?,
            join: group.join_fds()?.map(clone).collect::<Result<_, _>>().map_err(io_error("no group"))?,
        };
        let launched = match &engine.launcher {
            Forker::Here(launcher) => {
                if !sys::single_threaded() {
                    return Err(SandboxError::NoHelper);
                }
                if job.plan.tier == Tier::NoUserns {
                    // Orphans of an init that was killed come to us, and are ended by us.
                    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map_err(io_error("the tree could not be held"))?;
                }
                let mut launcher = launcher.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                launcher.launch(&job, theirs, streams, entry)?
            }
            Forker::Helper(helper) => helper.launch(&job, theirs, streams, entry)?,
        };
        let child = matches!(engine.launcher, Forker::Here(_));
        Running::begin(Wiring {
            engine,
            policy,
            job,
            group,
            control,
            pidfd: launched.pidfd,
            pid: launched.pid,
            child,
            stdin,
            stdout,
            stderr,
            started,
        })
    }
}

type Wired = (Option<Streams>, Incoming, Option<Outgoing>, Option<Outgoing>);

/// Pipes between the payload and us; with a terminal of its own the payload gets them from init instead.
fn wire(stdin: Option<OwnedFd>, stdout: Destination, stderr: Destination, terminal: bool) -> Result<Wired, SandboxError> {
    let failed = io_error("no pipes for the command's streams");
    let pipe = || nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(|e| io_error("no pipes for the command's streams")(e.into()));
    let null = || sys::open_at(sys::cwd(), c"/dev/null", libc::O_RDWR, 0).map_err(io_error("/dev/null"));
    if terminal {
        let streams = Streams { stdin: null()?, stdout: null()?, stderr: null()? };
        return Ok((Some(streams), Incoming::pending(stdin), Some(Outgoing::pending(stdout)), None));
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
    Ok((Some(streams), incoming, Some(outgoing), Some(errors)))
}

/// Is this descriptor worth relaying? /dev/null is not.
pub fn is_null(fd: &impl AsFd) -> bool {
    let null = nix::sys::stat::stat("/dev/null").map(|s| s.st_rdev);
    let this = nix::sys::stat::fstat(fd).map(|s| s.st_rdev);
    matches!((null, this), (Ok(a), Ok(b)) if a == b)
}

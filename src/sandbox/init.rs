//! Process 1 of a sandbox: builds it, becomes as confined as its payload, starts the payload, and ends with it.
//!
//! Runs in a fork of a single-threaded process, so it may use the whole of Rust; it never returns to its caller's code.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use seccompiler::BpfProgram;

use super::launch::{Job, Streams};
use super::message::{FromInit, Handed, ToInit, receive, send};
use super::mounts::{self, Prepared, Root};
use super::plan::{Probe, Step};
use super::policy::Protocol;
use super::sys::{self, Fork};
use super::{cgroup, confine, filter, reaper, usage};

/// What init was born with.
pub(super) struct Birth<'a> {
    pub(super) job: &'a Job,
    pub(super) streams: Option<Streams>,
    /// The files that this process joins its group through.
    pub(super) group: Vec<OwnedFd>,
    /// Closed by the parent when the identity is mapped.
    pub(super) mapped: Option<OwnedFd>,
    pub(super) filters: &'a HashMap<filter::Spec, BpfProgram>,
    /// For each step, the host folders that a privileged parent opened for it.
    pub(super) prepared: Vec<Prepared>,
}

/// A failed step.
struct Failed {
    step: String,
    error: io::Error,
}

/// Runs the sandbox. Never returns, whatever happens.
pub(super) fn run(birth: Birth<'_>, control: OwnedFd) -> ! {
    // A panic must not unwind into the code of the process this was forked from.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        if let Err(failed) = live(birth, &control) {
            let errno = failed.error.raw_os_error().unwrap_or(0);
            let message = FromInit::Failed { step: failed.step, errno, detail: failed.error.to_string() };
            drop(send(control.as_fd(), &message, &[]));
        }
    }));
    sys::exit_now(i32::from(result.is_err()));
}

fn live(birth: Birth<'_>, control: &OwnedFd) -> Result<(), Failed> {
    let Birth { job, streams, group, mapped, filters, prepared } = birth;
    let begin = |error| Failed { step: "begin".to_owned(), error };
    let mut keep: Vec<i32> = mounts::numbers(&prepared).chain([control.as_raw_fd()]).collect();
    keep.extend(group.iter().chain(&mapped).map(AsRawFd::as_raw_fd));
    keep.extend(streams.iter().flat_map(|s| [&s.stdin, &s.stdout, &s.stderr]).map(AsRawFd::as_raw_fd));
    sys::close_all_but(&keep).map_err(begin)?;
    take_streams(streams).map_err(begin)?;
    // The helper ignores the end of its children; init must hear of it.
    sys::default_signal(libc::SIGCHLD).map_err(begin)?;
    join(group).map_err(begin)?;
    wait_for_identity(mapped).map_err(begin)?;

    let mut world = World { root: None, handed: Vec::new(), probes: Vec::new(), terminal: None, supervisor: job.supervisor };
    let mut prepared = prepared;
    prepared.resize_with(job.plan.steps.len(), Vec::new);
    for (step, prepared) in job.plan.steps.iter().zip(prepared) {
        world.perform(step, prepared, job, filters).map_err(|error| Failed { step: step.to_string(), error })?;
    }
    if let Some((probe, _)) = world.probes.iter().find(|(_, held)| !held) {
        let error = io::Error::other(format!("{probe:?} was possible: the kernel accepted the layer but does not enforce it"));
        return Err(Failed { step: "self-test".to_owned(), error });
    }
    start(job, control, world).map_err(|error| Failed { step: "start".to_owned(), error })
}

/// Puts the payload's streams in their places, so that no stream of the host remains.
fn take_streams(streams: Option<Streams>) -> io::Result<()> {
    if let Some(streams) = streams {
        for (fd, target) in [(streams.stdin, 0), (streams.stdout, 1), (streams.stderr, 2)] {
            sys::duplicate_onto(fd.as_fd(), target)?;
        }
    }
    Ok(())
}

/// Joins the group by itself, the one case that costs no lock over all forks of the host.
fn join(group: Vec<OwnedFd>) -> io::Result<()> {
    group.iter().try_for_each(|tasks| Ok(cgroup::join(tasks.as_fd())?))
}

/// Waits until the parent mapped the identity: it closes the pipe then, or when it dies, and then the next step fails.
fn wait_for_identity(mapped: Option<OwnedFd>) -> io::Result<()> {
    mapped.map_or(Ok(()), |pipe| Ok(nix::unistd::read(&pipe, &mut [0]).map(drop)?))
}

struct World {
    root: Option<Root>,
    handed: Vec<(Handed, OwnedFd)>,
    probes: Vec<(Probe, bool)>,
    terminal: Option<OwnedFd>,
    supervisor: i32,
}

impl World {
    fn root(&mut self) -> io::Result<&mut Root> {
        self.root.as_mut().ok_or_else(|| io::Error::other("the step needs a root, and there is none"))
    }

    fn perform(&mut self, step: &Step, prepared: Prepared, job: &Job, filters: &HashMap<filter::Spec, BpfProgram>) -> io::Result<()> {
        match step {
            // The parent made them when it made this process.
            Step::Namespaces(_) => Ok(()),
            Step::Identity { inside, uid, gid } => become_user(*inside, *uid, *gid, job.privileged, job.has_user_namespace()),
            Step::Root { bytes, files } => Root::new(*bytes, *files).map(|root| self.root = Some(root)),
            Step::Folder { path, mode } => self.root()?.folder(path, *mode).map(drop),
            Step::File { path, content } => self.root()?.file(path, content),
            Step::Link { path, target } => self.root()?.link(path, target),
            Step::Bind { source, path, writable } => match &mut self.root {
                Some(root) => root.bind(source, path, *writable, prepared),
                None => mounts::bind_in_place(source, *writable, prepared),
            },
            Step::Private { path, mode } => self.root()?.private(path, *mode),
            Step::Overlay { path, lower, upper, keep } => {
                let folder = self.root()?.overlay(path, lower, upper, *keep, prepared)?;
                if *keep {
                    self.handed.push((Handed::Upper, folder));
                }
                Ok(())
            }
            Step::Place { path } => self.root()?.place(path),
            Step::Mask { path, folder } => self.root()?.mask(path, *folder, prepared),
            Step::Device { name } => self.root()?.device(name, prepared),
            Step::Terminals => self.root()?.terminals(),
            Step::Processes => self.root()?.processes(),
            Step::Enter => self.enter(job),
            Step::Loopback => sys::loopback_up(),
            Step::Address { number, ip, bits } => sys::add_address(*number, *ip, *bits),
            Step::Listen(listener) => {
                let place = self.handed.iter().filter(|(handed, _)| matches!(handed, Handed::Listener(_))).count();
                let socket: OwnedFd = match listener.protocol {
                    Protocol::Tcp => std::net::TcpListener::bind(listener.address)?.into(),
                    Protocol::Udp => std::net::UdpSocket::bind(listener.address)?.into(),
                };
                self.handed.push((Handed::Listener(place), socket));
                Ok(())
            }
            Step::HostName(name) => Ok(nix::unistd::sethostname(name)?),
            Step::Session => Ok(nix::unistd::setsid().map(drop)?),
            Step::Limit { resource, value } => confine::limit(*resource, *value),
            Step::Processors(count) => sys::limit_processors(*count),
            Step::Privileges => drop_privileges(job),
            Step::Landlock(plan) => confine::landlock(plan),
            Step::Filter(spec) => {
                let program = filters.get(spec).ok_or_else(|| io::Error::other("the filter was not compiled"))?;
                self.handed.extend(sys::install_filter(program, spec.watch_connect)?.map(|watch| (Handed::Watch, watch)));
                Ok(())
            }
            Step::Probe(probes) => {
                self.probes.extend(probes.iter().map(|probe| (probe.clone(), confine::probe(probe, self.supervisor))));
                Ok(())
            }
            Step::Execute => Ok(()),
        }
    }

    fn enter(&mut self, job: &Job) -> io::Result<()> {
        self.root.take().ok_or_else(|| io::Error::other("there is no root to enter"))?.enter()?;
        let open = |path: &str, flags| sys::open_at(sys::cwd(), &CString::new(path)?, flags, 0);
        self.handed.push((Handed::Processes, open("/proc", libc::O_DIRECTORY)?));
        self.handed.push((Handed::Private, open("/tmp", libc::O_DIRECTORY)?));
        if job.terminal {
            let master = open("/dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
            self.terminal = Some(sys::open_terminal_peer(master.as_fd())?);
            self.handed.push((Handed::Terminal, master));
        }
        Ok(())
    }
}

fn drop_privileges(job: &Job) -> io::Result<()> {
    confine::drop_privileges()?;
    // Nobody inside may look into this process or, through /proc, at the program it runs.
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
    if job.has_pid_namespace() {
        // Changing identity clears this, so it comes after. Should the parent be gone already, the control socket says so.
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0)?;
    } else {
        // Nothing ends with this process by itself: orphans come here, and this process ends them before it ends.
        sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)?;
    }
    Ok(())
}

/// Takes the payload's identity, keeping the capabilities that the following steps need.
fn become_user(inside: u32, uid: u32, gid: u32, privileged: bool, namespaced: bool) -> io::Result<()> {
    if !privileged {
        if namespaced {
            // One line each, for one's own ids: what the kernel lets an ordinary user map.
            fs_err::write("/proc/self/setgroups", "deny")?;
            fs_err::write("/proc/self/uid_map", format!("{inside} {uid} 1"))?;
            fs_err::write("/proc/self/gid_map", format!("{inside} {gid} 1"))?;
        }
        return Ok(());
    }
    const KEEP_ON_SETUID: usize = 1 << 2;
    sys::prctl(libc::PR_SET_SECUREBITS, KEEP_ON_SETUID, 0)?;
    nix::unistd::setgroups(&[])?;
    let (user, group) = (nix::unistd::Uid::from_raw(inside), nix::unistd::Gid::from_raw(inside));
    nix::unistd::setresgid(group, group, group)?;
    Ok(nix::unistd::setresuid(user, user, user)?)
}

/// Announces that everything holds, starts the payload, and waits for its end.
fn start(job: &Job, control: &OwnedFd, world: World) -> io::Result<()> {
    let (names, fds): (Vec<Handed>, Vec<OwnedFd>) = world.handed.into_iter().unzip();
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    send(control.as_fd(), &FromInit::Ready { probes: world.probes, descriptors: names }, &borrowed)?;
    drop(fds);

    let children = SigSet::from_iter([Signal::SIGCHLD]);
    children.thread_block()?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC)?;
    let payload = match sys::fork()? {
        Fork::Child => {
            let error = execute(job, world.terminal);
            drop(send(control.as_fd(), &FromInit::ExecFailed { errno: error.raw_os_error().unwrap_or(libc::EIO) }, &[]));
            sys::exit_now(127);
        }
        Fork::Parent { pid, .. } => Pid::from_raw(pid),
    };
    drop(world.terminal);
    // The pipes belong to the payload: their readers must see the end when it and its children are gone.
    (0..=2).for_each(sys::close_number);
    let ended = attend(control, &signals, payload);
    if !job.has_pid_namespace() {
        reaper::end_descendants();
    }
    match ended? {
        Some(ended) => send(control.as_fd(), &ended, &[]),
        None => Ok(()),
    }
}

/// Becomes the payload. Returns why not.
fn execute(job: &Job, terminal: Option<OwnedFd>) -> io::Error {
    let run = || -> io::Result<std::convert::Infallible> {
        nix::unistd::setsid()?;
        if let Some(terminal) = terminal {
            sys::set_controlling_terminal(terminal.as_fd())?;
            (0..=2).try_for_each(|target| sys::duplicate_onto(terminal.as_fd(), target))?;
        }
        sys::default_signals();
        // Where no namespace ends it with init, this does, as far as it reaches.
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0)?;
        if !job.has_pid_namespace() {
            // One domain deeper than init: who would end the tree cannot be ended by it.
            confine::own_signals_only(&job.plan.steps)?;
        }
        nix::unistd::chdir(&job.plan.folder)?;
        sys::close_on_exec_from(3)?;
        let argv = c_strings(job.arguments.iter().map(|a| a.as_bytes().to_vec()))?;
        let envp = c_strings(job.environment.iter().map(|(k, v)| [k.as_bytes(), b"=", v.as_bytes()].concat()))?;
        let mut last = io::Error::from_raw_os_error(libc::ENOENT);
        for candidate in candidates(&job.arguments[0], &job.environment) {
            let Err(error) = sys::execve(&CString::new(candidate.as_os_str().as_bytes())?, &argv, &envp);
            // Like a shell: one that may not be executed is remembered, one that is not there is passed over.
            match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => {}
                Some(libc::EACCES) => last = error,
                _ => return Err(error),
            }
        }
        Err(last)
    };
    match run() {
        Err(error) => error,
        Ok(never) => match never {},
    }
}

fn c_strings(items: impl Iterator<Item = Vec<u8>>) -> io::Result<Vec<CString>> {
    items.map(|bytes| Ok(CString::new(bytes)?)).collect()
}

/// Where a program's name may lead: itself when it has a slash, else each folder of the payload's PATH.
fn candidates(program: &OsStr, environment: &[(std::ffi::OsString, std::ffi::OsString)]) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(program)];
    }
    let path = environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
    std::env::split_paths(path.unwrap_or(OsStr::new("/usr/bin:/bin"))).map(|folder: PathBuf| Path::join(&folder, program)).collect()
}

/// Reaps every orphan, passes signals on, and returns how the payload ended; `None` when the supervisor is gone.
fn attend(control: &OwnedFd, signals: &SignalFd, payload: Pid) -> io::Result<Option<FromInit>> {
    loop {
        let mut ready = [PollFd::new(control.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::Error::EINTR) | Ok(_) => {}
            Err(e) => return Err(e.into()),
        }
        let happened = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let (message, child) = (happened(&ready[0]), happened(&ready[1]));
        if message {
            match receive::<ToInit>(control.as_fd(), false) {
                Ok(Some((ToInit::Signal(number), _))) => {
                    _ = nix::sys::signal::kill(Pid::from_raw(-payload.as_raw()), Signal::try_from(number).ok());
                }
                Ok(None) => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        if child {
            let _ = signals.read_signal();
            if let Some(ended) = reap(payload)? {
                return Ok(Some(ended));
            }
        }
    }
}

/// How many processes and threads this namespace holds beside its init; 0 without a namespace of our own.
fn tasks_left() -> u64 {
    let own = std::process::id() == 1;
    let proc = sys::open_at(sys::cwd(), c"/proc", libc::O_DIRECTORY, 0).ok().filter(|_| own);
    proc.map_or(0, |proc| usage::look(proc.as_fd()).processes)
}

fn reap(payload: Pid) -> io::Result<Option<FromInit>> {
    loop {
        let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, Some(code), None),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, None, Some(signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(nix::Error::ECHILD) => return Ok(None),
            Ok(_) | Err(nix::Error::EINTR) => continue,
            Err(e) => return Err(e.into()),
        };
        if pid == payload {
            let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)?;
            let ms = |t: nix::sys::time::TimeVal| t.tv_sec() * 1000 + t.tv_usec() / 1000;
            let cpu_ms = u64::try_from(ms(usage.user_time()) + ms(usage.system_time())).unwrap_or(0);
            let peak_memory_bytes = u64::try_from(usage.max_rss()).unwrap_or(0) * 1024;
            // A shell whose fork was refused gives up at once, faster than a supervisor looks: what it left tells how many there were.
            let left = if code == Some(0) { 0 } else { tasks_left() };
            return Ok(Some(FromInit::Ended { code, signal, cpu_ms, peak_memory_bytes, left }));
        }
    }
}

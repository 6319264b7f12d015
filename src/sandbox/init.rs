//! Process 1 of a sandbox: builds it, becomes as confined as its payload, starts the payload, and ends with it.
//!
//! Runs in a fork of a single-threaded process, so it may use the whole of Rust; it never returns to its caller's code.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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

use super::launch::Hull;
use super::message::{self, FromInit, Handed, Heard, Order, ToInit, orders, receive, send};
use super::mounts::{self, Prepared, Root};
use super::plan::{Namespace, Probe, Step};
use super::policy::Protocol;
use super::wire::Text;
use super::{cgroup, confine, filter, reaper, sys, usage};

/// A failed step.
struct Failed {
    step: String,
    error: io::Error,
}

/// Runs the sandbox. Never returns, whatever happens.
pub(super) fn run(hull: &Hull, processors: Option<sys::Processors>, mapped: Option<OwnedFd>, control: OwnedFd) -> ! {
    // A panic must not unwind into the code of the process this was forked from.
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        if let Err(failed) = live(hull, processors, mapped, &control) {
            let errno = failed.error.raw_os_error().unwrap_or(0);
            let message = FromInit::Failed { step: failed.step, errno, detail: failed.error.to_string() };
            drop(send(control.as_fd(), &message, &[]));
        }
    }));
    sys::exit_now(i32::from(result.is_err()));
}

fn live(hull: &Hull, processors: Option<sys::Processors>, mapped: Option<OwnedFd>, control: &OwnedFd) -> Result<(), Failed> {
    let begin = |error| Failed { step: "begin".to_owned(), error };
    let keep: Vec<i32> = mapped.iter().chain([control]).map(AsRawFd::as_raw_fd).collect();
    sys::close_all_but(&keep).map_err(begin)?;
    no_streams().map_err(begin)?;
    sys::ordinary_scheduling().map_err(begin)?;
    // For this process, which must hear of the end of its children, and for its payload.
    sys::default_signals();
    let network = hull.has(Namespace::Network).then(sys::NetworkMaker::start).transpose().map_err(no_network)?;
    wait_for_identity(mapped).map_err(begin)?;

    let mut world = World {
        root: None,
        network,
        handed: Vec::new(),
        probes: Vec::new(),
        terminal: None,
        privileged: hull.privileged,
        namespaces: (hull.has(Namespace::User), hull.has(Namespace::Pid)),
        filters: HashMap::new(),
        processors,
    };
    for step in &hull.steps {
        world.perform(step, Vec::new(), None).map_err(|error| Failed { step: step.to_string(), error })?;
    }
    // The usual filter is made while there is nothing else to do.
    world.filter(filter::Spec::USUAL).map_err(begin)?;
    loop {
        // As long as there is something to do, the network may take its time.
        if !message::waits(control.as_fd()) {
            world.enter_network().map_err(no_network)?;
        }
        match orders(control.as_fd()).map_err(|error| Failed { step: "orders".to_owned(), error })? {
            Some(Heard::Ahead { steps, prepared, descriptors }) => world.ahead(&steps, &prepared, descriptors)?,
            Some(Heard::Go(order, descriptors)) => {
                world.enter_network().map_err(no_network)?;
                return follow(&order, descriptors, world, control);
            }
            // Whoever this was built for is gone, or wants another one.
            None => return Ok(()),
        }
    }
}

fn no_network(error: io::Error) -> Failed {
    Failed { step: "network namespace".to_owned(), error }
}

fn missing_descriptor() -> Failed {
    Failed { step: "begin".to_owned(), error: io::Error::other("a descriptor is missing from the orders") }
}

/// Becomes what the orders say, and lives on as the payload's parent.
fn follow(order: &Order, descriptors: Vec<OwnedFd>, mut world: World, control: &OwnedFd) -> Result<(), Failed> {
    let begin = |error| Failed { step: "begin".to_owned(), error };
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(missing_descriptor);
    for target in 0..=2 {
        sys::duplicate_onto(next()?.as_fd(), target).map_err(begin)?;
    }
    for (step, count) in order.steps.iter().zip(order.prepared.iter().copied().chain(std::iter::repeat(0))) {
        let prepared = (0..count).map(|_| next()).collect::<Result<_, _>>()?;
        world.perform(step, prepared, Some(order)).map_err(|error| Failed { step: step.to_string(), error })?;
    }
    if let Some((probe, _)) = world.probes.iter().find(|(_, held)| !held) {
        let error = io::Error::other(format!("{probe:?} was possible: the kernel accepted the layer but does not enforce it"));
        return Err(Failed { step: "self-test".to_owned(), error });
    }
    start(order, control, world).map_err(|error| Failed { step: "start".to_owned(), error })
}

/// Lets go of the streams of whoever launched this, so that no stream of the host remains.
fn no_streams() -> io::Result<()> {
    let null = sys::open_at(sys::cwd(), c"/dev/null", libc::O_RDWR, 0)?;
    (0..=2).try_for_each(|target| sys::duplicate_onto(null.as_fd(), target))
}

/// Waits until the parent mapped the identity: it closes the pipe then, or when it dies, and then the next step fails.
fn wait_for_identity(mapped: Option<OwnedFd>) -> io::Result<()> {
    mapped.map_or(Ok(()), |pipe| Ok(nix::unistd::read(&pipe, &mut [0]).map(drop)?))
}

struct World {
    root: Option<Root>,
    /// Makes the network, which this process has not entered yet.
    network: Option<sys::NetworkMaker>,
    handed: Vec<(Handed, OwnedFd)>,
    probes: Vec<(Probe, bool)>,
    terminal: Option<OwnedFd>,
    /// Was this launched by root?
    privileged: bool,
    /// Of users, and of processes: does it have its own?
    namespaces: (bool, bool),
    filters: HashMap<filter::Spec, BpfProgram>,
    /// What the payload runs on. This process is kept apart from its supervisor.
    processors: Option<sys::Processors>,
}

impl World {
    fn root(&mut self) -> io::Result<&mut Root> {
        self.root.as_mut().ok_or_else(|| io::Error::other("the step needs a root, and there is none"))
    }

    /// Enters the network that was made meanwhile. Nothing before needs it, and nothing of a stranger runs before.
    fn enter_network(&mut self) -> io::Result<()> {
        self.network.take().map_or(Ok(()), |network| sys::enter_network(network.finish()?.as_fd()))
    }

    /// Performs steps whose orders are still to come.
    fn ahead(&mut self, steps: &[Step], prepared: &[usize], descriptors: Vec<OwnedFd>) -> Result<(), Failed> {
        let mut descriptors = descriptors.into_iter();
        for (step, count) in steps.iter().zip(prepared.iter().copied().chain(std::iter::repeat(0))) {
            let prepared = (0..count).map(|_| descriptors.next().ok_or_else(missing_descriptor)).collect::<Result<_, _>>()?;
            self.perform(step, prepared, None).map_err(|error| Failed { step: step.to_string(), error })?;
        }
        Ok(())
    }

    fn perform(&mut self, step: &Step, prepared: Prepared, order: Option<&Order>) -> io::Result<()> {
        match step {
            // They were made when this process was.
            Step::Namespaces(_) => Ok(()),
            Step::Identity { inside, uid, gid } => become_user(*inside, *uid, *gid, self.privileged, self.namespaces.0),
            Step::Root => Root::new().map(|root| self.root = Some(root)),
            Step::Room { bytes, files } => self.root()?.room(*bytes, *files),
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
            Step::Socket { path } => {
                let socket = self.root()?.socket(path)?;
                self.handed.push((Handed::Socket, socket));
                Ok(())
            }
            Step::Mask { path, folder } => self.root()?.mask(path, *folder, prepared),
            Step::Device { name } => self.root()?.device(name, prepared),
            Step::Terminals => self.root()?.terminals(),
            Step::Processes => self.root()?.processes(),
            Step::Enter => self.enter(order.is_some_and(|order| order.terminal)),
            // Whoever made the network brought it up.
            Step::Loopback => Ok(()),
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
            Step::SharedMemory(bytes) => limit_shared_memory(*bytes),
            Step::Session => Ok(nix::unistd::setsid().map(drop)?),
            Step::Limit { resource, value } => confine::limit(*resource, *value),
            Step::Processors(count) => {
                let own = self.processors.ok_or_else(|| io::Error::other("the kernel does not tell which there are"))?;
                let fewer = own.at_most(*count);
                self.processors = Some(fewer);
                fewer.apply()
            }
            Step::Privileges => drop_privileges(self.namespaces.1),
            Step::Landlock(plan) => confine::landlock(plan),
            Step::Filter(spec) => {
                let watch = sys::install_filter(self.filter(*spec)?, spec.watch_connect)?;
                self.handed.extend(watch.map(|watch| (Handed::Watch, watch)));
                Ok(())
            }
            Step::Probe(probes) => {
                let supervisor = order.map_or(0, |order| order.supervisor);
                self.probes.extend(probes.iter().map(|probe| (probe.clone(), confine::probe(probe, supervisor))));
                Ok(())
            }
            Step::Execute => Ok(()),
        }
    }

    fn filter(&mut self, spec: filter::Spec) -> io::Result<&BpfProgram> {
        match self.filters.entry(spec) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => Ok(new.insert(filter::program(spec).map_err(io::Error::other)?)),
        }
    }

    fn enter(&mut self, terminal: bool) -> io::Result<()> {
        self.root.take().ok_or_else(|| io::Error::other("there is no root to enter"))?.enter()?;
        let open = |path: &str, flags| sys::open_at(sys::cwd(), &CString::new(path)?, flags, 0);
        self.handed.push((Handed::Processes, open("/proc", libc::O_DIRECTORY)?));
        self.handed.push((Handed::Private, open("/tmp", libc::O_DIRECTORY)?));
        if terminal {
            let master = open("/dev/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
            self.terminal = Some(sys::open_terminal_peer(master.as_fd())?);
            self.handed.push((Handed::Terminal, master));
        }
        Ok(())
    }
}

fn drop_privileges(pid_namespace: bool) -> io::Result<()> {
    confine::drop_privileges()?;
    // Nobody inside may look into this process or, through /proc, at the program it runs.
    sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
    if pid_namespace {
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

/// Bounds the System V shared memory of this ipc namespace. Where the settings cannot be written at all, as in a container, what is attached is
/// still sampled.
fn limit_shared_memory(bytes: u64) -> io::Result<()> {
    let pages = bytes / nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096);
    match fs_err::write("/proc/sys/kernel/shmall", pages.to_string()) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EROFS | libc::EACCES | libc::EPERM | libc::ENOENT)) => Err(error),
        _ => Ok(()),
    }
}

/// Announces that everything holds, starts the payload, and waits for its end.
fn start(order: &Order, control: &OwnedFd, world: World) -> io::Result<()> {
    let pid_namespace = world.namespaces.1;
    // Nothing of the supervisor's is left to wait for when it hears that all is ready.
    let Some(group) = message::group(control.as_fd())? else { return Ok(()) };
    let processors = world.processors;
    let (names, fds): (Vec<Handed>, Vec<OwnedFd>) = world.handed.into_iter().unzip();
    let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    send(control.as_fd(), &FromInit::Ready { probes: world.probes, descriptors: names }, &borrowed)?;
    drop(fds);

    let children = SigSet::from_iter([Signal::SIGCHLD]);
    children.thread_block()?;
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC)?;
    // Returns when the payload runs: until then both are one memory, and this process waits.
    let payload = sys::fork_to_execute(|| {
        // By itself, the one case that costs no lock over all forks of the host; and alone, so that the group can go before this process does.
        if let Err(errno) = group.iter().try_for_each(|tasks| cgroup::join(tasks.as_fd())) {
            let failed = FromInit::Failed { step: "group".to_owned(), errno: errno as i32, detail: errno.desc().to_owned() };
            drop(send(control.as_fd(), &failed, &[]));
            return 127;
        }
        // A limit of them was applied in its turn; without one they are those that init had before its supervisor wanted one for itself.
        drop(processors.map(sys::Processors::apply));
        let error = execute(order, pid_namespace, world.terminal.as_ref());
        drop(send(control.as_fd(), &FromInit::ExecFailed { errno: error.raw_os_error().unwrap_or(libc::EIO) }, &[]));
        127
    })?;
    let payload = Pid::from_raw(payload);
    drop((group, world.terminal));
    // The pipes belong to the payload: their readers must see the end when it and its children are gone.
    (0..=2).for_each(sys::close_number);
    let ended = attend(control, &signals, payload);
    // Whoever hears of the end may rely on it: nobody else is left then.
    if pid_namespace {
        reaper::end_namespace();
    } else {
        reaper::end_descendants();
    }
    match ended? {
        Some(ended) => send(control.as_fd(), &ended, &[]),
        None => Ok(()),
    }
}

/// Becomes the payload. Returns why not.
fn execute(order: &Order, pid_namespace: bool, terminal: Option<&OwnedFd>) -> io::Error {
    let run = || -> io::Result<std::convert::Infallible> {
        nix::unistd::setsid()?;
        if let Some(terminal) = terminal {
            sys::set_controlling_terminal(terminal.as_fd())?;
            (0..=2).try_for_each(|target| sys::duplicate_onto(terminal.as_fd(), target))?;
        }
        sys::unblock_signals();
        // Where no namespace ends it with init, this does, as far as it reaches.
        sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0)?;
        if !pid_namespace {
            // One domain deeper than init: who would end the tree cannot be ended by it.
            confine::own_signals_only(&order.steps)?;
        }
        nix::unistd::chdir(&order.folder)?;
        sys::close_on_exec_from(3)?;
        let argv = c_strings(order.arguments.iter().map(|a| a.0.as_bytes().to_vec()))?;
        let envp = c_strings(order.environment.iter().map(|(k, v)| [k.0.as_bytes(), b"=", v.0.as_bytes()].concat()))?;
        let program = order.arguments.first().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))?;
        let mut last = io::Error::from_raw_os_error(libc::ENOENT);
        for candidate in candidates(&program.0, &order.environment) {
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
fn candidates(program: &OsStr, environment: &[(Text<'_>, Text<'_>)]) -> Vec<PathBuf> {
    if program.as_bytes().contains(&b'/') {
        return vec![PathBuf::from(program)];
    }
    let path = environment.iter().find(|(name, _)| &*name.0 == "PATH").map(|(_, value)| &*value.0);
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
                // More orders than one hull can follow are a defect of the supervisor: everything ends.
                Ok(Some(_) | None) => return Ok(None),
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

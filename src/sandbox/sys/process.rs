//! Processes: made, replaced, ended.

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI64, Ordering};

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use super::raw;

/// The two sides of a fork.
#[derive(Debug)]
pub enum Fork {
    Child,
    Parent { pid: i32, pidfd: OwnedFd },
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// `clone3` as a fork into new namespaces, and into `cgroup` when one is given.
///
/// The caller must be single-threaded: the child goes on running Rust, and a lock held by another thread would stay locked in it for ever.
///
/// # Errors
/// What the kernel said; also when this process has more than one thread.
pub fn fork_into(namespaces: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    debug_assert!(single_threaded(), "forking a threaded process");
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` and `pidfd` live across the call; without CLONE_VM the child has its own copy of everything.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            let pid = i32::try_from(pid).map_err(io::Error::other)?;
            // SAFETY: CLONE_PIDFD stored a fresh descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::Parent { pid, pidfd })
        }
    }
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Has this process exactly one thread? The kernel lets nobody else unshare what threads share, and for who is alone that does nothing.
pub fn single_threaded() -> bool {
    match raw(libc::SYS_unshare, [libc::CLONE_THREAD as usize, 0, 0, 0, 0, 0]) {
        Ok(_) => true,
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => false,
        // A filter refuses the call itself, as ours does: that says nothing about threads.
        Err(_) => fs_err::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1),
    }
}

/// Memory for a second stack.
#[derive(Debug)]
struct Stack {
    memory: Box<[std::mem::MaybeUninit<u128>]>,
}

impl Stack {
    fn new(bytes: usize) -> Self {
        Self { memory: Box::new_uninit_slice(bytes / size_of::<u128>()) }
    }

    /// Stacks grow down.
    fn top(&mut self) -> *mut c_void {
        self.memory.as_mut_ptr_range().end.cast()
    }
}

/// As much as the way to `execve` needs, many times over; pages that are never touched cost nothing.
const EXECUTE_STACK: usize = 256 * 1024;

/// Runs `execute` in a new process on this one's memory, with a stack of its own, while this one waits until that process has executed a
/// program or ended. Nothing is copied: a fork would copy every page that either side touches afterwards. `execute` returns an exit code.
///
/// # Errors
/// What the kernel said.
pub fn fork_to_execute<F: FnMut() -> i32>(mut execute: F) -> io::Result<i32> {
    extern "C" fn run<F: FnMut() -> i32>(argument: *mut c_void) -> i32 {
        // SAFETY: `argument` is the closure below, which lives as long as its owner waits, and only this process uses it meanwhile.
        let execute = unsafe { &mut *argument.cast::<F>() };
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(execute)).unwrap_or(127)
    }
    let mut stack = Stack::new(EXECUTE_STACK);
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let argument: *mut F = &raw mut execute;
    // SAFETY: the stack and the closure outlive the child's use of them, because CLONE_VFORK keeps us here until it has executed or
    // ended. The caller is single-threaded and waits, so nobody else uses this memory, this thread's storage included.
    let pid = unsafe { libc::clone(run::<F>, stack.top(), flags, argument.cast()) };
    if pid == -1 { Err(io::Error::last_os_error()) } else { Ok(pid) }
}

/// Enough for two calls.
const HOLDER_STACK: usize = 16 * 1024;

/// A process that holds a new user namespace, and nothing else, until it is dropped.
#[derive(Debug)]
pub struct NamespaceHolder {
    pid: i32,
    _stack: Stack,
    alive: Option<OwnedFd>,
}

impl NamespaceHolder {
    /// Makes one, on this process's memory: a fork would cost more than the namespace.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn new() -> io::Result<Self> {
        extern "C" fn hold(ends: *mut c_void) -> i32 {
            let (wait, other) = ((ends as usize >> 32) as RawFd, (ends as usize & 0xffff_ffff) as RawFd);
            let mut byte = 0_u8;
            // SAFETY: plain calls on numbers and on a byte of this stack. They touch the shared error number only when they fail, and
            // both descriptors are open.
            unsafe { libc::close(other) };
            // SAFETY: as above. It returns when the owner closes its end, or dies.
            unsafe { libc::read(wait, (&raw mut byte).cast(), 1) };
            0
        }
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let ends = (reader.as_raw_fd() as usize) << 32 | writer.as_raw_fd() as usize;
        let mut stack = Stack::new(HOLDER_STACK);
        // Its end is nobody's signal: a program that waits for children of its own must not hear of it, nor reap it.
        let flags = libc::CLONE_VM | libc::CLONE_NEWUSER;
        // SAFETY: the stack is freed only after the child was waited for. The child runs `hold` alone, which uses nothing else of this
        // memory: its argument is two numbers, not an address.
        let pid = unsafe { libc::clone(hold, stack.top(), flags, std::ptr::without_provenance_mut(ends)) };
        if pid == -1 { Err(io::Error::last_os_error()) } else { Ok(Self { pid, _stack: stack, alive: Some(writer) }) }
    }

    /// Lets it end, without waiting for that yet.
    pub fn let_go(&mut self) {
        drop(self.alive.take());
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }
}

impl Drop for NamespaceHolder {
    fn drop(&mut self) {
        self.let_go();
        // Before its stack is freed. A child without a signal is waited for only by who asks for it.
        let all = nix::sys::wait::WaitPidFlag::__WALL;
        while matches!(nix::sys::wait::waitpid(Pid::from_raw(self.pid), Some(all)), Err(nix::Error::EINTR)) {}
    }
}

/// A second process on this one's memory that makes a network namespace, the dearest of them all, while this one goes on.
#[derive(Debug)]
pub struct NetworkMaker {
    pid: i32,
    _stack: Stack,
    /// The namespace's descriptor, or the negative number of an error.
    made: Box<AtomicI64>,
}

impl NetworkMaker {
    /// Begins. The namespace's loopback will be up.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn start() -> io::Result<Self> {
        extern "C" fn make(made: *mut c_void) -> i32 {
            // SAFETY: the owner keeps the number until this process has been waited for.
            let made = unsafe { &*made.cast::<AtomicI64>() };
            made.store(network_namespace(), Ordering::Release);
            0
        }
        let (mut stack, made) = (Stack::new(HOLDER_STACK), Box::new(AtomicI64::new(0)));
        // The table of descriptors is shared, so that what it opens is ours. Its end is nobody's signal.
        let flags = libc::CLONE_VM | libc::CLONE_FILES;
        let argument = std::ptr::from_ref(&*made).cast_mut().cast();
        // SAFETY: the stack and the number are freed only after the child was waited for. The child makes system calls by itself and uses
        // nothing else of this memory, not even the place where the C library keeps error numbers.
        let pid = unsafe { libc::clone(make, stack.top(), flags, argument) };
        if pid == -1 { Err(io::Error::last_os_error()) } else { Ok(Self { pid, _stack: stack, made }) }
    }

    /// Waits until it is made, and takes it.
    ///
    /// # Errors
    /// What the kernel said to whoever made it.
    pub fn finish(self) -> io::Result<OwnedFd> {
        self.wait();
        let made = self.made.load(Ordering::Acquire);
        match RawFd::try_from(made).map_err(io::Error::other)? {
            error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
            0..=2 => Err(io::Error::other("it was not made")),
            // SAFETY: it was opened for us in the table that both share, and nobody else knows its number.
            fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }

    fn wait(&self) {
        let all = nix::sys::wait::WaitPidFlag::__WALL;
        while matches!(nix::sys::wait::waitpid(Pid::from_raw(self.pid), Some(all)), Err(nix::Error::EINTR)) {}
    }
}

impl Drop for NetworkMaker {
    fn drop(&mut self) {
        // Before its stack is freed; when that was done already, it is nobody's child.
        self.wait();
    }
}

/// Moves this process into a new network namespace, brings its loopback up and opens it: a descriptor, or a negative error number.
fn network_namespace() -> i64 {
    let address = |of: *const u8| of as usize;
    let unshared = bare(libc::SYS_unshare, [libc::CLONE_NEWNET as usize, 0, 0]);
    let socket = bare(libc::SYS_socket, [libc::AF_INET as usize, (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize, 0]);
    if unshared < 0 || socket < 0 {
        return unshared.min(socket);
    }
    let mut request = [0_u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&((libc::IFF_UP | libc::IFF_RUNNING) as u16).to_ne_bytes());
    let up = bare(libc::SYS_ioctl, [socket as usize, libc::SIOCSIFFLAGS as usize, address(request.as_ptr())]);
    bare(libc::SYS_close, [socket as usize, 0, 0]);
    let path = c"/proc/self/ns/net";
    let open = || bare(libc::SYS_open, [address(path.as_ptr().cast()), (libc::O_RDONLY | libc::O_CLOEXEC) as usize, 0]);
    if up < 0 { up } else { open() }
}

/// A system call without the C library, whose place for error numbers belongs to another process here.
fn bare(number: libc::c_long, [a, b, c]: [usize; 3]) -> i64 {
    let mut answer = number;
    // SAFETY: the kernel checks every argument; callers pass addresses only of memory that outlives the call.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") answer,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack)
        );
    }
    answer
}

/// Enters the namespace behind a descriptor.
///
/// # Errors
/// What the kernel said.
pub fn enter_network(namespace: BorrowedFd<'_>) -> io::Result<()> {
    raw(libc::SYS_setns, [namespace.as_raw_fd() as usize, libc::CLONE_NEWNET as usize, 0, 0, 0, 0]).map(drop)
}

/// Ends this process at once, without running destructors that belong to the other side of a fork.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions and does not return.
    unsafe { libc::_exit(code) }
}

/// Replaces this process. Returns only on failure.
///
/// # Errors
/// Why it could not be replaced.
pub fn execve(program: &CStr, argv: &[CString], envp: &[CString]) -> io::Result<Infallible> {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> { list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect() };
    let (argv, envp) = (pointers(argv), pointers(envp));
    // SAFETY: both lists are null-terminated and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    Err(io::Error::last_os_error())
}

/// Marks every descriptor from `first` on as closed at exec.
///
/// # Errors
/// What the kernel said.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    raw(libc::SYS_close_range, [first as usize, u32::MAX as usize, libc::CLOSE_RANGE_CLOEXEC as usize, 0, 0, 0]).map(drop)
}

/// Sends a signal to the process behind a pidfd.
///
/// # Errors
/// What the kernel said.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    raw(libc::SYS_pidfd_send_signal, [pidfd.as_raw_fd() as usize, signal as usize, 0, 0, 0, 0]).map(drop)
}

/// A process control call with plain numbers.
///
/// # Errors
/// What the kernel said.
pub fn prctl(option: i32, a: usize, b: usize) -> io::Result<i32> {
    // SAFETY: every option used here takes plain numbers.
    let result = unsafe { libc::prctl(option, a, b, 0_usize, 0_usize) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Ignores a signal in this process. Children ended while SIGCHLD is ignored leave no zombie.
///
/// # Errors
/// What the kernel said.
pub fn ignore_signal(signal: i32) -> io::Result<()> {
    // SAFETY: SIG_IGN installs no handler code.
    let previous = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if previous == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Gives every signal its default action and unblocks all: what a program expects at its start.
pub fn default_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL installs no handler code; signals that cannot be changed are refused by the kernel.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    unblock_signals();
}

/// Unblocks every signal.
pub fn unblock_signals() {
    // Setting a mask to a valid set cannot fail.
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
}

/// Gives up real-time scheduling, if whoever started us had it: what runs here could keep everybody else from the processor, and control
/// groups that share processors do not take such processes.
///
/// # Errors
/// What the kernel said.
pub fn ordinary_scheduling() -> io::Result<()> {
    let policy = raw(libc::SYS_sched_getscheduler, [0; 6])?;
    // Batch and idle are ordinary too, only less so; the flag says what a fork of it would be.
    let ordinary = [libc::SCHED_OTHER, libc::SCHED_BATCH, libc::SCHED_IDLE];
    if ordinary.iter().any(|kind| policy == *kind as isize) {
        return Ok(());
    }
    schedule(libc::SCHED_OTHER)
}

/// Schedules this process by an ordinary policy.
fn schedule(policy: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    raw(libc::SYS_sched_setscheduler, [0, policy as usize, &raw const parameters as usize, 0, 0, 0]).map(drop)
}

/// The processors that a process may run on.
#[derive(Clone, Copy, Debug)]
pub struct Processors(CpuSet);

impl Processors {
    /// Those of this process.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn own() -> io::Result<Self> {
        Ok(Self(sched_getaffinity(Pid::from_raw(0))?))
    }

    /// The first `count` of them.
    #[must_use]
    pub fn at_most(self, count: usize) -> Self {
        let mut first = CpuSet::new();
        for cpu in self.numbers().take(count) {
            // A number that came out of a set fits into one.
            let _ = first.set(cpu);
        }
        Self(first)
    }

    /// The one that this runs on, and the others; `None` when there are none.
    fn apart(self) -> Option<(Self, Self)> {
        let cpu = sched_getcpu().ok()?;
        let (mut here, mut others) = (CpuSet::new(), self.0);
        here.set(cpu).ok()?;
        others.unset(cpu).ok()?;
        (others != CpuSet::new()).then_some((Self(here), Self(others)))
    }

    /// From now on this process runs on these.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn apply(self) -> io::Result<()> {
        Ok(sched_setaffinity(Pid::from_raw(0), &self.0)?)
    }

    fn numbers(&self) -> impl Iterator<Item = usize> {
        (0..CpuSet::count()).filter(|cpu| self.0.is_set(*cpu).unwrap_or(false))
    }
}

/// A processor that another process leaves to this one.
///
/// Two processes that work for each other are put on one processor readily, above all in a virtual machine, where one that halts does not
/// look idle. It is a hint: where it cannot be done, they take turns.
#[derive(Clone, Copy, Debug)]
pub struct Apart {
    here: Processors,
    all: Processors,
}

impl Apart {
    /// Moves a process away from the processor that this runs on, and keeps it and its children away from there until they choose their
    /// [`Processors`] themselves. `None` where there is no other one.
    pub fn from(pid: i32) -> Option<Self> {
        let all = Processors::own().ok()?;
        let (here, others) = all.apart()?;
        sched_setaffinity(Pid::from_raw(pid), &others.0).ok()?;
        Some(Self { here, all })
    }

    /// Keeps this thread on that processor, where the other one's messages would else pull it to theirs. Not while threads or processes are
    /// begun, which would stay there too.
    pub fn stay(self) -> Staying {
        drop(self.here.apply());
        Staying(self.all)
    }
}

/// See [`Apart::stay`]; dropping it ends that.
#[derive(Debug)]
pub struct Staying(Processors);

impl Drop for Staying {
    fn drop(&mut self) {
        drop(self.0.apply());
    }
}

/// As long as this is held, whoever this process begins does not push it off its processor: it can say first where the other one belongs.
///
/// Held by both sides of a fork; each gives it up for itself.
#[derive(Debug)]
pub struct Unhurried(bool);

impl Unhurried {
    /// Only where this process is scheduled as everybody is: nothing else could be given back as it was.
    pub fn begin() -> Self {
        let usual = matches!(raw(libc::SYS_sched_getscheduler, [0; 6]), Ok(policy) if policy == libc::SCHED_OTHER as isize);
        Self(usual && schedule(libc::SCHED_BATCH).is_ok())
    }
}

impl Drop for Unhurried {
    fn drop(&mut self) {
        if self.0 {
            // From batch everybody may go back.
            drop(schedule(libc::SCHED_OTHER));
        }
    }
}

//! The one home of `unsafe`: thin, checked doors to the kernel. Each block says why it is sound.
#![expect(unsafe_code, reason = "system calls that no safe crate wraps")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

mod process;

pub use process::*;

/// Any system call by number, for attacks and probes: arguments are plain numbers, or addresses of buffers the caller keeps alive.
///
/// # Errors
/// What the kernel said.
pub fn raw(number: libc::c_long, args: [usize; 6]) -> io::Result<isize> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the kernel checks every argument; callers pass addresses only of buffers that outlive the call.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result as isize) }
}

/// A call whose success value is a new descriptor.
fn raw_fd(number: libc::c_long, args: [usize; 6]) -> io::Result<OwnedFd> {
    let fd = raw(number, args)?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call succeeded and returned a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

// ---- capabilities ----

#[repr(C)]
struct CapHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
struct CapData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Empties every capability set of this process, the bounding set included.
///
/// # Errors
/// What the kernel said.
pub fn drop_all_capabilities() -> io::Result<()> {
    for capability in 0..64 {
        match prctl(libc::PR_CAPBSET_DROP, capability, 0) {
            Ok(_) => {}
            // The first unknown number is the end of the kernel's list. Who may not shrink the set has no capability to use it with.
            Err(e) if e.raw_os_error() == Some(libc::EINVAL) => break,
            Err(e) if e.raw_os_error() == Some(libc::EPERM) && has_no_capabilities()? => break,
            Err(e) => return Err(e),
        }
    }
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as usize, 0)?;
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let data = [CapData::default(); 2];
    raw(libc::SYS_capset, [&raw const header as usize, &raw const data as usize, 0, 0, 0, 0]).map(drop)
}

/// Are the effective and permitted sets of this process empty?
///
/// # Errors
/// What the kernel said.
pub fn has_no_capabilities() -> io::Result<bool> {
    let header = CapHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapData { effective: 1, permitted: 1, inheritable: 1 }; 2];
    raw(libc::SYS_capget, [&raw const header as usize, &raw mut data as usize, 0, 0, 0, 0])?;
    Ok(data == [CapData::default(); 2])
}

// ---- mounts: the descriptor-based interface ----

pub const OPEN_TREE_CLONE: u32 = 1;
pub const AT_RECURSIVE: u32 = 0x8000;
pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;
pub const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// A detached copy of the mount tree at `path`, resolved from `dir`, without following a final link.
///
/// # Errors
/// What the kernel said.
pub fn open_tree(dir: BorrowedFd<'_>, path: &CStr, flags: u32) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_CLOEXEC as u32 | libc::AT_SYMLINK_NOFOLLOW as u32;
    raw_fd(libc::SYS_open_tree, [dir.as_raw_fd() as usize, path.as_ptr() as usize, flags as usize, 0, 0, 0])
}

/// Attaches a detached mount at `path`, resolved from `dir`.
///
/// # Errors
/// What the kernel said.
pub fn move_mount(mount: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &CStr) -> io::Result<()> {
    const F_EMPTY_PATH: usize = 0x4;
    raw(
        libc::SYS_move_mount,
        [mount.as_raw_fd() as usize, c"".as_ptr() as usize, dir.as_raw_fd() as usize, path.as_ptr() as usize, F_EMPTY_PATH, 0],
    )
    .map(drop)
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Sets attributes of a mount, of every mount below it with `AT_RECURSIVE`; with `idmap` also the mapping of owners. It becomes private:
/// a copy of a shared mount of the host, as every mount is under systemd, would let what the host mounts later appear inside, with
/// none of these attributes, and what is mounted on it here appear on the host.
///
/// # Errors
/// What the kernel said.
pub fn mount_setattr(mount: BorrowedFd<'_>, flags: u32, set: u64, idmap: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let attr = MountAttr {
        set: set | if idmap.is_some() { MOUNT_ATTR_IDMAP } else { 0 },
        clear: 0,
        propagation: libc::MS_PRIVATE,
        userns: idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = flags | libc::AT_EMPTY_PATH as u32;
    let (path, attr) = (c"".as_ptr() as usize, &raw const attr as usize);
    raw(libc::SYS_mount_setattr, [mount.as_raw_fd() as usize, path, flags as usize, attr, size_of::<MountAttr>(), 0]).map(drop)
}

/// A new, detached file system of `kind` with `options`; an option without a value is a flag.
///
/// # Errors
/// What the kernel said.
pub fn new_filesystem(kind: &CStr, options: &[(&CStr, Option<&CStr>)], attributes: u64) -> io::Result<OwnedFd> {
    const CREATE: usize = 6;
    const CLOEXEC: usize = 1;
    let context = raw_fd(libc::SYS_fsopen, [kind.as_ptr() as usize, CLOEXEC, 0, 0, 0, 0])?;
    let fd = context.as_raw_fd() as usize;
    configure(&context, options)?;
    raw(libc::SYS_fsconfig, [fd, CREATE, 0, 0, 0, 0])?;
    raw_fd(libc::SYS_fsmount, [fd, CLOEXEC, attributes as usize, 0, 0, 0])
}

/// Changes options of the mounted file system whose root `mount` is.
///
/// # Errors
/// What the kernel said.
pub fn reconfigure(mount: BorrowedFd<'_>, options: &[(&CStr, Option<&CStr>)]) -> io::Result<()> {
    const RECONFIGURE: usize = 7;
    const CLOEXEC_AND_EMPTY_PATH: usize = 1 | 8;
    let context = raw_fd(libc::SYS_fspick, [mount.as_raw_fd() as usize, c"".as_ptr() as usize, CLOEXEC_AND_EMPTY_PATH, 0, 0, 0])?;
    configure(&context, options)?;
    raw(libc::SYS_fsconfig, [context.as_raw_fd() as usize, RECONFIGURE, 0, 0, 0, 0]).map(drop)
}

fn configure(context: &OwnedFd, options: &[(&CStr, Option<&CStr>)]) -> io::Result<()> {
    const SET_FLAG: usize = 0;
    const SET_STRING: usize = 1;
    options.iter().try_for_each(|(key, value)| {
        let (command, value) = value.map_or((SET_FLAG, 0), |v| (SET_STRING, v.as_ptr() as usize));
        raw(libc::SYS_fsconfig, [context.as_raw_fd() as usize, command, key.as_ptr() as usize, value, 0, 0]).map(drop)
    })
}

/// A path pinned by descriptor, links not followed.
///
/// # Errors
/// What the kernel said.
pub fn open_path(dir: BorrowedFd<'_>, path: &CStr, flags: i32) -> io::Result<OwnedFd> {
    let flags = libc::O_PATH | libc::O_CLOEXEC | flags;
    raw_fd(libc::SYS_openat, [dir.as_raw_fd() as usize, path.as_ptr() as usize, flags as usize, 0, 0, 0])
}

/// Opens `path` below `dir` with plain flags.
///
/// # Errors
/// What the kernel said.
pub fn open_at(dir: BorrowedFd<'_>, path: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    raw_fd(libc::SYS_openat, [dir.as_raw_fd() as usize, path.as_ptr() as usize, (flags | libc::O_CLOEXEC) as usize, mode as usize, 0, 0])
}

/// The current folder as a base for paths.
pub fn cwd() -> BorrowedFd<'static> {
    // SAFETY: AT_FDCWD is a constant that is always valid as a base.
    unsafe { BorrowedFd::borrow_raw(libc::AT_FDCWD) }
}

// ---- network ----

/// Gives the loopback one more network, all of which is then local: `lo:<number>`.
///
/// # Errors
/// What the kernel said.
pub fn add_address(number: usize, ip: std::net::Ipv4Addr, bits: u8) -> io::Result<()> {
    #[repr(C)]
    struct AddressRequest {
        name: [u8; 16],
        family: u16,
        port: u16,
        address: [u8; 4],
        padding: [u8; 16],
    }
    let mut name = [0; 16];
    for (to, from) in name[..15].iter_mut().zip(format!("lo:{number}").bytes()) {
        *to = from;
    }
    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits.into())).unwrap_or(0);
    for (call, address) in [(libc::SIOCSIFADDR, ip.octets()), (libc::SIOCSIFNETMASK, mask.to_be_bytes())] {
        let mut request = AddressRequest { name, family: libc::AF_INET as u16, port: 0, address, padding: [0; 16] };
        interface_ioctl(call as usize, &raw mut request as usize)?;
    }
    Ok(())
}

/// `request` is the address of a request that is as long as the kernel's.
fn interface_ioctl(call: usize, request: usize) -> io::Result<()> {
    let socket = raw_fd(libc::SYS_socket, [libc::AF_INET as usize, (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize, 0, 0, 0, 0])?;
    raw(libc::SYS_ioctl, [socket.as_raw_fd() as usize, call, request, 0, 0, 0]).map(drop)
}

// ---- seccomp ----

/// Installs a filter on this process; with `listener` the descriptor on which its notifications arrive is returned.
///
/// # Errors
/// What the kernel said.
pub fn install_filter(program: &[seccompiler::sock_filter], listener: bool) -> io::Result<Option<OwnedFd>> {
    const SET_MODE_FILTER: usize = 1;
    const NEW_LISTENER: usize = 1 << 3;
    const WAIT_KILLABLE_RECV: usize = 1 << 5;
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const seccompiler::sock_filter,
    }
    let program = Program { length: u16::try_from(program.len()).map_err(io::Error::other)?, filter: program.as_ptr() };
    let install = |flags| raw(libc::SYS_seccomp, [SET_MODE_FILTER, flags, &raw const program as usize, 0, 0, 0]);
    if !listener {
        install(0)?;
        return Ok(None);
    }
    // Killable waits keep programs that signal themselves often (Go) from restarting a call for ever; kernels before 5.19 lack the flag.
    let fd = install(NEW_LISTENER | WAIT_KILLABLE_RECV).or_else(|_| install(NEW_LISTENER))?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel returned a fresh descriptor that nobody else owns.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// One system call that waits for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Notification {
    pub id: u64,
    /// The caller, as seen from this process's pid namespace.
    pub pid: i32,
    pub call: i64,
    pub args: [u64; 6],
}

/// The answer to a notification.
#[derive(Clone, Copy, Debug)]
pub enum Answer {
    /// Let the kernel go on with the call.
    Continue,
    /// The call returns success without having been made.
    Pretend,
    Fail(i32),
}

#[repr(C)]
#[derive(Default)]
struct SeccompNotif {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    instruction_pointer: u64,
    args: [u64; 6],
}

#[repr(C)]
struct SeccompNotifResp {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

const NOTIF_RECV: usize = 0xc050_2100;
const NOTIF_SEND: usize = 0xc018_2101;
const NOTIF_ID_VALID: usize = 0x4008_2102;

/// Takes the next waiting notification. `Ok(None)` when its caller is already gone.
///
/// # Errors
/// What the kernel said.
pub fn receive_notification(listener: BorrowedFd<'_>) -> io::Result<Option<Notification>> {
    let mut notif = SeccompNotif::default();
    match raw(libc::SYS_ioctl, [listener.as_raw_fd() as usize, NOTIF_RECV, &raw mut notif as usize, 0, 0, 0]) {
        Ok(_) => {
            let pid = i32::try_from(notif.pid).map_err(io::Error::other)?;
            Ok(Some(Notification { id: notif.id, pid, call: i64::from(notif.nr), args: notif.args }))
        }
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Is the caller of a notification still waiting? What was read from its memory before is only then its own.
pub fn notification_is_valid(listener: BorrowedFd<'_>, id: u64) -> bool {
    raw(libc::SYS_ioctl, [listener.as_raw_fd() as usize, NOTIF_ID_VALID, &raw const id as usize, 0, 0, 0]).is_ok()
}

/// Answers a notification. A caller that is gone needs no answer.
///
/// # Errors
/// What the kernel said.
pub fn answer_notification(listener: BorrowedFd<'_>, id: u64, answer: Answer) -> io::Result<()> {
    const FLAG_CONTINUE: u32 = 1;
    let response = match answer {
        Answer::Continue => SeccompNotifResp { id, val: 0, error: 0, flags: FLAG_CONTINUE },
        Answer::Pretend => SeccompNotifResp { id, val: 0, error: 0, flags: 0 },
        Answer::Fail(errno) => SeccompNotifResp { id, val: 0, error: -errno, flags: 0 },
    };
    match raw(libc::SYS_ioctl, [listener.as_raw_fd() as usize, NOTIF_SEND, &raw const response as usize, 0, 0, 0]) {
        Err(e) if e.raw_os_error() != Some(libc::ENOENT) => Err(e),
        _ => Ok(()),
    }
}

/// Reads up to `buffer.len()` bytes of another process's memory.
///
/// # Errors
/// What the kernel said.
pub fn read_memory(pid: i32, address: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: buffer.len() };
    // SAFETY: the local range is a live, writable buffer; the remote one is checked by the kernel.
    let n = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// The Landlock ABI of this kernel, `None` when it has no Landlock.
pub fn landlock_abi() -> Option<u32> {
    const VERSION: usize = 1;
    raw(libc::SYS_landlock_create_ruleset, [0, 0, VERSION, 0, 0, 0]).ok().and_then(|v| u32::try_from(v).ok())
}

// ---- terminals ----

/// Makes `terminal` the controlling terminal of this session.
///
/// # Errors
/// What the kernel said.
pub fn set_controlling_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    raw(libc::SYS_ioctl, [terminal.as_raw_fd() as usize, libc::TIOCSCTTY as usize, 0, 0, 0, 0]).map(drop)
}

/// The other end of a private terminal, opened from its master without a path.
///
/// # Errors
/// What the kernel said.
pub fn open_terminal_peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const TIOCGPTPEER: usize = 0x5441;
    let unlock: libc::c_int = 0;
    raw(libc::SYS_ioctl, [master.as_raw_fd() as usize, libc::TIOCSPTLCK as usize, &raw const unlock as usize, 0, 0, 0])?;
    raw_fd(libc::SYS_ioctl, [master.as_raw_fd() as usize, TIOCGPTPEER, (libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) as usize, 0, 0, 0])
}

/// Copies the window size of one terminal to another.
///
/// # Errors
/// What the kernel said.
pub fn copy_window_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    raw(libc::SYS_ioctl, [from.as_raw_fd() as usize, libc::TIOCGWINSZ as usize, &raw mut size as usize, 0, 0, 0])?;
    raw(libc::SYS_ioctl, [to.as_raw_fd() as usize, libc::TIOCSWINSZ as usize, &raw const size as usize, 0, 0, 0]).map(drop)
}

/// A borrowed standard stream by number.
pub fn standard(number: RawFd) -> BorrowedFd<'static> {
    debug_assert!((0..=2).contains(&number));
    // SAFETY: descriptors 0 to 2 stay open for the life of this process: `main` opens /dev/null on those that were closed.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Opens /dev/null on each of the descriptors 0 to 2 that is closed, so that no other file ever gets such a number.
pub fn fill_standard_streams() {
    loop {
        let Ok(fd) = fs_err::OpenOptions::new().read(true).write(true).open("/dev/null") else { return };
        if fd.as_raw_fd() > 2 {
            return;
        }
        std::mem::forget(fd);
    }
}

/// Duplicates `fd` onto the number `target`, which stays open across exec.
///
/// # Errors
/// What the kernel said.
pub fn duplicate_onto(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == target {
        return Ok(nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).map(drop)?);
    }
    raw(libc::SYS_dup3, [fd.as_raw_fd() as usize, target as usize, 0, 0, 0, 0]).map(drop)
}

/// A descriptor as a plain number, for a table that another process interprets.
pub fn number(fd: &impl AsFd) -> RawFd {
    fd.as_fd().as_raw_fd()
}

// ---- paths, resolved inside a root that is not yet ours ----

/// Pins `path` below `root` without following any link: what a stranger put there cannot lead elsewhere.
///
/// # Errors
/// What the kernel said; `ELOOP` for a link.
pub fn open_inside(root: BorrowedFd<'_>, path: &CStr) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct OpenHow {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    const NO_MAGICLINKS: u64 = 0x02;
    const NO_SYMLINKS: u64 = 0x04;
    const IN_ROOT: u64 = 0x10;
    let how = OpenHow { flags: (libc::O_PATH | libc::O_CLOEXEC) as u64, mode: 0, resolve: NO_MAGICLINKS | NO_SYMLINKS | IN_ROOT };
    raw_fd(libc::SYS_openat2, [root.as_raw_fd() as usize, path.as_ptr() as usize, &raw const how as usize, size_of::<OpenHow>(), 0, 0])
}

/// Attaches a detached mount on exactly the place that `target` pins.
///
/// # Errors
/// What the kernel said.
pub fn move_mount_onto(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    const EMPTY_PATHS: usize = 0x4 | 0x40;
    let empty = c"".as_ptr() as usize;
    raw(libc::SYS_move_mount, [mount.as_raw_fd() as usize, empty, target.as_raw_fd() as usize, empty, EMPTY_PATHS, 0]).map(drop)
}

/// Closes every descriptor from 3 on that is not in `keep`.
///
/// # Errors
/// What the kernel said.
pub fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    let close = |first: RawFd, last: u32| -> io::Result<()> {
        if first as u32 > last { Ok(()) } else { raw(libc::SYS_close_range, [first as usize, last as usize, 0, 0, 0, 0]).map(drop) }
    };
    let mut first = 3;
    for fd in keep.into_iter().filter(|fd| *fd >= 3) {
        close(first, fd as u32 - 1)?;
        first = fd + 1;
    }
    close(first, u32::MAX)
}

/// Closes one descriptor by number; a number that is not open is no error.
pub fn close_number(fd: RawFd) {
    drop(raw(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]));
}

/// Takes ownership of a descriptor that just arrived in a message.
pub(super) fn own_received(number: RawFd) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us when it delivered the message; nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(number) }
}

// ---- for `cgroup` ------------------------------------------------------------------------------------------------------------------

/// Has the file `path` the extended attribute `name` with exactly this value? No, when that cannot be told.
pub fn extended_attribute_is(path: &std::path::Path, name: &CStr, value: &[u8]) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_encoded_bytes()) else { return false };
    let mut buffer = [0_u8; 64];
    // SAFETY: both strings end in NUL and `buffer` takes at most the length that is passed with it.
    let got = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(got).is_ok_and(|got| buffer.get(..got) == Some(value))
}

/// A counter that the kernel adds to and `poll` waits for; reading it never blocks.
///
/// # Errors
/// What the kernel said.
pub fn event_counter() -> io::Result<OwnedFd> {
    let fd = raw(libc::SYS_eventfd2, [0, (libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) as usize, 0, 0, 0, 0])?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call above made this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

// ---- for the self-test ----

/// A 32-bit system call without arguments, through the gate that 32-bit programs use. A kernel without that gate ends the process.
#[cfg(target_arch = "x86_64")]
pub fn int80(number: i32) -> i32 {
    let mut answer = number;
    // SAFETY: the callers' calls take no arguments and touch no memory; the gate keeps every register but rax, and r8 to r11, which old
    // kernels clear.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") answer, lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _);
    }
    answer
}

/// Owns a descriptor that a call has just returned by number.
///
/// # Errors
/// When it is no open descriptor.
pub fn adopt(number: isize) -> io::Result<OwnedFd> {
    let number = RawFd::try_from(number).map_err(io::Error::other)?;
    // SAFETY: F_GETFD only looks; a number that is no descriptor gives EBADF.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and callers pass only what a call of their own has just returned, so that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

// ---- extended attributes ----

/// Reads an extended attribute of an open file. `Ok(None)` when it has none of that name, or its file system has none at all.
///
/// # Errors
/// What the kernel said; ERANGE when the value is longer than the buffer.
pub fn get_attribute(fd: BorrowedFd<'_>, name: &CStr, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    match raw(libc::SYS_fgetxattr, [fd.as_raw_fd() as usize, name.as_ptr() as usize, buffer.as_mut_ptr() as usize, buffer.len(), 0, 0]) {
        Ok(length) => usize::try_from(length).map(Some).map_err(io::Error::other),
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENODATA | libc::EOPNOTSUPP)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Sets an extended attribute of an open file.
///
/// # Errors
/// What the kernel said.
pub fn set_attribute(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    raw(libc::SYS_fsetxattr, [fd.as_raw_fd() as usize, name.as_ptr() as usize, value.as_ptr() as usize, value.len(), 0, 0]).map(drop)
}

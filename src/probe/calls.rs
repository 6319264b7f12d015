//! System calls by number, for attackers: what libraries do not wrap, or wrap too politely.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sandbox::sys;

/// The current directory, as the `*at` calls want it.
pub(super) const CWD: usize = libc::AT_FDCWD as usize;

/// A call with up to six arguments; the rest are zero.
pub(super) fn call<const N: usize>(number: libc::c_long, args: [usize; N]) -> io::Result<isize> {
    let mut all = [0; 6];
    for (slot, arg) in all.iter_mut().zip(args) {
        *slot = arg;
    }
    sys::raw(number, all)
}

/// A path as the kernel wants it.
pub(super) fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

/// `call(path, rest…)`.
pub(super) fn on_path<const N: usize>(number: libc::c_long, path: &Path, rest: [usize; N]) -> io::Result<isize> {
    let path = c_path(path)?;
    let mut all = [path.as_ptr() as usize, 0, 0, 0, 0, 0];
    for (slot, arg) in all.iter_mut().skip(1).zip(rest) {
        *slot = arg;
    }
    sys::raw(number, all)
}

/// `call(AT_FDCWD, path, rest…)`.
pub(super) fn at_path<const N: usize>(number: libc::c_long, path: &Path, rest: [usize; N]) -> io::Result<isize> {
    let path = c_path(path)?;
    let mut all = [CWD, path.as_ptr() as usize, 0, 0, 0, 0];
    for (slot, arg) in all.iter_mut().skip(2).zip(rest) {
        *slot = arg;
    }
    sys::raw(number, all)
}

/// A call that returns a new descriptor, which is owned from then on.
pub(super) fn owned(result: io::Result<isize>) -> io::Result<OwnedFd> {
    result.and_then(sys::adopt)
}

/// A descriptor as an argument.
pub(super) fn fd(fd: &impl AsFd) -> usize {
    let borrowed: BorrowedFd<'_> = fd.as_fd();
    borrowed.as_raw_fd() as usize
}

/// Opens for looking only: enough to name a file, not to read it.
pub(super) fn open_path(path: &Path) -> io::Result<OwnedFd> {
    owned(at_path(libc::SYS_openat, path, [(libc::O_PATH | libc::O_CLOEXEC) as usize, 0]))
}

/// Forks without running anything else in the child: the child gets `Ok(0)` and must leave by [`leave`].
pub(super) fn fork_with(flags: libc::c_int) -> io::Result<isize> {
    call(libc::SYS_clone, [(flags | libc::SIGCHLD) as usize])
}

/// Ends this process at once, without running anything of the library's.
pub(super) fn leave(code: usize) -> ! {
    drop(call(libc::SYS_exit_group, [code]));
    // The kernel does not refuse to end a process; a filter that did would leave an attacker that spins in sleep.
    loop {
        std::thread::park();
    }
}

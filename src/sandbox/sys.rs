//! The one home of `unsafe`: thin, checked doors to the kernel. Each block says why it is sound.
#![expect(unsafe_code, reason = "system calls that no safe crate wraps")]

use std::io;

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

//! The one home of `unsafe`: thin, checked doors to the kernel. Each block says why it is sound.
#![expect(unsafe_code, reason = "system calls that no safe crate wraps")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

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

// ---- for the self-test ----------------------------------------------------------------------------------------------------------

/// Owns a descriptor that the kernel has just returned by number.
///
/// # Errors
/// When it is no open descriptor.
pub fn adopt(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only looks; a number that is no descriptor gives EBADF.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and callers pass only numbers that a call of their own has just returned, so that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

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

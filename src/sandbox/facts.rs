//! The few facts about this host that decide a plan: cheap to read, never tried out.

use super::plan::Facts;
use super::sys;

impl Facts {
    /// Reads them. What cannot be read counts as missing only where guessing "there" could weaken a sandbox.
    pub fn read() -> Self {
        let kernel = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
        Self {
            kernel,
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            landlock_abi: sys::landlock_abi(),
            user_namespaces: user_namespaces(),
        }
    }
}

/// Do the kernel's settings let this user make user namespaces? The launch itself is the real test.
fn user_namespaces() -> bool {
    let setting = |path: &str| fs_err::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok());
    let root = nix::unistd::geteuid().is_root();
    let none = setting("/proc/sys/user/max_user_namespaces") == Some(0);
    // Debian's older switch; root is exempt from it.
    let switched_off = !root && setting("/proc/sys/kernel/unprivileged_userns_clone") == Some(0);
    !none && !switched_off
}

//! What this host can do, for `doctor`: facts that cost a read, and facts that only trying tells.
//!
//! The engine itself needs few of them ([`super::plan::Facts`]); these name the cause when it fails.

use std::io;
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::stat::{Mode, mkdirat};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getegid, geteuid};
use serde::{Deserialize, Serialize};
use wait_timeout::ChildExt;

use super::plan::Facts;
use super::sys::{self, Fork};

/// What files and one system call tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCaps {
    pub facts: Facts,
    /// `user.max_user_namespaces`; 0 forbids them.
    pub max_user_namespaces: Option<u64>,
    /// Debian's switch; `Some(false)` forbids them to ordinary users.
    pub userns_clone: Option<bool>,
    /// AppArmor takes the capabilities out of ordinary users' namespaces, except for programs that a profile names.
    pub apparmor_restricts: bool,
    /// The AppArmor profile that this process runs under, if one confines it.
    pub apparmor_profile: Option<String>,
    /// A system call filter of somebody else is on this process: a container's, or a unit's.
    pub filtered: bool,
    /// The security modules that are switched on, when that can be read.
    pub modules: Option<Vec<String>>,
    pub systemd: bool,
    /// The controllers are on cgroup v1, which cannot be delegated to ordinary users.
    pub legacy_cgroups: bool,
    pub container: bool,
}

impl HostCaps {
    pub fn read() -> Self {
        let text = |path: &str| fs_err::read_to_string(path).ok().map(|text| text.trim().trim_end_matches('\0').to_owned());
        let number = |path: &str| text(path).and_then(|text| text.parse::<u64>().ok());
        let exists = |path: &str| std::path::Path::new(path).exists();
        let profile = text("/proc/self/attr/apparmor/current").or_else(|| text("/proc/self/attr/current"));
        Self {
            facts: Facts::read(),
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone").map(|n| n != 0),
            apparmor_restricts: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_some_and(|n| n != 0),
            apparmor_profile: profile.filter(|profile| !profile.is_empty() && !profile.starts_with("unconfined")),
            filtered: text("/proc/self/status").is_some_and(|status| filtered(&status)),
            modules: text("/sys/kernel/security/lsm").map(|list| list.split(',').map(str::to_owned).collect()),
            systemd: exists("/run/systemd/system"),
            legacy_cgroups: exists("/sys/fs/cgroup") && !exists("/sys/fs/cgroup/cgroup.controllers"),
            container: exists("/.dockerenv") || exists("/run/.containerenv") || text("/run/systemd/container").is_some(),
        }
    }
}

/// `Seccomp: 2` in `/proc/self/status`.
fn filtered(status: &str) -> bool {
    status.lines().any(|line| line.strip_prefix("Seccomp:").is_some_and(|mode| mode.trim() == "2"))
}

/// What the kernel refused, or `Ok`.
pub type Attempt = Result<(), Refusal>;

/// The step that failed, and the number of its error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub step: Stage,
    pub errno: i32,
}

/// What [`Tried`] tries, in this order; each needs those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// All namespaces at once.
    Namespaces,
    /// Our user as a user inside.
    Identity,
    /// A file system in memory.
    Memory,
    /// A new `/proc`.
    Proc,
    /// An overlay on it, with its upper layer in memory.
    Overlay,
}

/// What only trying tells. Everything is done by a child in namespaces of its own and is gone with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Up to and with [`Stage::Memory`].
    pub namespaces: Attempt,
    pub proc: Attempt,
    pub overlay: Attempt,
}

impl Tried {
    /// Tries. The caller must be single-threaded: it forks.
    pub fn attempt() -> Self {
        let failed = |step: Stage, error: &io::Error| Err(Refusal { step, errno: error.raw_os_error().unwrap_or(libc::EIO) });
        let results = match in_namespaces() {
            Ok(results) => results,
            Err(error) => {
                let refused = failed(Stage::Namespaces, &error);
                return Self { namespaces: refused, proc: refused, overlay: refused };
            }
        };
        let of = |stages: &[Stage]| match results.iter().find(|(stage, errno)| stages.contains(stage) && *errno != 0) {
            Some((step, errno)) => Err(Refusal { step: *step, errno: *errno }),
            // A child that ended before it told is a refusal, never a success.
            None if stages.iter().all(|stage| results.iter().any(|(told, _)| told == stage)) => Ok(()),
            None => Err(Refusal { step: stages.last().copied().unwrap_or(Stage::Namespaces), errno: libc::ECHILD }),
        };
        let namespaces = of(&[Stage::Identity, Stage::Memory]);
        Self { namespaces, proc: namespaces.and(of(&[Stage::Proc])), overlay: namespaces.and(of(&[Stage::Overlay])) }
    }
}

/// Each stage that a child in new namespaces came to, with the number of its error or 0.
fn in_namespaces() -> io::Result<Vec<(Stage, i32)>> {
    let all = libc::CLONE_NEWUSER
        | libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWCGROUP;
    let (uid, gid) = (geteuid(), getegid());
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let flags = u64::try_from(all).map_err(io::Error::other)?;
    match sys::fork_into(flags, None)? {
        Fork::Child => {
            drop(reader);
            let tell = |stage: Stage, result: io::Result<()>| {
                let errno = result.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
                let line = serde_json::to_string(&(stage, errno)).unwrap_or_default() + "\n";
                // A line that is not told counts as a refusal.
                let _ = nix::unistd::write(&writer, line.as_bytes());
                result.is_ok()
            };
            if tell(Stage::Identity, map_identity(uid.as_raw(), gid.as_raw())) {
                try_mounts(&tell);
            }
            sys::exit_now(0)
        }
        Fork::Parent { pid, .. } => {
            drop(writer);
            let mut text = String::new();
            let read = io::Read::read_to_string(&mut std::fs::File::from(reader), &mut text);
            let _ended = waitpid(Pid::from_raw(pid), None);
            read?;
            Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
        }
    }
}

fn map_identity(uid: u32, gid: u32) -> io::Result<()> {
    let write = |file: &str, text: String| std::fs::write(file, text);
    write("/proc/self/setgroups", "deny".to_owned())?;
    write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", format!("0 {gid} 1"))
}

fn try_mounts(tell: &impl Fn(Stage, io::Result<()>) -> bool) {
    let memory = sys::new_filesystem(c"tmpfs", &[(c"mode", Some(c"700"))], 0)
        .and_then(|memory| sys::move_mount(memory.as_fd(), sys::cwd(), c"/").map(|()| memory));
    let memory = match memory {
        Ok(memory) => memory,
        Err(error) => {
            tell(Stage::Memory, Err(error));
            return;
        }
    };
    tell(Stage::Memory, Ok(()));
    tell(Stage::Proc, sys::new_filesystem(c"proc", &[], 0).map(drop));
    let overlay = || {
        for folder in ["l", "u", "w"] {
            mkdirat(&memory, folder, Mode::S_IRWXU)?;
        }
        nix::unistd::fchdir(&memory)?;
        let options = [(c"lowerdir", Some(c"l")), (c"upperdir", Some(c"u")), (c"workdir", Some(c"w")), (c"userxattr", None)];
        sys::new_filesystem(c"overlay", &options, 0).map(drop)
    };
    tell(Stage::Overlay, overlay());
}

/// The version of the `git` program on PATH: its numbers and what it calls itself. `None` when there is none that answers.
pub fn git_version() -> Option<([u32; 2], String)> {
    let mut child = std::process::Command::new("git")
        .arg("--version")
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // A program of that name on a dead network share must not hang the doctor.
    if child.wait_timeout(Duration::from_secs(5)).ok().flatten().is_none() {
        drop(child.kill());
        drop(child.wait());
        return None;
    }
    let output = child.wait_with_output().ok()?;
    parse_git_version(&String::from_utf8_lossy(&output.stdout))
}

/// `git version 2.39.5 (Apple Git-154)`
fn parse_git_version(text: &str) -> Option<([u32; 2], String)> {
    let version = text.trim().strip_prefix("git version ")?.split_ascii_whitespace().next()?;
    let mut numbers = version.split('.').map(|part| part.parse().ok());
    Some(([numbers.next()??, numbers.next()??], version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_git() {
        assert_eq!(parse_git_version("git version 2.39.5\n"), Some(([2, 39], "2.39.5".to_owned())));
        assert_eq!(parse_git_version("git version 2.45.1.windows.1"), Some(([2, 45], "2.45.1.windows.1".to_owned())));
        assert_eq!(parse_git_version("git: not found"), None);
        assert_eq!(parse_git_version("git version two"), None);
    }

    #[test]
    fn a_filter_is_mode_two() {
        assert!(filtered("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n"));
        assert!(!filtered("Name:\tx\nSeccomp:\t0\nSeccomp_filters:\t2\n"));
    }
}

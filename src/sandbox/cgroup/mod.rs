//! One control group per run: limits that the kernel holds, their counters, and the end of everything inside.
//!
//! ```text
//! Cgroups::find()  ─▶ where groups can be made: v2, v1, or nowhere (then limits are supervised)
//! Group::create()  ─▶ directories with limits ─▶ the first process is born inside (v2), or the payload joins by itself (v1)
//! events() / usage() while it runs ─▶ kill() ─▶ remove()
//! ```
//!
//! Costs on the development machine (cgroup v1, kernel 6.18, medians; `cargo test --release --test cgroup -- costs`): find 0.05 ms, create
//! 0.06 ms, usage 0.02 ms, remove 0.04 ms, an empty sweep 0.02 ms. The dear step is moving a process that runs: writing the pid of
//! **another** process into `cgroup.procs` may wait for an RCU grace period, 11 to 30 ms, on v1 and v2 alike. So nobody is moved: on v2
//! the first process is born inside ([`Group::clone_into_fd`]), on v1 the payload, still single-threaded, writes `0`, itself, into `tasks`
//! ([`Group::join_fds`]), which the kernel does without that lock, in 3 to 16 µs a hierarchy.
//!
//! Rules: a group that was killed is never used again (from 6.18 on, whoever is born in it dies at once). A group's name tells who made
//! it, so that [`Cgroups::sweep`] at the next start takes away what a killed supervisor left, and nothing else.

mod find;
mod group;
mod place;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use group::{Enforced, Group, Usage, join};
pub use place::Controllers;

/// What every directory of ours is called, followed by whose it is.
const PREFIX: &str = "cofferdam-";

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot {what} {path}", path = path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    #[error("the control group {name} was killed and is not used again")]
    Killed { name: String },
    #[error("{count} processes of the control group {path} are still there {waited:?} after they were killed", path = path.display())]
    Survivors { path: PathBuf, count: usize, waited: std::time::Duration },
    #[error("cannot make a control group: {why}")]
    Nest { why: String },
}

/// Numbers the groups of this process: names must differ between its engines too.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// How limits are held on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    V2,
    V1,
    /// No control group can be made; a supervisor adds up what it sees and ends the run. The reason is for the receipt.
    Supervised {
        why: String,
    },
}

impl Mode {
    /// The word in a receipt.
    pub fn name(&self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V1 => "v1",
            Self::Supervised { .. } => "supervised",
        }
    }
}

/// A directory that groups are made in.
#[derive(Debug)]
struct Parent {
    path: PathBuf,
    controllers: Controllers,
}

/// Where groups can be made. Found once per process and kept.
#[derive(Debug)]
pub struct Cgroups {
    mode: Mode,
    parents: Vec<Parent>,
    /// v2: the directory that we made for the groups, taken away when it is empty if nobody else would.
    nest: Option<(PathBuf, bool)>,
    owner: Owner,
}

impl Cgroups {
    /// Looks and tries. Never fails: where nothing can be made, the mode says why.
    pub fn find() -> Self {
        let found = find::find();
        let (mode, owner) = match (found.mode, Owner::this_process()) {
            (mode, Some(owner)) => (mode, owner),
            // Without a name that says whose it is, a group left behind could never be swept.
            (_, None) => (Mode::Supervised { why: "cannot read /proc/self/stat".to_owned() }, Owner { pid: 0, start: 0, namespace: 0 }),
        };
        Self { mode, parents: found.parents, nest: found.nest, owner }
    }

    pub fn mode(&self) -> &Mode {
        &self.mode
    }

    /// What groups made here can limit.
    pub fn controllers(&self) -> Controllers {
        self.parents.iter().fold(Controllers::default(), |sum, parent| Controllers {
            memory: sum.memory || parent.controllers.memory,
            pids: sum.pids || parent.controllers.pids,
            cpu: sum.cpu || parent.controllers.cpu,
            cpuacct: sum.cpuacct || parent.controllers.cpuacct,
        })
    }

    /// For a receipt: `cgroup v2 in /sys/fs/cgroup/…`.
    pub fn detail(&self) -> String {
        let place = self.parents.iter().find(|parent| parent.controllers.memory).map(|parent| parent.path.display().to_string());
        match &self.mode {
            Mode::V2 => format!("cgroup v2 in {}", place.unwrap_or_default()),
            Mode::V1 => format!("cgroup v1 in {}", place.unwrap_or_default()),
            Mode::Supervised { why } => format!("supervised: {why}"),
        }
    }

    /// Takes away groups whose supervisor is gone, with whatever is left inside. How many directories that were.
    ///
    /// # Errors
    /// The first group that could not be emptied; the others were tried all the same.
    pub fn sweep(&self) -> Result<usize, Error> {
        let (mut swept, mut failure) = (0, None);
        // The hierarchy that can stop forks comes first: it ends the processes, and then the others are empty too.
        let (first, others): (Vec<_>, Vec<_>) = self.parents.iter().partition(|parent| parent.controllers.pids);
        for parent in first.into_iter().chain(others) {
            let Ok(entries) = fs_err::read_dir(&parent.path) else { continue };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let Some(owner) = name.to_str().and_then(Owner::of_name) else { continue };
                if owner.namespace != self.owner.namespace || owner.is_alive() {
                    continue;
                }
                match group::end_and_remove(&entry.path(), self.mode == Mode::V2) {
                    Ok(()) => swept += 1,
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
        }
        failure.map_or(Ok(swept), Err)
    }

    fn next_name(&self) -> String {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let Owner { pid, start, namespace } = self.owner;
        format!("{PREFIX}{pid}-{start}-{namespace}-{number}")
    }

    fn renew(&self) -> Result<(), Error> {
        self.nest.as_ref().map_or(Ok(()), |(nest, _)| find::renew_nest(nest).map_err(|why| Error::Nest { why }))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        // Only an empty directory can be removed, so another cofferdam's groups keep it. Inside a unit of ours the unit's end removes it.
        if let Some((nest, true)) = &self.nest {
            drop(fs_err::remove_dir(nest));
        }
    }
}

/// Who made a group: a process, named for ever by pid and start time, in its pid namespace (a container may share our hierarchy, and
/// its pids say nothing here).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    pid: u32,
    start: u64,
    namespace: u64,
}

impl Owner {
    fn this_process() -> Option<Self> {
        let stat = fs_err::read_to_string("/proc/self/stat").ok()?;
        let link = fs_err::read_link("/proc/self/ns/pid").ok()?;
        let pid = stat.split(' ').next()?.parse().ok()?;
        // `pid:[4026531836]`
        let namespace = link.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()?;
        Some(Self { pid, start: place::start_time(&stat)?, namespace })
    }

    /// From a directory's name, if it is one of ours.
    fn of_name(name: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix(PREFIX)?.split('-');
        let mut next = || numbers.next().filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?.parse::<u64>().ok();
        let (pid, start, namespace, _number) = (next()?, next()?, next()?, next()?);
        numbers.next().is_none().then_some(Self { pid: u32::try_from(pid).ok()?, start, namespace })
    }

    fn is_alive(self) -> bool {
        let stat = Path::new("/proc").join(self.pid.to_string()).join("stat");
        // Whatever cannot be read for another reason than absence is taken to be alive: sweeping kills.
        // Not `fs_err`: it hides the number of the error.
        match std::fs::read_to_string(stat) {
            Ok(stat) => place::start_time(&stat).is_none_or(|start| start == self.start),
            Err(error) => !matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_our_names_have_owners() {
        assert_eq!(Owner::of_name("cofferdam-7-900-4026531836-0"), Some(Owner { pid: 7, start: 900, namespace: 4_026_531_836 }));
        for other in [
            "cofferdam-supervisor",
            "cofferdam",
            "cofferdam-7-900-1",
            "cofferdam-7-900-1-2-3",
            "cofferdam-+7-900-1-2",
            "x-7-900-1-2",
            "cofferdam-7--1-2",
        ] {
            assert_eq!(Owner::of_name(other), None, "{other}");
        }
    }

    #[test]
    fn this_process_is_alive_and_another_start_time_is_not() {
        let owner = Owner::this_process().unwrap();
        assert!(owner.is_alive());
        assert!(!Owner { start: owner.start + 1, ..owner }.is_alive());
    }

    proptest! {
        #[test]
        fn names_come_back(pid: u32, start: u64, namespace: u64, number: u64) {
            let name = format!("{PREFIX}{pid}-{start}-{namespace}-{number}");
            prop_assert_eq!(Owner::of_name(&name), Some(Owner { pid, start, namespace }));
        }

        #[test]
        fn no_name_makes_it_panic(name in "(cofferdam-)?[0-9a-z+-]{0,40}") {
            Owner::of_name(&name);
        }
    }
}

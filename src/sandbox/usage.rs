//! What a sandbox uses, added up from its own `/proc`: the fallback where no control group counts.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::sys;

/// What was seen at one moment, or the most that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) memory: u64,
    /// What of the memory is shared through memory files.
    shared: u64,
    pub(super) processes: u64,
    pub(super) cpu: Duration,
}

impl Seen {
    pub(super) fn max(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            shared: self.shared.max(other.shared),
            processes: self.processes.max(other.processes),
            cpu: self.cpu.max(other.cpu),
        }
    }

    /// Counts what the private folders hold, which lie in memory too. It overlaps with shared memory that is mapped: the larger one counts.
    pub(super) const fn with_private(mut self, bytes: u64) -> Self {
        self.memory = self.memory.saturating_add(bytes.saturating_sub(self.shared));
        self
    }
}

/// Adds up every process of the namespace that this `/proc` shows, but for our own init, its first.
pub(super) fn look(proc: BorrowedFd<'_>) -> Seen {
    let processes = list(proc);
    processes.iter().filter(|p| p.pid != 1).fold(Seen::default(), |seen, process| add(seen, process, proc))
}

/// Adds up what descends from `init` in the host's own `/proc`, where no namespace tells them apart.
pub(super) fn look_below(init: i32) -> Seen {
    let Ok(proc) = sys::open_at(sys::cwd(), c"/proc", libc::O_DIRECTORY, 0) else { return Seen::default() };
    let processes = list(proc.as_fd());
    below(init, &processes).into_iter().fold(Seen::default(), |seen, process| add(seen, process, proc.as_fd()))
}

/// The processes that descend from the calling one.
pub(super) fn descendants() -> Vec<i32> {
    let Ok(proc) = sys::open_at(sys::cwd(), c"/proc", libc::O_DIRECTORY, 0) else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    below(own, &list(proc.as_fd())).into_iter().map(|p| p.pid).collect()
}

/// How many threads a user runs, as the kernel counts them for its limit of processes.
pub(super) fn threads_of(uid: u32) -> u64 {
    let Ok(proc) = sys::open_at(sys::cwd(), c"/proc", libc::O_DIRECTORY, 0) else { return 0 };
    let owned = |p: &&Process| {
        nix::sys::stat::fstatat(&proc, p.pid.to_string().as_str(), nix::fcntl::AtFlags::empty()).is_ok_and(|s| s.st_uid == uid)
    };
    list(proc.as_fd()).iter().filter(owned).map(|p| p.threads).sum()
}

/// One process, as its `stat` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    threads: u64,
    /// User and system time, its waited-for children's included.
    ticks: u64,
}

/// The processes that descend from `top`, without it. Every orphan below it becomes its own child, so none is missed.
fn below(top: i32, processes: &[Process]) -> Vec<&Process> {
    let mut found: Vec<&Process> = Vec::new();
    let mut parents = vec![top];
    while let Some(parent) = parents.pop() {
        for child in processes.iter().filter(|p| p.parent == parent) {
            parents.push(child.pid);
            found.push(child);
        }
    }
    found
}

/// A process that ends while we look is passed over.
fn list(proc: BorrowedFd<'_>) -> Vec<Process> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut dir) = Dir::openat(proc, ".", flags, Mode::empty()) else { return Vec::new() };
    let entries = dir.iter().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str().ok()?.parse::<i32>().ok());
    pids.filter_map(|pid| process(pid, &read_small(proc, &format!("{pid}/stat"))?)).collect()
}

fn add(seen: Seen, process: &Process, proc: BorrowedFd<'_>) -> Seen {
    let status = read_small(proc, &format!("{}/status", process.pid)).unwrap_or_default();
    let shared = kib(&status, "RssShmem:").saturating_mul(1024);
    Seen {
        memory: seen.memory.saturating_add(anonymous_bytes(&status)),
        shared: seen.shared.saturating_add(shared),
        processes: seen.processes + process.threads,
        cpu: seen.cpu + Duration::from_millis(process.ticks.saturating_mul(1000) / ticks_per_second()),
    }
}

/// Memory that belongs to this process, or that it shares through memory files: not the programs and files it has mapped.
fn anonymous_bytes(status: &str) -> u64 {
    kib(status, "RssAnon:").saturating_add(kib(status, "RssShmem:")).saturating_mul(1024)
}

/// A number of a process's `status`; 0 when it is not there, as for a zombie.
fn kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn process(pid: i32, stat: &str) -> Option<Process> {
    // The name in field 2 may hold spaces and ends at the last `)`; counted from there: state, parent, …
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let ticks = (11..15).map(number).sum::<Option<u64>>()?;
    Some(Process { pid, parent: fields.get(1)?.parse().ok()?, threads: number(17)?, ticks })
}

fn read_small(dir: BorrowedFd<'_>, path: &str) -> Option<String> {
    let path = CString::new(path).ok()?;
    let fd = sys::open_at(dir, &path, libc::O_RDONLY, 0).ok()?;
    let mut buffer = vec![0; 4096];
    let n = nix::unistd::read(&fd, &mut buffer).ok()?;
    buffer.truncate(n);
    Some(String::from_utf8_lossy(&buffer).into_owned())
}

fn ticks_per_second() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| *n > 0)
        .unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_belongs_to_the_process() {
        assert_eq!(anonymous_bytes("Name:\tx\nRssAnon:\t  12 kB\nRssFile:\t900 kB\nRssShmem:\t   4 kB\n"), 16 * 1024);
        assert_eq!(anonymous_bytes("Name:\tzombie\n"), 0);
    }

    #[test]
    fn private_folders_count_as_memory_once() {
        let seen = Seen { memory: 100, shared: 30, ..Seen::default() };
        assert_eq!(seen.with_private(20).memory, 100);
        assert_eq!(seen.with_private(50).memory, 120);
    }

    #[test]
    fn a_process_survives_names_with_spaces_and_brackets() {
        let stat = "12 (a) b (c) S 7 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 5";
        assert_eq!(process(12, stat), Some(Process { pid: 12, parent: 7, threads: 5, ticks: 127 }));
        assert_eq!(process(12, "garbage"), None);
    }

    #[test]
    fn descendants_are_found_at_every_depth_and_others_are_not() {
        let process = |pid, parent| Process { pid, parent, threads: 1, ticks: 0 };
        let all = [process(1, 0), process(5, 1), process(6, 5), process(7, 6), process(8, 1)];
        let mut found: Vec<i32> = below(5, &all).iter().map(|p| p.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [6, 7]);
    }
}

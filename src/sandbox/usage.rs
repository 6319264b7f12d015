//! What a sandbox uses, added up from its own `/proc`: the fallback where no control group counts.

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::sys;

/// What was seen at one moment, or the most that was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) memory: u64,
    pub(super) processes: u64,
    pub(super) cpu: Duration,
}

impl Seen {
    pub(super) fn max(self, other: Self) -> Self {
        Self { memory: self.memory.max(other.memory), processes: self.processes.max(other.processes), cpu: self.cpu.max(other.cpu) }
    }
}

/// Adds up every process of the namespace that this `/proc` shows. A process that ends meanwhile is passed over.
pub(super) fn look(proc: BorrowedFd<'_>) -> Seen {
    let mut seen = Seen::default();
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(mut dir) = Dir::openat(proc, ".", flags, Mode::empty()) else { return seen };
    let tick = ticks_per_second();
    for entry in dir.iter().flatten() {
        let name = entry.file_name().to_bytes();
        if !name.first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        // Process 1 is our own init.
        if name == b"1" {
            continue;
        }
        seen.processes += 1;
        let read = |file: &str| read_small(proc, &[name, b"/", file.as_bytes()].concat());
        if let Some(status) = read("status") {
            seen.memory = seen.memory.saturating_add(anonymous_bytes(&status));
        }
        if let Some(ticks) = read("stat").as_deref().and_then(cpu_ticks) {
            seen.cpu += Duration::from_millis(ticks.saturating_mul(1000) / tick);
        }
    }
    seen
}

/// Memory that belongs to this process, or that it shares through memory files: not the programs and files it has mapped.
fn anonymous_bytes(status: &str) -> u64 {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let kib = field("RssAnon:").unwrap_or(0).saturating_add(field("RssShmem:").unwrap_or(0));
    kib.saturating_mul(1024)
}

/// User and system time, its waited-for children's included.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name in field 2 may hold spaces and ends at the last `)`; the times are fields 14 to 17.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().skip(11).take(4).map(|n| n.parse::<u64>().ok()).sum()
}

fn read_small(dir: BorrowedFd<'_>, path: &[u8]) -> Option<String> {
    let path = CString::new(path).ok()?;
    let fd = sys::open_at(dir, &path, libc::O_RDONLY, 0).ok()?;
    let mut buffer = vec![0; 4096];
    let n = nix::unistd::read(&fd, &mut buffer).ok()?;
    buffer.truncate(n);
    String::from_utf8(buffer).ok()
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
    fn processor_time_survives_names_with_spaces_and_brackets() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 100 20 3 4 20 0 1";
        assert_eq!(cpu_ticks(stat), Some(127));
        assert_eq!(cpu_ticks("garbage"), None);
    }
}

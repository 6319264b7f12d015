//! The group of one run: made with its limits, watched, killed, removed.

use std::fs::File;
use std::io::Seek;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode as FileMode;
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use super::place::{Controllers, keyed};
use super::{Cgroups, Error, Mode};
use crate::sandbox::policy::Limits;
use crate::sandbox::sys;

/// The length of time that a processor limit is counted over: the kernel's own default.
const PERIOD_US: u64 = 100_000;
/// The kernel refuses a smaller share of it.
const MIN_QUOTA_US: u64 = 1_000;
/// A killed process is gone within milliseconds unless it sleeps in the kernel (a dying disk, a stuck network file system).
const DEATH_WAIT: Duration = Duration::from_secs(5);
/// How long a start waits for one group of a predecessor; the next start tries again.
const SWEEP_WAIT: Duration = Duration::from_millis(200);

/// Which limits the kernel accepted for a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enforced {
    pub memory: bool,
    /// Swap counts too. `true` as well where the kernel has no accounting of swap and the group was told not to swap.
    pub swap: bool,
    pub pids: bool,
    pub cpus: bool,
}

/// What a group used, and how often it ran into a limit. `None` where this kernel does not count it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory_peak: Option<u64>,
    pub pids_peak: Option<u64>,
    pub cpu: Option<Duration>,
    /// Processes that the kernel ended because the group had reached its memory limit.
    pub oom_kills: u64,
    /// Forks that the kernel refused because the group had reached its limit of processes.
    pub pids_max_hits: u64,
}

/// The group of one run. On a supervised host it is empty: it holds nothing, counts nothing, and never fails.
#[derive(Debug)]
pub struct Group {
    name: String,
    v2: bool,
    dirs: Vec<Dir>,
    enforced: Enforced,
    /// v1: one `tasks` file a hierarchy.
    join: Vec<OwnedFd>,
    /// Files that become exceptional (`POLLPRI`) when a counter in them changes.
    watched: Vec<File>,
    /// v1: readable (`POLLIN`) when the memory limit was reached.
    oom: Option<OwnedFd>,
    killed: AtomicBool,
    removed: bool,
}

/// One directory of the group: the only one on v2, one a hierarchy on v1.
#[derive(Debug)]
struct Dir {
    path: PathBuf,
    fd: OwnedFd,
    controllers: Controllers,
}

/// Joins a group from inside: for the payload of a run before it is executed, single-threaded, with a descriptor from [`Group::join_fds`].
///
/// # Errors
/// What the kernel said.
pub fn join(tasks: BorrowedFd<'_>) -> nix::Result<()> {
    // `0` is the writing thread itself, the one case in which the kernel needs no lock over all forks and exits of the host.
    uninterrupted(|| nix::unistd::write(tasks, b"0")).map(drop)
}

/// Does it again when a signal came in between: the kernel gives up setting a limit for any signal that waits, also for one that only
/// says that a child has ended.
fn uninterrupted<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

impl Group {
    /// Makes the group of one run, with its limits set and nobody inside.
    ///
    /// # Errors
    /// As [`Group::limit`].
    pub fn create(cgroups: &Cgroups, limits: &Limits) -> Result<Self, Error> {
        let mut group = Self::prepare(cgroups)?;
        group.limit(cgroups, limits)?;
        Ok(group)
    }

    /// Makes a group without limits, for a run that is not known yet.
    ///
    /// # Errors
    /// A directory that the kernel refused; nothing is left behind then.
    pub fn prepare(cgroups: &Cgroups) -> Result<Self, Error> {
        let name = cgroups.next_name();
        let mut group = Self {
            name,
            v2: cgroups.mode == Mode::V2,
            dirs: Vec::with_capacity(cgroups.parents.len()),
            enforced: Enforced::default(),
            join: Vec::new(),
            watched: Vec::new(),
            oom: None,
            killed: AtomicBool::new(false),
            removed: false,
        };
        // From here on an early return drops the group, which removes what was made.
        for parent in &cgroups.parents {
            let has = parent.controllers;
            if has.memory || has.pids || has.cpuacct {
                group.dirs.push(Dir::make(parent.path.join(&group.name), has, cgroups)?);
            }
        }
        group.watch()?;
        Ok(group)
    }

    /// Sets its limits, before anybody is inside.
    ///
    /// A limit that was asked for and that no controller can hold is not an error here: [`Group::enforced`] tells, and the caller decides.
    ///
    /// # Errors
    /// A directory or a limit that the kernel refused.
    pub fn limit(&mut self, cgroups: &Cgroups, limits: &Limits) -> Result<(), Error> {
        // v1: a hierarchy that can only share processors is joined only for that.
        for parent in cgroups.parents.iter().filter(|parent| parent.controllers.cpu && limits.cpus.is_some()) {
            let path = parent.path.join(&self.name);
            if !self.dirs.iter().any(|dir| dir.path == path) {
                self.dirs.push(Dir::make(path, parent.controllers, cgroups)?);
            }
        }
        self.limit_memory(limits)?;
        self.limit_pids(limits)?;
        self.limit_cpus(limits)?;
        if !self.v2 {
            self.join = self.dirs.iter().map(|dir| dir.open("tasks", OFlag::O_WRONLY)).collect::<Result<_, _>>()?;
        }
        Ok(())
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the group is: one directory on v2, one a hierarchy on v1, none when supervised.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.dirs.iter().map(|dir| dir.path.as_path())
    }

    pub fn enforced(&self) -> Enforced {
        self.enforced
    }

    /// v2: the directory for `CLONE_INTO_CGROUP`. `None` on v1 and when supervised.
    ///
    /// # Errors
    /// The group was killed.
    pub fn clone_into_fd(&self) -> Result<Option<BorrowedFd<'_>>, Error> {
        self.alive()?;
        Ok(self.dirs.first().filter(|_| self.v2).map(|dir| dir.fd.as_fd()))
    }

    /// v1: what the payload passes to [`join`], each, before it is executed. Empty on v2 and when supervised.
    ///
    /// # Errors
    /// The group was killed.
    pub fn join_fds(&self) -> Result<impl Iterator<Item = BorrowedFd<'_>>, Error> {
        self.alive()?;
        Ok(self.join.iter().map(OwnedFd::as_fd))
    }

    /// Moves a process that runs, with all its threads, into the group. It costs milliseconds: see the module's head.
    ///
    /// # Errors
    /// The process is gone, the kernel refused, or the group was killed.
    pub fn adopt(&self, pid: u32) -> Result<(), Error> {
        self.alive()?;
        self.dirs.iter().try_for_each(|dir| dir.write("cgroup.procs", &pid.to_string()))
    }

    fn alive(&self) -> Result<(), Error> {
        if self.killed.load(Ordering::Relaxed) { Err(Error::Killed { name: self.name.clone() }) } else { Ok(()) }
    }

    /// Descriptors to poll, each with what to poll it for (a control file is always readable, so the wrong flag would never sleep). One
    /// wakes when a limit was reached. Call [`Group::usage`] then, which re-arms it and tells whether it came to a kill or a refusal: a
    /// group that the kernel could still squeeze below its memory limit wakes as well (at most 100 times a second).
    pub fn events(&self) -> impl Iterator<Item = (BorrowedFd<'_>, PollFlags)> {
        let files = self.watched.iter().map(|file| (file.as_fd(), PollFlags::POLLPRI));
        files.chain(self.oom.iter().map(|counter| (counter.as_fd(), PollFlags::POLLIN)))
    }

    /// How often to call [`Group::usage`] although nothing woke: on v1 the kernel counts refused forks and wakes nobody (6.18 notifies a
    /// file that v1 does not have). `None` where the events are enough, and where there is nothing to read.
    pub fn look_every(&self) -> Option<Duration> {
        (!self.v2 && !self.dirs.is_empty()).then_some(Duration::from_millis(100))
    }

    /// Reads the counters.
    pub fn usage(&self) -> Usage {
        let number = |has: fn(Controllers) -> bool, name: &'static str| self.dir(has)?.read(name)?.trim().parse::<u64>().ok();
        let events = |index: usize, key: &str| self.watched.get(index).and_then(|file| keyed(&reread(file)?, key)).unwrap_or(0);
        let cpu = if self.v2 {
            self.dir(|c| c.cpuacct).and_then(|dir| keyed(&dir.read("cpu.stat")?, "usage_usec")).map(Duration::from_micros)
        } else {
            number(|c| c.cpuacct, "cpuacct.usage").map(Duration::from_nanos)
        };
        Usage {
            memory_peak: number(|c| c.memory, if self.v2 { "memory.peak" } else { "memory.max_usage_in_bytes" }),
            pids_peak: number(|c| c.pids, "pids.peak"),
            cpu,
            oom_kills: if self.v2 { events(1, "oom_kill") } else { self.oom_kills_v1() },
            pids_max_hits: events(0, "max"),
        }
    }

    /// What is used now: memory in bytes, and processes with threads. For peaks on kernels that do not keep them.
    pub fn current(&self) -> (Option<u64>, Option<u64>) {
        let number = |has: fn(Controllers) -> bool, name: &'static str| self.dir(has)?.read(name)?.trim().parse().ok();
        (number(|c| c.memory, if self.v2 { "memory.current" } else { "memory.usage_in_bytes" }), number(|c| c.pids, "pids.current"))
    }

    fn oom_kills_v1(&self) -> u64 {
        let count = || self.dir(|c| c.memory).and_then(|dir| keyed(&dir.read("memory.oom_control")?, "oom_kill")).unwrap_or(0);
        let mut woken = [0_u8; 8];
        let rang = self.oom.as_ref().is_some_and(|fd| nix::unistd::read(fd, &mut woken).is_ok());
        let mut kills = count();
        // The kernel rings before it picks a victim and counts it. A supervisor that asks at once must not hear "none" and sleep again.
        for _ in 0..20 {
            if !rang || kills > 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            kills = count();
        }
        kills
    }

    /// Ends every process of the group and returns when none is left. The group is not used again after it.
    ///
    /// # Errors
    /// Processes that do not die, or a control file that cannot be used.
    pub fn kill(&self) -> Result<(), Error> {
        self.killed.store(true, Ordering::Relaxed);
        // On v1 every hierarchy holds the same processes; the one with `pids` can also stop them from forking.
        let Some(dir) = self.dir(|c| c.pids) else { return Ok(()) };
        end_all(dir, self.v2, DEATH_WAIT)
    }

    /// The processes inside, as seen from our pid namespace (0 for those that cannot be seen).
    pub fn processes(&self) -> Vec<u32> {
        self.dir(|c| c.pids).map(Dir::processes).unwrap_or_default()
    }

    /// Removes the group. Whatever is still inside is killed first.
    ///
    /// # Errors
    /// Processes that do not die, or a directory that stays.
    pub fn remove(mut self) -> Result<(), Error> {
        self.take_away()
    }

    /// Removes what nobody is inside of; what somebody holds stays until the group is dropped. On v2 that is the first process of the run.
    pub fn clear(&self) {
        for dir in &self.dirs {
            let _ = unlinkat(AT_FDCWD, &dir.path, UnlinkatFlags::RemoveDir);
        }
    }

    fn take_away(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        if !self.processes().is_empty() {
            self.kill()?;
        }
        let results: Vec<_> = self.dirs.iter().map(|dir| remove_dir(&dir.path, DEATH_WAIT)).collect();
        results.into_iter().collect()
    }

    fn dir(&self, has: fn(Controllers) -> bool) -> Option<&Dir> {
        self.dirs.iter().find(|dir| has(dir.controllers))
    }

    fn limit_memory(&mut self, limits: &Limits) -> Result<(), Error> {
        let (Some(dir), Some(limit)) = (self.dirs.iter().find(|dir| dir.controllers.memory), limits.memory) else { return Ok(()) };
        let bytes = limit.bytes().to_string();
        let swap = if self.v2 {
            dir.write("memory.max", &bytes)?;
            // The kernel without it kills one process of the group; the supervisor sees the event and ends the others.
            dir.write_if_there("memory.oom.group", "1")?;
            dir.write_if_there("memory.swap.max", "0")?
        } else {
            dir.write("memory.limit_in_bytes", &bytes)?;
            // Memory and swap together: the same number means no swap. It is absent when the kernel keeps no account of swap.
            dir.write_if_there("memory.memsw.limit_in_bytes", &bytes)? || dir.write_if_there("memory.swappiness", "0")?
        };
        self.enforced.memory = true;
        self.enforced.swap = swap;
        Ok(())
    }

    fn limit_pids(&mut self, limits: &Limits) -> Result<(), Error> {
        let (Some(dir), Some(limit)) = (self.dirs.iter().find(|dir| dir.controllers.pids), limits.pids) else { return Ok(()) };
        // The file takes numbers up to the kernel's own limit of pids.
        dir.write("pids.max", &limit.min(PIDS_LIMIT).to_string())?;
        self.enforced.pids = true;
        Ok(())
    }

    fn limit_cpus(&mut self, limits: &Limits) -> Result<(), Error> {
        let (Some(dir), Some(cpus)) = (self.dirs.iter().find(|dir| dir.controllers.cpu), limits.cpus) else { return Ok(()) };
        let quota = quota_us(cpus);
        if self.v2 {
            dir.write("cpu.max", &format!("{quota} {PERIOD_US}"))?;
        } else {
            dir.write("cpu.cfs_period_us", &PERIOD_US.to_string())?;
            dir.write("cpu.cfs_quota_us", &quota.to_string())?;
        }
        self.enforced.cpus = true;
        Ok(())
    }

    /// Opens what tells that a limit was hit. The first read arms it.
    fn watch(&mut self) -> Result<(), Error> {
        // The order is what `usage` reads by: pids first, then memory.
        if let Some(dir) = self.dirs.iter().find(|dir| dir.controllers.pids) {
            self.watched.push(File::from(dir.open("pids.events", OFlag::O_RDONLY)?));
        }
        let Some(dir) = self.dirs.iter().find(|dir| dir.controllers.memory) else { return Ok(()) };
        if self.v2 {
            self.watched.push(File::from(dir.open("memory.events", OFlag::O_RDONLY)?));
        } else {
            let failed = |source| Error::Io { what: "watch", path: dir.path.join("memory.oom_control"), source };
            let control = dir.open("memory.oom_control", OFlag::O_RDONLY)?;
            let counter = sys::event_counter().map_err(failed)?;
            dir.write("cgroup.event_control", &format!("{} {}", sys::number(&counter), sys::number(&control)))?;
            self.oom = Some(counter);
        }
        for file in &self.watched {
            drop(reread(file));
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A failure was told by `remove` or `kill` if they were called; the next start sweeps what is left here.
        drop(self.take_away());
    }
}

/// More processes than the kernel can have (`PID_MAX_LIMIT`); a larger number is refused.
const PIDS_LIMIT: u64 = 4 << 20;

/// Processors' worth of time to microseconds a period.
fn quota_us(cpus: f64) -> u64 {
    // A float cast saturates, so neither a negative nor a huge number wraps around; what is not a number becomes the smallest share.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, which is what is wanted")]
    let quota = (cpus * PERIOD_US as f64) as u64;
    // The kernel's largest quota is some 200 days a second; more processors than a million is as good as no limit.
    quota.clamp(MIN_QUOTA_US, PERIOD_US * 1_000_000)
}

fn reread(mut file: &File) -> Option<String> {
    file.rewind().ok()?;
    text_of(&file).ok()
}

/// The rest of a control file. It has no size that could be asked for first, and is read often.
pub(super) fn text_of(file: &impl AsFd) -> nix::Result<String> {
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        match nix::unistd::read(file, &mut chunk) {
            Ok(0) => return String::from_utf8(text).map_err(|_| Errno::EILSEQ),
            Ok(n) => text.extend_from_slice(&chunk[..n]),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

impl Dir {
    fn make(path: PathBuf, controllers: Controllers, cgroups: &Cgroups) -> Result<Self, Error> {
        let failed = |source: std::io::Error| Error::Io { what: "make", path: path.clone(), source };
        let mut made = fs_err::create_dir(&path);
        for _ in 0..3 {
            match &made {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                _ => break,
            }
            cgroups.renew()?;
            made = fs_err::create_dir(&path);
        }
        made.map_err(failed)?;
        match Self::at(&path, controllers) {
            Ok(dir) => Ok(dir),
            Err(error) => {
                drop(fs_err::remove_dir(&path));
                Err(error)
            }
        }
    }

    fn at(path: &Path, controllers: Controllers) -> Result<Self, Error> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
        let fd = nix::fcntl::open(path, flags, FileMode::empty()).map_err(|error| Error::Io {
            what: "open",
            path: path.to_path_buf(),
            source: error.into(),
        })?;
        Ok(Self { path: path.to_path_buf(), fd, controllers })
    }

    fn open(&self, name: &'static str, flags: OFlag) -> Result<OwnedFd, Error> {
        openat(&self.fd, name, flags | OFlag::O_CLOEXEC, FileMode::empty()).map_err(|error| self.failed("open", name, error))
    }

    fn write(&self, name: &'static str, value: &str) -> Result<(), Error> {
        let fd = self.open(name, OFlag::O_WRONLY)?;
        uninterrupted(|| nix::unistd::write(&fd, value.as_bytes())).map(drop).map_err(|error| self.failed("write to", name, error))
    }

    /// Like `write`, but a file that this kernel does not have is told by `false`.
    fn write_if_there(&self, name: &'static str, value: &str) -> Result<bool, Error> {
        match self.write(name, value) {
            Ok(()) => Ok(true),
            Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn read(&self, name: &'static str) -> Option<String> {
        text_of(&self.open(name, OFlag::O_RDONLY).ok()?).ok()
    }

    fn processes(&self) -> Vec<u32> {
        self.read("cgroup.procs").map(|text| text.lines().filter_map(|line| line.parse().ok()).collect()).unwrap_or_default()
    }

    fn failed(&self, what: &'static str, name: &str, error: Errno) -> Error {
        Error::Io { what, path: self.path.join(name), source: error.into() }
    }
}

/// Ends every process in a group and waits until it is empty.
fn end_all(dir: &Dir, v2: bool, patience: Duration) -> Result<(), Error> {
    // One write and the kernel does the rest (5.14 and later). Before that, and on v1: forbid new processes, then end each until none is
    // left; that terminates because nobody can be born, and needs no freezer, which frozen tasks would have to be taken out of to die.
    let at_once = v2 && dir.write_if_there("cgroup.kill", "1")?;
    if !at_once {
        dir.write("pids.max", "0")?;
    }
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_micros(50);
    loop {
        let left = dir.processes();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Survivors { path: dir.path.clone(), count: left.len(), waited: patience });
        }
        if !at_once {
            // Pid 0 is a process that cannot be seen from here, and to `kill` it would mean ourselves.
            for pid in left.into_iter().filter(|pid| *pid != 0).filter_map(|pid| i32::try_from(pid).ok()) {
                // The only answer it can give is that the process is gone already.
                let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// For the sweep: a directory that somebody else made.
pub(super) fn end_and_remove(path: &Path, v2: bool) -> Result<(), Error> {
    let dir = match Dir::at(path, Controllers::default()) {
        Ok(dir) => dir,
        // Another start sweeps at the same time.
        Err(Error::Io { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => return Ok(()),
        Err(error) => return Err(error),
    };
    if !dir.processes().is_empty() {
        match end_all(&dir, v2, SWEEP_WAIT) {
            Ok(()) => {}
            // A v1 hierarchy without the pids controller: the one that has it ends them, before or after this.
            Err(Error::Io { source, .. }) if !v2 && source.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => return Err(error),
        }
    }
    remove_dir(path, SWEEP_WAIT)
}

/// A group stays busy for a moment after its last process died.
fn remove_dir(path: &Path, patience: Duration) -> Result<(), Error> {
    let deadline = Instant::now() + patience;
    loop {
        match unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if Instant::now() < deadline => std::thread::sleep(Duration::from_micros(500)),
            Err(error) => return Err(Error::Io { what: "remove", path: path.to_path_buf(), source: error.into() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_quota_is_always_one_the_kernel_takes(cpus: f64) {
            let quota = quota_us(cpus);
            prop_assert!((MIN_QUOTA_US..=PERIOD_US * 1_000_000).contains(&quota));
        }
    }

    #[test]
    fn quotas_of_common_limits() {
        assert_eq!((quota_us(2.0), quota_us(0.5), quota_us(0.0), quota_us(f64::NAN)), (200_000, 50_000, 1_000, 1_000));
    }
}

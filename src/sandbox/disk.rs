//! How much a run has added to a folder that no quota bounds.
//!
//! The free space of the file system is the cheap alarm, asked every few moments; only when it fell by as much as the limit are the run's
//! own files counted, those that changed since its start, so that other people's files on the same disk end nobody's run.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat};
use nix::sys::statvfs::fstatvfs;

/// Deeper trees are not counted on but taken as "too much": nobody needs them, and each level costs a descriptor.
const DEEPEST: usize = 512;

/// What was found in a folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

/// Watches one folder.
#[derive(Debug)]
pub(super) struct Watch {
    folder: OwnedFd,
    /// Only what changed at or after this second counts.
    since: i64,
    free_bytes: u64,
    free_files: u64,
    limits: (Option<u64>, Option<u64>),
}

impl Watch {
    pub(super) fn new(folder: OwnedFd, limits: (Option<u64>, Option<u64>)) -> io::Result<Self> {
        let (free_bytes, free_files) = free(folder.as_fd())?;
        // The file system's own clock, which may lag behind ours by a tick.
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME_COARSE)?.tv_sec();
        Ok(Self { folder, since: now, free_bytes, free_files, limits })
    }

    /// Which limit is passed, if one is: `(disk, files)`.
    pub(super) fn passed(&self) -> io::Result<(bool, bool)> {
        let (bytes, files) = free(self.folder.as_fd())?;
        let fell = |before: u64, now: u64, limit: Option<u64>| limit.is_some_and(|limit| before.saturating_sub(now) >= limit);
        if !fell(self.free_bytes, bytes, self.limits.0) && !fell(self.free_files, files, self.limits.1) {
            return Ok((false, false));
        }
        let used = self.used()?;
        let over = |used: u64, limit: Option<u64>| limit.is_some_and(|limit| used >= limit);
        Ok((over(used.bytes, self.limits.0), over(used.files, self.limits.1)))
    }

    fn used(&self) -> io::Result<Used> {
        let mut used = Used::default();
        let device = fstat(&self.folder)?.st_dev;
        let root = Dir::openat(&self.folder, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
        self.walk(root, device, 0, &mut used);
        Ok(used)
    }

    /// Never follows a link, never leaves the file system, and passes over what vanishes while it looks.
    fn walk(&self, mut dir: Dir, device: u64, depth: usize, used: &mut Used) {
        if depth > DEEPEST {
            *used = Used { bytes: u64::MAX, files: u64::MAX };
            return;
        }
        let entries: Vec<_> = dir.iter().flatten().map(|entry| entry.file_name().to_owned()).collect();
        for name in entries {
            if matches!(name.as_bytes(), b"." | b"..") || used.files == u64::MAX {
                continue;
            }
            let Ok(stat) = fstatat(&dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            if stat.st_dev != device {
                continue;
            }
            if stat.st_ctime >= self.since {
                used.bytes = used.bytes.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512));
                used.files = used.files.saturating_add(1);
            }
            if stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits() {
                let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                if let Ok(below) = Dir::openat(&dir, name.as_c_str(), flags, Mode::empty()) {
                    self.walk(below, device, depth + 1, used);
                }
            }
        }
    }
}

/// Is a file system with a fixed size full? `(bytes, files)`.
pub(super) fn full(folder: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
    let stat = fstatvfs(folder)?;
    Ok((stat.blocks() > 0 && stat.blocks_available() == 0, stat.files() > 0 && stat.files_available() == 0))
}

/// How many bytes a file system holds: for one that lies in memory, how much memory it takes.
pub(super) fn held(folder: BorrowedFd<'_>) -> io::Result<u64> {
    let stat = fstatvfs(folder)?;
    Ok(stat.blocks().saturating_sub(stat.blocks_free()).saturating_mul(stat.fragment_size()))
}

fn free(folder: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = fstatvfs(folder)?;
    Ok((stat.blocks_free().saturating_mul(stat.fragment_size()), stat.files_free()))
}

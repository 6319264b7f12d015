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

/// Watches folders together.
#[derive(Debug)]
pub(super) struct Watch {
    folders: Vec<OwnedFd>,
    /// One folder of each file system, with what was free there at the start: bytes and files.
    free: Vec<(usize, u64, u64)>,
    /// Only what changed at or after this second counts.
    since: i64,
    limits: (Option<u64>, Option<u64>),
}

impl Watch {
    pub(super) fn new(folders: Vec<OwnedFd>, limits: (Option<u64>, Option<u64>)) -> io::Result<Self> {
        let (mut devices, mut free) = (Vec::new(), Vec::new());
        for (at, folder) in folders.iter().enumerate() {
            let device = fstat(folder)?.st_dev;
            if !devices.contains(&device) {
                devices.push(device);
                let (bytes, files) = free_of(folder.as_fd())?;
                free.push((at, bytes, files));
            }
        }
        // The file system's own clock, which may lag behind ours by a tick.
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_REALTIME_COARSE)?.tv_sec();
        Ok(Self { folders, free, since: now, limits })
    }

    /// Which limit is passed, if one is: `(disk, files)`.
    pub(super) fn passed(&self) -> io::Result<(bool, bool)> {
        let mut fell = (0_u64, 0_u64);
        for (at, bytes, files) in &self.free {
            let now = free_of(self.folders[*at].as_fd())?;
            fell.0 = fell.0.saturating_add(bytes.saturating_sub(now.0));
            fell.1 = fell.1.saturating_add(files.saturating_sub(now.1));
        }
        if self.limits.0.is_none_or(|limit| fell.0 < limit) && self.limits.1.is_none_or(|limit| fell.1 < limit) {
            return Ok((false, false));
        }
        let used = self.used()?;
        let over = |used: u64, limit: Option<u64>| limit.is_some_and(|limit| used >= limit);
        Ok((over(used.bytes, self.limits.0), over(used.files, self.limits.1)))
    }

    fn used(&self) -> io::Result<Used> {
        let mut used = Used::default();
        for folder in &self.folders {
            let device = fstat(folder)?.st_dev;
            let root = Dir::openat(folder, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
            self.walk(root, device, 0, &mut used);
        }
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

fn free_of(folder: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = fstatvfs(folder)?;
    Ok((stat.blocks_free().saturating_mul(stat.fragment_size()), stat.files_free()))
}

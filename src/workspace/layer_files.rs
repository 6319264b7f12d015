//! Writing the files of a layer, in parallel, into a folder that nobody else sees yet.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags};
use nix::sys::time::TimeSpec;

use super::attributes::Attributes;
use super::base::BaseError;
use super::convert::LineEnds;
use super::git::{Entry, Objects, Oid, Repository};

/// What one path holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    File { executable: bool },
    Link,
}

impl Content {
    pub fn of(entry: &Entry) -> Self {
        if entry.is_link() { Self::Link } else { Self::File { executable: entry.is_executable() } }
    }
}

/// One file to write. Its folder is there.
#[derive(Debug)]
pub struct Job {
    pub path: Vec<u8>,
    pub content: Content,
    pub id: Oid,
    pub attributes: Attributes,
}

/// How many files a worker takes at once: neighbours, so that it seldom changes its folder.
const BATCH: usize = 64;

/// Writes all files; returns how many bytes they hold.
pub fn write_all(repository: &Repository, root: &Path, jobs: &[Job], ends: LineEnds, time: i64) -> Result<u64, BaseError> {
    let next = AtomicUsize::new(0);
    let bytes = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let root = open_folder(AT_FDCWD, root.as_os_str())?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(16).min(jobs.len().div_ceil(BATCH)).max(1);
    let repositories = (0..workers).map(|_| repository.reopen()).collect::<Result<Vec<_>, _>>()?;
    let work = |repository: Repository| -> Result<(), BaseError> {
        let mut folder: Option<(&[u8], OwnedFd)> = None;
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            if start >= jobs.len() || stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            for job in &jobs[start..jobs.len().min(start + BATCH)] {
                let (parent, name) = split(&job.path);
                if folder.as_ref().is_none_or(|(known, _)| *known != parent) {
                    let place = if parent.is_empty() { OsStr::new(".") } else { OsStr::from_bytes(parent) };
                    folder = Some((parent, open_folder(root.as_fd(), place)?));
                }
                let Some((_, folder)) = &folder else { continue };
                bytes.fetch_add(write_one(&repository, folder.as_fd(), name, job, ends, time)?, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = repositories
            .into_iter()
            .map(|repository| {
                scope.spawn(|| {
                    let result = work(repository);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    result
                })
            })
            .collect();
        handles.into_iter().try_for_each(|handle| handle.join().unwrap_or_else(|_| Err(io::Error::other("a worker panicked").into())))
    })?;
    Ok(bytes.into_inner())
}

fn write_one(repository: &Repository, folder: BorrowedFd<'_>, name: &[u8], job: &Job, ends: LineEnds, time: i64) -> Result<u64, BaseError> {
    let stored = repository.blob(job.id)?;
    let stamp = TimeSpec::new(time, 0);
    let name = OsStr::from_bytes(name);
    match job.content {
        Content::Link => {
            nix::unistd::symlinkat(OsStr::from_bytes(&stored), folder, name).map_err(io::Error::from)?;
            nix::sys::stat::utimensat(folder, name, &stamp, &stamp, UtimensatFlags::NoFollowSymlink).map_err(io::Error::from)?;
            Ok(stored.len() as u64)
        }
        Content::File { executable } => {
            let content = ends.to_worktree(&job.attributes, &stored, &job.id.to_string());
            let mode = Mode::from_bits_truncate(if executable { 0o755 } else { 0o644 });
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mut file = std::fs::File::from(nix::fcntl::openat(folder, name, flags, mode).map_err(io::Error::from)?);
            file.write_all(&content)?;
            // The umask is the user's; a layer is the same for everybody.
            nix::sys::stat::fchmod(&file, mode).map_err(io::Error::from)?;
            nix::sys::stat::futimens(&file, &stamp, &stamp).map_err(io::Error::from)?;
            Ok(content.len() as u64)
        }
    }
}

/// Marks a path as removed: the overlay hides what lies below it. `None` and paths that are already hidden need no mark.
pub fn whiteout(root: &Path, path: Option<&[u8]>) -> io::Result<()> {
    let Some(path) = path else { return Ok(()) };
    let (parent, _) = split(path);
    fs_err::create_dir_all(root.join(OsStr::from_bytes(parent)))?;
    let place = root.join(OsStr::from_bytes(path));
    // A device number of 0:0 needs no privilege.
    match nix::sys::stat::mknod(&place, SFlag::S_IFCHR, Mode::empty(), 0) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => Ok(()),
        Err(errno) => Err(io::Error::new(io::Error::from(errno).kind(), format!("cannot mark {} as removed: {errno}", place.display()))),
    }
}

/// Gives every folder below one a time. Before the index is written, or git would not trust what that says of them.
pub fn set_folder_times(root: &Path, time: i64) -> io::Result<()> {
    let stamp = TimeSpec::new(time, 0);
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        nix::sys::stat::utimensat(AT_FDCWD, &folder, &stamp, &stamp, UtimensatFlags::NoFollowSymlink)?;
    }
    Ok(())
}

/// How many names lie below a folder.
pub fn count(folder: &Path) -> io::Result<u64> {
    let mut found = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            found += 1;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(found)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    path.iter().rposition(|b| *b == b'/').map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]))
}

fn open_folder(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::openat(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?)
}

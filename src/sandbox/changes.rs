//! What a run on a throw-away overlay changed, read from the folder that took its writes. Nothing in it is ever followed or executed.

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, fstatat};

use super::sys;

/// A change of one path.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Change {
    pub path: PathBuf,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Added,
    Modified,
    Deleted,
    /// Something else than a file, a link or a folder.
    Special,
}

/// More changes than this are not listed one by one.
pub const MOST: usize = 10_000;
/// Deeper folders are not looked into.
const DEEPEST: usize = 256;

/// Everything that `upper` changes over `lower`, sorted by path. `true` when there was more than can be listed.
///
/// # Errors
/// When the upper folder itself cannot be read.
pub fn changes(upper: &OwnedFd, lower: &Path) -> io::Result<(Vec<Change>, bool)> {
    let mut found = Found { changes: Vec::new(), more: false, lower };
    let dir = open_folder(upper.as_fd(), c".")?;
    found.walk(dir, Path::new(""), 0);
    found.changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((found.changes, found.more))
}

/// The content of a changed regular file, up to `cap` bytes; `None` for anything else.
pub fn content(upper: &OwnedFd, path: &Path, cap: usize) -> Option<Vec<u8>> {
    let mut folder = open_folder(upper.as_fd(), c".").ok()?;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let name = CString::new(component.as_os_str().as_bytes()).ok()?;
        if components.peek().is_some() {
            folder = open_folder(folder.as_fd(), &name).ok()?;
            continue;
        }
        let file = sys::open_at(folder.as_fd(), &name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0).ok()?;
        let stat = nix::sys::stat::fstat(&file).ok()?;
        if !is(&stat, libc::S_IFREG) {
            return None;
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(cap).unwrap_or(u64::MAX);
        io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(file), limit), &mut bytes).ok()?;
        return Some(bytes);
    }
    None
}

struct Found<'a> {
    changes: Vec<Change>,
    more: bool,
    lower: &'a Path,
}

impl Found<'_> {
    fn walk(&mut self, mut dir: Dir, at: &Path, depth: usize) {
        let names: Vec<CString> = dir.iter().flatten().map(|entry| entry.file_name().to_owned()).collect();
        for name in names {
            if matches!(name.as_bytes(), b"." | b"..") {
                continue;
            }
            if self.changes.len() >= MOST || depth > DEEPEST {
                self.more = true;
                return;
            }
            let Ok(stat) = fstatat(&dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let path = at.join(OsStr::from_bytes(name.as_bytes()));
            let before = self.lower.join(&path).symlink_metadata().ok();
            if is(&stat, libc::S_IFDIR) {
                if before.is_none() {
                    self.add(&path, Kind::Added);
                }
                if let Ok(below) = open_folder(dir.as_fd(), &name) {
                    self.walk(below, &path, depth + 1);
                }
                continue;
            }
            self.add(&path, kind(&stat, before.is_some()));
        }
    }

    fn add(&mut self, path: &Path, kind: Kind) {
        self.changes.push(Change { path: path.to_owned(), kind });
    }
}

fn kind(stat: &FileStat, before: bool) -> Kind {
    // An overlay marks what was deleted with a device that has the number 0.
    if is(stat, libc::S_IFCHR) && stat.st_rdev == 0 {
        return Kind::Deleted;
    }
    match (is(stat, libc::S_IFREG) || is(stat, libc::S_IFLNK), before) {
        (false, _) => Kind::Special,
        (true, false) => Kind::Added,
        (true, true) => Kind::Modified,
    }
}

fn is(stat: &FileStat, kind: u32) -> bool {
    stat.st_mode & libc::S_IFMT == kind
}

fn open_folder(at: BorrowedFd<'_>, name: &CStr) -> io::Result<Dir> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(Dir::openat(at, name, flags, Mode::empty())?)
}

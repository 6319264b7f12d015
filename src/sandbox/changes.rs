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
/// When one of the two folders cannot be read.
pub fn changes(upper: &OwnedFd, lower: &OwnedFd) -> io::Result<(Vec<Change>, bool)> {
    let mut found = Found { changes: Vec::new(), more: false };
    let dir = open_folder(upper.as_fd(), c".")?;
    let below = open_folder(lower.as_fd(), c".")?;
    found.walk(dir, Some(&below), Path::new(""), 0);
    found.changes.sort_by(|a, b| a.path.cmp(&b.path));
    found.changes.dedup();
    Ok((found.changes, found.more))
}

/// A file or a link, as a patch shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: EntryKind,
    /// Of a link: where it leads.
    pub content: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Executable,
    Link,
}

/// The content of a changed regular file, up to `cap` bytes; `None` for anything else.
pub fn content(upper: &OwnedFd, path: &Path, cap: usize) -> Option<Vec<u8>> {
    entry(upper, path, cap).filter(|entry| entry.kind != EntryKind::Link).map(|entry| entry.content)
}

/// What lies at `path` in a folder, up to `cap` bytes of it; `None` for anything but a file or a link.
pub fn entry(root: &OwnedFd, path: &Path, cap: usize) -> Option<Entry> {
    let mut folder = open_folder(root.as_fd(), c".").ok()?;
    let mut components = path.components().peekable();
    while let Some(component) = components.next() {
        let name = CString::new(component.as_os_str().as_bytes()).ok()?;
        if components.peek().is_some() {
            folder = open_folder(folder.as_fd(), &name).ok()?;
            continue;
        }
        if is(&fstatat(&folder, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?, libc::S_IFLNK) {
            let target = nix::fcntl::readlinkat(&folder, name.as_c_str()).ok()?;
            return Some(Entry { kind: EntryKind::Link, content: target.into_encoded_bytes() });
        }
        let file = sys::open_at(folder.as_fd(), &name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0).ok()?;
        let stat = nix::sys::stat::fstat(&file).ok()?;
        if !is(&stat, libc::S_IFREG) {
            return None;
        }
        let mut content = Vec::new();
        let limit = u64::try_from(cap).unwrap_or(u64::MAX);
        io::Read::read_to_end(&mut io::Read::take(std::fs::File::from(file), limit), &mut content).ok()?;
        let kind = if stat.st_mode & 0o100 == 0 { EntryKind::File } else { EntryKind::Executable };
        return Some(Entry { kind, content });
    }
    None
}

struct Found {
    changes: Vec<Change>,
    more: bool,
}

impl Found {
    /// `below` is what the folder covers; nothing, when it is new or replaces what was there.
    fn walk(&mut self, mut dir: Dir, below: Option<&Dir>, at: &Path, depth: usize) {
        for name in names(&mut dir) {
            if self.full(depth) {
                return;
            }
            let Ok(stat) = fstatat(&dir, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let path = at.join(OsStr::from_bytes(name.as_bytes()));
            let before = below.and_then(|below| fstatat(below, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok());
            let folder_before = before.as_ref().filter(|before| is(before, libc::S_IFDIR)).and(below);
            let folder_before = folder_before.and_then(|below| open_folder(below.as_fd(), &name).ok());
            if !is(&stat, libc::S_IFDIR) {
                let file_before = before.is_some() && folder_before.is_none();
                if let Some(gone) = folder_before {
                    self.gone(gone, &path, depth + 1);
                    if kind(&stat, false) == Kind::Deleted {
                        continue;
                    }
                }
                self.add(&path, kind(&stat, file_before));
                continue;
            }
            let Ok(inner) = open_folder(dir.as_fd(), &name) else { continue };
            let opaque = is_opaque(&inner);
            match (before, folder_before) {
                (None, _) => self.add(&path, Kind::Added),
                (Some(_), None) => self.add(&path, Kind::Deleted),
                (Some(_), Some(gone)) if opaque => {
                    // What is made anew in it is told as a change of it, the rest as deleted.
                    let mut made = open_folder(dir.as_fd(), &name).map(|mut made| names(&mut made)).unwrap_or_default();
                    made.sort();
                    self.gone_but(gone, &path, depth + 1, &made);
                    let again = below.and_then(|below| open_folder(below.as_fd(), &name).ok());
                    self.walk(inner, again.as_ref(), &path, depth + 1);
                    continue;
                }
                (Some(_), Some(gone)) => {
                    self.walk(inner, Some(&gone), &path, depth + 1);
                    continue;
                }
            }
            self.walk(inner, None, &path, depth + 1);
        }
    }

    /// Every file of a folder that is no longer there.
    fn gone(&mut self, dir: Dir, at: &Path, depth: usize) {
        self.gone_but(dir, at, depth, &[]);
    }

    fn gone_but(&mut self, mut dir: Dir, at: &Path, depth: usize, but: &[CString]) {
        for name in names(&mut dir) {
            if self.full(depth) {
                return;
            }
            if but.binary_search(&name).is_ok() {
                continue;
            }
            let path = at.join(OsStr::from_bytes(name.as_bytes()));
            match open_folder(dir.as_fd(), &name) {
                Ok(inner) => self.gone(inner, &path, depth + 1),
                Err(_) => self.add(&path, Kind::Deleted),
            }
        }
    }

    fn full(&mut self, depth: usize) -> bool {
        let full = self.changes.len() >= MOST || depth > DEEPEST;
        self.more |= full;
        full
    }

    fn add(&mut self, path: &Path, kind: Kind) {
        self.changes.push(Change { path: path.to_owned(), kind });
    }
}

fn names(dir: &mut Dir) -> Vec<CString> {
    let names = dir.iter().flatten().map(|entry| entry.file_name().to_owned());
    names.filter(|name| !matches!(name.as_bytes(), b"." | b"..")).collect()
}

/// Does the folder hide everything that it covers?
fn is_opaque(dir: &Dir) -> bool {
    let mut value = [0; 4];
    matches!(sys::get_attribute(dir.as_fd(), c"user.overlay.opaque", &mut value), Ok(Some(1))) && value[0] == b'y'
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

//! Reading what an agent left, through descriptors only: no path of its making is ever followed.
//!
//! Each open is `openat2` below the folder it was found in, without links, magic links or crossing into another file system. What a name
//! is, is asked before it is opened and again after, so that no device or pipe is ever opened to be looked at.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};

use crate::sandbox::sys;

/// What one name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Folder,
    File,
    Link,
    /// The overlay's mark for a name that was removed.
    Whiteout,
    /// A socket, pipe or device.
    Special(&'static str),
}

/// One name of a folder, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct Status {
    pub kind: Kind,
    pub mode: u32,
    pub size: u64,
    pub links: u64,
    pub file: FileId,
    /// When its content, mode or names last changed, in seconds and nanoseconds. Nobody without privilege can set it.
    pub changed: (i64, i64),
}

/// A file, whatever its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl Status {
    pub fn inode(&self) -> u64 {
        self.file.inode
    }

    fn of(stat: &FileStat) -> Self {
        let format = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
        let kind = match format {
            SFlag::S_IFDIR => Kind::Folder,
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFLNK => Kind::Link,
            SFlag::S_IFCHR if stat.st_rdev == 0 => Kind::Whiteout,
            SFlag::S_IFCHR => Kind::Special("a character device"),
            SFlag::S_IFBLK => Kind::Special("a block device"),
            SFlag::S_IFIFO => Kind::Special("a named pipe"),
            _ => Kind::Special("a socket"),
        };
        Self {
            kind,
            mode: stat.st_mode & 0o7777,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            links: stat.st_nlink,
            file: FileId { device: stat.st_dev, inode: stat.st_ino },
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// An open folder.
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// What the overlay noted on a folder or an empty file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    None,
    /// Nothing of the layers below shows through.
    Opaque,
    /// The same as a whiteout.
    Whiteout,
    /// A redirect or a data-less copy: switched off for our mounts, so it was forged.
    Forged,
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Folder {
    /// Opens the root of a walk: a path of our own making.
    pub fn open_root(path: &Path) -> io::Result<Self> {
        let fd = nix::fcntl::open(path, folder_flags(), Mode::empty())?;
        Ok(Self(fd))
    }

    /// A walk's root that is already open.
    pub fn from_fd(fd: BorrowedFd<'_>) -> io::Result<Self> {
        // A description of its own: reading names moves a position.
        open_beneath(fd, OsStr::new("."), folder_flags()).map(Self)
    }

    pub fn child(&self, name: &[u8]) -> io::Result<Self> {
        let name = OsStr::from_bytes(name);
        match open_beneath(self.0.as_fd(), name, folder_flags()) {
            // An agent may have locked its own folder; it is ours to open.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                self.unlock(name, 0o700)?;
                open_beneath(self.0.as_fd(), name, folder_flags()).map(Self)
            }
            other => other.map(Self),
        }
    }

    /// The names in it, sorted by their bytes. Stops with an error above `limit`.
    pub fn names(&self, limit: u64) -> io::Result<Vec<Vec<u8>>> {
        let copy = open_beneath(self.0.as_fd(), OsStr::new("."), folder_flags())?;
        let mut names = Vec::new();
        for entry in nix::dir::Dir::from_fd(copy)?.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                if names.len() as u64 >= limit {
                    return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the folder holds more names than are collected"));
                }
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub fn status(&self, name: &[u8]) -> io::Result<Status> {
        let stat = nix::sys::stat::fstatat(&self.0, OsStr::from_bytes(name), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        Ok(Status::of(&stat))
    }

    /// Reads a whole file that `status` called a regular one of that size. `Ok(None)` when it is no longer what it was.
    pub fn read(&self, name: &[u8], status: &Status) -> io::Result<Option<Vec<u8>>> {
        let fd = self.open_file(name)?;
        let now = Status::of(&nix::sys::stat::fstat(&fd)?);
        if now.kind != Kind::File || now.file != status.file || now.size != status.size {
            return Ok(None);
        }
        let mut content = Vec::with_capacity(usize::try_from(now.size).map_err(io::Error::other)?);
        // One byte more than it should hold tells of growth.
        io::Read::take(std::fs::File::from(fd), now.size + 1).read_to_end(&mut content)?;
        Ok((content.len() as u64 == now.size).then_some(content))
    }

    pub(super) fn open_file(&self, name: &[u8]) -> io::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let name = OsStr::from_bytes(name);
        match open_beneath(self.0.as_fd(), name, flags) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                self.unlock(name, 0o600)?;
                open_beneath(self.0.as_fd(), name, flags)
            }
            other => other,
        }
    }

    /// The text of a link.
    pub fn link(&self, name: &[u8]) -> io::Result<Vec<u8>> {
        let target = nix::fcntl::readlinkat(&self.0, OsStr::from_bytes(name))?;
        Ok(target.as_bytes().to_vec())
    }

    /// What the overlay noted on this folder.
    pub fn mark(&self) -> io::Result<Mark> {
        mark_of(self.0.as_fd())
    }

    /// What the overlay noted on a file in it.
    pub fn mark_of_file(&self, name: &[u8]) -> io::Result<Mark> {
        mark_of(self.open_file(name)?.as_fd())
    }

    /// Gives the owner back the right to read what an agent locked. Through a descriptor that follows nothing.
    fn unlock(&self, name: &OsStr, bits: u32) -> io::Result<()> {
        let handle = open_beneath(self.0.as_fd(), name, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)?;
        let stat = nix::sys::stat::fstat(&handle)?;
        if !matches!(Status::of(&stat).kind, Kind::File | Kind::Folder) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mode = Mode::from_bits_truncate(stat.st_mode & 0o7777 | bits);
        // An O_PATH descriptor cannot be changed directly; its own entry below /proc is the kernel's way to do it.
        let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
        Ok(nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, path.as_str(), mode, nix::sys::stat::FchmodatFlags::FollowSymlink)?)
    }

    /// How many names each file has below this folder, for files with more than one. Looks at no more than `limit` names.
    pub fn count_links(&self, limit: u64) -> io::Result<HashMap<FileId, u64>> {
        let mut counts = HashMap::new();
        let mut left = limit;
        self.count_into(&mut counts, &mut left, 0)?;
        Ok(counts)
    }

    fn count_into(&self, counts: &mut HashMap<FileId, u64>, left: &mut u64, depth: usize) -> io::Result<()> {
        for name in self.names(*left)? {
            *left = left.saturating_sub(1);
            let Ok(status) = self.status(&name) else { continue };
            match status.kind {
                Kind::File if status.links > 1 => *counts.entry(status.file).or_default() += 1,
                Kind::Folder if depth < 256 => {
                    if let Ok(folder) = self.child(&name) {
                        folder.count_into(counts, left, depth + 1)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn folder_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC
}

fn open_beneath(folder: BorrowedFd<'_>, name: &OsStr, flags: OFlag) -> io::Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_NO_XDEV;
    loop {
        match nix::fcntl::openat2(folder, name, OpenHow::new().flags(flags).resolve(resolve)) {
            // The kernel asks for another try when something above was renamed meanwhile.
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            other => return Ok(other?),
        }
    }
}

fn mark_of(fd: BorrowedFd<'_>) -> io::Result<Mark> {
    const FORGED: [&CStr; 2] = [c"user.overlay.redirect", c"user.overlay.metacopy"];
    for name in FORGED {
        if has_attribute(fd, name)? {
            return Ok(Mark::Forged);
        }
    }
    if has_attribute(fd, c"user.overlay.whiteout")? {
        return Ok(Mark::Whiteout);
    }
    let mut value = [0; 4];
    // `y` is opaque; `x` only says that whiteouts inside are of the other kind.
    let opaque = sys::get_attribute(fd, c"user.overlay.opaque", &mut value)? == Some(1) && value[0] == b'y';
    Ok(if opaque { Mark::Opaque } else { Mark::None })
}

fn has_attribute(fd: BorrowedFd<'_>, name: &CStr) -> io::Result<bool> {
    match sys::get_attribute(fd, name, &mut [0; 256]) {
        Err(e) if e.raw_os_error() == Some(libc::ERANGE) => Ok(true),
        other => other.map(|length| length.is_some()),
    }
}

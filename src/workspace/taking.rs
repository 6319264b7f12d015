//! `workspace.upper = "tmpfs"`: what a run wrote to memory of a fixed size goes to the story's folder on disk when the run has ended.
//!
//! The memory outlives the sandbox by the descriptor that the supervisor holds. It is copied beside the story's folder, renamed into place as one
//! piece (`taken`), and then laid over the folder by further names of the same files. Whoever is killed in the middle has either nothing taken (the run's
//! changes are lost with its memory) or all of it: laying it over is done again by the next one to hold the workspace, and twice is as good as once.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, Whence, linkat, lseek64, symlinkat, unlinkat};

use super::removal;
use super::state::{self, Lock};
use super::stories::{Story, Upper, WorkspaceError, Workspaces};
use super::walk::{FileId, Folder, Kind, Mark, Status};
use crate::sandbox::profile::WorkspaceMode;
use crate::sandbox::sys;

/// No collection goes as deep; what lies deeper is a finding there already, and is left behind here.
const DEPTH_MAX: usize = 256;
const OPAQUE: &std::ffi::CStr = c"user.overlay.opaque";

impl Workspaces {
    /// Takes over what a run wrote. Its last process is dead; `upper` is what the finished run handed out. Does nothing where the run wrote to the
    /// story's folder itself, or was not to change it.
    pub fn keep_run(&self, story: &Story, _held: &Lock, mode: WorkspaceMode, upper: Option<OwnedFd>) -> Result<(), WorkspaceError> {
        let Some(upper) = upper.filter(|_| story.upper == Upper::Tmpfs && mode == WorkspaceMode::Write) else { return Ok(()) };
        let folder = self.folder(&story.slug());
        let taking = folder.join(state::unique("taking-"));
        fs_err::create_dir(&taking)?;
        let mut copy = Copy::default();
        let copied = Folder::from_fd(upper.as_fd()).and_then(|from| copy.folder(&from, &Folder::open_root(&taking)?, 0));
        let synced = copied.and_then(|()| Ok(nix::unistd::syncfs(fs_err::File::open(&taking)?)?));
        if let Err(error) = synced {
            removal::discard(&taking, &self.state.trash())?;
            return Err(error.into());
        }
        fs_err::rename(&taking, folder.join("taken"))?;
        state::sync_folder(&folder)?;
        self.lay_over(&folder)
    }

    /// Finishes what somebody who was killed had begun. Under the story's lock.
    pub(super) fn lay_over(&self, folder: &Path) -> Result<(), WorkspaceError> {
        let taken = folder.join("taken");
        match Folder::open_root(&taken) {
            Ok(from) => {
                let trash = Folder::open_root(&self.state.trash())?;
                lay(&from, &Folder::open_root(&folder.join("upper"))?, &trash)?;
                drop(from);
                removal::discard(&taken, &self.state.trash())?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }
}

/// A copy of a folder in memory to disk, with the overlay's marks, holes and further names of files as they are.
#[derive(Default)]
struct Copy {
    /// Where the first name of a file with several was copied to.
    linked: HashMap<FileId, (OwnedFd, Vec<u8>)>,
}

impl Copy {
    fn folder(&mut self, from: &Folder, to: &Folder, depth: usize) -> io::Result<()> {
        for name in from.names(u64::MAX)? {
            let status = from.status(&name)?;
            let os = OsStr::from_bytes(&name);
            match status.kind {
                Kind::Folder if depth < DEPTH_MAX => {
                    mkdirat(to, os, Mode::S_IRWXU)?;
                    let (inner, copy) = (from.child(&name)?, to.child(&name)?);
                    if inner.mark()? == Mark::Opaque {
                        sys::set_attribute(copy.as_fd(), OPAQUE, b"y")?;
                    }
                    // The mode as it was before a locked folder was opened.
                    self.folder(&inner, &copy, depth + 1)?;
                    dress(to, os, &status, &stat(from, os)?)?;
                }
                Kind::Folder => {}
                Kind::File => self.file(from, to, &name, &status)?,
                Kind::Link => symlinkat(OsStr::from_bytes(&from.link(&name)?), to, os)?,
                Kind::Whiteout => mknodat(to, os, SFlag::S_IFCHR, Mode::empty(), 0)?,
                // What is no file is a finding of the collection, wherever it lies.
                Kind::Special(_) => mknodat(to, os, SFlag::S_IFIFO, Mode::S_IRUSR | Mode::S_IWUSR, 0)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Folder, to: &Folder, name: &[u8], status: &Status) -> io::Result<()> {
        let os = OsStr::from_bytes(name);
        if let Some((folder, first)) = self.linked.get(&status.file) {
            return Ok(linkat(folder, OsStr::from_bytes(first), to, os, AtFlags::empty())?);
        }
        let source = File::from(from.open_file(name)?);
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let target = File::from(nix::fcntl::openat(to, os, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        copy_data(&source, &target, status.size)?;
        dress(to, os, status, &stat(from, os)?)?;
        if status.links > 1 {
            self.linked.insert(status.file, (to.as_fd().try_clone_to_owned()?, name.to_vec()));
        }
        Ok(())
    }
}

/// Copies what is there and leaves holes as holes: a file of a terabyte may hold nothing.
fn copy_data(source: &File, target: &File, size: u64) -> io::Result<()> {
    target.set_len(size)?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        at = match lseek64(source, at, Whence::SeekData) {
            Ok(start) => start,
            Err(nix::errno::Errno::ENXIO) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        let end = lseek64(source, at, Whence::SeekHole)?;
        while at < end {
            let want = buffer.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            let got = source.read_at(&mut buffer[..want], at.cast_unsigned())?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            target.write_all_at(&buffer[..got], at.cast_unsigned())?;
            at += i64::try_from(got).map_err(io::Error::other)?;
        }
    }
}

fn stat(folder: &Folder, name: &OsStr) -> io::Result<FileStat> {
    Ok(fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
}

/// The mode and the time of a file or folder: what git looks at. Nothing that gives anybody a right.
fn dress(folder: &Folder, name: &OsStr, status: &Status, stat: &FileStat) -> io::Result<()> {
    let time = TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec);
    utimensat(folder, name, &time, &time, UtimensatFlags::NoFollowSymlink)?;
    Ok(fchmodat(folder, name, Mode::from_bits_truncate(status.mode & 0o777), FchmodatFlags::FollowSymlink)?)
}

/// Lays one upper folder over another, so that both together are one. Twice is as good as once.
fn lay(from: &Folder, onto: &Folder, trash: &Folder) -> io::Result<()> {
    for name in from.names(u64::MAX)? {
        let os = OsStr::from_bytes(&name);
        let status = from.status(&name)?;
        let there = match onto.status(&name) {
            Ok(status) => Some(status.kind),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        if status.kind == Kind::Folder {
            let inner = from.child(&name)?;
            let mut opaque = inner.mark()? == Mark::Opaque;
            if there != Some(Kind::Folder) || opaque {
                // Something that is no folder hid what lies below: the folder in its place hides it too.
                opaque |= there.is_some();
                take_away(onto, os, there, trash)?;
                mkdirat(onto, os, Mode::S_IRWXU)?;
            }
            let target = onto.child(&name)?;
            if opaque {
                sys::set_attribute(target.as_fd(), OPAQUE, b"y")?;
            }
            lay(&inner, &target, trash)?;
            dress(onto, os, &status, &stat(from, os)?)?;
        } else {
            take_away(onto, os, there, trash)?;
            if status.kind == Kind::Whiteout {
                mknodat(onto, os, SFlag::S_IFCHR, Mode::empty(), 0)?;
            } else {
                linkat(from, os, onto, os, AtFlags::empty())?;
            }
        }
    }
    Ok(())
}

fn take_away(folder: &Folder, name: &OsStr, there: Option<Kind>, trash: &Folder) -> io::Result<()> {
    match there {
        None => Ok(()),
        Some(Kind::Folder) => {
            // A locked folder cannot be moved.
            drop(folder.child(name.as_bytes())?);
            Ok(nix::fcntl::renameat(folder, name, trash, state::unique("t-").as_str())?)
        }
        Some(_) => Ok(unlinkat(folder, name, UnlinkatFlags::NoRemoveDir)?),
    }
}

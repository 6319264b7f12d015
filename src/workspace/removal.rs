//! Deleting what an agent left: a million files wide, ten thousand folders deep, locked, linked; nothing is followed and nothing recurses.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag};
use nix::unistd::UnlinkatFlags;

use super::state::unique;

/// Moves a folder out of use at once, then deletes it. A crash in between leaves it in the trash, where the next cleaning finds it.
pub fn discard(path: &Path, trash: &Path) -> io::Result<()> {
    let aside = trash.join(unique("t-"));
    match fs_err::rename(path, &aside) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    empty(trash)
}

/// Deletes everything in the trash.
///
/// Folders inside of folders are first moved up to the trash itself, so that no depth is too deep.
pub fn empty(trash: &Path) -> io::Result<()> {
    let root = open_folder(AT_FDCWD, trash.as_os_str())?;
    loop {
        let names = names(&root)?;
        if names.is_empty() {
            return Ok(());
        }
        let mut progress = false;
        let mut failure = None;
        for name in names {
            match remove(&root, &name) {
                Ok(()) => progress = true,
                // Another process may be emptying the same trash.
                Err(e) if e.kind() == io::ErrorKind::NotFound => progress = true,
                Err(e) => {
                    let path = trash.join(OsStr::from_bytes(&name));
                    failure = Some(io::Error::new(e.kind(), format!("cannot delete {}: {e}", path.display())));
                }
            }
        }
        if let Some(failure) = failure.filter(|_| !progress) {
            return Err(failure);
        }
    }
}

/// Removes one name of the trash; folders found in it are moved up beside it.
fn remove(root: &OwnedFd, name: &[u8]) -> io::Result<()> {
    let name = OsStr::from_bytes(name);
    if !is_folder(root, name)? {
        return Ok(nix::unistd::unlinkat(root, name, UnlinkatFlags::NoRemoveDir)?);
    }
    let folder = unlocked(root, name)?;
    for inner in names(&folder)? {
        let inner = OsStr::from_bytes(&inner);
        let removed = if is_folder(&folder, inner)? {
            // An empty folder is gone at once; others move up. Moving one needs the right to write it.
            match nix::unistd::unlinkat(&folder, inner, UnlinkatFlags::RemoveDir) {
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
                    drop(unlocked(&folder, inner)?);
                    nix::fcntl::renameat(&folder, inner, root, unique("t-").as_str())
                }
                other => other,
            }
        } else {
            nix::unistd::unlinkat(&folder, inner, UnlinkatFlags::NoRemoveDir)
        };
        match removed {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    drop(folder);
    match nix::unistd::unlinkat(root, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn is_folder(parent: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    let stat = nix::sys::stat::fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits())
}

/// Opens a folder, after giving its owner every right on it.
fn unlocked(parent: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    let handle =
        nix::fcntl::openat(parent, name, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?;
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let mode = nix::sys::stat::fstat(&handle)?.st_mode;
    if mode & 0o700 != 0o700 {
        nix::sys::stat::fchmodat(AT_FDCWD, path.as_str(), Mode::S_IRWXU, FchmodatFlags::FollowSymlink)?;
    }
    open_folder(handle.as_fd(), OsStr::new("."))
}

fn open_folder(parent: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    Ok(nix::fcntl::openat(parent, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())?)
}

fn names(folder: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let copy = open_folder(folder.as_fd(), OsStr::new("."))?;
    let mut names = Vec::new();
    for entry in nix::dir::Dir::from_fd(copy)?.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_wide_and_locked_trees_are_deleted_and_links_are_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let outside = scratch.path().join("outside");
        fs_err::create_dir(&outside).unwrap();
        fs_err::write(outside.join("kept"), "x").unwrap();
        let trash = scratch.path().join("trash");
        let victim = scratch.path().join("victim");
        fs_err::create_dir(&trash).unwrap();
        fs_err::create_dir(&victim).unwrap();
        fs_err::os::unix::fs::symlink(&outside, victim.join("link")).unwrap();
        // Deeper than any path can name.
        let mut at = open_folder(AT_FDCWD, victim.as_os_str()).unwrap();
        for _ in 0..10_000 {
            nix::sys::stat::mkdirat(&at, "deep-folder", Mode::S_IRWXU).unwrap();
            let next = open_folder(at.as_fd(), OsStr::new("deep-folder")).unwrap();
            at = next;
        }
        let locked = victim.join("locked");
        fs_err::create_dir(&locked).unwrap();
        fs_err::write(locked.join("x"), "x").unwrap();
        fs_err::set_permissions(&locked, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
        discard(&victim, &trash).unwrap();
        assert!(fs_err::read_dir(&trash).unwrap().next().is_none());
        assert!(!victim.exists());
        assert!(outside.join("kept").exists());
    }
}

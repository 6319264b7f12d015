//! `packed-refs.lock`, when we were killed while we held it: git would refuse to pack or delete refs for ever. What says that it may be ours is a mark
//! beside it, made before and removed after; what says that nobody else's git holds it, is that no process has it open.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use nix::fcntl::{Flock, FlockArg};

use super::Repository;

/// Held while a ref is deleted that may be packed.
#[derive(Debug)]
pub(super) struct Mark {
    path: PathBuf,
    _held: Flock<std::fs::File>,
}

impl Drop for Mark {
    fn drop(&mut self) {
        drop(fs_err::remove_file(&self.path));
    }
}

impl Repository {
    /// Does deleting this ref write all packed refs anew?
    pub(super) fn is_packed(&self, name: &str) -> bool {
        let ending = format!(" {name}");
        fs_err::read_to_string(self.common.join("packed-refs")).is_ok_and(|text| text.lines().any(|line| line.ends_with(&ending)))
    }

    fn mark_path(&self) -> PathBuf {
        self.common.join("cofferdam-packing")
    }

    /// Announces that `packed-refs.lock` may be ours from now on. One at a time; whoever was killed before us is cleaned up after.
    pub(super) fn mark_packing(&self) -> io::Result<Mark> {
        let path = self.mark_path();
        loop {
            let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?.into_file();
            let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| io::Error::from(errno))?;
            // Whoever held it before us may have removed the name.
            match fs_err::metadata(&path) {
                Ok(now) if now.ino() == held.metadata()?.ino() => {
                    self.remove_packed_lock()?;
                    return Ok(Mark { path, _held: held });
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Removes what a killed cofferdam left. Does nothing when none was killed.
    pub fn recover(&self) -> io::Result<()> {
        if self.mark_path().exists() { self.mark_packing().map(drop) } else { Ok(()) }
    }

    /// Under the mark: a lock file that is younger than the mark of the killed one and that nobody has open.
    fn remove_packed_lock(&self) -> io::Result<()> {
        let lock = self.common.join("packed-refs.lock");
        let found = match fs_err::symlink_metadata(&lock) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        let mark = fs_err::metadata(self.mark_path())?;
        let after = (found.ctime(), found.ctime_nsec()) >= (mark.mtime(), mark.mtime_nsec());
        if after && !is_open(found.dev(), found.ino()) {
            fs_err::remove_file(&lock)?;
        }
        Ok(())
    }
}

/// Has any process that we may look at this file open?
fn is_open(device: u64, inode: u64) -> bool {
    let Ok(processes) = fs_err::read_dir("/proc") else { return true };
    let numbered = processes.flatten().filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    let mut open = numbered.filter_map(|entry| fs_err::read_dir(entry.path().join("fd")).ok()).flatten().flatten();
    open.any(|entry| std::fs::metadata(entry.path()).is_ok_and(|found| found.dev() == device && found.ino() == inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_removed_only_when_it_was_ours_and_nobody_holds_it() {
        let scratch = tempfile::tempdir().expect("a folder");
        git2::Repository::init(scratch.path()).expect("a repository");
        let repository = Repository::discover(scratch.path()).expect("opened");
        let lock = scratch.path().join(".git/packed-refs.lock");
        let mark = scratch.path().join(".git/cofferdam-packing");
        // Somebody else's: there is no mark of ours.
        fs_err::write(&lock, "x").expect("a file");
        repository.recover().expect("looked at");
        assert!(lock.exists());
        // Older than the mark.
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs_err::write(&mark, "").expect("a file");
        repository.recover().expect("looked at");
        assert!(lock.exists() && !mark.exists());
        // Ours, but a git is at work on it.
        fs_err::remove_file(&lock).expect("removed");
        fs_err::write(&mark, "").expect("a file");
        std::thread::sleep(std::time::Duration::from_millis(20));
        let held = fs_err::File::create(&lock).expect("a file");
        repository.recover().expect("looked at");
        assert!(lock.exists());
        drop(held);
        fs_err::write(&mark, "").expect("a file");
        fs_err::remove_file(&lock).expect("removed");
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs_err::write(&lock, "").expect("a file");
        repository.recover().expect("cleaned up");
        assert!(!lock.exists() && !mark.exists());
    }
}

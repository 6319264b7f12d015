//! One runner per repository: a lock that dies with its holder, however it dies.

use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

const LOCK: &str = "runner.lock";

/// A reader that asks whether the lock is held holds it for a moment itself; a runner tries as long as that can take.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// Who holds the lock, as they wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: u32,
    pub since: jiff::Timestamp,
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another runner works on this repository{}", holder.as_ref().map(|h| format!(": process {}, since {}", h.pid, h.since)).unwrap_or_default())]
    Held { holder: Option<Holder> },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The runner's lock. It is given up when this is dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct RunnerLock {
    _lock: Flock<std::fs::File>,
}

impl RunnerLock {
    /// Takes the lock of a state folder.
    ///
    /// # Errors
    /// When another runner holds it; the error says who.
    pub fn take(folder: &Path, now: jiff::Timestamp) -> Result<Self, LockError> {
        let path = folder.join(LOCK);
        let fail = |source: io::Error| LockError::Io { path: path.clone(), source };
        super::place::make_private(folder).map_err(fail)?;
        let mut tries = 0;
        let mut lock = loop {
            match Flock::lock(open(&path).map_err(fail)?, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((_, nix::errno::Errno::EWOULDBLOCK)) if tries < TRIES => {
                    tries += 1;
                    std::thread::sleep(PAUSE);
                }
                Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => return Err(LockError::Held { holder: read(&mut file) }),
                Err((_, errno)) => return Err(fail(errno.into())),
            }
        };
        let holder = Holder { pid: std::process::id(), since: now };
        let text = serde_json::to_vec(&holder).map_err(|error| fail(error.into()))?;
        lock.set_len(0).and_then(|()| lock.rewind()).and_then(|()| lock.write_all(&text)).map_err(fail)?;
        Ok(Self { _lock: lock })
    }

    /// Who holds the lock now. None when nobody does.
    ///
    /// # Errors
    /// When the lock cannot be read.
    pub fn holder(folder: &Path) -> Result<Option<Option<Holder>>, LockError> {
        let path = folder.join(LOCK);
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(LockError::Io { path, source }),
        };
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_nobody) => Ok(None),
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => Ok(Some(read(&mut file))),
            Err((_, errno)) => Err(LockError::Io { path, source: errno.into() }),
        }
    }
}

fn open(path: &Path) -> io::Result<std::fs::File> {
    std::fs::File::options().read(true).write(true).create(true).truncate(false).open(path)
}

fn read(file: &mut std::fs::File) -> Option<Holder> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

//! Where cofferdam keeps what it knows of one repository: `$XDG_STATE_HOME/cofferdam/<repository>/`. The repository's own tree stays clean.
//!
//! Every record is written beside its place and renamed into it, so that a crash leaves the old one or the new one.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::git::Repository;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("there is no place for cofferdam's state: set XDG_STATE_HOME or HOME to an absolute path")]
    NoHome,
    #[error("{} is being used by another cofferdam; wait for it to end, then try again", what)]
    Busy { what: String },
    #[error("{} cannot be read: {why}; it was written by another version, or damaged: move it away and try again", path.display())]
    Record { path: PathBuf, why: String },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The state folder of one repository.
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
    layers_kept: u64,
    compacts: bool,
}

/// Base layers that nothing uses are kept up to this size, unless the configuration says otherwise.
pub const LAYERS_KEPT_BYTES: u64 = 20 << 30;

impl State {
    /// The place for a repository, made if it is not there.
    pub fn of(repository: &Repository) -> Result<Self, StateError> {
        Self::at(&state_home()?.join("cofferdam"), repository)
    }

    /// The same below a folder of the caller's choice.
    pub fn at(home: &Path, repository: &Repository) -> Result<Self, StateError> {
        let root = home.join(key(&repository.name(), repository.common_dir()));
        let state = Self { root, layers_kept: LAYERS_KEPT_BYTES, compacts: false };
        for folder in [state.layers(), state.stories(), state.trash()] {
            // Only for the owner: below it lie the files of every story.
            fs_err::create_dir_all(state.root.parent().unwrap_or(home))?;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&folder)
                .map_err(|e| io::Error::new(e.kind(), format!("cannot make {}: {e}", folder.display())))?;
        }
        Ok(state)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The same with another bound of what is kept unused.
    pub fn keep_layers(&mut self, bytes: u64) {
        self.layers_kept = bytes;
    }

    /// Deep stacks of layers are made into one beside the work, not when the next layer is waited for. For a process that lives longer than that.
    pub fn compact_in_background(&mut self) {
        self.compacts = true;
    }

    pub fn compacts(&self) -> bool {
        self.compacts
    }

    pub fn layers_kept(&self) -> u64 {
        self.layers_kept
    }

    pub fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub fn stories(&self) -> PathBuf {
        self.root.join("stories")
    }

    /// What waits to be deleted. Nothing in it is used.
    pub fn trash(&self) -> PathBuf {
        self.root.join("trash")
    }

    /// Waits for a lock by name, at most that long.
    pub fn lock(&self, name: &str, wait: Duration) -> Result<Lock, StateError> {
        Lock::acquire(&self.root.join(format!("{name}.lock")), name, wait)
    }
}

/// A lock that ends with its holder, however that ends.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<std::fs::File>);

impl Lock {
    pub fn acquire(path: &Path, what: &str, wait: Duration) -> Result<Self, StateError> {
        let end = Instant::now() + wait;
        loop {
            let file = fs_err::OpenOptions::new().create(true).truncate(false).write(true).open(path)?.into_file();
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self(lock)),
                Err((_, nix::errno::Errno::EWOULDBLOCK | nix::errno::Errno::EINTR)) if Instant::now() < end => {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Err(StateError::Busy { what: what.to_owned() }),
                Err((_, errno)) => return Err(io::Error::from(errno).into()),
            }
        }
    }
}

/// Reads a record; `None` when there is none.
pub fn read_record<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    match fs_err::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| StateError::Record { path: path.to_owned(), why: e.to_string() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Writes a record durably.
pub fn write_record(path: &Path, record: &impl Serialize) -> Result<(), StateError> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut file, record).map_err(io::Error::other)?;
    file.as_file().sync_data()?;
    file.persist(path).map_err(|e| e.error)?;
    sync_folder(folder)?;
    Ok(())
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    fs_err::File::open(folder)?.sync_all()
}

/// Names the time since the machine was started. What was not made durable is as good as what was until that ends, and worth nothing after.
pub fn boot() -> Option<String> {
    let id = fs_err::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let id = id.trim();
    (id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')).then(|| id.to_owned())
}

/// A name for a folder that no two processes share.
pub fn unique(prefix: &str) -> String {
    static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{prefix}{}-{}-{count}", std::process::id(), now.as_nanos())
}

fn state_home() -> Result<PathBuf, StateError> {
    let set = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map(PathBuf::from).filter(|path| path.is_absolute()).map(|home| home.join(".local/state"));
    set.or_else(home).ok_or(StateError::NoHome)
}

/// A folder's name for a repository: readable, and one for each git directory.
fn key(name: &str, common_dir: &Path) -> String {
    let digest = Sha256::digest(common_dir.as_os_str().as_encoded_bytes());
    let hash: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let readable: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' }).take(40).collect();
    format!("{readable}-{hash}")
}

/// A story's id as the name of a folder and the last part of a ref: what both allow stays, the rest is escaped, long ids end in a hash.
pub fn slug(story: &str) -> String {
    let mut slug = String::new();
    let bytes = story.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        // Git refuses a dot at either end and two in a row; `.lock` as an ending too.
        let plain_dot =
            *byte == b'.' && at > 0 && at + 1 < bytes.len() && bytes[at - 1] != b'.' && !story[at..].eq_ignore_ascii_case(".lock");
        if byte.is_ascii_alphanumeric() || (matches!(byte, b'-' | b'_') && at > 0) || plain_dot {
            slug.push(char::from(*byte));
        } else {
            slug.extend(format!("%{byte:02X}").chars());
        }
    }
    if slug.len() > 100 {
        let hash: String = Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        slug.truncate(80);
        slug = format!("{slug}-{hash}");
    }
    slug
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_id_is_a_ref_and_a_folder(a in "\\PC{1,120}", b in "\\PC{1,120}") {
            let name = slug(&a);
            prop_assert!(git2::Reference::is_valid_name(&format!("refs/cofferdam/stories/{name}/1")), "{}", name);
            prop_assert!(!name.contains('/') && name != "." && name != ".." && name.len() <= 120);
            prop_assert_eq!(a == b, name == slug(&b));
        }
    }

    #[test]
    fn plain_ids_stay_readable() {
        assert_eq!(slug("US-1.2"), "US-1.2");
        assert_eq!(slug("../x"), "%2E%2E%2Fx");
        assert_eq!(slug("a.lock"), "a%2Elock");
    }
}

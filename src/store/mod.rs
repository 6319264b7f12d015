//! The memory of a repository: an append-only, hash-chained table of events, the views folded from it, and evidence.
//!
//! ```text
//! <state>/<name>-<hash>/
//!   events.sqlite    the truth (events) and its caches (stories, overview, …)
//!   evidence/        files named by their SHA-256
//!   runner.lock      held by the one runner, dies with it
//!   health.json      the runner's heartbeat
//!   live/            the last words of what runs, while it runs
//!   repository.json  whose state this is
//! ```
//!
//! An event and everything that follows from it (the caches, and the events that say what the controller decided) are one transaction: what
//! was acknowledged is whole, and what was not acknowledged never was. Readers never block the writer.
//!
//! What a runner does with it: [`lock::RunnerLock::take`], [`place::claim`], [`Store::open`], [`Evidence::sweep`]; `run.stopped` for a run that
//! died, `attempt.ended` (interrupted) for every attempt that is [`crate::story::Story::running`]; then it performs what
//! [`crate::story::wanted`] asks of [`Store::all_facts`], and what each [`Store::append`] returns. A command from another terminal is an
//! event with a number the runner has not seen: it reads [`Store::events`] since its last number a few times a second, and performs what is
//! wanted then and is not being done already. An `attempt.started` is appended *before* the process is started: when it is refused, none is.

use std::path::{Path, PathBuf};

mod append;
pub mod audit;
pub mod chain;
mod error;
pub mod evidence;
pub mod fold;
pub mod health;
pub mod live;
pub mod lock;
pub mod place;
mod read;
mod schema;
mod view;

pub use append::Appended;
pub use error::StoreError;
pub use evidence::Evidence;
pub use read::{EvidenceUse, Filter, Stored, StoryRow, Transition};

/// The store of one repository.
#[derive(Debug)]
pub struct Store {
    connection: rusqlite::Connection,
    folder: PathBuf,
    path: PathBuf,
    /// Device and inode of the database when it was opened.
    identity: (u64, u64),
}

/// The database's name in the state folder.
pub const DATABASE: &str = "events.sqlite";

impl Store {
    /// Opens the store in a state folder, and makes it when there is none.
    ///
    /// # Errors
    /// When it cannot be opened, is damaged, belongs to another program or to a newer version.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        place::make_private(folder)?;
        Self::connect(folder, true)
    }

    /// Opens the store when there is one. None when nothing was ever stored.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_existing(folder: &Path) -> Result<Option<Self>, StoreError> {
        match fs_err::metadata(folder.join(DATABASE)) {
            Ok(_) => Self::connect(folder, false).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The evidence of this store.
    pub fn evidence(&self) -> Evidence {
        Evidence::new(self.folder.join("evidence"))
    }

    fn connect(folder: &Path, create: bool) -> Result<Self, StoreError> {
        use rusqlite::OpenFlags;
        let path = folder.join(DATABASE);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let flags = if create { flags | OpenFlags::SQLITE_OPEN_CREATE } else { flags };
        let connection = rusqlite::Connection::open_with_flags(&path, flags).map_err(|error| StoreError::from_sqlite(&path, error))?;
        let mut store = Self { connection, folder: folder.to_owned(), path, identity: (0, 0) };
        store.prepare()?;
        store.identity = identity(&store.path)?;
        Ok(store)
    }

    fn sql<T>(&self, result: rusqlite::Result<T>) -> Result<T, StoreError> {
        result.map_err(|error| StoreError::from_sqlite(&self.path, error))
    }

    /// A state folder that was deleted or replaced under us would take every event without keeping one.
    fn still_there(&self) -> Result<(), StoreError> {
        match identity(&self.path) {
            Ok(now) if now == self.identity => Ok(()),
            _ => Err(StoreError::Vanished { path: self.path.clone() }),
        }
    }
}

fn identity(path: &Path) -> Result<(u64, u64), StoreError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs_err::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;

//! What can go wrong with the store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

use crate::event::KindError;
use crate::story::Refused;

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{} was written by a newer cofferdam (format {found}; this one knows up to {known})", path.display())]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("{} is not a store of cofferdam", path.display())]
    NotOurs { path: PathBuf },
    #[error("{} is damaged: {detail}", path.display())]
    Damaged { path: PathBuf, detail: String },
    #[error("the disk that holds {} is full", path.display())]
    DiskFull { path: PathBuf },
    #[error("{} is locked by another process for longer than ten seconds", path.display())]
    Busy { path: PathBuf },
    #[error("{} is gone, or was replaced, while it was in use", path.display())]
    Vanished { path: PathBuf },
    #[error("a `{kind}` event of {bytes} bytes is larger than an event may be")]
    TooLarge { kind: String, bytes: usize },
    #[error("event {seq}: {source}")]
    Unreadable { seq: u64, source: KindError },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{}: {source}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

impl StoreError {
    /// What to do next.
    pub fn next(&self) -> String {
        match self {
            Self::Refused(refused) => refused.instead.clone(),
            Self::Newer { .. } => "use that version of cofferdam, or a state folder of its own (XDG_STATE_HOME)".to_owned(),
            Self::NotOurs { path } => format!("move it away: mv {0} {0}.other", path.display()),
            Self::Damaged { path, .. } => format!(
                "keep a copy, then see how far it can be read: `cofferdam log --verify`. To begin anew: mv {0} {0}.damaged (landed work is safe in the repository)",
                path.display()
            ),
            Self::DiskFull { .. } => {
                "free some space and run the command again: nothing was written half, and nothing acknowledged is lost".to_owned()
            }
            Self::Busy { .. } => "see who holds it: `cofferdam status`; then try again".to_owned(),
            Self::Vanished { path } => format!("restore {} from where it went, or stop the run and start it again", path.display()),
            Self::TooLarge { .. } => "store large texts as evidence, and name the evidence in the event".to_owned(),
            Self::Unreadable { .. } => "see whether it was changed: `cofferdam log --verify`".to_owned(),
            Self::Io(_) => "look at the path that is named: does it exist, and may you write there?".to_owned(),
            Self::Sqlite { .. } => "run the command again; `cofferdam log --verify` tells whether the store is whole".to_owned(),
        }
    }

    pub(super) fn from_sqlite(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            Some(ErrorCode::NotADatabase) => Self::NotOurs { path },
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged { path, detail: error.to_string() },
            _ if is_no_space(&error) => Self::DiskFull { path },
            _ => Self::Sqlite { path, source: error },
        }
    }
}

/// Growing the shared-memory file on a full disk is reported as an I/O error of its own.
fn is_no_space(error: &rusqlite::Error) -> bool {
    let extended = match error {
        rusqlite::Error::SqliteFailure(failure, _) => failure.extended_code,
        _ => 0,
    };
    extended == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
}

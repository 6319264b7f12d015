//! The formats of the database: opened, migrated, or refused.

use std::time::Duration;

use rusqlite::{ErrorCode, TransactionBehavior};

use super::{Store, StoreError};

/// Steps from format n to n + 1, in order. A step that was released is never edited: stores out there were made by it.
const MIGRATIONS: &[&str] = &[include_str!("migrations/0001-events.sql")];

/// `PRAGMA application_id`: "cfdm".
const APPLICATION_ID: i32 = 0x6366_646d;

/// A writer waits for another one at most this long.
const BUSY: Duration = Duration::from_secs(10);

impl Store {
    /// Sets the connection up, checks whose file it is, and brings it to this version's format.
    pub(super) fn prepare(&mut self) -> Result<(), StoreError> {
        self.sql(self.connection.busy_timeout(BUSY))?;
        self.check_owner()?;
        self.write_ahead_log()?;
        // FULL: a commit that was acknowledged survives a power cut. Tables in memory: sorting writes no temporary file on a full disk.
        // A cache of 16 MiB holds the lists of a large plan, which would push each other out of the default of 2 MiB.
        let settings = "PRAGMA synchronous = FULL; PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF; PRAGMA cache_size = -16384;";
        self.sql(self.connection.execute_batch(settings))?;
        self.migrate(MIGRATIONS)?;
        self.refresh_views()
    }

    fn pragma(&self, name: &str) -> Result<i64, StoreError> {
        self.sql(self.connection.pragma_query_value(None, name, |row| row.get(0)))
    }

    fn check_owner(&self) -> Result<(), StoreError> {
        // One moment for all questions: another process may be making the store between two of them.
        let _one_moment = self.sql(self.connection.unchecked_transaction())?;
        let application = self.pragma("application_id")?;
        let is_empty = self.sql(self.connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)))? == 0;
        if application != i64::from(APPLICATION_ID) && !is_empty {
            return Err(StoreError::NotOurs { path: self.path.clone() });
        }
        let (found, known) = (self.pragma("user_version")?, MIGRATIONS.len() as i64);
        if found > known {
            return Err(StoreError::Newer { path: self.path.clone(), found, known });
        }
        Ok(())
    }

    fn write_ahead_log(&self) -> Result<(), StoreError> {
        // Two processes that open a new store at once: switching the mode does not wait by itself.
        let mut tries = 0;
        loop {
            let mode = self.connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0));
            match mode {
                Ok(mode) if mode == "wal" => return Ok(()),
                Ok(mode) => {
                    return Err(StoreError::Damaged {
                        path: self.path.clone(),
                        detail: format!("its journal mode stays {mode}, where WAL is needed"),
                    });
                }
                Err(error)
                    if tries < 100 && matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)) =>
                {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(StoreError::from_sqlite(&self.path, error)),
            }
        }
    }

    /// Takes the steps that are missing, each in a transaction of its own.
    pub(super) fn migrate(&mut self, steps: &[&str]) -> Result<(), StoreError> {
        let path = self.path.clone();
        let wrap = |error| StoreError::from_sqlite(&path, error);
        loop {
            if self.pragma("user_version")? >= steps.len() as i64 {
                return Ok(());
            }
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrap)?;
            // Somebody else may have done it while this process waited.
            let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(wrap)?;
            let Some(step) = usize::try_from(version).ok().and_then(|version| steps.get(version)) else { continue };
            transaction.execute_batch(step).map_err(wrap)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(wrap)?;
            transaction.pragma_update(None, "user_version", version + 1).map_err(wrap)?;
            transaction.commit().map_err(wrap)?;
        }
    }
}

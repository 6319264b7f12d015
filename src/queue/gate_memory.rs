//! Results of gates, remembered by what decides them. A file each in the state folder, which no sandbox can see.

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::gate::{Key, Seen};
use crate::base::id::EvidenceId;
use crate::workspace::git::fault::{self, Mutant};
use crate::workspace::state::{self, State, StateError};

/// Above this many the oldest are forgotten: each costs one run of a gate to learn again, and no more.
const KEPT: usize = 10_000;
const VERSION: u32 = 1;

/// One remembered result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub gate: String,
    /// In full, so that a name that means something else is found out.
    pub key: Key,
    pub seen: Seen,
    /// Red at first, and green when tried again.
    pub flaky: bool,
    pub logs: Vec<EvidenceId>,
    pub tail: String,
    pub wall_ms: u64,
}

impl Record {
    pub fn new(gate: &str, key: Key, seen: Seen) -> Self {
        Self { version: VERSION, gate: gate.to_owned(), key, seen, flaky: false, logs: Vec::new(), tail: String::new(), wall_ms: 0 }
    }
}

/// The results of one repository.
#[derive(Clone, Debug)]
pub struct Memory {
    folder: PathBuf,
}

impl Memory {
    /// # Errors
    /// When its folder cannot be made.
    pub fn of(state: &State) -> io::Result<Self> {
        let folder = state.root().join("gates");
        fs_err::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    fn path(&self, key: &Key) -> PathBuf {
        if fault::is(Mutant::MemoryWithoutGate) {
            return self.folder.join(format!("{}.json", key.tree));
        }
        self.folder.join(format!("{}.json", key.name()))
    }

    /// What is remembered of exactly this. A record that cannot be read is none: the gate runs again.
    pub fn recall(&self, key: &Key) -> Option<Record> {
        let record = state::read_record::<Record>(&self.path(key)).ok().flatten()?;
        let same = record.key == *key || fault::is(Mutant::MemoryWithoutGate);
        (record.version == VERSION && same).then_some(record)
    }

    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, record: &Record) -> Result<(), StateError> {
        state::write_record(&self.path(&record.key), record)?;
        Ok(self.forget_oldest(KEPT)?)
    }

    fn forget_oldest(&self, kept: usize) -> io::Result<()> {
        let entries: Vec<_> = fs_err::read_dir(&self.folder)?.collect::<Result<_, _>>()?;
        if entries.len() <= kept {
            return Ok(());
        }
        let age = |entry: &fs_err::DirEntry| entry.metadata().and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut dated: Vec<_> = entries.iter().map(|entry| (age(entry), entry.path())).collect();
        dated.sort();
        // A tenth at a time: not every result is to look at all of them.
        for (_, path) in dated.iter().take(entries.len() - kept + kept / 10) {
            match fs_err::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::gate::Ended;

    #[test]
    fn only_exactly_the_same_is_recalled() {
        let folder = tempfile::tempdir().expect("a folder");
        let memory = Memory { folder: folder.path().to_owned() };
        let key = Key { tree: "t".into(), definition: "d".into(), profile: "p".into(), toolchain: "c".into() };
        let seen = Seen { ended: Ended::Exited { code: 0 }, counts: None, report_error: None };
        let record = Record::new("test", key.clone(), seen);
        memory.keep(&record).expect("kept");
        assert_eq!(memory.recall(&key), Some(record.clone()));
        for other in [
            Key { tree: "x".into(), ..key.clone() },
            Key { definition: "x".into(), ..key.clone() },
            Key { profile: "x".into(), ..key.clone() },
            Key { toolchain: "x".into(), ..key.clone() },
        ] {
            assert_eq!(memory.recall(&other), None);
            // Not even when a file of that name says so.
            fs_err::copy(memory.path(&key), memory.path(&other)).expect("copied");
            assert_eq!(memory.recall(&other), None);
        }
        memory.forget_oldest(2).expect("forgotten");
        assert!(fs_err::read_dir(folder.path()).expect("folder").count() <= 2);
        fs_err::write(memory.path(&key), "{").expect("written");
        assert_eq!(memory.recall(&key), None);
    }
}

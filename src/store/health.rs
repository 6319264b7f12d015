//! The runner's heartbeat: `health.json`, replaced as a whole, for people and for monitors that know nothing of the database.

use std::io;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::lock::{LockError, RunnerLock};

/// A runner writes its heartbeat this often.
pub const BEAT: std::time::Duration = std::time::Duration::from_secs(30);
/// A heartbeat older than this, while the lock is held, is that of a runner that hangs, unless the runner itself said otherwise.
const HUNG_AFTER_S: u32 = 120;
const HEALTH: &str = "health.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub version: u32,
    /// `starting`, `running`, `stopped` or `error`, as the runner says.
    pub status: Status,
    pub pid: u32,
    pub heartbeat: Timestamp,
    pub run: Option<crate::base::id::RunId>,
    pub progress: Progress,
    /// What it does, or why it stopped, in a sentence.
    pub detail: Option<String>,
    /// The age from which it wants to be counted as hung.
    #[serde(default = "usual")]
    pub stale_after_s: u32,
}

const fn usual() -> u32 {
    HUNG_AFTER_S
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Starting,
    Running,
    Stopped,
    Error,
    /// Never written: what a reader makes of an old heartbeat.
    Hung,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub merged: u64,
    pub total: u64,
}

impl Health {
    /// Writes the heartbeat.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        super::place::write_whole(&folder.join(HEALTH), &text)
    }

    /// The last heartbeat. None when there never was one, or it cannot be understood.
    pub fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs_err::read(folder.join(HEALTH)).ok()?).ok()
    }
}

/// What is to be believed about the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    pub status: Status,
    pub pid: Option<u32>,
    pub heartbeat: Option<Timestamp>,
    pub detail: Option<String>,
}

/// Looks at the lock and the heartbeat of a state folder.
///
/// # Errors
/// When the lock cannot be read.
pub fn runner(folder: &Path, now: Timestamp) -> Result<Runner, LockError> {
    Ok(assess(RunnerLock::holder(folder)?.map(|holder| holder.map(|h| (h.pid, h.since))), Health::read(folder), now))
}

/// The lock says whether a runner is there, the heartbeat says how it is.
fn assess(lock: Option<Option<(u32, Timestamp)>>, health: Option<Health>, now: Timestamp) -> Runner {
    let Some(holder) = lock else {
        let died = health.as_ref().is_some_and(|h| matches!(h.status, Status::Starting | Status::Running));
        let detail = if died {
            Some("it ended without a word; `cofferdam run` goes on from there".to_owned())
        } else {
            health.as_ref().and_then(|h| h.detail.clone())
        };
        let status = health.as_ref().map_or(Status::Stopped, |h| if h.status == Status::Error { Status::Error } else { Status::Stopped });
        return Runner { status, pid: None, heartbeat: health.map(|h| h.heartbeat), detail };
    };
    // A heartbeat of an earlier runner says nothing about this one.
    let own = health.filter(|h| holder.is_none_or(|(pid, _)| pid == h.pid));
    let pid = holder.map(|(pid, _)| pid).or(own.as_ref().map(|h| h.pid));
    let last = own.as_ref().map(|h| h.heartbeat).or(holder.map(|(_, since)| since));
    let limit = own.as_ref().map_or(HUNG_AFTER_S, |h| h.stale_after_s);
    let is_old = last.is_some_and(|last| now.duration_since(last) > SignedDuration::from_secs(limit.into()));
    let status = match own.as_ref().map(|h| h.status) {
        _ if is_old => Status::Hung,
        Some(status) => status,
        None => Status::Starting,
    };
    let detail = if is_old {
        Some(format!("its heartbeat is older than {}", crate::base::duration::display(std::time::Duration::from_secs(limit.into()))))
    } else {
        own.and_then(|h| h.detail)
    };
    Runner { status, pid, heartbeat: last, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(status: Status, pid: u32, second: i64) -> Health {
        Health {
            version: 1,
            status,
            pid,
            heartbeat: at(second),
            run: None,
            progress: Progress::default(),
            detail: None,
            stale_after_s: HUNG_AFTER_S,
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + second).expect("in range")
    }

    #[test]
    fn the_lock_says_whether_and_the_heartbeat_says_how() {
        let status = |lock, health, now| assess(lock, health, at(now)).status;
        let mine = Some(Some((7, at(0))));
        assert_eq!(status(None, None, 0), Status::Stopped);
        assert_eq!(status(mine, None, 5), Status::Starting);
        assert_eq!(status(mine, Some(health(Status::Running, 7, 0)), 30), Status::Running);
        assert_eq!(status(mine, Some(health(Status::Running, 7, 0)), 121), Status::Hung);
        assert_eq!(status(mine, Some(health(Status::Stopped, 6, 0)), 5), Status::Starting, "an earlier runner's");
        let impatient = Health { stale_after_s: 5, ..health(Status::Running, 7, 0) };
        assert_eq!(status(mine, Some(impatient.clone()), 5), Status::Running);
        assert_eq!(status(mine, Some(impatient), 6), Status::Hung, "it says itself how long it may be silent");
        assert_eq!(status(mine, None, 500), Status::Hung, "it never wrote one");
        assert_eq!(status(None, Some(health(Status::Error, 7, 0)), 5), Status::Error);
        let died = assess(None, Some(health(Status::Running, 7, 0)), at(5));
        assert_eq!((died.status, died.pid), (Status::Stopped, None));
        assert!(died.detail.expect("said").contains("without a word"));
    }

    #[test]
    fn a_clock_that_jumps_back_makes_nobody_hang() {
        assert_eq!(assess(Some(Some((7, at(0)))), Some(health(Status::Running, 7, 1000)), at(0)).status, Status::Running);
    }

    #[test]
    fn the_lock_is_one_and_names_its_holder() {
        let dir = tempfile::tempdir().expect("dir");
        assert_eq!(RunnerLock::holder(dir.path()).expect("read"), None);
        let lock = RunnerLock::take(dir.path(), at(0)).expect("free");
        let error = RunnerLock::take(dir.path(), at(1)).expect_err("held").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        health(Status::Running, std::process::id(), 10).write(dir.path()).expect("written");
        assert_eq!(runner(dir.path(), at(20)).expect("read").status, Status::Running);
        drop(lock);
        assert_eq!(runner(dir.path(), at(20)).expect("read").status, Status::Stopped);
        RunnerLock::take(dir.path(), at(2)).expect("free again");
    }
}

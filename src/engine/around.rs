//! What a run needs from outside, and what it tells: the plan's source, whoever watches, requests to stop, and how it ended.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::perform::Words;
use super::view::View;
use crate::base::id::{CommitId, StoryId};
use crate::config::Config;
use crate::event::StopReason;
use crate::plan::next::Reason;
use crate::plan::{Plan, Rules};
use crate::spec::Spec;
use crate::store::{StoreError, Stored};
use crate::story::{Phase, Story};

/// The plan and the configuration, as they are now.
#[derive(Debug)]
pub struct Reading {
    pub spec: Spec,
    pub plan: Plan,
    pub rules: Rules,
    pub config: Arc<Config>,
    /// The ref that stories land on, and its commit.
    pub target: String,
    pub commit: CommitId,
}

/// Where the plan comes from. It is read again whenever its fingerprint changes.
pub trait Source {
    /// Something that differs when the plan, its configuration or the target differs.
    fn fingerprint(&mut self) -> u64;
    /// The whole of it.
    ///
    /// # Errors
    /// What is wrong, for a person. Nothing of a half-read plan is used.
    fn read(&mut self) -> Result<Reading, String>;
}

/// Whoever watches. Nothing they do changes what happens.
pub trait Watcher {
    /// An event was stored, by this run or by somebody else. The phases are those of its story, when it moved it.
    fn stored(&mut self, event: &Stored, moved: Option<(&str, &Phase)>, story: Option<&Story>);
    /// Time passed.
    fn look(&mut self, state: &Glance<'_>);
    /// A sentence for a person.
    fn say(&mut self, text: &str);
}

/// What is shown while a run goes on.
#[derive(Debug)]
pub struct Glance<'a> {
    pub view: &'a View,
    pub plan: &'a Plan,
    pub only: Option<&'a BTreeSet<usize>>,
    pub words: &'a Words,
    /// Since when each story is in its phase.
    pub since: &'a HashMap<StoryId, Instant>,
    pub paused: Option<&'a str>,
    pub stopping: bool,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub reason: StopReason,
    pub detail: Option<String>,
    /// Why each story of the run that is not done is not.
    pub not: Vec<(StoryId, Reason)>,
    pub counts: Counts,
}

/// Stories of the run, by how they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub total: usize,
    pub landed: usize,
    pub ready: usize,
    pub blocked: usize,
    pub escalated: usize,
    pub cancelled: usize,
    pub waiting: usize,
}

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the plan cannot be used: {0}")]
    Plan(String),
    #[error("there is no story `{0}` in the plan")]
    NoStory(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Requests from the terminal: the first is orderly, the second immediate.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    pub first: CancellationToken,
    pub second: CancellationToken,
}

/// A fingerprint of files and folders: their names, sizes, times and inodes.
pub fn fingerprint(paths: &[&Path]) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::os::unix::fs::MetadataExt;
    let mut hasher = DefaultHasher::new();
    let mut open: Vec<(std::path::PathBuf, usize)> = paths.iter().map(|path| ((*path).to_owned(), 0)).collect();
    while let Some((path, depth)) = open.pop() {
        let Ok(metadata) = fs_err::symlink_metadata(&path) else {
            (&path, "missing").hash(&mut hasher);
            continue;
        };
        (&path, metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec(), metadata.ino())
            .hash(&mut hasher);
        if metadata.is_dir() && depth < 5 {
            let mut names: Vec<_> = fs_err::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            names.sort();
            open.extend(names.into_iter().map(|path| (path, depth + 1)));
        }
    }
    hasher.finish()
}

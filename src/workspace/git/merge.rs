//! Merging in memory: trees and commits, in a quarantine that has no worktree, so that nobody's files or attributes take part.
//!
//! libgit2 runs no merge driver, hook or filter program; what cannot be merged comes back as data, with both sides.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Author, GitError, Oid, Quarantine, doing};

/// Conflicts are for somebody to read: no more of a file is kept than that.
const EXCERPT: usize = 16 << 10;
/// Larger files are not marked: nobody reads conflicts in them.
const MARKED_MAX: usize = 4 << 20;
/// More conflicts than this are counted, not kept.
const CONFLICTS_KEPT: usize = 100;
/// Renames are looked for among so many files; beyond, they count as deleted and added.
const RENAME_TARGETS: u32 = 2_000;

/// What merging came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merged {
    Tree(Oid),
    Conflicts(Vec<Conflict>),
}

/// One path that both sides changed in ways that do not go together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub path: Vec<u8>,
    pub kind: ConflictKind,
    /// The file with both sides marked, as far as it is text.
    pub both: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConflictKind {
    BothChanged,
    BothAdded,
    /// The target deleted what the story changed.
    DeletedByTarget,
    /// The story deleted what the target changed.
    DeletedByStory,
    /// A rename, or a folder in the way.
    Layout,
    /// The marks of an earlier conflict were left in the file.
    Marked,
}

impl ConflictKind {
    pub fn words(self) -> &'static str {
        match self {
            Self::BothChanged => "both sides changed the same lines",
            Self::BothAdded => "both sides added a file of this name",
            Self::DeletedByTarget => "the target deleted it, and the story changed it",
            Self::DeletedByStory => "the story deleted it, and the target changed it",
            Self::Layout => "a rename or a folder is in the way",
            Self::Marked => "marks of an earlier conflict were left in it",
        }
    }
}

/// Who, and when: given, never asked of a clock, so that the same inputs make the same commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub who: Author,
    pub seconds: i64,
    pub offset_minutes: i32,
}

impl Stamp {
    fn signature(&self) -> Result<git2::Signature<'static>, git2::Error> {
        git2::Signature::new(&self.who.name, &self.who.email, &git2::Time::new(self.seconds, self.offset_minutes))
    }
}

/// A commit as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub tree: Oid,
    pub parents: Vec<Oid>,
    pub author: Stamp,
    pub message: String,
}

impl Quarantine {
    /// Merges two commits.
    pub fn merge(&self, target: Oid, story: Oid) -> Result<Merged, GitError> {
        let merge = || {
            let (ours, theirs) = (self.inner.find_commit(target)?, self.inner.find_commit(story)?);
            let index = self.inner.merge_commits(&ours, &theirs, Some(&options()))?;
            self.merged(index)
        };
        merge().or_else(doing(|| format!("merge {story} into {target}")))
    }

    /// Merges two commits for somebody who mends the conflicts: text has both sides marked; of anything else the side that is there is taken,
    /// the target's where both are.
    pub fn merge_marked(&self, target: Oid, story: Oid) -> Result<Oid, GitError> {
        let merge = || -> Result<Oid, git2::Error> {
            let (ours, theirs) = (self.inner.find_commit(target)?, self.inner.find_commit(story)?);
            let mut index = self.inner.merge_commits(&ours, &theirs, Some(&options()))?;
            let conflicts = index.conflicts()?.collect::<Result<Vec<_>, _>>()?;
            for conflict in conflicts {
                let (before, ours, theirs) = (conflict.ancestor.as_ref(), conflict.our.as_ref(), conflict.their.as_ref());
                let Some(side) = ours.or(theirs) else {
                    // A name that both sides gave up.
                    if let Some(before) = before {
                        index.conflict_remove(path_of(before))?;
                    }
                    continue;
                };
                let both = if ours.is_some() && theirs.is_some() { self.both(before, ours, theirs) } else { None };
                let id = both.map(|both| self.inner.blob(&both)).transpose()?.unwrap_or(side.id);
                index.conflict_remove(path_of(side))?;
                let entry = git2::IndexEntry { id, flags: 0, flags_extended: 0, ..copy(side) };
                index.add(&entry)?;
            }
            index.write_tree_to(&self.inner)
        };
        merge().or_else(doing(|| format!("mark the conflicts of {story} and {target}")))
    }

    /// The tree of `target` without what came between `before` and `landed`.
    pub fn take_back(&self, target: Oid, landed: Oid, before: Oid) -> Result<Merged, GitError> {
        let take = || {
            let tree = |commit: Oid| self.inner.find_commit(commit)?.tree();
            let index = self.inner.merge_trees(&tree(landed)?, &tree(target)?, &tree(before)?, Some(&options()))?;
            self.merged(index)
        };
        take().or_else(doing(|| format!("take {landed} back")))
    }

    /// Puts one commit's change on top of another commit.
    pub fn pick(&self, commit: Oid, onto: Oid) -> Result<Merged, GitError> {
        let pick = || {
            let (commit, onto) = (self.inner.find_commit(commit)?, self.inner.find_commit(onto)?);
            let index = self.inner.cherrypick_commit(&commit, &onto, 0, Some(&options()))?;
            self.merged(index)
        };
        pick().or_else(doing(|| format!("put {commit} on {onto}")))
    }

    /// The commits of `tip` that `target` does not have, oldest first.
    pub fn since(&self, target: Oid, tip: Oid) -> Result<Vec<Oid>, GitError> {
        let walk = || -> Result<Vec<Oid>, git2::Error> {
            let mut walk = self.inner.revwalk()?;
            walk.set_sorting(git2::Sort::TOPOLOGICAL | git2::Sort::REVERSE)?;
            walk.push(tip)?;
            walk.hide(target)?;
            walk.collect()
        };
        walk().or_else(doing(|| format!("list the commits from {target} to {tip}")))
    }

    pub fn read(&self, commit: Oid) -> Result<Read, GitError> {
        let commit = self.inner.find_commit(commit).or_else(doing(|| format!("read commit {commit}")))?;
        let author = commit.author();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Read {
            tree: commit.tree_id(),
            parents: commit.parent_ids().collect(),
            author: Stamp {
                who: Author { name: text(author.name_bytes()), email: text(author.email_bytes()) },
                seconds: author.when().seconds(),
                offset_minutes: author.when().offset_minutes(),
            },
            message: text(commit.message_bytes()),
        })
    }

    /// Writes a commit whose times are given.
    pub fn write_commit_at(&self, tree: Oid, parents: &[Oid], author: &Stamp, committer: &Stamp, message: &str) -> Result<Oid, GitError> {
        let commit = || -> Result<Oid, git2::Error> {
            let tree = self.inner.find_tree(tree)?;
            let parents = parents.iter().map(|id| self.inner.find_commit(*id)).collect::<Result<Vec<_>, _>>()?;
            let parents: Vec<_> = parents.iter().collect();
            self.inner.commit(None, &author.signature()?, &committer.signature()?, message, &tree, &parents)
        };
        commit().or_else(doing(|| "write the candidate's commit".to_owned()))
    }

    fn merged(&self, mut index: git2::Index) -> Result<Merged, git2::Error> {
        if !index.has_conflicts() {
            return index.write_tree_to(&self.inner).map(Merged::Tree);
        }
        let mut conflicts = Vec::new();
        for conflict in index.conflicts()? {
            if conflicts.len() >= CONFLICTS_KEPT {
                break;
            }
            conflicts.push(self.conflict(&conflict?));
        }
        conflicts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Merged::Conflicts(conflicts))
    }

    fn conflict(&self, conflict: &git2::IndexConflict) -> Conflict {
        let (before, ours, theirs) = (conflict.ancestor.as_ref(), conflict.our.as_ref(), conflict.their.as_ref());
        let kind = match (before, ours, theirs) {
            (Some(_), Some(_), Some(_)) => ConflictKind::BothChanged,
            (None, Some(_), Some(_)) => ConflictKind::BothAdded,
            (Some(_), None, Some(_)) => ConflictKind::DeletedByTarget,
            (Some(_), Some(_), None) => ConflictKind::DeletedByStory,
            _ => ConflictKind::Layout,
        };
        let path = ours.or(theirs).or(before).map(|entry| entry.path.clone()).unwrap_or_default();
        let both = self.both(before, ours, theirs);
        Conflict { path, kind, both: both.map(|both| crate::base::text::cut(&String::from_utf8_lossy(&both), EXCERPT)) }
    }

    fn both(
        &self,
        before: Option<&git2::IndexEntry>,
        ours: Option<&git2::IndexEntry>,
        theirs: Option<&git2::IndexEntry>,
    ) -> Option<Vec<u8>> {
        let is_file = |entry: &&git2::IndexEntry| entry.mode & 0o170_000 == 0o100_000;
        if ![before, ours, theirs].iter().flatten().all(is_file) {
            return None;
        }
        let content = |entry: Option<&git2::IndexEntry>| match entry {
            None => Some(Vec::new()),
            Some(entry) => self.inner.find_blob(entry.id).ok().map(|blob| blob.content().to_vec()),
        };
        let (before, ours, theirs) = (content(before)?, content(ours)?, content(theirs)?);
        let longest = before.len().max(ours.len()).max(theirs.len());
        if longest > MARKED_MAX || [&before, &ours, &theirs].iter().any(|side| side.contains(&0)) {
            return None;
        }
        let mut inputs = [git2::MergeFileInput::new(), git2::MergeFileInput::new(), git2::MergeFileInput::new()];
        for (input, side) in inputs.iter_mut().zip([&before, &ours, &theirs]) {
            input.content(side);
        }
        let mut options = git2::MergeFileOptions::new();
        options.our_label("target").their_label("story").ancestor_label("before").style_diff3(true);
        let merged = git2::merge_file(&inputs[0], &inputs[1], &inputs[2], Some(&mut options)).ok()?;
        Some(merged.content().to_vec())
    }
}

fn path_of(entry: &git2::IndexEntry) -> &Path {
    Path::new(OsStr::from_bytes(&entry.path))
}

fn copy(entry: &git2::IndexEntry) -> git2::IndexEntry {
    git2::IndexEntry { ctime: entry.ctime, mtime: entry.mtime, path: entry.path.clone(), ..*entry }
}

fn options() -> git2::MergeOptions {
    let mut options = git2::MergeOptions::new();
    options.find_renames(true).target_limit(RENAME_TARGETS).fail_on_conflict(false);
    options
}

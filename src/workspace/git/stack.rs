//! Two commits that have not landed as one base: merged in memory, with the same commit for the same two every time.

use super::{GitError, Oid, Repository, doing};

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stacked {
    Commit(Oid),
    /// Paths that both changed, safe to print.
    Conflict(Vec<String>),
}

/// Paths that a message names.
const SHOWN: usize = 5;

impl Repository {
    /// The merge of two commits. A ref below `refs/cofferdam/stacks/` keeps it.
    ///
    /// # Errors
    /// When an object cannot be read or written.
    pub fn stack(&self, one: Oid, other: Oid, message: &str) -> Result<Stacked, GitError> {
        if self.is_ancestor(other, one) {
            return Ok(Stacked::Commit(one));
        }
        if self.is_ancestor(one, other) {
            return Ok(Stacked::Commit(other));
        }
        let merged = || -> Result<Stacked, git2::Error> {
            let (ours, theirs) = (self.inner.find_commit(one)?, self.inner.find_commit(other)?);
            let mut index = self.inner.merge_commits(&ours, &theirs, None)?;
            if index.has_conflicts() {
                let mut paths: Vec<String> = Vec::new();
                for conflict in index.conflicts()? {
                    let conflict = conflict?;
                    let entry = conflict.our.or(conflict.their).or(conflict.ancestor);
                    paths.extend(entry.map(|entry| crate::base::text::bytes_line(&entry.path)));
                }
                paths.dedup();
                paths.truncate(SHOWN);
                return Ok(Stacked::Conflict(paths));
            }
            let tree = self.inner.find_tree(index.write_tree_to(&self.inner)?)?;
            // Nothing of the moment is in it: a second runner makes the very same commit.
            let seconds = ours.time().seconds().max(theirs.time().seconds());
            let who = git2::Signature::new("cofferdam", "cofferdam@localhost", &git2::Time::new(seconds, 0))?;
            self.inner.commit(None, &who, &who, &format!("{message}\n"), &tree, &[&ours, &theirs]).map(Stacked::Commit)
        };
        let stacked = merged().or_else(doing(|| format!("merge {one} and {other}")))?;
        if let Stacked::Commit(commit) = &stacked {
            let name = format!("refs/cofferdam/stacks/{commit}");
            if self.reference(&name).is_none() {
                self.create_reference(&name, *commit)?;
            }
        }
        Ok(stacked)
    }
}

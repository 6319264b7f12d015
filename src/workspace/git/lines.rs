//! What differs between two trees, line by line: what a change is known by, whatever it is called.

use super::{GitError, Oid, Repository, doing};

/// The lines that went and came in one file, in their order. For a binary file, the new object's id in place of lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileLines {
    pub path: Vec<u8>,
    pub removed: Vec<Vec<u8>>,
    pub added: Vec<Vec<u8>>,
}

/// Files above this size are told apart by their object alone.
const LARGEST_TEXT: i64 = 4 << 20;

impl Repository {
    /// The change from one commit's tree to another's.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn lines_between(&self, from: Oid, to: Oid) -> Result<Vec<FileLines>, GitError> {
        let read = || -> Result<Vec<FileLines>, git2::Error> {
            let (from, to) = (self.inner.find_commit(from)?.tree()?, self.inner.find_commit(to)?.tree()?);
            let mut options = git2::DiffOptions::new();
            options.context_lines(0).ignore_submodules(true).max_size(LARGEST_TEXT);
            let diff = self.inner.diff_tree_to_tree(Some(&from), Some(&to), Some(&mut options))?;
            let mut files = Vec::new();
            for at in 0..diff.deltas().len() {
                let Some(delta) = diff.get_delta(at) else { continue };
                let file = delta.new_file().path_bytes().or_else(|| delta.old_file().path_bytes()).unwrap_or_default();
                let mut lines = FileLines { path: file.to_vec(), ..FileLines::default() };
                match git2::Patch::from_diff(&diff, at)? {
                    Some(patch) if patch.num_hunks() > 0 => read_lines(&patch, &mut lines)?,
                    // Binary, too large, or only its mode: the object and the mode are the change.
                    _ => lines.added.push(format!("{} {:o}", delta.new_file().id(), u32::from(delta.new_file().mode())).into_bytes()),
                }
                files.push(lines);
            }
            Ok(files)
        };
        read().or_else(doing(|| format!("compare commits {from} and {to}")))
    }

    /// The change between two commits as a patch, for a person.
    ///
    /// # Errors
    /// When an object cannot be read.
    pub fn patch_between(&self, from: Oid, to: Oid) -> Result<Vec<u8>, GitError> {
        super::patch(&self.inner, self.tree_of(from)?, self.tree_of(to)?, false)
    }
}

fn read_lines(patch: &git2::Patch<'_>, lines: &mut FileLines) -> Result<(), git2::Error> {
    for hunk in 0..patch.num_hunks() {
        for line in 0..patch.num_lines_in_hunk(hunk)? {
            let line = patch.line_in_hunk(hunk, line)?;
            match line.origin() {
                '+' => lines.added.push(line.content().to_vec()),
                '-' => lines.removed.push(line.content().to_vec()),
                _ => {}
            }
        }
    }
    Ok(())
}

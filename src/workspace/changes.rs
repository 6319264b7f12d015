//! What differs between two trees, at a cost that follows the difference.

use serde::{Deserialize, Serialize};

use super::git::{Entry, GitError, Objects, Oid};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChangeKind {
    Added,
    Modified,
    /// Only the executable bit.
    Mode,
    /// A file became a link, or the like.
    Type,
    Deleted,
}

/// One path that differs; a rename is a deletion and an addition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub path: Vec<u8>,
    pub kind: ChangeKind,
    /// What is there now: its mode and object.
    pub now: Option<(u32, Oid)>,
}

/// Why a comparison ended early.
#[derive(Debug)]
pub enum Stopped {
    /// There are more changes than the caller wants to know of.
    TooMany,
    Git(GitError),
}

impl From<GitError> for Stopped {
    fn from(error: GitError) -> Self {
        Self::Git(error)
    }
}

/// The changes from one tree to another, sorted by path; at most `limit` of them.
pub fn between(objects: &impl Objects, from: Option<Oid>, to: Option<Oid>, limit: usize) -> Result<Vec<Change>, Stopped> {
    let mut changes = Vec::new();
    compare(objects, from, to, &mut Vec::new(), &mut changes, limit)?;
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(changes)
}

/// The trees below and including `to` that `from` does not have at the same place, each with its path.
pub fn new_trees(objects: &impl Objects, from: Option<Oid>, to: Oid) -> Result<Vec<(Vec<u8>, Oid)>, GitError> {
    let mut found = Vec::new();
    let mut open = vec![(Vec::new(), from, to)];
    while let Some((path, from, to)) = open.pop() {
        if from == Some(to) {
            continue;
        }
        let old = from.map(|id| objects.tree(id)).transpose()?.unwrap_or_default();
        for entry in objects.tree(to)?.into_iter().filter(Entry::is_tree) {
            let before = old.iter().find(|e| e.is_tree() && e.name == entry.name).map(|e| e.id);
            let below = if path.is_empty() { entry.name } else { [&path, &entry.name[..]].join(&b'/') };
            open.push((below, before, entry.id));
        }
        found.push((path, to));
    }
    Ok(found)
}

fn compare(
    objects: &impl Objects,
    from: Option<Oid>,
    to: Option<Oid>,
    path: &mut Vec<u8>,
    changes: &mut Vec<Change>,
    limit: usize,
) -> Result<(), Stopped> {
    if from == to {
        return Ok(());
    }
    let read = |id: Option<Oid>| -> Result<Vec<Entry>, GitError> {
        let mut entries = id.map(|id| objects.tree(id)).transpose()?.unwrap_or_default();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    };
    let (old, new) = (read(from)?, read(to)?);
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return Ok(()),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.name.cmp(&b.name),
        };
        let before = if order.is_le() { old.next() } else { None };
        let after = if order.is_ge() { new.next() } else { None };
        let Some(name) = before.or(after).map(|entry| &entry.name) else { return Ok(()) };
        if before.map(|e| (e.mode, e.id)) == after.map(|e| (e.mode, e.id)) {
            continue;
        }
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let tree = |entry: Option<&Entry>| entry.filter(|e| e.is_tree()).map(|e| e.id);
        compare(objects, tree(before), tree(after), path, changes, limit)?;
        let (before, after) = (before.filter(|e| !e.is_tree()), after.filter(|e| !e.is_tree()));
        let kind = match (before, after) {
            (None, None) => None,
            (None, Some(_)) => Some(ChangeKind::Added),
            (Some(_), None) => Some(ChangeKind::Deleted),
            (Some(a), Some(b)) if a.mode & 0o170_000 != b.mode & 0o170_000 => Some(ChangeKind::Type),
            (Some(a), Some(b)) if a.id == b.id => Some(ChangeKind::Mode),
            (Some(_), Some(_)) => Some(ChangeKind::Modified),
        };
        if let Some(kind) = kind {
            if changes.len() >= limit {
                return Err(Stopped::TooMany);
            }
            changes.push(Change { path: path.clone(), kind, now: after.map(|e| (e.mode, e.id)) });
        }
        path.truncate(length);
    }
}

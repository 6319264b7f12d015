//! What a run on a throw-away overlay would have changed: a list, and a patch that `git apply` takes.

use std::io::{IsTerminal, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use super::printer;
use crate::base::text::bytes_line;
use crate::sandbox::Finished;
use crate::sandbox::changes::{self, Change, EntryKind, Kind};
use crate::sandbox::policy::{Policy, WorkspaceSource};
use crate::workspace::git::{Blob, BlobKind, Pair, patch_between};

/// A file larger than this is listed and not in the patch.
const LARGEST: usize = 256 * 1024;

pub(super) fn print(policy: &Policy, finished: &Finished) {
    let (Some(upper), WorkspaceSource::Overlay { lower, .. }) = (&finished.upper, &policy.workspace.source) else { return };
    let Some(lower) = lower.first() else { return };
    let read = || {
        let lower = OwnedFd::from(fs_err::File::open(lower)?.into_file());
        changes::changes(upper, &lower).map(|found| (lower, found))
    };
    let (lower, (list, more)) = match read() {
        Ok(found) => found,
        Err(error) => return printer::err(&format!("cofferdam: what changed cannot be read: {error}")),
    };
    if list.is_empty() {
        return printer::err("cofferdam: nothing would have changed");
    }
    list.iter().for_each(|change| printer::out(&format!("{} {}", mark(change.kind), shown(&change.path))));
    if more {
        printer::err(&format!("cofferdam: more than {} changes; the rest is not shown", changes::MOST));
    }
    let mut pairs = Vec::new();
    for change in list.iter().filter(|change| patchable(change)) {
        match pair(upper, &lower, change) {
            Some(pair) => pairs.push(pair),
            None => printer::err(&format!("cofferdam: {} is larger than {} KiB: not in the patch", shown(&change.path), LARGEST / 1024)),
        }
    }
    match patch_between(&pairs) {
        Ok(patch) => write(&patch),
        Err(error) => printer::err(&format!("cofferdam: {error}; the list above is whole")),
    }
}

fn mark(kind: Kind) -> char {
    match kind {
        Kind::Added => 'A',
        Kind::Modified => 'M',
        Kind::Deleted => 'D',
        Kind::Special => '!',
    }
}

fn shown(path: &Path) -> String {
    bytes_line(path.as_os_str().as_encoded_bytes())
}

/// A patch holds files and links, and nothing of a git directory.
fn patchable(change: &Change) -> bool {
    let of_git = |part: Component<'_>| part.as_os_str().eq_ignore_ascii_case(".git");
    change.kind != Kind::Special && !change.path.components().any(of_git)
}

/// `None` when one of the two is too large.
fn pair(upper: &OwnedFd, lower: &OwnedFd, change: &Change) -> Option<Pair> {
    let read = |root| match changes::entry(root, &change.path, LARGEST + 1) {
        Some(entry) if entry.content.len() > LARGEST => None,
        Some(changes::Entry { kind, content }) => Some(Some(Blob { kind: kind_of(kind), content })),
        None => Some(None),
    };
    let before = if change.kind == Kind::Added { None } else { read(lower)? };
    let after = if change.kind == Kind::Deleted { None } else { read(upper)? };
    Some(Pair { path: change.path.as_os_str().as_encoded_bytes().to_vec(), before, after })
}

fn kind_of(kind: EntryKind) -> BlobKind {
    match kind {
        EntryKind::File => BlobKind::File,
        EntryKind::Executable => BlobKind::Executable,
        EntryKind::Link => BlobKind::Link,
    }
}

fn write(patch: &[u8]) {
    if std::io::stdout().is_terminal() {
        // A stranger's lines: the terminal must show them, not obey them.
        patch.strip_suffix(b"\n").unwrap_or(patch).split(|b| *b == b'\n').for_each(|line| printer::out(&bytes_line(line)));
    } else if let Err(error) = std::io::stdout().lock().write_all(patch) {
        printer::err(&format!("cofferdam: the patch could not be written: {error}"));
    }
}

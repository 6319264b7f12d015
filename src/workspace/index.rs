//! A git index as bytes: a small layer's index is the one below with the entries that differ put in and taken out. What did not change is
//! neither parsed into values nor written anew one by one. Pure.
//!
//! It stays a plain index with a true sum at its end: libgit2 refuses a split one, older ones refuse one without a sum, and build tools in the
//! sandbox read it with whatever they were built with (docs/decisions/0015).

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;

use sha1::{Digest, Sha1};

use super::git::{IndexFile, mode};
use super::untracked::{self, Stamp, Surroundings};

pub const NAME_BYTES: usize = 20;
/// An object's name as an index holds it.
pub type Name = [u8; NAME_BYTES];

/// Header, and each entry's fields before its path.
const HEADER: usize = 12;
const FIELDS: usize = 62;
/// How many entries stand in a block that git may read in a thread of its own.
const BLOCK: u32 = 8192;
const IGNORE_LIST: &[u8] = b".gitignore";

/// A folder that an index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Relative to the root; empty for the root itself.
    pub path: Vec<u8>,
    /// How many entries lie below it.
    pub files: u32,
    pub tree: Name,
    /// The name of its ignore list's content, when it has one.
    pub ignore: Option<Name>,
    pub stamp: Stamp,
}

/// The entries of a new index: mostly ranges of the one below.
#[derive(Debug)]
pub struct Spliced<'a> {
    pieces: Vec<Cow<'a, [u8]>>,
    count: u32,
    /// Where blocks of entries begin, and how many each holds.
    blocks: Vec<(usize, u32)>,
    length: usize,
    /// The folders that have an ignore list.
    ignores: HashMap<Vec<u8>, Name>,
    /// Paths that came and went.
    grown: Vec<(&'a [u8], i32)>,
    /// What the index below says of its folders' trees and of what is not tracked in them.
    trees: Option<&'a [u8]>,
    untracked: Option<&'a [u8]>,
}

/// Puts files into an index, or takes them out: `edits` are sorted by path. `None` when the index is of a form that is not written here, or
/// lacks what is to be taken out.
pub fn splice<'a>(below: &'a [u8], edits: &'a [(Vec<u8>, Option<IndexFile>)]) -> Option<Spliced<'a>> {
    let known = below.starts_with(b"DIRC") && matches!(number(below, 4)?, 2 | 3);
    let mut left = known.then_some(number(below, 8)?)?;
    let mut out = Spliced {
        pieces: Vec::new(),
        count: 0,
        blocks: Vec::new(),
        length: HEADER,
        ignores: HashMap::new(),
        grown: Vec::new(),
        trees: None,
        untracked: None,
    };
    let mut edits = edits.iter().peekable();
    let (mut at, mut kept) = (HEADER, HEADER);
    while left > 0 || edits.peek().is_some() {
        let entry = if left > 0 { Some(entry(below, at)?) } else { None };
        let order = match (edits.peek(), &entry) {
            (Some((path, _)), Some(entry)) => path.as_slice().cmp(entry.path),
            (Some(_), None) => Ordering::Less,
            (None, _) => Ordering::Greater,
        };
        if order == Ordering::Greater {
            let entry = entry?;
            out.note(out.length + (at - kept), entry.path, entry.mode, entry.id);
            at = entry.end;
            left -= 1;
            continue;
        }
        out.keep(below.get(kept..at)?);
        if let (Ordering::Equal, Some(entry)) = (order, &entry) {
            at = entry.end;
            left -= 1;
        }
        kept = at;
        let (path, file) = edits.next()?;
        match (file, order) {
            (Some(file), _) => {
                out.note(out.length, path, file.canonical_mode(), name_of(file)?);
                let bytes = raw(file)?;
                out.length += bytes.len();
                out.pieces.push(Cow::Owned(bytes));
                out.grown.extend((order == Ordering::Less).then_some((path.as_slice(), 1)));
            }
            (None, Ordering::Equal) => out.grown.push((path, -1)),
            (None, _) => return None,
        }
    }
    out.keep(below.get(kept..at)?);
    let end = below.len().checked_sub(NAME_BYTES)?;
    while at < end {
        let content = below.get(at + 8..at + 8 + number(below, at + 4)? as usize)?;
        match below.get(at..at + 4)? {
            b"TREE" => out.trees = Some(content),
            b"UNTR" => out.untracked = Some(content),
            // A lower-case one changes what the entries mean.
            other if other[0].is_ascii_lowercase() => return None,
            _ => {}
        }
        at += 8 + content.len();
    }
    (at == end).then_some(out)
}

impl<'a> Spliced<'a> {
    fn keep(&mut self, bytes: &'a [u8]) {
        if !bytes.is_empty() {
            self.length += bytes.len();
            self.pieces.push(Cow::Borrowed(bytes));
        }
    }

    /// One more entry, which begins there.
    fn note(&mut self, at: usize, path: &[u8], mode: u32, id: Name) {
        if self.count.is_multiple_of(BLOCK) {
            self.blocks.push((at, 0));
        }
        self.count += 1;
        if let Some((_, count)) = self.blocks.last_mut() {
            *count += 1;
        }
        if let Some(folder) = path.strip_suffix(IGNORE_LIST).filter(|_| matches!(mode, mode::FILE | mode::EXECUTABLE)) {
            match folder.split_last() {
                None => drop(self.ignores.insert(Vec::new(), id)),
                Some((b'/', folder)) => drop(self.ignores.insert(folder.to_vec(), id)),
                Some(_) => {}
            }
        }
    }

    /// Every folder with what is known of it, the root first and each before those in it. `trees` names the trees of those that changed; a
    /// folder that is not among them is what it was. `None` when the index below does not know all its folders.
    pub fn folders(&self, trees: &HashMap<Vec<u8>, Name>) -> Option<Vec<Folder>> {
        let mut folders = Vec::new();
        let mut rest = self.trees?;
        read_tree(&mut rest, b"", &mut folders)?;
        folders.sort_unstable_by(|a, b| order(&a.path, &b.path));
        if let Some(content) = self.untracked {
            for (path, stamp) in untracked::stamps(content)? {
                let at = folders.binary_search_by(|folder| order(&folder.path, &path)).ok()?;
                folders[at].stamp = stamp;
            }
        }
        let mut grown: HashMap<&[u8], i32> = HashMap::new();
        for (path, by) in &self.grown {
            for folder in above(path) {
                *grown.entry(folder).or_default() += by;
            }
        }
        let known = folders.len();
        for (path, by) in grown {
            match folders[..known].binary_search_by(|folder| order(&folder.path, path)) {
                Ok(at) => folders[at].files = folders[at].files.checked_add_signed(by)?,
                Err(_) => folders.push(Folder {
                    path: path.to_vec(),
                    files: u32::try_from(by).ok()?,
                    tree: *trees.get(path)?,
                    ignore: None,
                    stamp: Stamp::default(),
                }),
            }
        }
        folders.retain(|folder| folder.files > 0 || folder.path.is_empty());
        folders.sort_unstable_by(|a, b| order(&a.path, &b.path));
        for folder in &mut folders {
            if let Some(tree) = trees.get(&folder.path) {
                folder.tree = *tree;
            }
            folder.ignore = self.ignores.get(&folder.path).copied();
        }
        (folders.first()?.files == self.count).then_some(folders)
    }

    /// The whole file, piece by piece.
    pub fn finish(mut self, folders: &[Folder], around: &Surroundings) -> Option<Vec<Cow<'a, [u8]>>> {
        let mut sums = Sha1::new();
        let mut tail = Vec::new();
        let mut extension = |name: &[u8; 4], content: &[u8]| {
            let size = u32::try_from(content.len()).ok()?.to_be_bytes();
            sums.update(name);
            sums.update(size);
            tail.extend_from_slice(name);
            tail.extend_from_slice(&size);
            tail.extend_from_slice(content);
            Some(())
        };
        // Where git can begin to read in several threads at once.
        let mut blocks = 1_u32.to_be_bytes().to_vec();
        for (at, count) in &self.blocks {
            blocks.extend_from_slice(&u32::try_from(*at).ok()?.to_be_bytes());
            blocks.extend_from_slice(&count.to_be_bytes());
        }
        extension(b"IEOT", &blocks)?;
        extension(b"TREE", &write_trees(folders))?;
        extension(b"UNTR", &untracked::extension(folders, around))?;
        extension(b"FSMN", &untracked::unchanged_since(&around.token))?;
        // The end of the entries, and a sum of which extensions follow: always the last one, and not part of that sum.
        tail.extend_from_slice(b"EOIE");
        tail.extend_from_slice(&24_u32.to_be_bytes());
        tail.extend_from_slice(&u32::try_from(self.length).ok()?.to_be_bytes());
        tail.extend_from_slice(&sums.finalize());

        let mut header = b"DIRC\0\0\0\x02".to_vec();
        header.extend_from_slice(&self.count.to_be_bytes());
        self.pieces.insert(0, Cow::Owned(header));
        self.pieces.push(Cow::Owned(tail));
        let mut sum = Sha1::new();
        for piece in &self.pieces {
            sum.update(piece);
        }
        self.pieces.push(Cow::Owned(sum.finalize().to_vec()));
        Some(self.pieces)
    }
}

/// The paths of an index of version 2 or 3, in their order. `None` for one of another form, or with parts of it elsewhere.
pub fn paths(index: &[u8]) -> Option<Vec<&[u8]>> {
    let known = index.starts_with(b"DIRC") && matches!(number(index, 4)?, 2 | 3);
    let count = known.then_some(number(index, 8)?)?;
    let mut paths = Vec::with_capacity((count as usize).min(index.len() / FIELDS));
    let mut at = HEADER;
    for _ in 0..count {
        let flags = u16::from_be_bytes(index.get(at + 60..at + 62)?.try_into().ok()?);
        let fields = if flags & 0x4000 == 0 { FIELDS } else { FIELDS + 2 };
        let path = path_of(index.get(at + fields..)?, flags)?;
        paths.push(path);
        at += (fields + path.len() + 8) & !7;
    }
    let end = index.len().checked_sub(NAME_BYTES)?;
    while at < end {
        let name = index.get(at..at + 4)?;
        // A lower-case one changes what the entries mean.
        if name[0].is_ascii_lowercase() {
            return None;
        }
        at += 8 + number(index, at + 4)? as usize;
    }
    (at == end).then_some(paths)
}

/// The path that begins there.
fn path_of(rest: &[u8], flags: u16) -> Option<&[u8]> {
    let length = match usize::from(flags & 0xfff) {
        0xfff => rest.iter().position(|byte| *byte == 0)?,
        length => length,
    };
    rest.get(..length)
}

struct Entry<'a> {
    mode: u32,
    path: &'a [u8],
    id: Name,
    end: usize,
}

/// The entry of an index of version 2 that begins there.
fn entry(index: &[u8], at: usize) -> Option<Entry<'_>> {
    let fields = index.get(at..at + FIELDS)?;
    let flags = u16::from_be_bytes([fields[60], fields[61]]);
    // More flags follow in version 3: nothing that we write.
    if flags & 0x4000 != 0 {
        return None;
    }
    let path = path_of(&index[at + FIELDS..], flags)?;
    // One to eight zeros end an entry at a multiple of eight.
    let mode = number(fields, 24)?;
    Some(Entry { mode, path, id: fields[40..60].try_into().ok()?, end: at + ((FIELDS + path.len() + 8) & !7) })
}

fn name_of(file: &IndexFile) -> Option<Name> {
    file.id.as_bytes().try_into().ok()
}

/// A file as an entry: its time and size are what git compares here.
fn raw(file: &IndexFile) -> Option<Vec<u8>> {
    #[expect(clippy::cast_possible_truncation, reason = "git keeps the lower half of a size, and compares that")]
    let size = file.size as u32;
    let seconds = u32::try_from(file.seconds).unwrap_or(u32::MAX);
    let length = file.path.len();
    let mut out = Vec::with_capacity(FIELDS + length + 8);
    for value in [seconds, 0, seconds, 0, 0, 0, file.canonical_mode(), 0, 0, size] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    out.extend_from_slice(&name_of(file)?);
    out.extend_from_slice(&u16::try_from(length.min(0xfff)).ok()?.to_be_bytes());
    out.extend_from_slice(&file.path);
    out.resize((FIELDS + length + 8) & !7, 0);
    Some(out)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The folders that a path lies in, the root included.
fn above(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    std::iter::once(0).chain(ends).map(|end| &path[..end])
}

/// A folder before those in it, and folders side by side by their names alone.
fn order(a: &[u8], b: &[u8]) -> Ordering {
    let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    a.iter().map(key).cmp(b.iter().map(key))
}

/// For each folder how many folders lie in it. They stand in [`order`].
pub fn children(folders: &[Folder]) -> Vec<usize> {
    let mut counts = vec![0; folders.len()];
    let mut open: Vec<usize> = Vec::new();
    for (at, folder) in folders.iter().enumerate() {
        while open.last().is_some_and(|above| !is_below(&folder.path, &folders[*above].path)) {
            open.pop();
        }
        if let Some(above) = open.last() {
            counts[*above] += 1;
        }
        open.push(at);
    }
    counts
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// The last part of a folder's path.
pub fn last_name(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |slash| &path[slash + 1..])
}

/// One folder of git's extension `TREE`, and those in it. `None` when a tree is not known.
fn read_tree(rest: &mut &[u8], path: &[u8], out: &mut Vec<Folder>) -> Option<()> {
    let name = take_until(rest, 0)?;
    let mut own = path.to_vec();
    if !own.is_empty() && !name.is_empty() {
        own.push(b'/');
    }
    own.extend_from_slice(name);
    let files = decimal(take_until(rest, b' ')?)?;
    let children = decimal(take_until(rest, b'\n')?)?;
    let tree = rest.split_off(..NAME_BYTES)?.try_into().ok()?;
    out.push(Folder { path: own.clone(), files, tree, ignore: None, stamp: Stamp::default() });
    (0..children).try_for_each(|_| read_tree(rest, &own, out))
}

fn take_until<'a>(rest: &mut &'a [u8], end: u8) -> Option<&'a [u8]> {
    let length = rest.iter().position(|byte| *byte == end)?;
    let taken = rest.split_off(..=length)?;
    Some(&taken[..length])
}

fn decimal(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn write_trees(folders: &[Folder]) -> Vec<u8> {
    let mut out = Vec::with_capacity(folders.len() * 48);
    for (folder, children) in folders.iter().zip(children(folders)) {
        out.extend_from_slice(last_name(&folder.path));
        out.extend_from_slice(format!("\0{} {children}\n", folder.files).as_bytes());
        out.extend_from_slice(&folder.tree);
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::workspace::git::Oid;

    fn file(path: &str, mode: u32) -> (Vec<u8>, Option<IndexFile>) {
        (path.into(), Some(IndexFile { path: path.into(), mode, id: Oid::ZERO_SHA1, size: 1, seconds: 1 }))
    }

    const EMPTY: &[u8] = b"DIRC\0\0\0\x02\0\0\0\0TREE\0\0\0\x19\x000 0\ntttttttttttttttttttt\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

    fn around() -> Surroundings {
        Surroundings { worktree: "/w".to_owned(), system: "Linux".to_owned(), exclude: Name::default(), token: "t".to_owned() }
    }

    fn trees(paths: &[&str]) -> HashMap<Vec<u8>, Name> {
        paths.iter().map(|path| (path.as_bytes().to_vec(), [1; 20])).collect()
    }

    #[test]
    fn files_come_and_go_and_folders_with_them() {
        let edits = [
            file(".gitignore", mode::FILE),
            file("a-b/x", mode::FILE),
            file("a.b", mode::LINK),
            file("a/.gitignore", mode::LINK),
            file("a/b/c", mode::FILE),
        ];
        let spliced = splice(EMPTY, &edits).expect("an index");
        let folders = spliced.folders(&trees(&["", "a", "a/b", "a-b"])).expect("folders");
        let seen: Vec<_> = folders.iter().map(|f| (String::from_utf8_lossy(&f.path).into_owned(), f.files, f.ignore.is_some())).collect();
        // A link is no ignore list.
        assert_eq!(
            seen,
            [(String::new(), 5, true), ("a".to_owned(), 2, false), ("a/b".to_owned(), 1, false), ("a-b".to_owned(), 1, false)]
        );
        let first = spliced.finish(&folders, &around()).expect("written").concat();

        let edits = [(b"a-b/x".to_vec(), None), file("a.b", mode::FILE), (b"a/b/c".to_vec(), None), file("b", mode::FILE)];
        let spliced = splice(&first, &edits).expect("an index");
        let folders = spliced.folders(&trees(&["", "a"])).expect("folders");
        let seen: Vec<_> = folders.iter().map(|f| (String::from_utf8_lossy(&f.path).into_owned(), f.files)).collect();
        assert_eq!(seen, [(String::new(), 4), ("a".to_owned(), 1)]);
        // A new folder whose tree nobody names, and a file to take out that is not there.
        assert!(splice(&first, &[file("new/x", mode::FILE)]).expect("an index").folders(&trees(&[""])).is_none());
        assert!(splice(&first, &[(b"nowhere".to_vec(), None)]).is_none());
    }

    proptest! {
        #[test]
        fn what_is_no_index_is_none(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0_usize..200, known in any::<bool>()) {
            if known {
                bytes = [EMPTY, &bytes].concat();
                bytes.remove(at % EMPTY.len());
            }
            let edits = [file("x", mode::FILE)];
            if let Some(spliced) = splice(&bytes, &edits)
                && let Some(folders) = spliced.folders(&HashMap::new())
            {
                spliced.finish(&folders, &around());
            }
        }
    }
}

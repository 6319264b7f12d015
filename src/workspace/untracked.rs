//! What git remembers of folders: which of them hold nothing but tracked files. Written into an index ahead, so that the first `git status`
//! of a workspace looks at each folder once instead of listing it. Pure.
//!
//! The form is that of git's index extension `UNTR`. Git checks each folder's time and size, and every list of ignored names by its content,
//! before it believes any of this: what is out of date costs time and nothing else.

use super::git::mode;

/// Ignore list and folder flags as `git status` uses them: other folders as a whole, empty ones not at all.
const IGNORE_LIST: &[u8] = b".gitignore";
const FOLDER_FLAGS: u32 = 0b110;
const NAME_BYTES: usize = 20;

/// What `stat` says of a folder, as far as git compares it with `core.checkStat = minimal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    pub seconds: i64,
    pub size: u64,
}

/// A folder that the index names, with the name of its ignore list's content when it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    /// Relative to the root; empty for the root itself.
    pub path: Vec<u8>,
    ignore: Option<[u8; NAME_BYTES]>,
    children: Vec<usize>,
}

/// Every folder of an index file, the root first. `None` when the index is of a form that we do not write.
pub fn folders(index: &[u8]) -> Option<Vec<Folder>> {
    let root = Folder { path: Vec::new(), ignore: None, children: Vec::new() };
    let mut folders = vec![root];
    // The folders that the last path went through; those of one folder stand together.
    let mut open: Vec<usize> = vec![0];
    for entry in Entries::of(index)? {
        let (mode, id, path) = entry?;
        while open.len() > 1 && !is_below(path, &folders[*open.last()?].path) {
            open.pop();
        }
        let mut at = *open.last()?;
        let mut start = folders[at].path.len() + usize::from(at > 0);
        while let Some(length) = path.get(start..)?.iter().position(|byte| *byte == b'/') {
            let new = folders.len();
            folders[at].children.push(new);
            folders.push(Folder { path: path[..start + length].to_vec(), ignore: None, children: Vec::new() });
            open.push(new);
            at = new;
            start += length + 1;
        }
        if &path[start..] == IGNORE_LIST && matches!(mode, mode::FILE | mode::EXECUTABLE) {
            folders[at].ignore = Some(id);
        }
    }
    Some(folders)
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// The entries of an index file of version 2 or 3.
struct Entries<'a> {
    index: &'a [u8],
    at: usize,
    left: u32,
}

impl<'a> Entries<'a> {
    fn of(index: &'a [u8]) -> Option<Self> {
        let known = index.starts_with(b"DIRC") && matches!(number(index, 4)?, 2 | 3);
        known.then_some(Self { index, at: 12, left: number(index, 8)? })
    }

    fn entry(&mut self) -> Option<(u32, [u8; NAME_BYTES], &'a [u8])> {
        let mode = number(self.index, self.at + 24)?;
        let id = self.index.get(self.at + 40..self.at + 60)?.try_into().ok()?;
        let extended = self.index.get(self.at + 60)? & 0x40 != 0;
        let start = self.at + if extended { 64 } else { 62 };
        let rest = self.index.get(start..)?;
        let length = rest.iter().position(|byte| *byte == 0)?;
        // One to eight zeros end an entry at a multiple of eight.
        self.at += (start - self.at + length + 8) & !7;
        Some((mode, id, &rest[..length]))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Option<(u32, [u8; NAME_BYTES], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.entry())
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The extension's content. `worktree` is where git will find the files, `exclude` names the content of `info/exclude` as git names it there,
/// and `stamps` belong to the folders, in their order.
pub fn extension(folders: &[Folder], stamps: &[Stamp], worktree: &str, system: &str, exclude: [u8; NAME_BYTES]) -> Vec<u8> {
    let mut out = Vec::new();
    let place = format!("Location {worktree}, system {system}\0");
    length(place.len(), &mut out);
    out.extend_from_slice(place.as_bytes());
    // What `info/exclude` and the user's own list looked like: never equal, so that their content decides. There is no user's list.
    stamp(Stamp::default(), &mut out);
    stamp(Stamp::default(), &mut out);
    out.extend_from_slice(&FOLDER_FLAGS.to_be_bytes());
    out.extend_from_slice(&exclude);
    out.extend_from_slice(&[0; NAME_BYTES]);
    out.extend_from_slice(IGNORE_LIST);
    out.push(0);
    length(folders.len(), &mut out);
    let mut order = Vec::with_capacity(folders.len());
    let mut open = vec![0];
    while let Some(at) = open.pop() {
        let folder = &folders[at];
        order.push(at);
        // Nothing untracked is in it.
        length(0, &mut out);
        length(folder.children.len(), &mut out);
        let name = folder.path.iter().rposition(|byte| *byte == b'/').map_or(&folder.path[..], |slash| &folder.path[slash + 1..]);
        out.extend_from_slice(name);
        out.push(0);
        // An index sorts `a-b/` before `a/`; here the names alone count.
        let mut children = folder.children.clone();
        children.sort_by(|one, other| folders[*other].path.cmp(&folders[*one].path));
        open.extend(children);
    }
    bits(order.iter().map(|_| true), &mut out);
    bits(order.iter().map(|_| false), &mut out);
    bits(order.iter().map(|at| folders[*at].ignore.is_some()), &mut out);
    for at in &order {
        stamp(stamps.get(*at).copied().unwrap_or_default(), &mut out);
    }
    for id in order.iter().filter_map(|at| folders[*at].ignore) {
        out.extend_from_slice(&id);
    }
    out.push(0);
    out
}

/// Puts an extension at the end of an index. `digest` is SHA-1.
pub fn append(index: &[u8], content: &[u8], digest: impl Fn(&[u8]) -> [u8; NAME_BYTES]) -> Option<Vec<u8>> {
    let body = index.get(..index.len().checked_sub(NAME_BYTES)?)?;
    let mut out = Vec::with_capacity(index.len() + content.len() + 8);
    out.extend_from_slice(body);
    out.extend_from_slice(b"UNTR");
    out.extend_from_slice(&u32::try_from(content.len()).ok()?.to_be_bytes());
    out.extend_from_slice(content);
    let sum = digest(&out);
    out.extend_from_slice(&sum);
    Some(out)
}

/// Times, device, inode, owner, group, size; git compares only those two here.
fn stamp(stamp: Stamp, out: &mut Vec<u8>) {
    // Git keeps the lower half of each.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "as git does")]
    let (seconds, size) = (stamp.seconds as u32, stamp.size as u32);
    for value in [0, 0, seconds, 0, 0, 0, 0, 0, size] {
        out.extend_from_slice(&u32::to_be_bytes(value));
    }
}

/// A number in git's own form: seven bits a byte, the highest first, each but the last one less.
fn length(value: usize, out: &mut Vec<u8>) {
    let mut left = value;
    let mut bytes = vec![(left & 127) as u8];
    left >>= 7;
    while left > 0 {
        left -= 1;
        bytes.push(128 | (left & 127) as u8);
        left >>= 7;
    }
    out.extend(bytes.iter().rev());
}

/// A bitmap in git's compressed form, with nothing compressed: one marker, then the words as they are.
fn bits(values: impl Iterator<Item = bool>, out: &mut Vec<u8>) {
    let mut words: Vec<u64> = Vec::new();
    let mut last = 0;
    for (at, _) in values.enumerate().filter(|(_, set)| *set) {
        words.resize(at / 64 + 1, 0);
        words[at / 64] |= 1 << (at % 64);
        last = at + 1;
    }
    out.extend_from_slice(&(last as u32).to_be_bytes());
    out.extend_from_slice(&(words.len() as u32 + 1).to_be_bytes());
    let marker = (words.len() as u64) << 33;
    for word in std::iter::once(marker).chain(words) {
        out.extend_from_slice(&word.to_be_bytes());
    }
    // Where the last marker stands.
    out.extend_from_slice(&0_u32.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_gits_own_form() {
        let of = |value| {
            let mut out = Vec::new();
            length(value, &mut out);
            out
        };
        assert_eq!([of(0), of(127)], [vec![0], vec![127]]);
        assert_eq!([of(128), of(16_511)], [vec![0x80, 0], vec![0xff, 0x7f]]);
        assert_eq!(of(16_512), vec![0x80, 0x80, 0]);
    }

    #[test]
    fn what_is_no_index_has_no_folders() {
        for bytes in [&b""[..], b"DIRC", b"DIRC\0\0\0\x04\0\0\0\0", b"DIRC\0\0\0\x02\0\0\0\x01short"] {
            assert_eq!(folders(bytes), None, "{bytes:?}");
        }
        assert_eq!(folders(b"DIRC\0\0\0\x02\0\0\0\0").map(|found| found.len()), Some(1));
        assert_eq!(append(b"short", b"", |_| [0; 20]), None);
    }
}

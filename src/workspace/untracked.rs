//! What git remembers of folders: which of them hold nothing but tracked files. Written into an index ahead, so that the first `git status`
//! of a workspace looks at each folder once instead of listing it. Pure.
//!
//! The form is that of git's index extension `UNTR`. Git checks each folder's time and size, and every list of ignored names by its content,
//! before it believes any of this: what is out of date costs time and nothing else.

use super::index::{Folder, Name, children, last_name};

/// Ignore list and folder flags as `git status` uses them: other folders as a whole, empty ones not at all.
const IGNORE_LIST: &[u8] = b".gitignore";
const FOLDER_FLAGS: u32 = 0b110;
const STAMP_BYTES: usize = 36;

/// What `stat` says of a folder, as far as git compares it with `core.checkStat = minimal`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    pub seconds: i64,
    pub size: u64,
}

/// What has to be the same where git looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// Where git will find the files.
    pub worktree: String,
    pub system: String,
    /// The name of the content of `info/exclude`, as git names it there.
    pub exclude: Name,
    /// What every entry is unchanged since, as whoever tells git of changes will say ([`super::fsmonitor`]).
    pub token: String,
}

/// The extension's content: nothing untracked is in any folder.
pub fn extension(folders: &[Folder], around: &Surroundings) -> Vec<u8> {
    let mut out = Vec::with_capacity(folders.len() * 64);
    let place = format!("Location {}, system {}\0", around.worktree, around.system);
    length(place.len(), &mut out);
    out.extend_from_slice(place.as_bytes());
    // What `info/exclude` and the user's own list looked like: never equal, so that their content decides. There is no user's list.
    stamp(Stamp::default(), &mut out);
    stamp(Stamp::default(), &mut out);
    out.extend_from_slice(&FOLDER_FLAGS.to_be_bytes());
    out.extend_from_slice(&around.exclude);
    out.extend_from_slice(&Name::default());
    out.extend_from_slice(IGNORE_LIST);
    out.push(0);
    length(folders.len(), &mut out);
    for (folder, children) in folders.iter().zip(children(folders)) {
        length(0, &mut out);
        length(children, &mut out);
        out.extend_from_slice(last_name(&folder.path));
        out.push(0);
    }
    bits(folders.iter().map(|_| true), &mut out);
    bits(folders.iter().map(|_| false), &mut out);
    bits(folders.iter().map(|folder| folder.ignore.is_some()), &mut out);
    for folder in folders {
        stamp(folder.stamp, &mut out);
    }
    for id in folders.iter().filter_map(|folder| folder.ignore) {
        out.extend_from_slice(&id);
    }
    out.push(0);
    out
}

/// The content of the extension `FSMN`: every entry is as it was at the token.
pub fn unchanged_since(token: &str) -> Vec<u8> {
    let mut none = Vec::new();
    bits(std::iter::empty(), &mut none);
    let mut out = 2_u32.to_be_bytes().to_vec();
    out.extend_from_slice(token.as_bytes());
    out.push(0);
    out.extend_from_slice(&(none.len() as u32).to_be_bytes());
    out.extend_from_slice(&none);
    out
}

/// The folders of an extension that [`extension`] wrote, with their stamps. `None` when it is none.
pub fn stamps(content: &[u8]) -> Option<Vec<(Vec<u8>, Stamp)>> {
    let mut rest = content;
    let place = read_length(&mut rest)?;
    rest.split_off(..place + 2 * STAMP_BYTES + 4 + 2 * size_of::<Name>())?;
    let list = rest.iter().position(|byte| *byte == 0)?;
    rest.split_off(..=list)?;
    let count = read_length(&mut rest)?;
    let mut folders: Vec<(Vec<u8>, Stamp)> = Vec::new();
    // Folders that have others in them, and how many of those are still to come.
    let mut open: Vec<(usize, usize)> = Vec::new();
    for at in 0..count {
        if read_length(&mut rest)? != 0 {
            return None;
        }
        let children = read_length(&mut rest)?;
        let name = rest.iter().position(|byte| *byte == 0)?;
        let name = &rest.split_off(..=name)?[..name];
        while open.last().is_some_and(|(_, left)| *left == 0) {
            open.pop();
        }
        let mut path = Vec::new();
        if let Some((above, left)) = open.last_mut() {
            *left -= 1;
            path.extend_from_slice(&folders[*above].0);
            if !path.is_empty() {
                path.push(b'/');
            }
        }
        path.extend_from_slice(name);
        folders.push((path, Stamp::default()));
        open.push((at, children));
    }
    for _ in 0..3 {
        let head = rest.split_off(..8)?;
        let words = u32::from_be_bytes(head[4..].try_into().ok()?) as usize;
        rest.split_off(..words.checked_mul(8)?.checked_add(4)?)?;
    }
    for (_, stamp) in &mut folders {
        let fields = rest.split_off(..STAMP_BYTES)?;
        let field = |at: usize| Some(u32::from_be_bytes(fields.get(at * 4..at * 4 + 4)?.try_into().ok()?));
        *stamp = Stamp { seconds: field(2)?.into(), size: field(8)?.into() };
    }
    Some(folders)
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

fn read_length(rest: &mut &[u8]) -> Option<usize> {
    let mut byte = *rest.split_off_first()?;
    let mut value = usize::from(byte & 127);
    while byte & 128 != 0 {
        byte = *rest.split_off_first()?;
        value = value.checked_add(1)?.checked_mul(128)? | usize::from(byte & 127);
    }
    Some(value)
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
    fn what_is_written_is_read_again() {
        let folder = |path: &str, seconds| Folder {
            path: path.into(),
            files: 1,
            tree: Name::default(),
            ignore: (seconds % 2 == 0).then_some([7; 20]),
            stamp: Stamp { seconds, size: 4096 },
        };
        let folders: Vec<_> = ["", "a", "a/b", "a/c", "a/c/d", "a-b", "z"].iter().zip(1..).map(|(path, at)| folder(path, at)).collect();
        let around = Surroundings { worktree: "/w".repeat(100), system: "Linux".to_owned(), exclude: [9; 20], token: String::new() };
        let content = extension(&folders, &around);
        let read = stamps(&content).expect("our own");
        assert_eq!(read, folders.iter().map(|folder| (folder.path.clone(), folder.stamp)).collect::<Vec<_>>());
        // Cut off anywhere before the last names it is not taken, and never a panic.
        for end in 0..content.len() - 1 - 3 * 20 {
            assert_eq!(stamps(&content[..end]), None, "{end}");
        }
    }
}

//! What tells an agent's git which files it need not look at: everything that is not in the story's upper folder is as the base layer has it.
//!
//! ```text
//! git status ─▶ hook (this program, inside) ─▶ walks the upper folder, read-only ─▶ the paths that may differ, and no others
//! ```
//!
//! Git asks with the token its index carries and believes that everything else is unchanged since ([`super::untracked`] says the same of folders
//! that hold tracked files alone). The token names the base commit, so the answer is always "since the base" and never too short: a file
//! that was changed lies in the upper folder for good. Whatever is unclear is answered with "everything", which costs time and nothing else.
//! All of it is the agent's own: what it forges misleads its own git, and the host asks that one nothing.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::git::Oid;
use super::index;
use crate::base::path::of_mount;
use crate::sandbox::policy::{Access, Grant, OwnFile};
use crate::sandbox::sys;

/// Where everything of it lies inside. Git's settings there are included when they are there.
const PLACE: &str = "/run/cofferdam-changes";
/// What the program is called there, and how it knows what it is asked.
const PROGRAM: &str = "git-asks-what-changed";
/// A name that no repository has: that it may have changed makes git list the folder it would be in.
const NOBODY: &[u8] = b".cofferdam-changed";
/// More than this is read faster by git itself.
const MOST: usize = 200_000;
/// Everything may differ.
const ALL: &[u8] = b"/";

/// The setting that makes a private git directory look for ours.
pub(super) const INCLUDE: &str = "[include]\n\tpath = /run/cofferdam-changes/config\n";

/// What an index is marked with whose files are those of a commit.
pub(super) fn token(base: Oid) -> String {
    format!("cofferdam:{base}")
}

/// What a sandbox gets in which a story's upper folder takes the writes. Nothing when this program was replaced since it began: git looks at
/// everything then.
pub(super) fn furnish(upper: &Path, inside: &Path, base: Oid) -> (Vec<Grant>, Vec<OwnFile>) {
    let place = Path::new(PLACE);
    let Some(program) = std::env::current_exe().ok().filter(|program| program.is_file()) else { return Default::default() };
    let grant =
        |host: PathBuf, name: &str, reason: &str| Grant { host, inside: place.join(name), access: Access::Read, reason: reason.to_owned() };
    let grants = vec![
        grant(upper.to_owned(), "upper", "what the story changed, for its own git"),
        grant(program, PROGRAM, "tells the story's own git what changed"),
    ];
    let file = |name: &str, content: Vec<u8>| OwnFile { inside: place.join(name), content };
    let files = vec![
        file("config", format!("[core]\n\tfsmonitor = {PLACE}/{PROGRAM}\n\tfsmonitorHookVersion = 2\n").into_bytes()),
        file("token", token(base).into_bytes()),
        file("workspace", inside.as_os_str().as_bytes().to_vec()),
    ];
    (grants, files)
}

/// Is it this that the program was started as?
pub fn is_asked(program: Option<OsString>) -> bool {
    program.is_some_and(|program| Path::new(&program).file_name().is_some_and(|name| name == PROGRAM))
}

/// Answers git's question: `2 TOKEN`. False for one of another form, after which git looks at everything.
///
/// # Errors
/// When the answer cannot be written.
pub fn answer(mut arguments: impl Iterator<Item = OsString>, mut to: impl io::Write) -> io::Result<bool> {
    let (Some(version), Some(since)) = (arguments.next(), arguments.next()) else { return Ok(false) };
    if version != "2" {
        return Ok(false);
    }
    let place = Path::new(PLACE);
    let now = std::fs::read(place.join("token")).unwrap_or_default();
    let mut answer = now.clone();
    answer.push(0);
    let known = !now.is_empty() && since.as_bytes() == now && is_workspace(place);
    match known.then(|| index().and_then(|index| changed(&place.join("upper"), Path::new("."), &index))) {
        Some(Ok(paths)) => answer.extend(paths),
        _ => answer.extend(ALL),
    }
    to.write_all(&answer)?;
    to.flush()?;
    Ok(true)
}

/// Does git ask for the workspace itself, and not for another worktree or with something mounted over a part of it?
fn is_workspace(place: &Path) -> bool {
    let Ok(path) = std::fs::read(place.join("workspace")) else { return false };
    let path = Path::new(OsStr::from_bytes(&path));
    let id = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let Ok(mounts) = std::fs::read_to_string("/proc/self/mountinfo") else { return false };
    id(path).is_some() && id(path) == id(Path::new(".")) && !is_covered(path, &mounts)
}

/// Is something mounted below a folder?
fn is_covered(folder: &Path, mounts: &str) -> bool {
    let mut points = mounts.lines().filter_map(|line| line.split(' ').nth(4)).map(of_mount);
    points.any(|point| point != folder && point.starts_with(folder))
}

/// The index that git reads.
fn index() -> io::Result<Vec<u8>> {
    std::fs::read(std::env::var_os("GIT_INDEX_FILE").unwrap_or_else(|| ".git/index".into()))
}

/// Every path that may differ from the base, each with its end.
fn changed(upper: &Path, workspace: &Path, index: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = Out::default();
    walk(upper, false, &mut Vec::new(), &mut out)?;
    let paths = index::paths(index).ok_or(io::ErrorKind::InvalidData)?;
    gone(workspace, &paths, &mut out)?;
    Ok(out.answer)
}

#[derive(Default)]
struct Out {
    answer: Vec<u8>,
    count: usize,
    /// The folders of the upper folder through which the base shows.
    merged: Vec<Vec<u8>>,
}

impl Out {
    fn path(&mut self, folder: &[u8], name: &[u8]) -> io::Result<()> {
        self.count += 1;
        if self.count > MOST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.answer.extend_from_slice(folder);
        self.answer.extend_from_slice(name);
        self.answer.push(0);
        Ok(())
    }
}

/// What lies in the upper folder. `path` is the folder's, with a slash at its end, or empty; `hidden` is what nothing shows through.
fn walk(folder: &Path, hidden: bool, path: &mut Vec<u8>, out: &mut Out) -> io::Result<()> {
    // Something untracked may have come here and gone again.
    out.path(path, NOBODY)?;
    if !hidden {
        out.merged.push(path.strip_suffix(b"/").unwrap_or(path).to_vec());
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.as_bytes();
        if path.is_empty() && name == b".git" {
            continue;
        }
        let (is_folder, inner, length) = (entry.file_type()?.is_dir(), entry.path(), path.len());
        // A folder's own name would mean all that is in it, most of which shows through from below as it was. What hides the base there
        // may stand for a file or for a folder that is gone, with whatever was in it.
        let hides = hidden || !is_folder || is_opaque(&inner)?;
        if hides {
            out.path(path, name)?;
        }
        path.extend_from_slice(name);
        path.push(b'/');
        if hides {
            out.path(path, b"")?;
        }
        if is_folder {
            walk(&inner, hides, path, out)?;
        }
        path.truncate(length);
    }
    Ok(())
}

/// What came and went again, or is a folder now: the upper folder forgets it, and git's index may know it. Only where the upper folder has a folder: any other is
/// the base's alone, and of those nothing goes without a mark.
fn gone(workspace: &Path, index: &[&[u8]], out: &mut Out) -> io::Result<()> {
    let names = |path: &Vec<u8>| {
        let list = std::fs::read_dir(workspace.join(OsStr::from_bytes(path)))?;
        list.map(|entry| Ok(entry?.file_name().into_encoded_bytes())).collect::<io::Result<HashSet<_>>>()
    };
    let merged = std::mem::take(&mut out.merged);
    let there: HashMap<&[u8], HashSet<Vec<u8>>> =
        merged.iter().map(|path| Ok((path.as_slice(), names(path)?))).collect::<io::Result<_>>()?;
    // All that lies at or below one name has one answer, and stands together.
    let mut answered: &[u8] = b"";
    for path in index {
        if !answered.is_empty() && path.strip_prefix(answered).is_some_and(|rest| matches!(rest.first(), None | Some(b'/'))) {
            continue;
        }
        let mut above: &[u8] = b"";
        for end in path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at).chain([path.len()]) {
            answered = &path[..end];
            let Some(names) = there.get(above) else { break };
            let start = if above.is_empty() { 0 } else { above.len() + 1 };
            let is_folder = there.contains_key(answered);
            if !names.contains(&path[start..end]) || (is_folder && end == path.len()) {
                out.path(answered, b"")?;
                out.path(answered, b"/")?;
                if is_folder {
                    // It is there, and so may be what the index names in it.
                    answered = b"";
                }
                break;
            }
            if !is_folder {
                break;
            }
            above = answered;
        }
    }
    Ok(())
}

/// Did the overlay note that nothing shows through from below?
fn is_opaque(folder: &Path) -> io::Result<bool> {
    let folder = std::fs::File::open(folder)?;
    Ok(sys::get_attribute(folder.as_fd(), c"user.overlay.opaque", &mut [0; 4])?.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(root: &Path) -> Vec<String> {
        let mut out = Out::default();
        walk(root, false, &mut Vec::new(), &mut out).expect("walked");
        let found = String::from_utf8(out.answer).expect("text");
        let mut paths: Vec<String> = found.split_terminator('\0').map(str::to_owned).collect();
        paths.sort_unstable();
        paths
    }

    #[test]
    fn what_lies_there_may_differ_and_every_folder_may_have_held_more() {
        let place = tempfile::tempdir().expect("a folder");
        let root = place.path();
        assert_eq!(paths(root), [".cofferdam-changed"]);
        for folder in [".git/refs", "a/b", "new"] {
            fs_err::create_dir_all(root.join(folder)).expect("made");
        }
        fs_err::write(root.join("a/b/f"), "f").expect("written");
        let opaque = fs_err::File::open(root.join("new")).expect("opened").into_file();
        sys::set_attribute(opaque.as_fd(), c"user.overlay.opaque", b"y").expect("marked");
        let expected = [
            ".cofferdam-changed",
            "a/.cofferdam-changed",
            "a/b/.cofferdam-changed",
            "a/b/f",
            "a/b/f/",
            "new",
            "new/",
            "new/.cofferdam-changed",
        ];
        assert_eq!(paths(root), expected);
    }

    #[test]
    fn what_an_index_names_and_the_workspace_lacks_is_gone() {
        let place = tempfile::tempdir().expect("a folder");
        for file in ["a/kept", "a/b/kept", "base/deep/kept"] {
            fs_err::create_dir_all(place.path().join(file)).expect("made");
        }
        let index = ["a/b", "a/b/gone", "a/b/kept/f", "a/gone/1", "a/gone/2", "a/kept", "base/deep/not-asked", "gone", "gone.too"];
        let mut out = Out { merged: [&b""[..], b"a", b"a/b"].map(<[u8]>::to_vec).into(), ..Out::default() };
        gone(place.path(), &index.map(str::as_bytes), &mut out).expect("looked");
        let said = String::from_utf8(out.answer).expect("text").replace('\0', " ");
        assert_eq!(said, "a/b a/b/ a/b/gone a/b/gone/ a/gone a/gone/ gone gone/ gone.too gone.too/ ");
    }

    #[test]
    fn a_mount_over_a_part_of_it_is_seen_whatever_the_folder_is_called() {
        for name in ["plain", "with\\040a\\040space"] {
            let folder = of_mount(&format!("/workspace/{name}"));
            let line = |below: &str| format!("36 35 0:28 / /workspace/{name}{below} rw,nosuid - overlay overlay rw\n");
            assert!(!is_covered(&folder, &(line("") + &line("-beside"))), "{name}");
            assert!(is_covered(&folder, &(line("") + &line("/target"))), "{name}");
        }
    }

    #[test]
    fn the_settings_are_included_from_where_they_are() {
        assert!(INCLUDE.contains(&format!("= {PLACE}/config\n")));
    }

    #[test]
    fn a_question_of_another_form_is_not_answered() {
        for words in [&[][..], &["1", "12345"], &["2"], &["3", "x"]] {
            let mut said = Vec::new();
            assert!(!answer(words.iter().map(OsString::from), &mut said).expect("written") && said.is_empty(), "{words:?}");
        }
        // Outside a sandbox there is nothing to answer from.
        let mut said = Vec::new();
        assert!(answer(["2", "x"].iter().map(OsString::from), &mut said).expect("written"));
        assert_eq!(said, b"\0/");
    }
}

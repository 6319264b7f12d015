//! What may not come out of a workspace, and what is reported about what does. Pure.

use serde::{Deserialize, Serialize};

use crate::base::size::Size;
use crate::base::text;

/// Bounds of one collection. Every one of them is a finding when it is reached, never a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub file_size: Size,
    /// All changed files together.
    pub total_size: Size,
    /// Changed paths, and also entries that are looked at.
    pub entries: u64,
    pub depth: usize,
    pub name_bytes: usize,
    pub path_bytes: usize,
    /// How many findings are kept word for word.
    pub findings: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_size: Size::mib(256),
            total_size: Size::gib(4),
            entries: 1_000_000,
            depth: 128,
            name_bytes: 255,
            // Longer paths cannot be opened by name on Linux, so no checkout could hold them.
            path_bytes: 4095,
            findings: 1000,
        }
    }
}

/// Something about the change that a person or a verifier should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Escaped: safe to print.
    pub path: String,
    pub rule: Rule,
    pub detail: String,
    /// Is the path in the collected tree all the same?
    pub kept: bool,
}

impl Finding {
    pub fn left_out(path: &[u8], rule: Rule, detail: impl Into<String>) -> Self {
        Self { path: text::bytes_line(path), rule, detail: detail.into(), kept: false }
    }

    pub fn kept(path: &[u8], rule: Rule, detail: impl Into<String>) -> Self {
        Self { kept: true, ..Self::left_out(path, rule, detail) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A `.git`, under any spelling that some platform takes for it.
    GitDirectory,
    /// A socket, pipe or device.
    SpecialFile,
    /// A file with a link that lies outside of the workspace.
    HardLink,
    /// A `.gitmodules`, `.gitignore`, `.gitattributes` or `.mailmap` that is a link.
    LinkedGitFile,
    /// A link that leads out of the tree.
    LinkOutside,
    /// A name that another platform cannot hold.
    PortableName,
    /// Two names in one folder that differ only by case.
    CaseCollision,
    TooLarge,
    TooMany,
    TooDeep,
    NameTooLong,
    PathTooLong,
    /// It could not be read.
    Unreadable,
    /// A setuid, setgid or sticky bit: dropped.
    SpecialMode,
    /// An overlay attribute that the kernel would not have written for us.
    OverlayAttribute,
    /// Content below a submodule's folder: a submodule has no safe path of its own yet.
    Submodule,
    /// It changed while it was read.
    Changed,
    /// A file that is no text in the encoding its attribute names, or an encoding that is not known: stored as it is.
    Encoding,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The name of a unit variant is a JSON string; without its quotes it is what users grep for.
        let name = serde_json::to_string(self).map_err(|_| std::fmt::Error)?;
        f.write_str(name.trim_matches('"'))
    }
}

/// Would git on some platform take this name for `.git`?
pub fn is_git_directory(name: &[u8]) -> bool {
    is_hfs_alias(name, b".git") || name.split(|b| *b == b'\\').any(is_ntfs_git)
}

/// Is it one of the files that git reads from a tree, under a spelling of some platform?
pub fn is_git_file(name: &[u8]) -> bool {
    [&b".gitmodules"[..], b".gitignore", b".gitattributes", b".mailmap"]
        .iter()
        .any(|known| is_hfs_alias(name, known) || is_ntfs_alias(name, known))
}

/// Is it the one of them that git refuses as a link?
pub fn is_submodules_file(name: &[u8]) -> bool {
    is_hfs_alias(name, b".gitmodules") || is_ntfs_alias(name, b".gitmodules")
}

/// NTFS drops trailing dots and spaces, cuts at a colon (streams), folds case, and knows `GIT~1`.
fn is_ntfs_git(name: &[u8]) -> bool {
    let name = ntfs_plain(name);
    name.eq_ignore_ascii_case(b".git") || name.eq_ignore_ascii_case(b"git~1")
}

fn is_ntfs_alias(name: &[u8], known: &[u8]) -> bool {
    let plain = ntfs_plain(name);
    // The short names of the others are `GITMOD~1` to `~4`, or a hash; the first form is enough to be suspicious.
    let short = known.get(1..7).unwrap_or_default();
    plain.eq_ignore_ascii_case(known)
        || (plain.len() == 8 && plain[..6].eq_ignore_ascii_case(short) && plain[6] == b'~' && (b'1'..=b'4').contains(&plain[7]))
}

fn ntfs_plain(name: &[u8]) -> &[u8] {
    let name = name.split(|b| *b == b':').next().unwrap_or_default();
    let end = name.iter().rposition(|b| !matches!(b, b' ' | b'.')).map_or(0, |at| at + 1);
    &name[..end]
}

/// HFS+ folds case and ignores some invisible characters.
fn is_hfs_alias(name: &[u8], known: &[u8]) -> bool {
    let Ok(name) = std::str::from_utf8(name) else {
        return name.eq_ignore_ascii_case(known);
    };
    let invisible = |c: &char| matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let plain: String = name.chars().filter(|c| !invisible(c)).collect();
    plain.as_bytes().eq_ignore_ascii_case(known)
}

/// Why a name cannot be held by another platform, if so.
pub fn unportable(name: &[u8]) -> Option<&'static str> {
    let Ok(valid) = std::str::from_utf8(name) else {
        return Some("it is not UTF-8");
    };
    if valid.chars().any(char::is_control) {
        return Some("it holds a control character");
    }
    if let Some(why) = name.iter().find_map(|b| match b {
        b'\\' => Some("it holds a backslash"),
        b':' => Some("it holds a colon"),
        b'<' | b'>' | b'"' | b'|' | b'?' | b'*' => Some("it holds a character that Windows reserves"),
        _ => None,
    }) {
        return Some(why);
    }
    if valid.ends_with([' ', '.']) {
        return Some("it ends in a space or a dot");
    }
    let stem = valid.split('.').next().unwrap_or_default().trim_end();
    let device = ["CON", "PRN", "AUX", "NUL"].iter().any(|device| stem.eq_ignore_ascii_case(device));
    let numbered = stem.len() == 4
        && stem.is_char_boundary(3)
        && (stem[..3].eq_ignore_ascii_case("COM") || stem[..3].eq_ignore_ascii_case("LPT"))
        && stem.as_bytes()[3].is_ascii_digit()
        && stem.as_bytes()[3] != b'0';
    (device || numbered).then_some("it is a device on Windows")
}

/// Does a link, at this depth below the root, lead out of the tree by its text alone?
pub fn leads_outside(target: &[u8], depth: usize) -> bool {
    if target.starts_with(b"/") {
        return true;
    }
    let mut level = depth;
    for part in target.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match level.checked_sub(1) {
                Some(up) => level = up,
                None => return true,
            },
            _ => level += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_git_is_known() {
        for name in [
            ".git",
            ".GIT",
            ".Git",
            ".git ",
            ".git.",
            ".git. .",
            ".git:x",
            ".git::$INDEX_ALLOCATION",
            "GIT~1",
            "git~1",
            ".g\u{200c}it",
            "a\\.git",
            ".git\\x",
        ] {
            assert!(is_git_directory(name.as_bytes()), "{name:?}");
        }
        for name in ["git", ".gitignore", ".github", ".git-x", "x.git", "git~2", ".gitx", "..git", ""] {
            assert!(!is_git_directory(name.as_bytes()), "{name:?}");
        }
        assert!(is_git_file(b".GitModules"));
        assert!(is_git_file(b"GITMOD~1"));
        assert!(!is_git_file(b"gitmodules"));
    }

    #[test]
    fn names_that_others_cannot_hold_are_told() {
        for name in ["aux", "AUX.c", "com1.txt", "a:b", "a\\b", "a.", "a ", "a\nb", "what?"] {
            assert!(unportable(name.as_bytes()).is_some(), "{name:?}");
        }
        for name in ["a", "auxiliary", "com10", "a.b", "ü", ".hidden", "-x", "COM0"] {
            assert_eq!(unportable(name.as_bytes()), None, "{name:?}");
        }
        assert!(unportable(b"\xff").is_some());
    }

    #[test]
    fn links_are_judged_by_their_text() {
        assert!(!leads_outside(b"../x", 1));
        assert!(leads_outside(b"../../x", 1));
        assert!(leads_outside(b"/etc/passwd", 5));
        assert!(!leads_outside(b"a/../b", 0));
        assert!(leads_outside(b"a/../../b", 0));
    }

    proptest! {
        #[test]
        fn no_name_panics(name in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (is_git_directory(&name), is_git_file(&name), unportable(&name), leads_outside(&name, 3));
        }
    }
}

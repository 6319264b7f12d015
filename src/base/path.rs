//! Paths as others write them: people's inside a repository are relative, with `/`, and never out of the tree.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Why a text is no path inside the tree.
pub fn flaw(path: &str) -> Option<&'static str> {
    if path.is_empty() {
        return Some("is empty");
    }
    if path.len() > 4096 || path.split('/').any(|part| part.len() > 255) {
        return Some("is longer than a file system takes");
    }
    if path.starts_with('/') || path.starts_with('~') {
        return Some("is not inside the repository: it must be relative to its root");
    }
    if path.chars().any(char::is_control) {
        return Some("holds a control character");
    }
    if path.contains('\\') {
        return Some("holds a backslash; write `/` between folders");
    }
    let mut parts = path.strip_suffix('/').unwrap_or(path).split('/');
    if parts.clone().any(|part| part == "..") {
        return Some("leaves the repository");
    }
    if parts.clone().any(|part| part.is_empty() || part == ".") {
        return Some("has an empty part or a `.`; write it without");
    }
    parts.any(|part| part.eq_ignore_ascii_case(".git")).then_some("is inside git's own folder")
}

/// Why a text is no pattern of paths inside the tree.
pub fn glob_flaw(glob: &str) -> Option<&'static str> {
    if glob.split('/').any(|part| part.contains("**") && part != "**") {
        return Some("has a `**` that is not a whole part of the path");
    }
    if glob.contains(['[', ']', '{', '}']) {
        return Some("uses more than `*`, `**` and `?`");
    }
    if glob.split('/').filter(|part| *part == "**").count() > 4 {
        return Some("has more than four `**`");
    }
    flaw(glob)
}

/// Does a pattern match a path? `*` and `?` stay within one part, `**` stands for any number of parts; a pattern ending in `/` means all below.
pub fn glob_matches(glob: &str, path: &str) -> bool {
    fn parts(glob: &[&str], path: &[&str]) -> bool {
        match (glob, path) {
            ([], []) => true,
            (["**"], _) => true,
            (["**", rest @ ..], _) => (0..=path.len()).any(|skip| parts(rest, &path[skip..])),
            ([g, glob @ ..], [p, path @ ..]) => part_matches(g, p) && parts(glob, path),
            _ => false,
        }
    }
    let below = glob.ends_with('/');
    let mut glob: Vec<&str> = glob.trim_end_matches('/').split('/').collect();
    if below {
        glob.push("**");
    }
    parts(&glob, &path.trim_end_matches('/').split('/').collect::<Vec<_>>())
}

/// `*` and `?` within one part; the usual two-pointer walk, linear but for the last `*`.
fn part_matches(glob: &str, part: &str) -> bool {
    let (glob, part): (Vec<char>, Vec<char>) = (glob.chars().collect(), part.chars().collect());
    let (mut g, mut p, mut star) = (0, 0, None);
    while p < part.len() {
        if g < glob.len() && glob[g] == '*' {
            star = Some((g, p));
            g += 1;
        } else if g < glob.len() && (glob[g] == '?' || glob[g] == part[p]) {
            (g, p) = (g + 1, p + 1);
        } else if let Some((star_g, star_p)) = star {
            star = Some((star_g, star_p + 1));
            (g, p) = (star_g + 1, star_p + 1);
        } else {
            return false;
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

/// May two patterns mean the same path? Never a false "no"; two different patterns with wildcards may be a false "yes".
pub fn globs_may_meet(a: &str, b: &str) -> bool {
    let wild = |glob: &str| glob.contains(['*', '?']) || glob.ends_with('/');
    match (wild(a), wild(b)) {
        (false, false) => a == b,
        (true, false) => glob_matches(a, b),
        (false, true) => glob_matches(b, a),
        (true, true) => {
            let fixed = |glob: &str| glob.split('/').take_while(|part| !part.contains(['*', '?'])).map(str::to_owned).collect::<Vec<_>>();
            fixed(a).iter().zip(&fixed(b)).all(|(x, y)| x == y)
        }
    }
}

/// A path as the kernel's lists of mounts write it: space, tab, newline and backslash as three octal digits.
pub fn of_mount(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 4).filter(|_| byte == b'\\');
        let value = digits
            .filter(|d| d.iter().all(|c| (b'0'..=b'7').contains(c)))
            .and_then(|d| u8::try_from(d.iter().fold(0_u32, |sum, c| sum * 8 + u32::from(c - b'0'))).ok());
        match value {
            Some(value) => {
                out.push(value);
                at += 4;
            }
            None => {
                out.push(byte);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_stay_in_the_tree() {
        for good in ["a", "src/lib.rs", "a/b/", ".github/x", "a b/ö"] {
            assert_eq!(flaw(good), None, "{good}");
        }
        for bad in ["", "/etc", "~/x", "../x", "a/../../x", "a//b", "./a", ".git/hooks/x", "a/.GIT/x", "a\\b", "a\nb"] {
            assert!(flaw(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn globs_match_as_people_expect() {
        for (glob, path) in
            [("*.rs", "a.rs"), ("**/*.rs", "a/b/c.rs"), ("**/*.rs", "c.rs"), ("src/**", "src/a/b"), ("ci/", "ci/x/y"), ("a?c", "abc")]
        {
            assert!(glob_matches(glob, path), "{glob} {path}");
        }
        for (glob, path) in [("*.rs", "a/b.rs"), ("src/*", "src/a/b"), ("a?c", "ac"), ("src/**/x", "src/y")] {
            assert!(!glob_matches(glob, path), "{glob} {path}");
        }
    }

    proptest! {
        #[test]
        fn what_both_match_they_may_meet_in(a in "[ab*?/]{1,8}", b in "[ab*?/]{1,8}", path in "[ab]{1,2}(/[ab]{1,2}){0,2}") {
            if glob_flaw(&a).is_none() && glob_flaw(&b).is_none() && glob_matches(&a, &path) && glob_matches(&b, &path) {
                prop_assert!(globs_may_meet(&a, &b), "{} {} {}", a, b, path);
            }
        }
    }
}

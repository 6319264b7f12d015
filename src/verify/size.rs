//! Is the change of a size, and of a kind, that somebody can review? What is not wants a human's eye; it is not wrong. Pure.

use super::request::{Changed, Limits, Report};
use super::tree::{Found, LARGEST, Tree};
use crate::base::path::glob_matches;
use crate::base::size::Size;
use crate::workspace::changes::ChangeKind;

/// A file is binary when there is a NUL among its first bytes: git's own rule.
const LOOKED_AT: usize = 8000;
/// A larger one is worth a look.
const LARGEST_PICTURE: usize = 256 << 10;

pub fn check(changes: &[Changed], limits: &Limits, before: &dyn Tree, after: &dyn Tree) -> Report {
    let mut report = Report::default();
    let mut bytes = 0_u64;
    let shown = |bytes: u64| Size(bytes).to_string();
    for change in changes.iter().filter(|change| change.kind != ChangeKind::Deleted) {
        let path = change.path.as_str();
        let size = match after.find(path) {
            Found::File { size, .. } => size,
            Found::Unknown(why) => {
                report.errors.push(format!("{path} could not be looked at: {why}"));
                continue;
            }
            _ => continue,
        };
        let was = if let Found::File { size, .. } = before.find(path) { size } else { 0 };
        // What a change adds is at least what the file grew by.
        bytes = bytes.saturating_add(size.saturating_sub(was));
        if limits.binaries.iter().any(|glob| glob_matches(glob, path)) {
            continue;
        }
        if size > LARGEST {
            report.approval(path, format!("it is larger than {} and cannot be reviewed", shown(LARGEST)));
            continue;
        }
        match after.read(path) {
            // Nothing runs these, and a person sees what they are.
            Ok(content) if is_picture(path, &content) => {}
            Ok(content) if content.iter().take(LOOKED_AT).any(|b| *b == 0) => {
                report.approval(path, format!("a binary file of {} cannot be reviewed", shown(size)));
            }
            Ok(_) => {}
            Err(why) => report.errors.push(format!("{path} could not be read: {why}")),
        }
    }
    if changes.len() as u64 > limits.files {
        report.approvals.push(overall(format!("the change touches {} files, more than {}", changes.len(), limits.files)));
    }
    if bytes > limits.bytes {
        report.approvals.push(overall(format!("the change adds {}, more than {}", shown(bytes), shown(limits.bytes))));
    }
    report
}

/// A small picture or font that is what its name says.
fn is_picture(path: &str, content: &[u8]) -> bool {
    let kind = path.rsplit_once('.').map(|(_, kind)| kind.to_ascii_lowercase()).unwrap_or_default();
    let begins = |marks: &[&[u8]]| marks.iter().any(|mark| content.starts_with(mark));
    let fits = match kind.as_str() {
        "png" => begins(&[b"\x89PNG\r\n\x1a\n"]),
        "jpg" | "jpeg" => begins(&[b"\xff\xd8\xff"]),
        "gif" => begins(&[b"GIF87a", b"GIF89a"]),
        "webp" => begins(&[b"RIFF"]) && content.get(8..12) == Some(b"WEBP"),
        "ico" => begins(&[b"\0\0\x01\0"]),
        "woff" => begins(&[b"wOFF"]),
        "woff2" => begins(&[b"wOF2"]),
        "ttf" => begins(&[b"\0\x01\0\0", b"true"]),
        "otf" => begins(&[b"OTTO"]),
        _ => false,
    };
    fits && content.len() <= LARGEST_PICTURE
}

fn overall(text: String) -> crate::event::Finding {
    crate::event::Finding { text, ..crate::event::Finding::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::event::Verdict;

    #[test]
    fn what_nobody_can_review_wants_a_human() {
        let tree = |files: &[(&str, &[u8])]| files.iter().map(|(p, c)| ((*p).to_owned(), c.to_vec())).collect::<BTreeMap<_, _>>();
        let changes = |paths: &[&str]| paths.iter().map(|p| Changed { path: (*p).to_owned(), kind: ChangeKind::Added }).collect::<Vec<_>>();
        let limits = Limits { files: 2, bytes: 100, binaries: vec!["**/*.png".to_owned()] };
        let none = BTreeMap::new();
        let after = tree(&[("a", b"text"), ("b.png", b"\0"), ("c", b"\0x"), ("d", &[b'x'; 101])]);
        let verdict = |paths: &[&str]| check(&changes(paths), &limits, &none, &after).verdict();
        assert_eq!(verdict(&["a", "b.png"]), Verdict::Pass);
        for paths in [vec!["c"], vec!["d"], vec!["a", "b.png", "x"]] {
            assert_eq!(verdict(&paths), Verdict::NeedsApproval, "{paths:?}");
        }
        // A picture is one when it is what its name says, and small.
        let large = [b"\x89PNG\r\n\x1a\n".as_slice(), &[0; LARGEST_PICTURE]].concat();
        let limits_of_pictures = Limits { files: 9, bytes: 1 << 20, binaries: vec![] };
        let pictures =
            tree(&[("a.PNG", b"\x89PNG\r\n\x1a\n\0"), ("b.gif", b"\x7fELF\0"), ("c", b"\x89PNG\r\n\x1a\n\0"), ("d.png", &large)]);
        for (path, expected) in
            [("a.PNG", Verdict::Pass), ("b.gif", Verdict::NeedsApproval), ("c", Verdict::NeedsApproval), ("d.png", Verdict::NeedsApproval)]
        {
            assert_eq!(check(&changes(&[path]), &limits_of_pictures, &none, &pictures).verdict(), expected, "{path}");
        }
        let before = tree(&[("d", &[b'y'; 90])]);
        assert_eq!(check(&changes(&["d"]), &limits, &before, &after).verdict(), Verdict::Pass);
    }
}

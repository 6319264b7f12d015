//! Does the change carry a credential? Pure. What is found is named and never repeated.

use regex_lite::Regex;

use super::request::{Changed, Report};
use super::tree::{Found, Tree};
use crate::workspace::changes::ChangeKind;

/// Shapes that are credentials wherever they stand.
const SHAPES: [(&str, &str); 16] = [
    ("a private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    ("an AWS access key", r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    ("a GitHub token", r"\bgh[opsur]_[A-Za-z0-9]{30,}"),
    ("a GitHub token", r"\bgithub_pat_[A-Za-z0-9_]{30,}"),
    ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
    ("an Anthropic key", r"\bsk-ant-[A-Za-z0-9_-]{20,}"),
    ("an OpenAI key", r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{32,}"),
    ("a Google key", r"\bAIza[0-9A-Za-z_-]{35}"),
    ("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("an npm token", r"\bnpm_[A-Za-z0-9]{36}"),
    ("a PyPI token", r"\bpypi-AgEI[A-Za-z0-9_-]{20,}"),
    ("a crates.io token", r"\bcio[A-Za-z0-9]{32}\b"),
    ("a Stripe key", r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    ("a signed web token", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("a password in an address", r"\b[a-z][a-z0-9+.-]{1,15}://[^/\s:@]{1,64}:[^/\s:@${}<>]{4,}@[A-Za-z0-9.-]+"),
    ("a placeholder for a credential that never enters a sandbox", r"\bcofferdam-(?:placeholder|credential)-?[A-Za-z0-9]*"),
];

/// A name that holds a secret, and a literal that looks like one.
const ASSIGNMENT: &str = r#"(?i)\b(?:[a-z0-9]+[_-])*(?:password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)["']?\s*(?::=|=>|[:=])\s*["']([^"'\s$<>{}]{12,200})["']"#;

/// Lines longer than this are looked at in parts of this length, with an overlap.
const PART: usize = 16 << 10;
const OVERLAP: usize = 512;

/// Looks at every line that the change adds.
pub fn check(changes: &[Changed], before: &dyn Tree, after: &dyn Tree) -> Report {
    let mut report = Report::default();
    let shapes: Vec<(&str, Regex)> = SHAPES.iter().filter_map(|(name, shape)| Some((*name, Regex::new(shape).ok()?))).collect();
    let assignment = Regex::new(ASSIGNMENT).ok();
    for change in changes.iter().filter(|change| change.kind != ChangeKind::Deleted) {
        let path = change.path.as_str();
        match after.find(path) {
            Found::File { .. } => {}
            Found::Unknown(why) => {
                report.errors.push(format!("{path} could not be looked at: {why}"));
                continue;
            }
            _ => continue,
        }
        if let Some(what) = named(path) {
            report.finding(path, None, format!("a file of this name holds {what}"));
        }
        let new = match after.read(path) {
            Ok(bytes) => bytes,
            Err(why) => {
                report.errors.push(format!("{path} could not be searched for credentials: {why}"));
                continue;
            }
        };
        let old = if matches!(before.find(path), Found::File { .. }) { before.read(path).unwrap_or_default() } else { Vec::new() };
        let (old, new) = (String::from_utf8_lossy(&old), String::from_utf8_lossy(&new));
        let known: std::collections::HashSet<&str> = old.lines().collect();
        for (number, line) in new.lines().enumerate().filter(|(_, line)| !known.contains(line)) {
            if let Some(what) = credential(line, &shapes, assignment.as_ref()) {
                report.finding(path, u32::try_from(number + 1).ok(), format!("this line holds {what}"));
            }
        }
    }
    report
}

/// Files that are credentials by their name.
fn named(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name {
        "id_rsa" | "id_ed25519" | "id_ecdsa" | "id_dsa" => Some("a private key"),
        ".netrc" | ".git-credentials" | ".pgpass" | ".npmrc.local" => Some("passwords"),
        _ => None,
    }
}

fn credential<'s>(line: &str, shapes: &[(&'s str, Regex)], assignment: Option<&Regex>) -> Option<&'s str> {
    let mut from = 0;
    loop {
        let mut to = (from + PART).min(line.len());
        while !line.is_char_boundary(to) {
            to += 1;
        }
        let part = line.get(from..to).unwrap_or_default();
        if let Some((name, _)) = shapes.iter().find(|(_, shape)| shape.is_match(part)) {
            return Some(name);
        }
        let value = assignment.and_then(|regex| regex.captures(part)).and_then(|found| Some(found.get(1)?.as_str().to_owned()));
        if value.is_some_and(|value| is_random(&value)) {
            return Some("what looks like a credential: a secret's name and a random value");
        }
        if to >= line.len() {
            return None;
        }
        from = to.saturating_sub(OVERLAP);
        while !line.is_char_boundary(from) {
            from += 1;
        }
    }
}

/// Random text, not words: more than three bits to a character, with digits and letters.
fn is_random(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let example = ["example", "changeme", "your", "xxxx", "test", "dummy", "placeholder", "fake", "sample", "1234567"];
    if example.iter().any(|word| lower.contains(word))
        || !value.chars().any(|c| c.is_ascii_digit())
        || !value.chars().any(char::is_alphabetic)
    {
        return false;
    }
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let length = value.len() as f64;
    let entropy: f64 = counts.iter().filter(|n| **n > 0).map(|n| f64::from(*n) / length).map(|p| -p * p.log2()).sum();
    entropy > 3.0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::event::Verdict;
    use proptest::prelude::*;

    fn judge(old: &str, new: &str) -> Report {
        let tree = |text: &str| BTreeMap::from([("a.py".to_owned(), text.as_bytes().to_vec())]);
        check(&[Changed { path: "a.py".to_owned(), kind: ChangeKind::Modified }], &tree(old), &tree(new))
    }

    #[test]
    fn every_shape_is_a_shape_and_is_found() {
        // Put together here, so that no scanner takes this file for a leak.
        let long = "a1B2c3D4".repeat(6);
        for secret in [
            format!("-----BEGIN RSA {} KEY-----", "PRIVATE"),
            format!("AK{}", "IAABCDEFGHIJKLMNOP"),
            format!("gh{}_{long}", "p"),
            format!("github_{}_{long}", "pat"),
            format!("gl{}-{long}", "pat"),
            format!("sk-{}-{long}", "ant"),
            format!("sk-{long}"),
            format!("AI{}{}", "za", &"a1B2c3D4".repeat(5)[..35]),
            format!("xo{}-{long}", "xb"),
            format!("np{}_{}", "m", &"a1B2c3D4".repeat(5)[..36]),
            format!("pyp{}-AgEI{long}", "i"),
            format!("ci{}{}", "o", "a1B2c3D4".repeat(4)),
            format!("sk_{}_{long}", "live"),
            format!("ey{}{long}.eyJ{long}.{long}", "J"),
            format!("postgres://user:{}@db.example.org", "s3cretpw"),
            format!("cofferdam-{}-1", "placeholder"),
            format!("api_key = \"{}\"", "q8Zr2LxT9vNw4KpB"),
        ] {
            let report = judge("x = 1\n", &format!("x = 1\ny = 2 {secret}\n"));
            assert_eq!(report.verdict(), Verdict::Fail, "{secret}");
            assert_eq!(report.findings[0].line, Some(2));
            assert!(!format!("{report:?}").contains(&secret), "the secret is not repeated");
        }
        assert_eq!(SHAPES.iter().filter(|(_, shape)| Regex::new(shape).is_err()).count(), 0);
    }

    #[test]
    fn what_was_there_before_and_what_is_none_is_no_finding() {
        let old = format!("k = 'gh{}_{}'\n", "p", "a1B2c3D4".repeat(6));
        assert_eq!(judge(&old, &format!("{old}z = 1\n")).verdict(), Verdict::Pass);
        for text in [
            "password = 'changeme12345'",
            "token = os.environ['TOKEN']",
            "secret: ${{ secrets.TOKEN_12345678 }}",
            "api_key = \"your-api-key-12\"",
            "url = 'https://example.org/a:b@c'",
            "token_count = 'aaaaaaaaaaaa1'",
            "def test_password(): assert password('correct horse')",
        ] {
            assert_eq!(judge("", text).verdict(), Verdict::Pass, "{text}");
        }
    }

    #[test]
    fn a_long_line_hides_nothing() {
        let secret = format!("gh{}_{}", "p", "a1B2c3D4".repeat(6));
        for before in [PART - 20, PART, 3 * PART + 7] {
            let text = format!("{} {secret} {}", "é ".repeat(before / 3), "b ".repeat(50));
            assert_eq!(judge("", &text).verdict(), Verdict::Fail, "{before}");
        }
    }

    proptest! {
        #[test]
        fn no_content_breaks_it(content in proptest::collection::vec(any::<u8>(), 0..300)) {
            let after = BTreeMap::from([("a".to_owned(), content)]);
            drop(check(&[Changed { path: "a".to_owned(), kind: ChangeKind::Added }], &BTreeMap::new(), &after));
        }
    }
}

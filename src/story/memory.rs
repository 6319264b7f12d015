//! Failure memory: an approach that failed often enough is blocked before it is run again.
//!
//! An approach is the change itself (normalised, so that another line offset, indentation or file order is no other change) and what the
//! agent declared. The change counts whatever it is called: the same change under another name is the same approach. A declaration counts
//! only together with what failed: "add TTL support" may be declared in every attempt while the work gets on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::id::{PatchId, hex_text};

/// What an attempt tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Approach {
    /// None when it left no change.
    pub change: Option<PatchId>,
    pub declared: Option<String>,
}

impl Approach {
    /// A name for both together, to show and to refer to.
    pub fn id(&self) -> String {
        use sha2::Digest;
        let change = self.change.as_ref().map_or("", PatchId::as_str);
        let declared = self.declared.as_deref().map(normalise_words).unwrap_or_default();
        hex_text(&sha2::Sha256::digest(format!("{change}\n{declared}")))[..12].to_owned()
    }
}

/// What failed before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    changes: BTreeMap<PatchId, Failures>,
    /// By declaration, then by what failed.
    declared: BTreeMap<String, BTreeMap<String, Failures>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Failures {
    times: u32,
    /// The approach as it was last described.
    summary: String,
    id: String,
}

/// An approach that may not run again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockedApproach {
    pub id: String,
    pub summary: String,
    pub times: u32,
}

impl Memory {
    /// Remembers that an approach failed, and how (`signature`: what failed, by name and sorted).
    pub fn record(&mut self, approach: &Approach, signature: &[String]) {
        let summary = approach.declared.clone().unwrap_or_else(|| "no approach was declared".to_owned());
        let add = |failures: &mut Failures| {
            failures.times = failures.times.saturating_add(1);
            failures.summary.clone_from(&summary);
            failures.id = approach.id();
        };
        if let Some(change) = &approach.change {
            add(self.changes.entry(change.clone()).or_default());
        }
        if let Some(declared) = approach.declared.as_deref().map(normalise_words).filter(|words| !words.is_empty()) {
            add(self.declared.entry(declared).or_default().entry(signature.join(" ")).or_default());
        }
    }

    /// Whether this approach failed `limit` times, and may not run again. A limit of 0 blocks nothing.
    pub fn blocks(&self, approach: &Approach, limit: u32) -> Option<BlockedApproach> {
        let by_change = approach.change.as_ref().and_then(|change| self.changes.get(change));
        let words = approach.declared.as_deref().map(normalise_words);
        let by_words = words.and_then(|words| self.declared.get(&words)).into_iter().flat_map(BTreeMap::values);
        by_change.into_iter().chain(by_words).find_map(|failures| failures.blocked(limit))
    }

    /// Everything that is blocked, for the next agent to read.
    pub fn blocked(&self, limit: u32) -> Vec<BlockedApproach> {
        let all = self.changes.values().chain(self.declared.values().flat_map(BTreeMap::values));
        let mut blocked: Vec<_> = all.filter_map(|failures| failures.blocked(limit)).collect();
        blocked.sort_by(|a, b| a.id.cmp(&b.id).then(b.times.cmp(&a.times)));
        blocked.dedup_by(|a, b| a.id == b.id);
        blocked
    }
}

impl Failures {
    fn blocked(&self, limit: u32) -> Option<BlockedApproach> {
        (limit > 0 && self.times >= limit).then(|| BlockedApproach {
            id: self.id.clone(),
            summary: self.summary.clone(),
            times: self.times,
        })
    }
}

/// The words of a declaration, without case, punctuation and spacing.
fn normalise_words(text: &str) -> String {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join(" ")
}

/// One changed file, as a diff tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileChange<'a> {
    pub path: &'a [u8],
    /// Lines that went and came, without their numbers, in their order. For a binary file, any text that identifies the new content.
    pub removed: Vec<&'a [u8]>,
    pub added: Vec<&'a [u8]>,
}

/// The identity of a change, in the spirit of `git patch-id`: independent of the order of files, of line numbers, and of spaces.
pub fn patch_identity(changes: &[FileChange<'_>]) -> PatchId {
    let mut files: Vec<_> = changes.iter().collect();
    files.sort_by_key(|file| file.path);
    let mut normalised = Vec::new();
    // Lengths before contents: no line can pretend to be the start of another file.
    let mut part = |bytes: &[u8]| {
        normalised.extend(bytes.len().to_le_bytes());
        normalised.extend(bytes);
    };
    for file in files {
        part(file.path);
        for (sign, lines) in [(b"-", &file.removed), (b"+", &file.added)] {
            for line in lines {
                let dense: Vec<u8> = line.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
                if !dense.is_empty() {
                    part(sign);
                    part(&dense);
                }
            }
        }
    }
    PatchId::of(&normalised)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change(text: &str) -> PatchId {
        patch_identity(&[FileChange { path: b"a", removed: vec![], added: vec![text.as_bytes()] }])
    }

    fn approach(text: &str, declared: &str) -> Approach {
        Approach { change: Some(change(text)), declared: (!declared.is_empty()).then(|| declared.to_owned()) }
    }

    #[test]
    fn the_same_change_under_another_name_is_blocked() {
        let mut memory = Memory::default();
        for name in ["one", "two", "three"] {
            assert_eq!(memory.blocks(&approach("x", "anything"), 3), None);
            memory.record(&approach("x", name), &["tests".to_owned()]);
        }
        assert_eq!(memory.blocks(&approach("  x ", "four"), 3).map(|b| b.times), Some(3));
        assert_eq!(memory.blocks(&approach("y", "four"), 3), None);
        assert_eq!(memory.blocks(&approach("x", "four"), 0), None, "a limit of 0 blocks nothing");
    }

    #[test]
    fn a_declaration_is_blocked_only_when_it_fails_the_same_way() {
        let mut memory = Memory::default();
        for (text, failed) in [("a", "tests"), ("b", "review"), ("c", "artifacts"), ("d", "tests")] {
            memory.record(&approach(text, "Add TTL support"), &[failed.to_owned()]);
        }
        assert_eq!(memory.blocks(&approach("e", "Add TTL support"), 3), None, "it failed in different ways: the work gets on");
        memory.record(&approach("f", "add  TTL-support!"), &["tests".to_owned()]);
        assert!(memory.blocks(&approach("g", "Add TTL support."), 3).is_some());
        assert_eq!(memory.blocked(3).len(), 1);
    }

    proptest! {
        #[test]
        fn identity_ignores_order_of_files_and_spaces_only(
            lines in proptest::collection::vec("[a-c \t]{0,6}", 1..6), other in proptest::collection::vec("[a-c]{1,3}", 1..4), spaces in "[ \t]{0,3}",
        ) {
            let spaced: Vec<String> = lines.iter().map(|line| format!("{spaces}{}", line.replace(' ', &spaces))).collect();
            let file = |path: &'static [u8], lines: &'static str| FileChange { path, removed: vec![], added: lines.split(',').map(str::as_bytes).collect() };
            let a = FileChange { path: b"a", removed: vec![], added: lines.iter().map(String::as_bytes).collect() };
            let b = FileChange { path: b"b", removed: other.iter().map(String::as_bytes).collect(), added: vec![] };
            let a2 = FileChange { path: b"a", removed: vec![], added: spaced.iter().map(String::as_bytes).collect() };
            prop_assert_eq!(patch_identity(&[a.clone(), b.clone()]), patch_identity(&[b.clone(), a2]));
            let flipped = FileChange { path: b"b", removed: vec![], added: b.removed.clone() };
            prop_assert_ne!(patch_identity(&[a.clone(), b]), patch_identity(&[a, flipped]));
            prop_assert_ne!(patch_identity(&[file(b"a", "x,y")]), patch_identity(&[file(b"a", "xy")]));
        }

        #[test]
        fn blocking_is_exact(times in 0_u32..6, limit in 1_u32..5) {
            let mut memory = Memory::default();
            for _ in 0..times {
                memory.record(&approach("x", ""), &[]);
            }
            prop_assert_eq!(memory.blocks(&approach("x", ""), limit).is_some(), times >= limit);
            prop_assert_eq!(memory.blocked(limit).len(), usize::from(times >= limit));
        }
    }
}

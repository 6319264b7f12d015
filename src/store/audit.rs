//! Does what was kept prove what it is said to prove? The same question for a store, and for an export of one story.

use std::collections::BTreeMap;

use super::fold::View;
use super::read::Stored;
use crate::base::id::{AttemptNo, CommitId, EvidenceId, TreeId};
use crate::base::text::{cut, one_line};
use crate::event::Kind;
use crate::story::manifest::{MANIFEST_VERSION, Manifest, manifest};

/// What the events of one story show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Audit {
    /// Manifests that say what the events say.
    pub manifests: u64,
    pub breaks: Vec<Break>,
    pub landed: Option<Landed>,
    /// What could not be checked by this version, and is no fault.
    pub notes: Vec<String>,
}

/// A place where it does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}, event {seq}: {why}")]
pub struct Break {
    pub seq: u64,
    pub what: String,
    pub why: String,
}

/// What landed, and the attempt that it was proven in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Landed {
    pub seq: u64,
    pub commit: CommitId,
    pub tree: TreeId,
    pub story_commit: CommitId,
    /// The manifest of the attempt whose commit it is.
    pub manifest: Option<EvidenceId>,
}

impl Landed {
    /// Whether the commit that landed names the manifest that proves it. `raw` is that commit's object, checked against its name.
    ///
    /// # Errors
    /// What does not fit, in a sentence.
    pub fn is_named_by(&self, raw: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(raw);
        let (head, message) = text.split_once("\n\n").ok_or("the commit that landed has no message")?;
        let tree = head.lines().next().and_then(|line| line.strip_prefix("tree ")).unwrap_or_default();
        if tree != self.tree.as_str() {
            return Err(format!("the commit that landed has the tree {}, and the log says {}", cut(&one_line(tree), 40), self.tree));
        }
        let Some(manifest) = &self.manifest else { return Ok(()) };
        // Only the last paragraph: what an agent wrote above it names nothing.
        let trailers = message.trim_end().rsplit("\n\n").next().unwrap_or_default();
        let named: Vec<&str> = trailers.lines().filter_map(|line| line.strip_prefix("Evidence: sha256:")).collect();
        if named.contains(&manifest.as_str()) {
            return Ok(());
        }
        Err(match named.first() {
            None => format!("the commit that landed names no evidence, and its manifest is {manifest}"),
            Some(other) => {
                format!("the commit that landed names {} as its evidence, and its manifest is {manifest}", cut(&one_line(other), 64))
            }
        })
    }
}

struct Sealed {
    seq: u64,
    attempt: AttemptNo,
    id: EvidenceId,
    document: Manifest,
    fits: bool,
    /// What the events came to last, before it was sealed.
    last: Option<Manifest>,
}

/// Looks at all events of one story, in their order. `read` gives the bytes of evidence, checked against their name.
pub fn audit(events: &[Stored], read: &dyn Fn(&EvidenceId) -> Option<Vec<u8>>) -> Audit {
    let mut audit = Audit::default();
    let mut sealed = documents(events, read, &mut audit);
    let mut view = View::default();
    let mut after = 0;
    for stored in events {
        if stored.seq <= after {
            audit.broken(stored.seq, "the log", "its number does not come after the one before it");
        }
        after = stored.seq;
        if stored.line().hash() != stored.hash {
            audit.broken(stored.seq, "the log", "its content does not have the hash that is recorded: it was changed");
            continue;
        }
        let event = match stored.event() {
            Ok(event) => event,
            Err(error) => {
                audit.broken(stored.seq, "the log", &error.to_string());
                continue;
            }
        };
        let landing = match &event.kind {
            Kind::StoryLanded { commit, tree, story_commit, .. } => Some((commit.clone(), tree.clone(), story_commit.clone())),
            _ => None,
        };
        match (view.apply(&event), landing) {
            (Ok(_), Some((commit, tree, story_commit))) => {
                audit.landed = Some(Landed { seq: stored.seq, commit, tree, story_commit, manifest: None });
            }
            (Err(refused), Some(_)) => {
                audit.broken(stored.seq, "the landing", &format!("the events before it do not prove it: {}", refused.why));
            }
            // What the rules of today refuse was accepted by those of its day, and moves no story.
            (Ok(_) | Err(_), None) => {}
        }
        let Some(story) = event.story.as_ref().and_then(|id| view.stories.get(id)) else { continue };
        for sealed in sealed.iter_mut().filter(|sealed| !sealed.fits && stored.seq < sealed.seq) {
            let recorded: BTreeMap<&EvidenceId, Option<u64>> = sealed.document.files.iter().map(|file| (&file.id, file.bytes)).collect();
            let made = manifest(story, sealed.attempt, &|id| recorded.get(id).copied().flatten());
            sealed.fits = made.as_ref() == Some(&sealed.document);
            sealed.last = made.or(sealed.last.take());
        }
    }
    for sealed in sealed {
        audit.judge(&sealed);
    }
    audit
}

/// The manifests that are named, as far as they can be read. What is missing or changed is told by whoever checks the files.
fn documents(events: &[Stored], read: &dyn Fn(&EvidenceId) -> Option<Vec<u8>>, audit: &mut Audit) -> Vec<Sealed> {
    let mut sealed = Vec::new();
    for stored in events {
        let Ok(Kind::EvidenceSealed { attempt, manifest }) = stored.event().map(|event| event.kind) else { continue };
        let what = format!("the manifest of attempt {attempt}");
        let Some(bytes) = read(&manifest) else {
            audit.broken(stored.seq, &what, "it is not there, or is not what its name says");
            continue;
        };
        match serde_json::from_slice::<Manifest>(&bytes) {
            Ok(document) if document.version > MANIFEST_VERSION => {
                audit.notes.push(format!("{what} was made by a newer version ({}), and was not compared", document.cofferdam));
            }
            Ok(document) => sealed.push(Sealed { seq: stored.seq, attempt, id: manifest, document, fits: false, last: None }),
            Err(error) => audit.broken(stored.seq, &what, &format!("it cannot be read: {error}")),
        }
    }
    sealed
}

impl Audit {
    fn broken(&mut self, seq: u64, what: &str, why: &str) {
        self.breaks.push(Break { seq, what: what.to_owned(), why: why.to_owned() });
    }

    fn judge(&mut self, sealed: &Sealed) {
        let what = format!("the manifest of attempt {}", sealed.attempt);
        let own = sealed.document.cofferdam == env!("CARGO_PKG_VERSION");
        if !sealed.fits && own {
            let why = match &sealed.last {
                Some(made) => format!("it does not say what the events say: {} differ", differing(made, &sealed.document)),
                None => "the events before it do not show such an attempt".to_owned(),
            };
            return self.broken(sealed.seq, &what, &why);
        }
        if !sealed.fits {
            self.notes.push(format!("{what} was made by version {}, and was not compared with the events", sealed.document.cofferdam));
        }
        self.manifests += 1;
        if let Some(landed) = self.landed.as_mut().filter(|landed| landed.story_commit == sealed.document.commit) {
            landed.manifest = Some(sealed.id.clone());
            if let Some(lacks) = sealed.document.lacks() {
                self.broken(sealed.seq, &what, &format!("its commit landed, and it does not prove it: {lacks}"));
            }
        }
    }
}

/// The names of the fields in which two documents differ.
fn differing(a: &Manifest, b: &Manifest) -> String {
    let fields = |manifest: &Manifest| match serde_json::to_value(manifest) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (a, b) = (fields(a), fields(b));
    let names: Vec<&str> = a.iter().filter(|(name, value)| b.get(*name) != Some(value)).map(|(name, _)| name.as_str()).collect();
    crate::base::text::list(&names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_that_landed_names_its_manifest_in_its_last_paragraph() {
        let (tree, manifest) = ("a".repeat(40), "b".repeat(64));
        let landed = Landed {
            seq: 1,
            commit: "c".repeat(40).parse().expect("a commit"),
            tree: tree.parse().expect("a tree"),
            story_commit: "d".repeat(40).parse().expect("a commit"),
            manifest: Some(manifest.parse().expect("an id")),
        };
        let raw = |tree: &str, message: &str| format!("tree {tree}\nauthor a <a> 0 +0000\n\n{message}").into_bytes();
        let trailer = format!("Evidence: sha256:{manifest}");
        assert_eq!(landed.is_named_by(&raw(&tree, &format!("Story\n\nStory: x\n{trailer}\n"))), Ok(()));
        let refused = |raw: Vec<u8>, word: &str| {
            let why = landed.is_named_by(&raw).expect_err("refused");
            assert!(why.contains(word), "{why}");
        };
        refused(raw(&tree, &format!("{trailer}\n\nStory: x\n")), "names no evidence");
        refused(raw(&tree, &format!("m\n\nEvidence: sha256:{}\n", "0".repeat(64))), "and its manifest is");
        refused(raw(&"e".repeat(40), &format!("m\n\n{trailer}\n")), "has the tree");
        refused(b"tree".to_vec(), "no message");
        assert!(Landed { manifest: None, ..landed.clone() }.is_named_by(&raw(&tree, "m")).is_ok());
    }
}

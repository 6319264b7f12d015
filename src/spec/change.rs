//! What an edit of the spec changed, for a run that goes on while somebody writes.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{Spec, Story};
use crate::base::id::StoryId;

/// The difference between two readings of a spec.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    pub added: Vec<StoryId>,
    pub removed: Vec<StoryId>,
    /// Stories that ask for something else than before, with the fields that differ.
    pub changed: BTreeMap<StoryId, Vec<&'static str>>,
    pub overview: bool,
    /// The same stories in another plan order.
    pub reordered: bool,
}

impl Change {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Something that decides about order and readiness changed, and not only what a story says.
    pub fn moves_the_plan(&self) -> bool {
        let edges = ["after", "wired_with", "priority", "stream", "epic", "automatable", "artifacts"];
        let moved = self.changed.values().flatten().any(|field| edges.contains(field));
        moved || self.reordered || !self.added.is_empty() || !self.removed.is_empty()
    }
}

/// One hash over everything a spec asks for: the cheap question whether anything changed at all.
pub fn digest(spec: &Spec) -> String {
    let mut hash = Sha256::new();
    hash.update(spec.overview.as_deref().unwrap_or_default());
    for story in &spec.stories {
        hash.update(story.digest());
    }
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

pub fn between(old: &Spec, new: &Spec) -> Change {
    let index = |spec: &Spec| spec.stories.iter().map(|s| (s.id.clone(), s.clone())).collect::<BTreeMap<_, _>>();
    let (before, after) = (index(old), index(new));
    let order = |spec: &Spec, other: &BTreeMap<StoryId, Story>| {
        spec.stories.iter().map(|s| s.id.clone()).filter(|id| other.contains_key(id)).collect::<Vec<_>>()
    };
    let changed = after.iter().filter_map(|(id, story)| {
        let fields = fields(before.get(id)?, story);
        (!fields.is_empty()).then(|| (id.clone(), fields))
    });
    Change {
        added: new.stories.iter().map(|s| s.id.clone()).filter(|id| !before.contains_key(id)).collect(),
        removed: old.stories.iter().map(|s| s.id.clone()).filter(|id| !after.contains_key(id)).collect(),
        changed: changed.collect(),
        overview: old.overview != new.overview,
        reordered: order(old, &after) != order(new, &before),
    }
}

fn fields(old: &Story, new: &Story) -> Vec<&'static str> {
    // Every field is named here, so that a new one cannot be forgotten.
    let Story {
        id: _,
        title,
        epic,
        stream,
        priority,
        after,
        wired_with,
        artifacts,
        checks,
        scope,
        budget,
        automatable,
        text,
        criteria,
        origin: _,
    } = old;
    let differs = [
        ("title", *title != new.title),
        ("epic", *epic != new.epic),
        ("stream", *stream != new.stream),
        ("priority", *priority != new.priority),
        ("after", *after != new.after),
        ("wired_with", *wired_with != new.wired_with),
        ("artifacts", *artifacts != new.artifacts),
        ("checks", *checks != new.checks),
        ("scope", *scope != new.scope),
        ("budget", *budget != new.budget),
        ("automatable", *automatable != new.automatable),
        ("text", *text != new.text),
        ("criteria", *criteria != new.criteria),
    ];
    differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::source::Source;
    use crate::spec::story_file::parse;

    fn spec(stories: &[&str]) -> Spec {
        let read = |text: &&str| parse(&Source::new("s.md", &format!("---\n{text}\n---\n- [ ] x\n")), "s").0.expect(text);
        Spec { stories: stories.iter().map(read).collect(), overview: None }
    }

    #[test]
    fn a_late_dependency_is_seen_and_reformatting_is_not() {
        let old = spec(&["{id: a, title: t}", "{id: b, title: u}", "{id: c, title: v}"]);
        let same = spec(&["id: a\ntitle: 't'  # the same", "{id: b, title: u}", "{id: c, title: v}"]);
        assert!(between(&old, &same).is_empty());
        assert_eq!(digest(&old), digest(&same));
        let new = spec(&["{id: b, title: u2, after: a}", "{id: a, title: t}", "{id: d, title: w}"]);
        let change = between(&old, &new);
        assert_eq!((change.added.len(), change.removed.len(), change.reordered), (1, 1, true));
        assert_eq!(change.changed[&"b".parse::<StoryId>().expect("id")], ["title", "after"]);
        assert!(change.moves_the_plan());
        let words = spec(&["{id: a, title: t9}", "{id: b, title: u}", "{id: c, title: v}"]);
        assert!(!between(&old, &words).moves_the_plan() && !between(&old, &words).is_empty());
    }
}

//! What the loop knows of the stories: their facts, with the phase and the wishes that follow from them worked out once for each change.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::base::id::StoryId;
use crate::plan::next::Standing;
use crate::story::{Effect, Phase, Story, manifest, phase, wanted};

/// One story.
#[derive(Clone, Debug)]
pub struct Known {
    pub story: Story,
    pub phase: Phase,
    pub wanted: Vec<Effect>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct View {
    stories: BTreeMap<StoryId, Known>,
}

impl View {
    /// Takes a story as it is now.
    pub fn put(&mut self, story: Story) {
        let (phase, mut wanted) = (phase(&story), wanted(&story));
        // Nothing waits for these, so they are no part of what the story itself wants.
        wanted.extend(manifest::due(&story));
        self.stories.insert(story.id.clone(), Known { story, phase, wanted });
    }

    pub fn get(&self, id: &StoryId) -> Option<&Known> {
        self.stories.get(id)
    }

    pub fn all(&self) -> impl Iterator<Item = &Known> {
        self.stories.values()
    }

    pub fn stories(&self) -> impl Iterator<Item = &Story> {
        self.stories.values().map(|known| &known.story)
    }
}

/// A phase, as the picker of stories knows it. `next` is what a human does about it.
pub fn standing(phase: &Phase, next: impl FnOnce() -> String, now: Timestamp) -> Standing {
    match phase {
        Phase::Pending { not_before: Some(until) } if *until > now => Standing::Later(format!("its provider pauses until {until}")),
        Phase::Pending { .. } => Standing::Waiting,
        Phase::Contracting { .. }
        | Phase::Implementing { .. }
        | Phase::Verifying { .. }
        | Phase::Diagnosing { .. }
        | Phase::Repairing { .. }
        | Phase::GateCheck { .. } => Standing::Running,
        Phase::Ready { .. } | Phase::Queued { .. } | Phase::Merging { .. } => Standing::Ready,
        Phase::Merged { .. } | Phase::Backfilled { .. } => Standing::Landed,
        Phase::Blocked(_) | Phase::Escalated { .. } | Phase::Stagnated { .. } | Phase::Reverted { .. } => {
            let (word, sentence) = phase.reason().unwrap_or((phase.name(), "a human is needed"));
            Standing::Stopped { reason: format!("{word}: {sentence}"), next: next() }
        }
        Phase::Cancelled { .. } => Standing::Cancelled,
    }
}

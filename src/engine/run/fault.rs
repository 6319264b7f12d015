//! Whoever is at fault on a candidate is told so, once everything it was merged with has landed.

use std::collections::BTreeSet;

use super::Runner;
use super::queue::{Done, ticket, undone};
use crate::base::id::{CommitId, EvidenceId, StoryId};
use crate::config::When;
use crate::engine::perform::gate;
use crate::event::Finding;
use crate::queue::chain::{Fact, Why};
use crate::queue::gate::Definition;
use crate::queue::perform::Refusal;
use crate::story::facts::End;
use crate::story::{Phase, Story};

impl Runner<'_> {
    /// Tells a story that it is at fault. Everything it was merged with has landed.
    pub(super) fn begin_refusal(&mut self, story: StoryId, candidate: Option<CommitId>, base: CommitId, why: Why) {
        let help = self.help();
        let Some(known) = self.view.get(&story) else { return };
        let Some(queue) = &known.story.queue else { return };
        // A partner that waits for it is not in the target, and yet it must go together with it.
        let with = self.partners(&story).filter(|partner| self.is_waiting(partner)).map(ToString::to_string);
        let (ticket, neighbours) = (ticket(&known.story, &queue.commit), with.chain(self.neighbours(&known.story)).collect::<Vec<_>>());
        let (red, evidence) = what_was_red(&known.story);
        self.keeping.make(move || {
            let refusal = Refusal {
                candidate: candidate.as_ref(),
                why,
                base: &base,
                neighbours: &neighbours,
                red: &red,
                evidence: evidence.as_ref(),
            };
            let refused = help.with(|keeper| keeper.refuse(&ticket, refusal, &mut help.teller()));
            match refused {
                Ok(()) => Done::Settled { story },
                Err(error) => undone(&story, error),
            }
        });
    }

    /// Where repairs begin that are not over: the refs of these stay.
    pub(super) fn open_repairs(&self) -> Vec<CommitId> {
        let open = self.view.stories().filter(|story| story.end.is_none());
        let of = |story: &Story| {
            let begun = story.attempts.last().and_then(|attempt| attempt.from.clone());
            [begun, story.resume_from.clone(), story.onto.as_ref().map(|(_, from)| from.clone())]
        };
        open.flat_map(of).flatten().collect()
    }

    fn is_waiting(&self, story: &StoryId) -> bool {
        self.view.get(story).is_some_and(|known| matches!(known.phase, Phase::Queued { .. } | Phase::Merging { .. }))
    }

    /// The stories that landed since this one's base: those it did not know.
    fn neighbours(&self, story: &Story) -> Vec<String> {
        let (Some(repository), Some(change)) = (&self.keeping.repository, story.change()) else { return Vec::new() };
        let Ok(base) = change.base.as_str().parse() else { return Vec::new() };
        let landed = self.view.stories().filter_map(|other| match &other.end {
            Some(End::Merged { commit, .. }) => Some((&other.id, commit.as_str().parse().ok()?)),
            _ => None,
        });
        landed.filter(|(_, commit)| !repository.is_ancestor(*commit, base)).map(|(id, _)| id.to_string()).take(20).collect()
    }

    /// Stories that waited for their neighbours: on a target that holds these, the fault is theirs or nobody's.
    pub(super) fn settle_aside(&mut self) -> bool {
        let is_open = |runner: &Self, story: &StoryId| {
            runner.view.get(story).is_some_and(|known| matches!(known.phase, Phase::Queued { .. } | Phase::Merging { .. }))
                && !runner.keeping.aside.contains_key(story)
        };
        let ready: Vec<StoryId> = self
            .keeping
            .aside
            .iter()
            .filter(|(story, behind)| !behind.is_empty() && (!behind.iter().any(|b| is_open(self, b)) || self.view.get(story).is_none()))
            .map(|(story, _)| story.clone())
            .collect();
        let mut acted = false;
        for story in ready {
            acted = true;
            self.settle_one(story);
        }
        acted
    }

    fn settle_one(&mut self, story: StoryId) {
        let queue = self
            .view
            .get(&story)
            .filter(|k| matches!(k.phase, Phase::Queued { .. } | Phase::Merging { .. }))
            .and_then(|k| k.story.queue.clone());
        let (Some(queue), Some(chain)) = (queue, &self.keeping.chain) else {
            self.keeping.aside.remove(&story);
            return;
        };
        // Marked as being looked at.
        self.keeping.aside.insert(story.clone(), BTreeSet::new());
        let Some(known) = self.view.get(&story) else { return };
        let (base, ticket, neighbours) = (chain.target().clone(), ticket(&known.story, &queue.commit), self.neighbours(&known.story));
        let (red, evidence) = what_was_red(&known.story);
        let (help, shop) = (self.help(), self.shop.clone());
        let gates: Vec<Definition> = self.gates(&[When::Always]);
        self.keeping.make(move || {
            let mut tell = help.teller();
            let looked = help.with(|keeper| match keeper.build(std::slice::from_ref(&ticket), &base, &[], &mut tell)? {
                Fact::Built { candidate, .. } => Ok((Some(candidate), Why::Red)),
                _ => Ok((None, Why::Conflicts)),
            });
            let (candidate, why) = match looked {
                Ok(looked) => looked,
                Err(error) => return undone(&story, error),
            };
            let is_red = why == Why::Conflicts || candidate.as_ref().is_some_and(|candidate| gate::is_known_red(&shop, &gates, candidate));
            if !is_red {
                // Not the tree that was red: it goes back to the queue, and is tested like any other.
                return Done::Settled { story };
            }
            let refusal = Refusal {
                candidate: candidate.as_ref(),
                why,
                base: &base,
                neighbours: &neighbours,
                red: &red,
                evidence: evidence.as_ref(),
            };
            let refused = help.with(|keeper| keeper.refuse(&ticket, refusal, &mut tell));
            match refused {
                Ok(()) => Done::Settled { story },
                Err(error) => undone(&story, error),
            }
        });
    }
}

/// What the candidate's gates said, for the repair.
fn what_was_red(story: &Story) -> (Vec<Finding>, Option<EvidenceId>) {
    let candidate = story.queue.as_ref().and_then(|queue| queue.candidate.as_ref());
    let red = candidate.into_iter().flat_map(|candidate| &candidate.gates).filter(|(_, run)| run.result == crate::event::GateResult::Red);
    let mut evidence = None;
    let findings = red
        .map(|(name, run)| {
            evidence = evidence.take().or_else(|| run.evidence.last().cloned());
            let text = format!("gate {name} is red: {}", run.detail.as_deref().unwrap_or("it failed"));
            Finding { text, severity: Some("error".to_owned()), ..Finding::default() }
        })
        .collect();
    (findings, evidence)
}

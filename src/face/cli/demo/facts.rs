//! What the demo's store says happened, and whether it is what the demo is there to show. Nothing here comes from the scripts themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::agent::{ADDRESS, HOOK, KEY, MEMBERS_TEST};
use crate::base::id::{CommitId, EvidenceId};
use crate::event::{AttemptEnd, Event, GateResult, Kind, StopReason, Verdict};

/// The stories in the order of the plan.
pub(super) const STORIES: [&str; 5] = ["landing", "auth", "settings", "dashboard", "billing"];
/// Two stories that change the same line.
const PAIR: [&str; 2] = ["dashboard", "billing"];

/// What became of one story.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub(super) attempts: u32,
    /// Refusals by evaluators: the attempt, who, and what they said.
    pub(super) caught: Vec<Caught>,
    pub(super) denied: Vec<Denied>,
    /// The first path that both sides changed.
    pub(super) conflict: Option<String>,
    pub(super) landed: Option<CommitId>,
    /// Why it came to a stop.
    pub(super) stopped: Option<String>,
}

#[derive(Debug)]
pub(super) struct Caught {
    pub(super) attempt: u32,
    pub(super) evaluator: String,
    pub(super) path: Option<String>,
    pub(super) text: String,
}

/// A call that the sandbox saw fail.
#[derive(Debug)]
pub(super) struct Denied {
    pub(super) call: String,
    pub(super) target: String,
    pub(super) errno: Option<String>,
}

/// A fold over the events of the run.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) stories: BTreeMap<String, Story>,
    /// In the order of the target's history.
    pub(super) landed: Vec<(String, CommitId)>,
    /// Commits on which the gate was green.
    pub(super) green: BTreeSet<CommitId>,
    /// Commits that the integration gate looked at.
    pub(super) walked: Vec<(CommitId, bool)>,
    /// Processes that a reviewer or an implementer was.
    pub(super) agents: u32,
    pub(super) sandboxes_lacking: Vec<String>,
    /// Evidence among which there is a receipt for each of these processes.
    pub(super) receipts: Vec<EvidenceId>,
    pub(super) events: u64,
    /// Why the run came to its end, when that was no good one.
    pub(super) ended: Option<String>,
}

impl Facts {
    pub(super) fn take(&mut self, event: &Event) {
        self.events += 1;
        let id = event.story.as_ref().map(ToString::to_string).unwrap_or_default();
        match &event.kind {
            Kind::IntegrationChecked { commit, green, .. } => return self.walked.push((commit.clone(), *green)),
            Kind::SandboxReceipt { missing, evidence, .. } => {
                self.sandboxes_lacking.extend(missing.iter().cloned());
                self.receipts.push(evidence.clone());
            }
            Kind::GateFinished { commit, result: GateResult::Pass, .. } => drop(self.green.insert(commit.clone())),
            Kind::StoryLanded { commit, .. } => self.landed.push((id.clone(), commit.clone())),
            Kind::RunStopped { reason, detail } if *reason != StopReason::Finished => {
                let why = serde_json::to_value(reason).ok().and_then(|word| word.as_str().map(str::to_owned));
                self.ended = detail.clone().or(why);
            }
            Kind::AttemptStarted { .. } => self.agents += 1,
            Kind::EvaluatorFinished { evaluator, evidence, .. } if evaluator == "reviewer" => {
                self.agents += 1;
                // Among its transcript and its verdict.
                self.receipts.extend(evidence.iter().cloned());
            }
            _ => {}
        }
        if !id.is_empty() {
            self.stories.entry(id).or_default().take(&event.kind);
        }
    }
}

impl Story {
    fn take(&mut self, kind: &Kind) {
        match kind {
            Kind::AttemptStarted { attempt, .. } => self.attempts = self.attempts.max(attempt.get()),
            Kind::EvaluatorFinished { evaluator, verdict: Verdict::Fail, findings, .. } => {
                let finding = findings.first().cloned().unwrap_or_default();
                let (path, text) = (finding.path, finding.text);
                self.caught.push(Caught { attempt: self.attempts, evaluator: evaluator.clone(), path, text });
            }
            Kind::SandboxDenied { operation, target, errno, .. } => {
                self.denied.push(Denied { call: operation.clone(), target: target.clone(), errno: errno.clone() });
            }
            Kind::CandidateRefused { findings, .. } => self.conflict = findings.iter().find_map(|finding| finding.path.clone()),
            Kind::StoryLanded { commit, .. } => self.landed = Some(commit.clone()),
            Kind::StoryBlocked { block } => self.stopped = Some(block.question.clone()),
            Kind::StoryEscalated { detail, .. } => self.stopped = Some(detail.clone()),
            Kind::StoryStagnated { .. } => self.stopped = Some("nothing got better any more".to_owned()),
            Kind::AttemptEnded { end: AttemptEnd::CouldNotStart { why, .. }, .. } => self.stopped = Some(why.clone()),
            _ => {}
        }
    }

    pub(super) fn caught_by(&self, evaluator: &str) -> Option<&Caught> {
        self.caught.iter().find(|caught| caught.evaluator == evaluator)
    }

    fn was_denied(&self, call: &str, target_end: &str) -> bool {
        self.denied.iter().any(|denied| denied.call == call && denied.target.ends_with(target_end) && denied.errno.is_some())
    }
}

/// What is known beside the events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around {
    pub(super) chain_is_whole: bool,
    /// The key's text stands in no evidence.
    pub(super) key_is_secret: bool,
    pub(super) hooks_are_untouched: bool,
    /// `main` is at the last commit that landed.
    pub(super) main_is_last: bool,
    /// The least that any sandbox of an agent had, by its receipt: layers that the kernel enforced, and of these how many were tried from inside.
    pub(super) layers: (usize, usize),
}

/// Everything that must hold, and whether it does.
pub(super) fn checks(facts: &Facts, around: Around) -> Vec<(&'static str, bool)> {
    let nothing = Story::default();
    let story = |id: &str| facts.stories.get(id).unwrap_or(&nothing);
    let (auth, settings) = (story("auth"), story("settings"));
    let pair: Vec<&Story> = PAIR.iter().map(|id| story(id)).collect();
    let weakened = auth.caught_by("integrity");
    let last = facts.landed.last().map(|(_, commit)| commit);
    vec![
        ("all five stories landed", STORIES.iter().all(|id| story(id).landed.is_some()) && facts.landed.len() == STORIES.len()),
        ("what landed is what a gate was green on", facts.landed.iter().all(|(_, commit)| facts.green.contains(commit))),
        ("`landing` landed at its first attempt", story("landing").attempts == 1),
        (
            "`auth` was caught weakening a test, and repaired",
            weakened.is_some_and(|caught| caught.attempt == 1 && caught.path.as_deref() == Some(MEMBERS_TEST)) && auth.attempts == 2,
        ),
        ("the kernel kept the key from `settings`", settings.was_denied("open", KEY)),
        ("the kernel kept `settings` from the network", settings.was_denied("connect", ADDRESS)),
        ("the kernel kept `settings` from the repository's hooks", settings.was_denied("open", HOOK)),
        ("the key is in no transcript and no other evidence", around.key_is_secret),
        ("the hook is what it was", around.hooks_are_untouched),
        ("`settings` was repaired", settings.attempts == 2),
        (
            "`dashboard` and `billing` met in one line, and one of them was repaired",
            pair.iter().filter(|story| story.conflict.is_some()).count() == 1 && pair.iter().map(|story| story.attempts).sum::<u32>() == 3,
        ),
        (
            "the whole was walked through while stories landed and at the end, green each time",
            facts.walked.len() >= 2 && facts.walked.iter().all(|(_, green)| *green) && facts.walked.last().map(|(c, _)| c) == last,
        ),
        ("every sandbox had every layer", facts.sandboxes_lacking.is_empty() && around.layers.1 > 0),
        ("main is at the last landing", around.main_is_last),
        ("the log of events is whole", around.chain_is_whole),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_shown_that_did_not_happen() {
        let around = Around { chain_is_whole: true, key_is_secret: true, hooks_are_untouched: true, main_is_last: true, layers: (9, 5) };
        let held: Vec<_> = checks(&Facts::default(), around).into_iter().filter(|(_, held)| *held).map(|(what, _)| what).collect();
        // Of a run in which nothing happened, only what was looked at beside it holds, and what holds for no commit at all.
        assert_eq!(held.len(), 6, "{held:?}");
        // A refusal that no kernel answered is none.
        let mut story = Story::default();
        story.denied.push(Denied { call: "open".into(), target: format!("/home/x/{KEY}"), errno: None });
        assert!(!story.was_denied("open", KEY));
        story.denied[0].errno = Some("ENOENT".into());
        assert!(story.was_denied("open", KEY) && !story.was_denied("connect", KEY) && !story.was_denied("open", HOOK));
    }
}

//! What the world should do about a story, derived from its facts.
//!
//! A step's effects are what is wanted after an event and was not wanted before it. A runner that starts after a crash asks [`wanted`]
//! directly: it is everything that was not answered yet.

use jiff::Timestamp;

use super::facts::{Conclusion, Story};
use super::phase::{Phase, phase};
use crate::base::id::{AttemptNo, CommitId, TreeId};
use crate::event::{AttemptEnd, ContractMode, Landing, Task};

/// Something to be done outside. Each is answered by an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask a planner how it would go about the story. Answer: `approach.proposed`.
    Propose { attempt: AttemptNo },
    /// Ask a process of its own for the contract. Answer: `contract.accepted`, `contract.refused` or `attempt.ended`.
    AskContract { attempt: AttemptNo },
    /// Start an implementer in a fresh process. Answer: `attempt.started`, later `attempt.ended`.
    StartAttempt { attempt: AttemptNo, task: Task, base: CommitId, from: Option<CommitId> },
    /// End the attempt's processes. Answer: `attempt.ended`.
    StopAttempt { attempt: AttemptNo },
    /// Make a commit of what the attempt left. Answer: `change.collected`.
    Collect { attempt: AttemptNo },
    /// Answer: `evaluator.finished`.
    RunEvaluator { evaluator: String, attempt: AttemptNo, commit: CommitId, tree: TreeId, proof: String, tries: u32 },
    /// Answer: `diagnosis.made`.
    Diagnose { attempt: AttemptNo, commit: CommitId },
    /// Write the manifest of an attempt that was judged. Answer: `evidence.sealed`.
    Seal { attempt: AttemptNo, commit: CommitId },
    /// Answer: `gate.finished`.
    RunGate { gate: String, commit: CommitId, tree: TreeId, tries: u32 },
    /// Answer: `story.queued`.
    Enqueue { commit: CommitId },
    /// Answer: `story.dequeued`.
    Dequeue { commit: CommitId },
}

/// Everything that should be done about the story and was not answered yet.
pub fn wanted(story: &Story) -> Vec<Effect> {
    let phase = phase(story);
    let mut effects = Vec::new();
    let in_queue = matches!(phase, Phase::Queued { .. } | Phase::Merging { .. });
    if let Some(queue) = story.queue.as_ref().filter(|_| !in_queue && !matches!(phase, Phase::Merged { .. } | Phase::Reverted { .. })) {
        effects.push(Effect::Dequeue { commit: queue.commit.clone() });
    }
    let at_work = matches!(phase, Phase::Implementing { .. } | Phase::Repairing { .. });
    // A blocked approach is stopped as soon as it is declared, before time is spent on it.
    let limit = story.spec.rules.limits.same_approach;
    if let Some(running) = story.running().filter(|a| !at_work || story.memory.blocks(&a.approach(), limit).is_some()) {
        effects.push(Effect::StopAttempt { attempt: running.no });
    }
    let Some(attempt) = story.attempt() else { return effects };
    // Also work that ended with a question, or over its budget, is collected before anything else happens: nothing is lost.
    let left_something = matches!(attempt.ended, Some(AttemptEnd::Finished | AttemptEnd::Failed { .. })) && attempt.started;
    let is_open = matches!(attempt.conclusion, None | Some(Conclusion::Asked));
    if left_something && is_open && attempt.change.is_none() && story.end.is_none() {
        effects.push(Effect::Collect { attempt: attempt.no });
    }
    match phase {
        Phase::Contracting { attempt } if owes_proposal(story) => effects.push(Effect::Propose { attempt }),
        Phase::Contracting { attempt } => effects.push(Effect::AskContract { attempt }),
        Phase::Implementing { .. } | Phase::Repairing { .. } if !attempt.started && attempt.ended.is_none() => {
            let (base, from) = (attempt.base.clone(), attempt.from.clone());
            effects.push(Effect::StartAttempt { attempt: attempt.no, task: attempt.task, base, from });
        }
        Phase::Verifying { commit, missing } => {
            let Some(change) = &attempt.change else { return effects };
            effects.extend(missing.into_iter().map(|evaluator| {
                let tries =
                    attempt.results.get(&evaluator).filter(|result| result.proof == story.spec.proof).map_or(0, |result| result.tries);
                let (tree, proof) = (change.tree.clone(), story.spec.proof.clone());
                Effect::RunEvaluator { evaluator, attempt: attempt.no, commit: commit.clone(), tree, proof, tries }
            }));
        }
        Phase::Diagnosing { commit } => effects.push(Effect::Diagnose { attempt: attempt.no, commit }),
        Phase::GateCheck { verdicts, missing } => effects.extend(missing.into_iter().map(|gate| {
            let tries = attempt.gates.get(&gate).map_or(0, |run| run.tries);
            Effect::RunGate { gate, commit: verdicts.commit().clone(), tree: verdicts.tree().clone(), tries }
        })),
        Phase::Ready { proof } => {
            let may_enter = match story.spec.rules.landing {
                Landing::Queue => true,
                Landing::Approval => story.approvals.contains(proof.commit()),
                Landing::Stop => false,
            };
            if may_enter {
                effects.push(Effect::Enqueue { commit: proof.commit().clone() });
            }
        }
        _ => {}
    }
    effects
}

/// When a pending story may start, as far as the story itself is concerned.
///
/// # Errors
/// The one reason why it may not.
pub fn may_start(story: &Story, now: Timestamp) -> Result<AttemptNo, String> {
    let phase = phase(story);
    let Phase::Pending { not_before } = phase else { return Err(format!("it is {}", phase.name())) };
    if !story.spec.automatable {
        return Err("only a human can do it (automatable: false)".to_owned());
    }
    if let Some(running) = story.running() {
        return Err(format!("attempt {} has not ended yet", running.no));
    }
    if let Some(until) = not_before.filter(|until| *until > now) {
        return Err(format!("its provider pauses until {until}"));
    }
    Ok(story.next_attempt())
}

/// Whether a planner is to be heard first. It is heard once, before the first line is written; a repair has its findings.
pub(super) fn owes_proposal(story: &Story) -> bool {
    let is_first = story.attempt().is_some_and(|attempt| attempt.task == Task::Implement && !attempt.started && attempt.ended.is_none());
    story.spec.rules.propose && story.proposal.is_none() && is_first
}

/// Whether an attempt still owes its contract.
pub(super) fn owes_contract(story: &Story) -> bool {
    story.spec.rules.contract != ContractMode::Off && story.attempt().is_some_and(|attempt| !attempt.contract)
}

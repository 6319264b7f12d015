//! Where a story stands, derived from its facts. A variant carries the data that proves it: [`Phase::Ready`] cannot be built without
//! passing verdicts on that very commit.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::facts::{Attempt, Candidate, Change, Conclusion, End, GateRun, Halt, Judgement, Story};
use crate::base::id::{AttemptNo, CommitId, TreeId};
use crate::event::{Block, ContractMode, GateResult, Task, Verdict};

/// Every required evaluator passed on one commit, against the story as it is now. Only [`Verdicts::of`] makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdicts {
    commit: CommitId,
    tree: TreeId,
    evaluators: Vec<String>,
}

/// Why there is no proof yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lacking {
    /// Evaluators or gates that have not said anything that counts.
    Missing(Vec<String>),
    /// Evaluators or gates that said no.
    Failed(Vec<String>),
    /// One that cannot judge, and was tried often enough.
    Broken(String),
    /// Only a human's approval of this commit is missing.
    Approval(Vec<String>),
}

/// Verdicts, and green gates on the same commit. Only [`Proof::of`] makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Proof {
    verdicts: Verdicts,
    gates: Vec<String>,
}

impl Verdicts {
    /// The proof that evaluators passed on the change of this attempt.
    ///
    /// # Errors
    /// What is lacking.
    pub fn of(story: &Story, attempt: &Attempt, change: &Change) -> Result<Self, Lacking> {
        let rules = &story.spec.rules;
        let (mut missing, mut failed, mut approval) = (Vec::new(), Vec::new(), Vec::new());
        for name in &rules.evaluators {
            // A verdict on the story as it was before somebody changed it is none.
            let result = attempt.results.get(name).filter(|result| result.proof == story.spec.proof);
            match result.map(|result| (result.verdict, result)) {
                None => missing.push(name.clone()),
                Some((Verdict::Error, result)) if result.errors > rules.limits.evaluator_errors => {
                    return Err(Lacking::Broken(name.clone()));
                }
                Some((Verdict::Error, _)) => missing.push(name.clone()),
                Some((Verdict::Pass, result)) if result.problems == 0 => {}
                Some((Verdict::NeedsApproval, result)) if is_approved(story, &change.commit, result) => {}
                Some((Verdict::NeedsApproval, _)) => approval.push(name.clone()),
                Some((Verdict::Pass | Verdict::Fail, _)) => failed.push(name.clone()),
            }
        }
        // A story that nothing judges is not proven: that is a fault of the configuration, and it fails closed.
        if rules.evaluators.is_empty() {
            return Err(Lacking::Broken("no evaluator is configured".to_owned()));
        }
        lacking(missing, failed)?;
        if !approval.is_empty() {
            return Err(Lacking::Approval(approval));
        }
        Ok(Self { commit: change.commit.clone(), tree: change.tree.clone(), evaluators: rules.evaluators.clone() })
    }

    pub fn commit(&self) -> &CommitId {
        &self.commit
    }

    pub fn tree(&self) -> &TreeId {
        &self.tree
    }

    pub fn evaluators(&self) -> &[String] {
        &self.evaluators
    }
}

impl Proof {
    /// The proof that gates passed on the commit that the verdicts are about.
    ///
    /// # Errors
    /// What is lacking.
    pub fn of(story: &Story, attempt: &Attempt, verdicts: Verdicts) -> Result<Self, Lacking> {
        let gates = green(story, &story.spec.rules.gates, &attempt.gates, &verdicts.tree)?;
        Ok(Self { verdicts, gates })
    }

    pub fn verdicts(&self) -> &Verdicts {
        &self.verdicts
    }

    pub fn commit(&self) -> &CommitId {
        &self.verdicts.commit
    }

    pub fn gates(&self) -> &[String] {
        &self.gates
    }
}

/// Whether everything that is required of a candidate is green on its tree.
pub(super) fn green_candidate(story: &Story, candidate: &Candidate) -> Result<(), Lacking> {
    let rules = &story.spec.rules;
    let required: Vec<String> = rules.gates.iter().chain(&rules.candidate_gates).cloned().collect();
    green(story, &required, &candidate.gates, &candidate.tree).map(drop)
}

/// Whether every required gate is green on this tree.
fn green(story: &Story, required: &[String], gates: &BTreeMap<String, GateRun>, tree: &TreeId) -> Result<Vec<String>, Lacking> {
    let (mut missing, mut failed) = (Vec::new(), Vec::new());
    for name in required {
        match gates.get(name).filter(|run| run.tree == *tree).map(|run| (run.result, run.errors)) {
            Some((GateResult::Pass, _)) => {}
            Some((GateResult::Red, _)) => failed.push(name.clone()),
            Some((GateResult::Error, errors)) if errors > story.spec.rules.limits.evaluator_errors => {
                return Err(Lacking::Broken(format!("gate {name}")));
            }
            Some((GateResult::Error | GateResult::Cancelled, _)) | None => missing.push(name.clone()),
        }
    }
    // One red gate is enough: the others are not worth waiting for.
    let missing = if failed.is_empty() { missing } else { Vec::new() };
    lacking(missing, failed)?;
    Ok(required.to_vec())
}

fn lacking(missing: Vec<String>, failed: Vec<String>) -> Result<(), Lacking> {
    match (missing.is_empty(), failed.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => Err(Lacking::Missing(missing)),
        (true, false) => Err(Lacking::Failed(failed)),
    }
}

/// The phase of a story.
#[derive(Clone, Debug, PartialEq)]
pub enum Phase {
    Pending {
        not_before: Option<Timestamp>,
    },
    /// A planner is asked how it would go about it, or a process of its own what it understood.
    Contracting {
        attempt: AttemptNo,
    },
    Implementing {
        attempt: AttemptNo,
    },
    Verifying {
        commit: CommitId,
        missing: Vec<String>,
    },
    Diagnosing {
        commit: CommitId,
    },
    Repairing {
        attempt: AttemptNo,
    },
    GateCheck {
        verdicts: Verdicts,
        missing: Vec<String>,
    },
    Ready {
        proof: Proof,
    },
    Queued {
        proof: Proof,
    },
    Merging {
        proof: Proof,
        candidate: Candidate,
    },
    Merged {
        commit: CommitId,
    },
    Blocked(Block),
    Escalated {
        reason: String,
        detail: String,
    },
    Stagnated {
        iterations: u32,
    },
    Reverted {
        commit: CommitId,
        reason: String,
    },
    Cancelled {
        reason: String,
    },
    Backfilled {
        commit: Option<CommitId>,
        reason: String,
    },
}

/// The names of all phases, in the order of a story's life.
pub const PHASES: [&str; 17] = [
    "pending",
    "contracting",
    "implementing",
    "verifying",
    "diagnosing",
    "repairing",
    "gate_check",
    "ready_for_review",
    "queued",
    "merging",
    "merged",
    "blocked",
    "escalated",
    "stagnated",
    "reverted",
    "cancelled",
    "backfilled",
];

impl Phase {
    /// The name, as faces and scripts see it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Pending { .. } => "pending",
            Self::Contracting { .. } => "contracting",
            Self::Implementing { .. } => "implementing",
            Self::Verifying { .. } => "verifying",
            Self::Diagnosing { .. } => "diagnosing",
            Self::Repairing { .. } => "repairing",
            Self::GateCheck { .. } => "gate_check",
            Self::Ready { .. } => "ready_for_review",
            Self::Queued { .. } => "queued",
            Self::Merging { .. } => "merging",
            Self::Merged { .. } => "merged",
            Self::Blocked(_) => "blocked",
            Self::Escalated { .. } => "escalated",
            Self::Stagnated { .. } => "stagnated",
            Self::Reverted { .. } => "reverted",
            Self::Cancelled { .. } => "cancelled",
            Self::Backfilled { .. } => "backfilled",
        }
    }

    /// Nothing more happens by itself. A human may still reopen the story.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Merged { .. } | Self::Reverted { .. } | Self::Cancelled { .. } | Self::Backfilled { .. })
    }

    /// The story waits for a human.
    pub fn is_halted(&self) -> bool {
        matches!(self, Self::Blocked(_) | Self::Escalated { .. } | Self::Stagnated { .. })
    }

    /// What comes after this story may build on it.
    pub fn satisfies_dependents(&self) -> bool {
        matches!(self, Self::Merged { .. } | Self::Backfilled { .. })
    }

    /// It takes one of the run's parallel slots.
    pub fn holds_slot(&self) -> bool {
        matches!(
            self,
            Self::Contracting { .. }
                | Self::Implementing { .. }
                | Self::Verifying { .. }
                | Self::Diagnosing { .. }
                | Self::Repairing { .. }
                | Self::GateCheck { .. }
        )
    }

    /// Why it stands still: a short word and a sentence.
    pub fn reason(&self) -> Option<(&str, &str)> {
        match self {
            Self::Blocked(block) => Some((&block.reason, &block.question)),
            Self::Escalated { reason, detail } => Some((reason, detail)),
            Self::Stagnated { .. } => Some(("stagnated", "no evaluator got better")),
            Self::Reverted { reason, .. } => Some(("reverted", reason)),
            Self::Cancelled { reason } => Some(("cancelled", reason)),
            Self::Backfilled { reason, .. } => Some(("backfilled", reason)),
            _ => None,
        }
    }
}

/// Derives the phase.
pub fn phase(story: &Story) -> Phase {
    if let Some(end) = &story.end {
        return match end {
            End::Merged { commit, .. } => Phase::Merged { commit: commit.clone() },
            End::Reverted { commit, reason } => Phase::Reverted { commit: commit.clone(), reason: reason.clone() },
            End::Cancelled { reason, .. } => Phase::Cancelled { reason: reason.clone() },
            End::Backfilled { commit, reason } => Phase::Backfilled { commit: commit.clone(), reason: reason.clone() },
        };
    }
    match &story.halt {
        Some(Halt::Blocked(block)) => return Phase::Blocked(block.clone()),
        Some(Halt::Escalated { reason, detail }) => return Phase::Escalated { reason: reason.clone(), detail: detail.clone() },
        Some(Halt::Stagnated { iterations }) => return Phase::Stagnated { iterations: *iterations },
        None => {}
    }
    match (story.active, story.attempt()) {
        (true, Some(attempt)) => working(story, attempt),
        _ => Phase::Pending { not_before: story.not_before },
    }
}

fn working(story: &Story, attempt: &Attempt) -> Phase {
    let at_work = match attempt.task {
        Task::Implement => Phase::Implementing { attempt: attempt.no },
        Task::Repair => Phase::Repairing { attempt: attempt.no },
    };
    let Some(change) = attempt.change.as_ref() else {
        let asking = story.spec.rules.contract == ContractMode::Before && !attempt.contract && !attempt.started;
        return if asking || super::wanted::owes_proposal(story) { Phase::Contracting { attempt: attempt.no } } else { at_work };
    };
    match &attempt.conclusion {
        Some(Conclusion::Failed(_)) => return Phase::Diagnosing { commit: change.commit.clone() },
        // Neither holds a slot; a story with such an attempt was set down.
        Some(Conclusion::Void | Conclusion::Asked) => return Phase::Pending { not_before: story.not_before },
        None => {}
    }
    let verdicts = match Verdicts::of(story, attempt, change) {
        Ok(verdicts) => verdicts,
        Err(Lacking::Missing(missing)) => return Phase::Verifying { commit: change.commit.clone(), missing },
        Err(Lacking::Approval(by)) => return Phase::Blocked(approval(story, &change.commit, &by.join(", "))),
        // `step` concludes and halts on these at once; until it did, nothing is missing and nothing is ready.
        Err(Lacking::Failed(_) | Lacking::Broken(_)) => return Phase::Verifying { commit: change.commit.clone(), missing: Vec::new() },
    };
    match Proof::of(story, attempt, verdicts.clone()) {
        Ok(proof) => queued(story, proof),
        Err(Lacking::Missing(missing)) => Phase::GateCheck { verdicts, missing },
        Err(Lacking::Failed(_) | Lacking::Broken(_) | Lacking::Approval(_)) => Phase::GateCheck { verdicts, missing: Vec::new() },
    }
}

/// A human approved the commit, and gave up by name every gate that goes with it.
fn is_approved(story: &Story, commit: &CommitId, result: &Judgement) -> bool {
    let gates = result.findings.iter().filter_map(|finding| finding.gate.clone());
    story.approvals.contains(commit) && gates.into_iter().all(|gate| story.given_up.contains(&(commit.clone(), gate)))
}

/// The gates that the commit takes away or weakens, in the order of the file; each with what becomes of it.
pub fn losses<'a>(story: &'a Story, commit: &CommitId) -> Vec<(&'a str, &'a str)> {
    let attempt = story.attempts.iter().rev().find(|attempt| attempt.change.as_ref().is_some_and(|change| change.commit == *commit));
    let findings = attempt.into_iter().flat_map(|attempt| attempt.results.values().flat_map(|result| &result.findings));
    findings.filter_map(|finding| Some((finding.gate.as_deref()?, finding.text.as_str()))).collect()
}

/// What a human types to approve the commit with all that goes with it.
pub fn approve_command(story: &Story, commit: &CommitId) -> String {
    let mut gates: Vec<&str> = losses(story, commit).into_iter().map(|(gate, _)| gate).collect();
    gates.dedup();
    let without: String = gates.iter().map(|gate| format!(" --without-gate {gate}")).collect();
    format!("cofferdam approve {} --commit {commit}{without}", story.id)
}

fn queued(story: &Story, proof: Proof) -> Phase {
    match story.queue.as_ref().filter(|queue| queue.commit == *proof.commit()) {
        None => Phase::Ready { proof },
        Some(queue) => match &queue.candidate {
            None => Phase::Queued { proof },
            Some(candidate) => Phase::Merging { proof, candidate: candidate.clone() },
        },
    }
}

fn approval(story: &Story, commit: &CommitId, by: &str) -> Block {
    let lost: Vec<&str> = losses(story, commit).into_iter().map(|(_, text)| text).collect();
    let lost = if lost.is_empty() { String::new() } else { format!(" With it, {}.", lost.join(", and ")) };
    Block {
        reason: "approval".to_owned(),
        question: format!("{by} asks for a human's approval of commit {}.{lost} Is the change right?", commit.short()),
        next: format!("{}, or cofferdam reject {} REASON", approve_command(story, commit), story.id),
    }
}

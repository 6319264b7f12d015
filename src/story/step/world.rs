//! What the world answered: the plan, agents, evaluators, gates, the queue.
//!
//! Facts that come late, or twice, change nothing; facts that cannot be are refused.

use jiff::{SignedDuration, Timestamp};

use super::{Refusal, Taken, block_contract, conclude, finding, halt, next_attempt, open_attempt, refuse};
use crate::base::id::{AttemptNo, CommitId, TreeId};
use crate::event::{AttemptEnd, Block, Finding, GateResult, Kind, Landing, Verdict};
use crate::story::budget;
use crate::story::facts::{
    Attempt, Candidate, Change, Conclusion, Diagnosis, End, Failure, GateRun, Halt, Judgement, Paper, Proposal, Queue, Revert, Story,
};
use crate::story::phase::{Phase, green_candidate};
use crate::story::wanted::{may_start, owes_contract};

/// A provider that names a later time than this is taken at this one: a clock may be wrong, on either side.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Findings kept with the facts; all of them are in the log.
const FINDINGS_KEPT: usize = 50;
/// Characters kept of a finding.
const FINDING_LENGTH: usize = 2_000;
const RECEIPTS_KEPT: usize = 50;
/// Characters kept of a proposal.
const PROPOSAL_LENGTH: usize = 8_000;
const CALLS_KEPT: usize = 50;
/// Pieces of evidence kept of an attempt; all of them are in the log.
const PAPERS_KEPT: usize = 300;
/// Tasks kept of a diagnosis.
const TASKS_KEPT: usize = 20;

/// Takes an event that is no command. None when it is one.
pub(super) fn take(story: &mut Story, phase: &Phase, kind: &Kind, now: Timestamp) -> Option<Taken> {
    Some(match kind {
        Kind::StoryCreated { .. } | Kind::StoryChanged { .. } | Kind::StoryRemoved {} | Kind::StoryStarted { .. } => {
            plan(story, phase, kind, now)
        }
        Kind::ContractAccepted { .. }
        | Kind::ContractRefused { .. }
        | Kind::AttemptStarted { .. }
        | Kind::ApproachDeclared { .. }
        | Kind::ApproachProposed { .. }
        | Kind::AgentCalled { .. }
        | Kind::EvidenceSealed { .. }
        | Kind::AttemptEnded { .. } => attempt(story, phase, kind, now),
        // Its own words: they are shown, and nothing follows from them.
        Kind::AgentSaid { .. } => Ok(()),
        Kind::ChangeCollected { .. } | Kind::EvaluatorFinished { .. } | Kind::DiagnosisMade { .. } | Kind::GateFinished { .. } => {
            work(story, kind)
        }
        Kind::StoryQueued { .. }
        | Kind::StoryDequeued { .. }
        | Kind::CandidateBuilt { .. }
        | Kind::CandidateDropped { .. }
        | Kind::CandidateRefused { .. }
        | Kind::LandingStarted { .. }
        | Kind::StoryLanded { .. }
        | Kind::RevertPrepared { .. }
        | Kind::RevertReady { .. }
        | Kind::RevertDropped { .. }
        | Kind::StoryReverted { .. }
        | Kind::StoryReopened { .. } => queue(story, phase, kind),
        Kind::StoryReady { commit, .. } => match phase {
            Phase::Ready { proof } | Phase::Queued { proof } | Phase::Merging { proof, .. } if proof.commit() == commit => Ok(()),
            _ => refuse(format!("there is no proof for commit {}", commit.short()), "let the evaluators and gates judge that commit"),
        },
        Kind::StoryBlocked { block } => stop(story, phase, Halt::Blocked(block.clone())),
        Kind::StoryUnblocked { .. } if story.is_held_by_host() => {
            story.halt = None;
            Ok(())
        }
        Kind::StoryUnblocked { .. } => refuse("it does not wait for this host", format!("cofferdam why {}", story.id)),
        Kind::StoryEscalated { reason, detail } => stop(story, phase, Halt::Escalated { reason: reason.clone(), detail: detail.clone() }),
        Kind::StoryStagnated { iterations } => stop(story, phase, Halt::Stagnated { iterations: *iterations }),
        Kind::BudgetSpent { amount, .. } => {
            story.spent = story.spent.plus(*amount);
            story.spent_total = story.spent_total.plus(*amount);
            // What was judged last and what is judged now are one: the next attempt has not begun when its predecessor's sums come.
            if let Some(attempt) = story.attempts.iter_mut().rev().find(|a| a.started) {
                attempt.spent = attempt.spent.plus(*amount);
            }
            Ok(())
        }
        Kind::SandboxReceipt { attempt, evidence, .. } => {
            let found = attempt.and_then(|no| story.attempts.iter_mut().find(|a| a.no == no));
            if let Some(attempt) = found.filter(|a| a.receipts.len() < RECEIPTS_KEPT && !a.receipts.contains(evidence)) {
                attempt.receipts.push(evidence.clone());
            }
            Ok(())
        }
        // Told for readers of the log; nothing is decided by them.
        Kind::GateStarted { .. }
        | Kind::GateSuspected { .. }
        | Kind::HumanNotified { .. }
        | Kind::BudgetExceeded { .. }
        | Kind::NetworkDenied { .. }
        | Kind::SandboxDenied { .. }
        | Kind::LeftoverSwept { .. }
        | Kind::ProviderPaused { .. }
        | Kind::ProviderResumed { .. }
        | Kind::IntegrationChecked { .. }
        | Kind::Unknown { .. } => Ok(()),
        Kind::RunStarted { .. }
        | Kind::RunStopped { .. }
        | Kind::RunPaused { .. }
        | Kind::RunResumed {}
        | Kind::PlanChanged { .. }
        | Kind::TargetMoved { .. }
        | Kind::TargetChecked { .. } => refuse("it concerns the run, not a story", "store it without a story"),
        Kind::StoryRejected { .. }
        | Kind::StoryApproved { .. }
        | Kind::StoryAnswered { .. }
        | Kind::StoryNoted { .. }
        | Kind::StoryRetried {}
        | Kind::StoryReset { .. }
        | Kind::StoryReplanned { .. }
        | Kind::StoryCancelled { .. }
        | Kind::StoryBackfilled { .. } => return None,
    })
}

/// Notes what an event names as evidence with the attempt that it is about.
pub(super) fn note_papers(story: &mut Story, kind: &Kind) {
    let named = kind.evidence();
    if named.is_empty() {
        return;
    }
    let found = match kind {
        Kind::ContractAccepted { attempt, .. }
        | Kind::ContractRefused { attempt, .. }
        | Kind::ApproachProposed { attempt, .. }
        | Kind::AgentCalled { attempt, .. }
        | Kind::AttemptEnded { attempt, .. }
        | Kind::SandboxReceipt { attempt: Some(attempt), .. } => story.attempts.iter_mut().find(|a| a.no == *attempt),
        Kind::EvaluatorFinished { commit, .. }
        | Kind::GateSuspected { commit, .. }
        | Kind::GateFinished { commit, .. }
        | Kind::DiagnosisMade { commit, .. } => {
            story.attempts.iter_mut().rev().find(|a| a.change.as_ref().is_some_and(|change| change.commit == *commit))
        }
        _ => None,
    };
    // A sealed list does not grow.
    let Some(attempt) = found.filter(|a| a.manifest.is_none()) else { return };
    for (id, what) in named {
        if attempt.papers.len() < PAPERS_KEPT && !attempt.papers.iter().any(|paper| paper.id == *id) {
            attempt.papers.push(Paper { id: id.clone(), what });
        }
    }
}

fn plan(story: &mut Story, phase: &Phase, kind: &Kind, now: Timestamp) -> Taken {
    match kind {
        Kind::StoryCreated { spec } => match story.end {
            Some(End::Cancelled { removed: true, .. }) => {
                story.end = None;
                story.spec = spec.clone();
                Ok(())
            }
            _ => refuse("the story is there already", "record what changed as story.changed"),
        },
        Kind::StoryChanged { spec } => {
            // Verdicts on the old text stay with the facts, and stop counting: they name the text they judged.
            if story.spec.proof != spec.proof {
                story.proposal = None;
            }
            story.spec = spec.clone();
            Ok(())
        }
        Kind::StoryRemoved {} => {
            if story.end.is_none() && !is_landing(story) {
                story.end = Some(End::Cancelled { reason: "it is no longer in the plan".to_owned(), removed: true });
                story.halt = None;
                story.active = false;
            }
            Ok(())
        }
        Kind::StoryStarted { attempt, base } => {
            let expected = match may_start(story, now) {
                Ok(expected) => expected,
                Err(why) => return refuse(why, "start another story; `cofferdam next` names those that may start"),
            };
            if *attempt != expected {
                return refuse(format!("attempt {attempt} is not the next one"), format!("start attempt {expected}"));
            }
            story.not_before = None;
            if story.unjudged().is_none() {
                // A story that was taken out of the plan and put back has its old budget.
                let failed = |a: &Attempt| matches!(&a.conclusion, Some(Conclusion::Failed(failure)) if failure.reviewed);
                let goes_on = story.resume_from.is_some() || story.onto.is_some();
                let repair = goes_on && story.counted().next_back().is_some_and(failed);
                if let Some(spent) = budget::forbids_attempt(story, repair) {
                    halt(story, Halt::Escalated { reason: spent.which.to_owned(), detail: spent.to_string() });
                    return Ok(());
                }
                open_attempt(story, *attempt, base.clone());
            }
            story.active = true;
            Ok(())
        }
        _ => refuse(format!("it does not concern a plan while the story is {}", phase.name()), "nothing"),
    }
}

/// Whether an event's attempt is the current one. A past one is late; a future one cannot be.
fn is_current(story: &Story, no: AttemptNo) -> Result<bool, Refusal> {
    match story.attempts.last() {
        Some(last) if last.no == no => Ok(true),
        Some(last) if no < last.no => Ok(false),
        _ => Err(Refusal { why: format!("there is no attempt {no}"), instead: "start it first".to_owned() }),
    }
}

fn attempt(story: &mut Story, phase: &Phase, kind: &Kind, now: Timestamp) -> Taken {
    match kind {
        Kind::ContractAccepted { attempt, .. } => {
            if is_current(story, *attempt)?
                && let Some(current) = story.attempts.last_mut()
            {
                current.contract = true;
            }
            Ok(())
        }
        Kind::ContractRefused { attempt, why, .. } => {
            let counts = is_current(story, *attempt)? && story.active && story.end.is_none();
            if counts && story.unjudged().is_none() {
                block_contract(story, why);
            }
            Ok(())
        }
        Kind::AttemptStarted { attempt, agent, task } => {
            if !is_current(story, *attempt)? {
                return refuse(format!("attempt {attempt} is over"), "end its process");
            }
            if !matches!(phase, Phase::Implementing { .. } | Phase::Repairing { .. }) {
                let instead = if owes_contract(story) && story.active { "ask for the contract first" } else { "do not start the process" };
                return refuse("no attempt is to be started", instead);
            }
            let Some(current) = story.attempts.last_mut() else { return Ok(()) };
            if current.started || current.task != *task {
                return refuse(format!("attempt {attempt} is to be started once, to {:?}", current.task), "do not start a second process");
            }
            current.started = true;
            current.agent = Some(agent.clone());
            Ok(())
        }
        Kind::ApproachDeclared { attempt, summary } => {
            if is_current(story, *attempt)?
                && let Some(current) = story.attempts.last_mut().filter(|a| a.declared.is_none() && a.conclusion.is_none())
            {
                current.declared = Some(crate::base::text::cut(summary, FINDING_LENGTH));
            }
            Ok(())
        }
        Kind::ApproachProposed { attempt, summary, error, .. } => {
            if is_current(story, *attempt)? && story.proposal.is_none() && story.end.is_none() {
                story.proposal = Some(Proposal { summary: crate::base::text::cut(summary, PROPOSAL_LENGTH), error: error.clone() });
            }
            Ok(())
        }
        Kind::EvidenceSealed { attempt, manifest } => {
            let found = story.attempts.iter_mut().find(|a| a.no == *attempt);
            let Some(found) = found.filter(|a| a.change.is_some()) else {
                return refuse(format!("attempt {attempt} left nothing"), "seal an attempt that was judged");
            };
            found.manifest.get_or_insert_with(|| manifest.clone());
            Ok(())
        }
        Kind::AgentCalled { attempt, call } => {
            let found = story.attempts.iter_mut().find(|a| a.no == *attempt);
            let Some(found) = found else { return refuse(format!("there is no attempt {attempt}"), "start it first") };
            if found.calls.len() < CALLS_KEPT {
                found.calls.push(call.clone());
            }
            Ok(())
        }
        Kind::AttemptEnded { attempt, end, summary, question, transcript, .. } => {
            if !is_current(story, *attempt)? {
                return Ok(());
            }
            let limit = story.spec.rules.limits.same_approach;
            let Some(current) = story.attempts.last_mut().filter(|a| a.ended.is_none()) else { return Ok(()) };
            current.ended = Some(end.clone());
            current.summary = summary.as_deref().map(|text| crate::base::text::cut(text, FINDING_LENGTH));
            current.transcript.clone_from(transcript);
            if current.conclusion.is_some() || story.end.is_some() {
                return Ok(());
            }
            let (was_started, approach) = (current.started, current.approach());
            let blocked = story.memory.blocks(&approach, limit);
            match (end, question) {
                (AttemptEnd::Interrupted, _) if blocked.is_some() && story.active => {
                    let text = format!("this approach was declared before and is blocked: {}", approach.declared.unwrap_or_default());
                    conclude(story, vec![finding(&text)], vec!["failure memory".to_owned()], false);
                }
                (AttemptEnd::ProviderLimit { until, .. }, _) => {
                    set_down(story);
                    story.not_before = Some((*until).min(now.saturating_add(LONGEST_PAUSE).unwrap_or(Timestamp::MAX)));
                }
                (AttemptEnd::Interrupted, _) => {
                    set_down(story);
                    interrupted(story);
                }
                (AttemptEnd::CouldNotStart { why, next }, _) => {
                    set_down(story);
                    if story.halt.is_none() {
                        let question = format!("the agent could not be started: {why}");
                        halt(story, Halt::Blocked(Block { reason: "agent".to_owned(), question, next: next.clone() }));
                    }
                }
                (AttemptEnd::Finished | AttemptEnd::Failed { .. }, _) if !was_started && !story.active => set_down(story),
                (AttemptEnd::Finished | AttemptEnd::Failed { .. }, _) if !was_started => {
                    block_contract(story, "the process that was asked for the contract ended without one");
                }
                (AttemptEnd::Finished | AttemptEnd::Failed { .. }, Some(question)) => ask(story, question),
                (AttemptEnd::Finished | AttemptEnd::Failed { .. }, None) => {}
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The attempt does not count, and the slot is free.
fn set_down(story: &mut Story) {
    if let Some(current) = story.attempts.last_mut() {
        current.conclusion = Some(Conclusion::Void);
    }
    story.active = false;
}

fn interrupted(story: &mut Story) {
    let recent = story.attempts.iter().rev().take_while(|a| a.no.get() > story.granted_after && a.conclusion == Some(Conclusion::Void));
    let times = u32::try_from(recent.filter(|a| a.ended == Some(AttemptEnd::Interrupted)).count()).unwrap_or(u32::MAX);
    let limit = story.spec.rules.limits.interruptions;
    if story.halt.is_none() && limit > 0 && times >= limit {
        let question = format!("{times} attempts in a row were interrupted before they ended. What keeps stopping them?");
        let next = format!("cofferdam log {0}; then cofferdam retry {0}", story.id);
        halt(story, Halt::Blocked(Block { reason: "interrupted".to_owned(), question, next }));
    }
}

fn ask(story: &mut Story, question: &str) {
    if let Some(current) = story.attempts.last_mut() {
        current.conclusion = Some(Conclusion::Asked);
    }
    if story.halt.is_none() {
        let question = crate::base::text::cut(question, FINDING_LENGTH);
        let next = format!("cofferdam answer {} TEXT", story.id);
        halt(story, Halt::Blocked(Block { reason: "question".to_owned(), question, next }));
    }
}

fn work(story: &mut Story, kind: &Kind) -> Taken {
    match kind {
        Kind::ChangeCollected { attempt, commit, tree, base, reference, patch, files, findings } => {
            let (granted, over) = (story.granted_after, story.end.is_some());
            let last = story.attempts.last().map(|a| a.no);
            let Some(found) = story.attempts.iter_mut().find(|a| a.no == *attempt) else {
                return refuse(format!("there is no attempt {attempt}"), "start it first");
            };
            if let Some(change) = &found.change {
                let same = change.commit == *commit;
                return if same {
                    Ok(())
                } else {
                    refuse(format!("attempt {attempt} was collected as {}", change.commit.short()), "collect into a new attempt")
                };
            }
            if found.ended.is_none() {
                return refuse(format!("attempt {attempt} has not ended, and might still write"), "end its processes, then collect");
            }
            found.change = Some(Change {
                commit: commit.clone(),
                tree: tree.clone(),
                base: base.clone(),
                reference: reference.clone(),
                patch: patch.clone(),
                files: *files,
                findings: kept(findings),
            });
            // Work of an attempt that was cut short is not thrown away: the next one continues on it, unless a human reset the story.
            let cut_short = matches!(found.conclusion, Some(Conclusion::Void | Conclusion::Asked));
            if cut_short && last == Some(*attempt) && attempt.get() > granted && *files > 0 && !over {
                story.resume_from = Some(commit.clone());
            }
            Ok(())
        }
        Kind::EvaluatorFinished { evaluator, commit, tree, proof, verdict, problems, criteria, findings, evidence, cached, wall_ms } => {
            let is_last = judged(story, commit, tree)?;
            let counts = is_last && *proof == story.spec.proof && story.end.is_none();
            let Some(attempt) = story.attempts.last_mut().filter(|a| counts && a.conclusion.is_none()) else { return Ok(()) };
            let before = attempt.results.get(evaluator).filter(|before| before.proof == *proof);
            if before.is_some_and(|before| before.verdict != Verdict::Error) {
                return Ok(());
            }
            let judgement = Judgement {
                proof: proof.clone(),
                verdict: *verdict,
                problems: *problems,
                tries: before.map_or(0, |before| before.tries).saturating_add(1),
                errors: before.map_or(0, |before| before.errors).saturating_add(u32::from(*verdict == Verdict::Error)),
                criteria: criteria.iter().take(FINDINGS_KEPT).cloned().collect(),
                findings: kept(findings),
                evidence: evidence.clone(),
                cached: *cached,
                wall_ms: *wall_ms,
            };
            attempt.results.insert(evaluator.clone(), judgement);
            Ok(())
        }
        Kind::DiagnosisMade { commit, summary, tasks, error, .. } => {
            let Some(attempt) = story.attempts.last_mut().filter(|a| a.diagnosis.is_none()) else { return Ok(()) };
            let is_about = attempt.change.as_ref().is_some_and(|change| change.commit == *commit);
            if is_about && matches!(attempt.conclusion, Some(Conclusion::Failed(_))) {
                let cut = |text: &String| crate::base::text::cut(text, FINDING_LENGTH);
                let tasks = tasks.iter().take(TASKS_KEPT).map(cut).collect();
                attempt.diagnosis = Some(Diagnosis { summary: cut(summary), tasks, error: error.clone() });
                if story.active {
                    next_attempt(story);
                }
            }
            Ok(())
        }
        Kind::GateFinished { gate, commit, tree, result, flaky, problems, detail, evidence, cached, .. } => {
            let run = GateRun {
                tree: tree.clone(),
                result: *result,
                tries: 1,
                errors: u32::from(*result == GateResult::Error),
                flaky: *flaky,
                problems: *problems,
                detail: detail.as_deref().map(|text| crate::base::text::cut(text, FINDING_LENGTH)),
                evidence: evidence.clone(),
                cached: *cached,
            };
            if story.end.is_some() {
                return Ok(());
            }
            if let Some(candidate) = story.queue.as_mut().and_then(|queue| queue.candidate.as_mut()).filter(|c| c.commit == *commit) {
                if candidate.tree != *tree {
                    return refuse("the gate ran on another tree than the candidate's", "run it on the candidate");
                }
                gate_result(&mut candidate.gates, gate, &run);
            }
            let is_own = story.attempts.iter().any(|a| a.change.as_ref().is_some_and(|c| c.commit == *commit));
            if is_own
                && judged(story, commit, tree)?
                && let Some(attempt) = story.attempts.last_mut().filter(|a| a.conclusion.is_none())
            {
                gate_result(&mut attempt.gates, gate, &run);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The first green or red counts; what could not judge is replaced by the next try.
fn gate_result(gates: &mut std::collections::BTreeMap<String, GateRun>, gate: &str, run: &GateRun) {
    let before = gates.get(gate).filter(|before| before.tree == run.tree);
    if before.is_some_and(|before| matches!(before.result, GateResult::Pass | GateResult::Red)) {
        return;
    }
    let (tries, errors) = before.map_or((0, 0), |before| (before.tries, before.errors));
    gates.insert(
        gate.to_owned(),
        GateRun { tries: run.tries.saturating_add(tries), errors: run.errors.saturating_add(errors), ..run.clone() },
    );
}

/// Whether a commit is the one being judged now. A commit that the story never had, or another tree, cannot be.
fn judged(story: &Story, commit: &CommitId, tree: &TreeId) -> Result<bool, Refusal> {
    let found = story.attempts.iter().rev().find(|a| a.change.as_ref().is_some_and(|change| change.commit == *commit));
    let Some((attempt, change)) = found.and_then(|attempt| Some((attempt, attempt.change.as_ref()?))) else {
        return Err(Refusal {
            why: format!("commit {} is none of its commits", commit.short()),
            instead: "judge the collected commit".to_owned(),
        });
    };
    if change.tree != *tree {
        return Err(Refusal {
            why: format!("tree {} is not that of the commit", tree.short()),
            instead: format!("judge tree {}", change.tree),
        });
    }
    Ok(story.attempts.last().is_some_and(|last| last.no == attempt.no))
}

fn kept(findings: &[Finding]) -> Vec<Finding> {
    let cut = |finding: &Finding| Finding { text: crate::base::text::cut(&finding.text, FINDING_LENGTH), ..finding.clone() };
    findings.iter().take(FINDINGS_KEPT).map(cut).collect()
}

/// The compare-and-swap may be going on at this moment: nobody can take the story out of it.
pub(super) fn is_landing(story: &Story) -> bool {
    story.queue.as_ref().and_then(|queue| queue.candidate.as_ref()).is_some_and(|candidate| candidate.landing)
}

fn queue(story: &mut Story, phase: &Phase, kind: &Kind) -> Taken {
    match (kind, phase) {
        (Kind::StoryQueued { commit }, Phase::Ready { proof }) if proof.commit() == commit => {
            let may_enter = story.spec.rules.landing == Landing::Queue || story.approvals.contains(commit);
            if !may_enter {
                return refuse("nobody approved this commit", format!("cofferdam approve {} --commit {commit}", story.id));
            }
            if story.queue.is_some() {
                return refuse("an earlier commit is still in the queue", "take that one out first");
            }
            story.queue = Some(Queue { commit: commit.clone(), candidate: None });
            Ok(())
        }
        (Kind::StoryQueued { commit }, _) if story.queue.as_ref().is_some_and(|queue| queue.commit == *commit) => Ok(()),
        (Kind::StoryQueued { commit }, _) => {
            refuse(format!("commit {} is not proven", commit.short()), "only a story that is ready_for_review may enter the queue")
        }
        (Kind::StoryDequeued { commit, .. }, _) => {
            story.queue.take_if(|queue| queue.commit == *commit);
            Ok(())
        }
        (Kind::CandidateBuilt { candidate, tree, base, story_commit, .. }, Phase::Queued { proof } | Phase::Merging { proof, .. })
            if proof.commit() == story_commit && !is_landing(story) =>
        {
            if let Some(queue) = story.queue.as_mut().filter(|queue| queue.candidate.as_ref().is_none_or(|c| c.commit != *candidate)) {
                let built = Candidate {
                    commit: candidate.clone(),
                    tree: tree.clone(),
                    base: base.clone(),
                    gates: std::collections::BTreeMap::new(),
                    landing: false,
                };
                queue.candidate = Some(built);
            }
            Ok(())
        }
        (Kind::CandidateBuilt { story_commit, .. }, _) => {
            refuse(format!("commit {} is not waiting in the queue", story_commit.short()), "build candidates only of queued stories")
        }
        (Kind::CandidateDropped { candidate, .. }, _) => {
            if let Some(queue) = story.queue.as_mut() {
                queue.candidate.take_if(|c| c.commit == *candidate);
            }
            Ok(())
        }
        (
            Kind::CandidateRefused { candidate, story_commit, why, findings, onto, from, .. },
            Phase::Queued { proof } | Phase::Merging { proof, .. },
        ) => {
            let current = story.queue.as_ref().and_then(|queue| queue.candidate.as_ref()).map(|c| &c.commit);
            if proof.commit() == story_commit && (candidate.is_none() || candidate.as_ref() == current) {
                story.queue = None;
                let mut reasons = vec![finding(&format!("the merge with the target was refused: {why}"))];
                reasons.extend(kept(findings));
                story.onto = onto.clone().zip(from.clone());
                conclude(story, reasons, vec![format!("queue {why}")], true);
            }
            Ok(())
        }
        (Kind::CandidateRefused { .. }, _) => Ok(()),
        (Kind::LandingStarted { candidate, .. }, Phase::Merging { candidate: current, .. }) if current.commit == *candidate => {
            if let Err(lacking) = green_candidate(story, current) {
                return refuse(format!("the candidate is not proven: {lacking:?}"), "wait for its gates");
            }
            if let Some(current) = story.queue.as_mut().and_then(|queue| queue.candidate.as_mut()) {
                current.landing = true;
            }
            Ok(())
        }
        (Kind::LandingStarted { candidate, .. }, _) => {
            refuse(format!("{} is not its candidate", candidate.short()), "build the candidate again")
        }
        (Kind::StoryLanded { commit, tree, story_commit, .. }, Phase::Merging { proof, candidate }) => {
            if candidate.commit != *commit || candidate.tree != *tree || proof.commit() != story_commit {
                return refuse(
                    "what landed is not what was tested",
                    "find out who moved the target: `cofferdam log` names the tested candidate",
                );
            }
            if let Err(lacking) = green_candidate(story, candidate) {
                return refuse(
                    format!("the candidate is not proven: {lacking:?}"),
                    "never move the target before the gates of the candidate are green",
                );
            }
            story.end = Some(End::Merged { commit: commit.clone(), tree: tree.clone(), story_commit: story_commit.clone() });
            story.queue = None;
            story.active = false;
            Ok(())
        }
        (Kind::StoryLanded { commit, .. }, Phase::Merged { commit: landed }) if commit == landed => Ok(()),
        (Kind::StoryLanded { commit, .. }, _) => refuse(format!("{} was never proven", commit.short()), "find out who moved the target"),
        (Kind::StoryReverted { commit, reason }, Phase::Merged { .. }) => {
            story.end = Some(End::Reverted { commit: commit.clone(), reason: reason.clone() });
            story.revert = None;
            Ok(())
        }
        (Kind::RevertPrepared { candidate, tree, base, landed, why, evidence }, Phase::Merged { .. }) => {
            story.revert = Some(Revert {
                candidate: candidate.clone(),
                tree: tree.clone(),
                base: base.clone(),
                landed: landed.clone(),
                why: crate::base::text::cut(why, FINDING_LENGTH),
                evidence: evidence.clone(),
                ready: false,
                approved: false,
            });
            Ok(())
        }
        (Kind::RevertPrepared { .. }, _) => refuse("nothing of it has landed", "take back only what has landed"),
        (Kind::RevertReady { candidate }, _) => {
            if let Some(revert) = story.revert.as_mut().filter(|revert| revert.candidate == *candidate) {
                revert.ready = true;
            }
            Ok(())
        }
        (Kind::RevertDropped { candidate, .. }, _) => {
            story.revert.take_if(|revert| revert.candidate == *candidate);
            Ok(())
        }
        (Kind::StoryReopened { why, findings, .. }, Phase::Merged { .. }) => {
            reopen(story, format!("what landed breaks the integration check: {why}"), "integration", findings);
            Ok(())
        }
        (Kind::StoryReopened { why, findings, onto, from, .. }, Phase::Reverted { .. }) => {
            reopen(story, format!("what landed was taken back: {why}"), "taken back", findings);
            story.onto = onto.clone().zip(from.clone());
            Ok(())
        }
        (Kind::StoryReopened { .. }, _) => refuse("nothing of it has landed that could be at fault", "point to a story that has landed"),
        (Kind::StoryReverted { .. }, Phase::Reverted { .. }) => Ok(()),
        (Kind::StoryReverted { .. }, _) => refuse("nothing of it has landed", format!("cofferdam cancel {}", story.id)),
        _ => Ok(()),
    }
}

/// What landed is mended by a new attempt from the target as it is, with a budget of its own: the story did nothing wrong within the old one.
fn reopen(story: &mut Story, why: String, sign: &str, findings: &[Finding]) {
    if let Some(attempt) = story.attempts.last_mut() {
        let mut reasons = vec![finding(&crate::base::text::cut(&why, FINDING_LENGTH))];
        reasons.extend(kept(findings));
        let signature = vec![sign.to_owned()];
        attempt.conclusion = Some(Conclusion::Failed(Failure { why: reasons, signature, improved: true, reviewed: true }));
    }
    story.revert = None;
    super::grant(story);
    story.resume_from = None;
    story.onto = None;
}

/// Something outside the story's own facts stops it.
fn stop(story: &mut Story, phase: &Phase, reason: Halt) -> Taken {
    if phase.is_terminal() || is_landing(story) {
        return refuse(
            format!("it is {}", if phase.is_terminal() { "over" } else { "landing at this moment" }),
            "nothing needs to be done",
        );
    }
    // An approval that is asked for is derived from the verdicts; to store it as well would keep it after the approval.
    // By its word, not by its text: another version may have put the question in other words.
    if matches!((&reason, phase), (Halt::Blocked(block), Phase::Blocked(current)) if block.reason == current.reason) {
        return Ok(());
    }
    halt(story, reason);
    Ok(())
}

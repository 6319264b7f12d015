//! The one function that changes a story.

use jiff::Timestamp;

use super::budget;
use super::facts::{Conclusion, Failure, Halt, Story};
use super::phase::{Lacking, Phase, Proof, Verdicts, phase};
use super::stagnation;
use super::wanted::{Effect, owes_contract, wanted};
use crate::base::id::StoryId;
use crate::event::{Amount, AttemptEnd, Block, Finding, GateResult, Kind, Task, Verdict};

mod command;
mod world;

/// What an accepted event leads to.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub next: Story,
    /// Events that say what the controller decided. The store appends them in the same transaction.
    pub record: Vec<Kind>,
    /// What is to be done now, and was not to be done before.
    pub effects: Vec<Effect>,
}

/// An event that does not fit. It changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{story} is {state}: {attempted} was refused, because {why}")]
pub struct Refused {
    pub story: StoryId,
    pub state: &'static str,
    pub attempted: String,
    pub why: String,
    /// What to do instead.
    pub instead: String,
}

/// Takes one event.
///
/// # Errors
/// When the event does not fit: the story stays as it is.
pub fn step(story: &Story, kind: &Kind, now: Timestamp) -> Result<Step, Refused> {
    let before = phase(story);
    let mut next = story.clone();
    let taken = match world::take(&mut next, &before, kind, now) {
        Some(taken) => taken,
        None => command::take(&mut next, &before, kind, now),
    };
    taken.map_err(|refusal| Refused {
        story: story.id.clone(),
        state: before.name(),
        attempted: kind.name().to_owned(),
        why: refusal.why,
        instead: refusal.instead,
    })?;
    world::note_papers(&mut next, kind);
    settle(&mut next);
    let record = announce(story, &before, &next, kind);
    let wanted_before = wanted(story);
    let effects = wanted(&next).into_iter().filter(|effect| !wanted_before.contains(effect)).collect();
    Ok(Step { next, record, effects })
}

/// Takes the event that makes a story.
///
/// # Errors
/// When it is another event: nothing is known of this story.
pub fn create(id: &StoryId, kind: &Kind) -> Result<Step, Refused> {
    match kind {
        Kind::StoryCreated { spec } => Ok(Step { next: Story::new(id.clone(), spec.clone()), record: Vec::new(), effects: Vec::new() }),
        other => Err(Refused {
            story: id.clone(),
            state: "unknown",
            attempted: other.name().to_owned(),
            why: "there is no story of this id".to_owned(),
            instead: "see `cofferdam status` for the stories there are; a story of the plan is known once `cofferdam run` has read it"
                .to_owned(),
        }),
    }
}

/// Why an event does not fit, before the story's name and state are put to it.
struct Refusal {
    why: String,
    instead: String,
}

type Taken = Result<(), Refusal>;

fn refuse(why: impl Into<String>, instead: impl Into<String>) -> Taken {
    Err(Refusal { why: why.into(), instead: instead.into() })
}

/// Draws the conclusions that the facts allow, after every event.
fn settle(story: &mut Story) {
    if story.halt.is_none() && story.end.is_none() && !is_waiting(story) {
        // What has not begun is not begun on a budget that is used up; what runs is stopped when it goes beyond it.
        let is_unbegun = story.active && story.attempt().is_some_and(|attempt| !attempt.started && attempt.ended.is_none());
        let spent = budget::exceeded(story).or_else(|| if is_unbegun { budget::used_up(story) } else { None });
        if let Some(spent) = spent {
            if let Some(attempt) = story.attempts.last_mut().filter(|_| is_unbegun) {
                attempt.conclusion = Some(Conclusion::Void);
            }
            halt(story, Halt::Escalated { reason: spent.which.to_owned(), detail: spent.to_string() });
        }
    }
    if !story.active || story.halt.is_some() || story.end.is_some() {
        return;
    }
    let Some(attempt) = story.unjudged() else { return };
    let Some(change) = &attempt.change else { return };
    let approach = attempt.approach();
    // Whoever was cut off, or had no model, understood nothing and misunderstood nothing.
    let failed = match &attempt.ended {
        Some(AttemptEnd::Failed { cause }) => Some(format!("the agent did not finish: {cause}")),
        _ => None,
    };
    if let (true, Some(why)) = (owes_contract(story), &failed) {
        return conclude(story, vec![finding(why)], vec!["agent".to_owned()], false);
    }
    if owes_contract(story) {
        return block_contract(story, "it left no contract that names the title and all criteria");
    }
    if change.files == 0 {
        let text = failed.unwrap_or_else(|| "the attempt changed nothing".to_owned());
        return conclude(story, vec![finding(&text)], vec!["change".to_owned()], false);
    }
    if let Some(blocked) = story.memory.blocks(&approach, story.spec.rules.limits.same_approach) {
        let text = format!(
            "this approach ({}) failed {} times before and is blocked: {}; take another one",
            blocked.id, blocked.times, blocked.summary
        );
        return conclude(story, vec![finding(&text)], vec!["failure memory".to_owned()], false);
    }
    let lacking = match Verdicts::of(story, attempt, change) {
        Err(lacking) => lacking,
        Ok(verdicts) => match Proof::of(story, attempt, verdicts) {
            Err(lacking) => lacking,
            Ok(_) => return,
        },
    };
    match lacking {
        Lacking::Missing(_) | Lacking::Approval(_) => {}
        Lacking::Failed(names) => {
            let why = super::feedback::findings(attempt, &names);
            conclude(story, why, names, true);
        }
        Lacking::Broken(what) => {
            let block = Block {
                reason: "evaluator".to_owned(),
                question: format!(
                    "{what} could not judge commit {}{}. Can it be made to work?",
                    change.commit.short(),
                    said(attempt, &what)
                ),
                next: format!("cofferdam show {0}; mend what it names, then cofferdam retry {0}", story.id),
            };
            halt(story, Halt::Blocked(block));
        }
    }
}

/// In the queue nothing of the story's own budget is used any more.
fn is_waiting(story: &Story) -> bool {
    matches!(phase(story), Phase::Ready { .. } | Phase::Queued { .. } | Phase::Merging { .. })
}

/// What an evaluator that could not judge said, for the person who is asked.
fn said(attempt: &super::facts::Attempt, what: &str) -> String {
    let why = attempt.results.get(what).and_then(|result| result.findings.first()).map(|finding| finding.text.as_str());
    why.map_or_else(String::new, |why| format!(": {}", crate::base::text::cut(why.lines().next().unwrap_or_default(), 200)))
}

/// Why the last attempt was not good, for the person who is asked.
fn last_failure(story: &Story) -> String {
    let Some(Conclusion::Failed(failure)) = story.attempts.last().and_then(|attempt| attempt.conclusion.as_ref()) else {
        return String::new();
    };
    // The first line says which evaluator it was; the next one what it found.
    let words: Vec<&str> = failure.why.iter().take(2).map(|finding| finding.text.lines().next().unwrap_or_default()).collect();
    format!("; the last attempt: {}", crate::base::text::cut(&words.join(": "), 300))
}

/// The current attempt did not do: remembers why, and decides how it goes on.
fn conclude(story: &mut Story, why: Vec<Finding>, signature: Vec<String>, reviewed: bool) {
    let earlier: Vec<_> = story.counted().rev().skip(1).map(stagnation::scores).collect();
    let blocked_again = signature == ["failure memory"];
    let Some(attempt) = story.attempts.last_mut() else { return };
    let improved = reviewed && stagnation::improved(earlier.iter(), &stagnation::scores(attempt));
    if !blocked_again {
        story.memory.record(&attempt.approach(), &signature);
        let left = attempt.change.as_ref().filter(|change| change.files > 0);
        story.resume_from = left.map(|change| change.commit.clone()).or_else(|| attempt.from.clone());
    }
    attempt.conclusion = Some(Conclusion::Failed(Failure { why, signature, improved, reviewed }));
    let may_diagnose = reviewed && attempt.change.is_some();
    let limit = story.spec.rules.limits.stagnation;
    let stale = stagnation::since_better(story);
    if limit > 0 && stale >= limit {
        halt(story, Halt::Stagnated { iterations: stale });
    } else if let Some(spent) = budget::forbids_attempt(story, reviewed) {
        let detail = format!("{spent}{}", last_failure(story));
        halt(story, Halt::Escalated { reason: spent.which.to_owned(), detail });
    } else if story.active && !(story.spec.rules.diagnose && may_diagnose) {
        next_attempt(story);
    }
}

/// Opens the next attempt of a story that is at work.
fn next_attempt(story: &mut Story) {
    let Some(last) = story.attempts.last() else { return };
    let (no, base) = (last.no.next(), last.base.clone());
    open_attempt(story, no, base);
}

fn open_attempt(story: &mut Story, no: crate::base::id::AttemptNo, base: crate::base::id::CommitId) {
    // What the queue sent back goes on from where it would land.
    let base = match story.onto.take() {
        Some((onto, from)) => {
            story.resume_from = Some(from);
            onto
        }
        None => base,
    };
    let task = if story.resume_from.is_some() { Task::Repair } else { Task::Implement };
    story.attempts.push(super::facts::Attempt::new(no, task, base, story.resume_from.clone()));
    let notify = story.spec.rules.limits.notify_cycle;
    if notify > 0 && budget::cycles(story) >= notify {
        story.notified = true;
    }
}

fn halt(story: &mut Story, halt: Halt) {
    story.halt = Some(halt);
    story.active = false;
}

/// A fresh budget. The work, the memory and the notes stay.
fn grant(story: &mut Story) {
    story.halt = None;
    story.end = None;
    story.active = false;
    story.spent = Amount::default();
    story.notified = false;
    let Some(last) = story.attempts.last_mut() else { return };
    story.granted_after = last.no.get();
    // Evaluators and gates that could not judge get their tries back.
    last.results.retain(|_, result| result.verdict != Verdict::Error);
    last.gates.retain(|_, run| run.result != GateResult::Error);
}

fn block_contract(story: &mut Story, why: &str) {
    if let Some(attempt) = story.attempts.last_mut() {
        attempt.conclusion = Some(Conclusion::Asked);
    }
    let id = &story.id;
    let block = Block {
        reason: "contract".to_owned(),
        question: format!("the agent did not understand the story: {why}. Is its text clear?"),
        next: format!("edit the story, then cofferdam retry {id}; or cofferdam answer {id} TEXT"),
    };
    halt(story, Halt::Blocked(block));
}

fn finding(text: &str) -> Finding {
    Finding { text: text.to_owned(), ..Finding::default() }
}

/// The events that tell what was decided, unless the event at hand told it.
fn announce(story: &Story, before: &Phase, next: &Story, kind: &Kind) -> Vec<Kind> {
    let after = phase(next);
    let mut record = Vec::new();
    if next.notified && !story.notified {
        let detail = format!("{} review-fix cycles of {} are used", budget::cycles(next), next.spec.rules.limits.review_cycles);
        record.push(Kind::HumanNotified { reason: "review_cycles".to_owned(), detail });
    }
    if after == *before {
        return record;
    }
    match &after {
        // Back from the queue to ready is no news.
        Phase::Ready { proof } if !matches!(before, Phase::Queued { .. } | Phase::Merging { .. }) => {
            record.push(Kind::StoryReady { commit: proof.commit().clone(), tree: proof.verdicts().tree().clone() });
        }
        Phase::Blocked(block) => record.push(Kind::StoryBlocked { block: block.clone() }),
        Phase::Escalated { reason, detail } => {
            let spent = budget::exceeded(next).or_else(|| budget::forbids_attempt(next, true)).filter(|spent| spent.which == reason);
            record.extend(spent.map(|s| Kind::BudgetExceeded { which: s.which.to_owned(), limit: s.limit, spent: s.spent }));
            record.push(Kind::StoryEscalated { reason: reason.clone(), detail: detail.clone() });
        }
        Phase::Stagnated { iterations } => record.push(Kind::StoryStagnated { iterations: *iterations }),
        _ => {}
    }
    record.retain(|announced| announced != kind);
    record
}

//! What humans say. Every refusal names what to do instead.

use jiff::Timestamp;

use super::world::is_landing;
use super::{Taken, conclude, finding, grant, refuse};
use crate::base::id::CommitId;
use crate::event::Kind;
use crate::story::facts::{Conclusion, End, Failure, Halt, Note, Story};
use crate::story::memory::Memory;
use crate::story::phase::{Phase, approve_command, losses};

/// Takes a command. What is none was taken before.
pub(super) fn take(story: &mut Story, phase: &Phase, kind: &Kind, now: Timestamp) -> Taken {
    let id = story.id.clone();
    if is_landing(story) && !matches!(kind, Kind::StoryNoted { .. }) {
        return refuse(
            "it is landing at this moment",
            format!("wait a moment and look at `cofferdam show {id}`; what has landed can be reverted"),
        );
    }
    match kind {
        Kind::StoryNoted { text } => {
            note(story, now, "note", text);
            Ok(())
        }
        Kind::StoryApproved { commit, without_gates } => match story.change() {
            _ if matches!(phase, Phase::Merged { .. }) && story.revert.is_some() => approve_revert(story, commit),
            Some(change) if change.commit == *commit && !phase.is_terminal() => {
                if let Some(lost) = losses(story, commit).into_iter().find(|(gate, _)| !without_gates.iter().any(|named| named == gate)) {
                    return refuse(format!("{}, and the approval does not name that gate", lost.1), approve_command(story, commit));
                }
                story.approvals.insert(commit.clone());
                story.given_up.extend(without_gates.iter().map(|gate| (commit.clone(), gate.clone())));
                story.halt.take_if(|halt| matches!(halt, Halt::Blocked(block) if block.reason == "approval"));
                Ok(())
            }
            Some(change) if !phase.is_terminal() => {
                refuse("it is at another commit now", format!("look at it, then cofferdam approve {id} --commit {}", change.commit))
            }
            _ => refuse("there is nothing to approve", format!("cofferdam show {id}")),
        },
        Kind::StoryRejected { commit, reason } => reject(story, phase, commit.as_ref(), reason, now),
        Kind::StoryAnswered { text } => match phase {
            Phase::Blocked(block) if matches!(block.reason.as_str(), "question" | "contract") => {
                note(story, now, "answer", text);
                story.halt = None;
                Ok(())
            }
            Phase::Blocked(block) => refuse("it does not wait for an answer", block.next.clone()),
            _ => refuse("it asked nothing", format!("cofferdam note {id} TEXT is read by the next attempt")),
        },
        Kind::StoryRetried {} => match phase {
            Phase::Blocked(block) if block.reason == "approval" => refuse("it waits for an approval", block.next.clone()),
            Phase::Blocked(_) | Phase::Escalated { .. } | Phase::Stagnated { .. } | Phase::Cancelled { .. } => {
                grant(story);
                Ok(())
            }
            Phase::Reverted { .. } => {
                grant(story);
                set_aside(story);
                story.resume_from = None;
                story.onto = None;
                Ok(())
            }
            Phase::Merged { .. } | Phase::Backfilled { .. } => {
                refuse("it is done", format!("cofferdam revert {id} takes back what landed"))
            }
            _ => refuse(
                "it has not stopped",
                format!("cofferdam reset {id} starts it afresh; cofferdam replan {id} asks for another approach"),
            ),
        },
        Kind::StoryReset { forget } => match phase {
            Phase::Merged { .. } => refuse("it has landed", format!("cofferdam revert {id}")),
            _ => {
                grant(story);
                set_aside(story);
                story.resume_from = None;
                story.onto = None;
                story.proposal = None;
                story.not_before = None;
                if *forget {
                    story.memory = Memory::default();
                }
                Ok(())
            }
        },
        Kind::StoryReplanned { reason } => match phase {
            Phase::Merged { .. } | Phase::Reverted { .. } | Phase::Cancelled { .. } | Phase::Backfilled { .. } => {
                refuse("it is over", format!("cofferdam reset {id} starts it afresh"))
            }
            Phase::Escalated { .. } => refuse("its budget is spent", format!("cofferdam retry {id} grants a fresh one; then replan")),
            _ => {
                replan(story, reason, now);
                Ok(())
            }
        },
        Kind::StoryCancelled { reason } => {
            if phase.is_terminal() {
                return refuse("it is over", format!("cofferdam show {id}"));
            }
            end(story, End::Cancelled { reason: reason.clone(), removed: false });
            Ok(())
        }
        Kind::StoryBackfilled { commit, reason, .. } => {
            if matches!(phase, Phase::Merged { .. } | Phase::Backfilled { .. }) {
                return refuse("it is done", format!("cofferdam show {id}"));
            }
            end(story, End::Backfilled { commit: commit.clone(), reason: reason.clone() });
            Ok(())
        }
        other => refuse(format!("{} is no command", other.name()), "nothing"),
    }
}

/// A landing that turned out red is taken back, when its revert was proven.
fn approve_revert(story: &mut Story, commit: &CommitId) -> Taken {
    let id = story.id.clone();
    match &mut story.revert {
        Some(revert) if revert.candidate != *commit => refuse(
            "it has landed, and is to be taken back by another commit",
            format!("cofferdam approve {id} --commit {}", revert.candidate),
        ),
        Some(revert) if revert.ready => {
            revert.approved = true;
            Ok(())
        }
        _ => refuse("the gates of its revert are not green yet", format!("cofferdam queue shows them; then cofferdam approve {id}")),
    }
}

fn note(story: &mut Story, at: Timestamp, kind: &str, text: &str) {
    story.notes.push(Note { at, kind: kind.to_owned(), text: text.to_owned() });
}

fn end(story: &mut Story, how: End) {
    story.end = Some(how);
    story.halt = None;
    story.active = false;
}

/// The current attempt is not judged any further.
fn set_aside(story: &mut Story) {
    if let Some(last) = story.attempts.last_mut().filter(|last| last.conclusion.is_none()) {
        last.conclusion = Some(Conclusion::Void);
    }
}

fn reject(story: &mut Story, phase: &Phase, commit: Option<&CommitId>, reason: &str, now: Timestamp) -> Taken {
    let id = &story.id;
    let judging = match phase {
        Phase::Verifying { .. } | Phase::Diagnosing { .. } | Phase::GateCheck { .. } => true,
        Phase::Ready { .. } | Phase::Queued { .. } | Phase::Merging { .. } => true,
        Phase::Blocked(block) => block.reason == "approval",
        _ => false,
    };
    let change = story.attempt().and_then(|attempt| attempt.change.as_ref()).filter(|_| judging);
    let Some(change) = change else {
        let instead = match phase {
            Phase::Merged { .. } => format!("cofferdam revert {id}"),
            Phase::Blocked(block) => block.next.clone(),
            Phase::Escalated { .. } | Phase::Stagnated { .. } => format!("cofferdam note {id} TEXT, then cofferdam retry {id}"),
            _ => format!("cofferdam note {id} TEXT is read by the next attempt; cofferdam cancel {id} ends it"),
        };
        return refuse("there is no finished work to reject", instead);
    };
    if let Some(meant) = commit.filter(|meant| **meant != change.commit) {
        let instead = format!("look at {}, then reject that one", change.commit);
        return refuse(format!("commit {} is not what it is at now", meant.short()), instead);
    }
    note(story, now, "rejection", reason);
    story.active = false;
    if story.attempt().is_some_and(|attempt| attempt.conclusion.is_none()) {
        conclude(story, vec![finding(&format!("rejected: {reason}"))], vec!["rejected".to_owned()], true);
    }
    Ok(())
}

fn replan(story: &mut Story, reason: &str, now: Timestamp) {
    note(story, now, "replan", reason);
    if let Some(last) = story.attempts.last_mut() {
        story.replanned_after = last.no.get();
        if last.conclusion.is_none() {
            let signature = vec!["replan".to_owned()];
            last.conclusion = Some(if last.started {
                story.memory.record(&last.approach(), &signature);
                Conclusion::Failed(Failure {
                    why: vec![finding(&format!("another approach is wanted: {reason}"))],
                    signature,
                    improved: false,
                    reviewed: false,
                })
            } else {
                Conclusion::Void
            });
        }
    }
    story.halt = None;
    story.active = false;
    story.resume_from = None;
    story.onto = None;
    story.proposal = None;
}

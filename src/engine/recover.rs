//! What a runner that died left, told and put in order before anything new begins.

use super::perform::salvage;
use crate::base::id::StoryId;
use crate::event::{AttemptEnd, Kind, StopReason};
use crate::role::Workshop;
use crate::store::fold::Overview;
use crate::story::Story;

/// The event that says that the run before this one died, when it did. Pure.
pub fn died(overview: &Overview) -> Option<Kind> {
    let run = overview.run.as_ref().filter(|run| run.stopped.is_none())?;
    let detail = format!("process {} ended without a word", run.pid);
    Some(Kind::RunStopped { reason: StopReason::Died, detail: Some(detail) })
}

/// The ends of attempts whose processes died with their runner. Pure.
pub fn interrupted<'a>(stories: impl Iterator<Item = &'a Story>) -> Vec<(StoryId, Kind)> {
    let running = stories.filter_map(|story| Some((story, story.running()?)));
    running
        .map(|(story, attempt)| {
            let end = AttemptEnd::Interrupted;
            let kind = Kind::AttemptEnded { attempt: attempt.no, end, summary: None, question: None, transcript: None, wall_ms: 0 };
            (story.id.clone(), kind)
        })
        .collect()
}

/// What such an attempt had written is collected, so that the next one goes on from it. None when it had come to nothing: whatever is
/// wrong with a workspace is found, and said, by the next attempt.
pub fn salvaged(shop: &Workshop, story: &Story) -> Option<Kind> {
    let attempt = story.attempts.last()?;
    salvage(shop, story, attempt).ok().flatten()
}

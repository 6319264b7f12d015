//! What a runner that died left, told and put in order before anything new begins.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::perform::{folder_of, folders_of, salvage};
use crate::base::id::StoryId;
use crate::event::{AttemptEnd, Kind, StopReason};
use crate::role::Workshop;
use crate::store::fold::Overview;
use crate::story::{Effect, Story, wanted};

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

/// Removes what is of no use to anybody any more, and says how much of what. Files of an attempt that is still to be collected stay.
///
/// # Errors
/// When something cannot be removed.
pub fn sweep<'a>(shop: &Workshop, stories: impl Iterator<Item = &'a Story>) -> Result<Vec<Kind>, String> {
    let workspaces = shop.workspaces().map_err(|error| error.to_string())?;
    let unfinished = crate::store::place::sweep(workspaces.state.root()).map_err(|error| error.to_string())?;
    let half_made = unfinished + workspaces.sweep().map_err(|error| error.to_string())?;
    let kept: BTreeSet<PathBuf> = stories
        .filter(|story| wanted(story).iter().any(|effect| matches!(effect, Effect::Collect { .. })))
        .filter_map(|story| Some(folder_of(&workspaces, &story.id, story.attempts.last()?.no)))
        .collect();
    let mut folders = 0;
    for entry in fs_err::read_dir(folders_of(&workspaces)).into_iter().flatten().flatten() {
        if !kept.contains(&entry.path()) {
            fs_err::remove_dir_all(entry.path()).map_err(|error| error.to_string())?;
            folders += 1;
        }
    }
    let swept = |what: &str, count| (count > 0).then(|| Kind::LeftoverSwept { what: what.to_owned(), count });
    Ok([swept("half-made files and workspaces", half_made), swept("folders of ended processes", folders)].into_iter().flatten().collect())
}

/// What such an attempt had written is collected, so that the next one goes on from it. None when it had come to nothing: whatever is
/// wrong with a workspace is found, and said, by the next attempt.
pub fn salvaged(shop: &Workshop, story: &Story) -> Option<Kind> {
    let attempt = story.attempts.last()?;
    salvage(shop, story, attempt).ok().flatten()
}

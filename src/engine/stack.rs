//! The base of a story that builds on work which has not landed yet: that work, or the merge of it, made the same way every time.

use super::perform::Trouble;
use crate::base::id::{CommitId, StoryId};
use crate::role::Workshop;
use crate::workspace::git::{Oid, Stacked};

/// The commit to start from: the target's when nothing waits to land before it, else what it is stacked on.
///
/// # Errors
/// When what it comes after contradicts each other, or an object cannot be read.
pub fn base(shop: &Workshop, target: &CommitId, ready: &[(StoryId, CommitId)]) -> Result<CommitId, Trouble> {
    let Some(((first, commit), rest)) = ready.split_first() else { return Ok(target.clone()) };
    let trouble = |error: &dyn std::fmt::Display| Trouble::new(error, "see what the message names; then cofferdam retry STORY");
    let repository = shop.workspaces().map_err(|e| trouble(&e))?.repository;
    let id = |commit: &CommitId| commit.as_str().parse::<Oid>().map_err(|_| trouble(&format!("{commit} is no commit")));
    let (mut base, mut names) = (id(commit)?, vec![first.to_string()]);
    for (story, commit) in rest {
        match repository.stack(base, id(commit)?, &format!("Stack {} and {story}", names.join(", "))).map_err(|e| trouble(&e))? {
            Stacked::Commit(commit) => base = commit,
            Stacked::Conflict(paths) => {
                let what = format!("{} and {story}, which it comes after, change the same lines of {}", names.join(", "), paths.join(", "));
                return Err(Trouble::new(what, format!("land one of them first, then retry; or cofferdam replan {story} REASON")));
            }
        }
        names.push(story.to_string());
    }
    base.to_string().parse().map_err(|e| trouble(&e))
}

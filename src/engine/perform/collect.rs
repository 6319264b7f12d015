//! `Collect` → `change.collected`: what an attempt left becomes a commit with a ref. Done twice, it is the same commit.

use super::attempt::folder_of;
use super::{Hands, Trouble, Unanswered, Work};
use crate::base::id::{AttemptNo, CommitId, PatchId, StoryId, TreeId};
use crate::base::text::one_line;
use crate::engine::crash;
use crate::event::{Finding, Kind};
use crate::role::Workshop;
use crate::story::Story;
use crate::story::facts::Attempt;
use crate::story::memory::{FileChange, patch_identity};
use crate::workspace::changes::{self, Stopped};
use crate::workspace::git::Oid;
use crate::workspace::stories::{CollectOptions, Collection, WorkspaceError, Workspaces};

/// Refused paths that an event names.
const MOST_FINDINGS: usize = 100;
/// A longer commit message is cut: it is an agent's.
const LONGEST_MESSAGE: usize = 8 << 10;

pub(super) fn collect(hands: &Hands, work: &Work, no: AttemptNo) -> Result<(), Unanswered> {
    let attempt = work.attempt()?;
    debug_assert_eq!(attempt.no, no);
    let kind = collected(&hands.shop, &work.story, attempt)?;
    crash::point("collected");
    hands.desk.tell(&work.story.id, vec![kind])?;
    // Everything of it is in events and evidence now.
    drop(fs_err::remove_dir_all(folder_of(&hands.shop.workspaces().map_err(|e| trouble(&e))?, &work.story.id, no)));
    Ok(())
}

/// The event of what an attempt left. Its processes are dead.
pub(super) fn collected(shop: &Workshop, story: &Story, attempt: &Attempt) -> Result<Kind, Trouble> {
    let workspaces = shop.workspaces().map_err(|e| trouble(&e))?;
    let workspace = workspaces.story(story.id.as_str()).map_err(|e| trouble(&e))?;
    let held = workspaces.hold(&workspace).map_err(|e| trouble(&e))?;
    let message = message(&workspaces, shop, story, attempt);
    let options = CollectOptions { message: Some(message), ..CollectOptions::default() };
    let collection = workspaces.collect(&workspace, &held, &options).map_err(|e| trouble(&e))?;
    event(&workspaces, &collection, attempt)
}

/// Work that was cut short: collected when there is any, so that the next attempt goes on from it. None when nothing was left.
///
/// # Errors
/// When it cannot be collected.
pub fn salvage(shop: &Workshop, story: &Story, attempt: &Attempt) -> Result<Option<Kind>, Trouble> {
    let workspaces = shop.workspaces().map_err(|e| trouble(&e))?;
    match workspaces.story(story.id.as_str()) {
        Err(WorkspaceError::NoSuchStory { .. }) => return Ok(None),
        Err(error) => return Err(trouble(&error)),
        // It was made for another attempt: this one had not come to making its own.
        Ok(workspace) if workspace.base != start(attempt).as_str() => return Ok(None),
        Ok(_) => {}
    }
    let kind = collected(shop, story, attempt)?;
    let Kind::ChangeCollected { commit, .. } = &kind else { return Ok(None) };
    Ok((commit != start(attempt)).then_some(kind))
}

/// The commit that an attempt's files begin as.
pub(super) fn start(attempt: &Attempt) -> &CommitId {
    attempt.from.as_ref().unwrap_or(&attempt.base)
}

fn event(workspaces: &Workspaces, collection: &Collection, attempt: &Attempt) -> Result<Kind, Trouble> {
    let repository = &workspaces.repository;
    let base = oid(&attempt.base)?;
    let changes = match changes::between(
        repository,
        Some(repository.tree_of(base).map_err(|e| trouble(&e.into()))?),
        Some(collection.tree),
        usize::MAX,
    ) {
        Ok(changes) => changes.len() as u64,
        Err(Stopped::Git(error)) => return Err(trouble(&error.into())),
        Err(Stopped::TooMany) => u64::MAX,
    };
    let findings = collection.findings.iter().take(MOST_FINDINGS).map(|finding| Finding {
        text: format!("{}: {}", rule_name(finding.rule), one_line(&finding.detail)),
        path: Some(finding.path.clone()),
        severity: (!finding.kept).then(|| "left out".to_owned()),
        ..Finding::default()
    });
    let slug = crate::workspace::state::slug(&collection.story);
    Ok(Kind::ChangeCollected {
        attempt: attempt.no,
        commit: commit_id(collection.commit)?,
        tree: tree_id(collection.tree)?,
        base: attempt.base.clone(),
        // Nothing new: the ref of the base keeps it.
        reference: collection.reference.clone().unwrap_or_else(|| format!("refs/cofferdam/stories/{slug}/base")),
        patch: identity(workspaces, base, collection.commit)?,
        files: changes,
        findings: findings.collect(),
    })
}

fn rule_name(rule: crate::workspace::rules::Rule) -> String {
    serde_json::to_value(rule).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What the change is known by.
fn identity(workspaces: &Workspaces, base: Oid, commit: Oid) -> Result<PatchId, Trouble> {
    let files = workspaces.repository.lines_between(base, commit).map_err(|e| trouble(&e.into()))?;
    let changes: Vec<FileChange<'_>> = files
        .iter()
        .map(|file| FileChange {
            path: &file.path,
            removed: file.removed.iter().map(Vec::as_slice).collect(),
            added: file.added.iter().map(Vec::as_slice).collect(),
        })
        .collect();
    Ok(patch_identity(&changes))
}

/// The agent's own words when it left some, else the story's title; and whose it is, in trailers.
fn message(workspaces: &Workspaces, shop: &Workshop, story: &Story, attempt: &Attempt) -> String {
    let said = crate::agents::folder::RunFolder::at(&folder_of(workspaces, &story.id, attempt.no))
        .report()
        .ok()
        .flatten()
        .and_then(|report| report.message);
    let said = said.map(|text| String::from_utf8_lossy(&shop.secrets().text(text.as_bytes())).replace('\0', ""));
    let text = said.unwrap_or_else(|| format!("{}: {}", story.id, story.spec.title));
    let text = crate::base::text::cut(text.trim(), LONGEST_MESSAGE);
    format!("{text}\n\nStory: {}\nAttempt: {}", story.id, attempt.no)
}

pub(super) fn trouble(error: &WorkspaceError) -> Trouble {
    Trouble::new(error, "see what the message names; then cofferdam retry STORY")
}

pub(super) fn oid(commit: &CommitId) -> Result<Oid, Trouble> {
    commit.as_str().parse().map_err(|_| Trouble::new(format!("{commit} is no commit"), "cofferdam log --verify"))
}

fn commit_id(id: Oid) -> Result<CommitId, Trouble> {
    id.to_string().parse().map_err(|error| Trouble::new(error, "this is a fault of cofferdam"))
}

fn tree_id(id: Oid) -> Result<TreeId, Trouble> {
    id.to_string().parse().map_err(|error| Trouble::new(error, "this is a fault of cofferdam"))
}

/// The name of a story's folder below the state folder.
pub(super) fn slug(story: &StoryId) -> String {
    crate::workspace::state::slug(story.as_str())
}

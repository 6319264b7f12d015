//! Landing: the target goes from the tested base to the tested commit, by compare-and-swap, or not at all.
//!
//! Everything is looked at again at the last moment, from raw objects: what was tested is what lands, and it is the merge of its parent and
//! its story. The user's files and index are never touched: see `docs/decisions/0006-a-checked-out-target.md`.

use std::path::PathBuf;
use std::time::Duration;

use super::candidate::{self, Candidate};
use crate::config::{Style, UpdateCheckout};
use crate::workspace::git::{Checkout, GitError, Oid, Repository, Swapped};
use crate::workspace::state::{Lock, State, StateError};

/// A landing is a handful of small writes; whoever holds the lock longer hangs.
const WAIT: Duration = Duration::from_secs(60);

/// Proof that nobody else of us lands meanwhile. It ends with its holder, however that ends.
#[derive(Debug)]
pub struct LandingLock(#[expect(dead_code, reason = "held for its drop")] Lock);

impl LandingLock {
    /// # Errors
    /// When somebody holds it for longer than a landing takes.
    pub fn take(state: &State) -> Result<Self, StateError> {
        state.lock("landing", WAIT).map(Self)
    }
}

/// What landing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landed {
    Done {
        aside: Vec<Aside>,
    },
    /// It had landed before: a crash came between the landing and its record.
    Already,
}

/// A checkout of the target that stands where it stood, on a branch of its own that follows the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    pub files: PathBuf,
    pub branch: String,
}

/// A checkout that stood aside, and why it could not be brought to the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    pub files: PathBuf,
    pub why_not: Option<String>,
}

/// Where checkouts stand that the target left behind.
const ASIDE: &str = "cofferdam/checkout/";

/// Why it did not land. The target is where it was.
#[derive(Debug, thiserror::Error)]
pub enum LandError {
    #[error("the target is at {}, and the candidate was tested on {base}; it is built and tested again", found.map_or_else(|| "no commit".to_owned(), |id| id.to_string()))]
    Moved { base: Oid, found: Option<Oid> },
    #[error("candidate {commit} is not what was tested: {why}; it is built and tested again")]
    NotTheTested { commit: Oid, why: String },
    #[error("{} is on the target, and cannot be left where it is: {why}", files.display())]
    Checkout { files: PathBuf, why: String },
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    State(#[from] StateError),
}

/// The steps at which a test may stop us, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Pushed,
    Checked,
    CheckoutAside,
    Swapped,
    CheckoutForwarded,
}

/// Moves the target to a candidate whose gates are green.
///
/// # Errors
/// When it did not land; the target is where it was.
pub fn land(
    lock: &LandingLock,
    repository: &Repository,
    state: &State,
    target: &str,
    candidate: &Candidate,
    update: UpdateCheckout,
    step: &mut dyn FnMut(Step),
) -> Result<Landed, LandError> {
    let _held = lock;
    let now = repository.branch_tip(target)?;
    if now.is_some_and(|now| repository.is_ancestor(candidate.commit, now)) {
        return Ok(Landed::Already);
    }
    #[cfg(test)]
    if let Some(mistaken) = mistake::land(repository, state, target, candidate, now)? {
        return Ok(mistaken);
    }
    if now != Some(candidate.base) {
        return Err(LandError::Moved { base: candidate.base, found: now });
    }
    verify(repository, state, candidate)?;
    step(Step::Checked);
    advance(lock, repository, target, candidate.base, candidate.commit, update, step)
}

/// Moves the target by compare-and-swap, after every checkout of it stepped aside. What is moved to was proven, or is what a remote has.
///
/// # Errors
/// When it was not moved.
pub fn advance(
    lock: &LandingLock,
    repository: &Repository,
    target: &str,
    from: Oid,
    to: Oid,
    update: UpdateCheckout,
    step: &mut dyn FnMut(Step),
) -> Result<Landed, LandError> {
    let _held = lock;
    let mut kept = Vec::new();
    for checkout in repository.checkouts()?.into_iter().filter(|checkout| checkout.branch.as_deref() == Some(target)) {
        let branch = aside(repository, &checkout, target, from)?;
        kept.push((checkout, branch));
        step(Step::CheckoutAside);
    }
    let swapped = repository.swap_branch(target, from, to, "cofferdam: land");
    if !matches!(swapped, Ok(Swapped::Done)) {
        for (checkout, branch) in &kept {
            // Nothing landed, so nothing needs to stand aside; unless its user committed there meanwhile.
            if repository.branch_tip(&format!("refs/heads/{branch}"))? == Some(from) {
                repository.set_head(checkout, target)?;
            }
        }
    }
    match swapped? {
        Swapped::Done => step(Step::Swapped),
        Swapped::Elsewhere(found) => return Err(LandError::Moved { base: from, found }),
    }
    let mut aside: Vec<Aside> = kept.into_iter().map(|(checkout, branch)| Aside { files: checkout.files, branch }).collect();
    if update == UpdateCheckout::FastForwardIfClean {
        // What has landed has landed: a checkout that cannot be brought along stays where it is.
        let brought = bring_along(repository, target, to).unwrap_or_default();
        aside.retain(|left| !brought.iter().any(|one| one.files == left.files && one.why_not.is_none()));
        step(Step::CheckoutForwarded);
    }
    Ok(Landed::Done { aside })
}

/// Brings every clean checkout that stands aside, or is on the target's branch already, to the target. What is not committed stays.
///
/// # Errors
/// When the checkouts cannot be listed.
pub fn bring_along(repository: &Repository, target: &str, to: Oid) -> Result<Vec<Brought>, LandError> {
    let short = target.strip_prefix("refs/heads/").unwrap_or(target);
    let ours = format!("refs/heads/{ASIDE}{short}");
    let mut brought = Vec::new();
    for checkout in repository.checkouts()? {
        let Some(branch) = checkout.branch.clone().filter(|branch| branch.starts_with(&ours)) else { continue };
        let Some(at) = repository.branch_tip(&branch)? else { continue };
        let why = if !repository.is_ancestor(at, to) {
            Some(format!("it has commits of its own; merge or rebase {} yourself", branch.trim_start_matches("refs/heads/")))
        } else if !repository.is_clean(&checkout)? {
            Some("it has changes that are not committed; commit or stash them first".to_owned())
        } else {
            repository.fast_forward(&checkout, to, target).err().map(|error| error.to_string())
        };
        brought.push(Brought { files: checkout.files, why_not: why });
    }
    Ok(brought)
}

/// The invariants, from raw objects: no memory of ours is believed.
///
/// # Errors
/// Which of them does not hold.
pub fn verify(repository: &Repository, state: &State, candidate: &Candidate) -> Result<(), LandError> {
    let wrong = |why: String| Err(LandError::NotTheTested { commit: candidate.commit, why });
    if repository.reference(&candidate::reference(candidate.commit)) != Some(candidate.commit) {
        return wrong("its ref is gone".to_owned());
    }
    let tree = repository.tree_of(candidate.commit)?;
    if tree != candidate.tree {
        return wrong(format!("its tree is {tree}, and {} was tested", candidate.tree));
    }
    let is_batch = candidate.stories.len() > 1;
    let parents = repository.parents_of(candidate.commit)?;
    let fits = match candidate.style {
        // Its parents are looked at with the merges it is made of.
        _ if is_batch => candidate::links(repository, candidate)?.len() == candidate.stories.len(),
        Style::Merge => parents[..] == [&[candidate.base], &candidate.stories[..]].concat(),
        Style::Squash => parents == [candidate.base],
        Style::Rebase => repository.first_parents(candidate.commit, candidate.base)?,
    };
    if !fits {
        return wrong(format!("it does not stand on {} as a {:?} does", candidate.base, candidate.style));
    }
    let mut last = None;
    for (commit, expected) in candidate::expected_trees(repository, state, candidate)? {
        let made = repository.tree_of(commit)?;
        match expected {
            Some(expected) if expected == made => last = Some(made),
            Some(expected) => return wrong(format!("the merge of its parent and its story is {expected}, and not {made}")),
            None => return wrong("its parent and its story conflict".to_owned()),
        }
    }
    if last != Some(tree) {
        return wrong("it is not the merge of its stories".to_owned());
    }
    Ok(())
}

/// Puts a checkout of the target on a branch of its own at the same commit, so that the target can move without it: its files, its index and
/// everything uncommitted stay byte for byte, and `git status` says that it is behind.
fn aside(repository: &Repository, checkout: &Checkout, target: &str, at: Oid) -> Result<String, LandError> {
    let failed = |why: String| LandError::Checkout { files: checkout.files.clone(), why };
    let short = target.strip_prefix("refs/heads/").unwrap_or(target);
    for number in 1..=MOST_ASIDE {
        let name = if number == 1 { format!("{ASIDE}{short}") } else { format!("{ASIDE}{short}-{number}") };
        let full = format!("refs/heads/{name}");
        let taken = repository.checkouts()?.iter().any(|other| other.git_dir != checkout.git_dir && other.branch.as_deref() == Some(&full));
        // A branch of that name with commits that the target does not have is somebody's work.
        if taken || !repository.put_branch(&full, at)? {
            continue;
        }
        repository.follow(&name, target)?;
        repository.set_head(checkout, &full)?;
        return Ok(name);
    }
    Err(failed(format!("the branches cofferdam/checkout/{short} to {short}-{MOST_ASIDE} are all in use; delete those you do not need")))
}

/// Nobody has more checkouts of one branch: git allows one.
const MOST_ASIDE: u32 = 50;

/// What landing would do if it made one of the known mistakes: the property test must notice each.
#[cfg(test)]
mod mistake {
    use super::*;
    use crate::workspace::git::fault::{self, Mutant};
    use crate::workspace::git::{Quarantine, Stamp};

    pub(super) fn land(
        repository: &Repository,
        state: &State,
        target: &str,
        candidate: &Candidate,
        now: Option<Oid>,
    ) -> Result<Option<Landed>, LandError> {
        let Some(now) = now.filter(|now| *now != candidate.base) else { return Ok(None) };
        let Some(story) = candidate.stories.last().copied() else { return Ok(None) };
        let commit = if fault::is(Mutant::NoCompareAndSwap) {
            candidate.commit
        } else if fault::is(Mutant::StaleReparent) || fault::is(Mutant::UntestedRemerge) {
            let quarantine = Quarantine::create(&state.root().join(crate::workspace::state::unique("candidate-")), repository)?;
            let merged = quarantine.merge(now, story)?;
            let tree = match merged {
                crate::workspace::git::Merged::Tree(tree) if fault::is(Mutant::UntestedRemerge) => tree,
                _ if fault::is(Mutant::UntestedRemerge) => return Ok(None),
                _ => candidate.tree,
            };
            let stamp = Stamp { who: candidate::nobody(), seconds: 0, offset_minutes: 0 };
            let message = repository.message_of(candidate.commit)?;
            let parents = if candidate.style == Style::Merge { vec![now, story] } else { vec![now] };
            let commit = quarantine.write_commit_at(tree, &parents, &stamp, &stamp, &message)?;
            quarantine.release()?;
            commit
        } else {
            return Ok(None);
        };
        repository.swap_branch(target, now, commit, "a mistake")?;
        Ok(Some(Landed::Done { aside: Vec::new() }))
    }
}

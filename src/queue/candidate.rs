//! The commit that gates test and that lands: built in memory from the target and one story, the same for the same inputs.

use serde::{Deserialize, Serialize};

use crate::base::text::{bytes_line, one_line};
use crate::config::Style;
use crate::event::Finding;
use crate::workspace::changes::{self, Stopped};
use crate::workspace::git::fault::{self, Mutant};
use crate::workspace::git::{Author, Conflict, ConflictKind, GitError, Merged, Objects as _, Oid, Quarantine, Repository, Stamp};
use crate::workspace::state::{self, State};

/// What is to be built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// The target, or the candidate before this one.
    pub base: Oid,
    pub story: Oid,
    pub style: Style,
    pub id: String,
    pub title: String,
    pub run: Option<String>,
    pub gates: Vec<String>,
    /// What the story's own proof rests on, by hash.
    pub evidence: Vec<String>,
    pub committer: Author,
    /// Seconds since 1970: given, so that the same wish is the same commit.
    pub at: i64,
}

/// A candidate, with all that the landing checks again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub commit: Oid,
    pub tree: Oid,
    pub base: Oid,
    /// In order. More than one is a batch: the merges of its stories, one on the other, joined to the base by one commit.
    pub stories: Vec<Oid>,
    pub style: Style,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Build {
    Built(Candidate),
    /// Found before a gate is spent: both sides, for the story's repair.
    Conflicts {
        /// Which of the wishes cannot be merged on those before it.
        at: usize,
        conflicts: Vec<Conflict>,
    },
}

/// Whoever commits when nobody's name is known.
pub fn nobody() -> Author {
    Author { name: "cofferdam".to_owned(), email: "cofferdam@localhost".to_owned() }
}

const REPAIRS: &str = "refs/cofferdam/repairs/";
/// No batch is larger: the configuration allows no more.
const MOST_IN_A_BATCH: usize = 64;
/// More changed files than this come from no repair.
const MARKS_LOOKED_FOR: usize = 5_000;

const PREFIX: &str = "refs/cofferdam/candidates/";

/// The ref that keeps a candidate.
pub fn reference(commit: Oid) -> String {
    format!("{PREFIX}{commit}")
}

/// Builds a candidate, and gives it a ref before anybody tests it. Several wishes are a batch, of which each stands on the one before it.
///
/// # Errors
/// When git cannot do it. A conflict is no error.
pub fn build(repository: &Repository, state: &State, wishes: &[Wish]) -> Result<Build, GitError> {
    let quarantine = Quarantine::create(&state.root().join(state::unique("candidate-")), repository)?;
    let composed = match compose_all(&quarantine, wishes) {
        Ok(composed) => composed,
        Err(error) => {
            quarantine.abandon()?;
            return Err(error);
        }
    };
    let (candidate, links) = match composed {
        Ok(built) => built,
        Err((at, conflicts)) => {
            quarantine.abandon()?;
            return Ok(Build::Conflicts { at, conflicts });
        }
    };
    quarantine.release()?;
    let mut before = candidate.base;
    for (at, (commit, tree)) in links.into_iter().enumerate() {
        let left = marked(repository, before, tree)?;
        if !left.is_empty() {
            return Ok(Build::Conflicts { at, conflicts: left });
        }
        before = commit;
    }
    let name = reference(candidate.commit);
    if repository.reference(&name) != Some(candidate.commit) {
        repository.create_reference(&name, candidate.commit)?;
    }
    Ok(Build::Built(candidate))
}

/// A candidate and the merges it is made of; or which story conflicts, and how.
type Composed = Result<(Candidate, Vec<(Oid, Oid)>), (usize, Vec<Conflict>)>;

fn compose_all(quarantine: &Quarantine, wishes: &[Wish]) -> Result<Composed, GitError> {
    let (mut links, mut tip) = (Vec::new(), wishes.first().map(|wish| wish.base));
    let built = if fault::is(Mutant::BatchForgetsOne) && wishes.len() > 1 { wishes.len() - 1 } else { wishes.len() };
    for (at, wish) in wishes[..built].iter().enumerate() {
        let wish = Wish { base: tip.unwrap_or(wish.base), ..wish.clone() };
        match compose(quarantine, &wish)? {
            Composition::Made { commit, tree } => {
                links.push((commit, tree));
                tip = Some(commit);
            }
            Composition::Conflicts(conflicts) => return Ok(Err((at, conflicts))),
        }
    }
    let (Some(first), Some((last, tree))) = (wishes.first(), links.last().copied()) else {
        return Err(std::io::Error::other("there is no story to build a candidate of").into());
    };
    let stories: Vec<Oid> = wishes.iter().map(|wish| wish.story).collect();
    let commit = if wishes.len() == 1 { last } else { joined(quarantine, wishes, last, tree)? };
    Ok(Ok((Candidate { commit, tree, base: first.base, stories, style: first.style }, links)))
}

/// The commit that stands for a batch on the target's own line: only what was tested is ever on it.
fn joined(quarantine: &Quarantine, wishes: &[Wish], last: Oid, tree: Oid) -> Result<Oid, GitError> {
    let first = &wishes[0];
    let who = Stamp { who: first.committer.clone(), seconds: wishes.iter().map(|wish| wish.at).max().unwrap_or(0), offset_minutes: 0 };
    let ids: Vec<String> = wishes.iter().map(|wish| one_line(&wish.id).into_owned()).collect();
    let message = with_trailers(&format!("Merge stories {}", ids.join(", ")), &trailers_of(wishes));
    quarantine.write_commit_at(tree, &[first.base, last], &who, &who, &message)
}

/// The trees that these inputs make, worked out anew from raw objects: what a candidate must have. One for each story, with the commit that
/// must have it.
///
/// # Errors
/// When git cannot do it.
pub fn expected_trees(repository: &Repository, state: &State, candidate: &Candidate) -> Result<Vec<(Oid, Option<Oid>)>, GitError> {
    let quarantine = Quarantine::create(&state.root().join(state::unique("candidate-")), repository)?;
    let work_out = || -> Result<Vec<(Oid, Option<Oid>)>, GitError> {
        let mut expected = Vec::new();
        let links = if candidate.stories.len() == 1 { vec![candidate.commit] } else { links(repository, candidate)? };
        let mut before = candidate.base;
        for (commit, story) in links.into_iter().zip(&candidate.stories) {
            let tree = match tree_of(&quarantine, before, *story, candidate.style)? {
                Merged::Tree(tree) => Some(tree),
                Merged::Conflicts(_) => None,
            };
            expected.push((commit, tree));
            before = commit;
        }
        Ok(expected)
    };
    let expected = work_out();
    quarantine.abandon()?;
    expected
}

/// The merges of a batch, in order. Fewer than its stories when it is not made as a batch is.
///
/// # Errors
/// When git cannot read them.
pub fn links(repository: &Repository, candidate: &Candidate) -> Result<Vec<Oid>, GitError> {
    let [base, last] = repository.parents_of(candidate.commit)?[..] else { return Ok(Vec::new()) };
    if base != candidate.base {
        return Ok(Vec::new());
    }
    let (mut at, mut links) = (last, Vec::new());
    for story in candidate.stories.iter().rev() {
        let [before, merged] = repository.parents_of(at)?[..] else { return Ok(Vec::new()) };
        if merged != *story {
            return Ok(Vec::new());
        }
        links.push(at);
        at = before;
    }
    links.reverse();
    Ok(if at == base { links } else { Vec::new() })
}

/// What one story of a batch brought when it landed: the commit that merged it, and the one before that. None when it landed alone.
///
/// # Errors
/// When git cannot read it.
pub fn share(repository: &Repository, landed: Oid, story: Oid) -> Result<Option<(Oid, Oid)>, GitError> {
    let [base, mut at] = repository.parents_of(landed)?[..] else { return Ok(None) };
    if at == story {
        return Ok(None);
    }
    for _ in 0..MOST_IN_A_BATCH {
        let [before, merged] = repository.parents_of(at)?[..] else { return Ok(None) };
        if merged == story {
            return Ok(Some((at, before)));
        }
        if before == base {
            return Ok(None);
        }
        at = before;
    }
    Ok(None)
}

fn tree_of(quarantine: &Quarantine, base: Oid, story: Oid, style: Style) -> Result<Merged, GitError> {
    match style {
        Style::Merge | Style::Squash => quarantine.merge(base, story),
        Style::Rebase => Ok(match rebase(quarantine, base, story, &mut |_, tree, parent| keep(quarantine, tree, parent))? {
            Rebased::Tip { tree, .. } => Merged::Tree(tree),
            Rebased::Conflicts(conflicts) => Merged::Conflicts(conflicts),
        }),
    }
}

fn keep(quarantine: &Quarantine, tree: Oid, parent: Oid) -> Result<Oid, GitError> {
    let nobody = Stamp { who: nobody(), seconds: 0, offset_minutes: 0 };
    quarantine.write_commit_at(tree, &[parent], &nobody, &nobody, "")
}

enum Composition {
    Made { commit: Oid, tree: Oid },
    Conflicts(Vec<Conflict>),
}

fn compose(quarantine: &Quarantine, wish: &Wish) -> Result<Composition, GitError> {
    let committer = Stamp { who: wish.committer.clone(), seconds: wish.at, offset_minutes: 0 };
    let author = quarantine.read(wish.story)?.author;
    let done = |commit, tree| Composition::Made { commit, tree };
    if wish.style == Style::Rebase {
        let mut write = |commit: Oid, tree: Oid, parent: Oid| {
            let read = quarantine.read(commit)?;
            let message = with_trailers(&read.message, &trailers(wish));
            quarantine.write_commit_at(tree, &[parent], &read.author, &committer, &message)
        };
        return Ok(match rebase(quarantine, wish.base, wish.story, &mut write)? {
            Rebased::Tip { commit, tree } if commit != wish.base => done(commit, tree),
            // Everything is in the target already: the story lands all the same, as a commit that says so.
            Rebased::Tip { tree, .. } => {
                let message = with_trailers(&subject("Story", wish), &trailers(wish));
                done(quarantine.write_commit_at(tree, &[wish.base], &author, &committer, &message)?, tree)
            }
            Rebased::Conflicts(conflicts) => Composition::Conflicts(conflicts),
        });
    }
    let tree = match quarantine.merge(wish.base, wish.story)? {
        Merged::Tree(tree) => tree,
        Merged::Conflicts(conflicts) => return Ok(Composition::Conflicts(conflicts)),
    };
    let (parents, author, message) = match wish.style {
        Style::Merge | Style::Rebase => (vec![wish.base, wish.story], committer.clone(), subject("Merge story", wish)),
        Style::Squash => (vec![wish.base], author, format!("{}\n\n{}", subject("Story", wish), said(quarantine, wish)?)),
    };
    let message = with_trailers(&message, &trailers(wish));
    Ok(done(quarantine.write_commit_at(tree, &parents, &author, &committer, &message)?, tree))
}

enum Rebased {
    Tip { commit: Oid, tree: Oid },
    Conflicts(Vec<Conflict>),
}

/// Puts the story's commits on top of the base, one after the other.
fn rebase(
    quarantine: &Quarantine,
    base: Oid,
    story: Oid,
    write: &mut dyn FnMut(Oid, Oid, Oid) -> Result<Oid, GitError>,
) -> Result<Rebased, GitError> {
    let (mut tip, mut tree) = (base, quarantine.read(base)?.tree);
    for commit in quarantine.since(base, story)? {
        if quarantine.read(commit)?.parents.len() > 1 {
            // A merge brings nothing of its own that its sides do not; their commits are in the list too.
            continue;
        }
        match quarantine.pick(commit, tip)? {
            Merged::Tree(same) if same == tree => {}
            Merged::Tree(next) => {
                tip = write(commit, next, tip)?;
                tree = next;
            }
            Merged::Conflicts(conflicts) => return Ok(Rebased::Conflicts(conflicts)),
        }
    }
    Ok(Rebased::Tip { commit: tip, tree })
}

fn subject(what: &str, wish: &Wish) -> String {
    format!("{what} {}: {}", one_line(&wish.id), one_line(wish.title.trim()))
}

/// What the story's own commits say, for a commit that stands for all of them.
fn said(quarantine: &Quarantine, wish: &Wish) -> Result<String, GitError> {
    let mut said = Vec::new();
    for commit in quarantine.since(wish.base, wish.story)? {
        let message = quarantine.read(commit)?.message;
        said.push(crate::base::text::cut(message.trim(), 4 << 10));
    }
    said.dedup();
    Ok(said.join("\n\n"))
}

fn trailers(wish: &Wish) -> Vec<(&'static str, String)> {
    trailers_of(std::slice::from_ref(wish))
}

fn trailers_of(wishes: &[Wish]) -> Vec<(&'static str, String)> {
    let mut trailers: Vec<_> = wishes.iter().map(|wish| ("Story", one_line(&wish.id).into_owned())).collect();
    let Some(first) = wishes.first() else { return trailers };
    trailers.extend(first.run.iter().map(|run| ("Run", one_line(run).into_owned())));
    if !first.gates.is_empty() {
        trailers.push(("Gates", first.gates.join(", ")));
    }
    trailers.extend(wishes.iter().flat_map(|wish| &wish.evidence).map(|id| ("Evidence", format!("sha256:{id}"))));
    trailers
}

/// A message with trailers as its last paragraph. What an agent wrote at the end of its message cannot pass for one of them.
fn with_trailers(message: &str, trailers: &[(&'static str, String)]) -> String {
    let is_ours = |line: &str| {
        trailers.iter().any(|(key, _)| line.trim_start().to_ascii_lowercase().starts_with(&format!("{}:", key.to_ascii_lowercase())))
    };
    let message: Vec<String> = message
        .trim_end()
        .replace('\0', "")
        .lines()
        .map(|line| if is_ours(line) { format!("> {line}") } else { line.to_owned() })
        .collect();
    let trailers: Vec<String> = trailers.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{}\n\n{}\n", message.join("\n").trim_end(), trailers.join("\n"))
}

/// What taking a landing back came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakenBack {
    Built(Candidate),
    /// Later work builds on it.
    Conflicts(Vec<Conflict>),
}

/// A candidate that takes back what came between two commits of the target. It is tested and landed like any other.
///
/// # Errors
/// When git cannot do it.
pub fn take_back(
    repository: &Repository,
    state: &State,
    target: Oid,
    landed: Oid,
    before: Oid,
    message: &str,
) -> Result<TakenBack, GitError> {
    let quarantine = Quarantine::create(&state.root().join(state::unique("candidate-")), repository)?;
    let build = || -> Result<Result<(Oid, Oid), Vec<Conflict>>, GitError> {
        match quarantine.take_back(target, landed, before)? {
            Merged::Conflicts(conflicts) => Ok(Err(conflicts)),
            Merged::Tree(tree) => {
                let seconds = repository.time_of(target)?.max(repository.time_of(landed)?);
                let who = Stamp { who: repository.author().unwrap_or_else(nobody), seconds, offset_minutes: 0 };
                Ok(Ok((quarantine.write_commit_at(tree, &[target], &who, &who, message)?, tree)))
            }
        }
    };
    match build() {
        Ok(Ok((commit, tree))) => {
            quarantine.release()?;
            let name = reference(commit);
            if repository.reference(&name) != Some(commit) {
                repository.create_reference(&name, commit)?;
            }
            Ok(TakenBack::Built(taken_back(commit, tree, target)))
        }
        Ok(Err(conflicts)) => {
            quarantine.abandon()?;
            Ok(TakenBack::Conflicts(conflicts))
        }
        Err(error) => {
            quarantine.abandon()?;
            Err(error)
        }
    }
}

/// The message of a commit that takes back what a story landed.
pub fn revert_message(story: &str, title: &str, reason: &str, landed: Oid) -> String {
    format!("Revert story {}: {}\n\n{}\n\nReverts: {landed}\n", one_line(story), one_line(title), one_line(reason))
}

/// The candidate that [`take_back`] built.
pub fn taken_back(commit: Oid, tree: Oid, base: Oid) -> Candidate {
    Candidate { commit, tree, base, stories: vec![commit], style: Style::Squash }
}

/// Where a repair goes on when what landed was taken back: the tree that was red, on the commit that took it back. A ref keeps it.
///
/// # Errors
/// When git cannot do it.
pub fn again_start(repository: &Repository, state: &State, wish: &Wish, red: Oid) -> Result<Oid, GitError> {
    start_from(repository, state, wish, |_| repository.tree_of(red))
}

/// Where a repair goes on: the story's work merged into the target as it is now, conflicts marked. A ref keeps it.
///
/// # Errors
/// When git cannot do it.
pub fn repair_start(repository: &Repository, state: &State, wish: &Wish) -> Result<Oid, GitError> {
    start_from(repository, state, wish, |quarantine| quarantine.merge_marked(wish.base, wish.story))
}

fn start_from(
    repository: &Repository,
    state: &State,
    wish: &Wish,
    tree: impl Fn(&Quarantine) -> Result<Oid, GitError>,
) -> Result<Oid, GitError> {
    let quarantine = Quarantine::create(&state.root().join(state::unique("candidate-")), repository)?;
    let start = || -> Result<Oid, GitError> {
        let tree = tree(&quarantine)?;
        let committer = Stamp { who: wish.committer.clone(), seconds: wish.at, offset_minutes: 0 };
        let message = with_trailers(&subject("Repair of story", wish), &trailers(wish));
        quarantine.write_commit_at(tree, &[wish.base, wish.story], &committer, &committer, &message)
    };
    let commit = match start() {
        Ok(commit) => commit,
        Err(error) => {
            quarantine.abandon()?;
            return Err(error);
        }
    };
    quarantine.release()?;
    let name = format!("{REPAIRS}{commit}");
    if repository.reference(&name) != Some(commit) {
        repository.create_reference(&name, commit)?;
    }
    Ok(commit)
}

/// Paths in which marks of a conflict were left, of those that a commit changes: they are no resolution.
fn marked(repository: &Repository, base: Oid, tree: Oid) -> Result<Vec<Conflict>, GitError> {
    let base = repository.tree_of(base)?;
    let changes = match changes::between(repository, Some(base), Some(tree), MARKS_LOOKED_FOR) {
        Ok(changes) => changes,
        Err(Stopped::Git(error)) => return Err(error),
        Err(Stopped::TooMany) => return Ok(Vec::new()),
    };
    let mut found = Vec::new();
    for change in changes {
        let Some((_, id)) = change.now.filter(|(mode, _)| mode & 0o170_000 == 0o100_000) else { continue };
        let content = repository.blob(id)?;
        let has = |mark: &[u8]| content.split(|byte| *byte == b'\n').any(|line| line == mark);
        if has(b"<<<<<<< target") && has(b">>>>>>> story") {
            found.push(Conflict { path: change.path, kind: ConflictKind::Marked, both: None });
        }
    }
    Ok(found)
}

/// Conflicts as the next attempt reads them: what is wrong where, with both sides.
pub fn findings(conflicts: &[Conflict]) -> Vec<Finding> {
    let finding = |conflict: &Conflict| {
        let both = conflict.both.as_ref().map_or_else(String::new, |both| format!(":\n{both}"));
        Finding {
            text: format!("conflict with the target: {}{both}", conflict.kind.words()),
            path: Some(bytes_line(&conflict.path)),
            severity: Some("error".to_owned()),
            ..Finding::default()
        }
    };
    conflicts.iter().map(finding).collect()
}

/// What tidying the refs of candidates did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tidied {
    pub removed: Vec<String>,
}

/// Removes the refs that nobody needs: where repairs began that are over, and of candidates those that the target contains, and those that are neither waited for nor about to
/// land. The stories' own refs keep the work itself.
///
/// # Errors
/// When refs cannot be read or removed.
pub fn tidy(repository: &Repository, target: Oid, live: &[Oid], repairs: &[Oid]) -> Result<Tidied, GitError> {
    let mut tidied = Tidied::default();
    for (name, commit) in repository.references(REPAIRS)?.into_iter().filter(|(_, commit)| !repairs.contains(commit)) {
        repository.delete_reference(&name, commit)?;
        tidied.removed.push(name);
    }
    for (name, commit) in repository.references(PREFIX)? {
        if repository.is_ancestor(commit, target) || !live.contains(&commit) || fault::is(Mutant::RefsDeletedEarly) {
            repository.delete_reference(&name, commit)?;
            tidied.removed.push(name);
        }
    }
    Ok(tidied)
}

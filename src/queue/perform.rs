//! What the chain asks for, done: candidates are built, given up, refused and landed, and each step is told before it counts.

use super::candidate::{self, Build, Candidate, TakenBack, Wish};
use super::chain::{Fact, Member, Why};
use super::land::{self, Aside, LandError, Landed, LandingLock, Step};
use super::push::{PushError, Pushed, Remote};
use crate::base::id::{CommitId, EvidenceId, StoryId, TreeId};
use crate::base::text;
use crate::config::{Style, UpdateCheckout};
use crate::event::{Finding, Kind};
use crate::story::facts::Revert;
use crate::workspace::git::{GitError, Oid, Repository};
use crate::workspace::state::{State, StateError};

/// What one story brings to the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub story: StoryId,
    pub title: String,
    /// The proven commit.
    pub commit: CommitId,
    pub gates: Vec<String>,
    /// What the proof rests on.
    pub evidence: Vec<EvidenceId>,
}

/// Whoever keeps the target of one repository.
#[derive(Debug)]
pub struct Keeper<'a> {
    pub repository: &'a Repository,
    pub state: &'a State,
    /// The whole name of the target's ref.
    pub target: &'a str,
    pub style: Style,
    pub update: UpdateCheckout,
    /// The remote that a landing is pushed to, before the target here moves.
    pub push: Option<&'a str>,
    pub run: Option<String>,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Undone<E> {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Land(#[from] LandError),
    #[error(transparent)]
    Push(#[from] PushError),
    #[error("the target here and on the remote `{0}` have gone different ways; bring them together, then cofferdam run")]
    Diverged(String),
    #[error("git gave an id that is none")]
    Id,
    /// The event was not accepted: nothing was done.
    #[error("it was not accepted")]
    Told(E),
}

/// Stores an event of a story; when it returns, the event is on the disk.
pub type Tell<'a, E> = &'a mut dyn FnMut(&StoryId, Kind) -> Result<(), E>;

fn oid<E>(id: &CommitId) -> Result<Oid, Undone<E>> {
    id.as_str().parse().map_err(|_| Undone::Id)
}

fn commit_id<E>(id: Oid) -> Result<CommitId, Undone<E>> {
    id.to_string().parse().map_err(|_| Undone::Id)
}

fn tree_id<E>(id: Oid) -> Result<TreeId, Undone<E>> {
    id.to_string().parse().map_err(|_| Undone::Id)
}

impl Keeper<'_> {
    /// Where the target is.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn tip(&self) -> Result<Option<Oid>, GitError> {
        self.repository.branch_tip(self.target)
    }

    /// Builds the candidate of a story, or of a batch of them, on a base.
    ///
    /// # Errors
    /// When git cannot do it, or a story does not wait for one any more.
    pub fn build<E>(&self, tickets: &[Ticket], base: &CommitId, behind: &[StoryId], tell: Tell<'_, E>) -> Result<Fact, Undone<E>> {
        let on = oid(base)?;
        let wishes = tickets.iter().map(|ticket| self.wish(ticket, on)).collect::<Result<Vec<_>, _>>()?;
        let members: Vec<Member> = tickets.iter().map(|ticket| (ticket.story.clone(), ticket.commit.clone())).collect();
        match candidate::build(self.repository, self.state, &wishes)? {
            Build::Conflicts { at, .. } => Ok(Fact::Conflicts { at: members[at].0.clone(), members, base: base.clone() }),
            Build::Built(built) => {
                let candidate: CommitId = commit_id(built.commit)?;
                let mut behind = behind.to_vec();
                for (story, commit) in &members {
                    let told = Kind::CandidateBuilt {
                        candidate: candidate.clone(),
                        tree: tree_id(built.tree)?,
                        base: base.clone(),
                        story_commit: commit.clone(),
                        behind: behind.clone(),
                    };
                    tell(story, told).map_err(Undone::Told)?;
                    behind.push(story.clone());
                }
                Ok(Fact::Built { members, base: base.clone(), candidate })
            }
        }
    }

    fn wish<E>(&self, ticket: &Ticket, base: Oid) -> Result<Wish, Undone<E>> {
        let story = oid(&ticket.commit)?;
        // No clock takes part: the same story on the same base is the same commit, also after a crash.
        let at = self.repository.time_of(story)?.max(self.repository.time_of(base)?);
        Ok(Wish {
            base,
            story,
            style: self.style,
            id: ticket.story.to_string(),
            title: ticket.title.clone(),
            run: self.run.clone(),
            gates: ticket.gates.clone(),
            evidence: ticket.evidence.iter().map(ToString::to_string).collect(),
            committer: self.repository.author().unwrap_or_else(candidate::nobody),
            at,
        })
    }

    /// A candidate that is void through no fault of its stories.
    fn give_up<E>(&self, tickets: &[Ticket], candidate: &CommitId, why: &str, tell: Tell<'_, E>) -> Result<(), Undone<E>> {
        let dropped = Kind::CandidateDropped { candidate: candidate.clone(), why: why.to_owned() };
        tickets.iter().try_for_each(|ticket| tell(&ticket.story, dropped.clone())).map_err(Undone::Told)
    }

    /// A story that is at fault leaves the queue, and is told why, with its neighbours by name.
    ///
    /// # Errors
    /// When git cannot do it, or the event is not accepted.
    pub fn refuse<E>(&self, ticket: &Ticket, refusal: Refusal<'_>, tell: Tell<'_, E>) -> Result<(), Undone<E>> {
        let Refusal { candidate, why, base, neighbours, red, evidence } = refusal;
        let with = match neighbours {
            [] => String::new(),
            some => format!(" together with {}", text::list(some)),
        };
        let wish = self.wish(ticket, oid(base)?)?;
        let (why, findings) = match why {
            Why::Conflicts => {
                let conflicts = match candidate::build(self.repository, self.state, std::slice::from_ref(&wish))? {
                    Build::Conflicts { conflicts, .. } => conflicts,
                    Build::Built(_) => Vec::new(),
                };
                (format!("it conflicts with the target{with}"), candidate::findings(&conflicts))
            }
            Why::Red | Why::Broken => (format!("its gates are red on the merge{with}; alone they were green"), red.to_vec()),
        };
        let kind = Kind::CandidateRefused {
            candidate: candidate.cloned(),
            story_commit: ticket.commit.clone(),
            why,
            findings,
            evidence: evidence.cloned(),
            onto: Some(base.clone()),
            from: Some(commit_id(candidate::repair_start(self.repository, self.state, &wish)?)?),
        };
        tell(&ticket.story, kind).map_err(Undone::Told)
    }

    /// Lands a candidate whose gates are green. That it begins is told before; what came of it, after.
    ///
    /// # Errors
    /// When the events are not accepted, or the target cannot be moved at all.
    pub fn land<E>(
        &self,
        tickets: &[Ticket],
        candidate: &CommitId,
        base: &CommitId,
        step: &mut dyn FnMut(Step),
        tell: Tell<'_, E>,
    ) -> Result<(Vec<Fact>, Vec<Aside>), Undone<E>> {
        let lock = LandingLock::take(self.state)?;
        let started = Kind::LandingStarted { candidate: candidate.clone(), target: self.target.to_owned(), from: base.clone() };
        for (at, ticket) in tickets.iter().enumerate() {
            if let Err(refused) = tell(&ticket.story, started.clone()) {
                // Those that were told before it do not land without it.
                self.give_up(&tickets[..at], candidate, "another story of its batch has moved on", tell)?;
                return Err(Undone::Told(refused));
            }
        }
        let tested = self.tested(tickets, candidate, base)?;
        let not_landed = Fact::NotLanded { candidate: candidate.clone() };
        match self.pushed(&tested) {
            Ok(true) => step(Step::Pushed),
            Ok(false) => {
                self.give_up(tickets, candidate, "somebody else pushed to the target", tell)?;
                self.follow(&lock)?;
                return Ok((vec![not_landed], Vec::new()));
            }
            Err(error) => {
                self.give_up(tickets, candidate, &error.to_string(), tell)?;
                return Err(error);
            }
        }
        match land::land(&lock, self.repository, self.state, self.target, &tested, self.update, step) {
            Ok(landed) => {
                let aside = if let Landed::Done { aside } = landed { aside } else { Vec::new() };
                for ticket in tickets {
                    self.landed(ticket, &tested, tell)?;
                }
                Ok((vec![Fact::Landed { candidate: candidate.clone() }], aside))
            }
            Err(LandError::Moved { found, .. }) => {
                self.give_up(tickets, candidate, "somebody else moved the target", tell)?;
                let moved = found.map(commit_id).transpose()?;
                Ok((std::iter::once(not_landed).chain(moved.map(Fact::Target)).collect(), Vec::new()))
            }
            Err(error @ LandError::NotTheTested { .. }) => {
                self.give_up(tickets, candidate, &error.to_string(), tell)?;
                Ok((vec![not_landed], Vec::new()))
            }
            Err(error) => {
                self.give_up(tickets, candidate, &error.to_string(), tell)?;
                Err(error.into())
            }
        }
    }

    /// Pushes a candidate, when landings are pushed. False when the remote is elsewhere.
    fn pushed<E>(&self, tested: &Candidate) -> Result<bool, Undone<E>> {
        let Some(name) = self.push else { return Ok(true) };
        if self.tip()? != Some(tested.base) {
            return Ok(true);
        }
        // What is pushed cannot be taken back: everything is looked at again before it, as before the landing itself.
        match land::verify(self.repository, self.state, tested) {
            // The landing finds the same, and says what it means.
            Err(LandError::NotTheTested { .. }) => return Ok(true),
            verified => verified?,
        }
        Ok(Remote { name, branch: self.target }.push(self.repository, tested.commit)? == Pushed::Done)
    }

    /// Takes over what the remote has, when landings are pushed: what others pushed there, and what a crash left half done here.
    ///
    /// # Errors
    /// When the remote cannot be reached, or has gone another way.
    pub fn sync<E>(&self) -> Result<(), Undone<E>> {
        if self.push.is_none() {
            return Ok(());
        }
        let lock = LandingLock::take(self.state)?;
        self.follow(&lock)
    }

    fn follow<E>(&self, lock: &LandingLock) -> Result<(), Undone<E>> {
        let Some(name) = self.push else { return Ok(()) };
        let remote = Remote { name, branch: self.target }.fetch(self.repository)?;
        let (Some(there), Some(here)) = (remote, self.tip()?) else { return Ok(()) };
        if self.repository.is_ancestor(there, here) {
            return Ok(());
        }
        if !self.repository.is_ancestor(here, there) {
            return Err(Undone::Diverged(name.to_owned()));
        }
        land::advance(lock, self.repository, self.target, here, there, self.update, &mut |_| {})?;
        Ok(())
    }

    /// After a crash in the middle of a landing: the target tells whether it was done.
    ///
    /// # Errors
    /// When git cannot do it, or the event is not accepted.
    pub fn recover<E>(&self, ticket: &Ticket, candidate: &CommitId, base: &CommitId, tell: Tell<'_, E>) -> Result<bool, Undone<E>> {
        let lock = LandingLock::take(self.state)?;
        // It may have been pushed, and not moved here.
        self.follow(&lock)?;
        let tested = self.tested(std::slice::from_ref(ticket), candidate, base)?;
        if self.tip()?.is_some_and(|tip| self.repository.is_ancestor(tested.commit, tip)) {
            self.landed(ticket, &tested, tell)?;
            return Ok(true);
        }
        self.give_up(std::slice::from_ref(ticket), candidate, "the runner ended before it landed", tell)?;
        Ok(false)
    }

    /// Builds what takes back a landing, on the target as it is. None when later work builds on it.
    ///
    /// # Errors
    /// When git cannot do it, or the event is not accepted.
    pub fn prepare_revert<E>(&self, ticket: &Ticket, fault: &Fault<'_>, tell: Tell<'_, E>) -> Result<bool, Undone<E>> {
        let Some(tip) = self.tip()? else { return Ok(false) };
        let (landed, before) = (oid(fault.landed)?, oid(fault.before)?);
        let first = fault.why.lines().next().unwrap_or_default();
        let message = candidate::revert_message(ticket.story.as_str(), &ticket.title, first, landed);
        let TakenBack::Built(built) = candidate::take_back(self.repository, self.state, tip, landed, before, &message)? else {
            return Ok(false);
        };
        let prepared = Kind::RevertPrepared {
            candidate: commit_id(built.commit)?,
            tree: tree_id(built.tree)?,
            base: commit_id(tip)?,
            landed: fault.landed.clone(),
            why: fault.why.to_owned(),
            evidence: fault.evidence.cloned(),
        };
        tell(&ticket.story, prepared).map_err(Undone::Told)?;
        Ok(true)
    }

    /// Moves the target to a revert whose gates are green. None when the target is elsewhere.
    ///
    /// # Errors
    /// When the target cannot be moved at all.
    pub fn land_revert<E>(&self, revert: &Revert, step: &mut dyn FnMut(Step)) -> Result<Option<Vec<Aside>>, Undone<E>> {
        let lock = LandingLock::take(self.state)?;
        let tree = revert.tree.as_str().parse().map_err(|_| Undone::Id)?;
        let tested = candidate::taken_back(oid(&revert.candidate)?, tree, oid(&revert.base)?);
        if !self.pushed(&tested)? {
            self.follow(&lock)?;
            return Ok(None);
        }
        step(Step::Pushed);
        match land::land(&lock, self.repository, self.state, self.target, &tested, self.update, step) {
            Ok(Landed::Done { aside }) => Ok(Some(aside)),
            Ok(Landed::Already) => Ok(Some(Vec::new())),
            Err(LandError::Moved { .. } | LandError::NotTheTested { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Has a commit landed?
    ///
    /// # Errors
    /// When the target cannot be read.
    pub fn holds<E>(&self, commit: &CommitId) -> Result<bool, Undone<E>> {
        let commit = oid(commit)?;
        Ok(self.tip()?.is_some_and(|tip| self.repository.is_ancestor(commit, tip)))
    }

    /// Where the repair of a story goes on whose work was taken back.
    ///
    /// # Errors
    /// When git cannot do it.
    pub fn again<E>(&self, ticket: &Ticket, revert: &Revert) -> Result<CommitId, Undone<E>> {
        let wish = self.wish(ticket, oid(&revert.candidate)?)?;
        commit_id(candidate::again_start(self.repository, self.state, &wish, oid(&revert.base)?)?)
    }

    fn tested<E>(&self, tickets: &[Ticket], candidate: &CommitId, base: &CommitId) -> Result<Candidate, Undone<E>> {
        let commit = oid(candidate)?;
        let stories = tickets.iter().map(|ticket| oid(&ticket.commit)).collect::<Result<_, _>>()?;
        Ok(Candidate { commit, tree: self.repository.tree_of(commit)?, base: oid(base)?, stories, style: self.style })
    }

    fn landed<E>(&self, ticket: &Ticket, tested: &Candidate, tell: Tell<'_, E>) -> Result<(), Undone<E>> {
        let told = Kind::StoryLanded {
            commit: commit_id(tested.commit)?,
            tree: tree_id(tested.tree)?,
            story_commit: ticket.commit.clone(),
            target: self.target.to_owned(),
            from: commit_id(tested.base)?,
        };
        tell(&ticket.story, told).map_err(Undone::Told)
    }

    /// Removes refs that nobody needs: of candidates that are not live, and of repairs that are not listed.
    ///
    /// # Errors
    /// When git cannot do it.
    pub fn tidy(&self, live: &[CommitId], repairs: &[CommitId]) -> Result<(), GitError> {
        let Some(tip) = self.tip()? else { return Ok(()) };
        let ids = |list: &[CommitId]| list.iter().filter_map(|id| id.as_str().parse().ok()).collect::<Vec<Oid>>();
        candidate::tidy(self.repository, tip, &ids(live), &ids(repairs)).map(drop)
    }
}

/// A landing with which the target is red.
#[derive(Clone, Copy, Debug)]
pub struct Fault<'a> {
    pub landed: &'a CommitId,
    /// Where the target was before it.
    pub before: &'a CommitId,
    pub why: &'a str,
    pub evidence: Option<&'a EvidenceId>,
}

/// Why a story leaves.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    pub candidate: Option<&'a CommitId>,
    pub why: Why,
    /// What it was merged with.
    pub base: &'a CommitId,
    /// The stories in there that it did not know when it was made.
    pub neighbours: &'a [String],
    /// What the gates said.
    pub red: &'a [Finding],
    /// The log of the first red one.
    pub evidence: Option<&'a EvidenceId>,
}

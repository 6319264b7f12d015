//! The speculative chain: which candidates are built, tested, landed and given up. Pure: facts in, actions out.
//!
//! Candidate *i* is the target, the stories before it, and story *i*. Up to `slots` of them are tested at the same time, each a commit of its
//! own, so that whatever lands is a commit that was tested. The first red one whose predecessors are all green is at fault: it leaves, and
//! those behind it are built again without it. Whatever of a candidate's base changes, the candidate is void.

use std::collections::BTreeSet;

use crate::base::id::{CommitId, StoryId};

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The stories that wait, in order, each with its proven commit.
    Queue(Vec<(StoryId, CommitId)>),
    /// Where the target is.
    Target(CommitId),
    Built {
        story: StoryId,
        commit: CommitId,
        base: CommitId,
        candidate: CommitId,
    },
    Conflicts {
        story: StoryId,
        commit: CommitId,
        base: CommitId,
    },
    Verdict {
        candidate: CommitId,
        verdict: Verdict,
    },
    /// The compare-and-swap was done.
    Landed {
        candidate: CommitId,
    },
    /// It was not: the target is elsewhere, or the candidate is not what was tested.
    NotLanded {
        candidate: CommitId,
    },
}

/// What the gates say of a candidate, all together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Green,
    Red,
    /// Stopped: it says nothing, and is tested again.
    Cancelled,
    /// The gates cannot be run at all: a human is needed.
    Broken,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Answer: [`Fact::Built`] or [`Fact::Conflicts`].
    Build { story: StoryId, commit: CommitId, base: CommitId, behind: Vec<StoryId> },
    /// Answer: [`Fact::Verdict`].
    Test { story: StoryId, candidate: CommitId },
    /// Nobody needs the verdict any more.
    Stop { candidate: CommitId },
    /// Void through no fault of the story.
    Drop { story: StoryId, candidate: CommitId },
    /// Answer: [`Fact::Landed`] or [`Fact::NotLanded`].
    Land { story: StoryId, candidate: CommitId, base: CommitId },
    /// The story leaves the queue.
    Eject { story: StoryId, candidate: Option<CommitId>, why: Why, behind: Vec<StoryId> },
}

/// Why a story leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    Red,
    Conflicts,
    Broken,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Link {
    /// Nobody asked for a candidate yet.
    None,
    Asked {
        base: CommitId,
    },
    Conflicts {
        base: CommitId,
    },
    Built {
        base: CommitId,
        candidate: CommitId,
        test: Test,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    Wanted,
    Running,
    Green,
    Red,
    Broken,
    Landing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    story: StoryId,
    commit: CommitId,
    link: Link,
    /// Ejected: whoever keeps the queue takes it out of it.
    left: bool,
}

/// What the queue shows of one story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub story: StoryId,
    pub candidate: Option<CommitId>,
    /// `waiting`, `building`, `testing`, `green`, `red`, `conflicts`, `broken`, `landing`.
    pub state: &'static str,
    /// The stories that must land, or leave, before it.
    pub behind: Vec<StoryId>,
}

/// The chain of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    slots: usize,
    target: CommitId,
    entries: Vec<Entry>,
}

impl Chain {
    pub fn new(slots: usize, target: CommitId) -> Self {
        Self { slots: slots.max(1), target, entries: Vec::new() }
    }

    pub fn target(&self) -> &CommitId {
        &self.target
    }

    /// Takes a fact, and says what is to be done now and was not asked for before.
    pub fn take(&mut self, fact: Fact) -> Vec<Action> {
        let mut actions = Vec::new();
        match fact {
            Fact::Queue(waiting) => self.queue(waiting, &mut actions),
            Fact::Target(commit) => self.target = commit,
            Fact::Built { story, commit, base, candidate } => {
                self.answer(&story, &commit, &base, |base| Link::Built { base, candidate, test: Test::Wanted });
            }
            Fact::Conflicts { story, commit, base } => self.answer(&story, &commit, &base, |base| Link::Conflicts { base }),
            Fact::Verdict { candidate, verdict } => self.verdict(&candidate, verdict),
            Fact::Landed { candidate } => self.landed(&candidate),
            Fact::NotLanded { candidate } => {
                // Whatever was wrong, the candidate proves nothing any more.
                if let Some(entry) = self.entries.iter_mut().find(|entry| entry.candidate() == Some(&candidate)) {
                    actions.push(Action::Drop { story: entry.story.clone(), candidate });
                    entry.link = Link::None;
                }
            }
        }
        self.settle(&mut actions);
        actions
    }

    /// The queue as it is.
    pub fn shown(&self) -> Vec<Shown> {
        let mut behind = Vec::new();
        let mut shown = Vec::new();
        for entry in self.entries.iter().filter(|entry| !entry.left) {
            let state = match &entry.link {
                Link::None => "waiting",
                Link::Asked { .. } => "building",
                Link::Conflicts { .. } => "conflicts",
                Link::Built { test, .. } => match test {
                    Test::Wanted | Test::Running => "testing",
                    Test::Green => "green",
                    Test::Red => "red",
                    Test::Broken => "broken",
                    Test::Landing => "landing",
                },
            };
            shown.push(Shown { story: entry.story.clone(), candidate: entry.candidate().cloned(), state, behind: behind.clone() });
            behind.push(entry.story.clone());
        }
        shown
    }

    /// Candidates that somebody waits for: their refs are kept.
    pub fn live(&self) -> Vec<CommitId> {
        self.entries.iter().filter_map(|entry| entry.candidate().cloned()).collect()
    }

    fn queue(&mut self, waiting: Vec<(StoryId, CommitId)>, actions: &mut Vec<Action>) {
        let mut before = std::mem::take(&mut self.entries);
        let mut seen = BTreeSet::new();
        for (story, commit) in waiting {
            if !seen.insert(story.clone()) {
                continue;
            }
            let known = before.iter().position(|entry| entry.story == story && entry.commit == commit);
            self.entries.push(known.map_or_else(|| Entry { story, commit, link: Link::None, left: false }, |at| before.remove(at)));
        }
        for mut gone in before {
            gone.drop_link(actions);
        }
        // A landing is not overtaken: whoever is in the middle of it stays first.
        if let Some(at) = self.entries.iter().position(Entry::is_landing) {
            let landing = self.entries.remove(at);
            self.entries.insert(0, landing);
        }
    }

    /// Takes an answer that somebody still waits for.
    fn answer(&mut self, story: &StoryId, commit: &CommitId, base: &CommitId, link: impl FnOnce(CommitId) -> Link) {
        let asked = Link::Asked { base: base.clone() };
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.story == *story && entry.commit == *commit && entry.link == asked) {
            entry.link = link(base.clone());
        }
    }

    fn verdict(&mut self, of: &CommitId, verdict: Verdict) {
        for entry in &mut self.entries {
            if let Link::Built { candidate, test, .. } = &mut entry.link
                && candidate == of
                && *test == Test::Running
            {
                *test = match verdict {
                    Verdict::Green => Test::Green,
                    Verdict::Red => Test::Red,
                    Verdict::Cancelled => Test::Wanted,
                    Verdict::Broken => Test::Broken,
                };
            }
        }
    }

    fn landed(&mut self, candidate: &CommitId) {
        if let Some(at) = self.entries.iter().position(|entry| entry.candidate() == Some(candidate)) {
            self.entries.remove(at);
        }
        self.target = candidate.clone();
    }

    /// Brings the chain to where it should be.
    fn settle(&mut self, actions: &mut Vec<Action>) {
        self.eject(actions);
        let mut base = Some(self.target.clone());
        let mut behind = Vec::new();
        let mut used = 0;
        for entry in self.entries.iter_mut().filter(|entry| !entry.left) {
            // What does not stand on what is now before it is void, also beyond the slots: it would come back stale.
            if entry.base().is_some() && entry.base() != base.as_ref() {
                entry.drop_link(actions);
            }
            if used >= self.slots {
                entry.drop_link(actions);
                continue;
            }
            used += 1;
            let Some(below) = base.clone() else { continue };
            match &mut entry.link {
                Link::None => {
                    let (story, commit) = (entry.story.clone(), entry.commit.clone());
                    actions.push(Action::Build { story, commit, base: below.clone(), behind: behind.clone() });
                    entry.link = Link::Asked { base: below };
                    // What comes behind stands on a commit that is not there yet.
                    base = None;
                }
                Link::Asked { .. } => base = None,
                // Nobody stands on what could not be built.
                Link::Conflicts { .. } => continue,
                Link::Built { candidate, test, .. } => {
                    if *test == Test::Wanted {
                        actions.push(Action::Test { story: entry.story.clone(), candidate: candidate.clone() });
                        *test = Test::Running;
                    }
                    base = Some(candidate.clone());
                }
            }
            behind.push(entry.story.clone());
        }
        self.land(actions);
    }

    /// Whoever is at fault leaves: everything before it is green, so nobody else can be.
    fn eject(&mut self, actions: &mut Vec<Action>) {
        let mut behind = Vec::new();
        let mut base = self.target.clone();
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            if entry.left {
                continue;
            }
            // A verdict on another base than the one it would land on says nothing.
            if entry.base().is_some_and(|on| *on != base) {
                return;
            }
            let (why, candidate) = match &entry.link {
                Link::Conflicts { .. } => (Why::Conflicts, None),
                Link::Built { candidate, test: Test::Red, .. } => (Why::Red, Some(candidate.clone())),
                Link::Built { candidate, test: Test::Broken, .. } => (Why::Broken, Some(candidate.clone())),
                Link::Built { candidate, test: Test::Green | Test::Landing, .. } => {
                    base = candidate.clone();
                    behind.push(entry.story.clone());
                    continue;
                }
                Link::None | Link::Asked { .. } | Link::Built { .. } => return,
            };
            actions.push(Action::Eject { story: entry.story.clone(), candidate, why, behind: behind.clone() });
            self.entries[at].left = true;
            self.entries[at].link = Link::None;
        }
    }

    /// One landing at a time, and only the first.
    fn land(&mut self, actions: &mut Vec<Action>) {
        let Some(first) = self.entries.iter_mut().find(|entry| !entry.left) else { return };
        if let Link::Built { base, candidate, test } = &mut first.link
            && *test == Test::Green
            && *base == self.target
        {
            actions.push(Action::Land { story: first.story.clone(), candidate: candidate.clone(), base: base.clone() });
            *test = Test::Landing;
        }
    }
}

impl Entry {
    fn base(&self) -> Option<&CommitId> {
        match &self.link {
            Link::None => None,
            Link::Asked { base } | Link::Conflicts { base } | Link::Built { base, .. } => Some(base),
        }
    }

    fn candidate(&self) -> Option<&CommitId> {
        match &self.link {
            Link::Built { candidate, .. } => Some(candidate),
            Link::None | Link::Asked { .. } | Link::Conflicts { .. } => None,
        }
    }

    fn is_landing(&self) -> bool {
        matches!(self.link, Link::Built { test: Test::Landing, .. })
    }

    /// Gives up the candidate. One that is landing answers for itself.
    fn drop_link(&mut self, actions: &mut Vec<Action>) {
        if self.is_landing() {
            return;
        }
        if let Link::Built { candidate, test, .. } = &self.link {
            if *test == Test::Running {
                actions.push(Action::Stop { candidate: candidate.clone() });
            }
            actions.push(Action::Drop { story: self.story.clone(), candidate: candidate.clone() });
        }
        self.link = Link::None;
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;

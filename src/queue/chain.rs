//! The speculative chain: which candidates are built, tested, landed and given up. Pure: facts in, actions out.
//!
//! A link of the chain is one story, or a batch of them. Its candidate is the target, the links before it, and its own stories. Up to `slots`
//! candidates are tested at the same time, each a commit of its own, so that whatever lands is a commit that was tested. The first red one
//! whose predecessors are all green is at fault: a story leaves, and those behind it are built again without it; a batch is tested again in
//! halves. Whatever of a candidate's base changes, the candidate is void.
//!
//! What is red once is a suspect, and is tried a second time on the same tree. Those behind it do not wait for that: they are built without
//! it, on what it stands on. Nothing lands before the suspect is decided, so the order stays: red, and they stand where they would land; green,
//! and whichever of the two is further goes first.

use std::collections::{BTreeSet, VecDeque};

use crate::base::id::{CommitId, StoryId};
use crate::workspace::git::fault::{self, Mutant};

/// A story that waits, with its proven commit.
pub type Member = (StoryId, CommitId);

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// The stories that wait, in order.
    Queue(Vec<Member>),
    /// Pairs of them of which neither lands before both are proven together. Said before the queue that they are in.
    Wired(Vec<(StoryId, StoryId)>),
    /// Where the target is.
    Target(CommitId),
    Built {
        members: Vec<Member>,
        base: CommitId,
        candidate: CommitId,
    },
    Conflicts {
        members: Vec<Member>,
        base: CommitId,
        /// The first that cannot be merged.
        at: StoryId,
    },
    /// A gate of it was red once, and is tried again on the same tree.
    Suspect {
        candidate: CommitId,
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
    Build { members: Vec<Member>, base: CommitId, behind: Vec<StoryId> },
    /// Answer: [`Fact::Verdict`], and perhaps [`Fact::Suspect`] before. `behind` is in the candidate as well.
    Test { members: Vec<StoryId>, candidate: CommitId, behind: Vec<StoryId> },
    /// Nobody needs the verdict any more.
    Stop { candidate: CommitId },
    /// Void through no fault of its stories.
    Drop { members: Vec<StoryId>, candidate: CommitId, why: Void },
    /// Answer: [`Fact::Landed`] or [`Fact::NotLanded`].
    Land { members: Vec<StoryId>, candidate: CommitId, base: CommitId },
    /// The story leaves the queue.
    Eject {
        story: StoryId,
        candidate: Option<CommitId>,
        /// What it was merged with.
        base: CommitId,
        why: Why,
        behind: Vec<StoryId>,
    },
}

/// Why a story leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    Red,
    Conflicts,
    Broken,
}

/// Why a candidate is void.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Void {
    /// What it stands on changed.
    Base,
    /// A batch that is not green: its halves are tested.
    Halved,
    /// It is green, and those that were built without it are further.
    Overtaken,
}

impl Void {
    pub fn words(self) -> &'static str {
        match self {
            Self::Base => "what it stands on changed",
            Self::Halved => "the batch is red, and is tested in halves",
            Self::Overtaken => "it was red once, and those that were tested without it meanwhile land first",
        }
    }
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
    /// Red once, and tried again. `passed`: those behind it are built without it.
    Suspect {
        passed: bool,
    },
    Green,
    Red,
    Broken,
    Landing,
}

/// Stories that are built, tested and landed as one: one of them, or a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    members: Vec<Member>,
    link: Link,
    /// As it is on purpose: the half of a batch, or a story that conflicts with one before it.
    fixed: bool,
    /// Ejected: whoever keeps the queue takes it out of it.
    left: bool,
}

/// How many of the last stories tell whether red is rare.
const LOOKED_BACK: usize = 40;
/// Fewer tell nothing.
const ENOUGH: usize = 20;
/// Rare: fewer than one in so many.
const RARE: usize = 20;
/// How many of the last suspects tell whether a suspect is red.
const SUSPECTS: usize = 8;
/// How far beyond the first that is not proven is tested, in slots: what is done there takes no slot.
const AHEAD: usize = 4;

/// The chain of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    slots: usize,
    /// The most stories of a batch.
    batch: usize,
    /// Whether the last stories that landed or left were red, the newest last.
    recent: VecDeque<bool>,
    /// Whether the last suspects were red in the end, the newest last.
    suspects: VecDeque<bool>,
    /// Who lost its place, and to whom.
    overtaken: Vec<(Member, Vec<Member>)>,
    target: CommitId,
    waiting: Vec<Member>,
    wired: BTreeSet<(StoryId, StoryId)>,
    groups: Vec<Group>,
}

impl Chain {
    pub fn new(slots: usize, target: CommitId) -> Self {
        Self {
            slots: slots.max(1),
            batch: 1,
            recent: VecDeque::new(),
            suspects: VecDeque::new(),
            overtaken: Vec::new(),
            target,
            waiting: Vec::new(),
            wired: BTreeSet::new(),
            groups: Vec::new(),
        }
    }

    /// Lets up to so many stories be tested and landed as one, while many wait and red is rare. `recent` is what became of the last ones, the
    /// newest last: true is red.
    #[must_use]
    pub fn with_batches(mut self, most: usize, recent: impl IntoIterator<Item = bool>) -> Self {
        self.batch = most;
        recent.into_iter().for_each(|red| self.remember(red));
        self
    }

    pub fn target(&self) -> &CommitId {
        &self.target
    }

    /// Takes a fact, and says what is to be done now and was not asked for before.
    pub fn take(&mut self, fact: Fact) -> Vec<Action> {
        let mut actions = Vec::new();
        match fact {
            Fact::Queue(waiting) => self.queue(waiting, &mut actions),
            Fact::Wired(pairs) => {
                self.wired = pairs.into_iter().flat_map(|(a, b)| [(a.clone(), b.clone()), (b, a)]).collect();
                // They count for the queue that comes next.
                return actions;
            }
            Fact::Target(commit) => self.target = commit,
            Fact::Built { members, base, candidate } => {
                self.answer(&members, &base, |base| Link::Built { base, candidate, test: Test::Wanted });
            }
            Fact::Conflicts { members, base, at } => self.conflicts(&members, &base, &at),
            Fact::Suspect { candidate } => self.suspect(&candidate),
            Fact::Verdict { candidate, verdict } => self.verdict(&candidate, verdict, &mut actions),
            Fact::Landed { candidate } => self.landed(&candidate, &mut actions),
            Fact::NotLanded { candidate } => {
                // Whatever was wrong, the candidate proves nothing any more.
                if let Some(group) = self.groups.iter_mut().find(|group| group.candidate() == Some(&candidate)) {
                    actions.push(Action::Drop { members: group.stories(), candidate, why: Void::Base });
                    group.link = Link::None;
                }
                self.queue(self.waiting.clone(), &mut actions);
            }
        }
        self.settle(&mut actions);
        actions
    }

    /// Candidates that somebody waits for: their refs are kept.
    pub fn live(&self) -> Vec<CommitId> {
        self.groups.iter().filter_map(|group| group.candidate().cloned()).collect()
    }

    fn queue(&mut self, waiting: Vec<Member>, actions: &mut Vec<Action>) {
        let mut seen = BTreeSet::new();
        self.waiting = waiting.into_iter().filter(|(story, _)| seen.insert(story.clone())).collect();
        let mut rest: Vec<Member> = self.waiting.clone();
        let mut before = std::mem::take(&mut self.groups);
        // A landing is not overtaken, and answers for itself: whoever is in the middle of it stays first.
        if let Some(at) = before.iter().position(Group::is_landing) {
            let landing = before.remove(at);
            rest.retain(|member| !landing.members.contains(member));
            self.groups.push(landing);
        }
        self.put_back(&mut rest);
        let mut at = 0;
        while at < rest.len() {
            // A batch stays one as long as all of it waits, with nobody in between.
            let known = before.iter().position(|group| rest[at..].starts_with(&group.members));
            let group = known.map_or_else(|| Group::of(vec![rest[at].clone()]), |known| before.remove(known));
            at += group.members.len();
            self.groups.push(group);
        }
        for mut gone in before {
            gone.drop_link(actions, Void::Base);
        }
    }

    /// Takes an answer that somebody still waits for.
    fn answer(&mut self, members: &[Member], base: &CommitId, link: impl FnOnce(CommitId) -> Link) -> Option<usize> {
        let asked = Link::Asked { base: base.clone() };
        let at = self.groups.iter().position(|group| group.members == members && group.link == asked)?;
        self.groups[at].link = link(base.clone());
        Some(at)
    }

    fn conflicts(&mut self, members: &[Member], base: &CommitId, story: &StoryId) {
        let Some(group) = self.answer(members, base, |base| Link::Conflicts { base }) else { return };
        let Some(at) = members.iter().position(|(member, _)| member == story).filter(|_| members.len() > 1) else { return };
        // Those before it in the batch are not proven yet, so it may be their fault: it is looked at by itself when they are.
        let parts = [&members[..at], &members[at..=at], &members[at + 1..]];
        let parts =
            parts.into_iter().filter(|part| !part.is_empty()).map(|part| Group { fixed: part[0].0 == *story, ..Group::of(part.to_vec()) });
        self.groups.splice(group..=group, parts);
    }

    /// Those behind a suspect are built without it: one that is red once is red again, as a rule.
    fn suspect(&mut self, of: &CommitId) {
        let is_believed = self.suspects.iter().filter(|red| **red).count() * 2 >= self.suspects.len();
        let Some(at) = self.groups.iter().position(|group| group.candidate() == Some(of)) else { return };
        // Something green stands on it, so it is the second run that will be.
        let next = self.groups[at + 1..].iter().find(|group| !group.left);
        let holds = next.is_some_and(|next| next.is_proven() && next.base() == Some(of));
        if let Link::Built { test: test @ Test::Running, .. } = &mut self.groups[at].link {
            *test = Test::Suspect { passed: is_believed && !holds };
            if holds && fault::is(Mutant::SuspectIsTakenForGreen) {
                *test = Test::Green;
            }
        }
    }

    fn verdict(&mut self, of: &CommitId, verdict: Verdict, actions: &mut Vec<Action>) {
        let Some(at) = self.groups.iter().position(|group| group.candidate() == Some(of)) else { return };
        let Link::Built { test, .. } = &mut self.groups[at].link else { return };
        let before = *test;
        if !matches!(before, Test::Running | Test::Suspect { .. }) {
            return;
        }
        *test = match verdict {
            Verdict::Green => Test::Green,
            Verdict::Red => Test::Red,
            Verdict::Cancelled => Test::Wanted,
            Verdict::Broken => Test::Broken,
        };
        let Test::Suspect { passed } = before else { return };
        if matches!(verdict, Verdict::Green | Verdict::Red) {
            self.suspects.push_back(verdict == Verdict::Red);
            if self.suspects.len() > SUSPECTS {
                self.suspects.pop_front();
            }
        }
        if verdict == Verdict::Green && passed {
            self.overtake(at, actions);
        }
    }

    /// A suspect is green after all, and there are two chains: with it, which is proven as far as itself, and without it. The one that is
    /// further is kept; on a tie the suspect keeps its place.
    fn overtake(&mut self, at: usize, actions: &mut Vec<Action>) {
        let without = || self.groups[at + 1..].iter().filter(|group| !group.left).take_while(|group| group.candidate().is_some());
        let proven = without().take_while(|group| group.is_proven()).count();
        if (proven, without().count()) <= (1, 1) || self.groups[at].members.len() > 1 {
            return;
        }
        let by: Vec<Member> = without().flat_map(|group| group.members.clone()).collect();
        let last = at + self.groups[at..].iter().rposition(|group| by.iter().any(|member| group.members.contains(member))).unwrap_or(0);
        let mut group = self.groups.remove(at);
        group.drop_link(actions, Void::Overtaken);
        self.overtaken.retain(|(who, _)| *who != group.members[0]);
        self.overtaken.push((group.members[0].clone(), by));
        self.groups.insert(last, group);
    }

    /// Whoever was overtaken comes behind those who did, as long as one of them is there.
    fn put_back(&mut self, rest: &mut Vec<Member>) {
        let waiting = &self.waiting;
        self.overtaken.retain(|(who, by)| waiting.contains(who) && by.iter().any(|member| waiting.contains(member)));
        for (who, by) in &self.overtaken {
            let (from, to) = (rest.iter().position(|member| member == who), rest.iter().rposition(|member| by.contains(member)));
            if let (Some(from), Some(to)) = (from, to)
                && from < to
            {
                let member = rest.remove(from);
                rest.insert(to, member);
            }
        }
    }

    fn landed(&mut self, candidate: &CommitId, actions: &mut Vec<Action>) {
        self.target = candidate.clone();
        let Some(at) = self.groups.iter().position(|group| group.candidate() == Some(candidate)) else { return };
        let group = self.groups.remove(at);
        group.members.iter().for_each(|_| self.remember(false));
        let waiting = self.waiting.iter().filter(|member| !group.members.contains(member)).cloned().collect();
        self.queue(waiting, actions);
    }

    fn remember(&mut self, red: bool) {
        self.recent.push_back(red);
        if self.recent.len() > LOOKED_BACK {
            self.recent.pop_front();
        }
    }

    /// How many stories are tested as one. A batch pays when it is green: it is made only when red is rare, and when so many wait that they
    /// would not be tested at once anyway.
    fn size(&self) -> usize {
        let waiting: usize = self.groups.iter().filter(|group| !group.left).map(|group| group.members.len()).sum();
        let red = self.recent.iter().filter(|red| **red).count();
        let is_rare = self.recent.len() >= ENOUGH && red * RARE < self.recent.len();
        if waiting <= 2 * self.slots || !is_rare {
            return 1;
        }
        (waiting / self.slots).clamp(1, self.batch.max(1))
    }

    /// Brings the chain to where it should be.
    fn settle(&mut self, actions: &mut Vec<Action>) {
        self.eject(actions);
        self.drop_void(actions);
        let (mut base, mut behind, mut used, mut at) = (Some(self.target.clone()), Vec::new(), 0, 0);
        // Those that are proven only wait: for their turn, or for a partner that must not be out of reach.
        let open = self.groups.iter().position(|group| !group.left && !group.is_proven()).unwrap_or(0);
        let furthest = open.saturating_add(self.slots.saturating_mul(AHEAD));
        while at < self.groups.len().min(furthest) {
            if self.groups[at].left {
                at += 1;
                continue;
            }
            let Some(below) = base.clone() else { break };
            if self.groups[at].is_work() {
                if used == self.slots {
                    break;
                }
                used += 1;
            }
            if self.groups[at].link == Link::None {
                self.join(at);
            }
            let group = &mut self.groups[at];
            at += 1;
            let stories = group.stories();
            match &mut group.link {
                Link::None => {
                    let members = group.members.clone();
                    actions.push(Action::Build { members, base: below.clone(), behind: behind.clone() });
                    group.link = Link::Asked { base: below.clone() };
                }
                Link::Built { candidate, test: test @ Test::Wanted, .. } => {
                    actions.push(Action::Test { members: stories.clone(), candidate: candidate.clone(), behind: behind.clone() });
                    *test = Test::Running;
                }
                Link::Asked { .. } | Link::Conflicts { .. } | Link::Built { .. } => {}
            }
            base = group.carries(Some(&below));
            if base.as_ref() != Some(&below) {
                behind.extend(stories);
            }
        }
        self.land(actions);
    }

    /// What does not stand on what is now before it is void, also beyond the slots: it would come back stale.
    fn drop_void(&mut self, actions: &mut Vec<Action>) {
        let (mut base, mut used) = (Some(self.target.clone()), 0);
        for group in self.groups.iter_mut().filter(|group| !group.left) {
            let is_beyond = used >= self.slots && group.is_work();
            if is_beyond || (group.base().is_some() && group.base() != base.as_ref()) {
                group.drop_link(actions, Void::Base);
            }
            used += usize::from(group.is_work());
            base = group.carries(base.as_ref());
        }
    }

    /// Takes those that come behind into one batch, as far as a batch goes. What was one before is taken apart first: it may have been made
    /// when red was rarer.
    fn join(&mut self, at: usize) {
        let is_free = |group: &Group| !group.left && !group.fixed && group.link == Link::None;
        let run = self.groups[at..].iter().take_while(|group| is_free(group)).count();
        let size = self.size();
        let members: Vec<Member> = self.groups[at..at + run].iter().flat_map(|group| group.members.clone()).collect();
        if members.is_empty() {
            return;
        }
        let (first, rest) = members.split_at(size.min(members.len()));
        let alone = rest.iter().map(|member| Group::of(vec![member.clone()]));
        let groups: Vec<Group> = std::iter::once(Group::of(first.to_vec())).chain(alone).collect();
        self.groups.splice(at..at + run, groups);
    }

    /// Whoever is at fault leaves: everything before it is green, so nobody else can be. Of a batch it is not known who is; its halves are
    /// tested.
    fn eject(&mut self, actions: &mut Vec<Action>) {
        let mut behind = Vec::new();
        let mut base = self.target.clone();
        for at in 0..self.groups.len() {
            let group = &self.groups[at];
            if group.left {
                continue;
            }
            // A verdict on another base than the one it would land on says nothing.
            if group.base().is_some_and(|on| *on != base) {
                return;
            }
            let (why, candidate) = match &group.link {
                Link::Conflicts { .. } => (Why::Conflicts, None),
                Link::Built { candidate, test: Test::Red, .. } => (Why::Red, Some(candidate.clone())),
                Link::Built { candidate, test: Test::Broken, .. } => (Why::Broken, Some(candidate.clone())),
                Link::Built { candidate, test: Test::Green | Test::Landing, .. } => {
                    base = candidate.clone();
                    behind.extend(group.stories());
                    continue;
                }
                // A batch is not sent away, so it need not be known whether it is red: its halves tell at the same time as its second run.
                Link::Built { test: Test::Suspect { passed: true }, .. } if group.members.len() > 1 => (Why::Red, None),
                Link::None | Link::Asked { .. } | Link::Built { .. } => return,
            };
            if group.members.len() > 1 {
                self.halve(at, actions);
                return;
            }
            let story = group.members[0].0.clone();
            // A partner does not land without it, so it does not wait for the partner's landing.
            let behind = behind.iter().filter(|before| !self.wired.contains(&(story.clone(), (*before).clone()))).cloned().collect();
            if fault::is(Mutant::BuiltOnWhatIsRed) {
                self.keep_what_stands_on(candidate.as_ref(), &base);
            }
            actions.push(Action::Eject { story, candidate, base: base.clone(), why, behind });
            self.groups[at].left = true;
            self.groups[at].link = Link::None;
            if why == Why::Red {
                self.remember(true);
            }
        }
    }

    /// A mistake that tests make on purpose.
    fn keep_what_stands_on(&mut self, gone: Option<&CommitId>, on: &CommitId) {
        for group in &mut self.groups {
            if let Link::Built { base, .. } = &mut group.link
                && Some(&*base) == gone
            {
                base.clone_from(on);
            }
        }
    }

    fn halve(&mut self, at: usize, actions: &mut Vec<Action>) {
        let mut group = self.groups[at].clone();
        let link = group.link.clone();
        group.drop_link(actions, Void::Halved);
        let middle = group.members.len() / 2;
        let mut halves = [&group.members[..middle], &group.members[middle..]].map(|half| Group { fixed: true, ..Group::of(half.to_vec()) });
        if fault::is(Mutant::HalfIsTakenForGreen)
            && let Link::Built { base, candidate, .. } = link
        {
            halves[0].link = Link::Built { base, candidate, test: Test::Green };
        }
        self.groups.splice(at..=at, halves);
    }

    /// One landing at a time, and only the first.
    fn land(&mut self, actions: &mut Vec<Action>) {
        let Some(at) = self.groups.iter().position(|group| !group.left) else { return };
        if self.waits_for_partner(at) {
            return;
        }
        let first = &mut self.groups[at];
        let members = first.stories();
        if let Link::Built { base, candidate, test } = &mut first.link
            && *test == Test::Green
            && *base == self.target
        {
            actions.push(Action::Land { members, candidate: candidate.clone(), base: base.clone() });
            *test = Test::Landing;
        }
    }
}

impl Chain {
    /// Whether a story of this group is wired with one further behind that is not proven on top of it.
    fn waits_for_partner(&self, at: usize) -> bool {
        let members = self.groups[at].stories();
        let partner = |story: &StoryId| {
            !members.contains(story) && members.iter().any(|member| self.wired.contains(&(member.clone(), story.clone())))
        };
        // Of those before the first that is not proven, each stands on a commit that is.
        let unproven = self.groups.iter().position(|group| group.left || !group.is_proven()).unwrap_or(self.groups.len());
        self.groups[unproven..].iter().flat_map(|group| &group.members).any(|(story, _)| partner(story))
    }
}

impl Group {
    fn of(members: Vec<Member>) -> Self {
        Self { members, link: Link::None, fixed: false, left: false }
    }

    fn stories(&self) -> Vec<StoryId> {
        self.members.iter().map(|(story, _)| story.clone()).collect()
    }

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

    /// What the next one stands on, when this one stands on `below`. None: it is not there yet.
    fn carries(&self, below: Option<&CommitId>) -> Option<CommitId> {
        match &self.link {
            Link::None | Link::Asked { .. } => None,
            // Nobody stands on what could not be built, or what would have to go.
            Link::Conflicts { .. } | Link::Built { test: Test::Red | Test::Broken | Test::Suspect { passed: true }, .. } => below.cloned(),
            Link::Built { candidate, .. } => Some(candidate.clone()),
        }
    }

    /// It is being built or tested, or will be: it takes a slot.
    fn is_work(&self) -> bool {
        match &self.link {
            Link::None | Link::Asked { .. } => true,
            Link::Conflicts { .. } => false,
            Link::Built { test, .. } => matches!(test, Test::Wanted | Test::Running | Test::Suspect { .. }),
        }
    }

    /// Its gates are green: it only waits for its turn.
    fn is_proven(&self) -> bool {
        matches!(self.link, Link::Built { test: Test::Green | Test::Landing, .. })
    }

    /// Gives up the candidate. One that is landing answers for itself.
    fn drop_link(&mut self, actions: &mut Vec<Action>, why: Void) {
        if self.is_landing() {
            return;
        }
        if let Link::Built { candidate, test, .. } = &self.link {
            if matches!(test, Test::Running | Test::Suspect { .. }) {
                actions.push(Action::Stop { candidate: candidate.clone() });
            }
            actions.push(Action::Drop { members: self.stories(), candidate: candidate.clone(), why });
        }
        self.link = Link::None;
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;

//! The chain in a simulated world: gates take time and flake, others push, stories come and go, the runner dies and starts again.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// A candidate's id spells what is in it: that is how the world knows what its gates would say.
fn id(number: u64) -> CommitId {
    format!("{number:040x}").parse().expect("an id")
}

fn story(number: usize) -> StoryId {
    format!("S-{number}").parse().expect("an id")
}

struct World {
    /// Every commit there is: its parent and the story it brings, if one.
    commits: BTreeMap<CommitId, (Option<CommitId>, Option<usize>)>,
    target: CommitId,
    queue: Vec<usize>,
    landed: Vec<usize>,
    ejected: Vec<(usize, Why)>,
    /// Stories that are red by themselves, and pairs that are red together, or conflict.
    red: BTreeSet<usize>,
    together: BTreeSet<(usize, usize)>,
    conflicts: BTreeSet<(usize, usize)>,
    /// Candidates whose gates said green, each on its own tree.
    green: BTreeSet<CommitId>,
    asked: Vec<Action>,
    spent: usize,
}

impl World {
    fn new(stories: usize) -> Self {
        let target = id(1);
        Self {
            commits: BTreeMap::from([(target.clone(), (None, None))]),
            target,
            queue: (0..stories).collect(),
            landed: Vec::new(),
            ejected: Vec::new(),
            red: BTreeSet::new(),
            together: BTreeSet::new(),
            conflicts: BTreeSet::new(),
            green: BTreeSet::new(),
            asked: Vec::new(),
            spent: 0,
        }
    }

    fn commit(&mut self, parent: CommitId, brings: Option<usize>) -> CommitId {
        // The same parent and story are the same commit.
        let made = (Some(parent), brings);
        if let Some((known, _)) = self.commits.iter().find(|(_, commit)| **commit == made && brings.is_some()) {
            return known.clone();
        }
        let new = id(self.commits.len() as u64 + 1);
        self.commits.insert(new.clone(), made);
        new
    }

    fn holds(&self, commit: &CommitId) -> BTreeSet<usize> {
        let (mut at, mut holds) = (Some(commit.clone()), BTreeSet::new());
        while let Some(commit) = at {
            let (parent, brings) = &self.commits[&commit];
            holds.extend(brings);
            at = parent.clone();
        }
        holds
    }

    fn meets(pairs: &BTreeSet<(usize, usize)>, holds: &BTreeSet<usize>) -> bool {
        pairs.iter().any(|(a, b)| holds.contains(a) && holds.contains(b))
    }

    fn is_green(&self, commit: &CommitId) -> bool {
        let holds = self.holds(commit);
        self.red.is_disjoint(&holds) && !Self::meets(&self.together, &holds)
    }

    fn number(of: &StoryId) -> usize {
        of.as_str()[2..].parse().expect("a number")
    }

    fn waiting(&self) -> Fact {
        Fact::Queue(self.queue.iter().map(|n| (story(*n), id(1_000 + *n as u64))).collect())
    }

    /// Takes what the chain asks for; what is answered at once becomes facts.
    fn ask(&mut self, actions: Vec<Action>) -> Vec<Fact> {
        let mut facts = Vec::new();
        for action in actions {
            match &action {
                Action::Stop { candidate } => self.asked.retain(|a| !matches!(a, Action::Test { candidate: c, .. } if c == candidate)),
                Action::Drop { .. } => {}
                Action::Eject { story, why, candidate, behind } => {
                    let number = Self::number(story);
                    assert!(self.queue.contains(&number), "{number} left twice");
                    self.queue.retain(|n| *n != number);
                    // At fault: with it red (or in conflict), without it green.
                    let before: BTreeSet<usize> = behind.iter().map(Self::number).chain(self.holds(&self.target)).collect();
                    let with: BTreeSet<usize> = before.iter().copied().chain([number]).collect();
                    match why {
                        Why::Red => {
                            let candidate = candidate.as_ref().expect("a red candidate");
                            assert!(!self.is_green(candidate) && self.red.is_disjoint(&before) && !Self::meets(&self.together, &before));
                            assert_eq!(self.holds(candidate), with, "judged with other neighbours than those it is told");
                        }
                        Why::Conflicts => assert!(Self::meets(&self.conflicts, &with)),
                        Why::Broken => {}
                    }
                    self.ejected.push((number, *why));
                    facts.push(self.waiting());
                }
                Action::Build { .. } | Action::Test { .. } | Action::Land { .. } => {
                    assert!(!self.asked.contains(&action), "asked twice: {action:?}");
                    self.asked.push(action);
                }
            }
        }
        facts
    }

    /// The world answers one question.
    fn answer(&mut self, at: usize, flake: bool) -> Vec<Fact> {
        let action = self.asked.remove(at);
        match action {
            Action::Build { story, commit, base, .. } => {
                let number = Self::number(&story);
                let holds: BTreeSet<usize> = self.holds(&base).into_iter().chain([number]).collect();
                if Self::meets(&self.conflicts, &holds) {
                    return vec![Fact::Conflicts { story, commit, base }];
                }
                let candidate = self.commit(base.clone(), Some(number));
                vec![Fact::Built { story, commit, base, candidate }]
            }
            Action::Test { candidate, .. } => {
                self.spent += 1;
                let verdict = match (flake, self.is_green(&candidate)) {
                    (true, _) => Verdict::Cancelled,
                    (false, true) => Verdict::Green,
                    (false, false) => Verdict::Red,
                };
                if verdict == Verdict::Green {
                    self.green.insert(candidate.clone());
                }
                vec![Fact::Verdict { candidate, verdict }]
            }
            Action::Land { story, candidate, base } => {
                let number = Self::number(&story);
                if self.target != base {
                    return vec![Fact::NotLanded { candidate }, Fact::Target(self.target.clone())];
                }
                assert!(self.green.contains(&candidate), "landed without a green verdict on this very commit");
                assert!(!self.landed.contains(&number), "landed twice");
                assert_eq!(self.commits[&candidate], (Some(base), Some(number)));
                self.target = candidate.clone();
                self.landed.push(number);
                self.queue.retain(|n| *n != number);
                vec![Fact::Landed { candidate }, self.waiting()]
            }
            Action::Stop { .. } | Action::Drop { .. } | Action::Eject { .. } => Vec::new(),
        }
    }

    fn feed(&mut self, chain: &mut Chain, facts: Vec<Fact>) {
        let mut facts = std::collections::VecDeque::from(facts);
        while let Some(fact) = facts.pop_front() {
            let actions = chain.take(fact);
            let tests = |asked: &[Action]| asked.iter().filter(|a| matches!(a, Action::Test { .. })).count();
            facts.extend(self.ask(actions));
            assert!(tests(&self.asked) <= chain.slots, "more tests than slots");
            assert!(self.asked.iter().filter(|a| matches!(a, Action::Land { .. })).count() <= 1, "two landings at once");
        }
    }
}

#[derive(Clone, Debug)]
enum Happens {
    Answer(usize, bool),
    Push,
    Crash,
    Enter,
    Cancel(usize),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        30 => (any::<usize>(), prop::bool::weighted(0.1)).prop_map(|(at, flake)| Happens::Answer(at, flake)),
        1 => Just(Happens::Push),
        1 => Just(Happens::Crash),
        2 => Just(Happens::Enter),
        1 => any::<usize>().prop_map(Happens::Cancel),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_only_proven_commits_land_and_everybody_lands_or_is_told_why(
        slots in 1..6_usize,
        red in prop::collection::btree_set(0..12_usize, 0..4),
        together in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..4),
        conflicts in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..3),
        script in prop::collection::vec(happens(), 0..150),
    ) {
        let mut world = World::new(6);
        world.red = red;
        world.together = together.into_iter().filter(|(a, b)| a != b).collect();
        world.conflicts = conflicts.into_iter().filter(|(a, b)| a != b).collect();
        let mut chain = Chain::new(slots, world.target.clone());
        let (mut all, mut cancelled) = (6, 0);
        let first = vec![world.waiting()];
        world.feed(&mut chain, first);
        for what in script {
            let facts = match what {
                Happens::Answer(at, flake) if !world.asked.is_empty() => world.answer(at % world.asked.len(), flake),
                Happens::Push => {
                    world.target = world.commit(world.target.clone(), None);
                    vec![Fact::Target(world.target.clone())]
                }
                Happens::Crash => {
                    // Everything that ran is gone, and the chain begins from the facts that were kept.
                    world.asked.clear();
                    chain = Chain::new(slots, world.target.clone());
                    vec![world.waiting()]
                }
                Happens::Enter if all < 12 => {
                    world.queue.push(all);
                    all += 1;
                    vec![world.waiting()]
                }
                Happens::Cancel(at) if !world.queue.is_empty() => {
                    let gone = world.queue[at % world.queue.len()];
                    let is_landing = world.asked.iter().any(|a| matches!(a, Action::Land { story: s, .. } if World::number(s) == gone));
                    if is_landing {
                        continue;
                    }
                    world.queue.retain(|n| *n != gone);
                    cancelled += 1;
                    vec![world.waiting()]
                }
                _ => continue,
            };
            world.feed(&mut chain, facts);
        }
        // Left alone, it comes to an end, and not slowly.
        let mut turns = 0;
        while !world.asked.is_empty() {
            turns += 1;
            prop_assert!(turns < 1_000, "it never ends: {:?}", world.asked);
            let facts = world.answer(0, false);
            world.feed(&mut chain, facts);
        }
        prop_assert_eq!(&world.queue, &Vec::<usize>::new(), "somebody waits for ever: {:?}", chain.shown());
        prop_assert_eq!(world.landed.len() + world.ejected.len() + cancelled, all);
        let target = world.target.clone();
        prop_assert!(world.is_green(&target));
        prop_assert_eq!(world.holds(&target).len(), world.landed.len());
    }
}

/// Landings per gate time, in rounds in which every gate takes as long, with a share of stories that are red by themselves.
fn rate(slots: usize, red_percent: u64) -> (f64, f64) {
    let count = 2_000;
    let mut world = World::new(0);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..count {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        if random % 100 < red_percent {
            world.red.insert(number);
        }
    }
    let mut chain = Chain::new(slots, world.target.clone());
    let (mut next, mut rounds) = (0, 0);
    while next < count || !world.asked.is_empty() {
        // The queue is never empty, and never so long that keeping it is what is measured.
        while next < count && world.queue.len() < slots * 3 {
            world.queue.push(next);
            next += 1;
        }
        let waiting = vec![world.waiting()];
        world.feed(&mut chain, waiting);
        rounds += 1;
        // All that runs ends at the same time; what is built and landed takes none.
        let running: Vec<Action> = world.asked.iter().filter(|a| matches!(a, Action::Test { .. })).cloned().collect();
        for test in running {
            if let Some(at) = world.asked.iter().position(|a| *a == test) {
                let facts = world.answer(at, false);
                world.feed(&mut chain, facts);
            }
        }
        while let Some(at) = world.asked.iter().position(|a| !matches!(a, Action::Test { .. })) {
            let facts = world.answer(at, false);
            world.feed(&mut chain, facts);
        }
        // A chain that starts anew has nothing to test in the round it is built in.
        if world.spent == 0 {
            rounds = 0;
        }
    }
    let landed = world.landed.len() as f64;
    (landed / f64::from(rounds), world.spent as f64 / landed)
}

#[test]
fn it_lands_as_many_as_the_model_says() {
    // At 10 % red, a chain of K lands 0.9 + 0.9² + … + 0.9ᴷ in the time of one gate.
    for (slots, model) in [(1, 0.90), (4, 3.10), (8, 5.13)] {
        let (rate, spent) = rate(slots, 10);
        assert!(
            (rate - model).abs() < model * 0.08,
            "{slots} slots: {rate:.2} landings per gate time, and {model} in the model ({spent:.2} gate runs each)"
        );
    }
    assert!(rate(4, 10).0 >= 3.0 * rate(1, 10).0);
}

#[test]
fn a_story_that_is_red_only_with_its_neighbour_is_told_so() {
    let mut world = World::new(3);
    world.together.insert((0, 2));
    let mut chain = Chain::new(3, world.target.clone());
    let first = vec![world.waiting()];
    world.feed(&mut chain, first);
    let mut told = None;
    while !world.asked.is_empty() {
        for fact in world.answer(0, false) {
            let actions = chain.take(fact);
            for action in &actions {
                if let Action::Eject { story, behind, why: Why::Red, .. } = action {
                    told = Some((story.clone(), behind.clone()));
                }
            }
            let more = world.ask(actions);
            world.feed(&mut chain, more);
        }
    }
    let (who, behind) = told.expect("somebody left");
    assert_eq!(who, story(2));
    // Who landed before it is part of the target by then; whoever did not is named.
    assert!(behind.iter().all(|b| [story(0), story(1)].contains(b)));
    assert_eq!(world.landed, [0, 1]);
}

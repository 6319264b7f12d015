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
    /// Every commit there is: its parent and the stories it brings.
    commits: BTreeMap<CommitId, (Option<CommitId>, Vec<usize>)>,
    target: CommitId,
    queue: Vec<usize>,
    landed: Vec<usize>,
    ejected: Vec<(usize, Why)>,
    /// Stories that are red by themselves, and pairs that are red together, or conflict.
    red: BTreeSet<usize>,
    together: BTreeSet<(usize, usize)>,
    conflicts: BTreeSet<(usize, usize)>,
    /// Pairs of which neither lands before both are proven together.
    wired: BTreeSet<(usize, usize)>,
    /// Candidates whose gates said green, each on its own tree.
    green: BTreeSet<CommitId>,
    asked: Vec<Action>,
    spent: usize,
    /// Stories of the largest batch there was.
    largest: usize,
}

impl World {
    fn new(stories: usize) -> Self {
        let target = id(1);
        Self {
            commits: BTreeMap::from([(target.clone(), (None, Vec::new()))]),
            target,
            queue: (0..stories).collect(),
            landed: Vec::new(),
            ejected: Vec::new(),
            red: BTreeSet::new(),
            together: BTreeSet::new(),
            conflicts: BTreeSet::new(),
            wired: BTreeSet::new(),
            green: BTreeSet::new(),
            asked: Vec::new(),
            spent: 0,
            largest: 0,
        }
    }

    fn commit(&mut self, parent: CommitId, brings: Vec<usize>) -> CommitId {
        // The same parent and stories are the same commit.
        let made = (Some(parent), brings);
        if let Some((known, _)) = self.commits.iter().find(|(_, commit)| **commit == made && !made.1.is_empty()) {
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

    /// Those that this one must not land without, of those that wait.
    fn partners(&self, number: usize) -> impl Iterator<Item = usize> {
        let of = move |(a, b): &(usize, usize)| if *a == number { Some(*b) } else { (*b == number).then_some(*a) };
        self.wired.iter().filter_map(of).filter(|partner| self.queue.contains(partner)).collect::<Vec<_>>().into_iter()
    }

    fn is_on(&self, commit: &CommitId, below: &CommitId) -> bool {
        let mut at = Some(commit.clone());
        while let Some(here) = at {
            if here == *below {
                return true;
            }
            at = self.commits[&here].0.clone();
        }
        false
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
                Action::Eject { story, why, candidate, base, behind } => {
                    let number = Self::number(story);
                    assert!(self.queue.contains(&number), "{number} left twice");
                    self.queue.retain(|n| *n != number);
                    // At fault: with it red (or in conflict), without it green.
                    let before = self.holds(base);
                    let told: BTreeSet<usize> = behind.iter().map(Self::number).chain(self.holds(&self.target)).collect();
                    let partners: BTreeSet<usize> = self.partners(number).collect();
                    assert!(
                        told.is_subset(&before) && before.difference(&told).all(|missing| partners.contains(missing)),
                        "not told with whom"
                    );
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
                    if let Action::Land { members, candidate, .. } = &action {
                        let numbers: Vec<usize> = members.iter().map(Self::number).collect();
                        let partners: Vec<usize> = numbers.iter().flat_map(|number| self.partners(*number)).collect();
                        for partner in partners.iter().filter(|partner| !numbers.contains(partner)) {
                            let both = |green: &&CommitId| self.is_on(green, candidate) && self.holds(green).contains(partner);
                            assert!(self.green.iter().any(|green| both(&green)), "{numbers:?} lands before {partner} is proven with it");
                        }
                    }
                    if let Action::Build { members, .. } = &action {
                        self.largest = self.largest.max(members.len());
                    }
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
            Action::Build { members, base, .. } => {
                let mut holds = self.holds(&base);
                for (story, _) in &members {
                    holds.insert(Self::number(story));
                    if Self::meets(&self.conflicts, &holds) {
                        return vec![Fact::Conflicts { at: story.clone(), members, base }];
                    }
                }
                let brings = members.iter().map(|(story, _)| Self::number(story)).collect();
                let candidate = self.commit(base.clone(), brings);
                vec![Fact::Built { members, base, candidate }]
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
            Action::Land { members, candidate, base } => {
                if self.target != base {
                    return vec![Fact::NotLanded { candidate }, Fact::Target(self.target.clone())];
                }
                assert!(self.green.contains(&candidate), "landed without a green verdict on this very commit");
                let numbers: Vec<usize> = members.iter().map(Self::number).collect();
                assert!(numbers.iter().all(|number| !self.landed.contains(number)), "landed twice");
                assert_eq!(self.commits[&candidate], (Some(base), numbers.clone()));
                self.target = candidate.clone();
                self.queue.retain(|n| !numbers.contains(n));
                self.landed.extend(numbers);
                vec![Fact::Landed { candidate }, self.waiting()]
            }
            Action::Stop { .. } | Action::Drop { .. } | Action::Eject { .. } => Vec::new(),
        }
    }

    /// To the end, with nothing in its way.
    fn run(&mut self, chain: &mut Chain) {
        let first = vec![self.waiting()];
        self.feed(chain, first);
        while !self.asked.is_empty() {
            let facts = self.answer(0, false);
            self.feed(chain, facts);
        }
    }

    fn feed(&mut self, chain: &mut Chain, facts: Vec<Fact>) {
        let mut facts = VecDeque::from(facts);
        while let Some(fact) = facts.pop_front() {
            if matches!(fact, Fact::Queue(_)) {
                let there = |(a, b): &&(usize, usize)| self.queue.contains(a) && self.queue.contains(b);
                let pairs = self.wired.iter().filter(there).map(|(a, b)| (story(*a), story(*b))).collect();
                assert_eq!(chain.take(Fact::Wired(pairs)), []);
            }
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
        batch in 1..6_usize,
        red in prop::collection::btree_set(0..12_usize, 0..4),
        together in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..4),
        conflicts in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..3),
        wired in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..3),
        script in prop::collection::vec(happens(), 0..150),
    ) {
        let mut world = World::new(6);
        world.red = red;
        world.together = together.into_iter().filter(|(a, b)| a != b).collect();
        world.conflicts = conflicts.into_iter().filter(|(a, b)| a != b).collect();
        world.wired = wired.into_iter().filter(|(a, b)| a != b).collect();
        let begin = |target: &CommitId| Chain::new(slots, target.clone()).with_batches(batch, [false; LOOKED_BACK]);
        let mut chain = begin(&world.target);
        let (mut all, mut cancelled) = (6, 0);
        let first = vec![world.waiting()];
        world.feed(&mut chain, first);
        for what in script {
            let facts = match what {
                Happens::Answer(at, flake) if !world.asked.is_empty() => world.answer(at % world.asked.len(), flake),
                Happens::Push => {
                    world.target = world.commit(world.target.clone(), Vec::new());
                    vec![Fact::Target(world.target.clone())]
                }
                Happens::Crash => {
                    // Everything that ran is gone, and the chain begins from the facts that were kept.
                    world.asked.clear();
                    chain = begin(&world.target);
                    vec![world.waiting()]
                }
                Happens::Enter if all < 12 => {
                    world.queue.push(all);
                    all += 1;
                    vec![world.waiting()]
                }
                Happens::Cancel(at) if !world.queue.is_empty() => {
                    let gone = world.queue[at % world.queue.len()];
                    let is_landing = world.asked.iter().any(|a| matches!(a, Action::Land { members, .. } if members.contains(&story(gone))));
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
        prop_assert!(world.largest <= batch);
        // One after the other, each tested by itself, would have come to the same.
        let mut serial = World { red: world.red.clone(), together: world.together.clone(), conflicts: world.conflicts.clone(), wired: world.wired.clone(), ..World::new(all) };
        let mut one = Chain::new(1, serial.target.clone());
        serial.run(&mut one);
        if cancelled == 0 {
            prop_assert_eq!(world.landed, serial.landed);
        }
    }
}

/// Landings per gate time, in rounds in which every gate takes as long, with a share of stories that are red by themselves.
fn rate(slots: usize, batch: usize, red_percent: u64) -> (f64, f64) {
    let count = 600;
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
    let mut chain = Chain::new(slots, world.target.clone()).with_batches(batch, [false; LOOKED_BACK]);
    let (mut next, mut rounds) = (0, 0);
    while next < count || !world.asked.is_empty() {
        // The queue is never empty, and never so long that keeping it is what is measured.
        while next < count && world.queue.len() < slots * batch.max(3) {
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
        let (rate, spent) = rate(slots, 1, 10);
        assert!(
            (rate - model).abs() < model * 0.08,
            "{slots} slots: {rate:.2} landings per gate time, and {model} in the model ({spent:.2} gate runs each)"
        );
    }
    assert!(rate(4, 1, 10).0 >= 3.0 * rate(1, 1, 10).0);
}

#[test]
fn batches_pay_while_red_is_rare_and_are_left_alone_when_it_is_not() {
    let ((single, one_each), (batched, shared)) = (rate(4, 1, 1), rate(4, 8, 1));
    assert!(batched > 2.5 * single, "{batched:.2} against {single:.2} landings per gate time");
    assert!(one_each > 1.0 && shared < 0.6, "{shared:.2} gate runs per landing in batches, {one_each:.2} without");
    // With one in ten red there are none, so nothing is lost by allowing them.
    let ((single, _), (batched, spent)) = (rate(4, 1, 10), rate(4, 8, 10));
    assert!(batched > 0.95 * single, "{batched:.2} against {single:.2} landings per gate time ({spent:.2} gate runs each)");
}

#[test]
fn a_red_batch_is_halved_until_the_one_at_fault_is_alone() {
    let mut world = World::new(16);
    world.red.insert(5);
    let mut chain = Chain::new(1, world.target.clone()).with_batches(16, [false; LOOKED_BACK]);
    world.run(&mut chain);
    assert_eq!(world.largest, 16);
    assert_eq!(world.ejected, [(5, Why::Red)]);
    assert_eq!(world.landed, (0..16).filter(|n| *n != 5).collect::<Vec<_>>());
    // 16, 8, 4, then 2 and the two of which one is at fault, and what came behind: not one run for each story.
    assert!(world.spent <= 10, "{} gate runs", world.spent);
}

#[test]
fn no_batch_is_made_of_few_or_before_it_is_known_that_red_is_rare() {
    let reds = |count: usize| std::iter::repeat_n(false, LOOKED_BACK - count).chain(std::iter::repeat_n(true, count));
    for (stories, recent, largest) in [
        (9, reds(0).collect::<Vec<_>>(), 2),
        (8, reds(0).collect(), 1),
        (40, reds(0).collect(), 8),
        (40, reds(1).collect(), 8),
        (40, reds(2).collect(), 1),
        (19, vec![false; ENOUGH - 1], 1),
        (19, vec![], 1),
    ] {
        let mut world = World::new(stories);
        let mut chain = Chain::new(4, world.target.clone()).with_batches(8, recent.clone());
        let first = vec![world.waiting()];
        world.feed(&mut chain, first);
        assert_eq!(world.largest, largest, "{stories} stories, {recent:?}");
    }
}

#[test]
fn wired_stories_are_proven_together_before_the_first_of_them_lands() {
    for slots in 1..4 {
        let mut world = World::new(4);
        world.wired = BTreeSet::from([(0, 2), (2, 3)]);
        let mut chain = Chain::new(slots, world.target.clone());
        world.run(&mut chain);
        assert_eq!(world.landed, [0, 1, 2, 3]);
        // Without the rule the first would land at once; with one of them red the other is free, and whoever keeps the queue holds it.
        let mut world = World::new(3);
        (world.wired, world.together) = (BTreeSet::from([(0, 2)]), BTreeSet::from([(0, 2)]));
        let mut chain = Chain::new(slots, world.target.clone());
        let first = vec![world.waiting()];
        world.feed(&mut chain, first);
        while world.ejected.is_empty() {
            assert!(world.landed.is_empty(), "{slots} slots");
            let facts = world.answer(0, false);
            world.feed(&mut chain, facts);
        }
        assert_eq!(world.ejected, [(2, Why::Red)]);
    }
}

#[test]
fn a_half_that_nobody_tested_is_noticed() {
    let lands = |mutant| {
        fault::mutate(mutant);
        let mut world = World::new(8);
        world.red.insert(2);
        let mut chain = Chain::new(1, world.target.clone()).with_batches(8, [false; LOOKED_BACK]);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run(&mut chain)));
        fault::mutate(None);
        ran.is_ok()
    };
    assert!(lands(None));
    assert!(!lands(Some(Mutant::HalfIsTakenForGreen)));
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

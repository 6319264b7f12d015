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
    /// The first is not red any more when the second is there.
    mends: BTreeSet<(usize, usize)>,
    together: BTreeSet<(usize, usize)>,
    conflicts: BTreeSet<(usize, usize)>,
    /// Pairs of which neither lands before both are proven together.
    wired: BTreeSet<(usize, usize)>,
    /// Candidates whose gates said green, each on its own tree.
    green: BTreeSet<CommitId>,
    asked: Vec<Action>,
    /// Candidates that were red once, and are tried again.
    again: BTreeSet<CommitId>,
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
            mends: BTreeSet::new(),
            together: BTreeSet::new(),
            conflicts: BTreeSet::new(),
            wired: BTreeSet::new(),
            green: BTreeSet::new(),
            asked: Vec::new(),
            again: BTreeSet::new(),
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
        self.fits(&self.holds(commit))
    }

    fn fits(&self, holds: &BTreeSet<usize>) -> bool {
        let is_mended = |red: &usize| self.mends.iter().any(|(of, by)| of == red && holds.contains(by));
        self.red.intersection(holds).all(is_mended) && !Self::meets(&self.together, holds)
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
                            assert!(!self.is_green(candidate) && self.fits(&before));
                            assert_eq!(self.holds(candidate), with, "judged with other neighbours than those it is told");
                        }
                        Why::Conflicts => assert!(Self::meets(&self.conflicts, &with)),
                        Why::Broken => {}
                    }
                    self.ejected.push((number, *why));
                    facts.push(self.waiting());
                }
                // What was asked for before, given up, and is wanted again: the first answer is as good.
                Action::Build { .. } if self.asked.contains(&action) => {}
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
                    if let Action::Test { members, candidate, behind } = &action {
                        self.again.remove(candidate);
                        let said: BTreeSet<usize> =
                            members.iter().chain(behind).map(Self::number).chain(self.holds(&self.target)).collect();
                        let pushed = self.is_on(candidate, &self.target);
                        assert!(!pushed || said == self.holds(candidate), "it is not said what is in the candidate");
                    }
                    self.asked.push(action);
                }
            }
        }
        facts
    }

    /// The world answers one question.
    fn answer(&mut self, at: usize, luck: Luck) -> Vec<Fact> {
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
            Action::Test { ref candidate, .. } => {
                self.spent += 1;
                let candidate = candidate.clone();
                let (is_second, is_green) = (self.again.contains(&candidate), self.is_green(&candidate));
                let verdict = match luck {
                    Luck::Stopped => Verdict::Cancelled,
                    Luck::Flake | Luck::None if !is_second && (luck == Luck::Flake || !is_green) => {
                        self.again.insert(candidate.clone());
                        self.asked.push(action);
                        return vec![Fact::Suspect { candidate }];
                    }
                    _ if is_green => Verdict::Green,
                    _ => Verdict::Red,
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
            let facts = self.answer(0, Luck::None);
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

/// What comes between a tree and its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Luck {
    /// Red is red twice.
    None,
    /// Red at first, whatever the tree is.
    Flake,
    Stopped,
    /// Red at once: a timeout, or what is remembered, is not tried again.
    Sure,
}

#[derive(Clone, Debug)]
enum Happens {
    Answer(usize, Luck),
    Push,
    Crash,
    Enter,
    Cancel(usize),
}

fn luck() -> impl Strategy<Value = Luck> {
    prop_oneof![14 => Just(Luck::None), 3 => Just(Luck::Flake), 2 => Just(Luck::Stopped), 1 => Just(Luck::Sure)]
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        30 => (any::<usize>(), luck()).prop_map(|(at, luck)| Happens::Answer(at, luck)),
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
        mends in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..6),
        together in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..4),
        conflicts in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..3),
        wired in prop::collection::btree_set((0..12_usize, 0..12_usize), 0..3),
        script in prop::collection::vec(happens(), 0..150),
    ) {
        let mut world = World::new(6);
        (world.red, world.mends) = (red, mends);
        world.together = together.into_iter().filter(|(a, b)| a != b).collect();
        world.conflicts = conflicts.into_iter().filter(|(a, b)| a != b).collect();
        world.wired = wired.into_iter().filter(|(a, b)| a != b).collect();
        let begin = |target: &CommitId| Chain::new(slots, target.clone()).with_batches(batch, [false; LOOKED_BACK]);
        let mut chain = begin(&world.target);
        let (mut all, mut cancelled, mut was_overtaken) = (6, 0, false);
        let first = vec![world.waiting()];
        world.feed(&mut chain, first);
        for what in script {
            let facts = match what {
                Happens::Answer(at, luck) if !world.asked.is_empty() => {
                    let facts = world.answer(at % world.asked.len(), luck);
                    was_overtaken |= !chain.overtaken.is_empty();
                    facts
                }
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
            was_overtaken |= !chain.overtaken.is_empty();
            let facts = world.answer(0, Luck::None);
            world.feed(&mut chain, facts);
        }
        prop_assert_eq!(&world.queue, &Vec::<usize>::new(), "somebody waits for ever: {:?}", chain);
        prop_assert_eq!(world.landed.len() + world.ejected.len() + cancelled, all);
        let target = world.target.clone();
        prop_assert!(world.is_green(&target));
        prop_assert_eq!(world.holds(&target).len(), world.landed.len());
        prop_assert!(world.largest <= batch);
        // One after the other, each tested by itself, would have come to the same.
        let mut serial = World { red: world.red.clone(), mends: world.mends.clone(), together: world.together.clone(), conflicts: world.conflicts.clone(), wired: world.wired.clone(), ..World::new(all) };
        let mut one = Chain::new(1, serial.target.clone());
        serial.run(&mut one);
        // Unless a suspect that was green lost its place: then the order is another one, and a pair may be red the other way round.
        // In a batch one story may mend another.
        if cancelled == 0 && !was_overtaken && (batch == 1 || world.mends.is_empty()) {
            prop_assert_eq!(world.landed, serial.landed);
        }
    }
}

/// Landings per gate time, in rounds in which every gate takes as long, with a share of stories that are red by themselves.
/// `luck`: whether what is red is tried a second time.
fn rate(slots: usize, batch: usize, red_percent: u64, luck: Luck) -> (f64, f64) {
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
                let facts = world.answer(at, luck);
                world.feed(&mut chain, facts);
            }
        }
        while let Some(at) = world.asked.iter().position(|a| !matches!(a, Action::Test { .. })) {
            let facts = world.answer(at, Luck::None);
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
        let (rate, spent) = rate(slots, 1, 10, Luck::Sure);
        assert!(
            (rate - model).abs() < model * 0.08,
            "{slots} slots: {rate:.2} landings per gate time, and {model} in the model ({spent:.2} gate runs each)"
        );
    }
    assert!(rate(4, 1, 10, Luck::Sure).0 >= 3.0 * rate(1, 1, 10, Luck::Sure).0);
}

#[test]
fn a_second_run_of_what_is_red_stops_nobody_else() {
    // Each red one takes two gate times of one slot, and the chain behind it loses one of them, as it does without a second run.
    let (sure, twice) = (rate(4, 1, 10, Luck::Sure), rate(4, 1, 10, Luck::None));
    assert!(twice.0 > 0.9 * sure.0, "{:.2} landings per gate time, and {:.2} without a second run", twice.0, sure.0);
    let serial = rate(1, 1, 10, Luck::None);
    assert!(twice.0 > 3.4 * serial.0, "{:.2} landings per gate time, and {:.2} one after the other", twice.0, serial.0);
    assert!(twice.1 < 1.7, "{:.2} gate runs per landing", twice.1);
}

#[test]
fn batches_pay_while_red_is_rare_and_are_left_alone_when_it_is_not() {
    let ((single, one_each), (batched, shared)) = (rate(4, 1, 1, Luck::None), rate(4, 8, 1, Luck::None));
    assert!(batched > 2.5 * single, "{batched:.2} against {single:.2} landings per gate time");
    assert!(one_each > 1.0 && shared < 0.6, "{shared:.2} gate runs per landing in batches, {one_each:.2} without");
    // With one in ten red there are none, so nothing is lost by allowing them.
    let ((single, _), (batched, spent)) = (rate(4, 1, 10, Luck::None), rate(4, 8, 10, Luck::None));
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
            let facts = world.answer(0, Luck::None);
            world.feed(&mut chain, facts);
        }
        assert_eq!(world.ejected, [(2, Why::Red)]);
    }
}

/// Answers the first question that fits.
fn answer_one(world: &mut World, chain: &mut Chain, luck: Luck, fits: impl Fn(&Action) -> bool) {
    let at = world.asked.iter().position(fits).expect("it is asked");
    let facts = world.answer(at, luck);
    world.feed(chain, facts);
}

fn tests(action: &Action, number: usize) -> bool {
    matches!(action, Action::Test { members, .. } if *members == [story(number)])
}

/// Four stories, each built and being tested on the one before it.
fn four() -> (World, Chain) {
    let mut world = World::new(4);
    let mut chain = Chain::new(4, world.target.clone());
    let first = vec![world.waiting()];
    world.feed(&mut chain, first);
    build_all(&mut world, &mut chain);
    (world, chain)
}

/// Builds what is to be built.
fn build_all(world: &mut World, chain: &mut Chain) {
    while let Some(at) = world.asked.iter().position(|action| matches!(action, Action::Build { .. })) {
        let facts = world.answer(at, Luck::None);
        world.feed(chain, facts);
    }
}

fn finish(world: &mut World, chain: &mut Chain) {
    while !world.asked.is_empty() {
        let facts = world.answer(0, Luck::None);
        world.feed(chain, facts);
    }
}

#[test]
fn those_behind_a_suspect_are_tested_without_it_while_it_is_tried_again() {
    let (mut world, mut chain) = four();
    world.red.insert(0);
    answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 0));
    build_all(&mut world, &mut chain);
    // All four are being tested: the suspect once more, the others without it.
    let running: Vec<_> =
        world.asked.iter().filter_map(|a| if let Action::Test { candidate, .. } = a { Some(candidate) } else { None }).collect();
    assert_eq!(running.len(), 4);
    assert_eq!(running.iter().filter(|candidate| world.holds(candidate).contains(&0)).count(), 1);
    // They are green first, and wait for it: nothing lands before it is known whose fault it is.
    for number in 1..4 {
        answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, number));
    }
    assert!(world.landed.is_empty() && world.ejected.is_empty());
    answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 0));
    assert_eq!(world.ejected, [(0, Why::Red)]);
    let spent = world.spent;
    finish(&mut world, &mut chain);
    assert_eq!((world.landed, world.spent), (vec![1, 2, 3], spent));
}

#[test]
fn of_two_chains_the_one_that_is_further_lands() {
    // The suspect is green before any of the others: it keeps its place, and they are tested behind it again.
    let (mut world, mut chain) = four();
    answer_one(&mut world, &mut chain, Luck::Flake, |action| tests(action, 0));
    build_all(&mut world, &mut chain);
    answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 0));
    finish(&mut world, &mut chain);
    assert_eq!(world.landed, [0, 1, 2, 3]);
    // Two others are green without it by then: they land at once, and it comes behind all that was tested without it.
    let (mut world, mut chain) = four();
    answer_one(&mut world, &mut chain, Luck::Flake, |action| tests(action, 0));
    build_all(&mut world, &mut chain);
    answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 1));
    answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 2));
    answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 0));
    let spent = world.spent;
    // Also when the queue is told anew, in its own order.
    let again = vec![world.waiting()];
    world.feed(&mut chain, again);
    finish(&mut world, &mut chain);
    assert_eq!((world.landed, world.spent), (vec![1, 2, 3, 0], spent + 2));
}

#[test]
fn where_gates_flake_nobody_is_built_without_a_suspect() {
    let (mut world, mut chain) = four();
    answer_one(&mut world, &mut chain, Luck::Flake, |action| tests(action, 3));
    answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 3));
    // The last suspect was a flake. This one is waited for, and what stands on it goes on.
    answer_one(&mut world, &mut chain, Luck::Flake, |action| tests(action, 0));
    assert!(!world.asked.iter().any(|action| matches!(action, Action::Build { .. })));
    answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 0));
    let spent = world.spent;
    finish(&mut world, &mut chain);
    assert_eq!((world.landed, world.spent), (vec![0, 1, 2, 3], spent + 2));
}

#[test]
fn a_suspect_that_something_green_stands_on_is_waited_for() {
    let (mut world, mut chain) = four();
    world.red.insert(0);
    world.mends.insert((0, 1));
    answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 1));
    answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 0));
    assert!(!world.asked.iter().any(|action| matches!(action, Action::Build { .. })));
    // It is red by itself, whatever comes behind it: what was green together with it proves nothing.
    finish(&mut world, &mut chain);
    assert_eq!(world.ejected, [(0, Why::Red)]);
    assert_eq!(world.landed, [1, 2, 3]);
}

#[test]
fn mistakes_about_suspects_are_noticed() {
    let lands = |mutant, luck: Luck| {
        let (mut world, mut chain) = four();
        if luck == Luck::None {
            world.red.insert(0);
        }
        world.mends.insert((0, 1));
        fault::mutate(mutant);
        let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            answer_one(&mut world, &mut chain, Luck::None, |action| tests(action, 1));
            answer_one(&mut world, &mut chain, luck, |action| tests(action, 0));
            // What may land does so at once.
            while let Some(at) = world.asked.iter().position(|action| matches!(action, Action::Land { .. })) {
                let facts = world.answer(at, Luck::None);
                world.feed(&mut chain, facts);
            }
            finish(&mut world, &mut chain);
            assert_eq!(world.holds(&world.target).len(), world.landed.len(), "something landed that nobody was told of");
        }));
        fault::mutate(None);
        ran.is_ok()
    };
    for luck in [Luck::None, Luck::Flake] {
        assert!(lands(None, luck));
        assert!(!lands(Some(Mutant::SuspectIsTakenForGreen), luck));
    }
    assert!(!lands(Some(Mutant::BuiltOnWhatIsRed), Luck::None));
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
        for fact in world.answer(0, Luck::None) {
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

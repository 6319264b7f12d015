//! Landing on real git repositories, with everything that goes wrong: conflicts of text and of meaning, flaky gates, pushes by others,
//! crashes before and after every ref update. Whatever happens, the invariants of the queue hold; and each of the mistakes that merge queues
//! have made is noticed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

#[path = "property_world.rs"]
mod world;

use self::world::{Disk, Random, TARGET};
use super::chain::{Action, Chain, Fact, Verdict, Why};
use super::gate::{Ended, Key, Seen};
use super::gate_memory::{Memory, Record};
use super::perform::{Keeper, Refusal, Ticket, Undone};
use crate::base::id::{CommitId, StoryId};
use crate::config::{Style, UpdateCheckout};
use crate::event::Kind;
use crate::workspace::git::fault::{self, Crash, Mutant};
use crate::workspace::git::{Oid, Repository};
use crate::workspace::state::State;

/// One life of the runner: it ends when everything is decided, or by a crash. `Err` is a broken invariant.
struct Life<'a> {
    disk: &'a mut Disk,
    random: &'a mut Random,
    repository: Repository,
    state: State,
    memory: Memory,
    chain: Chain,
    asked: Vec<Action>,
    /// Candidates that were red once, and are tried again.
    again: BTreeSet<CommitId>,
    pushes: &'a mut usize,
}

type Broken = String;

impl Life<'_> {
    fn keeper(&self) -> Keeper<'_> {
        Keeper {
            repository: &self.repository,
            state: &self.state,
            target: TARGET,
            style: self.disk.style,
            update: UpdateCheckout::Never,
            push: None,
            run: None,
        }
    }

    fn recover(&mut self) -> Result<(), Broken> {
        for (story, (candidate, base)) in self.disk.open_landings() {
            let ticket = self.disk.tickets[&story].clone();
            let mut new = Vec::new();
            self.keeper().recover(&ticket, &candidate, &base, &mut teller(&mut new)).map_err(|e: Undone<()>| e.to_string())?;
            self.disk.journal.extend(new);
        }
        self.look()
    }

    fn go(&mut self, mut steps: usize) -> Result<(), Broken> {
        self.recover()?;
        let waiting = Fact::Queue(self.disk.waiting());
        self.feed(vec![waiting])?;
        while !self.asked.is_empty() && steps > 0 {
            steps -= 1;
            if *self.pushes > 0 && self.random.one_in(12) {
                *self.pushes -= 1;
                let number = *self.pushes;
                self.disk.push(number);
                // It may be noticed now, or only when a landing fails.
                if self.random.one_in(2) {
                    let tip = self.disk.seen_tip.parse().expect("an id");
                    self.feed(vec![Fact::Target(tip)])?;
                    continue;
                }
            }
            let at = self.random.below(self.asked.len());
            let action = self.asked.remove(at);
            let facts = self.perform(action)?;
            self.look()?;
            self.feed(facts)?;
            if self.random.one_in(4) {
                self.tidy()?;
            }
        }
        Ok(())
    }

    fn tidy(&self) -> Result<(), Broken> {
        let live = self.chain.live();
        self.keeper().tidy(&live, &[]).map_err(|e| e.to_string())?;
        let tip = self.repository.branch_tip(TARGET).map_err(|e| e.to_string())?.ok_or("no target")?;
        for candidate in live {
            let id: Oid = candidate.as_str().parse().map_err(|_| "an id")?;
            let kept = self.repository.reference(&super::candidate::reference(id)) == Some(id);
            if !kept && !self.repository.is_ancestor(id, tip) {
                return Err(format!("the ref of candidate {candidate} went before the target contains it"));
            }
        }
        Ok(())
    }

    fn feed(&mut self, facts: Vec<Fact>) -> Result<(), Broken> {
        let mut facts = VecDeque::from(facts);
        while let Some(fact) = facts.pop_front() {
            for action in self.chain.take(fact) {
                if let Action::Test { candidate, .. } = &action {
                    self.again.remove(candidate);
                }
                match action {
                    Action::Stop { candidate } => self.asked.retain(|a| !matches!(a, Action::Test { candidate: c, .. } if *c == candidate)),
                    Action::Drop { members, candidate, .. } => {
                        let dropped = Kind::CandidateDropped { candidate, why: "void".into() };
                        self.disk.journal.extend(members.into_iter().map(|story| (story, dropped.clone())));
                    }
                    Action::Eject { story, candidate, why, .. } => {
                        self.eject(&story, candidate.as_ref(), why)?;
                        facts.push_back(Fact::Queue(self.disk.waiting()));
                    }
                    other => self.asked.push(other),
                }
            }
        }
        Ok(())
    }

    fn eject(&mut self, story: &StoryId, candidate: Option<&CommitId>, why: Why) -> Result<(), Broken> {
        let base: CommitId = match candidate {
            Some(candidate) => self.disk.run(&["rev-parse", &format!("{candidate}^1")]).parse().map_err(|_| "an id")?,
            None => self.chain.target().clone(),
        };
        if let (Why::Red, Some(candidate)) = (why, candidate)
            && self.disk.is_green(candidate.as_str())
        {
            return Err(format!("{story} was sent away for a candidate that is green"));
        }
        let ticket = self.disk.tickets[story].clone();
        let refusal = Refusal { candidate, why, base: &base, neighbours: &[], red: &[], evidence: None };
        let mut new = Vec::new();
        self.keeper().refuse(&ticket, refusal, &mut teller(&mut new)).map_err(|e: Undone<()>| e.to_string())?;
        self.disk.journal.extend(new);
        Ok(())
    }

    fn perform(&mut self, action: Action) -> Result<Vec<Fact>, Broken> {
        let mut new = Vec::new();
        let facts = match action {
            Action::Build { members, base, behind } => {
                let tickets: Vec<Ticket> = members.iter().map(|(story, _)| self.disk.tickets[story].clone()).collect();
                let built = self.keeper().build(&tickets, &base, &behind, &mut teller(&mut new));
                vec![built.map_err(|e: Undone<()>| e.to_string())?]
            }
            Action::Test { ref candidate, .. } => {
                let candidate = candidate.clone();
                match self.test(&candidate)? {
                    Some(verdict) => vec![Fact::Verdict { candidate, verdict }],
                    None => {
                        self.again.insert(candidate.clone());
                        self.asked.push(action);
                        vec![Fact::Suspect { candidate }]
                    }
                }
            }
            Action::Land { members, candidate, base } => {
                let tickets: Vec<Ticket> = members.iter().map(|story| self.disk.tickets[story].clone()).collect();
                // Somebody pushes at the worst moment.
                if *self.pushes > 0 && self.random.one_in(4) {
                    *self.pushes -= 1;
                    let number = *self.pushes;
                    self.disk.push(number);
                }
                let journal = &mut self.disk.journal;
                let keeper = Keeper {
                    repository: &self.repository,
                    state: &self.state,
                    target: TARGET,
                    style: self.disk.style,
                    update: UpdateCheckout::Never,
                    push: None,
                    run: None,
                };
                // What is told is on the disk when it returns, whatever comes after.
                let landed = keeper.land(&tickets, &candidate, &base, &mut |_| fault::point(), &mut |story, kind| {
                    fault::point();
                    journal.push((story.clone(), kind));
                    fault::point();
                    Ok(())
                });
                let (mut facts, _) = landed.map_err(|e: Undone<()>| e.to_string())?;
                facts.push(Fact::Queue(self.disk.waiting()));
                facts
            }
            Action::Stop { .. } | Action::Drop { .. } | Action::Eject { .. } => Vec::new(),
        };
        self.disk.journal.extend(new);
        Ok(facts)
    }

    /// The gate, with its memory; now and then it is stopped half way, or flakes. None when it was red once.
    fn test(&mut self, candidate: &CommitId) -> Result<Option<Verdict>, Broken> {
        let id: Oid = candidate.as_str().parse().map_err(|_| "an id")?;
        let tree = self.repository.tree_of(id).map_err(|e| e.to_string())?.to_string();
        let definition = if self.disk.strict { "strict" } else { "lenient" };
        let key = Key { tree: tree.clone(), definition: definition.into(), profile: "p".into(), toolchain: "t".into() };
        let code = match self.memory.recall(&key).map(|record| record.seen.ended) {
            Some(Ended::Exited { code }) => code,
            _ if self.random.one_in(10) => return Ok(Some(Verdict::Cancelled)),
            _ => {
                let code = i32::from(!self.disk.is_green(candidate.as_str()));
                if !self.again.contains(candidate) && (code != 0 || self.random.one_in(5)) {
                    return Ok(None);
                }
                let seen = Seen { ended: Ended::Exited { code }, counts: None, report_error: None };
                self.memory.keep(&Record::new("g", key, seen)).map_err(|e| e.to_string())?;
                code
            }
        };
        if code == 0 {
            self.disk.proven.insert(tree);
        }
        Ok(Some(if code == 0 { Verdict::Green } else { Verdict::Red }))
    }

    /// The invariants that must hold at every moment.
    fn look(&mut self) -> Result<(), Broken> {
        let tip = self.disk.run(&["rev-parse", TARGET]);
        if tip != self.disk.seen_tip {
            if !self.disk.is_green(&tip) {
                return Err(format!("the target is red at {tip}"));
            }
            self.disk.seen_tip.clone_from(&tip);
        }
        Ok(())
    }
}

fn teller(journal: &mut Vec<(StoryId, Kind)>) -> impl FnMut(&StoryId, Kind) -> Result<(), ()> {
    |story, kind| {
        fault::point();
        journal.push((story.clone(), kind));
        Ok(())
    }
}

/// The whole history, judged by git's own program.
fn judge(disk: &Disk, before: &(BTreeMap<String, Vec<u8>>, Vec<u8>, String)) -> Result<(), Broken> {
    let line = disk.run(&["rev-list", "--first-parent", "--reverse", &format!("{}..{TARGET}", disk.first)]);
    let (mut parent, mut landed, mut pushed) = (disk.first.clone(), BTreeSet::new(), BTreeSet::new());
    for commit in line.lines() {
        if disk.pushed.contains(commit) {
            pushed.insert(commit.to_owned());
            parent = commit.to_owned();
            continue;
        }
        let trailers = disk.run(&["log", "-1", "--format=%(trailers:key=Story,valueonly)", commit]);
        let stories = trailers.lines().map(str::parse::<StoryId>).collect::<Result<Vec<_>, _>>().map_err(|e| format!("{commit}: {e}"))?;
        let Some(story) = stories.first().cloned() else { return Err(format!("{commit} is of no story")) };
        let parents = disk.run(&["rev-list", "-1", "--parents", commit]);
        let tree = disk.run(&["rev-parse", &format!("{commit}^{{tree}}")]);
        if disk.style == Style::Rebase {
            // A story is a row of commits; its last one is what was tested.
            let last = disk.journal.iter().any(|(_, kind)| matches!(kind, Kind::StoryLanded { commit: tip, .. } if tip.as_str() == commit));
            if last && !landed.insert(story.clone()) {
                return Err(format!("{story} landed twice"));
            }
            if last && !disk.proven.contains(&tree) {
                return Err(format!("{commit} was never tested"));
            }
            parent = commit.to_owned();
            continue;
        }
        if let Some(twice) = stories.iter().find(|story| !landed.insert((*story).clone())) {
            return Err(format!("{twice} landed twice"));
        }
        if !disk.proven.contains(&tree) {
            return Err(format!("{commit} was never tested"));
        }
        // The merges of its stories, one on the other. A batch's own commit joins them to the line.
        let (mut merged, mut last) = (parent.clone(), String::new());
        let inside = match stories.len() {
            1 => String::new(),
            _ => disk.run(&["rev-list", "--first-parent", "--reverse", &format!("{parent}..{commit}^2")]),
        };
        let mut inside = inside.lines();
        for story in &stories {
            let own = disk.tickets[story].commit.to_string();
            let (good, made) = disk.git(&disk.repo(), &["merge-tree", "--write-tree", &merged, &own]);
            let link = inside.next().unwrap_or(commit).to_owned();
            if !good || made != disk.run(&["rev-parse", &format!("{link}^{{tree}}")]) {
                return Err(format!("{commit} is not the merge of its parent and {stories:?}"));
            }
            (merged, last) = (link, own);
        }
        if disk.run(&["rev-parse", &format!("{merged}^{{tree}}")]) != tree {
            return Err(format!("{commit} is not the merge of its parent and {stories:?}"));
        }
        let joins = if stories.len() > 1 { merged } else { last };
        let wanted = if disk.style == Style::Merge { format!("{commit} {parent} {joins}") } else { format!("{commit} {parent}") };
        if parents != wanted {
            return Err(format!("{commit} has the parents {parents}"));
        }
        parent = commit.to_owned();
    }
    if pushed != disk.pushed {
        return Err("what somebody pushed is lost".to_owned());
    }
    for (story, ticket) in &disk.tickets {
        let told = disk.journal.iter().any(|(of, kind)| of == story && matches!(kind, Kind::StoryLanded { .. }));
        if told != landed.contains(story) {
            return Err(format!("{story}: told {told}, and in the target {}", landed.contains(story)));
        }
        if !disk.is_over(story) {
            return Err(format!("{story} waits for ever"));
        }
        if !disk.git(&disk.repo(), &["rev-parse", "--verify", "-q", &format!("refs/cofferdam/stories/{story}/1")]).0 {
            return Err(format!("the work of {story} ({}) is kept by nothing", ticket.commit));
        }
    }
    if disk.users_work() != *before {
        return Err("the user's checkout changed".to_owned());
    }
    Ok(())
}

/// One random world, from its beginning to its end.
fn world(seed: u64, mutant: Option<Mutant>) -> Result<(), Broken> {
    fault::mutate(mutant);
    let mut random = Random::new(seed);
    let style = [Style::Merge, Style::Merge, Style::Squash, Style::Rebase][random.below(4)];
    let mut disk = Disk::new(style);
    let before = disk.users_work();
    let stories = 3 + random.below(5);
    // Most start from the same target, as stories that are worked on side by side do.
    for number in 0..stories {
        disk.make_story(number, &mut random);
    }
    let mut pushes = random.below(4);
    let mut lives = 2 + random.below(5);
    loop {
        let repository = Repository::discover(&disk.repo()).expect("a repository");
        let state = State::at(&disk.folder.path().join("state"), &repository).expect("a state");
        let memory = Memory::of(&state).expect("a memory");
        let tip: CommitId = disk.run(&["rev-parse", TARGET]).parse().expect("an id");
        let chain = Chain::new(1 + random.below(4), tip);
        let most = if style == Style::Merge { 1 + random.below(4) } else { 1 };
        let chain = chain.with_batches(most, [false; 40]);
        let is_last = lives == 0;
        fault::crash_after((!is_last && random.one_in(2)).then(|| u32::try_from(random.below(60)).expect("small")));
        let steps = if is_last { 2_000 } else { 3 + random.below(25) };
        let mut life = Life {
            disk: &mut disk,
            random: &mut random,
            repository,
            state,
            memory,
            chain,
            asked: Vec::new(),
            again: BTreeSet::new(),
            pushes: &mut pushes,
        };
        let lived = catch_unwind(AssertUnwindSafe(|| life.go(steps)));
        fault::crash_after(None);
        match lived {
            Ok(lived) => lived?,
            Err(thrown) if thrown.is::<Crash>() => {}
            Err(thrown) => std::panic::resume_unwind(thrown),
        }
        if is_last {
            break;
        }
        lives -= 1;
        // Between two lives the configuration may change; what has landed was judged by the one of its day.
        disk.strict |= random.one_in(3);
        disk.seen_tip = disk.run(&["rev-parse", TARGET]);
    }
    judge(&disk, &before)
}

#[test]
fn whatever_goes_wrong_the_target_is_what_was_proven_and_nothing_is_lost() {
    for seed in 0..40 {
        if let Err(broken) = world(seed, None) {
            panic!("seed {seed}: {broken}");
        }
    }
}

fn is_noticed(mutant: Mutant) {
    let noticed = (0..120).find(|seed| world(*seed, Some(mutant)).is_err());
    assert!(noticed.is_some(), "{mutant:?} goes unnoticed");
}

#[test]
fn a_landing_without_compare_and_swap_is_noticed() {
    is_noticed(Mutant::NoCompareAndSwap);
}

#[test]
fn a_tested_tree_on_another_parent_is_noticed() {
    is_noticed(Mutant::StaleReparent);
}

#[test]
fn a_merge_that_nobody_tested_is_noticed() {
    is_noticed(Mutant::UntestedRemerge);
}

#[test]
fn a_verdict_of_another_gate_is_noticed() {
    is_noticed(Mutant::MemoryWithoutGate);
}

#[test]
fn a_batch_that_forgets_one_of_its_stories_is_noticed() {
    is_noticed(Mutant::BatchForgetsOne);
}

#[test]
fn a_suspect_that_lands_before_its_second_run_is_noticed() {
    is_noticed(Mutant::SuspectIsTakenForGreen);
}

#[test]
fn refs_that_go_too_early_are_noticed() {
    is_noticed(Mutant::RefsDeletedEarly);
}

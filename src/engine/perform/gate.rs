//! `RunGate` → `gate.finished`, and all gates of a candidate.

use std::sync::atomic::{AtomicBool, Ordering};

use super::ci::{self, Question};
use super::{Hands, Trouble, Unanswered, Untold, Work};
use crate::base::id::{CommitId, EvidenceId, StoryId, TreeId};
use crate::config::{CI_GATE, Config, Role};
use crate::event::{GateResult, Kind};
use crate::queue::chain::Verdict;
use crate::queue::gate::{Definition, Floor, Judgement, judge};
use crate::queue::gate_memory::Record;
use crate::queue::gate_run::{GateError, Gates, Ran};
use crate::role::network::{denials, grants};
use crate::role::{Stop, Workshop};
use crate::workspace::git::Oid;

/// Gates of one commit that run side by side.
const AT_ONCE: usize = 4;
/// How often a gate that could not be run is tried again on a candidate.
const TRIES: u32 = 2;
/// What of a log's end an event carries.
const DETAIL: usize = 4_000;

/// What one gate said.
#[derive(Clone, Debug)]
pub struct Said {
    pub gate: String,
    pub judged: Judgement,
    pub flaky: bool,
    pub cached: bool,
    /// Why, and the end of the log.
    pub detail: String,
    pub evidence: Vec<EvidenceId>,
    pub wall_ms: u64,
    /// What it tried to reach, and may not.
    pub denied: Vec<Kind>,
}

impl Said {
    fn of(ran: Ran, floor: Floor) -> Self {
        let judged = judge(&ran.record.seen, floor);
        let tail = crate::base::text::cut(&ran.record.tail, DETAIL);
        let detail = judged.why.iter().cloned().chain([tail]).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n");
        let (record, denied) = (ran.record, denials(Role::Gate, &ran.tally));
        Self {
            denied,
            gate: record.gate,
            judged,
            flaky: record.flaky,
            cached: ran.cached,
            detail,
            evidence: record.logs,
            wall_ms: record.wall_ms,
        }
    }

    /// It could not be run.
    fn error(gate: &str, error: &GateError) -> Self {
        let judged = Judgement { result: GateResult::Error, problems: 0, why: vec![error.to_string()] };
        Self {
            gate: gate.to_owned(),
            judged,
            flaky: false,
            cached: false,
            detail: error.to_string(),
            evidence: Vec::new(),
            wall_ms: 0,
            denied: Vec::new(),
        }
    }

    fn event(&self, commit: &CommitId, tree: &TreeId) -> Kind {
        Kind::GateFinished {
            gate: self.gate.clone(),
            commit: commit.clone(),
            tree: tree.clone(),
            result: self.judged.result,
            flaky: self.flaky,
            problems: self.judged.problems,
            detail: Some(self.detail.clone()),
            evidence: self.evidence.clone(),
            cached: self.cached,
            wall_ms: self.wall_ms,
        }
    }
}

fn open<'a>(shop: &'a Workshop, config: &Config) -> Result<Gates<'a>, GateError> {
    Ok(Gates::open(&shop.engine, shop.root(), config, shop.evidence.clone())?.with_keys(grants(config)))
}

fn oid(commit: &CommitId) -> Result<Oid, GateError> {
    commit.as_str().parse().map_err(|_| GateError::NotStarted { gate: String::new(), why: format!("{commit} is no commit") })
}

/// A gate on the story's own commit, before it may enter the queue.
pub(super) fn run(hands: &Hands, work: &Work, name: &str, commit: &CommitId) -> Result<(), Unanswered> {
    let config = hands.shop.config();
    let Some(gate) = config.gates.iter().find(|gate| gate.name == name).map(Definition::from) else {
        // The target's configuration changed: the story's rules follow, and ask for other gates.
        return Ok(());
    };
    let change = work.attempt()?.change.as_ref().ok_or_else(|| Trouble::new("there is no change to test", "cofferdam log"))?;
    let (story, tree) = (&work.story.id, change.tree.clone());
    let approved = work.story.approvals.contains(commit);
    hands.desk.tell(story, vec![Kind::GateStarted { gate: name.to_owned(), commit: commit.clone(), tree: tree.clone() }])?;
    let suspected = |record: &Record| drop(hands.desk.tell(story, vec![suspicion(record, commit, &tree)]));
    let said = ask(hands, &config, &gate, commit, &change.base, approved, &suspected);
    if hands.stop.is_asked() {
        return Ok(());
    }
    let event = said.event(commit, &tree);
    Ok(hands.desk.tell(story, said.denied.into_iter().chain([event]).collect())?)
}

/// The first of two runs was red.
fn suspicion(record: &Record, commit: &CommitId, tree: &TreeId) -> Kind {
    Kind::GateSuspected {
        gate: record.gate.clone(),
        commit: commit.clone(),
        tree: tree.clone(),
        detail: Some(crate::base::text::cut(&record.tail, DETAIL)),
        evidence: record.logs.clone(),
        wall_ms: record.wall_ms,
    }
}

fn ask(
    hands: &Hands,
    config: &Config,
    gate: &Definition,
    commit: &CommitId,
    base: &CommitId,
    approved: bool,
    suspected: &dyn Fn(&Record),
) -> Said {
    let said = || -> Result<Said, GateError> {
        let gates = open(&hands.shop, config)?;
        let before = gates.remembered(gate, oid(base)?)?.and_then(|record| record.seen.counts);
        let ran = gates.ask(gate, oid(commit)?, false, &|| hands.stop.requests().ok(), suspected)?;
        Ok(Said::of(ran, Floor { executed: before.map(|counts| counts.executed), approved }))
    };
    said().unwrap_or_else(|error| Said::error(&gate.name, &error))
}

/// A candidate to be tested.
#[derive(Clone, Debug)]
pub struct Case {
    /// More than one is a batch.
    pub stories: Vec<StoryId>,
    pub candidate: CommitId,
    pub tree: TreeId,
    pub base: CommitId,
    /// The whole name of the target's ref.
    pub target: String,
    pub approved: bool,
}

/// All gates of a candidate, side by side; the first red one ends the others. Each result is told before the verdict counts.
pub fn test(hands: &Hands, case: &Case, gates: &[Definition]) -> Result<Verdict, Untold> {
    let config = hands.shop.config();
    let red = AtomicBool::new(false);
    let mut verdict = Verdict::Green;
    for some in gates.chunks(AT_ONCE) {
        let said: Vec<Result<Verdict, Untold>> = std::thread::scope(|scope| {
            let begun: Vec<_> = some.iter().map(|gate| scope.spawn(|| one(hands, &config, case, gate, &red))).collect();
            begun.into_iter().map(|one| one.join().unwrap_or(Ok(Verdict::Broken))).collect()
        });
        for said in said {
            verdict = worst(verdict, said?);
        }
        if verdict != Verdict::Green {
            break;
        }
    }
    if hands.stop.is_asked() && verdict != Verdict::Red {
        return Ok(Verdict::Cancelled);
    }
    // What costs somebody else's machines comes when our own have nothing against it.
    if verdict == Verdict::Green && config.ci.provider.is_some() {
        return external(hands, case);
    }
    Ok(verdict)
}

fn external(hands: &Hands, case: &Case) -> Result<Verdict, Untold> {
    let started = Kind::GateStarted { gate: CI_GATE.to_owned(), commit: case.candidate.clone(), tree: case.tree.clone() };
    tell_all(hands, case, &started)?;
    let question = Question { commit: &case.candidate, tree: case.tree.as_str(), base: &case.base, target: &case.target, landed: false };
    let said = ci::ask(&hands.shop, &hands.stop, &question);
    if said.judged.result != GateResult::Cancelled {
        tell_all(hands, case, &said.event(&case.candidate, &case.tree))?;
    }
    Ok(verdict_of(said.judged.result))
}

fn verdict_of(result: GateResult) -> Verdict {
    match result {
        GateResult::Pass => Verdict::Green,
        GateResult::Red => Verdict::Red,
        GateResult::Cancelled => Verdict::Cancelled,
        GateResult::Error => Verdict::Broken,
    }
}

/// A red gate is red whatever the others say.
fn worst(a: Verdict, b: Verdict) -> Verdict {
    let rank = |verdict| match verdict {
        Verdict::Green => 0,
        Verdict::Cancelled => 1,
        Verdict::Broken => 2,
        Verdict::Red => 3,
    };
    if rank(a) >= rank(b) { a } else { b }
}

fn one(hands: &Hands, config: &Config, case: &Case, gate: &Definition, red: &AtomicBool) -> Result<Verdict, Untold> {
    let started = Kind::GateStarted { gate: gate.name.clone(), commit: case.candidate.clone(), tree: case.tree.clone() };
    tell_all(hands, case, &started)?;
    let mut tries = 0;
    loop {
        // Whoever does not take it has moved on, and hears so from the result.
        let suspected = |record: &Record| drop(tell_all(hands, case, &suspicion(record, &case.candidate, &case.tree)));
        let said = ask(hands, config, gate, &case.candidate, &case.base, case.approved, &suspected);
        let verdict = verdict_of(said.judged.result);
        if hands.stop.is_asked() && !red.load(Ordering::SeqCst) && verdict != Verdict::Red {
            return Ok(Verdict::Cancelled);
        }
        tries += 1;
        if verdict == Verdict::Broken && tries < TRIES && !hands.stop.is_asked() {
            continue;
        }
        for denied in &said.denied {
            tell_all(hands, case, denied)?;
        }
        tell_all(hands, case, &said.event(&case.candidate, &case.tree))?;
        if verdict == Verdict::Red {
            red.store(true, Ordering::SeqCst);
            hands.stop.ask();
        }
        return Ok(verdict);
    }
}

/// Every story of a batch has the result; the gate ran once.
fn tell_all(hands: &Hands, case: &Case, kind: &Kind) -> Result<(), Untold> {
    for (at, story) in case.stories.iter().enumerate() {
        let mut kind = kind.clone();
        if let Kind::GateFinished { cached, .. } = &mut kind {
            *cached |= at > 0;
        }
        hands.desk.tell(story, vec![kind])?;
    }
    Ok(())
}

/// What gates say of a commit that is nobody's story: the target itself.
#[derive(Clone, Debug)]
pub struct Looked {
    /// None when they could not be run, or were stopped.
    pub green: Option<bool>,
    pub why: String,
    pub evidence: Option<EvidenceId>,
}

/// Gates on a commit of the target.
pub fn look(shop: &Workshop, stop: &Stop, gates: &[Definition], commit: &CommitId) -> Looked {
    let config = shop.config();
    let look = || -> Result<Looked, GateError> {
        let opened = open(shop, &config)?;
        for gate in gates {
            let said = Said::of(opened.ask(gate, oid(commit)?, false, &|| stop.requests().ok(), &|_| {})?, Floor::default());
            match said.judged.result {
                GateResult::Pass => {}
                GateResult::Red => {
                    let why = format!("gate {}: {}", gate.name, said.detail);
                    return Ok(Looked { green: Some(false), why, evidence: said.evidence.last().cloned() });
                }
                GateResult::Cancelled | GateResult::Error => {
                    return Ok(Looked { green: None, why: format!("gate {} was stopped", gate.name), evidence: None });
                }
            }
        }
        Ok(Looked { green: Some(true), why: String::new(), evidence: None })
    };
    look().unwrap_or_else(|error| Looked { green: None, why: error.to_string(), evidence: None })
}

/// Does external CI look at what has landed?
pub fn follows_outside(config: &Config) -> bool {
    config.ci.provider.is_some() && !config.ci.after.is_empty()
}

/// What is looked at when something has landed: gates of ours, and external CI on the target, when it is named.
pub fn follow(shop: &Workshop, stop: &Stop, gates: &[Definition], outside: Option<&str>, commit: &CommitId) -> Looked {
    let own = look(shop, stop, gates, commit);
    match outside {
        Some(target) if own.green == Some(true) => look_outside(shop, stop, target, commit),
        _ => own,
    }
}

/// External CI on what has landed.
fn look_outside(shop: &Workshop, stop: &Stop, target: &str, commit: &CommitId) -> Looked {
    let looked = || -> Result<Looked, GateError> {
        let repository = open(shop, &shop.config())?;
        let repository = repository.repository();
        let id = oid(commit)?;
        let (tree, base) = (repository.tree_of(id)?.to_string(), repository.parents_of(id)?.first().map(ToString::to_string));
        let base = base.and_then(|base| base.parse().ok()).unwrap_or_else(|| commit.clone());
        let said = ci::ask(shop, stop, &Question { commit, tree: &tree, base: &base, target, landed: true });
        let green = match said.judged.result {
            GateResult::Pass => Some(true),
            GateResult::Red => Some(false),
            GateResult::Cancelled | GateResult::Error => None,
        };
        Ok(Looked { green, why: format!("{CI_GATE}: {}", said.detail), evidence: said.evidence.last().cloned() })
    };
    looked().unwrap_or_else(|error| Looked { green: None, why: error.to_string(), evidence: None })
}

/// What landed warms the caches of its gates; what nobody waits for is dropped.
pub fn settle_caches(shop: &Workshop, landed: &CommitId, live: &[CommitId]) {
    let settle = || -> Result<(), GateError> {
        let gates = open(shop, &shop.config())?;
        gates.promote_caches(oid(landed)?)?;
        gates.forget_caches(&live.iter().filter_map(|id| oid(id).ok()).collect::<Vec<_>>())
    };
    // A cache that stays cold costs time, and nothing else.
    drop(settle());
}

/// Does a gate remember that it is red on this very tree?
pub fn is_known_red(shop: &Workshop, gates: &[Definition], commit: &CommitId) -> bool {
    let config = shop.config();
    let look = || -> Result<bool, GateError> {
        let opened = open(shop, &config)?;
        for gate in gates {
            let record = opened.remembered(gate, oid(commit)?)?;
            if record.is_some_and(|record| judge(&record.seen, Floor::default()).result == GateResult::Red) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    look().unwrap_or(false)
}

/// The first landing with which the gates are red, found by halves. None when it cannot be told.
pub fn culprit(shop: &Workshop, stop: &Stop, gates: &[Definition], landed: &[(StoryId, CommitId)]) -> Option<StoryId> {
    // Everything before `good` is green, everything from `bad` on is red.
    let (mut good, mut bad) = (0, landed.len().checked_sub(1)?);
    while good < bad {
        let middle = good + (bad - good) / 2;
        match look(shop, stop, gates, &landed[middle].1).green? {
            true => good = middle + 1,
            false => bad = middle,
        }
    }
    landed.get(bad).map(|(story, _)| story.clone())
}

//! The state machine against a hostile and against a fair world.
//!
//! The hostile world sends any event at any time, with ids drawn from small pools so that they collide. The invariants are checked against
//! the log of accepted events, not against the machine's own facts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::harness::*;
use super::*;
use crate::base::id::{AttemptNo, CommitId};
use crate::event::*;

/// One move of the world, by numbers: proptest shrinks it well.
pub(crate) type Move = (u8, u8, u8, u8);

fn verdict(n: u8) -> Verdict {
    [Verdict::Pass, Verdict::Pass, Verdict::Pass, Verdict::Fail, Verdict::Error, Verdict::NeedsApproval][usize::from(n % 6)]
}

fn gate(n: u8) -> GateResult {
    [GateResult::Pass, GateResult::Pass, GateResult::Pass, GateResult::Red, GateResult::Cancelled, GateResult::Error][usize::from(n % 6)]
}

fn attempt_end(n: u8, second: i64) -> AttemptEnd {
    match n % 8 {
        0 => AttemptEnd::Failed { cause: "wall".to_owned() },
        1 => AttemptEnd::ProviderLimit { provider: "p".to_owned(), until: at(second + 3) },
        2 => AttemptEnd::Interrupted,
        3 => AttemptEnd::CouldNotStart { why: "w".to_owned(), next: "n".to_owned() },
        _ => AttemptEnd::Finished,
    }
}

/// Any event. The upper half of `what` answers what the story asks for, so that sequences get somewhere.
fn event(w: &World, (what, a, b, c): Move) -> Kind {
    if what >= 128 {
        return helpful(w, a, b, &mut 0);
    }
    let small = |n: u8| u32::from(n % 8) + 1;
    let current = w.story.attempt();
    let number = if a.is_multiple_of(4) { small(b) } else { current.map_or(1, |a| a.no.get()) };
    let mine = w.story.change().map(|c| u32::from_str_radix(c.commit.as_str().trim_start_matches('0'), 16).unwrap_or(0));
    let n = mine.filter(|_| !a.is_multiple_of(5)).unwrap_or_else(|| small(b));
    let candidate = 20 + u32::from(b % 3);
    let name = ["checks", "review", "other"][usize::from(b % 5).min(2) % 3];
    match what % 48 {
        0..4 => Kind::StoryStarted { attempt: w.story.next_attempt(), base: commit(0) },
        4..8 => Kind::AttemptStarted { attempt: no(number), task: current.map_or(Task::Implement, |a| a.task), agent: "a".to_owned() },
        8..12 => ended(number, attempt_end(c, w.second), c.is_multiple_of(13).then_some("which?")),
        // The commit follows the attempt, so that two attempts seldom leave the same one; the patch is one of three.
        12..16 => collected(
            number,
            if a.is_multiple_of(7) { small(b) } else { number + 30 },
            ["x", "y", "z"][usize::from(c % 3)],
            u64::from(!c.is_multiple_of(9)),
        ),
        16..22 => {
            let mut kind = judged(n, name, verdict(c), u32::from(c % 6 == 3 || c.is_multiple_of(23)));
            if let Kind::EvaluatorFinished { proof, .. } = &mut kind
                && !a.is_multiple_of(11)
            {
                proof.clone_from(&w.story.spec.proof);
            }
            kind
        }
        22..25 => gated(n, gate(c)),
        25 => gated(candidate, gate(c)),
        26 | 27 => Kind::StoryQueued { commit: commit(n) },
        28 => built(candidate, n),
        29 => Kind::LandingStarted { candidate: commit(candidate), target: "t".to_owned(), from: commit(0) },
        30 | 31 => landed(candidate, n),
        32 => Kind::CandidateDropped { candidate: commit(candidate), why: "w".to_owned() },
        33 => Kind::CandidateRefused {
            candidate: Some(commit(candidate)),
            story_commit: commit(n),
            why: "red".to_owned(),
            findings: Vec::new(),
            evidence: None,
            onto: None,
            from: None,
        },
        34 => Kind::DiagnosisMade { commit: commit(n), summary: "s".to_owned(), tasks: Vec::new(), evidence: None, error: None },
        35 if c.is_multiple_of(2) => Kind::ApproachProposed { attempt: no(number), summary: "s".to_owned(), error: None, evidence: None },
        35 => Kind::ContractAccepted { attempt: no(number), evidence: None },
        36 => Kind::StoryApproved { commit: commit(n), without_gates: Vec::new() },
        37 => Kind::StoryDequeued { commit: commit(n), why: "w".to_owned() },
        38 => Kind::ApproachDeclared { attempt: no(number), summary: ["one", "two"][usize::from(c % 2)].to_owned() },
        39 => {
            Kind::BudgetSpent { role: "r".to_owned(), model: None, amount: Amount { model_calls: u64::from(c % 4), ..Amount::default() } }
        }
        40 => {
            let mut spec = w.story.spec.clone();
            spec.proof = ["p1", "p2"][usize::from(c % 2)].to_owned();
            Kind::StoryChanged { spec }
        }
        41 => match c % 5 {
            0 => Kind::StoryRemoved {},
            1 => Kind::StoryCreated { spec: w.story.spec.clone() },
            2 => Kind::ContractRefused { attempt: no(number), why: "w".to_owned(), evidence: None },
            3 => Kind::StoryReady { commit: commit(n), tree: tree(n) },
            _ if b.is_multiple_of(2) => {
                Kind::StoryReopened { why: "w".to_owned(), findings: Vec::new(), evidence: None, onto: None, from: None }
            }
            _ => Kind::StoryReverted { commit: commit(n), reason: "r".to_owned() },
        },
        42 => Kind::StoryRejected { commit: c.is_multiple_of(2).then(|| commit(n)), reason: "r".to_owned() },
        43 => Kind::StoryAnswered { text: "t".to_owned() },
        44 => Kind::StoryRetried {},
        45 => Kind::StoryReplanned { reason: "r".to_owned() },
        46 => match c % 6 {
            0 => Kind::StoryCancelled { reason: "r".to_owned() },
            1 => Kind::StoryBackfilled { commit: None, reason: "r".to_owned(), gates: Vec::new() },
            2 => Kind::StoryReset { forget: false },
            3 => Kind::StoryBlocked { block: Block { reason: "sandbox".to_owned(), question: "q".to_owned(), next: "n".to_owned() } },
            4 => Kind::StoryUnblocked { why: "w".to_owned() },
            _ => Kind::StoryNoted { text: "t".to_owned() },
        },
        _ => Kind::GateStarted { gate: "test".to_owned(), commit: commit(n), tree: tree(n) },
    }
}

fn is_command(kind: &Kind) -> bool {
    kind.name().starts_with("story.")
        && matches!(
            kind,
            Kind::StoryRetried {}
                | Kind::StoryReset { .. }
                | Kind::StoryCreated { .. }
                | Kind::StoryBackfilled { .. }
                | Kind::StoryReopened { .. }
                | Kind::StoryReverted { .. }
        )
}

/// Whether the log itself shows that this commit of the story passed everything that the last spec asks, and the candidate its gates.
fn log_proves(log: &[Kind], story: &CommitId, candidate: &CommitId) -> bool {
    let spec = log.iter().rev().find_map(|kind| match kind {
        Kind::StoryCreated { spec } | Kind::StoryChanged { spec } => Some(spec),
        _ => None,
    });
    let spec = spec.expect("a story begins with its spec");
    let was_collected = log.iter().any(|kind| matches!(kind, Kind::ChangeCollected { commit, files, .. } if commit == story && *files > 0));
    let approved = log.iter().any(|kind| matches!(kind, Kind::StoryApproved { commit, .. } if commit == story));
    let passed = spec.rules.evaluators.iter().all(|name| {
        log.iter().any(|kind| match kind {
            Kind::EvaluatorFinished { evaluator, commit, verdict, proof, problems, .. }
                if evaluator == name && commit == story && *proof == spec.proof =>
            {
                (*verdict == Verdict::Pass && *problems == 0) || (*verdict == Verdict::NeedsApproval && approved)
            }
            _ => false,
        })
    });
    let green = |on: &CommitId| {
        spec.rules.gates.iter().all(|name| {
            log.iter().any(
                |kind| matches!(kind, Kind::GateFinished { gate, commit, result: GateResult::Pass, .. } if gate == name && commit == on),
            )
        })
    };
    was_collected && passed && green(story) && green(candidate)
}

pub(crate) fn any_spec() -> impl Strategy<Value = StorySpec> {
    (any::<bool>(), 0_u8..3, 0_u8..3, 1_u32..7, 0_u32..6, 0_u32..4, prop::option::of(1_u64..12)).prop_map(
        |(diagnose, contract, landing, iterations, review_cycles, stagnation, model_calls)| {
            let mut spec = spec();
            spec.rules.diagnose = diagnose;
            spec.rules.propose = diagnose && contract != 1;
            spec.rules.contract = [ContractMode::Off, ContractMode::Before, ContractMode::With][usize::from(contract)];
            spec.rules.landing = [Landing::Queue, Landing::Approval, Landing::Stop][usize::from(landing)];
            spec.rules.limits = Limits { iterations, review_cycles, stagnation, model_calls, ..Limits::default() };
            spec
        },
    )
}

/// What a hostile world got accepted, without what the controller recorded by itself: for tests of the store.
pub(crate) fn accepted(spec: StorySpec, moves: &[Move]) -> Vec<Kind> {
    let mut w = World::new(spec);
    let mut accepted = w.log.clone();
    for m in moves {
        let kind = event(&w, *m);
        if w.take(kind.clone()).is_ok() {
            accepted.push(kind);
        }
    }
    accepted
}

/// What the invariants need to remember from outside the machine.
#[derive(Default)]
struct Watch {
    /// Failed judgements by patch, since the last `reset --forget` (which the hostile world does not send).
    failed: BTreeMap<String, u32>,
    seen_conclusions: usize,
    starts_since_grant: u32,
    last_start: Option<AttemptNo>,
    void_since_grant: u32,
}

impl Watch {
    fn effects(&self, w: &World) -> Result<(), TestCaseError> {
        for effect in &w.effects {
            if let Effect::RunEvaluator { commit, .. } = effect {
                let change = w.story.attempts.iter().find_map(|a| a.change.as_ref().filter(|c| c.commit == *commit)).expect("collected");
                let times = self.failed.get(change.patch.as_str()).copied().unwrap_or(0);
                prop_assert!(times < 3, "an approach that failed {} times is judged again", times);
            }
        }
        Ok(())
    }

    fn after(&mut self, w: &World, kind: &Kind) -> Result<(), TestCaseError> {
        self.effects(w)?;
        if matches!(kind, Kind::StoryRetried {} | Kind::StoryReset { .. } | Kind::StoryReopened { .. }) {
            (self.starts_since_grant, self.void_since_grant) = (0, 0);
        }
        let limits = &w.story.spec.rules.limits;
        for effect in &w.effects {
            if let Effect::StartAttempt { attempt, .. } = effect {
                // Asked for again when a planner had to be heard anew before it began: still one process.
                self.starts_since_grant += u32::from(self.last_start != Some(*attempt));
                self.last_start = Some(*attempt);
                prop_assert!(w.story.spent.model_calls < limits.model_calls.unwrap_or(u64::MAX), "an attempt starts on a spent budget");
                prop_assert!(w.story.running().is_none(), "two processes of one story");
            }
        }
        self.void_since_grant = u32::try_from(
            w.story.attempts.iter().filter(|a| a.no.get() > w.story.granted_after && a.conclusion == Some(facts::Conclusion::Void)).count(),
        )
        .expect("few");
        prop_assert!(self.starts_since_grant.saturating_sub(self.void_since_grant) <= limits.iterations, "iterations");
        prop_assert!(budget::cycles(&w.story) <= limits.review_cycles, "cycles");
        let concluded: Vec<_> = w.story.attempts.iter().filter(|a| matches!(a.conclusion, Some(facts::Conclusion::Failed(_)))).collect();
        for attempt in concluded.iter().skip(self.seen_conclusions) {
            let facts::Conclusion::Failed(failure) = attempt.conclusion.as_ref().expect("concluded") else { continue };
            if let Some(change) = attempt.change.as_ref().filter(|c| c.files > 0 && failure.signature != ["failure memory"]) {
                *self.failed.entry(change.patch.to_string()).or_default() += 1;
            }
        }
        self.seen_conclusions = concluded.len();
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_hostile_world_gets_nothing_past_the_machine(spec in any_spec(), moves in prop::collection::vec(any::<Move>(), 0..160)) {
        let mut w = World::new(spec);
        let mut watch = Watch::default();
        for m in moves {
            let kind = event(&w, m);
            let (before, was) = (phase(&w.story), w.story.clone());
            let logged = w.log.len();
            match w.take(kind.clone()) {
                Err(refused) => {
                    prop_assert_eq!(&w.story, &was);
                    prop_assert_eq!(refused.state, before.name());
                    prop_assert!(!refused.instead.is_empty());
                    continue;
                }
                Ok(()) => watch.after(&w, &kind)?,
            }
            let after = phase(&w.story);
            if before.is_terminal() && !is_command(&kind) {
                prop_assert!(w.effects.is_empty(), "{} after {} asks for {:?}", kind.name(), before.name(), w.effects);
                prop_assert_eq!(after.name(), before.name());
                prop_assert_eq!(w.log.len(), logged + 1, "terminal states tell nothing");
            }
            if let Some(facts::End::Merged { commit, story_commit, .. }) = w.story.end.as_ref().filter(|_| before.name() != "merged") {
                prop_assert!(log_proves(&w.log, story_commit, commit), "merged without proof");
            }
            if let Phase::Ready { proof } | Phase::Queued { proof } | Phase::Merging { proof, .. } = &after {
                prop_assert!(log_proves(&w.log, proof.commit(), proof.commit()), "ready without proof");
            }
            prop_assert!(phase::PHASES.contains(&after.name()));
            // The facts survive their JSON, since that is how the store keeps them.
            let text = serde_json::to_string(&w.story).expect("json");
            prop_assert_eq!(&serde_json::from_str::<Story>(&text).expect("json"), &w.story);
            // The same fact a second time is harmless: refused, or without any effect.
            let is_fact = !matches!(kind, Kind::StoryNoted { .. } | Kind::BudgetSpent { .. }) && !matches!(kind, Kind::EvaluatorFinished { verdict: Verdict::Error, .. })
                && !matches!(kind, Kind::GateFinished { result: GateResult::Error | GateResult::Cancelled, .. });
            if let Some(again) = is_fact.then(|| step(&w.story, &kind, at(w.second)).ok()).flatten() {
                prop_assert!(again.effects.is_empty(), "{} twice asks for {:?}", kind.name(), again.effects);
                prop_assert_eq!(phase(&again.next).name(), after.name(), "{} twice", kind.name());
            }
        }
    }

    #[test]
    fn when_the_world_answers_every_story_comes_to_an_end(spec in any_spec(), answers in prop::collection::vec(any::<(u8, u8)>(), 40)) {
        let mut w = World::new(spec);
        let mut watch = Watch::default();
        let mut turn = 0;
        let mut pauses = 0;
        loop {
            turn += 1;
            prop_assert!(turn < 600, "still {} after {} answers", w.state(), turn);
            let now = phase(&w.story);
            if now.is_terminal() || now.is_halted() {
                prop_assert!(wanted(&w.story).iter().all(|e| matches!(e, Effect::Collect { .. } | Effect::StopAttempt { .. })), "{:?}", wanted(&w.story));
                break;
            }
            let (a, b) = answers[turn % answers.len()];
            if matches!(now, Phase::Ready { .. }) && w.story.spec.rules.landing == Landing::Stop {
                break;
            }
            if matches!(now, Phase::Pending { .. }) {
                w.second += 5;
            }
            let kind = helpful(&w, a, b, &mut pauses);
            let name = kind.name().to_owned();
            w.take(kind.clone()).map_err(|refused| TestCaseError::fail(format!("{name}: {refused}")))?;
            watch.after(&w, &kind)?;
        }
    }
}

/// What a world that answers would say next.
fn helpful(w: &World, a: u8, b: u8, pauses: &mut u32) -> Kind {
    if let Some(effect) = wanted(&w.story).first().cloned() {
        return answer(w, effect, a, b, pauses);
    }
    match phase(&w.story) {
        Phase::Implementing { .. } | Phase::Repairing { .. } => end_of(w, a, b, pauses),
        Phase::Ready { proof } => Kind::StoryApproved { commit: proof.commit().clone(), without_gates: Vec::new() },
        Phase::Queued { proof } => {
            let (candidate, story_commit) = (500 + u32::from(b % 2), proof.commit().clone());
            Kind::CandidateBuilt { candidate: commit(candidate), tree: tree(candidate), base: commit(0), story_commit, behind: Vec::new() }
        }
        Phase::Merging { proof, candidate } if candidate.gates.is_empty() && a.is_multiple_of(3) => Kind::CandidateRefused {
            candidate: Some(candidate.commit),
            story_commit: proof.commit().clone(),
            why: "red".to_owned(),
            findings: Vec::new(),
            evidence: None,
            onto: None,
            from: None,
        },
        Phase::Merging { candidate, .. } if candidate.gates.is_empty() => Kind::GateFinished {
            gate: "test".to_owned(),
            commit: candidate.commit,
            tree: candidate.tree,
            result: GateResult::Pass,
            flaky: false,
            problems: 0,
            detail: None,
            evidence: Vec::new(),
            cached: true,
            wall_ms: 0,
        },
        Phase::Merging { proof, candidate } => Kind::StoryLanded {
            commit: candidate.commit,
            tree: candidate.tree,
            story_commit: proof.commit().clone(),
            target: "t".to_owned(),
            from: candidate.base,
        },
        // Pending, or a state that waits for nobody: there the machine refuses, and the test fails.
        _ => Kind::StoryStarted { attempt: w.story.next_attempt(), base: commit(0) },
    }
}

/// The end of the running attempt. A world that only ever pauses does not answer, so it may do so a few times.
fn end_of(w: &World, a: u8, b: u8, pauses: &mut u32) -> Kind {
    let attempt = w.story.attempt().expect("an attempt").no.get();
    let end = match attempt_end(a, w.second) {
        AttemptEnd::ProviderLimit { .. } if *pauses >= 3 => AttemptEnd::Finished,
        AttemptEnd::ProviderLimit { provider, until } => {
            *pauses += 1;
            AttemptEnd::ProviderLimit { provider, until }
        }
        end => end,
    };
    ended(attempt, end, b.is_multiple_of(31).then_some("which?"))
}

fn answer(w: &World, effect: Effect, a: u8, b: u8, pauses: &mut u32) -> Kind {
    match effect {
        Effect::Seal { .. } => unreachable!("no story waits for its manifest"),
        Effect::Propose { attempt } => {
            let error = b.is_multiple_of(5).then(|| "w".to_owned());
            Kind::ApproachProposed { attempt, summary: "s".to_owned(), error, evidence: None }
        }
        Effect::AskContract { attempt } if b.is_multiple_of(17) => Kind::ContractRefused { attempt, why: "w".to_owned(), evidence: None },
        Effect::AskContract { attempt } => Kind::ContractAccepted { attempt, evidence: None },
        Effect::StartAttempt { attempt, .. } if b.is_multiple_of(29) => {
            ended(attempt.get(), AttemptEnd::CouldNotStart { why: "w".to_owned(), next: "n".to_owned() }, None)
        }
        Effect::StartAttempt { attempt, task, .. } => Kind::AttemptStarted { attempt, task, agent: "a".to_owned() },
        Effect::StopAttempt { .. } => end_of(w, 2, b, pauses),
        // With a contract that is owed and never shown, the story must end too.
        Effect::Collect { attempt } => collected(attempt.get(), attempt.get() + 30, &(b % 16).to_string(), u64::from(!a.is_multiple_of(9))),
        Effect::RunEvaluator { evaluator, commit, tree, proof, .. } => Kind::EvaluatorFinished {
            evaluator,
            commit,
            tree,
            proof,
            verdict: verdict(a),
            problems: u32::from(a % 6 == 3) * (1 + u32::from(b % 4)),
            criteria: Vec::new(),
            findings: Vec::new(),
            evidence: Vec::new(),
            cached: false,
            wall_ms: 0,
        },
        Effect::Diagnose { commit, .. } => {
            Kind::DiagnosisMade { commit, summary: "s".to_owned(), tasks: Vec::new(), evidence: None, error: None }
        }
        Effect::RunGate { commit, tree, gate: name, .. } => {
            let result = if a % 6 == 4 { GateResult::Error } else { gate(a) };
            Kind::GateFinished {
                gate: name,
                commit,
                tree,
                result,
                flaky: false,
                problems: 0,
                detail: None,
                evidence: Vec::new(),
                cached: false,
                wall_ms: 0,
            }
        }
        Effect::Enqueue { commit } => Kind::StoryQueued { commit },
        Effect::Dequeue { commit } => Kind::StoryDequeued { commit, why: "w".to_owned() },
    }
}

/// The property tests are worth nothing if their world never gets anywhere: this one must reach every phase.
#[test]
fn the_hostile_world_reaches_every_phase() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let strategy = (any_spec(), prop::collection::vec(any::<Move>(), 160));
    let mut reached = std::collections::BTreeSet::new();
    for _ in 0..3_000 {
        let (spec, moves) = strategy.new_tree(&mut runner).expect("a value").current();
        let mut w = World::new(spec);
        for m in moves {
            let kind = event(&w, m);
            drop(w.take(kind));
            reached.insert(w.state());
        }
    }
    let missing: Vec<_> = phase::PHASES.iter().filter(|name| !reached.contains(**name)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

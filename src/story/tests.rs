//! The lifecycle by example.

use jiff::Timestamp;

use super::budget;
use super::facts::Conclusion;
use super::harness::*;
use super::*;
use crate::base::id::AttemptNo;
use crate::event::*;

fn limits(change: impl FnOnce(&mut Limits)) -> StorySpec {
    let mut spec = spec();
    change(&mut spec.rules.limits);
    spec
}

#[test]
fn a_good_story_goes_straight_through() {
    let mut w = World::new(spec());
    assert_eq!(w.state(), "pending");
    w.start();
    assert_eq!(w.effects, [Effect::StartAttempt { attempt: no(1), task: Task::Implement, base: commit(0), from: None }]);
    assert_eq!(w.state(), "implementing");
    w.work(1, "a");
    assert_eq!(w.state(), "verifying");
    assert_eq!(w.effects.len(), 2, "evaluators run in parallel: {:?}", w.effects);
    w.judge(1, Verdict::Pass, Verdict::Pass);
    assert_eq!((w.state(), w.effects.len()), ("gate_check", 1));
    w.ok(gated(1, GateResult::Pass));
    assert_eq!((w.state(), w.effects.clone()), ("ready_for_review", vec![Effect::Enqueue { commit: commit(1) }]));
    w.ok(Kind::StoryQueued { commit: commit(1) });
    assert_eq!(w.state(), "queued");
    w.ok(built(9, 1));
    assert_eq!(w.state(), "merging");
    let refused = w.refused(landed(9, 1));
    assert!(refused.why.contains("not proven"), "{refused}");
    w.ok(gated(9, GateResult::Pass)).ok(Kind::LandingStarted { candidate: commit(9), target: "main".to_owned(), from: commit(0) });
    let refused = w.refused(Kind::StoryCancelled { reason: "late".to_owned() });
    assert!(refused.instead.contains("reverted"), "{refused:?}");
    w.ok(landed(9, 1));
    assert_eq!(w.state(), "merged");
    assert_eq!(w.recorded("story.ready"), 1);
    w.ok(landed(9, 1)).ok(Kind::StoryReverted { commit: commit(10), reason: "red".to_owned() });
    assert_eq!(w.state(), "reverted");
}

#[test]
fn what_landed_and_breaks_the_integration_is_mended_on_top() {
    let reopened =
        Kind::StoryReopened { why: "end-to-end is red".to_owned(), findings: Vec::new(), evidence: None, onto: None, from: None };
    let mut w = World::new(spec());
    w.refused(reopened.clone());
    w.ready(1).ok(Kind::StoryQueued { commit: commit(1) }).ok(built(9, 1)).ok(gated(9, GateResult::Pass)).ok(landed(9, 1));
    w.ok(reopened.clone());
    assert_eq!(w.state(), "pending");
    w.refused(reopened);
    w.ok(Kind::StoryStarted { attempt: no(2), base: commit(9) });
    assert_eq!(w.effects, [Effect::StartAttempt { attempt: no(2), task: Task::Implement, base: commit(9), from: None }]);
    assert!(feedback::feedback(&w.story)[0].summary.contains("end-to-end is red"));
    w.work(2, "b").judge(2, Verdict::Pass, Verdict::Pass);
    assert_eq!(w.state(), "gate_check", "the old proof is of another commit");
}

#[test]
fn a_landing_of_anything_but_what_was_tested_is_refused() {
    let mut w = World::new(spec());
    w.ready(1).ok(Kind::StoryQueued { commit: commit(1) }).ok(built(9, 1)).ok(gated(9, GateResult::Pass));
    w.refused(landed(8, 1));
    w.refused(landed(9, 2));
    w.refused(Kind::StoryLanded { commit: commit(9), tree: tree(1), story_commit: commit(1), target: "main".to_owned(), from: commit(0) });
    w.ok(built(7, 1));
    w.refused(landed(9, 1));
    w.refused(landed(7, 1));
}

#[test]
fn five_repairs_then_a_human_and_the_third_is_told() {
    let mut w = World::new(limits(|l| l.stagnation = 0));
    w.start();
    for n in 1..=6 {
        assert_eq!(w.state(), if n == 1 { "implementing" } else { "repairing" });
        assert_eq!(w.recorded("human.notified"), usize::from(n > 3), "before attempt {n}");
        w.work(n, &n.to_string()).judge(n, Verdict::Pass, Verdict::Fail);
    }
    assert_eq!(w.state(), "escalated");
    assert_eq!((budget::cycles(&w.story), budget::iterations(&w.story)), (5, 6));
    assert_eq!((w.recorded("story.escalated"), w.recorded("budget.exceeded"), w.recorded("human.notified")), (1, 1, 1));
    assert!(w.effects.is_empty());
    w.ok(Kind::StoryRetried {});
    assert_eq!(w.state(), "pending");
    w.start();
    assert_eq!(w.effects, [Effect::StartAttempt { attempt: no(7), task: Task::Repair, base: commit(0), from: Some(commit(6)) }]);
}

/// Taking a story out of the plan and putting it back is no way to a sixth cycle.
#[test]
fn cycles_outlive_leaving_the_plan() {
    let mut w = World::new(limits(|l| (l.stagnation, l.review_cycles) = (0, 0)));
    w.start().work(1, "1").judge(1, Verdict::Pass, Verdict::Fail);
    assert_eq!(w.state(), "escalated");
    let spec = w.story.spec.clone();
    w.ok(Kind::StoryRemoved {}).ok(Kind::StoryCreated { spec });
    w.start();
    assert_eq!((w.state(), budget::cycles(&w.story), w.story.attempts.len()), ("escalated", 0, 1));
}

#[test]
fn an_attempt_without_a_change_is_an_iteration_and_no_review_cycle() {
    let mut w = World::new(limits(|l| l.stagnation = 0));
    w.start();
    for n in 1..=6 {
        w.ok(Kind::AttemptStarted { attempt: no(n), task: Task::Implement, agent: "a".to_owned() }).end(AttemptEnd::Finished, None);
        assert_eq!(w.effects, [Effect::Collect { attempt: no(n) }]);
        w.ok(collected(n, 100, "", 0));
    }
    assert_eq!((w.state(), budget::cycles(&w.story)), ("escalated", 0));
}

#[test]
fn three_iterations_without_progress_are_stagnation() {
    let mut w = World::new(spec());
    w.start();
    for (n, problems) in [(1, 5), (2, 4), (3, 5), (4, 4)] {
        w.work(n, &n.to_string()).ok(judged(n, "checks", Verdict::Fail, problems)).ok(judged(n, "review", Verdict::Pass, 0));
        assert_eq!(w.state(), "repairing");
    }
    w.work(5, "5").ok(judged(5, "checks", Verdict::Fail, 6)).ok(judged(5, "review", Verdict::Pass, 0));
    assert_eq!((w.state(), w.recorded("story.stagnated")), ("stagnated", 1));
    let refused = w.refused(Kind::StoryRejected { commit: None, reason: "x".to_owned() });
    assert!(refused.instead.contains("retry"), "{refused:?}");
    w.ok(Kind::StoryReplanned { reason: "another data structure".to_owned() }).start();
    assert_eq!(w.effects, [Effect::StartAttempt { attempt: no(6), task: Task::Implement, base: commit(0), from: None }]);
}

#[test]
fn an_approach_that_failed_three_times_is_not_judged_a_fourth_time() {
    let mut w = World::new(limits(|l| l.stagnation = 0));
    w.start();
    for n in 1..=3 {
        w.work(n, "same").judge(n, Verdict::Fail, Verdict::Pass);
    }
    w.work(4, "same");
    assert_eq!(w.state(), "repairing");
    assert!(matches!(w.effects[..], [Effect::StartAttempt { .. }]), "{:?}", w.effects);
    assert!(feedback::feedback(&w.story)[0].summary.contains("blocked"));
    assert_eq!(feedback::blocked_approaches(&w.story).len(), 1);
    w.work(5, "different");
    assert_eq!(w.effects.len(), 2);
}

#[test]
fn a_blocked_approach_is_stopped_when_it_is_declared() {
    let mut w = World::new(limits(|l| l.stagnation = 0));
    w.start();
    for n in 1..=4 {
        let task = if n == 1 { Task::Implement } else { Task::Repair };
        w.ok(Kind::AttemptStarted { attempt: no(n), task, agent: "a".to_owned() });
        w.ok(Kind::ApproachDeclared { attempt: no(n), summary: "Rewrite it all!".to_owned() });
        if n < 4 {
            assert!(w.effects.is_empty());
            w.end(AttemptEnd::Finished, None).ok(collected(n, n, &n.to_string(), 1)).judge(n, Verdict::Fail, Verdict::Pass);
        }
    }
    assert_eq!(w.effects, [Effect::StopAttempt { attempt: no(4) }]);
    w.end(AttemptEnd::Interrupted, None);
    assert_eq!((w.state(), w.story.attempts.len()), ("repairing", 5));
    assert!(matches!(w.story.attempts[3].conclusion, Some(Conclusion::Failed(_))), "it counts");
}

#[test]
fn a_provider_pause_is_no_failed_attempt() {
    let mut w = World::new(spec());
    for n in 1..=20 {
        w.start().ok(Kind::AttemptStarted { attempt: no(n), task: Task::Implement, agent: "a".to_owned() });
        w.end(AttemptEnd::ProviderLimit { provider: "p".to_owned(), until: at(w.second + 100) }, None);
        assert_eq!(w.state(), "pending");
        assert!(may_start_now(&w).is_err());
        let attempt = w.story.next_attempt();
        w.refused(Kind::StoryStarted { attempt, base: commit(0) });
        w.second += 100;
    }
    assert_eq!(budget::iterations(&w.story), 0);
    w.start().end_never_started();
}

fn may_start_now(w: &World) -> Result<AttemptNo, String> {
    wanted::may_start(&w.story, at(w.second))
}

impl World {
    fn end_never_started(&mut self) {
        self.end(AttemptEnd::CouldNotStart { why: "no such program".to_owned(), next: "install it".to_owned() }, None);
        assert_eq!(self.state(), "blocked");
    }
}

#[test]
fn a_clock_that_says_the_year_3000_does_not_pause_for_ever() {
    let mut w = World::new(spec());
    w.start().ok(Kind::AttemptStarted { attempt: no(1), task: Task::Implement, agent: "a".to_owned() });
    w.end(AttemptEnd::ProviderLimit { provider: "p".to_owned(), until: Timestamp::MAX }, None);
    w.second += 7 * 24 * 3600;
    assert!(may_start_now(&w).is_ok());
}

#[test]
fn what_keeps_interrupting_is_asked_about() {
    let mut w = World::new(spec());
    for n in 1..=5 {
        w.start()
            .ok(Kind::AttemptStarted { attempt: no(n), task: Task::Implement, agent: "a".to_owned() })
            .end(AttemptEnd::Interrupted, None);
    }
    assert_eq!(w.state(), "blocked");
    assert_eq!(budget::iterations(&w.story), 0);
}

#[test]
fn a_contract_is_owed_in_the_way_that_was_configured() {
    let mut with = spec();
    with.rules.contract = ContractMode::With;
    let mut w = World::new(with.clone());
    w.start().work(1, "a");
    assert_eq!(w.state(), "blocked", "no contract was left");
    let mut w = World::new(with);
    w.start().ok(Kind::AttemptStarted { attempt: no(1), task: Task::Implement, agent: "a".to_owned() });
    w.ok(Kind::ContractRefused { attempt: no(1), why: "AC-2 is missing".to_owned(), evidence: None });
    assert_eq!((w.state(), w.effects.clone()), ("blocked", vec![Effect::StopAttempt { attempt: no(1) }]));
    w.end(AttemptEnd::Interrupted, None).ok(Kind::StoryAnswered { text: "there are two".to_owned() });
    assert_eq!(w.state(), "pending");

    let mut before = spec();
    before.rules.contract = ContractMode::Before;
    let mut w = World::new(before);
    w.start();
    assert_eq!((w.state(), w.effects.clone()), ("contracting", vec![Effect::AskContract { attempt: no(1) }]));
    let refused = w.refused(Kind::AttemptStarted { attempt: no(1), task: Task::Implement, agent: "a".to_owned() });
    assert!(refused.instead.contains("contract"), "{refused:?}");
    w.ok(Kind::ContractAccepted { attempt: no(1), evidence: None });
    assert!(matches!(w.effects[..], [Effect::StartAttempt { .. }]));
    w.work(1, "a");
    assert_eq!(w.state(), "verifying");
}

#[test]
fn a_question_keeps_the_work_and_the_answer_goes_on_from_it() {
    let mut w = World::new(spec());
    w.start().ok(Kind::AttemptStarted { attempt: no(1), task: Task::Implement, agent: "a".to_owned() });
    w.end(AttemptEnd::Finished, Some("which port?"));
    assert_eq!((w.state(), w.effects.clone()), ("blocked", vec![Effect::Collect { attempt: no(1) }]));
    w.ok(collected(1, 1, "a", 1));
    assert!(w.effects.is_empty());
    w.refused(Kind::StoryRejected { commit: None, reason: "x".to_owned() });
    w.ok(Kind::StoryAnswered { text: "8080".to_owned() }).start();
    assert_eq!(w.effects, [Effect::StartAttempt { attempt: no(2), task: Task::Repair, base: commit(0), from: Some(commit(1)) }]);
    assert!(feedback::feedback(&w.story).iter().any(|f| f.summary == "8080"));
}

#[test]
fn an_evaluator_that_cannot_judge_is_tried_again_and_then_asked_about() {
    let mut w = World::new(spec());
    w.start().work(1, "a").ok(judged(1, "review", Verdict::Error, 0));
    assert!(matches!(&w.effects[..], [Effect::RunEvaluator { evaluator, tries: 1, .. }] if evaluator == "review"), "{:?}", w.effects);
    w.ok(judged(1, "review", Verdict::Error, 0));
    assert_eq!(w.state(), "blocked");
    w.ok(Kind::StoryRetried {}).start();
    assert_eq!(w.state(), "verifying", "the work is judged further, not done again");
    assert_eq!(w.story.attempts.len(), 1);
    w.judge(1, Verdict::Pass, Verdict::Pass);
    assert_eq!(w.state(), "gate_check");
}

#[test]
fn nothing_is_collected_while_something_may_still_write() {
    let mut w = World::new(spec());
    w.start().ok(Kind::AttemptStarted { attempt: no(1), task: Task::Implement, agent: "a".to_owned() });
    let refused = w.refused(collected(1, 1, "a", 1));
    assert!(refused.instead.contains("end its processes"), "{refused:?}");
    w.end(AttemptEnd::Finished, None).ok(collected(1, 1, "a", 1)).ok(collected(1, 1, "a", 1));
    w.refused(collected(1, 2, "a", 1));
}

#[test]
fn a_pass_with_problems_is_no_pass() {
    let mut w = World::new(spec());
    w.start().work(1, "a").ok(judged(1, "checks", Verdict::Pass, 2)).ok(judged(1, "review", Verdict::Pass, 0));
    assert_eq!(w.state(), "repairing");
}

#[test]
fn nothing_that_judges_means_nothing_is_proven() {
    let mut spec = spec();
    spec.rules.evaluators.clear();
    let mut w = World::new(spec);
    w.start().work(1, "a");
    assert_eq!(w.state(), "blocked");
}

#[test]
fn a_protected_change_needs_an_approval_of_that_very_commit() {
    let mut w = World::new(spec());
    w.start().work(1, "a").judge(1, Verdict::Pass, Verdict::NeedsApproval);
    assert_eq!((w.state(), w.recorded("story.blocked")), ("blocked", 1));
    w.refused(Kind::StoryApproved { commit: commit(2), without_gates: Vec::new() });
    w.refused(Kind::StoryRetried {});
    let mut reworded = w.story.clone();
    w.ok(Kind::StoryApproved { commit: commit(1), without_gates: Vec::new() });
    assert_eq!(w.state(), "gate_check");
    assert!(matches!(w.effects[..], [Effect::RunGate { .. }]));
    // A log of another version asks in other words; a runner may ask for an approval of its own. Neither outlives the approval.
    let block = Block { reason: "approval".to_owned(), question: "may it?".to_owned(), next: "approve".to_owned() };
    reworded = step(&reworded, &Kind::StoryBlocked { block: block.clone() }, at(50)).expect("told again").next;
    assert_eq!(
        phase(&step(&reworded, &Kind::StoryApproved { commit: commit(1), without_gates: Vec::new() }, at(51)).expect("approved").next)
            .name(),
        "gate_check"
    );
    w.ok(Kind::StoryBlocked { block }).ok(Kind::StoryApproved { commit: commit(1), without_gates: Vec::new() });
    assert_eq!(w.state(), "pending");
    w.start();
    assert_eq!(w.state(), "gate_check");
}

#[test]
fn a_gate_that_goes_is_named_in_the_approval_or_it_is_none() {
    let mut spec = spec();
    spec.rules.evaluators.push("ratchet".to_owned());
    let mut w = World::new(spec);
    let approve =
        |gates: &[&str]| Kind::StoryApproved { commit: commit(1), without_gates: gates.iter().map(|gate| (*gate).to_owned()).collect() };
    // Also one that came before anybody knew of the gate counts for nothing.
    w.start().work(1, "a").ok(approve(&[])).judge(1, Verdict::Pass, Verdict::Pass);
    let mut lost = judged(1, "ratchet", Verdict::NeedsApproval, 1);
    if let Kind::EvaluatorFinished { findings, .. } = &mut lost {
        findings.push(Finding { text: "the gate `lint` goes".to_owned(), gate: Some("lint".to_owned()), ..Finding::default() });
    }
    w.ok(lost);
    assert_eq!(w.state(), "blocked");
    let Phase::Blocked(block) = phase(&w.story) else { panic!("{:?}", phase(&w.story)) };
    assert!(block.question.contains("the gate `lint` goes") && block.next.contains("--without-gate lint"), "{block:?}");
    w.refused(approve(&[]));
    w.refused(approve(&["test"]));
    w.ok(approve(&["lint"]));
    assert_eq!(w.state(), "gate_check");
}

#[test]
fn a_story_whose_text_changes_is_judged_again() {
    let mut w = World::new(spec());
    w.ready(1).ok(Kind::StoryQueued { commit: commit(1) }).ok(built(9, 1)).ok(gated(9, GateResult::Pass));
    let mut changed = spec();
    changed.proof = "p2".to_owned();
    w.ok(Kind::StoryChanged { spec: changed.clone() });
    assert_eq!(w.state(), "verifying");
    assert_eq!(w.effects.len(), 3, "out of the queue, and two evaluators: {:?}", w.effects);
    w.refused(landed(9, 1));
    // A verdict on the old text comes late: it is kept in the log and proves nothing.
    w.ok(judged(1, "checks", Verdict::Pass, 0));
    assert_eq!(w.state(), "verifying");
    let before = w.story.clone();
    w.ok(Kind::StoryChanged { spec: changed });
    assert_eq!(w.story, before);
}

#[test]
fn a_story_that_leaves_the_plan_stops_and_may_come_back() {
    let mut w = World::new(spec());
    w.start().ok(Kind::AttemptStarted { attempt: no(1), task: Task::Implement, agent: "a".to_owned() }).ok(Kind::StoryRemoved {});
    assert_eq!((w.state(), w.effects.clone()), ("cancelled", vec![Effect::StopAttempt { attempt: no(1) }]));
    w.end(AttemptEnd::Interrupted, None);
    assert!(w.effects.is_empty());
    w.refused(Kind::StoryStarted { attempt: no(2), base: commit(0) });
    w.ok(Kind::StoryCreated { spec: spec() });
    assert_eq!(w.state(), "pending");
    w.refused(Kind::StoryCreated { spec: spec() });
}

#[test]
fn a_red_candidate_goes_to_repair_and_a_dropped_one_waits() {
    let mut w = World::new(spec());
    w.ready(1)
        .ok(Kind::StoryQueued { commit: commit(1) })
        .ok(built(9, 1))
        .ok(Kind::CandidateDropped { candidate: commit(9), why: "neighbour".to_owned() });
    assert_eq!(w.state(), "queued");
    let refusal = |candidate| Kind::CandidateRefused {
        candidate: Some(commit(candidate)),
        story_commit: commit(1),
        why: "conflict".to_owned(),
        findings: Vec::new(),
        evidence: None,
        onto: None,
        from: None,
    };
    w.ok(built(8, 1)).ok(refusal(9));
    assert_eq!(w.state(), "merging", "late news of an old candidate");
    w.ok(refusal(8));
    assert_eq!(w.state(), "repairing");
    assert!(feedback::feedback(&w.story)[0].summary.contains("conflict"));
}

#[test]
fn a_rejection_goes_back_to_pending_and_is_read_by_the_next_attempt() {
    let mut w = World::new(spec());
    w.ready(1).ok(Kind::StoryQueued { commit: commit(1) });
    w.refused(Kind::StoryRejected { commit: Some(commit(5)), reason: "x".to_owned() });
    w.ok(Kind::StoryRejected { commit: Some(commit(1)), reason: "no tests".to_owned() });
    assert_eq!((w.state(), w.effects.clone()), ("pending", vec![Effect::Dequeue { commit: commit(1) }]));
    w.ok(Kind::StoryDequeued { commit: commit(1), why: "rejected".to_owned() }).start();
    assert_eq!(w.state(), "repairing");
    assert!(feedback::feedback(&w.story)[0].summary.contains("no tests"));
}

#[test]
fn money_stops_what_runs_and_survives_as_a_fact() {
    let mut w = World::new(limits(|l| l.cost_microusd = Some(1_000_000)));
    w.start().ok(Kind::AttemptStarted { attempt: no(1), task: Task::Implement, agent: "a".to_owned() });
    let spend = |cost| Kind::BudgetSpent {
        role: "implementer".to_owned(),
        model: None,
        amount: Amount { cost_microusd: cost, ..Amount::default() },
    };
    w.ok(spend(1_000_000));
    assert_eq!(w.state(), "implementing", "up to the limit is within it");
    w.ok(spend(1));
    assert_eq!((w.state(), w.effects.clone()), ("escalated", vec![Effect::StopAttempt { attempt: no(1) }]));
    assert_eq!(w.recorded("budget.exceeded"), 1);
    w.ok(spend(u64::MAX));
    assert_eq!(w.story.spent_total.cost_microusd, u64::MAX);
}

#[test]
fn commands_that_do_not_fit_say_what_does() {
    let mut w = World::new(spec());
    for (kind, instead) in [
        (Kind::StoryAnswered { text: "x".to_owned() }, "cofferdam note"),
        (Kind::StoryRetried {}, "cofferdam reset"),
        (Kind::StoryApproved { commit: commit(1), without_gates: Vec::new() }, "cofferdam show"),
        (Kind::StoryRejected { commit: None, reason: "x".to_owned() }, "cofferdam note"),
        (Kind::StoryReverted { commit: commit(1), reason: "x".to_owned() }, "cofferdam cancel"),
        (Kind::StoryQueued { commit: commit(1) }, "ready_for_review"),
        (Kind::RunResumed {}, "without a story"),
    ] {
        let refused = w.refused(kind);
        assert!(refused.instead.contains(instead), "{refused:?}");
        assert_eq!(refused.state, "pending");
    }
    w.ok(Kind::StoryBackfilled { commit: None, reason: "by hand".to_owned(), gates: Vec::new() });
    assert_eq!(w.state(), "backfilled");
    let refused = w.refused(Kind::StoryCancelled { reason: "x".to_owned() });
    assert!(refused.to_string().contains("backfilled"), "{refused}");
}

#[test]
fn a_human_story_is_not_started() {
    let mut spec = spec();
    spec.automatable = false;
    let mut w = World::new(spec);
    w.refused(Kind::StoryStarted { attempt: no(1), base: commit(0) });
}

#[test]
fn a_diagnosis_comes_between_when_it_is_configured() {
    let mut spec = spec();
    spec.rules.diagnose = true;
    let mut w = World::new(spec);
    w.start().work(1, "a").judge(1, Verdict::Fail, Verdict::Pass);
    assert_eq!((w.state(), w.effects.clone()), ("diagnosing", vec![Effect::Diagnose { attempt: no(1), commit: commit(1) }]));
    let diagnosis =
        Kind::DiagnosisMade { commit: commit(1), summary: "off by one".to_owned(), tasks: Vec::new(), evidence: None, error: None };
    w.ok(diagnosis.clone());
    assert_eq!(w.state(), "repairing");
    assert_eq!(feedback::feedback(&w.story)[0].summary, "off by one");
    let before = w.story.clone();
    w.ok(diagnosis);
    assert_eq!(w.story, before, "twice is once");
}

#[test]
fn a_story_that_comes_back_to_the_plan_has_its_old_budget() {
    let mut spec = spec();
    spec.rules.limits.review_cycles = 0;
    let mut w = World::new(spec.clone());
    w.start().work(1, "a").judge(1, Verdict::Fail, Verdict::Pass);
    assert_eq!(w.state(), "escalated");
    w.ok(Kind::StoryRemoved {}).ok(Kind::StoryCreated { spec });
    assert_eq!(w.state(), "pending");
    w.start();
    assert_eq!(w.state(), "escalated", "a repair is a review-fix cycle, whoever moved the story meanwhile");
    w.ok(Kind::StoryRetried {}).start();
    assert_eq!(w.state(), "repairing", "a human grants a fresh budget");
}

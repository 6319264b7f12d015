use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::StartOn;
use crate::event::{Kind, Landing, Verdict};
use crate::plan::tests::plan;
use crate::story::harness::{at, collected, commit, ended, judged, spec};
use crate::story::{Phase, Story, step};

/// A world of stories in which work takes as many turns as somebody says.
struct World {
    plan: Plan,
    rules: Rules,
    view: View,
    doing: BTreeSet<(StoryId, String)>,
    /// Turns that the work of each story takes, and that are left.
    left: BTreeMap<StoryId, u32>,
    second: i64,
}

impl World {
    fn new(after: &[Vec<usize>], parallel: usize) -> Self {
        let plan = plan(after);
        let mut view = View::default();
        for (n, planned) in plan.stories.iter().enumerate() {
            let mut spec = spec();
            spec.ordinal = u32::try_from(n).expect("few");
            spec.rules.gates.clear();
            spec.rules.landing = Landing::Stop;
            spec.rules.evaluators = vec!["checks".to_owned()];
            view.put(Story::new(planned.id.clone(), spec));
        }
        let rules = Rules { parallel, start_on: StartOn::ReadyForReview, streams: BTreeMap::new(), serial: Vec::new() };
        Self { plan, rules, view, doing: BTreeSet::new(), left: BTreeMap::new(), second: 0 }
    }

    fn tell(&mut self, id: &StoryId, kind: Kind) -> bool {
        self.second += 1;
        let story = &self.view.get(id).expect("known").story;
        let taken = step(story, &kind, at(self.second));
        taken.map(|step| self.view.put(step.next)).is_ok()
    }

    fn decide(&self, paused: Option<&str>) -> Turn {
        turn(&Situation {
            plan: &self.plan,
            rules: &self.rules,
            view: &self.view,
            only: None,
            doing: &self.doing,
            paused,
            red_target: false,
            repairs: false,
            now: at(self.second),
        })
    }

    /// Does what the turn says; everything but an attempt's process is answered at once.
    fn obey(&mut self, turn: &Turn, takes: u32) {
        for action in turn.actions.clone() {
            match action {
                Action::Start { story } => {
                    let attempt = self.view.get(&story).expect("known").story.next_attempt();
                    assert!(self.tell(&story, Kind::StoryStarted { attempt, base: commit(0) }), "what is picked may start");
                }
                Action::Perform { story, effect } => {
                    assert!(self.doing.insert((story.clone(), key(&effect))), "{story}: {effect:?} is begun twice");
                    self.perform(&story, &effect, takes);
                }
                Action::StopAttempt { story, attempt } => {
                    self.doing.remove(&(story.clone(), format!("attempt {attempt}")));
                    self.tell(&story, ended(attempt.get(), crate::event::AttemptEnd::Interrupted, None));
                }
                Action::Abandon { story, key } => drop(self.doing.remove(&(story, key))),
            }
        }
    }

    fn perform(&mut self, story: &StoryId, effect: &Effect, takes: u32) {
        let number = u32::try_from(self.plan.position(story.as_str()).expect("planned")).expect("few") * 100;
        match effect {
            Effect::StartAttempt { attempt, task, .. } => {
                assert!(self.tell(story, Kind::AttemptStarted { attempt: *attempt, task: *task, agent: "command".to_owned() }));
                self.left.insert(story.clone(), takes);
                return;
            }
            Effect::Collect { attempt } => {
                let n = number + attempt.get();
                assert!(self.tell(story, collected(attempt.get(), n, &n.to_string(), 1)));
            }
            Effect::RunEvaluator { evaluator, attempt, .. } => {
                assert!(self.tell(story, judged(number + attempt.get(), evaluator, Verdict::Pass, 0)));
            }
            Effect::Seal { attempt, .. } => {
                let manifest = crate::base::id::EvidenceId::of(story.as_str().as_bytes());
                assert!(self.tell(story, Kind::EvidenceSealed { attempt: *attempt, manifest }));
            }
            other => panic!("{other:?} is not wanted here"),
        }
        self.doing.remove(&(story.clone(), key(effect)));
    }

    /// One turn passes for every process.
    fn pass(&mut self) {
        let over: Vec<StoryId> = self
            .left
            .iter_mut()
            .filter_map(|(id, left)| {
                if *left == 0 {
                    Some(id.clone())
                } else {
                    *left -= 1;
                    None
                }
            })
            .collect();
        for id in over {
            self.left.remove(&id);
            let attempt = self.view.get(&id).expect("known").story.attempts.last().expect("one").no;
            self.tell(&id, ended(attempt.get(), crate::event::AttemptEnd::Finished, None));
            self.doing.remove(&(id, format!("attempt {attempt}")));
        }
    }

    fn busy(&self) -> usize {
        self.view.all().filter(|known| known.phase.holds_slot()).count()
    }
}

proptest! {
    #[test]
    fn slots_are_never_exceeded_and_nobody_starves(
        edges in proptest::collection::vec(proptest::collection::vec(0_usize..14, 0..3), 14),
        parallel in 1_usize..5,
        takes in proptest::collection::vec(0_u32..6, 14),
    ) {
        // Only towards the front: no cycles.
        let after: Vec<Vec<usize>> = edges.iter().enumerate().map(|(n, needs)| needs.iter().map(|need| need % (n + 1)).filter(|need| *need < n).collect()).collect();
        let mut world = World::new(&after, parallel);
        // Each story takes at most six turns of work and a few to be collected and judged, one after the other in the worst case.
        let mut finished = false;
        for n in 0..14 * 12 {
            let turn = world.decide(None);
            // Everybody is either begun, or told why not.
            let started = turn.actions.iter().filter(|action| matches!(action, Action::Start { .. })).count();
            prop_assert_eq!(started + turn.not.len(), 14);
            prop_assert!(world.busy() + started <= parallel, "{} busy, {} started", world.busy(), started);
            world.obey(&turn, takes[n % 14]);
            prop_assert!(world.busy() <= parallel);
            world.pass();
            finished = world.view.all().all(|known| matches!(known.phase, Phase::Ready { .. }) && known.wanted.is_empty());
            if finished {
                break;
            }
        }
        prop_assert!(finished, "somebody never got a turn");
        // When everything is done, nothing is to be done.
        prop_assert_eq!(world.decide(None).actions, vec![]);
    }

    #[test]
    fn what_is_being_done_is_not_begun_again_and_a_pause_begins_no_process(takes in 1_u32..4, pause_at in 0_u32..8) {
        let mut world = World::new(&[vec![], vec![], vec![0]], 2);
        for n in 0..20 {
            let paused = (n == pause_at).then_some("lunch");
            let turn = world.decide(paused);
            if paused.is_some() {
                let begins = |action: &Action| matches!(action, Action::Start { .. } | Action::Perform { effect: Effect::StartAttempt { .. }, .. });
                prop_assert!(!turn.actions.iter().any(begins), "{:?}", turn.actions);
            }
            // Asked again before anything happened, it says the same; `obey` would fail on work that is begun twice.
            prop_assert_eq!(&turn, &world.decide(paused));
            world.obey(&turn, takes);
            world.pass();
        }
        let done = world.view.all().all(|known| matches!(known.phase, Phase::Ready { .. }));
        prop_assert!(done);
    }
}

#[test]
fn what_a_crash_left_undone_is_asked_for_again() {
    let mut world = World::new(&[vec![]], 1);
    let first = world.decide(None);
    world.obey(&first, 0);
    let attempt = world.decide(None);
    assert!(matches!(attempt.actions.as_slice(), [Action::Perform { effect: Effect::StartAttempt { .. }, .. }]), "{:?}", attempt.actions);
    world.obey(&attempt, 0);
    world.pass();
    // The process ended and was not collected when the runner died: a new one knows of no work that is being done.
    world.doing.clear();
    let after = world.decide(None);
    assert!(matches!(after.actions.as_slice(), [Action::Perform { effect: Effect::Collect { .. }, .. }]), "{:?}", after.actions);
}

#[test]
fn a_story_of_another_run_is_left_alone() {
    let mut world = World::new(&[vec![], vec![]], 2);
    let turn = world.decide(None);
    world.obey(&turn, 0);
    let only = BTreeSet::from([1]);
    let turn = turn_for(&world, &only);
    assert!(
        turn.actions.iter().all(|action| matches!(action, Action::Perform { story, .. } if story.as_str() == "s1")),
        "{:?}",
        turn.actions
    );
}

fn turn_for(world: &World, only: &BTreeSet<usize>) -> Turn {
    turn(&Situation {
        plan: &world.plan,
        rules: &world.rules,
        view: &world.view,
        only: Some(only),
        doing: &world.doing,
        paused: None,
        red_target: false,
        repairs: false,
        now: at(world.second),
    })
}

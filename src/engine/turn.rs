//! What to do now. Pure: everything it knows is given.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::view::{Known, View, standing};
use crate::base::id::{AttemptNo, StoryId};
use crate::plan::next::{Choice, Facts, Reason, Standing, choose};
use crate::plan::{Plan, Rules};
use crate::story::Effect;

/// Everything that decides.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    pub plan: &'a Plan,
    pub rules: &'a Rules,
    pub view: &'a View,
    /// Stories that this run is about, by position. None is all of them.
    pub only: Option<&'a BTreeSet<usize>>,
    /// What is being done, by [`key`].
    pub doing: &'a BTreeSet<(StoryId, String)>,
    /// A human's pause, or a budget of the whole run: nothing new starts.
    pub paused: Option<&'a str>,
    pub red_target: bool,
    /// What this run is about mends it.
    pub repairs: bool,
    pub now: Timestamp,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin to perform an effect.
    Perform { story: StoryId, effect: Effect },
    /// End an attempt's process, or record that there is none.
    StopAttempt { story: StoryId, attempt: AttemptNo },
    /// Nobody needs this any more.
    Abandon { story: StoryId, key: String },
    /// Give the story a slot.
    Start { story: StoryId },
}

/// What to do, and what is left when it is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    pub actions: Vec<Action>,
    /// Why every other story of the plan does not start, by position.
    pub not: BTreeMap<usize, Reason>,
    /// The next moment at which a story may start that may not now.
    pub until: Option<Timestamp>,
}

/// The name under which an effect is being done. Two effects of one story with the same name are the same work.
pub fn key(effect: &Effect) -> String {
    match effect {
        Effect::Propose { attempt } => format!("propose {attempt}"),
        Effect::AskContract { attempt } => format!("contract {attempt}"),
        Effect::StartAttempt { attempt, .. } => format!("attempt {attempt}"),
        Effect::StopAttempt { attempt } => format!("stop {attempt}"),
        Effect::Collect { attempt } => format!("collect {attempt}"),
        Effect::RunEvaluator { evaluator, commit, proof, tries, .. } => format!("evaluator {evaluator} {commit} {proof} {tries}"),
        Effect::Diagnose { commit, .. } => format!("diagnose {commit}"),
        Effect::Seal { attempt, .. } => format!("seal {attempt}"),
        Effect::RunGate { gate, commit, tries, .. } => format!("gate {gate} {commit} {tries}"),
        Effect::Enqueue { commit } => format!("enqueue {commit}"),
        Effect::Dequeue { commit } => format!("dequeue {commit}"),
    }
}

/// Whether work under this name is only of use while it is wanted. A process that runs is stopped by its own effect; what is being
/// collected or queued is done to its end.
fn may_be_abandoned(key: &str) -> bool {
    ["evaluator ", "gate ", "diagnose ", "contract ", "propose "].iter().any(|start| key.starts_with(start))
}

/// Decides.
pub fn turn(situation: &Situation<'_>) -> Turn {
    let mut turn = Turn::default();
    let mut wanted = BTreeSet::new();
    for known in situation.view.all() {
        effects(situation, known, &mut turn.actions, &mut wanted);
    }
    for (story, key) in situation.doing {
        if may_be_abandoned(key) && !wanted.contains(&(story.clone(), key.clone())) {
            turn.actions.push(Action::Abandon { story: story.clone(), key: key.clone() });
        }
    }
    let Choice { start, not } = choose(situation.plan, situation.rules, &facts(situation));
    turn.actions.extend(start.into_iter().map(|story| Action::Start { story: situation.plan.id(story).clone() }));
    turn.not = not;
    turn.until = situation.view.all().filter_map(|known| not_before(known, situation.now)).min();
    turn
}

fn effects(situation: &Situation<'_>, known: &Known, actions: &mut Vec<Action>, wanted: &mut BTreeSet<(StoryId, String)>) {
    let id = &known.story.id;
    // What a story of another run left unfinished waits for a run that is about it.
    let is_ours = situation.plan.position(id.as_str()).is_none_or(|position| situation.only.is_none_or(|only| only.contains(&position)));
    for effect in &known.wanted {
        let name = (id.clone(), key(effect));
        let is_being_done = situation.doing.contains(&name);
        wanted.insert(name);
        match effect {
            Effect::StopAttempt { attempt } => actions.push(Action::StopAttempt { story: id.clone(), attempt: *attempt }),
            _ if is_being_done || !is_ours => {}
            // An attempt is a new process: a paused run begins none. What was begun is judged to its end.
            Effect::StartAttempt { .. } | Effect::AskContract { .. } | Effect::Propose { .. } if situation.paused.is_some() => {}
            _ => actions.push(Action::Perform { story: id.clone(), effect: effect.clone() }),
        }
    }
}

/// Where every story of the plan stands, as the picker knows it.
pub fn facts(situation: &Situation<'_>) -> Facts {
    let of = |position: usize| {
        let id = situation.plan.id(position);
        let Some(known) = situation.view.get(id) else { return Standing::Waiting };
        let standing = standing(&known.phase, || format!("cofferdam why {id}"), situation.now);
        match standing {
            Standing::Waiting if situation.only.is_some_and(|only| !only.contains(&position)) => {
                Standing::Later("this run is not about it".to_owned())
            }
            // Its last process is not gone yet: two of one story never run side by side.
            Standing::Waiting if known.story.running().is_some() || is_being_done(situation, id) => Standing::Running,
            other => other,
        }
    };
    let standings = (0..situation.plan.stories.len()).map(of).collect();
    // What broke the target is mended on it, and so is whatever a human named for that.
    let mends = |position: &usize| {
        let is_ours = situation.only.is_some_and(|only| only.contains(position));
        (situation.repairs && is_ours) || situation.view.get(situation.plan.id(*position)).is_some_and(|known| known.story.is_urgent())
    };
    let repairs = if situation.red_target { (0..situation.plan.stories.len()).filter(mends).collect() } else { BTreeSet::new() };
    Facts { standings, paused: situation.paused.map(str::to_owned), red_target: situation.red_target, repairs }
}

fn is_being_done(situation: &Situation<'_>, id: &StoryId) -> bool {
    situation.doing.range((id.clone(), String::new())..).next().is_some_and(|(story, _)| story == id)
}

fn not_before(known: &Known, now: Timestamp) -> Option<Timestamp> {
    match &known.phase {
        crate::story::Phase::Pending { not_before } => not_before.filter(|until| *until > now),
        _ => None,
    }
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;

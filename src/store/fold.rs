//! The fold: all that is shown, computed from the events. Pure.
//!
//! `fold(all) == fold(prefix) then fold(rest)`: the caches in the database are a fold that was put down and is taken up again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::id::{CommitId, RunId, StoryId};
use crate::event::{Amount, Event, GateResult, Kind, StopReason, Verdict};
use crate::story::{self, Effect, Refused, Story, phase};

/// What is known beside the stories.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overview {
    pub events: u64,
    /// The hash of the last event.
    pub head: String,
    pub last_at: Option<Timestamp>,
    pub run: Option<Run>,
    pub target: Option<Target>,
    /// The hash of the plan as it was last read.
    pub plan: Option<String>,
    /// A human paused the run, and why.
    pub paused: Option<String>,
    /// Providers that pause, and until when.
    pub providers: BTreeMap<String, Timestamp>,
    pub landings: u64,
    /// The last integration check.
    pub integration: Option<Integration>,
    /// What would take back a landing that turned out red, by the story that landed.
    pub reverts: BTreeMap<StoryId, Revert>,
    pub spent: Amount,
    /// Counts by name: `event story.landed`, `evaluator checks fail`, `gate test red`.
    pub tallies: BTreeMap<String, u64>,
}

/// The last run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub id: Option<RunId>,
    pub pid: u32,
    pub parallel: u32,
    pub started: Timestamp,
    pub stopped: Option<(Timestamp, StopReason, Option<String>)>,
}

/// The ref that stories land on, as it was last seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub reference: String,
    pub commit: CommitId,
    /// Its own check on that commit. None when it was not checked.
    pub green: Option<bool>,
}

/// An integration check, and how far the target was then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Integration {
    pub commit: CommitId,
    pub green: bool,
    /// Landings before it.
    pub landings: u64,
}

/// A commit that takes back what a story landed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revert {
    pub candidate: CommitId,
    pub why: String,
    /// Its gates are green.
    pub ready: bool,
    /// A human approved it.
    pub approved: bool,
}

impl Revert {
    /// Is it green, and nobody has approved it yet?
    pub fn waits_for_human(&self) -> bool {
        self.ready && !self.approved
    }
}

/// What was spent by one role and model on one story. An empty story is the run itself.
pub type SpendKey = (String, String, String);

/// Everything folded, or the part of it that some events touch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    pub overview: Overview,
    pub stories: BTreeMap<StoryId, Story>,
    pub spend: BTreeMap<SpendKey, Amount>,
}

/// What one event did.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The story's phase before (None when it is new) and after, when they differ.
    pub transition: Option<(Option<&'static str>, &'static str)>,
    /// Events that must follow at once.
    pub record: Vec<Kind>,
    pub effects: Vec<Effect>,
}

impl View {
    /// Takes one event. A refused event changes nothing.
    ///
    /// # Errors
    /// When the story refuses it.
    pub fn apply(&mut self, event: &Event) -> Result<Applied, Refused> {
        let applied = match &event.story {
            None => Applied::default(),
            Some(id) => self.apply_to_story(id, event)?,
        };
        self.count(event, &applied);
        Ok(applied)
    }

    /// Takes an event that was stored before. What the rules of today refuse was accepted by those of its day: it stays in the log, and is
    /// counted, and moves no story.
    pub fn replay(&mut self, event: &Event) -> Applied {
        self.apply(event).unwrap_or_else(|_| {
            let nothing = Applied::default();
            self.count(event, &nothing);
            nothing
        })
    }

    fn apply_to_story(&mut self, id: &StoryId, event: &Event) -> Result<Applied, Refused> {
        let before = self.stories.get(id);
        let from = before.map(|story| phase(story).name());
        let step = match before {
            Some(story) => story::step(story, &event.kind, event.at)?,
            None => story::create(id, &event.kind)?,
        };
        let to = phase(&step.next).name();
        self.stories.insert(id.clone(), step.next);
        Ok(Applied { transition: (from != Some(to)).then_some((from, to)), record: step.record, effects: step.effects })
    }

    fn count(&mut self, event: &Event, applied: &Applied) {
        let overview = &mut self.overview;
        overview.events += 1;
        overview.last_at = Some(event.at);
        let mut tally = |name: String| *overview.tallies.entry(name).or_default() += 1;
        tally(format!("event {}", event.kind.name()));
        match &event.kind {
            Kind::EvaluatorFinished { evaluator, verdict, cached, .. } => {
                let verdict = match verdict {
                    Verdict::Pass => "pass",
                    Verdict::Fail => "fail",
                    Verdict::Error => "error",
                    Verdict::NeedsApproval => "needs_approval",
                };
                tally(format!("evaluator {evaluator} {verdict}"));
                if *cached {
                    tally(format!("evaluator {evaluator} cached"));
                }
            }
            Kind::GateFinished { gate, result, flaky, cached, .. } => {
                let result = match result {
                    GateResult::Pass => "pass",
                    GateResult::Red => "red",
                    GateResult::Cancelled => "cancelled",
                    GateResult::Error => "error",
                };
                tally(format!("gate {gate} {result}"));
                if *flaky {
                    tally(format!("gate {gate} flaky"));
                }
                if *cached {
                    tally(format!("gate {gate} cached"));
                }
            }
            Kind::BudgetSpent { role, model, amount } => {
                overview.spent = overview.spent.plus(*amount);
                let story = event.story.as_ref().map(ToString::to_string).unwrap_or_default();
                let spent = self.spend.entry((story, role.clone(), model.clone().unwrap_or_default())).or_default();
                *spent = spent.plus(*amount);
            }
            Kind::RunStarted { pid, parallel, target, commit, .. } => {
                overview.run = Some(Run { id: event.run.clone(), pid: *pid, parallel: *parallel, started: event.at, stopped: None });
                overview.see_target(target, commit);
            }
            Kind::RunStopped { reason, detail } => {
                if let Some(run) = &mut overview.run {
                    run.stopped = Some((event.at, *reason, detail.clone()));
                }
            }
            Kind::RunPaused { reason } => overview.paused = Some(reason.clone().unwrap_or_default()),
            Kind::RunResumed {} => overview.paused = None,
            Kind::PlanChanged { hash, .. } => overview.plan = Some(hash.clone()),
            Kind::ProviderPaused { provider, until, .. } => {
                overview.providers.insert(provider.clone(), *until);
            }
            Kind::ProviderResumed { provider } => {
                overview.providers.remove(provider);
            }
            Kind::RevertPrepared { candidate, why, .. } => {
                if let Some(story) = &event.story {
                    let why = why.lines().next().unwrap_or_default().to_owned();
                    let revert = Revert { candidate: candidate.clone(), why, ready: false, approved: false };
                    overview.reverts.insert(story.clone(), revert);
                }
            }
            Kind::RevertReady { candidate } | Kind::StoryApproved { commit: candidate, .. } => {
                let known = event.story.as_ref().and_then(|story| overview.reverts.get_mut(story));
                if let Some(revert) = known.filter(|revert| revert.candidate == *candidate) {
                    revert.approved |= matches!(event.kind, Kind::StoryApproved { .. });
                    revert.ready = true;
                }
            }
            Kind::RevertDropped { .. } | Kind::StoryReverted { .. } | Kind::StoryReopened { .. } => {
                if let Some(story) = &event.story {
                    overview.reverts.remove(story);
                }
            }
            Kind::TargetMoved { target, to, .. } => overview.see_target(target, to),
            Kind::TargetChecked { commit, green, .. } => {
                if let Some(target) = overview.target.as_mut().filter(|target| target.commit == *commit) {
                    target.green = Some(*green);
                }
            }
            Kind::IntegrationChecked { commit, green, landings, .. } => {
                let landings = landings.unwrap_or(overview.landings);
                overview.integration = Some(Integration { commit: commit.clone(), green: *green, landings });
            }
            // A landing that is told twice is one landing; one that was refused is none.
            Kind::StoryLanded { commit, target, .. } if applied.transition.is_some() => {
                overview.landings += 1;
                overview.see_target(target, commit);
            }
            _ => {}
        }
    }
}

impl Overview {
    fn see_target(&mut self, reference: &str, commit: &CommitId) {
        let is_known = self.target.as_ref().is_some_and(|target| target.reference == reference && target.commit == *commit);
        if !is_known {
            self.target = Some(Target { reference: reference.to_owned(), commit: commit.clone(), green: None });
        }
    }
}

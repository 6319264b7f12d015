//! What will be done: the stories and what they wait for, as a graph that is known to have no cycle.
//!
//! - [`next`]: who may start, and the one reason why every other may not
//! - [`blocked`]: what holds the others up, the root first
//! - [`overlap`]: stories that are likely to change the same files
//! - [`cost`]: what the plan may cost at most
//! - [`draw`]: the graph as text, DOT and Mermaid
//!
//! All of it is pure.

pub mod blocked;
pub mod cost;
pub mod draw;
pub mod next;
pub mod overlap;

use std::collections::{BTreeMap, HashMap};

use crate::base::graph;
use crate::base::id::StoryId;
use crate::config::{Config, DEFAULT_PRIORITY, StartOn, Stream};
use crate::spec::lint::groups;
use crate::spec::{Spec, StoryBudget};

/// A plan. Stories are named by their position in plan order.
#[derive(Clone, Debug)]
pub struct Plan {
    pub stories: Vec<Planned>,
    /// For each story, what it comes after.
    pub after: Vec<Vec<usize>>,
    /// For each story, what comes after it.
    pub dependents: Vec<Vec<usize>>,
    /// Stories that complete together, after an integration check of all of them.
    pub groups: Vec<Vec<usize>>,
    index: HashMap<String, usize>,
}

/// What planning needs to know of a story.
#[derive(Clone, Debug)]
pub struct Planned {
    pub id: StoryId,
    pub title: String,
    pub epic: Option<String>,
    pub stream: Option<String>,
    /// Its own, else its stream's, else the default. 1 goes first.
    pub priority: u64,
    pub automatable: bool,
    /// 0 for what waits for nothing, else one more than the deepest it waits for.
    pub wave: usize,
    /// Paths and patterns it is expected to change: its artifacts.
    pub paths: Vec<String>,
    pub budget: StoryBudget,
}

/// The rules of scheduling, from the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    pub parallel: usize,
    pub start_on: StartOn,
    pub streams: BTreeMap<String, Stream>,
    /// Paths that two stories never change at the same time, whatever else they change.
    pub serial: Vec<String>,
}

/// Why a spec is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("these stories wait for each other: {}", join(.0))]
    Cycle(Vec<StoryId>),
    #[error("there are two stories with the id {0}")]
    Duplicate(StoryId),
    #[error("{story} names {unknown}, which is no story")]
    Unknown { story: StoryId, unknown: StoryId },
}

fn join(ids: &[StoryId]) -> String {
    let names: Vec<&str> = ids.iter().chain(ids.first()).map(StoryId::as_str).collect();
    names.join(" → ")
}

impl Rules {
    pub fn of(config: &Config) -> Self {
        Self {
            parallel: usize::try_from(config.run.parallel).unwrap_or(usize::MAX),
            start_on: config.run.start_on,
            streams: config.streams.clone(),
            serial: config.invariants.serial.clone(),
        }
    }
}

impl Plan {
    /// Builds the graph. `lint` says the same with places; this is the last guard, for who comes without it.
    pub fn build(spec: &Spec, streams: &BTreeMap<String, Stream>) -> Result<Self, PlanError> {
        let mut index = HashMap::with_capacity(spec.stories.len());
        for (i, story) in spec.stories.iter().enumerate() {
            if index.insert(story.id.to_string(), i).is_some() {
                return Err(PlanError::Duplicate(story.id.clone()));
            }
        }
        let edges = |ids: &[StoryId], story: &StoryId| -> Result<Vec<usize>, PlanError> {
            let of = |id: &StoryId| {
                index.get(id.as_str()).copied().ok_or_else(|| PlanError::Unknown { story: story.clone(), unknown: id.clone() })
            };
            let mut edges = ids.iter().map(of).collect::<Result<Vec<_>, _>>()?;
            edges.sort_unstable();
            edges.dedup();
            Ok(edges)
        };
        let after = spec.stories.iter().map(|s| edges(&s.after, &s.id)).collect::<Result<Vec<_>, _>>()?;
        let wired = spec.stories.iter().map(|s| edges(&s.wired_with, &s.id)).collect::<Result<Vec<_>, _>>()?;
        let waves = graph::levels(&after).map_err(|cycles| {
            let cycle = cycles.into_iter().next().unwrap_or_default();
            PlanError::Cycle(cycle.into_iter().map(|n| spec.stories[n].id.clone()).collect())
        })?;
        let planned = spec.stories.iter().zip(waves).map(|(story, wave)| Planned {
            id: story.id.clone(),
            title: story.title.clone(),
            epic: story.epic.clone(),
            stream: story.stream.clone(),
            priority: story
                .priority
                .or_else(|| story.stream.as_ref().and_then(|s| streams.get(s)).map(|s| s.priority))
                .unwrap_or(DEFAULT_PRIORITY),
            automatable: story.automatable,
            wave,
            paths: story.artifacts.iter().map(|a| a.path.clone()).collect(),
            budget: story.budget.clone(),
        });
        Ok(Self { stories: planned.collect(), dependents: graph::reversed(&after), groups: groups(&wired), after, index })
    }

    pub fn position(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// Stories by wave, in plan order.
    pub fn waves(&self) -> Vec<Vec<usize>> {
        let count = self.stories.iter().map(|s| s.wave + 1).max().unwrap_or_default();
        let mut waves = vec![Vec::new(); count];
        for (i, story) in self.stories.iter().enumerate() {
            waves[story.wave].push(i);
        }
        waves
    }

    pub fn id(&self, story: usize) -> &StoryId {
        &self.stories[story].id
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::spec::{Criterion, Story};
    use proptest::prelude::*;

    /// A spec of stories `s0`, `s1`, … with the given edges.
    pub fn spec(after: &[Vec<usize>]) -> Spec {
        let id = |n: usize| format!("s{n}").parse::<StoryId>().expect("id");
        let story = |(i, needs): (usize, &Vec<usize>)| {
            let mut story = Story::new(id(i), &format!("Story {i}"), "", vec![Criterion { id: "AC-1".into(), text: "x".into() }]);
            story.after = needs.iter().map(|n| id(*n)).collect();
            story
        };
        Spec { stories: after.iter().enumerate().map(story).collect(), overview: None }
    }

    pub fn plan(after: &[Vec<usize>]) -> Plan {
        Plan::build(&spec(after), &BTreeMap::new()).expect("plan")
    }

    #[test]
    fn a_plan_has_waves_and_refuses_what_is_none() {
        let plan = plan(&[vec![], vec![0], vec![0], vec![1, 2]]);
        assert_eq!(plan.waves(), [vec![0], vec![1, 2], vec![3]]);
        let error = Plan::build(&spec(&[vec![1], vec![0]]), &BTreeMap::new()).expect_err("cycle");
        assert_eq!(error.to_string(), "these stories wait for each other: s0 → s1 → s0");
        let error = Plan::build(&spec(&[vec![7]]), &BTreeMap::new()).expect_err("unknown");
        assert_eq!(error.to_string(), "s0 names s7, which is no story");
    }

    proptest! {
        #[test]
        fn the_same_spec_is_the_same_plan_and_waves_respect_edges(edges in proptest::collection::vec(proptest::collection::vec(0_usize..10, 0..3), 10)) {
            let built = Plan::build(&spec(&edges), &BTreeMap::new());
            match (built, Plan::build(&spec(&edges), &BTreeMap::new())) {
                (Ok(a), Ok(b)) => {
                    prop_assert_eq!(format!("{:?} {:?}", a.stories, a.after), format!("{:?} {:?}", b.stories, b.after));
                    for (i, needs) in a.after.iter().enumerate() {
                        prop_assert!(needs.iter().all(|n| a.stories[*n].wave < a.stories[i].wave));
                    }
                    prop_assert_eq!(a.waves().concat().len(), 10);
                }
                (Err(a), Err(b)) => prop_assert_eq!(a, b),
                _ => prop_assert!(false),
            }
        }
    }
}

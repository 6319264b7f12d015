//! What the screen shows, as it was when the store was last read. Cheap to hand on: its parts are shared.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use jiff::Timestamp;

use crate::base::id::StoryId;
use crate::event::Amount;
use crate::face::cli::queue::Line as Waiting;
use crate::store::StoryRow;
use crate::store::fold::{Overview, SpendKey};
use crate::store::health::Runner;
use crate::story::{Phase, Story};

/// One story.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) row: StoryRow,
    pub(super) story: Story,
    pub(super) phase: Phase,
    /// Since when it is in this phase.
    pub(super) since: Option<Timestamp>,
}

/// One event, as a line.
#[derive(Clone, Debug)]
pub(super) struct Happened {
    pub(super) seq: u64,
    pub(super) at: String,
    pub(super) story: String,
    pub(super) kind: String,
    pub(super) said: String,
    /// The phase that it moved its story to.
    pub(super) moved: Option<String>,
    pub(super) actor: String,
}

/// What was said in the course of the story that is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Words {
    pub(super) story: String,
    /// Whose words these are.
    pub(super) title: String,
    pub(super) lines: Vec<String>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Data {
    /// Anything was ever stored.
    pub(super) is_known: bool,
    /// Why the store cannot be read at this moment.
    pub(super) trouble: Option<String>,
    pub(super) overview: Rc<Overview>,
    pub(super) runner: Option<Runner>,
    /// In the plan's order.
    pub(super) stories: Rc<Vec<Rc<Item>>>,
    pub(super) graph: Rc<Graph>,
    pub(super) phases: Rc<BTreeMap<String, String>>,
    /// The last of them, the newest at the end.
    pub(super) events: Rc<VecDeque<Happened>>,
    pub(super) queue: Rc<Vec<Waiting>>,
    pub(super) spend: Rc<Vec<(SpendKey, Amount)>>,
    pub(super) words: Rc<Words>,
}

/// Who waits for whom, by position.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    pub(super) index: HashMap<String, usize>,
    pub(super) after: Vec<Vec<usize>>,
    pub(super) dependents: Vec<Vec<usize>>,
}

impl Graph {
    pub(super) fn of(stories: &[Rc<Item>]) -> Self {
        let index: HashMap<String, usize> = stories.iter().enumerate().map(|(at, item)| (item.row.id.clone(), at)).collect();
        let edges = |ids: &[StoryId]| {
            let mut edges: Vec<usize> = ids.iter().filter_map(|id| index.get(id.as_str()).copied()).collect();
            edges.sort_unstable();
            edges.dedup();
            edges
        };
        let after: Vec<Vec<usize>> = stories.iter().map(|item| edges(&item.story.spec.after)).collect();
        Self { dependents: crate::base::graph::reversed(&after), after, index }
    }
}

impl Data {
    pub(super) fn item(&self, id: &str) -> Option<&Rc<Item>> {
        self.stories.get(*self.graph.index.get(id)?)
    }

    /// Does a runner work on it?
    pub(super) fn is_running(&self) -> bool {
        self.runner.as_ref().is_some_and(|runner| runner.pid.is_some())
    }
}

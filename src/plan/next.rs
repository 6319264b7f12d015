//! Who may start: one pure function, used by everything that starts or shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::{Plan, Rules};
use crate::base::id::StoryId;
use crate::base::path::globs_may_meet;
use crate::base::text::one_line;
use crate::config::StartOn;

/// What must be known of the state of one story. Whoever keeps the states maps them onto these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nobody works on it.
    #[default]
    Waiting,
    /// Nobody works on it before some moment, such as a provider's reset time: the reason for a person.
    Later(String),
    /// It holds a slot.
    Running,
    /// Proven, and not landed yet.
    Ready,
    /// In the target.
    Landed,
    /// A human is needed: why, and the command that helps.
    Stopped { reason: String, next: String },
    /// It will never land.
    Cancelled,
}

/// The state of everything, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// By position in the plan; what is missing is waiting.
    pub standings: Vec<Standing>,
    /// A human or a budget holds the whole run, with the reason.
    pub paused: Option<String>,
    /// The target is red: only repair may run.
    pub red_target: bool,
    /// Stories that mend it, by position.
    pub repairs: BTreeSet<usize>,
}

/// The one reason why a story does not start now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why")]
pub enum Reason {
    Landed,
    Cancelled,
    Running,
    /// Proven, and waits to land.
    Ready,
    Stopped {
        reason: String,
        next: String,
    },
    Later {
        reason: String,
    },
    /// Not what it comes after has not landed yet; the first of these in plan order.
    After {
        story: StoryId,
    },
    /// What it comes after will never land.
    AfterCancelled {
        story: StoryId,
    },
    /// A human's story.
    Human,
    Paused {
        reason: String,
    },
    RedTarget,
    StreamHeld {
        stream: String,
    },
    Overlap {
        story: StoryId,
        path: String,
    },
    StreamFull {
        stream: String,
        parallel: u64,
    },
    NoSlot {
        parallel: usize,
    },
}

/// What to start now, in order, and why not the others. Every story is in exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    pub start: Vec<usize>,
    pub not: BTreeMap<usize, Reason>,
}

impl Facts {
    pub fn of(&self, story: usize) -> &Standing {
        self.standings.get(story).unwrap_or(&Standing::Waiting)
    }
}

/// Picks who starts.
///
/// Of those that may: the epic already in progress first, then priority, then plan order.
pub fn choose(plan: &Plan, rules: &Rules, facts: &Facts) -> Choice {
    let mut choice = Choice::default();
    let mut may = Vec::new();
    for story in 0..plan.stories.len() {
        match hindrance(plan, rules, facts, story) {
            Some(reason) => drop(choice.not.insert(story, reason)),
            None => may.push(story),
        }
    }
    let mut busy: Vec<usize> = (0..plan.stories.len()).filter(|s| *facts.of(*s) == Standing::Running).collect();
    let mut epics = epics_in_progress(plan, facts);
    may.sort_by_key(|s| (plan.stories[*s].priority, *s));
    while busy.len() < rules.parallel {
        let free = |s: &&usize| capacity(plan, rules, &busy, **s).is_none();
        let in_progress = |s: &&usize| plan.stories[**s].epic.as_ref().is_some_and(|e| epics.contains(e.as_str()));
        let Some(pick) = may.iter().filter(in_progress).find(free).or_else(|| may.iter().find(free)).copied() else { break };
        may.retain(|s| *s != pick);
        busy.push(pick);
        epics.extend(plan.stories[pick].epic.as_deref());
        choice.start.push(pick);
    }
    for story in may {
        let reason = capacity(plan, rules, &busy, story).unwrap_or(Reason::NoSlot { parallel: rules.parallel });
        choice.not.insert(story, reason);
    }
    choice
}

fn epics_in_progress<'a>(plan: &'a Plan, facts: &Facts) -> BTreeSet<&'a str> {
    let begun = |s: &usize| matches!(facts.of(*s), Standing::Running | Standing::Ready | Standing::Landed | Standing::Later(_));
    (0..plan.stories.len()).filter(begun).filter_map(|s| plan.stories[s].epic.as_deref()).collect()
}

/// Why a story cannot start, whatever else runs.
fn hindrance(plan: &Plan, rules: &Rules, facts: &Facts, story: usize) -> Option<Reason> {
    let planned = &plan.stories[story];
    match facts.of(story) {
        Standing::Landed => return Some(Reason::Landed),
        Standing::Cancelled => return Some(Reason::Cancelled),
        Standing::Running => return Some(Reason::Running),
        Standing::Ready => return Some(Reason::Ready),
        Standing::Stopped { reason, next } => return Some(Reason::Stopped { reason: reason.clone(), next: next.clone() }),
        Standing::Waiting | Standing::Later(_) => {}
    }
    let open = plan.after[story].iter().filter(|need| !is_met(rules, facts.of(**need)));
    let (mut first, mut cancelled) = (None, None);
    for need in open {
        first = first.or(Some(*need));
        if *facts.of(*need) == Standing::Cancelled {
            cancelled = cancelled.or(Some(*need));
        }
    }
    if let Some(need) = cancelled {
        return Some(Reason::AfterCancelled { story: plan.id(need).clone() });
    }
    if let Some(need) = first {
        return Some(Reason::After { story: plan.id(need).clone() });
    }
    if !planned.automatable {
        return Some(Reason::Human);
    }
    if let Standing::Later(reason) = facts.of(story) {
        return Some(Reason::Later { reason: reason.clone() });
    }
    if let Some(reason) = &facts.paused {
        return Some(Reason::Paused { reason: reason.clone() });
    }
    if facts.red_target && !facts.repairs.contains(&story) {
        return Some(Reason::RedTarget);
    }
    let stream = planned.stream.as_ref()?;
    let held = rules.streams.get(stream).and_then(|s| s.parallel) == Some(0);
    held.then(|| Reason::StreamHeld { stream: stream.clone() })
}

fn is_met(rules: &Rules, standing: &Standing) -> bool {
    match standing {
        Standing::Landed => true,
        Standing::Ready => rules.start_on == StartOn::ReadyForReview,
        _ => false,
    }
}

/// Why a story that may start cannot start beside those that are busy.
fn capacity(plan: &Plan, rules: &Rules, busy: &[usize], story: usize) -> Option<Reason> {
    let planned = &plan.stories[story];
    for other in busy {
        if let Some(path) = meeting_path(plan, rules, story, *other) {
            return Some(Reason::Overlap { story: plan.id(*other).clone(), path });
        }
    }
    let stream = planned.stream.as_ref()?;
    let parallel = rules.streams.get(stream)?.parallel?;
    let running = busy.iter().filter(|b| plan.stories[**b].stream.as_ref() == Some(stream)).count() as u64;
    (running >= parallel).then(|| Reason::StreamFull { stream: stream.clone(), parallel })
}

/// A path that both stories are expected to change, or a serial one that both come near.
pub fn meeting_path(plan: &Plan, rules: &Rules, a: usize, b: usize) -> Option<String> {
    let (a, b) = (&plan.stories[a].paths, &plan.stories[b].paths);
    let same = a.iter().find(|x| b.iter().any(|y| globs_may_meet(x, y)));
    let near = |paths: &[String], serial: &str| paths.iter().any(|p| globs_may_meet(p, serial));
    same.or_else(|| rules.serial.iter().find(|serial| near(a, serial) && near(b, serial))).cloned()
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Landed => f.write_str("it has landed"),
            Self::Cancelled => f.write_str("it was cancelled"),
            Self::Running => f.write_str("it is being worked on"),
            Self::Ready => f.write_str("it is proven, and waits to land"),
            Self::Stopped { reason, next } => write!(f, "{} — {}", one_line(reason), one_line(next)),
            Self::Later { reason } => f.write_str(&one_line(reason)),
            Self::After { story } => write!(f, "it comes after {story}"),
            Self::AfterCancelled { story } => write!(f, "it comes after {story}, which was cancelled"),
            Self::Human => f.write_str("it is a human's (automatable: false)"),
            Self::Paused { reason } => write!(f, "the run is paused: {}", one_line(reason)),
            Self::RedTarget => f.write_str("the target is red, and only repair runs"),
            Self::StreamHeld { stream } => write!(f, "its stream {stream} is held (parallel = 0)"),
            Self::Overlap { story, path } => write!(f, "{story} changes {} too, and is being worked on", one_line(path)),
            Self::StreamFull { stream, parallel } => write!(f, "its stream {stream} is full (parallel = {parallel})"),
            Self::NoSlot { parallel } => write!(f, "all slots are taken (parallel = {parallel})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{plan, spec};
    use super::*;
    use crate::config::Stream;
    use crate::spec::ArtifactRule;
    use proptest::prelude::*;

    fn rules(parallel: usize) -> Rules {
        Rules { parallel, start_on: StartOn::Merged, streams: BTreeMap::new(), serial: Vec::new() }
    }

    fn facts(standings: &[Standing]) -> Facts {
        Facts { standings: standings.to_vec(), ..Facts::default() }
    }

    #[test]
    fn the_order_is_epic_then_priority_then_plan() {
        let mut plan = plan(&[vec![], vec![], vec![], vec![], vec![]]);
        plan.stories[1].priority = 1;
        plan.stories[3].epic = Some("e".into());
        plan.stories[4].epic = Some("e".into());
        assert_eq!(choose(&plan, &rules(5), &Facts::default()).start, [1, 0, 2, 3, 4]);
        let running = facts(&[Standing::Waiting, Standing::Waiting, Standing::Waiting, Standing::Running]);
        let choice = choose(&plan, &rules(3), &running);
        assert_eq!(choice.start, [4, 1]);
        assert_eq!(choice.not[&0], Reason::NoSlot { parallel: 3 });
        assert_eq!(choice.not[&3], Reason::Running);
    }

    #[test]
    fn each_reason_is_given_where_it_holds() {
        let mut plan = plan(&[vec![], vec![0], vec![], vec![], vec![], vec![4], vec![]]);
        plan.stories[2].automatable = false;
        plan.stories[3].stream = Some("held".into());
        plan.stories[6].paths = vec!["src/**".into()];
        plan.stories[0].paths = vec!["src/a.rs".into()];
        let mut rules = rules(4);
        rules.streams.insert("held".into(), Stream { priority: 5, parallel: Some(0) });
        let stopped = Standing::Stopped { reason: "r".into(), next: "n".into() };
        let mut now = facts(&[Standing::Running, Standing::Waiting, Standing::Waiting, Standing::Waiting, Standing::Cancelled]);
        let choice = choose(&plan, &rules, &now);
        assert_eq!(choice.start, [0; 0]);
        let id = |n: &str| n.parse::<StoryId>().expect("id");
        assert_eq!(choice.not[&1], Reason::After { story: id("s0") });
        assert_eq!(choice.not[&2], Reason::Human);
        assert_eq!(choice.not[&3], Reason::StreamHeld { stream: "held".into() });
        assert_eq!(choice.not[&5], Reason::AfterCancelled { story: id("s4") });
        assert_eq!(choice.not[&6], Reason::Overlap { story: id("s0"), path: "src/**".into() });
        now.standings[0] = stopped;
        assert_eq!(choose(&plan, &rules, &now).start, [6]);
        now.red_target = true;
        assert_eq!(choose(&plan, &rules, &now).not[&6], Reason::RedTarget);
        now.repairs = [6].into();
        assert_ne!(choose(&plan, &rules, &now).not.get(&6), Some(&Reason::RedTarget));
        now.paused = Some("budget".into());
        assert_eq!(choose(&plan, &rules, &now).not[&6], Reason::Paused { reason: "budget".into() });
        now.standings[0] = Standing::Ready;
        assert_eq!(choose(&plan, &rules, &now).not[&1], Reason::After { story: id("s0") });
        rules.start_on = StartOn::ReadyForReview;
        now.paused = None;
        now.red_target = false;
        assert!(choose(&plan, &rules, &now).start.contains(&1));
    }

    #[test]
    fn serial_paths_are_never_changed_at_the_same_time() {
        let mut plan = plan(&[vec![], vec![]]);
        plan.stories[0].paths = vec!["migrations/1.sql".into()];
        plan.stories[1].paths = vec!["migrations/2.sql".into()];
        let mut rules = rules(2);
        assert_eq!(choose(&plan, &rules, &Facts::default()).start, [0, 1]);
        rules.serial = vec!["migrations/**".into()];
        assert_eq!(choose(&plan, &rules, &Facts::default()).start, [0]);
    }

    #[derive(Clone, Debug)]
    struct World {
        after: Vec<Vec<usize>>,
        epics: Vec<Option<u8>>,
        priorities: Vec<u64>,
        streams: Vec<Option<bool>>,
        paths: Vec<u8>,
        parallel: usize,
        cap: u64,
        /// Which of the running ends next, and how.
        ends: Vec<(usize, u8)>,
    }

    fn world() -> impl Strategy<Value = World> {
        let n = 9;
        let edges = (0..n).map(|i| proptest::collection::vec(0..i.max(1), 0..3)).collect::<Vec<_>>();
        (
            edges,
            proptest::collection::vec(proptest::option::of(0_u8..3), n),
            proptest::collection::vec(1_u64..9, n),
            proptest::collection::vec(proptest::option::of(any::<bool>()), n),
            proptest::collection::vec(0_u8..4, n),
            1_usize..4,
            1_u64..3,
            proptest::collection::vec((0_usize..9, 0_u8..8), 200),
        )
            .prop_map(|(mut after, epics, priorities, streams, paths, parallel, cap, ends)| {
                after[0].clear();
                World { after, epics, priorities, streams, paths, parallel, cap, ends }
            })
    }

    proptest! {
        #[test]
        fn a_run_never_breaks_a_rule_and_starves_nobody(world in world()) {
            let mut source = spec(&world.after);
            for (i, story) in source.stories.iter_mut().enumerate() {
                story.epic = world.epics[i].map(|e| format!("e{e}"));
                story.priority = Some(world.priorities[i]);
                story.stream = world.streams[i].map(|s| if s { "a".into() } else { "b".into() });
                if world.paths[i] < 3 {
                    story.artifacts = vec![ArtifactRule { path: format!("p{}", world.paths[i]), ..ArtifactRule::default() }];
                }
            }
            let mut rules = rules(world.parallel);
            rules.streams.insert("a".into(), Stream { priority: 2, parallel: Some(world.cap) });
            let plan = Plan::build(&source, &rules.streams).expect("plan");
            let n = plan.stories.len();
            let mut facts = Facts { standings: vec![Standing::Waiting; n], ..Facts::default() };
            for (which, how) in &world.ends {
                let choice = choose(&plan, &rules, &facts);
                prop_assert_eq!(&choice, &choose(&plan, &rules, &facts), "the same facts, the same choice");
                prop_assert_eq!(choice.start.len() + choice.not.len(), n);
                for start in &choice.start {
                    prop_assert!(!choice.not.contains_key(start));
                    prop_assert!(plan.after[*start].iter().all(|a| facts.standings[*a] == Standing::Landed));
                    facts.standings[*start] = Standing::Running;
                }
                let running: Vec<usize> = (0..n).filter(|s| facts.standings[*s] == Standing::Running).collect();
                prop_assert!(running.len() <= world.parallel);
                prop_assert!(running.iter().filter(|s| plan.stories[**s].stream.as_deref() == Some("a")).count() as u64 <= world.cap);
                for (i, a) in running.iter().enumerate() {
                    prop_assert!(running[i + 1..].iter().all(|b| meeting_path(&plan, &rules, *a, *b).is_none()));
                }
                // Somebody always works while anybody may.
                prop_assert!(!running.is_empty() || facts.standings.iter().all(|s| *s == Standing::Landed));
                let Some(end) = running.get(which % running.len().max(1)) else { break };
                // Most land, some must be done again.
                facts.standings[*end] = if *how == 0 { Standing::Waiting } else { Standing::Landed };
            }
            prop_assert!(facts.standings.iter().all(|s| *s == Standing::Landed), "{:?}", facts.standings);
        }
    }
}

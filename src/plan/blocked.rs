//! What holds a plan up: the root of each blockage, with everything that hangs on it.

use super::next::{Choice, Reason};
use super::{Plan, Rules, next};
use crate::base::graph::reachable;
use crate::config::StartOn;

/// One story that somebody must do something about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocker {
    pub story: usize,
    pub reason: Reason,
    /// Everything that waits for it, directly or through others.
    pub holds: Vec<usize>,
}

/// The answer to "why is nothing running?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// The one that holds the most first.
    pub roots: Vec<Blocker>,
    /// Nothing runs, nothing may start, and not everything is done.
    pub stalled: bool,
}

pub fn blocked(plan: &Plan, rules: &Rules, facts: &next::Facts) -> Blocked {
    let Choice { start, not } = next::choose(plan, rules, facts);
    let over = |story: usize| matches!(not.get(&story), Some(Reason::Landed | Reason::Cancelled));
    let moving = !start.is_empty() || not.values().any(|r| matches!(r, Reason::Running | Reason::Later { .. }));
    let done = (0..plan.stories.len()).all(over);
    let stalled = !moving && !done;
    let mut roots = Vec::new();
    for (story, reason) in &not {
        let holds: Vec<usize> = reachable(&plan.dependents, *story).into_iter().filter(|s| !over(*s)).collect();
        let is_root = match reason {
            Reason::Stopped { .. } | Reason::Human | Reason::StreamHeld { .. } => true,
            // A cancelled story is nobody's business unless something still waits for it.
            Reason::Cancelled => !holds.is_empty(),
            // Proven work that nobody lands holds the others only when nothing else moves.
            Reason::Ready => stalled && rules.start_on == StartOn::Merged && !holds.is_empty(),
            Reason::Paused { .. } | Reason::RedTarget => stalled,
            Reason::Landed
            | Reason::Running
            | Reason::Later { .. }
            | Reason::After { .. }
            | Reason::AfterCancelled { .. }
            | Reason::Overlap { .. }
            | Reason::StreamFull { .. }
            | Reason::NoSlot { .. } => false,
        };
        if is_root {
            roots.push(Blocker { story: *story, reason: reason.clone(), holds });
        }
    }
    roots.sort_by_key(|b| (std::cmp::Reverse(b.holds.len()), b.story));
    Blocked { roots, stalled }
}

#[cfg(test)]
mod tests {
    use super::super::tests::plan;
    use super::next::{Facts, Standing};
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_root_comes_first_with_what_hangs_on_it() {
        let plan = plan(&[vec![], vec![0], vec![1], vec![2], vec![], vec![4]]);
        let rules = Rules { parallel: 2, start_on: StartOn::Merged, streams: BTreeMap::new(), serial: Vec::new() };
        let stop = |r: &str| Standing::Stopped { reason: r.into(), next: "cofferdam answer".into() };
        let mut facts =
            Facts { standings: vec![Standing::Landed, stop("b"), Standing::Waiting, Standing::Waiting, stop("a")], ..Facts::default() };
        let found = blocked(&plan, &rules, &facts);
        assert!(found.stalled);
        assert_eq!(found.roots.iter().map(|r| (r.story, r.holds.clone())).collect::<Vec<_>>(), [(1, vec![2, 3]), (4, vec![5])]);
        facts.standings[4] = Standing::Cancelled;
        assert_eq!(blocked(&plan, &rules, &facts).roots[1].reason, Reason::Cancelled);
        facts.standings = vec![Standing::Ready];
        let found = blocked(&plan, &rules, &facts);
        assert!(!found.stalled && found.roots.is_empty(), "story 4 may start: {found:?}");
        facts.standings = vec![Standing::Landed; 6];
        assert!(!blocked(&plan, &rules, &facts).stalled);
    }
}

//! What a plan may cost at most, by its budgets.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{Plan, Planned};
use crate::base::duration;
use crate::config::Config;

/// Upper bounds. `None` is "no bound is set", which is worth knowing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ceiling {
    pub stories: usize,
    /// Implementer attempts.
    pub attempts: u64,
    pub model_calls: Option<u64>,
    pub tokens: Option<u64>,
    pub usd: Option<f64>,
    /// Time of all stories, one after the other.
    #[serde(serialize_with = "as_text")]
    pub wall: Option<Duration>,
    /// Time of the longest chain of stories that wait for each other: no number of slots makes it shorter.
    #[serde(serialize_with = "as_text")]
    pub longest_chain: Option<Duration>,
}

fn as_text<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(duration::exact).serialize(serializer)
}

pub fn ceiling(plan: &Plan, config: &Config) -> Ceiling {
    let ours: Vec<&Planned> = plan.stories.iter().filter(|s| s.automatable).collect();
    let sum = |of: &dyn Fn(&Planned) -> Option<u64>, bound: Option<u64>| {
        let all = ours.iter().try_fold(0_u64, |sum, s| Some(sum.saturating_add(of(s)?)));
        smaller(all, bound)
    };
    let wall_of = |s: &Planned| s.budget.wall.or(config.budget.wall);
    let wall = ours.iter().try_fold(Duration::ZERO, |sum, s| Some(sum.saturating_add(wall_of(s)?)));
    let usd = ours.iter().try_fold(0.0, |sum, s| Some(sum + s.budget.usd.or(config.budget.usd)?));
    Ceiling {
        stories: ours.len(),
        attempts: ours.iter().map(|s| s.budget.iterations.unwrap_or(config.run.iterations)).sum(),
        model_calls: sum(&|s| s.budget.model_calls.or(config.budget.model_calls), config.run_budget.model_calls),
        tokens: sum(&|s| s.budget.tokens.or(config.budget.tokens), config.run_budget.tokens),
        usd: match (usd, config.run_budget.usd) {
            (Some(a), Some(b)) => Some(f64::min(a, b)),
            (a, b) => a.or(b),
        },
        wall,
        longest_chain: wall.map(|_| chain(plan, &wall_of)),
    }
}

fn smaller(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    a.into_iter().chain(b).min()
}

fn chain(plan: &Plan, wall_of: &dyn Fn(&Planned) -> Option<Duration>) -> Duration {
    let mut ends = vec![Duration::ZERO; plan.stories.len()];
    for story in plan.waves().concat() {
        let start = plan.after[story].iter().map(|a| ends[*a]).max().unwrap_or_default();
        let planned = &plan.stories[story];
        let own = if planned.automatable { wall_of(planned).unwrap_or_default() } else { Duration::ZERO };
        ends[story] = start.saturating_add(own);
    }
    ends.into_iter().max().unwrap_or_default()
}

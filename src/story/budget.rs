//! Budgets: what a story may still use, and what it used up. They are facts of the story, so they survive a restart.

use super::facts::{Conclusion, Story};
use crate::event::Task;

/// A budget that is spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// `iterations`, `review_cycles`, `model_calls`, `tokens`, `cost`, `wall`.
    pub which: &'static str,
    pub limit: u64,
    pub spent: u64,
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&words(self.which, self.limit, self.spent))
    }
}

/// What is spent of a budget, for a person.
pub fn words(which: &str, limit: u64, spent: u64) -> String {
    match which {
        "iterations" => format!("{spent} of {limit} iterations are used"),
        "review_cycles" => format!("{spent} of {limit} review-fix cycles are used"),
        "model_calls" => format!("{spent} model calls of {limit} are used"),
        "tokens" => format!("{spent} tokens of {limit} are used"),
        "cost" => format!("{} of {} are spent", money(spent), money(limit)),
        "wall" => format!("{} of {} are used", time(spent), time(limit)),
        _ => format!("{which}: {spent} of {limit}"),
    }
}

/// Money for a person: `$1.25`. Less than a cent shows all that is known.
pub fn money(microusd: u64) -> String {
    match microusd {
        0 => "$0".to_owned(),
        1..10_000 => format!("${:.4}", microusd as f64 / 1e6),
        _ => format!("${}.{:02}", microusd / 1_000_000, microusd % 1_000_000 / 10_000),
    }
}

fn time(ms: u64) -> String {
    crate::base::duration::display(std::time::Duration::from_millis(ms))
}

/// Implementer processes that count.
pub fn iterations(story: &Story) -> u32 {
    u32::try_from(story.counted().count()).unwrap_or(u32::MAX)
}

/// Repairs that followed a failed verification.
pub fn cycles(story: &Story) -> u32 {
    let attempts: Vec<_> = story.counted().collect();
    // What came right after it, counted or not, tells a repair of it from work that was begun anew, was cut short, and goes on.
    let right_after = |no| story.attempts.iter().find(|attempt| attempt.no > no).map(|attempt| attempt.task);
    let repairs = attempts.windows(2).filter(|pair| {
        let failed = matches!(&pair[0].conclusion, Some(Conclusion::Failed(failure)) if failure.reviewed);
        failed && pair[1].task == Task::Repair && right_after(pair[0].no) == Some(Task::Repair)
    });
    u32::try_from(repairs.count()).unwrap_or(u32::MAX)
}

/// What was measured and is used up to the limit, or beyond it: nothing more may be started.
pub fn used_up(story: &Story) -> Option<Spent> {
    measured(story).find(|spent| spent.spent >= spent.limit)
}

/// What was measured and went beyond its limit: what runs must stop.
pub fn exceeded(story: &Story) -> Option<Spent> {
    measured(story).find(|spent| spent.spent > spent.limit)
}

/// The first budget that forbids another attempt; `repair` when that attempt would be a review-fix cycle.
pub fn forbids_attempt(story: &Story, repair: bool) -> Option<Spent> {
    let limits = &story.spec.rules.limits;
    let count = |which, limit: u32, spent: u32| (spent >= limit).then(|| Spent { which, limit: limit.into(), spent: spent.into() });
    let review = if repair { count("review_cycles", limits.review_cycles, cycles(story)) } else { None };
    review.or_else(|| count("iterations", limits.iterations, iterations(story))).or_else(|| used_up(story))
}

fn measured(story: &Story) -> impl Iterator<Item = Spent> {
    let (limits, spent) = (&story.spec.rules.limits, story.spent);
    [
        ("model_calls", limits.model_calls, spent.model_calls),
        ("tokens", limits.tokens, spent.tokens_in.saturating_add(spent.tokens_out)),
        ("cost", limits.cost_microusd, spent.cost_microusd),
        ("wall", limits.wall_ms, spent.wall_ms),
    ]
    .into_iter()
    .filter_map(|(which, limit, spent)| Some(Spent { which, limit: limit?, spent }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_reads_like_money() {
        assert_eq!([0, 1_500, 10_000, 1_250_000].map(money), ["$0", "$0.0015", "$0.01", "$1.25"]);
    }
}

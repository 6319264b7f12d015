//! Stagnation: iterations in a row in which no evaluator got better than it ever was.
//!
//! Better than ever, not better than last time: work that swings between two bad states does not get on.

use std::collections::BTreeMap;

use super::facts::{Attempt, Conclusion, GateRun, Story};
use crate::event::{GateResult, Verdict};

/// How many things are wrong by evaluator or gate; 0 is a pass. Errors say nothing about the work and are left out.
pub fn scores(attempt: &Attempt) -> BTreeMap<String, u32> {
    let judged = attempt.results.iter().filter_map(|(name, result)| match result.verdict {
        Verdict::Pass | Verdict::NeedsApproval => Some((name.clone(), result.problems)),
        Verdict::Fail => Some((name.clone(), result.problems.max(1))),
        Verdict::Error => None,
    });
    let gate_score = |run: &GateRun| match run.result {
        GateResult::Pass => Some(0),
        GateResult::Red => Some(run.problems.max(1)),
        GateResult::Cancelled | GateResult::Error => None,
    };
    let gates = attempt.gates.iter().filter_map(|(name, run)| Some((format!("gate {name}"), gate_score(run)?)));
    judged.chain(gates).collect()
}

/// Whether something is better in `now` than in every one of `before`. What was never measured before is better than nothing.
pub fn improved<'a>(before: impl Iterator<Item = &'a BTreeMap<String, u32>>, now: &BTreeMap<String, u32>) -> bool {
    let mut best: BTreeMap<&str, u32> = BTreeMap::new();
    for scores in before {
        for (name, &score) in scores {
            best.entry(name).and_modify(|b| *b = score.min(*b)).or_insert(score);
        }
    }
    now.iter().any(|(name, score)| best.get(name.as_str()).is_none_or(|best| score < best))
}

/// Failed iterations since something last got better.
pub fn since_better(story: &Story) -> u32 {
    let failures = story.counted().rev().filter(|a| a.no.get() > story.replanned_after).filter_map(|attempt| match &attempt.conclusion {
        Some(Conclusion::Failed(failure)) => Some(failure.improved),
        Some(Conclusion::Asked | Conclusion::Void) | None => None,
    });
    u32::try_from(failures.take_while(|improved| !improved).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scores(pairs: &[(&str, u32)]) -> BTreeMap<String, u32> {
        pairs.iter().map(|(name, score)| ((*name).to_owned(), *score)).collect()
    }

    #[test]
    fn swinging_between_two_states_is_no_progress() {
        let (bad, worse) = (scores(&[("tests", 3)]), scores(&[("tests", 5)]));
        assert!(improved([].into_iter(), &bad), "the first measure is progress");
        assert!(!improved([&bad, &worse].into_iter(), &bad));
        assert!(improved([&bad, &worse].into_iter(), &scores(&[("tests", 2)])));
        assert!(improved([&bad].into_iter(), &scores(&[("tests", 9), ("review", 4)])), "a further evaluator was reached");
        assert!(!improved([&bad].into_iter(), &scores(&[])), "an iteration that left nothing to measure");
    }

    proptest! {
        #[test]
        fn a_score_can_only_get_better_a_bounded_number_of_times(start in 0_u32..20, steps in proptest::collection::vec(0_u32..20, 0..60)) {
            let mut history = vec![scores(&[("tests", start)])];
            let mut better = 0;
            for score in steps {
                let now = scores(&[("tests", score)]);
                better += u32::from(improved(history.iter(), &now));
                history.push(now);
            }
            prop_assert!(better <= start);
        }
    }
}

//! The order in which proven stories land: one total order, used by everything that lands or shows. Pure.

use std::cmp::Ordering;

use crate::base::id::StoryId;

/// What decides a story's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub story: StoryId,
    /// It mends a red target, or takes back what made it red.
    pub urgent: bool,
    /// Of its stream: 1 goes first.
    pub priority: u64,
    /// The event with which it entered: whoever was ejected enters anew, behind the others.
    pub entered: u64,
    /// Its place in the plan.
    pub ordinal: u32,
}

/// Who lands first. No two stories are equal: the id decides in the end.
pub fn order(a: &Waiting, b: &Waiting) -> Ordering {
    b.urgent
        .cmp(&a.urgent)
        .then_with(|| a.priority.cmp(&b.priority))
        .then_with(|| a.entered.cmp(&b.entered))
        .then_with(|| a.ordinal.cmp(&b.ordinal))
        .then_with(|| a.story.cmp(&b.story))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiting() -> impl Strategy<Value = Waiting> {
        ("[a-c]{1,2}", any::<bool>(), 1..3_u64, 0..3_u64, 0..3_u32).prop_map(|(id, urgent, priority, entered, ordinal)| Waiting {
            story: id.parse().expect("an id"),
            urgent,
            priority,
            entered,
            ordinal,
        })
    }

    proptest! {
        #[test]
        fn it_is_a_total_order(a in waiting(), b in waiting(), c in waiting()) {
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
            prop_assert_eq!(order(&a, &b) == Ordering::Equal, a == b);
            if order(&a, &b).is_le() && order(&b, &c).is_le() {
                prop_assert!(order(&a, &c).is_le());
            }
            if a.urgent && !b.urgent {
                prop_assert_eq!(order(&a, &b), Ordering::Less);
            }
        }

        #[test]
        fn sorting_loses_nobody_and_does_not_depend_on_how_they_came(list in prop::collection::vec(waiting(), 0..12)) {
            let sorted = |mut list: Vec<Waiting>| { list.sort_by(order); list };
            let forward = sorted(list.clone());
            prop_assert_eq!(forward.len(), list.len());
            prop_assert_eq!(forward, sorted(list.into_iter().rev().collect()));
        }
    }
}

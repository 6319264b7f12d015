//! The failure-memory guard: an approach that failed often enough is not tried again under another name.

use super::{Case, Judged};
use crate::event::Finding;

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let limit = case.story.spec.rules.limits.same_approach;
    match case.story.memory.blocks(&case.attempt.approach(), limit) {
        None => Judged::pass(),
        Some(blocked) => {
            let text = format!("this approach ({}) failed {} times before: {}", blocked.id, blocked.times, blocked.summary);
            Judged::fail(vec![Finding { text, ..Finding::default() }])
        }
    }
}

//! Did anything change at all?

use super::{Case, Judged};
use crate::event::Finding;

pub(super) fn judge(case: &Case<'_>) -> Judged {
    match &case.attempt.change {
        Some(change) if change.commit == *case.commit && change.files > 0 => Judged::pass(),
        Some(change) if change.commit == *case.commit => {
            Judged::fail(vec![Finding { text: "the attempt changed nothing".to_owned(), ..Finding::default() }])
        }
        _ => Judged::error("this commit is not what the attempt left"),
    }
}

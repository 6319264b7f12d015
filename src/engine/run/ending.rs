//! Whether a run is over, and how it ended.

use super::{Counts, Ended, RunError, Runner};
use crate::base::id::StoryId;
use crate::engine::turn::Turn;
use crate::event::{Kind, StopReason};
use crate::plan::next::Reason;
use crate::store::health::Status;
use crate::store::live;
use crate::story::Phase;

impl Runner<'_> {
    /// Whether nothing can happen any more without a human.
    pub(super) fn is_over(&self, turn: &Turn) -> Option<(StopReason, Option<String>)> {
        if !self.doing.is_empty() || self.keeping.is_busy() || turn.until.is_some() || self.paused.is_some() {
            return None;
        }
        if let Some(end) = self.ended_by_target() {
            return Some(end);
        }
        if let Some(why) = &self.broken {
            return Some((StopReason::Error, Some(format!("the plan cannot be read as it is now: {why}"))));
        }
        if let Some(why) = self.run_budget().filter(|_| turn.not.values().any(|reason| matches!(reason, Reason::Paused { .. }))) {
            return Some((StopReason::Budget, Some(why)));
        }
        let counts = self.counts();
        Some(match (counts.blocked, counts.escalated, counts.waiting) {
            (0, 0, 0) => (StopReason::Finished, None),
            (0, 1.., 0) => (StopReason::Budget, None),
            (0, 0, _) => (StopReason::Finished, None),
            _ => (StopReason::Blocked, None),
        })
    }

    pub(super) fn is_ours(&self, position: usize) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&position))
    }

    pub(super) fn is_named(&self, story: &StoryId) -> bool {
        self.reading.plan.position(story.as_str()).is_some_and(|position| self.only.is_some() && self.is_ours(position))
    }

    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for position in (0..self.reading.plan.stories.len()).filter(|position| self.is_ours(*position)) {
            counts.total += 1;
            let phase = self.view.get(self.reading.plan.id(position)).map(|known| &known.phase);
            let count = match phase {
                Some(Phase::Merged { .. } | Phase::Backfilled { .. }) => &mut counts.landed,
                Some(Phase::Ready { .. } | Phase::Queued { .. } | Phase::Merging { .. }) => &mut counts.ready,
                Some(Phase::Blocked(_) | Phase::Stagnated { .. } | Phase::Reverted { .. }) => &mut counts.blocked,
                Some(Phase::Escalated { .. }) => &mut counts.escalated,
                Some(Phase::Cancelled { .. }) => &mut counts.cancelled,
                _ => &mut counts.waiting,
            };
            *count += 1;
        }
        counts
    }

    pub(super) fn end(&mut self, ended: Result<(StopReason, Option<String>), RunError>) -> Result<Ended, RunError> {
        live::clear(self.store.folder());
        let (reason, detail) = match ended {
            Ok(end) => end,
            Err(error) => {
                self.doing.values().for_each(|doing| doing.stop.ask());
                self.beat(Status::Error, Some(error.to_string()));
                // Best effort: the store may be what is broken.
                drop(self.append(None, vec![Kind::RunStopped { reason: StopReason::Error, detail: Some(error.to_string()) }]));
                return Err(error);
            }
        };
        self.append(None, vec![Kind::RunStopped { reason, detail: detail.clone() }])?;
        let turn = self.decide();
        let is_open = |reason: &Reason| !matches!(reason, Reason::Landed | Reason::Ready | Reason::Cancelled);
        let not = turn.not.into_iter().filter(|(at, reason)| self.is_ours(*at) && is_open(reason));
        let not = not.map(|(position, reason)| (self.reading.plan.id(position).clone(), reason)).collect();
        let counts = self.counts();
        self.beat(Status::Stopped, detail.clone());
        Ok(Ended { reason, detail, not, counts })
    }
}

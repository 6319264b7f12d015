//! The loop's part in the plan: taken when it begins, read again when somebody edits it, and what keeps new work from starting.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use super::{LOOK_SHARE, RunError, Runner};
use crate::base::id::StoryId;
use crate::engine::sync;
use crate::event::Kind;
use crate::plan::Plan;

impl Runner<'_> {
    /// Takes the plan that was read: its stories, and whom the run is about.
    pub(super) fn adopt(&mut self) -> Result<(), RunError> {
        let reading = &self.reading;
        self.specs = reading.spec.stories.iter().map(|story| (story.id.clone(), Arc::new(story.clone()))).collect();
        self.overview = reading.spec.overview.as_deref().map(Into::into);
        self.only = only(&reading.plan, &self.named)?;
        self.shop.set_config(reading.config.clone());
        let hash = self.store.overview()?.plan;
        let events = sync::events(&reading.spec, &reading.config, self.view.stories(), hash.as_deref());
        if !events.is_empty() {
            let events = events.into_iter().map(|(story, kind)| self.event(story, kind)).collect();
            self.store.append(events)?;
            self.catch_up()?;
        }
        self.refused.clear();
        Ok(())
    }

    /// Looks whether somebody edited the plan, the configuration or the target, and honours it before anything else begins.
    pub(super) fn reread(&mut self) -> Result<(), RunError> {
        if self.looked.elapsed() < self.look_cost * LOOK_SHARE {
            return Ok(());
        }
        let begun = Instant::now();
        let fingerprint = self.source.fingerprint();
        self.look_cost = begun.elapsed();
        self.looked = Instant::now();
        if fingerprint == self.fingerprint {
            return Ok(());
        }
        self.fingerprint = fingerprint;
        match self.source.read() {
            Ok(reading) => {
                if self.broken.take().is_some() {
                    self.watcher.say("the plan can be read again, and the run goes on with it");
                }
                let before = std::mem::replace(&mut self.reading, reading);
                if before.commit != self.reading.commit {
                    let moved = Kind::TargetMoved {
                        target: self.reading.target.clone(),
                        from: Some(before.commit),
                        to: self.reading.commit.clone(),
                    };
                    self.append(None, vec![moved])?;
                }
                self.adopt()
            }
            Err(why) => {
                self.watcher.say(&format!("the plan cannot be read as it is now; nothing new starts until it is mended: {why}"));
                self.broken = Some(why);
                Ok(())
            }
        }
    }

    /// Why nothing new starts.
    pub(super) fn held(&self) -> Option<String> {
        let pause = self.paused.as_ref().map(|why| if why.is_empty() { "a human paused it".to_owned() } else { why.clone() });
        pause
            .or_else(|| self.keeping.holds())
            .or_else(|| self.run_budget())
            .or_else(|| self.broken.as_ref().map(|_| "its files cannot be read as they are now".to_owned()))
    }

    /// The budget of the whole run that is spent, in words.
    pub(super) fn run_budget(&self) -> Option<String> {
        let budget = &self.reading.config.run_budget;
        if (budget.model_calls, budget.tokens, budget.usd, budget.wall) == (None, None, None, None) {
            return None;
        }
        let spent = self.store.overview().ok()?.spent;
        let since = |now: u64, before: u64| now.saturating_sub(before);
        let before = &self.spent_before;
        let tokens = since(spent.tokens_in.saturating_add(spent.tokens_out), before.tokens_in.saturating_add(before.tokens_out));
        let usd = since(spent.cost_microusd, before.cost_microusd) as f64 / 1e6;
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used >= limit);
        let which = if over(budget.model_calls, since(spent.model_calls, before.model_calls)) {
            "model calls"
        } else if over(budget.tokens, tokens) {
            "tokens"
        } else if budget.usd.is_some_and(|limit| usd >= limit) {
            "money"
        } else if budget.wall.is_some_and(|limit| self.began.elapsed() >= limit) {
            "time"
        } else {
            return None;
        };
        Some(format!("the run's budget of {which} is spent"))
    }
}

/// The positions of the named stories and of everything they come after.
fn only(plan: &Plan, named: &[StoryId]) -> Result<Option<BTreeSet<usize>>, RunError> {
    if named.is_empty() {
        return Ok(None);
    }
    let mut only = BTreeSet::new();
    let mut open = Vec::new();
    for id in named {
        open.push(plan.position(id.as_str()).ok_or_else(|| RunError::NoStory(id.to_string()))?);
    }
    while let Some(position) = open.pop() {
        if only.insert(position) {
            open.extend(&plan.after[position]);
        }
    }
    Ok(Some(only))
}

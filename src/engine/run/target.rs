//! The loop's part in keeping the target green: its own gates, the integration gates, and whose fault it is when they are red.

use std::sync::Arc;

use super::queue::Done;
use super::{RunError, Runner};
use crate::base::id::{CommitId, StoryId};
use crate::config::When;
use crate::engine::perform::gate::{self, Looked};
use crate::engine::perform::{Trouble, blocked};
use crate::event::{Finding, Kind, StopReason};
use crate::queue::candidate;
use crate::queue::gate::Definition;
use crate::role::Stop;
use crate::story::facts::End;
use crate::workspace::git::Oid;

impl Runner<'_> {
    pub(super) fn gates(&self, when: &[When]) -> Vec<Definition> {
        self.reading.config.gates.iter().filter(|gate| when.contains(&gate.when)).map(Definition::from).collect()
    }

    /// Somebody moved the target to where what it held before is not in it: a forced push. Work that stands on what was removed would bring
    /// it back with its merge, so a human is asked first. True when something was told.
    pub(super) fn notice_rewriting(&mut self, tip: &CommitId) -> Result<bool, RunError> {
        if self.keeping.landing || self.keeping.last_target.as_ref() == Some(tip) {
            return Ok(false);
        }
        let old = self.keeping.last_target.replace(tip.clone());
        let oid = |id: &CommitId| id.as_str().parse::<Oid>().ok();
        let (Some(old), Some(now), Some(repository)) = (old.as_ref().and_then(oid), oid(tip), &self.keeping.repository) else {
            return Ok(false);
        };
        if repository.is_ancestor(old, now) {
            return Ok(false);
        }
        let is_removed = |commit: Oid| repository.is_ancestor(commit, old) && !repository.is_ancestor(commit, now);
        let (mut standing, mut landed) = (Vec::new(), Vec::new());
        for story in self.view.stories() {
            match &story.end {
                Some(End::Merged { commit, .. }) if oid(commit).is_some_and(|commit| !repository.is_ancestor(commit, now)) => {
                    landed.push(story.id.to_string());
                }
                Some(_) => {}
                None => {
                    // What it has of the target, whatever it is stacked on.
                    let work = story.attempts.last().map(|attempt| attempt.change.as_ref().map_or(&attempt.base, |change| &change.commit));
                    let of_target = work.and_then(oid).and_then(|work| repository.merge_base(old, work));
                    standing.extend(of_target.filter(|base| is_removed(*base)).map(|base| (story.id.clone(), base)));
                }
            }
        }
        let told = !standing.is_empty() || !landed.is_empty();
        for (story, base) in standing {
            let base = base.to_string();
            let question = format!(
                "the target was rewritten, and this work stands on {}, which is not part of it any more. Shall that come back with it?",
                &base[..base.len().min(10)]
            );
            let next =
                format!("cofferdam reset {story} starts it afresh on the target as it is; cofferdam retry {story} goes on with both");
            self.tell(&story, blocked(&Trouble::new(question, next)))?;
        }
        if !landed.is_empty() {
            let detail =
                format!("the target was rewritten, and does not hold what these stories landed: {}", crate::base::text::list(&landed));
            self.watcher.say(&detail);
            self.append(None, vec![Kind::HumanNotified { reason: "rewritten".to_owned(), detail }])?;
        }
        Ok(told)
    }

    /// Runs the target's gates on a commit of it that nobody proved.
    pub(super) fn check_target(&mut self, tip: &CommitId) -> bool {
        let is_known = self.keeping.known.as_ref().is_some_and(|(commit, _)| commit == tip);
        if is_known || self.keeping.checking || self.keeping.landing {
            return false;
        }
        // A run before this one may have found it red by what is looked at after a landing: that is not forgotten.
        let target = self.store.overview().ok().and_then(|overview| overview.target);
        let was_red = target.is_some_and(|target| target.commit == *tip && target.green == Some(false));
        let gates = self.gates(if was_red { &[When::Always, When::Post] } else { &[When::Always] });
        let outside = was_red && gate::follows_outside(&self.reading.config);
        if gates.is_empty() && !outside {
            self.keeping.known = Some((tip.clone(), true));
            return true;
        }
        self.keeping.checking = true;
        let (shop, commit, target) = (self.shop.clone(), tip.clone(), self.reading.target.clone());
        self.spawn_other(move |stop| Done::Checked {
            looked: gate::follow(&shop, stop, &gates, outside.then_some(target.as_str()), &commit),
            commit,
        });
        true
    }

    pub(super) fn spawn_other(&mut self, act: impl FnOnce(&Stop) -> Done + Send + 'static) {
        match Stop::new() {
            Ok(stop) => {
                let stop = Arc::new(stop);
                self.keeping.others.push(stop.clone());
                self.keeping.tasks.spawn_blocking(move || act(&stop));
            }
            Err(error) => self.keeping.broken = Some(error.to_string()),
        }
    }

    pub(super) fn checked(&mut self, commit: CommitId, looked: Looked) -> Result<(), RunError> {
        self.keeping.checking = false;
        let Some(green) = looked.green else {
            if !self.stopping {
                self.keeping.broken = Some(format!("the gates cannot be run: {}", looked.why));
            }
            return Ok(());
        };
        let overview = self.store.overview()?;
        let is_news = overview.target.as_ref().is_none_or(|target| target.commit != commit || target.green != Some(green));
        if is_news {
            let detail = (!green).then(|| looked.why.clone());
            self.append(None, vec![Kind::TargetChecked { commit: commit.clone(), green, detail, evidence: looked.evidence }])?;
        }
        // Somebody moved the target, and what was red of it before is not there any more, or was looked at again.
        (self.keeping.fallen, self.keeping.fallen_at) = (None, None);
        self.red_target = !green;
        self.keeping.red = (!green).then_some(looked.why);
        self.keeping.known = Some((commit, green));
        Ok(())
    }

    /// What has landed was looked at: its own gates, and external CI. It was green when it landed, so what is red now was not proven there.
    pub(super) fn followed(&mut self, commit: CommitId, looked: Looked) -> Result<(), RunError> {
        self.keeping.following = self.keeping.following.saturating_sub(1);
        let Some(green) = looked.green else {
            if !self.stopping {
                self.keeping.broken = Some(format!("what has landed cannot be checked: {}", looked.why));
            }
            return Ok(());
        };
        self.keeping.fallen = (!green).then(|| looked.why.clone());
        self.keeping.fallen_at = (!green).then(|| commit.clone());
        self.red_target = !green;
        if green {
            return Ok(());
        }
        self.keeping.red = Some(looked.why.clone());
        self.append(None, vec![Kind::TargetChecked { commit, green, detail: Some(looked.why), evidence: looked.evidence }])
    }

    /// The integration gates, when they are due: every few landings, and at the end.
    pub(super) fn integrate(&mut self, is_end: bool) -> bool {
        let whens: &[When] = if is_end { &[When::Integration, When::Final] } else { &[When::Integration] };
        let gates = self.gates(whens);
        if gates.is_empty() || self.keeping.integrating || self.keeping.landing {
            return false;
        }
        let Ok(overview) = self.store.overview() else { return false };
        let last = overview.integration.as_ref();
        let landed = overview.landings.saturating_sub(last.map_or(0, |last| last.landings));
        let landings = overview.landings;
        let is_due = if is_end { landed > 0 } else { landed >= self.reading.config.run.integration_every };
        let Some(commit) = overview.target.map(|target| target.commit).filter(|_| is_due) else { return false };
        self.keeping.integrating = true;
        // Since the last green one, oldest first: one of them is at fault when it is red.
        let since = self.landings_since(last.filter(|last| last.green).map(|last| last.commit.clone()));
        let shop = self.shop.clone();
        self.spawn_other(move |stop| {
            let looked = gate::look(&shop, stop, &gates, &commit);
            let culprit = if looked.green == Some(false) { gate::culprit(&shop, stop, &gates, &since) } else { None };
            Done::Integrated { commit, landings, looked, culprit }
        });
        true
    }

    /// What landed after a commit, in the order of the target's history.
    fn landings_since(&self, green: Option<CommitId>) -> Vec<(StoryId, CommitId)> {
        let Some(repository) = &self.keeping.repository else { return Vec::new() };
        let green = green.and_then(|commit| commit.as_str().parse().ok());
        let mut landed: Vec<_> = self
            .view
            .stories()
            .filter_map(|story| match &story.end {
                Some(End::Merged { commit, story_commit, .. }) => {
                    let landed = commit.as_str().parse().ok()?;
                    // Of a batch, the merge of this story.
                    let share = candidate::share(repository, landed, story_commit.as_str().parse().ok()?).ok().flatten();
                    let own = share.map_or(landed, |(own, _)| own);
                    Some((story.id.clone(), own.to_string().parse().ok()?, own))
                }
                _ => None,
            })
            .filter(|(.., id)| green.is_none_or(|green| !repository.is_ancestor(*id, green)))
            .collect();
        landed.sort_by(|(.., a), (.., b)| {
            if a == b {
                std::cmp::Ordering::Equal
            } else if repository.is_ancestor(*a, *b) {
                std::cmp::Ordering::Less
            } else {
                std::cmp::Ordering::Greater
            }
        });
        landed.into_iter().map(|(story, commit, _)| (story, commit)).collect()
    }

    pub(super) fn integrated(&mut self, commit: CommitId, landings: u64, looked: Looked, culprit: Option<StoryId>) -> Result<(), RunError> {
        self.keeping.integrating = false;
        let Some(green) = looked.green else {
            if !self.stopping {
                self.keeping.broken = Some(format!("the gates cannot be run: {}", looked.why));
            }
            return Ok(());
        };
        let detail = (!green).then(|| looked.why.clone());
        self.append(
            None,
            vec![Kind::IntegrationChecked {
                commit,
                green,
                detail,
                evidence: looked.evidence.clone(),
                points_to: culprit.clone(),
                landings: Some(landings),
            }],
        )?;
        if let Some(story) = culprit {
            let findings = vec![Finding { text: looked.why.clone(), severity: Some("error".to_owned()), ..Finding::default() }];
            let why = "the integration gates are green before its landing, and red with it".to_owned();
            self.tell(&story, Kind::StoryReopened { why, findings, evidence: looked.evidence, onto: None, from: None })?;
        }
        Ok(())
    }

    /// How the run ends because of the target, when it does.
    pub(super) fn ended_by_target(&self) -> Option<(StopReason, Option<String>)> {
        if let Some(why) = &self.keeping.broken {
            return Some((StopReason::Error, Some(why.clone())));
        }
        let red = self.red_target.then(|| self.keeping.red.clone().unwrap_or_default())?;
        let first = red.lines().next().unwrap_or_default().to_owned();
        if let Some(question) = self.revert_question() {
            return Some((StopReason::RedTarget, Some(format!("the target is red: {first}; {question}"))));
        }
        Some((
            StopReason::RedTarget,
            Some(format!(
                "the target is red, so nothing may be built on it: {first}; see `cofferdam gate`; cofferdam run --repair-red STORY works on a story that mends it"
            )),
        ))
    }
}

//! The loop. It alone owns the store; whoever works for it tells it by letter what happened, and waits until that is on the disk.

mod queue;
mod target;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use super::around::{Counts, Ended, Glance, Reading, RunError, Signals, Source, Watcher, fingerprint};
use super::perform::{Desk, Hands, Letter, Trouble, Untold, Words, Work, blocked, perform};
use super::turn::{Action, Situation, Turn, key, turn};
use super::view::View;
use super::{crash, recover, sync};
use crate::base::id::{AttemptNo, CommitId, RunId, StoryId};
use crate::config::StartOn;
use crate::event::{Actor, AttemptEnd, Event, Kind, StopReason};
use crate::plan::Plan;
use crate::plan::next::Reason;
use crate::role::{Stop, Workshop};
use crate::spec;
use crate::store::health::{Health, Progress, Status};
use crate::store::{Filter, Store, StoreError, live};
use crate::story::{Effect, Phase, Story};

/// How often the store is looked at for what people in other terminals said, and the plan's files for what they wrote.
const LOOK: Duration = Duration::from_millis(250);
/// Letters that wait: a worker that is faster than the disk waits for it.
const LETTERS: usize = 64;
/// Looking whether the plan changed takes at most this part of the time.
const LOOK_SHARE: u32 = 20;
/// A batch of more events is a plan that was taken in: its stories are read in one go.
const LARGE: usize = 500;

/// What is being done.
struct Doing {
    stop: Arc<Stop>,
    effect: Effect,
}

struct Runner<'a> {
    store: Store,
    shop: Arc<Workshop>,
    run: RunId,
    reading: Reading,
    specs: BTreeMap<StoryId, Arc<spec::Story>>,
    overview: Option<Arc<str>>,
    source: &'a mut dyn Source,
    watcher: &'a mut dyn Watcher,
    fingerprint: u64,
    looked: Instant,
    look_cost: Duration,
    /// Why the plan's files cannot be used at this moment. Nothing new starts then.
    broken: Option<String>,
    view: View,
    /// The last event that was seen.
    seen: u64,
    paused: Option<String>,
    red_target: bool,
    named: Vec<StoryId>,
    only: Option<BTreeSet<usize>>,
    doing: HashMap<(StoryId, String), Doing>,
    names: BTreeSet<(StoryId, String)>,
    tasks: JoinSet<(StoryId, String)>,
    task_names: HashMap<tokio::task::Id, (StoryId, String)>,
    letters: mpsc::Receiver<Letter>,
    desk: Desk,
    words: Words,
    since: HashMap<StoryId, Instant>,
    began: Instant,
    spent_before: crate::event::Amount,
    beat: Option<Instant>,
    stopping: bool,
    /// Stories whose start was refused or impossible, with the state they had: not tried again until something changes.
    refused: HashMap<StoryId, u64>,
    keeping: queue::Keeping,
}

/// What a run begins with.
pub struct Beginning<'a> {
    pub store: Store,
    pub shop: Arc<Workshop>,
    pub reading: Reading,
    pub source: &'a mut dyn Source,
    pub watcher: &'a mut dyn Watcher,
    /// Stories that the run is about, with what they come after. Empty is all of them.
    pub named: Vec<StoryId>,
}

impl std::fmt::Debug for Beginning<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Beginning").field("named", &self.named).finish_non_exhaustive()
    }
}

/// Runs to the end. The caller holds the repository's lock, and has started everything that must come before threads.
///
/// # Errors
/// When the store cannot be written any more, or there is no plan to begin with.
pub async fn run(beginning: Beginning<'_>, signals: Signals) -> Result<Ended, RunError> {
    let Beginning { store, shop, reading, source, watcher, named } = beginning;
    let (sender, letters) = mpsc::channel(LETTERS);
    let now = Timestamp::now();
    let fingerprint = source.fingerprint();
    let mut runner = Runner {
        shop,
        run: RunId::new(now, nonce()),
        specs: BTreeMap::new(),
        overview: None,
        source,
        watcher,
        fingerprint,
        looked: Instant::now(),
        look_cost: Duration::ZERO,
        broken: None,
        view: View::default(),
        seen: 0,
        paused: None,
        red_target: false,
        named,
        only: None,
        doing: HashMap::new(),
        names: BTreeSet::new(),
        tasks: JoinSet::new(),
        task_names: HashMap::new(),
        letters,
        desk: Desk::new(sender),
        words: Words::default(),
        since: HashMap::new(),
        began: Instant::now(),
        spent_before: store.overview()?.spent,
        beat: None,
        stopping: false,
        refused: HashMap::new(),
        keeping: queue::Keeping::default(),
        store,
        reading,
    };
    runner.begin()?;
    let ended = runner.go_on(&signals).await;
    runner.end(ended)
}

/// A few digits that keep two runs of one second apart.
fn nonce() -> u32 {
    std::process::id() ^ (Timestamp::now().subsec_microsecond().unsigned_abs() << 12)
}

impl Runner<'_> {
    fn begin(&mut self) -> Result<(), RunError> {
        for story in self.store.all_facts()? {
            self.view.put(story);
        }
        let overview = self.store.overview()?;
        self.seen = overview.events;
        self.set_overview(&overview);
        live::clear(self.store.folder());
        self.beat(Status::Starting, None);
        if let Some(died) = recover::died(&overview) {
            self.append(None, vec![died])?;
        }
        let interrupted = recover::interrupted(self.view.stories());
        for (story, kind) in interrupted {
            crash::point("an attempt was interrupted");
            self.append(Some(&story), vec![kind])?;
            let salvaged = self.view.get(&story).and_then(|known| recover::salvaged(&self.shop, &known.story));
            if let Some(kind) = salvaged {
                self.append(Some(&story), vec![kind])?;
            }
        }
        let swept = recover::sweep(&self.shop, self.view.stories()).map_err(|error| RunError::Io(std::io::Error::other(error)))?;
        let (target, commit) = (self.reading.target.clone(), self.reading.commit.clone());
        let parallel = u32::try_from(self.reading.rules.parallel).unwrap_or(u32::MAX);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let started = Kind::RunStarted { pid: std::process::id(), version, parallel, target, commit };
        self.append(None, std::iter::once(started).chain(swept).collect())?;
        self.adopt()?;
        self.beat(Status::Running, None);
        Ok(())
    }

    /// Takes the plan that was read: its stories, and whom the run is about.
    fn adopt(&mut self) -> Result<(), RunError> {
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
    fn reread(&mut self) -> Result<(), RunError> {
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

    async fn go_on(&mut self, signals: &Signals) -> Result<(StopReason, Option<String>), RunError> {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Some(end) = tokio::task::block_in_place(|| self.turns(signals))? {
                return Ok(end);
            }
            tokio::select! {
                Some(letter) = self.letters.recv() => tokio::task::block_in_place(|| self.take(letter))?,
                Some(done) = self.keeping.tasks.join_next() => tokio::task::block_in_place(|| self.kept(done))?,
                Some(joined) = self.tasks.join_next_with_id() => tokio::task::block_in_place(|| self.joined(joined))?,
                _ = ticks.tick() => tokio::task::block_in_place(|| self.look())?,
                () = signals.first.cancelled(), if !self.stopping => self.stop(),
                () = signals.second.cancelled() => {
                    self.doing.values().for_each(|doing| doing.stop.ask());
                    self.keeping.ask_to_stop();
                    return Ok((StopReason::Interrupted, Some("stopped at once".to_owned())));
                }
            }
            // What came meanwhile is taken in one go: deciding costs more than storing.
            while let Ok(letter) = self.letters.try_recv() {
                tokio::task::block_in_place(|| self.take(letter))?;
            }
        }
    }

    /// Decides and begins, until there is nothing more to begin. Some when the run is over.
    fn turns(&mut self, signals: &Signals) -> Result<Option<(StopReason, Option<String>)>, RunError> {
        loop {
            if signals.first.is_cancelled() && !self.stopping {
                self.stop();
            }
            if self.stopping {
                let idle = self.doing.is_empty() && !self.keeping.is_busy();
                return Ok(idle.then_some((StopReason::Interrupted, None)));
            }
            self.reread()?;
            let mut acted = self.keep()?;
            let turn = self.decide();
            for action in turn.actions.clone() {
                acted |= self.act(action)?;
            }
            if !acted {
                let over = self.is_over(&turn);
                // Before the plan is declared done, all of it is looked at together.
                if over.is_some() && self.integrate(true) {
                    return Ok(None);
                }
                return Ok(over);
            }
        }
    }

    fn decide(&self) -> Turn {
        let held = self.held();
        turn(&Situation {
            plan: &self.reading.plan,
            rules: &self.reading.rules,
            view: &self.view,
            only: self.only.as_ref(),
            doing: &self.names,
            paused: held.as_deref(),
            red_target: self.red_target,
            now: Timestamp::now(),
        })
    }

    /// Why nothing new starts.
    fn held(&self) -> Option<String> {
        let pause = self.paused.as_ref().map(|why| if why.is_empty() { "a human paused it".to_owned() } else { why.clone() });
        pause
            .or_else(|| self.keeping.holds())
            .or_else(|| self.run_budget())
            .or_else(|| self.broken.as_ref().map(|_| "its files cannot be read as they are now".to_owned()))
    }

    /// The budget of the whole run that is spent, in words.
    fn run_budget(&self) -> Option<String> {
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

    /// Begins one thing. False when nothing came of it.
    fn act(&mut self, action: Action) -> Result<bool, RunError> {
        match action {
            Action::Perform { story, effect } => self.perform(&story, effect),
            Action::StopAttempt { story, attempt } => self.stop_attempt(&story, attempt),
            Action::Abandon { story, key } => {
                if let Some(doing) = self.doing.get(&(story, key)) {
                    doing.stop.ask();
                }
                Ok(false)
            }
            Action::Start { story } => self.start(&story),
        }
    }

    fn perform(&mut self, story: &StoryId, effect: Effect) -> Result<bool, RunError> {
        let Some(known) = self.view.get(story) else { return Ok(false) };
        let name = (story.clone(), key(&effect));
        let stop = Arc::new(Stop::new()?);
        let work = Work {
            story: known.story.clone(),
            spec: self.specs.get(story).cloned(),
            overview: self.overview.clone(),
            target: self.reading.commit.clone(),
            effect: effect.clone(),
        };
        let hands = Hands { shop: self.shop.clone(), desk: self.desk.clone(), stop: stop.clone(), words: self.words.clone() };
        let answer = name.clone();
        let task = self.tasks.spawn_blocking(move || {
            perform(&hands, &work);
            answer
        });
        self.task_names.insert(task.id(), name.clone());
        self.names.insert(name.clone());
        self.doing.insert(name, Doing { stop, effect });
        Ok(true)
    }

    fn stop_attempt(&mut self, story: &StoryId, attempt: AttemptNo) -> Result<bool, RunError> {
        let begun = (story.clone(), format!("attempt {attempt}"));
        if let Some(doing) = self.doing.get(&begun) {
            if !doing.stop.is_asked() {
                doing.stop.ask();
            }
            return Ok(false);
        }
        let end = AttemptEnd::Interrupted;
        let kind = Kind::AttemptEnded { attempt, end, summary: None, question: None, transcript: None, wall_ms: 0 };
        self.tell(story, kind)
    }

    fn start(&mut self, story: &StoryId) -> Result<bool, RunError> {
        let Some(known) = self.view.get(story) else { return Ok(false) };
        if self.refused.get(story) == Some(&self.seen) {
            return Ok(false);
        }
        let attempt = known.story.next_attempt();
        // What it comes after may have landed a moment ago, and the plan is read less often than that.
        let target = self.tip()?.unwrap_or_else(|| self.reading.commit.clone());
        let kind = match self.base(story, &target) {
            Ok(base) => Kind::StoryStarted { attempt, base },
            Err(trouble) => blocked(&trouble),
        };
        let told = self.tell(story, kind)?;
        if !told {
            self.refused.insert(story.clone(), self.seen);
        }
        Ok(told)
    }

    /// The commit that a story starts from: the target's, or what it is stacked on.
    fn base(&self, story: &StoryId, target: &CommitId) -> Result<CommitId, Trouble> {
        let Some(known) = self.view.get(story) else { return Ok(target.clone()) };
        // Earlier work is measured against what it was made from.
        if let (Some(_), Some(last)) = (&known.story.resume_from, known.story.attempts.last()) {
            return Ok(last.base.clone());
        }
        if self.reading.rules.start_on != StartOn::ReadyForReview {
            return Ok(target.clone());
        }
        let ready = known.story.spec.after.iter().filter_map(|id| match &self.view.get(id)?.phase {
            Phase::Ready { proof } | Phase::Queued { proof } | Phase::Merging { proof, .. } => Some((id.clone(), proof.commit().clone())),
            _ => None,
        });
        super::stack::base(&self.shop, target, &ready.collect::<Vec<_>>())
    }

    /// Stores one event of a story. False when the story refuses it.
    fn tell(&mut self, story: &StoryId, kind: Kind) -> Result<bool, RunError> {
        match self.append(Some(story), vec![kind]) {
            Ok(()) => Ok(true),
            Err(RunError::Store(StoreError::Refused(_))) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn event(&self, story: Option<StoryId>, kind: Kind) -> Event {
        Event { at: Timestamp::now(), run: Some(self.run.clone()), story, actor: Actor::Runner, kind }
    }

    fn append(&mut self, story: Option<&StoryId>, kinds: Vec<Kind>) -> Result<(), RunError> {
        let events = kinds.into_iter().map(|kind| self.event(story.cloned(), kind)).collect();
        crash::point("before an event is stored");
        self.store.append(events)?;
        crash::point("an event is stored");
        self.catch_up()
    }

    /// Takes what was stored since, by us or by others, into the view.
    fn catch_up(&mut self) -> Result<(), RunError> {
        let mut new = Vec::new();
        self.store.events(&Filter { since: self.seen, ..Filter::default() }, |stored| {
            new.push(stored);
            ControlFlow::Continue(())
        })?;
        let Some(last) = new.last() else { return Ok(()) };
        self.seen = last.seq;
        let touched: BTreeSet<StoryId> = new.iter().filter_map(|stored| stored.story.as_deref()?.parse().ok()).collect();
        let mut before = HashMap::new();
        let all = if new.len() > LARGE { self.store.all_facts()? } else { Vec::new() };
        let mut all: HashMap<StoryId, Story> = all.into_iter().map(|story| (story.id.clone(), story)).collect();
        for id in &touched {
            if let Some(known) = self.view.get(id) {
                before.insert(id.clone(), known.phase.name());
            }
            let now = match all.remove(id) {
                Some(story) => Some(story),
                None => self.store.story(id)?,
            };
            if let Some(story) = now {
                self.view.put(story);
            }
            let now = self.view.get(id).map(|known| known.phase.name());
            if now != before.get(id).copied() {
                self.since.insert(id.clone(), Instant::now());
                self.words.forget(id);
            }
        }
        if new.iter().any(|stored| stored.story.is_none()) {
            let overview = self.store.overview()?;
            self.set_overview(&overview);
        }
        for stored in &new {
            let id: Option<StoryId> = stored.story.as_deref().and_then(|id| id.parse().ok());
            let known = id.as_ref().and_then(|id| self.view.get(id));
            let moved = match &id {
                Some(id) if new.len() <= LARGE => self.store.moved(id.as_str(), stored.seq)?,
                // Of so many, the last event of a story tells where it stands.
                Some(_) => known.map(|known| known.phase.name().to_owned()),
                None => None,
            };
            let moved = moved.as_deref().zip(known.map(|known| &known.phase));
            self.watcher.stored(stored, moved, known.map(|known| &known.story));
        }
        Ok(())
    }

    fn set_overview(&mut self, overview: &crate::store::fold::Overview) {
        self.paused.clone_from(&overview.paused);
        self.red_target = overview.target.as_ref().is_some_and(|target| target.green == Some(false));
    }

    fn take(&mut self, letter: Letter) -> Result<(), RunError> {
        let Letter { story, kinds, reply } = letter;
        let answer = match self.append(story.as_ref(), kinds) {
            Ok(()) => Ok(()),
            Err(RunError::Store(StoreError::Refused(refused))) => Err(Untold::Refused(refused)),
            Err(error) => {
                drop(reply.send(Err(Untold::Over)));
                return Err(error);
            }
        };
        // A worker that is gone does not wait for the answer.
        drop(reply.send(answer));
        Ok(())
    }

    /// One piece of work has ended, with its answer or without.
    fn joined(&mut self, joined: Result<(tokio::task::Id, (StoryId, String)), tokio::task::JoinError>) -> Result<(), RunError> {
        let (task, panicked) = match joined {
            Ok((task, _)) => (task, false),
            Err(error) => (error.id(), error.is_panic()),
        };
        let Some(name) = self.task_names.remove(&task) else { return Ok(()) };
        self.names.remove(&name);
        let Some(Doing { stop, effect }) = self.doing.remove(&name) else { return Ok(()) };
        // Letters that it sent before it ended were taken: each waited for its answer.
        let is_wanted = self.view.get(&name.0).is_some_and(|known| known.wanted.contains(&effect));
        if is_wanted && !stop.is_asked() && !self.stopping {
            let what = if panicked { "it broke while working on this" } else { "it came to no answer" };
            let trouble = Trouble::new(format!("cofferdam itself is at fault: {what} ({})", name.1), format!("cofferdam retry {}", name.0));
            self.tell(&name.0, blocked(&trouble))?;
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), RunError> {
        self.catch_up()?;
        if self.beat.is_none_or(|last| last.elapsed() >= self.reading.config.health.interval) {
            self.beat(Status::Running, None);
        }
        let glance = Glance {
            view: &self.view,
            plan: &self.reading.plan,
            only: self.only.as_ref(),
            words: &self.words,
            since: &self.since,
            paused: self.paused.as_deref(),
            stopping: self.stopping,
        };
        self.watcher.look(&glance);
        self.words.write_down(self.store.folder());
        Ok(())
    }

    fn beat(&mut self, status: Status, detail: Option<String>) {
        let counts = self.counts();
        let progress = Progress { merged: counts.landed as u64, total: counts.total as u64 };
        let health = Health {
            version: 1,
            status,
            pid: std::process::id(),
            heartbeat: Timestamp::now(),
            run: Some(self.run.clone()),
            progress,
            detail,
        };
        // A heartbeat that cannot be written is seen by its age; the run is not ended by it.
        drop(health.write(self.store.folder()));
        self.beat = Some(Instant::now());
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.watcher.say("stopping: agents are ended, and what they wrote is kept. Once more ends everything at once.");
        self.doing.values().for_each(|doing| doing.stop.ask());
        self.keeping.ask_to_stop();
    }

    /// Whether nothing can happen any more without a human.
    fn is_over(&self, turn: &Turn) -> Option<(StopReason, Option<String>)> {
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

    fn is_ours(&self, position: usize) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(&position))
    }

    fn counts(&self) -> Counts {
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

    fn end(&mut self, ended: Result<(StopReason, Option<String>), RunError>) -> Result<Ended, RunError> {
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

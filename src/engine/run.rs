//! The loop. It alone owns the store; whoever works for it tells it by letter what happened, and waits until that is on the disk.

mod ending;
mod fault;
mod plan;
mod queue;
mod record;
mod revert;
mod target;
mod wired;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use super::around::{Counts, Ended, Glance, Reading, RunError, Signals, Source, Watcher, fingerprint};
use super::notify::Notifier;
use super::perform::{Desk, Hands, Letter, Trouble, Words, Work, blocked, perform};
use super::turn::{Action, Situation, Turn, key, turn};
use super::view::View;
use super::{crash, recover};
use crate::base::id::{AttemptNo, CommitId, RunId, StoryId};
use crate::config::StartOn;
use crate::event::{AttemptEnd, Kind, StopReason};
use crate::role::{Stop, Workshop};
use crate::spec;
use crate::store::Store;
use crate::store::health::Status;
use crate::store::live;
use crate::story::{Effect, Phase};

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
    refused_until: Option<Timestamp>,
    /// Told to mend a red target: the named stories may start, and land, on it.
    repairs: bool,
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
    notifier: Option<Notifier>,
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
    /// They mend a red target, and may start on it.
    pub repairs: bool,
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
    let Beginning { store, shop, reading, source, watcher, named, repairs } = beginning;
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
        refused_until: None,
        repairs,
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
        notifier: None,
        store,
        reading,
    };
    runner.begin()?;
    let ended = runner.go_on(&signals).await;
    let notifier = runner.notifier.take();
    let ended = runner.end(ended);
    // A short run ends before anybody looked: what its program did not take is said here.
    if let Some(trouble) = notifier.and_then(|notifier| tokio::task::block_in_place(|| notifier.finish())) {
        runner.watcher.say(&trouble);
    }
    ended
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
        self.keeping.last_target = overview.target.as_ref().map(|target| target.commit.clone());
        self.seen = overview.events;
        self.set_overview(&overview);
        let notifier = Notifier::start(self.store.folder(), self.shop.root(), &self.reading.config.notify, overview.events);
        self.notifier = notifier.map_err(|why| RunError::Io(std::io::Error::other(why)))?;
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
        self.try_again()?;
        self.beat(Status::Running, None);
        Ok(())
    }

    /// What this host kept from starting: whoever begins a run may have mended it, and need not say so for each story.
    fn try_again(&mut self) -> Result<(), RunError> {
        let held: Vec<StoryId> =
            self.view.stories().filter(|story| story.end.is_none() && story.is_held_by_host()).map(|story| story.id.clone()).collect();
        for story in held {
            self.tell(&story, Kind::StoryUnblocked { why: "a new run tries it again".to_owned() })?;
        }
        Ok(())
    }

    async fn go_on(&mut self, signals: &Signals) -> Result<(StopReason, Option<String>), RunError> {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if let Some(end) = tokio::task::block_in_place(|| self.turns(signals))? {
                return Ok(end);
            }
            tokio::select! {
                Some(letter) = self.letters.recv() => tokio::task::block_in_place(|| self.take_all(letter))?,
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
                tokio::task::block_in_place(|| self.take_all(letter))?;
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
            refused_until: self.refused_until,
            repairs: self.repairs,
            now: Timestamp::now(),
        })
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

    fn stop(&mut self) {
        self.stopping = true;
        self.watcher.say("stopping: agents are ended, and what they wrote is kept. Once more ends everything at once.");
        self.doing.values().for_each(|doing| doing.stop.ask());
        self.keeping.ask_to_stop();
    }
}

//! What is stored, and what is taken from the store: every event goes through here.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::{Glance, LARGE, RunError, Runner};
use crate::agents::call::Agent;
use crate::base::id::StoryId;
use crate::config::Role;
use crate::engine::crash;
use crate::engine::perform::{Letter, Untold};
use crate::event::{Actor, Event, Kind};
use crate::store::health::{Health, Progress, Status};
use crate::store::{Filter, StoreError};
use crate::story::Story;

/// Longer pauses of a provider are not believed.
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(7 * 24);

impl Runner<'_> {
    /// Stores one event of a story. False when the story refuses it.
    pub(super) fn tell(&mut self, story: &StoryId, kind: Kind) -> Result<bool, RunError> {
        match self.append(Some(story), vec![kind]) {
            Ok(()) => Ok(true),
            Err(RunError::Store(StoreError::Refused(_))) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn event(&self, story: Option<StoryId>, kind: Kind) -> Event {
        Event { at: Timestamp::now(), run: Some(self.run.clone()), story, actor: Actor::Runner, kind }
    }

    pub(super) fn append(&mut self, story: Option<&StoryId>, kinds: Vec<Kind>) -> Result<(), RunError> {
        let events = kinds.into_iter().map(|kind| self.event(story.cloned(), kind)).collect();
        crash::point("before an event is stored");
        self.store.append(events)?;
        crash::point("an event is stored");
        self.catch_up()
    }

    /// Takes what was stored since, by us or by others, into the view.
    pub(super) fn catch_up(&mut self) -> Result<(), RunError> {
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

    pub(super) fn set_overview(&mut self, overview: &crate::store::fold::Overview) {
        self.paused.clone_from(&overview.paused);
        self.refused_until = self.implementers_wait(overview);
        self.red_target = self.keeping.fallen.is_some() || overview.target.as_ref().is_some_and(|target| target.green == Some(false));
    }

    /// Until when the provider of whoever implements refuses; of a program that may use any, the latest of all.
    fn implementers_wait(&self, overview: &crate::store::fold::Overview) -> Option<Timestamp> {
        let latest = overview.providers.values().max()?;
        let agent = self.reading.config.agents.get(&Role::Implementer)?;
        let provider = Agent::load(agent, "", &self.shop).ok().and_then(|agent| agent.provider().map(str::to_owned));
        let until = provider.map_or(Some(latest), |provider| overview.providers.get(&provider))?;
        // A story does not believe in more either.
        Some((*until).min(Timestamp::now().saturating_add(LONGEST_PAUSE).unwrap_or(Timestamp::MAX)))
    }

    /// Takes a letter, and those that came meanwhile, with one write to the disk: it costs as much as for one of them.
    pub(super) fn take_all(&mut self, first: Letter) -> Result<(), RunError> {
        let mut letters = vec![first];
        while let Ok(letter) = self.letters.try_recv() {
            letters.push(letter);
        }
        let events = letters.iter().flat_map(|letter| letter.kinds.iter().map(|kind| self.event(letter.story.clone(), kind.clone())));
        let stored = if letters.len() > 1 { self.append_events(events.collect()) } else { Ok(false) };
        if !stored? {
            // One is refused, or there is only one: each gets its own answer.
            return letters.into_iter().try_for_each(|letter| self.take(letter));
        }
        let mut suspects = Vec::new();
        for letter in letters {
            suspects.extend(letter.kinds.into_iter().filter(|kind| matches!(kind, Kind::GateSuspected { .. })));
            drop(letter.reply.send(Ok(())));
        }
        self.suspected(&suspects)
    }

    /// False when a story refuses one of them: nothing is stored then.
    fn append_events(&mut self, events: Vec<Event>) -> Result<bool, RunError> {
        crash::point("before an event is stored");
        match self.store.append(events) {
            Ok(_) => {}
            Err(StoreError::Refused(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        crash::point("an event is stored");
        self.catch_up()?;
        Ok(true)
    }

    fn take(&mut self, letter: Letter) -> Result<(), RunError> {
        let Letter { story, kinds, reply } = letter;
        let suspects: Vec<Kind> = kinds.iter().filter(|kind| matches!(kind, Kind::GateSuspected { .. })).cloned().collect();
        let answer = match self.append(story.as_ref(), kinds) {
            Ok(()) => Ok(()),
            Err(RunError::Store(StoreError::Refused(refused))) => Err(Untold::Refused(refused)),
            Err(error) => {
                drop(reply.send(Err(Untold::Over)));
                return Err(error);
            }
        };
        let is_told = answer.is_ok();
        // A worker that is gone does not wait for the answer.
        drop(reply.send(answer));
        if is_told { self.suspected(&suspects) } else { Ok(()) }
    }

    pub(super) fn look(&mut self) -> Result<(), RunError> {
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
        if let Some(trouble) = self.notifier.as_ref().and_then(crate::engine::notify::Notifier::trouble) {
            self.watcher.say(&trouble);
        }
        Ok(())
    }

    pub(super) fn beat(&mut self, status: Status, detail: Option<String>) {
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
            stale_after_s: u32::try_from(self.reading.config.health.stale_after.as_secs().max(1)).unwrap_or(u32::MAX),
        };
        // A heartbeat that cannot be written is seen by its age; the run is not ended by it.
        drop(health.write(self.store.folder()));
        self.beat = Some(Instant::now());
    }
}

//! Appending: events, what follows from them, and the caches, in one transaction.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use rusqlite::{Connection, TransactionBehavior};

use super::chain::{GENESIS, Line};
use super::fold::{Applied, View};
use super::{Store, StoreError, view};
use crate::base::id::StoryId;
use crate::event::{Actor, EVENT_VERSION, Event, Kind};
use crate::story::{Effect, wanted};

/// Larger texts are evidence, not events.
const LARGEST_EVENT: usize = 256 << 10;

/// What was stored.
#[derive(Debug, Default)]
pub struct Appended {
    /// The first and the last number. Equal for a single event that nothing followed from.
    pub first: u64,
    pub last: u64,
    /// What is to be done now, and was not to be done before.
    pub effects: Vec<(StoryId, Effect)>,
}

impl Store {
    /// Appends events, all or none, and the events that say what follows from them. When this returns, they are on the disk.
    ///
    /// # Errors
    /// When a story refuses one of them, or the store cannot be written. Nothing is stored then.
    pub fn append(&mut self, events: Vec<Event>) -> Result<Appended, StoreError> {
        self.still_there()?;
        let path = self.path.clone();
        let wrap = |error| StoreError::from_sqlite(&path, error);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrap)?;
        let mut writer = Writer::new(&transaction).map_err(|error| error.at(&path))?;
        for event in events {
            writer.take(event).map_err(|error| error.at(&path))?;
        }
        let appended = writer.finish().map_err(|error| error.at(&path))?;
        transaction.commit().map_err(wrap)?;
        Ok(appended)
    }

    /// Appends one event.
    ///
    /// # Errors
    /// As [`Store::append`].
    pub fn append_one(&mut self, event: Event) -> Result<Appended, StoreError> {
        self.append(vec![event])
    }
}

/// An error inside a transaction, before the database's path is put to it.
pub(super) enum WriteError {
    Sqlite(rusqlite::Error),
    Other(StoreError),
}

impl From<rusqlite::Error> for WriteError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for WriteError {
    fn from(error: StoreError) -> Self {
        Self::Other(error)
    }
}

impl WriteError {
    pub(super) fn at(self, path: &std::path::Path) -> StoreError {
        match self {
            Self::Sqlite(error) => StoreError::from_sqlite(path, error),
            Self::Other(error) => error,
        }
    }
}

struct Writer<'a> {
    connection: &'a Connection,
    /// The overview, and the stories and sums that these events touch.
    view: View,
    next: u64,
    /// Stories, and the last event that concerned each.
    touched: BTreeMap<StoryId, u64>,
    appended: Appended,
}

impl<'a> Writer<'a> {
    fn new(connection: &'a Connection) -> Result<Self, WriteError> {
        let overview = view::load_overview(connection)?;
        let next = overview.events + 1;
        let appended = Appended { first: next, ..Appended::default() };
        Ok(Self { connection, view: View { overview, ..View::default() }, next, touched: BTreeMap::new(), appended })
    }

    fn take(&mut self, event: Event) -> Result<(), WriteError> {
        let mut queue = VecDeque::from([event]);
        while let Some(mut event) = queue.pop_front() {
            // Milliseconds are what is stored, so they are what is decided by: a fold over the log comes to the same.
            event.at = Timestamp::from_millisecond(event.at.as_millisecond()).unwrap_or(event.at);
            view::load_touched(self.connection, &mut self.view, &event)?;
            let applied = self.view.apply(&event).map_err(StoreError::from)?;
            self.insert(&event, &applied)?;
            let follow = |kind: Kind| Event { kind, actor: Actor::Runner, ..event.clone() };
            for kind in applied.record.into_iter().rev() {
                queue.push_front(follow(kind));
            }
            if let Some(id) = &event.story {
                self.appended.effects.extend(applied.effects.into_iter().map(|effect| (id.clone(), effect)));
                self.touched.insert(id.clone(), self.appended.last);
            }
        }
        Ok(())
    }

    fn insert(&mut self, event: &Event, applied: &Applied) -> Result<(), WriteError> {
        let data = event.kind.data().to_string();
        if data.len() > LARGEST_EVENT {
            return Err(StoreError::TooLarge { kind: event.kind.name().to_owned(), bytes: data.len() }.into());
        }
        let (at, actor) = (event.at.to_string(), event.actor.to_string());
        let head = &self.view.overview.head;
        let line = Line {
            seq: self.next,
            version: EVENT_VERSION,
            prev_hash: if head.is_empty() { GENESIS } else { head },
            at: &at,
            run: event.run.as_ref().map(crate::base::id::RunId::as_str),
            story: event.story.as_ref().map(StoryId::as_str),
            kind: event.kind.name(),
            actor: &actor,
            data: &data,
        };
        let hash = line.hash();
        let sql = "INSERT INTO events (seq, version, prev_hash, hash, at, run, story, kind, actor, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let version = i64::from(line.version);
        statement.execute(rusqlite::params![
            line.seq as i64,
            version,
            line.prev_hash,
            hash,
            line.at,
            line.run,
            line.story,
            line.kind,
            line.actor,
            line.data
        ])?;
        view::write_event(self.connection, self.next, event, applied)?;
        self.view.overview.head = hash;
        self.appended.last = self.next;
        self.next += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<Appended, WriteError> {
        for (id, changed) in &self.touched {
            if let Some(story) = self.view.stories.get(id) {
                view::write_story(self.connection, story, *changed)?;
            }
        }
        for (key, amount) in &self.view.spend {
            view::write_spend(self.connection, key, amount)?;
        }
        view::write_overview(self.connection, &self.view.overview)?;
        // An effect that a later event of the same batch made void is not asked for.
        let stories = &self.view.stories;
        self.appended.effects.retain(|(id, effect)| stories.get(id).is_some_and(|story| wanted(story).contains(effect)));
        Ok(self.appended)
    }
}

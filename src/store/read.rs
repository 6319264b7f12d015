//! Reading: events in pages, so that no reader holds a transaction for long, and the caches.

use std::ops::ControlFlow;

use rusqlite::{OptionalExtension, params};

use super::chain::{Broken, Line, Walker};
use super::fold::{Overview, SpendKey};
use super::{Store, StoreError, view};
use crate::base::id::{EvidenceId, StoryId};
use crate::event::{Actor, Amount, Event, Kind};
use crate::story::Story;

/// Events read at once. A page is one short transaction.
const PAGE: i64 = 1_000;

/// An event with its place in the chain, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub seq: u64,
    pub version: u32,
    pub prev_hash: String,
    pub hash: String,
    pub at: String,
    pub run: Option<String>,
    pub story: Option<String>,
    pub kind: String,
    pub actor: String,
    /// Canonical JSON.
    pub data: String,
}

impl Stored {
    pub fn line(&self) -> Line<'_> {
        Line {
            seq: self.seq,
            version: self.version,
            prev_hash: &self.prev_hash,
            at: &self.at,
            run: self.run.as_deref(),
            story: self.story.as_deref(),
            kind: &self.kind,
            actor: &self.actor,
            data: &self.data,
        }
    }

    /// The line of `log --json`: the hashed bytes, with the hash as the last key.
    pub fn json(&self) -> String {
        let canonical = self.line().canonical();
        format!("{},\"hash\":\"{}\"}}", canonical.strip_suffix('}').unwrap_or(&canonical), self.hash)
    }

    /// Reads such a line.
    ///
    /// # Errors
    /// When it is none. Whether its hash is right is another question.
    pub fn parse(line: &str) -> Result<Self, String> {
        let value: serde_json::Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let text = |key: &str| value.get(key).and_then(serde_json::Value::as_str).map(str::to_owned);
        let needed = |key: &str| text(key).ok_or_else(|| format!("it has no `{key}`"));
        let number = |key: &str| value.get(key).and_then(serde_json::Value::as_u64).ok_or_else(|| format!("it has no `{key}`"));
        Ok(Self {
            seq: number("seq")?,
            version: u32::try_from(number("version")?).map_err(|error| error.to_string())?,
            prev_hash: needed("prev_hash")?,
            hash: needed("hash")?,
            at: needed("at")?,
            run: text("run"),
            story: text("story"),
            kind: needed("kind")?,
            actor: needed("actor")?,
            data: value.get("data").ok_or("it has no `data`")?.to_string(),
        })
    }

    /// The event itself.
    ///
    /// # Errors
    /// When the data of a known kind cannot be read.
    pub fn event(&self) -> Result<Event, StoreError> {
        let unreadable = |what: &str, why: &dyn std::fmt::Display| StoreError::Damaged {
            path: super::DATABASE.into(),
            detail: format!("the {what} of event {} cannot be read: {why}", self.seq),
        };
        let data = serde_json::from_str(&self.data).map_err(|error| unreadable("data", &error))?;
        let kind = Kind::from_parts(&self.kind, data).map_err(|source| StoreError::Unreadable { seq: self.seq, source })?;
        let run = self.run.as_deref().map(str::parse).transpose().map_err(|error| unreadable("run", &error))?;
        let story = self.story.as_deref().map(str::parse).transpose().map_err(|error| unreadable("story", &error))?;
        let actor = self.actor.parse().unwrap_or(Actor::Other(self.actor.clone()));
        Ok(Event { at: self.at.parse().map_err(|error| unreadable("time", &error))?, run, story, actor, kind })
    }
}

pub(super) fn stored_from_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Stored> {
    Ok(Stored {
        seq: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
        version: row.get(1)?,
        prev_hash: row.get(2)?,
        hash: row.get(3)?,
        at: row.get(4)?,
        run: row.get(5)?,
        story: row.get(6)?,
        kind: row.get(7)?,
        actor: row.get(8)?,
        data: row.get(9)?,
    })
}

/// Which events.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those after this number.
    pub since: u64,
    pub story: Option<StoryId>,
    /// Only the last so many.
    pub last: Option<u64>,
}

/// A line of the list of stories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoryRow {
    pub id: String,
    pub title: String,
    pub epic: Option<String>,
    pub phase: String,
    pub attempt: u32,
    pub cycle: u32,
    pub reason: Option<String>,
    pub question: Option<String>,
    pub next: Option<String>,
    pub commit: Option<String>,
    pub tree: Option<String>,
    pub base: Option<String>,
    pub changed_seq: u64,
}

/// An event that moved a story from one phase to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    pub seq: u64,
    pub at: String,
    pub kind: String,
    pub from: Option<String>,
    pub to: String,
}

/// An event that rests on a piece of evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceUse {
    pub id: EvidenceId,
    pub seq: u64,
    pub story: Option<String>,
    pub what: String,
}

impl Store {
    /// Hands every event that fits to `each`, in order, until it breaks off. Costs what it hands out, not what is stored.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events(&self, filter: &Filter, mut each: impl FnMut(Stored) -> ControlFlow<()>) -> Result<(), StoreError> {
        // A follower of a log that was deleted would wait for ever.
        self.still_there()?;
        let mut since = signed(filter.since);
        if let Some(last) = filter.last {
            since = since.max(self.before_last(filter, last)?);
        }
        // The clause without a story would keep SQLite from using the index of the stories.
        let story = if filter.story.is_some() { "AND story = ?3" } else { "AND ?3 IS NULL" };
        let sql = format!(
            "SELECT seq, version, prev_hash, hash, at, run, story, kind, actor, data FROM events WHERE seq > ?1 {story} ORDER BY seq LIMIT ?2"
        );
        loop {
            let mut statement = self.sql(self.connection.prepare_cached(&sql))?;
            let rows = statement.query_map(params![since, PAGE, filter.story.as_ref().map(StoryId::as_str)], stored_from_row);
            let page: Vec<Stored> = self.sql(rows.and_then(Iterator::collect))?;
            let Some(last) = page.last() else { return Ok(()) };
            since = signed(last.seq);
            for stored in page {
                if each(stored).is_break() {
                    return Ok(());
                }
            }
        }
    }

    /// The number before the last `count` events that fit.
    fn before_last(&self, filter: &Filter, count: u64) -> Result<i64, StoreError> {
        let story = if filter.story.is_some() { "WHERE story = ?2" } else { "WHERE ?2 IS NULL" };
        let sql = format!("SELECT seq FROM events {story} ORDER BY seq DESC LIMIT 1 OFFSET ?1");
        let parameters = params![signed(count), filter.story.as_ref().map(StoryId::as_str)];
        let found = self.connection.query_row(&sql, parameters, |row| row.get(0)).optional();
        Ok(self.sql(found)?.unwrap_or(0))
    }

    /// Recomputes the chain. The inner result is how many events held and the last hash, or where it breaks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn verify(&self) -> Result<Result<(u64, String), Broken>, StoreError> {
        let mut walker = Walker::default();
        let mut broken = None;
        self.events(&Filter::default(), |stored| {
            let taken = walker
                .take(&stored)
                .and_then(|()| stored.event().map(drop).map_err(|error| Broken { seq: stored.seq, why: error.to_string() }));
            match taken {
                Ok(()) => ControlFlow::Continue(()),
                Err(found) => {
                    broken = Some(found);
                    ControlFlow::Break(())
                }
            }
        })?;
        let (count, head) = walker.head();
        Ok(match broken {
            Some(broken) => Err(broken),
            None => Ok((count, head.to_owned())),
        })
    }

    /// A number that differs when another connection has changed the store since it was last asked. Costs some microseconds.
    ///
    /// # Errors
    /// When the store is gone, or cannot be read.
    pub fn version(&self) -> Result<i64, StoreError> {
        self.still_there()?;
        self.sql(self.connection.pragma_query_value(None, "data_version", |row| row.get(0)))
    }

    /// What is known beside the stories.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn overview(&self) -> Result<Overview, StoreError> {
        view::load_overview(&self.connection).map_err(|error| error.at(&self.path))
    }

    /// The list of stories, in the plan's order.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn stories(&self) -> Result<Vec<StoryRow>, StoreError> {
        let sql = "SELECT id, title, epic, phase, attempt, cycle, reason, question, next, commit_id, tree, base, changed_seq FROM stories ORDER BY ordinal, id";
        let mut statement = self.sql(self.connection.prepare_cached(sql))?;
        let rows = statement.query_map([], |row| {
            Ok(StoryRow {
                id: row.get(0)?,
                title: row.get(1)?,
                epic: row.get(2)?,
                phase: row.get(3)?,
                attempt: row.get(4)?,
                cycle: row.get(5)?,
                reason: row.get(6)?,
                question: row.get(7)?,
                next: row.get(8)?,
                commit: row.get(9)?,
                tree: row.get(10)?,
                base: row.get(11)?,
                changed_seq: u64::try_from(row.get::<_, i64>(12)?).unwrap_or(0),
            })
        });
        self.sql(rows.and_then(Iterator::collect))
    }

    /// All facts of one story.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn story(&self, id: &StoryId) -> Result<Option<Story>, StoreError> {
        self.sql(view::load_story(&self.connection, id))
    }

    /// All facts of all stories, in the plan's order: for a runner that starts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn all_facts(&self) -> Result<Vec<Story>, StoreError> {
        let mut statement =
            self.sql(self.connection.prepare_cached("SELECT f.json FROM stories s JOIN facts f ON f.id = s.id ORDER BY s.ordinal, s.id"))?;
        let rows = statement.query_map([], |row| row.get::<_, String>(0));
        let texts: Vec<String> = self.sql(rows.and_then(Iterator::collect))?;
        let damaged = |error: serde_json::Error| StoreError::Damaged {
            path: self.path.clone(),
            detail: format!("the cache of a story cannot be read: {error}"),
        };
        texts.iter().map(|text| serde_json::from_str(text).map_err(damaged)).collect()
    }

    /// How a story came to be where it is.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn transitions(&self, id: &StoryId) -> Result<Vec<Transition>, StoreError> {
        let sql = "SELECT t.seq, e.at, e.kind, t.from_phase, t.to_phase FROM transitions t JOIN events e ON e.seq = t.seq WHERE t.story = ?1 ORDER BY t.seq";
        let mut statement = self.sql(self.connection.prepare_cached(sql))?;
        let rows = statement.query_map([id.as_str()], |row| {
            Ok(Transition {
                seq: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
                at: row.get(1)?,
                kind: row.get(2)?,
                from: row.get(3)?,
                to: row.get(4)?,
            })
        });
        self.sql(rows.and_then(Iterator::collect))
    }

    /// The phase that this event moved the story to. None when it moved it nowhere.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn moved(&self, story: &str, seq: u64) -> Result<Option<String>, StoreError> {
        let mut statement = self.sql(self.connection.prepare_cached("SELECT to_phase FROM transitions WHERE story = ?1 AND seq = ?2"))?;
        self.sql(statement.query_row(params![story, signed(seq)], |row| row.get(0)).optional())
    }

    /// What was spent, by story, role and model.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn spend(&self) -> Result<Vec<(SpendKey, Amount)>, StoreError> {
        let sql =
            "SELECT story, role, model, model_calls, tokens_in, tokens_out, cost_microusd, wall_ms FROM spend ORDER BY story, role, model";
        let mut statement = self.sql(self.connection.prepare_cached(sql))?;
        let rows = statement.query_map([], |row| Ok(((row.get(0)?, row.get(1)?, row.get(2)?), view::amount_from(row, 3)?)));
        self.sql(rows.and_then(Iterator::collect))
    }

    /// The evidence of a story, or all of it, in the order in which it came.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn evidence_uses(&self, story: Option<&StoryId>) -> Result<Vec<EvidenceUse>, StoreError> {
        let clause = if story.is_some() { "WHERE story = ?1" } else { "WHERE ?1 IS NULL" };
        let mut statement =
            self.sql(self.connection.prepare_cached(&format!("SELECT id, seq, story, what FROM evidence {clause} ORDER BY seq, id")))?;
        let rows = statement.query_map([story.map(StoryId::as_str)], |row| {
            let id: String = row.get(0)?;
            let id =
                id.parse().map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))?;
            Ok(EvidenceUse { id, seq: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0), story: row.get(2)?, what: row.get(3)? })
        });
        self.sql(rows.and_then(Iterator::collect))
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

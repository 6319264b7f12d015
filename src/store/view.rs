//! The caches in the database: written with every append, read by the faces, made anew from the events.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::append::WriteError;
use super::fold::{Applied, Overview, SpendKey, View};
use super::read::{Stored, stored_from_row};
use super::{Store, StoreError};
use crate::base::id::StoryId;
use crate::event::{Amount, Event, Kind};
use crate::story::facts::{End, Story};
use crate::story::{Phase, budget, phase};

/// The version of the fold and of `view.sql`. A store whose caches are of another one gets new ones when it is opened.
const VIEW_VERSION: i64 = 2;

impl Store {
    /// Makes the caches anew when they are missing, or of another version.
    pub(super) fn refresh_views(&mut self) -> Result<(), StoreError> {
        let version = self.connection.query_row("SELECT version FROM view_version", [], |row| row.get::<_, i64>(0)).optional();
        // Without the table the statement itself fails: no caches at all.
        if !matches!(version, Ok(Some(VIEW_VERSION))) {
            return self.rebuild();
        }
        let known = self.overview()?.events;
        let last = self.sql(self.connection.query_row("SELECT COALESCE(MAX(seq), 0) FROM events", [], |row| row.get::<_, i64>(0)))?;
        match u64::try_from(last).unwrap_or(0).cmp(&known) {
            std::cmp::Ordering::Equal => Ok(()),
            // A reader that opens the store between two appends of a writer sees both numbers of one moment only inside a transaction.
            _ => self.compare_again(),
        }
    }

    fn compare_again(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let wrap = |error| StoreError::from_sqlite(&path, error);
        let transaction = self.connection.transaction().map_err(wrap)?;
        let last: i64 = transaction.query_row("SELECT COALESCE(MAX(seq), 0) FROM events", [], |row| row.get(0)).map_err(wrap)?;
        let known = load_overview(&transaction).map_err(|error| error.at(&path))?.events;
        drop(transaction);
        if u64::try_from(last).unwrap_or(0) == known {
            return Ok(());
        }
        let detail =
            format!("its log ends at event {last}, and its views know {known} events: events were taken away or put in by another program");
        Err(StoreError::Damaged { path, detail })
    }

    /// Makes all caches anew from the events.
    ///
    /// # Errors
    /// When an event cannot be read, or the store cannot be written.
    pub fn rebuild(&mut self) -> Result<(), StoreError> {
        let path = self.path.clone();
        let wrap = |error| StoreError::from_sqlite(&path, error);
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(wrap)?;
        rebuild_in(&transaction).map_err(|error| error.at(&path))?;
        transaction.commit().map_err(wrap)
    }
}

fn rebuild_in(connection: &Connection) -> Result<(), WriteError> {
    connection.execute_batch(include_str!("view.sql"))?;
    connection.execute("INSERT INTO view_version (version) VALUES (?1)", [VIEW_VERSION])?;
    let mut view = View::default();
    let mut changed = std::collections::BTreeMap::new();
    let mut statement =
        connection.prepare("SELECT seq, version, prev_hash, hash, at, run, story, kind, actor, data FROM events ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let stored: Stored = stored_from_row(row)?;
        let event = stored.event()?;
        let applied = view.replay(&event);
        write_event(connection, stored.seq, &event, &applied)?;
        view.overview.head = stored.hash;
        if let Some(id) = event.story {
            changed.insert(id, stored.seq);
        }
    }
    for (id, story) in &view.stories {
        write_story(connection, story, changed.get(id).copied().unwrap_or(0))?;
    }
    for (key, amount) in &view.spend {
        write_spend(connection, key, amount)?;
    }
    write_overview(connection, &view.overview)
}

fn damaged(what: &str, error: &serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, format!("the cache of {what} cannot be read: {error}").into())
}

pub(super) fn load_overview(connection: &Connection) -> Result<Overview, WriteError> {
    let mut statement = connection.prepare_cached("SELECT json FROM overview WHERE one = 1")?;
    let text: String = statement.query_row([], |row| row.get(0))?;
    Ok(serde_json::from_str(&text).map_err(|error| damaged("the overview", &error))?)
}

pub(super) fn load_story(connection: &Connection, id: &StoryId) -> Result<Option<Story>, rusqlite::Error> {
    let mut statement = connection.prepare_cached("SELECT json FROM facts WHERE id = ?1")?;
    let facts: Option<String> = statement.query_row([id.as_str()], |row| row.get(0)).optional()?;
    facts.map(|facts| serde_json::from_str(&facts).map_err(|error| damaged("a story", &error))).transpose()
}

/// Brings what an event touches into a view that holds only part of everything.
pub(super) fn load_touched(connection: &Connection, view: &mut View, event: &Event) -> Result<(), WriteError> {
    if let Some(id) = event.story.as_ref().filter(|id| !view.stories.contains_key(id))
        && let Some(story) = load_story(connection, id)?
    {
        view.stories.insert(id.clone(), story);
    }
    if let Kind::BudgetSpent { role, model, .. } = &event.kind {
        let story = event.story.as_ref().map(ToString::to_string).unwrap_or_default();
        let key = (story, role.clone(), model.clone().unwrap_or_default());
        if let std::collections::btree_map::Entry::Vacant(vacant) = view.spend.entry(key) {
            let sql = "SELECT model_calls, tokens_in, tokens_out, cost_microusd, wall_ms FROM spend WHERE story = ?1 AND role = ?2 AND model = ?3";
            let (story, role, model) = vacant.key();
            let found = connection.prepare_cached(sql)?.query_row(params![story, role, model], |row| amount_from(row, 0)).optional()?;
            if let Some(amount) = found {
                vacant.insert(amount);
            }
        }
    }
    Ok(())
}

/// SQLite's integers are signed; sums beyond them saturate, as all amounts do.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Five amounts from column `from` on.
pub(super) fn amount_from(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<Amount> {
    let number = |column: usize| row.get::<_, i64>(from + column).map(|n| u64::try_from(n).unwrap_or(0));
    Ok(Amount { model_calls: number(0)?, tokens_in: number(1)?, tokens_out: number(2)?, cost_microusd: number(3)?, wall_ms: number(4)? })
}

pub(super) fn write_overview(connection: &Connection, overview: &Overview) -> Result<(), WriteError> {
    let text = serde_json::to_string(overview).map_err(|error| damaged("the overview", &error))?;
    connection.prepare_cached("INSERT OR REPLACE INTO overview (one, json) VALUES (1, ?1)")?.execute([text])?;
    Ok(())
}

pub(super) fn write_spend(connection: &Connection, key: &SpendKey, amount: &Amount) -> Result<(), WriteError> {
    let sql = "INSERT OR REPLACE INTO spend (story, role, model, model_calls, tokens_in, tokens_out, cost_microusd, wall_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    let Amount { model_calls, tokens_in, tokens_out, cost_microusd, wall_ms } = *amount;
    let numbers = [model_calls, tokens_in, tokens_out, cost_microusd, wall_ms].map(signed);
    connection.prepare_cached(sql)?.execute(params![key.0, key.1, key.2, numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]])?;
    Ok(())
}

/// What one event leaves beside its story: the transition, and the evidence it rests on.
pub(super) fn write_event(connection: &Connection, seq: u64, event: &Event, applied: &Applied) -> Result<(), WriteError> {
    let story = event.story.as_ref().map(StoryId::as_str);
    if let (Some(story), Some((from, to))) = (story, &applied.transition) {
        let sql = "INSERT INTO transitions (story, seq, from_phase, to_phase) VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute(params![story, signed(seq), from, to])?;
    }
    for (id, what) in event.kind.evidence() {
        let sql = "INSERT OR IGNORE INTO evidence (id, seq, story, what) VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute(params![id.as_str(), signed(seq), story, what])?;
    }
    Ok(())
}

pub(super) fn write_story(connection: &Connection, story: &Story, changed_seq: u64) -> Result<(), WriteError> {
    let phase = phase(story);
    let facts = serde_json::to_string(story).map_err(|error| damaged("a story", &error))?;
    let change = story.change();
    let (commit, tree) = match &story.end {
        Some(End::Merged { commit, tree, .. }) => (Some(commit.as_str()), Some(tree.as_str())),
        _ => (change.map(|c| c.commit.as_str()), change.map(|c| c.tree.as_str())),
    };
    let next = match &phase {
        Phase::Blocked(block) => Some(block.next.clone()),
        Phase::Escalated { .. } | Phase::Stagnated { .. } => {
            Some(format!("cofferdam why {0}; then cofferdam retry {0}, or cofferdam replan {0} REASON", story.id))
        }
        _ => None,
    };
    let (reason, question) = phase.reason().unzip();
    let base = change.map(|c| c.base.as_str()).or_else(|| story.attempt().map(|attempt| attempt.base.as_str()));
    let sql = "INSERT OR REPLACE INTO stories (id, ordinal, title, epic, phase, attempt, cycle, reason, question, next, commit_id, tree, base, changed_seq)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
    connection.prepare_cached(sql)?.execute(params![
        story.id.as_str(),
        story.spec.ordinal,
        story.spec.title,
        story.spec.epic,
        phase.name(),
        story.attempt().map_or(0, |attempt| attempt.no.get()),
        budget::cycles(story),
        reason,
        question,
        next,
        commit,
        tree,
        base,
        signed(changed_seq)
    ])?;
    let sql = "INSERT OR REPLACE INTO facts (id, json) VALUES (?1, ?2)";
    connection.prepare_cached(sql)?.execute(params![story.id.as_str(), facts])?;
    Ok(())
}

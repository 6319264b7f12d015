//! `cofferdam status`: where everything stands, from the cached views, whatever the length of the log.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::failure::Failure;
use super::printer;
use super::state::{self, State, VERSION, runner_line, status_word};
use crate::base::text::{cut, one_line, plural};
use crate::event::StopReason;
use crate::store::fold::Overview;
use crate::store::health::Runner;
use crate::store::{Store, StoryRow};
use crate::story::budget::money;
use crate::story::phase::PHASES;
use crate::story::{Phase, phase};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Every repository of yours that a run worked on: its runner, its progress, what waits for a human
    #[arg(long)]
    all: bool,
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When the store cannot be read.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.all {
        return everywhere(args.json);
    }
    let state = State::find()?;
    let runner = state.runner()?;
    let store = state.store()?;
    let (overview, rows) = match &store {
        Some(store) => (store.overview().map_err(state::failure)?, store.stories().map_err(state::failure)?),
        None => (Overview::default(), Vec::new()),
    };
    let queue = store.as_ref().map(|store| queue(store, &rows)).transpose()?.unwrap_or_default();
    if args.json {
        printer::json(&document(&overview, &runner, &rows, &queue));
    } else {
        printer::prose(&text(&overview, &runner, &rows, store.is_some(), printer::columns()));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each repository. One that cannot be read is told as such, and hides no other.
fn everywhere(as_json: bool) -> Result<ExitCode, Failure> {
    let mut documents = Vec::new();
    for (state, is_there) in State::all()? {
        let place = state.repository().display().to_string();
        let looked = || -> Result<(Runner, Overview, Vec<StoryRow>), Failure> {
            let Some(store) = state.store()? else { return Ok((state.runner()?, Overview::default(), Vec::new())) };
            Ok((state.runner()?, store.overview().map_err(state::failure)?, store.stories().map_err(state::failure)?))
        };
        let (runner, overview, rows) = match looked() {
            Ok(looked) => looked,
            Err(failure) => {
                let line = format!("{}  cannot be read: {}", one_line(&place), one_line(&failure.what));
                documents.push((json!({"repository": place, "there": is_there, "error": failure.what}), line));
                continue;
            }
        };
        let (merged, total) = progress(&rows);
        let reverts = overview.reverts.values().filter(|revert| revert.waits_for_human()).count();
        let waiting = rows.iter().filter(|row| row.next.is_some()).count() + reverts;
        let asks = if waiting > 0 { format!(", {} for a human", plural(waiting as u64, "waits", "wait")) } else { String::new() };
        let gone = if is_there { "" } else { "  (the repository is gone)" };
        let line = format!("{}  {}; {merged} of {total} merged{asks}{gone}", one_line(&place), runner_line(&runner));
        let document = json!({
            "repository": place, "there": is_there, "state": state.folder.display().to_string(),
            "runner": {"status": status_word(runner.status), "pid": runner.pid, "heartbeat": runner.heartbeat, "detail": runner.detail},
            "progress": {"merged": merged, "total": total}, "waiting": waiting,
        });
        documents.push((document, line));
    }
    if as_json {
        let all: Vec<Value> = documents.into_iter().map(|(document, _)| document).collect();
        printer::json(&json!({"version": VERSION, "repositories": all}));
    } else if documents.is_empty() {
        printer::out("Nothing has run in any repository of yours yet.");
    } else {
        documents.iter().for_each(|(_, line)| printer::prose(line));
    }
    Ok(ExitCode::SUCCESS)
}

/// The stories in the queue, with their candidates.
fn queue(store: &Store, rows: &[StoryRow]) -> Result<Vec<Value>, Failure> {
    let mut waiting: Vec<&StoryRow> = rows.iter().filter(|row| matches!(row.phase.as_str(), "queued" | "merging")).collect();
    waiting.sort_by_key(|row| row.changed_seq);
    let mut queue = Vec::new();
    for row in waiting {
        let story = state::story(Some(store), &row.id)?;
        let (candidate, state) = match phase(&story) {
            Phase::Merging { candidate, .. } => (Some(candidate.commit), if candidate.landing { "landing" } else { "testing" }),
            _ => (None, "waiting"),
        };
        queue.push(json!({"story": row.id, "candidate": candidate, "state": state}));
    }
    Ok(queue)
}

/// Merged, and all that can be: what was cancelled counts for neither, what was done by hand for both.
pub(in crate::face) fn progress(rows: &[StoryRow]) -> (u64, u64) {
    let count = |wanted: &dyn Fn(&str) -> bool| rows.iter().filter(|row| wanted(&row.phase)).count() as u64;
    (count(&|phase| matches!(phase, "merged" | "backfilled")), count(&|phase| phase != "cancelled"))
}

fn document(overview: &Overview, runner: &Runner, rows: &[StoryRow], queue: &[Value]) -> Value {
    let (merged, total) = progress(rows);
    let stories: Vec<Value> = rows.iter().map(row_json).collect();
    let target = overview.target.as_ref().map(|target| json!({"ref": target.reference, "commit": target.commit, "green": target.green}));
    json!({
        "version": VERSION,
        "target": target,
        "runner": {"status": status_word(runner.status), "pid": runner.pid, "heartbeat": runner.heartbeat, "detail": runner.detail},
        "run": overview.run,
        "paused": overview.paused,
        "providers": overview.providers,
        "progress": {"merged": merged, "total": total},
        "stories": stories,
        "queue": queue,
        "reverts": overview.reverts.iter().map(|(story, revert)| super::revert::document(story, revert)).collect::<Vec<_>>(),
        "budget": {"spent": overview.spent},
        "events": overview.events,
        "head": overview.head,
    })
}

pub(super) fn row_json(row: &StoryRow) -> Value {
    json!({
        "id": row.id, "title": row.title, "epic": row.epic, "state": row.phase, "attempt": row.attempt, "cycle": row.cycle,
        "reason": row.reason, "question": row.question, "next": row.next, "commit": row.commit, "tree": row.tree, "base": row.base,
    })
}

/// `2 merged, 1 blocked`, in the order of a story's life.
pub(in crate::face) fn by_phase(rows: &[StoryRow]) -> String {
    if rows.is_empty() {
        return "none is known before the first run".to_owned();
    }
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for row in rows {
        *counts.entry(&row.phase).or_default() += 1;
    }
    let named = PHASES.iter().filter_map(|phase| counts.get(phase).map(|count| format!("{count} {phase}")));
    named.collect::<Vec<_>>().join(", ")
}

/// Why the last run ended.
pub(in crate::face) fn stop_word(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Finished => "nothing was left to do",
        StopReason::Interrupted => "it was interrupted",
        StopReason::Blocked => "what is left needs a human",
        StopReason::Budget => "the budget is spent",
        StopReason::Error => "of an error",
        StopReason::Died => "it died",
        StopReason::RedTarget => "the target is red",
    }
}

fn text(overview: &Overview, runner: &Runner, rows: &[StoryRow], is_known: bool, columns: Option<usize>) -> String {
    if !is_known {
        return "Nothing has run in this repository yet.\n  next: cofferdam run".to_owned();
    }
    let mut lines = vec![format!("runner   {}", runner_line(runner))];
    if let Some((at, reason, detail)) = overview.run.as_ref().and_then(|run| run.stopped.as_ref()).filter(|_| runner.pid.is_none()) {
        let detail = detail.as_deref().map(|detail| format!(": {}", one_line(detail))).unwrap_or_default();
        lines.push(format!("         the last run ended {}, because {}{detail}", state::ago(*at), stop_word(*reason)));
    }
    if let Some(target) = &overview.target {
        let health = target.green.map_or("not checked", |green| if green { "green" } else { "red" });
        lines.push(format!("target   {} at {} ({health})", one_line(&target.reference), target.commit.short()));
    }
    for (story, revert) in &overview.reverts {
        lines.push(format!("revert   {}", super::revert::line(story, revert)));
    }
    if let Some(reason) = &overview.paused {
        let reason = if reason.is_empty() { String::new() } else { format!(": {}", one_line(reason)) };
        lines.push(format!("paused   by a human{reason}; go on with cofferdam resume"));
    }
    for (provider, until) in overview.providers.iter().filter(|(_, until)| **until > state::now()) {
        lines.push(format!("waiting  for {} until {until}", one_line(provider)));
    }
    let (merged, total) = progress(rows);
    let spent = if overview.spent.cost_microusd > 0 { format!("; {} spent", money(overview.spent.cost_microusd)) } else { String::new() };
    lines.push(format!("stories  {merged} of {total} merged ({}){spent}", by_phase(rows)));
    lines.push(String::new());
    let id_width = rows.iter().map(|row| row.id.chars().count()).max().unwrap_or(0).min(24);
    // On a terminal, a title ends where the line does.
    let titles = columns.map_or(60, |columns| columns.saturating_sub(id_width + 44).clamp(12, 60));
    for row in rows {
        let attempt = match (row.attempt, row.cycle) {
            (0, _) => String::new(),
            (attempt, 0) => format!("attempt {attempt}"),
            (attempt, cycle) => format!("attempt {attempt}, cycle {cycle}"),
        };
        lines.push(
            format!("  {:id_width$}  {:<16}  {:<20}  {}", one_line(&row.id), row.phase, attempt, cut(&one_line(&row.title), titles))
                .trim_end()
                .to_owned(),
        );
        if let Some(question) = row.question.as_ref().filter(|_| row.next.is_some()) {
            lines.push(format!("  {:id_width$}  {}: {}", "", row.reason.as_deref().unwrap_or(""), cut(&one_line(question), 300)));
            lines.push(format!("  {:id_width$}  next: {}", "", one_line(row.next.as_deref().unwrap_or(""))));
        }
    }
    lines.join("\n").trim_end().to_owned()
}

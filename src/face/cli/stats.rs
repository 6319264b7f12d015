//! `cofferdam stats` and `cofferdam costs`: counts and sums, from the cached views.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::failure::Failure;
use super::printer;
use super::state::{self, State, VERSION};
use super::status::{by_phase, progress};
use crate::base::duration;
use crate::base::text::one_line;
use crate::event::Amount;
use crate::store::fold::{Overview, SpendKey};
use crate::store::{Store, StoryRow};
use crate::story::budget::money;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long)]
    json: bool,
}

/// How often an evaluator or gate said what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Judge {
    said: BTreeMap<String, u64>,
}

/// # Errors
/// When the store cannot be read.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = State::find()?.store()?;
    let (overview, rows) = read(store.as_ref())?;
    let (evaluators, gates) = (judges(&overview, "evaluator"), judges(&overview, "gate"));
    let (merged, total) = progress(&rows);
    let done: Vec<&StoryRow> = rows.iter().filter(|row| row.phase == "merged").collect();
    let attempts: u64 = done.iter().map(|row| u64::from(row.attempt)).sum();
    let first = done.iter().filter(|row| row.attempt == 1).count();
    if args.json {
        let named = |judges: &BTreeMap<String, Judge>| {
            judges.iter().map(|(name, judge)| (name.clone(), json!(judge.said))).collect::<serde_json::Map<_, _>>()
        };
        let events: BTreeMap<&str, u64> =
            overview.tallies.iter().filter_map(|(name, count)| Some((name.strip_prefix("event ")?, *count))).collect();
        printer::json(&json!({
            "version": VERSION, "progress": {"merged": merged, "total": total},
            "merged_at_first_attempt": first, "attempts_of_merged": attempts, "landings": overview.landings,
            "evaluators": named(&evaluators), "gates": named(&gates), "events": events, "spent": overview.spent,
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut lines = vec![format!("stories    {merged} of {total} merged ({})", by_phase(&rows))];
    if !done.is_empty() {
        // Tenths by integers: enough for a mean, and never a surprise of rounding.
        let tenths = attempts * 10 / done.len() as u64;
        lines.push(format!("attempts   {}.{} for a merged story; {first} landed at the first", tenths / 10, tenths % 10));
    }
    for (title, judges) in [("evaluator", &evaluators), ("gate", &gates)] {
        for (name, judge) in judges {
            let said: Vec<String> = judge.said.iter().map(|(word, count)| format!("{count} {word}")).collect();
            lines.push(format!("{title:<10} {}: {}", one_line(name), said.join(", ")));
        }
    }
    let denied = |kind: &str| overview.tallies.get(kind).copied().unwrap_or(0);
    let (network, sandbox) = (denied("event network.denied"), denied("event sandbox.denied"));
    lines.push(format!("events     {} ({network} network denials, {sandbox} sandbox denials)", overview.events));
    printer::out(&lines.join("\n"));
    Ok(ExitCode::SUCCESS)
}

fn read(store: Option<&Store>) -> Result<(Overview, Vec<StoryRow>), Failure> {
    match store {
        Some(store) => Ok((store.overview().map_err(state::failure)?, store.stories().map_err(state::failure)?)),
        None => Ok((Overview::default(), Vec::new())),
    }
}

/// Tallies are named `evaluator NAME WORD`; a name may contain spaces, a word does not.
fn judges(overview: &Overview, which: &str) -> BTreeMap<String, Judge> {
    let mut judges: BTreeMap<String, Judge> = BTreeMap::new();
    for (tally, count) in &overview.tallies {
        let named = tally.strip_prefix(which).and_then(|rest| rest.strip_prefix(' ')).and_then(|rest| rest.rsplit_once(' '));
        if let Some((name, word)) = named {
            judges.entry(name.to_owned()).or_default().said.insert(word.to_owned(), *count);
        }
    }
    judges
}

/// # Errors
/// When the store cannot be read.
pub fn run_costs(args: &Args) -> Result<ExitCode, Failure> {
    let store = State::find()?.store()?;
    let (overview, _) = read(store.as_ref())?;
    let spend = store.as_ref().map(Store::spend).transpose().map_err(state::failure)?.unwrap_or_default();
    if args.json {
        let rows: Vec<Value> = spend
            .iter()
            .map(|((story, role, model), amount)| json!({"story": story, "role": role, "model": model, "amount": amount}))
            .collect();
        printer::json(&json!({"version": VERSION, "total": overview.spent, "spent": rows}));
        return Ok(ExitCode::SUCCESS);
    }
    if spend.is_empty() {
        printer::out("Nothing was spent that anybody reported.");
        return Ok(ExitCode::SUCCESS);
    }
    printer::out(&costs_table(&spend, overview.spent));
    Ok(ExitCode::SUCCESS)
}

fn costs_table(spend: &[(SpendKey, Amount)], total: Amount) -> String {
    let mut rows = vec![["story", "role", "model", "cost", "calls", "tokens in", "tokens out", "time"].map(str::to_owned)];
    let row = |story: &str, role: &str, model: &str, amount: &Amount| {
        [
            if story.is_empty() { "(run)".to_owned() } else { one_line(story).into_owned() },
            one_line(role).into_owned(),
            one_line(model).into_owned(),
            money(amount.cost_microusd),
            amount.model_calls.to_string(),
            amount.tokens_in.to_string(),
            amount.tokens_out.to_string(),
            duration::display(std::time::Duration::from_millis(amount.wall_ms)),
        ]
    };
    rows.extend(spend.iter().map(|((story, role, model), amount)| row(story, role, model, amount)));
    rows.push(row("total", "", "", &total));
    aligned(&rows)
}

/// Columns as wide as their widest cell.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: Vec<usize> = (0..N).map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

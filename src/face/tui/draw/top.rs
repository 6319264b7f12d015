//! The two lines at the top: how it stands, and which views there are.

use super::super::model::{Screen, VIEWS, View};
use super::super::text::width;
use super::super::theme::Tone;
use super::row::Row;
use crate::face::cli::state::status_word;
use crate::store::health::Status;
use crate::story::Phase;
use crate::story::budget::money;

pub(super) fn rows(screen: &Screen, columns: usize) -> Vec<Row> {
    vec![standing(screen, columns), views(screen, columns)]
}

/// The most important comes first, and what does not fit is left out from the end.
fn standing(screen: &Screen, columns: usize) -> Row {
    let data = &screen.data;
    let count = |is: &dyn Fn(&Phase) -> bool| data.stories.iter().filter(|item| is(&item.phase)).count();
    let total = count(&|phase| !matches!(phase, Phase::Cancelled { .. }));
    let mut parts = Vec::new();
    if let Some(trouble) = &data.trouble {
        parts.push((Tone::Bad, trouble.clone()));
    }
    if data.is_known {
        parts.push((Tone::Plain, format!("{}/{total} landed", count(&Phase::satisfies_dependents))));
    }
    if let Some(runner) = &data.runner {
        let tone = match runner.status {
            Status::Running | Status::Starting => Tone::Good,
            Status::Error | Status::Hung => Tone::Bad,
            Status::Stopped => Tone::Plain,
        };
        let word = match runner.status {
            Status::Stopped => "no runner",
            Status::Error => "runner failed",
            Status::Hung => "runner hangs",
            Status::Starting | Status::Running => status_word(runner.status),
        };
        parts.push((tone, word.to_owned()));
    }
    if data.overview.paused.is_some() {
        parts.push((Tone::Ask, "paused".to_owned()));
    }
    let (working, asking) = (count(&Phase::holds_slot), count(&Phase::is_halted));
    parts.extend((working > 0).then(|| (Tone::Plain, format!("{working} at work"))));
    parts.extend((asking > 0).then(|| (Tone::Ask, format!("{asking} {} you", if asking == 1 { "needs" } else { "need" }))));
    if let Some(target) = &data.overview.target {
        let (tone, health) = match target.green {
            Some(true) => (Tone::Good, " green"),
            Some(false) => (Tone::Bad, " red"),
            None => (Tone::Plain, ""),
        };
        let name = target.reference.strip_prefix("refs/heads/").unwrap_or(&target.reference);
        parts.push((tone, format!("{name} {}{health}", &target.commit.short()[..7])));
    }
    parts.extend((data.overview.spent.cost_microusd > 0).then(|| (Tone::Plain, money(data.overview.spent.cost_microusd))));
    parts.iter().fold(Row::of(Tone::Strong, " cofferdam"), |row, (tone, text)| {
        let fits = row.width() + 2 + width(text) <= columns;
        if fits { row.say(Tone::Plain, "  ").say(*tone, text) } else { row }
    })
}

fn views(screen: &Screen, columns: usize) -> Row {
    let name = |at: usize, view: View, name: &str| {
        let count = screen.problems.len();
        if view == View::Problems && count > 0 { format!(" {} {name} {count} ", at + 1) } else { format!(" {} {name} ", at + 1) }
    };
    let row = |short: bool| {
        VIEWS.iter().enumerate().fold(Row::new(), |row, (at, (view, word))| {
            if *view == screen.view {
                // Brackets, for a terminal that shows no attributes.
                return row.say(Tone::Chosen, &format!("[{}]", name(at, *view, word).trim()));
            }
            let tone = if *view == View::Problems && !screen.problems.is_empty() { Tone::Ask } else { Tone::Plain };
            row.say(tone, &if short { format!(" {} ", at + 1) } else { name(at, *view, word) })
        })
    };
    let long = row(false);
    if long.width() <= columns { long } else { row(true) }
}

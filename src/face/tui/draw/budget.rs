//! What was spent, of what was allowed.

use std::collections::BTreeMap;
use std::time::Duration;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::super::model::Screen;
use super::super::text::{age, width};
use super::super::theme::Tone;
use super::row::{Row, list, window};
use crate::base::duration;
use crate::event::Amount;
use crate::story::Story;
use crate::story::budget::{cycles, iterations, money};

/// One column: what it is called, and how wide it is.
const COLUMNS: [(&str, usize); 6] = [("iterations", 11), ("cycles", 7), ("calls", 9), ("tokens", 13), ("cost", 14), ("time", 12)];

pub(super) fn render(screen: &Screen, buffer: &mut Buffer, area: Rect) -> usize {
    let columns = usize::from(area.width);
    let data = &screen.data;
    let spent = &data.overview.spent;
    let total = format!(
        " {} spent in {}, {} tokens read, {} written, {} of agents",
        money(spent.cost_microusd),
        crate::base::text::plural(spent.model_calls, "call", "calls"),
        count(spent.tokens_in),
        count(spent.tokens_out),
        time(spent.wall_ms),
    );
    let mut top = vec![Row::of(Tone::Strong, &total)];
    top.extend(by_role(screen));
    top.push(Row::new());
    // A long list of models leaves room for the stories.
    top.truncate(usize::from(area.height / 2).max(1));
    let fixed: usize = COLUMNS.iter().map(|(_, width)| width).sum();
    let ids =
        data.stories.iter().map(|item| width(&item.row.id)).max().unwrap_or(0).clamp(5, columns.saturating_sub(fixed + 2).clamp(5, 24));
    let head = COLUMNS
        .iter()
        .fold(Row::of(Tone::Plain, " ").column(Tone::Dim, "story", ids + 1), |row, (name, width)| row.column(Tone::Dim, name, *width));
    top.push(head);
    list(buffer, area, &top, 0, screen.look);
    let used = u16::try_from(top.len()).unwrap_or(area.height).min(area.height);
    let below = Rect { y: area.y + used, height: area.height - used, ..area };
    let chosen = screen.chosen().and_then(|item| data.graph.index.get(&item.row.id)).copied();
    let start = window(chosen, data.stories.len(), usize::from(below.height));
    let shown = data.stories.iter().enumerate().skip(start).take(usize::from(below.height));
    let rows: Vec<Row> = shown.map(|(at, item)| line(&item.story, ids, columns, chosen == Some(at))).collect();
    list(buffer, below, &rows, 0, screen.look);
    0
}

fn line(story: &Story, ids: usize, columns: usize, is_chosen: bool) -> Row {
    let limits = &story.spec.rules.limits;
    let spent = &story.spent;
    let tokens = spent.tokens_in.saturating_add(spent.tokens_out);
    let number = |n: u64| n.to_string();
    let cells = [
        cell(iterations(story).into(), Some(limits.iterations.into()), number),
        cell(cycles(story).into(), Some(limits.review_cycles.into()), number),
        cell(spent.model_calls, limits.model_calls, number),
        cell(tokens, limits.tokens, count),
        cell(spent.cost_microusd, limits.cost_microusd, money),
        cell(spent.wall_ms, limits.wall_ms, |ms| age(ms / 1_000)),
    ];
    let row = Row::of(Tone::Plain, if is_chosen { "▸" } else { " " }).column(Tone::Strong, story.id.as_str(), ids + 1);
    let row = cells.into_iter().zip(COLUMNS).fold(row, |row, ((tone, text), (_, width))| row.column(tone, &text, width));
    // A title of which only the beginning fits says nothing.
    let row = if row.width() + 16 <= columns { row.say(Tone::Dim, &story.spec.title) } else { row };
    row.to(columns).chosen(is_chosen)
}

/// `2 of 6`; what is nearly spent stands out, and what is spent says so.
fn cell(spent: u64, limit: Option<u64>, show: impl Fn(u64) -> String) -> (Tone, String) {
    match limit {
        None if spent == 0 => (Tone::Dim, "–".to_owned()),
        None => (Tone::Plain, show(spent)),
        Some(limit) => {
            let text = format!("{}/{}", show(spent), show(limit));
            if spent >= limit {
                (Tone::Bad, format!("{text}!"))
            } else if u128::from(spent) * 5 >= u128::from(limit) * 4 {
                (Tone::Ask, text)
            } else {
                (Tone::Plain, text)
            }
        }
    }
}

fn by_role(screen: &Screen) -> Vec<Row> {
    let mut sums: BTreeMap<(&str, &str), Amount> = BTreeMap::new();
    for ((_, role, model), amount) in screen.data.spend.iter() {
        let sum = sums.entry((role, model)).or_default();
        *sum = sum.plus(*amount);
    }
    let row = |((role, model), sum): (&(&str, &str), &Amount)| {
        let model = if model.is_empty() { String::new() } else { format!(" {model}") };
        let calls =
            if sum.model_calls > 0 { format!(", {}", crate::base::text::plural(sum.model_calls, "call", "calls")) } else { String::new() };
        let cost = if sum.cost_microusd > 0 { format!(", {}", money(sum.cost_microusd)) } else { String::new() };
        Row::of(Tone::Plain, &format!("   {role}{model}: {}{calls}{cost}", time(sum.wall_ms)))
    };
    sums.iter().map(row).collect()
}

fn time(ms: u64) -> String {
    duration::display(Duration::from_millis(ms))
}

/// `940`, `12k`, `3.4M`.
fn count(tokens: u64) -> String {
    match tokens {
        0..10_000 => tokens.to_string(),
        10_000..1_000_000 => format!("{}k", tokens / 1_000),
        _ => format!("{}.{}M", tokens / 1_000_000, tokens % 1_000_000 / 100_000),
    }
}

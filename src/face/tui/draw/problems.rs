//! What holds the plan up, and what to do about it.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::super::model::Screen;
use super::super::problems::Problem;
use super::super::theme::Tone;
use super::row::{Row, list, wrapped};
use crate::base::text::plural;

/// Names on one line; more are a number.
const NAMED: usize = 8;

pub(super) fn render(screen: &Screen, buffer: &mut Buffer, area: Rect) -> usize {
    let columns = usize::from(area.width);
    if screen.problems.is_empty() {
        let text = if screen.data.is_running() {
            "Nothing holds the plan up, and nobody is asked for anything."
        } else {
            "Nothing is left to do: every story is merged, or ended in another way."
        };
        list(buffer, area, &wrapped(2, Tone::Good, text, columns, 4), 0, screen.look);
        return 0;
    }
    let (mut rows, mut first, mut end) = (Vec::new(), 0, 0);
    for (at, problem) in screen.problems.iter().enumerate() {
        if at == screen.problem {
            first = rows.len();
        }
        rows.extend(one(screen, problem, columns, at == screen.problem));
        if at == screen.problem {
            end = rows.len();
        }
    }
    // The whole of the chosen one is seen, its first line before all.
    let height = usize::from(area.height);
    let start = end.saturating_sub(height).min(first).max((first + 1).saturating_sub(height));
    let start = if end <= height { 0 } else { start };
    list(buffer, area, &rows, start, screen.look);
    0
}

fn one(screen: &Screen, problem: &Problem, columns: usize, is_chosen: bool) -> Vec<Row> {
    let item = problem.story.and_then(|story| screen.data.stories.get(story));
    let row = Row::of(Tone::Plain, if is_chosen { "▸" } else { " " });
    let row = match item {
        Some(item) => row
            .say(Tone::Strong, &item.row.id)
            .say(Tone::Ask, &format!("  {}", problem.what))
            .say(Tone::Plain, &format!("  {}", item.row.title)),
        None => row.say(Tone::Bad, &problem.what),
    };
    let mut rows = vec![row.to(columns).chosen(is_chosen)];
    rows.extend(wrapped(3, Tone::Plain, &problem.why, columns, 6));
    rows.extend(problem.next.iter().flat_map(|next| wrapped(3, Tone::Strong, &format!("next: {next}"), columns, 3)));
    if !problem.holds.is_empty() {
        let names: Vec<&str> = problem.holds.iter().take(NAMED).map(|s| screen.data.stories[*s].row.id.as_str()).collect();
        let more = problem.holds.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = format!("holds up {}: {}{more}", plural(problem.holds.len() as u64, "story", "stories"), names.join(", "));
        rows.extend(wrapped(3, Tone::Dim, &text, columns, 3));
    }
    rows.push(Row::new());
    rows
}

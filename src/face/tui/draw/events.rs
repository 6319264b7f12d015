//! What happened, the newest at the end; the one that is looked at stands whole below.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::super::data::Happened;
use super::super::model::Screen;
use super::super::text::width;
use super::super::theme::{Tone, of_phase};
use super::row::{Row, list, rule, window, wrapped};
use crate::face::cli::state::clock;

/// Lines for the event that is looked at.
const WHOLE: u16 = 5;

pub(super) fn render(screen: &Screen, buffer: &mut Buffer, area: Rect) -> usize {
    let columns = usize::from(area.width);
    let shown = screen.events();
    let events = &screen.data.events;
    if shown.is_empty() {
        list(buffer, area, &wrapped(2, Tone::Plain, "Nothing has happened yet.", columns, 2), 0, screen.look);
        return 0;
    }
    // In a low window the list is what counts.
    let whole = if area.height >= 14 { WHOLE } else { 0 };
    let above = Rect { height: area.height - whole, ..area };
    let height = usize::from(above.height);
    let at = screen.event.and_then(|seq| shown.iter().position(|at| events[*at].seq >= seq)).unwrap_or(shown.len() - 1);
    let start = if screen.event.is_some() { window(Some(at), shown.len(), height) } else { shown.len().saturating_sub(height) };
    let visible: Vec<&Happened> = shown.iter().skip(start).take(height).map(|at| &events[*at]).collect();
    let stories = visible.iter().map(|event| width(&event.story)).max().unwrap_or(0).min(12);
    let kinds = visible.iter().map(|event| width(&event.kind)).max().unwrap_or(0).min(19);
    let rows: Vec<Row> = visible.iter().enumerate().map(|(y, event)| line(event, stories, kinds, columns, start + y == at)).collect();
    list(buffer, above, &rows, 0, screen.look);
    if whole > 0 {
        let event = &events[shown[at]];
        let mut rows = vec![rule(&format!("event {}, {}, by {}", event.seq, clock(&event.at), event.actor), columns)];
        let moved = event.moved.as_deref().map(|to| format!(" → {to}")).unwrap_or_default();
        let text = format!("{} {}: {}{moved}", event.story, event.kind, event.said);
        rows.extend(wrapped(1, Tone::Plain, text.trim_start(), columns, usize::from(whole) - 1));
        list(buffer, Rect { y: above.bottom(), height: whole, ..area }, &rows, 0, screen.look);
    }
    0
}

fn line(event: &Happened, stories: usize, kinds: usize, columns: usize, is_chosen: bool) -> Row {
    let clock = clock(&event.at);
    // The day is told below; the list has room for the time.
    let time = clock.split(' ').nth(1).unwrap_or(&clock);
    let row = Row::of(Tone::Plain, if is_chosen { "▸" } else { " " })
        .say(Tone::Dim, &format!("{:>5} {time} ", event.seq))
        .column(Tone::Strong, &event.story, stories + 1)
        .column(Tone::Plain, &event.kind, kinds + 1);
    let row = match &event.moved {
        // Where it led is what people look for.
        Some(to) => row.say(of_phase(to), &format!("→ {to} ")),
        None => row,
    };
    row.say(Tone::Plain, &event.said).to(columns).chosen(is_chosen)
}

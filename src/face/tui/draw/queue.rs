//! The queue: the chain of candidates, each on the one before, with what its gates said.

use std::time::Duration;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::super::model::Screen;
use super::super::text::width;
use super::super::theme::Tone;
use super::row::{Row, list, window};
use crate::base::duration;
use crate::event::GateResult;
use crate::face::cli::log::gate_word;
use crate::face::cli::queue::Line;

pub(super) fn render(screen: &Screen, buffer: &mut Buffer, area: Rect) -> usize {
    let data = &screen.data;
    let columns = usize::from(area.width);
    let target = data.overview.target.as_ref();
    let name = target.map_or("the target", |target| target.reference.strip_prefix("refs/heads/").unwrap_or(&target.reference));
    let at = target.map(|target| format!(" at {}", target.commit.short())).unwrap_or_default();
    let head = Row::of(Tone::Strong, &format!(" {name}{at}"));
    if data.queue.is_empty() {
        let text =
            format!("Nothing waits to land on {name}. A story comes here when its evaluators and gates have passed on its own commit.");
        let mut rows = vec![head, Row::new()];
        rows.extend(super::row::wrapped(2, Tone::Plain, &text, columns, 6));
        list(buffer, area, &rows, 0, screen.look);
        return 0;
    }
    let chosen = screen.chosen().map(|item| item.row.id.as_str());
    let ids = data.queue.iter().map(|line| width(&line.story)).max().unwrap_or(0).clamp(4, 16);
    list(buffer, area, &[head], 0, screen.look);
    let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let mark = data.queue.iter().position(|line| Some(line.story.as_str()) == chosen);
    // Each candidate takes two lines.
    let room = usize::from(below.height) / 2;
    let start = window(mark, data.queue.len(), room.max(1));
    let mut rows = Vec::new();
    for (at, line) in data.queue.iter().enumerate().skip(start).take(room.max(1)) {
        rows.extend(candidate(at, line, name, ids, columns, mark == Some(at)));
    }
    list(buffer, below, &rows, 0, screen.look);
    0
}

fn candidate(at: usize, line: &Line, target: &str, ids: usize, columns: usize, is_chosen: bool) -> [Row; 2] {
    let tone = match line.state {
        "green" | "landing" => Tone::Good,
        "red" => Tone::Bad,
        "waiting" => Tone::Dim,
        _ => Tone::Strong,
    };
    let short = |id: &str| id.get(..10).unwrap_or(id).to_owned();
    let place = match (&line.candidate, line.behind.last()) {
        (Some(candidate), None) => format!("{} on {target}", short(candidate)),
        (Some(candidate), Some(before)) => format!("{} on that of {before}", short(candidate)),
        (None, _) => "no candidate yet".to_owned(),
    };
    let first = Row::of(Tone::Plain, if is_chosen { "▸" } else { " " })
        .column(Tone::Dim, &format!("{:>2}", at + 1), 4)
        .column(Tone::Strong, &line.story, ids + 1)
        .column(tone, line.state, 9)
        .say(Tone::Plain, &format!("{place}  "))
        .say(Tone::Dim, &line.title);
    let mut second = Row::of(Tone::Plain, "     ");
    for (gate, said) in &line.gates {
        let (tone, word) = match said {
            Some(GateResult::Pass) => (Tone::Good, "✓ green"),
            Some(GateResult::Red) => (Tone::Bad, "✗ red"),
            Some(other) => (Tone::Ask, gate_word(*other)),
            None => (Tone::Dim, "–"),
        };
        second = second.say(Tone::Plain, &format!("{gate} ")).say(tone, word).say(Tone::Plain, "   ");
    }
    // Less than a second is now.
    let soon = line.expected_ms.filter(|ms| *ms >= 1_000).map(|ms| format!(", in about {}", duration::display(Duration::from_millis(ms))));
    let second = second.say(Tone::Dim, &format!("waits for {}{}", line.waits_for, soon.unwrap_or_default()));
    [first.to(columns).chosen(is_chosen), second]
}

//! The graph: what comes after what, with the state of each story.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::super::data::Data;
use super::super::model::Screen;
use super::super::theme::{Tone, of_phase};
use super::row::{Row, list, window};
use crate::plan::draw::{Twig, twigs};
use crate::story::phase::PHASES;

/// The stories as they stand below each other, each once.
pub(in crate::face::tui) fn order(data: &Data) -> Vec<usize> {
    drawn(data, 0).into_iter().filter(|twig| !twig.again).map(|twig| twig.story).collect()
}

fn drawn(data: &Data, columns: usize) -> Vec<Twig> {
    // Half of the width is for the names.
    twigs(&data.graph.after, &data.graph.dependents, columns / 2)
}

pub(super) fn render(screen: &Screen, buffer: &mut Buffer, area: Rect) -> usize {
    let data = &screen.data;
    let columns = usize::from(area.width);
    let state = PHASES.iter().map(|phase| phase.len()).max().unwrap_or(0);
    let chosen = screen.chosen().and_then(|item| data.graph.index.get(&item.row.id)).copied();
    let twigs = drawn(data, columns);
    let mark = twigs.iter().position(|twig| !twig.again && Some(twig.story) == chosen);
    let start = window(mark, twigs.len(), usize::from(area.height));
    let rows: Vec<Row> = twigs
        .iter()
        .skip(start)
        .take(usize::from(area.height))
        .map(|Twig { story, branch, again }| {
            let item = &data.stories[*story];
            let is_chosen = !again && Some(*story) == chosen;
            let row = Row::of(Tone::Plain, if is_chosen { "▸" } else { " " }).say(Tone::Dim, branch);
            if *again {
                return row.say(Tone::Dim, &format!("{} ↑ see above", item.row.id));
            }
            let phase = item.phase.name();
            let row = row.say(Tone::Strong, &item.row.id).say(Tone::Plain, &format!("  {}", item.row.title));
            let row = row.say(Tone::Dim, &beside(data, *story));
            row.to(columns.saturating_sub(state + 2)).say(Tone::Plain, "  ").say(of_phase(phase), phase).to(columns).chosen(is_chosen)
        })
        .collect();
    list(buffer, area, &rows, 0, screen.look);
    0
}

/// What the tree cannot show: other parents, and stories that complete together.
fn beside(data: &Data, story: usize) -> String {
    let names = |which: &[usize]| which.iter().map(|s| data.stories[*s].row.id.as_str()).collect::<Vec<_>>().join(", ");
    let mut parts = Vec::new();
    let after = &data.graph.after[story];
    parts.extend((after.len() > 1).then(|| format!("after {}", names(after))));
    let wired: Vec<&str> = data.stories[story].story.spec.wired_with.iter().map(crate::base::id::StoryId::as_str).collect();
    parts.extend((!wired.is_empty()).then(|| format!("with {}", wired.join(", "))));
    if parts.is_empty() { String::new() } else { format!("  ({})", parts.join("; ")) }
}

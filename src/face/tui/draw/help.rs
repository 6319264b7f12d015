//! All keys, and what the words mean.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::super::model::Screen;
use super::super::theme::Tone;
use super::row::{Row, scrolled, wrapped};

const KEYS: [(&str, &str); 19] = [
    ("1 … 7, Tab", "the views: board, graph, story, queue, problems, events, budget"),
    ("arrows, j k", "choose a story, or scroll; PgUp PgDn a page, Home End to the ends"),
    ("Enter", "open the chosen story"),
    ("Esc", "back to the board; out of what is being typed"),
    ("a", "answer the question of a blocked story"),
    ("y", "approve the commit of the chosen story: that one and no other"),
    ("n", "leave a note for the next attempt"),
    ("r", "retry: a story that stopped goes on with a fresh budget, from the work it has"),
    ("x", "cancel: end the chosen story; asks for a reason first"),
    ("t", "in a story: what is said, the facts, or both"),
    ("← →", "in a story: the one before, the one after"),
    ("f", "in the events: those of the chosen story only"),
    ("End", "in the events: follow what comes"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "suspend; fg comes back"),
    ("q", "leave the screen"),
    ("Ctrl-C", "leave the screen"),
    ("?", "this help"),
    ("", "Each of a, y, n, r, x does what cofferdam answer, approve, note, retry and cancel do, and is refused for the same reasons."),
];

pub(super) fn render(screen: &Screen, buffer: &mut Buffer, area: Rect, scroll: usize) -> usize {
    let columns = usize::from(area.width);
    let mut rows = vec![Row::of(Tone::Strong, " Keys")];
    for (key, what) in KEYS {
        let what = match (key, screen.of_run) {
            ("q", true) => "leave the screen; the run goes on in lines",
            ("Ctrl-C", true) => "stop the run in order; once more ends it at once",
            _ => what,
        };
        let lines = wrapped(15, Tone::Plain, what, columns, 4);
        let mut lines = lines.into_iter();
        if key.is_empty() {
            rows.push(Row::new());
            rows.extend(wrapped(1, Tone::Plain, what, columns, 4));
            continue;
        }
        let first = super::super::text::wrap(what, columns.saturating_sub(15)).into_iter().next().unwrap_or_default();
        drop(lines.next());
        rows.push(Row::of(Tone::Plain, " ").column(Tone::Key, key, 14).say(Tone::Plain, &first));
        rows.extend(lines);
    }
    scrolled(buffer, area, &rows, scroll, screen.look)
}

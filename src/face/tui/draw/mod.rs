//! The screen as cells. Pure: the same screen gives the same cells.

pub(super) mod board;
mod bottom;
mod budget;
mod events;
pub(super) mod graph;
mod help;
mod problems;
mod queue;
mod row;
mod story;
mod top;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::model::{Screen, View};
use super::text::wrap;
use super::theme::{Tone, ascii};
use row::{Row, list};

/// Below this, nothing that is drawn could be understood.
const SMALLEST: (u16, u16) = (40, 10);

/// What the loop must know of a drawing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drawn {
    /// How far the view can be scrolled.
    pub(super) reach: usize,
    /// Where the cursor stands, when something is typed.
    pub(super) cursor: Option<(u16, u16)>,
}

pub(super) fn is_too_small(size: (u16, u16)) -> bool {
    size.0 < SMALLEST.0 || size.1 < SMALLEST.1
}

pub(super) fn render(screen: &Screen, buffer: &mut Buffer) -> Drawn {
    let area = buffer.area;
    let drawn = if is_too_small((area.width, area.height)) {
        too_small(screen, buffer, area);
        Drawn::default()
    } else {
        whole(screen, buffer, area)
    };
    if !screen.look.unicode {
        for cell in &mut buffer.content {
            if let Some(plain) = ascii(cell.symbol()) {
                cell.set_symbol(plain);
            }
        }
    }
    drawn
}

fn too_small(screen: &Screen, buffer: &mut Buffer, area: Rect) {
    let text = format!(
        "This terminal is {}x{}; the screen needs {}x{}. Make it larger, or press q and use cofferdam status.",
        area.width, area.height, SMALLEST.0, SMALLEST.1
    );
    let rows: Vec<Row> = wrap(&text, usize::from(area.width)).iter().map(|line| Row::of(Tone::Plain, line)).collect();
    list(buffer, area, &rows, 0, screen.look);
}

fn whole(screen: &Screen, buffer: &mut Buffer, area: Rect) -> Drawn {
    let bottom = bottom::rows(screen, usize::from(area.width));
    // What is said at the bottom never takes the whole screen.
    let shown = bottom.rows.len().min(usize::from(area.height) - 4);
    let height = area.height - 2 - u16::try_from(shown).unwrap_or(1);
    let body = Rect { y: area.y + 2, height, ..area };
    list(buffer, Rect { height: 2, ..area }, &top::rows(screen, usize::from(area.width)), 0, screen.look);
    let below = Rect { y: body.bottom(), height: area.bottom() - body.bottom(), ..area };
    // The end of it is what counts: the line that is typed, and the keys.
    list(buffer, below, &bottom.rows, bottom.rows.len() - shown, screen.look);
    let cursor = bottom.cursor.map(|x| (x.min(area.right() - 1), area.bottom() - 2));
    let reach = match (screen.help, screen.view) {
        (Some(scroll), _) => help::render(screen, buffer, body, scroll),
        _ if screen.data.stories.is_empty() && screen.view != View::Events => nothing_yet(screen, buffer, body),
        (None, View::Board) => board::render(screen, buffer, body),
        (None, View::Graph) => graph::render(screen, buffer, body),
        (None, View::Story) => story::render(screen, buffer, body),
        (None, View::Queue) => queue::render(screen, buffer, body),
        (None, View::Problems) => problems::render(screen, buffer, body),
        (None, View::Events) => events::render(screen, buffer, body),
        (None, View::Budget) => budget::render(screen, buffer, body),
    };
    Drawn { reach, cursor }
}

fn nothing_yet(screen: &Screen, buffer: &mut Buffer, area: Rect) -> usize {
    let text = if screen.data.is_known {
        "There is no story yet. cofferdam add makes one; cofferdam run takes in those of the plan."
    } else {
        "Nothing has run in this repository yet. Start with cofferdam run; this screen shows it as soon as it begins."
    };
    list(buffer, area, &row::wrapped(2, Tone::Plain, text, usize::from(area.width), 8), 0, screen.look);
    0
}

//! The board: a column for each part of a story's life.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::super::data::{Data, Item};
use super::super::model::Screen;
use super::super::text::{age, clean, fit, wrap};
use super::super::theme::{Tone, of_phase};
use super::row::{Row, list, window};
use crate::story::Phase;

const COLUMNS: [&str; 5] = ["Waiting", "At work", "Landing", "Needs you", "Done"];
/// Narrower than this, columns beside each other hold nothing.
const BESIDE: u16 = 70;
/// A title goes on for so many lines at most.
const TITLE_LINES: usize = 3;
/// A card of this width has its state on one line with the rest.
const WIDE: usize = 28;

/// The stories of each column, by position.
pub(in crate::face::tui) fn columns(data: &Data) -> [Vec<usize>; COLUMNS.len()] {
    let mut columns: [Vec<usize>; COLUMNS.len()] = Default::default();
    for (at, item) in data.stories.iter().enumerate() {
        columns[column(&item.phase)].push(at);
    }
    columns
}

fn column(phase: &Phase) -> usize {
    match phase {
        Phase::Pending { .. } => 0,
        Phase::Contracting { .. }
        | Phase::Implementing { .. }
        | Phase::Verifying { .. }
        | Phase::Diagnosing { .. }
        | Phase::Repairing { .. }
        | Phase::GateCheck { .. } => 1,
        Phase::Ready { .. } | Phase::Queued { .. } | Phase::Merging { .. } => 2,
        Phase::Blocked(_) | Phase::Escalated { .. } | Phase::Stagnated { .. } => 3,
        Phase::Merged { .. } | Phase::Backfilled { .. } | Phase::Cancelled { .. } | Phase::Reverted { .. } => 4,
    }
}

/// The column of the chosen story, and its place in it.
pub(in crate::face::tui) fn place(columns: &[Vec<usize>], chosen: Option<&str>, data: &Data, otherwise: usize) -> (usize, usize) {
    let story = chosen.and_then(|id| data.graph.index.get(id));
    let found = columns.iter().enumerate().find_map(|(c, stories)| stories.iter().position(|s| Some(s) == story).map(|at| (c, at)));
    found.unwrap_or((otherwise.min(columns.len() - 1), 0))
}

pub(super) fn render(screen: &Screen, buffer: &mut Buffer, area: Rect) -> usize {
    let columns = columns(&screen.data);
    let chosen = screen.chosen().map(|item| item.row.id.as_str());
    if area.width < BESIDE {
        return below_each_other(screen, buffer, area, &columns, chosen);
    }
    let (column, at) = place(&columns, chosen, &screen.data, usize::MAX);
    let count = u16::try_from(COLUMNS.len()).unwrap_or(1);
    let width = (area.width - (count - 1)) / count;
    let size = card_size(screen, &columns, usize::from(width), usize::from(area.height.saturating_sub(2)));
    for (c, (title, stories)) in COLUMNS.iter().zip(&columns).enumerate() {
        let x = area.x + u16::try_from(c).unwrap_or(0) * (width + 1);
        let narrow = Rect { x, width, ..area };
        let tone = if c == 3 && !stories.is_empty() { Tone::Ask } else { Tone::Strong };
        Row::of(tone, &format!("{title} {}", stories.len())).put(buffer, narrow, area.y, screen.look);
        Row::of(Tone::Dim, &"─".repeat(usize::from(width))).put(buffer, narrow, area.y + 1, screen.look);
        let below = Rect { y: area.y + 2, height: area.height.saturating_sub(2), ..narrow };
        cards(screen, buffer, below, stories, size, (c == column && chosen.is_some()).then_some(at));
    }
    0
}

/// How many lines a title may have, and how high a card is: the same in all columns, so that what stands beside each other is read across.
fn card_size(screen: &Screen, columns: &[Vec<usize>], width: usize, height: usize) -> (usize, usize) {
    let most = columns.iter().map(Vec::len).max().unwrap_or(0);
    // A title goes on for as long as there is room below it.
    let lines = (1..=TITLE_LINES).rev().find(|lines| most * (2 + lines + 1) <= height).unwrap_or(1);
    // Where not all are seen, titles have one line and all cards are alike.
    let looked_at = if most <= height { usize::MAX } else { 1 };
    let high =
        columns.iter().flatten().take(looked_at).map(|story| card(screen, &screen.data.stories[*story], width, lines, false).len()).max();
    (lines, high.unwrap_or(1))
}

fn cards(screen: &Screen, buffer: &mut Buffer, area: Rect, stories: &[usize], (lines, high): (usize, usize), chosen: Option<usize>) {
    let width = usize::from(area.width);
    let card = |story: &usize, is_chosen| card(screen, &screen.data.stories[*story], width, lines, is_chosen);
    // Air between the cards, where there is room for it.
    let airy = high + 1;
    let high = if stories.len() * airy <= usize::from(area.height) { airy } else { high };
    let all_fit = stories.len() * high <= usize::from(area.height);
    // One line at the end says what is not seen.
    let room = if all_fit { stories.len() } else { usize::from(area.height).saturating_sub(1) / high };
    let start = window(chosen, stories.len(), room);
    let shown = stories.iter().enumerate().skip(start).take(room);
    let mut rows = Vec::new();
    for (at, story) in shown {
        rows.extend(card(story, chosen == Some(at)));
        rows.resize(rows.len().next_multiple_of(high), Row::new());
    }
    let (above, below) = (start, stories.len().saturating_sub(start + room));
    if !all_fit {
        let parts = [(above > 0).then(|| format!("↑{above}")), (below > 0).then(|| format!("↓{below}"))];
        rows.push(Row::of(Tone::Dim, &format!(" {} more", parts.into_iter().flatten().collect::<Vec<_>>().join(" "))));
    }
    list(buffer, area, &rows, 0, screen.look);
}

fn card(screen: &Screen, item: &Item, width: usize, lines: usize, is_chosen: bool) -> Vec<Row> {
    let (id, title) = (&item.row.id, &item.row.title);
    let mark = if is_chosen { "▸" } else { " " };
    let tone = of_phase(item.phase.name());
    let head = |row: Row| row.to(width).chosen(is_chosen);
    let (mut state, time) = (state(screen, item), elapsed(screen, item));
    if let Phase::Merged { commit } = &item.phase
        && width < WIDE
    {
        // As git shortens it.
        state = format!("merged {}", &commit.short()[..7]);
    }
    if width >= WIDE {
        let detail = if time.is_empty() { state } else { format!("{state}, {time}") };
        let first = Row::of(Tone::Plain, mark).say(Tone::Strong, id).say(Tone::Plain, &format!(" {title}"));
        return vec![head(first), Row::of(Tone::Plain, "  ").say(tone, &detail)];
    }
    let gap = width.saturating_sub(2 + id.chars().count() + time.chars().count());
    // The age gives way to the id.
    let time = if gap > 0 { format!("{}{time}", " ".repeat(gap)) } else { String::new() };
    let first = Row::of(Tone::Plain, mark).say(Tone::Strong, id).say(Tone::Plain, &time);
    let mut rows = vec![head(first), Row::of(Tone::Plain, " ").say(tone, &state)];
    let limit = width.saturating_sub(1);
    let mut title = wrap(&clean(title), limit);
    if title.len() > lines {
        let last = fit(&title.split_off(lines - 1).join(" "), limit);
        title.push(last);
    }
    rows.extend(title.iter().map(|line| Row::of(Tone::Plain, " ").say(Tone::Plain, line)));
    rows
}

/// Where it stands, in a few words.
fn state(screen: &Screen, item: &Item) -> String {
    let attempt = |word: &str| if item.row.attempt > 1 { format!("{word} {}", item.row.attempt) } else { word.to_owned() };
    match &item.phase {
        Phase::Pending { .. } => {
            let waits: Vec<&str> = item
                .story
                .spec
                .after
                .iter()
                .map(crate::base::id::StoryId::as_str)
                .filter(|id| !screen.data.item(id).is_some_and(|before| before.phase.satisfies_dependents()))
                .collect();
            match (waits.is_empty(), item.story.spec.automatable) {
                (false, _) => format!("after {}", waits.join(", ")),
                (true, false) => "a human's".to_owned(),
                (true, true) => "may start".to_owned(),
            }
        }
        Phase::GateCheck { .. } => attempt("gates"),
        Phase::Ready { .. } => "ready".to_owned(),
        Phase::Merging { candidate, .. } => if candidate.landing { "lands" } else { "being tested" }.to_owned(),
        Phase::Blocked(block) => block.reason.clone(),
        Phase::Merged { commit } => format!("merged {}", commit.short()),
        other if other.holds_slot() => attempt(other.name()),
        other => other.name().to_owned(),
    }
}

/// How long it has been so, of what is not at rest.
fn elapsed(screen: &Screen, item: &Item) -> String {
    let moves = item.phase.holds_slot() || item.phase.is_halted() || matches!(column(&item.phase), 2);
    let since = item.since.filter(|_| moves);
    since.map(|since| age(u64::try_from(screen.now.duration_since(since).as_secs()).unwrap_or(0))).unwrap_or_default()
}

fn below_each_other(screen: &Screen, buffer: &mut Buffer, area: Rect, columns: &[Vec<usize>], chosen: Option<&str>) -> usize {
    let mut rows = Vec::new();
    let mut mark = None;
    for (title, stories) in COLUMNS.iter().zip(columns).filter(|(_, stories)| !stories.is_empty()) {
        rows.push(Row::of(Tone::Strong, &format!("{title} {}", stories.len())));
        for story in stories {
            let item = &screen.data.stories[*story];
            let is_chosen = chosen == Some(item.row.id.as_str());
            mark = if is_chosen { Some(rows.len()) } else { mark };
            let row = Row::of(Tone::Plain, if is_chosen { "▸" } else { " " })
                .say(Tone::Strong, &item.row.id)
                .say(of_phase(item.phase.name()), &format!(" {}", state(screen, item)))
                .say(Tone::Dim, &format!(" {}", elapsed(screen, item)))
                .say(Tone::Plain, &format!(" {}", item.row.title));
            rows.push(row.to(usize::from(area.width)).chosen(is_chosen));
        }
    }
    let start = window(mark, rows.len(), usize::from(area.height));
    list(buffer, area, &rows, start, screen.look);
    0
}

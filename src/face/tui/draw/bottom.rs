//! The lines at the bottom: what was said, what is asked, and always the keys.

use super::super::model::{Asks, Entry, Screen, View};
use super::super::text::{clean, width, wrap};
use super::super::theme::Tone;
use super::row::Row;
use crate::story::Phase;

/// Lines of an answer that are shown.
const TOLD: usize = 6;

#[derive(Debug)]
pub(super) struct Bottom {
    pub(super) rows: Vec<Row>,
    /// The column of the cursor, in the line above the keys.
    pub(super) cursor: Option<u16>,
}

pub(super) fn rows(screen: &Screen, columns: usize) -> Bottom {
    let mut rows = Vec::new();
    let mut cursor = None;
    if let Some(entry) = &screen.entry {
        rows.extend(wrap(&clean(&question(screen, entry)), columns - 1).iter().map(|line| Row::of(Tone::Ask, &format!(" {line}"))));
        if !entry.asks.is_confirmation() {
            // The end of a long line is where one types.
            let text = clean(&entry.text);
            let room = columns.saturating_sub(5);
            let skip = text.char_indices().map(|(at, _)| at).find(|at| width(&text[*at..]) <= room).unwrap_or(text.len());
            let shown = &text[skip..];
            rows.push(Row::of(Tone::Strong, if skip > 0 { " >…" } else { " > " }).say(Tone::Plain, shown));
            cursor = u16::try_from(3 + width(shown)).ok();
        }
    } else if let Some(told) = &screen.told {
        let (tone, text) = match told {
            Ok(text) => (Tone::Good, text),
            Err(text) => (Tone::Bad, text),
        };
        let lines: Vec<String> = text.lines().flat_map(|line| wrap(&clean(line.trim_end()), columns - 1)).collect();
        rows.extend(lines.iter().take(TOLD).map(|line| Row::of(tone, &format!(" {line}"))));
    }
    rows.push(keys(screen, columns));
    Bottom { rows, cursor }
}

fn question(screen: &Screen, entry: &Entry) -> String {
    let id = &entry.story;
    let item = screen.data.item(id);
    match &entry.asks {
        Asks::Answer => match item.map(|item| &item.phase) {
            Some(Phase::Blocked(block)) => format!("{id} asks: {}", block.question),
            _ => format!("Answer {id}:"),
        },
        Asks::Note => format!("A note for the next attempt of {id}:"),
        Asks::Cancel => format!("Enter ends {id} for good. The reason, if you want to give one:"),
        Asks::Retry => format!("Let {id} go on with a fresh budget, from the work it has?"),
        Asks::Approve { commit } => {
            let short = commit.get(..10).unwrap_or(commit);
            let files = item.and_then(|item| item.story.change()).filter(|change| change.commit.as_str() == commit);
            let files = files.map(|change| format!(", {}", crate::base::text::plural(change.files, "file", "files"))).unwrap_or_default();
            format!("Approve commit {short} of {id}{files}? cofferdam diff {id} shows it.")
        }
    }
}

/// Names of keys, and what they do. Those at the front give way first when there is no room.
fn keys(screen: &Screen, columns: usize) -> Row {
    if let Some(entry) = &screen.entry {
        let keys: &[(&str, &str)] = if entry.asks.is_confirmation() {
            &[("y", "yes"), ("any other key", "no")]
        } else if entry.asks == Asks::Cancel {
            &[("Enter", "end it"), ("Ctrl-U", "clear"), ("Esc", "leave it")]
        } else {
            &[("Enter", "send"), ("Ctrl-U", "clear"), ("Esc", "leave it")]
        };
        return row(keys);
    }
    if screen.help.is_some() {
        return row(&[("↑↓", "scroll"), ("any other key", "back")]);
    }
    let mut all: Vec<(&str, &str)> = match screen.view {
        View::Board => vec![("←↑↓→", "choose"), ("Enter", "open")],
        View::Story => vec![("↑↓", "scroll"), ("←→", "story"), ("t", "parts")],
        View::Events => vec![("↑↓", "choose"), ("f", if screen.only_story { "all" } else { "one story" }), ("End", "follow")],
        View::Graph | View::Queue | View::Problems | View::Budget => vec![("↑↓", "choose"), ("Enter", "open")],
    };
    all.extend(actions(screen));
    let last = [("?", "help"), ("q", "leave")];
    loop {
        let row = row(&[&all[..], &last].concat());
        if row.width() <= columns || all.is_empty() {
            return row;
        }
        all.remove(0);
    }
}

/// What may be of use for the chosen story. The others work too, and are refused with the reason.
fn actions(screen: &Screen) -> Vec<(&'static str, &'static str)> {
    let Some(item) = screen.chosen() else { return Vec::new() };
    let (asks, approval) = match &item.phase {
        Phase::Blocked(block) => (block.reason != "approval", block.reason == "approval"),
        Phase::Ready { .. } => (false, item.story.spec.rules.landing == crate::event::Landing::Approval),
        _ => (false, false),
    };
    let all = [
        (asks, ("a", "answer")),
        (approval, ("y", "approve")),
        (!item.phase.is_terminal(), ("n", "note")),
        (item.phase.is_halted(), ("r", "retry")),
        (!item.phase.is_terminal(), ("x", "cancel")),
    ];
    all.into_iter().filter(|(fits, _)| *fits).map(|(_, key)| key).collect()
}

fn row(keys: &[(&str, &str)]) -> Row {
    keys.iter().enumerate().fold(Row::new(), |row, (at, (key, what))| {
        row.say(Tone::Plain, if at == 0 { " " } else { "  " }).say(Tone::Key, key).say(Tone::Dim, &format!(" {what}"))
    })
}

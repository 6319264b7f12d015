//! Lines of differently toned text, and their way into cells. Everything that is drawn passes through [`Row::say`], which makes it harmless.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::{Modifier, Style};

use super::super::text::{clean, fit, pad, width, wrap};
use super::super::theme::{Look, Tone};

#[derive(Clone, Debug, Default)]
pub(in crate::face::tui) struct Row {
    parts: Vec<(String, Tone)>,
    is_chosen: bool,
}

impl Row {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn of(tone: Tone, text: &str) -> Self {
        Self::new().say(tone, text)
    }

    pub(super) fn say(mut self, tone: Tone, text: &str) -> Self {
        self.parts.push((clean(text), tone));
        self
    }

    /// In exactly so many columns.
    pub(super) fn column(mut self, tone: Tone, text: &str, columns: usize) -> Self {
        self.parts.push((pad(&clean(text), columns), tone));
        self
    }

    /// Filled up with spaces to so many columns, and cut there.
    pub(super) fn to(mut self, columns: usize) -> Self {
        let used = self.width();
        if used < columns {
            self.parts.push((" ".repeat(columns - used), Tone::Plain));
            return self;
        }
        let mut left = columns;
        for (text, _) in &mut self.parts {
            *text = fit(text, left);
            left -= width(text);
        }
        self
    }

    pub(super) fn chosen(mut self, is_chosen: bool) -> Self {
        self.is_chosen = is_chosen;
        self
    }

    pub(super) fn width(&self) -> usize {
        self.parts.iter().map(|(text, _)| width(text)).sum()
    }

    pub(super) fn put(&self, buffer: &mut Buffer, area: Rect, y: u16, look: Look) {
        if y >= area.bottom() || area.width == 0 {
            return;
        }
        let mut x = area.x;
        let mut left = usize::from(area.width);
        for (text, tone) in &self.parts {
            // What does not fit is told by an ellipsis, wherever the line was made.
            let text = fit(text, left);
            let style = if self.is_chosen { look.style(Tone::Plain) } else { look.style(*tone) };
            (x, _) = buffer.set_stringn(x, y, &text, left, style);
            left -= width(&text).min(left);
        }
        if self.is_chosen {
            buffer.set_style(Rect { y, height: 1, ..area }, Style::new().add_modifier(Modifier::REVERSED));
        }
    }
}

/// A text over as many lines as it needs, behind a label.
pub(super) fn labelled(label: &str, tone: Tone, text: &str, columns: usize) -> Vec<Row> {
    let label = pad(&clean(label), LABEL);
    let lines = wrap(&clean(text), columns.saturating_sub(LABEL));
    let rows = lines.iter().enumerate().map(|(at, line)| {
        let label = if at == 0 { label.clone() } else { " ".repeat(LABEL) };
        Row::of(Tone::Dim, &label).say(tone, line)
    });
    rows.collect()
}

/// Columns of a label.
const LABEL: usize = 10;

/// Wrapped text, indented; at most so many lines.
pub(super) fn wrapped(indent: usize, tone: Tone, text: &str, columns: usize, most: usize) -> Vec<Row> {
    let lines = wrap(&clean(text), columns.saturating_sub(indent));
    let more = lines.len() > most;
    let mut rows: Vec<Row> = lines.iter().take(most).map(|line| Row::of(Tone::Plain, &" ".repeat(indent)).say(tone, line)).collect();
    if let Some(last) = rows.last_mut().filter(|_| more) {
        last.parts.push((" …".to_owned(), tone));
    }
    rows
}

/// The first line to show of a list, so that the chosen one is seen, in the middle where there is a choice.
pub(super) fn window(chosen: Option<usize>, count: usize, height: usize) -> usize {
    let most = count.saturating_sub(height);
    chosen.map_or(0, |chosen| chosen.saturating_sub(height / 2)).min(most)
}

/// Draws the rows from `start` on.
pub(super) fn list(buffer: &mut Buffer, area: Rect, rows: &[Row], start: usize, look: Look) {
    for (y, row) in (area.y..area.bottom()).zip(rows.iter().skip(start)) {
        row.put(buffer, area, y, look);
    }
}

/// Draws rows that scroll, and says how far they can.
pub(super) fn scrolled(buffer: &mut Buffer, area: Rect, rows: &[Row], scroll: usize, look: Look) -> usize {
    let reach = rows.len().saturating_sub(usize::from(area.height));
    list(buffer, area, rows, scroll.min(reach), look);
    reach
}

/// A line across with a title in it.
pub(super) fn rule(title: &str, columns: usize) -> Row {
    let title = fit(&clean(title), columns.saturating_sub(4));
    let used = if title.is_empty() { 0 } else { width(&title) + 4 };
    let row = Row::new();
    let row = if title.is_empty() { row } else { row.say(Tone::Dim, "── ").say(Tone::Strong, &title).say(Tone::Plain, " ") };
    row.say(Tone::Dim, &"─".repeat(columns.saturating_sub(used)))
}

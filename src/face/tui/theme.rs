//! How things look: attributes and three of the terminal's own sixteen colours, which the person chose to be readable on their background.
//! No colour stands alone: what it says, a word beside it says too.

use ratatui_core::style::{Color, Modifier, Style};

/// What a piece of text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    /// Beside the point.
    Dim,
    Strong,
    Good,
    Bad,
    /// Somebody is asked.
    Ask,
    /// The line that keys act on, the view that is shown.
    Chosen,
    /// A name to press.
    Key,
}

/// What the terminal can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) color: bool,
    /// It shows more than ASCII.
    pub(super) unicode: bool,
}

impl Look {
    pub(super) fn style(self, tone: Tone) -> Style {
        let (color, attribute) = match tone {
            Tone::Plain => (None, Modifier::empty()),
            Tone::Dim => (None, Modifier::DIM),
            Tone::Strong | Tone::Key => (None, Modifier::BOLD),
            Tone::Good => (Some(Color::Green), Modifier::empty()),
            Tone::Bad => (Some(Color::Red), Modifier::BOLD),
            Tone::Ask => (Some(Color::Magenta), Modifier::BOLD),
            Tone::Chosen => (None, Modifier::REVERSED),
        };
        let style = Style::new().add_modifier(attribute);
        color.filter(|_| self.color).map_or(style, |color| style.fg(color))
    }
}

/// The tone of a phase.
pub(super) fn of_phase(phase: &str) -> Tone {
    match phase {
        "merged" | "backfilled" => Tone::Good,
        "blocked" | "escalated" | "stagnated" => Tone::Ask,
        "reverted" => Tone::Bad,
        "pending" | "cancelled" => Tone::Dim,
        _ => Tone::Strong,
    }
}

/// The nearest ASCII to what this program itself draws; anything else of strangers is a `?`.
pub(super) fn ascii(symbol: &str) -> Option<&'static str> {
    if symbol.is_ascii() {
        return None;
    }
    Some(match symbol {
        "│" => "|",
        "─" | "–" => "-",
        "├" => "|",
        "└" => "`",
        "✓" => "+",
        "✗" => "x",
        "…" => "~",
        "→" | "▸" => ">",
        "↑" => "^",
        "↓" => "v",
        "←" => "<",
        "·" => "-",
        "█" => "#",
        "░" => ".",
        _ => "?",
    })
}

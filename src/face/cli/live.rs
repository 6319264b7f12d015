//! How a run is told: lines for a pipe, lines of JSON for a script, one line a story for a person at a terminal.

use super::log::line;
use super::printer;
use crate::engine::run::{Glance, Watcher};
use crate::store::Stored;
use crate::story::{Phase, Story};

/// One line for each event.
#[derive(Debug)]
pub(super) struct Lines {
    json: bool,
}

impl Lines {
    pub(super) fn plain() -> Self {
        Self { json: false }
    }

    pub(super) fn json() -> Self {
        Self { json: true }
    }
}

impl Watcher for Lines {
    fn stored(&mut self, event: &Stored, moved: Option<(&str, &Phase)>, _: Option<&Story>) {
        if self.json {
            return printer::out(&event.json());
        }
        printer::out(&line(event, moved.map(|(to, _)| to)));
    }

    fn look(&mut self, _: &Glance<'_>) {}

    fn say(&mut self, text: &str) {
        printer::err(&format!("cofferdam: {text}"));
    }
}

/// One line a story, and a bar for the whole.
#[derive(Debug)]
pub(super) struct Live;

impl Live {
    pub(super) fn is_possible() -> bool {
        false
    }

    pub(super) fn new() -> Self {
        Self
    }
}

impl Watcher for Live {
    fn stored(&mut self, _: &Stored, _: Option<(&str, &Phase)>, _: Option<&Story>) {}
    fn look(&mut self, _: &Glance<'_>) {}
    fn say(&mut self, _: &str) {}
}

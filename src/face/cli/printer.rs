//! The only way to the terminal: data on standard output, everything else on standard error.

use std::io::{IsTerminal, Write};

use crate::base::columns::hang;

/// Narrower terminals are written to as if they had so many columns.
const NARROWEST: usize = 40;

/// Writes data for a person or a pipe. A reader that went away is no error: there is nobody left to tell.
pub fn out(text: &str) {
    let mut stdout = anstream::stdout().lock();
    drop(writeln!(stdout, "{text}"));
}

/// Writes data, and says whether the reader is still there: what goes on for ever must end when nobody reads it.
pub fn out_or_gone(text: &str) -> bool {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "{text}").is_ok()
}

/// The columns of the terminal that standard output is. None for a pipe or a file.
pub fn columns() -> Option<usize> {
    std::io::stdout().is_terminal().then(width).flatten()
}

/// The same for standard error.
pub fn columns_of_errors() -> Option<usize> {
    std::io::stderr().is_terminal().then(width).flatten()
}

fn width() -> Option<usize> {
    let (columns, _) = ratatui_crossterm::crossterm::terminal::size().ok()?;
    (columns > 0).then(|| usize::from(columns).max(NARROWEST))
}

/// Writes sentences for a person: on a terminal, lines end between words. A pipe gets them as they are.
pub fn prose(text: &str) {
    match columns() {
        Some(columns) => out(&hang(text, columns)),
        None => out(text),
    }
}

/// The same for a message that is no data.
pub fn say(text: &str) {
    match columns_of_errors() {
        Some(columns) => err(&hang(text, columns)),
        None => err(text),
    }
}

/// Writes one JSON document on one line group, as `--json` promises.
pub fn json(document: &impl serde::Serialize) {
    match serde_json::to_string_pretty(document) {
        Ok(text) => out(&text),
        Err(error) => err(&format!("cofferdam: the JSON document could not be written: {error}")),
    }
}

/// Writes a message for a person.
pub fn err(text: &str) {
    let mut stderr = anstream::stderr().lock();
    drop(writeln!(stderr, "{text}"));
}

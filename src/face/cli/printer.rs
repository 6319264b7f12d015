//! The only way to the terminal: data on standard output, everything else on standard error.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::base::columns::{hang, wrap};

/// Narrower terminals are written to as if they had so many columns.
const NARROWEST: usize = 40;

/// How much is said beside what was asked for: set once, before a command begins.
static LEVEL: AtomicU8 = AtomicU8::new(NORMAL);
const QUIET: u8 = 0;
const NORMAL: u8 = 1;
const VERBOSE: u8 = 2;

/// What `-q` and `-v` say; who wants it quiet wins.
pub fn set_level(quiet: bool, verbose: bool) {
    let level = match (quiet, verbose) {
        (true, _) => QUIET,
        (false, true) => VERBOSE,
        (false, false) => NORMAL,
    };
    LEVEL.store(level, Ordering::Relaxed);
}

pub fn is_quiet() -> bool {
    LEVEL.load(Ordering::Relaxed) == QUIET
}

/// Why data did not get to where it was to go: the first time.
static LOST: OnceLock<String> = OnceLock::new();

/// Writes data for a person or a pipe. A reader that went away is no error: there is nobody left to tell. A full disk is: see [`lost`].
pub fn out(text: &str) {
    out_or_gone(text);
}

/// Why not all data was written, if so.
pub fn lost() -> Option<&'static str> {
    LOST.get().map(String::as_str)
}

/// Writes data, and says whether the reader is still there: what goes on for ever must end when nobody reads it.
pub fn out_or_gone(text: &str) -> bool {
    let mut stdout = anstream::stdout().lock();
    let written = writeln!(stdout, "{text}");
    if let Err(error) = &written
        && error.kind() != ErrorKind::BrokenPipe
    {
        LOST.get_or_init(|| error.to_string());
    }
    written.is_ok()
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

/// Writes a line of a list. On a terminal, what is wider goes on below its own column.
pub fn entry(head: &str, text: &str) {
    let room = columns().map(|columns| columns.saturating_sub(head.chars().count()).max(NARROWEST / 2));
    let lines = room.map_or_else(|| vec![text.to_owned()], |room| wrap(text, room));
    out(&format!("{head}{}", lines.join(&format!("\n{}", " ".repeat(head.chars().count())))));
}

/// Writes sentences that are no data.
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
        Err(error) => error_line(&format!("cofferdam: the JSON document could not be written: {error}")),
    }
}

/// Writes a message for a person: what is no error, and can be left out.
pub fn err(text: &str) {
    if !is_quiet() {
        error_line(text);
    }
}

/// Writes what went wrong: also for those who want it quiet.
pub fn error_line(text: &str) {
    let mut stderr = anstream::stderr().lock();
    drop(writeln!(stderr, "{text}"));
}

/// The same, with lines that end between words on a terminal.
pub fn failed(text: &str) {
    match columns_of_errors() {
        Some(columns) => error_line(&hang(text, columns)),
        None => error_line(text),
    }
}

/// Writes what only `-v` asks for.
pub fn detail(text: impl FnOnce() -> String) {
    if LEVEL.load(Ordering::Relaxed) == VERBOSE {
        error_line(&format!("cofferdam: {}", text()));
    }
}

//! The only way to the terminal: data on standard output, everything else on standard error.

use std::io::Write;

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

//! The terminal screen: a reader of the store like every other face, and a writer of the same commands.
//!
//! ```text
//! keys, news of the store, time ─▶ model (Screen::update, pure) ─▶ wishes (leave, look, tell …)
//!                                      └─▶ draw (pure: Screen ─▶ cells)
//! feed (reads the store when it changed)        terminal (raw mode, signals, resize)        run (the loop that joins them)
//! ```
//!
//! Nothing here waits for a runner, and no runner waits for it: it may be opened and closed at any time, any number of times.

mod data;
mod draw;
mod feed;
mod keys;
mod model;
mod problems;
mod run;
mod terminal;
mod text;
mod theme;

pub(in crate::face) use run::{Environment, check, run};

#[cfg(test)]
mod tests;

//! Faces: readers of what happened, writers of commands.

pub mod cli;
mod tui;

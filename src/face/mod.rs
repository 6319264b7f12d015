//! Faces: readers of what happened, writers of commands.

pub mod cli;
mod mcp;
mod tui;
mod web;

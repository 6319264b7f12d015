//! `cofferdam watch`: the screen.

use std::process::ExitCode;

use super::failure::Failure;
use super::state::State;
use crate::face::tui::{self, Environment};

/// Tells the screen that its parent is the run it shows.
pub(super) const OF_RUN: &str = "--of-run";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The parent of this process is the run that is shown
    #[arg(long, hide = true)]
    of_run: bool,
}

/// # Errors
/// When there is no terminal to draw on, or this is no repository.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let environment = Environment::of_process();
    tui::check(&environment)?;
    tui::run(State::find()?, &environment, args.of_run)
}

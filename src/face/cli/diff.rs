//! `cofferdam diff`: what a story changed, as a patch.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use super::failure::{Exit, Failure};
use super::{printer, workspace};
use crate::base::text::bytes_line;
use crate::workspace::rules::Limits;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The story's name
    story: String,
}

/// # Errors
/// When there is no such story, or it is busy.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let workspaces = workspace::open()?;
    let story = workspaces.story(&args.story).map_err(|e| workspace::failed(&e))?;
    let held = workspace::hold_quiet(&workspaces, &story)?;
    let patch = workspaces.diff(&story, &held, Limits::default()).map_err(|e| workspace::failed(&e))?;
    drop(held);
    if std::io::stdout().is_terminal() {
        // A stranger's lines: the terminal must show them, not obey them.
        patch.split(|b| *b == b'\n').for_each(|line| printer::out(&bytes_line(line)));
    } else if let Err(error) = std::io::stdout().lock().write_all(&patch)
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return Err(Failure::new(Exit::Failure, "the patch could not be written").because(&error));
    }
    Ok(ExitCode::SUCCESS)
}

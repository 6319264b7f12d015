//! `cofferdam diff`: what a story changed, as a patch.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use super::failure::{Exit, Failure};
use super::state::State;
use super::{printer, workspace};
use crate::base::text::bytes_line;
use crate::workspace::git::Oid;
use crate::workspace::rules::Limits;
use crate::workspace::stories::Story;

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
    let patch = workspaces.diff(&story, &held, beginning(&story), Limits::default()).map_err(|e| workspace::failed(&e))?;
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

/// Where the story began, when its workspace stands on an earlier attempt: a repair is only the last part of what it changed.
fn beginning(story: &Story) -> Option<Oid> {
    let facts = State::find().ok()?.store().ok()??.story(&story.story.parse().ok()?).ok()??;
    let mut changes = facts.attempts.iter().filter_map(|attempt| attempt.change.as_ref());
    changes.find(|change| change.commit.as_str() == story.base)?.base.as_str().parse().ok()
}

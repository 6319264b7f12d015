//! `cofferdam checkout`: a story's last collected commit as files for a person.

use std::path::PathBuf;
use std::process::ExitCode;

use super::failure::Failure;
use super::{printer, workspace};
use crate::base::text::one_line;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The story's name
    story: String,
    /// Where to [default: a folder beside the repository]
    dir: Option<PathBuf>,
}

/// # Errors
/// When the folder is in use, or there is no such story.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let workspaces = workspace::open()?;
    let story = workspaces.story(&args.story).map_err(|e| workspace::failed(&e))?;
    let beside = workspaces.repository.worktree().and_then(|tree| tree.parent());
    let folder = match (&args.dir, beside) {
        (Some(dir), _) => std::path::absolute(dir).map_err(|e| Failure::usage("the folder cannot be used").because(&e))?,
        (None, Some(beside)) => beside.join(format!("{}-{}", workspaces.repository.name(), story.slug())),
        (None, None) => return Err(Failure::usage("name a folder to check out to")),
    };
    let commit = workspaces.checkout(&story, &folder).map_err(|e| workspace::failed(&e))?;
    printer::err(&format!("{commit} of {} is in {}", one_line(&story.story), one_line(&folder.to_string_lossy())));
    printer::err("  next: an agent wrote these files; look before you run anything in them");
    Ok(ExitCode::SUCCESS)
}

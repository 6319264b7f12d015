//! `cofferdam shell`: a shell in a story's sandbox, for a person.

use std::ffi::OsString;
use std::process::ExitCode;

use super::failure::Failure;
use super::{exec, workspace};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The story's name
    story: String,
    /// Whose profile to run with
    #[arg(long, value_name = "ROLE", default_value = "implementer")]
    role: String,
}

/// # Errors
/// When there is no such story, it is busy, or the sandbox cannot be built.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let workspaces = workspace::open()?;
    let story = workspaces.story(&args.story).map_err(|e| workspace::failed(&e))?;
    let program = [OsString::from(if std::path::Path::new("/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" })];
    let (policy, outcome) = workspace::run_command(&workspaces, &story, &args.role, &program, exec::at_a_terminal())?;
    workspace::tell(&policy, &outcome, &program[0], false);
    Ok(exec::exit_code(outcome.exit_code))
}

//! `cofferdam run`: said plainly until the runner is there, because other commands point to it.

use super::failure::{Exit, Failure};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// # Errors
/// Always.
pub fn run(_: &Args) -> Result<std::process::ExitCode, Failure> {
    Err(Failure::new(Exit::Failure, "there is no runner in this version; nothing was changed")
        .why("stories are read, planned and kept, but nothing works on them by itself yet")
        .next("by hand: cofferdam workspace new STORY, workspace exec STORY -- COMMAND, workspace collect STORY"))
}

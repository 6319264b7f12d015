//! `cofferdam mcp`: the commands as tools of a model, over standard streams.

use std::process::ExitCode;

use super::failure::{Exit, Failure};
use super::printer;
use super::state::State;
use crate::face::mcp::{Session, serve};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "For the configuration of an agent of yours: the command is `cofferdam mcp`, run in the repository. It speaks JSON-RPC \
                        on standard streams. Approving, rejecting and reverting are no tools: they are a human's own word."
)]
pub struct Args {
    /// Offer only what changes nothing
    #[arg(long)]
    read_only: bool,
}

/// # Errors
/// When this is no repository, or standard input cannot be read.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    State::find()?;
    let failed = |error: &std::io::Error| Failure::new(Exit::Failure, "the session broke off").because(error);
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut session = Session { program: &program, asks: !args.read_only, is_begun: false };
    serve(&mut session, std::io::stdin().lock(), |answer| printer::out_or_gone(&answer.to_string())).map_err(|error| failed(&error))?;
    Ok(ExitCode::SUCCESS)
}

//! The command line: arguments to plain values, one file a command, failures to exit codes.

use std::process::ExitCode;

use clap::Parser;

pub mod checkout;
pub mod clean;
pub mod diff;
pub mod doctor;
pub mod exec;
pub mod failure;
mod inplace;
pub mod printer;
pub mod profile;
pub mod shell;
pub mod workspace;

use failure::{Exit, Failure};

use crate::sandbox::{helper, sys};

#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, about = "Run untrusted coding agents in parallel; land only what has been proven.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Run one command in a sandbox
    Exec(Box<exec::Args>),
    /// Can this host enforce a sandbox? Every layer, and what mends it
    Doctor(doctor::Args),
    /// What a sandbox may touch: list, show, check and explain profiles
    Profile(profile::Args),
    /// One safe worktree per story: new, exec, collect, list, remove
    Workspace(workspace::Args),
    /// Fill in a story's last collected commit as files for a person
    Checkout(checkout::Args),
    /// Open a shell in a story's sandbox
    Shell(shell::Args),
    /// Show what a story changed
    Diff(diff::Args),
    /// Remove what nothing uses any more; never a commit that nothing else reaches
    Clean(clean::Args),
}

/// The program.
pub fn main() -> ExitCode {
    sys::fill_standard_streams();
    // Before anything else: this process must stay as small and single-threaded as it was born.
    if std::env::args_os().nth(1).is_some_and(|first| first == helper::COMMAND) {
        return if helper::serve().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    match run(args.command) {
        Ok(code) => code,
        Err(failure) => {
            printer::err(&failure.to_string());
            ExitCode::from(failure.exit as u8)
        }
    }
}

/// Help goes to standard output and is a success; a typing error keeps `exec`'s own code, because 2 may be its command's.
fn usage(error: &clap::Error) -> ExitCode {
    // A terminal that went away cannot be told.
    drop(error.print());
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    let exec = std::env::args_os().nth(1).is_some_and(|first| first == "exec");
    ExitCode::from(if exec { Exit::ExecOurs } else { Exit::Usage } as u8)
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Exec(args) => exec::run(*args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Profile(args) => profile::run(args),
        Command::Workspace(args) => workspace::run(args),
        Command::Checkout(args) => checkout::run(&args),
        Command::Shell(args) => shell::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Clean(args) => clean::run(&args),
    }
}

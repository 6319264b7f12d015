//! The command line: arguments to plain values, one file a command, failures to exit codes.

use std::process::ExitCode;

use clap::Parser;

pub mod failure;
pub mod printer;
pub mod profile;

use failure::Failure;

#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, about = "Run untrusted coding agents in parallel; land only what has been proven.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What a sandbox may touch: list, show, check and explain profiles
    Profile(profile::Args),
}

/// The program.
pub fn main() -> ExitCode {
    let args = Args::parse();
    match run(args.command) {
        Ok(code) => code,
        Err(failure) => {
            printer::err(&failure.to_string());
            ExitCode::from(failure.exit as u8)
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Profile(args) => profile::run(args),
    }
}

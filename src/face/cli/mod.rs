//! The command line: arguments to plain values, one file a command, failures to exit codes.

use std::process::ExitCode;

use clap::Parser;

pub mod attack;
pub mod failure;
pub mod printer;
pub mod probe;

use failure::Failure;

#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, about = "Run untrusted coding agents in parallel; land only what has been proven.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Probe(probe::Args),
    #[command(name = "__attack", hide = true)]
    Attack(attack::Args),
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
        Command::Probe(args) => probe::run(args),
        Command::Attack(args) => attack::run(args),
    }
}

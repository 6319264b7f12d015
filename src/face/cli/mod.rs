//! The command line: arguments to plain values, one file a command, failures to exit codes.

use std::process::ExitCode;

use clap::Parser;

pub mod config;
pub mod failure;
pub mod printer;
pub mod problems;
pub mod project;

use failure::Failure;

#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, about = "Run untrusted coding agents in parallel; land only what has been proven.")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show the configuration and where it comes from
    Config(config::ConfigArgs),
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
        Command::Config(args) => config::run(args),
    }
}

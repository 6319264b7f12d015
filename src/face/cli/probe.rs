//! `cofferdam probe`: the attacks of the threat model, tried on this host.

use std::path::PathBuf;
use std::process::ExitCode;

use super::failure::{Exit, Failure};
use super::printer;
use crate::probe::drive::Engine;
use crate::probe::{ProbeError, Request, Section, run as probe};

/// Tries the attacks of the threat model from inside the sandbox, on canaries of its own.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The profile to test: a name or a file.
    #[arg(long, value_name = "NAME|FILE", default_value = "default")]
    profile: String,
    /// Only these sections: A files, B processes, C kernel, D network, E resources.
    #[arg(long, value_name = "A..E", value_enum, ignore_case = true, value_delimiter = ',')]
    section: Vec<SectionName>,
    /// Only the attack of this id, as `--json` names it.
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Leave out the controls: what the same attacks do outside.
    #[arg(long)]
    no_controls: bool,
    /// Leave out what needs a sandbox of its own: limits, and the ends of runs.
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum SectionName {
    A,
    B,
    C,
    D,
    E,
}

impl From<SectionName> for Section {
    fn from(name: SectionName) -> Self {
        match name {
            SectionName::A => Self::A,
            SectionName::B => Self::B,
            SectionName::C => Self::C,
            SectionName::D => Self::D,
            SectionName::E => Self::E,
        }
    }
}

pub fn run(args: Args) -> Result<ExitCode, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::new(Exit::Failure, "this program's own file cannot be found").because(&error))?;
    // A profile that is a file is found from here, not from the test's own folder.
    let profile = match PathBuf::from(&args.profile).canonicalize() {
        Ok(path) if path.is_file() => path.to_string_lossy().into_owned(),
        Ok(_) | Err(_) => args.profile,
    };
    let request = Request {
        engine: Engine { program, profile, options: Vec::new() },
        sections: args.section.into_iter().map(Section::from).collect(),
        only: args.only,
        controls: !args.no_controls,
        quick: args.quick,
        at_once: 12,
    };
    let report = probe(&request).map_err(failure)?;
    if args.json {
        printer::json(&report);
    } else {
        printer::out(&report.text());
    }
    Ok(if report.held { ExitCode::SUCCESS } else { ExitCode::from(Exit::Failure as u8) })
}

fn failure(error: ProbeError) -> Failure {
    match &error {
        ProbeError::Scene(_) => Failure::new(Exit::Failure, "the self-test could not be made")
            .because(&error)
            .next("look at the space and the rights in TMPDIR"),
        ProbeError::Unenforceable { said } => Failure::new(Exit::Unenforceable, error.to_string())
            .why(said.trim().to_owned())
            .next("cofferdam doctor says what is missing and how to mend it"),
        ProbeError::Engine { said, .. } => Failure::new(Exit::Failure, error.to_string())
            .why(said.trim().to_owned())
            .next("cofferdam doctor tries the sandbox step by step"),
        ProbeError::NoSuchAttack { nearest, .. } => {
            let next = nearest.map_or_else(|| "cofferdam probe --json names them all".to_owned(), |id| format!("did you mean {id}?"));
            Failure::usage(error.to_string()).next(next)
        }
    }
}

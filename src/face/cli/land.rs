//! `cofferdam land`: brings the clean checkouts of this repository to what has landed.

use std::process::ExitCode;

use serde_json::json;

use super::failure::{Exit, Failure};
use super::project::ProjectArgs;
use super::state::VERSION;
use super::{printer, workspace};
use crate::base::text::bytes_line;
use crate::queue::land::{Brought, bring_along};
use crate::workspace::git::Repository;

#[derive(Debug, clap::Args)]
#[command(after_help = "Stories land by themselves in `cofferdam run`, or when they are approved: see [merge] landing.")]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// What was done as a JSON document
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When the repository cannot be read, or a checkout has work of its own.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (loaded, branch) = args.project.load_with_target()?;
    let target = format!("refs/heads/{branch}");
    let repository = Repository::discover(&loaded.root).map_err(|error| workspace::failed(&error.into()))?;
    let tip = repository.branch_tip(&target).map_err(|error| workspace::failed(&error.into()))?;
    let tip = tip.ok_or_else(|| Failure::usage(format!("the target {branch} is gone")).next("make it again, or set project.target"))?;
    let brought = bring_along(&repository, &target, tip)
        .map_err(|error| Failure::new(Exit::Failure, "the checkouts cannot be brought along").because(&error))?;
    let path = |one: &Brought| bytes_line(one.files.as_os_str().as_encoded_bytes());
    if args.json {
        let list: Vec<_> =
            brought.iter().map(|one| json!({"files": path(one), "at_target": one.why_not.is_none(), "why_not": one.why_not})).collect();
        printer::json(&json!({"version": VERSION, "target": {"ref": target, "commit": tip.to_string()}, "checkouts": list}));
    } else if brought.is_empty() {
        printer::out(&format!("No checkout was left behind by {branch}."));
    } else {
        for one in brought.iter().filter(|one| one.why_not.is_none()) {
            printer::out(&format!("{} is on {branch} at {}", path(one), &tip.to_string()[..12]));
        }
    }
    let left: Vec<&Brought> = brought.iter().filter(|one| one.why_not.is_some()).collect();
    let Some(first) = left.first().filter(|_| !args.json) else {
        return Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Exit::Blocked as u8) });
    };
    let why = first.why_not.clone().unwrap_or_default();
    Err(Failure::new(Exit::Blocked, format!("{} stays where it is", path(first)))
        .why(why)
        .next("then cofferdam land once more, or git pull there"))
}

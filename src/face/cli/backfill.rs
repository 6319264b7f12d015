//! `cofferdam backfill STORY`: work that was done outside is written down, on a human's word, and its commit is looked at like any other.

use std::path::PathBuf;
use std::process::ExitCode;

use super::command::{optional, order};
use super::failure::{Exit, Failure};
use super::project::ProjectArgs;
use super::state::{self, State};
use super::{gate, printer, workspace};
use crate::base::id::CommitId;
use crate::base::text::{list, one_line};
use crate::config::When;
use crate::config::load::Environment;
use crate::event::{GateResult, Kind};
use crate::story::step;
use crate::workspace::git::{Oid, Repository};

#[derive(Debug, clap::Args)]
#[command(after_help = "The commit must be part of the target, and the target's gates are run on it; what is remembered for its tree is \
                        not run again. Without --commit it is your word alone. Exit code 5 when a gate is red: nothing is recorded then.")]
pub struct Args {
    story: String,
    /// The commit of the target that holds the work
    #[arg(long, value_name = "REF")]
    commit: Option<String>,
    /// Run no gate: the record says that none looked at it
    #[arg(long)]
    no_gate: bool,
    #[arg(value_name = "REASON")]
    text: Vec<String>,
    #[command(flatten)]
    project: ProjectArgs,
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When the story does not exist or is done, the commit is not part of the target, or a gate is red on it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let reason = optional(&args.text)?.unwrap_or_else(|| "done outside of cofferdam".to_owned());
    let record = |commit, gates| Kind::StoryBackfilled { commit, reason: reason.clone(), gates };
    let Some(typed) = &args.commit else {
        return order(&args.story, args.json, |_| Ok(record(None, Vec::new())));
    };
    let state = State::find()?;
    // Where the person stands: HEAD of another worktree is another commit.
    let here = Environment::of_process().project_dir.map_or_else(|| PathBuf::from("."), PathBuf::from);
    let repository = Repository::discover(&here).map_err(|error| workspace::failed(&error.into()))?;
    let unknown = |error: &dyn std::error::Error| {
        Failure::usage(format!("`{}` names no commit of this repository", one_line(typed)))
            .because(error)
            .next("git log shows the commits there are")
    };
    let commit = repository.commit(typed).map_err(|error| unknown(&error))?;
    let id: CommitId = commit.to_string().parse().map_err(|error| unknown(&error))?;
    let (loaded, branch) = args.project.load_with_target()?;
    is_landed(&repository, &branch, commit, &id)?;
    // Before anything is paid for: would it be taken at all?
    if let Some(store) = state.store()?
        && let Ok(story) = state::story(Some(&store), &args.story)
    {
        step(&story, &record(Some(id.clone()), Vec::new()), state::now()).map_err(|refused| state::failure(refused.into()))?;
    }
    let gates = if args.no_gate { Vec::new() } else { green(args, &loaded, &state, commit, &id)? };
    let said = match (args.no_gate, gates.is_empty()) {
        _ if args.json => None,
        (true, _) => Some("no gate looked at it, as you asked".to_owned()),
        (false, true) => Some("the target has no gates, so none looked at it".to_owned()),
        (false, false) => Some(format!("green on {}: {}", id.short(), list(&gates))),
    };
    let code = order(&args.story, args.json, |_| Ok(record(Some(id), gates)))?;
    if let Some(said) = said {
        printer::out(&said);
    }
    Ok(code)
}

/// Work that is not on the target is not done: what comes after the story would be built without it.
fn is_landed(repository: &Repository, branch: &str, commit: Oid, id: &CommitId) -> Result<(), Failure> {
    let tip = repository.branch_tip(&format!("refs/heads/{branch}")).map_err(|error| workspace::failed(&error.into()))?;
    if tip.is_some_and(|tip| repository.is_ancestor(commit, tip)) {
        return Ok(());
    }
    Err(Failure::usage(format!("commit {} is not part of {}", id.short(), one_line(branch)))
        .why("what comes after the story is built on the target, and would be built without this work")
        .next(format!("bring it there first (git switch {branch} && git merge {}), or name the commit that did", id.short())))
}

/// The names of the target's gates, all of which are green on the commit.
fn green(args: &Args, loaded: &crate::config::load::Loaded, state: &State, commit: Oid, id: &CommitId) -> Result<Vec<String>, Failure> {
    let wanted: Vec<String> = loaded.config.gates.iter().filter(|gate| gate.when == When::Always).map(|gate| gate.name.clone()).collect();
    if wanted.is_empty() {
        return Ok(wanted);
    }
    let lines = gate::on(loaded, state, commit, &wanted, args.json)?;
    let red: Vec<String> = lines.into_iter().filter(|(_, result)| *result != GateResult::Pass).map(|(gate, _)| gate).collect();
    if red.is_empty() {
        return Ok(wanted);
    }
    let what = format!("{} cannot be recorded as done: {} not green on {}", one_line(&args.story), list(&red), id.short());
    Err(Failure::new(Exit::Red, what)
        .why("the work is on the target, and its own gates refuse it there")
        .next(format!("cofferdam gate --commit {} shows why; name a commit with which they are green, or pass --no-gate", id.short())))
}

//! `cofferdam workspace`: safe worktrees for people who bring their own orchestrator.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use super::busy::Busy;
use super::failure::{Exit, Failure};
use super::project::ProjectArgs;
use super::{door, exec, printer, profile, state};
use crate::base::text::{bytes_line, one_line, plural};
use crate::config::Workspace as Settings;
use crate::role::form::form;
use crate::role::policy::{Files, PolicyError, with_files, without_files};
use crate::sandbox::plan::Facts;
use crate::sandbox::policy::Policy;
use crate::sandbox::profile::WorkspaceMode;
use crate::sandbox::resolve::ExecOptions;
use crate::sandbox::toolchains::Surroundings;
use crate::sandbox::{Engine, Outcome};
use crate::workspace::base::{BaseError, Warnings};
use crate::workspace::changes::ChangeKind;
use crate::workspace::git::GitError;
use crate::workspace::private_git::History;
use crate::workspace::rules::Finding;
use crate::workspace::state::{Lock, StateError};
use crate::workspace::stories::{CollectOptions, Collection, Story, WorkspaceError, Workspaces};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a workspace for a story
    New(New),
    /// Run one command in a story's workspace, in a sandbox
    Exec(ExecArgs),
    /// Take what was changed as a commit
    Collect(Collect),
    /// Show the workspaces of this repository
    List(List),
    /// Remove a workspace; its collected commits stay
    Remove(Remove),
}

#[derive(Debug, clap::Args)]
struct New {
    /// The story's name
    story: String,
    /// The commit to start from
    #[arg(long, value_name = "REF", default_value = "HEAD")]
    base: String,
    /// What of the repository's history can be read inside: shallow (the base alone) or full (every object)
    #[arg(long, value_name = "MODE", default_value = "shallow")]
    history: History,
    #[command(flatten)]
    project: ProjectArgs,
    /// The workspace as a JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code: the command's own, or one of those of `cofferdam exec`.")]
struct ExecArgs {
    /// The story's name
    story: String,
    /// Whose profile to run with
    #[arg(long, value_name = "ROLE", default_value = "implementer")]
    role: String,
    /// Print what the kernel enforced
    #[arg(short, long)]
    verbose: bool,
    /// How the command ended, as a JSON file
    #[arg(long, value_name = "FILE")]
    outcome: Option<PathBuf>,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
struct Collect {
    /// The story's name
    story: String,
    /// The commit's message
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// What was collected as a JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct List {
    /// The workspaces as a JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Remove {
    /// The story's name
    story: String,
    /// Throw away what was not collected, instead of collecting it first
    #[arg(long)]
    discard: bool,
}

/// # Errors
/// What kept the command from its work.
pub fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::New(args) => new(&args),
        Command::Exec(args) => run_inside(&args).map_err(|failure| {
            // The codes 1 to 5 belong to the command.
            let exit = if failure.exit == Exit::Unenforceable { failure.exit } else { Exit::ExecOurs };
            Failure { exit, ..failure }
        }),
        Command::Collect(args) => collect(&args),
        Command::List(args) => list(&args),
        Command::Remove(args) => remove(&args),
    }
}

/// The workspaces of the repository we stand in.
pub(super) fn open() -> Result<Workspaces, Failure> {
    let here = std::env::current_dir()
        .map_err(|e| Failure::usage("the current folder cannot be used").because(&e).next("change to a repository"))?;
    Workspaces::open(&here).map_err(|e| failed(&e))
}

/// How the workspace's errors read on the command line.
pub(super) fn failed(error: &WorkspaceError) -> Failure {
    let exit = match error {
        WorkspaceError::NoSuchStory { .. }
        | WorkspaceError::Exists { .. }
        | WorkspaceError::BadStory
        | WorkspaceError::NeedsOverlay { .. }
        | WorkspaceError::NotEmpty { .. } => Exit::Usage,
        WorkspaceError::Git(error) | WorkspaceError::Base(BaseError::Git(error)) => match error {
            GitError::Git { .. } | GitError::Io(_) | GitError::BadName { .. } => Exit::Failure,
            GitError::NotFound { .. }
            | GitError::Owner { .. }
            | GitError::Bare { .. }
            | GitError::Unborn { .. }
            | GitError::Unsupported { .. }
            | GitError::NoSuchCommit { .. } => Exit::Usage,
        },
        WorkspaceError::State(_)
        | WorkspaceError::Base(_)
        | WorkspaceError::Cache(_)
        | WorkspaceError::Collect(_)
        | WorkspaceError::Io(_) => Exit::Failure,
    };
    let failure = Failure::new(exit, error.to_string());
    match error {
        WorkspaceError::NoSuchStory { .. } => {
            failure.next("`cofferdam workspace list` shows them; `cofferdam workspace new STORY` makes one")
        }
        WorkspaceError::Exists { story } => {
            failure.next(format!("work in it with `cofferdam workspace exec {}`, or remove it first", one_line(story)))
        }
        WorkspaceError::NotEmpty { .. } => failure.next("name a folder that does not exist yet"),
        WorkspaceError::State(StateError::Busy { .. }) => failure.next("`cofferdam workspace list` shows which are busy"),
        WorkspaceError::Git(GitError::NotFound { .. }) => failure.next("go into one, or make one: git init"),
        WorkspaceError::State(StateError::Io(error)) => state::unwritable(error),
        _ => failure,
    }
}

fn new(args: &New) -> Result<ExitCode, Failure> {
    let mut workspaces = open()?;
    let loaded = args.project.load_if_any(workspaces.repository.worktree())?;
    let settings = loaded.map_or_else(Settings::default, |loaded| loaded.config.workspace);
    workspaces.state.keep_layers(settings.layers.bytes());
    let form = form(&settings, &workspaces.state, &Engine::here(Facts::read()), args.history)
        .map_err(|e| Failure::usage(e.to_string()).next(e.next()))?;
    let base = Some(args.base.as_str()).filter(|base| *base != "HEAD");
    let busy = Busy::new("making the workspace", args.json);
    let (story, warnings) = workspaces.create_as(&args.story, base, form).map_err(|e| failed(&e))?;
    drop(busy);
    warn(&warnings);
    if let Err(failure) = bootstrap(&workspaces, &story, &settings) {
        // Half a workspace is none: the next try starts anew.
        let held = workspaces.hold(&story).map_err(|e| failed(&e))?;
        workspaces.remove(&story, held).map_err(|e| failed(&e))?;
        return Err(failure);
    }
    if args.json {
        printer::json(
            &serde_json::json!({"version": 1, "story": story.story, "base": story.base, "tree": story.base_tree, "history": story.history, "warnings": warnings}),
        );
    } else {
        printer::err(&format!("workspace for {} on {}", one_line(&story.story), &story.base[..12]));
    }
    Ok(ExitCode::SUCCESS)
}

/// `[workspace] copy` and `setup`, before any agent runs.
fn bootstrap(workspaces: &Workspaces, story: &Story, settings: &Settings) -> Result<(), Failure> {
    let copied = workspaces.copy_in(story, &settings.copy).map_err(|e| failed(&e))?;
    for (path, why) in &copied.left_out {
        printer::err(&format!("cofferdam: {path} was not copied: {why}"));
    }
    let Some(setup) = &settings.setup else { return Ok(()) };
    let command = ["/bin/sh", "-c", setup.as_str()].map(OsString::from);
    let (policy, outcome) = run_command(workspaces, story, "implementer", &command, false)?;
    if outcome.exit_code == 0 {
        return Ok(());
    }
    tell(&policy, &outcome, &command[0], false);
    Err(Failure::new(Exit::Failure, format!("the workspace's setup failed with exit code {}; there is no workspace", outcome.exit_code))
        .why(format!("workspace.setup = {}", one_line(setup)))
        .next("its output is above; mend the setup in cofferdam.toml, then try again"))
}

fn warn(warnings: &Warnings) {
    if !warnings.submodules.is_empty() {
        let names = warnings.submodules.iter().take(5).map(String::as_str).collect::<Vec<_>>().join(", ");
        let count = plural(warnings.submodules.len() as u64, "submodule is", "submodules are");
        printer::err(&format!("cofferdam: {count} an empty folder inside, and stay as they are: {names}"));
    }
    if warnings.filtered > 0 {
        printer::err(&format!(
            "cofferdam: {} with a filter attribute (LFS and the like) hold what is stored",
            plural(warnings.filtered, "file", "files")
        ));
    }
    if warnings.encoded > 0 {
        printer::err(&format!(
            "cofferdam: {} whose attribute names an encoding that is not known here hold what is stored, unconverted",
            plural(warnings.encoded, "file", "files")
        ));
    }
}

/// The policy of a role in a story's workspace.
fn policy(
    workspaces: &Workspaces,
    story: &Story,
    role: &str,
    command: &[OsString],
    terminal: bool,
) -> Result<(Policy, WorkspaceMode), Failure> {
    let around = Surroundings::of_process();
    let chosen = crate::sandbox::profile::load::load(role, around.profiles.as_deref()).map_err(|e| profile::failed(&e))?;
    let checkout = workspaces.repository.worktree().ok_or_else(|| Failure::usage("this repository has no worktree"))?;
    let options = ExecOptions {
        // A path of the user's own checkout is none inside.
        program: command.first().filter(|program| std::path::Path::new(program).is_absolute()).cloned(),
        terminal,
        ..ExecOptions::default()
    };
    let base = without_files(&chosen, options, checkout, &around).map_err(|error| match error {
        PolicyError::Resolve(error) => profile::refused(&error),
        PolicyError::Profile(error) => profile::failed(&error),
        other => Failure::new(Exit::Failure, other.to_string()).next(other.next()),
    })?;
    let mounts = workspaces.mounts(story, chosen.files.workspace).map_err(|e| failed(&e))?;
    Ok((with_files(base, Files::Story(mounts), chosen.files.workspace), chosen.files.workspace))
}

/// Runs a command in a story's sandbox. Nobody else touches the workspace meanwhile.
pub(super) fn run_command(
    workspaces: &Workspaces,
    story: &Story,
    role: &str,
    command: &[OsString],
    terminal: bool,
) -> Result<(Policy, Outcome), Failure> {
    let (mut policy, mode) = policy(workspaces, story, role, command, terminal)?;
    let engine = Engine::here(Facts::read());
    let held = workspaces.hold(story).map_err(|e| failed(&e))?;
    let door = door::prepare(&mut policy, door::Wishes::default())?;
    let (finished, _) = exec::supervise(&engine, &policy, command, door)?;
    workspaces
        .keep_run(story, &held, mode, finished.upper)
        .map_err(|e| failed(&e).why("the command ran, and what it wrote could not be taken"))?;
    Ok((policy, finished.outcome))
}

fn run_inside(args: &ExecArgs) -> Result<ExitCode, Failure> {
    let workspaces = open()?;
    let story = workspaces.story(&args.story).map_err(|e| failed(&e))?;
    let (policy, outcome) = run_command(&workspaces, &story, &args.role, &args.command, exec::at_a_terminal())?;
    tell(&policy, &outcome, &args.command[0], args.verbose);
    if let Some(path) = &args.outcome {
        let bytes =
            serde_json::to_vec_pretty(&outcome).map_err(|e| Failure::new(Exit::ExecOurs, "the outcome cannot be written").because(&e))?;
        fs_err::write(path, bytes)
            .map_err(|e| Failure::new(Exit::ExecOurs, "the command ran, but its outcome could not be written").because(&e))?;
    }
    Ok(exec::exit_code(outcome.exit_code))
}

pub(super) fn tell(policy: &Policy, outcome: &Outcome, program: &OsString, verbose: bool) {
    if let Some(line) = exec::ending(policy, outcome, program) {
        printer::err(&format!("cofferdam: {line}"));
    }
    if outcome.exit_code != 0 || verbose {
        outcome.denials.iter().for_each(|denial| printer::err(&format!("cofferdam: {denial}")));
    }
    if verbose {
        printer::say(&exec::receipt(outcome));
    }
}

/// Holds a workspace whose processes are all dead.
pub(super) fn hold_quiet(workspaces: &Workspaces, story: &Story) -> Result<Lock, Failure> {
    let held = workspaces.hold(story).map_err(|e| failed(&e))?;
    // A supervisor that was killed let go of the workspace; its processes are ended before anything is read.
    let engine = Engine::here(Facts::read());
    engine.cgroups().sweep().map_err(|e| Failure::new(Exit::Failure, "processes of an earlier run could not be ended").because(&e))?;
    Ok(held)
}

fn collect(args: &Collect) -> Result<ExitCode, Failure> {
    let workspaces = open()?;
    let story = workspaces.story(&args.story).map_err(|e| failed(&e))?;
    let held = hold_quiet(&workspaces, &story)?;
    let options = CollectOptions { message: args.message.clone(), ..CollectOptions::default() };
    let busy = Busy::new("collecting what was changed", args.json);
    let collection = workspaces.collect(&story, &held, &options).map_err(|e| failed(&e))?;
    drop(busy);
    if args.json {
        printer::json(&document(&collection));
    } else {
        show(&collection);
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Debug, serde::Serialize)]
struct Changed {
    path: String,
    kind: ChangeKind,
}

/// The document of `workspace collect --json`.
#[derive(Debug, serde::Serialize)]
struct Document<'a> {
    version: u32,
    story: &'a str,
    base: String,
    commit: String,
    tree: String,
    #[serde(rename = "ref")]
    reference: Option<&'a str>,
    new: bool,
    changed: Vec<Changed>,
    findings: &'a [Finding],
    more_findings: u64,
    processes_left: u64,
}

fn document(collection: &Collection) -> Document<'_> {
    Document {
        version: 1,
        story: &collection.story,
        base: collection.base.to_string(),
        commit: collection.commit.to_string(),
        tree: collection.tree.to_string(),
        reference: collection.reference.as_deref(),
        new: collection.new,
        changed: collection.changes.iter().map(|change| Changed { path: bytes_line(&change.path), kind: change.kind }).collect(),
        findings: &collection.findings,
        more_findings: collection.more_findings,
        processes_left: 0,
    }
}

fn show(collection: &Collection) {
    for change in &collection.changes {
        let mark = match change.kind {
            ChangeKind::Added => 'A',
            ChangeKind::Modified => 'M',
            ChangeKind::Mode => 'X',
            ChangeKind::Type => 'T',
            ChangeKind::Deleted => 'D',
        };
        printer::out(&format!("{mark} {}", bytes_line(&change.path)));
    }
    for finding in &collection.findings {
        let kept = if finding.kept { "kept" } else { "left out" };
        printer::err(&format!("cofferdam: {} ({}, {kept}): {}", finding.path, finding.rule, one_line(&finding.detail)));
    }
    if collection.more_findings > 0 {
        printer::err(&format!("cofferdam: and {} more", plural(collection.more_findings, "finding", "findings")));
    }
    let what = match (&collection.reference, collection.new) {
        (Some(reference), true) => format!("{} in {reference}", collection.commit),
        (Some(reference), false) => format!("nothing new since {} in {reference}", collection.commit),
        (None, _) => "nothing changed".to_owned(),
    };
    printer::err(&what);
}

fn list(args: &List) -> Result<ExitCode, Failure> {
    let workspaces = open()?;
    let listed = workspaces.list().map_err(|e| failed(&e))?;
    if args.json {
        let rows: Vec<_> = listed
            .iter()
            .map(|one| {
                let commit = one.collected.last().map(|(_, id)| id.to_string());
                serde_json::json!({"story": one.story.story, "base": one.story.base, "commit": commit, "collected": one.collected.len(), "busy": one.busy, "created": one.story.created, "history": one.story.history})
            })
            .collect();
        printer::json(&serde_json::json!({"version": 1, "workspaces": rows}));
        return Ok(ExitCode::SUCCESS);
    }
    if listed.is_empty() {
        printer::err("no workspaces; `cofferdam workspace new STORY` makes one");
    }
    for one in listed {
        let commits = one
            .collected
            .last()
            .map_or_else(|| "nothing collected".to_owned(), |(n, id)| format!("collected {n}: {}", &id.to_string()[..12]));
        let busy = if one.busy { ", busy" } else { "" };
        printer::out(&format!("{}  on {}, {commits}{busy}", one_line(&one.story.story), &one.story.base[..12]));
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(args: &Remove) -> Result<ExitCode, Failure> {
    let workspaces = open()?;
    let story = workspaces.story(&args.story).map_err(|e| failed(&e))?;
    let held = hold_quiet(&workspaces, &story)?;
    if !args.discard {
        let collection = workspaces
            .collect(&story, &held, &CollectOptions::default())
            .map_err(|e| failed(&e).next("`--discard` removes the workspace without keeping what was not collected"))?;
        if collection.new {
            show(&collection);
        }
    }
    workspaces.remove(&story, held).map_err(|e| failed(&e))?;
    Ok(ExitCode::SUCCESS)
}

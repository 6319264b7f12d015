//! `cofferdam init`: a first configuration and a first story, from what is in the repository. Nothing is run, overwritten or committed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::doctor::wrapped;
use super::failure::{Exit, Failure};
use super::files::write_all;
use super::{printer, problems, workspace};
use crate::base::source::{Problem, Source, any_error};
use crate::base::text::{list, one_line, plural};
use crate::config::build;
use crate::config::layer::{self, Origin};
use crate::config::load::{Environment, FILE, Options, Target, load};
use crate::config::value::argument_flaw;
use crate::sandbox::toolchains::Surroundings;
use crate::spec::import::Write;
use crate::spec::load::{self as stories, USUAL};
use crate::survey::agents::{Chosen, Roles, choose};
use crate::survey::write::{Choices, config};
use crate::survey::{Found, Host, Missing, Seen, detect, host, look, story};
use crate::workspace::git::{GitError, Repository};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Who writes: an adapter such as claude, or a program of yours with its arguments [default: the first agent on PATH]
    #[arg(long, value_name = "AGENT")]
    agent: Option<String>,
    /// Who judges what was written [default: another agent on PATH]
    #[arg(long, value_name = "AGENT")]
    reviewer: Option<String>,
    /// Write nothing; print what would be written
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Where we are.
struct Place {
    root: PathBuf,
    repository: Option<Repository>,
    target: String,
    /// The branch that is checked out is another one.
    elsewhere: Option<String>,
    unborn: bool,
}

/// What is done about one file.
struct Plan {
    path: String,
    /// What will be written; none when it is kept as it is.
    text: Option<String>,
    why: String,
}

/// # Errors
/// When there is no repository to set up, or its files cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let around = Surroundings::of_process();
    let adapters = around.profiles.as_deref().and_then(Path::parent).map(|config| config.join("adapters"));
    let host = host::host(&around.variables, adapters.as_deref());
    for asked in [&args.agent, &args.reviewer].into_iter().flatten() {
        known(asked, &host)?;
    }
    let place = find(args.dry_run)?;
    let seen = see(&place)?;
    let mut found = detect(&seen, &host);
    warn_of_git(&place, &seen, &mut found);
    let (roles, lacking) = choose(&host.agents, args.agent.as_deref(), args.reviewer.as_deref());
    let (configuration, folder) = plan_config(&place, &seen, &mut found, &roles)?;
    if configuration.text.is_some() {
        // What an existing file says about agents is its owner's business.
        found.missing.extend(lacking);
    }
    let plans = [configuration, plan_story(&place, &seen, &found, &folder)?];
    if !args.dry_run {
        write(&place.root, &plans)?;
    }
    if args.json {
        printer::json(&document(args, &place, &host, &found, &roles, &plans));
    } else {
        printer::out(&report(args, &place, &host, &found, &roles, &plans));
    }
    Ok(ExitCode::SUCCESS)
}

/// An adapter that there is, or a program.
fn known(asked: &str, host: &Host) -> Result<(), Failure> {
    if let Some(why) = asked.split_whitespace().find_map(argument_flaw) {
        return Err(Failure::usage(format!("`{}` cannot be written down as a command", one_line(asked)))
            .why(why)
            .next("see cofferdam help init"));
    }
    if asked.contains(['/', ' ']) || host.agents.iter().any(|agent| agent.name == asked) {
        return Ok(());
    }
    let names: Vec<&str> = host.agents.iter().map(|agent| agent.name.as_str()).collect();
    let failure = Failure::usage(format!("`{}` is no agent that is known here", one_line(asked)));
    Err(match crate::base::suggest::nearest(asked, names.iter().copied()) {
        Some(near) => failure.next(format!("did you mean {near}?")),
        None => failure
            .why(format!("known are {}", list(&names)))
            .next("name one of them, or a program of yours with its arguments, such as './my-agent {task}'"),
    })
}

/// The repository around the current folder. Without one there is nothing to land on; `--dry-run` looks all the same.
fn find(dry_run: bool) -> Result<Place, Failure> {
    let cwd = std::env::current_dir()
        .map_err(|e| Failure::new(Exit::Failure, "the current folder cannot be used").because(&e).next("change to a folder that exists"))?;
    let repository = match Repository::discover(&cwd) {
        Ok(repository) => repository,
        Err(GitError::NotFound { .. }) if dry_run => {
            return Ok(Place { root: cwd, repository: None, target: "main".to_owned(), elsewhere: None, unborn: true });
        }
        Err(GitError::NotFound { .. }) => {
            return Err(Failure::usage(format!("{} is in no git repository", one_line(&cwd.to_string_lossy())))
                .why("stories are worked on and land as commits")
                .next("git init -b main && cofferdam init\ncofferdam init --dry-run shows what it would write"));
        }
        Err(error) => return Err(workspace::failed(&error.into())),
    };
    let root =
        repository.worktree().ok_or_else(|| Failure::usage("this repository has no worktree").next("run it in a clone that has one"))?;
    let root =
        fs_err::canonicalize(root).map_err(|e| Failure::new(Exit::Failure, "the repository's folder cannot be opened").because(&e))?;
    let head = head(&repository);
    let options = Options::default();
    let (target, unborn) = match load(&root, &Environment::of_process(), &options).map(|loaded| loaded.target) {
        Ok(Target::At { branch, .. }) => (Some(branch), false),
        Ok(Target::Unborn | Target::NoRepository) => (head.clone(), true),
        // There is neither a main nor a master, or a file on a branch is wrong: what is checked out is what people work on.
        Err(_) => (head.clone(), false),
    };
    let target = target.unwrap_or_else(|| "main".to_owned());
    let elsewhere = head.filter(|head| *head != target);
    Ok(Place { root, repository: Some(repository), target, elsewhere, unborn })
}

/// The branch that is checked out, also when it has no commit yet.
fn head(repository: &Repository) -> Option<String> {
    let inner = git2::Repository::open(repository.worktree_git_dir()).ok()?;
    let head = inner.find_reference("HEAD").ok()?;
    head.symbolic_target().ok()??.strip_prefix("refs/heads/").map(str::to_owned)
}

fn see(place: &Place) -> Result<Seen, Failure> {
    let lists = place.repository.as_ref().map(Repository::ignore_lists).unwrap_or_default();
    let tracked = tracked(place).into_iter().map(|(path, _)| path).collect::<BTreeSet<_>>();
    look::look(&place.root, &lists, &tracked)
        .map_err(|e| Failure::new(Exit::Failure, "the repository's folder cannot be read").because(&e).next("mend its permissions"))
}

/// What git's index holds: each path, and whether it is a submodule.
fn tracked(place: &Place) -> Vec<(String, bool)> {
    let Some(repository) = &place.repository else { return Vec::new() };
    let index = git2::Repository::open(repository.worktree_git_dir()).and_then(|inner| inner.index());
    let Ok(index) = index else { return Vec::new() };
    index.iter().filter_map(|entry| Some((String::from_utf8(entry.path).ok()?, entry.mode == 0o160_000))).collect()
}

/// What has no full support yet.
fn warn_of_git(place: &Place, seen: &Seen, found: &mut Found) {
    let submodules = tracked(place).iter().filter(|(_, is)| *is).count() as u64;
    if submodules > 0 {
        let what = format!("{} of this repository", plural(submodules, "submodule", "submodules"));
        found.missing.push(Missing::new(what, "gates and stories see empty folders there: submodules have no safe path yet"));
    }
    let attributes = seen.files.iter().filter(|(path, _)| path.ends_with(".gitattributes")).filter_map(|(_, file)| file.text.as_deref());
    if attributes.flat_map(str::lines).any(|line| line.contains("filter=")) {
        let next = "gates and stories see what git stores: for LFS, pointers and not the files";
        found.missing.push(Missing::new("files behind a filter of .gitattributes", next));
    }
}

/// The configuration, and where the stories are.
fn plan_config(place: &Place, seen: &Seen, found: &mut Found, roles: &Roles) -> Result<(Plan, String), Failure> {
    let kept = |why: String| Plan { path: FILE.to_owned(), text: None, why };
    let here = place.root.join(FILE);
    if let Ok(status) = here.symlink_metadata() {
        if !status.is_file() {
            return Err(Failure::usage(format!("{FILE} is there and is no regular file")).next("make it one, or move it away"));
        }
        let options = Options { file: Some(here), ..Options::default() };
        let loaded = load(&place.root, &Environment::of_process(), &options)
            .map_err(|wrong| problems::failure(&format!("{FILE} is there already, was not changed, and cannot be used"), &wrong))?;
        return Ok((kept("it is there already".to_owned()), loaded.config.project.stories));
    }
    if let Ok(loaded) = load(&place.root, &Environment::of_process(), &Options::default())
        && loaded.settings.values().any(|setting| matches!(setting.origin, Origin::Target { .. }))
    {
        return Ok((kept(format!("it is on {} already", one_line(&place.target))), loaded.config.project.stories));
    }
    let folder = stories_place(place, seen, found);
    let text = config(found, &Choices { target: &place.target, stories: &folder, roles });
    // What is written must be read: anything else is a mistake of this program, and better found here than by the next command.
    let (mut merged, mut wrong) = (layer::Settings::new(), Vec::new());
    for (name, text, origin) in [("default.toml", include_str!("../../config/default.toml"), Origin::BuiltIn), (FILE, &*text, Origin::File)]
    {
        let (settings, more) = layer::read(&Source::new(name, text), &origin);
        layer::put(&mut merged, settings);
        wrong.extend(more);
    }
    wrong.extend(build::build(&merged).1);
    if any_error(&wrong) {
        return Err(problems::failure("the configuration that was made cannot be read, and nothing was written", &wrong)
            .next("please report this with the lines above; `cofferdam add` and a cofferdam.toml by hand work all the same"));
    }
    Ok((Plan { path: FILE.to_owned(), text: Some(text), why: String::new() }, folder))
}

/// Where stories are, or will be.
fn stories_place(place: &Place, seen: &Seen, found: &mut Found) -> String {
    const USUAL_FOLDER: &str = USUAL[0];
    const OWN_FOLDER: &str = "cofferdam-stories";
    let exists = |name: &str| place.root.join(name).symlink_metadata().ok();
    match exists(USUAL_FOLDER) {
        Some(status) if !status.is_dir() => return OWN_FOLDER.to_owned(),
        // Somebody else's stories, such as those of a catalogue of components.
        Some(_) if seen.below(USUAL_FOLDER).any(|(path, _)| !path.ends_with(".md")) => return OWN_FOLDER.to_owned(),
        Some(_) => return USUAL_FOLDER.to_owned(),
        None => {}
    }
    for name in USUAL.iter().skip(1).filter(|name| exists(name).is_some()) {
        match stories::read(&place.root, name) {
            Ok(read) if !read.spec.stories.is_empty() && !any_error(&read.problems) => return (*name).to_owned(),
            _ => found
                .missing
                .push(Missing::new(format!("stories in {name}: it does not read as a plan"), "cofferdam lint --stories shows why")),
        }
    }
    USUAL_FOLDER.to_owned()
}

fn plan_story(place: &Place, seen: &Seen, found: &Found, folder: &str) -> Result<Plan, Failure> {
    let folder = folder.trim_end_matches('/');
    let path = format!("{folder}/{}", story::FILE);
    let kept = |why: String| Plan { path: folder.to_owned(), text: None, why };
    let there = place.root.join(folder);
    match there.symlink_metadata() {
        Ok(status) if status.is_file() => return Ok(kept("the stories are in this file".to_owned())),
        Ok(status) if !status.is_dir() => return Ok(kept("it is no folder, and no story was written".to_owned())),
        Ok(_) => {}
        Err(_) if folder.ends_with(".md") || folder.ends_with(".json") => {
            return Ok(kept("your cofferdam.toml names this file".to_owned()));
        }
        Err(_) => {}
    }
    let refuse = |problem: Problem| problems::failure("the stories that are there cannot be read, and nothing was written", &[problem]);
    let names = stories::names(&there).map_err(refuse)?;
    if !names.is_empty() {
        return Ok(kept(format!("{} already there", plural(names.len() as u64, "story file is", "story files are"))));
    }
    match story::first(seen, found) {
        Some(text) => Ok(Plan { path, text: Some(text), why: String::new() }),
        None => Ok(kept("no story was written".to_owned())),
    }
}

/// Both files, or none.
fn write(root: &Path, plans: &[Plan]) -> Result<(), Failure> {
    let writes: Vec<Write> = plans
        .iter()
        .filter_map(|plan| Some(Write { name: plan.path.clone(), text: plan.text.clone()?, replaces: false, story: None }))
        .collect();
    let mut made = None;
    for folder in writes.iter().filter_map(|write| Some(root.join(write.name.rsplit_once('/')?.0))) {
        if folder.symlink_metadata().is_err() {
            fs_err::create_dir_all(&folder).map_err(|e| {
                Failure::new(Exit::Failure, "the folder of the stories cannot be made")
                    .because(&e)
                    .next("mend the permissions of this folder")
            })?;
            made = Some(folder);
        }
    }
    let written = write_all(root, "", &writes);
    if let (Err(_), Some(folder)) = (&written, made) {
        // Only when it is empty, and only because it was made for what could not be written.
        drop(fs_err::remove_dir(folder));
    }
    written.map(drop)
}

fn document(args: &Args, place: &Place, host: &Host, found: &Found, roles: &Roles, plans: &[Plan]) -> serde_json::Value {
    let files = plans.iter().map(|plan| {
        let done = match &plan.text {
            Some(_) if args.dry_run => "would_write",
            Some(_) => "written",
            None => "kept",
        };
        json!({"path": plan.path, "done": done, "why": plan.why, "text": plan.text.as_ref().filter(|_| args.dry_run)})
    });
    json!({
        "version": 1, "root": place.root.to_string_lossy(), "target": place.target, "found": found, "agents": host.agents, "roles": roles,
        "files": files.collect::<Vec<_>>(),
    })
}

fn report(args: &Args, place: &Place, host: &Host, found: &Found, roles: &Roles, plans: &[Plan]) -> String {
    let mut out = Vec::new();
    let mut section = |title: &str, lines: Vec<(String, String)>| {
        let width = lines.iter().map(|(head, _)| head.chars().count()).max().unwrap_or(0);
        if !lines.is_empty() {
            out.push(format!("{}{title}", if out.is_empty() { "" } else { "\n" }));
            for (head, text) in lines {
                out.extend(wrapped(&format!("  {head:<width$}  "), &one_line(&text)));
            }
        }
    };
    let fresh = plans[0].text.is_some();
    section("Found", seen_lines(host, found));
    if fresh {
        section("Chosen", chosen_lines(place, found, roles));
    }
    section("Not found", found.missing.iter().map(|missing| ("-".to_owned(), format!("{}; {}", missing.what, missing.next))).collect());
    let verb = if args.dry_run { "would write" } else { "wrote" };
    let files = plans.iter().map(|plan| match plan.text {
        Some(_) => (verb.to_owned(), plan.path.clone()),
        None => ("kept".to_owned(), format!("{}: {}", plan.path, plan.why)),
    });
    section("Files", files.collect());
    if args.dry_run {
        for plan in plans {
            if let Some(text) = &plan.text {
                out.push(format!("\n--- {}\n{}", plan.path, text.trim_end()));
            }
        }
        return out.join("\n");
    }
    let mut next = vec![String::new(), "Nothing is committed. Next".to_owned()];
    next.extend(next_lines(place, found, plans));
    out.extend(next);
    out.join("\n")
}

fn seen_lines(host: &Host, found: &Found) -> Vec<(String, String)> {
    let place = |folder: &str| if folder.is_empty() { String::new() } else { format!(" in {folder}") };
    let mut lines: Vec<_> =
        found.kinds.iter().map(|kind| (kind.name.to_owned(), format!("{}{}", kind.because, place(&kind.folder)))).collect();
    for ci in &found.ci {
        let files = ci.files.join(", ");
        let runs = if ci.commands.is_empty() { String::new() } else { format!(": {}", ci.commands.join("; ")) };
        lines.push((ci.system.to_owned(), crate::base::text::cut(&format!("{files}{runs}"), 240)));
    }
    let agents: Vec<String> = host.agents.iter().filter(|agent| agent.installed).map(crate::survey::agents::Agent::state).collect();
    if !agents.is_empty() {
        lines.push(("agents".to_owned(), agents.join(", ")));
    }
    lines
}

fn chosen_lines(place: &Place, found: &Found, roles: &Roles) -> Vec<(String, String)> {
    let mut lines = vec![("target".to_owned(), format!("{}   (what is proven lands there)", place.target))];
    lines.extend(found.gates.iter().map(|gate| (format!("gate {}", gate.name), format!("{}   ({})", gate.run, gate.because))));
    for (role, chosen) in [("implementer", &roles.implementer), ("reviewer", &roles.reviewer)] {
        if let Some(Chosen { adapter, because, command }) = chosen {
            let name = if command.is_empty() { adapter.clone() } else { command.join(" ") };
            lines.push((role.to_owned(), format!("{name}   ({because})")));
        }
    }
    lines
}

fn next_lines(place: &Place, found: &Found, plans: &[Plan]) -> Vec<String> {
    let mut steps: Vec<(String, &str)> = Vec::new();
    let written: Vec<&str> = plans.iter().filter(|plan| plan.text.is_some()).map(|plan| plan.path.as_str()).collect();
    if !written.is_empty() {
        steps.push(("look at them, and change what is not yours".to_owned(), ""));
        let add = if place.unborn { ".".to_owned() } else { written.join(" ") };
        let branch = place.elsewhere.as_ref().map_or_else(String::new, |_| format!("git switch {} && ", place.target));
        steps.push((format!("{branch}git add {add}"), ""));
        steps.push(("git commit -m 'Set up cofferdam'".to_owned(), "they are read from the commit"));
        // Short enough to be one of these lines; all of them are in the file.
        let fetch = found.fetch.iter().filter(|command| command.chars().count() < 50).take(3);
        steps.extend(fetch.map(|command| (command.clone(), "gates have no network")));
    }
    steps.push(("cofferdam doctor".to_owned(), "can this host enforce a sandbox?"));
    steps.push(("cofferdam gate".to_owned(), "is the base green, before money is spent?"));
    steps.push(("cofferdam run".to_owned(), "work on the stories"));
    let width = steps.iter().filter(|(_, why)| !why.is_empty()).map(|(command, _)| command.chars().count()).max().unwrap_or(0);
    steps.into_iter().map(|(command, why)| format!("  {command:<width$}   {why}").trim_end().to_owned()).collect()
}

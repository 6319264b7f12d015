//! `cofferdam import FILE`: stories from other tools become story files.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::failure::Failure;
use super::files::write_all;
use super::project::ProjectArgs;
use super::{printer, problems};
use crate::base::source::{Problem, any_error};
use crate::base::text::{one_line, plural};
use crate::config::StartOn;
use crate::config::load::Loaded;
use crate::spec::Spec;
use crate::spec::import::{Import, import, stem};
use crate::spec::lint::{Rules, lint};
use crate::spec::load::{self, Form};
use crate::spec::story_file;

#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// master_spec.md, prompt.md, prd.json, tasks.md, a JSON file of epics, or a folder of story files
    file: PathBuf,
    /// Add what is new to stories that exist; nothing that an author wrote is changed
    #[arg(long)]
    merge: bool,
    /// Show what would be written
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    project: ProjectArgs,
}

pub fn run(args: &ImportArgs) -> Result<ExitCode, Failure> {
    let loaded = args.project.load()?;
    let folder = folder(&loaded)?;
    let (incoming, mut found) = read(args).map_err(|p| problems::failure("nothing was imported", &[p]))?;
    let (existing, names) = existing(&loaded, &folder)?;
    let mut import = import(&existing, &names, &incoming, args.merge);
    found.append(&mut import.problems);
    if !any_error(&found) {
        found.extend(after(&existing, &incoming, &import, &loaded, &folder));
    }
    if any_error(&found) {
        return Err(problems::failure("nothing was imported", &found).next("mend these and run it again"));
    }
    problems::print(&found);
    if !args.dry_run {
        write_all(&loaded.root, &folder, &import.writes)?;
        super::learn::after_writing(&loaded.root)?;
    }
    report(args, &folder, &import, &found);
    Ok(ExitCode::SUCCESS)
}

/// The folder that story files go to.
pub fn folder(loaded: &Loaded) -> Result<String, Failure> {
    let place = loaded.config.project.stories.trim_end_matches('/').to_owned();
    let path = loaded.root.join(&place);
    if path.symlink_metadata().is_ok_and(|m| !m.is_dir()) || place.ends_with(".md") || place.ends_with(".json") {
        let failure = Failure::usage(format!("the stories of this project are in one file, {}", one_line(&place)));
        return Err(failure.why("story files go to a folder").next("set project.stories = \"stories\", and import that file too"));
    }
    Ok(place)
}

/// The stories that the folder holds already.
pub fn existing(loaded: &Loaded, folder: &str) -> Result<(Spec, Vec<String>), Failure> {
    let fail =
        |found: &[Problem]| problems::failure("the stories that exist cannot be read", found).next("mend these first: cofferdam lint");
    let names = load::names(&loaded.root.join(folder)).map_err(|p| fail(&[p]))?;
    if names.is_empty() {
        return Ok((Spec::default(), names));
    }
    let read = load::read(&loaded.root, folder).map_err(|p| fail(&[p]))?;
    if any_error(&read.problems) {
        return Err(fail(&read.problems));
    }
    Ok((read.spec, names))
}

fn read(args: &ImportArgs) -> Result<(Spec, Vec<Problem>), Problem> {
    let name = args.file.to_string_lossy();
    let parent = args.file.parent().filter(|p| !p.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), PathBuf::from);
    if args.file.is_dir() {
        let last = args.file.file_name().map_or_else(|| ".".into(), |n| n.to_string_lossy().into_owned());
        let read = load::read(&parent, &last)?;
        return Ok((read.spec, read.problems));
    }
    let source = load::file(&args.file, &name, load::LONGEST_IMPORT)?;
    let form = load::form_of(&source, &name);
    let (mut spec, found) = load::parse(&source, form, &parent);
    // A prompt has no id of its own, and a second one should not meet the first.
    if let (Form::Prompt, [story]) = (form, spec.stories.as_mut_slice())
        && story.id.as_str() == "prompt"
        && let Some(id) = crate::base::name::slug(&story.title.to_lowercase())
    {
        story.id = id;
    }
    Ok((spec, found))
}

/// What would be wrong with the whole afterwards.
pub fn after(existing: &Spec, incoming: &Spec, import: &Import, loaded: &Loaded, folder: &str) -> Vec<Problem> {
    let mut spec = existing.clone();
    let mut problems = Vec::new();
    for write in &import.writes {
        let Some(id) = &write.story else { continue };
        if write.replaces {
            let source = crate::base::source::Source::new(&write.name, &write.text);
            let (story, more) = story_file::parse(&source, stem(&write.name));
            problems.extend(more);
            if let (Some(story), Some(old)) = (story, spec.stories.iter_mut().find(|s| s.id == *id)) {
                *old = story;
            }
        } else if let Some(story) = incoming.get(id.as_str()) {
            // Problems are shown where the story was read from: its file does not exist yet.
            spec.stories.push(story.clone());
        }
    }
    let config = &loaded.config;
    let rules = Rules {
        require: config.invariants.require.clone(),
        streams: config.streams.keys().cloned().collect(),
        stacked: config.run.start_on == StartOn::ReadyForReview,
    };
    problems.extend(lint(&spec, &rules));
    if folder.is_empty() {
        problems.push(Problem::anywhere("project", "project.stories names no folder", "set project.stories = \"stories\""));
    }
    problems
}

fn report(args: &ImportArgs, folder: &str, import: &Import, found: &[Problem]) {
    let path = |w: &crate::spec::import::Write| if w.replaces { w.name.clone() } else { format!("{folder}/{}", w.name) };
    if args.json {
        let writes = import.writes.iter().map(|w| json!({"path": path(w), "story": w.story, "replaces": w.replaces}));
        printer::json(&json!({
            "version": 1, "dry_run": args.dry_run, "written": writes.collect::<Vec<_>>(), "unchanged": import.unchanged, "problems": found,
        }));
        return;
    }
    for write in &import.writes {
        let verb = match (args.dry_run, write.replaces) {
            (true, false) => "would write",
            (true, true) => "would change",
            (false, false) => "wrote",
            (false, true) => "changed",
        };
        printer::out(&format!("{verb} {}", one_line(&path(write))));
    }
    let count = import.writes.iter().filter(|w| w.story.is_some()).count() as u64;
    let same = import.unchanged.len() as u64;
    printer::err(&format!("{}, {same} unchanged.", plural(count, "story", "stories")));
}

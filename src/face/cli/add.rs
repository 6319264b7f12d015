//! `cofferdam add TITLE`: one more story, as a file.

use std::io::Read as _;
use std::process::ExitCode;

use serde_json::json;

use super::failure::{Exit, Failure};
use super::files::write_all;
use super::import::{after, existing, folder};
use super::project::ProjectArgs;
use super::{printer, problems};
use crate::base::id::StoryId;
use crate::base::name::slug;
use crate::base::source::{Problem, any_error};
use crate::base::text::one_line;
use crate::spec::edit::{Ids, add_ids};
use crate::spec::import::{Import, Namer, Write, stem};
use crate::spec::print::print;
use crate::spec::{Criterion, Spec, Story, story_file};

/// More than this on standard input is no description of a story.
const LONGEST_TEXT: u64 = 512 * 1024;

#[derive(Debug, clap::Args)]
pub struct AddArgs {
    /// What the story is about, in one line
    title: String,
    /// Its id; made from the title when it is not given
    #[arg(long)]
    id: Option<StoryId>,
    #[arg(long)]
    epic: Option<String>,
    /// The stream it belongs to
    #[arg(long)]
    stream: Option<String>,
    /// 1 goes first, 9 last
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=9))]
    priority: Option<u64>,
    /// A story that must land before it
    #[arg(long, value_name = "ID")]
    after: Vec<StoryId>,
    /// A story that must wait for it; its file is changed
    #[arg(long, value_name = "ID")]
    before: Vec<StoryId>,
    /// A story it must work together with; its file is changed
    #[arg(long, value_name = "ID")]
    wired_with: Vec<StoryId>,
    /// What must be true when it is done
    #[arg(long, short, value_name = "TEXT")]
    criterion: Vec<String>,
    /// A command that must exit 0
    #[arg(long, value_name = "COMMAND")]
    check: Vec<String>,
    /// A file it must leave
    #[arg(long, value_name = "PATH")]
    artifact: Vec<String>,
    /// What is asked for; `-` reads it from standard input
    #[arg(long)]
    text: Option<String>,
    /// A human's story, never given to an agent
    #[arg(long)]
    human: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    project: ProjectArgs,
}

pub fn run(args: &AddArgs) -> Result<ExitCode, Failure> {
    let loaded = args.project.load()?;
    let folder = folder(&loaded)?;
    let (spec, names) = existing(&loaded, &folder)?;
    let story = story(args, &spec)?;
    let text = print(&story);
    // What was typed is read as what is in a file is read, so that the same things are refused with the same words.
    let (again, mut found) = story_file::parse(&crate::base::source::Source::new("new story", &text), "new");
    if again.is_none() || any_error(&found) {
        return Err(problems::failure("nothing was added", &found));
    }
    let mut import = Import::default();
    let name = Namer::new(&names, 1).name(&story);
    import.writes.push(Write { name: name.clone(), text, replaces: false, story: Some(story.id.clone()) });
    neighbours(args, &spec, &story, &mut import.writes)?;
    let incoming = Spec { stories: again.into_iter().collect(), overview: None };
    // What is incomplete can be completed in the file; it is said below.
    let all = after(&spec, &incoming, &import, &loaded, &folder);
    let (incomplete, rest): (Vec<Problem>, Vec<Problem>) = all.into_iter().partition(|p| p.rule == "incomplete");
    found.extend(rest);
    if any_error(&found) {
        return Err(problems::failure("nothing was added", &found));
    }
    problems::print(&found);
    write_all(&loaded.root, &folder, &import.writes)?;
    super::learn::after_writing(&loaded.root)?;
    let path = format!("{folder}/{name}");
    if args.json {
        let changed: Vec<&str> = import.writes.iter().filter(|w| w.replaces).map(|w| w.name.as_str()).collect();
        printer::json(&json!({"version": 1, "id": story.id, "path": path, "changed": changed, "incomplete": incomplete}));
        return Ok(ExitCode::SUCCESS);
    }
    printer::out(&format!("{}  {path}", story.id));
    if incomplete.iter().any(|p| p.what.starts_with(&format!("{} ", story.id))) {
        printer::err(&format!("It is not complete yet, and nothing runs before it is: edit {path}, then cofferdam lint."));
    }
    Ok(ExitCode::SUCCESS)
}

fn story(args: &AddArgs, spec: &Spec) -> Result<Story, Failure> {
    let refuse = |what: String, next: &str| Failure::new(Exit::Usage, "nothing was added").why(what).next(next);
    let id = match &args.id {
        Some(id) => id.clone(),
        None => free_id(&args.title, spec).ok_or_else(|| refuse("no id can be made from this title".into(), "give one with --id"))?,
    };
    if spec.get(id.as_str()).is_some() {
        return Err(refuse(format!("there is a story {id} already"), "give another id with --id"));
    }
    let text = match args.text.as_deref() {
        Some("-") => {
            let mut text = String::new();
            let read = std::io::stdin().lock().take(LONGEST_TEXT + 1).read_to_string(&mut text);
            read.map_err(|error| refuse(format!("standard input cannot be read: {error}"), "give it as UTF-8 text"))?;
            if text.len() as u64 > LONGEST_TEXT {
                return Err(refuse(format!("the text is longer than {} KiB", LONGEST_TEXT / 1024), "shorten it"));
            }
            text
        }
        Some(text) => text.to_owned(),
        None => String::new(),
    };
    let criterion = |(i, text): (usize, &String)| Criterion { id: format!("AC-{}", i + 1), text: one_line(text.trim()).into_owned() };
    let mut story = Story::new(id, &args.title, &text, args.criterion.iter().enumerate().map(criterion).collect());
    if story.title.is_empty() {
        return Err(refuse("the title is empty".into(), "say in one line what the story is about"));
    }
    (story.epic, story.stream, story.priority) = (args.epic.clone(), args.stream.clone(), args.priority);
    (story.after, story.wired_with) = (args.after.clone(), args.wired_with.clone());
    story.checks.clone_from(&args.check);
    story.artifacts = args.artifact.iter().map(|path| crate::spec::ArtifactRule { path: path.clone(), ..Default::default() }).collect();
    story.automatable = !args.human;
    Ok(story)
}

fn free_id(title: &str, spec: &Spec) -> Option<StoryId> {
    let base = slug(&title.to_lowercase())?;
    let short = base.as_str().get(..base.as_str().len().min(40))?.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
    let numbered = (2..1000).map(|n| format!("{short}-{n}"));
    std::iter::once(short.to_owned()).chain(numbered).find(|id| spec.get(id).is_none()).and_then(|id| id.parse().ok())
}

/// The files of the stories that must know of the new one.
fn neighbours(args: &AddArgs, spec: &Spec, story: &Story, writes: &mut Vec<Write>) -> Result<(), Failure> {
    for (list, ids) in [(Ids::After, &args.before), (Ids::WiredWith, &args.wired_with)] {
        for id in ids {
            let Some(other) = spec.get(id.as_str()) else {
                let known = spec.stories.iter().map(|s| s.id.as_str());
                let next = crate::base::suggest::nearest(id.as_str(), known)
                    .map_or_else(|| "see cofferdam graph".to_owned(), |near| format!("did you mean {near}?"));
                return Err(Failure::usage("nothing was added").why(format!("{id} is no story")).next(next));
            };
            let name = other.origin.source.name.to_string();
            let mut source = other.origin.source.clone();
            let earlier = writes.iter_mut().find(|w| w.replaces && w.name == name);
            if let Some(earlier) = &earlier {
                source.text = earlier.text.as_str().into();
            }
            let text = add_ids(&source, stem(&name), list, std::slice::from_ref(&story.id))
                .map_err(|error| Failure::usage("nothing was added").because(&error).next(format!("edit {name}, or leave {id} out")))?;
            match earlier {
                Some(earlier) => earlier.text = text,
                None => writes.push(Write { name, text, replaces: true, story: Some(id.clone()) }),
            }
        }
    }
    Ok(())
}

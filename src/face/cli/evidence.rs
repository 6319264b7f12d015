//! `cofferdam evidence`: look at it, check it, take it along.

mod export;

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::busy::Busy;
use super::failure::{Exit, Failure};
use super::printer;
use super::state::{self, State, VERSION};
use crate::base::id::{EvidenceId, StoryId};
use crate::base::text::{bytes_line, one_line, plural};
use crate::store::audit::{Break, Landed, audit};
use crate::store::evidence::EvidenceError;
use crate::store::{EvidenceUse, Filter, Store};
use crate::workspace::git::Repository;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// A story's evidence as a list, or one piece by the start of its id
    Show {
        /// A story, or an evidence id or its start
        what: String,
        #[arg(long)]
        json: bool,
    },
    /// Check that all evidence, or a story's, is there and unchanged
    Verify {
        #[arg(conflicts_with = "from")]
        story: Option<String>,
        /// Check a folder that `evidence export` made, by itself
        #[arg(long, value_name = "FOLDER")]
        from: Option<PathBuf>,
        #[arg(long)]
        json: bool,
    },
    /// Copy a story's evidence and events, with a list that sha256sum can check
    Export {
        story: String,
        /// A folder that does not exist yet
        folder: PathBuf,
    },
}

/// # Errors
/// When the store cannot be read, or evidence is missing or damaged.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Command::Verify { from: Some(folder), json, .. } = &args.command {
        return export::verify_from(folder, *json);
    }
    let state = State::find()?;
    let Some(store) = state.store()? else {
        return Err(Failure::usage("there is no evidence").why("nothing has run in this repository yet").next("cofferdam run"));
    };
    match &args.command {
        Command::Show { what, json } => show(&store, what, *json),
        Command::Verify { story, json, .. } => verify(&store, story.as_deref(), *json),
        Command::Export { story, folder } => export::export(&store, story, folder),
    }
}

fn uses(store: &Store, story: Option<&StoryId>) -> Result<Vec<EvidenceUse>, Failure> {
    store.evidence_uses(story).map_err(state::failure)
}

fn show(store: &Store, what: &str, as_json: bool) -> Result<ExitCode, Failure> {
    let is_story = match what.parse::<StoryId>() {
        Ok(id) => store.story(&id).map_err(state::failure)?.map(|story| story.id),
        Err(_) => None,
    };
    if let Some(story) = is_story {
        let uses = uses(store, Some(&story))?;
        if as_json {
            let list: Vec<_> = uses.iter().map(|used| json!({"id": used.id, "seq": used.seq, "what": used.what})).collect();
            printer::json(&json!({"version": VERSION, "story": story, "evidence": list}));
        } else if uses.is_empty() {
            printer::out("No evidence was kept for this story yet.");
        } else {
            for used in &uses {
                // A person at a terminal needs no more of an id than what tells it from others; a script gets all of it.
                let id = if printer::columns().is_some() { used.id.short() } else { used.id.as_str() };
                printer::entry(&format!("{id}  #{:<6} ", used.seq), &one_line(&used.what));
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let id = by_start(store, what)?;
    let bytes = store.evidence().read(&id).map_err(|error| damaged(&error))?;
    if as_json {
        let uses: Vec<_> = uses(store, None)?
            .into_iter()
            .filter(|used| used.id == id)
            .map(|used| json!({"seq": used.seq, "story": used.story, "what": used.what}))
            .collect();
        printer::json(&json!({"version": VERSION, "id": id, "bytes": bytes.len(), "uses": uses, "path": store.evidence().path(&id)}));
    } else if std::io::stdout().is_terminal() {
        // What an agent wrote must not command the terminal. A pipe gets the bytes as they are.
        bytes.split(|byte| *byte == b'\n').for_each(|line| printer::out(&bytes_line(line)));
    } else {
        drop(std::io::stdout().lock().write_all(&bytes));
    }
    Ok(ExitCode::SUCCESS)
}

fn by_start(store: &Store, start: &str) -> Result<EvidenceId, Failure> {
    let start = start.strip_prefix("sha256:").unwrap_or(start);
    let mut found: Vec<EvidenceId> =
        uses(store, None)?.into_iter().map(|used| used.id).filter(|id| id.as_str().starts_with(start)).collect();
    found.sort();
    found.dedup();
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::usage(format!("there is no story and no evidence `{}`", one_line(start)))
            .next("cofferdam evidence show STORY lists a story's evidence")),
        count => Err(Failure::usage(format!("`{}` is the start of {count} pieces of evidence", one_line(start))).next("type more of it")),
    }
}

fn damaged(error: &EvidenceError) -> Failure {
    let next = match error {
        EvidenceError::Missing { .. } => "restore the file from a backup; what it proved must be proven again: cofferdam reset STORY",
        EvidenceError::Damaged { .. } => "the file was changed, or its disk is failing: restore it from a backup",
        EvidenceError::Io(_) => "look at the path that is named",
    };
    Failure::new(Exit::Failure, error.to_string()).next(next)
}

/// The repository that the stories land in, when this is one.
fn repository() -> Option<Repository> {
    Repository::discover(&std::env::current_dir().ok()?).ok()
}

/// The object of the commit that landed, when the repository still has it.
fn landed_object(repository: Option<&Repository>, landed: &Landed) -> Option<Vec<u8>> {
    repository?.raw_commit(landed.commit.as_str().parse().ok()?).ok()
}

/// What the events of each story, or of one, prove.
fn audits(store: &Store, story: Option<&StoryId>) -> Result<(u64, Vec<(StoryId, Break)>), Failure> {
    let all = match story {
        Some(id) => vec![id.clone()],
        None => store.all_facts().map_err(state::failure)?.into_iter().map(|story| story.id).collect(),
    };
    let evidence = store.evidence();
    let repository = repository();
    let (mut manifests, mut breaks) = (0, Vec::new());
    for id in all {
        let mut events = Vec::new();
        let read = store.events(&Filter { story: Some(id.clone()), ..Filter::default() }, |stored| {
            events.push(stored);
            ControlFlow::Continue(())
        });
        read.map_err(state::failure)?;
        let audit = audit(&events, &|id| evidence.read(id).ok());
        manifests += audit.manifests;
        if let Some(landed) = &audit.landed
            && let Some(raw) = landed_object(repository.as_ref(), landed)
            && let Err(why) = landed.is_named_by(&raw)
        {
            breaks.push((id.clone(), Break { seq: landed.seq, what: "the landing".to_owned(), why }));
        }
        breaks.extend(audit.breaks.into_iter().map(|why| (id.clone(), why)));
    }
    Ok((manifests, breaks))
}

fn verify(store: &Store, story: Option<&str>, as_json: bool) -> Result<ExitCode, Failure> {
    let story = story.map(|typed| state::story(Some(store), typed)).transpose()?.map(|story| story.id);
    let mut ids: Vec<EvidenceUse> = uses(store, story.as_ref())?;
    ids.sort_by(|a, b| a.id.cmp(&b.id).then(a.seq.cmp(&b.seq)));
    ids.dedup_by(|a, b| a.id == b.id);
    let evidence = store.evidence();
    let _busy = Busy::new("checking the evidence", as_json);
    let mut bytes = 0;
    let mut bad = Vec::new();
    for used in &ids {
        match evidence.verify(&used.id) {
            Ok(size) => bytes += size,
            Err(error) => bad.push((used, error)),
        }
    }
    let (manifests, breaks) = audits(store, story.as_ref())?;
    if as_json {
        let bad: Vec<_> = bad
            .iter()
            .map(
                |(used, error)| json!({"id": used.id, "seq": used.seq, "story": used.story, "what": used.what, "error": error.to_string()}),
            )
            .collect();
        printer::json(&json!({"version": VERSION, "checked": ids.len(), "bytes": bytes, "bad": bad,
            "manifests": manifests, "breaks": breaks.iter().map(|(story, b)| json!({"story": story, "seq": b.seq, "what": b.what, "why": b.why})).collect::<Vec<_>>()}));
    }
    if bad.is_empty() && breaks.is_empty() {
        if !as_json {
            printer::out(&format!(
                "All evidence is there and unchanged: {}, {}; {} that say what the events say",
                plural(ids.len() as u64, "piece", "pieces"),
                crate::base::size::Size(bytes),
                plural(manifests, "manifest", "manifests")
            ));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if bad.is_empty() {
        let mut failure = Failure::new(Exit::Failure, "the evidence does not prove what the log says");
        for (story, why) in breaks.iter().take(20) {
            failure = failure.why(format!("{}: {why}", one_line(story.as_str())));
        }
        return Err(failure.next("cofferdam log --verify; compare with a backup"));
    }
    let mut failure = Failure::new(
        Exit::Failure,
        format!("{} of {} cannot be relied on", bad.len(), plural(ids.len() as u64, "piece of evidence", "pieces of evidence")),
    );
    for (used, error) in bad.iter().take(20) {
        failure = failure.why(format!(
            "{error}: {} of {}, event {}",
            one_line(&used.what),
            one_line(used.story.as_deref().unwrap_or("the run")),
            used.seq
        ));
    }
    Err(failure.next("restore the files from a backup; what they proved must be proven again: cofferdam reset STORY"))
}

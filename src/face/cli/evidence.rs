//! `cofferdam evidence`: look at it, check it, take it along.

use std::io::{IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fs_err as fs;
use serde_json::json;

use super::busy::Busy;
use super::failure::{Exit, Failure};
use super::printer;
use super::state::{self, State, VERSION};
use crate::base::id::{EvidenceId, StoryId};
use crate::base::text::{bytes_line, one_line, plural};
use crate::store::evidence::EvidenceError;
use crate::store::{EvidenceUse, Filter, Store};

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
        story: Option<String>,
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
    let state = State::find()?;
    let Some(store) = state.store()? else {
        return Err(Failure::usage("there is no evidence").why("nothing has run in this repository yet").next("cofferdam run"));
    };
    match &args.command {
        Command::Show { what, json } => show(&store, what, *json),
        Command::Verify { story, json } => verify(&store, story.as_deref(), *json),
        Command::Export { story, folder } => export(&store, story, folder),
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
                printer::out(&format!("{}  #{:<6} {}", used.id, used.seq, one_line(&used.what)));
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
    if as_json {
        let bad: Vec<_> = bad
            .iter()
            .map(
                |(used, error)| json!({"id": used.id, "seq": used.seq, "story": used.story, "what": used.what, "error": error.to_string()}),
            )
            .collect();
        printer::json(&json!({"version": VERSION, "checked": ids.len(), "bytes": bytes, "bad": bad}));
    }
    if bad.is_empty() {
        if !as_json {
            printer::out(&format!(
                "All evidence is there and unchanged: {}, {}",
                plural(ids.len() as u64, "piece", "pieces"),
                crate::base::size::Size(bytes)
            ));
        }
        return Ok(ExitCode::SUCCESS);
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

fn export(store: &Store, typed: &str, folder: &Path) -> Result<ExitCode, Failure> {
    let story = state::story(Some(store), typed)?;
    let io = |error: std::io::Error| {
        Failure::new(Exit::Failure, "the evidence could not be exported")
            .because(&error)
            .next("choose a folder that does not exist yet, on a disk with space")
    };
    fs::create_dir(folder).map_err(io)?;
    let mut sums = String::new();
    let mut seen = std::collections::BTreeSet::new();
    for used in uses(store, Some(&story.id))? {
        if seen.insert(used.id.clone()) {
            let bytes = store.evidence().read(&used.id).map_err(|error| damaged(&error))?;
            fs::write(folder.join(used.id.as_str()), bytes).map_err(io)?;
            sums.extend([used.id.as_str(), "  ", used.id.as_str(), "\n"]);
        }
    }
    let mut lines = String::new();
    let read = store.events(&Filter { story: Some(story.id.clone()), ..Filter::default() }, |stored| {
        lines.extend([stored.json().as_str(), "\n"]);
        ControlFlow::Continue(())
    });
    read.map_err(state::failure)?;
    sums.extend([EvidenceId::of(lines.as_bytes()).as_str(), "  events.jsonl\n"]);
    fs::write(folder.join("events.jsonl"), lines).map_err(io)?;
    fs::write(folder.join("SHA256SUMS"), sums).map_err(io)?;
    let count = plural(seen.len() as u64, "piece of evidence", "pieces of evidence");
    printer::out(&format!(
        "{count} of {} and its events are in {1}; check with: cd {1} && sha256sum -c SHA256SUMS",
        one_line(story.id.as_str()),
        folder.display()
    ));
    Ok(ExitCode::SUCCESS)
}

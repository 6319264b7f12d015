//! What a human says to the controller: each command is an event. A runner acts on it within a second; without one, the next run does.

use std::io::Read;
use std::process::ExitCode;

use serde_json::json;

use super::failure::{Exit, Failure};
use super::learn::learn;
use super::printer;
use super::state::{self, State, VERSION};
use crate::base::id::{CommitId, StoryId};
use crate::base::text::one_line;
use crate::event::Kind;
use crate::store::health::Status;
use crate::story::facts::End;
use crate::story::{Story, phase};

/// Longer texts belong into the story's file.
const LONGEST_TEXT: usize = 16 << 10;

#[derive(Debug, clap::Args)]
pub struct Text {
    story: String,
    /// The text; `-` reads it from standard input
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<String>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Approve {
    story: String,
    /// The commit you looked at, or its start [default: the story's commit now]
    #[arg(long)]
    commit: Option<String>,
    /// A gate that goes, or asks for less, with this commit; each by its name
    #[arg(long = "without-gate", value_name = "NAME")]
    without_gates: Vec<String>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Reject {
    story: String,
    /// What the next attempt should know; `-` reads it from standard input
    #[arg(required = true, value_name = "REASON")]
    text: Vec<String>,
    /// The commit you looked at, or its start: refused when the story has moved on
    #[arg(long)]
    commit: Option<String>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Only {
    story: String,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Reset {
    story: String,
    /// Also forget which approaches failed
    #[arg(long)]
    forget: bool,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Cancel {
    story: String,
    #[arg(value_name = "REASON")]
    text: Vec<String>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Pause {
    #[arg(value_name = "REASON")]
    text: Vec<String>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub struct Resume {
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When the story does not exist, or its state does not allow it.
pub fn note(args: &Text) -> Result<ExitCode, Failure> {
    let text = words(&args.text)?;
    order(&args.story, args.json, |_| Ok(Kind::StoryNoted { text }))
}

/// # Errors
/// As [`note`].
pub fn answer(args: &Text) -> Result<ExitCode, Failure> {
    let text = words(&args.text)?;
    order(&args.story, args.json, |_| Ok(Kind::StoryAnswered { text }))
}

/// # Errors
/// As [`note`].
pub fn replan(args: &Text) -> Result<ExitCode, Failure> {
    let reason = words(&args.text)?;
    order(&args.story, args.json, |_| Ok(Kind::StoryReplanned { reason }))
}

/// # Errors
/// As [`note`].
pub fn approve(args: &Approve) -> Result<ExitCode, Failure> {
    order(&args.story, args.json, |story| approval(story, args.commit.as_deref(), &args.without_gates))
}

/// The approval of the commit that a person looked at, or of the story's own.
///
/// # Errors
/// When there is nothing to approve, or the commit is none.
pub(in crate::face) fn approval(story: &Story, commit: Option<&str>, without_gates: &[String]) -> Result<Kind, Failure> {
    let Some(change) = story.change() else {
        return Err(Failure::new(Exit::Failure, "there is nothing to approve")
            .why("nothing was collected yet")
            .next(format!("cofferdam why {}", story.id)));
    };
    let own = match (&story.revert, &story.end) {
        (Some(revert), Some(End::Merged { .. })) => &revert.candidate,
        _ => &change.commit,
    };
    let commit = commit.map(|typed| meant(story, typed)).transpose()?;
    Ok(Kind::StoryApproved { commit: commit.unwrap_or_else(|| own.clone()), without_gates: without_gates.to_vec() })
}

/// # Errors
/// As [`note`].
pub fn reject(args: &Reject) -> Result<ExitCode, Failure> {
    let reason = words(&args.text)?;
    order(&args.story, args.json, |story| {
        let commit = args.commit.as_deref().map(|typed| meant(story, typed)).transpose()?;
        Ok(Kind::StoryRejected { commit, reason })
    })
}

/// # Errors
/// As [`note`].
pub fn retry(args: &Only) -> Result<ExitCode, Failure> {
    order(&args.story, args.json, |_| Ok(Kind::StoryRetried {}))
}

/// # Errors
/// As [`note`].
pub fn reset(args: &Reset) -> Result<ExitCode, Failure> {
    order(&args.story, args.json, |_| Ok(Kind::StoryReset { forget: args.forget }))
}

/// The reason of whoever gives none.
pub(in crate::face) const CANCELLED: &str = "a human cancelled it";

/// # Errors
/// As [`note`].
pub fn cancel(args: &Cancel) -> Result<ExitCode, Failure> {
    let reason = optional(&args.text)?.unwrap_or_else(|| CANCELLED.to_owned());
    order(&args.story, args.json, |_| Ok(Kind::StoryCancelled { reason }))
}

/// # Errors
/// When the store cannot be written.
pub fn pause(args: &Pause) -> Result<ExitCode, Failure> {
    let reason = optional(&args.text)?;
    say(
        Kind::RunPaused { reason },
        args.json,
        "The run is paused: what works goes on to its end, and nothing new starts. Go on with: cofferdam resume",
    )
}

/// # Errors
/// When the store cannot be written.
pub fn resume(args: &Resume) -> Result<ExitCode, Failure> {
    say(Kind::RunResumed {}, args.json, "The run goes on.")
}

fn words(words: &[String]) -> Result<String, Failure> {
    let text = match words {
        [only] if only == "-" => {
            let mut text = String::new();
            let read = std::io::stdin().take(LONGEST_TEXT as u64 + 1).read_to_string(&mut text);
            read.map_err(|error| {
                Failure::usage("standard input could not be read as text").because(&error).next("pipe UTF-8 text into it")
            })?;
            text
        }
        words => words.join(" "),
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::usage("the text is empty").next("write a sentence behind the story's id"));
    }
    if text.len() > LONGEST_TEXT {
        return Err(Failure::usage("the text is longer than 16 KiB")
            .next("put it into the story's file, or into a file of the repository, and name that"));
    }
    Ok(text.to_owned())
}

/// The words, when there are any.
///
/// # Errors
/// When they are none, or too many.
pub(super) fn optional(given: &[String]) -> Result<Option<String>, Failure> {
    if given.is_empty() { Ok(None) } else { words(given).map(Some) }
}

/// The commit that a person typed, or the start of the story's own.
fn meant(story: &Story, typed: &str) -> Result<CommitId, Failure> {
    let own = story.change().map(|change| &change.commit);
    // Fewer digits could be anything.
    if let Some(own) = own.filter(|own| typed.len() >= 7 && own.as_str().starts_with(typed)) {
        return Ok(own.clone());
    }
    typed.parse().map_err(|error| {
        let now = own.map_or_else(|| "nothing was collected yet".to_owned(), |own| format!("the story is at {own}"));
        Failure::usage(format!("`{}` is not the story's commit", one_line(typed)))
            .because(&error)
            .why(now)
            .next(format!("cofferdam show {}", story.id))
    })
}

/// What became of something that a human said.
pub(in crate::face) struct Told {
    seq: u64,
    kind: String,
    story: Option<StoryId>,
    /// The state of the story then.
    now: Option<&'static str>,
    runner: Status,
    /// Somebody is there who acts on it at once.
    pub(in crate::face) is_running: bool,
}

impl Told {
    /// One sentence. None when it is about no story.
    pub(in crate::face) fn text(&self) -> Option<String> {
        let (id, now) = (self.story.as_ref()?, self.now?);
        Some(format!("{}: {} is stored as event {}; the story is {now}", one_line(id.as_str()), self.kind, self.seq))
    }
}

/// Makes the event from the story as it is, and stores it.
///
/// # Errors
/// When the story does not exist, or its state does not allow it.
pub(in crate::face) fn tell(state: &State, typed: &str, kind: impl FnOnce(&Story) -> Result<Kind, Failure>) -> Result<Told, Failure> {
    let story = match state::story(state.store()?.as_ref(), typed) {
        Ok(story) => story,
        // Nothing ran since it was written down: it is known from here on.
        Err(unknown) => match learn(state)? {
            Ok(()) => state::story(state.store()?.as_ref(), typed)?,
            Err(why) => return Err(unknown.why(why)),
        },
    };
    let kind = kind(&story)?;
    store(state, Some(story.id), kind)
}

fn store(state: &State, story: Option<StoryId>, kind: Kind) -> Result<Told, Failure> {
    let mut store = state.store_to_write()?;
    let name = kind.name().to_owned();
    let appended = store.append_one(state::said(story.clone(), kind)).map_err(state::failure)?;
    let runner = state.runner()?;
    let now = match &story {
        Some(id) => store.story(id).map_err(state::failure)?.map(|story| phase(&story).name()),
        None => None,
    };
    Ok(Told { seq: appended.first, kind: name, story, now, runner: runner.status, is_running: runner.pid.is_some() })
}

/// Tells it to the store, and the person what became of it.
///
/// # Errors
/// When the story does not exist, or its state does not allow it.
pub(super) fn order(typed: &str, as_json: bool, kind: impl FnOnce(&Story) -> Result<Kind, Failure>) -> Result<ExitCode, Failure> {
    let told = tell(&State::find()?, typed, kind)?;
    Ok(print(&told, as_json, ""))
}

fn say(kind: Kind, as_json: bool, done: &str) -> Result<ExitCode, Failure> {
    let told = store(&State::find()?, None, kind)?;
    Ok(print(&told, as_json, done))
}

fn print(told: &Told, as_json: bool, done: &str) -> ExitCode {
    if as_json {
        let Told { seq, kind, story, now, runner, .. } = told;
        printer::json(
            &json!({"version": VERSION, "seq": seq, "kind": kind, "story": story, "state": now, "runner": state::status_word(*runner)}),
        );
        return ExitCode::SUCCESS;
    }
    printer::out(told.text().as_deref().unwrap_or(done));
    if !told.is_running {
        printer::err("No runner is working: `cofferdam run` acts on it.");
    }
    ExitCode::SUCCESS
}

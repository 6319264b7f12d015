//! `cofferdam revert STORY`: takes back what a story landed, gated like anything else.

use std::ops::ControlFlow;
use std::process::ExitCode;

use serde_json::json;

use super::failure::{Exit, Failure};
use super::project::ProjectArgs;
use super::state::{self, State, VERSION};
use super::{gate, printer, workspace};
use crate::base::id::{CommitId, StoryId};
use crate::base::text::{bytes_line, one_line};
use crate::config::When;
use crate::config::load::Loaded;
use crate::event::{GateResult, Kind};
use crate::queue::candidate::{self, Candidate, TakenBack};
use crate::queue::gate::{Definition, Floor, judge};
use crate::queue::gate_run::Gates;
use crate::queue::land::{LandingLock, land};
use crate::role::network::grants;
use crate::sandbox::Engine;
use crate::sandbox::plan::Facts;
use crate::store::fold::Revert;
use crate::store::lock::RunnerLock;
use crate::store::{Filter, Store};
use crate::story::{Phase, Story, phase};
use crate::workspace::git::Oid;
use crate::workspace::stories::Workspaces;

#[derive(Debug, clap::Args)]
pub struct Args {
    story: String,
    /// Why, for the commit's message and for whoever works on the story again
    #[arg(value_name = "REASON")]
    text: Vec<String>,
    #[command(flatten)]
    project: ProjectArgs,
    /// What was done as a JSON document
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When nothing of the story has landed, later work builds on it, or a gate is red without it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (loaded, branch) = args.project.load_with_target()?;
    let target = format!("refs/heads/{branch}");
    let state = State::find()?;
    let _lock = RunnerLock::take(&state.folder, state::now()).map_err(|error| {
        Failure::new(Exit::Failure, error.to_string())
            .next("let it end, or stop it there with Ctrl-C; then revert, then cofferdam run goes on")
    })?;
    let mut store = state.store_to_write()?;
    let story = state::story(Some(&store), &args.story)?;
    let landed = landing(&store, &story)?;
    let reason = if args.text.is_empty() { "a human took it back".to_owned() } else { args.text.join(" ") };
    let Workspaces { repository, state: place } = Workspaces::open(&loaded.root).map_err(|error| workspace::failed(&error))?;
    let fail = |error: &dyn std::error::Error| Failure::new(Exit::Failure, format!("{} cannot be taken back", story.id)).because(error);
    let tip =
        repository.branch_tip(&target).map_err(|e| fail(&e))?.ok_or_else(|| Failure::usage(format!("the target {branch} is gone")))?;
    let landed = candidate::share(&repository, landed.commit, landed.story)
        .map_err(|e| fail(&e))?
        // Alone it brought all that came between.
        .unwrap_or((landed.commit, landed.from));
    if !repository.is_ancestor(landed.0, tip) {
        return Err(
            Failure::new(Exit::Failure, "the target does not hold it any more").next(format!("git log {branch} shows what became of it"))
        );
    }
    let message = candidate::revert_message(story.id.as_str(), &story.spec.title, &reason, landed.0);
    let taken = candidate::take_back(&repository, &place, tip, landed.0, landed.1, &message).map_err(|e| fail(&e))?;
    let built = match taken {
        TakenBack::Built(built) => built,
        TakenBack::Conflicts(conflicts) => {
            let paths: Vec<String> = conflicts.iter().take(5).map(|conflict| bytes_line(&conflict.path)).collect();
            return Err(Failure::new(Exit::Blocked, format!("later work builds on {}", story.id))
                .why(format!("in {}", paths.join(", ")))
                .next("revert the later stories first, or write a story that takes it back"));
        }
    };
    prove(&loaded, &store, &built, args.json)?;
    let lock = LandingLock::take(&place).map_err(|e| fail(&e))?;
    land(&lock, &repository, &place, &target, &built, loaded.config.merge.update_checkout, &mut |_| {})
        .map_err(|e| fail(&e).next("try again"))?;
    let commit = id(built.commit)?;
    let events = vec![
        state::said(Some(story.id.clone()), Kind::StoryReverted { commit: commit.clone(), reason }),
        state::said(None, Kind::TargetMoved { target: target.clone(), from: Some(id(built.base)?), to: commit.clone() }),
        state::said(None, Kind::TargetChecked { commit: commit.clone(), green: true, detail: None, evidence: None }),
    ];
    store.append(events).map_err(state::failure)?;
    if args.json {
        printer::json(
            &json!({"version": VERSION, "story": story.id, "reverted": landed.0.to_string(), "commit": commit, "target": target}),
        );
    } else {
        printer::out(&format!(
            "{} is taken back by {} on {branch}; cofferdam retry {} works on it again",
            one_line(story.id.as_str()),
            commit.short(),
            one_line(story.id.as_str())
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a prepared revert waits for, and what a human does about it.
fn standing(story: &StoryId, revert: &Revert) -> (&'static str, String) {
    match (revert.ready, revert.approved) {
        (false, _) => ("testing", "its gates".to_owned()),
        (true, false) => ("ready", format!("your approval: cofferdam approve {}", one_line(story.as_str()))),
        (true, true) => ("approved", "its landing; cofferdam run goes on with it".to_owned()),
    }
}

/// A prepared revert in one line.
pub(in crate::face) fn line(story: &StoryId, revert: &Revert) -> String {
    let (state, waits_for) = standing(story, revert);
    let (story, why) = (one_line(story.as_str()), one_line(&revert.why));
    format!("{state}: {} takes back {story} ({why}), and waits for {waits_for}", revert.candidate.short())
}

pub(super) fn document(story: &StoryId, revert: &Revert) -> serde_json::Value {
    let (state, waits_for) = standing(story, revert);
    json!({"story": story, "candidate": revert.candidate, "state": state, "why": revert.why, "waits_for": waits_for})
}

fn id(oid: Oid) -> Result<CommitId, Failure> {
    oid.to_string().parse().map_err(|error| Failure::new(Exit::Failure, "git gave an id that is none").because(&error))
}

/// A landing of a story.
struct Landing {
    commit: Oid,
    /// Where the target was before.
    from: Oid,
    /// The story's own commit.
    story: Oid,
}

fn landing(store: &Store, story: &Story) -> Result<Landing, Failure> {
    let nothing = || Failure::new(Exit::Failure, format!("nothing of {} is in the target", one_line(story.id.as_str())));
    if !matches!(phase(story), Phase::Merged { .. }) {
        return Err(nothing().why(format!("it is {}", phase(story).name())).next(format!("cofferdam show {}", story.id)));
    }
    let mut found = None;
    let filter = Filter { story: Some(story.id.clone()), ..Filter::default() };
    let looked = store.events(&filter, |stored| {
        if let Ok(event) = stored.event()
            && let Kind::StoryLanded { commit, from, story_commit, .. } = event.kind
        {
            found = Some((commit, from, story_commit));
        }
        ControlFlow::Continue(())
    });
    looked.map_err(state::failure)?;
    let (commit, from, own) = found.ok_or_else(nothing)?;
    let oid = |id: &CommitId| id.as_str().parse::<Oid>().map_err(|_| nothing());
    Ok(Landing { commit: oid(&commit)?, from: oid(&from)?, story: oid(&own)? })
}

/// The gates of every candidate, on this one.
fn prove(loaded: &Loaded, store: &Store, built: &Candidate, quiet: bool) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(|e| Failure::new(Exit::Failure, "cofferdam cannot find itself").because(&e))?;
    let engine = Engine::with_helper(Facts::read(), &program)
        .map_err(|e| Failure::new(Exit::Failure, "the helper that starts sandboxes cannot be started").because(&e))?;
    let opened = Gates::open(&engine, &loaded.root, &loaded.config, store.evidence())
        .map_err(|e| gate::failed(&e))?
        .with_keys(grants(&loaded.config));
    for definition in loaded.config.gates.iter().filter(|gate| gate.when == When::Always).map(Definition::from) {
        let ran = opened.ask(&definition, built.commit, false, &|| None, &|_| {}).map_err(|e| gate::failed(&e))?;
        // Taking work back takes its tests back too.
        let judged = judge(&ran.record.seen, Floor::default());
        if judged.result != GateResult::Pass {
            if !quiet {
                printer::err(&ran.record.tail);
            }
            return Err(Failure::new(
                Exit::Red,
                format!("gate {} is red without the story; nothing was changed", one_line(&definition.name)),
            )
            .why(judged.why.join("; "))
            .next("mend it by a story instead, or revert what builds on it first"));
        }
    }
    Ok(())
}

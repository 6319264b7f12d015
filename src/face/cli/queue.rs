//! `cofferdam queue`: what waits to land, in the order in which it will, and what each waits for.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::failure::Failure;
use super::printer;
use super::project::PlanArgs;
use super::state::{self, State, VERSION};
use crate::base::duration;
use crate::base::text::one_line;
use crate::config::{Config, DEFAULT_PRIORITY};
use crate::event::{GateResult, Kind};
use crate::queue::order::{Waiting, order};
use crate::spec::Spec;
use crate::store::{Filter, Store, StoreError};
use crate::story::facts::Candidate;
use crate::story::{Phase, Story, phase};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    plan: PlanArgs,
}

/// Events that tell how long gates take.
const LOOKED_BACK: u64 = 2_000;

/// One story that waits.
#[derive(Clone, Debug, Serialize)]
pub(in crate::face) struct Line {
    pub(in crate::face) story: String,
    pub(in crate::face) title: String,
    commit: String,
    pub(in crate::face) candidate: Option<String>,
    base: Option<String>,
    /// `waiting`, `testing`, `green`, `red`, `landing`.
    pub(in crate::face) state: &'static str,
    /// The stories that land, or leave, before it.
    pub(in crate::face) behind: Vec<String>,
    /// What each gate said of its candidate so far.
    pub(in crate::face) gates: BTreeMap<String, Option<GateResult>>,
    pub(in crate::face) waits_for: String,
    /// From now, when nothing before it is red.
    pub(in crate::face) expected_ms: Option<u64>,
}

/// # Errors
/// When the store cannot be read.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let checked = args.plan.check()?;
    let config = checked.loaded.as_ref().map(|loaded| &loaded.config);
    let state = State::find()?;
    let store = state.store()?;
    let lines = store.as_ref().map(|store| lines(store, config, &checked.spec)).transpose()?.unwrap_or_default();
    let overview = store.as_ref().map(Store::overview).transpose().map_err(state::failure)?;
    let (target, reverts) = overview.map(|overview| (overview.target, overview.reverts)).unwrap_or_default();
    if args.plan.json {
        let target = target.map(|target| json!({"ref": target.reference, "commit": target.commit, "green": target.green}));
        let reverts: Vec<_> = reverts.iter().map(|(story, revert)| super::revert::document(story, revert)).collect();
        printer::json(
            &json!({"version": VERSION, "target": target, "slots": config.map(|c| c.queue.slots), "queue": lines, "reverts": reverts}),
        );
        return Ok(ExitCode::SUCCESS);
    }
    for (story, revert) in &reverts {
        printer::prose(&format!("  !  {}", super::revert::line(story, revert)));
    }
    if lines.is_empty() {
        if reverts.is_empty() {
            printer::out("Nothing waits to land.");
        }
        return Ok(ExitCode::SUCCESS);
    }
    for (at, line) in lines.iter().enumerate() {
        let soon = line.expected_ms.map_or_else(String::new, |ms| format!(", in about {}", duration::display(Duration::from_millis(ms))));
        let candidate = line.candidate.as_ref().map_or_else(String::new, |id| format!(" as {}", &id[..10]));
        printer::prose(&format!("{:>3}  {:<9}{}{candidate}: {}{soon}", at + 1, line.state, one_line(&line.story), line.waits_for));
    }
    if state.runner()?.pid.is_none() {
        printer::err("No runner is working: `cofferdam run` goes on with them.");
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(store: &Store, config: Option<&Config>, spec: &Spec) -> Result<Vec<Line>, Failure> {
    let priority = |story: &Story| {
        let stream = spec.stories.iter().find(|s| s.id == story.id).and_then(|s| s.stream.as_ref());
        stream.zip(config).and_then(|(stream, config)| config.streams.get(stream)).map_or(DEFAULT_PRIORITY, |stream| stream.priority)
    };
    let stories = store.all_facts().map_err(state::failure)?;
    let waiting: Vec<&Story> =
        stories.iter().filter(|story| matches!(phase(story), Phase::Queued { .. } | Phase::Merging { .. })).collect();
    let slots = config.map_or(1, |config| usize::try_from(config.queue.slots).unwrap_or(1));
    let took = gate_times(store)?;
    in_order(store, &waiting, &priority, slots, &took).map_err(state::failure)
}

/// Those that wait, in the order in which they land.
///
/// # Errors
/// When the store cannot be read.
pub(in crate::face) fn in_order(
    store: &Store,
    stories: &[&Story],
    priority: &dyn Fn(&Story) -> u64,
    slots: usize,
    took: &Took,
) -> Result<Vec<Line>, StoreError> {
    let mut waiting = Vec::new();
    for story in stories {
        let moves = store.transitions(&story.id)?;
        let entered = moves.iter().rev().find(|t| t.to == "queued" && t.kind == "story.queued").map_or(0, |t| t.seq);
        let place =
            Waiting { story: story.id.clone(), urgent: story.is_urgent(), priority: priority(story), entered, ordinal: story.spec.ordinal };
        waiting.push((place, *story));
    }
    waiting.sort_by(|(a, _), (b, _)| order(a, b));
    let (mut behind, mut lines) = (Vec::new(), Vec::new());
    // Stories of one batch have one candidate, and one turn.
    let (mut turns, mut last) = (0_usize, None);
    for (_, story) in &waiting {
        let candidate = story.queue.as_ref().and_then(|queue| queue.candidate.as_ref()).map(|candidate| &candidate.commit);
        if candidate.is_none() || candidate != last {
            turns += 1;
        }
        last = candidate;
        lines.push(line(story, &behind, (turns - 1) / slots.max(1), took));
        behind.push(story.id.to_string());
    }
    Ok(lines)
}

/// How long each gate took on average, of those that really ran.
#[derive(Clone, Debug, Default)]
pub(in crate::face) struct Took(BTreeMap<String, (u64, u64)>);

impl Took {
    pub(in crate::face) fn add(&mut self, gate: &str, ms: u64) {
        let (sum, count) = self.0.entry(gate.to_owned()).or_default();
        *sum = sum.saturating_add(ms);
        *count += 1;
    }

    fn of(&self, gate: &str) -> Option<u64> {
        self.0.get(gate).map(|(sum, count)| sum / (*count).max(1))
    }
}

fn line(story: &Story, behind: &[String], rounds: usize, took: &Took) -> Line {
    let queue = story.queue.as_ref();
    let candidate = queue.and_then(|queue| queue.candidate.as_ref());
    let gates: BTreeMap<String, Option<GateResult>> = story
        .spec
        .rules
        .gates
        .iter()
        .map(|name| (name.clone(), candidate.and_then(|candidate| candidate.gates.get(name)).map(|run| run.result)))
        .collect();
    let open: Vec<&str> = gates.iter().filter(|(_, said)| **said != Some(GateResult::Pass)).map(|(name, _)| name.as_str()).collect();
    let state = word(candidate, &gates);
    let first = behind.first().map(String::as_str);
    let waits_for = match (state, first) {
        ("waiting", None) => "its candidate to be built".to_owned(),
        ("waiting", Some(before)) => format!("a free slot, behind {before}"),
        ("testing", _) => format!("its {} {}", if open.len() == 1 { "gate" } else { "gates" }, open.join(", ")),
        ("green", Some(before)) => format!("{before} to land first"),
        ("green", None) => "its landing".to_owned(),
        ("red", _) => "whether it, or one before it, is at fault".to_owned(),
        _ => "the target to move".to_owned(),
    };
    // Gates of one candidate run side by side, so the longest counts.
    let one = story.spec.rules.gates.iter().map(|name| took.of(name)).collect::<Option<Vec<_>>>();
    let expected_ms = one.map(|all| all.into_iter().max().unwrap_or(0)).map(|longest| {
        let rounds = rounds as u64 + u64::from(!matches!(state, "green" | "landing"));
        longest.saturating_mul(rounds)
    });
    Line {
        story: story.id.to_string(),
        title: story.spec.title.clone(),
        commit: queue.map(|queue| queue.commit.to_string()).unwrap_or_default(),
        candidate: candidate.map(|candidate| candidate.commit.to_string()),
        base: candidate.map(|candidate| candidate.base.to_string()),
        state,
        behind: behind.to_vec(),
        gates,
        waits_for,
        expected_ms,
    }
}

fn word(candidate: Option<&Candidate>, gates: &BTreeMap<String, Option<GateResult>>) -> &'static str {
    match candidate {
        None => "waiting",
        Some(candidate) if candidate.landing => "landing",
        Some(_) if gates.values().any(|said| *said == Some(GateResult::Red)) => "red",
        Some(_) if gates.values().all(|said| *said == Some(GateResult::Pass)) => "green",
        Some(_) => "testing",
    }
}

fn gate_times(store: &Store) -> Result<Took, Failure> {
    let mut took = Took::default();
    let filter = Filter { last: Some(LOOKED_BACK), ..Filter::default() };
    let looked = store.events(&filter, |stored| {
        if let Ok(event) = stored.event()
            && let Kind::GateFinished { gate, wall_ms, cached: false, .. } = event.kind
        {
            took.add(&gate, wall_ms);
        }
        ControlFlow::Continue(())
    });
    looked.map_err(state::failure)?;
    Ok(took)
}

//! What holds the plan up: what concerns everything first, then the stories that need somebody, the one that holds the most first. Pure.

use jiff::Timestamp;

use super::data::{Data, Item};
use crate::base::graph::reachable;
use crate::event::{Landing, StopReason};
use crate::face::cli::state::ago;
use crate::face::cli::why::because;
use crate::store::fold::Revert;
use crate::store::health::{Runner, Status};
use crate::story::{Phase, wanted};

/// One thing that somebody should do something about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The story's position. None for what concerns everything.
    pub(super) story: Option<usize>,
    pub(super) what: String,
    pub(super) why: String,
    pub(super) next: Option<String>,
    /// What waits for it, directly or through others.
    pub(super) holds: Vec<usize>,
}

pub(super) fn problems(data: &Data, now: Timestamp) -> Vec<Problem> {
    let Some(runner) = data.runner.as_ref().filter(|_| data.is_known) else { return Vec::new() };
    let mut found = of_the_run(data, runner, now);
    let over = |item: &Item| item.phase.is_terminal();
    let mut roots = Vec::new();
    for (at, item) in data.stories.iter().enumerate() {
        if !needs_somebody(data, at, item) {
            continue;
        }
        let holds: Vec<usize> =
            reachable(&data.graph.dependents, at).into_iter().filter(|s| *s != at && !over(&data.stories[*s])).collect();
        // What was ended on purpose is nobody's business, unless something still waits for it.
        if over(item) && holds.is_empty() && !has_revert(data, item) {
            continue;
        }
        let because = because(&item.story, &data.phases, &data.overview, runner, now);
        let (why, next) = match &item.phase {
            Phase::Cancelled { .. } | Phase::Reverted { .. } => {
                let id = &item.row.id;
                let instead = format!("cofferdam reset {id}, cofferdam backfill {id}, or take it out of what the others come after");
                (because.why, Some(instead))
            }
            _ => (because.why, because.next),
        };
        roots.push(Problem { story: Some(at), what: item.phase.name().to_owned(), why, next, holds });
    }
    roots.sort_by_key(|problem| (std::cmp::Reverse(problem.holds.len()), problem.story));
    let stopped = data.overview.run.as_ref().and_then(|run| run.stopped.as_ref()).map(|(_, reason, _)| *reason);
    if stopped == Some(StopReason::Blocked) {
        // What made the run end comes before that it ended.
        roots.append(&mut found);
    }
    found.extend(roots);
    found
}

/// It landed, turned out red, and what takes it back waits for a word.
fn has_revert(data: &Data, item: &Item) -> bool {
    data.overview.reverts.get(&item.story.id).is_some_and(Revert::waits_for_human)
}

fn needs_somebody(data: &Data, at: usize, item: &Item) -> bool {
    match &item.phase {
        Phase::Merged { .. } => has_revert(data, item),
        Phase::Blocked(_) | Phase::Escalated { .. } | Phase::Stagnated { .. } | Phase::Cancelled { .. } | Phase::Reverted { .. } => true,
        Phase::Pending { .. } => {
            !item.story.spec.automatable && data.graph.after[at].iter().all(|before| data.stories[*before].phase.satisfies_dependents())
        }
        Phase::Ready { .. } => item.story.spec.rules.landing == Landing::Approval && wanted(&item.story).is_empty(),
        _ => false,
    }
}

fn of_the_run(data: &Data, runner: &Runner, now: Timestamp) -> Vec<Problem> {
    let mut found = Vec::new();
    let mut say = |what: &str, why: String, next: Option<String>| {
        found.push(Problem { story: None, what: what.to_owned(), why, next, holds: Vec::new() });
    };
    let is_open = data.stories.iter().any(|item| !item.phase.is_terminal() && !item.phase.is_halted());
    match runner.status {
        Status::Hung => {
            let kill = runner.pid.map(|pid| format!("kill {pid}, then ")).unwrap_or_default();
            let last =
                runner.heartbeat.map_or_else(|| "it has no heartbeat".to_owned(), |last| format!("its last heartbeat was {}", ago(last)));
            say("runner hangs", last, Some(format!("{kill}cofferdam run")));
        }
        Status::Error => {
            let why = runner.detail.clone().unwrap_or_else(|| "the last run ended with an error".to_owned());
            say("runner failed", why, Some("cofferdam run".to_owned()));
        }
        Status::Stopped if is_open => {
            let stopped = data.overview.run.as_ref().and_then(|run| run.stopped.as_ref());
            let why = match (&runner.detail, stopped) {
                (Some(detail), _) => detail.clone(),
                (None, Some((_, reason, detail))) => {
                    let detail = detail.as_deref().map(|detail| format!(": {detail}")).unwrap_or_default();
                    format!("the last run ended, because {}{detail}", crate::face::cli::status::stop_word(*reason))
                }
                (None, None) => "no run was begun yet".to_owned(),
            };
            say("no runner", format!("nothing moves: {why}"), Some("cofferdam run".to_owned()));
        }
        Status::Stopped | Status::Starting | Status::Running => {}
    }
    if let Some(reason) = &data.overview.paused {
        let why = if reason.is_empty() { "a human paused the run".to_owned() } else { format!("a human paused the run: {reason}") };
        say("paused", why, Some("cofferdam resume".to_owned()));
    }
    if let Some(target) = data.overview.target.as_ref().filter(|target| target.green == Some(false)) {
        let why = format!("{} is red at {}: only what mends it runs", target.reference, target.commit.short());
        say("target is red", why, Some("cofferdam gate shows why".to_owned()));
    }
    for (provider, until) in data.overview.providers.iter().filter(|(_, until)| **until > now) {
        say("provider pauses", format!("{provider} refuses until {}", until.strftime("%Y-%m-%d %H:%M:%S")), None);
    }
    found
}

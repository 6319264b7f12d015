//! `cofferdam why`: why a story is where it is, what it waits for, and what to do; without a story, why nothing moves.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::failure::Failure;
use super::printer;
use super::show::next;
use super::state::{self, State, VERSION, ago, clock, status_word};
use crate::base::duration;
use crate::base::text::{cut, one_line, plural};
use crate::store::fold::Overview;
use crate::store::health::{Runner, Status};
use crate::store::{Filter, Store, StoryRow, Transition, live};
use crate::story::facts::{Conclusion, Story};
use crate::story::{Phase, budget, feedback, phase, wanted};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Without one: why is nothing running?
    story: Option<String>,
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When there is no such story, or the store cannot be read.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let state = State::find()?;
    let runner = state.runner()?;
    let store = state.store()?;
    match &args.story {
        Some(typed) => {
            let story = state::story(store.as_ref(), typed)?;
            let Some(store) = store else { return Ok(ExitCode::SUCCESS) };
            let (overview, phases) = surroundings(&store)?;
            let moves = store.transitions(&story.id).map_err(state::failure)?;
            let because = because(&story, &phases, &overview, &runner, state::now());
            let silent = silent(&state, &store, &story, &runner)?;
            if args.json {
                printer::json(&document(&story, &because, &moves, silent));
            } else {
                printer::prose(&text(&story, &because, &moves, silent));
            }
        }
        None => everything(store.as_ref(), &runner, args.json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The reason of one story, as the store and the runner are.
///
/// # Errors
/// When the store cannot be read.
pub(in crate::face) fn of(store: &Store, story: &Story, runner: &Runner) -> Result<Because, Failure> {
    let (overview, phases) = surroundings(store)?;
    Ok(because(story, &phases, &overview, runner, state::now()))
}

fn surroundings(store: &Store) -> Result<(Overview, BTreeMap<String, String>), Failure> {
    let overview = store.overview().map_err(state::failure)?;
    let rows = store.stories().map_err(state::failure)?;
    Ok((overview, phases(&rows)))
}

fn phases(rows: &[StoryRow]) -> BTreeMap<String, String> {
    rows.iter().map(|row| (row.id.clone(), row.phase.clone())).collect()
}

/// For how long the implementer at work has said nothing: since its last word, else since it started.
fn silent(state: &State, store: &Store, story: &Story, runner: &Runner) -> Result<Option<Duration>, Failure> {
    let is_at_work = matches!(phase(story), Phase::Implementing { .. } | Phase::Repairing { .. });
    if runner.pid.is_none() || !is_at_work || !story.attempt().is_some_and(|attempt| attempt.started) {
        return Ok(None);
    }
    let mut started = None;
    let filter = Filter { story: Some(story.id.clone()), ..Filter::default() };
    let read = store.events(&filter, |event| {
        if event.kind == "attempt.started" {
            started = event.at.parse::<Timestamp>().ok();
        }
        ControlFlow::Continue(())
    });
    read.map_err(state::failure)?;
    let last = live::spoke(&state.folder, &story.id).into_iter().chain(started).max();
    Ok(last.and_then(|last| Duration::try_from(state::now().duration_since(last)).ok()))
}

/// The one reason why a story is not getting on, or what it is doing; and what a human can do, if anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::face) struct Because {
    pub(in crate::face) why: String,
    pub(in crate::face) next: Option<String>,
}

/// The reason, from facts alone. The order of the checks is the order in which a human would mend them.
pub(in crate::face) fn because(
    story: &Story,
    phases: &BTreeMap<String, String>,
    overview: &Overview,
    runner: &Runner,
    now: Timestamp,
) -> Because {
    let phase = phase(story);
    let say = |why: String, next: Option<&str>| Because { why, next: next.map(str::to_owned) };
    if let Some((reason, question)) = phase.reason() {
        return Because { why: format!("{reason}: {question}"), next: next(story, &phase) };
    }
    if let (Phase::Merged { commit }, Some(revert)) = (&phase, &story.revert) {
        let red =
            format!("it landed as {}, and the target is red with it: {}", commit.short(), revert.why.lines().next().unwrap_or_default());
        let id = &story.id;
        return match (revert.ready, revert.approved) {
            (false, _) => say(format!("{red}; the gates of its revert run"), None),
            (true, false) => say(format!("{red}; its revert is ready"), Some(&format!("cofferdam approve {id}"))),
            (true, true) => say(format!("{red}; its revert is approved"), Some("cofferdam run")),
        };
    }
    if let Phase::Merged { commit } = &phase {
        return say(format!("it landed as {}", commit.short()), None);
    }
    if let Phase::Pending { not_before } = &phase {
        let unmet: Vec<String> = story
            .spec
            .after
            .iter()
            .filter(|id| !phases.get(id.as_str()).is_some_and(|phase| matches!(phase.as_str(), "merged" | "backfilled")))
            .map(|id| format!("{id} ({})", phases.get(id.as_str()).map_or("not in the plan", String::as_str)))
            .collect();
        if !unmet.is_empty() {
            let next = story
                .spec
                .after
                .iter()
                .find(|id| phases.get(id.as_str()).is_some_and(|phase| !matches!(phase.as_str(), "merged" | "backfilled")));
            return Because { why: format!("it comes after {}", unmet.join(", ")), next: next.map(|id| format!("cofferdam why {id}")) };
        }
        if !story.spec.automatable {
            return Because {
                why: "only a human can do it (automatable: false)".to_owned(),
                next: Some(format!("do it, then cofferdam backfill {}", story.id)),
            };
        }
        if let Some(until) = not_before.filter(|until| *until > now) {
            return say(format!("its provider pauses until {until}"), None);
        }
    }
    if matches!(phase, Phase::Ready { .. }) && wanted(story).is_empty() {
        let (why, next) = match story.spec.rules.landing {
            crate::event::Landing::Stop => ("it is proven, and the run is configured to stop there".to_owned(), None),
            _ => ("it is proven, and waits for a human's approval".to_owned(), Some(format!("cofferdam approve {}", story.id))),
        };
        return Because { why, next };
    }
    if let Some(reason) = &overview.paused {
        let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
        return say(format!("a human paused the run{reason}"), Some("cofferdam resume"));
    }
    match runner.status {
        Status::Stopped | Status::Error => return say("no runner is working".to_owned(), Some("cofferdam run")),
        Status::Hung => {
            let process = runner.pid.map(|pid| format!("kill {pid}, then ")).unwrap_or_default();
            return Because {
                why: format!("the runner hangs: {}", runner.detail.as_deref().unwrap_or("its heartbeat is old")),
                next: Some(format!("{process}cofferdam run")),
            };
        }
        Status::Starting | Status::Running => {}
    }
    let doing = match &phase {
        Phase::Pending { .. } => "it may start, and waits for a free slot".to_owned(),
        Phase::Contracting { .. } => "the agent is asked what it understood".to_owned(),
        Phase::Implementing { attempt } | Phase::Repairing { attempt } => format!("attempt {attempt} works on it"),
        Phase::Verifying { missing, .. } => format!("it waits for {}", missing.join(", ")),
        Phase::Diagnosing { .. } => "the diagnoser looks for what to mend".to_owned(),
        Phase::GateCheck { missing, .. } => {
            format!("it waits for {} {}", if missing.len() == 1 { "gate" } else { "gates" }, missing.join(", "))
        }
        Phase::Ready { .. } | Phase::Queued { .. } => "it waits in the queue".to_owned(),
        Phase::Merging { candidate, .. } => format!("candidate {} is being tested, or lands", candidate.commit.short()),
        other => other.name().to_owned(),
    };
    say(doing, None)
}

fn document(story: &Story, because: &Because, moves: &[Transition], silent: Option<Duration>) -> Value {
    let history: Vec<Value> = moves.iter().map(|m| json!({"seq": m.seq, "at": m.at, "kind": m.kind, "from": m.from, "to": m.to})).collect();
    let failures: Vec<Value> =
        failures(story).map(|(no, signature, summary)| json!({"attempt": no, "failed": signature, "summary": summary})).collect();
    json!({
        "version": VERSION, "id": story.id, "state": phase(story).name(), "why": because.why, "next": because.next,
        "silent_s": silent.map(|silent| silent.as_secs()),
        "history": history, "failures": failures, "blocked_approaches": feedback::blocked_approaches(story),
    })
}

/// The attempts that failed: what failed, and the first thing that was said.
fn failures(story: &Story) -> impl Iterator<Item = (u32, Vec<String>, String)> {
    story.attempts.iter().filter_map(|attempt| match &attempt.conclusion {
        Some(Conclusion::Failed(failure)) => {
            // The first finding names the evaluator; the next one says what it found.
            let said = failure.why.get(1).or(failure.why.first()).map(|finding| finding.text.clone()).unwrap_or_default();
            Some((attempt.no.get(), failure.signature.clone(), said))
        }
        _ => None,
    })
}

fn text(story: &Story, because: &Because, moves: &[Transition], silent: Option<Duration>) -> String {
    let phase = phase(story);
    let since = moves.last().and_then(|m| m.at.parse().ok()).map(|at| format!(", since {}", ago(at))).unwrap_or_default();
    let since = since.replace("since ", "for ").replace(" ago", "");
    let mut lines =
        vec![format!("{} is {}{since}", one_line(story.id.as_str()), phase.name()), format!("  because: {}", one_line(&because.why))];
    if let Some(next) = &because.next {
        lines.push(format!("  next: {}", one_line(next)));
    }
    // Less is no silence.
    if let Some(silent) = silent.filter(|silent| silent.as_secs() >= 10) {
        lines.push(format!(
            "  silent: it has printed nothing for {}; limits.implementer.silence says when it counts as hung",
            duration::display(silent)
        ));
    }
    let limits = &story.spec.rules.limits;
    if !story.attempts.is_empty() {
        let (iterations, cycles) = (budget::iterations(story), budget::cycles(story));
        lines.push(format!(
            "  budget: {iterations} of {} iterations, {cycles} of {} review-fix cycles",
            limits.iterations, limits.review_cycles
        ));
    }
    for (no, signature, said) in failures(story) {
        lines.push(format!(
            "  attempt {no} failed at {}: {}",
            one_line(&signature.join(", ")),
            cut(&one_line(&said.replace('\n', " ")), 160)
        ));
    }
    for blocked in feedback::blocked_approaches(story) {
        lines.push(format!(
            "  approach {} is blocked, it failed {}: {}",
            blocked.id,
            plural(u64::from(blocked.times), "time", "times"),
            cut(&one_line(&blocked.summary), 100)
        ));
    }
    let hidden = moves.len().saturating_sub(12);
    if hidden > 0 {
        lines.push(format!(
            "  … {}; all of it: cofferdam log {}",
            plural(hidden as u64, "earlier step", "earlier steps"),
            one_line(story.id.as_str())
        ));
    }
    for m in &moves[hidden..] {
        lines.push(format!("  {}  #{:<6} {:<19} → {}", clock(&m.at), m.seq, one_line(&m.kind), m.to));
    }
    lines.join("\n")
}

/// Every story that is not done, with the one reason.
fn everything(store: Option<&Store>, runner: &Runner, as_json: bool) -> Result<(), Failure> {
    let Some(store) = store else {
        if as_json {
            printer::json(&json!({"version": VERSION, "runner": status_word(runner.status), "stories": []}));
        } else {
            printer::out("Nothing has run in this repository yet.\n  next: cofferdam run");
        }
        return Ok(());
    };
    let (overview, phases) = surroundings(store)?;
    let now = state::now();
    // A landing that turned out red has a revert, and somebody who decides about it.
    let is_open = |story: &Story| !phase(story).is_terminal() || overview.reverts.contains_key(&story.id);
    let open = store.all_facts().map_err(state::failure)?.into_iter().filter(is_open);
    let reasons: Vec<(Story, Because)> =
        open.map(|story| (because(&story, &phases, &overview, runner, now), story)).map(|(because, story)| (story, because)).collect();
    if as_json {
        let stories: Vec<Value> =
            reasons.iter().map(|(story, b)| json!({"id": story.id, "state": phase(story).name(), "why": b.why, "next": b.next})).collect();
        printer::json(&json!({"version": VERSION, "runner": status_word(runner.status), "paused": overview.paused, "stories": stories}));
        return Ok(());
    }
    if reasons.is_empty() {
        // What was written since is in no event yet.
        printer::prose(if phases.is_empty() {
            "No story is known before the first run.\n  next: cofferdam next shows what a run would start"
        } else {
            "Nothing is left to do: every story that is known is merged, or ended in another way.\n  \
             next: cofferdam next shows whether the plan has new ones"
        });
    }
    for (story, because) in &reasons {
        let next = because.next.as_deref().map(|next| format!("\n    next: {}", one_line(next))).unwrap_or_default();
        printer::prose(&format!("{} is {}, because {}{next}", one_line(story.id.as_str()), phase(story).name(), one_line(&because.why)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{AttemptEnd, Kind, Landing, Task, Verdict};
    use crate::story::harness::{World, at, no, spec};

    fn runner(status: Status) -> Runner {
        Runner { status, pid: Some(7), heartbeat: None, detail: None }
    }

    fn asked(w: &World, phases: &[(&str, &str)], overview: &Overview, status: Status) -> Because {
        let phases = phases.iter().map(|(id, phase)| ((*id).to_owned(), (*phase).to_owned())).collect();
        because(&w.story, &phases, overview, &runner(status), at(1000))
    }

    #[test]
    fn every_state_has_one_reason_and_the_next_command() {
        let calm = Overview::default();
        let mut after = spec();
        after.after = vec!["US-0".parse().expect("id")];
        let w = World::new(after);
        let b = asked(&w, &[("US-0", "blocked")], &calm, Status::Running);
        assert!(b.why.contains("US-0 (blocked)") && b.next.as_deref() == Some("cofferdam why US-0"), "{b:?}");
        assert!(asked(&w, &[("US-0", "merged")], &calm, Status::Running).why.contains("free slot"));
        assert_eq!(asked(&w, &[("US-0", "merged")], &calm, Status::Stopped).next.as_deref(), Some("cofferdam run"));
        assert_eq!(asked(&w, &[("US-0", "merged")], &calm, Status::Hung).next.as_deref(), Some("kill 7, then cofferdam run"));
        let paused = Overview { paused: Some("lunch".to_owned()), ..Overview::default() };
        let b = asked(&w, &[("US-0", "merged")], &paused, Status::Running);
        assert!(b.why.contains("lunch") && b.next.as_deref() == Some("cofferdam resume"), "{b:?}");

        let mut w = World::new(spec());
        w.start();
        assert!(asked(&w, &[], &calm, Status::Running).why.contains("attempt 1"));
        w.work(1, "a").ok(crate::story::harness::judged(1, "checks", Verdict::Pass, 0));
        assert_eq!(asked(&w, &[], &calm, Status::Running).why, "it waits for review");
        let mut w = World::new(spec());
        w.start()
            .ok(Kind::AttemptStarted { attempt: no(1), task: Task::Implement, agent: "a".to_owned() })
            .end(AttemptEnd::Finished, Some("which port?"));
        let b = asked(&w, &[], &calm, Status::Running);
        assert!(b.why.contains("which port?") && b.next.as_deref() == Some("cofferdam answer US-1 TEXT"), "{b:?}");
        let mut approval = spec();
        approval.rules.landing = Landing::Approval;
        let mut w = World::new(approval);
        w.ready(1);
        assert_eq!(asked(&w, &[], &calm, Status::Running).next.as_deref(), Some("cofferdam approve US-1"));
    }
}

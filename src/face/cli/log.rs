//! `cofferdam log`: what happened, line by line, and whether the chain holds.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Duration;

use super::failure::{Exit, Failure};
use super::printer;
use super::state::{self, State, clock};
use crate::base::columns::hang;
use crate::base::suggest;
use crate::base::text::{cut, one_line, plural};
use crate::event::{AttemptEnd, CATALOG, GateResult, Kind, Verdict};
use crate::store::{Filter, Store, Stored};
use crate::story::budget::{self, money};

/// A follower looks for news this often. Commands and events are seen well within a second.
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this story
    story: Option<String>,
    /// Go on printing what happens
    #[arg(short, long)]
    follow: bool,
    /// Only events after this number
    #[arg(long, value_name = "SEQ", default_value_t = 0, value_parser = number, allow_negative_numbers = true)]
    since: u64,
    /// Only the last N events
    #[arg(short = 'n', long = "last", value_name = "N", value_parser = count, allow_negative_numbers = true)]
    last: Option<u64>,
    /// Only events of this kind, or of a whole family: `attempt.ended`, `story`
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Only events that hold these words, in whatever they carry; upper and lower case are the same
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
    /// How an event is shown
    #[arg(long, value_enum, default_value = "pretty")]
    format: Format,
    /// One JSON document a line: the same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Recompute the hash chain and say where it breaks
    #[arg(long, conflicts_with_all = ["follow", "since", "last", "story", "kind", "search", "format"])]
    verify: bool,
    /// With --verify: this hash, noted earlier, must be in the chain
    #[arg(long, value_name = "HASH", requires = "verify")]
    contains: Option<String>,
    /// Make the cached views anew from the events
    #[arg(long, conflicts_with_all = ["follow", "since", "last", "story", "kind", "search", "format", "verify"])]
    rebuild: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// A line with what it says
    Pretty,
    /// A short line: number, time, story, kind
    Compact,
    /// A JSON document
    Json,
}

impl Args {
    /// Is it one of those that are wanted?
    fn wants(&self, stored: &Stored) -> bool {
        let is_kind = self.kind.as_deref().is_none_or(|kind| {
            stored.kind.strip_prefix(kind.trim_end_matches('.')).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        let holds = |words: &str| {
            let said = stored.event().map(|event| summary(&event.kind)).unwrap_or_default();
            [&stored.kind, &stored.data, &stored.actor, &said].into_iter().any(|text| text.to_lowercase().contains(words))
        };
        is_kind && self.search.as_deref().is_none_or(|words| holds(&words.to_lowercase()))
    }

    fn line(&self, store: &Store, stored: &Stored, columns: Option<usize>) -> String {
        match if self.json { Format::Json } else { self.format } {
            Format::Json => stored.json(),
            Format::Compact => compact(stored, moved(store, stored).as_deref()),
            Format::Pretty => line(stored, moved(store, stored).as_deref(), columns),
        }
    }
}

/// The number that each event has.
fn number(typed: &str) -> Result<u64, String> {
    typed.parse().map_err(|_| "write the number of an event, as the first column of `cofferdam log` shows it".to_owned())
}

fn count(typed: &str) -> Result<u64, String> {
    typed.parse().map_err(|_| "write how many events, such as 20".to_owned())
}

/// # Errors
/// When the store cannot be read, or the chain is broken.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let state = State::find()?;
    let mut store = match state.store()? {
        Some(store) => store,
        None if args.follow => await_store(&state)?,
        None => {
            printer::err("Nothing has happened in this repository yet.");
            return Ok(ExitCode::SUCCESS);
        }
    };
    if args.verify {
        return verify(&store, args.contains.as_deref());
    }
    if args.rebuild {
        store.rebuild().map_err(state::failure)?;
        printer::err(&format!(
            "The views were made anew from {}.",
            plural(store.overview().map_err(state::failure)?.events, "event", "events")
        ));
        return Ok(ExitCode::SUCCESS);
    }
    let story = args.story.as_deref().map(|typed| state::story(Some(&store), typed)).transpose()?;
    if let Some(unknown) = args.kind.as_deref().and_then(|kind| unknown_kind(kind.trim_end_matches('.'))) {
        printer::say(&unknown);
    }
    let columns = printer::columns();
    // The last ones of those that are wanted: all have to be looked at.
    let chooses = args.kind.is_some() || args.search.is_some();
    let mut keep = args.last.filter(|_| chooses).map(|last| usize::try_from(last).unwrap_or(usize::MAX));
    let mut filter = Filter { since: args.since, story: story.map(|story| story.id), last: args.last.filter(|_| !chooses) };
    loop {
        let mut reader_left = false;
        let mut last = filter.since;
        let mut kept = VecDeque::new();
        let printed = store.events(&filter, |stored| {
            last = stored.seq;
            if !args.wants(&stored) {
                return ControlFlow::Continue(());
            }
            let line = args.line(&store, &stored, columns);
            if let Some(most) = keep {
                kept.push_back(line);
                kept.drain(..kept.len().saturating_sub(most));
                return ControlFlow::Continue(());
            }
            reader_left = !printer::out_or_gone(&line);
            if reader_left { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        printed.map_err(state::failure)?;
        reader_left = reader_left || !kept.iter().all(|line| printer::out_or_gone(line));
        keep = None;
        if !args.follow || reader_left {
            return Ok(ExitCode::SUCCESS);
        }
        (filter.since, filter.last) = (last, None);
        std::thread::sleep(POLL);
    }
}

/// What is said of a kind that this program does not write. It may be in the store all the same: a newer one wrote it.
pub(super) fn unknown_kind(wanted: &str) -> Option<String> {
    let names = || CATALOG.iter().flat_map(|kind| [Some(kind.name), kind.name.split_once('.').map(|(family, _)| family)]).flatten();
    if names().any(|name| name == wanted) {
        return None;
    }
    let near = suggest::nearest(wanted, names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    Some(format!("No kind of event that is known here is called `{}`{near}", cut(&one_line(wanted), 100)))
}

/// A follower may be there before anything is.
fn await_store(state: &State) -> Result<Store, Failure> {
    printer::err("Nothing has happened in this repository yet; waiting.");
    loop {
        if let Some(store) = state.store()? {
            return Ok(store);
        }
        std::thread::sleep(POLL);
    }
}

fn verify(store: &Store, contains: Option<&str>) -> Result<ExitCode, Failure> {
    let advice = "the database was changed by another program, or its disk is failing; compare with a backup, or with `log --json` lines kept elsewhere";
    let (count, head) = match store.verify().map_err(state::failure)? {
        Ok(held) => held,
        Err(broken) => {
            return Err(Failure::new(Exit::Failure, broken.to_string())
                .why(format!("{} before it hold", plural(broken.seq.saturating_sub(1), "event", "events")))
                .next(advice));
        }
    };
    if let Some(hash) = contains {
        let mut found = None;
        let read = store.events(&Filter::default(), |stored| {
            if stored.hash == hash {
                found = Some(stored.seq);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        read.map_err(state::failure)?;
        match found {
            Some(seq) => printer::out(&format!("The chain contains {}… as event {seq}.", cut(&one_line(hash), 13).trim_end_matches('…'))),
            None => {
                return Err(Failure::new(Exit::Failure, format!("the chain does not contain the hash {}", one_line(hash)))
                    .why("it holds, but it is another chain, or its end was cut off")
                    .next(advice));
            }
        }
    }
    printer::out(&format!("The chain holds: {}, head {head}", plural(count, "event", "events")));
    Ok(ExitCode::SUCCESS)
}

/// The phase that an event moved its story to.
fn moved(store: &Store, stored: &Stored) -> Option<String> {
    stored.story.as_deref().and_then(|story| store.moved(story, stored.seq).ok().flatten())
}

/// What of an event's words a short line has.
const COMPACT: usize = 48;

fn compact(stored: &Stored, moved: Option<&str>) -> String {
    let clock = clock(&stored.at);
    let said = stored.event().map_or_else(|_| "(unreadable)".to_owned(), |event| summary(&event.kind));
    let moved = moved.map(|to| format!(" → {to}")).unwrap_or_default();
    let story = one_line(stored.story.as_deref().unwrap_or("-")).into_owned();
    let time = clock.split(' ').nth(1).unwrap_or(&clock);
    format!("{} {time} {story} {}{moved} {}", stored.seq, one_line(&stored.kind), cut(&one_line(&said), COMPACT)).trim_end().to_owned()
}

/// A narrower terminal has no room for the day, and what an event says goes on below.
const WIDE: usize = 110;

/// One event as a line for a person; `moved` is the phase that it moved its story to, `columns` those of their terminal.
pub(super) fn line(stored: &Stored, moved: Option<&str>, columns: Option<usize>) -> String {
    let said = stored.event().map_or_else(|error| format!("(unreadable: {error})"), |event| summary(&event.kind));
    let moved = moved.map(|to| format!("  → {to}")).unwrap_or_default();
    let who = if stored.actor == "runner" { String::new() } else { format!("  ({})", one_line(&stored.actor)) };
    let story = one_line(stored.story.as_deref().unwrap_or("")).into_owned();
    let said = cut(&one_line(&said), 200);
    if let Some(columns) = columns.filter(|columns| *columns < WIDE) {
        let clock = clock(&stored.at);
        let time = clock.split(' ').nth(1).unwrap_or(&clock);
        let line = format!("{:>5} {time} {story:<8} {:<18} {said}{moved}{who}", stored.seq, one_line(&stored.kind));
        return hang(line.trim_end(), columns);
    }
    let line = format!("{:>6}  {}  {story:<10}  {:<19} {}{moved}{who}", stored.seq, clock(&stored.at), one_line(&stored.kind), said);
    line.trim_end().to_owned()
}

/// One line that says what an event carries.
pub(in crate::face) fn summary(kind: &Kind) -> String {
    match kind {
        Kind::RunStarted { pid, target, commit, parallel, .. } => {
            format!("process {pid}, {target} at {}, {} at once", commit.short(), plural(u64::from(*parallel), "story", "stories"))
        }
        Kind::RunStopped { reason, detail } => {
            format!("because {}{}", super::status::stop_word(*reason), detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default())
        }
        Kind::RunPaused { reason } => reason.clone().unwrap_or_default(),
        Kind::PlanChanged { added, changed, removed, .. } => {
            format!("{} added, {} changed, {} removed", added.len(), changed.len(), removed.len())
        }
        Kind::StoryCreated { spec } | Kind::StoryChanged { spec } => spec.title.clone(),
        Kind::StoryStarted { attempt, base } => format!("attempt {attempt} from {}", base.short()),
        Kind::ContractAccepted { attempt, .. } => format!("attempt {attempt}"),
        Kind::ContractRefused { attempt, why, .. } => format!("attempt {attempt}: {why}"),
        Kind::AttemptStarted { attempt, task, agent } => format!("attempt {attempt}, {}, {agent}", format!("{task:?}").to_lowercase()),
        Kind::ApproachDeclared { attempt, summary } => format!("attempt {attempt}: {summary}"),
        Kind::AgentSaid { attempt, role, what, text } => {
            let text = if text.is_empty() { String::new() } else { format!(": {text}") };
            format!("attempt {attempt}, {role}, {what}{text}")
        }
        Kind::ApproachProposed { attempt, summary, error, .. } => match error {
            None => format!("attempt {attempt}: {summary}"),
            Some(why) => format!("attempt {attempt}: none ({why})"),
        },
        Kind::AgentCalled { attempt, call } => format!("attempt {attempt}: {}", super::show::call_line(call)),
        Kind::DiagnosisMade { commit, summary, error, .. } => match error {
            None => format!("{}: {summary}", commit.short()),
            Some(why) => format!("{}: none ({why})", commit.short()),
        },
        Kind::AttemptEnded { attempt, end, question, wall_ms, .. } => {
            let time = crate::base::duration::display(Duration::from_millis(*wall_ms));
            let question = question.as_deref().map(|q| format!("; it asks: {q}")).unwrap_or_default();
            format!("attempt {attempt} {} after {time}{question}", end_word(end))
        }
        Kind::ChangeCollected { attempt, commit, files, .. } => {
            format!("attempt {attempt}: commit {}, {}", commit.short(), plural(*files, "file", "files"))
        }
        Kind::EvaluatorFinished { evaluator, commit, verdict, problems, cached, .. } => {
            let problems = if *problems > 0 { format!(", {}", plural(u64::from(*problems), "problem", "problems")) } else { String::new() };
            format!("{evaluator}: {}{problems} on {}{}", verdict_word(*verdict), commit.short(), remembered(*cached))
        }
        Kind::GateStarted { gate, commit, .. } => format!("{gate} on {}", commit.short()),
        Kind::GateSuspected { gate, commit, .. } => format!("{gate}: red once on {}, tried again", commit.short()),
        Kind::GateFinished { gate, commit, result, flaky, cached, .. } => {
            let flaky = if *flaky { ", flaky" } else { "" };
            format!("{gate}: {}{flaky} on {}{}", gate_word(*result), commit.short(), remembered(*cached))
        }
        Kind::StoryReady { commit, .. } | Kind::StoryQueued { commit } => commit.short().to_owned(),
        Kind::StoryApproved { commit, without_gates } => {
            let gates: String = without_gates.iter().map(|gate| format!(", without the gate {gate}")).collect();
            format!("{}{gates}", commit.short())
        }
        Kind::CandidateBuilt { candidate, base, .. } => format!("{} on {}", candidate.short(), base.short()),
        Kind::StoryLanded { commit, target, .. } => format!("{} on {target}", commit.short()),
        Kind::StoryBlocked { block } => format!("{}: {}", block.reason, block.question),
        Kind::StoryEscalated { reason, detail } | Kind::HumanNotified { reason, detail } => format!("{reason}: {detail}"),
        Kind::BudgetSpent { role, amount, .. } => {
            let tokens = amount.tokens_in.saturating_add(amount.tokens_out);
            let parts = [
                (amount.wall_ms > 0).then(|| crate::base::duration::display(Duration::from_millis(amount.wall_ms))),
                (amount.cost_microusd > 0).then(|| money(amount.cost_microusd)),
                (amount.model_calls > 0).then(|| plural(amount.model_calls, "call", "calls")),
                (tokens > 0).then(|| plural(tokens, "token", "tokens")),
            ];
            let parts: Vec<String> = parts.into_iter().flatten().collect();
            format!("{role}: {}", if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })
        }
        Kind::ProviderPaused { provider, until, reason } => {
            format!("{provider} until {}: {reason}", until.strftime("%Y-%m-%d %H:%M:%S"))
        }
        Kind::TargetMoved { target, from, to } => {
            let from = from.as_ref().map(|from| format!(" from {}", from.short())).unwrap_or_default();
            format!("{target}{from} to {}", to.short())
        }
        Kind::TargetChecked { commit, green, detail, .. } => format!("{}{}", health(commit, *green), detailed(detail.as_deref())),
        Kind::IntegrationChecked { commit, green, detail, points_to, .. } => {
            let points_to = points_to.as_ref().map(|story| format!(", points to {story}")).unwrap_or_default();
            format!("{}{points_to}{}", health(commit, *green), detailed(detail.as_deref()))
        }
        Kind::StoryDequeued { commit, why } => format!("{}: {why}", commit.short()),
        Kind::CandidateDropped { candidate, why } => format!("{}: {why}", candidate.short()),
        Kind::CandidateRefused { candidate, story_commit, why, .. } => {
            let which = candidate.as_ref().map_or_else(|| format!("of {}", story_commit.short()), |id| id.short().to_owned());
            format!("{which}: {why}")
        }
        Kind::LandingStarted { candidate, target, from } => format!("{} on {target}, from {}", candidate.short(), from.short()),
        Kind::RevertPrepared { candidate, landed, why, .. } => {
            let why = why.lines().next().unwrap_or_default();
            format!("{} takes back {}: {why}", candidate.short(), landed.short())
        }
        Kind::RevertReady { candidate } => format!("{} is green", candidate.short()),
        Kind::RevertDropped { candidate, why } => format!("{}: {why}", candidate.short()),
        Kind::StoryReverted { commit, reason } => format!("{}: {reason}", commit.short()),
        Kind::StoryReopened { why, .. } | Kind::StoryUnblocked { why } => why.clone(),
        Kind::StoryStagnated { iterations } => {
            format!("{} without any progress", plural(u64::from(*iterations), "iteration", "iterations"))
        }
        Kind::StoryRejected { commit, reason } => {
            let commit = commit.as_ref().map(|commit| format!("{}: ", commit.short())).unwrap_or_default();
            format!("{commit}{reason}")
        }
        Kind::StoryAnswered { text } | Kind::StoryNoted { text } => text.clone(),
        Kind::StoryReset { forget: true } => "and forgets which approaches failed".to_owned(),
        Kind::StoryReset { forget: false } => String::new(),
        Kind::StoryReplanned { reason } | Kind::StoryCancelled { reason } => reason.clone(),
        Kind::StoryBackfilled { commit, reason, gates } => {
            let commit = commit.as_ref().map(|commit| format!("{}: ", commit.short())).unwrap_or_default();
            let gates = if gates.is_empty() { "no gate looked at it".to_owned() } else { format!("green: {}", gates.join(", ")) };
            format!("{commit}{reason} ({gates})")
        }
        Kind::BudgetExceeded { which, limit, spent } => budget::words(which, *limit, *spent),
        Kind::SandboxReceipt { role, attempt, tier, missing, .. } => {
            let attempt = attempt.map(|attempt| format!(" of attempt {attempt}")).unwrap_or_default();
            let missing = if missing.is_empty() { String::new() } else { format!(", without {}", missing.join(", ")) };
            format!("{role}{attempt}: {tier}{missing}")
        }
        Kind::LeftoverSwept { what, count } => format!("{what}: {count}"),
        Kind::NetworkDenied { role, target, rule, count } => format!("{role}: {target} ({rule}), {}", plural(*count, "time", "times")),
        Kind::SandboxDenied { role, operation, target, rule, errno, count, .. } => {
            let errno = errno.as_deref().map(|errno| format!(": {errno}")).unwrap_or_default();
            format!("{role}: {operation} {target}{errno} ({rule}), {}", plural(*count, "time", "times"))
        }
        other => fields(&other.data()),
    }
}

/// The fields of an event that has no sentence of its own.
fn fields(data: &serde_json::Value) -> String {
    let serde_json::Value::Object(fields) = data else { return data.to_string() };
    let shown = fields.iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| match value {
        serde_json::Value::String(text) => format!("{name} {text}"),
        other => format!("{name} {other}"),
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// `1a2b3c4d5e is green`.
fn health(commit: &crate::base::id::CommitId, green: bool) -> String {
    format!("{} is {}", commit.short(), if green { "green" } else { "red" })
}

fn detailed(detail: Option<&str>) -> String {
    detail.filter(|detail| !detail.is_empty()).map(|detail| format!(": {detail}")).unwrap_or_default()
}

fn remembered(cached: bool) -> &'static str {
    if cached { " (remembered)" } else { "" }
}

pub(in crate::face) fn end_word(end: &AttemptEnd) -> String {
    match end {
        AttemptEnd::Finished => "finished".to_owned(),
        AttemptEnd::Failed { cause } => format!("failed ({cause})"),
        AttemptEnd::ProviderLimit { provider, until } => format!("waits for {provider} until {until}"),
        AttemptEnd::Interrupted => "was interrupted".to_owned(),
        AttemptEnd::CouldNotStart { why, .. } => format!("could not start: {why}"),
    }
}

pub(in crate::face) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
        Verdict::Error => "error",
        Verdict::NeedsApproval => "needs approval",
    }
}

pub(in crate::face) fn gate_word(result: GateResult) -> &'static str {
    match result {
        GateResult::Pass => "green",
        GateResult::Red => "red",
        GateResult::Cancelled => "cancelled",
        GateResult::Error => "error",
    }
}

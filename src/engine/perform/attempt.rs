//! `StartAttempt` → `attempt.started`, … `attempt.ended`: one implementer process in a fresh workspace.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::collect::{oid, salvage, slug, start as start_commit, trouble};
use super::{Hands, Trouble, Unanswered, Untold, Work};
use crate::agents::adapter::Answers;
use crate::agents::answers::{self, Report};
use crate::agents::ask::{Pass, Said};
use crate::agents::call::{Agent, Around, Done, Limited, Over};
use crate::agents::counter::Counter;
use crate::agents::folder::RunFolder;
use crate::agents::look::{self, files_of};
use crate::agents::prompt::prompt;
use crate::agents::protocol::Session;
use crate::agents::roles;
use crate::agents::task::task;
use crate::base::duration;
use crate::base::id::{AttemptNo, StoryId};
use crate::config::Role;
use crate::engine::crash;
use crate::event::{AgentCall, Amount, AttemptEnd, ContractMode, Kind};
use crate::role::form::form;
use crate::role::network::{Purse, denials};
use crate::role::process::{Process, ProcessError, Ran};
use crate::role::{Files, policy};
use crate::sandbox::denial::Denial;
use crate::sandbox::{Cause, Policy};
use crate::story::facts::Attempt;
use crate::workspace::base::Layers;
use crate::workspace::private_git::History;
use crate::workspace::state::Lock;
use crate::workspace::stories::{CollectOptions, Story as Workspace, WorkspaceError, Workspaces};

/// How often the answers of a running agent are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// For an agent whose only hand is its answer.
const ONLY_THE_PROJECT: &str = "You can write no file outside of the current folder: leave out those below `/run/cofferdam/out/`. Change the project's \
    files, and end.";

/// Where `/run/cofferdam` of an attempt lies on the host.
pub fn folder_of(workspaces: &Workspaces, story: &StoryId, no: AttemptNo) -> PathBuf {
    folders_of(workspaces).join(format!("{}-{no}", slug(story)))
}

/// Where all of them lie.
pub fn folders_of(workspaces: &Workspaces) -> PathBuf {
    workspaces.state.root().join("runs")
}

/// Everything that is there before the process starts.
struct Prepared {
    folder: RunFolder,
    counter: Counter,
    talk: Arc<Talk>,
    policy: Policy,
    agent: Agent,
    arguments: Vec<OsString>,
    /// What it is, and what it will be told.
    call: AgentCall,
    workspace: Workspace,
    /// Nobody else touches the workspace while this is held.
    held: Lock,
}

pub(super) fn start(hands: &Hands, work: &Work) -> Result<(), Unanswered> {
    let attempt = work.attempt()?;
    let again = attempt.no.get() > 1 && attempt.no.get() > work.story.granted_after + 1;
    if again && !hands.stop.sleep(hands.shop.config().run.retry_delay) {
        return Ok(());
    }
    let id = &work.story.id;
    let prepared = match prepare(hands, work, attempt) {
        Ok(prepared) => prepared,
        Err(_) if hands.stop.is_asked() => return Ok(()),
        Err(trouble) => return Ok(hands.desk.tell(id, vec![could_not_start(attempt.no, trouble)])?),
    };
    crash::point("the workspace is there");
    // Before the process: when it is refused, there is none.
    let started = Kind::AttemptStarted { attempt: attempt.no, task: attempt.task, agent: prepared.agent.name().to_owned() };
    let called = Kind::AgentCalled { attempt: attempt.no, call: prepared.call.clone() };
    match hands.desk.tell(id, vec![started, called]) {
        Ok(()) => {}
        Err(Untold::Refused(_)) => return Ok(()),
        Err(over) => return Err(over.into()),
    }
    let Prepared { folder, counter, talk, policy, agent, arguments, workspace, held, call: _ } = prepared;
    let begun = Instant::now();
    let call = Running { attempt, folder: &folder, policy: &policy, agent: &agent, counter: &counter, talk: &talk };
    let ran = run(hands, work, &call, arguments, attempt.contract);
    let ran = ran.and_then(|(done, flooded)| Ok((kept(hands, &workspace, &held, done)?, flooded)));
    crash::point("the agent ended");
    let wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    drop(held);
    let limited = ran.as_ref().ok().and_then(|(done, _)| agent.limited(&done.session, &done.ran));
    let events = ending(hands, &call, ran, wall_ms);
    let interrupted = matches!(events.first(), Some(Kind::AttemptEnded { end: AttemptEnd::Interrupted, .. }));
    // Before the end, which makes room for another story: that one must not begin to hear the same.
    if let Some(Limited { provider, until, reason }) = limited {
        hands.desk.tell_of_run(vec![Kind::ProviderPaused { provider, until, reason }])?;
    }
    hands.desk.tell(id, events)?;
    crash::point("the end is stored");
    if interrupted {
        if let Ok(Some(kind)) = salvage(&hands.shop, &work.story, attempt) {
            // A story that was reset meanwhile does not want it; the commit has its ref all the same.
            drop(hands.desk.tell(id, vec![kind]));
        }
        drop(folder.remove());
    }
    Ok(())
}

/// `AskContract` → `contract.accepted`, `contract.refused`: a process of its own, which changes nothing.
pub(super) fn ask_contract(hands: &Hands, work: &Work, no: AttemptNo) -> Result<(), Unanswered> {
    let attempt = work.attempt()?;
    let id = &work.story.id;
    let prepared = match prepare(hands, work, attempt) {
        Ok(prepared) => prepared,
        Err(_) if hands.stop.is_asked() => return Ok(()),
        Err(trouble) => return Ok(hands.desk.tell(id, vec![could_not_start(no, trouble)])?),
    };
    let Prepared { folder, counter, talk, policy, agent, arguments, workspace, held, call } = prepared;
    hands.desk.tell(id, vec![Kind::AgentCalled { attempt: no, call }])?;
    let begun = Instant::now();
    let call = Running { attempt, folder: &folder, policy: &policy, agent: &agent, counter: &counter, talk: &talk };
    let ran = run(hands, work, &call, arguments, false);
    let ran = ran.and_then(|(done, flooded)| Ok((kept(hands, &workspace, &held, done)?, flooded)));
    let wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    drop(held);
    if hands.stop.is_asked() {
        return Ok(());
    }
    match contract(hands, work, attempt, &folder) {
        Some(kind) => {
            let session = ran.map(|(done, _)| done.session).unwrap_or_default();
            Ok(hands.desk.tell(id, vec![kind, spent(&agent, &session, wall_ms)])?)
        }
        None => Ok(hands.desk.tell(id, ending(hands, &call, ran, wall_ms))?),
    }
}

fn could_not_start(attempt: AttemptNo, trouble: Trouble) -> Kind {
    let end = AttemptEnd::CouldNotStart { why: trouble.what, next: trouble.next };
    Kind::AttemptEnded { attempt, end, summary: None, question: None, transcript: None, wall_ms: 0 }
}

fn prepare(hands: &Hands, work: &Work, attempt: &Attempt) -> Result<Prepared, Trouble> {
    let (shop, spec) = (&hands.shop, work.spec()?);
    let config = shop.config();
    let retry = || format!("then cofferdam retry {}", work.story.id);
    let agent = config
        .agents
        .get(&Role::Implementer)
        .ok_or_else(|| Trouble::new("no implementer is configured", format!("set agents.implementer in cofferdam.toml, {}", retry())))?;
    let agent = Agent::load(agent, work.story.id.as_str(), shop).map_err(|e| Trouble::new(&e, format!("{}, {}", e.next(), retry())))?;
    let role = roles::load(Role::Implementer, shop.prompts().as_deref())
        .map_err(|e| Trouble::new(e, format!("mend the file, or remove it to use the built-in text, {}", retry())))?;
    let by_message = agent.answers() == Answers::Message;
    if by_message && work.story.spec.rules.contract != ContractMode::Off {
        let what = format!("{} writes no file beside the project's, so it can show no contract", agent.name());
        return Err(Trouble::new(what, format!("set contract = \"off\" in agents.implementer in cofferdam.toml, {}", retry())));
    }
    let workspaces = shop.workspaces().map_err(|e| trouble(&e))?;
    let version = version(hands, work, &workspaces, &agent)?;
    let (workspace, held) = fresh(hands, work, attempt, &workspaces)?;
    let mode = shop.mode_of(Role::Implementer).map_err(|e| Trouble::new(&e, format!("{}, {}", e.next(), retry())))?;
    let files = Files::Story(workspaces.mounts(&workspace, mode).map_err(|e| trouble(&e))?);
    let mut policy =
        policy(shop, Role::Implementer, files, agent.program()).map_err(|e| Trouble::new(&e, format!("{}, {}", e.next(), retry())))?;
    if let (Some(wall), Some(limit)) = (policy.limits.wall, work.story.spec.rules.limits.wall_ms) {
        // One attempt takes no more than the story has left.
        policy.limits.wall = Some(wall.min(Duration::from_millis(limit.saturating_sub(work.story.spent.wall_ms).max(1))));
    }
    bootstrap(hands, &workspace, &held, &policy)?;
    let base = if agent.from_base() { Some(target_tree(&workspaces, work)?) } else { None };
    let disk = |error: std::io::Error| Trouble::new(error, format!("free some space on the disk that holds the state folder, {}", retry()));
    let folder = RunFolder::create(&folder_of(&workspaces, &work.story.id, attempt.no)).map_err(disk)?;
    let task = task(Role::Implementer, spec, &work.story, attempt, work.overview.as_deref());
    let json = serde_json::to_vec_pretty(&task).map_err(|e| disk(e.into()))?;
    let text = if by_message { format!("{}\n\n{ONLY_THE_PROJECT}", role.text.trim_end()) } else { role.text.clone() };
    let (prompt, cut) = prompt(&task, &text);
    let call = agent.called(Role::Implementer, shop, &role, &prompt, &cut, version).map_err(disk)?;
    folder.write("task.json", &json).and_then(|()| folder.write("prompt.md", prompt.as_bytes())).map_err(disk)?;
    folder.grant(&mut policy, base);
    let talk = Arc::new(Talk::default());
    let counter = counter(hands, work, attempt, look::pass(Role::Implementer, &task, &policy), &talk).map_err(disk)?;
    counter.furnish(&folder, &mut policy).map_err(disk)?;
    let arguments = agent.arguments(work.story.id.as_str(), &prompt, &mut policy);
    Ok(Prepared { counter, talk, folder, policy, agent, arguments, call, workspace, held })
}

/// What the agent's program says that it is, asked on the target's tree before anything is made for it.
fn version(hands: &Hands, work: &Work, workspaces: &Workspaces, agent: &Agent) -> Result<Option<String>, Trouble> {
    if agent.is_command() {
        return Ok(None);
    }
    let retry = || format!("then cofferdam retry {}", work.story.id);
    let (lower, inside) = files_of(workspaces, work.target.as_str()).map_err(|e| Trouble::new(e, retry()))?;
    let policy = policy(&hands.shop, Role::Implementer, Files::Tree { lower, inside }, agent.program())
        .map_err(|e| Trouble::new(&e, format!("{}, {}", e.next(), retry())))?;
    agent.version(&hands.shop, &policy, &hands.stop).map_err(|e| Trouble::new(&e, format!("{}, {}", e.next(), retry())))
}

/// What it said at its counter, beyond what is in the log already.
#[derive(Debug, Default)]
struct Talk {
    over: Over,
    report: Mutex<Option<Report>>,
    question: Mutex<Option<String>>,
    declared: AtomicBool,
}

impl Talk {
    /// What it reported at its counter, if it did. Nothing of it is alive when this is asked.
    fn take(&self) -> Option<Report> {
        let report = self.report.lock().unwrap_or_else(PoisonError::into_inner).take();
        let question = self.question.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (report, question) {
            (None, None) => None,
            (report, question) => {
                let report = report.unwrap_or_default();
                Some(Report { question: question.or(report.question), ..report })
            }
        }
    }
}

/// Where an implementer may ask. What it says there is in the log at once, and decides nothing.
fn counter(hands: &Hands, work: &Work, attempt: &Attempt, pass: Pass, talk: &Arc<Talk>) -> std::io::Result<Counter> {
    let (hands, id, attempt, talk) = (hands.clone(), work.story.id.clone(), attempt.no, talk.clone());
    let shown = hands.words.listener(&id);
    let hears = move |said: Said| {
        let clean = |text: &str| String::from_utf8_lossy(&hands.shop.secrets().text(text.as_bytes())).into_owned();
        let kept = |place: &Mutex<Option<_>>, text: String| *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        let (what, text) = match said {
            Said::Approach(summary) => {
                if !talk.declared.swap(true, Ordering::SeqCst) {
                    drop(hands.desk.tell(&id, vec![Kind::ApproachDeclared { attempt, summary: clean(&summary) }]));
                }
                return;
            }
            Said::Progress(text) => ("progress", text),
            Said::Question(text) => {
                kept(&talk.question, text.clone());
                talk.over.said();
                ("question", text)
            }
            Said::Done(report) => {
                let text = report.summary.clone().unwrap_or_default();
                *talk.report.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
                talk.over.said();
                ("done", text)
            }
            // Its role may not: the counter has refused it.
            Said::Verdict(_) => return,
        };
        let text = clean(&text);
        shown(&crate::base::text::one_line(&format!("{what}: {text}")));
        let said = Kind::AgentSaid { attempt, role: Role::Implementer.name().to_owned(), what: what.to_owned(), text };
        drop(hands.desk.tell(&id, vec![said]));
    };
    Counter::new(pass, Box::new(hears))
}

/// A workspace that nothing ran in yet. What the one before still held is collected first: it gets a ref, and is never lost.
fn fresh(hands: &Hands, work: &Work, attempt: &Attempt, workspaces: &Workspaces) -> Result<(Workspace, Lock), Trouble> {
    let name = work.story.id.as_str();
    match workspaces.story(name) {
        Ok(old) => {
            let held = workspaces.hold(&old).map_err(|e| trouble(&e))?;
            workspaces.collect(&old, &held, &CollectOptions::default()).map_err(|e| trouble(&e))?;
            crash::point("the old workspace is collected");
            workspaces.remove(&old, held).map_err(|e| trouble(&e))?;
        }
        Err(WorkspaceError::NoSuchStory { .. }) => {}
        Err(error) => return Err(trouble(&error)),
    }
    crash::point("the old workspace is gone");
    oid(start_commit(attempt))?;
    let settings = &hands.shop.config().workspace;
    let form = form(settings, &workspaces.state, &hands.shop.engine, History::Shallow).map_err(|e| Trouble::new(&e, e.next()))?;
    let (workspace, _) = workspaces.create_as(name, Some(start_commit(attempt).as_str()), form).map_err(|e| trouble(&e))?;
    if !settings.copy.is_empty() {
        workspaces.copy_in(&workspace, &settings.copy).map_err(|e| trouble(&e))?;
    }
    let held = workspaces.hold(&workspace).map_err(|e| trouble(&e))?;
    Ok((workspace, held))
}

/// `workspace.setup`, before any agent runs.
fn bootstrap(hands: &Hands, workspace: &Workspace, held: &Lock, policy: &Policy) -> Result<(), Trouble> {
    let Some(setup) = hands.shop.config().workspace.setup.clone() else { return Ok(()) };
    let arguments = ["/bin/sh", "-c", setup.as_str()].map(OsString::from).to_vec();
    let process = Process { shop: &hands.shop, policy, arguments, stop: &hands.stop, listener: None, tap: None, reception: None };
    let ran = process.run().and_then(|ran| keep(hands, workspace, held, ran)).map_err(|e| Trouble::new(&e, e.next()))?;
    if ran.outcome.exit_code == 0 {
        return Ok(());
    }
    let what = format!("workspace.setup failed with exit code {}: {}", ran.outcome.exit_code, last_line(&ran.tail));
    Err(Trouble::new(what, "mend workspace.setup in cofferdam.toml"))
}

/// Takes over what a process wrote, where it did not write to the workspace's own folder.
fn keep(hands: &Hands, workspace: &Workspace, held: &Lock, mut ran: Ran) -> Result<Ran, ProcessError> {
    if let Some(upper) = ran.upper.take() {
        let mode = hands.shop.mode_of(Role::Implementer).map_err(|e| ProcessError::Keep(e.to_string()))?;
        let kept = hands.shop.workspaces().and_then(|workspaces| workspaces.keep_run(workspace, held, mode, Some(upper)));
        kept.map_err(|e| ProcessError::Keep(e.to_string()))?;
    }
    Ok(ran)
}

/// The same of a whole call.
fn kept(hands: &Hands, workspace: &Workspace, held: &Lock, done: Done) -> Result<Done, ProcessError> {
    Ok(Done { ran: keep(hands, workspace, held, done.ran)?, ..done })
}

/// The tree that programs of the project come from: the target's, as the configuration does. What a story is stacked on is an agent's work.
fn target_tree(workspaces: &Workspaces, work: &Work) -> Result<Vec<PathBuf>, Trouble> {
    let layers = Layers::new(&workspaces.state, &workspaces.repository);
    Ok(layers.ensure(oid(&work.target)?).map_err(|e| trouble(&e.into()))?.trees())
}

fn last_line(text: &str) -> String {
    crate::base::text::one_line(text.trim_end().lines().next_back().unwrap_or_default()).into_owned()
}

/// One process, and everything that belongs to it.
struct Running<'a> {
    attempt: &'a Attempt,
    folder: &'a RunFolder,
    policy: &'a Policy,
    agent: &'a Agent,
    counter: &'a Counter,
    talk: &'a Talk,
}

/// Runs the process, and looks at its answers meanwhile. `contract` says whether it has shown that it understood.
fn run(hands: &Hands, work: &Work, call: &Running<'_>, arguments: Vec<OsString>, contract: bool) -> Result<(Done, bool), ProcessError> {
    let flooded = AtomicBool::new(false);
    let (ended, end) = mpsc::channel::<()>();
    let seen = &flooded;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut watch = Watch { hands, work, call, contract };
            while end.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                watch.look(false);
                if call.folder.is_flooded() && !seen.swap(true, Ordering::SeqCst) {
                    hands.stop.ask();
                    hands.stop.ask();
                }
            }
            watch.look(true);
        });
        let purse = Purse::of_story(&work.story.spec.rules.limits, work.story.spent);
        let listener = Some(hands.words.listener(&work.story.id));
        let around = Around { stop: &hands.stop, listener, purse: &purse, counter: Some(call.counter), over: &call.talk.over };
        let ran = call.agent.run(&hands.shop, call.policy, arguments, around);
        drop(ended);
        ran
    })
    .map(|ran| (ran, flooded.load(Ordering::SeqCst)))
}

/// What an agent says while it works.
struct Watch<'a> {
    hands: &'a Hands,
    work: &'a Work,
    call: &'a Running<'a>,
    contract: bool,
}

impl Watch<'_> {
    /// A file that is not whole yet is read again; at the end it counts as it is.
    fn look(&mut self, last: bool) {
        let (id, Running { attempt, folder, counter, talk, .. }) = (&self.work.story.id, self.call);
        if !self.contract
            && self.work.story.spec.rules.contract != ContractMode::Off
            && let Some(kind) = contract(self.hands, self.work, attempt, folder)
            && (last || !matches!(&kind, Kind::ContractRefused { why, .. } if is_half(why)))
        {
            self.contract = true;
            match self.work.story.spec.rules.contract {
                // It goes on with the work, and is ended by the loop when it understood something else.
                ContractMode::With => drop(self.hands.desk.tell(id, vec![kind])),
                // The answer is all that it was started for, and is read when it has ended.
                ContractMode::Before | ContractMode::Off => talk.over.now(),
            }
        }
        if !talk.declared.load(Ordering::SeqCst)
            && let Ok(Some(bytes)) = folder.answer("approach.json", answers::LONGEST)
            && let Ok(summary) = answers::approach(&bytes)
            && !talk.declared.swap(true, Ordering::SeqCst)
        {
            counter.declared(&summary);
            let summary = String::from_utf8_lossy(&self.hands.shop.secrets().text(summary.as_bytes())).into_owned();
            drop(self.hands.desk.tell(id, vec![Kind::ApproachDeclared { attempt: attempt.no, summary }]));
        }
    }
}

/// Could it be that the file is still being written?
fn is_half(why: &str) -> bool {
    why.contains("is not taken") || why.contains("changed while")
}

/// The verdict on a contract, when there is one.
fn contract(hands: &Hands, work: &Work, attempt: &Attempt, folder: &RunFolder) -> Option<Kind> {
    let answer = folder.answer("contract.json", answers::LONGEST);
    let bytes = match answer {
        Ok(None) => return None,
        Ok(Some(bytes)) => bytes,
        Err(why) => return Some(Kind::ContractRefused { attempt: attempt.no, why, evidence: None }),
    };
    let evidence = hands.shop.evidence.put(&hands.shop.secrets().text(&bytes)).ok();
    let ids: Vec<String> = work.story.spec.criteria.iter().map(|criterion| criterion.id.clone()).collect();
    let kept = answers::contract(&bytes).and_then(|contract| answers::keeps(&contract, &work.story.spec.title, &ids));
    Some(match kept {
        Ok(()) => Kind::ContractAccepted { attempt: attempt.no, evidence },
        Err(why) => Kind::ContractRefused { attempt: attempt.no, why, evidence },
    })
}

/// The events that say how it ended; the end itself comes first.
fn ending(hands: &Hands, call: &Running<'_>, ran: Result<(Done, bool), ProcessError>, wall_ms: u64) -> Vec<Kind> {
    let Running { attempt, folder, agent, talk, .. } = call;
    let (done, flooded) = match ran {
        Ok(ran) => ran,
        Err(_) if hands.stop.is_asked() => {
            let end = AttemptEnd::Interrupted;
            return vec![Kind::AttemptEnded { attempt: attempt.no, end, summary: None, question: None, transcript: None, wall_ms }];
        }
        Err(error) => return vec![could_not_start(attempt.no, Trouble::new(&error, error.next()))],
    };
    let end = if flooded {
        AttemptEnd::Failed { cause: "out: it left more in out/ than answers need".to_owned() }
    } else {
        how(hands, agent, &done)
    };
    let Done { ran, session, .. } = done;
    let report = talk.take().map_or_else(|| folder.report(), |said| folder.keep_report(said).map(Some));
    let clean = |text: String| String::from_utf8_lossy(&hands.shop.secrets().text(text.as_bytes())).into_owned();
    let (summary, question) = match report {
        Ok(report) => report.map_or((None, None), |report| (report.summary.map(clean), report.question.map(clean))),
        Err(why) => (Some(format!("(its report was not read: {why})")), None),
    };
    let ended = Kind::AttemptEnded { attempt: attempt.no, end, summary, question, transcript: Some(ran.transcript.clone()), wall_ms };
    let denied = refused(hands, attempt, &ran.outcome.denials);
    let receipt = &ran.outcome.receipt;
    let missing = receipt.missing().map(|layer| layer.name.to_string()).collect();
    let receipt = Kind::SandboxReceipt {
        role: Role::Implementer.name().to_owned(),
        attempt: Some(attempt.no),
        tier: receipt.tier.clone(),
        missing,
        evidence: ran.receipt,
    };
    let mut events = vec![ended, receipt, spent(agent, &session, wall_ms)];
    events.extend(denied);
    events.extend(denials(Role::Implementer, &ran.tally));
    events
}

/// What its sandbox saw it try in vain.
fn refused(hands: &Hands, attempt: &Attempt, denials: &[Denial]) -> Vec<Kind> {
    let clean = |text: &str| String::from_utf8_lossy(&hands.shop.secrets().text(text.as_bytes())).into_owned();
    let event = |denial: &Denial| Kind::SandboxDenied {
        role: Role::Implementer.name().to_owned(),
        attempt: Some(attempt.no),
        operation: denial.operation.clone(),
        target: clean(&denial.target),
        rule: denial.rule.clone(),
        errno: denial.errno.clone(),
        count: denial.count,
    };
    denials.iter().map(event).collect()
}

/// Why an agent that speaks ended without being done, in its own words.
fn gave_up(session: &Session, code: i32) -> String {
    let why = session.failure.as_deref().unwrap_or("it does not say why");
    format!("agent: it gave up with exit code {code}: {}", crate::base::text::cut(&crate::base::text::one_line(why), 500))
}

fn spent(agent: &Agent, session: &Session, wall_ms: u64) -> Kind {
    let model = agent.model().or_else(|| session.model.clone());
    Kind::BudgetSpent { role: Role::Implementer.name().to_owned(), model, amount: Amount { wall_ms, ..session.spent } }
}

fn how(hands: &Hands, agent: &Agent, done: &Done) -> AttemptEnd {
    let Done { ran, session, lingered } = done;
    let outcome = &ran.outcome;
    let detail = || outcome.detail.clone().unwrap_or_else(|| "a limit was hit".to_owned());
    // Whatever it did with the request: its end is ours. What it left is collected all the same.
    if hands.stop.is_asked() {
        return AttemptEnd::Interrupted;
    }
    if let Some(exceeded) = ran.tally.exceeded {
        return AttemptEnd::Failed { cause: format!("budget: {exceeded}") };
    }
    if let Some(limited) = agent.limited(session, ran) {
        return AttemptEnd::ProviderLimit { provider: limited.provider, until: limited.until };
    }
    match outcome.cause {
        // It said that it was done, and stayed: its work is judged as that of one that left.
        _ if *lingered => AttemptEnd::Finished,
        Cause::Exited if session.ended == Some(false) => AttemptEnd::Failed { cause: gave_up(session, outcome.exit_code) },
        Cause::Exited if outcome.exit_code == 0 => AttemptEnd::Finished,
        Cause::Exited => AttemptEnd::Failed { cause: format!("exit code {}: {}", outcome.exit_code, last_line(&ran.tail)) },
        Cause::Cancelled => AttemptEnd::Interrupted,
        Cause::ExecFailed => AttemptEnd::CouldNotStart {
            why: format!("`{}`: {}", crate::base::text::one_line(agent.typed()), detail()),
            next: agent.next_when_missing(),
        },
        Cause::Wall => {
            AttemptEnd::Failed { cause: format!("wall: it was ended after {}", duration::display(Duration::from_millis(outcome.wall_ms))) }
        }
        Cause::Signalled | Cause::Silence | Cause::Cpu | Cause::Memory | Cause::Pids | Cause::Disk | Cause::Files | Cause::Output => {
            let word = serde_json::to_value(outcome.cause).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
            AttemptEnd::Failed { cause: format!("{word}: {}", detail()) }
        }
    }
}

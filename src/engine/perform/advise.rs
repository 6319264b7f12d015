//! `Propose` → `approach.proposed`; `Diagnose` → `diagnosis.made`. Both only advise: whatever becomes of them, the story goes on.

use super::collect::{oid, slug, start, trouble};
use super::{Hands, Trouble, Unanswered, Work};
use crate::agents::answers;
use crate::agents::look::{Look, Looked, look};
use crate::agents::task::task;
use crate::base::id::{AttemptNo, CommitId, EvidenceId};
use crate::base::text::{cut, one_line};
use crate::config::Role;
use crate::engine::crash;
use crate::event::{Kind, Verdict};
use crate::story::facts::Attempt;
use crate::workspace::stories::Workspaces;

/// Of one log that a diagnoser reads: its end says what failed.
const LOG_TAIL: usize = 64 << 10;
/// Logs of one evaluator or gate.
const MOST_LOGS: usize = 6;
/// Why there is no advice, in the log.
const LONGEST_WHY: usize = 500;

/// A planner looks at the tree that the work begins with.
pub(super) fn propose(hands: &Hands, work: &Work, no: AttemptNo) -> Result<(), Unanswered> {
    let attempt = work.attempt()?;
    let looked = ask(hands, work, attempt, &Question { role: Role::Planner, commit: start(attempt), before: None, files: Vec::new() })?;
    let Some((answer, evidence, told)) = heard(hands, looked, answers::approach)? else { return Ok(()) };
    crash::point("a planner answered");
    let (summary, error) = match answer {
        Ok(summary) => (clean(hands, &summary), None),
        Err(why) => (String::new(), Some(why)),
    };
    let proposed = Kind::ApproachProposed { attempt: no, summary, error, evidence };
    Ok(hands.desk.tell(&work.story.id, std::iter::once(proposed).chain(told).collect())?)
}

/// A diagnoser reads what failed on this commit.
pub(super) fn diagnose(hands: &Hands, work: &Work, commit: &CommitId) -> Result<(), Unanswered> {
    let attempt = work.attempt()?;
    let workspaces = hands.shop.workspaces().map_err(|e| trouble(&e))?;
    let mut files = logs(hands, attempt);
    files.push(("diff.patch".to_owned(), patch(&workspaces, &attempt.base, commit)?));
    let looked = ask(hands, work, attempt, &Question { role: Role::Diagnoser, commit, before: Some(&attempt.base), files })?;
    let Some((answer, evidence, told)) = heard(hands, looked, answers::diagnosis)? else { return Ok(()) };
    crash::point("a diagnoser answered");
    let (summary, tasks, error) = match answer {
        Ok(read) => (clean(hands, &read.summary), read.tasks.iter().map(|task| clean(hands, task)).collect(), None),
        Err(why) => (String::new(), Vec::new(), Some(why)),
    };
    let made = Kind::DiagnosisMade { commit: commit.clone(), summary, tasks, evidence, error };
    Ok(hands.desk.tell(&work.story.id, std::iter::once(made).chain(told).collect())?)
}

/// Who is asked, about what.
struct Question<'a> {
    role: Role,
    commit: &'a CommitId,
    before: Option<&'a CommitId>,
    files: Vec<(String, Vec<u8>)>,
}

/// None when nobody is configured for it any more.
fn ask(hands: &Hands, work: &Work, attempt: &Attempt, question: &Question<'_>) -> Result<Option<Looked>, Trouble> {
    let config = hands.shop.config();
    let Some(agent) = config.agents.get(&question.role) else { return Ok(None) };
    let mut told = task(question.role, work.spec()?, &work.story, attempt, work.overview.as_deref());
    told.commit = Some(question.commit.clone());
    let answer = if question.role == Role::Planner { "approach.json" } else { "diagnosis.json" };
    Ok(Some(look(Look {
        shop: &hands.shop,
        role: question.role,
        agent,
        story: &work.story,
        attempt: attempt.no,
        task: &told,
        commit: question.commit,
        before: question.before,
        target: &work.target,
        files: question.files.clone(),
        folder: format!("{}-{}-{}", slug(&work.story.id), attempt.no, question.role.name()),
        answer: (answer, answers::LONGEST),
        stop: &hands.stop,
        listener: Some(hands.words.listener(&work.story.id)),
    })))
}

type Heard<T> = (Result<T, String>, Option<EvidenceId>, Vec<Kind>);

/// What was said, and the events beside it. None when it was stopped: half an answer is none, and it is asked again.
fn heard<T>(hands: &Hands, looked: Option<Looked>, read: fn(&[u8]) -> Result<T, String>) -> Result<Option<Heard<T>>, Trouble> {
    if hands.stop.is_asked() {
        return Ok(None);
    }
    let Some(looked) = looked else {
        return Ok(Some((Err("nobody is configured for it".to_owned()), None, Vec::new())));
    };
    let role = looked.told.iter().find_map(|kind| match kind {
        Kind::AgentCalled { call, .. } => Some(call.role.clone()),
        _ => None,
    });
    let mut told = looked.told;
    told.extend(role.map(|role| Kind::BudgetSpent { role, model: looked.model, amount: looked.spent }));
    let answer = looked.answer.and_then(|bytes| read(&bytes)).map_err(|why| cut(&one_line(&clean(hands, &why)), LONGEST_WHY));
    Ok(Some((answer, looked.evidence.into_iter().next(), told)))
}

fn clean(hands: &Hands, text: &str) -> String {
    String::from_utf8_lossy(&hands.shop.secrets().text(text.as_bytes())).into_owned()
}

fn patch(workspaces: &Workspaces, from: &CommitId, to: &CommitId) -> Result<Vec<u8>, Trouble> {
    workspaces.repository.patch_between(oid(from)?, oid(to)?).map_err(|e| trouble(&e.into()))
}

/// What the evaluators and gates said that did not pass, each with the end of its logs.
fn logs(hands: &Hands, attempt: &Attempt) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for (name, result) in attempt.results.iter().filter(|(_, result)| result.verdict != Verdict::Pass) {
        let name = crate::workspace::state::slug(name);
        let said: String = result.findings.iter().map(|f| format!("{}\n", f.text)).collect();
        files.push((format!("logs/{name}.txt"), format!("{:?}\n{said}", result.verdict).into_bytes()));
        files.extend(tails(hands, &name, &result.evidence));
    }
    for (name, run) in &attempt.gates {
        let name = format!("gate-{}", crate::workspace::state::slug(name));
        let detail = run.detail.as_deref().unwrap_or_default();
        files.push((format!("logs/{name}.txt"), format!("{:?}\n{detail}\n", run.result).into_bytes()));
        files.extend(tails(hands, &name, &run.evidence));
    }
    files
}

fn tails(hands: &Hands, name: &str, evidence: &[EvidenceId]) -> Vec<(String, Vec<u8>)> {
    let read = evidence.iter().filter_map(|id| hands.shop.evidence.read(id).ok()).take(MOST_LOGS);
    let tail = |bytes: Vec<u8>| bytes[bytes.len().saturating_sub(LOG_TAIL)..].to_vec();
    read.enumerate().map(|(number, bytes)| (format!("logs/{name}.{}.log", number + 1), tail(bytes))).collect()
}

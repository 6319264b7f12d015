//! An agent that only looks: a tree that the kernel keeps from being written, what it needs beside it, and one answer.
//!
//! The reviewer, the planner and the diagnoser are called through here; each reads its own answer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::adapter::Answers;
use super::answers;
use super::ask::{Pass, Said};
use super::call::{Agent, Around, Done, Limited, Over};
use super::counter::Counter;
use super::folder::{BEFORE, RunFolder};
use super::prompt::prompt;
use super::protocol::Session;
use super::roles;
use super::task::Task;
use crate::base::id::{AttemptNo, CommitId, EvidenceId};
use crate::base::text::{cut, one_line};
use crate::config::{self, Role};
use crate::event::{Amount, Kind};
use crate::role::network::{Purse, denials};
use crate::role::process::{Listener, Ran};
use crate::role::{Files, Stop, Workshop, policy};
use crate::sandbox::Cause;
use crate::sandbox::policy::{Access, Policy, Tree};
use crate::story::Story;
use crate::workspace::base::Layers;
use crate::workspace::git::Oid;
use crate::workspace::private_git;
use crate::workspace::stories::Workspaces;

/// Who looks, at what.
pub struct Look<'a> {
    pub shop: &'a Workshop,
    pub role: Role,
    pub agent: &'a config::Agent,
    pub story: &'a Story,
    pub attempt: AttemptNo,
    pub task: &'a Task,
    /// Whose tree is the current folder.
    pub commit: &'a CommitId,
    /// Whose tree lies beside it.
    pub before: Option<&'a CommitId>,
    /// The target's commit: programs of the project come from there.
    pub target: &'a CommitId,
    /// What else it reads, by name below `/run/cofferdam`.
    pub files: Vec<(String, Vec<u8>)>,
    /// The name of its folder among those of the repository's runs.
    pub folder: String,
    /// The file that it answers with, and how long that may be.
    pub answer: (&'static str, u64),
    pub stop: &'a Stop,
    pub listener: Option<Listener>,
}

impl std::fmt::Debug for Look<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Look").field("role", &self.role).field("commit", self.commit).finish_non_exhaustive()
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Looked {
    /// The bytes of its answer, not read yet.
    pub answer: Result<Vec<u8>, String>,
    pub evidence: Vec<EvidenceId>,
    /// What the log should know whatever came of it: the call, and what it was refused.
    pub told: Vec<Kind>,
    pub model: Option<String>,
    pub spent: Amount,
    /// Its provider refuses for now.
    pub limited: Option<Limited>,
}

impl Looked {
    fn failed(why: String) -> Self {
        Self { answer: Err(why), evidence: Vec::new(), told: Vec::new(), model: None, spent: Amount::default(), limited: None }
    }
}

/// Calls it.
pub fn look(look: Look<'_>) -> Looked {
    let mut looked = Looked::failed(String::new());
    looked.answer = ask(look, &mut looked);
    looked
}

fn ask(look: Look<'_>, looked: &mut Looked) -> Result<Vec<u8>, String> {
    let (shop, story) = (look.shop, look.story.id.as_str());
    let workspaces = shop.workspaces().map_err(|e| e.to_string())?;
    let (lower, inside) = files_of(&workspaces, look.commit.as_str())?;
    let text = roles::load(look.role, shop.prompts().as_deref()).map_err(|e| e.to_string())?;
    let (prompt, cut_parts) = prompt(look.task, &text.text);
    let agent = Agent::load(look.agent, story, shop).map_err(|e| e.to_string())?;
    let mut policy = policy(shop, look.role, Files::Tree { lower, inside }, agent.program()).map_err(|e| e.to_string())?;
    // Whatever the profile says: who can write the tree does not judge it.
    policy.workspace.access = Access::Read;
    let version = agent.version(shop, &policy, look.stop).map_err(|e| format!("{e}; {}", e.next()))?;
    let folder = RunFolder::create(&workspaces.state.root().join("runs").join(&look.folder)).map_err(|e| e.to_string())?;
    let written = furnish(&look, &folder, &prompt);
    let called = written.and_then(|()| agent.called(look.role, shop, &text, &prompt, &cut_parts, version));
    looked.told.push(Kind::AgentCalled { attempt: look.attempt, call: called.map_err(|e| e.to_string())? });
    let programs = agent.from_base().then(|| files_of(&workspaces, look.target.as_str())).transpose()?;
    folder.grant(&mut policy, programs.map(|(layers, _)| layers));
    if let Some(before) = look.before {
        let (lower, _) = files_of(&workspaces, before.as_str())?;
        policy.trees.push(Tree { lower, inside: BEFORE.into(), reason: "the tree before the change".to_owned() });
    }
    let words: Arc<Mutex<Words>> = Arc::default();
    let counter = counter(&look, &policy, &words).map_err(|e| e.to_string())?;
    counter.furnish(&folder, &mut policy).map_err(|e| format!("its place to ask cannot be made: {e}"))?;
    let arguments = agent.arguments(story, &prompt, &mut policy);
    let purse = Purse::of_story(&look.story.spec.rules.limits, look.story.spent);
    let begun = Instant::now();
    let over = Over::default();
    let around = Around { stop: look.stop, listener: look.listener, purse: &purse, counter: Some(&counter), over: &over };
    let done = agent.run(shop, &policy, arguments, around);
    drop(counter);
    let (name, longest) = look.answer;
    let answer = folder.answer(name, longest);
    let (handed_in, said) = std::mem::take(&mut *words.lock().unwrap_or_else(PoisonError::into_inner));
    looked.told.extend(said);
    let answer = answer.and_then(|left| one_answer(name, left, handed_in));
    let flooded = folder.is_flooded();
    drop(folder.remove());
    let Done { ran, session, lingered } = done.map_err(|e| e.to_string())?;
    looked.evidence.extend([ran.transcript.clone(), ran.receipt.clone()]);
    looked.told.extend(denials(look.role, &ran.tally));
    looked.model = agent.model().or_else(|| session.model.clone());
    looked.spent = Amount { wall_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), ..session.spent };
    looked.limited = agent.limited(&session, &ran);
    if let Some(limited) = &looked.limited {
        return Err(format!("its provider refuses for now: {}", one_line(&cut(&limited.reason, 300))));
    }
    if flooded {
        return Err("it left more in out/ than an answer needs".to_owned());
    }
    answered(name, answer, &agent, &session, &ran, lingered)
}

/// What it handed in, and what the log should know of what it said.
type Words = (Option<Vec<u8>>, Vec<Kind>);

/// Where it may ask. What it says there is shown at once, and stored when it has ended.
fn counter(look: &Look<'_>, policy: &Policy, words: &Arc<Mutex<Words>>) -> std::io::Result<Counter> {
    let pass = pass(look.role, look.task, policy);
    let (words, listener, secrets) = (words.clone(), look.listener.clone(), look.shop.secrets());
    let (role, attempt) = (look.role.name(), look.attempt);
    let hears = move |said: Said| {
        let (what, text) = match said {
            Said::Progress(text) => ("progress", text),
            Said::Verdict(bytes) => {
                words.lock().unwrap_or_else(PoisonError::into_inner).0 = Some(bytes);
                ("verdict", String::new())
            }
            // Its role may not: the counter has refused it.
            Said::Approach(_) | Said::Done(_) | Said::Question(_) => return,
        };
        let text = String::from_utf8_lossy(&secrets.text(text.as_bytes())).into_owned();
        if let Some(listener) = listener.as_ref().filter(|_| !text.is_empty()) {
            listener(&format!("{role}: {}", one_line(&text)));
        }
        let said = Kind::AgentSaid { attempt, role: role.to_owned(), what: what.to_owned(), text };
        words.lock().unwrap_or_else(PoisonError::into_inner).1.push(said);
    };
    Counter::new(pass, Box::new(hears))
}

/// The pass of a process of this role, for this task.
pub fn pass(role: Role, task: &Task, policy: &Policy) -> Pass {
    Pass {
        token: String::new(),
        role,
        story: task.story.id.clone(),
        title: task.story.title.clone(),
        criteria: task.story.criteria.iter().map(|criterion| criterion.id.clone()).collect(),
        attempt: task.attempt,
        expires: policy.limits.wall,
        budget: serde_json::to_value(&task.budget).unwrap_or_default(),
    }
}

/// One answer, by whichever way it came. Two that differ are none.
fn one_answer(name: &str, left: Option<Vec<u8>>, handed_in: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, String> {
    match (left, handed_in) {
        (Some(left), Some(handed_in)) if left.trim_ascii() != handed_in.trim_ascii() => {
            Err(format!("it left one answer in out/{name} and handed in another"))
        }
        (left, handed_in) => Ok(left.or(handed_in)),
    }
}

fn furnish(look: &Look<'_>, folder: &RunFolder, prompt: &str) -> std::io::Result<()> {
    folder.place("before")?;
    folder.place("logs")?;
    folder.write("task.json", &serde_json::to_vec_pretty(look.task)?)?;
    folder.write("prompt.md", prompt.as_bytes())?;
    look.files.iter().try_for_each(|(name, content)| folder.write(name, content))
}

/// The bytes of the answer: the file, or the last message of an agent that cannot write one.
fn answered(
    name: &str,
    answer: Result<Option<Vec<u8>>, String>,
    agent: &Agent,
    session: &Session,
    ran: &Ran,
    lingered: bool,
) -> Result<Vec<u8>, String> {
    let ended = match ran.outcome.cause {
        _ if lingered && session.ended == Some(true) => None,
        Cause::ExecFailed => Some(format!("it did not start; {}", agent.next_when_missing())),
        Cause::Exited if ran.outcome.exit_code == 0 => None,
        Cause::Exited => Some(format!("it exited {}", ran.outcome.exit_code)),
        Cause::Signalled => Some(format!("signal {} ended it", ran.outcome.signal.unwrap_or_default())),
        _ => Some(format!("it was ended: {}", ran.outcome.detail.as_deref().unwrap_or("a limit was hit"))),
    };
    // Whoever was cut off may have left half of what it meant, and a whole-looking file proves nothing.
    if let Some(why) = ended {
        let tail = one_line(&cut(ran.tail.trim_end().lines().next_back().unwrap_or_default(), 200)).into_owned();
        return Err(format!("{why}{}{tail}", if tail.is_empty() { "" } else { ": " }));
    }
    let what = name.trim_end_matches(".json");
    match (answer?, agent.answers()) {
        (Some(bytes), Answers::File) => Ok(bytes),
        (None, Answers::File) if agent.is_command() => Err(format!("it left no {what} in out/{name}")),
        (None, _) | (Some(_), Answers::Message) => {
            let message = session.last_message.as_deref().ok_or_else(|| format!("it left no {what}, and said nothing"))?;
            Ok(answers::in_message(message, what)?.as_bytes().to_vec())
        }
    }
}

/// The files of a commit, as layers of which nothing can write, and where they are seen.
///
/// # Errors
/// When the commit's layers cannot be made.
pub fn files_of(workspaces: &Workspaces, commit: &str) -> Result<(Vec<PathBuf>, PathBuf), String> {
    let stack = Layers::new(&workspaces.state, &workspaces.repository).ensure(oid(commit)?).map_err(|e| e.to_string())?;
    Ok((stack.trees(), private_git::folder_inside(&workspaces.repository)))
}

/// # Errors
/// When it is no object's name.
pub fn oid(id: &str) -> Result<Oid, String> {
    id.parse().map_err(|_| format!("{id} is no object"))
}

//! The reviewer: another process, another sandbox, a tree that the kernel keeps from being written, and a verdict that is read strictly.
//!
//! It sees the criteria, the change and the logs of checks; not what the implementer said about its work.

use super::inspect::{self, changed, files_of, folder, oid};
use super::verdict::{self, Decision};
use super::{Case, Judged, Limited, Spent};
use crate::agents::adapter::Answers;
use crate::agents::call::{Agent, Done};
use crate::agents::protocol::Session;
use crate::agents::roles;
use crate::agents::task::task;
use crate::base::id::EvidenceId;
use crate::base::text::{cut, one_line};
use crate::config::Role;
use crate::event::{CriterionVerdict, Finding, Verdict};
use crate::role::network::Purse;
use crate::role::process::Ran;
use crate::role::{Files, policy};
use crate::sandbox::Cause;
use crate::sandbox::policy::{Access, Tree};
use crate::workspace::git::{Objects, Oid};
use crate::workspace::stories::Workspaces;

/// A line number is looked up in files up to this size.
const LARGEST_FILE: usize = 8 << 20;

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let config = case.shop.config();
    let Some(agent) = config.agents.get(&Role::Reviewer) else { return Judged::error("no reviewer is configured") };
    let count = usize::try_from(config.verify.reviewers).unwrap_or(1).max(1);
    let all: Vec<One> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..count).map(|number| scope.spawn(move || one(case, agent, number))).collect();
        let dead = || One { verdict: Err("its thread stopped".to_owned()), ..One::default() };
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| dead())).collect()
    });
    together(all)
}

/// What one reviewer left.
struct One {
    verdict: Result<verdict::Verdict, String>,
    evidence: Vec<EvidenceId>,
    logs: Vec<(String, Vec<u8>)>,
    spent: Option<Spent>,
    limited: Option<Limited>,
}

impl Default for One {
    fn default() -> Self {
        Self { verdict: Err(String::new()), evidence: Vec::new(), logs: Vec::new(), spent: None, limited: None }
    }
}

/// All must pass. One that wants changes has found something, whatever the others could not judge.
fn together(all: Vec<One>) -> Judged {
    let mut judged = Judged::pass();
    let several = all.len() > 1;
    let (mut failed, mut errors) = (false, Vec::new());
    let mut criteria: Vec<CriterionVerdict> = Vec::new();
    for (number, one) in all.into_iter().enumerate() {
        judged.evidence.extend(one.evidence);
        judged.logs.extend(one.logs);
        judged.spent.extend(one.spent);
        judged.limited = judged.limited.or(one.limited);
        let who = if several { format!("reviewer {}: ", number + 1) } else { String::new() };
        match one.verdict {
            Err(why) => errors.push(format!("{who}{why}")),
            Ok(read) if read.decision == Decision::Error => {
                let why = read
                    .recovery
                    .or_else(|| read.findings.first().map(|f| f.text.clone()))
                    .unwrap_or_else(|| "it does not say why".to_owned());
                errors.push(format!("{who}it says that it could not judge: {}", one_line(&cut(&why, 500))));
            }
            Ok(read) => {
                let wants_changes = read.decision == Decision::Changes;
                failed |= wants_changes;
                merge(&mut criteria, &read.criteria);
                let open =
                    read.criteria.iter().filter(|c| !c.pass).count() + usize::from(wants_changes && read.criteria.iter().all(|c| c.pass));
                judged.problems += u32::try_from(open).unwrap_or(u32::MAX);
                judged.findings.extend(read.findings.into_iter().map(|f| Finding { text: format!("{who}{}", f.text), ..f }));
                judged.findings.extend(read.recovery.filter(|_| wants_changes).map(|text| Finding {
                    text: format!("{who}{text}"),
                    severity: Some("recovery".to_owned()),
                    ..Finding::default()
                }));
            }
        }
    }
    judged.criteria = criteria;
    judged.problems += u32::try_from(errors.len()).unwrap_or(u32::MAX);
    judged.verdict = match (failed, errors.is_empty()) {
        (true, _) => Verdict::Fail,
        (false, false) => Verdict::Error,
        (false, true) => Verdict::Pass,
    };
    judged.findings.extend(errors.into_iter().map(|text| Finding { text, ..Finding::default() }));
    judged
}

/// A criterion holds when every reviewer says so.
fn merge(all: &mut Vec<CriterionVerdict>, more: &[CriterionVerdict]) {
    for one in more {
        match all.iter_mut().find(|known| known.id == one.id) {
            Some(known) if known.pass && !one.pass => *known = one.clone(),
            Some(_) => {}
            None => all.push(one.clone()),
        }
    }
}

fn one(case: &Case<'_>, agent: &crate::config::Agent, number: usize) -> One {
    let mut one = One::default();
    one.verdict = ask(case, agent, number, &mut one);
    one
}

fn ask(case: &Case<'_>, agent: &crate::config::Agent, number: usize, one: &mut One) -> Result<verdict::Verdict, String> {
    let shop = case.shop;
    let workspaces = shop.workspaces().map_err(|e| e.to_string())?;
    let (lower, inside) = files_of(&workspaces, case.commit.as_str())?;
    let (before, _) = files_of(&workspaces, case.attempt.base.as_str())?;
    let role = roles::load(Role::Reviewer, shop.prompts().as_deref()).map_err(|e| e.to_string())?;
    let mut told = task(Role::Reviewer, case.spec, case.story, case.attempt, case.overview);
    // Neither its own words nor what others said of it: a reviewer judges the change.
    told.feedback.clear();
    told.blocked_approaches.clear();
    told.commit = Some(case.commit.clone());
    let (prompt, _) = crate::agents::prompt::prompt(&told, &role.text);
    let agent = Agent::load(agent, case.story.id.as_str(), shop).map_err(|e| e.to_string())?;
    let mut policy = policy(shop, Role::Reviewer, Files::Tree { lower, inside }, agent.program()).map_err(|e| e.to_string())?;
    // Whatever the profile says: who can write the tree does not review it.
    policy.workspace.access = Access::Read;
    let folder = folder(case, &workspaces, &format!("reviewer{number}")).map_err(|e| e.to_string())?;
    let disk = |e: std::io::Error| e.to_string();
    folder.write("task.json", &serde_json::to_vec_pretty(&told).map_err(|e| e.to_string())?).map_err(disk)?;
    folder.write("prompt.md", prompt.as_bytes()).map_err(disk)?;
    folder.write("diff.patch", &inspect::patch(case, &workspaces)?).map_err(disk)?;
    let protected = super::paths::protected(&changed(case, &workspaces)?, &shop.config().verify.protected);
    folder.write("protected.txt", lines(&protected.approvals).as_bytes()).map_err(disk)?;
    logs(case, &folder).map_err(disk)?;
    let programs = agent.from_base().then(|| files_of(&workspaces, case.target.as_str())).transpose()?;
    folder.grant(&mut policy, programs.map(|(layers, _)| layers));
    policy.trees.push(Tree { lower: before, inside: super::verifier::BEFORE.into(), reason: "the tree before the change".to_owned() });
    let arguments = agent.arguments(case.story.id.as_str(), &prompt, &mut policy);
    let purse = Purse::of_story(&case.story.spec.rules.limits, case.story.spent);
    let done = agent.run(shop, &policy, arguments, case.stop, case.listener.clone(), &purse);
    let answer = folder.answer("verdict.json", verdict::LONGEST);
    let flooded = folder.is_flooded();
    drop(folder.remove());
    let Done { ran, session, lingered } = done.map_err(|e| e.to_string())?;
    one.evidence.extend([ran.transcript.clone(), ran.receipt.clone()]);
    one.spent = Some(Spent { role: "reviewer".to_owned(), model: agent.model().or(session.model.clone()), amount: session.spent });
    one.limited = agent.limited(&session, &ran);
    if let Some(limited) = &one.limited {
        return Err(format!("its provider refuses for now: {}", one_line(&cut(&limited.reason, 300))));
    }
    if flooded {
        return Err("it left more in out/ than a verdict needs".to_owned());
    }
    let bytes = answered(answer, &agent, &session, &ran, lingered)?;
    one.logs.push((format!("verdict-{}.json", number + 1), bytes.clone()));
    let ids: Vec<String> = case.spec.criteria.iter().map(|c| c.id.clone()).collect();
    let trees = Trees::of(case, &workspaces)?;
    verdict::verdict(&bytes, &ids, &|path, line| trees.has(path, line))
}

/// The bytes of the verdict: the file, or the last message of an agent that cannot write one.
fn answered(
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
    match (answer?, agent.answers()) {
        (Some(bytes), Answers::File) => Ok(bytes),
        (None, Answers::File) if agent.is_command() => Err("it left no verdict in out/verdict.json".to_owned()),
        (None, _) | (Some(_), Answers::Message) => {
            let message = session.last_message.as_deref().ok_or("it left no verdict, and said nothing")?;
            Ok(verdict::in_message(message)?.as_bytes().to_vec())
        }
    }
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("{}\n", f.path.as_deref().unwrap_or_default())).collect()
}

/// What other evaluators and gates said of this commit, as far as they are done: one file each.
fn logs(case: &Case<'_>, folder: &crate::agents::folder::RunFolder) -> std::io::Result<()> {
    folder.place("logs")?;
    let same = case.story.attempts.iter().filter(|attempt| attempt.change.as_ref().is_some_and(|change| change.commit == *case.commit));
    for attempt in same {
        for (name, result) in attempt.results.iter().filter(|(name, _)| *name != "reviewer") {
            let said: String = result.findings.iter().map(|f| format!("{}\n", f.text)).collect();
            folder
                .write(&format!("logs/{}.txt", crate::workspace::state::slug(name)), format!("{:?}\n{said}", result.verdict).as_bytes())?;
        }
        for (name, run) in &attempt.gates {
            let text = format!("{:?}\n{}\n", run.result, run.detail.as_deref().unwrap_or_default());
            folder.write(&format!("logs/gate-{}.txt", crate::workspace::state::slug(name)), text.as_bytes())?;
        }
    }
    Ok(())
}

/// The trees that evidence may name: the commit's, and the one before it, for what was removed.
struct Trees<'a> {
    workspaces: &'a Workspaces,
    roots: [Oid; 2],
}

impl<'a> Trees<'a> {
    fn of(case: &Case<'_>, workspaces: &'a Workspaces) -> Result<Self, String> {
        let tree = |commit: &str| workspaces.repository.tree_of(oid(commit)?).map_err(|e| e.to_string());
        Ok(Self { workspaces, roots: [tree(case.commit.as_str())?, tree(case.attempt.base.as_str())?] })
    }

    /// Is there a file of this path, with so many lines?
    fn has(&self, path: &str, line: Option<u32>) -> bool {
        // Reviewers name paths as they see them: from the root of the tree, or where it is mounted.
        let inside = format!("/workspace/{}/", self.workspaces.repository.name());
        let path = path.strip_prefix(&inside).unwrap_or(path).trim_start_matches("./");
        let path = path.strip_prefix("a/").filter(|_| !self.any(path)).unwrap_or(path);
        let path = path.strip_prefix("b/").filter(|_| !self.any(path)).unwrap_or(path);
        self.roots.iter().filter_map(|root| self.find(*root, path)).any(|blob| self.has_line(blob, line))
    }

    fn any(&self, path: &str) -> bool {
        self.roots.iter().any(|root| self.find(*root, path).is_some())
    }

    fn find(&self, root: Oid, path: &str) -> Option<Oid> {
        let mut at = root;
        let parts: Vec<&str> = path.split('/').collect();
        let (name, folders) = parts.split_last()?;
        if parts.len() > 256 {
            return None;
        }
        for folder in folders {
            at = self.workspaces.repository.tree(at).ok()?.into_iter().find(|e| e.is_tree() && e.name == folder.as_bytes())?.id;
        }
        let entry = self.workspaces.repository.tree(at).ok()?.into_iter().find(|e| e.name == name.as_bytes())?;
        (!entry.is_tree() && !entry.is_submodule()).then_some(entry.id)
    }

    fn has_line(&self, blob: Oid, line: Option<u32>) -> bool {
        let Some(line) = line else { return true };
        match self.workspaces.repository.blob(blob) {
            Ok(bytes) if bytes.len() <= LARGEST_FILE => {
                let lines = bytes.iter().filter(|b| **b == b'\n').count() + usize::from(bytes.last().is_some_and(|b| *b != b'\n'));
                line >= 1 && line as usize <= lines.max(1)
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(decision: Decision, pass: bool) -> One {
        let criteria = vec![CriterionVerdict { id: "AC-1".to_owned(), pass, evidence: "a:1".to_owned() }];
        let verdict = verdict::Verdict { decision, criteria, findings: Vec::new(), confidence: None, recovery: None };
        One { verdict: Ok(verdict), ..One::default() }
    }

    #[test]
    fn all_reviewers_must_pass_and_an_error_is_never_a_pass() {
        let error = || One { verdict: Err("half".to_owned()), ..One::default() };
        for (all, expected) in [
            (vec![left(Decision::Pass, true)], Verdict::Pass),
            (vec![left(Decision::Pass, true), left(Decision::Pass, true)], Verdict::Pass),
            (vec![left(Decision::Pass, true), left(Decision::Changes, false)], Verdict::Fail),
            (vec![left(Decision::Changes, true)], Verdict::Fail),
            (vec![left(Decision::Pass, true), error()], Verdict::Error),
            (vec![error(), left(Decision::Changes, false)], Verdict::Fail),
            (vec![left(Decision::Error, true)], Verdict::Error),
        ] {
            let judged = together(all);
            assert_eq!(judged.verdict, expected);
            assert_eq!(judged.problems == 0, expected == Verdict::Pass);
        }
        let judged = together(vec![left(Decision::Pass, true), left(Decision::Changes, false)]);
        assert!(!judged.criteria[0].pass, "one reviewer's no is a no");
    }
}

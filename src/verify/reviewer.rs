//! The reviewer: another process, another sandbox, a tree that the kernel keeps from being written, and a verdict that is read strictly.
//!
//! The verifier, when an agent is configured for it, is one more of the same: it is told to look for what the story promised. Our own process
//! (see [`super::inspect`]) checks artifacts all the same.
//!
//! It sees the criteria, the change and the logs of checks; not what the implementer said about its work.

use super::inspect::{self, changed};
use super::verdict::{self, Decision};
use super::{Case, Judged, Limited};
use crate::agents::look::{Look, look, oid};
use crate::agents::task::task;
use crate::base::id::EvidenceId;
use crate::base::text::{cut, one_line};
use crate::config::Role;
use crate::event::{Amount, CriterionVerdict, Finding, Kind, Verdict};
use crate::workspace::git::{Objects, Oid};
use crate::workspace::state::slug;
use crate::workspace::stories::Workspaces;

/// A line number is looked up in files up to this size.
const LARGEST_FILE: usize = 8 << 20;

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let count = usize::try_from(case.shop.config().verify.reviewers).unwrap_or(1).max(1);
    ask_all(case, Role::Reviewer, count)
}

/// The same by the agent that looks for artifacts.
pub(super) fn verify(case: &Case<'_>) -> Judged {
    ask_all(case, Role::Verifier, 1)
}

fn ask_all(case: &Case<'_>, role: Role, count: usize) -> Judged {
    let config = case.shop.config();
    let Some(agent) = config.agents.get(&role) else { return Judged::error(format!("no {} is configured", role.name())) };
    let all: Vec<One> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..count).map(|number| scope.spawn(move || one(case, role, agent, number))).collect();
        let dead = || One { verdict: Err("its thread stopped".to_owned()), ..One::default() };
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| dead())).collect()
    });
    together(role, all)
}

/// What one reviewer left.
struct One {
    verdict: Result<verdict::Verdict, String>,
    evidence: Vec<EvidenceId>,
    logs: Vec<(String, Vec<u8>)>,
    told: Vec<Kind>,
    limited: Option<Limited>,
}

impl Default for One {
    fn default() -> Self {
        Self { verdict: Err(String::new()), evidence: Vec::new(), logs: Vec::new(), told: Vec::new(), limited: None }
    }
}

/// All must pass. One that wants changes has found something, whatever the others could not judge.
fn together(role: Role, all: Vec<One>) -> Judged {
    let mut judged = Judged::pass();
    let several = all.len() > 1;
    let (mut failed, mut errors) = (false, Vec::new());
    let mut criteria: Vec<CriterionVerdict> = Vec::new();
    for (number, one) in all.into_iter().enumerate() {
        judged.evidence.extend(one.evidence);
        judged.logs.extend(one.logs);
        judged.told.extend(one.told);
        judged.limited = judged.limited.or(one.limited);
        let who = if several { format!("{} {}: ", role.name(), number + 1) } else { String::new() };
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

fn one(case: &Case<'_>, role: Role, agent: &crate::config::Agent, number: usize) -> One {
    let mut one = One::default();
    one.verdict = ask(case, role, agent, number, &mut one);
    one
}

fn ask(case: &Case<'_>, role: Role, agent: &crate::config::Agent, number: usize, one: &mut One) -> Result<verdict::Verdict, String> {
    let shop = case.shop;
    let workspaces = shop.workspaces().map_err(|e| e.to_string())?;
    let mut told = task(role, case.spec, case.story, case.attempt, case.overview);
    // Neither its own words nor what others said of it: a reviewer judges the change.
    told.feedback.clear();
    told.blocked_approaches.clear();
    told.proposal = None;
    told.commit = Some(case.commit.clone());
    let protected = super::paths::protected(&changed(case, &workspaces)?, &shop.config().verify.protected);
    let mut files = logs(case);
    files.push(("diff.patch".to_owned(), inspect::patch(case, &workspaces)?));
    files.push(("protected.txt".to_owned(), lines(&protected.approvals).into_bytes()));
    let looked = look(Look {
        shop,
        role,
        agent,
        story: case.story,
        attempt: case.attempt.no,
        task: &told,
        commit: case.commit,
        before: Some(&case.attempt.base),
        target: case.target,
        files,
        folder: inspect::folder_name(case, &format!("{}{number}", role.name())),
        answer: ("verdict.json", verdict::LONGEST),
        stop: case.stop,
        listener: case.listener.clone(),
    });
    one.evidence = looked.evidence;
    one.told = looked.told;
    // Its time is the evaluator's, and told with it.
    let amount = Amount { wall_ms: 0, ..looked.spent };
    if amount != Amount::default() {
        one.told.push(Kind::BudgetSpent { role: role.name().to_owned(), model: looked.model, amount });
    }
    one.limited = looked.limited;
    let bytes = looked.answer?;
    one.logs.push((format!("verdict-{}.json", number + 1), bytes.clone()));
    let ids: Vec<String> = case.spec.criteria.iter().map(|c| c.id.clone()).collect();
    let trees = Trees::of(case, &workspaces)?;
    verdict::verdict(&bytes, &ids, &|path, line| trees.has(path, line))
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("{}\n", f.path.as_deref().unwrap_or_default())).collect()
}

/// What other evaluators and gates said of this commit, as far as they are done: one file each. Agents judge without hearing each other.
fn logs(case: &Case<'_>) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let same = case.story.attempts.iter().filter(|attempt| attempt.change.as_ref().is_some_and(|change| change.commit == *case.commit));
    for attempt in same {
        for (name, result) in attempt.results.iter().filter(|(name, _)| !matches!(name.as_str(), "reviewer" | "verifier")) {
            let said: String = result.findings.iter().map(|f| format!("{}\n", f.text)).collect();
            files.push((format!("logs/{}.txt", slug(name)), format!("{:?}\n{said}", result.verdict).into_bytes()));
        }
        for (name, run) in &attempt.gates {
            let text = format!("{:?}\n{}\n", run.result, run.detail.as_deref().unwrap_or_default());
            files.push((format!("logs/gate-{}.txt", slug(name)), text.into_bytes()));
        }
    }
    files
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
            let judged = together(Role::Reviewer, all);
            assert_eq!(judged.verdict, expected);
            assert_eq!(judged.problems == 0, expected == Verdict::Pass);
        }
        let judged = together(Role::Reviewer, vec![left(Decision::Pass, true), left(Decision::Changes, false)]);
        assert!(!judged.criteria[0].pass, "one reviewer's no is a no");
    }
}

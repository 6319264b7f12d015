//! Evaluators that look at files: each asks the verifier's process, in a sandbox of its own, and reads what it says.

use std::ffi::OsString;

use super::request::{Changed, Limits, Report, Request};
use super::{Case, Judged, verifier};
use crate::agents::folder::{BEFORE, RunFolder};
use crate::agents::look::{files_of, oid};
use crate::base::text::one_line;
use crate::config::{self, load};
use crate::role::process::Process;
use crate::role::{Files, policy};
use crate::sandbox::Cause;
use crate::sandbox::policy::{Access, Grant, Tree};
use crate::workspace::changes::{self, Stopped};
use crate::workspace::stories::Workspaces;

/// Where the program is seen inside.
const PROGRAM: &str = "/run/cofferdam-verifier";
/// A change of more paths is no story.
pub(super) const MOST_CHANGES: usize = 50_000;
const LONGEST_REPORT: u64 = 8 << 20;

pub(super) fn artifacts(case: &Case<'_>) -> Judged {
    super::commands::and_commands(case, ask(case, "artifacts"))
}

pub(super) fn integrity(case: &Case<'_>) -> Judged {
    super::counts::and_counts(case, ask(case, "integrity"))
}

pub(super) fn secrets(case: &Case<'_>) -> Judged {
    ask(case, "secrets")
}

pub(super) fn size(case: &Case<'_>) -> Judged {
    ask(case, "size")
}

/// A change to protected paths: nothing is wrong, and a human approves that commit. The log shows the whole change.
pub(super) fn protected(case: &Case<'_>) -> Judged {
    let config = case.shop.config();
    with_changes(case, |changes| super::paths::protected(changes, &config.verify.protected), true)
}

/// What the change takes away from the gates of its base. Each file is read as its commit has it; nothing of either is run.
pub(super) fn ratchet(case: &Case<'_>) -> Judged {
    let gates = |commit: &str| load::gates_at(case.shop.root(), commit);
    let before = match gates(case.attempt.base.as_str()) {
        Ok(gates) => gates,
        // What the target says counts, and it is read before anything runs.
        Err(problem) => return Judged::error(format!("the gates of the base cannot be read: {}", problem.what)),
    };
    match gates(case.commit.as_str()) {
        Ok(after) => judged(&super::ratchet::losses(&before, &after)),
        Err(problem) => {
            let mut report = Report::default();
            let line = problem.place.as_ref().and_then(|place| u32::try_from(place.line).ok());
            report.finding(
                config::FILE,
                line,
                format!("after the change, no run could read this file: {}; {}", problem.what, problem.next),
            );
            judged(&report)
        }
    }
}

pub(super) fn scope(case: &Case<'_>) -> Judged {
    with_changes(case, |changes| super::paths::scope(changes, &case.spec.scope), false)
}

fn with_changes(case: &Case<'_>, rule: impl Fn(&[Changed]) -> Report, shows_the_change: bool) -> Judged {
    match case.shop.workspaces().map_err(|e| e.to_string()).and_then(|workspaces| Ok((changed(case, &workspaces)?, workspaces))) {
        Err(why) => Judged::error(why),
        Ok((changes, workspaces)) => {
            let mut judged = judged(&rule(&changes));
            if shows_the_change
                && judged.problems > 0
                && let Ok(patch) = patch(case, &workspaces)
            {
                judged.logs.push(("diff.patch".to_owned(), patch));
            }
            judged
        }
    }
}

/// The change as a patch against its base.
pub(super) fn patch(case: &Case<'_>, workspaces: &Workspaces) -> Result<Vec<u8>, String> {
    workspaces.repository.patch_between(oid(case.attempt.base.as_str())?, oid(case.commit.as_str())?).map_err(|e| e.to_string())
}

/// What the commit changes against the attempt's base, by name. Names that are no UTF-8 are shown as they can be.
pub(super) fn changed(case: &Case<'_>, workspaces: &Workspaces) -> Result<Vec<Changed>, String> {
    let repository = &workspaces.repository;
    let tree = |commit: &str| repository.tree_of(oid(commit)?).map_err(|e| e.to_string());
    let (from, to) = (tree(case.attempt.base.as_str())?, tree(case.commit.as_str())?);
    match changes::between(repository, Some(from), Some(to), MOST_CHANGES) {
        Ok(changes) => {
            let named = |change: changes::Change| Changed { path: String::from_utf8_lossy(&change.path).into_owned(), kind: change.kind };
            Ok(changes.into_iter().map(named).collect())
        }
        Err(Stopped::TooMany) => Err(format!("the change touches more than {MOST_CHANGES} paths, and is not judged")),
        Err(Stopped::Git(error)) => Err(error.to_string()),
    }
}

/// The name of the folder of one process that judges.
pub(super) fn folder_name(case: &Case<'_>, what: &str) -> String {
    format!("{}-{}-{what}-{}", crate::workspace::state::slug(case.story.id.as_str()), case.attempt.no, case.tries)
}

fn ask(case: &Case<'_>, evaluator: &str) -> Judged {
    match inspect(case, evaluator) {
        Ok(judged) => judged,
        Err(why) => Judged::error(format!("{evaluator} could not be judged: {why}")),
    }
}

fn inspect(case: &Case<'_>, evaluator: &str) -> Result<Judged, String> {
    let config = case.shop.config();
    let workspaces = case.shop.workspaces().map_err(|e| e.to_string())?;
    let request = Request {
        evaluator: evaluator.to_owned(),
        artifacts: case.spec.artifacts.clone(),
        tests: config.verify.tests.clone(),
        changes: changed(case, &workspaces)?,
        limits: Limits { files: config.verify.max_files, bytes: config.verify.max_bytes.bytes(), binaries: config.verify.binaries.clone() },
    };
    let (lower, inside) = files_of(&workspaces, case.commit.as_str())?;
    let (before, _) = files_of(&workspaces, case.attempt.base.as_str())?;
    let program = std::env::current_exe().map_err(|e| format!("this program's own file cannot be found: {e}"))?;
    let mut policy = policy::own(case.shop, Files::Tree { lower, inside }).map_err(|e| e.to_string())?;
    let folder = RunFolder::create(&workspaces.state.root().join("runs").join(folder_name(case, evaluator))).map_err(|e| e.to_string())?;
    folder.place("before").map_err(|e| e.to_string())?;
    let text = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
    folder.write(verifier::REQUEST, &text).map_err(|e| e.to_string())?;
    folder.grant(&mut policy, None);
    policy.trees.push(Tree { lower: before, inside: BEFORE.into(), reason: "the tree before the change".to_owned() });
    policy.grants.push(Grant { host: program, inside: PROGRAM.into(), access: Access::Read, reason: "the verifier".to_owned() });
    let arguments = [PROGRAM, verifier::COMMAND].map(OsString::from).to_vec();
    let process = Process { shop: case.shop, policy: &policy, arguments, stop: case.stop, listener: None, tap: None, reception: None };
    let ran = process.run().map_err(|e| e.to_string())?;
    let answer = folder.answer(verifier::REPORT, LONGEST_REPORT);
    drop(folder.remove());
    let outcome = &ran.outcome;
    if outcome.cause != Cause::Exited || outcome.exit_code != 0 {
        let detail = outcome.detail.clone().unwrap_or_else(|| one_line(ran.tail.trim()).into_owned());
        return Err(format!("the verifier's process ended with {} ({detail})", outcome.exit_code));
    }
    let bytes = answer?.ok_or("the verifier left no report")?;
    let report: Report = serde_json::from_slice(&bytes).map_err(|e| format!("the verifier's report cannot be read: {e}"))?;
    let mut judged = judged(&report);
    judged.evidence.push(ran.receipt);
    judged.logs.push((format!("{evaluator}.json"), bytes));
    Ok(judged)
}

pub(super) fn judged(report: &Report) -> Judged {
    Judged { verdict: report.verdict(), problems: report.problems(), findings: report.said(), ..Judged::pass() }
}

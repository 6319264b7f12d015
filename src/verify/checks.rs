//! The story's checks: each a shell command that must exit 0, in a fresh sandbox on a clean tree of the collected commit.

use std::ffi::OsString;

use super::{Case, Judged};
use crate::base::text::{cut, one_line};
use crate::config::Role;
use crate::event::{Finding, Verdict};
use crate::role::process::{Process, Ran};
use crate::role::{Files, policy};
use crate::sandbox::Cause;

/// How much of a log the next attempt reads.
const TAIL: usize = 1_500;

pub(super) fn judge(case: &Case<'_>) -> Judged {
    let mut judged = Judged::pass();
    for check in &case.spec.checks {
        if case.stop.is_asked() {
            return Judged::error("it was stopped");
        }
        match run_one(case, case.commit.as_str(), check) {
            Err(why) => {
                return Judged { evidence: judged.evidence, ..Judged::error(format!("`{}` could not be run: {why}", one_line(check))) };
            }
            Ok(ran) => {
                judged.evidence.extend([ran.transcript.clone(), ran.receipt.clone()]);
                if let Some(why) = failure(&ran) {
                    judged.verdict = Verdict::Fail;
                    judged.problems += 1;
                    let tail = cut_front(ran.tail.trim_end(), TAIL);
                    let text = format!("`{}` {why}{}{tail}", cut(&one_line(check), 300), if tail.is_empty() { "" } else { ":\n" });
                    judged.findings.push(Finding { text, ..Finding::default() });
                }
            }
        }
    }
    judged
}

/// Runs one command on a clean tree of a commit: what the implementer left outside of its change is not there.
pub(super) fn run_one(case: &Case<'_>, commit: &str, check: &str) -> Result<Ran, String> {
    let workspaces = case.shop.workspaces().map_err(|e| e.to_string())?;
    let (lower, inside) = crate::agents::look::files_of(&workspaces, commit)?;
    let files = Files::Tree { lower, inside };
    let policy = policy(case.shop, Role::Gate, files, None).map_err(|e| e.to_string())?;
    let arguments = ["/bin/sh", "-c", check].map(OsString::from).to_vec();
    let process = Process {
        shop: case.shop,
        policy: &policy,
        arguments,
        stop: case.stop,
        listener: case.listener.clone(),
        tap: None,
        reception: None,
    };
    let ran = process.run().map_err(|e| e.to_string())?;
    match ran.outcome.cause {
        Cause::Cancelled => Err("it was stopped".to_owned()),
        Cause::ExecFailed => Err(ran.outcome.detail.unwrap_or_else(|| "there is no shell".to_owned())),
        _ => Ok(ran),
    }
}

pub(super) fn failure(ran: &Ran) -> Option<String> {
    let outcome = &ran.outcome;
    match outcome.cause {
        Cause::Exited if outcome.exit_code == 0 => None,
        Cause::Exited => Some(format!("exited {}", outcome.exit_code)),
        _ => Some(format!("was ended: {}", outcome.detail.as_deref().unwrap_or("a limit was hit"))),
    }
}

/// The end of a text.
fn cut_front(text: &str, limit: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(limit))..]
}

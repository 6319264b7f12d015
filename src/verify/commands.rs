//! Artifact rules that want a command's output: what they start runs what agents wrote, so each has a sandbox of its own, as checks have.

use super::{Case, Judged, checks};
use crate::base::text::{cut, one_line};
use crate::event::{Finding, Verdict};

/// A transcript is looked through up to here.
const LOOKED_AT: usize = 1 << 20;

/// What the files said, and what the commands say.
pub(super) fn and_commands(case: &Case<'_>, mut judged: Judged) -> Judged {
    for rule in &case.spec.artifacts {
        let Some(command) = &rule.command else { continue };
        if case.stop.is_asked() {
            return Judged::error("it was stopped");
        }
        let shown = format!("artifact `{}`: `{}`", one_line(&rule.path), cut(&one_line(command), 200));
        match checks::run_one(case, case.commit.as_str(), command) {
            Err(why) => {
                judged.problems += 1;
                judged.findings.push(Finding { text: format!("{shown} could not be run: {why}"), ..Finding::default() });
                if judged.verdict == Verdict::Pass {
                    judged.verdict = Verdict::Error;
                }
            }
            Ok(ran) => {
                judged.evidence.extend([ran.transcript.clone(), ran.receipt.clone()]);
                let failed = checks::failure(&ran).or_else(|| missing(case, &ran.transcript, rule.output.as_deref()));
                if let Some(why) = failed {
                    judged.problems += 1;
                    judged.verdict = Verdict::Fail;
                    let finding = Finding { text: format!("{shown} {why}"), path: Some(rule.path.clone()), ..Finding::default() };
                    judged.findings.push(finding);
                }
            }
        }
    }
    judged
}

fn missing(case: &Case<'_>, transcript: &crate::base::id::EvidenceId, wanted: Option<&str>) -> Option<String> {
    let wanted = wanted?;
    let bytes = match case.shop.evidence.read(transcript) {
        Ok(bytes) => bytes,
        Err(error) => return Some(format!("printed what cannot be read: {error}")),
    };
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(LOOKED_AT)).unwrap_or_default()).into_owned();
    if text.contains(wanted) {
        return None;
    }
    let last = text.trim_end().lines().next_back().unwrap_or_default();
    let printed = if last.is_empty() { "nothing".to_owned() } else { format!("`{}` last", cut(&one_line(last), 120)) };
    Some(format!("did not print `{}`; it printed {printed}", cut(&one_line(wanted), 120)))
}

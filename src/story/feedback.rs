//! What the next attempt reads: findings of the last one, what humans said, and which approaches are blocked.

use super::facts::{Attempt, Conclusion, Story};
use super::memory::BlockedApproach;
use crate::base::id::CommitId;
use crate::event::{Finding, GateResult, Verdict};

/// One piece of feedback, as `task.json` carries it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Feedback {
    /// `evaluator tests`, `gate build`, `diagnosis`, `human`, `controller`.
    pub source: String,
    pub summary: String,
    pub detail: Option<String>,
    pub commit: Option<CommitId>,
}

/// Everything the next attempt should know, the newest failure first, then what humans said.
pub fn feedback(story: &Story) -> Vec<Feedback> {
    let mut feedback = Vec::new();
    let last = story.attempts.iter().rev().find(|attempt| matches!(attempt.conclusion, Some(Conclusion::Failed(_))));
    if let Some((attempt, Conclusion::Failed(failure))) = last.and_then(|attempt| Some((attempt, attempt.conclusion.as_ref()?))) {
        let commit = attempt.change.as_ref().map(|change| change.commit.clone());
        if let Some(diagnosis) = attempt.diagnosis.as_ref().filter(|diagnosis| diagnosis.error.is_none()) {
            let detail = (!diagnosis.tasks.is_empty()).then(|| diagnosis.tasks.join("\n"));
            feedback.push(Feedback { source: "diagnosis".to_owned(), summary: diagnosis.summary.clone(), detail, commit: commit.clone() });
        }
        let source = failure.signature.join(", ");
        feedback.extend(failure.why.iter().map(|finding| Feedback {
            source: source.clone(),
            summary: finding.text.clone(),
            detail: place(finding),
            commit: commit.clone(),
        }));
        let refused = attempt.change.iter().flat_map(|change| &change.findings);
        feedback.extend(refused.map(|finding| Feedback {
            source: "controller".to_owned(),
            summary: finding.text.clone(),
            detail: place(finding),
            commit: commit.clone(),
        }));
    }
    feedback.extend(story.notes.iter().map(|note| Feedback {
        source: format!("human ({})", note.kind),
        summary: note.text.clone(),
        detail: None,
        commit: None,
    }));
    feedback
}

/// Approaches that may not run again.
pub fn blocked_approaches(story: &Story) -> Vec<BlockedApproach> {
    story.memory.blocked(story.spec.rules.limits.same_approach)
}

/// Why these evaluators or gates said no.
pub(super) fn findings(attempt: &Attempt, names: &[String]) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in names {
        if let Some(result) = attempt.results.get(name).filter(|result| matches!(result.verdict, Verdict::Fail | Verdict::Pass)) {
            let problems = crate::base::text::plural(u64::from(result.problems.max(1)), "problem", "problems");
            found.push(Finding { text: format!("{name} failed: {problems}"), ..Finding::default() });
            found.extend(result.findings.iter().cloned());
            let failed = result.criteria.iter().filter(|criterion| !criterion.pass);
            found.extend(failed.map(|c| Finding { text: c.evidence.clone(), criterion: Some(c.id.clone()), ..Finding::default() }));
        }
        if let Some(run) = attempt.gates.get(name).filter(|run| run.result == GateResult::Red) {
            let detail = run.detail.as_deref().unwrap_or("see its log");
            found.push(Finding { text: format!("gate {name} is red: {detail}"), ..Finding::default() });
        }
    }
    found
}

fn place(finding: &Finding) -> Option<String> {
    let path = match (&finding.path, finding.line) {
        (Some(path), Some(line)) => Some(format!("{path}:{line}")),
        (Some(path), None) => Some(path.clone()),
        (None, _) => None,
    };
    match (path, &finding.criterion) {
        (Some(path), Some(criterion)) => Some(format!("{criterion} at {path}")),
        (path, criterion) => path.or_else(|| criterion.clone()),
    }
}

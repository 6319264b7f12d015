//! What the verifier's process is asked, and what it answers. Pure.

use serde::{Deserialize, Serialize};

use crate::event::{Finding, Verdict};
use crate::spec::ArtifactRule;
use crate::workspace::changes::ChangeKind;

/// One path that the change touches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub path: String,
    pub kind: ChangeKind,
}

/// What to judge. The trees are where the sandbox mounts them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    pub evaluator: String,
    pub artifacts: Vec<ArtifactRule>,
    /// Patterns of the paths of tests.
    pub tests: Vec<String>,
    pub changes: Vec<Changed>,
    pub limits: Limits,
}

/// How large a change may be before a human looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub files: u64,
    pub bytes: u64,
    /// Patterns of the paths that may hold what is no text.
    pub binaries: Vec<String>,
}

/// What an evaluator found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// What could not be judged. Never a pass.
    pub errors: Vec<String>,
    /// What a human should approve, though nothing is wrong.
    pub approvals: Vec<Finding>,
    /// For whoever reads the log.
    pub notes: Vec<String>,
}

/// More findings than this are counted, not listed.
const MOST: usize = 200;

impl Report {
    pub fn finding(&mut self, path: &str, line: Option<u32>, text: impl Into<String>) {
        self.findings.push(finding(path, line, text.into()));
    }

    pub fn approval(&mut self, path: &str, text: impl Into<String>) {
        self.approvals.push(finding(path, None, text.into()));
    }

    /// What is known to be wrong weighs most; then what could not be judged; then what wants a human.
    pub fn verdict(&self) -> Verdict {
        if !self.findings.is_empty() {
            Verdict::Fail
        } else if !self.errors.is_empty() {
            Verdict::Error
        } else if !self.approvals.is_empty() {
            Verdict::NeedsApproval
        } else {
            Verdict::Pass
        }
    }

    pub fn problems(&self) -> u32 {
        u32::try_from(self.findings.len() + self.errors.len() + self.approvals.len()).unwrap_or(u32::MAX)
    }

    /// Everything it says, as findings for the event; cut to what a person reads.
    pub fn said(&self) -> Vec<Finding> {
        let errors = self.errors.iter().map(|text| Finding { text: text.clone(), ..Finding::default() });
        let mut said: Vec<Finding> = self.findings.iter().cloned().chain(errors).chain(self.approvals.iter().cloned()).collect();
        if let Some(more) = said.len().checked_sub(MOST).filter(|more| *more > 0) {
            said.truncate(MOST);
            said.push(Finding { text: format!("and {more} more"), ..Finding::default() });
        }
        said
    }
}

fn finding(path: &str, line: Option<u32>, text: String) -> Finding {
    Finding { text, path: Some(path.to_owned()), line, ..Finding::default() }
}

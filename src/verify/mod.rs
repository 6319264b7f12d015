//! Is it good: evaluators, each of which judges one commit of one story and nothing else.
//!
//! ```text
//! commit + story text ─▶ [evaluator ∥ evaluator ∥ …] ─▶ Judged ─▶ evaluator.finished      all must pass
//! ```
//!
//! An evaluator that cannot judge says [`Verdict::Error`]; that is never a pass. To add one: a file here, and a line in [`EVALUATORS`].

mod change;
mod checks;
mod memory;

use crate::base::id::{CommitId, EvidenceId, TreeId};
use crate::config::Config;
use crate::event::{CriterionVerdict, Finding, Verdict};
use crate::role::process::Listener;
use crate::role::{Stop, Workshop};
use crate::spec;
use crate::story::Story;
use crate::story::facts::Attempt;

/// What an evaluator says of a commit.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    pub verdict: Verdict,
    /// How many things are wrong: fewer than before is better.
    pub problems: u32,
    pub criteria: Vec<CriterionVerdict>,
    pub findings: Vec<Finding>,
    /// What it rests on, by name; kept as evidence by whoever asked. Secrets are taken out there.
    pub logs: Vec<(String, Vec<u8>)>,
    /// What it rests on and is evidence already.
    pub evidence: Vec<EvidenceId>,
}

impl Judged {
    pub fn pass() -> Self {
        Self { verdict: Verdict::Pass, problems: 0, criteria: Vec::new(), findings: Vec::new(), logs: Vec::new(), evidence: Vec::new() }
    }

    /// Something is wrong with the commit.
    pub fn fail(findings: Vec<Finding>) -> Self {
        let problems = u32::try_from(findings.len().max(1)).unwrap_or(u32::MAX);
        Self { verdict: Verdict::Fail, problems, findings, ..Self::pass() }
    }

    /// It could not judge.
    pub fn error(why: impl Into<String>) -> Self {
        let finding = Finding { text: why.into(), ..Finding::default() };
        Self { verdict: Verdict::Error, problems: 1, findings: vec![finding], ..Self::pass() }
    }
}

/// What is judged.
#[derive(Clone)]
pub struct Case<'a> {
    pub shop: &'a Workshop,
    /// The story's text, as it is now: the proof of the verdict is its hash.
    pub spec: &'a spec::Story,
    pub overview: Option<&'a str>,
    /// The facts when the evaluator was asked.
    pub story: &'a Story,
    pub attempt: &'a Attempt,
    pub commit: &'a CommitId,
    pub tree: &'a TreeId,
    /// How often it was tried on this commit before.
    pub tries: u32,
    pub stop: &'a Stop,
    pub listener: Option<Listener>,
}

impl std::fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case").field("story", &self.story.id).field("commit", self.commit).finish_non_exhaustive()
    }
}

/// One evaluator.
#[derive(Clone, Copy, Debug)]
pub struct Evaluator {
    pub name: &'static str,
    /// Does it have anything to say of this story, under this configuration?
    pub concerns: fn(&spec::Story, &Config) -> bool,
    pub judge: fn(&Case<'_>) -> Judged,
}

/// All of them, in the order in which they are shown. They run side by side.
pub const EVALUATORS: &[Evaluator] = &[
    Evaluator { name: "change", concerns: |_, _| true, judge: change::judge },
    Evaluator { name: "memory", concerns: |_, _| true, judge: memory::judge },
    Evaluator { name: "checks", concerns: |story, _| !story.checks.is_empty(), judge: checks::judge },
];

/// The names of the evaluators that must pass on a commit of this story.
pub fn required(story: &spec::Story, config: &Config) -> Vec<String> {
    EVALUATORS.iter().filter(|evaluator| (evaluator.concerns)(story, config)).map(|evaluator| evaluator.name.to_owned()).collect()
}

/// Asks one evaluator by name.
pub fn judge(name: &str, case: &Case<'_>) -> Judged {
    match EVALUATORS.iter().find(|evaluator| evaluator.name == name) {
        Some(evaluator) => (evaluator.judge)(case),
        None => Judged::error(format!("there is no evaluator `{}` in this version", crate::base::text::one_line(name))),
    }
}

//! Is it good: evaluators, each of which judges one commit of one story and nothing else.
//!
//! ```text
//! commit + story text ─▶ [evaluator ∥ evaluator ∥ …] ─▶ Judged ─▶ evaluator.finished      all must pass
//! ```
//!
//! An evaluator that cannot judge says [`Verdict::Error`]; that is never a pass. To add one: a file here, and a line in [`EVALUATORS`].

pub mod artifacts;
mod change;
mod checks;
pub mod code;
mod commands;
mod counts;
mod inspect;
pub mod integrity;
mod memory;
pub mod paths;
pub mod ratchet;
pub mod request;
mod reviewer;
pub mod secrets;
pub mod size;
pub mod tree;
pub mod verdict;
pub mod verifier;

pub use crate::agents::call::Limited;
use crate::base::id::{CommitId, EvidenceId, TreeId};
use crate::config::{Config, Role};
use crate::event::{CriterionVerdict, Finding, Kind, Verdict};
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
    /// What the log should know beside the verdict: calls of agents, what they spent, what they were refused.
    pub told: Vec<Kind>,
    /// A provider refuses for now: this is no judgement, and is asked again then.
    pub limited: Option<Limited>,
}

impl Judged {
    pub fn pass() -> Self {
        Self {
            verdict: Verdict::Pass,
            problems: 0,
            criteria: Vec::new(),
            findings: Vec::new(),
            logs: Vec::new(),
            evidence: Vec::new(),
            told: Vec::new(),
            limited: None,
        }
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
    /// The target's commit: programs of the project come from there.
    pub target: &'a CommitId,
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
    Evaluator { name: "artifacts", concerns: |story, _| !story.artifacts.is_empty(), judge: inspect::artifacts },
    Evaluator { name: "integrity", concerns: |_, _| true, judge: inspect::integrity },
    Evaluator { name: "secrets", concerns: |_, _| true, judge: inspect::secrets },
    Evaluator { name: "protected", concerns: |_, _| true, judge: inspect::protected },
    Evaluator { name: "ratchet", concerns: |_, config| !config.gates.is_empty(), judge: inspect::ratchet },
    Evaluator { name: "scope", concerns: |story, _| !story.scope.is_empty(), judge: inspect::scope },
    Evaluator { name: "size", concerns: |_, _| true, judge: inspect::size },
    Evaluator { name: "reviewer", concerns: |_, config| config.agents.contains_key(&Role::Reviewer), judge: reviewer::judge },
    // The project's own agent beside our own process of that name: it looks at what the story promised, as a reader would.
    Evaluator { name: "verifier", concerns: |_, config| config.agents.contains_key(&Role::Verifier), judge: reviewer::verify },
];

/// The names of the evaluators that must pass on a commit of this story.
pub fn required(story: &spec::Story, config: &Config) -> Vec<String> {
    let wanted = EVALUATORS.iter().filter(|evaluator| (evaluator.concerns)(story, config) && !left_out(story, evaluator.name));
    wanted.map(|evaluator| evaluator.name.to_owned()).collect()
}

/// Tests show what an evaluator is for by leaving it out: `COFFERDAM_TEST_WITHOUT="STORY:EVALUATOR …"`. Nothing of it is in a release build.
#[cfg(debug_assertions)]
fn left_out(story: &spec::Story, evaluator: &str) -> bool {
    static WITHOUT: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    let without =
        WITHOUT.get_or_init(|| std::env::var("COFFERDAM_TEST_WITHOUT").unwrap_or_default().split_whitespace().map(str::to_owned).collect());
    without.iter().any(|pair| pair.split_once(':') == Some((story.id.as_str(), evaluator)))
}

#[cfg(not(debug_assertions))]
fn left_out(_: &spec::Story, _: &str) -> bool {
    false
}

/// Asks one evaluator by name.
pub fn judge(name: &str, case: &Case<'_>) -> Judged {
    match EVALUATORS.iter().find(|evaluator| evaluator.name == name) {
        Some(evaluator) => (evaluator.judge)(case),
        None => Judged::error(format!("there is no evaluator `{}` in this version", crate::base::text::one_line(name))),
    }
}

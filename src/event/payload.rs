//! What events carry: plain data, each field with its meaning.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::id::{EvidenceId, StoryId};

/// Who caused an event. Written as text: `runner`, `human:root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// The controller.
    Runner,
    /// A person at a command line, by the name of their account.
    Human(String),
    /// Somebody that a newer version knows.
    Other(String),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runner => f.write_str("runner"),
            Self::Human(name) => write!(f, "human:{name}"),
            Self::Other(text) => f.write_str(text),
        }
    }
}

impl FromStr for Actor {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(':') {
            Some(("human", name)) => Self::Human(name.to_owned()),
            _ if text == "runner" => Self::Runner,
            _ => Self::Other(text.to_owned()),
        })
    }
}

/// What the controller needs to know of a story. It is in the event, so that a fold never depends on a file that changed since.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StorySpec {
    pub title: String,
    pub epic: Option<String>,
    /// Its place in the plan's own order: faces list stories by it.
    pub ordinal: u32,
    #[serde(default)]
    pub after: Vec<StoryId>,
    #[serde(default)]
    pub wired_with: Vec<StoryId>,
    pub criteria: Vec<Criterion>,
    /// A hash of everything a verdict depends on (text, criteria, artifacts, checks). A verdict given for another hash proves nothing.
    pub proof: String,
    /// False for a story that only a human can do.
    pub automatable: bool,
    pub rules: Rules,
}

/// One acceptance criterion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criterion {
    pub id: String,
    pub text: String,
}

/// How this story is judged, resolved from the configuration when the plan was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rules {
    pub contract: ContractMode,
    /// Evaluators that must all pass on the collected commit. Never empty: a story that nothing judges cannot become ready.
    pub evaluators: Vec<String>,
    /// Gates that must be green on the collected commit, and again on the candidate.
    pub gates: Vec<String>,
    /// What must be green on the candidate alone: external CI.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub candidate_gates: Vec<String>,
    /// Ask a diagnoser between a failed verification and its repair.
    pub diagnose: bool,
    /// Ask a planner for an approach before the first implementer.
    #[serde(default)]
    pub propose: bool,
    pub landing: Landing,
    pub limits: Limits,
}

/// When an agent must show that it understood the story.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContractMode {
    /// Written first by the implementer itself, in every attempt.
    With,
    /// Asked of a process of its own, before the implementer starts.
    Before,
    Off,
}

/// What happens to a story that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Landing {
    /// It enters the queue by itself.
    Queue,
    /// A human approves the commit first.
    Approval,
    /// Ready is where the run ends.
    Stop,
}

/// The bounds of one story. `None` means that nobody set one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Implementer processes, the first one and every repair.
    pub iterations: u32,
    /// Repairs after a failed verification.
    pub review_cycles: u32,
    /// The repair that a human is told about.
    pub notify_cycle: u32,
    /// Iterations in a row in which no evaluator got better.
    pub stagnation: u32,
    /// Failures after which an approach is blocked.
    pub same_approach: u32,
    /// Errors of one evaluator or gate on one commit that are tried again.
    pub evaluator_errors: u32,
    /// Interruptions in a row, each no failed attempt, before a human is asked what keeps stopping it.
    pub interruptions: u32,
    pub model_calls: Option<u64>,
    /// Tokens read and written.
    pub tokens: Option<u64>,
    /// Millionths of a US dollar.
    pub cost_microusd: Option<u64>,
    /// Time in agents and evaluators.
    pub wall_ms: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            iterations: 6,
            review_cycles: 5,
            notify_cycle: 3,
            stagnation: 3,
            same_approach: 3,
            evaluator_errors: 1,
            interruptions: 5,
            model_calls: None,
            tokens: None,
            cost_microusd: None,
            wall_ms: None,
        }
    }
}

/// What an implementer process is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    Implement,
    /// It continues on what an earlier attempt left.
    Repair,
}

/// How an implementer process ended. Nothing here says whether its work is good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum AttemptEnd {
    Finished,
    /// A bad exit code, a limit, a crash. What it left is judged all the same.
    Failed {
        cause: String,
    },
    /// The provider's quota. No failed attempt.
    ProviderLimit {
        provider: String,
        until: Timestamp,
    },
    /// We stopped it, or we were stopped. No failed attempt.
    Interrupted,
    /// No process came to be: the program is missing, the sandbox cannot be enforced. No failed attempt; a human is needed.
    CouldNotStart {
        why: String,
        next: String,
    },
}

/// What one evaluator says of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Pass,
    Fail,
    /// It could not judge. Never a pass; tried again, then a human is asked.
    Error,
    /// Nothing is wrong, but a human must approve this very commit (a protected path changed).
    NeedsApproval,
}

/// What one gate says of one commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateResult {
    Pass,
    Red,
    /// We stopped it. Not red, and not green.
    Cancelled,
    Error,
}

/// One thing that is wrong, as the next attempt will read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub text: String,
    pub path: Option<String>,
    pub line: Option<u32>,
    pub criterion: Option<String>,
    pub severity: Option<String>,
    /// The gate that the change takes away or weakens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
}

/// A verdict on one acceptance criterion.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CriterionVerdict {
    pub id: String,
    pub pass: bool,
    pub evidence: String,
}

/// A process of an agent: what it is, and exactly what it was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentCall {
    pub role: String,
    /// The adapter and model: `claude/…`.
    pub agent: String,
    /// What its program says that it is. None when it was not asked, or does not say.
    pub version: Option<String>,
    /// The sandbox profile.
    pub profile: String,
    /// The version of the role's text; `own` when a person's own took its place.
    pub text: String,
    /// SHA-256 of the role's text.
    pub text_hash: String,
    /// The prompt as it was built, kept as evidence: its id is its hash.
    pub prompt: EvidenceId,
    /// Parts of the prompt that were cut.
    #[serde(default)]
    pub cut: Vec<String>,
}

/// Why a human is needed: one reason, one question, one next command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// A short word that scripts can rely on: `contract`, `question`, `approval`, `evaluator`, `agent`, `interrupted`, ….
    pub reason: String,
    pub question: String,
    pub next: String,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Nothing is left to do.
    Finished,
    Interrupted,
    /// What is left needs a human.
    Blocked,
    Budget,
    Error,
    /// The target itself is red: nothing may be built on it.
    RedTarget,
    /// The runner before this one died without a word; recorded by its successor.
    Died,
}

/// What was spent: model calls, tokens, money, time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Amount {
    pub model_calls: u64,
    pub tokens_in: u64,
    pub tokens_out: u64,
    /// Millionths of a US dollar.
    pub cost_microusd: u64,
    pub wall_ms: u64,
}

impl Amount {
    /// The sum. It saturates: a provider that reports nonsense must not wrap a budget around to zero.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            model_calls: self.model_calls.saturating_add(other.model_calls),
            tokens_in: self.tokens_in.saturating_add(other.tokens_in),
            tokens_out: self.tokens_out.saturating_add(other.tokens_out),
            cost_microusd: self.cost_microusd.saturating_add(other.cost_microusd),
            wall_ms: self.wall_ms.saturating_add(other.wall_ms),
        }
    }
}

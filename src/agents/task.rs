//! `task.json`: everything a role is told. Pure.

use serde::Serialize;

use crate::base::id::CommitId;
use crate::config::Role;
use crate::event::ContractMode;
use crate::spec;
use crate::story::budget;
use crate::story::feedback::{Feedback, blocked_approaches, feedback};
use crate::story::memory::BlockedApproach;
use crate::story::{Story, facts::Attempt};

/// The version of the file; it grows when a field changes its meaning.
pub const TASK_VERSION: u32 = 1;

/// The file.
#[derive(Clone, Debug, Serialize)]
pub struct Task {
    pub version: u32,
    pub role: &'static str,
    pub story: TaskStory,
    pub attempt: u32,
    /// Repairs so far.
    pub cycle: u32,
    /// What the change is measured against.
    pub base: CommitId,
    /// The earlier work that is continued, or the commit that is judged.
    pub commit: Option<CommitId>,
    pub feedback: Vec<Feedback>,
    pub blocked_approaches: Vec<BlockedApproach>,
    /// How a planner would go about it. A proposal: whoever implements may know better.
    pub proposal: Option<String>,
    pub budget: TaskBudget,
    /// `with`, `before` or `off`.
    pub contract: &'static str,
    /// What every story needs to know, as the plan's author wrote it.
    pub overview: Option<String>,
}

/// The story as it is told.
#[derive(Clone, Debug, Serialize)]
pub struct TaskStory {
    pub id: String,
    pub title: String,
    pub epic: Option<String>,
    pub text: String,
    pub criteria: Vec<spec::Criterion>,
    pub artifacts: Vec<spec::ArtifactRule>,
    pub checks: Vec<String>,
}

/// What is left of the budget. `None` is "no bound".
#[derive(Clone, Debug, Serialize)]
pub struct TaskBudget {
    pub iterations_left: u32,
    pub model_calls_left: Option<u64>,
    pub tokens_left: Option<u64>,
    /// Millionths of a US dollar.
    pub cost_microusd_left: Option<u64>,
    pub wall_ms_left: Option<u64>,
}

/// Makes the task of one attempt for one role.
pub fn task(role: Role, spec: &spec::Story, story: &Story, attempt: &Attempt, overview: Option<&str>) -> Task {
    Task {
        version: TASK_VERSION,
        role: role.name(),
        story: TaskStory {
            id: story.id.to_string(),
            title: spec.title.clone(),
            epic: spec.epic.clone(),
            text: spec.text.clone(),
            criteria: spec.criteria.clone(),
            artifacts: spec.artifacts.clone(),
            checks: spec.checks.clone(),
        },
        attempt: attempt.no.get(),
        cycle: budget::cycles(story),
        base: attempt.base.clone(),
        commit: attempt.change.as_ref().map(|change| change.commit.clone()).or_else(|| attempt.from.clone()),
        feedback: feedback(story),
        blocked_approaches: blocked_approaches(story),
        proposal: story.proposal.as_ref().filter(|proposal| proposal.error.is_none()).map(|proposal| proposal.summary.clone()),
        budget: left(story),
        contract: match story.spec.rules.contract {
            ContractMode::With => "with",
            ContractMode::Before => "before",
            ContractMode::Off => "off",
        },
        overview: overview.map(str::to_owned),
    }
}

fn left(story: &Story) -> TaskBudget {
    let (limits, spent) = (&story.spec.rules.limits, story.spent);
    let left = |limit: Option<u64>, spent: u64| limit.map(|limit| limit.saturating_sub(spent));
    TaskBudget {
        // The attempt at hand is counted already.
        iterations_left: limits.iterations.saturating_sub(budget::iterations(story)),
        model_calls_left: left(limits.model_calls, spent.model_calls),
        tokens_left: left(limits.tokens, spent.tokens_in.saturating_add(spent.tokens_out)),
        cost_microusd_left: left(limits.cost_microusd, spent.cost_microusd),
        wall_ms_left: left(limits.wall_ms, spent.wall_ms),
    }
}

/// The schema of `task.json`.
pub fn schema() -> serde_json::Value {
    let text = || serde_json::json!({"type": "string"});
    let optional = |of: serde_json::Value| serde_json::json!({"anyOf": [of, {"type": "null"}]});
    let count = || serde_json::json!({"type": "integer", "minimum": 0});
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cofferdam task",
        "description": "What a role is told: /run/cofferdam/task.json",
        "type": "object",
        "required": ["version", "role", "story", "attempt", "cycle", "base", "feedback", "blocked_approaches", "budget", "contract"],
        "properties": {
            "version": {"const": TASK_VERSION},
            "role": {"enum": Role::ALL.map(Role::name)},
            "story": {
                "type": "object",
                "required": ["id", "title", "text", "criteria", "artifacts", "checks"],
                "properties": {
                    "id": text(), "title": text(), "epic": optional(text()), "text": text(),
                    "criteria": {"type": "array", "items": {"type": "object", "required": ["id", "text"], "properties": {"id": text(), "text": text()}}},
                    "artifacts": {"type": "array", "items": {"type": "object", "required": ["path"]}},
                    "checks": {"type": "array", "items": text()},
                },
            },
            "attempt": {"type": "integer", "minimum": 1},
            "cycle": count(),
            "base": text(),
            "commit": optional(text()),
            "feedback": {"type": "array", "items": {
                "type": "object", "required": ["source", "summary"],
                "properties": {"source": text(), "summary": text(), "detail": optional(text()), "commit": optional(text())},
            }},
            "blocked_approaches": {"type": "array", "items": {
                "type": "object", "required": ["id", "summary", "times"],
                "properties": {"id": text(), "summary": text(), "times": count()},
            }},
            "proposal": optional(text()),
            "budget": {"type": "object", "required": ["iterations_left"], "properties": {
                "iterations_left": count(), "model_calls_left": optional(count()), "tokens_left": optional(count()),
                "cost_microusd_left": optional(count()), "wall_ms_left": optional(count()),
            }},
            "contract": {"enum": ["with", "before", "off"]},
            "overview": optional(text()),
        },
    })
}

//! The other agents that adapters are built in for. They are large, so a build machine has them only when it wants to
//! (`.ci/tools.sh FOLDER more`); each that is there does a whole story.

use super::{Project, through};

/// Implements, reviewed by one of the agents that are always there.
fn implements(agent: &str, model: &str) {
    let Some(project) = Project::of_model(&format!("{agent} implements"), agent, "codex", "Say hello.", "", model) else { return };
    let printed = project.run();
    assert!(through(&project.story()["state"]), "{agent}: {}\n{printed}\n{:?}", project.story(), project.model.requests());
    assert_eq!(project.events("contract.accepted").len(), 1, "{printed}");
    let calls = project.events("agent.called");
    let version = calls[0]["call"]["version"].as_str().unwrap_or_default();
    assert!(calls[0]["call"]["role"] == "implementer" && version.contains('.'), "{calls:?}");
    let spent = project.events("budget.spent");
    let tokens: u64 = spent.iter().filter(|e| e["role"] == "implementer").filter_map(|e| e["amount"]["tokens_in"].as_u64()).sum();
    assert!(tokens >= 200, "{agent}: its stream was not read: {spent:?}");
    project.is_clean();
}

#[test]
fn opencode_implements() {
    implements("opencode", "anthropic/claude-sonnet-4-5");
}

#[test]
fn gemini_implements() {
    implements("gemini", "gemini-2.5-pro");
}

#[test]
fn qwen_implements() {
    implements("qwen", "the-model");
}

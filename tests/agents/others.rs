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

/// It has no tools: the model answers with whole files, and it writes them. It shows no contract, and leaves nothing of its own in the tree.
#[test]
fn aider_implements() {
    let Some(project) = Project::of_model("aider implements", "aider", "codex", "Say hello.", "", "openai/the-model") else { return };
    let printed = project.run();
    assert!(through(&project.story()["state"]), "aider: {}\n{printed}\n{:?}", project.story(), project.model.requests());
    let calls = project.events("agent.called");
    assert_eq!((&calls[0]["call"]["role"], &calls[0]["call"]["version"]), (&"implementer".into(), &"aider 0.86.2".into()), "{calls:?}");
    let collected = project.events("change.collected");
    assert_eq!(collected[0]["files"], 2, "its notes are part of the change: {collected:?}");
    project.is_clean();
}

/// Asked for what it cannot do, it is not called: it is said what to set.
#[test]
fn aider_is_asked_for_no_contract() {
    let Some(project) = Project::of_model("aider's contract", "aider", "codex", "Say hello.", "", "openai/the-model") else { return };
    let config = project.world.workspace().join("cofferdam.toml");
    let text = fs_err::read_to_string(&config).expect("read");
    fs_err::write(&config, text.replacen("adapter = \"aider\"", "adapter = \"aider\"\ncontract = \"with\"", 1)).expect("written");
    project.git(&["commit", "-q", "-a", "-m", "ask for a contract"]);
    let printed = project.run();
    let story = project.story();
    assert_eq!((story["state"].as_str(), story["reason"].as_str()), (Some("blocked"), Some("agent")), "{story}\n{printed}");
    assert!(story["question"].as_str().is_some_and(|asked| asked.contains("can show no contract")), "{story}");
    assert!(project.model.requests().is_empty());
    project.is_clean();
}

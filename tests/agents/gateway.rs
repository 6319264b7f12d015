//! Real agents and a provider behind TLS: they reach it through the gateway, which has the key. Inside there is a placeholder.

use std::process::Command;

use super::common::{Who, World};
use super::{Model, Project, all_there, through};

const KEY: &str = "sk-real-0123456789-never-inside";

/// A project whose agents have no network but the gateway's door to their model.
fn behind_tls(test: &str, implementer: &str, reviewer: &str, text: &str) -> Option<(Project, std::path::PathBuf)> {
    all_there(test, &[implementer, reviewer]).then_some(())?;
    let world = World::new(Who::Caller);
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let roots = world.write("home/roots.pem", &made.cert.pem());
    // Not below the project, whose processes are counted.
    let folder = tempfile::tempdir().expect("a folder");
    let (certificate, private) = (folder.path().join("certificate.pem"), folder.path().join("private.pem"));
    fs_err::write(&certificate, made.cert.pem()).expect("written");
    fs_err::write(&private, made.signing_key.serialize_pem()).expect("written");
    let model = Model::start(&[certificate.as_os_str(), private.as_os_str(), KEY.as_ref()]);
    let agent = |role: &str, adapter: &str| format!("[agents.{role}]\nadapter = \"{adapter}\"\nmodel = \"the-model\"\n");
    let credential = |api: &str, header: &str| {
        format!("[[credential]]\nhost = \"127.0.0.1:{}\"\nheader = \"{header}\"\nfrom = \"env:REAL_KEY\"\napi = \"{api}\"\n", model.port)
    };
    let config = agent("implementer", implementer)
        + &agent("reviewer", reviewer)
        + "[run]\niterations = 1\nretry_delay = \"1ms\"\n"
        + &credential("anthropic", "x-api-key")
        + &credential("openai", "authorization");
    Some((Project::begin(world, model, text, &config), roots))
}

fn run(project: &Project, roots: &std::path::Path, key: &str) -> String {
    let output = project.command(&["run"]).env("SSL_CERT_FILE", roots).env("REAL_KEY", key).output().expect("it runs");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Neither the state, nor the evidence, nor the repository, nor what was printed holds it.
fn is_nowhere(project: &Project, printed: &str, key: &str) {
    assert!(!printed.contains(key), "{printed}");
    let kept = Command::new("grep").args(["-rlF", key]).arg(project.world.home()).output().expect("grep");
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "");
}

#[test]
fn real_agents_work_through_the_gateway_and_never_hold_the_key() {
    for (implementer, reviewer) in [("claude", "codex"), ("codex", "claude")] {
        let test = format!("{implementer} and {reviewer} behind the gateway");
        let Some((project, roots)) = behind_tls(&test, implementer, reviewer, "FAULT env") else { return };
        let printed = run(&project, &roots, KEY);
        assert!(through(&project.story()["state"]), "{test}: {}\n{printed}", project.story());
        let requests = project.model.requests();
        assert!(requests.len() >= 4 && requests.iter().all(|request| request["key"] == KEY), "control: the provider got it: {requests:?}");
        is_nowhere(&project, &printed, KEY);
        // The agent's own shell saw a placeholder, and no way out but the gateway's.
        let commit = project.story()["commit"].as_str().expect("a commit").to_owned();
        let seen = project.git(&["show", &format!("{commit}:environment.txt")]);
        let name = if implementer == "claude" { "ANTHROPIC_API_KEY" } else { "OPENAI_API_KEY" };
        assert!(seen.contains(&format!("{name} is a placeholder\n")) && !seen.contains('='), "{seen}");
        // What was counted is what the provider said, counted outside.
        let spent: u64 = project.events("budget.spent").iter().filter_map(|e| e["amount"]["model_calls"].as_u64()).sum();
        assert_eq!(spent, requests.iter().filter(|r| !r["path"].as_str().unwrap_or_default().contains("count_tokens")).count() as u64);
        project.is_clean();
    }
}

#[test]
fn a_wrong_key_outside_is_said_and_stays_outside() {
    const WRONG: &str = "sk-wrong-9876543210-never-inside";
    for agent in ["claude", "codex"] {
        let Some((project, roots)) = behind_tls("a wrong key outside", agent, agent, "Say hello.") else { return };
        let printed = run(&project, &roots, WRONG);
        let ended = project.events("attempt.ended");
        let cause = ended[0]["end"]["cause"].as_str().unwrap_or_default();
        assert!(cause.contains("it gave up") && cause.contains("401"), "{agent}: {ended:?}\n{printed}");
        assert_eq!(project.story()["state"], "escalated", "{agent}: {}", project.story());
        is_nowhere(&project, &printed, WRONG);
        project.is_clean();
    }
}

//! What an agent asks at its counter, and what comes of it: nothing that it has not earned.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Who, everybody};
use crate::project::{Project, is_through};

const CONFIG: &str = "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./agents/implement\", \"{story}\"]\n\
    [run]\nparallel = 4\niterations = 1\nretry_delay = \"1ms\"\n";
const REVIEWED: &str = "[agents.reviewer]\nadapter = \"command\"\ncommand = [\"./agents/review\", \"{story}\"]\n";

/// What a process of this story said at its counter, in order.
fn said(project: &Project, story: &str) -> Vec<Value> {
    let events = project.events().into_iter();
    events.filter(|e| e["kind"] == "agent.said" && e["story"] == story).map(|e| e["data"].clone()).collect()
}

fn texts(said: &[Value]) -> String {
    said.iter()
        .map(|said| format!("{}: {}\n", said["what"].as_str().unwrap_or_default(), said["text"].as_str().unwrap_or_default()))
        .collect()
}

/// Every user can run it, and everything that may be said is heard, shown and kept.
#[test]
fn an_agent_is_heard_and_is_not_waited_for() {
    for who in everybody().into_iter().map(|world| world.who) {
        let project = Project::new(who, CONFIG, &["asks-politely", "asks-a-human"], &[]);
        let begun = Instant::now();
        let printed = project.run("");
        assert!(begun.elapsed() < Duration::from_secs(200), "its sleep was waited for: {printed}");
        let stories = project.stories();
        assert!(is_through(stories["asks-politely"]["state"].as_str().unwrap_or_default()), "{}\n{printed}", stories["asks-politely"]);
        let heard = said(&project, "asks-politely");
        let status: Value = serde_json::from_str(heard[0]["text"].as_str().expect("a text")).expect("the status is JSON");
        assert_eq!(
            (&status["story"], &status["role"], &status["attempt"], &status["criteria"][0]),
            (&"asks-politely".into(), &"implementer".into(), &1.into(), &"AC-1".into()),
            "{status}"
        );
        assert!(status["wall_ms_left"].as_u64().is_some_and(|left| left > 0), "{status}");
        let texts = texts(&heard);
        assert!(texts.contains("an approach is declared already"), "{texts}");
        assert!(texts.contains("done: values can be deleted"), "{texts}");
        let events = project.events();
        let declared: Vec<&Value> = events.iter().filter(|e| e["kind"] == "approach.declared" && e["story"] == "asks-politely").collect();
        assert_eq!((declared.len(), &declared[0]["data"]["summary"]), (1, &"take it out of the dictionary".into()));
        let ended = events.iter().find(|e| e["kind"] == "attempt.ended" && e["story"] == "asks-politely").expect("it ended");
        assert_eq!((&ended["data"]["end"]["how"], &ended["data"]["summary"]), (&"finished".into(), &"values can be deleted".into()));
        // The commit is called as it said.
        let collected = events.iter().find(|e| e["kind"] == "change.collected" && e["story"] == "asks-politely").expect("collected");
        let commit = collected["data"]["commit"].as_str().expect("a commit");
        assert!(project.git(&["log", "-1", "--format=%s", commit]).contains("as its agent called it"));
        // A question is one, whichever way it comes.
        let asks = &stories["asks-a-human"];
        assert_eq!((asks["state"].as_str(), asks["reason"].as_str()), (Some("blocked"), Some("question")), "{asks}");
        assert!(asks["question"].as_str().is_some_and(|q| q.contains("never set")), "{asks}");
        project.is_clean();
    }
}

/// What is not its own to ask for is refused, and nothing that is said at a counter stands for work.
#[test]
fn nobody_asks_for_what_is_not_theirs() {
    let config = format!("{CONFIG}{REVIEWED}");
    let stories = ["judges-itself", "says-done-at-once", "reviewer-reports-work", "reviewer-says-two-things"];
    let project = Project::new(Who::Caller, &config, &stories, &[]);
    let printed = project.run("judges-itself:checks");
    let stories = project.stories();
    let heard = texts(&said(&project, "judges-itself"));
    assert!(
        heard.contains("the implementer does not judge") && heard.contains("may ask for `status`, `progress`, `approach`, `done`"),
        "{heard}"
    );
    // The reviewer that judges it is the one that was asked.
    assert_eq!(stories["judges-itself"]["state"], "escalated", "{printed}");
    let asked = stories["says-done-at-once"]["question"].as_str().unwrap_or_default();
    assert!(asked.contains("the attempt changed nothing"), "{}", stories["says-done-at-once"]);
    let heard = said(&project, "reviewer-reports-work");
    let texts = texts(&heard);
    assert_eq!(texts.matches("the reviewer reports no work").count(), 3, "{texts}");
    assert!(heard.iter().all(|said| said["role"] == "reviewer"), "{heard:?}");
    // A verdict that was handed in is read as strictly as the file.
    assert!(is_through(stories["reviewer-reports-work"]["state"].as_str().unwrap_or_default()), "{}", stories["reviewer-reports-work"]);
    let two = &project.said()[&("reviewer-says-two-things".to_owned(), "reviewer".to_owned())];
    assert!(two.verdict == "error" && two.findings.contains("handed in another"), "{two:?}");
    assert_eq!(stories["reviewer-says-two-things"]["state"], "blocked");
    project.is_clean();
}

/// A token is of one attempt: the next one has another, and the old one opens nothing.
#[test]
fn a_token_ends_with_its_attempt() {
    let config = CONFIG.replace("iterations = 1", "iterations = 2");
    let project = Project::new(Who::Caller, &config, &["keeps-a-token"], &[]);
    let printed = project.run("keeps-a-token:secrets");
    let heard = texts(&said(&project, "keeps-a-token"));
    assert!(heard.contains("old: {") && heard.contains("not that of this process"), "{heard}\n{printed}");
    assert!(heard.contains("own: {") && heard.contains("\"ok\":true"), "{heard}");
    assert!(is_through(project.stories()["keeps-a-token"]["state"].as_str().unwrap_or_default()), "{printed}");
    project.is_clean();
}

/// Whatever is thrown at a counter costs so much and no more: the work goes on, and the log is not filled.
#[test]
fn a_flood_at_the_counter_harms_nobody() {
    let project = Project::new(Who::Caller, CONFIG, &["floods-the-counter", "honest"], &[]);
    let printed = project.run("");
    let stories = project.stories();
    for id in ["floods-the-counter", "honest"] {
        assert!(is_through(stories[id]["state"].as_str().unwrap_or_default()), "{id}: {}\n{printed}", stories[id]);
    }
    let heard = said(&project, "floods-the-counter");
    assert!((2..=200).contains(&heard.len()), "{} words were kept", heard.len());
    assert!(texts(&heard).contains("and it is still heard"), "{printed}");
    project.is_clean();
}

/// Outside of a sandbox there is nobody to ask, and it says what it is for.
#[test]
fn outside_it_says_what_it_is_for() {
    let project = Project::new(Who::Caller, CONFIG, &["honest"], &[]);
    let output = project.output(&["ask", "status"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && said.contains("nobody to ask") && said.contains("next:"), "{said}");
    let help = project.output(&["ask", "--help"]);
    let said = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.status.success() && said.contains("question TEXT") && said.contains("For an agent in the sandbox"), "{said}");
    // One command is no story's agent, and has no counter.
    let inside = project.world.exec(
        &["--read", project.world.program().to_str().expect("a path")],
        &[project.world.program().to_str().expect("a path"), "ask", "status"],
    );
    assert!(inside.code() == 2 && inside.err().contains("nobody to ask"), "{}", inside.err());
}

/// A process that is only asked for the contract is ended with its answer, also with a wrong one.
#[test]
fn a_wrong_contract_is_not_waited_for() {
    let config = CONFIG.replace("[run]", "contract = \"before\"\n[run]");
    let project = Project::new(Who::Caller, &config, &["understands-another-story"], &[]);
    let begun = Instant::now();
    let printed = project.run("");
    let story = &project.stories()["understands-another-story"];
    assert_eq!((story["state"].as_str(), story["reason"].as_str()), (Some("blocked"), Some("contract")), "{story}\n{printed}");
    assert!(begun.elapsed() < Duration::from_secs(120), "its sleep was waited for");
    project.is_clean();
}

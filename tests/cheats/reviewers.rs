//! Reviewers that are no reviewers.

use crate::common::Who;
use crate::project::{Project, is_through};

/// The reviewer, and what is said of it.
const REVIEWERS: &[(&str, &str)] = &[
    ("reviewer-crashes", "signal 11 ended it"),
    ("reviewer-hangs", "it was ended"),
    ("reviewer-says-nothing", "it left no verdict"),
    ("reviewer-says-half", "the verdict cannot be read"),
    ("reviewer-says-both", "twice"),
    ("reviewer-contradicts-itself", "says pass, and that `AC-1` fails"),
    ("reviewer-judges-others", "leaves out `AC-1`"),
    ("reviewer-floods", "more in out/ than an answer needs"),
    ("reviewer-nests-deeply", "the verdict cannot be read"),
    ("reviewer-leaves-a-pipe", "no regular file"),
    ("reviewer-leaves-a-link", "is a link"),
    ("reviewer-passes-everything", "without a file and line|not in the tree"),
    ("reviewer-writes", "it left no verdict"),
];

const CONFIG: &str = "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./agents/implement\", \"{story}\"]\n\
    [agents.reviewer]\nadapter = \"command\"\ncommand = [\"./agents/review\", \"{story}\"]\n\
    [run]\nparallel = 4\niterations = 1\nretry_delay = \"1ms\"\n[limits.reviewer]\nwall = \"4s\"\n";

#[test]
fn no_faulty_reviewer_is_a_pass() {
    let stories: Vec<&str> = REVIEWERS.iter().map(|(id, _)| *id).chain(["honest", "plants-instructions"]).collect();
    let project = Project::new(Who::Caller, CONFIG, &stories, &[]);
    let printed = project.run("");
    let (stories, said) = (project.stories(), project.said());
    let mut wrong = Vec::new();
    for (id, words) in REVIEWERS {
        let state = stories[*id]["state"].as_str().unwrap_or_default();
        let last = said.get(&((*id).to_owned(), "reviewer".to_owned()));
        let fits = last.is_some_and(|said| said.verdict == "error" && words.split('|').any(|word| said.findings.contains(word)));
        if state != "blocked" || !fits {
            wrong.push(format!("{id}: {state}, {last:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{printed}", wrong.join("\n"));
    // The tree is read-only by the kernel, whatever a reviewer tries.
    assert!(!said.values().any(|said| said.findings.contains("the tree was writable")));
    // A fault is tried once more by a fresh process, and then a human is asked.
    let tries = |id: &str| {
        let events = project.events();
        events.iter().filter(|e| e["kind"] == "evaluator.finished" && e["story"] == id && e["data"]["evaluator"] == "reviewer").count()
    };
    assert_eq!((tries("reviewer-says-half"), tries("honest")), (2, 1));
    assert!(is_through(stories["honest"]["state"].as_str().unwrap_or_default()), "{}", stories["honest"]);
    // One that obeys what it reads in the change is not the only one who judges.
    assert_eq!(said[&("plants-instructions".to_owned(), "reviewer".to_owned())].verdict, "pass");
    assert_eq!(stories["plants-instructions"]["state"], "escalated");
    project.is_clean();
}

/// With two reviewers both must pass; what one of them finds goes to the next attempt.
#[test]
fn a_quorum_is_everybody() {
    let config = format!("{CONFIG}[verify]\nreviewers = 2\n");
    let project = Project::new(Who::Caller, &config, &["honest", "writes-the-verdict"], &[]);
    let printed = project.run("writes-the-verdict:checks");
    let (stories, said) = (project.stories(), project.said());
    assert!(is_through(stories["honest"]["state"].as_str().unwrap_or_default()), "{printed}");
    let verdict = &said[&("writes-the-verdict".to_owned(), "reviewer".to_owned())];
    assert_eq!((verdict.verdict.as_str(), stories["writes-the-verdict"]["state"].as_str()), ("fail", Some("escalated")), "{printed}");
    assert!(verdict.findings.contains("reviewer 2: delete does not delete"), "{verdict:?}");
    project.is_clean();
}

/// The control: without the reviewer, the story that it refuses gets through.
#[test]
fn without_the_reviewer_its_story_gets_through() {
    let project = Project::new(Who::Caller, CONFIG, &["writes-the-verdict"], &[]);
    project.run("writes-the-verdict:checks writes-the-verdict:reviewer");
    assert!(is_through(project.stories()["writes-the-verdict"]["state"].as_str().unwrap_or_default()));
}

/// Work that behaves while it is tested: no test can tell, and who reads it does. The control is the same without a reviewer.
#[test]
fn what_behaves_only_while_it_is_tested_is_the_reviewers_to_see() {
    let project = Project::new(Who::Caller, CONFIG, &["detects-the-gate"], &[]);
    let printed = project.run("");
    let said = &project.said()[&("detects-the-gate".to_owned(), "reviewer".to_owned())];
    assert_eq!((said.verdict.as_str(), project.stories()["detects-the-gate"]["state"].as_str()), ("fail", Some("escalated")), "{printed}");
    project.is_clean();
    let project = Project::new(Who::Caller, CONFIG, &["detects-the-gate"], &[]);
    project.run("detects-the-gate:reviewer");
    assert!(is_through(project.stories()["detects-the-gate"]["state"].as_str().unwrap_or_default()));
}

/// An agent that verifies, beside our own process: as strict as a reviewer, and as little trusted.
#[test]
fn an_agent_that_verifies_is_one_more_that_must_pass() {
    let config = CONFIG.replace("[agents.reviewer]", "[agents.verifier]");
    let stories = ["honest", "writes-the-verdict", "reviewer-says-half", "reviewer-writes", "in-a-comment"];
    let project = Project::new(Who::Caller, &config, &stories, &[]);
    let printed = project.run("writes-the-verdict:checks");
    let (stories, said) = (project.stories(), project.said());
    let of = |id: &str| (said[&(id.to_owned(), "verifier".to_owned())].verdict.clone(), stories[id]["state"].as_str().unwrap_or_default());
    assert_eq!(of("honest").0, "pass", "{printed}");
    assert!(is_through(of("honest").1), "{}", stories["honest"]);
    assert_eq!(of("writes-the-verdict"), ("fail".to_owned(), "escalated"), "{printed}");
    assert_eq!(of("reviewer-says-half"), ("error".to_owned(), "blocked"), "{printed}");
    assert_eq!(of("reviewer-writes"), ("error".to_owned(), "blocked"), "its tree is read-only: {printed}");
    assert!(!printed.contains("the tree was writable"));
    // What our own process finds is found, whatever an agent says.
    let artifacts = &said[&("in-a-comment".to_owned(), "artifacts".to_owned())];
    assert_eq!(artifacts.verdict, "fail", "{artifacts:?}");
    let called =
        project.events().into_iter().find(|e| e["kind"] == "agent.called" && e["data"]["call"]["role"] == "verifier").expect("a call");
    assert_eq!(called["data"]["call"]["profile"], "verifier");
    project.is_clean();
    let project = Project::new(Who::Caller, &config, &["writes-the-verdict"], &[]);
    project.run("writes-the-verdict:checks writes-the-verdict:verifier");
    assert!(is_through(project.stories()["writes-the-verdict"]["state"].as_str().unwrap_or_default()), "the control");
}

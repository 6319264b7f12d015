//! The store that learns to forget: a first attempt that two evaluators refuse, a repair that passes, and one that never learns.

use crate::common::Who;
use crate::project::{Project, is_through};

const CONFIG: &str = "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./implement\", \"{story}\"]\n\
    [run]\niterations = 6\nstagnation = 10\nretry_delay = \"1ms\"\n";

fn story(id: &str) -> String {
    format!(
        "---\nid: {id}\ntitle: Keys can expire\nartifacts:\n  - path: kvstore.py\n    contains: [ttl_seconds, _is_expired]\n  - path: tests/test_ttl.py\n    \
         min_tests: 3\nchecks:\n  - python3 -m unittest tests/test_kvstore.py\n  - python3 -m unittest tests/test_ttl.py\n---\n\
         Values set with a time to live disappear when it has passed; keys without one behave as before.\n\n## Acceptance criteria\n\
         - AC-1: `set(key, value, ttl_seconds=n)` stores a value that `get` returns for n seconds\n- AC-2: without `ttl_seconds` nothing changes\n"
    )
}

#[test]
fn a_wrong_attempt_is_told_what_is_wrong_and_repaired() {
    let project = Project::of("kvstore", Who::Caller, CONFIG, &[("US-1", &story("US-1"))]);
    let printed = project.run("");
    assert!(is_through(project.stories()["US-1"]["state"].as_str().unwrap_or_default()), "{}\n{printed}", project.stories()["US-1"]);
    let events = project.events();
    let said = |verdict: &str| {
        let of = events.iter().filter(|e| e["kind"] == "evaluator.finished" && e["data"]["verdict"] == verdict);
        of.filter_map(|e| e["data"]["evaluator"].as_str()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(said("fail"), ["artifacts", "checks"].into(), "{printed}");
    let tasks: Vec<&str> = events.iter().filter(|e| e["kind"] == "attempt.started").filter_map(|e| e["data"]["task"].as_str()).collect();
    assert_eq!(tasks, ["implement", "repair"]);
    project.is_clean();
}

#[test]
fn the_same_wrong_approach_is_judged_three_times_and_then_no_more() {
    let project = Project::of("kvstore", Who::Caller, CONFIG, &[("US-2-STUBBORN", &story("US-2-STUBBORN"))]);
    let printed = project.run("");
    let story = &project.stories()["US-2-STUBBORN"];
    assert!(!is_through(story["state"].as_str().unwrap_or_default()));
    let events = project.events();
    let judged = events.iter().filter(|e| e["kind"] == "evaluator.finished" && e["data"]["evaluator"] == "checks").count();
    assert_eq!(judged, 3, "{printed}");
    let question = story["question"].as_str().unwrap_or_default();
    // It is said when it is judged, or already when it is declared.
    assert!(question.contains("before and is blocked"), "{story}\n{printed}");
    project.is_clean();
}

//! A whole plan, with every kind of agent.

use std::collections::BTreeMap;

use crate::common::{Who, everybody};
use crate::support::Project;

const CONFIG: &str = "[run]\nparallel = 4\nretry_delay = \"10ms\"\nstart_on = \"ready_for_review\"\n[limits.implementer]\nwall = \"3s\"\noutput = \"1MiB\"\n";

/// A diamond (A, B, C, D), every kind of agent, and one story (L) that gets another dependency while the run goes on.
const STORIES: [(&str, &str, &[&str]); 11] = [
    ("A", "good", &[]),
    ("B", "slow", &["A"]),
    ("C", "forks", &["A"]),
    ("D", "good", &["B", "C"]),
    ("E", "silent", &[]),
    ("F", "twice", &[]),
    ("G", "hangs", &[]),
    ("H", "floods", &[]),
    ("I", "lies", &[]),
    ("J", "asks", &[]),
    ("L", "good", &["B"]),
];

#[test]
fn good_work_is_collected_and_verified_by_everybody() {
    for world in everybody() {
        let who = world.who;
        drop(world);
        let project = Project::new(who, "[run]\nretry_delay = \"10ms\"\n", &[("A", "good", &[]), ("B", "forks", &[])]);
        let said = project.run(&[], 0);
        assert!(said.contains("2 ready for review of 2 stories"), "{said}");
        assert_eq!(project.git(&["show", "refs/cofferdam/stories/A/1:A.txt"]), "good");
        assert_eq!(project.git(&["log", "-1", "--format=%s", "refs/cofferdam/stories/A/1"]), "A: write the file");
        assert!(project.git(&["log", "-1", "--format=%B", "refs/cofferdam/stories/A/1"]).contains("Story: A"));
        project.is_clean();
    }
}

fn whole_plan() -> (BTreeMap<String, String>, BTreeMap<String, Vec<String>>) {
    let project = Project::new(Who::Caller, CONFIG, &STORIES);
    let child = project.begin(&[]);
    project.until("B at work", |states| states.get("B").is_some_and(|state| state != "pending"));
    // Somebody writes a twelfth story, and then that L needs it.
    project.write("kinds/N", "good");
    project.story("N", &[]);
    project.story("L", &["B", "N"]);
    let said = project.finish(child, 3);
    let states = project.states();
    assert!(said.contains("J: question: Which colour?"), "{said}");
    project.git(&["add", "-A"]);
    project.git(&["commit", "-q", "-m", "more stories"]);
    project.is_clean();
    (states, project.histories())
}

#[test]
fn every_kind_of_agent_ends_where_it_should_and_twice_the_same() {
    let (states, histories) = whole_plan();
    let expected = [
        ("A", "ready_for_review"),
        ("B", "ready_for_review"),
        ("C", "ready_for_review"),
        ("D", "ready_for_review"),
        ("E", "stagnated"),
        ("F", "ready_for_review"),
        ("G", "stagnated"),
        ("H", "stagnated"),
        ("I", "stagnated"),
        ("J", "blocked"),
        ("L", "ready_for_review"),
        ("N", "ready_for_review"),
    ];
    assert_eq!(states, expected.map(|(id, state)| (id.to_owned(), state.to_owned())).into());
    let said = |id: &str, what: &str| histories[id].iter().filter(|line| line.contains(what)).count();
    assert_eq!((said("F", "attempt.started"), said("F", "verdict=\"fail\"")), (3, 2));
    assert_eq!((said("G", "attempt.ended failed"), said("H", "attempt.ended failed")), (3, 3));
    assert_eq!(said("L", "story.changed"), 1, "the edit was honoured before it began: {:?}", histories["L"]);
    let (again, others) = whole_plan();
    assert_eq!(states, again);
    for (id, history) in &histories {
        assert_eq!(history, &others[id], "{id}");
    }
}

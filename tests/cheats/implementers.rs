//! Implementers that cheat.

use crate::common::{Who, is_root};
use crate::project::{Project, is_through};

/// The cheat, the evaluator that sees it, what it says, and the other evaluators that see it too and are left out in the control.
const CHEATS: &[(&str, &str, &str, &[&str])] = &[
    ("deletes-tests", "integrity", "was removed", &["artifacts", "checks"]),
    ("skips-tests", "integrity", "no longer runs", &["artifacts"]),
    ("empties-tests", "integrity", "was emptied", &["artifacts"]),
    ("weakens-tests", "integrity", "asserts less: 2 before, 1 now", &[]),
    ("exits-early", "integrity", "ends the tests' process early", &[]),
    ("exits-from-code", "integrity", "ends the tests' process early", &[]),
    ("shadows-the-tool", "integrity", "takes the place of a test tool", &[]),
    ("changes-the-configuration", "protected", "a human approves this very commit", &[]),
    ("changes-ci", "protected", "a human approves this very commit", &[]),
    ("changes-its-story", "checks", "exited 1", &["protected"]),
    ("replaces-a-tool", "checks", "exited 1", &[]),
    ("changes-the-profile", "checks", "exited 1", &[]),
    ("prints-our-words", "checks", "exited 1", &[]),
    ("writes-the-verdict", "checks", "exited 1", &[]),
    ("empty-file", "artifacts", "it is empty", &[]),
    ("link", "artifacts", "it is a link", &[]),
    ("folder", "artifacts", "it is a folder", &[]),
    ("in-a-comment", "artifacts", "stands only in a comment", &[]),
    ("leaks", "secrets", "this line holds a GitHub token", &[]),
    ("outside-its-scope", "scope", "and this is outside", &[]),
    ("binary", "size", "cannot be reviewed", &[]),
    ("works-on-after-its-end", "checks", "exited 1", &[]),
    ("another-door", "checks", "exited 1", &[]),
    ("touches-a-sibling", "checks", "exited 1", &[]),
];

const CONFIG: &str = "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./agents/implement\", \"{story}\"]\n\
    [run]\nparallel = 4\niterations = 1\nretry_delay = \"1ms\"\n";

/// What some stories ask for beside the others.
const MORE: &[(&str, &str)] = &[
    ("empty-file", "  - path: p/empty-file/notes.md\n"),
    ("link", "  - path: p/link/notes.md\n"),
    ("folder", "  - path: p/folder/notes.md\n"),
    ("outside-its-scope", "scope: [\"p/outside-its-scope/**\"]\n"),
];

/// They leave no change at all. There is no control: without a change there is nothing that could be ready.
const NOTHING: [&str; 2] = ["says-done", "ignored-only"];

fn project(who: Who) -> Project {
    let stories: Vec<&str> = CHEATS.iter().map(|(id, ..)| *id).chain(NOTHING).chain(["honest"]).collect();
    Project::new(who, CONFIG, &stories, MORE)
}

fn nobody_gets_through(who: Who) {
    let project = project(who);
    let printed = project.run("");
    let (stories, said) = (project.stories(), project.said());
    let mut wrong = Vec::new();
    for (id, evaluator, words, _) in CHEATS {
        let story = &stories[*id];
        let state = story["state"].as_str().unwrap_or_default();
        let Some(last) = said.get(&((*id).to_owned(), (*evaluator).to_owned())) else {
            wrong.push(format!("{id}: {evaluator} was not asked; {state}: {}", story["reason"]));
            continue;
        };
        let expected = if matches!(*evaluator, "protected" | "size") { ("needs_approval", "blocked") } else { ("fail", "escalated") };
        if (last.verdict.as_str(), state) != expected || !last.findings.contains(words) {
            wrong.push(format!("{id}: {state}, {evaluator} says {last:?}"));
        }
        if story["reason"].as_str().is_none_or(str::is_empty) {
            wrong.push(format!("{id} does not say why it stopped"));
        }
    }
    for id in NOTHING {
        let asked = stories[id]["question"].as_str().unwrap_or_default();
        if stories[id]["state"] != "escalated" || !asked.contains("the attempt changed nothing") {
            wrong.push(format!("{id}: {}", stories[id]));
        }
    }
    assert!(wrong.is_empty(), "{}\n{printed}", wrong.join("\n"));
    assert!(is_through(stories["honest"]["state"].as_str().unwrap_or_default()), "{}", stories["honest"]);
    project.is_clean();
}

#[test]
fn no_cheat_gets_through() {
    nobody_gets_through(Who::Caller);
}

#[test]
fn no_cheat_gets_through_for_an_ordinary_user() {
    if is_root() {
        nobody_gets_through(Who::Ordinary);
    }
}

/// Each cheat again, with the guard left out that saw it: it gets through, so it was the guard that kept it.
#[test]
fn without_its_guard_each_cheat_gets_through() {
    let project = project(Who::Caller);
    let guards = |(id, evaluator, _, more): &(&str, &str, &str, &[&str])| {
        std::iter::once(evaluator).chain(more.iter()).map(|guard| format!("{id}:{guard} ")).collect::<String>()
    };
    let printed = project.run(&CHEATS.iter().map(guards).collect::<String>());
    let stories = project.stories();
    let kept: Vec<String> = CHEATS
        .iter()
        .filter(|(id, ..)| !is_through(stories[*id]["state"].as_str().unwrap_or_default()))
        .map(|(id, ..)| format!("{id}: {} {}", stories[*id]["state"], stories[*id]["reason"]))
        .collect();
    assert!(kept.is_empty(), "{}\n{printed}", kept.join("\n"));
    project.is_clean();
}

/// Floods what it answers with, and stays: it is ended at once, and what it left is judged as any other work.
#[test]
fn a_flood_of_answers_ends_an_attempt() {
    let project = Project::new(Who::Caller, CONFIG, &["floods-its-answers"], MORE);
    let begun = std::time::Instant::now();
    let printed = project.run("");
    let ended = project.events().into_iter().find(|event| event["kind"] == "attempt.ended").expect("it ended");
    let cause = ended["data"]["end"]["cause"].as_str().unwrap_or_default();
    assert!(cause.starts_with("out: it left more in out/"), "{ended}\n{printed}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(40), "its sleep was not waited for");
    let summary = ended["data"]["summary"].as_str().unwrap_or_default();
    assert!(summary.contains("is larger than"), "{ended}");
    project.is_clean();
}

/// The same work for the fourth time, whatever it is called, is not even judged.
#[test]
fn the_same_work_under_other_names_is_judged_three_times() {
    let config = CONFIG.replace("iterations = 1", "iterations = 5\nstagnation = 10");
    let project = Project::new(Who::Caller, &config, &["same-again"], MORE);
    let printed = project.run("");
    let (story, events) = (&project.stories()["same-again"], project.events());
    let count = |kind: &str, evaluator: &str| {
        events.iter().filter(|e| e["kind"] == kind && (evaluator.is_empty() || e["data"]["evaluator"] == evaluator)).count()
    };
    assert_eq!((count("evaluator.finished", "checks"), count("attempt.started", "")), (3, 5), "{printed}");
    assert_eq!(story["state"], "escalated");
    assert!(story["question"].as_str().unwrap_or_default().contains("failed 3 times before and is blocked"), "{story}");
    let names: std::collections::BTreeSet<&str> =
        events.iter().filter(|e| e["kind"] == "approach.declared").filter_map(|e| e["data"]["summary"].as_str()).collect();
    assert!(names.len() > 1, "control: it did not call it the same: {names:?}");
    project.is_clean();
    // The control: with a memory that forgives more, it is judged every time.
    let forgiving = config.replace("[run]\n", "[run]\napproach_failures = 10\n");
    let project = Project::new(Who::Caller, &forgiving, &["same-again"], MORE);
    let printed = project.run("");
    let judged = project.events().iter().filter(|e| e["kind"] == "evaluator.finished" && e["data"]["evaluator"] == "checks").count();
    assert_eq!(judged, 5, "{printed}");
}

/// Wrong in ever new ways, until somebody pays no more.
#[test]
fn attempts_without_end_are_not_paid_for() {
    let until = |iterations: &str| {
        let more = format!("iterations = {iterations}\nstagnation = 20\nreview_cycles = 20\napproach_failures = 20");
        let project = Project::new(Who::Caller, &CONFIG.replace("iterations = 1", &more), &["burns-its-budget"], MORE);
        let printed = project.run("");
        let story = project.stories()["burns-its-budget"].clone();
        let attempts = project.events().iter().filter(|event| event["kind"] == "attempt.started").count();
        project.is_clean();
        (story, attempts, printed)
    };
    let (story, attempts, printed) = until("4");
    assert_eq!((story["state"].as_str(), attempts), (Some("escalated"), 4), "{story}\n{printed}");
    assert!(story["reason"].as_str().is_some_and(|why| !why.is_empty()), "{story}");
    // The control: whoever allows more is charged for more, and gets what the sixth left.
    let (story, attempts, printed) = until("8");
    assert_eq!((is_through(story["state"].as_str().unwrap_or_default()), attempts), (true, 6), "{story}\n{printed}");
}

/// Green when something lies in the cache: a gate as it should not be, for a cache that could be poisoned.
const TRUSTING: &str = "[ -f warm/green ] || (cd p/poisons-a-cache && python3 -m unittest tests/test_kv.py)";

/// The tests of the change write into the gate's cache what would make it green. What an unproven run left there is not there the next time.
#[test]
fn a_poisoned_cache_makes_no_gate_green() {
    let config = format!("{CONFIG}[[gate]]\nname = \"test\"\nrun = \"{TRUSTING}\"\ncache = [\"warm\"]\n");
    let project = Project::new(Who::Caller, &config, &["poisons-a-cache"], MORE);
    // Its own check would see it first.
    let printed = project.run("poisons-a-cache:checks ");
    let story = &project.stories()["poisons-a-cache"];
    let commit = story["commit"].as_str().expect("something was collected").to_owned();
    let events = project.events();
    let about = |kind: &str| -> Vec<&serde_json::Value> {
        events.iter().filter(|event| event["kind"] == kind && event["data"]["commit"] == commit.as_str()).collect()
    };
    assert_eq!(story["state"], "escalated", "{story}\n{printed}");
    assert_eq!(about("gate.suspected").len(), 1, "it was tried a second time on the same tree\n{printed}");
    let finished = about("gate.finished");
    assert!(finished.len() == 1 && finished[0]["data"]["result"] == "red", "{finished:?}\n{printed}");
    project.is_clean();
    // The control: in a plain checkout, whose files stay, the second run is green.
    let outside = project.world.path().join("outside");
    project.git(&["worktree", "add", "-q", "--detach", outside.to_str().expect("text"), &commit]);
    let run = || std::process::Command::new("sh").args(["-c", TRUSTING]).current_dir(&outside).output().expect("it runs").status.success();
    assert_eq!((run(), run()), (false, true));
}

//! Many stories at once: tested and landed as one while that pays, and one that is red is found among them.

use std::collections::BTreeMap;

use super::support::{Project, World, gate};

#[test]
fn many_land_in_batches_and_the_one_that_is_red_is_found_and_mended() {
    let names: Vec<String> = (0..30).map(|n| format!("S{n:02}")).collect();
    // Two of them are green alone and red together; whoever sees the other gives up its file.
    let script = |name: &String| match name.as_str() {
        "S25" => "if test -e file-S27; then rm -f file-S25; echo mended > mended; else echo S25 > file-S25; fi".to_owned(),
        "S27" => "if test -e file-S25; then rm -f file-S27; echo mended > mended; else echo S27 > file-S27; fi".to_owned(),
        _ => format!("echo {name} > file-{name}"),
    };
    let scripts: Vec<String> = names.iter().map(script).collect();
    let stories: Vec<_> = names.iter().map(String::as_str).zip(scripts.iter().map(String::as_str)).collect();
    let green = "! { test -e file-S25 && test -e file-S27; }";
    let project = Project::new(World::new(None), &(gate("test", green, "") + "[queue]\nslots = 2\nbatch = 8\n"), &stories);
    let first = project.world.sh("git rev-parse main");
    // All are proven before any lands, so that many wait.
    let proven = project.world.run(&["run", "--plain", "--set", "merge.landing=stop"]);
    assert_eq!(proven.code(), 0, "{}", proven.err());
    project.run(0);
    let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for landed in project.events("story.landed") {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        of.entry(text(&landed["data"]["commit"])).or_default().push(text(&landed["story"]));
    }
    assert_eq!(of.values().map(Vec::len).sum::<usize>(), 30);
    let batch = of.values().filter(|stories| stories.len() > 1).max_by_key(|stories| stories.len()).expect("a batch").clone();
    let refused = project.events("candidate.refused");
    assert_eq!(refused.len(), 1, "{refused:#?}");
    let (story, why) = (refused[0]["story"].as_str().expect("a story"), refused[0]["data"]["why"].as_str().expect("why"));
    assert!(["S25", "S27"].contains(&story) && why.contains("red"), "{story}: {why}");
    let halved =
        project.events("candidate.dropped").iter().any(|dropped| dropped["data"]["why"].as_str().is_some_and(|why| why.contains("halves")));
    assert!(halved, "the red one was found in a batch");
    // Only what was tested is ever on the target's own line, and each of its commits is green.
    let line = project.world.sh(&format!("git rev-list --first-parent {first}..main"));
    assert_eq!(line.lines().count(), of.len());
    for commit in line.lines() {
        assert!(of.contains_key(commit), "{commit} was never tested");
        project.world.sh(&format!("rm -rf ../look; mkdir ../look; git archive {commit} | tar -x -C ../look; cd ../look; {green}"));
    }
    for name in names.iter().filter(|name| !["S25", "S27"].contains(&name.as_str())) {
        assert_eq!(project.world.sh(&format!("git show main:file-{name}")), *name);
    }
    assert_eq!(project.world.run(&["log", "--verify"]).code(), 0);
    assert_eq!(project.world.sh("git for-each-ref refs/cofferdam/candidates; git status --porcelain"), "");
    // One of a batch is taken back without its neighbours.
    let gone = batch.iter().find(|name| !["S25", "S27"].contains(&name.as_str())).expect("one of them");
    assert_eq!(project.world.run(&["revert", gone]).code(), 0);
    let left = project.world.sh("git ls-tree --name-only main");
    assert!(!left.contains(&format!("file-{gone}")), "{left}");
    for neighbour in batch.iter().filter(|name| *name != gone && !["S25", "S27"].contains(&name.as_str())) {
        assert!(left.contains(&format!("file-{neighbour}")), "{neighbour} was taken back with it: {left}");
    }
}

#[test]
fn killed_in_the_middle_of_a_batch_all_of_it_lands_once() {
    let names: Vec<String> = (0..26).map(|n| format!("S{n:02}")).collect();
    let scripts: Vec<String> = names.iter().map(|name| format!("echo {name} > file-{name}")).collect();
    let stories: Vec<_> = names.iter().map(String::as_str).zip(scripts.iter().map(String::as_str)).collect();
    let project = Project::new(World::new(None), &(gate("test", "true", "") + "[queue]\nslots = 1\n"), &stories);
    let proven = project.world.run(&["run", "--plain", "--set", "merge.landing=stop"]);
    assert_eq!(proven.code(), 0, "{}", proven.err());
    // The twenty-first landing is the first of a batch: it dies before the target moves, and the next one before that is recorded.
    for step in ["landing: Checked#21", "landing: Swapped#1"] {
        let crashed = project.world.command(&["run", "--plain"]).env("COFFERDAM_TEST_CRASH_AT", step).output().expect("it runs");
        assert_eq!(crashed.status.code(), None, "{step}: {}", String::from_utf8_lossy(&crashed.stderr));
    }
    project.run(0);
    let landed = project.events("story.landed");
    assert_eq!(landed.len(), 26);
    let mut stories: Vec<&str> = landed.iter().map(|event| event["story"].as_str().expect("a story")).collect();
    stories.sort_unstable();
    stories.dedup();
    assert_eq!(stories.len(), 26);
    assert!(project.world.run(&["log", "--verify"]).code() == 0);
    for name in &names {
        project.world.sh(&format!("git show main:file-{name}"));
    }
}

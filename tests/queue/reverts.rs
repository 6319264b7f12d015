//! A landing that turns out red: the commit that takes it back is prepared, gated, and lands when a human says so; its story goes to repair.

use super::support::{Project, World, gate};

/// B is green until something looks at what has landed; its repair finds its own work in place, and mends it.
fn project(more: &str) -> Project {
    let config = gate("test", "test -e agent.sh", "") + &gate("smoke", "! test -e b || test -e mended", "when = \"post\"") + more;
    let b = "if test -e b; then echo yes > mended; else echo b > b; fi";
    Project::new(World::new(None), &config, &[("A", "echo a > a"), ("B", b)])
}

fn text(project: &Project, args: &[&str]) -> String {
    let ran = project.world.run(args);
    ran.out() + &ran.err()
}

#[test]
fn what_turns_out_red_is_taken_back_when_a_human_approves_and_is_repaired() {
    let project = project("");
    let first = project.world.sh("git rev-parse main");
    let ran = project.run(5);
    assert!(ran.err().contains("cofferdam approve B") || ran.out().contains("cofferdam approve B"), "{}\n{}", ran.out(), ran.err());
    let red = project.world.sh("git rev-parse main");
    assert_eq!(project.world.sh("git show main:b"), "b", "nobody approved it");
    let prepared = project.events("revert.prepared");
    assert_eq!((prepared.len(), &prepared[0]["story"]), (1, &"B".into()), "{prepared:#?}");
    assert!(prepared[0]["data"]["why"].as_str().expect("why").contains("gate smoke"), "{prepared:#?}");
    let candidate = prepared[0]["data"]["candidate"].as_str().expect("a commit").to_owned();
    // It was gated like anything else, by what is asked before a landing and by what found it.
    let green =
        project.events("gate.finished").into_iter().filter(|run| run["data"]["commit"] == candidate && run["data"]["result"] == "pass");
    assert_eq!(green.count(), 2);
    for args in [&["queue"][..], &["status"], &["why", "B"]] {
        assert!(text(&project, args).contains("cofferdam approve B"), "{args:?}: {}", text(&project, args));
    }
    assert_eq!(project.json(&["queue", "--json"])["reverts"][0]["state"], "ready");
    assert_eq!(project.json(&["status", "--json"])["reverts"][0]["candidate"], candidate);
    // Another run changes nothing, and prepares nothing twice.
    project.run(5);
    assert_eq!((project.world.sh("git rev-parse main"), project.events("revert.prepared").len()), (red.clone(), 1));
    // Its ref keeps it.
    project.world.sh(&format!("git rev-parse --verify -q refs/cofferdam/candidates/{candidate}"));
    assert_eq!(project.world.run(&["approve", "B"]).code(), 0);
    project.run(0);
    let line = project.world.sh(&format!("git rev-list --first-parent --reverse {first}..main"));
    assert!(line.contains(&candidate), "what was tested is what landed: {line}");
    assert_eq!(project.world.sh(&format!("git rev-parse {candidate}^")), red);
    assert_eq!(project.world.sh(&format!("git ls-tree --name-only {candidate} b")), "");
    assert_eq!(project.world.sh("git show main:b main:mended"), "b\nyes");
    assert_eq!((project.events("story.reverted").len(), project.events("story.landed").len()), (1, 3));
    let reopened = project.events("story.reopened");
    assert!(reopened[0]["data"]["why"].as_str().expect("why").contains("gate smoke"), "{reopened:#?}");
    assert_eq!(project.states(), [("A", "merged"), ("B", "merged")].map(|(a, b)| (a.to_owned(), b.to_owned())).into());
    assert_eq!(project.json(&["status", "--json"])["target"]["green"], true);
    assert_eq!(project.world.sh("git status --porcelain; git rev-parse HEAD"), first, "the user's checkout is as it was");
    assert!(text(&project, &["queue"]).contains("Nothing waits"), "{}", text(&project, &["queue"]));
}

#[test]
fn it_lands_by_itself_when_that_is_configured() {
    let project = project("[merge]\nrevert = \"auto\"\n");
    project.run(0);
    assert_eq!(project.events("story.reverted").len(), 1);
    assert_eq!(project.world.sh("git show main:b main:mended"), "b\nyes");
    assert_eq!(project.events("human.notified").len(), 0);
}

#[test]
fn a_kill_while_it_is_prepared_tested_or_landed_loses_and_doubles_nothing() {
    for step in ["a revert is prepared", "a revert is tested", "revert: Checked", "revert: Swapped"] {
        let project = project("[merge]\nrevert = \"auto\"\n");
        let crashed = project.world.command(&["run", "--plain"]).env("COFFERDAM_TEST_CRASH_AT", step).output().expect("it runs");
        assert_eq!(crashed.status.code(), None, "{step}: it was not killed: {}", String::from_utf8_lossy(&crashed.stderr));
        project.run(0);
        assert_eq!((project.events("story.reverted").len(), project.events("story.landed").len()), (1, 3), "{step}");
        assert_eq!(
            project.world.sh("git show main:b main:mended; git log --format=%s main | grep -c '^Revert story B'"),
            "b\nyes\n1",
            "{step}"
        );
    }
}

#[test]
fn nothing_is_taken_back_for_what_was_red_before() {
    let config = gate("test", "true", "") + &gate("smoke", "false", "when = \"post\"");
    let project = Project::new(World::new(None), &config, &[("A", "echo a > a")]);
    let ran = project.run(5);
    assert!(ran.err().contains("the target is red") && !ran.err().contains("approve"), "{}", ran.err());
    assert_eq!(project.events("revert.prepared").len(), 0);
    let told = project.events("human.notified");
    assert!(told[0]["data"]["detail"].as_str().expect("detail").contains("it was red before A landed"), "{told:#?}");
    assert_eq!(project.states()["A"], "merged");
}

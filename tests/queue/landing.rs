//! From proven stories to the target: the real program, real sandboxes, scripted agents, git's own program as the judge.

use std::process::Stdio;

use super::support::{Project, World, everybody, gate};

#[test]
fn what_is_proven_lands_and_the_checkout_is_left_alone() {
    for world in everybody() {
        let project = Project::new(world, &gate("test", "test -e agent.sh", ""), &[("A", "echo a > a"), ("B", "echo b > b")]);
        let first = project.world.sh("git rev-parse main");
        let ran = project.run(0);
        assert_eq!(project.states(), [("A", "merged"), ("B", "merged")].map(|(a, b)| (a.to_owned(), b.to_owned())).into(), "{}", ran.err());
        project.is_sound(&first, 2, "true");
        let message = project.world.sh("git log -1 --format=%B main");
        assert!(
            message.starts_with("Merge story ") && message.contains("\nGates: test\n") && message.contains("\nEvidence: sha256:"),
            "{message}"
        );
        assert_eq!(project.world.sh("git log -1 --format='%(trailers:key=Story,valueonly)' main").trim().len(), 1);
        let status = project.json(&["status", "--json"]);
        assert_eq!(
            (&status["target"]["green"], &status["target"]["commit"]),
            (&true.into(), &project.world.sh("git rev-parse main").into())
        );
        // The checkout stands where it stood, says so, and git brings it along.
        assert_eq!(project.world.sh("git status --porcelain; git rev-parse HEAD"), first);
        let said = project.world.sh("git status");
        assert!(said.contains("behind 'main' by 4 commits") || said.contains("behind 'main' by"), "{said}");
        project.world.sh("git merge -q --ff-only @{upstream}; test -e a; test -e b");
        let (queue, land) = (project.json(&["queue", "--json"]), project.json(&["land", "--json"]));
        assert_eq!((&queue["queue"], &land["checkouts"][0]["at_target"]), (&serde_json::json!([]), &true.into()));
        assert_eq!(project.world.sh("git branch --show-current; git status --porcelain"), "main");
        // Candidates' refs go when the target contains them; the stories' stay.
        assert_eq!(project.world.sh("git for-each-ref refs/cofferdam/candidates"), "");
        assert_ne!(project.world.sh("git for-each-ref refs/cofferdam/stories"), "");
        // What landed is called so.
        let shown = project.json(&["show", "A", "--json"]);
        assert_eq!(shown["attempts"][0]["conclusion"], "landed", "{shown:#}");
        let text = project.world.run(&["show", "A"]).out();
        assert!(text.contains(", landed\n") && !text.contains(", open"), "{text}");
        // Run again: nothing is left to do, and nothing lands twice.
        project.run(0);
        assert_eq!(project.events("story.landed").len(), 2);
    }
}

#[test]
fn red_only_together_is_told_whose_neighbour_it_is_repaired_and_lands() {
    let clash = "! { test -e a && test -e b; }";
    // B gives up its file when it sees its neighbour's.
    let b = "if test -e a; then rm -f b; echo mended > c; else sleep 0.3; echo b > b; fi";
    let project = Project::new(World::new(None), &gate("test", clash, ""), &[("A", "echo a > a"), ("B", b)]);
    let first = project.world.sh("git rev-parse main");
    project.run(0);
    let refused = project.events("candidate.refused");
    assert_eq!(refused.len(), 1, "{refused:#?}");
    assert_eq!(refused[0]["story"], "B");
    let why = refused[0]["data"]["why"].as_str().expect("why");
    assert!(why.contains("red") && why.contains("`A`"), "{why}");
    assert!(refused[0]["data"]["findings"][0]["text"].as_str().expect("a finding").contains("gate test is red"));
    project.is_sound(&first, 2, clash);
    assert_eq!(project.world.sh("git show main:c"), "mended");
    // Where the repair began is nobody's business any more.
    assert_eq!(project.world.sh("git for-each-ref refs/cofferdam/repairs"), "");
}

#[test]
fn a_conflict_is_mended_by_its_story_with_both_sides_before_it() {
    let edit = |id: &str| {
        format!("if grep -q '<<<<<<< target' file; then grep -q one file && printf 'A and B\\n' > file; else echo {id} > file; fi")
    };
    let project = Project::new(World::new(None), &gate("test", "! grep -q '<<<' file", ""), &[("A", &edit("A")), ("B", &edit("B"))]);
    project.run(0);
    let refused = project.events("candidate.refused");
    assert_eq!(refused.len(), 1, "{refused:#?}");
    let finding = &refused[0]["data"]["findings"][0];
    assert_eq!(finding["path"], "file");
    let text = finding["text"].as_str().expect("text");
    assert!(text.contains("<<<<<<< target") && text.contains("||||||| before\none\n") && text.contains(">>>>>>> story"), "{text}");
    assert_eq!(project.world.sh("git show main:file"), "A and B");
    assert_eq!(project.events("story.landed").len(), 2);
}

#[test]
fn marks_of_a_conflict_are_no_resolution() {
    // B never mends anything: it must not land, gate or no gate.
    let b = "if grep -q '<<<<<<< target' file; then echo more >> file; else echo B > file; sleep 0.3; fi";
    let project = Project::new(World::new(None), &gate("test", "true", ""), &[("A", "echo A > file"), ("B", b)]);
    let ran = project.world.run(&["run", "--plain"]);
    assert_eq!(ran.code(), 3, "{}", ran.err());
    assert_eq!(project.world.sh("git show main:file"), "A");
    assert_eq!(project.states()["B"], "stagnated");
}

#[test]
fn a_red_base_is_refused_before_anything_is_spent() {
    let project = Project::new(World::new(None), &gate("test", "echo it is broken; test -e nothing", ""), &[("A", "echo a > a")]);
    let ran = project.run(5);
    assert!(ran.err().contains("the target is red") && ran.err().contains("cofferdam gate"), "{}", ran.err());
    assert_eq!(project.events("attempt.started").len(), 0);
    assert_eq!(project.json(&["status", "--json"])["target"]["green"], false);
    // Mended by a human, it goes on.
    project.world.sh("touch nothing; git add nothing; git commit -q -m mend");
    project.run(0);
    assert_eq!(project.states()["A"], "merged");
}

#[test]
fn a_red_target_is_mended_by_the_story_that_is_named_for_it_and_by_nothing_else() {
    let green = "! test -e broken";
    let project = Project::new(World::new(None), &gate("test", green, ""), &[("A", "echo a > a"), ("FIX", "rm broken")]);
    project.world.sh("touch broken; git add broken; git commit -q -m broken");
    let first = project.world.sh("git rev-parse main");
    project.run(5);
    let unnamed = project.world.run(&["run", "--plain", "--repair-red"]);
    assert_eq!(unnamed.code(), 2, "{}", unnamed.err());
    // One that mends nothing is red on its own, and does not land.
    let useless = project.world.run(&["run", "--plain", "--repair-red", "A"]);
    assert_ne!(useless.code(), 0, "{}", useless.err());
    assert_eq!(project.world.sh("git rev-parse main"), first);
    assert_eq!(project.events("attempt.started").iter().filter(|event| event["story"] == "FIX").count(), 0);
    let mended = project.world.run(&["run", "--plain", "--repair-red", "FIX"]);
    assert_eq!(mended.code(), 0, "{}\n{}", mended.out(), mended.err());
    project.world.sh("! git cat-file -e main:broken 2> /dev/null");
    assert_eq!(project.json(&["status", "--json"])["target"]["green"], true);
    assert_eq!(project.states()["FIX"], "merged");
}

#[test]
fn wired_stories_land_together_or_not_at_all() {
    let wired = "! { test -e a && test -e b; } || test -e joint";
    let config = gate("test", "true", "") + &gate("whole", wired, "when = \"integration\"");
    // B is slow, and joins the two once it sees A beside it.
    let b = "if test -e a; then echo yes > joint; else sleep 1; echo b > b; fi";
    let project = Project::new(World::new(None), &config, &[("A", "echo a > a"), ("B", b), ("C", "echo c > c")]);
    let story = "---\nid: A\ntitle: Story A\nwired_with: [B]\n---\n- [ ] AC-1: done\n";
    fs_err::write(project.world.repo().join("stories/A.md"), story).expect("a story");
    project.world.sh("git add -A; git commit -q -m wired");
    let first = project.world.sh("git rev-parse main");
    project.run(0);
    let refused = project.events("candidate.refused");
    assert_eq!((refused.len(), &refused[0]["story"]), (1, &"B".into()), "{refused:#?}");
    let why = refused[0]["data"]["why"].as_str().expect("why");
    assert!(why.contains("`A`"), "it is told with whom: {why}");
    let seq = |event: &serde_json::Value| event["seq"].as_u64().expect("a number");
    let landed = project.events("story.landed");
    let of = |id: &str| landed.iter().find(|event| event["story"] == id).map(seq).expect("it landed");
    // Neither is there before the integration gate was green on both; C, which has nothing to do with them, did not wait.
    let whole = project.events("gate.finished").into_iter().filter(|run| run["data"]["gate"] == "whole" && run["data"]["result"] == "pass");
    let proven = whole.map(|run| seq(&run)).min().expect("the integration gate ran");
    assert!(proven < of("A") && proven < of("B") && of("C") < of("A"), "{landed:#?}");
    project.is_sound(&first, 3, "true");
    assert_eq!(project.world.sh("git show main:joint"), "yes");
    assert_eq!(project.events("story.reopened").len(), 0);
}

#[test]
fn the_target_may_be_moved_by_others_at_any_time() {
    let project =
        Project::new(World::new(None), &gate("test", "sleep 0.4", ""), &[("A", "echo a > a"), ("B", "echo b > b"), ("C", "echo c > c")]);
    project.world.sh("git checkout -q -b mine");
    let mut child = project.world.command(&["run", "--plain"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("spawned");
    let mut pushed = 0;
    while child.try_wait().expect("waited").is_none() {
        if pushed < 5 {
            // A push by somebody else: a commit on whatever the target is, or none when it moved meanwhile.
            let script = format!(
                "t=$(git rev-parse main); tree=$({{ git ls-tree $t; printf '100644 blob %s\\text{pushed}\\n' $(echo {pushed} | git hash-object -w --stdin); }} | git mktree); \
                 c=$(git commit-tree $tree -p $t -m push); git update-ref refs/heads/main $c $t 2>/dev/null && echo yes || true"
            );
            pushed += usize::from(project.world.sh(&script) == "yes");
        }
        std::thread::sleep(std::time::Duration::from_millis(250));
    }
    assert!(child.wait().expect("waited").success());
    for file in ["a", "b", "c"] {
        project.world.sh(&format!("git show main:{file}"));
    }
    for number in 0..pushed {
        assert_eq!(project.world.sh(&format!("git show main:ext{number}")), number.to_string(), "what somebody pushed is lost");
    }
    assert_eq!(project.events("story.landed").len(), 3);
}

#[test]
fn killed_at_every_step_of_a_landing_nothing_is_lost_or_doubled() {
    for step in ["landing: Checked", "landing: CheckoutAside", "landing: Swapped", "a candidate is built", "a candidate is tested"] {
        let green = "test -e agent.sh";
        let project = Project::new(World::new(None), &gate("test", green, ""), &[("A", "echo a > a"), ("B", "echo b > b")]);
        let first = project.world.sh("git rev-parse main");
        let crashed = project.world.command(&["run", "--plain"]).env("COFFERDAM_TEST_CRASH_AT", step).output().expect("it runs");
        assert_eq!(crashed.status.code(), None, "{step}: it was not killed: {}", String::from_utf8_lossy(&crashed.stderr));
        let tip = project.world.sh("git rev-parse main");
        let landed = tip != first;
        assert_eq!(landed, step == "landing: Swapped", "{step}");
        assert_eq!(project.world.sh("git status --porcelain"), "", "{step}");
        project.run(0);
        project.is_sound(&first, 2, green);
        assert_eq!(project.events("story.landed").len(), 2, "{step}");
    }
}

#[test]
fn a_dirty_checkout_of_the_target_is_the_same_after_twenty_landings() {
    let names: Vec<String> = (0..20).map(|n| format!("S{n:02}")).collect();
    let scripts: Vec<String> = names.iter().map(|name| format!("echo {name} > file-{name}")).collect();
    let stories: Vec<_> = names.iter().map(String::as_str).zip(scripts.iter().map(String::as_str)).collect();
    let project = Project::new(World::new(None), &gate("test", "true", ""), &stories);
    // Staged, unstaged, untracked, ignored, removed: and one file that a story adds as well.
    project
        .world
        .sh("echo mine >> file; git add file; echo more >> file; echo u > untracked; echo t > x.tmp; rm agent.sh; echo clash > file-S03");
    let looks = "find . -path ./.git -prune -o -type f -print0 | sort -z | xargs -0 sha256sum; sha256sum .git/index; git --no-optional-locks status --porcelain; git stash list";
    let before = project.world.sh(looks);
    // Agents come from the target's commit, not from these files.
    project.run(0);
    assert_eq!(project.events("story.landed").len(), 20);
    assert_eq!(project.world.sh(looks), before);
    assert!(project.world.sh("git status").contains("behind 'main' by"));
}

#[test]
fn a_clean_checkout_follows_when_it_is_asked_to() {
    let config = gate("test", "true", "") + "[merge]\nupdate_checkout = \"fast-forward-if-clean\"\n";
    let project = Project::new(World::new(None), &config, &[("A", "echo a > a"), ("B", "echo b > b")]);
    let ran = project.run(0);
    assert!(!(ran.out() + &ran.err()).contains("stays as it is"), "it followed: {}", ran.err());
    assert_eq!(project.world.sh("git branch --show-current; cat a b; git status --porcelain"), "main\na\nb");
}

#[test]
fn squash_and_rebase_land_in_one_line() {
    for style in ["squash", "rebase"] {
        let config = gate("test", "true", "") + &format!("[merge]\nstyle = \"{style}\"\n");
        let project = Project::new(World::new(None), &config, &[("A", "echo a > a"), ("B", "echo b > b")]);
        let first = project.world.sh("git rev-parse main");
        project.run(0);
        assert_eq!(
            project.world.sh(&format!("git rev-list --count {first}..main; git rev-list --min-parents=2 --count main")),
            "2\n0",
            "{style}"
        );
        project.world.sh("git show main:a; git show main:b");
        assert_eq!(project.world.sh("git log -2 --format='%(trailers:key=Story,valueonly)' main | sort | tr -d '\\n'"), "AB", "{style}");
    }
}

#[test]
fn what_breaks_the_integration_is_found_among_the_landings_and_mended_on_top() {
    let integration = "test $(ls part-* 2>/dev/null | wc -l) -lt 3 || test -e wired";
    let config = gate("test", "true", "") + &gate("whole", integration, "when = \"integration\"") + "[merge]\nstyle = \"merge\"\n";
    let part = |n: u32| format!("sleep 0.{n}; if test -e part-{n}; then echo yes > wired; else echo {n} > part-{n}; fi");
    let project = Project::new(World::new(None), &config, &[("A", &part(1)), ("B", &part(2)), ("C", &part(3))]);
    project.run(0);
    let checks = project.events("integration.checked");
    assert!(checks.iter().any(|check| check["data"]["green"] == false), "{checks:#?}");
    assert_eq!(checks.last().expect("a check")["data"]["green"], true, "{checks:#?}");
    assert_eq!(project.events("story.reopened").len(), 1);
    assert_eq!(project.world.sh("git show main:wired"), "yes");
}

/// What landed while the integration gates ran was not part of what they saw: it is looked at before the plan is done.
#[test]
fn what_lands_during_an_integration_check_is_checked_as_well() {
    let integration = "if test -e late; then test -e wired; else sleep 5; fi";
    let config = gate("test", "true", "") + &gate("whole", integration, "when = \"integration\"");
    let late = "if test -e late; then echo yes > wired; else sleep 2; echo late > late; fi";
    let project = Project::new(World::new(None), &config, &[("A", "echo a > a"), ("B", "echo b > b"), ("C", late)]);
    project.run(0);
    let at = |kind, nth: usize| project.events(kind)[nth]["seq"].as_u64();
    assert!(at("story.landed", 2) < at("integration.checked", 0), "the third landing came too late to tell");
    assert_eq!(project.world.sh("git show main:wired"), "yes");
}

/// A remote beside the repository.
fn with_remote(stories: &[(&str, &str)]) -> Project {
    let config = gate("test", "test -e agent.sh", "") + "[merge]\npush = \"origin\"\n";
    let project = Project::new(World::new(None), &config, stories);
    project.world.sh("git clone -q --bare . ../remote.git; git remote add origin ../remote.git; git fetch -q origin");
    // Hooks may lie in files of the project: none of them runs.
    project.world.sh("mkdir hooks; printf '#!/bin/sh\\ntouch /var/tmp/cofferdam-hook-ran\\n' > hooks/pre-push; chmod +x hooks/pre-push; git config core.hooksPath hooks; rm -f /var/tmp/cofferdam-hook-ran; git add hooks; git commit -q -m hooks; git -c core.hooksPath=/dev/null push -q origin main");
    project
}

#[test]
fn landings_are_pushed_and_a_remote_that_moved_is_followed() {
    let project = with_remote(&[("A", "echo a > a"), ("B", "sleep 1; echo b > b")]);
    // Somebody else pushes before, and this clone has not heard of it.
    project.world.sh("git clone -q ../remote.git ../other; cd ../other; echo theirs > theirs; git add theirs; git commit -q -m theirs; git push -q origin main");
    project.run(0);
    assert_eq!(project.world.sh("git -C ../remote.git rev-parse main"), project.world.sh("git rev-parse main"));
    for file in ["a", "b", "theirs"] {
        project.world.sh(&format!("git -C ../remote.git show main:{file}"));
    }
    assert_eq!(project.world.sh("git status --porcelain"), "");
    assert!(!std::path::Path::new("/var/tmp/cofferdam-hook-ran").exists(), "a hook of the project ran on the host");
}

#[test]
fn a_remote_that_refuses_loses_nothing() {
    let project = with_remote(&[("A", "echo a > a")]);
    project.world.sh("printf '#!/bin/sh\\necho the branch is protected >&2\\nexit 1\\n' > ../remote.git/hooks/pre-receive; chmod +x ../remote.git/hooks/pre-receive");
    let first = project.world.sh("git rev-parse main");
    let ran = project.world.run(&["run", "--plain"]);
    assert_eq!(ran.code(), 3, "{}", ran.err());
    assert_eq!(project.world.sh("git rev-parse main; git -C ../remote.git rev-parse main"), format!("{first}\n{first}"));
    let why = project.world.run(&["why", "A"]);
    assert!((why.out() + &why.err()).contains("the branch is protected"), "{why:?}");
    project.world.sh("rm ../remote.git/hooks/pre-receive");
    assert_eq!(project.world.run(&["retry", "A"]).code(), 0);
    project.run(0);
    project.world.sh("git -C ../remote.git show main:a");
    assert_eq!(project.events("story.landed").len(), 1);
}

#[test]
fn a_push_that_was_not_finished_here_is_finished() {
    let project = with_remote(&[("A", "echo a > a")]);
    let first = project.world.sh("git rev-parse main");
    let crashed = project.world.command(&["run", "--plain"]).env("COFFERDAM_TEST_CRASH_AT", "landing: Pushed").output().expect("it runs");
    assert_eq!(crashed.status.code(), None);
    let pushed = project.world.sh("git -C ../remote.git rev-parse main");
    assert_ne!(pushed, first);
    assert_eq!(project.world.sh("git rev-parse main"), first);
    project.run(0);
    assert_eq!(project.world.sh("git rev-parse main"), pushed, "it landed twice");
    assert_eq!(project.events("story.landed").len(), 1);
}

#[test]
fn what_landed_is_taken_back_when_the_gates_are_green_without_it() {
    let config = gate("test", "test -e agent.sh && { ! test -e c || test -e a; }", "");
    let project = Project::new(World::new(None), &config, &[("A", "echo a > a"), ("B", "echo b > b"), ("C", "echo c > c")]);
    project
        .world
        .sh("printf -- '---\\nid: C\\ntitle: Story C\\nafter: [A]\\n---\\n- [ ] AC-1: done\\n' > stories/C.md; git commit -q -a -m after");
    let first = project.world.sh("git rev-parse main");
    project.run(0);
    assert_eq!(project.events("story.landed").len(), 3);
    assert_eq!(project.world.run(&["revert", "B", "it", "is", "not", "wanted"]).code(), 0);
    assert_eq!(project.states()["B"], "reverted");
    assert!(project.world.sh("git log -1 --format=%B main").starts_with("Revert story B: Story B\n\nit is not wanted\n\nReverts: "));
    assert_eq!(project.world.sh("git ls-tree --name-only main a b c"), "a\nc");
    assert_eq!(project.world.sh(&format!("git rev-list --first-parent --count {first}..main")), "4");
    // C needs what A brought: without A its gate is red, and nothing changes.
    let tip = project.world.sh("git rev-parse main");
    let red = project.world.run(&["revert", "A"]);
    assert_eq!(red.code(), 5, "{red:?}");
    assert_eq!(project.world.sh("git rev-parse main"), tip);
    assert_eq!(project.world.run(&["revert", "B"]).code(), 1);
    assert_eq!(project.world.sh("git status --porcelain"), "");
}

#[test]
fn what_a_forced_push_removed_does_not_come_back_unasked() {
    let gate = gate("test", "sleep 2; test -e agent.sh", "");
    let project = Project::new(World::new(None), &gate, &[("A", "echo a > a"), ("B", "echo b > b")]);
    project.world.sh("echo secret > secret; git add secret; git commit -q -m secret; git checkout -q -b mine");
    let forced = project.world.sh("git commit-tree $(git rev-parse main~1^{tree}) -p main~1 -m other");
    let mut child = project.world.command(&["run", "--plain"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("spawned");
    // One has landed, and the candidate of the other is being tested: somebody takes a commit out of the target that both stand on.
    let since = std::time::Instant::now();
    while project.events("story.landed").is_empty() {
        assert!(since.elapsed() < std::time::Duration::from_secs(120), "nothing landed");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    project.world.sh(&format!("git update-ref refs/heads/main {forced}"));
    assert_eq!(child.wait().expect("waited").code(), Some(3));
    assert_eq!(project.world.sh("git rev-parse main"), forced, "nothing landed");
    let landed = project.events("story.landed")[0]["story"].as_str().expect("a story").to_owned();
    let other = if landed == "A" { "B" } else { "A" };
    let why = project.world.run(&["why", other]);
    assert!(why.out().contains("was rewritten") && why.out().contains(&format!("cofferdam reset {other}")), "{why:?}");
    let told = project.events("human.notified");
    assert!(told.iter().any(|told| told["data"]["detail"].as_str().is_some_and(|detail| detail.contains(&landed))), "{told:#?}");
    // Started afresh, it lands without what was removed.
    assert_eq!(project.world.run(&["reset", other]).code(), 0);
    project.run(0);
    let file = other.to_lowercase();
    assert_eq!(
        project.world.sh(&format!("git show main:{file}; git rev-parse main^; git ls-tree --name-only main secret")),
        format!("{file}\n{forced}")
    );
}

#[test]
fn two_cofferdams_on_one_remote_lose_and_double_nothing() {
    let project = with_remote(&[("A", "echo a > a"), ("B", "echo b > b"), ("C", "echo c > c"), ("D", "echo d > d")]);
    // Another clone of the remote, with a home of its own: nothing is shared but the remote.
    project.world.sh("git clone -q ../remote.git ../second; mkdir ../home2");
    let run = |folder: &str, home: &str, stories: [&str; 2]| {
        let mut command = project.world.command(&["run", "--plain", stories[0], stories[1]]);
        command.current_dir(project.world.path(folder)).env("HOME", project.world.path(home));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawned")
    };
    let both = [run("repo", "home", ["A", "B"]), run("second", "home2", ["C", "D"])];
    for child in both {
        let output = child.wait_with_output().expect("waited");
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    }
    for file in ["a", "b", "c", "d"] {
        project.world.sh(&format!("git -C ../remote.git show main:{file}"));
    }
    // One line, in which each story is once.
    let line = "git -C ../remote.git log --first-parent --format='%(trailers:key=Story,valueonly)' main | grep . | sort | tr -d '\\n'";
    assert_eq!(project.world.sh(line), "ABCD");
}

#[test]
fn a_target_that_does_not_exist_is_said_before_anything_begins() {
    let project = Project::new(World::new(None), &gate("test", "true", ""), &[("A", "echo a > a")]);
    project.world.sh("printf '\\n[project]\\ntarget = \"relese\"\\n' >> cofferdam.toml; git branch release; git commit -q -a -m target");
    for args in [&["run", "--plain"][..], &["gate"]] {
        let ran = project.world.run(args);
        assert_eq!(ran.code(), 2, "{args:?}: {ran:?}");
        assert!(ran.err().contains("relese") && ran.err().contains("next:"), "{args:?}: {}", ran.err());
    }
    assert_eq!(project.world.sh("git for-each-ref refs/cofferdam"), "");
}

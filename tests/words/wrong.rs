//! Wrong inputs: each is told what is wrong, why, and what to do next, with the code that scripts rely on. Nothing panics.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::*;

/// Folders that somebody could stand in.
fn places() -> World {
    let world = World::new(Who::Caller);
    let configuration =
        "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./missing\"]\n[[gate]]\nname = \"test\"\nrun = \"true\"\n";
    let story = "---\nid: US-1\ntitle: One\n---\nDo it.\n\n## Acceptance criteria\n- AC-1: it is done\n";
    world.write("home/project/none/a", "");
    for (place, configuration) in [("base", configuration), ("typo", "[run]\nparallell = 2\n"), ("bare-of-all", ""), ("no-objects", "")] {
        world.write(&format!("home/project/{place}/cofferdam.toml"), configuration);
        world.write(&format!("home/project/{place}/stories/US-1.md"), story);
        let script = "git init -q -b main && git add -A && git -c user.name=n -c user.email=e@x commit -q -m base";
        shell(&world, place, script);
    }
    shell(&world, "no-objects", "find .git/objects -type f -delete");
    shell(&world, "bare-of-all", "rm -rf .git cofferdam.toml stories && git init -q -b main");
    world
}

fn shell(world: &World, place: &str, script: &str) {
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(world.workspace().join(place)).env("HOME", world.home());
    assert!(command.status().expect("a shell").success(), "{script}");
}

/// One call in one place: its code and all that it said.
fn at(world: &World, place: &str, arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = world.command();
    command.current_dir(world.workspace().join(place)).args(arguments).envs(variables.iter().copied());
    let output = command.output().expect("it starts");
    (output.status.code(), format!("{}{}", out(&output), err(&output)))
}

#[test]
fn what_is_wrong_is_said_with_what_to_do_next() {
    let world = places();
    let long = "a".repeat(5000);
    let cases: &[(&str, &[&str], i32, &[&str])] = &[
        ("none", &["status"], 2, &["there is no git repository at", "next: go into one, or make one: git init"]),
        ("none", &["run"], 2, &["there is no git repository at", "next: go into one"]),
        ("none", &["land"], 2, &["there is no git repository at", "next: go into one"]),
        ("none", &["workspace", "list"], 2, &["there is no git repository at", "next: go into one"]),
        ("none", &["show", "US-1"], 2, &["there is no git repository at", "next: go into one"]),
        ("none", &["plan"], 2, &["there are no stories in", "next: write the first one with `cofferdam add TITLE`"]),
        ("none", &["init"], 2, &["is in no git repository", "next: git init"]),
        ("bare-of-all", &["run"], 2, &["no commit", "next: make the first commit"]),
        ("bare-of-all", &["land"], 2, &["there is no target yet", "next: make the first commit"]),
        ("bare-of-all", &["workspace", "new", "US-1"], 2, &["has no commit yet"]),
        ("typo", &["run"], 2, &["`parallell` is no key of [run]", "cofferdam.toml:2:1", "did you mean `parallel`?"]),
        ("typo", &["gate"], 2, &["did you mean `parallel`?"]),
        ("no-objects", &["run"], 2, &["the branch main cannot be read", "next: see what `git status` and `git fsck` say"]),
        ("base", &["show", "US-9"], 2, &["there is no story `US-9`", "next: cofferdam run"]),
        ("base", &["show", &long], 2, &["there is no story `aaa", "…"]),
        ("base", &["run", "US-9"], 2, &["there is no story `US-9` in the plan", "next:"]),
        ("base", &["gate", "nope"], 2, &["defines no gate `nope`", "next: name one of `test`"]),
        ("base", &["evidence", "show", "abcdef"], 2, &["there is no evidence", "next: cofferdam run"]),
        ("base", &["workspace", "exec", "US-9", "--", "true"], 125, &["there is no workspace for story `US-9`", "next:"]),
        ("base", &["diff", "US-9"], 2, &["there is no workspace for story `US-9`", "next:"]),
        ("base", &["statsu"], 2, &["unrecognized subcommand 'statsu'", "'status'"]),
        ("base", &["log", "--since", "yesterday"], 2, &["write the number of an event, as the first column"]),
        ("base", &["log", "-n", "few"], 2, &["write how many events, such as 20"]),
        ("base", &["log", "-n", "-1"], 2, &["write how many events, such as 20"]),
        ("base", &["log", "--since", "-1"], 2, &["write the number of an event, as the first column"]),
        ("base", &["watch"], 2, &["there is no terminal to draw on", "next: cofferdam status"]),
        ("base", &["demo", "--keep", "stories"], 2, &["is not an empty folder", "next: name a folder that is empty"]),
        ("base", &["completions", "tcsh"], 2, &["possible values: bash"]),
        ("base", &["exec"], 125, &["Usage: cofferdam exec -- <COMMAND>..."]),
        ("base", &["exec", "--", "nope"], 127, &["nope could not be started", "next: is it installed"]),
        ("base", &["exec", "--profile", "nope", "--", "true"], 125, &["there is no profile `nope`", "next: `cofferdam profile list`"]),
        ("base", &["exec", "--memory", "lots", "--", "true"], 125, &["`lots` is not a size", "such as 64MiB"]),
        ("base", &["exec", "--wall", "0s", "--", "true"], 125, &["it is zero", "such as 30s"]),
        ("base", &["exec", "--read", "/nope", "--", "true"], 125, &["--read /nope does not exist", "next:"]),
    ];
    for (place, arguments, code, said) in cases {
        let (ended, words) = at(&world, place, arguments, &[]);
        let shown = arguments.iter().map(|a| &a[..a.len().min(40)]).collect::<Vec<_>>().join(" ");
        assert_eq!(ended, Some(*code), "{place}: {shown}: {words}");
        said.iter().for_each(|part| assert!(words.contains(part), "{place}: {shown}: `{part}` is not in: {words}"));
        assert!(words.lines().count() <= 24 && words.len() < 2000, "{place}: {shown}: {words}");
        assert!(!words.contains("panicked"), "{words}");
    }
}

#[test]
fn an_agent_that_is_not_there_is_named() {
    let world = places();
    let (code, said) = at(&world, "base", &["run"], &[]);
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("the agent could not be started: `./missing`: No such file or directory"), "{said}");
    let (_, why) = at(&world, "base", &["why", "US-1"], &[]);
    assert!(why.contains("./missing") && why.contains("next"), "{why}");
}

#[test]
fn an_event_that_is_never_told_is_warned_of() {
    let world = places();
    let (code, said) = at(&world, "base", &["lint", "--set", "notify.on=[\"story\", \"story.blokced\"]"], &[]);
    assert!(code == Some(0) && said.contains("did you mean `story.blocked`?") && said.contains("1 warning"), "{said}");
}

#[test]
fn a_run_warns_once() {
    let world = places();
    shell(&world, "base", "echo '# not committed' >>cofferdam.toml");
    let (_, said) = at(&world, "base", &["run"], &[]);
    assert_eq!(said.matches("is not the one on main, and only that one holds").count(), 1, "{said}");
}

#[test]
fn when_all_has_landed_or_was_cancelled_nothing_is_said_to_be_held_up() {
    let world = places();
    at(&world, "base", &["run"], &[]);
    let (code, said) = at(&world, "base", &["cancel", "US-1"], &[]);
    assert_eq!(code, Some(0), "{said}");
    let (_, said) = at(&world, "base", &["next"], &[]);
    assert_eq!(said, "Nothing is left to start: every story of the plan has landed, or was cancelled.\n");
}

#[test]
fn odd_surroundings_are_told_from_odd_inputs() {
    let world = places();
    for home in ["", "relative"] {
        let (code, said) = at(&world, "base", &["status"], &[("HOME", home)]);
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("neither XDG_STATE_HOME nor HOME is an absolute path") && said.contains("next: set XDG_STATE_HOME"),
            "{said}"
        );
    }
    // Nobody can write below a file, not even root.
    let blocked = world.write("home/blocked", "").display().to_string();
    for (arguments, expected) in [(&["run"][..], 1), (&["gate"], 1), (&["workspace", "new", "US-1"], 1), (&["exec", "--", "true"], 125)] {
        let (code, said) = at(&world, "base", arguments, &[("XDG_STATE_HOME", &blocked)]);
        assert_eq!(code, Some(expected), "{arguments:?}: {said}");
        assert!(said.contains("Not a directory") && said.contains("next: "), "{arguments:?}: {said}");
        assert!(!said.contains("watch it with"), "{arguments:?}: {said}");
    }
    let mut command = world.command();
    command.current_dir(world.workspace().join("base")).arg("show").arg(OsStr::from_bytes(b"\xff\xfe"));
    let output = command.output().expect("it starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("invalid UTF-8"), "{}", err(&output));
    // To a command they are bytes like any other.
    let mut command = world.command();
    command.args(["exec", "--", "printf", "%s"]).arg(OsStr::from_bytes(b"\xff\xfe"));
    assert_eq!(command.output().expect("it starts").stdout, b"\xff\xfe");
}

#[test]
fn what_could_not_be_written_is_not_a_success() {
    let world = places();
    let program = world.program().display().to_string();
    let run = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh", &program]).current_dir(world.workspace().join("base"));
        command.env("HOME", world.home()).output().expect("a shell")
    };
    let output = run("\"$1\" config show >/dev/full");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("standard output could not be written\n  because: No space left on device"), "{}", err(&output));
    // What goes on until nobody reads ends there too, and not as if all had been said.
    assert_eq!(run("\"$1\" gate").status.code(), Some(0), "something happened");
    for asked in ["help", "help run", "exec --help", "--version"] {
        let output = run(&format!("\"$1\" {asked} >/dev/full"));
        assert_eq!(output.status.code(), Some(1), "{asked}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let output = run("\"$1\" log >/dev/full");
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("standard output could not be written\n  because: No space left on device"), "{}", err(&output));
    // A reader that has seen enough is none of our business.
    let output = run("(\"$1\" config show; echo $? >code) | head -n 1; cat code");
    assert!(out(&output).ends_with("0\n"), "{}{}", out(&output), err(&output));
    assert_eq!(err(&output), "");
}

//! Terminals and pipes: colours only where somebody sees them, and signs of life only there.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use super::*;

/// A repository whose `lint` complains in colour.
fn complaining() -> World {
    let world = World::new(Who::Caller);
    world.write("home/project/stories/a.md", "---\nid: [\n");
    world
}

/// Runs it on a terminal of its own, and gives everything that came to it.
fn on_terminal(world: &World, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let pair = nix::pty::openpty(None, None).expect("a terminal");
    let mut command = world.command();
    command.args(arguments).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(pair.slave.try_clone().expect("a copy")).stderr(pair.slave);
    let mut child = command.spawn().expect("it starts");
    // Only the child holds the other side now.
    drop(command);
    let mut said = Vec::new();
    let mut master = File::from(pair.master);
    let mut piece = [0; 4096];
    // A terminal whose other side is closed fails to be read.
    while let Ok(count @ 1..) = master.read(&mut piece) {
        said.extend_from_slice(&piece[..count]);
    }
    child.wait().expect("it ends");
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let world = complaining();
    for (variables, coloured) in [
        (&[("TERM", "xterm-256color")][..], true),
        (&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], false),
        (&[("TERM", "xterm-256color"), ("CLICOLOR", "0")], false),
        (&[("TERM", "dumb")], false),
    ] {
        let said = on_terminal(&world, &["lint"], variables);
        assert!(said.contains("stories/a.md"), "{said}");
        assert_eq!(said.contains('\u{1b}'), coloured, "{variables:?}: {said:?}");
        let help = on_terminal(&world, &["gate", "--help"], variables);
        assert_eq!(help.contains('\u{1b}'), coloured, "{variables:?}: {help:?}");
    }
    for (variables, coloured) in
        [(&[][..], false), (&[("CLICOLOR_FORCE", "1")], true), (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false)]
    {
        let output = world.command().arg("lint").env("TERM", "xterm-256color").envs(variables.iter().copied()).output().expect("it starts");
        assert_eq!(err(&output).contains('\u{1b}'), coloured, "{variables:?}: {:?}", err(&output));
    }
}

#[test]
fn after_a_second_a_person_sees_what_is_waited_for() {
    let world = World::new(Who::Caller);
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        assert!(Command::new("git").args(identity).args(arguments).current_dir(world.workspace()).status().expect("git").success());
    };
    git(&["init", "-q", "-b", "main"]);
    world.write("home/project/cofferdam.toml", "[[gate]]\nname = \"slow\"\nrun = \"sleep 2\"\n");
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "a"]);
    let terminal = [("TERM", "xterm-256color")];
    let said = on_terminal(&world, &["gate", "--fresh"], &terminal);
    assert!(said.contains("1 gate running") && said.contains("green   slow"), "{said:?}");
    let quiet = on_terminal(&world, &["-q", "gate", "--fresh"], &terminal);
    assert!(!quiet.contains("running") && quiet.contains("green   slow"), "{quiet:?}");
    let dumb = on_terminal(&world, &["gate", "--fresh"], &[("TERM", "dumb")]);
    assert!(!dumb.contains("running") && !dumb.contains('\u{1b}'), "{dumb:?}");
    let piped = run(&world, &["gate", "--fresh"]);
    assert!(piped.status.success() && !err(&piped).contains("running"), "{}", err(&piped));
    // What takes no second says nothing.
    assert!(!on_terminal(&world, &["gate"], &terminal).contains("running"));
}

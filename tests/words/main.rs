//! What the program says about itself: help, examples, exit codes, completions, manual pages, colours, and how much of it.

#[path = "../common/mod.rs"]
mod common;
mod terminal;
mod wrong;

use std::process::{Command, Output};

use clap::Command as Tree;
use cofferdam::face::cli::failure::Exit;
use cofferdam::face::cli::help::{EXAMPLES, EXEC_CODES, EXIT_CODES, tree};
use common::{Who, World};

/// Every command that a person can call, with its words: `workspace new`.
fn commands() -> Vec<(String, Tree)> {
    fn below(command: &Tree, path: &str, found: &mut Vec<(String, Tree)>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name()).trim().to_owned();
            found.push((path.clone(), sub.clone()));
            below(sub, &path, found);
        }
    }
    let mut found = Vec::new();
    below(&tree(), "", &mut found);
    assert!(found.len() > 50, "{}", found.len());
    found
}

fn run(world: &World, arguments: &[&str]) -> Output {
    world.command().args(arguments).output().expect("it starts")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The words of an example, as a shell would read them: quotes group, and nothing else is special.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            c => word.push(c),
        }
    }
    assert!(!quoted, "{line}");
    words.push(word);
    words
}

#[test]
fn every_command_says_what_it_is_for_and_shows_an_example() {
    for (path, command) in commands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(!about.is_empty() && !about.contains('\n') && about.chars().count() <= 100, "{path}: {about:?}");
        let does_something = !command.has_subcommands() || !command.is_subcommand_required_set();
        let example = EXAMPLES.iter().find(|(of, _)| *of == path);
        assert!(example.is_some() || !does_something, "{path} has no example: add one to src/face/cli/help.rs");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            assert!(argument.get_help().is_some(), "{path}: {} says nothing", argument.get_id());
        }
        if let Some((_, examples)) = example {
            let help = command.clone().render_help().to_string();
            assert!(examples.iter().all(|example| help.contains(example)), "{path}:\n{help}");
        }
    }
}

#[test]
fn every_example_is_read_by_the_parser_and_is_of_its_command() {
    let known: Vec<String> = commands().into_iter().map(|(path, _)| path).collect();
    let mut last = "";
    for (path, examples) in EXAMPLES {
        assert!(known.iter().any(|known| known == path), "{path} is no command");
        assert!(*path > last, "{path} is out of order");
        last = path;
        for example in *examples {
            assert!(example.starts_with(&format!("cofferdam {path}")), "{example} is no example of {path}");
            if let Err(error) = tree().try_get_matches_from(words(example)) {
                panic!("{example}: {error}");
            }
        }
    }
}

#[test]
fn help_is_the_same_from_everywhere_and_a_success() {
    let world = World::new(Who::Caller);
    for arguments in [&["gate", "--help"][..], &["help", "gate"], &["gate", "-h"], &["exec", "--help"], &["help", "workspace", "new"]] {
        let output = run(&world, arguments);
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""), "{arguments:?}");
        assert!(out(&output).contains("Example"), "{arguments:?}: {}", out(&output));
        assert!(out(&output).lines().all(|line| line.chars().count() <= 110), "{}", out(&output));
    }
    let output = run(&world, &["gaet"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(err(&output).contains("'gate'"), "{}", err(&output));
    assert!(out(&run(&world, &["--help"])).contains("Exit codes:"));
    assert!(!out(&run(&world, &["--help"])).contains("__attack"));
}

#[test]
fn exit_codes_are_documented_where_people_look() {
    let all = [Exit::Failure, Exit::Usage, Exit::Blocked, Exit::Budget, Exit::Red, Exit::Unenforceable, Exit::Interrupted];
    for exit in all {
        assert!(EXIT_CODES.iter().any(|(code, _)| *code == exit as u8), "{exit:?}");
    }
    assert!(EXEC_CODES.iter().any(|(code, _)| *code == Exit::ExecOurs as u8));
    let page = include_str!("../../docs/exit-codes.md");
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| code") && !line.starts_with("| ---"));
    let written: Vec<String> = rows.map(str::to_owned).collect();
    let made: Vec<String> = EXIT_CODES.iter().chain(&EXEC_CODES).map(|(code, what)| format!("| {code} | {what} |")).collect();
    assert_eq!(written, made);
    let world = World::new(Who::Caller);
    let said = out(&run(&world, &["help", "exit-codes"]));
    assert!(EXIT_CODES.iter().chain(&EXEC_CODES).all(|(code, what)| said.contains(&format!("{code:>3}  {what}"))), "{said}");
    assert!(out(&run(&world, &["help", "environment"])).contains("NO_COLOR"));
}

#[test]
fn completions_know_every_command_and_the_shells_read_them() {
    let world = World::new(Who::Caller);
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&world, &["completions", shell]);
        assert!(output.status.success(), "{}", err(&output));
        let text = out(&output);
        for (path, _) in commands() {
            let name = path.rsplit(' ').next().expect("a name");
            assert!(text.contains(name), "{shell}: {path}");
        }
        assert!(!text.contains("__attack"), "{shell}");
        let file = world.write(&format!("completion.{shell}"), &text);
        match Command::new(shell).arg("-n").arg(&file).output() {
            Ok(read) => assert!(read.status.success(), "{shell}: {}", err(&read)),
            Err(_) => drop(std::io::Write::write_all(
                &mut std::io::stderr(),
                format!("SKIPPED completions read by {shell}: not installed\n").as_bytes(),
            )),
        }
    }
    assert_eq!(run(&world, &["completions", "csh"]).status.code(), Some(2));
}

#[test]
fn there_is_a_manual_page_for_every_command_and_it_is_the_same_twice() {
    let world = World::new(Who::Caller);
    let folder = world.home().join("man");
    for name in ["one", "two"] {
        let output = run(&world, &["man", folder.join(name).to_str().expect("a path")]);
        assert!(output.status.success(), "{}", err(&output));
    }
    for (path, _) in commands() {
        let name = format!("cofferdam-{}.1", path.replace(' ', "-"));
        let text = fs_err::read_to_string(folder.join("one").join(&name)).expect("a page");
        assert_eq!(text, fs_err::read_to_string(folder.join("two").join(&name)).expect("a page"), "{name}");
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{name}");
    }
    let first = fs_err::read_to_string(folder.join("one/cofferdam.1")).expect("a page");
    assert!(first.contains("Exit codes"), "{first}");
    assert_eq!(fs_err::read_dir(folder.join("one")).expect("listed").count(), commands().len() + 1);
    assert_eq!(run(&world, &["man", "/proc/nothing"]).status.code(), Some(1));
}

#[test]
fn the_version_is_short_or_tells_what_was_built() {
    let world = World::new(Who::Caller);
    assert_eq!(out(&run(&world, &["-V"])), format!("cofferdam {}\n", env!("CARGO_PKG_VERSION")));
    let long = out(&run(&world, &["--version"]));
    let first = long.lines().next().expect("a line");
    assert!(first.starts_with(&format!("cofferdam {} (", env!("CARGO_PKG_VERSION"))), "{long}");
    assert!(first.contains("commit ") || first.contains("development"), "{long}");
    assert!(long.contains("x86_64") && long.contains("libgit2 ") && long.contains("SQLite 3") && long.contains("claude"), "{long}");
}

#[test]
fn quiet_leaves_errors_and_verbose_adds_where_it_looked() {
    let world = World::new(Who::Caller);
    let git =
        |arguments: &[&str]| assert!(Command::new("git").args(arguments).current_dir(world.workspace()).status().expect("git").success());
    git(&["init", "-q", "-b", "main"]);
    git(&["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "a"]);
    world.write("home/project/stories/a.md", "# A\n- [ ] it is so\n");
    // Not committed: a warning.
    world.write("home/project/cofferdam.toml", "[run]\nparallel = 3\n");
    assert!(err(&run(&world, &["lint"])).contains("warning"));
    let quiet = run(&world, &["lint", "-q"]);
    assert_eq!((quiet.status.code(), err(&quiet).as_str()), (Some(0), ""));
    assert!(out(&quiet).contains("1 story"), "what was asked for is said");
    let verbose = run(&world, &["-v", "config", "show", "run.parallel"]);
    assert!(err(&verbose).contains("main at ") && err(&verbose).contains("it took "), "{}", err(&verbose));
    let verbose = run(&world, &["status", "-v"]);
    assert!(err(&verbose).contains("what is remembered lies in "), "{}", err(&verbose));
    world.write("home/project/stories/a.md", "---\nid: [\n");
    let wrong = run(&world, &["-q", "plan"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(err(&wrong).contains("error") && err(&wrong).matches("there is no plan yet").count() == 1, "{}", err(&wrong));
    let quiet = run(&world, &["-q", "exec", "--", "sh", "-c", "echo said; exit 3"]);
    assert_eq!((quiet.status.code(), out(&quiet).as_str()), (Some(3), "said\n"), "{}", err(&quiet));
    let verbose = run(&world, &["-v", "exec", "--", "true"]);
    assert!(verbose.status.success() && err(&verbose).contains("landlock"), "{}", err(&verbose));
}

#[test]
fn a_run_without_a_gate_says_once_what_that_means() {
    let world = World::new(Who::Caller);
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
        assert!(Command::new("git").args(identity).args(arguments).current_dir(world.workspace()).status().expect("git").success());
    };
    git(&["init", "-q", "-b", "main"]);
    world.write("home/project/stories/a.md", "---\nautomatable: false\n---\n# A\n- [ ] it is so\n");
    let agent = "[agents.implementer]\nadapter = \"command\"\ncommand = [\"true\"]\n";
    world.write("home/project/cofferdam.toml", agent);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "a"]);
    let said = err(&run(&world, &["run", "--plain"]));
    assert_eq!(said.matches("no [[gate]] is configured").count(), 1, "{said}");
    assert!(said.contains("their own verification alone") && said.contains("next: cofferdam init"), "{said}");
    world.write("home/project/cofferdam.toml", &format!("{agent}[[gate]]\nname = \"t\"\nrun = \"true\"\n"));
    git(&["commit", "-qam", "b"]);
    let said = err(&run(&world, &["run", "--plain"]));
    assert!(!said.contains("no [[gate]]"), "{said}");
}

/// Options that land what is not proven, in the words of other tools.
const BYPASSES: [&str; 9] = ["force", "admin", "skip", "no-verify", "no-gate", "no-gates", "ignore", "bypass", "unsafe"];

#[test]
fn no_option_lands_what_is_not_proven() {
    let is_bypass = |long: &str| BYPASSES.iter().any(|word| long == *word || long.starts_with(&format!("{word}-")));
    let with: Vec<String> = commands()
        .iter()
        .filter(|(_, command)| command.get_arguments().any(|argument| argument.get_long().is_some_and(is_bypass)))
        .map(|(path, _)| path.clone())
        .collect();
    // What is already on the target is recorded with the words that no gate looked at it: nothing lands by it.
    assert_eq!(with, ["backfill"]);
    let world = World::new(Who::Caller);
    for command in ["run", "land", "gate", "approve", "revert"] {
        for word in BYPASSES {
            let said = run(&world, &[command, &format!("--{word}"), "US-1"]);
            assert!(said.status.code() == Some(2) && err(&said).contains("unexpected argument"), "{command} --{word}: {}", err(&said));
        }
    }
}

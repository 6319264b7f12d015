//! What the documents show at a terminal is done, and shows what they say.
//!
//! Every block fenced as `console` in README.md and docs/ is executed, document by document, each in a fresh home and folder. A line that
//! begins with `$ ` is a command for `sh`; the lines after it are what it prints on both streams, where `...` stands for any lines and `[..]` for
//! any text; times, commit ids and the home folder may be others than those shown (`COFFERDAM_SHOW_CONSOLE=1` prints what was printed). Without
//! such lines only its success counts; `(exit code 3)` says another one. A block in a comment (`<!-- … -->`) prepares what readers have already.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{World, everybody};

/// Commands that a test cannot run: what they are instead, and what shows that they work.
const INSTEAD: &[(&str, &str)] = &[
    // The release build of what is tested here.
    ("cargo run --release -- ", "cofferdam "),
    // This very run.
    ("ci/test.sh", "test -x \"$SOURCE/ci/test.sh\""),
];

#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
    code: i32,
}

/// The commands of all console blocks of a document.
fn steps(text: &str) -> Vec<Step> {
    let (mut steps, mut inside) = (Vec::<Step>::new(), false);
    for (number, line) in text.lines().enumerate() {
        match (inside, line.trim_end()) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (false, _) => {}
            (true, line) => match (line.strip_prefix("$ "), line.strip_prefix("> ").or((line == ">").then_some("")), steps.last_mut()) {
                (Some(command), ..) => {
                    steps.push(Step { line: number + 1, command: command.to_owned(), expected: Vec::new(), code: 0 });
                }
                (None, Some(more), Some(step)) if step.expected.is_empty() => step.command.extend(["\n", more]),
                (None, _, Some(step)) => match line.strip_prefix("(exit code ").and_then(|rest| rest.strip_suffix(')')?.parse().ok()) {
                    Some(code) => step.code = code,
                    None => step.expected.push(line.to_owned()),
                },
                (None, _, None) => panic!("line {}: `{line}` belongs to no command", number + 1),
            },
        }
    }
    assert!(!inside, "a block has no end");
    steps
}

/// Does a line fit, with `[..]` for any text?
fn fits(expected: &str, line: &str) -> bool {
    let mut parts = expected.split("[..]");
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// Do the lines fit, with `...` for any lines?
fn all_fit(expected: &[String], lines: &[&str]) -> bool {
    match (expected, lines) {
        ([], lines) => lines.is_empty(),
        ([any, rest @ ..], lines) if any.trim() == "..." => (0..=lines.len()).any(|skip| all_fit(rest, &lines[skip..])),
        ([first, rest @ ..], [line, more @ ..]) => fits(first, line.trim_end()) && all_fit(rest, more),
        (_, []) => false,
    }
}

/// A line without what differs from run to run: times, ids, whose home it is.
fn constant(line: &str, home: &str) -> String {
    let line = if home.is_empty() { line.to_owned() } else { line.replace(home, "/home/you") };
    let time = regex_lite::Regex::new(r"\b\d+(\.\d+)? (s|ms)\b").expect("an expression");
    let id = regex_lite::Regex::new(r"\b[0-9a-f]{7,64}\b").expect("an expression");
    id.replace_all(&time.replace_all(&line, "0 $2"), "0000000").into_owned()
}

fn real(command: &str) -> String {
    let instead = INSTEAD.iter().find(|(shown, _)| command.starts_with(shown));
    instead.map_or(command.to_owned(), |(shown, real)| format!("{real}{}", &command[shown.len()..]))
}

/// A shell of the world's user.
fn shell(world: &World) -> Command {
    let own = world.command();
    let words: Vec<_> = std::iter::once(own.get_program()).chain(own.get_args()).collect();
    // The program is the last word; what stands before it makes somebody an ordinary user.
    let [before @ .., _] = words.as_slice() else { panic!("no program") };
    match before {
        [] => Command::new("sh"),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg("sh");
            command
        }
    }
}

/// Runs the steps one after the other; each begins in the folder in which the one before it ended.
fn perform(document: &str, text: &str, world: &World) {
    let folder = world.path().join("folder");
    let programs = world.path().join("programs");
    fs_err::create_dir(&programs).expect("a folder");
    fs_err::hard_link(world.program(), programs.join("cofferdam")).expect("the program");
    fs_err::write(&folder, world.workspace().to_string_lossy().as_bytes()).expect("written");
    world.own(&folder);
    for Step { line, command, expected, code } in steps(text) {
        let script = format!("cd \"$(cat \"$FOLDER\")\" || exit 99\n{}\ncode=$?\npwd >\"$FOLDER\"\nexit $code", real(&command));
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", programs.display());
        let mut shell = shell(world);
        shell
            .current_dir(world.workspace())
            .args(["-c", &format!("exec 2>&1\n{script}")])
            .env_clear()
            .env("HOME", world.home())
            .env("PATH", path);
        shell.env("FOLDER", &folder).env("SOURCE", env!("CARGO_MANIFEST_DIR")).env("LANG", "C.UTF-8").stdin(std::process::Stdio::null());
        for (name, value) in [("GIT_CONFIG_COUNT", "2"), ("GIT_CONFIG_KEY_0", "user.name"), ("GIT_CONFIG_VALUE_0", "You")] {
            shell.env(name, value);
        }
        shell.env("GIT_CONFIG_KEY_1", "user.email").env("GIT_CONFIG_VALUE_1", "you@example.org");
        let output = shell.output().expect("sh");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if std::env::var_os("COFFERDAM_SHOW_CONSOLE").is_some() {
            drop(std::io::Write::write_all(&mut std::io::stderr(), format!("$ {command}\n{said}\n").as_bytes()));
        }
        assert_eq!(output.status.code(), Some(code), "{document}:{line}: {command}\n{said}");
        let home = world.home().to_string_lossy().into_owned();
        let lines: Vec<String> = said.lines().map(|line| constant(line, &home)).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let wanted: Vec<String> = expected.iter().map(|line| constant(line, "")).collect();
        assert!(
            wanted.is_empty() || all_fit(&wanted, &lines),
            "{document}:{line}: {command}\n-- shown:\n{}\n-- printed:\n{said}",
            expected.join("\n")
        );
    }
}

fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The documents with anything to execute, by path.
fn documents() -> Vec<String> {
    let docs =
        fs_err::read_dir(source("docs")).expect("docs").flatten().map(|entry| format!("docs/{}", entry.file_name().to_string_lossy()));
    let mut all: Vec<String> =
        docs.chain(["README.md".to_owned(), "CONTRIBUTING.md".to_owned()]).filter(|path| path.ends_with(".md")).collect();
    all.sort();
    all
}

/// A test for each document, so that they run side by side; the last test tells when one is forgotten.
macro_rules! executed {
    ($($name:ident: $path:literal),* $(,)?) => {
        const EXECUTED: &[&str] = &[$($path),*];
        $(
            #[test]
            fn $name() {
                let text = fs_err::read_to_string(source($path)).expect("a document");
                everybody().iter().for_each(|world| perform($path, &text, world));
            }
        )*
    };
}

executed! {
    the_readme: "README.md",
    contributing: "CONTRIBUTING.md",
    configuration: "docs/configuration.md",
    init: "docs/init.md",
    operations: "docs/operations.md",
    profiles: "docs/profiles.md",
    spec_format: "docs/spec-format.md",
    the_tutorial: "docs/tutorial.md",
    workspaces: "docs/workspaces.md",
}

#[test]
fn every_document_with_a_console_block_is_executed() {
    for path in documents() {
        let text = fs_err::read_to_string(source(&path)).expect("a document");
        assert_eq!(EXECUTED.contains(&path.as_str()), !steps(&text).is_empty(), "{path}");
        // A prompt outside of a console block would be executed by nobody.
        let mut fence: Option<&str> = None;
        for (number, line) in text.lines().enumerate() {
            if let Some(kind) = line.strip_prefix("```") {
                fence = if fence.is_some() { None } else { Some(kind) };
            } else {
                let prompt = line.trim_start().starts_with("$ ") && fence != Some("console");
                assert!(!prompt, "{path}:{}: a command in a block that is not `console`", number + 1);
            }
        }
    }
}

#[test]
fn what_differs_is_seen() {
    let text = "x\n```console\n$ a\n> b\none [..] two\n...\nend\n$ c\n(exit code 3)\n```\n";
    let steps = steps(text);
    assert_eq!((steps.len(), steps[0].command.as_str(), steps[1].code), (2, "a\nb", 3));
    let fit = |lines: &[&str]| all_fit(&steps[0].expected, lines);
    assert!(fit(&["one  two", "end"]) && fit(&["one x two", "y", "z", "end"]));
    assert!(!fit(&["one two", "end"]) && !fit(&["one x two", "end", "more"]) && !fit(&["one x two"]) && !fit(&[]));
    assert!(fits("a[..]b[..]c", "a1b2c") && !fits("a[..]b[..]c", "a1c2") && !fits("a", "ab") && fits("[..]", ""));
    assert_eq!(constant("/tmp/x/a: 1.5 s at 1a2b3c4d5e, 2 of 3", "/tmp/x"), "/home/you/a: 0 s at 0000000, 2 of 3");
    assert_eq!(real("cargo run --release -- demo"), "cofferdam demo");
}

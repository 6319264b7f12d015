//! `cofferdam init` on repositories of many kinds, friendly and hostile: what it finds, what it writes, and that it changes nothing else.

#[path = "../common/mod.rs"]
mod common;
mod green;
mod hostile;
mod kinds;

use std::path::Path;
use std::process::{Command, Output};

use common::{Who, World};
use serde_json::Value;

/// Git as a person has it, without anything of this machine's own.
fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("HOME", "/nonexistent"), ("GIT_CONFIG_NOSYSTEM", "1")])
        .current_dir(folder)
        .output()
        .expect("git starts");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A repository with these files in one commit.
fn repository(files: &[(&str, &str)]) -> World {
    let world = World::new(Who::Caller);
    git(&world.workspace(), &["init", "-q"]);
    write(&world.workspace(), files);
    git(&world.workspace(), &["add", "-A"]);
    git(&world.workspace(), &["commit", "-q", "--allow-empty", "-m", "first"]);
    world
}

/// Files; one whose text begins like a script can be executed.
fn write(folder: &Path, files: &[(&str, &str)]) {
    use std::os::unix::fs::PermissionsExt;
    for (name, text) in files {
        let path = folder.join(name);
        fs_err::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs_err::write(&path, text).expect("a file");
        if text.starts_with("#!") {
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("executable");
        }
    }
}

fn cofferdam(world: &World, arguments: &[&str]) -> Output {
    world.command().args(arguments).output().expect("it starts")
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn succeeds(world: &World, arguments: &[&str]) -> String {
    let output = cofferdam(world, arguments);
    assert!(output.status.success(), "{arguments:?}: {}\n{}", output.status, text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `init --json`, which must succeed.
#[track_caller]
fn init(world: &World, arguments: &[&str]) -> Value {
    serde_json::from_str(&succeeds(world, &[&["init", "--json"], arguments].concat())).expect("JSON")
}

/// Name and command of each gate.
fn gates(document: &Value) -> Vec<(String, String)> {
    let gates = document["found"]["gates"].as_array().expect("gates");
    gates.iter().map(|gate| (gate["name"].as_str().expect("name").to_owned(), gate["run"].as_str().expect("run").to_owned())).collect()
}

fn missing(document: &Value) -> String {
    document["found"]["missing"].to_string()
}

/// Each key of a configuration has its reason beside it or in the line above.
#[track_caller]
fn every_key_is_explained(config: &str) {
    let lines: Vec<&str> = config.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        if !line.starts_with('#') && line.contains(" = ") {
            let above = i.checked_sub(1).and_then(|i| lines.get(i)).is_some_and(|line| line.starts_with("# "));
            assert!(line.contains(" # ") || above, "not explained: {line}\n{config}");
        }
    }
}

/// The files that were written are read by everything that reads them, and the repository is otherwise as it was.
#[track_caller]
fn holds(world: &World, name: &str) {
    let folder = world.workspace();
    let config = fs_err::read_to_string(folder.join("cofferdam.toml")).expect("a configuration");
    every_key_is_explained(&config);
    succeeds(world, &["config", "show", "--config", "cofferdam.toml"]);
    let linted = succeeds(world, &["lint", "--config", "cofferdam.toml"]);
    assert!(linted.contains("1 story"), "{name}: {linted}");
    let changed = git(&folder, &["status", "--porcelain", "-uall"]);
    let mut changed: Vec<&str> = changed.lines().collect();
    changed.sort_unstable();
    assert_eq!(changed, ["?? cofferdam.toml", "?? stories/010-how-to-check.md"], "{name}");
}

#[test]
fn twice_is_once_and_an_edit_stays() {
    let world = repository(&[("Makefile", "test:\n\ttrue\n")]);
    let folder = world.workspace();
    let head = git(&folder, &["rev-parse", "HEAD"]);
    init(&world, &[]);
    let first = fs_err::read_to_string(folder.join("cofferdam.toml")).expect("text");
    let again = init(&world, &[]);
    assert_eq!(again["files"].as_array().expect("files").iter().filter(|file| file["done"] == "kept").count(), 2, "{again}");
    assert_eq!(fs_err::read_to_string(folder.join("cofferdam.toml")).expect("text"), first);
    let mine = first.replace("parallel = 2", "parallel = 7");
    fs_err::write(folder.join("cofferdam.toml"), &mine).expect("written");
    fs_err::write(folder.join("stories/010-how-to-check.md"), "# Mine\n- [ ] it is mine\n").expect("written");
    let said = succeeds(&world, &["init", "--agent", "codex"]);
    assert!(said.contains("it is there already") && said.contains("1 story file is already there"), "{said}");
    assert_eq!(fs_err::read_to_string(folder.join("cofferdam.toml")).expect("text"), mine);
    assert_eq!(git(&folder, &["rev-parse", "HEAD"]), head, "nothing is committed");
    // Only one of the two is there.
    fs_err::remove_file(folder.join("cofferdam.toml")).expect("removed");
    init(&world, &[]);
    assert_eq!(fs_err::read_to_string(folder.join("stories/010-how-to-check.md")).expect("text"), "# Mine\n- [ ] it is mine\n");
    // What is committed on the target counts as there, also when the folder does not hold it.
    git(&folder, &["add", "-A"]);
    git(&folder, &["commit", "-q", "-m", "second"]);
    fs_err::remove_file(folder.join("cofferdam.toml")).expect("removed");
    assert!(succeeds(&world, &["init"]).contains("it is on main already"));
    assert!(!folder.join("cofferdam.toml").exists());
}

#[test]
fn a_configuration_that_is_wrong_is_told_and_left_alone() {
    let world = repository(&[]);
    fs_err::write(world.workspace().join("cofferdam.toml"), "[runn]\nparallel = 2\n").expect("written");
    let output = cofferdam(&world, &["init"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("runn") && text(&output).contains("was not changed"), "{}", text(&output));
    assert!(!world.workspace().join("stories").exists());
}

#[test]
fn agents_are_who_was_asked_for() {
    let world = repository(&[("go.mod", "module m\n")]);
    let document = init(&world, &["--agent", "claude", "--reviewer", "codex"]);
    assert_eq!(
        (document["roles"]["implementer"]["adapter"].as_str(), document["roles"]["reviewer"]["adapter"].as_str()),
        (Some("claude"), Some("codex"))
    );
    let config = fs_err::read_to_string(world.workspace().join("cofferdam.toml")).expect("text");
    assert!(
        config.contains("[agents.implementer]\nadapter = \"claude\"") && config.contains("[agents.reviewer]\nadapter = \"codex\""),
        "{config}"
    );
    every_key_is_explained(&config);
    let world = repository(&[]);
    let document = init(&world, &["--agent", "./agent.sh --task {task}"]);
    assert_eq!(document["roles"]["implementer"]["command"], serde_json::json!(["./agent.sh", "--task", "{task}"]));
    holds(&world, "a program of one's own");
    let output = cofferdam(&repository(&[]), &["init", "--agent", "claud"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("did you mean claude?"), "{}", text(&output));
    let output = cofferdam(&repository(&[]), &["init", "--agent", "./agent {tusk}"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("`{tusk}` is none of the placeholders"), "{}", text(&output));
}

#[test]
fn a_secret_is_never_printed_or_written() {
    let world = repository(&[("go.mod", "module m\n")]);
    let output = world.command().args(["init"]).env("ANTHROPIC_API_KEY", "sk-ant-verysecret").output().expect("it starts");
    let config = fs_err::read_to_string(world.workspace().join("cofferdam.toml")).expect("text");
    assert!(!text(&output).contains("verysecret") && !config.contains("verysecret"));
}

#[test]
fn what_is_said_is_for_a_person() {
    let world = repository(&[
        ("Cargo.toml", "[package]\nname = \"a\"\n"),
        ("Cargo.lock", ""),
        ("src/lib.rs", "#[test]\nfn t() {}\n"),
        (".github/workflows/ci.yml", "jobs:\n  a:\n    steps:\n      - run: cargo clippy -- -D warnings\n"),
    ]);
    let said = succeeds(&world, &["init", "--agent", "./agent {task}"]);
    for words in [
        "Found",
        "Chosen",
        "because",
        "Not found",
        "Nothing is committed",
        "git add",
        "cofferdam doctor",
        "cofferdam gate",
        "cofferdam run",
    ] {
        assert!(said.contains(words) || words == "because", "{words}:\n{said}");
    }
    for line in said.lines() {
        assert!(line.chars().count() <= 100, "too wide: {line}");
    }
}

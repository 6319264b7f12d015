//! `cofferdam doctor` on this host, and on hosts made worse on purpose inside a namespace of the test's own.

#![expect(clippy::print_stderr, clippy::unwrap_used, reason = "a skipped test says so; a broken fixture ends the test")]

#[path = "common/program.rs"]
mod program;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// The binary where every user can read it, and an empty HOME.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder =
            tempfile::Builder::new().prefix("doctor").permissions(std::fs::Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
        program::install(env!("CARGO_BIN_EXE_cofferdam"), folder.path().join("cofferdam"));
        Self { folder }
    }

    fn binary(&self) -> PathBuf {
        self.folder.path().join("cofferdam")
    }

    /// `before` is put in front of the binary: a program that changes what it runs in.
    fn doctor(&self, before: &[&str], args: &[&str]) -> Output {
        let binary = self.binary();
        let mut words: Vec<&str> = before.to_vec();
        words.extend([binary.to_str().unwrap(), "doctor"]);
        words.extend(args);
        Command::new(words[0]).args(&words[1..]).env("HOME", "/nonexistent").env("TMPDIR", "/tmp").output().unwrap()
    }
}

/// Each agent with its version, its key or login, and what is to be done: also when none is ready.
#[test]
fn agents_are_told_with_their_logins() {
    let place = Place::new();
    let (home, bin) = (place.folder.path().join("home"), place.folder.path().join("bin"));
    for folder in [home.join(".claude"), bin.clone()] {
        fs_err::create_dir_all(folder).unwrap();
    }
    fs_err::write(bin.join("claude"), "#!/bin/sh\necho '2.9.1 (Claude Code)'\n").unwrap();
    fs_err::set_permissions(bin.join("claude"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let ask = |args: &[&str], key: Option<&str>| {
        let mut command = Command::new(place.binary());
        command.arg("doctor").args(args).env_clear().env("HOME", &home).env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        command.envs(key.map(|key| ("ANTHROPIC_API_KEY", key))).output().unwrap()
    };
    let claude = |key: Option<&str>| {
        let output = ask(&["--agents", "--json"], key);
        assert!(!String::from_utf8_lossy(&output.stdout).contains("s3cret"), "{output:?}");
        let document = json(&output);
        assert_eq!(document["version"], 1);
        let of_claude = document["agents"].as_array().unwrap().iter().find(|agent| agent["name"] == "claude").unwrap().clone();
        (output.status.code(), of_claude)
    };
    let (code, agent) = claude(None);
    assert_eq!((code, &agent["access"], &agent["installed"]), (Some(3), &"none".into(), &true.into()), "{agent}");
    assert!(agent["found"].as_str().is_some_and(|found| found.starts_with("2.9.1")), "it was asked, in a sandbox: {agent}");
    assert!(agent["next"].as_str().is_some_and(|next| next.starts_with("claude")), "{agent}");
    let login = |ends: &str| {
        let text = format!("{{\"claudeAiOauth\":{{\"accessToken\":\"s3cret\",\"expiresAt\":{ends}}}}}");
        fs_err::write(home.join(".claude/.credentials.json"), text).unwrap();
    };
    login("4000000000000");
    let (code, agent) = claude(None);
    assert_eq!((code, &agent["access"], &agent["next"]), (Some(0), &"login".into(), &Value::Null), "{agent}");
    assert_eq!((&agent["from"], &agent["until"]), (&"~/.claude/.credentials.json".into(), &"2096-10-02T07:06:40Z".into()));
    login("1000000000000");
    let (code, agent) = claude(None);
    assert_eq!((code, &agent["access"], &agent["next"]), (Some(3), &"expired".into(), &"claude".into()), "{agent}");
    let (code, agent) = claude(Some("s3cret-key"));
    assert_eq!((code, &agent["access"], &agent["from"]), (Some(0), &"key".into(), &"ANTHROPIC_API_KEY".into()), "{agent}");
    let text = String::from_utf8_lossy(&ask(&["--agents"], None).stdout).into_owned();
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("the login in ~/.claude/.credentials.json expired") && words.contains("next: claude"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

fn layer<'a>(document: &'a Value, name: &str) -> &'a Value {
    document["layers"].as_array().unwrap().iter().find(|layer| layer["name"] == name).unwrap_or_else(|| panic!("no {name}: {document}"))
}

/// Runs the doctor as the root of a new user namespace, after a shell line that spoils something; `None` when that cannot be done here.
fn spoiled(name: &str, line: &str) -> Option<Value> {
    let place = Place::new();
    let script = format!("{line} || exit 77; exec {} doctor --json", place.binary().display());
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .env("HOME", "/nonexistent")
        .env("TMPDIR", "/tmp")
        .output()
        .unwrap();
    if output.status.code() == Some(77) || output.stdout.is_empty() {
        eprintln!("SKIPPED {name}: this host does not let a namespace be spoiled: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    Some(json(&output))
}

#[test]
fn this_host_can_enforce_a_sandbox() {
    let output = Place::new().doctor(&[], &["--json"]);
    let document = json(&output);
    assert_eq!(output.status.code(), Some(0), "{document}");
    assert_eq!(document["version"], 1);
    for name in ["namespaces", "/proc", "landlock", "a real sandbox"] {
        assert_eq!(layer(&document, name)["supported"], true, "{document}");
        assert_eq!(layer(&document, name)["fix"], Value::Null, "{document}");
    }
}

#[test]
fn an_ordinary_user_is_served_too() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED an_ordinary_user_is_served_too: needs root to become another user");
        return;
    }
    let output = Place::new().doctor(&["setpriv", "--reuid=61234", "--regid=61234", "--clear-groups"], &[]);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.lines().last().is_some_and(|_| text.contains("\nready")), "{text}");
    // Paths are one word and may be longer.
    assert!(text.lines().all(|line| line.chars().count() <= 80 || line.contains("/sys/fs/cgroup")), "{text}");
}

#[test]
fn switched_off_namespaces_are_named_with_their_mend() {
    let Some(document) = spoiled("switched_off_namespaces_are_named_with_their_mend", "echo 0 >/proc/sys/user/max_user_namespaces") else {
        return;
    };
    assert_eq!(document["verdict"], "not-enforceable");
    let line = layer(&document, "namespaces");
    assert_eq!((&line["wanted"], &line["supported"]), (&Value::Bool(true), &Value::Bool(false)));
    assert_eq!(line["fix"], "sudo sysctl -w user.max_user_namespaces=15000");
    assert_eq!(layer(&document, "a real sandbox")["supported"], false);
    assert_eq!(layer(&document, "landlock")["supported"], true);
}

#[test]
fn a_covered_proc_is_named_with_its_mend() {
    let Some(document) = spoiled("a_covered_proc_is_named_with_its_mend", "mount -t tmpfs none /proc/irq") else { return };
    assert_eq!(layer(&document, "namespaces")["supported"], true, "{document}");
    let line = layer(&document, "/proc");
    assert_eq!(line["supported"], false, "{document}");
    assert!(line["fix"].as_str().unwrap().contains("systempaths=unconfined"));
}

#[test]
fn a_missing_git_and_a_missing_folder_are_told() {
    let place = Place::new();
    let run = |name: &str, value: &str| {
        Command::new(place.binary())
            .args(["doctor", "--json"])
            .env("HOME", "/nonexistent")
            .env("TMPDIR", "/tmp")
            .env(name, value)
            .output()
            .unwrap()
    };
    let document = json(&run("PATH", "/nonexistent"));
    assert_eq!(layer(&document, "git")["supported"], false);
    assert!(layer(&document, "git")["fix"].is_string());
    let output = run("TMPDIR", "/nonexistent");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("TMPDIR"), "{output:?}");
}

#[test]
fn the_apparmor_profile_is_for_this_binary() {
    let place = Place::new();
    let output = place.doctor(&[], &["--apparmor"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(&format!("profile cofferdam \"{}\" flags=(unconfined)", place.binary().display())), "{text}");
    assert_eq!(place.doctor(&[], &["--apparmor", "--json"]).status.code(), Some(2));
}

//! `cofferdam profile` from the command line, and what profiles mean in a real sandbox.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    /// A home with a profile folder and a project in it.
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("cofferdam-profiles-").tempdir_in("/var/tmp").expect("a folder");
        let scene = Self { folder };
        scene.write("home/project/file", "content\n");
        scene.write("home/.ssh/id_ed25519", "a private key\n");
        scene
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().expect("below")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn profile(&self, name: &str, text: &str) {
        self.write(&format!("home/.config/cofferdam/profiles/{name}.toml"), text);
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cofferdam"))
            .args(arguments)
            .current_dir(self.path("home/project"))
            .env_clear()
            .env("HOME", self.path("home"))
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .output()
            .expect("it starts")
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

#[test]
fn the_list_has_the_built_in_ones_and_ones_own() {
    let scene = Scene::new();
    scene.profile("mine", "description = \"my own\"\nextends = \"strict\"\n");
    scene.profile("broken", "desciption = 1\n");
    let listed = scene.ok(&["profile", "list"]);
    for words in ["default ", "reviewer ", "strict ", "my own", "cannot be used: unknown key `desciption`"] {
        assert!(listed.contains(words), "{words}: {listed}");
    }
    let json: serde_json::Value = serde_json::from_str(&scene.ok(&["profile", "list", "--json"])).expect("JSON");
    assert_eq!(json["version"], 1);
    assert_eq!(json["profiles"].as_array().map(Vec::len), Some(10));
}

#[test]
fn show_prints_reasons_and_what_it_becomes() {
    let scene = Scene::new();
    let shown = scene.ok(&["profile", "show", "reviewer"]);
    assert!(
        shown.contains("a reviewer that can edit reviews its own work") && shown.contains("with everything it extends (default)"),
        "{shown}"
    );
    let json: serde_json::Value = serde_json::from_str(&scene.ok(&["profile", "show", "reviewer", "--json"])).expect("JSON");
    assert_eq!((&json["files"]["workspace"], &json["limits"]["memory_bytes"]), (&"read".into(), &(4_u64 << 30).into()));
    let unknown = scene.fails(2, &["profile", "show", "reviwer"]);
    assert!(unknown.contains("did you mean `reviewer`?"), "{unknown}");
}

#[test]
fn check_shows_every_mistake_and_never_prints_a_files_escapes() {
    let scene = Scene::new();
    scene.write("home/project/good.toml", "extends = \"default\"\n");
    assert!(scene.ok(&["profile", "check", "good.toml"]).contains("is a profile, extends default"));
    scene.write("home/project/bad.toml", "[limits]\nmemroy = \"1GiB\"\nwall = \"soon\u{1b}[2J\"\n");
    let error = scene.fails(2, &["profile", "check", "bad.toml"]);
    assert!(error.contains("bad.toml:") && !error.contains('\u{1b}'), "{error}");
    scene.write("home/project/worse.toml", "[limits]\nmemroy = \"1GiB\"\nwall = \"soon\"\n");
    let error = scene.fails(2, &["profile", "check", "worse.toml"]);
    assert!(error.contains("did you mean `memory`?") && error.contains("worse.toml:2:1") && error.contains("worse.toml:3:8"), "{error}");
    scene.write("home/project/a.toml", "extends = \"./b.toml\"\n");
    scene.write("home/project/b.toml", "extends = \"./a.toml\"\n");
    assert!(scene.fails(2, &["profile", "check", "a.toml"]).contains("in a circle"));
    assert!(scene.fails(2, &["profile", "check", "nowhere.toml"]).contains("cannot be read"));
    assert!(scene.fails(2, &["profile", "check", "."]).contains("not a regular file"));
}

#[test]
fn explain_says_what_is_there_and_the_sandbox_agrees() {
    let scene = Scene::new();
    let words = scene.ok(&["profile", "explain", "default", "--steps"]);
    for expected in ["writable  ", "— the workspace", "/usr — ", "none: no packet leaves", "How it is built, step by step:"] {
        assert!(words.contains(expected), "{expected}: {words}");
    }
    let json: serde_json::Value = serde_json::from_str(&scene.ok(&["profile", "explain", "default", "--json"])).expect("JSON");
    // What it lists is what a program finds: every granted path and variable, and PATH in that order.
    let inside = scene.ok(&["exec", "--", "env"]);
    for (name, value) in json["environment"].as_object().expect("an object") {
        let line = format!("{name}={}", value.as_str().expect("text"));
        assert!(inside.lines().any(|l| l == line), "{line} is missing in {inside}");
    }
    let paths: Vec<&str> = json["grants"].as_array().expect("a list").iter().filter_map(|g| g["inside"].as_str()).collect();
    assert!(paths.len() > 5);
    scene.ok(&[&["exec", "--", "ls", "-d"], paths.as_slice()].concat());
}

#[test]
fn roles_are_read_only_by_the_kernel() {
    let scene = Scene::new();
    let script = "echo x 2>/dev/null > new; echo x 2>/dev/null >> file; chmod 600 file 2>/dev/null; rm -f file 2>/dev/null; cat file";
    for profile in ["reviewer", "verifier", "strict"] {
        let output = scene.run(&["exec", "--quiet", "--profile", profile, "--", "sh", "-c", script]);
        assert_eq!(String::from_utf8_lossy(&output.stdout), "content\n", "{profile}: {output:?}");
        assert!(!Path::new(&scene.path("home/project/new")).exists(), "{profile}");
    }
    // The control: where the profile lets it, the same script changes the file.
    scene.run(&["exec", "--quiet", "--profile", "gate", "--", "sh", "-c", script]);
    assert!(Path::new(&scene.path("home/project/new")).exists() && !Path::new(&scene.path("home/project/file")).exists());
}

#[test]
fn a_part_of_a_read_only_workspace_is_writable_when_a_human_says_so() {
    let scene = Scene::new();
    fs::create_dir(scene.path("home/project/out")).expect("made");
    scene.ok(&["exec", "--profile", "verifier", "--write", "out", "--", "sh", "-ec", "echo x > out/made; ! echo x 2>/dev/null > beside"]);
    assert_eq!(fs::read_to_string(scene.path("home/project/out/made")).expect("is there"), "x\n");
    assert!(!Path::new(&scene.path("home/project/beside")).exists());
}

#[test]
fn what_a_profile_denies_is_not_there_and_cannot_be_replaced() {
    let scene = Scene::new();
    scene.write("home/project/.env", "PASSWORD=1\n");
    scene.write("home/project/keys/key", "secret\n");
    scene.profile("careful", "extends = \"default\"\n[files]\ndeny = [\"~/project/.env\", \"~/project/keys\"]\n");
    let script = "cat .env keys/key 2>/dev/null; ls keys; rm -rf .env keys 2>/dev/null; mv .env x 2>/dev/null; mv keys y 2>/dev/null; echo z 2>/dev/null > .env; cat file";
    let output = scene.run(&["exec", "--profile", "careful", "--", "sh", "-c", script]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "content\n", "{output:?}");
    assert_eq!(fs::read_to_string(scene.path("home/project/.env")).expect("is there"), "PASSWORD=1\n");
    assert_eq!(fs::read_to_string(scene.path("home/project/keys/key")).expect("is there"), "secret\n");
    // The control: without the line it is readable.
    assert!(scene.ok(&["exec", "--", "cat", ".env"]).contains("PASSWORD"));
}

#[test]
fn links_named_by_a_human_lead_where_they_lead_outside() {
    let scene = Scene::new();
    scene.write("data/file", "data\n");
    symlink(scene.path("data"), scene.path("link")).expect("made");
    let (link, data) = (scene.path("link"), scene.path("data"));
    let seen = scene.ok(&[
        "exec",
        "--read",
        &link,
        "--",
        "sh",
        "-ec",
        &format!("readlink {link}; cat {link}/file {data}/file; ! touch {data}/new 2>/dev/null"),
    ]);
    assert_eq!(seen, format!("{data}\ndata\ndata\n"));
    // As the workspace it is followed and said.
    symlink(scene.path("home/project"), scene.path("shortcut")).expect("made");
    let output = scene.run(&["exec", "--workspace", &scene.path("shortcut"), "--", "pwd"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), scene.path("home/project"));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is a link to"), "{output:?}");
}

#[test]
fn workspaces_and_paths_that_would_show_secrets_are_refused_before_anything_runs() {
    let scene = Scene::new();
    let ssh = scene.path("home/.ssh");
    for arguments in [
        vec!["exec", "--workspace", "..", "--", "true"],
        vec!["exec", "--workspace", "/", "--", "true"],
        vec!["exec", "--workspace", "/etc", "--", "true"],
        vec!["exec", "--workspace", &ssh, "--", "true"],
        vec!["exec", "--workspace", "nowhere", "--", "true"],
        vec!["exec", "--workspace", "file", "--", "true"],
        vec!["exec", "--read", &ssh, "--", "true"],
        vec!["exec", "--write", &ssh, "--", "true"],
        vec!["exec", "--read", "..", "--", "true"],
        vec!["exec", "--profile", "nowhere", "--", "true"],
        vec!["exec", "--env", "A B=1", "--", "true"],
    ] {
        let error = scene.fails(125, &arguments);
        assert!(error.contains("next: "), "{arguments:?}: {error}");
    }
    // One file, named by a human, is meant; and it is said.
    let output = scene.run(&["exec", "--read", &format!("{ssh}/id_ed25519"), "--", "cat", &format!("{ssh}/id_ed25519")]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "a private key\n", "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("holds secrets"));
}

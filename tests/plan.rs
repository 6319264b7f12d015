//! Stories and configuration through the command line: what a person sees, with exit codes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// A project in a folder of its own, with nothing of the caller's environment.
struct Project {
    root: TempDir,
    home: TempDir,
}

impl Project {
    fn new() -> Self {
        Self { root: TempDir::new().expect("temp"), home: TempDir::new().expect("temp") }
    }

    /// A copy of a folder of fixtures.
    fn of(fixture: &str) -> Self {
        let project = Self::new();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stories").join(fixture), project.root.path());
        project
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs_err::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs_err::write(path, text).expect("write");
    }

    fn read(&self, name: &str) -> String {
        fs_err::read_to_string(self.path(name)).expect("read")
    }

    /// Commits everything to a branch, which becomes the only one if there is none yet.
    fn commit(&self, branch: &str) {
        let repository =
            git2::Repository::open(self.root.path()).unwrap_or_else(|_| git2::Repository::init(self.root.path()).expect("init"));
        let mut index = repository.index().expect("index");
        index.add_all(["."], git2::IndexAddOption::DEFAULT, None).expect("add");
        let tree = repository.find_tree(index.write_tree().expect("tree")).expect("tree");
        let name = format!("refs/heads/{branch}");
        let parent = repository.find_reference(&name).ok().and_then(|r| r.peel_to_commit().ok());
        let who = git2::Signature::new("t", "t@example.org", &git2::Time::new(0, 0)).expect("signature");
        repository.commit(Some(&name), &who, &who, "x", &tree, &parent.iter().collect::<Vec<_>>()).expect("commit");
        repository.set_head(&name).expect("head");
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(args).current_dir(self.root.path()).env_clear().env("HOME", self.home.path());
        command.output().expect("cofferdam")
    }

    /// Everything a person sees, with the exit code.
    fn show(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8").replace(&*self.root.path().to_string_lossy(), "[ROOT]");
        format!("{}{}exit {}", text(&output.stdout), text(&output.stderr), output.status.code().expect("code"))
    }

    fn json(&self, args: &[&str]) -> serde_json::Value {
        let output = self.run(args);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs_err::read_dir(from).expect("fixtures") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_symlink() {
            std::os::unix::fs::symlink(fs_err::read_link(entry.path()).expect("link"), target).expect("symlink");
        } else if entry.file_type().expect("type").is_dir() {
            fs_err::create_dir_all(&target).expect("folder");
            copy(&entry.path(), &target);
        } else {
            fs_err::copy(entry.path(), target).expect("copy");
        }
    }
}

/// Where the stories of a fixture are.
fn place(project: &Project, name: &str) -> String {
    let file = ["master_spec.md", "prd.json", "stories.json", "tasks.md", "prompt.md"]
        .into_iter()
        .find(|f| project.path(&format!("{name}/{f}")).exists());
    file.map_or_else(|| name.to_owned(), |f| format!("{name}/{f}"))
}

fn fixtures(kind: &str) -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stories").join(kind);
    let mut names: Vec<String> =
        fs_err::read_dir(folder).expect("fixtures").map(|e| e.expect("entry").file_name().into_string().expect("name")).collect();
    names.sort();
    names
}

#[test]
fn every_bad_fixture_is_refused_with_its_place_and_mend() {
    let project = Project::of("bad");
    for name in fixtures("bad") {
        let shown = project.show(&["lint", "--stories", &place(&project, &name)]);
        assert!(shown.ends_with("exit 2"), "{name}: {shown}");
        let json = project.json(&["lint", "--json", "--stories", &place(&project, &name)]);
        assert_eq!((json["version"].as_u64(), json["ok"].as_bool()), (Some(1), Some(false)), "{name}");
        assert!(json["problems"].as_array().is_some_and(|p| p.iter().all(|p| p["next"].is_string() && p["rule"].is_string())), "{name}");
        // Nothing of a plan with an error in it is used.
        let next = project.run(&["next", "--stories", &place(&project, &name)]);
        assert_eq!((next.status.code(), next.stdout.as_slice()), (Some(2), &b""[..]), "{name}");
        insta::assert_snapshot!(format!("bad_{name}"), shown);
    }
}

#[test]
fn every_good_fixture_is_a_plan() {
    for name in fixtures("good") {
        let project = Project::of(&format!("good/{name}"));
        let by_itself = if name == "folder" || name == "plain" { "." } else { &place(&project, ".") };
        let by_itself = by_itself.trim_start_matches("./");
        let project = if by_itself == "." {
            let moved = Project::new();
            fs_err::create_dir(moved.path("stories")).expect("folder");
            copy(project.root.path(), &moved.path("stories"));
            moved
        } else {
            project
        };
        // `stories.json` is no usual place; the others are found without being named.
        let extra: &[&str] = if name == "epics" { &["--stories", "stories.json"] } else { &[] };
        let lint = project.show(&[&["lint"], extra].concat());
        assert!(lint.ends_with("exit 0"), "{name}: {lint}");
        let plan = project.json(&[&["plan", "--json"], extra].concat());
        assert_eq!(plan["version"].as_u64(), Some(1));
        insta::assert_snapshot!(format!("good_{name}"), project.show(&[&["graph"], extra].concat()));
    }
}

#[test]
fn the_plan_and_the_reasons_are_shown() {
    let project = Project::new();
    fs_err::create_dir(project.path("stories")).expect("folder");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stories/good/folder"), &project.path("stories"));
    project.write(
        "cofferdam.toml",
        "[agents.implementer]\nadapter = \"claude\"\n[agents.reviewer]\nadapter = \"codex\"\n[[gate]]\nname = \"test\"\nrun = \"true\"\n[[gate]]\nname = \"integration\"\nwhen = \"integration\"\nrun = \"true\"\n[network]\nimplementer = [\"packages.example.org\"]\n[budget]\nusd = 2.5\n",
    );
    project.commit("main");
    insta::assert_snapshot!("plan", project.show(&["plan"]));
    insta::assert_snapshot!("next_all", project.show(&["next", "--all"]));
    insta::assert_snapshot!("blocked", project.show(&["blocked"]));
    insta::assert_snapshot!("dot", project.show(&["graph", "--dot"]));
    insta::assert_snapshot!("mermaid", project.show(&["graph", "--mermaid"]));
    let next = project.json(&["next", "--json"]);
    assert_eq!(next["start"][0]["id"], "US-1.1");
    assert_eq!(next["not"][0]["reason"], serde_json::json!({"why": "after", "story": "US-1.1"}));
    let prompt = project.json(&["plan", "--json", "--prompt", "Do this."]);
    assert_eq!((prompt["stories"].as_array().map(Vec::len), prompt["start"][0].as_str()), (Some(1), Some("prompt")));
}

#[test]
fn configuration_comes_from_the_target_commit_and_not_from_the_work_tree() {
    let project = Project::new();
    project.write("cofferdam.toml", "[run]\nparallel = 3\n");
    project.commit("main");
    // What an agent, or anybody, writes into the work tree has no effect, and that is said.
    project.write("cofferdam.toml", "[run]\nparallel = 99\n[verify]\nprotected = []\n");
    let output = project.run(&["config", "show", "run.parallel"]);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("run.parallel = 3  # main:cofferdam.toml:2 at "), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("only that one holds"), "{output:?}");
    let named = project.show(&["config", "show", "run.parallel", "--config", "cofferdam.toml"]);
    assert_eq!(named, "run.parallel = 99  # cofferdam.toml:2\nexit 0");
    fs_err::remove_file(project.path("cofferdam.toml")).expect("remove");
    std::os::unix::fs::symlink("/etc/passwd", project.path("cofferdam.toml")).expect("link");
    project.commit("main");
    let linked = project.show(&["config", "show"]);
    assert!(linked.contains("main:cofferdam.toml is no regular file") && linked.ends_with("exit 2"), "{linked}");
}

#[test]
fn layers_lie_on_each_other_and_each_value_says_where_it_came_from() {
    let project = Project::new();
    project.write("cofferdam.toml", "[run]\nparallel = 3\nstagnation = 4\niterations = 7\n");
    project.commit("main");
    let user = project.home.path().join(".config/cofferdam");
    fs_err::create_dir_all(&user).expect("folder");
    fs_err::write(user.join("config.toml"), "[run]\nparallel = 9\nreview_cycles = 8\n").expect("write");
    let json = project.json(&["config", "show", "run", "--json", "--set", "run.iterations=2"]);
    let settings = json["settings"].as_array().expect("settings");
    let of = |key: &str| {
        let found = settings.iter().find(|s| s["key"] == key).unwrap_or_else(|| panic!("{key}"));
        (found["value"].as_u64(), found["origin"]["layer"].as_str(), found["line"].as_u64())
    };
    assert_eq!(of("run.parallel"), (Some(3), Some("target"), Some(2)));
    assert_eq!(of("run.review_cycles"), (Some(8), Some("user"), Some(3)));
    assert_eq!(of("run.iterations"), (Some(2), Some("flag"), Some(1)));
    assert_eq!(of("run.review_notify").1, Some("built_in"));
    fs_err::write(user.join("config.toml"), "[run]\nparalel = 9\n").expect("write");
    let shown = project.show(&["config", "show"]).replace(&*project.home.path().to_string_lossy(), "[HOME]");
    insta::assert_snapshot!(shown, @r"
    error: `paralel` is no key of [run]
     --> [HOME]/.config/cofferdam/config.toml:2:1
      |
    2 | paralel = 9
      | ^^^^^^^
      |
      = next: did you mean `parallel`?
    cofferdam: the configuration cannot be used: 1 error
    exit 2
    ");
}

#[test]
fn the_target_is_found_or_asked_for() {
    let project = Project::new();
    project.write("cofferdam.toml", "[run]\nparallel = 3\n");
    project.commit("master");
    assert_eq!(project.json(&["config", "show", "--json"])["target"]["branch"], "master");
    // A file may say that work lands elsewhere; then that branch's own file decides.
    project.write("cofferdam.toml", "[project]\ntarget = \"develop\"\n");
    project.commit("master");
    let none = project.show(&["config", "show"]);
    assert!(none.contains("there is no branch `develop`") && none.ends_with("exit 2"), "{none}");
    project.write("cofferdam.toml", "[project]\ntarget = \"develop\"\n[run]\nparallel = 5\n");
    project.commit("develop");
    let json = project.json(&["config", "show", "run.parallel", "--json"]);
    assert_eq!((json["target"]["branch"].as_str(), json["settings"][0]["value"].as_u64()), (Some("develop"), Some(5)));
    project.write("cofferdam.toml", "[project]\ntarget = \"master\"\n");
    project.commit("develop");
    assert!(project.show(&["config", "show"]).contains("name each other"));
    assert!(project.show(&["config", "show", "--set", "project.target=nowhere"]).contains("there is no branch `nowhere`"));
    // The flag decides, whatever the file says.
    assert_eq!(project.json(&["config", "show", "--json", "--set", "project.target=develop"])["target"]["branch"], "develop");
}

#[test]
fn an_empty_project_says_what_to_do() {
    let project = Project::new();
    insta::assert_snapshot!(project.show(&["next"]), @r"
    error: there are no stories in [ROOT]
      next: write the first one with `cofferdam add TITLE`; looked for stories, master_spec.md, prompt.md, prd.json, tasks.md
    cofferdam: there is no plan yet: 1 error
      next: mend these and run it again; cofferdam lint checks without doing anything
    exit 2
    ");
}

#[test]
fn stories_are_added_and_their_neighbours_keep_their_form() {
    let project = Project::new();
    let first = project.show(&[
        "add",
        "Keys can be set",
        "--id",
        "US-1",
        "-c",
        "get returns what set stored",
        "--epic",
        "kv: store",
        "--check",
        "true",
    ]);
    assert_eq!(first, "US-1  stories/010-keys-can-be-set.md\nexit 0");
    let text = project.read("stories/010-keys-can-be-set.md");
    assert_eq!(
        text,
        "---\nid: US-1\ntitle: Keys can be set\nepic: \"kv: store\"\nchecks:\n  - \"true\"\n---\n## Acceptance criteria\n- AC-1: get returns what set stored\n"
    );
    project.write("stories/010-keys-can-be-set.md", &text.replace("id: US-1", "id:   US-1  # mine"));
    let second = project.show(&["add", "Keys expire", "--wired-with", "US-1"]);
    insta::assert_snapshot!(second, @r"
    keys-expire  stories/020-keys-expire.md
    It is not complete yet, and nothing runs before it is: edit stories/020-keys-expire.md, then cofferdam lint.
    exit 0
    ");
    assert!(project.read("stories/010-keys-can-be-set.md").contains("id:   US-1  # mine\n"));
    assert!(project.read("stories/010-keys-can-be-set.md").contains("wired_with: [keys-expire]\n"));
    for (args, why) in [
        (vec!["add", "Again", "--id", "US-1"], "there is a story US-1 already"),
        (vec!["add", "x", "--after", "US-2"], "US-2 is no story"),
        (vec!["add", "x", "--before", "US-2"], "US-2 is no story"),
        (vec!["add", "x", "--artifact", "../y"], "leaves the repository"),
        (vec!["add", "x", "--after", "US-1", "--before", "US-1"], "wait for each other: US-1 → x → US-1"),
        (vec!["add", "  "], "no id can be made"),
    ] {
        let before = fs_err::read_dir(project.path("stories")).expect("stories").count();
        let shown = project.show(&args);
        assert!(shown.contains(why) && shown.ends_with("exit 2"), "{args:?}: {shown}");
        assert_eq!(fs_err::read_dir(project.path("stories")).expect("stories").count(), before, "{args:?}");
    }
}

#[test]
fn every_good_fixture_is_imported_and_says_the_same_afterwards() {
    for name in fixtures("good") {
        let source = Project::of(&format!("good/{name}"));
        let from = place(&source, ".");
        let from = source.path(from.trim_start_matches("./"));
        let project = Project::new();
        let shown = project.show(&["import", &from.to_string_lossy()]);
        assert!(shown.ends_with("exit 0"), "{name}: {shown}");
        let lint = project.show(&["lint"]);
        assert!(lint.ends_with("exit 0"), "{name}: {lint}");
        // A second time nothing is new; without --merge that is refused, and nothing is touched.
        let again = project.show(&["import", &from.to_string_lossy()]);
        assert!(again.contains("exists already") && again.ends_with("exit 2"), "{name}: {again}");
        let merged = project.json(&["import", "--merge", "--json", &from.to_string_lossy()]);
        assert_eq!(merged["written"], serde_json::json!([]), "{name}: {merged}");
    }
}

#[test]
fn a_merge_changes_only_what_is_new_and_a_bad_import_changes_nothing() {
    let project = Project::new();
    let mine = "---\nid: US-001\ntitle: Notes   # my words\nafter: [ ]\n---\n\nMine.\n\n- [x] AC-1: A note has a title and a text\n";
    project.write("stories/005-notes.md", mine);
    project.write(
        "prd.json",
        &fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/stories/good/prd/prd.json")).expect("prd"),
    );
    let dry = project.show(&["import", "prd.json", "--merge", "--dry-run"]);
    assert!(dry.contains("would change stories/005-notes.md") && project.read("stories/005-notes.md") == mine, "{dry}");
    insta::assert_snapshot!("import_merge", project.show(&["import", "prd.json", "--merge"]));
    assert_eq!(project.read("stories/005-notes.md"), mine.replace("a text\n", "a text\n- [ ] AC-2: Tests pass\n"));
    let before = project.read("stories/005-notes.md");
    project.write("bad.json", r#"{"stories": [{"id": "N-1", "title": "t", "acceptanceCriteria": ["x"]}, {"id": "N-2", "title": "t", "dependsOn": ["N-9"], "acceptanceCriteria": ["x"]}]}"#);
    let bad = project.show(&["import", "bad.json", "--merge"]);
    assert!(bad.contains("N-9 is no story") && bad.ends_with("exit 2"), "{bad}");
    assert_eq!(project.read("stories/005-notes.md"), before);
    assert!(
        !fs_err::read_dir(project.path("stories")).expect("stories").any(|e| e
            .expect("entry")
            .file_name()
            .to_string_lossy()
            .contains("tmp"))
    );
}

#[test]
fn ten_thousand_stories_are_read_and_scheduled() {
    let project = Project::new();
    fs_err::create_dir(project.path("stories")).expect("folder");
    for i in 0..10_000_usize {
        let after = if i == 0 { String::new() } else { format!("S-{}", i - 1 - (i * 7 % i.min(97))) };
        let text = format!("---\nid: S-{i}\ntitle: Story {i}\nafter: [{after}]\nartifacts: [src/f{i}.rs]\n---\n- [ ] it works\n");
        fs_err::write(project.path(&format!("stories/{i:05}.md")), text).expect("write");
    }
    let started = std::time::Instant::now();
    let next = project.json(&["next", "--json"]);
    let took = started.elapsed();
    assert_eq!(next["start"].as_array().map(Vec::len), Some(1));
    assert_eq!(next["not"].as_array().map(Vec::len), Some(9_999));
    // The promise is one second in a release build on a quiet machine; here only something quadratic is caught.
    assert!(took.as_secs() < 20, "{took:?}");
}

//! A repository with one small project for each story, and the scripts that work on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::common::{Who, World};

pub(crate) struct Project {
    pub(crate) world: World,
}

/// One evaluator's last word on a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) verdict: String,
    pub(crate) findings: String,
}

fn fixtures() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/agents")
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs_err::create_dir_all(to).expect("a folder");
        for entry in fs_err::read_dir(from).expect("fixtures").flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs_err::copy(from, to).expect("copied");
    }
}

impl Project {
    /// A project for each story. `more` is put into the front matter of the story it names.
    pub(crate) fn new(who: Who, config: &str, stories: &[&str], more: &[(&str, &str)]) -> Self {
        let project = Self { world: World::new(who) };
        let here = project.world.workspace();
        fs_err::create_dir_all(here.join("agents")).expect("a folder");
        for name in ["implement", "review", "cheats", "reviewers", "asks"] {
            copy(&fixtures().join(name), &here.join("agents").join(name));
        }
        fs_err::create_dir_all(here.join("stories")).expect("a folder");
        for (number, id) in stories.iter().enumerate() {
            copy(&fixtures().join("project"), &here.join("p").join(id));
            let more = more.iter().find(|(story, _)| story == id).map_or("", |(_, more)| more);
            let text = format!(
                "---\nid: {id}\ntitle: Values can be deleted ({id})\nartifacts:\n  - path: p/{id}/kv.py\n    symbols: [KV.delete]\n    contains: [\"def delete\"]\n  \
                 - path: p/{id}/tests/test_kv.py\n    min_tests: 3\n{more}checks:\n  - cd p/{id} && python3 -m unittest tests/test_kv.py\n---\n\
                 A value can be taken out again.\n\n## Acceptance criteria\n- AC-1: `delete(key)` takes the value out and returns it\n"
            );
            fs_err::write(here.join(format!("stories/{number:03}-{id}.md")), text).expect("a story");
        }
        project.begin(config);
        project
    }

    /// The project of a folder of fixtures, with these stories.
    pub(crate) fn of(fixture: &str, who: Who, config: &str, stories: &[(&str, &str)]) -> Self {
        let project = Self { world: World::new(who) };
        let here = project.world.workspace();
        copy(&fixtures().join(fixture), &here);
        fs_err::create_dir_all(here.join("stories")).expect("a folder");
        for (id, text) in stories {
            fs_err::write(here.join(format!("stories/{id}.md")), text).expect("a story");
        }
        project.begin(config);
        project
    }

    /// The first commit.
    fn begin(&self, config: &str) {
        let here = self.world.workspace();
        fs_err::write(here.join("cofferdam.toml"), config).expect("the configuration");
        fs_err::write(here.join(".gitignore"), "build/\n__pycache__/\n").expect("written");
        self.git(&["init", "-q", "-b", "main"]);
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "base"]);
        let mut open = vec![here];
        while let Some(path) = open.pop() {
            self.world.own(&path);
            if path.is_dir() && !path.is_symlink() {
                open.extend(fs_err::read_dir(&path).expect("a folder").flatten().map(|entry| entry.path()));
            }
        }
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "safe.directory=*", "-c", "user.name=test", "-c", "user.email=test@localhost"]).args(args);
        let output = command.current_dir(self.world.workspace()).env("HOME", self.world.home()).output().expect("git runs");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.world.command().args(args).output().expect("it runs")
    }

    /// `cofferdam run` to its end, without the guards that are named.
    pub(crate) fn run(&self, without: &str) -> String {
        let mut command = self.world.command();
        let output = command.arg("run").env("COFFERDAM_TEST_WITHOUT", without).output().expect("it runs");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    pub(crate) fn stories(&self) -> BTreeMap<String, Value> {
        let output = self.output(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&output.stdout).expect("the status");
        status["stories"].as_array().expect("a list").iter().map(|s| (s["id"].as_str().unwrap_or_default().to_owned(), s.clone())).collect()
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        let output = self.output(&["log", "--json"]);
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// The last word of each evaluator on each story.
    pub(crate) fn said(&self) -> BTreeMap<(String, String), Said> {
        let mut said = BTreeMap::new();
        for event in self.events().iter().filter(|event| event["kind"] == "evaluator.finished") {
            let (data, text) = (&event["data"], |value: &Value| value.as_str().unwrap_or_default().to_owned());
            let findings = data["findings"].as_array().into_iter().flatten().map(|f| text(&f["text"])).collect::<Vec<_>>().join("\n");
            said.insert((text(&event["story"]), text(&data["evaluator"])), Said { verdict: text(&data["verdict"]), findings });
        }
        said
    }

    /// Nothing reached the target, nothing is left behind, and the log is whole.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        let place = self.world.path().to_string_lossy().into_owned();
        crate::common::soon("the end of every process", || crate::common::processes_with(&place).is_empty());
        let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&place), "something is mounted");
        let verified = self.output(&["log", "--verify"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        assert_eq!(self.git(&["status", "--porcelain"]), "", "the user's checkout was touched");
    }
}

/// Has it got through?
pub(crate) fn is_through(state: &str) -> bool {
    matches!(state, "ready_for_review" | "queued" | "merging" | "merged" | "gate_check")
}

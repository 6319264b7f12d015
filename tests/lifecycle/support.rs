//! A project with scripted agents, and the real program working on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::{Who, World};

/// A repository with a plan.
pub(crate) struct Project {
    pub(crate) world: World,
    /// A number that no other process of this machine sleeps for.
    pub(crate) mark: String,
}

/// A run that takes longer than this hangs: no test waits for time to pass.
const HANGS: Duration = Duration::from_secs(240);

impl Project {
    /// A project with these stories: id, kind of agent, what it comes after. Each is done when `ID.txt` says `good`.
    pub(crate) fn new(who: Who, config: &str, stories: &[(&str, &str, &[&str])]) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mark = format!("{}.{count}{}", 3_000 + count, std::process::id());
        let project = Self { world: World::new(who), mark };
        let here = project.path();
        let agents = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/agents");
        fs_err::create_dir_all(here.join("agents")).expect("a folder");
        for entry in fs_err::read_dir(agents).expect("fixtures").flatten().filter(|entry| entry.path().is_file()) {
            fs_err::copy(entry.path(), here.join("agents").join(entry.file_name())).expect("copied");
        }
        let agent = "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./agents/agent.sh\", \"{story}\"]\n";
        // These tests look at stories up to the moment in which they are ready; landing has tests of its own.
        let merge = if config.contains("[merge]") { "" } else { "[merge]\nlanding = \"stop\"\n" };
        project.write("cofferdam.toml", &format!("{agent}{config}{merge}"));
        project.write("mark", &project.mark);
        for (id, kind, after) in stories {
            project.write(&format!("kinds/{id}"), kind);
            project.story(id, after);
        }
        project.git(&["init", "-q", "-b", "main"]);
        project.git(&["add", "-A"]);
        project.git(&["commit", "-q", "-m", "base"]);
        project.own_all();
        project
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.world.workspace()
    }

    fn own_all(&self) {
        let mut open = vec![self.path()];
        while let Some(path) = open.pop() {
            self.world.own(&path);
            if path.is_dir() {
                open.extend(fs_err::read_dir(&path).expect("a folder").flatten().map(|entry| entry.path()));
            }
        }
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        self.world.write(&format!("home/project/{path}"), text);
        if let Some(parent) = self.path().join(path).parent() {
            self.world.own(parent);
        }
    }

    /// Writes a story's file as a whole, as an editor does.
    pub(crate) fn story(&self, id: &str, after: &[&str]) {
        let after = after.join(", ");
        let text = format!(
            "---\nid: {id}\ntitle: Story {id}\nafter: [{after}]\nchecks:\n  - grep -q good {id}.txt\n---\n- [ ] AC-1: {id}.txt says good\n"
        );
        self.write(&format!("{id}.new"), &text);
        fs_err::create_dir_all(self.path().join("stories")).expect("a folder");
        fs_err::rename(self.path().join(format!("{id}.new")), self.path().join(format!("stories/{id}.md"))).expect("renamed");
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "safe.directory=*", "-c", "user.name=test", "-c", "user.email=test@localhost"]).args(args);
        let output = command.current_dir(self.path()).env("HOME", self.world.home()).output().expect("git runs");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command();
        command.args(args);
        command
    }

    pub(crate) fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }

    /// `cofferdam run` to its end, with the expected exit code.
    #[track_caller]
    pub(crate) fn run(&self, args: &[&str], code: i32) -> String {
        let child = self.begin(args);
        self.finish(child, code)
    }

    pub(crate) fn begin(&self, args: &[&str]) -> Child {
        let mut all = vec!["run"];
        all.extend(args);
        self.command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
    }

    #[track_caller]
    pub(crate) fn finish(&self, mut child: Child, code: i32) -> String {
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let readers = [read(out), read(err)];
        let end = Instant::now() + HANGS;
        let status = loop {
            if let Some(status) = child.try_wait().expect("waited") {
                break status;
            }
            if Instant::now() > end {
                let why = self.output(&["why"]);
                child.kill().expect("killed");
                panic!("it hangs: {}", String::from_utf8_lossy(&why.stdout));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let said: String = readers.map(|reader| reader.join().expect("read")).concat();
        assert_eq!(status.code(), Some(code), "{said}");
        said
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.output(args);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The state of every story.
    pub(crate) fn states(&self) -> BTreeMap<String, String> {
        let status = self.json(&["status", "--json"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        status["stories"].as_array().expect("a list").iter().map(|story| (text(&story["id"]), text(&story["state"]))).collect()
    }

    pub(crate) fn events(&self) -> Vec<Value> {
        let output = self.output(&["log", "--json"]);
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// What happened to each story, in order, without times, hashes and ids of what was made.
    pub(crate) fn histories(&self) -> BTreeMap<String, Vec<String>> {
        let mut histories: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for event in self.events() {
            let Some(story) = event["story"].as_str() else { continue };
            let data = &event["data"];
            let facts = ["attempt", "verdict", "evaluator", "problems", "task", "reason", "iterations", "files"];
            let facts: Vec<String> =
                facts.iter().filter(|fact| !data[**fact].is_null()).map(|fact| format!("{fact}={}", data[*fact])).collect();
            let end = data["end"]["how"].as_str().unwrap_or_default();
            let line = format!("{} {end} {}", event["kind"].as_str().unwrap_or_default(), facts.join(" "));
            histories.entry(story.to_owned()).or_default().push(line);
        }
        // Evaluators run side by side: their order among themselves is nobody's promise.
        histories.values_mut().for_each(|lines| sort_side_by_side(lines));
        histories
    }

    /// Waits until something of the status is so.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, happened: impl Fn(&BTreeMap<String, String>) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !happened(&self.states()) {
            assert!(Instant::now() < end, "{what} did not happen: {:?}", self.states());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// What a run must not leave on the machine.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        let place = self.world.path().to_string_lossy().into_owned();
        crate::common::soon("the end of every process", || {
            crate::common::processes_with(&self.mark).is_empty() && crate::common::processes_with(&place).is_empty()
        });
        let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&place), "something is mounted");
        let verified = self.output(&["log", "--verify"]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        assert_eq!(self.git(&["status", "--porcelain"]), "", "the user's checkout was touched");
    }
}

fn read(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        drop(from.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    })
}

fn sort_side_by_side(lines: &mut [String]) {
    let is_one = |line: &String| line.starts_with("evaluator.finished") || line.starts_with("budget.spent");
    let mut at = 0;
    while at < lines.len() {
        let end = lines[at..].iter().position(|line| !is_one(line)).map_or(lines.len(), |length| at + length);
        lines[at..end].sort();
        at = end.max(at) + 1;
    }
}

//! Real agents, from their registry packages, against a model that plays its part: one implements, the other reviews.
//!
//! They need their model, which is on the loopback. Their profiles here have the host's network for it, or they reach it as anybody would reach
//! a provider: through the gateway, which has the key. What is not installed is skipped loudly; `.ci/tools.sh` installs it.

#[path = "../common/mod.rs"]
mod common;
mod gateway;
mod others;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{Who, World};
use serde_json::Value;

/// Where agents are installed: those that are always there, and those that a build machine has when it wants to.
fn tools() -> [PathBuf; 2] {
    let tools = std::env::var_os("COFFERDAM_TOOLS").map_or_else(|| "/opt/cofferdam-tools".into(), PathBuf::from);
    [tools.join("bin"), tools.join("more/bin")]
}

/// The model, ended with the test.
struct Model {
    child: Child,
    port: u16,
    log: tempfile::NamedTempFile,
}

impl Model {
    fn start(more: &[&std::ffi::OsStr]) -> Self {
        let log = tempfile::NamedTempFile::new().expect("a log");
        let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/model/server.py");
        let mut command = Command::new("python3");
        command.arg(server).arg(log.path()).args(more).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3 runs");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a port");
        Self { child, port: line.trim().parse().expect("a port"), log }
    }

    fn requests(&self) -> Vec<Value> {
        let text = fs_err::read_to_string(self.log.path()).expect("the log");
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether these are installed. Says so loudly when one is not.
fn all_there(test: &str, agents: &[&str]) -> bool {
    let is_program = |path: PathBuf| fs_err::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o111 != 0);
    let there = |name: &str| tools().iter().any(|folder| is_program(folder.join(name)));
    let missing: Vec<&&str> = agents.iter().filter(|name| !there(name)).collect();
    if !missing.is_empty() {
        let line = format!("SKIPPED {test}: not installed: {missing:?} (.ci/tools.sh installs them)\n");
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("standard error is there");
    }
    missing.is_empty()
}

struct Project {
    world: World,
    model: Model,
}

impl Project {
    /// A project with one story. None, and loudly, when an agent is not installed.
    fn new(test: &str, implementer: &str, reviewer: &str, text: &str, config: &str) -> Option<Self> {
        Self::of_model(test, implementer, reviewer, text, config, "the-model")
    }

    fn of_model(test: &str, implementer: &str, reviewer: &str, text: &str, config: &str, model_name: &str) -> Option<Self> {
        all_there(test, &[implementer, reviewer]).then_some(())?;
        let (world, model) = (World::new(Who::Caller), Model::start(&[]));
        let own = world.home().join(".config/cofferdam");
        for folder in ["adapters", "profiles"] {
            fs_err::create_dir_all(own.join(folder)).expect("a folder");
        }
        for name in [implementer, reviewer] {
            let built_in = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/agents/adapters/{name}.toml"));
            let text = fs_err::read_to_string(built_in).expect("an adapter");
            // `[provider]` is its last table.
            fs_err::write(own.join(format!("adapters/{name}.toml")), format!("{text}url = \"http://127.0.0.1:{}\"\n", model.port))
                .expect("written");
        }
        for role in ["implementer", "reviewer"] {
            let text = format!("description = \"With a model on the loopback\"\nextends = \"{role}\"\n[network]\nmode = \"host\"\n");
            fs_err::write(own.join(format!("profiles/{role}-local.toml")), text).expect("written");
        }
        let agent = |role: &str, adapter: &str, model: &str| {
            format!("[agents.{role}]\nadapter = \"{adapter}\"\nmodel = \"{model}\"\nprofile = \"{role}-local\"\n")
        };
        let agents = agent("implementer", implementer, model_name) + &agent("reviewer", reviewer, "the-model");
        Some(Self::begin(world, model, text, &format!("{agents}[run]\niterations = 1\nretry_delay = \"1ms\"\n{config}")))
    }

    fn begin(world: World, model: Model, text: &str, config: &str) -> Self {
        let here = world.workspace();
        fs_err::create_dir_all(here.join("stories")).expect("a folder");
        let story = format!(
            "---\nid: GREET\ntitle: Greet by name\nartifacts:\n  - path: greet.py\n    symbols: [greet]\n  - path: test_greet.py\n    min_tests: 1\n\
             checks:\n  - python3 -m unittest test_greet.py\n---\n{text}\n\n## Acceptance criteria\n- AC-1: `greet(name)` greets\n"
        );
        fs_err::write(here.join("stories/greet.md"), story).expect("written");
        fs_err::write(here.join("cofferdam.toml"), config).expect("written");
        fs_err::write(here.join(".gitignore"), "__pycache__/\n").expect("written");
        let project = Self { world, model };
        project.git(&["init", "-q", "-b", "main"]);
        project.git(&["add", "-A"]);
        project.git(&["commit", "-q", "-m", "base"]);
        project
    }

    fn git(&self, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=test", "-c", "user.email=test@localhost"]).args(args);
        let output = command.current_dir(self.world.workspace()).env("HOME", self.world.home()).output().expect("git runs");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command();
        command.args(args).env("PATH", format!("{}:{}:/usr/local/bin:/usr/bin:/bin", tools()[0].display(), tools()[1].display()));
        command
    }

    fn run(&self) -> String {
        let output = self.command(&["run"]).output().expect("it runs");
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    }

    fn story(&self) -> Value {
        let output = self.command(&["status", "--json"]).output().expect("it runs");
        serde_json::from_slice::<Value>(&output.stdout).expect("the status")["stories"][0].clone()
    }

    fn events(&self, kind: &str) -> Vec<Value> {
        let output = self.command(&["log", "--json"]).output().expect("it runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
        events.filter(|event| event["kind"] == kind).map(|event| event["data"].clone()).collect()
    }

    #[track_caller]
    fn is_clean(&self) {
        let place = self.world.path().to_string_lossy().into_owned();
        common::soon("the end of every process", || common::processes_with(&place).is_empty());
        assert!(!fs_err::read_to_string("/proc/self/mountinfo").expect("mounts").contains(&place), "something is mounted");
    }
}

fn through(state: &Value) -> bool {
    matches!(state.as_str(), Some("ready_for_review" | "queued" | "merging" | "merged"))
}

/// One implements, the other reviews, and what they spent is known.
fn together(implementer: &str, reviewer: &str) {
    let test = format!("{implementer} implements, {reviewer} reviews");
    let Some(project) = Project::new(&test, implementer, reviewer, "Say hello.", "") else { return };
    let printed = project.run();
    assert!(through(&project.story()["state"]), "{test}: {}\n{printed}", project.story());
    assert!(!printed.contains("WRITABLE"));
    let accepted = project.events("contract.accepted");
    assert_eq!(accepted.len(), 1, "the contract was read: {printed}");
    let review: Vec<Value> = project.events("evaluator.finished").into_iter().filter(|e| e["evaluator"] == "reviewer").collect();
    assert_eq!((review.len(), &review[0]["verdict"], &review[0]["criteria"][0]["pass"]), (1, &"pass".into(), &true.into()), "{review:?}");
    for role in ["implementer", "reviewer"] {
        let spent: u64 =
            project.events("budget.spent").iter().filter(|e| e["role"] == role).filter_map(|e| e["amount"]["tokens_in"].as_u64()).sum();
        assert!(spent >= 200, "{role} spent {spent}: {:?}", project.events("budget.spent"));
    }
    // The key that an agent has is a placeholder.
    assert!(project.model.requests().iter().all(|request| request["key"] == "cofferdam-placeholder"), "{:?}", project.model.requests());
    project.is_clean();
}

#[test]
fn claude_implements_and_codex_reviews() {
    together("claude", "codex");
}

#[test]
fn codex_implements_and_claude_reviews() {
    together("codex", "claude");
}

#[test]
fn a_refusal_that_ends_is_waited_for_by_the_agent_itself() {
    for (agent, other) in [("codex", "claude"), ("claude", "codex")] {
        let Some(project) = Project::new("429 twice", agent, other, "FAULT 429 2", "") else { return };
        let printed = project.run();
        assert!(through(&project.story()["state"]), "{agent}: {}\n{printed}", project.story());
        assert!(project.model.requests().len() >= 6, "control: nothing was refused: {:?}", project.model.requests());
        assert!(project.events("provider.paused").is_empty(), "{agent}: {printed}");
        project.is_clean();
    }
}

#[test]
fn a_wrong_key_is_said_and_ends_the_attempt() {
    for agent in ["claude", "codex"] {
        let Some(project) = Project::new("a wrong key", agent, agent, "FAULT 401", "") else { return };
        let printed = project.run();
        let ended = project.events("attempt.ended");
        let cause = ended[0]["end"]["cause"].as_str().unwrap_or_default();
        assert!(cause.contains("it gave up") && cause.contains("401"), "{agent}: {ended:?}\n{printed}");
        assert_eq!(project.story()["state"], "escalated", "{agent}: {}", project.story());
        project.is_clean();
    }
}

#[test]
fn a_provider_that_goes_on_refusing_is_a_pause_and_no_failed_attempt() {
    for agent in ["claude", "codex"] {
        let Some(project) = Project::new("429 for good", agent, agent, "FAULT 429", "") else { return };
        let mut child = project.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        let end = Instant::now() + Duration::from_secs(120);
        while project.events("provider.paused").is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(200));
        }
        let paused = project.events("provider.paused");
        let (story, ended) = (project.story(), project.events("attempt.ended"));
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::Signal::SIGINT)
            .expect("asked to stop");
        let status = child.wait().expect("ended");
        assert_eq!(paused.len(), 1, "{agent}: {story} {ended:?}");
        assert_eq!(
            (ended[0]["end"]["how"].as_str(), story["state"].as_str(), status.code()),
            (Some("provider_limit"), Some("pending"), Some(130))
        );
        project.is_clean();
    }
}

#[test]
fn a_model_that_never_answers_is_ended_at_the_limit() {
    for (agent, other) in [("codex", "claude"), ("claude", "codex")] {
        let Some(project) = Project::new("a hang", agent, other, "FAULT hang", "[limits.implementer]\nwall = \"8s\"\n") else { return };
        let printed = project.run();
        let ended = project.events("attempt.ended");
        assert!(ended[0]["end"]["cause"].as_str().unwrap_or_default().starts_with("wall"), "{agent}: {ended:?}\n{printed}");
        let asked = project.story()["question"].as_str().unwrap_or_default().to_owned();
        assert!(asked.contains("wall: it was ended after"), "{agent}: {asked}");
        project.is_clean();
    }
}

#[test]
fn an_answer_that_is_cut_off_is_asked_for_again_by_the_agent() {
    for agent in ["claude", "codex"] {
        let Some(project) = Project::new("a stream cut", agent, agent, "FAULT cut 1", "") else { return };
        let printed = project.run();
        assert!(through(&project.story()["state"]), "{agent}: {}\n{printed}", project.story());
        // Two calls to write, two to review, and those that were cut off: each of the two processes had one at most.
        assert!(project.model.requests().len() > 4, "control: nothing was cut: {:?}", project.model.requests().len());
        project.is_clean();
    }
}

/// The shell fills what the attempt may write: the agent ends, or is ended at that limit; what is too much is not taken, and nothing lands.
#[test]
fn a_full_disk_ends_nothing_but_the_attempt() {
    for (agent, upper) in [("claude", "tmpfs"), ("codex", "tmpfs"), ("codex", "disk")] {
        let config = format!("[limits.implementer]\ndisk = \"48MiB\"\n[workspace]\nupper = \"{upper}\"\n");
        let Some(project) = Project::new("a full disk", agent, agent, "FAULT fill", &config) else { return };
        let printed = project.run();
        let (story, ended) = (project.story(), project.events("attempt.ended"));
        let said = format!("{agent} on {upper}: {story} {ended:?}\n{printed}");
        assert!(!through(&story["state"]) && story["question"].as_str().is_some_and(|asked| !asked.is_empty()), "{said}");
        let cause = ended[0]["end"]["cause"].as_str().unwrap_or_default();
        assert!(cause.starts_with("disk: "), "{said}");
        assert!(project.git(&["log", "--format=%s", "main"]).lines().count() == 1, "{said}");
        project.is_clean();
    }
}

#[test]
fn a_request_to_end_leaves_nothing_of_an_agent_and_its_shell() {
    for agent in ["claude", "codex"] {
        let Some(project) = Project::new("a request to end", agent, agent, "FAULT sleep", "") else { return };
        let mut child = project.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        let end = Instant::now() + Duration::from_secs(90);
        while !common::processes_with("time.sleep(301)").iter().any(|line| line.starts_with("python3")) {
            assert!(Instant::now() < end && child.try_wait().expect("asked").is_none(), "{agent} did not come to its shell");
            std::thread::sleep(Duration::from_millis(100));
        }
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::Signal::SIGTERM)
            .expect("asked to end");
        assert_eq!(child.wait().expect("ended").code(), Some(130));
        assert_eq!(project.events("attempt.ended")[0]["end"]["how"], "interrupted");
        assert!(common::processes_with("time.sleep(301)").is_empty(), "{agent} left its shell behind");
        project.is_clean();
    }
}

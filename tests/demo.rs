//! `cofferdam demo`: what it claims is looked up in what it leaves, and it leaves nothing that it was not asked for.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Who, World, everybody, is_root, processes_with, soon};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

struct Demo {
    world: World,
    temporary: PathBuf,
}

impl Demo {
    fn new(world: World) -> Self {
        let temporary = world.path().join("tmp");
        fs_err::create_dir(&temporary).expect("a folder");
        world.own(&temporary);
        Self { world, temporary }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command();
        command.arg("demo").args(args).env("TMPDIR", &self.temporary);
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("it runs")
    }

    /// What it made besides what it was asked for.
    #[track_caller]
    fn left_nothing(&self) {
        let left: Vec<_> = fs_err::read_dir(&self.temporary).expect("a folder").flatten().map(|entry| entry.path()).collect();
        assert_eq!(left, Vec::<PathBuf>::new());
        let place = self.world.path().to_string_lossy().into_owned();
        soon("the end of every process", || processes_with(&place).is_empty());
        let mounts = fs_err::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains(&place), "something is mounted");
    }

    /// `cofferdam` in the repository that was kept.
    fn look(&self, folder: &Path, args: &[&str]) -> String {
        let output = self.world.command().args(args).current_dir(folder).output().expect("it runs");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn git(&self, folder: &Path, args: &[&str]) -> String {
        let output = Command::new("git").args(["-c", "safe.directory=*"]).args(args).current_dir(folder).output().expect("git");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs_err::read_dir(folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                open.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[test]
fn what_it_says_is_what_its_store_and_its_history_say() {
    for world in everybody() {
        let demo = Demo::new(world);
        let output = demo.run(&["--keep", "../club"]);
        let said = text(&output.stdout);
        assert!(output.status.success(), "{said}{}", text(&output.stderr));
        assert!(said.contains("5 of 5 stories landed in "), "{said}");
        demo.left_nothing();
        let club = demo.world.home().join("club");

        // Every commit of main by itself: its tests and the walk through its pages.
        let commits = demo.git(&club, &["rev-list", "main"]);
        assert_eq!(commits.lines().count(), 6);
        for commit in commits.lines() {
            let look = tempfile::tempdir().expect("a folder");
            let script = format!(
                "git -c safe.directory='*' archive {commit} | tar -x -C {0} && cd {0} && sh tests/run.sh && sh tests/whole.sh",
                look.path().display()
            );
            let tests = Command::new("sh").args(["-ec", &script]).current_dir(&club).output().expect("sh");
            let tap = text(&tests.stdout);
            assert!(tests.status.success() && !tap.contains("not ok"), "{commit}: {tap}{}", text(&tests.stderr));
            assert!(said.contains(&format!("  {} ", &commit[..7])), "{commit} is not shown");
        }
        // Tests only ever grew: nothing weakened landed.
        assert_eq!(demo.git(&club, &["diff", "--stat", "main~5", "main", "--", "tests/members_test.sh", "lib/members.sh"]), "");

        let events: Vec<Value> =
            demo.look(&club, &["log", "--json"]).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let of = |kind: &str| events.iter().filter(|event| event["kind"] == kind).collect::<Vec<_>>();
        // What was denied: three calls, each with the kernel's answer, which the agent's own transcript holds as a number.
        let denied = of("sandbox.denied");
        assert_eq!(denied.len(), 3, "{denied:#?}");
        let failed = of("attempt.ended").into_iter().find(|event| event["story"] == "settings").expect("an attempt");
        let transcript = demo.look(&club, &["evidence", "show", failed["data"]["transcript"].as_str().expect("a transcript")]);
        for event in denied {
            let (target, errno) = (event["data"]["target"].as_str().expect("a target"), event["data"]["errno"].as_str().expect("an errno"));
            let line = transcript.lines().find(|line| line.contains(target)).unwrap_or_else(|| panic!("{target} is not in {transcript}"));
            let number: i32 = line.rsplit("os error ").next().and_then(|rest| rest.trim_end_matches(')').parse().ok()).expect("a number");
            assert_eq!(nix::errno::Errno::from_raw(number).to_string().split(':').next(), Some(errno), "{line}");
            assert!(["ENOENT", "EACCES", "ENETUNREACH"].contains(&errno), "{line}");
            assert!(said.lines().any(|line| line.contains("DENIED") && line.contains(&format!("→ {errno}"))), "{said}");
        }
        // Each attempt has its receipt, and no layer is missing.
        let receipts = of("sandbox.receipt");
        assert!(receipts.len() >= 8 && receipts.iter().all(|receipt| receipt["data"]["missing"] == Value::Array(Vec::new())));
        let landed = of("story.landed");
        assert_eq!(landed.len(), 5);
        for event in landed {
            let commit = &event["data"]["commit"];
            let green = |gate: &&Value| gate["data"]["commit"] == *commit && gate["data"]["result"] == "pass";
            assert!(of("gate.finished").iter().any(green), "{commit} landed untested");
        }

        // It is a repository like any other.
        let status: Value = serde_json::from_str(&demo.look(&club, &["status", "--json"])).expect("JSON");
        assert!(status["stories"].as_array().expect("stories").iter().all(|story| story["state"] == "merged"), "{status}");
        assert!(demo.look(&club, &["show", "auth"]).contains("integrity"));
        assert!(demo.look(&club, &["log", "settings"]).contains("sandbox.denied"));
        demo.look(&club, &["log", "--verify"]);
        demo.look(&club, &["evidence", "verify"]);
        assert_eq!(demo.git(&club, &["status", "--porcelain"]), "");
        assert_eq!(demo.git(&club, &["rev-parse", "HEAD"]), demo.git(&club, &["rev-parse", "main"]));
        // A second one does not take the folder.
        let again = demo.run(&["--keep", "../club"]);
        assert_eq!(again.status.code(), Some(2), "{}", text(&again.stderr));
        assert!(text(&again.stderr).contains("not an empty folder"));
    }
}

#[test]
fn nothing_is_left_of_one_that_is_not_kept() {
    for world in everybody() {
        let demo = Demo::new(world);
        let before = files_below(&demo.world.home());
        let output = demo.run(&["--json"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
        assert!(document["checks"].as_array().expect("checks").iter().all(|check| check["held"] == true), "{document:#}");
        assert_eq!((&document["repository"], document["stories"].as_array().map(Vec::len)), (&Value::Null, Some(5)));
        demo.left_nothing();
        assert_eq!(files_below(&demo.world.home()), before);
    }
}

#[test]
fn git_is_not_needed() {
    if !is_root() {
        let line = b"SKIPPED a demo without git: hiding the program needs root\n";
        drop(std::io::Write::write_all(&mut std::io::stderr(), line));
        return;
    }
    let demo = Demo::new(World::new(Who::Ordinary));
    let inner = demo.command(&[]);
    let mut command = Command::new("unshare");
    // In a mount namespace of its own, every git there is becomes a file that cannot be executed.
    let hide =
        "for git in /usr/bin/git /bin/git /usr/local/bin/git; do [ ! -e $git ] || mount --bind /dev/null $git || exit 9; done; exec \"$@\"";
    command.args(["--mount", "sh", "-c", hide, "sh"]).arg(inner.get_program()).args(inner.get_args());
    command.env_clear().current_dir(demo.world.workspace());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = command.output().expect("it runs");
    let said = text(&output.stdout);
    assert!(output.status.success(), "{said}{}", text(&output.stderr));
    // A narrow terminal shows all of it.
    assert!(said.lines().all(|line| line.chars().count() <= 80), "{said}");
    demo.left_nothing();
}

#[test]
fn a_guard_that_is_missing_is_missed() {
    // Without it the weakened test lands, and the demo must not say that it was caught.
    let demo = Demo::new(World::new(Who::Caller));
    let output = demo.command(&[]).env("COFFERDAM_TEST_WITHOUT", "auth:integrity").output().expect("it runs");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{}{said}", text(&output.stdout));
    assert!(said.contains("not seen: `auth` was caught weakening a test"), "{said}");
    demo.left_nothing();
}

#[test]
fn the_list_does_nothing() {
    let demo = Demo::new(World::new(Who::Caller));
    let output = demo.run(&["--list"]);
    assert!(output.status.success());
    let said = text(&output.stdout);
    for story in ["landing", "auth", "settings", "dashboard", "billing"] {
        assert!(said.contains(story), "{said}");
    }
    demo.left_nothing();
}

fn until(child: &mut Child, what: &str) {
    let mut bytes = Vec::new();
    let out = child.stdout.as_mut().expect("piped");
    while !text(&bytes).contains(what) {
        let mut byte = [0];
        assert_eq!(std::io::Read::read(out, &mut byte).expect("read"), 1, "it ended before: {}", text(&bytes));
        bytes.push(byte[0]);
    }
}

#[test]
fn interrupted_at_any_moment_it_leaves_nothing() {
    for (moment, signal) in [("temporary folder", Signal::SIGINT), ("begins", Signal::SIGTERM), ("LANDED", Signal::SIGINT)] {
        let demo = Demo::new(World::new(Who::Caller));
        let mut child = demo.command(&[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
        until(&mut child, moment);
        kill(Pid::from_raw(i32::try_from(child.id()).expect("an id")), signal).expect("signalled");
        let asked = Instant::now();
        let mut rest = Vec::new();
        drop(std::io::Read::read_to_end(child.stdout.as_mut().expect("piped"), &mut rest));
        let status = child.wait().expect("waited");
        assert_eq!(status.code(), Some(130), "{moment}: {}", text(&rest));
        assert!(asked.elapsed() < Duration::from_secs(60), "{moment}");
        demo.left_nothing();
    }
}

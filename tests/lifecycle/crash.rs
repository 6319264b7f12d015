//! SIGKILL of the runner: at every point where something begins or ends, one after the other, and at random moments. Whatever the moment,
//! the next run ends in the same states, nothing is done twice, and nothing is left on the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::Who;
use crate::support::Project;

const CONFIG: &str = "[run]\nparallel = 2\nretry_delay = \"1ms\"\nstart_on = \"ready_for_review\"\n";
const STORIES: [(&str, &str, &[&str]); 3] = [("A", "once", &[]), ("B", "forks", &["A"]), ("C", "good", &[])];
/// More points than any run of this plan passes.
const ENOUGH: u64 = 2_000;
/// So many tests share the points, so that they run side by side.
const SHARES: u64 = 4;

fn project() -> Project {
    Project::new(Who::Caller, CONFIG, &STORIES)
}

/// What must be so after the last run, however often it was killed before.
#[track_caller]
fn is_whole(project: &Project, when: &str) {
    let states = project.states();
    assert!(states.len() == 3 && states.values().all(|state| state == "ready_for_review"), "{when}: {states:?}");
    let events = project.events();
    // Every collected commit has one ref of its own, and each of these refs was told once.
    let told: Vec<(String, String)> = events
        .iter()
        .filter(|event| event["kind"] == "change.collected")
        .map(|event| (text(&event["data"]["reference"]), text(&event["data"]["commit"])))
        .collect();
    let refs = project.git(&["for-each-ref", "--format=%(refname) %(objectname)", "refs/cofferdam/stories"]);
    let refs: BTreeMap<&str, &str> = refs.lines().filter_map(|line| line.split_once(' ')).collect();
    for (reference, commit) in &told {
        assert_eq!(refs.get(reference.as_str()), Some(&commit.as_str()), "{when}: {reference}");
    }
    // An attempt is started once and ended once; a commit is judged once by each evaluator, and a story is ready once for each commit.
    let once = ["attempt.started", "attempt.ended", "evaluator.finished", "story.ready", "change.collected"];
    let mut seen = BTreeSet::new();
    for event in events.iter().filter(|event| once.contains(&event["kind"].as_str().unwrap_or_default())) {
        let data = &event["data"];
        let key = format!("{} {} {} {} {}", event["kind"], event["story"], data["attempt"], data["commit"], data["evaluator"]);
        assert!(seen.insert(key.clone()), "{when}: {key} happened twice");
    }
    let left = project.path().join("../.local/state/cofferdam");
    let leftovers = left_over(&left);
    assert_eq!(leftovers, Vec::<String>::new(), "{when}");
    project.is_clean();
}

/// Half-made things in the state folder.
fn left_over(state: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![state.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs_err::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(".new-") || name.starts_with("quarantine-") || name.starts_with(".building-") {
                found.push(entry.path().display().to_string());
            } else if entry.path().is_dir() && !entry.path().is_symlink() && name != "layers" && name != "upper" {
                open.push(entry.path());
            }
        }
    }
    found
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Kills a run at its `point`-th point. False when the run ended before.
fn killed_at(project: &Project, point: u64) -> (bool, String) {
    let mut command = project.command(&["run"]);
    command.env("COFFERDAM_TEST_CRASH_AT", point.to_string()).stdout(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.signal() {
        Some(9) => (true, said.lines().find(|line| line.starts_with("crash point")).unwrap_or("killed").to_owned()),
        _ => {
            assert_eq!(output.status.code(), Some(0), "{said}");
            (false, String::new())
        }
    }
}

fn every_point(share: u64) {
    let mut killed = 0;
    for point in (1 + share..ENOUGH).step_by(SHARES as usize) {
        let project = project();
        let (was_killed, when) = killed_at(&project, point);
        if !was_killed {
            break;
        }
        killed += 1;
        project.run(&[], 0);
        is_whole(&project, &when);
    }
    assert!(killed > 15, "only {killed} points were reached");
}

#[test]
fn a_kill_at_every_point_first_share() {
    every_point(0);
}

#[test]
fn a_kill_at_every_point_second_share() {
    every_point(1);
}

#[test]
fn a_kill_at_every_point_third_share() {
    every_point(2);
}

#[test]
fn a_kill_at_every_point_fourth_share() {
    every_point(3);
}

/// One run after the other on the same plan, each killed at a random moment.
#[test]
fn kills_at_random_moments() {
    let kills: u32 = std::env::var("KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    let mut seed: u64 = 4_242;
    let mut killed = 0;
    while killed < kills {
        let project = project();
        // Five in a row would have a human asked what keeps stopping it.
        for _ in 0..4 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut child = project.command(&["run"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
            let end = Instant::now() + Duration::from_micros((seed >> 33) % 600_000);
            while Instant::now() < end && child.try_wait().expect("waited").is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            killed += u32::from(child.try_wait().expect("waited").is_none());
            // It may have ended by itself.
            drop(child.kill());
            child.wait().expect("waited");
        }
        project.run(&[], 0);
        is_whole(&project, &format!("after {killed} kills"));
    }
}

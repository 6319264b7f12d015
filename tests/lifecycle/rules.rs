//! What holds through a run: its heartbeat, the invariants of the plan, proofs that are not paid for twice.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::common::Who;
use crate::support::Project;

/// `health.json`, as a monitor reads it that knows nothing of cofferdam.
fn health(project: &Project) -> Option<Value> {
    let states = project.world.home().join(".local/state/cofferdam");
    let folder = fs_err::read_dir(states).ok()?.flatten().find(|entry| entry.path().join("health.json").exists())?;
    serde_json::from_slice(&fs_err::read(folder.path().join("health.json")).ok()?).ok()
}

#[test]
fn a_run_beats_and_its_file_says_what_it_does_and_that_it_ended() {
    let config = "[run]\nretry_delay = \"1ms\"\n[health]\ninterval = \"200ms\"\nstale_after = \"5s\"\n";
    let project = Project::new(Who::Caller, config, &[("A", "stubborn", &[]), ("B", "good", &[])]);
    let child = project.begin(&[]);
    project.until("work", |states| states.get("A").is_some_and(|state| state == "implementing"));
    let beat = || health(&project).filter(|health| health["status"] == "running").map(|health| health["heartbeat"].to_string());
    project.until("a heartbeat", |_| beat().is_some());
    let first = beat();
    project.until("the next heartbeat", |_| beat().is_some() && beat() != first);
    let file = health(&project).expect("there");
    assert_eq!((&file["version"], &file["pid"], &file["progress"]["total"]), (&1.into(), &child.id().into(), &2.into()), "{file}");
    assert!(file["run"].is_string() && file["stale_after_s"] == 5, "{file}");
    // One that is stopped in its tracks still holds the lock, and is told from one that works.
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    kill(pid, Signal::SIGSTOP).expect("stopped");
    let status = || project.json(&["status", "--json"])["runner"].clone();
    project.until("that it hangs", |_| status()["status"] == "hung");
    assert!(status()["detail"].as_str().is_some_and(|detail| detail.contains("older than 5.0 s")), "{}", status());
    kill(pid, Signal::SIGCONT).expect("goes on");
    project.until("that it works again", |_| status()["status"] == "running");
    kill(pid, Signal::SIGTERM).expect("asked to end");
    project.finish(child, 130);
    assert_eq!(health(&project).expect("there")["status"], "stopped");
    project.is_clean();
}

#[test]
fn a_story_that_breaks_an_invariant_under_a_run_does_not_start() {
    let config = "[run]\nretry_delay = \"1ms\"\nstart_on = \"ready_for_review\"\n[invariants]\nrequire = [\"criteria\", \"checks\"]\n";
    let project = Project::new(Who::Caller, config, &[("A", "murmurs", &[]), ("B", "good", &["A"])]);
    let child = project.begin(&[]);
    project.until("work", |states| states.get("A").is_some_and(|state| state == "implementing"));
    project.write("stories/B.md", "---\nid: B\ntitle: Story B\nafter: [A]\n---\n- [ ] AC-1: x\n");
    let said = project.finish(child, 1);
    assert!(said.contains("checks") && said.contains("nothing new starts"), "{said}");
    let states = project.states();
    assert_eq!((states["A"].as_str(), states["B"].as_str()), ("ready_for_review", "pending"));
    // The control: with them it goes on.
    project.git(&["checkout", "-q", "."]);
    project.run(&[], 0);
    assert_eq!(project.states()["B"], "ready_for_review");
}

#[test]
fn another_approach_that_comes_to_the_same_tree_does_not_pay_for_its_gates_again() {
    let config = "[run]\nretry_delay = \"1ms\"\n[[gate]]\nname = \"test\"\nrun = \"sleep 0.2; test -e A.txt || test ! -e stories/none\"\n";
    let project = Project::new(Who::Caller, config, &[("A", "good", &[])]);
    project.run(&[], 0);
    let gates = || -> Vec<Value> {
        let events = project.events().into_iter().filter(|event| event["kind"] == "gate.finished" && event["story"] == "A");
        events.map(|event| event["data"].clone()).collect()
    };
    let before = gates();
    assert_eq!((before.len(), &before[0]["cached"]), (1, &false.into()));
    let evidence = before[0]["evidence"].clone();
    assert!(project.output(&["replan", "A", "another way"]).status.success());
    project.run(&[], 0);
    let after = gates();
    assert_eq!(after.len(), 2, "{after:?}");
    assert_eq!((&after[1]["tree"], &after[1]["cached"], &after[1]["evidence"]), (&before[0]["tree"], &true.into(), &evidence), "{after:?}");
    assert_eq!(project.states()["A"], "ready_for_review");
}

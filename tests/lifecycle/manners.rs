//! How a run behaves towards people: beside other terminals, under Ctrl-C, while the plan is edited.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{Who, processes_with};
use crate::support::Project;

const FAST: &str = "[run]\nretry_delay = \"1ms\"\n";

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).expect("a process id")), signal).expect("signalled");
}

fn is(project: &Project, id: &str, state: &str) -> bool {
    project.states().get(id).is_some_and(|now| now == state)
}

/// The last event of a kind.
fn last(project: &Project, kind: &str) -> serde_json::Value {
    project.events().into_iter().rev().find(|event| event["kind"] == kind).unwrap_or_default()
}

/// The attempt runs, and not only its story.
fn until_at_work(project: &Project, id: &str) {
    let begun = || project.events().iter().any(|event| event["kind"] == "attempt.started" && event["story"] == id);
    project.until("the agent", |_| begun());
}

#[test]
fn ctrl_c_keeps_what_was_written_and_the_next_run_goes_on() {
    let project = Project::new(Who::Caller, FAST, &[("A", "leisurely", &[])]);
    for (round, stop) in [Signal::SIGINT, Signal::SIGTERM].into_iter().enumerate() {
        let child = project.begin(&[]);
        project.until("its first line", |_| last(&project, "approach.declared")["data"]["attempt"] == round + 1);
        signal(&child, stop);
        let said = project.finish(child, 130);
        assert!(said.contains("cofferdam run"), "{said}");
        let stopped = last(&project, "run.stopped");
        assert_eq!(stopped["data"]["reason"], "interrupted");
        assert!(is(&project, "A", "pending"), "{:?}", project.states());
        assert_eq!(last(&project, "change.collected")["data"]["attempt"], round + 1, "what it wrote was collected");
        project.is_clean();
    }
    project.write("kinds/A", "good");
    project.git(&["commit", "-qam", "faster"]);
    project.run(&[], 0);
    assert!(is(&project, "A", "ready_for_review"));
    project.is_clean();
}

#[test]
fn a_second_ctrl_c_ends_everything_at_once() {
    let project = Project::new(Who::Caller, FAST, &[("A", "stubborn", &[])]);
    let child = project.begin(&[]);
    project.until("its first line", |_| !last(&project, "approach.declared").is_null());
    signal(&child, Signal::SIGINT);
    // It ignores the request, and has two seconds to do so.
    std::thread::sleep(Duration::from_millis(300));
    assert!(!processes_with(&project.mark).is_empty(), "the agent goes on until it is made to stop");
    signal(&child, Signal::SIGINT);
    let begun = Instant::now();
    project.finish(child, 130);
    assert!(begun.elapsed() < Duration::from_secs(60));
    project.is_clean();
}

#[test]
fn a_second_run_is_told_who_works_and_changes_nothing() {
    let project = Project::new(Who::Caller, FAST, &[("A", "stubborn", &[])]);
    let child = project.begin(&[]);
    until_at_work(&project, "A");
    let second = project.output(&["run"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(second.status.code() == Some(1) && said.contains(&format!("process {}", child.id())), "{said}");
    let status = project.json(&["status", "--json"]);
    assert_eq!((&status["runner"]["status"], &status["runner"]["pid"]), (&"running".into(), &child.id().into()));
    assert_eq!(project.events().iter().filter(|event| event["kind"] == "run.started").count(), 1);
    signal(&child, Signal::SIGTERM);
    project.finish(child, 130);
    assert_eq!(project.json(&["status", "--json"])["runner"]["status"], "stopped");
    project.is_clean();
}

#[test]
fn other_terminals_are_heard_while_it_runs() {
    let project = Project::new(Who::Caller, FAST, &[("A", "asks", &[]), ("B", "stubborn", &[]), ("C", "good", &["A"])]);
    let child = project.begin(&["--set", "run.start_on=ready_for_review"]);
    project.until("the question", |states| states.get("A").is_some_and(|state| state == "blocked"));
    assert!(project.output(&["answer", "A", "blue"]).status.success());
    project.until("A", |states| states.get("A").is_some_and(|state| state == "ready_for_review"));
    project.until("C", |states| states.get("C").is_some_and(|state| state == "ready_for_review"));
    // What is cancelled while it works is ended, and the run, which has nothing else to do, ends.
    assert!(!processes_with(&project.mark).is_empty());
    assert!(project.output(&["cancel", "B", "not needed"]).status.success());
    project.finish(child, 0);
    assert!(is(&project, "B", "cancelled"));
    // C stands on A's work, which did not land.
    assert_eq!(project.git(&["show", "refs/cofferdam/stories/C/1:A.txt"]), "good");
    project.is_clean();
}

#[test]
fn a_paused_run_starts_nothing_and_goes_on_when_it_is_resumed() {
    let project = Project::new(Who::Caller, FAST, &[("A", "good", &[])]);
    assert!(project.output(&["pause", "lunch"]).status.success());
    let child = project.begin(&[]);
    project.until("the plan", |states| states.contains_key("A"));
    std::thread::sleep(Duration::from_millis(600));
    assert!(is(&project, "A", "pending") && last(&project, "story.started").is_null());
    assert!(project.output(&["resume"]).status.success());
    project.finish(child, 0);
    assert!(is(&project, "A", "ready_for_review"));
}

#[test]
fn a_plan_that_breaks_under_a_run_starts_nothing_new_until_it_is_mended() {
    let project = Project::new(Who::Caller, FAST, &[("A", "slow", &[]), ("B", "good", &["A"])]);
    let child = project.begin(&["--set", "run.start_on=ready_for_review"]);
    until_at_work(&project, "A");
    project.write("stories/B.md", "---\nid: B\ntitle: Story B\nafter: [A, nobody]\n---\n- [ ] AC-1: x\n");
    let said = project.finish(child, 1);
    assert!(said.contains("nobody") && said.contains("nothing new starts"), "{said}");
    assert!(is(&project, "A", "ready_for_review") && is(&project, "B", "pending"));
    project.story("B", &["A"]);
    project.run(&["--set", "run.start_on=ready_for_review"], 0);
    assert!(is(&project, "B", "ready_for_review"));
    project.git(&["checkout", "-q", "."]);
    project.is_clean();
}

#[test]
fn a_story_that_leaves_the_plan_is_cancelled_and_its_agent_ended() {
    let project = Project::new(Who::Caller, FAST, &[("A", "stubborn", &[]), ("B", "good", &[])]);
    let child = project.begin(&[]);
    until_at_work(&project, "A");
    fs_err::remove_file(project.path().join("stories/A.md")).expect("removed");
    project.finish(child, 0);
    assert!(is(&project, "A", "cancelled") && is(&project, "B", "ready_for_review"));
    project.git(&["checkout", "-q", "."]);
    // It came back.
    project.write("kinds/A", "good");
    project.git(&["commit", "-qam", "good"]);
    project.run(&[], 0);
    assert!(is(&project, "A", "ready_for_review"));
    project.is_clean();
}

#[test]
fn named_stories_run_with_what_they_come_after_and_no_others() {
    let project = Project::new(Who::Caller, FAST, &[("A", "good", &[]), ("B", "good", &["A"]), ("C", "good", &[])]);
    project.run(&["B", "--set", "run.start_on=ready_for_review"], 0);
    let states = project.states();
    let states: Vec<&str> = states.values().map(String::as_str).collect();
    assert_eq!(states, ["ready_for_review", "ready_for_review", "pending"]);
    let said = project.output(&["run", "Bx"]);
    assert_eq!(said.status.code(), Some(2), "{}", String::from_utf8_lossy(&said.stderr));
}

#[test]
fn exit_codes_say_why_it_ended() {
    let project = Project::new(
        Who::Caller,
        "[run]\nretry_delay = \"1ms\"\niterations = 2\nreview_cycles = 5\nreview_notify = 5\n",
        &[("A", "lies", &[])],
    );
    project.run(&[], 4);
    assert!(is(&project, "A", "escalated"));
    let project = Project::new(Who::Caller, "[run]\nretry_delay = \"1ms\"\n[budget.run]\nwall = \"1ms\"\n", &[("A", "good", &[])]);
    project.run(&[], 4);
    assert!(is(&project, "A", "pending"));
    let project = Project::new(Who::Caller, FAST, &[("A", "asks", &[])]);
    project.run(&[], 3);
    assert!(project.output(&["answer", "A", "red"]).status.success());
    project.run(&[], 0);
    // Nobody to do the work.
    fs_err::write(project.path().join("cofferdam.toml"), "[run]\nparallel = 1\n").expect("written");
    project.git(&["commit", "-qam", "nobody"]);
    assert_eq!(project.output(&["run"]).status.code(), Some(2));
    // A program that is not there.
    fs_err::write(project.path().join("cofferdam.toml"), "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./agents/none.sh\"]\n")
        .expect("written");
    project.git(&["commit", "-qam", "none"]);
    assert!(project.output(&["reset", "A"]).status.success());
    let said = project.run(&[], 3);
    assert!(said.contains("could not be started") && is(&project, "A", "blocked"), "{said}");
    project.is_clean();
}

#[test]
fn humans_are_heard_before_anything_ran() {
    let project = Project::new(Who::Caller, FAST, &[("A", "good", &[]), ("B", "good", &["A"])]);
    let unknown = project.output(&["note", "Z", "x"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(project.output(&["note", "B", "mind the gap"]).status.success());
    assert!(project.output(&["backfill", "A", "by hand"]).status.success());
    project.run(&[], 0);
    assert!(is(&project, "A", "backfilled") && is(&project, "B", "ready_for_review"));
}

#[test]
fn events_are_lines_of_json_for_scripts() {
    let project = Project::new(Who::Caller, FAST, &[("A", "good", &[])]);
    let output = project.output(&["run", "--json"]);
    let lines: Vec<serde_json::Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let from_log = project.events();
    assert_eq!(lines, from_log);
    assert!(lines.len() > 8 && lines.last().expect("events")["kind"] == "run.stopped");
}

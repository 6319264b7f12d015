//! Agents that hang, and stories that go on by themselves when what held them is over.

use std::time::Duration;

use crate::common::Who;
use crate::support::Project;

const FAST: &str = "[run]\nparallel = 3\nretry_delay = \"1ms\"\n";

fn ends(project: &Project, story: &str) -> Vec<serde_json::Value> {
    let events = project.events().into_iter().filter(|event| event["kind"] == "attempt.ended" && event["story"] == story);
    events.map(|event| event["data"]["end"].clone()).collect()
}

#[test]
fn an_agent_that_neither_speaks_nor_works_is_ended_and_one_that_does_either_is_not() {
    let config = format!("{FAST}[limits.implementer]\nsilence = \"2s\"\nwall = \"60s\"\n");
    let project = Project::new(Who::Caller, &config, &[("A", "mute", &[]), ("B", "murmurs", &[]), ("C", "thinks", &[])]);
    project.run(&[], 0);
    let hung = ends(&project, "A");
    assert_eq!(hung.len(), 2, "{hung:?}");
    assert_eq!(
        (&hung[0]["how"], &hung[0]["cause"]),
        (&"failed".into(), &"silence: it printed nothing and used no processor for 2.0 s".into())
    );
    assert_eq!(hung[1]["how"], "finished", "a hung attempt is a failed one, and the next begins afresh");
    for (story, what) in [("B", "it spoke"), ("C", "it worked")] {
        let ended = ends(&project, story);
        assert_eq!((ended.len(), &ended[0]["how"]), (1, &"finished".into()), "{what}: {ended:?}");
    }
    let why = project.output(&["why", "A"]);
    assert!(String::from_utf8_lossy(&why.stdout).contains("silence: it printed nothing"), "{}", String::from_utf8_lossy(&why.stdout));
    project.is_clean();
}

#[test]
fn without_the_limit_a_hung_agent_stays_until_its_time_is_up() {
    let config = format!("{FAST}[limits.implementer]\nwall = \"4s\"\n");
    let project = Project::new(Who::Caller, &config, &[("A", "mute", &[])]);
    let child = project.begin(&[]);
    project.until("the hanging agent", |_| !crate::common::processes_with(&project.mark).is_empty());
    std::thread::sleep(Duration::from_millis(2500));
    let silence = project.json(&["why", "A", "--json"]);
    assert!(silence["silent_s"].as_u64().is_some_and(|seconds| seconds >= 1), "a person sees how long it is silent: {silence}");
    project.finish(child, 0);
    let cause = ends(&project, "A")[0]["cause"].as_str().unwrap_or_default().to_owned();
    assert!(cause.starts_with("wall: "), "{cause}");
    project.is_clean();
}

#[test]
fn a_program_that_was_missing_is_tried_again_by_the_next_run_and_nobody_has_to_say_so() {
    let project = Project::new(Who::Caller, FAST, &[("A", "good", &[])]);
    let config = "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./agents/later.sh\"]\n[merge]\nlanding = \"stop\"\n";
    project.write("cofferdam.toml", config);
    project.git(&["commit", "-qam", "a program that comes later"]);
    let said = project.run(&[], 3);
    assert!(said.contains("could not be started"), "{said}");
    project.run(&[], 3);
    assert_eq!(project.states()["A"], "blocked", "the control: it is still not there");
    project.write("agents/later.sh", "#!/bin/sh\necho good > A.txt\n");
    project.git(&["add", "agents"]);
    project.git(&["update-index", "--chmod=+x", "agents/later.sh"]);
    project.git(&["commit", "-qm", "there it is"]);
    project.git(&["checkout", "-q", "--", "agents/later.sh"]);
    project.run(&[], 0);
    assert_eq!(project.states()["A"], "ready_for_review");
    let kinds: Vec<String> = project.events().iter().map(|event| event["kind"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "story.unblocked").count(), 2);
    assert!(!kinds.iter().any(|kind| kind == "story.retried"), "nobody said anything, and no budget was given");
    project.is_clean();
}

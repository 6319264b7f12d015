//! Gates only tighten: one that the target has goes with a human's word for it by name.

use crate::common::Who;
use crate::support::Project;

const GATES: &str = "[run]\nretry_delay = \"1ms\"\n[[gate]]\nname = \"test\"\nrun = \"test ! -e broken\"\n\
    # lint\n[[gate]]\nname = \"lint\"\nrun = \"test ! -e untidy\"\n# end\n[merge]\nstyle = \"merge\"\n";

fn verdict(project: &Project, story: &str, evaluator: &str) -> String {
    let is_it = |event: &serde_json::Value| {
        event["kind"] == "evaluator.finished" && event["story"] == story && event["data"]["evaluator"] == evaluator
    };
    let last = project.events().into_iter().rev().find(is_it).unwrap_or_default();
    last["data"]["verdict"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_gate_goes_only_with_a_human_who_names_it() {
    let project = Project::new(Who::Caller, GATES, &[("A", "loosens", &[]), ("B", "tightens", &[])]);
    project.run(&[], 3);
    // Both change the file that decides, so both want a human; only one of them takes something away.
    assert_eq!([verdict(&project, "A", "protected"), verdict(&project, "B", "protected")], ["needs_approval", "needs_approval"]);
    assert_eq!([verdict(&project, "A", "ratchet"), verdict(&project, "B", "ratchet")], ["needs_approval", "pass"]);
    let why = String::from_utf8_lossy(&project.output(&["why", "A"]).stdout).into_owned();
    assert!(why.contains("the gate `lint` goes") && why.contains("--without-gate lint"), "{why}");

    let approved = project.output(&["approve", "B"]);
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    let refused = project.output(&["approve", "A"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && said.contains("the gate `lint` goes") && said.contains("--without-gate lint"), "{said}");
    let refused = project.output(&["approve", "A", "--without-gate", "test"]);
    assert_eq!(refused.status.code(), Some(1), "another gate's name is no word for this one");
    project.run(&[], 3);
    assert_eq!(project.states()["B"], "merged");
    assert_eq!(project.states()["A"], "blocked", "nothing of it counts");
    assert!(project.git(&["show", "main:cofferdam.toml"]).contains("name = \"lint\""));

    // The control: named, it goes.
    let approved = project.output(&["approve", "A", "--without-gate", "lint"]);
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    project.run(&[], 0);
    assert_eq!(project.states()["A"], "merged");
    let file = project.git(&["show", "main:cofferdam.toml"]);
    assert!(!file.contains("name = \"lint\"") && file.contains("name = \"more\"") && file.contains("name = \"test\""), "{file}");
    let log = String::from_utf8_lossy(&project.output(&["log", "A"]).stdout).into_owned();
    assert!(log.contains("without the gate lint"), "{log}");
}

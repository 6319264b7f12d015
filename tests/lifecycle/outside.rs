//! Work that was done outside of cofferdam: on a human's word, and looked at like any other.

use crate::common::Who;
use crate::support::Project;

const GATES: &str = "[run]\nretry_delay = \"1ms\"\n[[gate]]\nname = \"test\"\nrun = \"test ! -e broken\"\n";

#[test]
fn a_commit_is_recorded_as_done_when_it_landed_and_its_gates_are_green() {
    let project = Project::new(Who::Caller, GATES, &[("A", "good", &[]), ("B", "good", &[]), ("C", "good", &["A"])]);
    let said = |args: &[&str], code: i32| {
        let output = project.output(args);
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        text
    };
    let gates = || project.events().iter().filter(|event| event["kind"] == "gate.finished").count();
    // Not on the target.
    project.git(&["checkout", "-qb", "aside"]);
    project.write("aside.txt", "x");
    project.git(&["add", "aside.txt"]);
    project.git(&["commit", "-qm", "aside"]);
    let refused = said(&["backfill", "A", "--commit", "aside"], 2);
    assert!(refused.contains("is not part of main") && refused.contains("git merge"), "{refused}");
    // On the target, and red there.
    project.git(&["checkout", "-q", "main"]);
    project.write("broken", "x");
    project.git(&["add", "broken"]);
    project.git(&["commit", "-qm", "broken"]);
    let red = said(&["backfill", "A", "--commit", "main"], 5);
    assert!(red.contains("test") && red.contains("cofferdam gate --commit"), "{red}");
    assert!(project.states().get("A").is_none_or(|state| state == "pending"), "nothing of it was recorded: {:?}", project.states());
    // Green.
    project.git(&["rm", "-q", "broken"]);
    project.git(&["commit", "-qm", "mended"]);
    let before = gates();
    let green = said(&["backfill", "A", "--commit", "HEAD", "by", "hand"], 0);
    assert!(green.contains("backfilled") && green.contains("green on"), "{green}");
    assert_eq!(gates(), before + 1);
    let stored = project.events().into_iter().rev().find(|event| event["kind"] == "story.backfilled").expect("stored");
    let expected = serde_json::json!({"commit": project.git(&["rev-parse", "HEAD"]), "reason": "by hand", "gates": ["test"]});
    assert_eq!(stored["data"], expected);
    // The same tree is not paid for twice.
    said(&["backfill", "B", "--commit", "HEAD"], 0);
    assert_eq!(gates(), before + 1);
    let again = said(&["backfill", "A", "--commit", "HEAD"], 1);
    assert!(again.contains("it is done"), "{again}");
    // A red one, for whoever insists: the record says that nothing looked at it.
    said(&["reset", "B"], 0);
    let insisted = said(&["backfill", "B", "--commit", "HEAD~1", "--no-gate"], 0);
    assert!(insisted.contains("no gate looked at it"), "{insisted}");
    assert!(said(&["log", "B"], 0).contains("no gate looked at it"));
    // What comes after it starts.
    project.run(&["C"], 0);
    assert_eq!(project.states()["C"], "ready_for_review");
}

//! A program of the person's own hears of what happens: at least once, in order, signed; and a repository cannot name one.

use serde_json::Value;

use crate::common::Who;
use crate::support::Project;

/// Takes an event, and fails at the first two.
const HOOK: &str = "cat > \"$0.now\"; echo x >> \"$0.tries\"; [ \"$(wc -l < \"$0.tries\")\" -gt 2 ] || exit 1; \
    cat \"$0.now\" >> \"$0.told\"; echo >> \"$0.told\"; echo \"$COFFERDAM_SIGNATURE $COFFERDAM_EVENT\" >> \"$0.signed\"";

fn lines(path: &std::path::Path) -> Vec<String> {
    fs_err::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn events_are_told_once_at_least_in_order_and_signed_and_by_the_next_run_if_need_be() {
    let project = Project::new(Who::Caller, "[run]\nretry_delay = \"1ms\"\n", &[("A", "asks", &[]), ("B", "good", &[])]);
    let hook = project.world.path().join("hook");
    let config = |command: &str| {
        let quoted = Value::from(vec!["/bin/sh", "-c", command, hook.to_str().expect("text")]);
        project.world.write(
            "home/.config/cofferdam/config.toml",
            &format!("[notify]\ncommand = {quoted}\nsecret = \"env:HOOK_KEY\"\non = [\"story.ready\", \"story.blocked\", \"run\"]\n"),
        );
    };
    let run = |code: i32| {
        let mut command = project.command(&["run"]);
        command.env("HOOK_KEY", "k3y").stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        project.finish(command.spawn().expect("it runs"), code)
    };
    config(HOOK);
    run(3);
    let told: Vec<Value> = lines(&hook.with_extension("told")).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let wanted = |event: &Value| {
        let kind = event["kind"].as_str().unwrap_or_default();
        matches!(kind, "story.ready" | "story.blocked") || kind.starts_with("run.")
    };
    let stored: Vec<Value> = project.events().into_iter().filter(wanted).collect();
    assert_eq!(told, stored, "all of them, in order, as they are in the log");
    assert!(stored.len() >= 4 && lines(&hook.with_extension("tries")).len() == stored.len() + 2, "what failed was told again");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"k3y");
    for (line, signed) in lines(&hook.with_extension("told")).iter().zip(lines(&hook.with_extension("signed"))) {
        let signature = signed.split(' ').next().and_then(|word| word.strip_prefix("sha256=")).expect("signed").to_owned();
        let bytes: Vec<u8> =
            (0..signature.len()).step_by(2).map(|at| u8::from_str_radix(&signature[at..at + 2], 16).expect("hex")).collect();
        ring::hmac::verify(&key, line.as_bytes(), &bytes).expect("signed over exactly what came");
    }
    // One that never takes anything keeps no run, and the next run tells what it missed.
    config("exit 1");
    assert!(project.output(&["answer", "A", "blue"]).status.success());
    let said = run(0);
    assert!(said.contains("notify.command did not take event"), "{said}");
    let before = lines(&hook.with_extension("told")).len();
    config(HOOK);
    run(0);
    let told: Vec<Value> = lines(&hook.with_extension("told")).iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let stored: Vec<Value> = project.events().into_iter().filter(wanted).collect();
    assert!(told.len() > before && told == stored, "{told:#?}");
    project.is_clean();
}

#[test]
fn a_repository_cannot_name_a_program_that_hears_of_events() {
    let hook = "[run]\nretry_delay = \"1ms\"\n[notify]\ncommand = [\"/bin/sh\", \"-c\", \"touch /tmp/never\"]\n";
    let project = Project::new(Who::Caller, hook, &[("A", "good", &[])]);
    let said = project.run(&[], 2);
    assert!(said.contains("outside of every sandbox") && said.contains("your own config.toml"), "{said}");
}

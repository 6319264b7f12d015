//! What an agent is told and what scripts read, against the schemas that are printed for them.

use serde_json::Value;

use crate::common::{Who, everybody};
use crate::support::Project;

/// Whether a value fits a schema, for the words that our schemas use. The first place where it does not.
fn misfit(value: &Value, schema: &Value, at: &str) -> Option<String> {
    let says = |what: &str| Some(format!("{at}: {value} is not {what} of {schema}"));
    if let Some(wanted) = schema.get("const")
        && wanted != value
    {
        return says("the const");
    }
    if let Some(words) = schema.get("enum").and_then(Value::as_array)
        && !words.contains(value)
    {
        return says("in the enum");
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("a type `{other}`"),
    };
    let fits = match schema.get("type") {
        Some(Value::String(name)) => is(name),
        Some(Value::Array(names)) => names.iter().any(|name| is(name.as_str().expect("a name"))),
        _ => true,
    };
    if !fits {
        return says("the type");
    }
    if let Some(choices) = schema.get("anyOf").and_then(Value::as_array)
        && choices.iter().all(|choice| misfit(value, choice, at).is_some())
    {
        return says("any");
    }
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        if value.get(name.as_str().expect("a name")).is_none() {
            return Some(format!("{at} has no {name}"));
        }
    }
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let of_object = properties.filter_map(|(name, schema)| misfit(value.get(name)?, schema, &format!("{at}.{name}"))).next();
    let items = value.as_array().into_iter().flatten().zip(std::iter::repeat(schema.get("items")));
    let of_list = items.enumerate().filter_map(|(n, (item, schema))| misfit(item, schema?, &format!("{at}[{n}]"))).next();
    of_object.or(of_list)
}

#[test]
fn what_is_told_and_what_is_logged_fits_its_schema() {
    let project = Project::new(Who::Caller, "[run]\nretry_delay = \"1ms\"\n", &[("A", "twice", &[]), ("B", "asks", &[])]);
    project.run(&[], 3);
    let schema = project.json(&["schema", "events"]);
    let kinds = |kind: &str| {
        let of = schema["anyOf"].as_array().expect("kinds").iter();
        of.clone().find(|of| of["properties"]["kind"]["const"] == kind).cloned().unwrap_or_else(|| panic!("{kind} has no schema"))
    };
    for event in project.events() {
        assert_eq!(misfit(&event, &schema, "event"), None);
        assert_eq!(misfit(&event, &kinds(event["kind"].as_str().expect("a kind")), "event"), None);
    }
}

#[test]
fn an_agent_is_told_everything_and_can_write_only_its_answers() {
    for world in everybody() {
        let project = Project::new(world.who, "[run]\nretry_delay = \"1ms\"\n", &[("A", "keeps", &[])]);
        project.write("stories/00-overview.md", "The whole is about small files.\n");
        project.run(&[], 0);
        let file = |name: &str| project.git(&["show", &format!("refs/cofferdam/stories/A/1:{name}")]);
        let task: Value = serde_json::from_str(&file("told.json")).expect("JSON");
        let schema = project.json(&["schema", "task"]);
        assert_eq!(misfit(&task, &schema, "task"), None);
        assert_eq!((&task["story"]["id"], &task["story"]["criteria"][0]["id"], &task["attempt"]), (&"A".into(), &"AC-1".into(), &1.into()));
        assert_eq!(task["base"], project.git(&["rev-parse", "HEAD"]));
        let prompt = file("told.md");
        assert!(prompt.contains("A.txt says good") && prompt.contains("The whole is about small files."), "{prompt}");
        assert!(file("env.txt").lines().any(|line| line == "/workspace/project"), "{}", file("env.txt"));
        let tree = project.git(&["ls-tree", "--name-only", "refs/cofferdam/stories/A/1"]);
        assert!(!tree.contains("hole.txt"), "{}", file("hole.txt"));
        assert_eq!(file("denied.txt").lines().count(), 2, "both were refused: {}", file("denied.txt"));
    }
}

#[test]
fn what_is_kept_is_whole_and_holds_no_secret() {
    let project = Project::new(Who::Caller, "[run]\nretry_delay = \"1ms\"\n", &[("A", "leaks", &[])]);
    let output = project.command(&["run"]).env("SERVICE_API_KEY", "hunter2-and-so-on").output().expect("it runs");
    assert_eq!(output.status.code(), Some(0));
    assert!(project.output(&["evidence", "verify"]).status.success());
    let mut kept = String::new();
    let mut open = vec![project.path().join("../.local/state/cofferdam")];
    while let Some(path) = open.pop() {
        // What the workspace holds is the agent's own.
        if path.is_dir() && !path.ends_with("stories") && !path.ends_with("layers") {
            open.extend(fs_err::read_dir(&path).expect("a folder").flatten().map(|entry| entry.path()));
        } else if path.is_file() {
            kept.push_str(&String::from_utf8_lossy(&fs_err::read(&path).expect("read")));
        }
    }
    assert!(kept.contains("the key is [redacted: SERVICE_API_KEY], the token is [redacted: a token]"), "the transcript is there");
    assert!(kept.contains("and on the other stream: [redacted: SERVICE_API_KEY]"));
    assert!(!kept.contains("hunter2") && !kept.contains("ghp_0123"));
    let message = project.git(&["log", "-1", "--format=%s", "refs/cofferdam/stories/A/1"]);
    assert_eq!(message, "work with [redacted: SERVICE_API_KEY]");
}

#[test]
fn every_attempt_is_a_fresh_process_that_finds_nothing_of_the_one_before() {
    let project = Project::new(Who::Caller, "[run]\nretry_delay = \"1ms\"\n", &[("A", "remembers", &[])]);
    project.run(&[], 0);
    let tree = project.git(&["ls-tree", "--name-only", "refs/cofferdam/stories/A/2"]);
    assert!(tree.contains("A.txt") && !tree.contains("found.txt"), "{tree}");
}

#[test]
fn a_contract_is_checked_as_soon_as_it_is_there() {
    for (mode, missing) in [("with", "it left no contract"), ("before", "ended without one")] {
        let project = Project::new(
            Who::Caller,
            &format!("contract = \"{mode}\"\n[run]\nretry_delay = \"1ms\"\n"),
            &[("A", "signs", &[]), ("B", "misreads", &[]), ("C", "good", &[])],
        );
        if mode == "before" {
            // A process that was asked for nothing else ends by itself.
            let wrong = r#"echo '{"title": "Another story", "criteria": ["AC-1", "AC-9"]}' > /run/cofferdam/out/contract.json"#;
            project.write("agents/misreads.sh", &format!("{wrong}\n"));
            project.git(&["commit", "-qam", "brief"]);
        }
        let said = project.run(&[], 3);
        let status = project.json(&["status", "--json"]);
        let stories: Vec<_> =
            status["stories"].as_array().expect("a list").iter().map(|story| (&story["state"], &story["reason"])).collect();
        let blocked = (&Value::from("blocked"), &Value::from("contract"));
        assert_eq!(stories[1..], [blocked, blocked], "{mode}: {said}");
        assert_eq!(stories[0].0, "ready_for_review", "{mode}: {said}");
        assert!(said.contains("Another story") && said.contains(missing), "{mode}: {said}");
        // Asked before, nobody who misread it began to work.
        let begun = project.events().iter().filter(|event| event["kind"] == "attempt.started" && event["story"] == "B").count();
        assert_eq!(begun, usize::from(mode == "with"), "{mode}");
        project.is_clean();
    }
}

#[test]
fn a_prompt_alone_is_enough() {
    let project = Project::new(Who::Caller, "[run]\nretry_delay = \"1ms\"\n", &[]);
    project.run(&["--prompt", "Write a file that says good"], 0);
    let states: Vec<String> = project.states().into_values().collect();
    assert_eq!(states, ["ready_for_review"]);
    fs_err::write(project.path().join("prompt.md"), "# Another file\n\nWrite it.\n\n- [ ] it is there\n").expect("written");
    project.run(&[], 0);
    // Another text under the same name: what was made for the first is judged anew.
    let status = project.json(&["status", "--json"]);
    assert_eq!((&status["stories"][0]["title"], &status["stories"][0]["state"]), (&"Another file".into(), &"ready_for_review".into()));
}

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

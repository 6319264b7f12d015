//! The JSON Schema of a story's front matter.

use serde_json::{Value, json};

/// The schema, as editors and validators take it.
pub fn schema() -> Value {
    let line = json!({"type": "string", "minLength": 1});
    let id = json!({"type": ["string", "number"], "minLength": 1, "maxLength": 80, "pattern": "^[^-\\s]\\S*$"});
    let list = |item: &Value| json!({"anyOf": [item, {"type": "array", "items": item}]});
    let count = |low: u64, high: u64| json!({"type": "integer", "minimum": low, "maximum": high});
    let flag = json!({"type": "boolean"});
    let values = json!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}});
    let artifact = json!({
        "type": "object",
        "additionalProperties": false,
        "required": ["path"],
        "properties": {
            "path": line, "contains": list(&line), "regex": list(&line), "symbols": list(&line),
            "min_tests": count(1, 100_000), "absent": flag, "min_size": count(0, 1 << 40), "executable": flag,
            "changed": flag, "unchanged": flag, "json": values, "toml": values, "yaml": values, "command": line, "output": line,
        },
    });
    let criterion = json!({"anyOf": [line, {"type": "object"}]});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "the front matter of a story",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "id": id,
            "title": line,
            "epic": line,
            "stream": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
            "priority": count(1, 9),
            "after": list(&id),
            "wired_with": list(&id),
            "artifacts": list(&json!({"anyOf": [line, artifact]})),
            "checks": list(&line),
            "scope": list(&line),
            "budget": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "iterations": count(1, 1000), "model_calls": count(1, 1_000_000), "tokens": count(1, 1_000_000_000_000),
                    "usd": {"type": "number", "exclusiveMinimum": 0}, "wall": {"type": "string"},
                },
            },
            "automatable": {"type": "boolean"},
            "criteria": list(&criterion),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::fields::{ARTIFACT_KEYS, BUDGET_KEYS, KEYS};
    use super::*;

    #[test]
    fn the_schema_has_the_keys_that_are_read() {
        fn keys(value: &Value) -> Vec<String> {
            value["properties"].as_object().map(|o| o.keys().cloned().collect()).unwrap_or_default()
        }
        let sorted = |keys: &[&str]| {
            let mut keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
            keys.sort();
            keys
        };
        let schema = schema();
        assert_eq!(keys(&schema), sorted(&KEYS));
        assert_eq!(keys(&schema["properties"]["budget"]), sorted(&BUDGET_KEYS));
        assert_eq!(keys(&schema["properties"]["artifacts"]["anyOf"][0]["anyOf"][1]), sorted(&ARTIFACT_KEYS));
    }
}

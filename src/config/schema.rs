//! The JSON Schema of `cofferdam.toml`, made from the key table.

use serde_json::{Map, Value, json};

use super::keys::{KEYS, Kind, Step, steps};

/// The schema, as editors and validators take it.
pub fn schema() -> Value {
    let mut root = object();
    for key in KEYS {
        let path: Vec<Step<'static>> = steps(key.path).collect();
        place(&mut root, &path, &leaf(key.kind, key.help));
    }
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("cofferdam.toml");
    root
}

fn object() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {}})
}

fn place(table: &mut Value, path: &[Step<'static>], leaf: &Value) {
    let Some((step, rest)) = path.split_first() else { return };
    match step {
        Step::Name(name) => {
            let name = *name;
            let list = name.strip_suffix("[]");
            let child = properties(table).entry(list.unwrap_or(name)).or_insert_with(|| match (rest.is_empty(), list) {
                (true, _) => leaf.clone(),
                (false, None) => object(),
                (false, Some(_)) => json!({"type": "array", "items": object()}),
            });
            place(if list.is_some() { &mut child["items"] } else { child }, rest, leaf);
        }
        Step::OneOf(names) => {
            for name in *names {
                let child = properties(table).entry(*name).or_insert_with(|| if rest.is_empty() { leaf.clone() } else { object() });
                place(child, rest, leaf);
            }
        }
        Step::Any => {
            if !table["additionalProperties"].is_object() {
                table["additionalProperties"] = object();
            }
            place(&mut table["additionalProperties"], rest, leaf);
        }
    }
}

fn properties(table: &mut Value) -> &mut Map<String, Value> {
    let properties = &mut table["properties"];
    if !properties.is_object() {
        *properties = json!({});
    }
    match properties {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object just above"),
    }
}

fn leaf(kind: Kind, help: &str) -> Value {
    let texts = |items: Value| json!({"type": "array", "items": items});
    let text = json!({"type": "string"});
    let mut leaf = match kind {
        Kind::Count(low, high) => json!({"type": "integer", "minimum": low, "maximum": high}),
        Kind::Number(high) => json!({"type": "number", "exclusiveMinimum": 0, "maximum": high}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Words(words) => texts(json!({"enum": words})),
        Kind::Globs | Kind::Folders | Kind::Hosts | Kind::Argv | Kind::Texts => texts(text),
        Kind::Size => json!({"type": ["string", "integer"]}),
        Kind::Text
        | Kind::Time
        | Kind::Path
        | Kind::Name
        | Kind::Branch
        | Kind::Host
        | Kind::Header
        | Kind::UrlPath
        | Kind::Variable
        | Kind::Secret
        | Kind::Report => text,
    };
    leaf["description"] = json!(format!("{help}: {}", kind.wanted()));
    leaf
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_the_schema_and_nothing_else_is_allowed() {
        let schema = schema();
        assert_eq!(schema["properties"]["run"]["properties"]["parallel"]["maximum"], 256);
        assert_eq!(schema["properties"]["gate"]["items"]["properties"]["name"]["type"], "string");
        assert_eq!(schema["properties"]["limits"]["properties"]["gate"]["properties"]["pids"]["type"], "integer");
        assert_eq!(schema["properties"]["stream"]["additionalProperties"]["properties"]["parallel"]["minimum"], 0);
        assert_eq!(schema["properties"]["run"]["additionalProperties"], false);
        assert_eq!(schema["properties"]["network"]["properties"]["gate"]["type"], "array");
        assert_eq!(schema["properties"]["budget"]["properties"]["run"]["properties"]["usd"]["type"], "number");
    }
}

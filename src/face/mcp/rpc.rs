//! JSON-RPC 2.0 as the Model Context Protocol frames it over standard streams: one message a line. Pure.

use serde_json::{Map, Value, json};

/// No message is longer.
pub(super) const LONGEST: usize = 1 << 20;

/// What a line is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    Request {
        id: Value,
        method: String,
        params: Map<String, Value>,
    },
    /// Wants no answer.
    Notification,
    /// The answer to it is an error.
    Bad(Value),
}

/// Errors by their numbers.
pub(super) const PARSE: i64 = -32_700;
pub(super) const INVALID: i64 = -32_600;
pub(super) const NO_METHOD: i64 = -32_601;
pub(super) const PARAMS: i64 = -32_602;

/// Reads one line, without its end.
pub(super) fn read(line: &[u8]) -> Message {
    let bad = |id: Value, code: i64, why: &str| Message::Bad(error(&id, code, why));
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(why) => return bad(Value::Null, PARSE, &format!("this is no JSON: {why}")),
    };
    let Value::Object(mut message) = value else {
        return bad(Value::Null, INVALID, "a message is an object; several at once are not taken");
    };
    let id = message.remove("id");
    let answer_to = match &id {
        Some(id @ (Value::String(_) | Value::Number(_))) => id.clone(),
        _ => Value::Null,
    };
    if id.is_some() && answer_to.is_null() {
        return bad(Value::Null, INVALID, "an id is a string or a number");
    }
    if message.get("jsonrpc") != Some(&json!("2.0")) {
        return bad(answer_to, INVALID, "jsonrpc must be \"2.0\"");
    }
    let Some(Value::String(method)) = message.remove("method") else {
        // An answer to something that was never asked: nobody waits for one.
        let is_answer = message.contains_key("result") || message.contains_key("error");
        return if is_answer { Message::Notification } else { bad(answer_to, INVALID, "there is no method") };
    };
    let params = match message.remove("params") {
        None => Map::new(),
        Some(Value::Object(params)) => params,
        Some(_) if id.is_none() => return Message::Notification,
        Some(_) => return bad(answer_to, PARAMS, "params must be an object"),
    };
    if id.is_none() { Message::Notification } else { Message::Request { id: answer_to, method, params } }
}

pub(super) fn result(id: &Value, result: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "result": result})
}

pub(super) fn error(id: &Value, code: i64, why: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": why}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn code(line: &str) -> i64 {
        match read(line.as_bytes()) {
            Message::Bad(error) => error["error"]["code"].as_i64().expect("a number"),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn only_what_is_a_message_is_one() {
        let params: Map<String, Value> = [("a".to_owned(), json!(1))].into_iter().collect();
        let asked = Message::Request { id: json!("x"), method: "ping".to_owned(), params };
        assert_eq!(read(br#"{"jsonrpc":"2.0","id":"x","method":"ping","params":{"a":1}}"#), asked);
        assert_eq!(read(br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#), Message::Notification);
        assert_eq!(read(br#"{"jsonrpc":"2.0","id":1,"result":{}}"#), Message::Notification);
        assert_eq!(code("{"), PARSE);
        assert_eq!(code("\u{0}"), PARSE);
        for line in [
            "[]",
            "1",
            "null",
            "{}",
            r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":[1],"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":7}"#,
        ] {
            assert_eq!(code(line), INVALID, "{line}");
        }
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#), PARAMS);
        assert!(matches!(read(&[0xff, 0xfe]), Message::Bad(_)));
        assert_eq!(code(&"[".repeat(100_000)), PARSE, "depth is bounded");
    }

    proptest! {
        #[test]
        fn no_line_breaks_it(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&line);
        }
    }
}

//! `gemini -o stream-json`.

use serde_json::Value;

use super::{Event, count, detail, failure, text, word};
use crate::event::Amount;

pub(super) fn read(value: &Value, events: &mut Vec<Event>) {
    match word(value, "/type") {
        "init" => events.push(Event::Began { model: text(value, "/model") }),
        "message" if word(value, "/role") == "assistant" => {
            let delta = value.get("delta").and_then(Value::as_bool).unwrap_or(false);
            events.push(Event::Message { text: text(value, "/content").unwrap_or_default(), delta });
        }
        "tool_use" => {
            let input = value.get("parameters").unwrap_or(&Value::Null);
            events.push(Event::Tool { name: text(value, "/tool_name").unwrap_or_default(), detail: detail(input) });
        }
        "tool_result" => events.push(Event::ToolEnded { failed: word(value, "/status") != "success" }),
        "error" => events.push(failure(word(value, "/message"), None, None, false)),
        "result" => {
            let amount = Amount {
                tokens_in: count(value, "/stats/input_tokens"),
                tokens_out: count(value, "/stats/output_tokens"),
                ..Amount::default()
            };
            events.push(Event::Spent { amount, total: true });
            let ok = word(value, "/status") == "success";
            if !ok {
                events.push(failure(word(value, "/error/message"), None, None, true));
            }
            events.push(Event::Ended { ok, reason: text(value, "/error/type") });
        }
        _ => {}
    }
}

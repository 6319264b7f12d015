//! `codex exec --json`: threads, turns and items.

use serde_json::Value;

use super::{Event, count, detail, failure, text, word};
use crate::event::Amount;

pub(super) fn read(value: &Value, events: &mut Vec<Event>) {
    match word(value, "/type") {
        "thread.started" => events.push(Event::Began { model: None }),
        "item.started" | "item.completed" => item(value, word(value, "/type") == "item.completed", events),
        "turn.completed" => {
            let amount = Amount {
                tokens_in: count(value, "/usage/input_tokens"),
                tokens_out: count(value, "/usage/output_tokens"),
                ..Amount::default()
            };
            events.push(Event::Spent { amount, total: false });
            events.push(Event::Ended { ok: true, reason: None });
        }
        "turn.failed" => {
            events.push(failure(word(value, "/error/message"), None, None, true));
            events.push(Event::Ended { ok: false, reason: text(value, "/error/message") });
        }
        // It tries again by itself after these; `turn.failed` follows when it gave up.
        "error" => events.push(failure(word(value, "/message"), None, None, false)),
        _ => {}
    }
}

fn item(value: &Value, completed: bool, events: &mut Vec<Event>) {
    match (word(value, "/item/type"), completed) {
        ("agent_message", true) => {
            // It does not tell its calls of the model; each message or tool call comes of at least one.
            events.push(Event::Spent { amount: Amount { model_calls: 1, ..Amount::default() }, total: false });
            events.push(Event::Message { text: text(value, "/item/text").unwrap_or_default(), delta: false });
        }
        // `Model metadata not found` and the like: told, and harmless.
        ("error", true) => events.push(Event::Failed { message: text(value, "/item/message").unwrap_or_default(), last: false }),
        ("command_execution" | "mcp_tool_call" | "web_search" | "file_change", false) => {
            let name = word(value, "/item/type").to_owned();
            events.push(Event::Tool { name, detail: detail(value.get("item").unwrap_or(&Value::Null)) });
        }
        ("command_execution" | "mcp_tool_call" | "web_search" | "file_change", true) => {
            let failed =
                word(value, "/item/status") == "failed" || value.pointer("/item/exit_code").and_then(Value::as_i64).is_some_and(|c| c != 0);
            events.push(Event::ToolEnded { failed });
        }
        _ => {}
    }
}

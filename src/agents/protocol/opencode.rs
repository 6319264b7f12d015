//! `opencode run --format json`: parts of messages; tokens and costs come step by step.

use serde_json::Value;

use super::{Event, count, detail, failure, microusd, text, word};
use crate::event::Amount;

pub(super) fn read(value: &Value, events: &mut Vec<Event>) {
    match word(value, "/type") {
        "text" => events.push(Event::Message { text: text(value, "/part/text").unwrap_or_default(), delta: false }),
        "tool_use" => {
            let input = value.pointer("/part/state/input").unwrap_or(&Value::Null);
            events.push(Event::Tool { name: text(value, "/part/tool").unwrap_or_default(), detail: detail(input) });
            match word(value, "/part/state/status") {
                "completed" => events.push(Event::ToolEnded { failed: false }),
                "error" => events.push(Event::ToolEnded { failed: true }),
                _ => {}
            }
        }
        "step_finish" => {
            let cached = count(value, "/part/tokens/cache/read").saturating_add(count(value, "/part/tokens/cache/write"));
            let amount = Amount {
                model_calls: 1,
                tokens_in: count(value, "/part/tokens/input").saturating_add(cached),
                tokens_out: count(value, "/part/tokens/output").saturating_add(count(value, "/part/tokens/reasoning")),
                cost_microusd: microusd(value, "/part/cost"),
                wall_ms: 0,
            };
            events.push(Event::Spent { amount, total: false });
            if word(value, "/part/reason") == "stop" {
                events.push(Event::Ended { ok: true, reason: None });
            }
        }
        "error" => {
            let message =
                text(value, "/error/data/message").or_else(|| text(value, "/error/message")).or_else(|| text(value, "/error/name"));
            let status = value.pointer("/error/data/statusCode").and_then(Value::as_u64);
            events.push(failure(&message.unwrap_or_default(), status, None, true));
            events.push(Event::Ended { ok: false, reason: text(value, "/error/name") });
        }
        _ => {}
    }
}

//! `claude -p --output-format stream-json`: one JSON object a line. Qwen speaks the same.
//!
//! The result line is not always the last, and says `"subtype":"success"` also when the provider failed: what counts is `is_error`.

use std::collections::HashSet;

use jiff::SignedDuration;
use serde_json::Value;

use super::{Event, Reset, count, detail, failure, microusd, moment, text, word};
use crate::event::Amount;

/// Messages are printed in parts that share an id: each is one call of the model.
#[derive(Debug, Default)]
pub(super) struct State {
    seen: HashSet<String>,
}

/// More messages than this are not told apart any more; the result line has the sum anyway.
const MOST_IDS: usize = 10_000;

pub(super) fn read(state: &mut State, value: &Value, events: &mut Vec<Event>) {
    match word(value, "/type") {
        "system" => match word(value, "/subtype") {
            "init" => events.push(Event::Began { model: text(value, "/model") }),
            "api_retry" => {
                let status = value.pointer("/error_status").and_then(Value::as_u64);
                let after = value.pointer("/retry_delay_ms").and_then(Value::as_u64).and_then(|ms| i64::try_from(ms).ok());
                let message = format!("the provider answered {} ({})", status.unwrap_or(0), word(value, "/error"));
                events.push(failure(&message, status, after.map(SignedDuration::from_millis), false));
            }
            _ => {}
        },
        "rate_limit_event" => {
            let info = value.get("rate_limit_info").unwrap_or(value);
            if word(info, "/status") == "rejected" {
                let reset = info.pointer("/resetsAt").and_then(Value::as_u64).and_then(moment).map_or(Reset::Unknown, Reset::At);
                events.push(Event::Limited { reset, message: "the provider's limit is reached".to_owned(), last: false });
            }
        }
        "assistant" => assistant(state, value, events),
        "user" => {
            let parts = value.pointer("/message/content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let results = parts.iter().filter(|part| word(part, "/type") == "tool_result");
            events.extend(results.map(|part| Event::ToolEnded { failed: part.get("is_error").and_then(Value::as_bool).unwrap_or(false) }));
        }
        "result" => result(value, events),
        _ => {}
    }
}

fn assistant(state: &mut State, value: &Value, events: &mut Vec<Event>) {
    let synthetic = word(value, "/message/model") == "<synthetic>";
    let id = word(value, "/message/id");
    if !synthetic && state.seen.len() < MOST_IDS && state.seen.insert(id.chars().take(100).collect()) {
        let amount = Amount { model_calls: 1, tokens_in: count(value, "/message/usage/input_tokens"), ..Amount::default() };
        events.push(Event::Spent { amount, total: false });
    }
    for part in value.pointer("/message/content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
        match word(part, "/type") {
            "text" if synthetic => {
                events.push(failure(word(part, "/text"), value.pointer("/error_status").and_then(Value::as_u64), None, false));
            }
            "text" => events.push(Event::Message { text: text(part, "/text").unwrap_or_default(), delta: false }),
            "tool_use" => {
                let name = text(part, "/name").unwrap_or_default();
                events.push(Event::Tool { name, detail: detail(part.get("input").unwrap_or(&Value::Null)) });
            }
            _ => {}
        }
    }
}

fn result(value: &Value, events: &mut Vec<Event>) {
    let cached = count(value, "/usage/cache_read_input_tokens").saturating_add(count(value, "/usage/cache_creation_input_tokens"));
    let amount = Amount {
        // Calls that failed are no turns; what was counted line by line stays.
        model_calls: 0,
        tokens_in: count(value, "/usage/input_tokens").saturating_add(cached),
        tokens_out: count(value, "/usage/output_tokens"),
        cost_microusd: microusd(value, "/total_cost_usd"),
        wall_ms: 0,
    };
    events.push(Event::Spent { amount, total: true });
    let failed = value.get("is_error").and_then(Value::as_bool).unwrap_or(false) || word(value, "/subtype").starts_with("error");
    let said = text(value, "/result").unwrap_or_default();
    if failed {
        let status = value.pointer("/api_error_status").and_then(Value::as_u64);
        events.push(failure(&said, status, None, true));
    } else if !said.is_empty() {
        events.push(Event::Message { text: said, delta: false });
    }
    events.push(Event::Ended { ok: !failed, reason: text(value, "/terminal_reason").or_else(|| text(value, "/subtype")) });
}

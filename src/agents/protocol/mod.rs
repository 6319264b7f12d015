//! What real agents print while they work: streams of JSON lines, each with words of its own, read into one kind of event. Pure.
//!
//! ```text
//! bytes ─▶ lines (bounded) ─▶ claude | codex | opencode | gemini | text ─▶ Event ─▶ Session (what is known so far)
//! ```
//!
//! Readers are incremental, keep a bounded amount, and never fail: what they cannot read is counted. They tell what an agent *said*; whether
//! its work is good is judged elsewhere, and "success" here means nothing.

mod claude;
mod codex;
mod gemini;
mod limit;
mod lines;
mod opencode;
mod session;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::base::text::cut;
use crate::event::Amount;

pub use limit::Reset;
pub use session::Session;

/// The longest line that is read.
pub const LONGEST_LINE: usize = 1 << 20;
/// The longest text that an event carries.
const LONGEST_TEXT: usize = 256 << 10;
/// The longest detail of a tool call.
const LONGEST_DETAIL: usize = 400;

/// How an agent prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// `claude -p --output-format stream-json`, and `qwen -o stream-json`, which speaks the same.
    Claude,
    /// `codex exec --json`
    Codex,
    /// `opencode run --format json`
    Opencode,
    /// `gemini -o stream-json`
    Gemini,
    /// Words for people: only a provider's refusals are looked for.
    #[default]
    Text,
}

/// One thing that an agent said.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    Began {
        model: Option<String>,
    },
    /// Words of the model. `delta` continues the message before.
    Message {
        text: String,
        delta: bool,
    },
    Tool {
        name: String,
        detail: String,
    },
    ToolEnded {
        failed: bool,
    },
    /// What was spent: since the event before, or in all.
    Spent {
        amount: Amount,
        total: bool,
    },
    /// The provider refused for now. `last` when the agent gave up over it.
    Limited {
        reset: Reset,
        message: String,
        last: bool,
    },
    Failed {
        message: String,
        last: bool,
    },
    /// The agent considers itself done.
    Ended {
        ok: bool,
        reason: Option<String>,
    },
    /// A line that could not be read, and why.
    Odd(&'static str),
}

/// Reads one stream of one agent.
#[derive(Debug)]
pub struct Reader {
    format: Format,
    lines: lines::Lines,
    claude: claude::State,
}

impl Reader {
    pub fn new(format: Format) -> Self {
        Self { format, lines: lines::Lines::new(LONGEST_LINE), claude: claude::State::default() }
    }

    /// Takes more bytes, and gives what they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        let (format, claude) = (self.format, &mut self.claude);
        self.lines.push(bytes, &mut |line| read(format, claude, line, &mut events));
        events
    }

    /// The stream is over: a last line without an end counts too.
    pub fn finish(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let (format, claude) = (self.format, &mut self.claude);
        self.lines.finish(&mut |line| read(format, claude, line, &mut events));
        events
    }
}

fn read(format: Format, state: &mut claude::State, line: Option<&[u8]>, events: &mut Vec<Event>) {
    let Some(line) = line else { return events.push(Event::Odd("a line was longer than is read")) };
    let line = line.trim_ascii();
    if line.is_empty() {
        return;
    }
    if format == Format::Text {
        let text = String::from_utf8_lossy(line);
        if let Some(reset) = limit::in_words(&text) {
            events.push(Event::Limited { reset, message: cut(&text, LONGEST_DETAIL), last: false });
        }
        return events.push(Event::Message { text: cut(&text, LONGEST_TEXT), delta: false });
    }
    // Depth is bounded by the reader; everything else by the line's length.
    let Ok(value) = serde_json::from_slice::<Value>(line) else { return events.push(Event::Odd("a line was no JSON")) };
    match format {
        Format::Claude => claude::read(state, &value, events),
        Format::Codex => codex::read(&value, events),
        Format::Opencode => opencode::read(&value, events),
        Format::Gemini => gemini::read(&value, events),
        Format::Text => {}
    }
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).map(|text| cut(text, LONGEST_TEXT))
}

fn word<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A count; nonsense is none.
fn count(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or(0)
}

/// US dollars as millionths. Negative and absurd sums are none.
fn microusd(value: &Value, pointer: &str) -> u64 {
    let dollars = value.pointer(pointer).and_then(Value::as_f64).filter(|usd| usd.is_finite() && (0.0..1e9).contains(usd)).unwrap_or(0.0);
    // Within bounds by the filter above.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded above")]
    let micro = (dollars * 1e6).round() as u64;
    micro
}

/// The arguments of a tool in a line: its command or path when it has one.
fn detail(input: &Value) -> String {
    let key = ["command", "cmd", "file_path", "filePath", "path", "pattern", "url", "query"].iter().find_map(|key| input.get(key));
    let shown = match key {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => input.to_string(),
    };
    cut(&crate::base::text::one_line(&shown), LONGEST_DETAIL)
}

/// A failure: the provider's refusal for now, or any other.
fn failure(message: &str, status: Option<u64>, retry: Option<SignedDuration>, last: bool) -> Event {
    let reset = match (status, retry) {
        (Some(429 | 529), Some(after)) => Some(Reset::After(after)),
        (Some(429 | 529), None) => Some(limit::in_words(message).unwrap_or(Reset::Unknown)),
        _ => limit::in_words(message),
    };
    let message = cut(message, LONGEST_TEXT);
    match reset {
        Some(reset) => Event::Limited { reset, message, last },
        None => Event::Failed { message, last },
    }
}

/// Seconds since 1970, or milliseconds when it is too large for that.
fn moment(number: u64) -> Option<Timestamp> {
    let number = i64::try_from(number).ok()?;
    if number > 100_000_000_000 { Timestamp::from_millisecond(number).ok() } else { Timestamp::from_second(number).ok() }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

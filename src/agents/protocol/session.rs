//! What is known of a session so far: a fold over its events.

use super::{Event, LONGEST_TEXT, Reset};
use crate::base::text::{cut, one_line};
use crate::event::Amount;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Session {
    pub model: Option<String>,
    pub spent: Amount,
    /// The last message of the model, whole as far as it is kept: a reviewer's verdict may be in it.
    pub last_message: Option<String>,
    /// The provider's refusal, when nothing came after it.
    pub limited: Option<(Reset, String)>,
    /// The last failure that was not mended by going on.
    pub failure: Option<String>,
    /// It gave up, or said that it is done.
    pub ended: Option<bool>,
    pub tools: u64,
    /// Lines that could not be read.
    pub odd: u64,
}

impl Session {
    /// Takes an event; gives a line to show while it runs.
    pub fn take(&mut self, event: Event) -> Option<String> {
        match event {
            Event::Began { model } => self.model = model.or(self.model.take()),
            Event::Message { text, delta } => {
                (self.limited, self.failure) = (None, None);
                let kept = match self.last_message.take() {
                    Some(before) if delta && before.len() < LONGEST_TEXT => before + &text,
                    _ => text,
                };
                let shown = kept.lines().rev().find(|line| !line.trim().is_empty()).map(|line| cut(&one_line(line.trim()), 200));
                self.last_message = Some(kept);
                return shown;
            }
            Event::Tool { name, detail } => {
                (self.limited, self.failure) = (None, None);
                self.tools = self.tools.saturating_add(1);
                // What is said after a tool is another message.
                self.last_message = None;
                return Some(cut(&format!("{}: {detail}", one_line(&name)), 200));
            }
            Event::ToolEnded { .. } => {}
            Event::Spent { amount, total: false } => self.spent = self.spent.plus(amount),
            Event::Spent { amount, total: true } => {
                let calls = self.spent.model_calls.max(amount.model_calls);
                let most = |a: u64, b: u64| a.max(b);
                self.spent = Amount {
                    model_calls: calls,
                    tokens_in: most(self.spent.tokens_in, amount.tokens_in),
                    tokens_out: most(self.spent.tokens_out, amount.tokens_out),
                    cost_microusd: most(self.spent.cost_microusd, amount.cost_microusd),
                    wall_ms: self.spent.wall_ms,
                };
            }
            Event::Limited { reset, message, .. } => {
                let line = cut(&one_line(&message), 200);
                self.limited = Some((reset, message));
                return Some(line);
            }
            Event::Failed { message, .. } => {
                let line = cut(&one_line(&message), 200);
                self.failure = Some(message);
                return Some(line);
            }
            Event::Ended { ok, .. } => self.ended = Some(ok),
            Event::Odd(_) => self.odd = self.odd.saturating_add(1),
        }
        None
    }

    /// Did the provider's refusal end it? Only when the agent itself did not end well after it.
    pub fn stopped_by_limit(&self) -> Option<(Reset, &str)> {
        let (reset, message) = self.limited.as_ref()?;
        (self.ended != Some(true)).then_some((*reset, message.as_str()))
    }
}

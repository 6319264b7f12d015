//! What a model call used, read from the provider's own answer as it passes: bounded, and never in its way. Pure.
//!
//! The numbers come from outside the sandbox: an agent cannot lie about them. A provider that reports none is charged by the bytes that went
//! over, so that silence is no way around a budget.

use serde_json::Value;

use super::provider::Provider;

/// The longest line of a stream, and the longest whole answer, that is read.
const LONGEST: usize = 4 << 20;
/// Bytes a token, where a provider does not say.
const BYTES_A_TOKEN: u64 = 4;

/// What one call used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub model: Option<String>,
    /// Tokens read, the cached ones not among them.
    pub input: u64,
    /// Tokens read from a cache, and written to one.
    pub cached: u64,
    pub written: u64,
    pub output: u64,
    /// The provider said so itself.
    pub reported: bool,
}

impl Usage {
    pub fn tokens_in(&self) -> u64 {
        self.input.saturating_add(self.cached).saturating_add(self.written)
    }
}

/// Reads one answer.
#[derive(Debug)]
pub struct Meter {
    provider: Provider,
    stream: bool,
    line: Vec<u8>,
    overlong: bool,
    bytes: u64,
    usage: Usage,
}

impl Meter {
    pub fn new(provider: Provider, content_type: &str) -> Self {
        let stream = content_type.to_ascii_lowercase().contains("event-stream");
        Self { provider, stream, line: Vec::new(), overlong: false, bytes: 0, usage: Usage::default() }
    }

    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if !self.stream {
            return self.keep(bytes);
        }
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            self.keep(&rest[..at]);
            self.end_of_line();
            rest = &rest[at + 1..];
        }
        self.keep(rest);
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.overlong |= self.line.len() + bytes.len() > LONGEST;
        if !self.overlong {
            self.line.extend_from_slice(bytes);
        }
    }

    fn end_of_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if !std::mem::take(&mut self.overlong)
            && let Some(data) = line.strip_prefix(b"data:")
            && let Ok(value) = serde_json::from_slice::<Value>(data)
        {
            self.read(&value);
        }
    }

    /// What was used, when the answer is over. `sent` is how many bytes the request had.
    pub fn finish(mut self, sent: u64) -> Usage {
        if self.stream {
            self.end_of_line();
        } else if !self.overlong
            && let Ok(value) = serde_json::from_slice::<Value>(&self.line)
        {
            // Gemini without `alt=sse` streams a list.
            match &value {
                Value::Array(parts) => parts.iter().for_each(|part| self.read(part)),
                other => self.read(other),
            }
        }
        if !self.usage.reported {
            self.usage.input = sent.div_ceil(BYTES_A_TOKEN);
            self.usage.output = self.bytes.div_ceil(BYTES_A_TOKEN);
        }
        self.usage
    }

    fn read(&mut self, value: &Value) {
        match self.provider {
            Provider::Anthropic => {
                let message = value.get("message").unwrap_or(value);
                self.model(message.get("model"));
                if let Some(usage) = value.get("usage").or_else(|| message.get("usage")).filter(|u| u.is_object()) {
                    self.take(usage, "input_tokens", |u| &mut u.input);
                    self.take(usage, "cache_read_input_tokens", |u| &mut u.cached);
                    self.take(usage, "cache_creation_input_tokens", |u| &mut u.written);
                    self.take(usage, "output_tokens", |u| &mut u.output);
                }
            }
            Provider::OpenAi => {
                let response = value.get("response").unwrap_or(value);
                self.model(response.get("model"));
                if let Some(usage) = response.get("usage").filter(|u| u.is_object()) {
                    for (input, output, details) in [
                        ("input_tokens", "output_tokens", "input_tokens_details"),
                        ("prompt_tokens", "completion_tokens", "prompt_tokens_details"),
                    ] {
                        self.take(usage, input, |u| &mut u.input);
                        self.take(usage, output, |u| &mut u.output);
                        if let Some(cached) = usage.get(details).and_then(|d| d.get("cached_tokens")).and_then(Value::as_u64) {
                            let total = usage.get(input).and_then(Value::as_u64).unwrap_or(0);
                            self.usage.cached = cached;
                            self.usage.input = total.saturating_sub(cached);
                        }
                    }
                }
            }
            Provider::Gemini => {
                // The service of a login wraps what it answers.
                let value = value.get("response").unwrap_or(value);
                self.model(value.get("modelVersion"));
                if let Some(usage) = value.get("usageMetadata").filter(|u| u.is_object()) {
                    let number = |name: &str| usage.get(name).and_then(Value::as_u64).unwrap_or(0);
                    self.usage.cached = number("cachedContentTokenCount");
                    self.usage.input =
                        number("promptTokenCount").saturating_add(number("toolUsePromptTokenCount")).saturating_sub(self.usage.cached);
                    self.usage.output = number("candidatesTokenCount").saturating_add(number("thoughtsTokenCount"));
                    self.usage.reported = true;
                }
            }
        }
    }

    fn model(&mut self, value: Option<&Value>) {
        if let Some(name) = value.and_then(Value::as_str) {
            self.usage.model = Some(crate::base::text::cut(&crate::base::text::one_line(name), 100));
        }
    }

    /// Later numbers replace earlier ones: a stream counts up, and says the sum at its end.
    fn take(&mut self, usage: &Value, name: &str, field: impl Fn(&mut Usage) -> &mut u64) {
        if let Some(number) = usage.get(name).and_then(Value::as_u64) {
            *field(&mut self.usage) = number;
            self.usage.reported = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(provider: Provider, kind: &str, text: &str, cut: usize) -> Usage {
        let mut meter = Meter::new(provider, kind);
        text.as_bytes().chunks(cut).for_each(|piece| meter.push(piece));
        meter.finish(400)
    }

    const ANTHROPIC: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-x\",\"usage\":{\"input_tokens\":10,\"cache_creation_input_tokens\":3,\"cache_read_input_tokens\":7,\"output_tokens\":1}}}\n\nevent: message_delta\r\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":55}}\r\n\r\n";
    const RESPONSES: &str = "data: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-x\",\"usage\":null}}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"model\":\"gpt-x\",\"usage\":{\"input_tokens\":100,\"input_tokens_details\":{\"cached_tokens\":40},\"output_tokens\":9}}}\n\n";
    const CHAT: &str =
        "{\"model\":\"gpt-x\",\"usage\":{\"prompt_tokens\":12,\"completion_tokens\":3,\"prompt_tokens_details\":{\"cached_tokens\":0}}}";
    const GEMINI: &str = "[{\"modelVersion\":\"gemini-x\",\"usageMetadata\":{\"promptTokenCount\":20,\"candidatesTokenCount\":1}},\n{\"usageMetadata\":{\"promptTokenCount\":20,\"cachedContentTokenCount\":5,\"candidatesTokenCount\":4,\"thoughtsTokenCount\":2}}]";

    fn usage(model: &str, input: u64, cached: u64, written: u64, output: u64) -> Usage {
        Usage { model: Some(model.to_owned()), input, cached, written, output, reported: true }
    }

    proptest! {
        /// However the answer arrives, the numbers are the same.
        #[test]
        fn every_provider_s_numbers_are_read(cut in 1_usize..300) {
            prop_assert_eq!(read(Provider::Anthropic, "text/event-stream; charset=utf-8", ANTHROPIC, cut), usage("claude-x", 10, 7, 3, 55));
            prop_assert_eq!(read(Provider::OpenAi, "text/event-stream", RESPONSES, cut), usage("gpt-x", 60, 40, 0, 9));
            prop_assert_eq!(read(Provider::OpenAi, "application/json", CHAT, cut), usage("gpt-x", 12, 0, 0, 3));
            prop_assert_eq!(read(Provider::Gemini, "application/json", GEMINI, cut), usage("gemini-x", 15, 5, 0, 6));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}:\",a-z0-9\n ]{0,80}") {
            for provider in Provider::ALL {
                for kind in ["text/event-stream", "application/json"] {
                    let mut meter = Meter::new(provider, kind);
                    meter.push(&bytes);
                    meter.push(format!("\ndata: {text}\n").as_bytes());
                    prop_assert!(meter.finish(0).tokens_in() < u64::MAX);
                }
            }
        }
    }

    #[test]
    fn silence_is_charged_by_the_bytes_and_a_flood_is_bounded() {
        assert_eq!(read(Provider::OpenAi, "text/event-stream", "data: {\"model\":\"m\"}\n\ndata: [DONE]\n\n", 7).input, 100);
        let mut meter = Meter::new(Provider::Anthropic, "text/event-stream");
        (0..100).for_each(|_| meter.push(&vec![b'x'; 1 << 20]));
        assert!(meter.line.len() <= LONGEST);
        meter.push(b"\n");
        meter.push(ANTHROPIC.as_bytes());
        assert_eq!(meter.finish(0).output, 55);
    }
}

//! The model providers whose requests we know: which of them are calls, and how a refusal reads to their clients. Pure.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    Anthropic,
    OpenAi,
    Gemini,
}

impl Provider {
    pub const ALL: [Self; 3] = [Self::Anthropic, Self::OpenAi, Self::Gemini];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
            Self::Gemini => "gemini",
        }
    }

    /// Where its own service is.
    pub const fn host(self) -> &'static str {
        match self {
            Self::Anthropic => "api.anthropic.com",
            Self::OpenAi => "api.openai.com",
            Self::Gemini => "generativelanguage.googleapis.com",
        }
    }

    /// The header that carries a key.
    pub const fn header(self) -> &'static str {
        match self {
            Self::Anthropic => "x-api-key",
            Self::OpenAi => "authorization",
            Self::Gemini => "x-goog-api-key",
        }
    }

    /// Every header in which a client of this provider may send a key of its own.
    pub const fn stripped(self) -> &'static [&'static str] {
        match self {
            Self::Anthropic => &["x-api-key", "authorization"],
            Self::OpenAi => &["authorization", "openai-organization", "openai-project"],
            Self::Gemini => &["x-goog-api-key", "authorization"],
        }
    }

    /// The variable that its tools read a key from.
    pub const fn key_variable(self) -> &'static str {
        match self {
            Self::Anthropic => "ANTHROPIC_API_KEY",
            Self::OpenAi => "OPENAI_API_KEY",
            Self::Gemini => "GEMINI_API_KEY",
        }
    }

    /// The variables that lead its tools to another address, and what follows the address there.
    pub const fn base_variables(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Anthropic => &[("ANTHROPIC_BASE_URL", "")],
            Self::OpenAi => &[("OPENAI_BASE_URL", "/v1"), ("OPENAI_API_BASE", "/v1")],
            Self::Gemini => &[("GOOGLE_GEMINI_BASE_URL", "")],
        }
    }

    /// A key of the shape that its tools expect, and worth nothing.
    pub fn placeholder(self, mark: &str) -> String {
        match self {
            Self::Anthropic => format!("sk-ant-api03-cofferdam-{mark}"),
            Self::OpenAi => format!("sk-proj-cofferdam-{mark}"),
            Self::Gemini => format!("AIza-cofferdam-{mark}"),
        }
    }

    /// Is this request a call that costs something?
    pub fn is_call(self, method: &str, path: &str) -> bool {
        let path = path.split('?').next().unwrap_or(path).trim_end_matches('/');
        let ends = |ends: &[&str]| ends.iter().any(|end| path.ends_with(end));
        method == "POST"
            && match self {
                // Batches cost too, and are no way around a budget.
                Self::Anthropic => ends(&["/messages", "/complete", "/messages/batches"]),
                Self::OpenAi => !ends(&["/cancel", "/input_items"]),
                // A login's service answers other questions at the same place; of these only what generates costs something.
                Self::Gemini if path.contains("/v1internal:") => path.contains("enerateContent"),
                Self::Gemini => !ends(&[":countTokens"]),
            }
    }

    /// The body of a refusal, in the shape that its clients show to the model or the person.
    pub fn error(self, message: &str) -> String {
        let message = crate::base::text::one_line(message);
        let value = match self {
            Self::Anthropic => serde_json::json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}}),
            Self::OpenAi => {
                serde_json::json!({"error": {"message": message, "type": "invalid_request_error", "param": null, "code": "cofferdam"}})
            }
            Self::Gemini => serde_json::json!({"error": {"code": 400, "message": message, "status": "FAILED_PRECONDITION"}}),
        };
        value.to_string()
    }
}

impl std::str::FromStr for Provider {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| "it is none of anthropic, openai and gemini".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_from_questions_about_them() {
        for (provider, path) in [
            (Provider::Anthropic, "/v1/messages?beta=true"),
            (Provider::OpenAi, "/v1/responses"),
            (Provider::OpenAi, "/v1/chat/completions"),
            (Provider::Gemini, "/v1beta/models/m:streamGenerateContent?alt=sse"),
        ] {
            assert!(provider.is_call("POST", path) && !provider.is_call("GET", path), "{path}");
        }
        assert!(
            !Provider::Anthropic.is_call("POST", "/v1/messages/count_tokens")
                && !Provider::Gemini.is_call("POST", "/v1beta/models/m:countTokens")
        );
        for provider in Provider::ALL {
            assert!(provider.error("a \"b\"").contains("a \\\"b\\\"") && provider.name().parse() == Ok(provider));
        }
    }
}

//! A provider that refuses for now: is it that, and until when?

use jiff::{SignedDuration, Timestamp};

/// When the provider answers again, as far as it said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    At(Timestamp),
    After(SignedDuration),
    Unknown,
}

/// Longer pauses than this are not believed: a week is the longest that providers name.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 8);

impl Reset {
    /// The moment from which to try again. Nothing that an agent prints makes it wait without end.
    pub fn until(self, now: Timestamp, default: SignedDuration) -> Timestamp {
        let after = match self {
            Self::At(at) => at.duration_since(now),
            Self::After(after) => after,
            Self::Unknown => default,
        };
        let after = after.clamp(SignedDuration::from_secs(1), LONGEST);
        now.checked_add(after).unwrap_or(now)
    }
}

/// Words that providers and agents use when a quota is spent or a rate exceeded. Whole phrases: an agent may well talk about limits.
const PHRASES: [&str; 15] = [
    "429 too many requests",
    "(429)",
    "status 429",
    "status: 429",
    "error 429",
    "code 429",
    "rate_limit_error",
    "rate_limit_exceeded",
    "rate limit reached for",
    "rate limit exceeded",
    "exceeded your current quota",
    "insufficient_quota",
    "usage limit reached",
    "hit your usage limit",
    "resource_exhausted",
];

/// Is this text of an error the provider's refusal for now?
pub(super) fn in_words(text: &str) -> Option<Reset> {
    let head: String = text.chars().take(4096).collect();
    let lower = head.to_ascii_lowercase();
    if !PHRASES.iter().any(|phrase| lower.contains(phrase)) {
        return None;
    }
    // `usage limit reached|1764000000`
    if let Some((_, digits)) = lower.split_once("limit reached|") {
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        if let Some(at) = digits.parse().ok().and_then(super::moment) {
            return Some(Reset::At(at));
        }
    }
    for phrase in ["try again in ", "retry after ", "retry in ", "retry-after: ", "resets in "] {
        if let Some((_, rest)) = lower.split_once(phrase)
            && let Some(after) = span(rest)
        {
            return Some(Reset::After(after));
        }
    }
    Some(Reset::Unknown)
}

/// `20s`, `1m30s`, `2 hours`, `350ms`, `7.5s`; a bare number is seconds.
fn span(text: &str) -> Option<SignedDuration> {
    let mut rest = text.trim_start();
    let mut total = SignedDuration::ZERO;
    let mut any = false;
    for _ in 0..4 {
        let digits: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').take(12).collect();
        let Ok(number) = digits.trim_end_matches('.').parse::<f64>() else { break };
        rest = rest.get(digits.len()..).unwrap_or_default().trim_start();
        let unit: String = rest.chars().take_while(char::is_ascii_alphabetic).take(12).collect();
        let seconds = match unit.as_str() {
            "" | "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
            "ms" | "milliseconds" => 0.001,
            "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
            "h" | "hr" | "hour" | "hours" => 3600.0,
            "d" | "day" | "days" => 86_400.0,
            _ if any => break,
            _ => 1.0,
        };
        total = total.saturating_add(SignedDuration::try_from_secs_f64(number * seconds).ok()?);
        any = true;
        rest = rest.get(unit.len()..).unwrap_or_default().trim_start();
        if !rest.starts_with(|c: char| c.is_ascii_digit()) {
            break;
        }
    }
    any.then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refusals_are_told_from_talk() {
        let after = |seconds| Some(Reset::After(SignedDuration::from_secs(seconds)));
        for (text, expected) in [
            ("exceeded retry limit, last status: 429 Too Many Requests", Some(Reset::Unknown)),
            ("API Error: Request rejected (429) · scripted", Some(Reset::Unknown)),
            ("Claude AI usage limit reached|1764000000", Some(Reset::At(Timestamp::from_second(1_764_000_000).expect("a moment")))),
            ("Rate limit reached for gpt-5. Please try again in 1m20s.", after(80)),
            ("429 Too Many Requests, retry after 30", after(30)),
            ("I will add a rate limit of 429 requests", None),
            ("unexpected status 401 Unauthorized", None),
        ] {
            assert_eq!(in_words(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_words_break_it_or_wait_for_ever(text in "\\PC{0,40}", number in "[0-9.]{0,30}", unit in "(s|m|h|d|ms|hours|x)") {
            let now = Timestamp::from_second(1_764_000_000).expect("a moment");
            let said = format!("429 too many requests, try again in {number}{unit} {text} limit reached|{number}");
            let until = in_words(&said).expect("a refusal").until(now, SignedDuration::from_secs(60));
            prop_assert!(until > now && until <= now + LONGEST);
        }
    }
}

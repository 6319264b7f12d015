//! Lengths of time as people write them (`1s`, `20m`, `1h30m`, `250ms`) and read them.

use std::time::Duration;

/// Why a text is no length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a length of time: {why}; write a number with a unit, such as 30s, 20m, 1h30m or 250ms", text.escape_debug())]
pub struct DurationError {
    text: String,
    why: &'static str,
}

/// Longer than this is a typing error, and would overflow a deadline.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads `1h30m`, `20m`, `1.5s`, `250ms`.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let fail = |why| DurationError { text: text.to_owned(), why };
    if text.is_empty() {
        return Err(fail("it is empty"));
    }
    if text.starts_with('-') {
        return Err(fail("it is negative"));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| fail("it has no unit"))?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return Err(fail("its unit is unknown")),
        };
        let number: f64 = number.parse().map_err(|_| fail("its number is malformed"))?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| fail("it is too long"))?;
        total = total.checked_add(part).filter(|t| *t <= LONGEST).ok_or_else(|| fail("it is longer than a year"))?;
        rest = tail;
    }
    if total.is_zero() {
        return Err(fail("it is zero"));
    }
    Ok(total)
}

/// A length of time for a person: `850 ms`, `12.3 s`, `4 min 10 s`, `2 h 5 min`.
pub fn display(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        60_000..3_600_000 => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1000),
        _ => format!("{} h {} min", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// A length of time as [`parse`] reads it back, to the millisecond: `2h`, `1h30m`, `250ms`.
pub fn exact(duration: Duration) -> String {
    let mut left = duration.as_millis();
    let mut text = String::new();
    for (unit, ms) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        if left >= ms {
            text.extend([(left / ms).to_string().as_str(), unit]);
            left %= ms;
        }
    }
    if text.is_empty() { "1ms".to_owned() } else { text }
}

/// Serde for fields that hold a length of time as text.
pub mod text {
    use super::{Duration, parse};
    use serde::{Deserialize, Deserializer};

    pub fn deserialize_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|t| parse(&t)).transpose().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, ms) in [("1s", 1000), ("20m", 1_200_000), ("1h30m", 5_400_000), ("250ms", 250), ("1.5s", 1500)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, why) in [
            ("", "empty"),
            ("5", "no unit"),
            ("-1s", "negative"),
            ("5x", "unknown"),
            ("1..2s", "malformed"),
            ("0s", "zero"),
            ("9999d", "a year"),
            ("1s ", "unknown"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_exactly_is_read_back(ms in 1_u64..366 * 24 * 3_600_000) {
            let time = Duration::from_millis(ms);
            let back = parse(&exact(time)).expect("it is well formed");
            // Parts are added as fractions of a second.
            prop_assert!(back.abs_diff(time) < Duration::from_micros(1), "{:?} {:?}", time, back);
        }

        #[test]
        fn never_panics(text in "\\PC{0,16}") {
            drop(parse(&text));
        }

        #[test]
        fn the_exact_text_reads_back(ms in 1_u64..31_000_000_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&exact(duration)), Ok(duration));
        }
    }
}

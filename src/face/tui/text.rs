//! Text on its way to the screen, made harmless.

use unicode_width::UnicodeWidthChar;

pub(super) use crate::base::columns::{fit, pad, width, wrap};
use crate::base::text::one_line;

/// Combining marks that one character may carry. Real scripts need two or three; more is an attack on the eye, or on the terminal.
const MARKS: usize = 3;

/// Text of strangers as one line that a terminal only shows: commands, controls and what turns the order of reading are spelled out, what
/// has no shape is left out.
pub(super) fn clean(text: &str) -> String {
    let mut marks = 0;
    let keep = |c: &char| {
        let is_mark = c.width() == Some(0);
        marks = if is_mark { marks + 1 } else { 0 };
        !is_shapeless(*c) && marks <= MARKS
    };
    one_line(text).chars().filter(keep).collect()
}

/// Characters that are there and cannot be seen: hidden words, and widths on which no two terminals agree.
fn is_shapeless(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}')
}

/// How long something takes, in few columns: `12 s`, `3 min`, `2 h`, `4 d`.
pub(super) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_obey_or_hide_is_spelled_out_or_gone() {
        assert_eq!(clean("a\x1b]0;title\x07b\r\n\tc"), "a\\u{1b}]0;title\\u{7}b\\r\\n\\tc");
        assert_eq!(clean("user\u{202e}nimda\u{2066}x\u{9b}2J"), "user\\u{202e}nimda\\u{2066}x\\u{9b}2J");
        assert_eq!(clean("in\u{200b}vis\u{e0041}ible\u{feff}\u{61c}"), "invisible");
        assert_eq!(clean("plain é 漢 ✓"), "plain é 漢 ✓");
        assert_eq!(clean(&format!("z{}", "\u{335}".repeat(99))).chars().count(), 1 + MARKS);
    }

    #[test]
    fn ages_take_few_columns() {
        assert_eq!((age(59), age(60), age(7_300), age(200_000)), ("59 s".into(), "1 min".into(), "2 h".into(), "2 d".into()));
    }

    proptest! {
        #[test]
        fn whatever_was_written_is_as_wide_as_it_is_said_to_be(text in any::<String>(), limit in 2_usize..30) {
            let text = clean(&text);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert_eq!(width(&pad(&text, limit)), limit);
            prop_assert!(wrap(&text, limit).iter().all(|line| width(line) <= limit));
        }
    }
}

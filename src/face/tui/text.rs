//! Text on its way to the screen: made harmless, measured in columns, cut and wrapped.

use unicode_width::UnicodeWidthChar;

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

/// Columns that a clean text takes.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// A clean text in at most so many columns; what is cut off is told by an ellipsis.
pub(super) fn fit(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let mut left = limit.saturating_sub(1);
    let mut out: String = text
        .chars()
        .take_while(|c| {
            let fits = columns(*c) <= left;
            left = left.saturating_sub(columns(*c));
            fits
        })
        .collect();
    if limit > 0 {
        out.push('…');
    }
    out
}

/// The same, filled up to exactly so many columns.
pub(super) fn pad(text: &str, limit: usize) -> String {
    let mut out = fit(text, limit);
    out.extend(std::iter::repeat_n(' ', limit.saturating_sub(width(&out))));
    out
}

/// A clean text as lines of at most so many columns, broken at spaces where there are any.
pub(super) fn wrap(text: &str, limit: usize) -> Vec<String> {
    let limit = limit.max(1);
    let mut lines = Vec::new();
    let (mut line, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        let mut rest = word;
        if used > 0 && used + 1 + width(rest) <= limit {
            line.push(' ');
            used += 1;
        } else if used > 0 {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        // A word longer than a line is broken where the line ends. A character wider than the line stands alone on it.
        while width(rest) > limit {
            let mut taken = 0;
            let end = rest.char_indices().find(|(_, c)| {
                taken += columns(*c);
                taken > limit
            });
            let at = end.map_or(rest.len(), |(at, _)| at).max(rest.chars().next().map_or(0, char::len_utf8));
            let (head, tail) = rest.split_at(at);
            lines.push(head.to_owned());
            rest = tail;
        }
        line.push_str(rest);
        used += width(rest);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
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
    fn lines_are_cut_and_wrapped_by_columns() {
        assert_eq!(
            (fit("漢字漢字", 5), fit("abc", 3), fit("abcd", 3), fit("x", 0)),
            ("漢字…".into(), "abc".into(), "ab…".into(), String::new())
        );
        assert_eq!(pad("漢", 4), "漢  ");
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 3), ["abc", "def", "gh", "ij"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(wrap("漢字", 1), ["漢", "字"]);
        assert_eq!((age(59), age(60), age(7_300), age(200_000)), ("59 s".into(), "1 min".into(), "2 h".into(), "2 d".into()));
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_it_may_be_and_no_word_is_lost(text in any::<String>(), limit in 2_usize..30) {
            let text = clean(&text);
            prop_assert!(width(&fit(&text, limit)) <= limit);
            prop_assert_eq!(width(&pad(&text, limit)), limit);
            let lines = wrap(&text, limit);
            prop_assert!(lines.iter().all(|line| width(line) <= limit), "{:?}", lines);
            let letters = |text: &str| text.chars().filter(|c| *c != ' ').collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
        }
    }
}

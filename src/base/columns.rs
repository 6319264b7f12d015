//! Text by the columns that it takes on a terminal: measured, cut, filled up, wrapped.
//!
//! What comes from strangers was made safe before ([`super::text`]): here, every character is one that shows.

use unicode_width::UnicodeWidthChar;

/// Columns that a clean text takes.
pub fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

fn columns(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// A clean text in at most so many columns; what is cut off is told by an ellipsis.
pub fn fit(text: &str, limit: usize) -> String {
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
pub fn pad(text: &str, limit: usize) -> String {
    let mut out = fit(text, limit);
    out.extend(std::iter::repeat_n(' ', limit.saturating_sub(width(&out))));
    out
}

/// A clean text as lines of at most so many columns, broken at spaces where there are any.
pub fn wrap(text: &str, limit: usize) -> Vec<String> {
    wrap_from(text, limit, limit)
}

/// The same with a first line of its own width.
fn wrap_from(text: &str, first: usize, below: usize) -> Vec<String> {
    let mut limit = first.max(1);
    let mut lines = Vec::new();
    let (mut line, mut used) = (String::new(), 0);
    for word in text.split(' ') {
        let mut rest = word;
        if used > 0 && used + 1 + width(rest) <= limit {
            line.push(' ');
            used += 1;
        } else if used > 0 {
            lines.push(std::mem::take(&mut line));
            (used, limit) = (0, below.max(1));
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
            (rest, limit) = (tail, below.max(1));
        }
        line.push_str(rest);
        used += width(rest);
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// The lines of a text for a person, wrapped where they are wider than the terminal; what goes on stands a little further in.
pub fn hang(text: &str, limit: usize) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        if width(line) <= limit {
            lines.push(line.to_owned());
            continue;
        }
        let words = line.trim_start_matches(' ');
        let indent = (line.len() - words.len()).min(limit / 2);
        let below = (indent + 4).min(limit / 2);
        let wrapped = wrap_from(words, limit.saturating_sub(indent), limit.saturating_sub(below)).into_iter();
        lines.extend(
            wrapped.enumerate().map(|(at, line)| format!("{:1$}{line}", "", if at == 0 { indent } else { below }).trim_end().to_owned()),
        );
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
        assert_eq!(hang("  next: one two three four\nshort", 16), "  next: one two\n      three four\nshort");
        // A hash is copied as it stands: nothing comes between the parts of a word but the end of a line.
        assert_eq!(
            hang("  commit 0123456789abcdef0123 kept", 12),
            "  commit\n      012345\n      6789ab\n      cdef01\n      23\n      kept"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_wider_than_it_may_be_and_no_word_is_lost(text in "[a-d漢é ]{0,60}", limit in 2_usize..30) {
            prop_assert!(width(&fit(&text, limit)) <= limit);
            prop_assert_eq!(width(&pad(&text, limit)), limit);
            let lines = wrap(&text, limit);
            prop_assert!(lines.iter().all(|line| width(line) <= limit), "{:?}", lines);
            let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(letters(&lines.concat()), letters(&text));
            let hung = hang(&text, limit + 6);
            prop_assert!(hung.lines().all(|line| width(line) <= limit + 6), "{:?}", hung);
            prop_assert_eq!(letters(&hung), letters(&text));
        }
    }
}

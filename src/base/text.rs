//! Text from strangers, made safe to print: a terminal must never obey what an agent wrote.

use std::borrow::Cow;

/// Text for a page of HTML, whatever it holds: no tag, no attribute, no control character, one line.
pub fn escape_html(said: &str) -> String {
    let mut escaped = String::with_capacity(said.len());
    for c in one_line(said).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Escapes control characters (also C1 and bidirectional overrides) so that a terminal shows them instead of obeying.
/// Newlines and tabs are escaped too: the result is one line.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if text.chars().any(is_unsafe) { Cow::Owned(text.chars().flat_map(escape).collect()) } else { Cow::Borrowed(text) }
}

/// The same for bytes that may not be UTF-8: what is invalid is shown as `\xNN`.
pub fn bytes_line(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        out.extend(chunk.valid().chars().flat_map(escape));
        for byte in chunk.invalid() {
            out.extend(format!("\\x{byte:02x}").chars());
        }
    }
    out
}

/// Cuts a text to at most `limit` characters, and says so with an ellipsis.
pub fn cut(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// `1 file`, `2 files`.
pub fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `a`, `a and b`, `a, b and c`, each in back quotes.
pub fn list<T: AsRef<str>>(words: &[T]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{}`", one_line(w.as_ref()))).collect();
    match quoted.as_slice() {
        [] => "nothing".to_owned(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

fn is_unsafe(c: char) -> bool {
    // Bidirectional controls reorder what a person reads; the others are commands to the terminal.
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(c: char) -> impl Iterator<Item = char> {
    let escaped = is_unsafe(c).then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_terminal_escape_is_shown_not_obeyed() {
        assert_eq!(one_line("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(bytes_line(b"a\xffb"), "a\\xffb");
        assert_eq!(one_line("plain ✓"), "plain ✓");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_survives(bytes in proptest::collection::vec(any::<u8>(), 0..64), limit in 1_usize..20) {
            let line = bytes_line(&bytes);
            prop_assert!(!line.chars().any(is_unsafe));
            prop_assert!(cut(&line, limit).chars().count() <= limit);
        }
    }
}

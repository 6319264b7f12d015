//! Words and marks of code whose comments and strings are covered already.

/// One word (a name, a keyword, a number) or one mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) word: bool,
}

pub(super) fn tokens(code: &str) -> Vec<Token<'_>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let mut tokens = Vec::new();
    let mut chars = code.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c.is_whitespace() {
            continue;
        }
        let mut end = at + c.len_utf8();
        let word = is_word(c);
        while word && let Some((next, c)) = chars.peek().copied().filter(|(_, c)| is_word(*c)) {
            end = next + c.len_utf8();
            chars.next();
        }
        tokens.push(Token { text: code.get(at..end).unwrap_or_default(), at, word });
    }
    tokens
}

/// The index of the mark that closes the one at `open`; the end when nothing does.
pub(super) fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return i;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// The line a byte offset is on, from 1.
pub(super) fn line_of(text: &str, at: usize) -> u32 {
    let lines = text.as_bytes().get(..at.min(text.len())).unwrap_or_default().iter().filter(|b| **b == b'\n').count();
    u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1)
}

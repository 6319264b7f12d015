//! The patterns of `.gitignore` and `.gitattributes`, matched as git matches them. Pure.
//!
//! Patterns come from agents, so matching is a walk over a set of positions: its cost is the product of both lengths, never more.
//! (The usual backtracking matcher takes exponential time on `*a*a*a*a*b`.)

/// One step of a compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`: one byte that is not a slash.
    One,
    /// `[…]`: one byte of a set, never a slash.
    Set(Box<[bool; 256]>),
    /// `*`: any bytes that are not slashes.
    Star,
    /// `**`: any bytes.
    All,
    /// The start of `**/`, which stands for `All` and a slash, or for nothing: it eats no byte and goes to the next token or over the next two.
    MaybeFolders,
    /// Something malformed: matches nothing.
    Never,
}

/// A compiled pattern, matched against a whole path or a whole name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(Vec<Token>);

impl Glob {
    /// Compiles a pattern; every byte string is one, malformed ones match nothing.
    pub fn new(pattern: &[u8]) -> Self {
        let mut tokens = Vec::new();
        let mut at = 0;
        while let Some(&byte) = pattern.get(at) {
            at += 1;
            match byte {
                b'\\' => {
                    tokens.push(pattern.get(at).map_or(Token::Never, |&b| Token::Byte(b)));
                    at += 1;
                }
                b'?' => tokens.push(Token::One),
                b'*' => {
                    let start = at - 1;
                    while pattern.get(at) == Some(&b'*') {
                        at += 1;
                    }
                    let rest = pattern.get(at..).unwrap_or_default();
                    let bounded = (start == 0 || pattern.get(start - 1) == Some(&b'/'))
                        && (rest.is_empty() || rest.starts_with(b"/") || rest.starts_with(b"\\/"));
                    if at - start < 2 || !bounded {
                        tokens.push(Token::Star);
                    } else if rest.starts_with(b"/") {
                        tokens.extend([Token::MaybeFolders, Token::All, Token::Byte(b'/')]);
                        at += 1;
                    } else {
                        tokens.push(Token::All);
                    }
                }
                b'[' => match set(pattern, at) {
                    Some((set, end)) => {
                        tokens.push(Token::Set(set));
                        at = end;
                    }
                    None => return Self(vec![Token::Never]),
                },
                other => tokens.push(Token::Byte(other)),
            }
        }
        Self(tokens)
    }

    /// Does the whole text match?
    pub fn matches(&self, text: &[u8]) -> bool {
        let end = self.0.len();
        // `now[i]` says: the first i tokens can have eaten the text so far.
        let mut now = vec![false; end + 1];
        let mut next = now.clone();
        now[0] = true;
        self.skip_empty(&mut now);
        for &byte in text {
            next.fill(false);
            let mut alive = false;
            for (i, token) in self.0.iter().enumerate() {
                if !now[i] {
                    continue;
                }
                let (stay, step) = match token {
                    Token::Byte(b) => (false, *b == byte),
                    Token::One => (false, byte != b'/'),
                    Token::Set(set) => (false, byte != b'/' && set[usize::from(byte)]),
                    Token::Star => (byte != b'/', false),
                    Token::All => (true, false),
                    Token::MaybeFolders | Token::Never => (false, false),
                };
                next[i] |= stay;
                next[i + 1] |= step;
                alive |= stay || step;
            }
            if !alive {
                return false;
            }
            self.skip_empty(&mut next);
            std::mem::swap(&mut now, &mut next);
        }
        now[end]
    }

    /// Steps over tokens that may match nothing.
    fn skip_empty(&self, positions: &mut [bool]) {
        for (i, token) in self.0.iter().enumerate() {
            if positions[i] {
                match token {
                    Token::Star | Token::All => positions[i + 1] = true,
                    Token::MaybeFolders => {
                        positions[i + 1] = true;
                        positions[i + 3] = true;
                    }
                    Token::Byte(_) | Token::One | Token::Set(_) | Token::Never => {}
                }
            }
        }
    }
}

/// Reads a set whose `[` stands before `at`; returns it and the index after its `]`. `None` when it is malformed.
fn set(pattern: &[u8], mut at: usize) -> Option<(Box<[bool; 256]>, usize)> {
    let mut set = Box::new([false; 256]);
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    if negated {
        at += 1;
    }
    // The byte a range can start from; none at the start, after a range and after a class.
    let mut previous: Option<u8> = None;
    let mut first = true;
    loop {
        let byte = *pattern.get(at)?;
        if byte == b']' && !first {
            break;
        }
        first = false;
        match byte {
            b'\\' => {
                at += 1;
                let escaped = *pattern.get(at)?;
                set[usize::from(escaped)] = true;
                previous = Some(escaped);
            }
            b'-' if previous.is_some() && pattern.get(at + 1).is_some_and(|b| *b != b']') => {
                at += 1;
                if pattern.get(at) == Some(&b'\\') {
                    at += 1;
                }
                let high = *pattern.get(at)?;
                if let Some(low) = previous.take() {
                    for b in low..=high {
                        set[usize::from(b)] = true;
                    }
                }
            }
            b'[' if pattern.get(at + 1) == Some(&b':') => {
                let name_start = at + 2;
                let close = name_start + pattern.get(name_start..)?.iter().position(|b| *b == b']')?;
                match pattern.get(name_start..close).and_then(|name| name.strip_suffix(b":")) {
                    Some(name) => {
                        let class = class(name)?;
                        for b in 0..=u8::MAX {
                            set[usize::from(b)] |= class(b);
                        }
                        previous = None;
                        at = close;
                    }
                    // No `:]`: an ordinary set that holds a `[`.
                    None => {
                        set[usize::from(b'[')] = true;
                        previous = Some(b'[');
                        at += 1;
                        // The colon after it was looked at already, and is an ordinary member.
                        set[usize::from(b':')] = true;
                        previous = previous.map(|_| b':');
                    }
                }
            }
            other => {
                set[usize::from(other)] = true;
                previous = Some(other);
            }
        }
        at += 1;
    }
    if negated {
        for member in set.iter_mut() {
            *member = !*member;
        }
    }
    Some((set, at + 1))
}

fn class(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name {
        b"alnum" => |b| b.is_ascii_alphanumeric(),
        b"alpha" => |b| b.is_ascii_alphabetic(),
        b"blank" => |b| b == b' ' || b == b'\t',
        b"cntrl" => |b| b.is_ascii_control(),
        b"digit" => |b| b.is_ascii_digit(),
        b"graph" => |b| b.is_ascii_graphic(),
        b"lower" => |b| b.is_ascii_lowercase(),
        b"print" => |b| b.is_ascii_graphic() || b == b' ',
        b"punct" => |b| b.is_ascii_punctuation(),
        b"space" => |b| b.is_ascii_whitespace() || b == 0x0b,
        b"upper" => |b| b.is_ascii_uppercase(),
        b"xdigit" => |b| b.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_what_git_matches() {
        for (pattern, text, expected) in [
            ("foo", "foo", true),
            ("fo?", "foo", true),
            ("f?o", "f/o", false),
            ("*.c", "a.c", true),
            ("*.c", "a/b.c", false),
            ("**/b.c", "b.c", true),
            ("**/b.c", "x/y/b.c", true),
            ("**/b.c", "xb.c", false),
            ("a/**", "a/", true),
            ("a/**", "a/b/c", true),
            ("a/**/z", "a/z", true),
            ("a/**/z", "a/b/c/z", true),
            ("a/**/z", "ab/z", false),
            ("a**/z", "abc/z", true),
            ("a**/z", "ab/c/z", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
            ("[[:digit:]]", "7", true),
            ("[[:nope:]]", "7", false),
            ("[abc", "a", false),
            ("a\\", "a", false),
            ("\\*", "*", true),
            ("a[/]b", "a/b", false),
            ("", "", true),
        ] {
            assert_eq!(Glob::new(pattern.as_bytes()).matches(text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_hostile_pattern_is_not_slow() {
        let pattern = "*a".repeat(200) + "b";
        let text = "a".repeat(4000);
        let glob = Glob::new(pattern.as_bytes());
        assert!(!glob.matches(text.as_bytes()));
    }
}

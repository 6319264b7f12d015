//! Git's built-in conversions between what is stored and what lies in a worktree: line ends, `$Id$` and encodings. Pure.

use std::borrow::Cow;

use super::attributes::{Attributes, Value};
use super::encoding;

/// `core.autocrlf` and `core.eol` of the repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LineEnds {
    pub auto: AutoCrlf,
    pub native_crlf: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoCrlf {
    #[default]
    Off,
    On,
    Input,
}

/// What happens to the line ends of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Keep,
    /// Text: LF stored; `crlf` says what lies in the worktree, `guess` that only what looks like text is touched.
    Text {
        crlf: bool,
        guess: bool,
    },
}

impl LineEnds {
    /// Can any file without attributes need a conversion?
    pub fn converts_by_default(self) -> bool {
        self.auto != AutoCrlf::Off
    }

    fn native_is_crlf(self) -> bool {
        match self.auto {
            AutoCrlf::On => true,
            AutoCrlf::Input => false,
            AutoCrlf::Off => self.native_crlf,
        }
    }

    fn action(self, attributes: &Attributes) -> Action {
        let from = |value: &Value| match value {
            Value::Set => Some((true, None, false)),
            Value::Unset => Some((false, None, false)),
            Value::Text(text) if text == b"input" => Some((true, Some(false), false)),
            Value::Text(text) if text == b"auto" => Some((true, None, true)),
            Value::Text(_) | Value::Unspecified => None,
        };
        let eol = match &attributes.eol {
            Value::Text(text) if text == b"lf" => Some(false),
            Value::Text(text) if text == b"crlf" => Some(true),
            _ => None,
        };
        match (from(&attributes.text).or_else(|| from(&attributes.crlf)), eol) {
            (Some((false, ..)), _) => Action::Keep,
            (Some((true, forced, guess)), eol) => Action::Text { crlf: eol.or(forced).unwrap_or(self.native_is_crlf()), guess },
            (None, Some(crlf)) => Action::Text { crlf, guess: false },
            (None, None) => match self.auto {
                AutoCrlf::Off => Action::Keep,
                AutoCrlf::On => Action::Text { crlf: true, guess: true },
                AutoCrlf::Input => Action::Text { crlf: false, guess: true },
            },
        }
    }

    /// What is stored, as it lies in a worktree. `id` is the stored object's name in hex.
    pub fn to_worktree<'a>(self, attributes: &Attributes, stored: &'a [u8], id: &str) -> Cow<'a, [u8]> {
        let mut content = Cow::Borrowed(stored);
        if attributes.ident == Value::Set
            && let Some(expanded) = expand_ident(&content, id)
        {
            content = Cow::Owned(expanded);
        }
        if let Action::Text { crlf: true, guess } = self.action(attributes) {
            let stats = Stats::of(&content);
            let skip = stats.lone_lf == 0 || (guess && (stats.lone_cr > 0 || stats.crlf > 0 || stats.is_binary()));
            if !skip {
                content = Cow::Owned(add_cr(&content));
            }
        }
        encoding::to_worktree(&attributes.encoding, content)
    }

    /// What lies in a worktree (as UTF-8, where an attribute names its encoding), as it is stored. `before` reads what was stored at the same path before.
    pub fn to_stored<'a>(self, attributes: &Attributes, content: &'a [u8], before: impl FnOnce() -> Option<Vec<u8>>) -> Cow<'a, [u8]> {
        let mut content = Cow::Borrowed(content);
        if let Action::Text { guess, .. } = self.action(attributes) {
            let stats = Stats::of(&content);
            // A file that was stored with CRLF stays as it is, so that a guess never rewrites a whole file.
            let touched = stats.crlf > 0 && !(guess && (stats.is_binary() || before().is_some_and(|old| stored_with_crlf(&old))));
            if touched {
                content = Cow::Owned(drop_cr(&content, guess));
            }
        }
        if attributes.ident == Value::Set
            && let Some(collapsed) = collapse_ident(&content)
        {
            content = Cow::Owned(collapsed);
        }
        content
    }
}

fn stored_with_crlf(content: &[u8]) -> bool {
    let stats = Stats::of(content);
    stats.crlf > 0 && !stats.is_binary()
}

#[derive(Default)]
struct Stats {
    nul: usize,
    lone_cr: usize,
    lone_lf: usize,
    crlf: usize,
    printable: usize,
    nonprintable: usize,
}

impl Stats {
    fn of(content: &[u8]) -> Self {
        let mut stats = Self::default();
        let mut at = 0;
        while let Some(&byte) = content.get(at) {
            at += 1;
            match byte {
                b'\r' if content.get(at) == Some(&b'\n') => {
                    stats.crlf += 1;
                    at += 1;
                }
                b'\r' => stats.lone_cr += 1,
                b'\n' => stats.lone_lf += 1,
                0 => {
                    stats.nul += 1;
                    stats.nonprintable += 1;
                }
                8 | b'\t' | 27 | 12 => stats.printable += 1,
                127 | 0..32 => stats.nonprintable += 1,
                _ => stats.printable += 1,
            }
        }
        // A DOS end-of-file mark says nothing.
        if content.last() == Some(&26) {
            stats.nonprintable -= 1;
        }
        stats
    }

    fn is_binary(&self) -> bool {
        self.lone_cr > 0 || self.nul > 0 || (self.printable >> 7) < self.nonprintable
    }
}

fn add_cr(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 16);
    let mut last = 0;
    for &byte in content {
        if byte == b'\n' && last != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        last = byte;
    }
    out
}

/// Drops each CR (`every`: a guess has made sure that there are no lone ones), or each that stands before a LF.
fn drop_cr(content: &[u8], every: bool) -> Vec<u8> {
    let keep = |(at, byte): (usize, &u8)| (*byte != b'\r' || !(every || content.get(at + 1) == Some(&b'\n'))).then_some(*byte);
    content.iter().enumerate().filter_map(keep).collect()
}

/// `$Id$` becomes `$Id: <name> $`; `None` when there is none.
fn expand_ident(content: &[u8], id: &str) -> Option<Vec<u8>> {
    rewrite_ident(content, format!("$Id: {id} $").as_bytes(), true)
}

/// `$Id: … $` becomes `$Id$`; `None` when there is none.
fn collapse_ident(content: &[u8]) -> Option<Vec<u8>> {
    rewrite_ident(content, b"$Id$", false)
}

fn rewrite_ident(content: &[u8], with: &[u8], expanding: bool) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut done = 0;
    let mut at = 0;
    while let Some(found) = find(&content[at..], b"$Id").map(|offset| at + offset) {
        let tail = &content[found + 3..];
        let length = match tail.first() {
            Some(b'$') => Some(4),
            Some(b':') => keyword_end(tail).filter(|end| !expanding || !is_foreign(&tail[1..*end])).map(|end| 3 + end + 1),
            _ => None,
        };
        if let Some(length) = length {
            out.extend_from_slice(&content[done..found]);
            out.extend_from_slice(with);
            done = found + length;
            at = done;
        } else {
            at = found + 3;
        }
    }
    (done > 0).then(|| {
        out.extend_from_slice(&content[done..]);
        out
    })
}

/// The index of the `$` that ends a keyword which starts with a colon, on the same line.
fn keyword_end(tail: &[u8]) -> Option<usize> {
    let end = tail.iter().position(|b| matches!(b, b'$' | b'\n'))?;
    (tail[end] == b'$').then_some(end)
}

/// Was the keyword written by another system? Git leaves those alone: they hold spaces inside.
fn is_foreign(inner: &[u8]) -> bool {
    let inner = inner.strip_prefix(b" ").unwrap_or(inner);
    inner.iter().position(|b| *b == b' ').is_some_and(|at| at + 1 < inner.len())
}

fn find(content: &[u8], needle: &[u8]) -> Option<usize> {
    content.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attributes(text: Value, eol: Value) -> Attributes {
        Attributes { text, eol, ..Attributes::default() }
    }

    #[test]
    fn line_ends_follow_the_attributes() {
        let ends = LineEnds::default();
        let crlf = attributes(Value::Unspecified, Value::Text(b"crlf".to_vec()));
        assert_eq!(&*ends.to_worktree(&crlf, b"a\nb\n", ""), b"a\r\nb\r\n");
        assert_eq!(&*ends.to_stored(&crlf, b"a\r\nb\r\n", || None), b"a\nb\n");
        let auto = attributes(Value::Text(b"auto".to_vec()), Value::Unspecified);
        assert_eq!(&*ends.to_stored(&auto, b"a\r\n\0", || None), b"a\r\n\0");
        assert_eq!(&*ends.to_stored(&auto, b"a\r\n", || Some(b"x\r\n".to_vec())), b"a\r\n");
        assert_eq!(&*ends.to_stored(&Attributes::default(), b"a\r\n", || None), b"a\r\n");
    }

    #[test]
    fn the_id_keyword_comes_and_goes() {
        let ends = LineEnds::default();
        let ident = Attributes { ident: Value::Set, ..Attributes::default() };
        assert_eq!(&*ends.to_worktree(&ident, b"x $Id$ y", "abc"), b"x $Id: abc $ y");
        assert_eq!(&*ends.to_stored(&ident, b"x $Id: abc $ y", || None), b"x $Id$ y");
    }

    proptest! {
        #[test]
        fn text_survives_the_round_trip(lines in proptest::collection::vec("[ -~]{0,12}", 0..6)) {
            let stored = lines.join("\n");
            let crlf = attributes(Value::Set, Value::Text(b"crlf".to_vec()));
            let ends = LineEnds::default();
            let there = ends.to_worktree(&crlf, stored.as_bytes(), "").into_owned();
            prop_assert_eq!(&*ends.to_stored(&crlf, &there, || None), stored.as_bytes());
        }
    }
}

//! Files that people write, places in them, and what is wrong there.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::text::one_line;

/// A range of bytes of a source.
pub type Span = Range<usize>;

/// A text with the name a person knows it by. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    pub name: Arc<str>,
    pub text: Arc<str>,
}

/// A place in a source, with the line as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The line, or the part of a long line around the place; safe to print.
    pub excerpt: String,
    /// The characters of `excerpt` that are meant: first and one past the last.
    pub mark: (usize, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing can be done with this input.
    Error,
    /// It works, but hardly as meant.
    Warning,
}

/// One thing that is wrong with what a person wrote: what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub level: Level,
    /// A short stable name of the rule, for scripts.
    pub rule: &'static str,
    pub what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<Place>>,
    /// What to do about it.
    pub next: String,
}

/// How much of a long line is shown.
const EXCERPT_CHARS: usize = 140;

impl Source {
    pub fn new(name: &str, text: &str) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// The place of a span. A span outside the text, or inside a character, is moved to the nearest place there is.
    pub fn place(&self, span: &Span) -> Place {
        let text = &*self.text;
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.ceil_char_boundary(span.end.clamp(start, text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |i| i + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |i| start + i);
        let line = text[..line_start].matches('\n').count() + 1;
        let column = text[line_start..start].chars().count();
        let shown: Vec<char> = text[line_start..line_end].trim_end_matches('\r').chars().collect();
        let width = text[start..end.min(line_end)].chars().count().max(1);
        let skip = if shown.len() <= EXCERPT_CHARS { 0 } else { column.saturating_sub(EXCERPT_CHARS / 2).min(shown.len() - EXCERPT_CHARS) };
        // One character for one: the mark must stay below what it means.
        let excerpt: String = shown.iter().skip(skip).take(EXCERPT_CHARS).map(|c| if is_plain(*c) { *c } else { '\u{fffd}' }).collect();
        let length = excerpt.chars().count();
        let from = (column - skip).min(length);
        Place {
            file: one_line(&self.name).into_owned(),
            line,
            column: column + 1,
            mark: (from, (from + width).clamp(from + 1, length.max(from) + 1)),
            excerpt,
        }
    }

    pub fn error(&self, rule: &'static str, span: &Span, what: impl Into<String>, next: impl Into<String>) -> Problem {
        Problem { level: Level::Error, rule, what: what.into(), place: Some(Box::new(self.place(span))), next: next.into() }
    }

    /// The same problem with what it points at hidden, because it may be a secret.
    pub fn masked(&self, mut problem: Problem) -> Problem {
        if let Some(place) = &mut problem.place {
            let (from, to) = place.mark;
            place.excerpt = place.excerpt.chars().enumerate().map(|(i, c)| if (from..to).contains(&i) { '*' } else { c }).collect();
        }
        problem
    }

    pub fn warning(&self, rule: &'static str, span: &Span, what: impl Into<String>, next: impl Into<String>) -> Problem {
        Problem { level: Level::Warning, ..self.error(rule, span, what, next) }
    }
}

/// Tabs are one column wide here, so that marks stand right.
fn is_plain(c: char) -> bool {
    one_line(c.encode_utf8(&mut [0; 4])).chars().eq([c])
}

impl Problem {
    /// A problem of a whole plan or file, with no line to show.
    pub fn anywhere(rule: &'static str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { level: Level::Error, rule, what: what.into(), place: None, next: next.into() }
    }

    pub fn is_error(&self) -> bool {
        self.level == Level::Error
    }
}

/// `true` when nothing can be done with the input.
pub fn any_error(problems: &[Problem]) -> bool {
    problems.iter().any(Problem::is_error)
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?}, {} bytes)", self.name, self.text.len())
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_has_line_column_and_mark() {
        let source = Source::new("a.md", "one\ntwö three\r\nfour");
        let place = source.place(&(9..14));
        assert_eq!((place.line, place.column, place.excerpt.as_str(), place.mark), (2, 5, "twö three", (4, 9)));
        let end = source.place(&(100..200));
        assert_eq!((end.line, end.column, end.mark), (3, 5, (4, 5)));
    }

    proptest! {
        #[test]
        fn a_mark_stands_below_what_it_means(text in "[aé\t\u{1b}\n漢]{0,400}", start in 0_usize..500, length in 0_usize..300) {
            let source = Source::new("x", &text);
            let place = source.place(&(start..start.saturating_add(length)));
            let shown = place.excerpt.chars().count();
            prop_assert!(shown <= EXCERPT_CHARS);
            prop_assert!(place.mark.0 <= shown && place.mark.0 < place.mark.1 && place.mark.1 <= shown + 1);
            if text.is_char_boundary(start) && start < text.len() && !text[start..].starts_with(['\n', '\r']) {
                let meant = text[start..].chars().next();
                let marked = place.excerpt.chars().nth(place.mark.0);
                prop_assert!(marked == meant || marked == Some(char::REPLACEMENT_CHARACTER));
            }
        }
    }
}

//! YAML to a tree: the part of YAML that people write in front matter. Anchors, tags and several documents are refused, not guessed at.

use granit_parser::{Event, Parser, ScalarStyle};

use super::{DEPTH, Entry, NODES, Node, Style, Value, duplicate, too_much};
use crate::base::source::{Problem, Source, Span};

/// Reads the part of a source that holds YAML; spans count from the start of the source.
pub fn yaml(source: &Source, part: Span) -> Result<Node, Problem> {
    let text = source.text.get(part.clone()).unwrap_or_default();
    let mut reader = Reader { source, part: part.clone(), events: Parser::new_from_str(text), nodes: 0 };
    let mut root = None;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => break,
            Event::StreamStart | Event::DocumentEnd => {}
            Event::DocumentStart(..) if root.is_none() => {}
            Event::DocumentStart(..) => return Err(reader.refuse(&span, "a second document", "keep one document")),
            other => root = Some(reader.node(other, span, 0)?),
        }
    }
    Ok(root.unwrap_or(Node { span: part, value: Value::Null }))
}

struct Reader<'a> {
    source: &'a Source,
    part: Span,
    events: Parser<'a, granit_parser::StrInput<'a>>,
    nodes: usize,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Problem> {
        loop {
            return match self.events.next() {
                None => Ok((Event::StreamEnd, self.part.end..self.part.end)),
                // Comments are no values, whether or not another crate switches them on.
                Some(Ok((event, _))) if is_comment(&event) => continue,
                Some(Ok((event, span))) => {
                    let span = span.byte_range().unwrap_or_default();
                    Ok((event, self.part.start + span.start..self.part.start + span.end))
                }
                Some(Err(error)) => {
                    let at = self.part.start + error.marker().byte_offset().unwrap_or_default();
                    let what = format!("this is no YAML: {}", error.info());
                    Err(self.source.error(
                        "syntax",
                        &(at..at + 1),
                        what,
                        "mend the line that is marked; quote a text that holds `: ` or `#`",
                    ))
                }
            };
        }
    }

    fn refuse(&self, span: &Span, what: &str, next: &str) -> Problem {
        self.source.error("syntax", span, format!("{what} is not read here"), next)
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Problem> {
        self.nodes += 1;
        if depth > DEPTH || self.nodes > NODES {
            return Err(too_much(self.source, &span));
        }
        let (anchor, tagged) = match &event {
            Event::Scalar(_, _, anchor, tag) | Event::SequenceStart(_, anchor, tag) | Event::MappingStart(_, anchor, tag) => {
                (*anchor, tag.is_some())
            }
            _ => (1, false),
        };
        if anchor != 0 {
            return Err(self.refuse(&span, "a YAML anchor or alias", "write the value out"));
        }
        if tagged {
            return Err(self.refuse(&span, "a YAML tag", "remove the `!…` before the value"));
        }
        match event {
            Event::Scalar(text, style, ..) => {
                let value = match style {
                    ScalarStyle::Plain if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") => Value::Null,
                    ScalarStyle::Plain => Value::Scalar { text: text.into_owned(), style: Style::Bare },
                    _ => Value::Scalar { text: text.into_owned(), style: Style::Quoted },
                };
                Ok(Node { span, value })
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                let end = loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd | Event::StreamEnd) {
                        break span.end;
                    }
                    items.push(self.node(event, span, depth + 1)?);
                };
                Ok(Node { span: span.start..end.max(span.end), value: Value::List(items) })
            }
            _ => self.table(span, depth),
        }
    }

    fn table(&mut self, span: Span, depth: usize) -> Result<Node, Problem> {
        let mut entries = Vec::<Entry>::new();
        let mut seen = std::collections::HashSet::new();
        let end = loop {
            let (event, key_span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                break key_span.end;
            }
            let key = match self.node(event, key_span.clone(), depth + 1)?.value {
                Value::Scalar { text, .. } => text,
                Value::Null => String::new(),
                Value::List(_) | Value::Table(_) => {
                    return Err(self.refuse(&key_span, "a list or table as a key", "use a plain word as the key"));
                }
            };
            if !seen.insert(key.clone()) {
                return Err(duplicate(self.source, &key, &key_span));
            }
            let (event, value_span) = self.next()?;
            let node = self.node(event, value_span, depth + 1)?;
            entries.push(Entry { key, key_span, node });
        };
        Ok(Node { span: span.start..end.max(span.end), value: Value::Table(entries) })
    }
}

fn is_comment(event: &Event<'_>) -> bool {
    // The variant exists only when the parser's `comments` feature is on, which another crate decides.
    !matches!(
        event,
        Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(..)
            | Event::DocumentEnd
            | Event::Alias(..)
            | Event::Anchor(..)
            | Event::UnresolvedAlias(..)
            | Event::Scalar(..)
            | Event::SequenceStart(..)
            | Event::SequenceEnd
            | Event::MappingStart(..)
            | Event::MappingEnd
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Node, Problem> {
        let text = format!("---\n{text}");
        yaml(&Source::new("x.md", &text), 4..text.len())
    }

    #[test]
    fn values_keep_their_text_and_place() {
        let tree = read("id: 1.10 # not 1.1\nafter: [a, 'b']\nno:\nit: {x: true}\n").expect("yaml");
        assert_eq!(tree.get("id").and_then(Node::any_text), Some("1.10"));
        assert_eq!(tree.get("id").map(|n| n.span.clone()), Some(8..12));
        assert_eq!(tree.get("after").and_then(Node::list).map(<[Node]>::len), Some(2));
        assert!(tree.get("no").is_some_and(Node::is_null));
        assert_eq!(tree.get("it").and_then(|n| n.get("x")).and_then(Node::flag), Some(true));
    }

    #[test]
    fn what_is_not_read_is_refused_with_its_place() {
        for (text, line, word) in [
            ("a: &x 1\nb: *x\n", 2, "anchor"),
            ("a: !!int 1\n", 2, "tag"),
            ("a: 1\na: 2\n", 3, "twice"),
            ("a: [1\nb: 2\n", 3, "no YAML"),
            ("[x]: 1\n", 2, "as a key"),
            ("a: 1\n---\nb: 2\n", 3, "second document"),
        ] {
            let problem = read(text).expect_err(text);
            assert!(problem.what.contains(word), "{text}: {}", problem.what);
            assert_eq!(problem.place.expect("place").line, line, "{text}");
        }
        let deep = format!("a: {}{}", "[".repeat(60), "]".repeat(60));
        assert_eq!(read(&deep).expect_err("deep").rule, "too-large");
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-a:\\[\\]{}\"'|>&*!%#\\n ,\u{e9}?]{0,60}") {
            drop(read(&text));
        }
    }
}

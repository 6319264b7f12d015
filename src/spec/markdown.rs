//! The outline of a Markdown text: headings, and the list items below them.

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use crate::base::name;
use crate::base::source::{Source, Span};

/// Headings and top-level list items, with spans that count from the start of the source.
#[derive(Debug, Default)]
pub struct Outline {
    pub headings: Vec<Heading>,
    pub items: Vec<Item>,
}

#[derive(Debug)]
pub struct Heading {
    pub level: usize,
    pub text: String,
    pub span: Span,
}

/// One item of a list that is not inside another list, a quotation or the like.
#[derive(Debug)]
pub struct Item {
    pub span: Span,
    /// What stands after its marker and check box.
    pub content: Span,
    /// `Some` when it has a check box.
    pub checked: Option<bool>,
}

/// Reads the part of a source that holds Markdown.
pub fn outline(source: &Source, part: Span) -> Outline {
    let text = source.text.get(part.clone()).unwrap_or_default();
    let mut out = Outline::default();
    let mut depth = 0_usize;
    let mut open: Option<Heading> = None;
    let mut item: Option<Item> = None;
    for (event, span) in Parser::new_ext(text, Options::ENABLE_TASKLISTS).into_offset_iter() {
        let span = part.start + span.start..part.start + span.end;
        match event {
            Event::Start(Tag::Heading { level, .. }) if depth == 0 => {
                open = Some(Heading { level: level as usize, text: String::new(), span });
            }
            Event::End(TagEnd::Heading(_)) => out.headings.extend(open.take()),
            Event::Text(text) | Event::Code(text) if open.is_some() => {
                if let Some(heading) = &mut open {
                    heading.text.push_str(&text);
                }
            }
            Event::Start(Tag::Item) if depth == 1 && item.is_none() => {
                depth += 1;
                item = Some(Item { content: span.end..span.end, span, checked: None });
            }
            Event::Start(tag) if is_container(&tag) => {
                start_content(&mut item, depth, &span);
                depth += 1;
            }
            Event::End(end) if is_container_end(end) => {
                depth = depth.saturating_sub(1);
                if depth == 1 && end == TagEnd::Item {
                    out.items.extend(item.take());
                }
            }
            Event::TaskListMarker(checked) => {
                if let Some(item) = item.as_mut().filter(|_| depth == 2) {
                    item.checked = Some(checked);
                    let blank = text.get(span.end - part.start..).map_or(0, |rest| rest.len() - rest.trim_start_matches(' ').len());
                    item.content.start = (span.end + blank).min(item.content.end);
                }
            }
            _ => start_content(&mut item, depth, &span),
        }
    }
    out
}

/// The first thing inside an item is where its content starts.
fn start_content(item: &mut Option<Item>, depth: usize, span: &Span) {
    if let Some(item) = item.as_mut().filter(|i| depth == 2 && i.content.is_empty() && i.checked.is_none()) {
        item.content.start = span.start.min(item.content.end);
    }
}

fn is_container(tag: &Tag<'_>) -> bool {
    matches!(tag, Tag::List(_) | Tag::Item | Tag::BlockQuote(_) | Tag::FootnoteDefinition(_))
}

fn is_container_end(end: TagEnd) -> bool {
    matches!(end, TagEnd::List(_) | TagEnd::Item | TagEnd::BlockQuote(_) | TagEnd::FootnoteDefinition)
}

impl Outline {
    /// The text below a heading, up to the next of its level or above.
    pub fn section(&self, index: usize, end: usize) -> Span {
        let Some(heading) = self.headings.get(index) else { return end..end };
        let next = self.headings[index + 1..].iter().find(|h| h.level <= heading.level);
        heading.span.end..next.map_or(end, |h| h.span.start).max(heading.span.end)
    }

    pub fn items_in<'a>(&'a self, span: &Span) -> impl Iterator<Item = &'a Item> + use<'a> {
        let (start, end) = (span.start, span.end);
        self.items.iter().filter(move |i| i.span.start >= start && i.span.start < end)
    }
}

/// Is this the heading of a list of acceptance criteria?
pub fn is_criteria_heading(text: &str) -> bool {
    let text = text.trim().trim_end_matches(':').to_ascii_lowercase();
    matches!(text.as_str(), "acceptance criteria" | "acceptance" | "criteria" | "acs" | "acceptance tests" | "definition of done")
}

/// The text of an item: its first line as it stands, the others without their common indentation.
pub fn item_text(source: &Source, item: &Item) -> String {
    dedent(source.text.get(item.content.clone()).unwrap_or_default())
}

/// Takes the common indentation from all lines but the first.
pub fn dedent(raw: &str) -> String {
    let raw = raw.replace("\r\n", "\n");
    let raw = raw.trim();
    let (first, rest) = raw.split_once('\n').unwrap_or((raw, ""));
    let indent = |line: &str| line.len() - line.trim_start_matches(' ').len();
    let common = rest.lines().filter(|l| !l.trim().is_empty()).map(indent).min().unwrap_or_default();
    let mut out = first.trim_end().to_owned();
    for line in rest.lines() {
        out.push('\n');
        out.push_str(line.get(common..).unwrap_or_default().trim_end());
    }
    out.trim().to_owned()
}

/// Splits `AC-1: text`, `**AC-1** – text` and the like.
pub fn split_id(text: &str) -> (Option<&str>, &str) {
    let marks = ["**", "__", "`", ""];
    for mark in marks {
        let Some(rest) = text.strip_prefix(mark) else { continue };
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))).unwrap_or(rest.len());
        let (word, rest) = rest.split_at(end);
        if name::flaw(word).is_some()
            || !word.contains(|c: char| c.is_ascii_digit())
            || !word.starts_with(|c: char| c.is_ascii_alphabetic())
        {
            continue;
        }
        // The colon may stand inside or outside of the emphasis.
        let inside = rest.strip_prefix(':').and_then(|r| r.strip_prefix(mark)).filter(|_| !mark.is_empty());
        let outside =
            rest.strip_prefix(mark).map(str::trim_start).and_then(|r| r.strip_prefix([':', '–', '—']).or_else(|| r.strip_prefix("- ")));
        if let Some(rest) = inside.or(outside) {
            return (Some(word), rest.trim());
        }
    }
    (None, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn items_and_headings_are_found() {
        let text = "# T `x`\n\n- [ ] one\n  more\n- [x] two\n\n  - inner\n\n> - quoted\n\n## S\n* **AC-1**: three\n\ntext\n";
        let source = Source::new("x.md", text);
        let outline = outline(&source, 0..text.len());
        assert_eq!(outline.headings.iter().map(|h| (h.level, h.text.as_str())).collect::<Vec<_>>(), [(1, "T x"), (2, "S")]);
        let items: Vec<_> = outline.items.iter().map(|i| (item_text(&source, i), i.checked)).collect();
        assert_eq!(items, [("one\nmore".into(), Some(false)), ("two\n\n- inner".into(), Some(true)), ("**AC-1**: three".into(), None)]);
        assert_eq!(outline.items_in(&outline.section(1, text.len())).count(), 1);
    }

    #[test]
    fn ids_are_split_off() {
        for (text, id, rest) in [
            ("AC-1: text", Some("AC-1"), "text"),
            ("**AC-1.2**: text", Some("AC-1.2"), "text"),
            ("**AC-1:** text", Some("AC-1"), "text"),
            ("`AC-1` – text", Some("AC-1"), "text"),
            ("T001 - text", Some("T001"), "text"),
            ("Note: text", None, "Note: text"),
            ("GET /x: 200", None, "GET /x: 200"),
            ("3: text", None, "3: text"),
        ] {
            assert_eq!(split_id(text), (id, rest), "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[-*#> \\[\\]x`1.\\n\u{e9}\ta:]{0,80}") {
            let source = Source::new("x", &text);
            for item in &outline(&source, 0..text.len()).items {
                drop(item_text(&source, item));
            }
            let _ = split_id(&text);
        }

        #[test]
        fn dedent_is_stable(text in "[ a\\n-]{0,40}") {
            let once = dedent(&text);
            prop_assert_eq!(dedent(&once), once.clone());
            prop_assert_eq!(dedent(&once.replace('\n', "\n  ")), once);
        }
    }
}

//! TOML to a tree.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{DEPTH, Entry, NODES, Node, Style, Value, too_much};
use crate::base::source::{Problem, Source, Span};

/// Reads the part of a source that holds TOML; spans count from the start of the source.
pub fn toml(source: &Source, part: Span) -> Result<Node, Problem> {
    let text = source.text.get(part.clone()).unwrap_or_default();
    let table = DeTable::parse(text).map_err(|error| {
        let span = error.span().map_or(part.clone(), |s| part.start + s.start..part.start + s.end);
        source.error("syntax", &span, format!("this is no TOML: {}", error.message().replace('\n', "; ")), "mend the line that is marked")
    })?;
    let mut builder = Builder { source, shift: part.start, nodes: 0 };
    builder.table(table.get_ref(), part, 0)
}

struct Builder<'a> {
    source: &'a Source,
    shift: usize,
    nodes: usize,
}

impl Builder<'_> {
    fn span(&self, span: &Span) -> Span {
        self.shift + span.start..self.shift + span.end
    }

    fn table(&mut self, table: &DeTable<'_>, span: Span, depth: usize) -> Result<Node, Problem> {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let node = self.node(value, depth + 1)?;
            entries.push(Entry { key: key.get_ref().to_string(), key_span: self.span(&key.span()), node });
        }
        // The order in which a person wrote them, for messages.
        entries.sort_by_key(|e| e.key_span.start);
        Ok(Node { span, value: Value::Table(entries) })
    }

    fn node(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Result<Node, Problem> {
        let span = self.span(&value.span());
        self.nodes += 1;
        if depth > DEPTH || self.nodes > NODES {
            return Err(too_much(self.source, &span));
        }
        let typed = |text: String| Value::Scalar { text, style: Style::Typed };
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Scalar { text: text.to_string(), style: Style::Quoted },
            // Another radix is kept as decimal digits, so that one reader of numbers is enough.
            DeValue::Integer(n) => typed(i128::from_str_radix(n.as_str(), n.radix()).map_or_else(|_| n.to_string(), |n| n.to_string())),
            DeValue::Float(n) => typed(n.as_str().to_owned()),
            DeValue::Boolean(b) => typed(b.to_string()),
            DeValue::Datetime(d) => typed(d.to_string()),
            DeValue::Array(items) => Value::List(items.iter().map(|item| self.node(item, depth + 1)).collect::<Result<_, _>>()?),
            DeValue::Table(table) => return self.table(table, span, depth),
        };
        Ok(Node { span, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_place() {
        let text = "a = 1_000\n[b]\nc = [\"x\", true]\n";
        let source = Source::new("x.toml", text);
        let tree = toml(&source, 0..text.len()).expect("toml");
        assert_eq!(tree.get("a").and_then(Node::count), Some(1000));
        let c = tree.get("b").and_then(|b| b.get("c")).and_then(Node::list).expect("c");
        assert_eq!(&text[c[0].span.clone()], "\"x\"");
        assert_eq!(c[1].flag(), Some(true));
        assert_eq!(c[0].flag(), None);
    }

    #[test]
    fn a_syntax_error_has_its_place() {
        let problem = toml(&Source::new("x.toml", "a = 1\nb = = 2\n"), 0..14).expect_err("syntax");
        assert_eq!(problem.place.expect("place").line, 2);
    }
}

//! JSON to a tree: the library reads, its raw values say where.

use std::fmt;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::{DEPTH, Entry, NODES, Node, Style, Value, duplicate, too_much};
use crate::base::source::{Problem, Source, Span};

/// Reads a source that holds one JSON document.
pub fn json(source: &Source) -> Result<Node, Problem> {
    let text = &*source.text;
    // One pass over the whole document first: its errors have the best places.
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Err(syntax(source, 0, text, &error));
    }
    let start = text.len() - text.trim_start().len();
    Builder { source, nodes: 0 }.node(start..text.trim_end().len().max(start), 0)
}

fn syntax(source: &Source, base: usize, part: &str, error: &serde_json::Error) -> Problem {
    let line_start: usize = part.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    let at = base + line_start + error.column().saturating_sub(1);
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    source.error("syntax", &(at..at + 1), format!("this is no JSON: {what}"), "mend the line that is marked")
}

struct Builder<'a> {
    source: &'a Source,
    nodes: usize,
}

impl<'a> Builder<'a> {
    fn node(&mut self, span: Span, depth: usize) -> Result<Node, Problem> {
        self.nodes += 1;
        if depth > DEPTH || self.nodes > NODES {
            return Err(too_much(self.source, &span));
        }
        let source = self.source;
        let part = source.text.get(span.clone()).unwrap_or_default();
        let fail = |error: serde_json::Error| syntax(source, span.start, part, &error);
        let value = match part.as_bytes().first() {
            Some(b'{') => {
                let parts = serde_json::Deserializer::from_str(part).deserialize_map(Members).map_err(fail)?;
                return self.table(span, &parts, depth);
            }
            Some(b'[') => {
                let parts = serde_json::Deserializer::from_str(part).deserialize_seq(Items).map_err(fail)?;
                let items = parts.iter().map(|item| self.node(self.span_of(item), depth + 1)).collect::<Result<_, _>>()?;
                Value::List(items)
            }
            Some(b'"') => Value::Scalar { text: serde_json::from_str(part).map_err(fail)?, style: Style::Quoted },
            Some(b'n') => Value::Null,
            _ => Value::Scalar { text: part.to_owned(), style: Style::Typed },
        };
        Ok(Node { span, value })
    }

    fn table(&mut self, span: Span, parts: &[(String, &'a str)], depth: usize) -> Result<Node, Problem> {
        let mut entries = Vec::with_capacity(parts.len());
        let mut seen = std::collections::HashSet::new();
        let mut last = span.start;
        for (key, value) in parts {
            let value_span = self.span_of(value);
            // Between the value before and this one stand only the key, white space, a comma and a colon.
            let between = self.source.text.get(last..value_span.start).unwrap_or_default();
            let key_start = last + between.find('"').unwrap_or_default();
            let key_end = last + between.rfind('"').map_or(0, |i| i + 1);
            last = value_span.end;
            let key_span = key_start..key_end.max(key_start);
            if !seen.insert(key.as_str()) {
                return Err(duplicate(self.source, key, &key_span));
            }
            entries.push(Entry { key: key.clone(), key_span, node: self.node(value_span, depth + 1)? });
        }
        Ok(Node { span, value: Value::Table(entries) })
    }

    /// Where a borrowed part of the source stands in it.
    fn span_of(&self, part: &str) -> Span {
        let start = part.as_ptr().addr().saturating_sub(self.source.text.as_ptr().addr());
        start..start + part.len()
    }
}

/// The members of an object, each value as the text it was written as.
struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            members.push((key, map.next_value::<&RawValue>()?.get()));
            if members.len() > NODES {
                return Err(A::Error::custom("too many members"));
            }
        }
        Ok(members)
    }
}

struct Items;

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<&RawValue>()? {
            items.push(item.get());
            if items.len() > NODES {
                return Err(A::Error::custom("too many items"));
            }
        }
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_and_keys_keep_their_place() {
        let text = " {\"a\\\"b\" : [1, \"x\\n\"],\n \"c\": {\"d\": null, \"e\": true}} \n";
        let tree = json(&Source::new("x.json", text)).expect("json");
        let entries = tree.table().expect("table");
        assert_eq!((entries[0].key.as_str(), &text[entries[0].key_span.clone()]), ("a\"b", "\"a\\\"b\""));
        let list = entries[0].node.list().expect("list");
        assert_eq!((list[0].count(), list[1].text()), (Some(1), Some("x\n")));
        assert_eq!(&text[entries[1].key_span.clone()], "\"c\"");
        assert_eq!(tree.get("c").and_then(|c| c.get("e")).map(|n| &text[n.span.clone()]), Some("true"));
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        for (text, line, column) in [("{\n  \"a\": 1,\n}", 3, 1), ("{\"a\": 1, \"a\": 2}", 1, 10), ("", 1, 1), ("[1, 2", 1, 5)] {
            let place = json(&Source::new("x.json", text)).expect_err(text).place.expect("place");
            assert_eq!((place.line, place.column), (line, column), "{text}");
        }
        let deep = format!("{}{}", "[".repeat(60), "]".repeat(60));
        assert_eq!(json(&Source::new("x.json", &deep)).expect_err("deep").rule, "too-large");
    }

    proptest! {
        #[test]
        fn never_panics(text in "[\\[\\]{}\":,a1 tnul\\\\\\n]{0,60}") {
            drop(json(&Source::new("x.json", &text)));
        }
    }
}

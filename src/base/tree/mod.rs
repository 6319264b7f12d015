//! What YAML, TOML and JSON have in common: a tree of values, each with the place it was written at.
//!
//! Readers of files that people write decode this tree by hand, so that every wrong value can be named, shown and mended, all of them in one go.

mod json;
mod toml;
mod yaml;

pub use self::json::json;
pub use self::toml::toml;
pub use self::yaml::yaml;

use super::source::{Problem, Source, Span};
use super::suggest::nearest;
use super::text::{cut, one_line};

/// One value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Scalar { text: String, style: Style },
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// How a scalar was written: it decides what it may be read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Certainly a text.
    Quoted,
    /// YAML without quotes: whatever its reader wants it to be.
    Bare,
    /// A number, truth value or date of TOML or JSON.
    Typed,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Span,
    pub node: Node,
}

/// Deeper than this is an attack or an accident.
pub const DEPTH: usize = 32;
/// More values than this in one file is an attack or an accident; 10 000 stories need about 300 000.
pub const NODES: usize = 2_000_000;

/// Fails with the message that a file is nested too deeply or holds too many values.
fn too_much(source: &Source, span: &Span) -> Problem {
    source.error(
        "too-large",
        span,
        format!("this file is nested deeper than {DEPTH} levels or holds more than {NODES} values"),
        "split it, or import it in parts",
    )
}

fn duplicate(source: &Source, key: &str, span: &Span) -> Problem {
    source.error("duplicate-key", span, format!("`{}` is given twice", shown(key)), "keep one of the two")
}

/// A text from a file as a message may quote it.
pub fn shown(text: &str) -> String {
    one_line(&cut(text, 80)).into_owned()
}

impl Node {
    /// What it is, for "expected …, found …".
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { style: Style::Quoted | Style::Bare, .. } => "a text",
            Value::Scalar { text, .. } if text == "true" || text == "false" => "a truth value",
            Value::Scalar { .. } => "a number",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// Any scalar as its text, numbers too: for ids and versions, whose digits must not be reinterpreted.
    pub fn any_text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, style: Style::Quoted | Style::Bare } => Some(text),
            _ => None,
        }
    }

    pub fn flag(&self) -> Option<bool> {
        match self.bare()? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    pub fn count(&self) -> Option<u64> {
        self.bare()?.parse().ok()
    }

    pub fn number(&self) -> Option<f64> {
        self.bare()?.parse().ok().filter(|n: &f64| n.is_finite())
    }

    pub fn list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn table(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Table(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        self.table()?.iter().find(|e| e.key == key).map(|e| &e.node)
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    fn bare(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, style: Style::Bare | Style::Typed } => Some(text),
            _ => None,
        }
    }
}

/// The message for a key that nobody reads.
pub fn unknown_key(source: &Source, entry: &Entry, place: &str, known: &[&str]) -> Problem {
    let next = match nearest(&entry.key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the keys here are {}", super::text::list(known)),
    };
    source.error("unknown-key", &entry.key_span, format!("`{}` is no key of {place}", shown(&entry.key)), next)
}

/// The message for a value of the wrong kind.
pub fn wrong_kind(source: &Source, node: &Node, key: &str, wanted: &str) -> Problem {
    source.error(
        "wrong-kind",
        &node.span,
        format!("`{}` must be {wanted}, and this is {}", shown(key), node.kind()),
        format!("write {wanted} here"),
    )
}

//! One value against what its key takes: checked, with the place and the mend.

use std::time::Duration;

use super::keys::Kind;
use crate::base::duration;
use crate::base::host::Authority;
use crate::base::name;
use crate::base::path;
use crate::base::reach::Reach;
use crate::base::size::Size;
use crate::base::source::{Problem, Source, Span};
use crate::base::suggest::nearest;
use crate::base::tree::{Node, shown, wrong_kind};

/// A checked value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Count(u64),
    Number(f64),
    Flag(bool),
    Time(Duration),
    Size(Size),
    Texts(Vec<String>),
}

/// Placeholders of an agent's command.
pub const PLACEHOLDERS: [&str; 5] = ["{task}", "{prompt}", "{out}", "{model}", "{story}"];

pub fn check(kind: Kind, node: &Node, source: &Source, key: &str) -> Result<Value, Problem> {
    let fail = || wrong_kind(source, node, key, &kind.wanted());
    let bad = |span: &Span, why: String| source.error("bad-value", span, format!("`{key}`: {why}"), format!("write {}", kind.wanted()));
    let text = || node.text().ok_or_else(fail);
    match kind {
        Kind::Count(low, high) => {
            let n = node.count().ok_or_else(fail)?;
            if (low..=high).contains(&n) { Ok(Value::Count(n)) } else { Err(bad(&node.span, format!("{n} is out of bounds"))) }
        }
        Kind::Number(high) => {
            let n = node.number().ok_or_else(fail)?;
            if n > 0.0 && n <= high { Ok(Value::Number(n)) } else { Err(bad(&node.span, format!("{n} is out of bounds"))) }
        }
        Kind::Flag => node.flag().map(Value::Flag).ok_or_else(fail),
        Kind::Time => duration::parse(text()?).map(Value::Time).map_err(|e| bad(&node.span, e.to_string())),
        Kind::Size => match (node.text(), node.count()) {
            (Some(text), _) => text.parse().map(Value::Size).map_err(|e: crate::base::size::SizeError| bad(&node.span, e.to_string())),
            (None, Some(bytes)) if bytes > 0 => Ok(Value::Size(Size(bytes))),
            _ => Err(fail()),
        },
        Kind::Word(words) => {
            let word = text()?;
            if words.contains(&word) {
                return Ok(Value::Text(word.to_owned()));
            }
            Err(unknown_word(source, &node.span, key, word, words))
        }
        Kind::Words(_) | Kind::Globs | Kind::Folders | Kind::Hosts | Kind::Argv | Kind::Texts => {
            let items = node.list().ok_or_else(fail)?;
            let texts = items.iter().map(|item| {
                let text = item.text().ok_or_else(|| wrong_kind(source, item, key, "a list of texts"))?;
                match one_of_list(kind, text) {
                    None => Ok(text.to_owned()),
                    Some(why) => Err(match kind {
                        Kind::Words(words) => unknown_word(source, &item.span, key, text, words),
                        _ => bad(&item.span, why),
                    }),
                }
            });
            let texts = texts.collect::<Result<Vec<_>, _>>()?;
            if kind == Kind::Argv && texts.first().is_none_or(String::is_empty) {
                return Err(bad(&node.span, "it names no program".into()));
            }
            Ok(Value::Texts(texts))
        }
        Kind::Text
        | Kind::Path
        | Kind::Name
        | Kind::Branch
        | Kind::Host
        | Kind::Header
        | Kind::UrlPath
        | Kind::Variable
        | Kind::Secret
        | Kind::Report => {
            let text = text()?;
            match flaw(kind, text) {
                None => Ok(Value::Text(text.to_owned())),
                Some(why) if kind == Kind::Secret => Err(source.masked(bad(&node.span, why))),
                Some(why) => Err(bad(&node.span, why)),
            }
        }
    }
}

fn unknown_word(source: &Source, span: &Span, key: &str, word: &str, words: &[&str]) -> Problem {
    let next = match nearest(word, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("write one of {}", crate::base::text::list(words)),
    };
    source.error("bad-value", span, format!("`{key}`: `{}` is none of its words", shown(word)), next)
}

/// Why a text cannot be an argument of a configured command.
pub fn argument_flaw(text: &str) -> Option<String> {
    one_of_list(Kind::Argv, text)
}

/// Why one item of a list is not allowed there.
fn one_of_list(kind: Kind, text: &str) -> Option<String> {
    match kind {
        Kind::Words(words) => (!words.contains(&text)).then(String::new),
        Kind::Globs => path::glob_flaw(text).map(|why| format!("`{}` {why}", shown(text))),
        // A cache is a mount that is made before the gate starts: what a pattern would match is made by the gate itself, and is not there yet.
        Kind::Folders if text.contains(['*', '?', '[', ']', '{', '}']) => {
            Some(format!("`{}` is a pattern; a folder that does not exist yet cannot be found by one, so name each folder", shown(text)))
        }
        Kind::Folders => path::flaw(text).map(|why| format!("`{}` {why}", shown(text))),
        Kind::Hosts => Reach::parse(text).err().map(|why| format!("`{}`: {why}", shown(text))),
        Kind::Texts => (text.trim().is_empty() || text.contains(char::is_control)).then(|| format!("`{}` is no name", shown(text))),
        _ => {
            if text.contains('\0') {
                return Some("an argument holds a NUL byte".into());
            }
            // `{…}` of any other spelling would reach the program as it stands, and surprise.
            let open = text.find('{')?;
            let close = open + text[open..].find('}')?;
            let word = &text[open..=close];
            let looks = word.len() > 2 && word[1..word.len() - 1].chars().all(|c| c.is_ascii_lowercase() || c == '_');
            (looks && !PLACEHOLDERS.contains(&word)).then(|| format!("`{word}` is none of the placeholders {}", PLACEHOLDERS.join(", ")))
        }
    }
}

fn flaw(kind: Kind, text: &str) -> Option<String> {
    if text.trim().is_empty() {
        return Some("it is empty".into());
    }
    if text.contains('\0') {
        return Some("it holds a NUL byte".into());
    }
    let why = match kind {
        Kind::Path => path::flaw(text),
        Kind::Name => name::flaw(text),
        Kind::Branch => branch_flaw(text),
        Kind::Host => host_flaw(text),
        Kind::Header => {
            (!text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))).then_some("is no header name")
        }
        Kind::UrlPath => {
            (!text.starts_with('/') || Reach::parse(&format!("example.org{text}")).is_err()).then_some("is no plain path, such as /api/")
        }
        Kind::Variable => (!is_variable(text)).then_some("names no environment variable"),
        Kind::Secret => secret_flaw(text),
        Kind::Report => super::Report::parse(text).err(),
        _ => None,
    };
    // The likeliest mistake here is the credential itself, and a message must not repeat that.
    why.map(|why| if kind == Kind::Secret { why.to_owned() } else { format!("`{}` {why}", shown(text)) })
}

/// What git refuses in a branch name, and what would make it an option or another kind of ref.
fn branch_flaw(text: &str) -> Option<&'static str> {
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.') || part.ends_with('.') || part.ends_with(".lock");
    let bad_char = |c: char| c.is_control() || c == ' ' || "~^:?*[\\".contains(c);
    if text.starts_with("refs/") {
        return Some("is a ref; write the branch's own name");
    }
    (text.starts_with('-')
        || text.contains("..")
        || text.contains("@{")
        || text == "@"
        || text.chars().any(bad_char)
        || text.split('/').any(bad_part))
    .then_some("cannot be the name of a branch")
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn secret_flaw(text: &str) -> Option<&'static str> {
    match text.split_once(':') {
        Some(("env", name)) if is_variable(name) => None,
        Some(("env", _)) => Some("it names no environment variable"),
        Some(("file" | "command", rest)) if !rest.trim().is_empty() => None,
        _ => Some("it does not say where the credential is; never write a credential itself into this file"),
    }
}

/// A host that a credential is for: a name or an address, with an optional port.
fn host_flaw(text: &str) -> Option<&'static str> {
    if text.contains("://") {
        return Some("is a URL; write only the host, and a port after `:`");
    }
    Authority::parse(text, Some(443)).err().map(|_| "is no host name")
}

impl std::fmt::Display for Value {
    /// As TOML.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let quote = |text: &str| toml::Value::from(text).to_string();
        match self {
            Self::Text(text) => f.write_str(&quote(text)),
            Self::Count(n) => write!(f, "{n}"),
            Self::Number(n) => write!(f, "{n:?}"),
            Self::Flag(b) => write!(f, "{b}"),
            Self::Time(t) => write!(f, "\"{}\"", duration::exact(*t)),
            Self::Size(s) => write!(f, "\"{}\"", s.exact()),
            Self::Texts(texts) => write!(f, "[{}]", texts.iter().map(|t| quote(t)).collect::<Vec<_>>().join(", ")),
        }
    }
}

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Count(n) => serializer.serialize_u64(*n),
            Self::Number(n) => serializer.serialize_f64(*n),
            Self::Flag(b) => serializer.serialize_bool(*b),
            Self::Time(t) => serializer.serialize_str(&duration::exact(*t)),
            Self::Size(s) => serializer.serialize_str(&s.exact()),
            Self::Texts(texts) => texts.serialize(serializer),
        }
    }
}

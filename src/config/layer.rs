//! One layer: TOML checked against the keys, every setting with its place.

use std::collections::BTreeMap;

use super::keys::{KEYS, Key, Step, steps};
use super::value::{self, Value};
use crate::base::name;
use crate::base::source::{Problem, Source, Span};
use crate::base::tree::{self, Entry, Node, unknown_key, wrong_kind};

/// Where a layer comes from. Later ones lie above earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "layer")]
pub enum Origin {
    BuiltIn,
    User,
    /// The target branch's commit.
    Target {
        branch: String,
        commit: String,
    },
    /// A file named by `--config`, in place of the target branch's.
    File,
    /// An option of the command.
    Flag,
}

/// One value somebody set.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Such as `run.parallel` or `gate[0].name`.
    pub path: String,
    pub key: &'static Key,
    pub value: Value,
    pub origin: Origin,
    pub source: Source,
    pub span: Span,
}

/// Settings by path, lower layers overridden.
pub type Settings = BTreeMap<String, Setting>;

/// Reads one layer. What can be read is returned even when something is wrong, so that all problems are found in one go.
pub fn read(source: &Source, origin: &Origin) -> (Vec<Setting>, Vec<Problem>) {
    let mut reader = Reader { source, origin, settings: Vec::new(), problems: Vec::new() };
    match tree::toml(source, 0..source.text.len()) {
        Ok(root) => reader.table(&root, "", &mut Vec::new()),
        Err(problem) => reader.problems.push(problem),
    }
    (reader.settings, reader.problems)
}

/// One `--set KEY=VALUE`: the value as TOML, or as a text when it is none.
pub fn read_flag(flag: &str) -> (Vec<Setting>, Vec<Problem>) {
    let Some((key, value)) = flag.split_once('=') else {
        let source = Source::new("--set", flag);
        return (
            Vec::new(),
            vec![source.error("syntax", &(0..flag.len()), "this sets nothing", "write KEY=VALUE, such as run.parallel=4")],
        );
    };
    let source = Source::new("--set", flag);
    if tree::toml(&source, 0..flag.len()).is_ok() {
        return read(&source, &Origin::Flag);
    }
    let quoted = Source::new("--set", &format!("{}={}", key.trim(), toml::Value::from(value.trim())));
    read(&quoted, &Origin::Flag)
}

/// Puts a layer on top of what is there. A list of tables is replaced as a whole: half of a gate from elsewhere would be nobody's gate.
pub fn put(settings: &mut Settings, layer: Vec<Setting>) {
    for list in KEYS.iter().filter_map(|k| k.path.split_once("[].").map(|(list, _)| list)) {
        let prefix = format!("{list}[");
        if layer.iter().any(|s| s.path.starts_with(&prefix)) {
            settings.retain(|path, _| !path.starts_with(&prefix));
        }
    }
    settings.extend(layer.into_iter().map(|s| (s.path.clone(), s)));
}

struct Reader<'a> {
    source: &'a Source,
    origin: &'a Origin,
    settings: Vec<Setting>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Walks one table; `taken` is the way to it, in the words of the key table.
    fn table(&mut self, node: &Node, path: &str, taken: &mut Vec<Step<'static>>) {
        for entry in node.table().unwrap_or_default() {
            let here = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
            match self.step(entry, path, taken) {
                Err(problem) => self.problems.push(problem),
                Ok(step) => {
                    taken.push(step);
                    self.entry(entry, &here, taken);
                    taken.pop();
                }
            }
        }
    }

    fn entry(&mut self, entry: &Entry, here: &str, taken: &mut Vec<Step<'static>>) {
        let node = &entry.node;
        if let Some(key) = KEYS.iter().find(|k| steps(k.path).eq(taken.iter().copied())) {
            match value::check(key.kind, node, self.source, here) {
                Ok(value) => self.settings.push(Setting {
                    path: here.to_owned(),
                    key,
                    value,
                    origin: self.origin.clone(),
                    source: self.source.clone(),
                    span: node.span.clone(),
                }),
                Err(problem) => self.problems.push(problem),
            }
            return;
        }
        let is_list = matches!(taken.last(), Some(Step::Name(name)) if name.ends_with("[]"));
        match (is_list, node.list(), node.table()) {
            (true, Some(items), _) => {
                for (i, item) in items.iter().enumerate() {
                    match item.table() {
                        Some(_) => self.table(item, &format!("{here}[{i}]"), taken),
                        None => self.problems.push(wrong_kind(self.source, item, here, "a table")),
                    }
                }
            }
            (true, None, _) => {
                let what = format!("`{here}` is a list of tables");
                self.problems.push(self.source.error("wrong-kind", &entry.key_span, what, format!("write [[{here}]]")));
            }
            (false, _, Some(_)) => self.table(node, here, taken),
            (false, ..) => self.problems.push(wrong_kind(self.source, node, here, "a table")),
        }
    }

    /// The step of the key table that an entry takes.
    fn step(&self, entry: &Entry, path: &str, taken: &[Step<'static>]) -> Result<Step<'static>, Problem> {
        let mut known = Vec::new();
        let nexts = KEYS
            .iter()
            .filter(|k| steps(k.path).take(taken.len()).eq(taken.iter().copied()))
            .filter_map(|k| steps(k.path).nth(taken.len()));
        for step in nexts {
            match step {
                Step::Name(name) if name.trim_end_matches("[]") == entry.key => return Ok(step),
                Step::Name(name) => known.push(name.trim_end_matches("[]")),
                Step::OneOf(names) if names.contains(&entry.key.as_str()) => return Ok(step),
                Step::OneOf(names) => known.extend(names),
                Step::Any => {
                    return match name::flaw(&entry.key) {
                        None => Ok(step),
                        Some(why) => Err(self.source.error(
                            "bad-value",
                            &entry.key_span,
                            format!("`{}` is no name: {why}", tree::shown(&entry.key)),
                            "write letters, digits, `.`, `_` and `-`",
                        )),
                    };
                }
            }
        }
        known.sort_unstable();
        known.dedup();
        let place = if path.is_empty() { "this file".to_owned() } else { format!("[{path}]") };
        Err(unknown_key(self.source, entry, &place, &known))
    }
}

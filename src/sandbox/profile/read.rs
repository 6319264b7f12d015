//! The text of a profile into a [`Layer`]: every problem of the file at once, each with its line, the words it is about and the nearest
//! known key. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Bound, Layer, LayerLimits, WorkspaceMode, allow};
use crate::base::size::Size;
use crate::base::suggest::nearest;
use crate::base::{duration, excerpt, text};
use crate::sandbox::policy::{NetworkMode, Tier};

/// Every key there is; a key without a table stands at the top of the file.
pub const KEYS: [(&str, &[&str]); 6] = [
    ("", &["description", "extends", "files", "network", "environment", "limits", "sandbox"]),
    ("files", &["system", "toolchains", "caches", "workspace", "read", "write", "deny"]),
    ("network", &["mode", "loopback", "allow"]),
    ("environment", &["pass", "set"]),
    ("limits", &["memory", "pids", "cpus", "wall", "cpu_time", "output", "disk", "files", "open_files", "file_size"]),
    ("sandbox", &["require"]),
];

/// A longer file is no profile.
pub const LONGEST: usize = 256 * 1024;

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub what: String,
    pub span: Range<usize>,
    pub help: Option<String>,
}

/// Everything that is wrong in a file, ready for a terminal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render())]
pub struct ReadError {
    pub file: String,
    pub source_text: String,
    pub problems: Vec<Problem>,
}

impl ReadError {
    fn render(&self) -> String {
        let one = |problem: &Problem| {
            let shown = excerpt::render(&self.file, &self.source_text, problem.span.clone());
            let help = problem.help.as_ref().map(|h| format!("\n  help: {h}")).unwrap_or_default();
            format!("{}\n{shown}{help}", problem.what)
        };
        self.problems.iter().map(one).collect::<Vec<_>>().join("\n")
    }
}

/// Reads the text of one profile; `file` is what errors call it.
///
/// # Errors
/// Everything that is wrong with it.
pub fn layer(file: &str, source: &str) -> Result<Layer, ReadError> {
    let mut reader = Reader { problems: Vec::new() };
    let layer = if source.len() > LONGEST {
        reader.fail(0..0, format!("the file is longer than {}", Size(LONGEST as u64)), None);
        Layer::default()
    } else {
        match DeTable::parse(source) {
            Ok(document) => reader.document(document.get_ref()),
            Err(error) => {
                reader.fail(error.span().unwrap_or(0..0), format!("this is not TOML: {}", text::one_line(error.message())), None);
                Layer::default()
            }
        }
    };
    if reader.problems.is_empty() {
        return Ok(layer);
    }
    reader.problems.sort_by_key(|problem| problem.span.start);
    Err(ReadError { file: file.to_owned(), source_text: source.to_owned(), problems: reader.problems })
}

type Value<'a, 'i> = &'a Spanned<DeValue<'i>>;

struct Reader {
    problems: Vec<Problem>,
}

impl Reader {
    fn fail(&mut self, span: Range<usize>, what: impl Into<String>, help: Option<String>) {
        self.problems.push(Problem { what: what.into(), span, help });
    }

    fn document(&mut self, top: &DeTable<'_>) -> Layer {
        self.known("", top);
        let mut layer = Layer {
            description: self.take(top, "", "description", Self::text),
            extends: self.take(top, "", "extends", Self::text),
            ..Layer::default()
        };
        if let Some(files) = self.table(top, "files") {
            layer.system = self.take(files, "files", "system", Self::switch);
            layer.toolchains = self.take(files, "files", "toolchains", Self::switch);
            layer.caches = self.take(files, "files", "caches", Self::switch);
            let modes = [("read", WorkspaceMode::Read), ("discard", WorkspaceMode::Discard), ("write", WorkspaceMode::Write)];
            layer.workspace = self.take(files, "files", "workspace", |r, key, v| r.choice(key, v, &modes));
            layer.read = self.take(files, "files", "read", |r, key, v| r.list(key, v, path));
            layer.write = self.take(files, "files", "write", |r, key, v| r.list(key, v, path));
            layer.deny = self.take(files, "files", "deny", |r, key, v| r.list(key, v, path));
        }
        if let Some(network) = self.table(top, "network") {
            let modes = [("none", NetworkMode::None), ("gateway", NetworkMode::Gateway), ("host", NetworkMode::Host)];
            layer.mode = self.take(network, "network", "mode", |r, key, v| r.choice(key, v, &modes));
            layer.loopback = self.take(network, "network", "loopback", Self::switch);
            layer.allow = self.take(network, "network", "allow", |r, key, v| {
                r.list(key, v, |rule| allow::check(rule).map(|()| rule.to_owned()).map_err(str::to_owned))
            });
        }
        if let Some(environment) = self.table(top, "environment") {
            layer.pass = self.take(environment, "environment", "pass", |r, key, v| r.list(key, v, |n| name(n).map(str::to_owned)));
            layer.set = self.take(environment, "environment", "set", Self::variables);
        }
        if let Some(limits) = self.table(top, "limits") {
            layer.limits = self.limits(limits);
        }
        if let Some(sandbox) = self.table(top, "sandbox") {
            let tiers = [("full", Tier::Full), ("no-userns", Tier::NoUserns)];
            layer.require = self.take(sandbox, "sandbox", "require", |r, key, v| r.choice(key, v, &tiers));
        }
        layer
    }

    fn limits(&mut self, table: &DeTable<'_>) -> LayerLimits {
        LayerLimits {
            memory: self.take(table, "limits", "memory", Self::size),
            pids: self.take(table, "limits", "pids", Self::count),
            cpus: self.take(table, "limits", "cpus", Self::cpus),
            wall: self.take(table, "limits", "wall", Self::time),
            cpu_time: self.take(table, "limits", "cpu_time", Self::time),
            output: self.take(table, "limits", "output", Self::size),
            disk: self.take(table, "limits", "disk", Self::size),
            files: self.take(table, "limits", "files", Self::count),
            open_files: self.take(table, "limits", "open_files", Self::count),
            file_size: self.take(table, "limits", "file_size", Self::size),
        }
    }

    /// Every key of a table that nobody knows.
    fn known(&mut self, table: &'static str, found: &DeTable<'_>) {
        let known = KEYS.iter().find(|(name, _)| *name == table).map_or(&[][..], |(_, keys)| keys);
        for key in found.keys() {
            let typed = key.get_ref();
            if known.contains(&&**typed) {
                continue;
            }
            let place = if table.is_empty() { "at the top of a profile".to_owned() } else { format!("in [{table}]") };
            // A key of another table is the commonest mistake after a typing error.
            let elsewhere = KEYS.iter().find(|(name, keys)| !name.is_empty() && keys.contains(&&**typed)).map(|(name, _)| name);
            let help = match (nearest(typed, known.iter().copied()), elsewhere) {
                (_, Some(elsewhere)) => format!("it belongs in [{elsewhere}]"),
                (Some(near), None) => format!("did you mean `{near}`?"),
                (None, None) => format!("known here: {}", known.join(", ")),
            };
            self.fail(key.span(), format!("unknown key `{}` {place}", text::one_line(typed)), Some(help));
        }
    }

    fn table<'a, 'i>(&mut self, top: &'a DeTable<'i>, name: &'static str) -> Option<&'a DeTable<'i>> {
        let value = top.get(name)?;
        let Some(table) = value.get_ref().as_table() else {
            self.fail(value.span(), format!("`{name}` is a table"), Some(format!("write [{name}] on a line of its own")));
            return None;
        };
        self.known(name, table);
        Some(table)
    }

    fn take<T>(
        &mut self,
        table: &DeTable<'_>,
        place: &str,
        key: &str,
        read: impl Fn(&mut Self, &str, Value<'_, '_>) -> Option<T>,
    ) -> Option<T> {
        let value = table.get(key)?;
        let full = if place.is_empty() { key.to_owned() } else { format!("{place}.{key}") };
        read(self, &full, value)
    }

    fn wrong(&mut self, key: &str, value: Value<'_, '_>, wants: &str) {
        self.fail(value.span(), format!("`{key}` is {wants}, and this is {}", kind(value.get_ref())), None);
    }

    fn text(&mut self, key: &str, value: Value<'_, '_>) -> Option<String> {
        let found = value.get_ref().as_str();
        if found.is_none() {
            self.wrong(key, value, "a text in quotes");
        }
        found.map(str::to_owned)
    }

    fn switch(&mut self, key: &str, value: Value<'_, '_>) -> Option<bool> {
        let found = value.get_ref().as_bool();
        if found.is_none() {
            self.wrong(key, value, "true or false");
        }
        found
    }

    fn choice<T: Copy>(&mut self, key: &str, value: Value<'_, '_>, choices: &[(&str, T)]) -> Option<T> {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let typed = self.text(key, value)?;
        let found = choices.iter().find(|(name, _)| *name == typed);
        if found.is_none() {
            let help = nearest(&typed, names.iter().copied()).map(|near| format!("did you mean \"{near}\"?"));
            self.fail(value.span(), format!("`{key}` is one of {}", names.join(", ")), help);
        }
        found.map(|(_, choice)| *choice)
    }

    fn list<T: Ord>(&mut self, key: &str, value: Value<'_, '_>, item: impl Fn(&str) -> Result<T, String>) -> Option<BTreeSet<T>> {
        let Some(items) = value.get_ref().as_array() else {
            self.wrong(key, value, "a list in brackets");
            return None;
        };
        let mut found = BTreeSet::new();
        for entry in items.iter() {
            let Some(typed) = self.text(&format!("each entry of {key}"), entry) else { continue };
            match item(&typed) {
                Ok(good) => drop(found.insert(good)),
                Err(why) => self.fail(entry.span(), format!("an entry of `{key}` is not usable: {why}"), None),
            }
        }
        Some(found)
    }

    fn variables(&mut self, key: &str, value: Value<'_, '_>) -> Option<BTreeMap<String, String>> {
        let Some(table) = value.get_ref().as_table() else {
            self.wrong(key, value, "a table of names and values");
            return None;
        };
        let mut found = BTreeMap::new();
        for (variable, value) in table {
            if let Err(why) = name(variable.get_ref()) {
                self.fail(variable.span(), format!("`{key}` has a name that is not usable: {why}"), None);
            }
            let Some(content) = self.text(key, value) else { continue };
            if content.contains('\0') {
                self.fail(value.span(), "a variable cannot hold a NUL character", None);
            }
            found.insert(variable.get_ref().to_string(), content);
        }
        Some(found)
    }

    /// A limit: lifted by `"none"`, or what `parse` makes of a text or a number.
    fn bound<T>(
        &mut self,
        key: &str,
        value: Value<'_, '_>,
        wants: &str,
        parse: impl Fn(&DeValue<'_>) -> Option<Result<T, String>>,
    ) -> Option<Bound<T>> {
        if value.get_ref().as_str() == Some("none") {
            return Some(Bound::Lifted);
        }
        match parse(value.get_ref()) {
            Some(Ok(good)) => Some(Bound::At(good)),
            Some(Err(why)) => {
                self.fail(value.span(), format!("`{key}`: {why}"), None);
                None
            }
            None => {
                self.wrong(key, value, wants);
                None
            }
        }
    }

    fn size(&mut self, key: &str, value: Value<'_, '_>) -> Option<Bound<Size>> {
        self.bound(key, value, "a size such as \"64MiB\", or \"none\"", |v| {
            let typed = v.as_str().map(str::to_owned).or_else(|| integer(v).map(|n| n.to_string()))?;
            Some(typed.parse().map_err(|e: crate::base::size::SizeError| e.to_string()))
        })
    }

    fn time(&mut self, key: &str, value: Value<'_, '_>) -> Option<Bound<Duration>> {
        let wants = "a length of time in quotes such as \"20m\", or \"none\"";
        self.bound(key, value, wants, |v| Some(duration::parse(v.as_str()?).map_err(|e| e.to_string())))
    }

    fn count(&mut self, key: &str, value: Value<'_, '_>) -> Option<Bound<u64>> {
        self.bound(key, value, "a whole number, or \"none\"", |v| {
            let number = integer(v)?;
            Some(u64::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("{number} is not a number above zero")))
        })
    }

    fn cpus(&mut self, key: &str, value: Value<'_, '_>) -> Option<Bound<f64>> {
        self.bound(key, value, "a number such as 1.5, or \"none\"", |v| {
            let number: f64 = match v {
                DeValue::Float(float) => float.as_str().replace('_', "").parse().ok()?,
                other => integer(other)?.to_string().parse().ok()?,
            };
            let usable = (0.01..=1_000_000.0).contains(&number);
            Some(usable.then_some(number).ok_or_else(|| format!("{number} is not a number of processors from 0.01 up")))
        })
    }
}

fn integer(value: &DeValue<'_>) -> Option<i128> {
    let found = value.as_integer()?;
    i128::from_str_radix(&found.as_str().replace('_', ""), found.radix()).ok()
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A path in a profile: absolute or below `~/`, and without `..`, so that what is written is what is meant.
pub fn path(typed: &str) -> Result<PathBuf, String> {
    let path = Path::new(typed);
    let shown = text::one_line(typed);
    if typed.contains('\0') {
        return Err("a path cannot hold a NUL character".to_owned());
    }
    if typed == "~" || typed == "~/" {
        return Err("a whole home folder is never granted; name the folder in it, such as ~/data".to_owned());
    }
    if !path.is_absolute() && !typed.starts_with("~/") {
        return Err(format!("`{shown}` is neither absolute nor below ~/"));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(format!("`{shown}` contains `..`"));
    }
    // Rebuilt from its parts, so that `//a/./b/` and `/a/b` are one entry.
    Ok(path.components().collect())
}

/// The name of an environment variable.
pub fn name(typed: &str) -> Result<&str, String> {
    let shape = |(at, c): (usize, char)| c == '_' || c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit());
    if !typed.is_empty() && typed.chars().enumerate().all(shape) {
        Ok(typed)
    } else {
        Err(format!("`{}` is not a variable's name (letters, digits and _)", text::one_line(typed)))
    }
}

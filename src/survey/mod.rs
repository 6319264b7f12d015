//! What a repository is made of, which commands prove it, and who could work on it: what `cofferdam init` writes down.
//!
//! ```text
//! folder ─ look ─▶ Seen ┐
//! host ────────────▶ Host ┴─ kinds, ci, agents ─▶ Found ─ write ─▶ cofferdam.toml, the first story
//! ```
//!
//! All but [`look`] and [`host`] is pure. Nothing of the repository is ever run, and no text of it becomes a command: what is found only chooses
//! between commands that are written down here.

pub mod agents;
pub mod ci;
pub mod host;
pub mod kinds;
pub mod look;
pub mod story;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};

use crate::base::path;

/// What was seen of a folder. Paths are relative, with `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Regular files that git does not ignore.
    pub files: BTreeMap<String, File>,
    /// Folders that git ignores, such as `.venv`.
    pub ignored: BTreeSet<String>,
    /// What was not read although it may decide, and why.
    pub unread: Vec<(String, &'static str)>,
    /// There is more than was looked at.
    pub cut: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    pub executable: bool,
    /// Of files that decide about commands, and of a sample of the sources.
    pub text: Option<String>,
}

/// What of the host decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Programs on PATH, each with the folder it lies in.
    pub programs: BTreeMap<String, String>,
    pub agents: Vec<agents::Agent>,
}

/// What it comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// What the repository is written in, and what says so.
    pub kinds: Vec<Kind>,
    pub gates: Vec<Gate>,
    pub ci: Vec<ci::Ci>,
    pub missing: Vec<Missing>,
    /// Globs of tests beside the usual ones.
    pub tests: Vec<String>,
    /// Globs of files that decide about others, beside the usual ones.
    pub protected: Vec<String>,
    /// What fetches packages before gates run without a network.
    pub fetch: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Kind {
    pub name: &'static str,
    /// Empty for the repository's own folder.
    pub folder: String,
    pub because: String,
}

/// A command that proves something, and why it was chosen.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Gate {
    pub name: String,
    pub run: String,
    /// The same for a person: without what only a gate needs.
    pub human: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub report: Option<&'static str>,
    pub cache: Vec<String>,
    pub because: String,
    /// Programs it needs.
    pub needs: Vec<&'static str>,
    #[serde(skip)]
    kind: &'static str,
    #[serde(skip)]
    folder: String,
}

/// What was looked for and not found, and what a person can do about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Missing {
    pub what: String,
    pub next: String,
}

/// More gates than this are a list to choose from, not a choice.
const MOST_GATES: usize = 8;

impl Missing {
    pub fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }
}

impl Gate {
    fn new(kind: &'static str, folder: &str, name: &str, run: impl Into<String>, because: impl Into<String>) -> Self {
        let run = run.into();
        Self {
            name: name.to_owned(),
            human: run.clone(),
            run,
            report: None,
            cache: Vec::new(),
            because: because.into(),
            needs: Vec::new(),
            kind,
            folder: folder.to_owned(),
        }
    }

    fn human(mut self, human: &str) -> Self {
        human.clone_into(&mut self.human);
        self
    }

    fn needs(mut self, programs: &[&'static str]) -> Self {
        self.needs.extend(programs);
        self
    }

    fn report(mut self, report: Option<&'static str>) -> Self {
        self.report = report;
        self
    }

    /// A folder below the gate's own.
    fn cache(mut self, name: &str) -> Self {
        self.cache.push(join(&self.folder, name));
        self
    }
}

impl Seen {
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path)?.text.as_deref()
    }

    pub fn has(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Files below a folder; all of them below the empty one.
    pub fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = (&'a str, &'a File)> {
        self.files.iter().filter_map(move |(path, file)| {
            let rest = if folder.is_empty() { Some(path.as_str()) } else { path.strip_prefix(folder)?.strip_prefix('/') };
            rest.map(|rest| (rest, file))
        })
    }
}

/// A folder's name and what is below it.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

/// What the repository is made of and how it is proven.
pub fn detect(seen: &Seen, host: &Host) -> Found {
    let mut found = Found { ci: ci::find(seen), ..Found::default() };
    kinds::find(seen, host, &mut found);
    found.protected.extend(found.ci.iter().filter_map(ci::Ci::protect));
    found.protected.sort();
    found.protected.dedup();
    name_gates(&mut found.gates);
    if found.gates.len() > MOST_GATES {
        let left: Vec<String> = found.gates.drain(MOST_GATES..).map(|gate| format!("`{}`", gate.run)).collect();
        found.missing.push(Missing::new(
            format!("{} more commands were found than a first configuration should hold", left.len()),
            format!("add the ones you want as [[gate]]: {}", left.join(", ")),
        ));
    }
    for gate in &found.gates {
        for program in gate.needs.iter().filter(|program| !host.programs.contains_key(**program)) {
            found.missing.push(Missing::new(
                format!("`{program}` is not on PATH here, and gate `{}` needs it", gate.name),
                format!("install {program}, or change the gate's `run`"),
            ));
        }
    }
    if !found.gates.iter().any(|gate| gate.name.starts_with("test")) {
        found.missing.push(Missing::new("a command that tests this repository", "write it into cofferdam.toml as a [[gate]] named `test`"));
    }
    for (path, why) in &seen.unread {
        found.missing.push(Missing::new(format!("{path} was not read: it {why}"), "what it says was not taken into account"));
    }
    if seen.cut {
        found.missing.push(Missing::new("only a part of this repository was looked at: it is very large", "see whether a gate is missing"));
    }
    found
}

/// A name that says no more than is needed to tell one gate from another.
fn name_gates(gates: &mut [Gate]) {
    let bases: Vec<(String, &str, String)> = gates.iter().map(|gate| (gate.name.clone(), gate.kind, gate.folder.clone())).collect();
    let mut taken = BTreeSet::new();
    for (gate, (base, kind, folder)) in gates.iter_mut().zip(&bases) {
        let alike = |same_kind: bool| bases.iter().filter(|(b, k, _)| b == base && (!same_kind || k == kind)).count();
        let slug = crate::base::name::slug(&folder.replace('/', "-")).map(|slug| slug.to_string()).filter(|_| !folder.is_empty());
        let name = match (alike(false), alike(true), slug) {
            (0 | 1, ..) => base.clone(),
            (_, 0 | 1, _) | (_, _, None) => format!("{base}-{kind}"),
            (.., Some(slug)) => format!("{base}-{slug}"),
        };
        let numbered = (2..).map(|n| format!("{name}-{n}"));
        gate.name = std::iter::once(name.clone()).chain(numbered).find(|name| taken.insert(name.clone())).unwrap_or(name);
    }
}

/// A folder that can stand in a shell command as it is.
fn is_plain(folder: &str) -> bool {
    path::flaw(folder).is_none()
        && !folder.starts_with('-')
        && folder.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-'))
}

#[cfg(test)]
mod tests;

//! Kinds of projects: each looks for its manifest and says which commands prove such a project. Pure.

mod c;
mod go;
mod java;
mod node;
mod other;
mod python;
mod rust;

use std::collections::BTreeSet;

use super::{Found, Gate, Host, Kind, Missing, Seen, is_plain, join};

/// One folder with a manifest, and what one may ask about it.
pub(super) struct Place<'a> {
    pub seen: &'a Seen,
    pub host: &'a Host,
    /// Commands that CI runs.
    pub ci: &'a [String],
    pub folder: &'a str,
}

/// One kind of project.
struct Detector {
    manifests: &'static [&'static str],
    find: fn(&Place<'_>, &mut Found),
}

const DETECTORS: [Detector; 10] = [
    Detector { manifests: &["Cargo.toml"], find: rust::find },
    Detector { manifests: &["package.json"], find: node::find },
    Detector { manifests: &["pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "pytest.ini", "tox.ini"], find: python::find },
    Detector { manifests: &["go.work", "go.mod"], find: go::find },
    Detector { manifests: &["pom.xml"], find: java::maven },
    Detector { manifests: &["settings.gradle", "settings.gradle.kts", "build.gradle", "build.gradle.kts"], find: java::gradle },
    Detector { manifests: &["CMakeLists.txt"], find: c::cmake },
    Detector { manifests: &["meson.build"], find: c::meson },
    Detector { manifests: &["Gemfile"], find: other::ruby },
    Detector { manifests: &["mix.exs"], find: other::elixir },
];

/// Deeper manifests belong to something else.
const DEEPEST: usize = 3;
/// Of one kind, when the repository's own folder has none.
const MOST_PLACES: usize = 4;
/// What lies below is material, not a part of the project.
const NOT_PARTS: [&str; 16] = [
    "fixtures",
    "fixture",
    "testdata",
    "test-data",
    "tests",
    "test",
    "examples",
    "example",
    "samples",
    "vendor",
    "third_party",
    "node_modules",
    "templates",
    "template",
    "fuzz",
    "bench",
];

impl Place<'_> {
    pub(super) fn path(&self, name: &str) -> String {
        join(self.folder, name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.seen.has(&self.path(name))
    }

    pub(super) fn text(&self, name: &str) -> &str {
        self.seen.text(&self.path(name)).unwrap_or_default()
    }

    pub(super) fn on_path(&self, program: &str) -> bool {
        self.host.programs.contains_key(program)
    }

    /// Is there a file below whose path is such?
    pub(super) fn any(&self, is: impl Fn(&str) -> bool) -> bool {
        self.seen.below(self.folder).any(|(path, _)| is(path))
    }

    /// Does a source that was read, and is such, hold one of these words?
    pub(super) fn any_text(&self, is: impl Fn(&str) -> bool, words: &[&str]) -> bool {
        let mut texts = self.seen.below(self.folder).filter(|(path, _)| is(path)).filter_map(|(_, file)| file.text.as_deref());
        texts.any(|text| words.iter().any(|word| text.contains(word)))
    }

    /// The command that CI runs and that begins so.
    pub(super) fn ci(&self, start: &str) -> Option<&str> {
        self.ci
            .iter()
            .map(String::as_str)
            .find(|command| command.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')))
    }

    /// A command in this folder.
    pub(super) fn run(&self, command: &str) -> String {
        if self.folder.is_empty() { command.to_owned() } else { format!("cd {} && {command}", self.folder) }
    }

    pub(super) fn gate(&self, kind: &'static str, name: &str, command: &str, because: impl Into<String>) -> Gate {
        Gate::new(kind, self.folder, name, self.run(command), because)
    }

    pub(super) fn kind(&self, name: &'static str, because: impl Into<String>) -> Kind {
        Kind { name, folder: self.folder.to_owned(), because: because.into() }
    }
}

/// Asks every detector about every folder that has its manifest, then those that know no manifest.
pub(super) fn find(seen: &Seen, host: &Host, found: &mut Found) {
    let ci: Vec<String> = found.ci.iter().flat_map(|ci| ci.commands.iter().cloned()).collect();
    for detector in &DETECTORS {
        for folder in places(seen, detector.manifests, found) {
            (detector.find)(&Place { seen, host, ci: &ci, folder: &folder }, found);
        }
    }
    let top = Place { seen, host, ci: &ci, folder: "" };
    python::scripts(&top, found);
    c::make(&top, found);
    other::scripts(&top, found);
    other::unknown(&top, found);
}

/// The outermost folders that hold one of the manifests.
fn places(seen: &Seen, manifests: &[&str], found: &mut Found) -> Vec<String> {
    let mut folders = BTreeSet::new();
    for path in seen.files.keys() {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        let parts = folder.split('/').filter(|part| !part.is_empty());
        let part_of_it = parts.clone().count() <= DEEPEST && !parts.clone().any(|part| NOT_PARTS.contains(&part) || part.starts_with('.'));
        if part_of_it && manifests.contains(&name) {
            folders.insert(folder.to_owned());
        }
    }
    // What lies below one of its kind is a member of it.
    let outer =
        |folder: &String| !folders.iter().any(|other| other != folder && (other.is_empty() || folder.starts_with(&format!("{other}/"))));
    let mut outermost: Vec<String> = folders.iter().filter(|folder| outer(folder)).cloned().collect();
    outermost.sort_by_key(|folder| folder.matches('/').count());
    let mut left: Vec<String> = outermost.extract_if(.., |folder| !folder.is_empty() && !is_plain(folder)).collect();
    if outermost.len() > MOST_PLACES {
        left.extend(outermost.drain(MOST_PLACES..));
    }
    for folder in left {
        let name = manifests.first().copied().unwrap_or_default();
        found.missing.push(Missing::new(
            format!("a gate for {name} in `{}`", crate::base::text::one_line(&folder)),
            "write one into cofferdam.toml: its folder is one of many, or has a name that is no plain word of a shell",
        ));
    }
    outermost
}

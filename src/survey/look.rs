//! Looks at a folder: names, and the text of what decides. The one file here that reads the world.
//!
//! Opened are regular files and folders below the root, never through a link, a pipe or a device. Everything has a bound: a repository of a
//! stranger is looked at like one's own.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::rc::Rc;

use super::{File, Seen};
use crate::base::text::one_line;
use crate::workspace::ignore::{IgnoreFile, IgnoreStack};
use crate::workspace::walk::{Folder, Kind, Status};

/// Names looked at. The outer folders come first.
const MOST_NAMES: u64 = 30_000;
/// Names of one folder.
const WIDEST: u64 = 20_000;
const DEEPEST: usize = 12;
/// A file that decides about commands; larger ones were not written by people.
const LONGEST_DECIDING: u64 = 512 << 10;
/// A source that is looked into for signs of tests.
const LONGEST_SOURCE: u64 = 128 << 10;
const MOST_SOURCES: usize = 500;
/// What is told of files that were not read.
const MOST_UNREAD: usize = 20;

/// Never a part of what a repository says about itself, also when nobody ignores them.
const SKIPPED: [&str; 3] = [".git", "node_modules", "__pycache__"];

struct Task {
    folder: Folder,
    path: String,
    depth: usize,
    ignore: Rc<IgnoreStack>,
}

/// Looks at everything below `root` that git does not ignore. `tracked` paths count whatever the ignore files say.
///
/// # Errors
/// When the root itself cannot be opened.
pub fn look(root: &Path, lists: &[Vec<u8>], tracked: &BTreeSet<String>) -> std::io::Result<Seen> {
    let mut ignore = IgnoreStack::default();
    for list in lists {
        ignore.push(IgnoreFile::parse(b"", list));
    }
    let first = Task { folder: Folder::open_root(root)?, path: String::new(), depth: 0, ignore: Rc::new(ignore) };
    let mut looker = Looker { seen: Seen::default(), names: 0, sources: 0, tracked, tasks: VecDeque::from([first]) };
    while let Some(task) = looker.tasks.pop_front() {
        looker.folder(task);
    }
    Ok(looker.seen)
}

struct Looker<'a> {
    seen: Seen,
    names: u64,
    sources: usize,
    tracked: &'a BTreeSet<String>,
    tasks: VecDeque<Task>,
}

impl Looker<'_> {
    fn folder(&mut self, task: Task) {
        let Task { folder, path, depth, mut ignore } = task;
        // Wider than anybody's folder of sources, or gone.
        let Ok(names) = folder.names(WIDEST) else {
            self.seen.cut = true;
            return;
        };
        if let Some(text) = names.iter().find(|name| *name == b".gitignore").and_then(|name| text_of(&folder, name, LONGEST_DECIDING).ok())
        {
            let mut own = IgnoreStack::clone(&ignore);
            own.push(IgnoreFile::parse(path.as_bytes(), text.as_bytes()));
            ignore = Rc::new(own);
        }
        for name in names {
            self.names += 1;
            if self.names > MOST_NAMES {
                self.seen.cut = true;
                return;
            }
            // A name that is no text is no manifest.
            let Ok(name) = String::from_utf8(name) else { continue };
            let Ok(status) = folder.status(name.as_bytes()) else { continue };
            let place = super::join(&path, &name);
            let is_folder = status.kind == Kind::Folder;
            let ignored = ignore.ignores(place.as_bytes(), is_folder);
            if is_folder {
                if ignored && !self.holds_tracked(&place) {
                    self.seen.ignored.insert(place);
                } else if !SKIPPED.contains(&name.as_str()) && depth < DEEPEST && status.mode & 0o500 == 0o500 {
                    let Ok(folder) = folder.child(name.as_bytes()) else { continue };
                    self.tasks.push_back(Task { folder, path: place, depth: depth + 1, ignore: Rc::clone(&ignore) });
                }
            } else if !ignored || self.tracked.contains(&place) {
                self.file(&folder, &name, place, &status);
            }
        }
    }

    fn holds_tracked(&self, folder: &str) -> bool {
        let start = format!("{folder}/");
        self.tracked.range(start.clone()..).next().is_some_and(|path| path.starts_with(&start))
    }

    fn file(&mut self, folder: &Folder, name: &str, place: String, status: &Status) {
        let decides = decides(name, &place);
        let mut unread = |why| {
            if decides && self.seen.unread.len() < MOST_UNREAD {
                self.seen.unread.push((one_line(&place).into_owned(), why));
            }
        };
        match status.kind {
            Kind::File => {}
            Kind::Link => return unread("is a link"),
            _ => return unread("is no regular file"),
        }
        let source = !decides && is_source(name) && self.sources < MOST_SOURCES;
        let limit = if decides { LONGEST_DECIDING } else { LONGEST_SOURCE };
        let text = (decides || source).then(|| text_of(folder, name.as_bytes(), limit));
        if let Some(Err(why)) = text {
            unread(why);
        }
        self.sources += usize::from(source);
        let executable = status.mode & 0o111 != 0;
        self.seen.files.insert(place, File { executable, text: text.and_then(Result::ok) });
    }
}

fn text_of(folder: &Folder, name: &[u8], limit: u64) -> Result<String, &'static str> {
    let status = folder.status(name).map_err(|_| "cannot be read")?;
    if status.kind != Kind::File || status.mode & 0o400 == 0 {
        return Err("cannot be read");
    }
    if status.size > limit {
        return Err("is too large");
    }
    let bytes = folder.read(name, &status).ok().flatten().ok_or("cannot be read")?;
    String::from_utf8(bytes).map_err(|_| "is not UTF-8")
}

/// Files whose text chooses commands.
fn decides(name: &str, path: &str) -> bool {
    const NAMES: [&str; 30] = [
        "Cargo.toml",
        "package.json",
        "pyproject.toml",
        "setup.py",
        "setup.cfg",
        "pytest.ini",
        "tox.ini",
        "go.mod",
        "go.work",
        "pom.xml",
        "build.gradle",
        "build.gradle.kts",
        "settings.gradle",
        "settings.gradle.kts",
        "CMakeLists.txt",
        "meson.build",
        "Makefile",
        "makefile",
        "GNUmakefile",
        "Gemfile",
        "Rakefile",
        "mix.exs",
        ".gitmodules",
        ".gitattributes",
        ".gitlab-ci.yml",
        ".gitlab-ci.yaml",
        "azure-pipelines.yml",
        "Jenkinsfile",
        ".travis.yml",
        ".drone.yml",
    ];
    let requirements = name.starts_with("requirements") && name.ends_with(".txt");
    let ci = [".github/workflows/", ".circleci/", ".woodpecker", ".buildkite/"].iter().any(|start| path.starts_with(start));
    NAMES.contains(&name) || requirements || ci
}

/// Sources that show whether there are tests, and which tool runs them.
fn is_source(name: &str) -> bool {
    name.ends_with(".rs") || name.ends_with(".py")
}

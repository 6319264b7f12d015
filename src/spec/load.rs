//! The thin reader: finds the files of a spec on this host and hands their text to the pure part.

use std::collections::BTreeMap;
use std::path::Path;

use super::import::{order, stem};
use super::{Spec, json, master, story_file, tasks};
use crate::base::path as tree_path;
use crate::base::source::{Level, Problem, Source};
use crate::base::text::one_line;
use crate::base::tree::shown;

/// One story file: nobody writes more by hand.
const LONGEST_STORY: u64 = 1024 * 1024;
/// One file with all stories.
const LONGEST_FILE: u64 = 32 * 1024 * 1024;
/// All story files together.
const LONGEST_SPEC: u64 = 256 * 1024 * 1024;
const MOST_FILES: usize = 20_000;
const DEEPEST: usize = 4;

/// Where stories are looked for when nobody says where they are, in this order.
pub const USUAL: [&str; 5] = ["stories", "master_spec.md", "prompt.md", "prd.json", "tasks.md"];

/// What kind of spec was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    Folder,
    MasterSpec,
    Prompt,
    Json,
    Tasks,
}

/// A spec as it was read, before any rule about the whole of it.
#[derive(Debug)]
pub struct Read {
    /// As a person names it: relative to the root.
    pub place: String,
    pub form: Form,
    pub spec: Spec,
    pub problems: Vec<Problem>,
}

/// Reads the stories of a project: from the place that is set, else from the first usual place that exists.
pub fn load(root: &Path, stories: &str, by_default: bool) -> Result<Read, Problem> {
    if !by_default {
        return read(root, stories);
    }
    let found = USUAL.iter().find(|place| root.join(place).symlink_metadata().is_ok());
    found.map_or_else(|| Err(nothing(root)), |place| read(root, place))
}

fn nothing(root: &Path) -> Problem {
    Problem::anywhere(
        "no-stories",
        format!("there are no stories in {}", one_line(&root.to_string_lossy())),
        format!("write the first one with `cofferdam add TITLE`; looked for {}", USUAL.join(", ")),
    )
}

/// Reads one place, below the root.
pub fn read(root: &Path, place: &str) -> Result<Read, Problem> {
    let path = root.join(place);
    no_links(root, place)?;
    let unreadable =
        |error: std::io::Error| Problem::anywhere("unreadable", format!("the stories cannot be read: {error}"), "make them readable");
    let metadata = match fs_err::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let next = "write the first story with `cofferdam add TITLE`, or set project.stories to where they are";
            return Err(Problem::anywhere("no-stories", format!("{} does not exist", shown(place)), next));
        }
        Err(error) => return Err(unreadable(error)),
    };
    if metadata.is_dir() {
        return folder(&path, place);
    }
    if !metadata.is_file() {
        return Err(not_regular(place));
    }
    let source = file(&path, place, LONGEST_FILE)?;
    let form = form_of(&source, place);
    let (spec, problems) = parse(&source, form, root);
    Ok(Read { place: place.to_owned(), form, spec, problems })
}

/// What a single file is, by its name and by what stands in it.
pub fn form_of(source: &Source, place: &str) -> Form {
    let name = place.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    if name.ends_with(".json") {
        Form::Json
    } else if name == "tasks.md" {
        Form::Tasks
    } else if name.contains("spec") {
        Form::MasterSpec
    } else if name == "prompt.md" || story_file::front_matter(source).is_ok_and(|f| f.is_some()) {
        Form::Prompt
    } else {
        // A file of another name is what it looks like: tasks have numbers, a spec has sections.
        let has = |mark: &str| source.text.lines().any(|l| l.trim_start().starts_with(mark));
        match (has("- [ ] T0") || has("- [ ] T1"), has("## Section ") || has("# Section ")) {
            (true, _) => Form::Tasks,
            (_, true) => Form::MasterSpec,
            _ => Form::Prompt,
        }
    }
}

/// Parses a single file of any form. Acceptance files of a master spec are looked for below `root`.
pub fn parse(source: &Source, form: Form, root: &Path) -> (Spec, Vec<Problem>) {
    match form {
        Form::Json => json::parse(source),
        Form::Tasks => tasks::parse(source),
        Form::MasterSpec => {
            let mut problems = Vec::new();
            let mut files = BTreeMap::new();
            for path in master::acceptance_paths(source) {
                match optional(root, &path) {
                    Ok(found) => drop(files.insert(path, found)),
                    Err(problem) => problems.push(problem),
                }
            }
            let (spec, more) = master::parse(source, &files);
            problems.extend(more);
            (spec, problems)
        }
        Form::Folder | Form::Prompt => {
            let (story, problems) = story_file::parse_prompt(source, stem(&source.name));
            (Spec { stories: story.into_iter().collect(), overview: None }, problems)
        }
    }
}

/// A file below the root, `None` when it is not there.
fn optional(root: &Path, path: &str) -> Result<Option<Source>, Problem> {
    let full = root.join(path);
    no_links(root, path)?;
    if fs_err::symlink_metadata(&full).is_err() {
        return Ok(None);
    }
    file(&full, path, LONGEST_STORY).map(Some)
}

/// Refuses a path of which any part below the root is a link. What an agent landed may hold links, and what is read here goes into
/// prompts: a file from outside the project must not get there.
fn no_links(root: &Path, path: &str) -> Result<(), Problem> {
    let mut full = root.to_owned();
    for part in path.split('/') {
        full.push(part);
        if full.symlink_metadata().is_ok_and(|m| m.file_type().is_symlink()) {
            return Err(not_regular(path));
        }
    }
    Ok(())
}

/// Reads any one file by path, such as the argument of `import`.
pub fn file(path: &Path, name: &str, longest: u64) -> Result<Source, Problem> {
    let unreadable =
        |error: std::io::Error| Problem::anywhere("unreadable", format!("a file cannot be read: {error}"), "name a readable file");
    let metadata = fs_err::symlink_metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(not_regular(name));
    }
    if metadata.len() > longest {
        let what = format!("{} is larger than {} KiB", shown(name), longest / 1024);
        return Err(Problem::anywhere("too-large", what, "split it"));
    }
    let bytes = fs_err::read(path).map_err(unreadable)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, &text)),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = Source::new(name, &String::from_utf8_lossy(&error.as_bytes()[..valid]));
            Err(before.error("encoding", &(valid..valid), "this is no UTF-8 text from here on", "save the file as UTF-8"))
        }
    }
}

/// The longest file that `import` takes.
pub const LONGEST_IMPORT: u64 = LONGEST_FILE;

fn not_regular(name: &str) -> Problem {
    let what = format!("{} is no regular file: links and special files are not followed", shown(name));
    Problem::anywhere("not-regular", what, "put a regular file there")
}

/// A folder of story files, in the order of their paths. `00-overview.md` is kept aside, `README.md` is for people.
fn folder(path: &Path, place: &str) -> Result<Read, Problem> {
    let mut names = Vec::new();
    let mut problems = Vec::new();
    walk(path, "", 0, &mut names, &mut problems)?;
    names.sort_by_cached_key(|name| order(name));
    let mut spec = Spec::default();
    let mut total = 0;
    for name in names {
        let shown_name = format!("{}/{name}", place.trim_end_matches('/'));
        let source = match file(&path.join(&name), &shown_name, LONGEST_STORY) {
            Ok(source) => source,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        total += source.text.len() as u64;
        if total > LONGEST_SPEC {
            return Err(Problem::anywhere(
                "too-large",
                format!("the stories are larger than {} MiB together", LONGEST_SPEC >> 20),
                "split the plan",
            ));
        }
        if name == "00-overview.md" {
            spec.overview = Some(source.text.trim().to_owned());
            continue;
        }
        let (story, more) = story_file::parse(&source, stem(&name));
        problems.extend(more);
        spec.stories.extend(story);
    }
    if spec.stories.is_empty() && problems.is_empty() {
        return Err(Problem::anywhere(
            "no-stories",
            format!("{} holds no story", shown(place)),
            "write the first one with `cofferdam add TITLE`",
        ));
    }
    Ok(Read { place: place.to_owned(), form: Form::Folder, spec, problems })
}

/// The names of the story files in a folder; none when it is not there.
pub fn names(folder: &Path) -> Result<Vec<String>, Problem> {
    let mut names = Vec::new();
    if folder.symlink_metadata().is_ok() {
        walk(folder, "", 0, &mut names, &mut Vec::new())?;
    }
    Ok(names)
}

fn walk(folder: &Path, below: &str, depth: usize, names: &mut Vec<String>, problems: &mut Vec<Problem>) -> Result<(), Problem> {
    let unreadable =
        |error: std::io::Error| Problem::anywhere("unreadable", format!("the stories cannot be read: {error}"), "make them readable");
    for entry in fs_err::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|n| tree_path::flaw(n).is_none()) else {
            // A name that is no text cannot be a story of ours; saying so is better than to lose one.
            if entry.path().extension().is_some_and(|e| e == "md") {
                let what = format!("{} has a name that is not read", one_line(&name.to_string_lossy()));
                problems.push(Problem { level: Level::Error, ..Problem::anywhere("bad-value", what, "rename it to plain text") });
            }
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        let kind = entry.file_type().map_err(unreadable)?;
        let path = format!("{below}{name}");
        if kind.is_dir() {
            if depth + 1 >= DEEPEST {
                let what = format!("{} lies deeper than {DEEPEST} folders", shown(&path));
                problems.push(Problem::anywhere("too-large", what, "move it up"));
                continue;
            }
            walk(&folder.join(name), &format!("{path}/"), depth + 1, names, problems)?;
        } else if name.ends_with(".md") && !name.eq_ignore_ascii_case("readme.md") {
            if names.len() >= MOST_FILES {
                return Err(Problem::anywhere("too-large", format!("there are more than {MOST_FILES} story files"), "split the plan"));
            }
            names.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(read: Result<Read, Problem>) -> Vec<&'static str> {
        read.map_or_else(|p| vec![p.rule], |r| r.problems.iter().map(|p| p.rule).collect())
    }

    #[test]
    fn a_folder_has_bounds_and_an_order() {
        let root = tempfile::tempdir().expect("temp");
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs_err::create_dir_all(path.parent().expect("parent")).expect("folder");
            fs_err::write(path, text).expect("write");
        };
        assert_eq!(rules(load(root.path(), "stories", true)), ["no-stories"]);
        for name in ["1000-c.md", "990-b.md", "a/010-a.md", "README.md", ".hidden.md", "notes.txt"] {
            write(&format!("stories/{name}"), "# T\n- [ ] x\n");
        }
        write("stories/00-overview.md", "About.\n");
        let read = read(root.path(), "stories").expect("read");
        assert_eq!(read.spec.stories.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["990-b", "1000-c", "010-a"]);
        assert_eq!((read.spec.overview.as_deref(), read.problems.len()), (Some("About."), 0));
        write("stories/b/c/d/e/x.md", "# T\n");
        write("stories/long.md", &"x".repeat(usize::try_from(LONGEST_STORY).expect("size") + 1));
        assert_eq!(rules(super::read(root.path(), "stories")), ["too-large", "too-large"]);
        std::os::unix::fs::symlink(root.path().join("stories"), root.path().join("link")).expect("link");
        assert_eq!(rules(super::read(root.path(), "link")), ["not-regular"]);
        assert_eq!(rules(super::read(root.path(), "link/b")), ["not-regular"]);
        assert_eq!(rules(super::read(root.path(), "none")), ["no-stories"]);
        // An acceptance file behind a link is not read either.
        let outside = tempfile::tempdir().expect("temp");
        fs_err::write(outside.path().join("a.md"), "- [ ] secret\n").expect("write");
        std::os::unix::fs::symlink(outside.path(), root.path().join("docs")).expect("link");
        write("master_spec.md", "## Section 1: A\nAcceptance: docs/a.md\n");
        let read = super::read(root.path(), "master_spec.md").expect("read");
        assert!(read.spec.stories[0].criteria.is_empty() && read.problems.iter().any(|p| p.rule == "not-regular"));
    }
}

//! Did the story weaken the tests it is judged by? Pure: the tree before, the tree after, and what changed between them.

use std::collections::BTreeMap;

use super::code::cases::{Case, cases};
use super::code::{self, language};
use super::request::{Changed, Report};
use super::tree::{Found, Tree};
use crate::base::path::glob_matches;
use crate::base::text::one_line;
use crate::workspace::changes::ChangeKind;

/// Judges the tests that the change touches.
pub fn check(changes: &[Changed], globs: &[String], before: &dyn Tree, after: &dyn Tree) -> Report {
    let mut report = Report::default();
    let mut compared = Compared::default();
    for change in changes {
        let path = change.path.as_str();
        let (old, new) = (content(before, path, &mut report), content(after, path, &mut report));
        let is_test = globs.iter().any(|glob| glob_matches(glob, path));
        if change.kind == ChangeKind::Type && is_test {
            report.finding(path, None, "a test file became something else (a link, for example)");
        }
        if is_test && change.kind == ChangeKind::Mode {
            report.notes.push(format!("{path}: only its mode changed"));
        }
        compared.add(path, is_test, old.as_deref(), new.as_deref());
        if let Some(new) = &new {
            steering(path, is_test, old.as_deref().unwrap_or_default(), new, &mut report);
        }
    }
    compared.judge(&mut report);
    report
}

/// The text of a file that may hold tests; none when it is not there or no text.
fn content(tree: &dyn Tree, path: &str, report: &mut Report) -> Option<String> {
    match tree.find(path) {
        Found::File { .. } => {}
        Found::Unknown(why) => {
            report.errors.push(format!("{} could not be looked at: {why}", one_line(path)));
            return None;
        }
        _ => return None,
    }
    match tree.read(path) {
        Ok(bytes) => String::from_utf8(bytes).ok(),
        // A file too large to be read is no source of tests; one of a known language might be, and is told.
        Err(why) if language(path).is_some() => {
            report.errors.push(format!("{} could not be read: {why}", one_line(path)));
            None
        }
        Err(_) => None,
    }
}

/// Cases of all changed files, before and after.
#[derive(Default)]
struct Compared {
    before: Vec<(String, Case)>,
    after: Vec<(String, Case)>,
    /// Test files whose cases are not known: only their presence and their size can be compared.
    opaque: Vec<(String, usize, Option<usize>)>,
}

impl Compared {
    fn add(&mut self, path: &str, is_test: bool, old: Option<&str>, new: Option<&str>) {
        let read = |text: &str| language(path).and_then(|language| cases(language, text));
        let old_cases = old.and_then(read);
        let found: usize = old_cases.as_ref().map_or(0, Vec::len);
        if is_test && found == 0 && old.is_some_and(|text| !text.trim().is_empty()) {
            self.opaque.push((path.to_owned(), old.map_or(0, code_lines), new.map(code_lines)));
        }
        let place = |cases: Vec<Case>| cases.into_iter().map(|case| (path.to_owned(), case));
        self.before.extend(old_cases.into_iter().flat_map(place));
        self.after.extend(new.and_then(read).into_iter().flat_map(place));
    }

    fn judge(&self, report: &mut Report) {
        let mut taken = vec![false; self.after.len()];
        let mut missing = Vec::new();
        for (path, old) in &self.before {
            // The same name in the same file; else anywhere: tests may move.
            let same = |anywhere: bool| {
                let fits = |(i, (other, new)): (usize, &(String, Case))| {
                    (!taken[i] && new.name == old.name && (anywhere || other == path)).then_some(i)
                };
                self.after.iter().enumerate().find_map(fits)
            };
            match same(false).or_else(|| same(true)) {
                Some(i) => {
                    taken[i] = true;
                    weaker(path, old, &self.after[i], report);
                }
                None if old.counts() => missing.push((path, old)),
                None => {}
            }
        }
        self.removed(&missing, &taken, report);
        for (path, old, new) in &self.opaque {
            match new {
                None => report.finding(path, None, "this test file was deleted"),
                Some(new) if *new * 2 < *old => {
                    report.finding(path, None, format!("this test file shrank from {old} to {new} lines of code"));
                }
                Some(_) => {}
            }
        }
    }

    /// Tests that are gone, but for those that were plainly renamed: a new one in the same file that asserts as much.
    fn removed(&self, missing: &[(&String, &Case)], taken: &[bool], report: &mut Report) {
        let mut fresh: BTreeMap<&String, Vec<&Case>> = BTreeMap::new();
        for (i, (path, case)) in self.after.iter().enumerate() {
            if !taken[i] && case.counts() {
                fresh.entry(path).or_default().push(case);
            }
        }
        for (path, old) in missing {
            let renamed = fresh.get_mut(path).and_then(|new| {
                let at = new.iter().position(|case| case.assertions >= old.assertions)?;
                Some(new.remove(at))
            });
            match renamed {
                Some(new) => report.notes.push(format!("{path}: test {} became {}", one_line(&old.name), one_line(&new.name))),
                None => report.finding(path, Some(old.line), format!("the test {} was removed", one_line(&old.name))),
            }
        }
    }
}

fn weaker(path: &str, old: &Case, (now_at, new): &(String, Case), report: &mut Report) {
    let name = one_line(&new.name).into_owned();
    if !old.counts() {
        return;
    }
    if let Some(why) = new.skipped {
        report.finding(now_at, Some(new.line), format!("the test {name} no longer runs: {why}"));
    } else if new.empty {
        report.finding(now_at, Some(new.line), format!("the test {name} was emptied"));
    } else if new.assertions < old.assertions {
        let text = format!("the test {name} asserts less: {} before, {} now", old.assertions, new.assertions);
        report.finding(now_at, Some(new.line), text);
    } else if now_at != path {
        report.notes.push(format!("the test {name} moved from {path} to {now_at}"));
    }
}

fn code_lines(text: &str) -> usize {
    text.lines().filter(|line| !line.trim().is_empty()).count()
}

/// Ways to end a test run early with success, by what their text is in code without spaces.
const EXITS: [&str; 8] =
    ["os._exit(0", "sys.exit(0", "sys.exit()", "process.exit(0", "process.exit()", "process::exit(0", "os.Exit(0", "System.exit(0"];

/// Hooks and settings that choose which tests run, or what their outcome is called.
const STEERING: [(&str, &[&str]); 8] = [
    (
        "conftest.py",
        &[
            "collect_ignore",
            "pytest_ignore_collect",
            "pytest_collection_modifyitems",
            "pytest_runtest",
            "pytest_sessionfinish",
            "pytest_pyfunc_call",
            "pytest_report",
            "exitstatus",
            "pytest_cmdline_main",
            "pytest_collect",
            "pytest_make",
        ],
    ),
    ("pytest.ini", &["addopts", "testpaths", "python_files", "python_functions", "python_classes", "norecursedirs", "collect_ignore"]),
    ("pyproject.toml", &["addopts", "testpaths", "python_files", "python_functions", "python_classes", "norecursedirs"]),
    ("setup.cfg", &["addopts", "testpaths", "python_files", "python_functions", "norecursedirs"]),
    ("tox.ini", &["addopts", "testpaths", "python_files", "commands"]),
    ("Cargo.toml", &["test=false", "harness=false", "autotests=false", "doctest=false"]),
    ("nextest.toml", &["default-filter", "retries"]),
    ("package.json", &["\"test\":", "testPathIgnorePatterns", "testMatch", "testRegex"]),
];

/// Files that take the place of a test tool, or run before it, when they lie in the tree.
const SHADOWS: [&str; 12] = [
    "sitecustomize.py",
    "usercustomize.py",
    "pytest.py",
    "_pytest.py",
    "unittest.py",
    "pluggy.py",
    "pytest/__init__.py",
    "_pytest/__init__.py",
    "unittest/__init__.py",
    "pluggy/__init__.py",
    "doctest.py",
    "coverage.py",
];

/// What the change newly says about how tests run.
fn steering(path: &str, is_test: bool, old: &str, new: &str, report: &mut Report) {
    let name = path.rsplit('/').next().unwrap_or(path);
    let first = old.is_empty();
    if first && SHADOWS.iter().any(|shadow| path == *shadow || path.strip_suffix(shadow).is_some_and(|rest| rest.ends_with('/'))) {
        report.finding(path, None, "this file takes the place of a test tool, or runs before it");
    }
    let squeeze = |text: &str| {
        let code = language(path).map_or_else(|| text.to_owned(), |language| code::parts(language, text).uncommented);
        code.chars().filter(|c| !c.is_whitespace()).collect::<String>()
    };
    let (old_code, new_code) = (squeeze(old), squeeze(new));
    let more = |word: &str| new_code.matches(word).count() > old_code.matches(word).count();
    let runs_with_tests = is_test || matches!(name, "conftest.py" | "sitecustomize.py" | "setup.js" | "jest.setup.js");
    let exits: &[&str] = if runs_with_tests { &EXITS } else { EXITS.get(..1).unwrap_or_default() };
    for exit in exits.iter().filter(|exit| more(exit)) {
        let line = new.lines().position(|line| squeeze(line).contains(*exit)).and_then(|i| u32::try_from(i + 1).ok());
        report.finding(path, line, format!("`{exit})` ends the tests' process early with success"));
    }
    for (_, words) in STEERING.iter().filter(|(file, _)| *file == name) {
        for word in words.iter().filter(|word| changed_setting(word, &old_code, &new_code, old, new)) {
            report.finding(path, None, format!("`{word}` decides which tests run or what counts as passed, and the change touches it"));
        }
    }
}

/// A word that is new, or whose line says something else now.
fn changed_setting(word: &str, old_code: &str, new_code: &str, old: &str, new: &str) -> bool {
    if !new_code.contains(word) {
        return false;
    }
    let bare = word.trim_end_matches(':').split('=').next().unwrap_or(word);
    let lines = |text: &str| text.lines().filter(|l| l.contains(bare)).map(|l| l.trim().to_owned()).collect::<Vec<_>>();
    new_code.matches(word).count() != old_code.matches(word).count() || lines(old) != lines(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Verdict;
    use proptest::prelude::*;

    type Files = BTreeMap<String, Vec<u8>>;

    fn tree(files: &[(&str, &str)]) -> Files {
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    fn judge(before: &[(&str, &str)], after: &[(&str, &str)]) -> Report {
        let (before, after) = (tree(before), tree(after));
        let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
        paths.sort();
        paths.dedup();
        let changed = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
        let kind = |path: &String| match (before.contains_key(path), after.contains_key(path)) {
            (true, true) => ChangeKind::Modified,
            (false, _) => ChangeKind::Added,
            (true, false) => ChangeKind::Deleted,
        };
        let changes: Vec<Changed> = changed.map(|path| Changed { path: path.clone(), kind: kind(path) }).collect();
        check(&changes, &["tests/**".to_owned(), "**/test_*.py".to_owned()], &before, &after)
    }

    const OLD: &str = "def test_a():\n    assert f() == 1\n    assert g() == 2\n\ndef test_b():\n    assert h()\n";

    #[test]
    fn every_way_to_weaken_a_test_is_a_finding() {
        for (what, before, after, expected) in [
            (
                "removed",
                vec![("tests/t.py", OLD)],
                vec![("tests/t.py", "def test_a():\n    assert f() == 1\n    assert g() == 2\n")],
                "test_b was removed",
            ),
            ("deleted", vec![("tests/t.py", OLD)], vec![], "test_a was removed"),
            (
                "emptied",
                vec![("tests/t.py", "def test_b():\n    assert h()\n")],
                vec![("tests/t.py", "def test_b():\n    pass\n")],
                "test_b was emptied",
            ),
            (
                "skipped",
                vec![("tests/t.py", "def test_b():\n    assert h()\n")],
                vec![("tests/t.py", "import pytest\n@pytest.mark.skip\ndef test_b():\n    assert h()\n")],
                "test_b no longer runs",
            ),
            (
                "weakened",
                vec![("tests/t.py", OLD)],
                vec![("tests/t.py", "def test_a():\n    assert f() == 1\n\ndef test_b():\n    assert h()\n")],
                "test_a asserts less: 2 before, 1 now",
            ),
            (
                "made true",
                vec![("tests/t.py", "def test_b():\n    assert h()\n")],
                vec![("tests/t.py", "def test_b():\n    h()\n    assert True\n")],
                "asserts less: 1 before, 0 now",
            ),
            (
                "commented",
                vec![("tests/t.py", "def test_b():\n    assert h()\n")],
                vec![("tests/t.py", "# def test_b():\n#    assert h()\nx = 1\n")],
                "test_b was removed",
            ),
            (
                "ignored",
                vec![("src/l.rs", "#[test]\nfn t() { assert!(f()); }")],
                vec![("src/l.rs", "#[test]\n#[ign\u{6f}re]\nfn t() { assert!(f()); }")],
                "the test t no longer runs",
            ),
            ("exits", vec![], vec![("tests/t.py", "import os\nos._exit(0)\n")], "ends the tests' process early"),
            ("exits elsewhere", vec![("kv.py", "x = 1\n")], vec![("kv.py", "import os\nos._exit(0)\n")], "ends the tests' process early"),
            (
                "steered",
                vec![],
                vec![("conftest.py", "def pytest_collection_modifyitems(items):\n    items.clear()\n")],
                "decides which tests run",
            ),
            (
                "deselected",
                vec![("pytest.ini", "[pytest]\n")],
                vec![("pytest.ini", "[pytest]\naddopts = --deselect tests/t.py::test_a\n")],
                "`addopts` decides",
            ),
            (
                "script",
                vec![("package.json", "{\"scripts\": {\"test\": \"jest\"}}")],
                vec![("package.json", "{\"scripts\": {\"test\": \"true\"}}")],
                "decides which tests run",
            ),
            ("shadowed", vec![], vec![("pytest.py", "print('5 passed')\n")], "takes the place of a test tool"),
            ("shell test", vec![("tests/run.sh", "a\nb\nc\nd\n")], vec![("tests/run.sh", "exit 0\n")], "shrank from 4 to 1"),
            ("shell test gone", vec![("tests/run.sh", "a\nb\n")], vec![], "was deleted"),
        ] {
            let report = judge(&before, &after);
            assert_eq!(report.verdict(), Verdict::Fail, "{what}");
            assert!(report.findings.iter().any(|f| f.text.contains(expected)), "{what}: {expected} not in {:?}", report.findings);
        }
    }

    #[test]
    fn honest_work_on_tests_is_no_finding() {
        let more = format!("{OLD}\ndef test_c():\n    assert k()\n");
        for (what, before, after) in [
            ("added", vec![("tests/t.py", OLD)], vec![("tests/t.py", more.as_str())]),
            ("moved", vec![("tests/t.py", OLD)], vec![("tests/deep/test_t.py", OLD)]),
            ("renamed", vec![("tests/t.py", "def test_a():\n    assert f()\n")], vec![("tests/t.py", "def test_z():\n    assert f()\n")]),
            ("no test", vec![("kv.py", "def f():\n    return 1\n")], vec![("kv.py", "import sys\ndef main():\n    sys.exit(0)\n")]),
            (
                "an old skip goes on",
                vec![("tests/t.py", "@skip\ndef test_a():\n    assert f()\n")],
                vec![("tests/t.py", "def test_b():\n    assert f()\n")],
            ),
        ] {
            let report = judge(&before, &after);
            assert_eq!(report.verdict(), Verdict::Pass, "{what}: {report:?}");
        }
    }

    proptest! {
        #[test]
        fn no_content_breaks_it(old in "[deftsaorxi_ ():\n#@.]{0,120}", new in proptest::collection::vec(any::<u8>(), 0..120)) {
            let before = BTreeMap::from([("tests/a.py".to_owned(), old.into_bytes())]);
            let after = BTreeMap::from([("tests/a.py".to_owned(), new)]);
            let changes = [Changed { path: "tests/a.py".to_owned(), kind: ChangeKind::Modified }];
            drop(check(&changes, &["tests/**".to_owned()], &before, &after));
        }
    }
}

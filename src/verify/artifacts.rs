//! Is everything there that a story promised? Pure rules over a view of the tree.

use super::code::{self, Language, cases, language};
use super::request::{Changed, Report};
use super::tree::{Found, Tree};
use crate::base::path::glob_matches;
use crate::base::source::Source;
use crate::base::text::{cut, one_line};
use crate::base::tree::{Node, Value, json, toml, yaml};
use crate::spec::{ArtifactRule, DataFormat, Equals};

/// A pattern may stand for this many files; each is looked at.
const MOST_FILES: usize = 5_000;

/// Checks every rule. Rules with a command are checked elsewhere too: what they start runs what agents wrote.
pub fn check(rules: &[ArtifactRule], changes: &[Changed], tree: &dyn Tree) -> Report {
    let mut report = Report::default();
    let mut paths = None;
    for rule in rules {
        let is_pattern = rule.path.contains(['*', '?']) || rule.path.ends_with('/');
        if !is_pattern {
            Check { rule, changes, tree, report: &mut report }.one(&rule.path);
            continue;
        }
        let all = paths.get_or_insert_with(|| tree.paths());
        match all {
            Ok(all) => Check { rule, changes, tree, report: &mut report }.pattern(all),
            Err(why) => report.errors.push(format!("`{}` could not be looked for: {why}", one_line(&rule.path))),
        }
    }
    report
}

struct Check<'a> {
    rule: &'a ArtifactRule,
    changes: &'a [Changed],
    tree: &'a dyn Tree,
    report: &'a mut Report,
}

impl Check<'_> {
    fn shown(&self) -> String {
        one_line(&self.rule.path).into_owned()
    }

    /// At least one file must fit the pattern and hold everything; what is wrong with the nearest is told.
    fn pattern(&mut self, all: &[String]) {
        let fitting: Vec<&String> = all.iter().filter(|path| glob_matches(&self.rule.path, path)).take(MOST_FILES).collect();
        if self.rule.absent {
            for path in fitting.iter().take(20) {
                self.report.finding(path, None, format!("artifact `{}`: it must be gone, and `{path}` is there", self.shown()));
            }
            return;
        }
        // Nothing that fits may have been changed, or one of them must have been.
        let mut best: Option<Report> = None;
        for path in &fitting {
            let mut report = Report::default();
            Check { rule: self.rule, changes: self.changes, tree: self.tree, report: &mut report }.one(path);
            let fails = report.findings.len() + report.errors.len();
            if self.rule.changed == Some(false) {
                self.report.findings.append(&mut report.findings);
                self.report.errors.append(&mut report.errors);
                best = Some(Report::default());
            } else if fails == 0 {
                return;
            } else if best.as_ref().is_none_or(|b| fails < b.findings.len() + b.errors.len()) {
                best = Some(report);
            }
        }
        match best {
            Some(mut report) => {
                self.report.findings.append(&mut report.findings);
                self.report.errors.append(&mut report.errors);
            }
            None => self.say(None, "no file fits it".to_owned(), &self.rule.path.clone()),
        }
    }

    fn say(&mut self, line: Option<u32>, found: String, path: &str) {
        let text = format!("artifact `{}`: {found}", self.shown());
        self.report.finding(path, line, text);
    }

    fn one(&mut self, path: &str) {
        let found = self.tree.find(path);
        if self.rule.absent {
            if found != Found::Nothing {
                self.say(None, "it must be gone, and it is there".to_owned(), path);
            }
            return;
        }
        let (size, executable) = match found {
            Found::File { size, executable } => (size, executable),
            Found::Nothing => return self.say(None, "it is not there".to_owned(), path),
            Found::Link => return self.say(None, "it is a link; a regular file is wanted".to_owned(), path),
            Found::Folder => return self.say(None, "it is a folder; a regular file is wanted".to_owned(), path),
            Found::Special => return self.say(None, "it is a pipe, socket or device; a regular file is wanted".to_owned(), path),
            Found::Unknown(why) => return self.report.errors.push(format!("artifact `{}` could not be looked at: {why}", self.shown())),
        };
        let least = self.rule.min_size.unwrap_or(1);
        if size < least {
            let what = if size == 0 { "it is empty".to_owned() } else { format!("it has {size} bytes; at least {least} are wanted") };
            self.say(None, what, path);
        }
        if let Some(wanted) = self.rule.executable.filter(|wanted| *wanted != executable) {
            self.say(None, if wanted { "it is not executable" } else { "it is executable, and must not be" }.to_owned(), path);
        }
        let changed = self.changes.iter().any(|change| change.path == path);
        match self.rule.changed {
            Some(true) if !changed => self.say(None, "the story did not change it".to_owned(), path),
            Some(false) if changed => self.say(None, "the story changed it, and must not".to_owned(), path),
            _ => {}
        }
        if size > 0 {
            self.content(path);
        }
    }

    fn content(&mut self, path: &str) {
        let rule = self.rule;
        let asks = !(rule.contains.is_empty() && rule.regex.is_empty() && rule.symbols.is_empty() && rule.equals.is_empty());
        if !asks && rule.min_tests.is_none() {
            return;
        }
        let text = match self.tree.read(path).map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => return self.say(None, "it is not UTF-8, so nothing can be looked for in it".to_owned(), path),
            Err(why) => return self.report.errors.push(format!("artifact `{}`: {path} could not be read: {why}", self.shown())),
        };
        let language = language(path);
        let uncommented = language.map(|language| code::parts(language, &text).uncommented);
        self.texts(path, &text, uncommented.as_deref());
        for symbol in &rule.symbols {
            match language.and_then(|language| code::defines(language, &text, symbol)) {
                Some(true) => {}
                Some(false) => {
                    let mentioned = text.contains(symbol.rsplit(['.', ':']).next().unwrap_or(symbol));
                    let line = mentioned.then(|| line_of(&text, symbol)).flatten();
                    let how = if mentioned { "is mentioned, and defined nowhere" } else { "is not there" };
                    self.say(line, format!("`{}` {how} in {path}", one_line(symbol)), path);
                }
                None => self.report.errors.push(format!(
                    "artifact `{}`: definitions in {path} cannot be told from mentions: its language is not known; use `contains` or `regex`",
                    self.shown()
                )),
            }
        }
        if let Some(least) = rule.min_tests {
            self.tests(path, &text, language, least);
        }
        for equals in &rule.equals {
            self.value(path, &text, equals);
        }
    }

    fn texts(&mut self, path: &str, text: &str, uncommented: Option<&str>) {
        for wanted in &self.rule.contains {
            match (text.contains(wanted.as_str()), uncommented.is_none_or(|code| code.contains(wanted.as_str()))) {
                (true, true) => {}
                (true, false) => {
                    let found = format!("`{}` stands only in a comment of {path}", one_line(&cut(wanted, 80)));
                    self.say(line_of(text, wanted), found, path);
                }
                (false, _) => self.say(None, format!("`{}` is not in {path}", one_line(&cut(wanted, 80))), path),
            }
        }
        for pattern in &self.rule.regex {
            // Patterns were tried when the story was read; one that fails here is an error, never a pass.
            let Ok(regex) = regex_lite::Regex::new(pattern) else {
                self.report.errors.push(format!("artifact `{}`: `{}` is no regular expression", self.shown(), one_line(pattern)));
                continue;
            };
            match (regex.find(text), uncommented.is_none_or(|code| regex.is_match(code))) {
                (Some(_), true) => {}
                (Some(found), false) => {
                    let line = text.get(..found.start()).map(|before| u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX));
                    self.say(line, format!("`{}` matches only in a comment of {path}", one_line(&cut(pattern, 80))), path);
                }
                (None, _) => self.say(None, format!("`{}` matches nothing in {path}", one_line(&cut(pattern, 80))), path),
            }
        }
    }

    fn tests(&mut self, path: &str, text: &str, language: Option<Language>, least: u64) {
        let Some(cases) = language.and_then(|language| cases::cases(language, text)) else {
            let what = format!("artifact `{}`: tests in {path} cannot be counted: its language is not known", self.shown());
            return self.report.errors.push(what);
        };
        let real = cases.iter().filter(|case| case.counts()).count() as u64;
        if real < least {
            let idle: Vec<String> = cases
                .iter()
                .filter(|case| !case.counts())
                .take(5)
                .map(|case| format!("{} ({})", one_line(&case.name), case.skipped.unwrap_or("it is empty")))
                .collect();
            let idle = if idle.is_empty() { String::new() } else { format!("; not counted: {}", idle.join(", ")) };
            self.say(None, format!("{real} of {least} wanted tests are in {path}{idle}"), path);
        }
    }

    fn value(&mut self, path: &str, text: &str, equals: &Equals) {
        let source = Source::new(path, text);
        let tree = match equals.format {
            DataFormat::Json => json(&source),
            DataFormat::Toml => toml(&source, 0..text.len()),
            DataFormat::Yaml => yaml(&source, 0..text.len()),
        };
        let root = match tree {
            Ok(root) => root,
            Err(problem) => {
                let line = problem.place.as_ref().and_then(|place| u32::try_from(place.line).ok());
                return self.say(line, format!("{path} is no {} that is read here: {}", equals.format.name(), problem.what), path);
            }
        };
        let at = one_line(&equals.at).into_owned();
        match at_place(&root, &equals.at).map(|node| &node.value) {
            Some(Value::Scalar { text: found, .. }) if *found == equals.value => {}
            Some(Value::Null) if equals.value == "null" => {}
            Some(Value::Scalar { text: found, .. }) => {
                let found = one_line(&cut(found, 80)).into_owned();
                self.say(None, format!("`{at}` is `{found}` in {path}; `{}` is wanted", one_line(&equals.value)), path);
            }
            Some(_) => self.say(None, format!("`{at}` is no single value in {path}"), path),
            None => self.say(None, format!("`{at}` is not in {path}"), path),
        }
    }
}

/// A value by its path. A key that holds dots itself is found first.
fn at_place<'n>(node: &'n Node, at: &str) -> Option<&'n Node> {
    if at.is_empty() {
        return Some(node);
    }
    if let Some(found) = node.get(at) {
        return Some(found);
    }
    let mut cuts = at.match_indices('.').map(|(i, _)| i).chain([at.len()]);
    cuts.find_map(|i| {
        let (key, rest) = (at.get(..i)?, at.get(i..)?.trim_start_matches('.'));
        let inner = node.get(key).or_else(|| node.list()?.get(key.parse::<usize>().ok()?))?;
        at_place(inner, rest)
    })
}

fn line_of(text: &str, wanted: &str) -> Option<u32> {
    let at = text.find(wanted)?;
    u32::try_from(text.get(..at)?.matches('\n').count() + 1).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::event::Verdict;
    use crate::workspace::changes::ChangeKind;

    fn tree(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    fn rule(path: &str) -> ArtifactRule {
        ArtifactRule { path: path.to_owned(), ..ArtifactRule::default() }
    }

    /// What one rule says of one tree, in one line; empty when it holds.
    fn says(rule: ArtifactRule, files: &[(&str, &str)]) -> String {
        let changes = [Changed { path: "changed.py".to_owned(), kind: ChangeKind::Modified }];
        let report = check(&[rule], &changes, &tree(files));
        assert_eq!(report.verdict() == Verdict::Pass, report.problems() == 0);
        report.said().into_iter().map(|f| f.text).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn what_is_promised_is_there() {
        let files = [("kv.py", "def get(): # ttl\n    return 'ttl_seconds'\n"), ("changed.py", "x = 1\n"), ("run.sh", "#!/bin/sh\n")];
        let texts = |t: &str| vec![t.to_owned()];
        let held = [
            rule("kv.py"),
            rule("*.py"),
            ArtifactRule { contains: texts("ttl_seconds"), regex: texts("def \\w+"), symbols: texts("get"), ..rule("kv.py") },
            ArtifactRule { changed: Some(true), ..rule("changed.py") },
            ArtifactRule { changed: Some(false), ..rule("kv.py") },
            ArtifactRule { executable: Some(true), min_size: Some(10), ..rule("run.sh") },
            ArtifactRule { absent: true, ..rule("old.py") },
        ];
        for rule in held {
            assert_eq!(says(rule.clone(), &files), "", "{rule:?}");
        }
    }

    #[test]
    fn what_is_not_is_said_with_rule_place_and_what_was_found() {
        let files =
            [("kv.py", "def get(): # _is_expired\n    pass\n"), ("empty.py", ""), ("f/x", "1"), ("run.sh", "echo\n"), ("a.txt", "f")];
        let texts = |t: &str| vec![t.to_owned()];
        for (rule, expected) in [
            (rule("no.py"), "artifact `no.py`: it is not there"),
            (rule("empty.py"), "artifact `empty.py`: it is empty"),
            (rule("f"), "artifact `f`: it is a folder; a regular file is wanted"),
            (rule("*.rs"), "artifact `*.rs`: no file fits it"),
            (ArtifactRule { contains: texts("_is_expired"), ..rule("kv.py") }, "`_is_expired` stands only in a comment of kv.py"),
            (ArtifactRule { regex: texts("_is_\\w+"), ..rule("kv.py") }, "matches only in a comment"),
            (ArtifactRule { contains: texts("nope"), ..rule("kv.py") }, "`nope` is not in kv.py"),
            (ArtifactRule { symbols: texts("_is_expired"), ..rule("kv.py") }, "`_is_expired` is mentioned, and defined nowhere in kv.py"),
            (ArtifactRule { symbols: texts("f"), ..rule("a.txt") }, "its language is not known"),
            (ArtifactRule { min_tests: Some(1), ..rule("kv.py") }, "0 of 1 wanted tests are in kv.py"),
            (ArtifactRule { executable: Some(true), ..rule("run.sh") }, "it is not executable"),
            (ArtifactRule { min_size: Some(99), ..rule("run.sh") }, "it has 5 bytes; at least 99 are wanted"),
            (ArtifactRule { changed: Some(true), ..rule("kv.py") }, "the story did not change it"),
            (ArtifactRule { absent: true, ..rule("*.py") }, "`empty.py` is there"),
        ] {
            let said = says(rule, &files);
            assert!(said.contains(expected), "{expected} not in {said}");
        }
        let changed = ArtifactRule { changed: Some(false), ..rule("*.py") };
        assert!(says(changed, &[("changed.py", "1"), ("b.py", "1")]).contains("must not"));
    }

    #[test]
    fn tests_that_do_nothing_do_not_count() {
        let text = "def test_a():\n    assert f()\n\ndef test_b():\n    pass\n\n@pytest.mark.skip\ndef test_c():\n    assert f()\n";
        let wants = |n| ArtifactRule { min_tests: Some(n), ..rule("test_x.py") };
        assert_eq!(says(wants(1), &[("test_x.py", text)]), "");
        let said = says(wants(2), &[("test_x.py", text)]);
        assert!(
            said.contains("1 of 2") && said.contains("test_b (it is empty)") && said.contains("test_c (a decorator skips it)"),
            "{said}"
        );
    }

    #[test]
    fn values_are_compared_where_they_are() {
        let files = [
            ("p.json", "{\"version\": 2, \"a\": [{\"b.c\": \"x\"}], \"n\": null}"),
            ("c.toml", "[server]\nport = 80\n"),
            ("c.yaml", "a:\n  - b: yes\n"),
            ("bad.json", "{\"a\": 1, \"a\": 2}"),
        ];
        let wants = |path: &str, format, at: &str, value: &str| {
            let equals = vec![Equals { format, at: at.to_owned(), value: value.to_owned() }];
            says(ArtifactRule { equals, ..rule(path) }, &files)
        };
        assert_eq!(wants("p.json", DataFormat::Json, "version", "2"), "");
        assert_eq!(wants("p.json", DataFormat::Json, "a.0.b.c", "x"), "");
        assert_eq!(wants("p.json", DataFormat::Json, "n", "null"), "");
        assert_eq!(wants("c.toml", DataFormat::Toml, "server.port", "80"), "");
        assert_eq!(wants("c.yaml", DataFormat::Yaml, "a.0.b", "yes"), "");
        assert!(wants("p.json", DataFormat::Json, "version", "3").contains("`version` is `2` in p.json; `3` is wanted"));
        assert!(wants("p.json", DataFormat::Json, "a", "3").contains("no single value"));
        assert!(wants("p.json", DataFormat::Json, "x.y", "3").contains("`x.y` is not in p.json"));
        assert!(wants("bad.json", DataFormat::Json, "a", "1").contains("is no json"));
    }

    proptest! {
        #[test]
        fn no_content_breaks_it(content in proptest::collection::vec(any::<u8>(), 0..200), name in "[a-c]\\.(py|rs|json|toml|yaml|c|txt)") {
            let format = [DataFormat::Json, DataFormat::Toml, DataFormat::Yaml];
            let rule = ArtifactRule {
                contains: vec!["x".to_owned()], regex: vec!["x+y".to_owned()], symbols: vec!["x".to_owned()], min_tests: Some(1),
                equals: format.map(|format| Equals { format, at: "a.b".to_owned(), value: "1".to_owned() }).to_vec(),
                ..rule(&name)
            };
            let tree = BTreeMap::from([(name, content)]);
            prop_assert_ne!(check(&[rule], &[], &tree).verdict(), Verdict::Pass);
        }
    }
}

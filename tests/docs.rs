//! Documents that are made from the code say what the code says, and what they show works.

use std::path::{Path, PathBuf};

use cofferdam::base::source::Source;
use cofferdam::config::keys::KEYS;
use cofferdam::config::layer::{Origin, read};
use cofferdam::spec::fields;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn text(name: &str) -> String {
    fs_err::read_to_string(file(name)).expect("document")
}

/// The table of keys, as `docs/configuration.md` shows it.
fn table() -> String {
    let source = Source::new("default.toml", include_str!("../src/config/default.toml"));
    let (defaults, problems) = read(&source, &Origin::BuiltIn);
    assert_eq!(problems, []);
    let mut out = String::from("| key | what it says | takes | built in |\n| --- | --- | --- | --- |\n");
    for key in KEYS {
        let default = defaults.iter().find(|s| s.key.path == key.path && !key.path.contains('{'));
        let default = match default {
            Some(setting) => format!("`{}`", setting.value),
            None if defaults.iter().any(|s| s.key.path == key.path) => "by role".to_owned(),
            None => "–".to_owned(),
        };
        let line = format!("| `{}` | {} | {} | {default} |\n", key.path, key.help, key.kind.wanted());
        out.push_str(&line.replace("\\|", "|"));
    }
    out
}

#[test]
fn the_configuration_reference_lists_every_key() {
    let text = text("docs/configuration.md");
    let (before, rest) = text.split_once("<!-- keys -->\n").expect("marker");
    let (shown, after) = rest.split_once("<!-- end -->").expect("marker");
    if std::env::var_os("COFFERDAM_UPDATE_DOCS").is_some() {
        fs_err::write(file("docs/configuration.md"), format!("{before}<!-- keys -->\n{}<!-- end -->{after}", table())).expect("write");
        return;
    }
    assert_eq!(shown, table(), "run COFFERDAM_UPDATE_DOCS=1 cargo test --test docs");
}

#[test]
fn the_story_format_names_every_key() {
    let text = text("docs/spec-format.md");
    for key in fields::KEYS.iter().chain(&fields::ARTIFACT_KEYS).chain(&fields::BUDGET_KEYS) {
        assert!(text.contains(&format!("`{key}`")) || text.contains(&format!("`{key}:")), "{key} is not explained");
    }
}

#[test]
fn the_examples_of_the_story_format_are_read() {
    let text = text("docs/spec-format.md");
    let examples: Vec<&str> = text.split("```markdown\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 2);
    let (story, problems) = cofferdam::spec::story_file::parse(&Source::new("story.md", examples[0]), "story");
    assert_eq!((story.map(|s| s.criteria.len()), problems), (Some(2), vec![]));
    let files = [("docs/acceptance/auth.md".to_owned(), Some(Source::new("auth.md", "- [ ] logs in\n")))].into();
    let (spec, problems) = cofferdam::spec::master::parse(&Source::new("master_spec.md", examples[1]), &files);
    assert_eq!(problems, []);
    assert_eq!(
        spec.stories.iter().map(|s| (s.after.len(), s.wired_with.len(), s.criteria.len())).collect::<Vec<_>>(),
        [(0, 0, 1), (1, 1, 1), (1, 1, 1)]
    );
}

/// The words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn the_mission_has_every_row_once_and_its_paths_exist() {
    let text = text("docs/mission.md");
    let (mut rows, mut counts) = (Vec::new(), std::collections::BTreeMap::<&str, usize>::new());
    for line in text.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let ["", row, _, state, place, test, _, ""] = cells[..] else { continue };
        let Ok(row) = row.parse::<u32>() else { continue };
        assert!(["done", "part", "open", "not ours"].contains(&state), "row {row}: {state}");
        assert!(state != "done" || (place != "–" && test != "–"), "row {row} is done without a place or a test");
        for path in quoted(place) {
            assert!(file(path).exists(), "row {row}: {path} is not there");
        }
        // A test is a file and the names of functions in it.
        let mut source = String::new();
        for word in quoted(test) {
            if word.contains('/') {
                source = fs_err::read_to_string(file(word)).expect("the test's file");
            } else {
                assert!(source.contains(&format!("fn {word}(")) || source.contains(&format!("{word}: \"")), "row {row}: no test {word}");
            }
        }
        rows.push(row);
        *counts.entry(state).or_default() += 1;
    }
    assert_eq!(rows, (1..=182).collect::<Vec<_>>());
    let of = |state| counts.get(state).copied().unwrap_or(0);
    let count = format!("Count: {} done, {} part, {} open, {} not ours.", of("done"), of("part"), of("open"), of("not ours"));
    assert!(text.ends_with(&format!("{count}\n")), "the last line should be: {count}");
}

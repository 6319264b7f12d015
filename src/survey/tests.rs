use super::*;
use proptest::prelude::*;

fn seen(files: &[(&str, &str)]) -> Seen {
    let files =
        files.iter().map(|(path, text)| ((*path).to_owned(), File { executable: text.starts_with("#!"), text: Some((*text).to_owned()) }));
    Seen { files: files.collect(), ..Seen::default() }
}

fn host(programs: &[(&str, &str)]) -> Host {
    let programs = programs.iter().map(|(name, folder)| ((*name).to_owned(), (*folder).to_owned())).collect();
    Host { programs, agents: Vec::new() }
}

fn runs(found: &Found) -> Vec<&str> {
    found.gates.iter().map(|gate| gate.run.as_str()).collect()
}

#[test]
fn a_pytest_of_another_interpreter_is_called_by_its_name() {
    let files = seen(&[("pytest.ini", ""), ("test_a.py", "def test_a(): pass\n")]);
    let same = host(&[("python3", "/usr/bin"), ("pytest", "/usr/bin")]);
    assert_eq!(runs(&detect(&files, &same)), ["python3 -m pytest -q"]);
    let other = host(&[("python3", "/usr/bin"), ("pytest", "/opt/bin")]);
    assert_eq!(runs(&detect(&files, &other)), ["PYTHONPATH=. pytest -q"]);
}

#[test]
fn an_environment_that_git_ignores_is_told() {
    let mut files = seen(&[("pyproject.toml", "[tool.pytest.ini_options]\n"), ("test_a.py", "")]);
    files.ignored.insert(".venv".to_owned());
    let found = detect(&files, &Host::default());
    assert!(found.missing.iter().any(|missing| missing.what.contains(".venv")), "{:?}", found.missing);
}

#[test]
fn ci_decides_between_two_ways_to_test() {
    let ci = (".github/workflows/a.yml", "- run: cargo nextest run\n");
    let files = [("Cargo.toml", ""), ("src/a.rs", "#[test]\n"), ci];
    let found = detect(&seen(&files), &host(&[("cargo-nextest", "/bin")]));
    assert_eq!(runs(&found), ["cargo nextest run --workspace --offline"]);
    // What is not here cannot be run.
    assert_eq!(runs(&detect(&seen(&files), &Host::default())), ["cargo test --workspace --offline"]);
}

#[test]
fn systems_beside_the_usual_ones_are_protected() {
    let files = seen(&[(".circleci/config.yml", "- run: npm test\n"), ("Jenkinsfile", ""), (".github/workflows/a.yml", "")]);
    assert_eq!(detect(&files, &Host::default()).protected, [".circleci/**", "Jenkinsfile"]);
}

#[test]
fn there_are_never_more_gates_than_a_person_reads() {
    let names: Vec<(String, String)> = ["a", "b", "c", "d"]
        .iter()
        .map(|folder| (format!("{folder}/package.json"), r#"{"scripts": {"test": "x", "lint": "x", "tsc": "x"}}"#.to_owned()))
        .collect();
    let files: Vec<(&str, &str)> = names.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let found = detect(&seen(&files), &Host::default());
    assert_eq!(found.gates.len(), MOST_GATES);
    assert!(found.missing.iter().any(|missing| missing.what.starts_with("4 more commands")));
    let names: BTreeSet<&str> = found.gates.iter().map(|gate| gate.name.as_str()).collect();
    assert_eq!(names.len(), MOST_GATES, "{names:?}");
}

proptest! {
    /// Whatever a repository holds: what is written is read again, with a story, and without an escape in it.
    #[test]
    fn what_is_written_is_always_read(
        folder in "[a-z;$ \u{1b}\n'\"-]{0,6}",
        name in prop::sample::select(vec!["Cargo.toml", "package.json", "pyproject.toml", "go.mod", "go.work", "pom.xml", "CMakeLists.txt", "Makefile", ".circleci/x", "a.py", "test_a.py"]),
        text in "(\\{\"scripts\": \\{\"test\": \"x\"\\}\\}|\\PC{0,60}|test:|use ./[a-z;]{1,4}|import pytest)",
        agent in "([a-z/ \"'\\\\\u{1b}]|\\{task\\}){0,20}",
    ) {
        let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let seen = seen(&[(&path, &text), ("Makefile", &text)]);
        let found = detect(&seen, &Host::default());
        let (roles, _) = agents::choose(&[], Some(&format!("./{agent}")), None);
        let config = write::config(&found, &write::Choices { target: "main", stories: "stories", roles: &roles });
        prop_assert!(!config.contains('\u{1b}'), "{config}");
        let source = crate::base::source::Source::new("cofferdam.toml", &config);
        let (settings, problems) = crate::config::layer::read(&source, &crate::config::layer::Origin::File);
        prop_assert!(problems.is_empty(), "{problems:?}\n{config}");
        prop_assert!(settings.iter().any(|setting| setting.path == "agents.implementer.command"));
        for gate in &found.gates {
            prop_assert!(!gate.run.contains(['$', '\n', '\u{1b}', '"']), "{}", gate.run);
        }
        let story = story::first(&seen, &found).expect("a story");
        let (story, problems) = crate::spec::story_file::parse(&crate::base::source::Source::new("a.md", &story), "a");
        prop_assert!(story.is_some_and(|story| !story.criteria.is_empty()) && problems.is_empty(), "{problems:?}");
    }
}

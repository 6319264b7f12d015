//! With real tools: the gates of what `init` writes are green on a real project.

use super::*;

/// The PATH that has the tools of this machine, those of the tests included.
fn path() -> std::ffi::OsString {
    let tools = std::env::var_os("COFFERDAM_TOOLS").map_or_else(|| "/opt/cofferdam-tools".into(), std::path::PathBuf::from);
    let own = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::env::split_paths(&own).chain([tools.join("bin")])).expect("a PATH")
}

fn have(program: &str) -> bool {
    std::env::split_paths(&path()).any(|folder| folder.join(program).is_file())
}

/// `init`, a commit, `gate`, as a person would.
fn goes_green(name: &str, needs: &[&str], files: &[(&str, &str)], tests: Option<u64>) {
    let missing: Vec<&&str> = needs.iter().filter(|program| !have(program)).collect();
    if !missing.is_empty() {
        // Past the test harness, which swallows what a passing test prints.
        let line = format!("SKIPPED init and gate for {name}: not installed: {missing:?}\n");
        drop(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()));
        return;
    }
    let world = repository(files);
    let run = |arguments: &[&str]| {
        let mut command = world.command();
        command.args(arguments).env("PATH", path());
        for name in ["CARGO_HOME", "RUSTUP_HOME", "PYENV_ROOT"] {
            let value = std::env::var_os(name).or_else(|| {
                let below = match name {
                    "CARGO_HOME" => ".cargo",
                    "RUSTUP_HOME" => ".rustup",
                    _ => ".pyenv",
                };
                let folder = std::path::PathBuf::from(std::env::var_os("HOME")?).join(below);
                folder.is_dir().then(|| folder.into_os_string())
            });
            if let Some(value) = value {
                command.env(name, value);
            }
        }
        command.output().expect("it starts")
    };
    let output = run(&["init", "--agent", "./agent {task}"]);
    assert!(output.status.success(), "{name}: {}", text(&output));
    git(&world.workspace(), &["add", "-A"]);
    git(&world.workspace(), &["commit", "-q", "-m", "set up"]);
    let output = run(&["gate", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    assert!(output.status.success() && document["green"] == true, "{name}: {}", text(&output));
    assert_eq!(document["gates"][0]["executed"].as_u64(), tests, "{name}: {document:#}");
    assert!(!document["gates"].as_array().expect("gates").is_empty());
}

#[test]
fn rust() {
    let files = [
        ("Cargo.toml", "[package]\nname = \"a\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        ("Cargo.lock", "version = 3\n\n[[package]]\nname = \"a\"\nversion = \"0.1.0\"\n"),
        ("src/lib.rs", "/// Twice.\npub fn twice(n: u32) -> u32 {\n    2 * n\n}\n\n#[test]\nfn t() {\n    assert_eq!(twice(2), 4);\n}\n"),
        (".gitignore", "/target\n"),
    ];
    goes_green("Rust", &["cargo", "cc"], &files, Some(1));
}

#[test]
fn node() {
    let files = [
        ("package.json", r#"{"name": "a", "version": "1.0.0", "scripts": {"test": "node --test"}}"#),
        ("a.test.js", "const test = require('node:test');\ntest('a', () => {});\ntest('b', () => {});\n"),
    ];
    goes_green("Node", &["node", "npm"], &files, Some(2));
}

#[test]
fn python_with_pytest() {
    let files = [
        ("pyproject.toml", "[project]\nname = \"a\"\nversion = \"1\"\n"),
        ("a.py", "X = 1\n"),
        ("test_a.py", "import a\n\ndef test_a():\n    assert a.X\n"),
    ];
    goes_green("Python with pytest", &["python3", "pytest"], &files, Some(1));
}

#[test]
fn python_with_unittest() {
    let test = "import unittest\nimport a\n\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(a.X, 1)\n";
    goes_green("Python with unittest", &["python3"], &[("a.py", "X = 1\n"), ("tests/test_a.py", test)], None);
}

#[test]
fn go() {
    let files = [
        ("go.mod", "module m\n\ngo 1.19\n"),
        ("m.go", "package m\n"),
        ("m_test.go", "package m\n\nimport \"testing\"\n\nfunc TestA(t *testing.T) {}\n"),
    ];
    goes_green("Go", &["go"], &files, Some(1));
}

#[test]
fn make() {
    let files = [("Makefile", "check: m\n\t./m\nm: m.c\n\tcc -o m m.c\n"), ("m.c", "int main(void) { return 0; }\n")];
    goes_green("make", &["make", "cc"], &files, None);
}

#[test]
fn a_script() {
    goes_green("a script", &[], &[("test.sh", "#!/bin/sh\ntest -f test.sh\n")], None);
}

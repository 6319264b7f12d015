//! Every kind of repository: the right commands, or what could not be found.

use super::*;

struct Case {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    gates: &'static [(&'static str, &'static str)],
    /// What must be said to be missing.
    missing: &'static [&'static str],
}

const CASES: &[Case] = &[
    Case {
        name: "Rust",
        files: &[
            ("Cargo.toml", "[package]\nname = \"a\"\n"),
            ("Cargo.lock", "version = 4\n"),
            ("src/lib.rs", "#[cfg(test)]\nmod tests {\n    #[test]\n    fn t() {}\n}\n"),
            (
                ".github/workflows/ci.yml",
                "jobs:\n  a:\n    steps:\n      - run: cargo clippy -- -D warnings\n      - run: cargo fmt --check\n",
            ),
        ],
        gates: &[
            ("test", "cargo test --workspace --locked --offline"),
            ("clippy", "cargo clippy --all-targets --workspace --locked --offline -- -D warnings"),
            ("format", "cargo fmt --all --check"),
        ],
        missing: &[],
    },
    Case {
        name: "Rust without a lock file or a test",
        files: &[("Cargo.toml", "[package]\nname = \"a\"\n"), ("src/lib.rs", "pub fn f() {}\n"), (".gitignore", "Cargo.lock\n/target\n")],
        gates: &[("test", "cargo test --workspace --offline")],
        missing: &["a Rust test"],
    },
    Case {
        name: "npm",
        files: &[
            ("package.json", r#"{"scripts": {"test": "node --test", "lint": "eslint ."}, "devDependencies": {"eslint": "9"}}"#),
            ("package-lock.json", "{}"),
        ],
        gates: &[
            ("test", "npm ci --offline --no-audit --no-fund && npm test"),
            ("lint", "npm ci --offline --no-audit --no-fund && npm run lint"),
        ],
        missing: &[],
    },
    Case {
        name: "npm without anything to install",
        files: &[("package.json", r#"{"scripts": {"test": "node t.js"}}"#)],
        gates: &[("test", "npm test")],
        missing: &[],
    },
    Case {
        name: "pnpm",
        files: &[
            ("package.json", r#"{"scripts": {"test": "vitest run", "typecheck": "tsc"}, "dependencies": {"a": "1"}}"#),
            ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n"),
            ("tsconfig.json", "{}"),
        ],
        gates: &[
            ("test", "pnpm install --frozen-lockfile --offline && pnpm test"),
            ("types", "pnpm install --frozen-lockfile --offline && pnpm run typecheck"),
        ],
        missing: &["`pnpm` is not on PATH"],
    },
    Case {
        name: "yarn, classic",
        files: &[("package.json", r#"{"scripts": {"test": "jest"}, "dependencies": {"a": "1"}}"#), ("yarn.lock", "# yarn lockfile v1\n")],
        gates: &[("test", "yarn install --frozen-lockfile --offline && yarn test")],
        missing: &[],
    },
    Case {
        name: "yarn, by packageManager",
        files: &[("package.json", r#"{"packageManager": "yarn@4.5.0", "scripts": {"test": "jest"}, "workspaces": ["a"]}"#)],
        gates: &[("test", "YARN_ENABLE_NETWORK=0 yarn install --immutable && yarn test")],
        missing: &[],
    },
    Case {
        name: "Node without a test",
        files: &[("package.json", r#"{"scripts": {"test": "echo \"Error: no test specified\" && exit 1", "build": "tsc"}}"#)],
        gates: &[("build", "npm run build")],
        missing: &["a script `test` in package.json"],
    },
    Case {
        name: "Python with pyproject",
        files: &[
            ("pyproject.toml", "[project]\nname = \"a\"\n[project.optional-dependencies]\ndev = [\"pytest\"]\n[tool.mypy]\n"),
            ("src/a/__init__.py", ""),
            ("tests/test_a.py", "import a\ndef test_a():\n    assert a\n"),
        ],
        gates: &[("test", "PYTHONPATH=src python3 -m pytest -q")],
        missing: &["mypy: it is configured here and not on PATH"],
    },
    Case {
        name: "Python with uv",
        files: &[
            ("pyproject.toml", "[project]\nname = \"a\"\n[dependency-groups]\ndev = [\"pytest>=8\"]\n"),
            ("uv.lock", "version = 1\n"),
            ("a.py", ""),
            ("test_a.py", "def test_a():\n    pass\n"),
        ],
        gates: &[("test", "uv run --frozen --offline pytest -q")],
        missing: &["`uv` is not on PATH"],
    },
    Case {
        name: "Python without a manifest",
        files: &[
            ("kv.py", "x = 1\n"),
            ("tests/test_kv.py", "import unittest\nimport kv\nclass T(unittest.TestCase):\n    def test_x(self):\n        pass\n"),
        ],
        gates: &[("test", "PYTHONPATH=. python3 -m unittest discover -s tests")],
        missing: &[],
    },
    Case {
        name: "Python without a test",
        files: &[("requirements.txt", "requests\n"), ("a.py", "print(1)\n")],
        gates: &[],
        missing: &["tests of Python", "a command that tests this repository"],
    },
    Case {
        name: "Go",
        files: &[
            ("go.mod", "module m\n\ngo 1.19\n"),
            ("m_test.go", "package m\n"),
            (".gitlab-ci.yml", "test:\n  script:\n    - go vet ./...\n    - !reference [x, script]\n"),
        ],
        gates: &[("test", "go test -v ./..."), ("vet", "go vet ./...")],
        missing: &[],
    },
    Case {
        name: "Java with Maven",
        files: &[("pom.xml", "<project/>\n"), ("src/main/java/A.java", "class A {}\n"), ("src/test/java/ATest.java", "class ATest {}\n")],
        gates: &[("test", "mvn -B -o test")],
        missing: &[],
    },
    Case {
        name: "Java with the wrapper of Gradle",
        files: &[("build.gradle.kts", "plugins { java }\n"), ("gradlew", "#!/bin/sh\n"), ("src/main/java/A.java", "class A {}\n")],
        gates: &[("test", "./gradlew --offline --no-daemon --console=plain test")],
        missing: &["a test below src/test"],
    },
    Case {
        name: "C with make",
        files: &[("Makefile", "all: m\nm: m.c\n\tcc -o m m.c\ncheck: m\n\t./m\n"), ("m.c", "int main(void) { return 0; }\n")],
        gates: &[("test", "make check")],
        missing: &[],
    },
    Case {
        name: "C with make and no test",
        files: &[("Makefile", "m: m.c\n\tcc -o m m.c\n"), ("m.c", "int main(void) { return 0; }\n")],
        gates: &[("build", "make")],
        missing: &["a command that tests this repository"],
    },
    Case {
        name: "C++ with CMake",
        files: &[("CMakeLists.txt", "project(a)\nenable_testing()\nadd_test(NAME a COMMAND a)\n"), ("a.cpp", "int main() {}\n")],
        gates: &[(
            "test",
            "cmake -S . -B build && cmake --build build -j && ctest --test-dir build --output-on-failure --output-junit junit.xml",
        )],
        missing: &[],
    },
    Case {
        name: "a Makefile that CI uses, around Go",
        files: &[
            ("go.mod", "module m\n"),
            ("m_test.go", "package m\n"),
            ("Makefile", "test:\n\tgo test -race ./...\n"),
            (".github/workflows/t.yaml", "jobs: {t: {steps: [{uses: a}]}}\n# x\n    - run: make test\n"),
        ],
        gates: &[("test", "make test")],
        missing: &[],
    },
    Case {
        name: "mixed",
        files: &[
            ("backend/Cargo.toml", "[package]\nname = \"a\"\n"),
            ("backend/src/lib.rs", "#[test]\nfn t() {}\n"),
            ("frontend/package.json", r#"{"scripts": {"test": "node --test"}}"#),
            ("tools/gen/go.mod", "module gen\n"),
            ("tools/gen/a_test.go", "package gen\n"),
            ("tests/fixtures/package.json", r#"{"scripts": {"test": "false"}}"#),
        ],
        gates: &[
            ("test-rust", "cd backend && cargo test --workspace --offline"),
            ("test-node", "cd frontend && npm test"),
            ("test-go", "cd tools/gen && go test -v ./..."),
        ],
        missing: &[],
    },
    Case {
        name: "two of a kind",
        files: &[("a/package.json", r#"{"scripts": {"test": "node a"}}"#), ("b/package.json", r#"{"scripts": {"test": "node b"}}"#)],
        gates: &[("test-a", "cd a && npm test"), ("test-b", "cd b && npm test")],
        missing: &[],
    },
    Case {
        name: "a script",
        files: &[("ci/test.sh", "#!/bin/sh\ntrue\n"), ("a.zig", "x\n")],
        gates: &[("test", "./ci/test.sh")],
        missing: &[],
    },
    Case {
        name: "a language that is not known",
        files: &[("Main.hs", "main = pure ()\n")],
        gates: &[],
        missing: &["how Haskell is built and tested here", "a command that tests this repository"],
    },
    Case { name: "empty", files: &[], gates: &[], missing: &["a command that tests this repository"] },
];

#[test]
fn every_kind_gets_the_right_commands_or_hears_what_is_missing() {
    assert!(CASES.len() >= 8);
    for case in CASES {
        let world = repository(case.files);
        let document = init(&world, &[]);
        let expected: Vec<(String, String)> = case.gates.iter().map(|(name, run)| ((*name).to_owned(), (*run).to_owned())).collect();
        assert_eq!(gates(&document), expected, "{}: {document:#}", case.name);
        for words in case.missing {
            assert!(missing(&document).contains(words), "{}: {words}: {}", case.name, missing(&document));
        }
        holds(&world, case.name);
    }
}

#[test]
fn a_repository_without_a_commit_gets_its_files_and_is_told_to_commit() {
    let world = World::new(Who::Caller);
    git(&world.workspace(), &["init", "-q", "-b", "trunk"]);
    write(&world.workspace(), &[("go.mod", "module m\n"), ("a_test.go", "package m\n")]);
    let said = succeeds(&world, &["init"]);
    assert!(said.contains("go test -v ./...") && said.contains("  git add .\n"), "{said}");
    let config = fs_err::read_to_string(world.workspace().join("cofferdam.toml")).expect("text");
    assert!(config.contains("target = \"trunk\""), "{config}");
    git(&world.workspace(), &["add", "-A"]);
    git(&world.workspace(), &["commit", "-q", "-m", "first"]);
    succeeds(&world, &["lint", "--set", "project.target=trunk"]);
}

#[test]
fn a_folder_that_is_no_repository_is_refused_with_the_way_out_and_nothing_is_written() {
    let world = World::new(Who::Caller);
    write(&world.workspace(), &[("package.json", r#"{"scripts": {"test": "true"}}"#)]);
    let output = cofferdam(&world, &["init"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("git init"), "{}", text(&output));
    assert_eq!(fs_err::read_dir(world.workspace()).expect("listed").count(), 1);
    let shown = succeeds(&world, &["init", "--dry-run"]);
    assert!(shown.contains("npm test") && shown.contains("--- cofferdam.toml"), "{shown}");
    assert_eq!(fs_err::read_dir(world.workspace()).expect("listed").count(), 1);
}

#[test]
fn a_target_of_another_name_is_found_and_another_checkout_is_told() {
    let world = World::new(Who::Caller);
    let folder = world.workspace();
    git(&folder, &["init", "-q", "-b", "develop"]);
    git(&folder, &["commit", "-q", "--allow-empty", "-m", "first"]);
    assert_eq!(init(&world, &["--dry-run"])["target"], "develop");
    git(&folder, &["branch", "main"]);
    assert_eq!(init(&world, &["--dry-run"])["target"], "main");
    assert!(succeeds(&world, &["init"]).contains("git switch main && git add"), "the files belong on the target");
}

#[test]
fn stories_that_are_there_are_left_alone_and_named() {
    let world = repository(&[("stories/020-mine.md", "# Mine\n- [ ] AC\n")]);
    init(&world, &[]);
    assert!(!world.workspace().join("stories/010-how-to-check.md").exists());
    let world = repository(&[("prd.json", r#"{"userStories": [{"id": "US-1", "title": "A", "acceptanceCriteria": ["x"]}]}"#)]);
    init(&world, &[]);
    let config = fs_err::read_to_string(world.workspace().join("cofferdam.toml")).expect("text");
    assert!(config.contains("stories = \"prd.json\"") && !world.workspace().join("stories").exists(), "{config}");
    // A catalogue of components has stories of another kind.
    let world = repository(&[("stories/Button.stories.tsx", "export default {}\n")]);
    init(&world, &[]);
    assert!(world.workspace().join("cofferdam-stories/010-how-to-check.md").exists());
    succeeds(&world, &["lint", "--config", "cofferdam.toml"]);
}

#[test]
fn what_has_no_safe_path_yet_is_said() {
    let world = repository(&[(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs\n")]);
    assert!(missing(&init(&world, &[])).contains("filter of .gitattributes"));
    let world = repository(&[]);
    git(&world.workspace(), &["config", "extensions.partialClone", "origin"]);
    let output = cofferdam(&world, &["init"]);
    assert!(!output.status.success() && text(&output).contains("partial clone"), "{}", text(&output));
    assert!(!world.workspace().join("cofferdam.toml").exists());
}

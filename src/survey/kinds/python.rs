//! Python: with a manifest, and without one.

use super::{Found, Missing, Place};

/// What tests look like.
fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    (name.starts_with("test") && name.ends_with(".py")) || name.ends_with("_test.py")
}

fn is_python(path: &str) -> bool {
    path.ends_with(".py")
}

/// A folder with a manifest.
pub(super) fn find(place: &Place<'_>, found: &mut Found) {
    let manifests = ["pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "pytest.ini", "tox.ini"];
    let manifest = manifests.into_iter().find(|name| place.has(name)).unwrap_or("pyproject.toml");
    // A requirements.txt without any Python beside it is for some tool.
    if !place.any(is_python) && manifest != "pyproject.toml" && manifest != "setup.py" {
        return;
    }
    if let Some((path, _)) = place.seen.unread.iter().find(|(path, _)| *path == place.path(manifest)) {
        found.missing.push(Missing::new(format!("what {path} says about tests"), "write the command that tests it as a [[gate]]"));
    }
    project(place, found, &format!("there is a {manifest}"));
}

/// Python files and nothing that says what they are.
pub(super) fn scripts(place: &Place<'_>, found: &mut Found) {
    if !found.kinds.iter().any(|kind| kind.name == "Python") && place.any(is_python) {
        project(place, found, "there are files named *.py");
    }
}

fn project(place: &Place<'_>, found: &mut Found, because: &str) {
    found.kinds.push(place.kind("Python", because));
    let manifest = place.text("pyproject.toml");
    let configured = manifest.contains("[tool.pytest")
        || place.has("pytest.ini")
        || place.any(|path| path == "conftest.py" || path.ends_with("/conftest.py"))
        || place.text("setup.cfg").contains("[tool:pytest]")
        || place.text("tox.ini").contains("[pytest]");
    let is_requirements = |path: &str| path.starts_with("requirements") && path.ends_with(".txt");
    let named = manifest.contains("pytest") || place.any_text(is_requirements, &["pytest"]) || place.text("setup.py").contains("pytest");
    let imported = place.any_text(is_test, &["import pytest", "from pytest"]);
    let functions = place.any_text(is_test, &["\ndef test", "\nasync def test"]) && !place.any_text(is_test, &["unittest"]);
    let by_ci = place.ci.iter().any(|command| command.contains("pytest"));
    let unittest = place.any_text(is_test, &["unittest"]);
    let why = [
        (configured, "pytest is configured"),
        (named, "pytest is among the requirements"),
        (imported, "tests import pytest"),
        (by_ci, "CI runs pytest"),
        (functions, "tests are functions, which pytest runs"),
    ];
    if let Some((_, why)) = why.into_iter().find(|(is, _)| *is) {
        pytest(place, found, why);
    } else if unittest {
        let folder = ["tests", "test"]
            .into_iter()
            .find(|name| place.any(|path| path.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')).is_some_and(is_test)));
        let command =
            folder.map_or("python3 -m unittest discover".to_owned(), |name| format!("python3 -m unittest discover -s {name} -t ."));
        // Without an __init__.py the folder is no package, and is its own top.
        let package = folder.is_none_or(|name| place.has(&format!("{name}/__init__.py")));
        let command = if package { command } else { format!("PYTHONPATH=. {}", command.trim_end_matches(" -t .")) };
        found.gates.push(place.gate("python", "test", &command, "tests import unittest").needs(&["python3"]));
    } else {
        found.missing.push(Missing::new("tests of Python: no file named test_*.py", "write the command that tests it as a [[gate]]"));
    }
    linters(place, found, manifest);
    if let Some(venv) = [".venv", "venv"].into_iter().find(|name| place.seen.ignored.contains(&place.path(name))) {
        found.missing.push(Missing::new(
            format!("the packages of {}: git ignores it, so no gate sees it", place.path(venv)),
            "keep the environment outside of the repository and activate it before cofferdam: it is visible then, to read",
        ));
    }
}

fn pytest(place: &Place<'_>, found: &mut Found, why: &str) {
    // A package below src/ that nothing says how to find.
    let in_src = place.any(|path| path.starts_with("src/") && path.ends_with("/__init__.py"))
        && !place.text("pyproject.toml").contains("pythonpath")
        && !place.text("pytest.ini").contains("pythonpath");
    let (command, needs, because): (String, &[&'static str], String) = if place.has("uv.lock") {
        found.fetch.push(place.run("uv sync"));
        ("uv run --frozen --offline pytest -q".to_owned(), &["uv"], format!("{why}, and there is a uv.lock"))
    } else if place.has("poetry.lock") {
        found.fetch.push(place.run("poetry install"));
        ("poetry install --no-interaction && poetry run pytest -q".to_owned(), &["poetry"], format!("{why}, and there is a poetry.lock"))
    } else {
        let own = |program: &str| place.host.programs.get(program);
        // A pytest of another interpreter's is called by its own name.
        let elsewhere = own("pytest").is_some_and(|folder| own("python3") != Some(folder));
        let path = match (in_src, elsewhere) {
            (true, _) => "PYTHONPATH=src ",
            (false, true) => "PYTHONPATH=. ",
            (false, false) => "",
        };
        let program = if elsewhere { "pytest" } else { "python3 -m pytest" };
        (format!("{path}{program} -q"), if elsewhere { &["pytest"] } else { &["python3"] }, why.to_owned())
    };
    if !place.any(is_test) {
        found
            .missing
            .push(Missing::new("a file named test_*.py", "the gate is red until there is one: pytest fails when it finds no test"));
    }
    found.gates.push(place.gate("python", "test", &command, because).needs(needs).report(Some("pytest")));
}

fn linters(place: &Place<'_>, found: &mut Found, manifest: &str) {
    let ruff = manifest.contains("[tool.ruff") || place.has("ruff.toml") || place.has(".ruff.toml");
    let mypy = manifest.contains("[tool.mypy") || place.has("mypy.ini");
    let flake8 = place.has(".flake8") || place.text("setup.cfg").contains("[flake8]");
    let configured: [(bool, &str, &'static str, &str); 3] =
        [(ruff, "lint", "ruff", "ruff check ."), (mypy, "types", "mypy", "mypy ."), (flake8 && !ruff, "lint", "flake8", "flake8")];
    for (_, name, program, command) in configured.into_iter().filter(|(is, ..)| *is) {
        if place.on_path(program) {
            found.gates.push(place.gate("python", name, command, format!("{program} is configured")).needs(&[program]));
        } else {
            found.missing.push(Missing::new(
                format!("{program}: it is configured here and not on PATH"),
                format!("install it and add a [[gate]] with run = \"{command}\""),
            ));
        }
    }
}

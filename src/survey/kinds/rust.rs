//! Rust.

use super::{Found, Place};

pub(super) fn find(place: &Place<'_>, found: &mut Found) {
    let manifest = place.text("Cargo.toml");
    let locked = place.has("Cargo.lock");
    let workspace = manifest.lines().any(|line| line.trim() == "[workspace]");
    let what = if workspace { "Cargo.toml names a workspace" } else { "there is a Cargo.toml" };
    found.kinds.push(place.kind("Rust", if locked { format!("{what}, and Cargo.lock") } else { what.to_owned() }));
    found.fetch.push(place.run("cargo fetch"));
    let is_source = |path: &str| path.ends_with(".rs");
    let tested = place.any_text(is_source, &["#[test]", "::test]", "#[test_", "#[rstest", "proptest!"]);
    let options = if locked { "--workspace --locked --offline" } else { "--workspace --offline" };
    let nextest = place.ci("cargo nextest").filter(|_| place.on_path("cargo-nextest"));
    let (command, human, because) = match nextest {
        Some(_) => (format!("cargo nextest run {options}"), "cargo nextest run --workspace", format!("{what}, and CI runs cargo nextest")),
        None => (format!("cargo test {options}"), "cargo test --workspace", what.to_owned()),
    };
    let report = tested.then_some("cargo");
    found
        .gates
        .push(place.gate("rust", "test", &command, because).human(&place.run(human)).needs(&["cargo"]).report(report).cache("target"));
    if !tested {
        found.missing.push(super::Missing::new(
            "a Rust test: no `#[test]` was seen",
            "when there is one, add report = \"cargo\" to the gate: then a gate that tests nothing is red",
        ));
    }
    if let Some(line) = place.ci("cargo clippy") {
        let strict = if line.contains("-D warnings") || line.contains("-Dwarnings") { " -- -D warnings" } else { "" };
        let command = format!("cargo clippy --all-targets {options}{strict}");
        let gate = place.gate("rust", "clippy", &command, "CI runs cargo clippy");
        found.gates.push(gate.human("cargo clippy").needs(&["cargo-clippy"]).cache("target"));
    }
    if place.ci("cargo fmt").is_some() {
        found.gates.push(place.gate("rust", "format", "cargo fmt --all --check", "CI runs cargo fmt").needs(&["cargo-fmt"]));
    }
}

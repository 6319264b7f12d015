//! Go.

use super::{Found, Place};

pub(super) fn find(place: &Place<'_>, found: &mut Found) {
    let workspace = place.has("go.work");
    found.kinds.push(place.kind("Go", if workspace { "there is a go.work" } else { "there is a go.mod" }));
    found.fetch.push(place.run("go mod download"));
    let tested = place.any(|path| path.ends_with("_test.go"));
    let packages = if workspace { used(place.text("go.work")) } else { Vec::new() };
    let packages = if packages.is_empty() { "./...".to_owned() } else { packages.join(" ") };
    let because = if tested { "there are files named *_test.go" } else { "it compiles every package; no *_test.go was seen" };
    let gate = place.gate("go", "test", &format!("go test -v {packages}"), because).human(&place.run(&format!("go test {packages}")));
    found.gates.push(gate.needs(&["go"]).report(tested.then_some("go")));
    if place.ci("go vet").is_some() {
        found.gates.push(place.gate("go", "vet", &format!("go vet {packages}"), "CI runs go vet").needs(&["go"]));
    }
    let configured = [".golangci.yml", ".golangci.yaml", ".golangci.toml"].into_iter().find(|name| place.has(name));
    if let Some(name) = configured
        && place.on_path("golangci-lint")
    {
        found.gates.push(place.gate("go", "lint", "golangci-lint run", format!("there is a {name}")).needs(&["golangci-lint"]));
    }
}

/// The modules that a go.work uses, as patterns of packages.
fn used(text: &str) -> Vec<String> {
    let words = text.lines().map(|line| line.split("//").next().unwrap_or_default().trim());
    let modules = words.filter_map(|line| {
        let module = line.strip_prefix("use ").unwrap_or(line).trim();
        (module == "." || module.starts_with("./")).then_some(module.trim_end_matches('/'))
    });
    modules
        .filter(|module| *module == "." || super::is_plain(module.trim_start_matches("./")))
        .map(|module| format!("{module}/..."))
        .collect()
}

//! Node: npm, pnpm, yarn and bun.

use super::{Found, Missing, Place};
use crate::base::source::Source;
use crate::base::tree::{Node, json};

/// A package manager, by what it leaves in a repository.
struct Manager {
    program: &'static str,
    /// Puts what the lock file names into place, without a network.
    install: &'static str,
    because: String,
    /// It can go on in a `node_modules` that is there.
    warm: bool,
}

/// The script that `npm init` writes: it tests nothing.
const NO_TEST: &str = "no test specified";

pub(super) fn find(place: &Place<'_>, found: &mut Found) {
    let manifest = match json(&Source::new("package.json", place.text("package.json"))) {
        Ok(manifest) if manifest.table().is_some() => manifest,
        _ => {
            found.kinds.push(place.kind("Node", "there is a package.json"));
            let next = "mend package.json, or write the command as a [[gate]]";
            return found.missing.push(Missing::new(format!("what {} says: it is no JSON object", place.path("package.json")), next));
        }
    };
    let manager = manager(place, &manifest);
    let language = if place.has("tsconfig.json") { "TypeScript" } else { "Node" };
    found.kinds.push(place.kind(language, format!("there is a package.json; {}", manager.because)));
    let script = |name: &str| manifest.get("scripts").and_then(|scripts| scripts.get(name)).and_then(Node::text);
    let has = |key: &str| manifest.get(key).and_then(Node::table).is_some_and(|table| !table.is_empty());
    let depends = has("dependencies") || has("devDependencies") || has("optionalDependencies") || manifest.get("workspaces").is_some();
    let install = if depends { format!("{} && ", manager.install) } else { String::new() };
    if depends {
        // Only what has been downloaded once is there without a network.
        found.fetch.push(place.run(&format!("{} install", manager.program)));
    }
    let gate = |name: &str, script: &str, because: String| {
        let run = if script == "test" { format!("{} test", manager.program) } else { format!("{} run {script}", manager.program) };
        let gate = place.gate("node", name, &format!("{install}{run}"), because).human(&place.run(&run)).needs(&["node", manager.program]);
        if manager.warm && depends { gate.cache("node_modules") } else { gate }
    };
    let tests = script("test").filter(|text| !text.contains(NO_TEST));
    if let Some(text) = tests {
        let counted = (text.contains("node --test") && !text.contains("--test-reporter")).then_some("node");
        found.gates.push(gate("test", "test", "package.json has the script test".to_owned()).report(counted));
    } else {
        found.missing.push(Missing::new(
            format!("a script `test` in {}", place.path("package.json")),
            "add one, or write the command that tests it as a [[gate]]",
        ));
        if script("build").is_some() {
            found.gates.push(gate("build", "build", "package.json has the script build, and none that tests".to_owned()));
        }
    }
    for (name, scripts) in [("lint", &["lint"][..]), ("types", &["typecheck", "type-check", "check-types", "check:types", "tsc"])] {
        if let Some(name_of_script) = scripts.iter().find(|name| script(name).is_some()) {
            found.gates.push(gate(name, name_of_script, format!("package.json has the script {name_of_script}")));
        }
    }
    if place.any(|path| path.contains("__tests__/")) {
        found.tests.push("**/__tests__/**".to_owned());
    }
}

fn manager(place: &Place<'_>, manifest: &Node) -> Manager {
    let named = manifest.get("packageManager").and_then(Node::text).unwrap_or_default();
    let (name, version) = named.split_once('@').unwrap_or((named, ""));
    let lock = |files: &[&'static str]| files.iter().copied().find(|file| place.has(file));
    let because = |files: &[&'static str]| match lock(files) {
        _ if !name.is_empty() => "it names its packageManager".to_owned(),
        Some(file) => format!("there is a {file}"),
        None => "no lock file".to_owned(),
    };
    let is = |program: &str, files: &[&'static str]| if name.is_empty() { lock(files).is_some() } else { name == program };
    if is("pnpm", &["pnpm-lock.yaml"]) {
        let install = "pnpm install --frozen-lockfile --offline";
        return Manager { program: "pnpm", install, because: because(&["pnpm-lock.yaml"]), warm: true };
    }
    if is("yarn", &["yarn.lock"]) {
        let berry = place.has(".yarnrc.yml")
            || version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 2);
        // The newer one has no switch for it, only a variable.
        let install = if berry { "YARN_ENABLE_NETWORK=0 yarn install --immutable" } else { "yarn install --frozen-lockfile --offline" };
        return Manager { program: "yarn", install, because: because(&["yarn.lock"]), warm: true };
    }
    if is("bun", &["bun.lock", "bun.lockb"]) {
        let install = "bun install --frozen-lockfile";
        return Manager { program: "bun", install, because: because(&["bun.lock", "bun.lockb"]), warm: true };
    }
    let files = ["package-lock.json", "npm-shrinkwrap.json"];
    // `npm ci` empties node_modules first: there is nothing to keep warm.
    let install = if lock(&files).is_some() {
        "npm ci --offline --no-audit --no-fund"
    } else {
        "npm install --offline --no-audit --no-fund --no-package-lock"
    };
    Manager { program: "npm", install, because: because(&files), warm: false }
}

//! C and C++, and whatever else a Makefile knows.

use super::{Found, Missing, Place};

const MAKEFILES: [&str; 3] = ["GNUmakefile", "makefile", "Makefile"];

pub(super) fn cmake(place: &Place<'_>, found: &mut Found) {
    found.kinds.push(place.kind("C or C++ (CMake)", "there is a CMakeLists.txt"));
    let is_list = |path: &str| path.ends_with("CMakeLists.txt");
    let tested = place.any_text(is_list, &["enable_testing", "include(CTest)", "include (CTest)"]);
    // A folder that the project has itself is not for building.
    let folder = if place.any(|path| path.starts_with("build/")) { "build-gate" } else { "build" };
    let build = format!("cmake -S . -B {folder} && cmake --build {folder} -j");
    let gate = if tested {
        let command = format!("{build} && ctest --test-dir {folder} --output-on-failure --output-junit junit.xml");
        let gate = place.gate("cmake", "test", &command, "CMakeLists.txt enables testing");
        gate.human(&place.run(&format!("{build} && ctest --test-dir {folder}"))).needs(&["cmake", "ctest"])
    } else {
        found.missing.push(Missing::new("tests of CMake: no CMakeLists.txt calls enable_testing()", "the gate builds, and tests nothing"));
        place.gate("cmake", "build", &build, "there is a CMakeLists.txt").needs(&["cmake"])
    };
    let report = (tested && place.folder.is_empty()).then_some(if folder == "build" {
        "junit:build/junit.xml"
    } else {
        "junit:build-gate/junit.xml"
    });
    found.gates.push(gate.report(report));
}

pub(super) fn meson(place: &Place<'_>, found: &mut Found) {
    found.kinds.push(place.kind("C or C++ (Meson)", "there is a meson.build"));
    let command = "meson setup build && meson test -C build --print-errorlogs";
    found.gates.push(place.gate("meson", "test", command, "there is a meson.build").needs(&["meson", "ninja"]));
}

pub(super) fn make(place: &Place<'_>, found: &mut Found) {
    let Some(name) = MAKEFILES.into_iter().find(|name| place.has(name)) else {
        if let Some(template) = ["Makefile.am", "configure.ac", "configure"].into_iter().find(|name| place.has(name)) {
            found.kinds.push(place.kind("C or C++ (Autotools)", format!("there is a {template}")));
            let ready = place.seen.files.get("configure").is_some_and(|file| file.executable);
            let command = if ready { "./configure && make check" } else { "autoreconf -i && ./configure && make check" };
            found.gates.push(place.gate("make", "test", command, format!("there is a {template}")).needs(&["make"]));
        }
        return;
    };
    let targets = targets(place.text(name));
    let has = |target: &str| targets.iter().any(|known| known == target);
    let alone = found.gates.is_empty();
    let sources = |path: &str| [".c", ".h", ".cc", ".cpp", ".cxx", ".hpp"].iter().any(|end| path.ends_with(end));
    if alone && found.kinds.is_empty() && place.any(sources) {
        found.kinds.push(place.kind("C or C++ (make)", format!("there is a {name}")));
    } else {
        found.kinds.push(place.kind("make", format!("there is a {name}")));
    }
    let test = ["test", "check", "tests"].into_iter().find(|target| has(target));
    let by_ci = test.is_some_and(|target| place.ci(&format!("make {target}")).is_some());
    if by_ci {
        // The project's own word for testing: what CI runs is what people mean by it.
        found.gates.retain(|gate| !(gate.name == "test" && gate.folder.is_empty()));
    }
    match test {
        Some(target) if alone || by_ci => {
            let because =
                if by_ci { format!("{name} has the target {target}, and CI runs it") } else { format!("{name} has the target {target}") };
            found.gates.insert(0, place.gate("make", "test", &format!("make {target}"), because).needs(&["make"]));
            found.protected.push(name.to_owned());
        }
        None if alone => {
            found
                .gates
                .push(place.gate("make", "build", "make", format!("there is a {name} without a target test or check")).needs(&["make"]));
            found.protected.push(name.to_owned());
        }
        _ => {}
    }
    let linted = found.gates.iter().any(|gate| gate.name == "lint");
    if has("lint") && !linted && (alone || place.ci("make lint").is_some()) {
        found.gates.push(place.gate("make", "lint", "make lint", format!("{name} has the target lint")).needs(&["make"]));
    }
}

/// Targets with a plain name.
fn targets(text: &str) -> Vec<String> {
    let rule = |line: &str| {
        let (left, right) = line.split_once(':')?;
        let is_rule =
            !line.starts_with(['\t', ' ', '#', '.']) && !right.starts_with('=') && !right.starts_with(":=") && !left.contains('=');
        is_rule.then(|| left.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    text.lines().filter_map(rule).flatten().filter(|name| super::is_plain(name)).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn targets_are_rules_and_not_variables() {
        let text = "CC := gcc\nX ?= a:b\nall: a b\ntest check: all\n\t@echo x: y\n.PHONY: test\n# lint: no\nlint:: all\nY=z:q\n$(OUT): x\n";
        assert_eq!(super::targets(text), ["all", "test", "check", "lint"]);
    }
}

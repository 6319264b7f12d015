//! Java and what else Maven and Gradle build.

use super::{Found, Missing, Place};

pub(super) fn maven(place: &Place<'_>, found: &mut Found) {
    found.kinds.push(place.kind("Java (Maven)", "there is a pom.xml"));
    // The wrapper's own Maven is used when it is there: it is the version that the project asks for.
    let wrapper = place.seen.files.get(&place.path("mvnw")).is_some_and(|file| file.executable);
    let program = if wrapper { "./mvnw" } else { "mvn" };
    found.fetch.push(place.run(&format!("{program} -B dependency:go-offline")));
    let because = if wrapper { "there is a pom.xml, and mvnw" } else { "there is a pom.xml" };
    let gate = place.gate("java", "test", &format!("{program} -B -o test"), because).human(&place.run(&format!("{program} test")));
    found.gates.push(gate.needs(if wrapper { &["java"] } else { &["mvn"] }));
    found.tests.push("**/src/test/**".to_owned());
    untested(place, found);
}

pub(super) fn gradle(place: &Place<'_>, found: &mut Found) {
    let manifest = ["settings.gradle", "settings.gradle.kts", "build.gradle", "build.gradle.kts"].into_iter().find(|name| place.has(name));
    let because = format!("there is a {}", manifest.unwrap_or("build.gradle"));
    found.kinds.push(place.kind("Java (Gradle)", because.clone()));
    let wrapper = place.seen.files.get(&place.path("gradlew")).is_some_and(|file| file.executable);
    let program = if wrapper { "./gradlew" } else { "gradle" };
    found.fetch.push(place.run(&format!("{program} testClasses")));
    let because = if wrapper { format!("{because}, and gradlew") } else { because };
    let command = format!("{program} --offline --no-daemon --console=plain test");
    let gate = place.gate("java", "test", &command, because).human(&place.run(&format!("{program} test")));
    found.gates.push(gate.needs(if wrapper { &["java"] } else { &["gradle"] }));
    found.tests.push("**/src/test/**".to_owned());
    untested(place, found);
}

fn untested(place: &Place<'_>, found: &mut Found) {
    if !place.any(|path| path.contains("src/test/")) {
        found.missing.push(Missing::new("a test below src/test", "until there is one, the gate only shows that everything compiles"));
    }
}

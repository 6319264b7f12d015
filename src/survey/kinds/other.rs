//! What is recognised by less: scripts, and languages whose commands are not known here.

use super::{Found, Missing, Place};

pub(super) fn ruby(place: &Place<'_>, found: &mut Found) {
    found.kinds.push(place.kind("Ruby", "there is a Gemfile"));
    let (command, because) = if place.any(|path| path.ends_with("_spec.rb")) {
        ("bundle exec rspec", "there are files named *_spec.rb")
    } else if place.has("Rakefile") {
        ("bundle exec rake test", "there is a Rakefile")
    } else {
        found.missing.push(Missing::new("tests of Ruby: neither *_spec.rb nor a Rakefile", "write the command as a [[gate]]"));
        return;
    };
    found.fetch.push(place.run("bundle install"));
    found.gates.push(place.gate("ruby", "test", command, because).needs(&["bundle"]));
    found.tests.push("spec/**".to_owned());
}

pub(super) fn elixir(place: &Place<'_>, found: &mut Found) {
    found.kinds.push(place.kind("Elixir", "there is a mix.exs"));
    found.fetch.push(place.run("mix deps.get"));
    found.gates.push(place.gate("elixir", "test", "mix test", "there is a mix.exs").needs(&["mix"]));
}

const SCRIPTS: [&str; 9] =
    ["ci/test.sh", ".ci/test", "script/test", "scripts/test", "scripts/test.sh", "bin/test", "test.sh", "run_tests.sh", "run-tests.sh"];

/// A script that says by its name that it tests: when nothing else does.
pub(super) fn scripts(place: &Place<'_>, found: &mut Found) {
    let Some(name) = SCRIPTS.into_iter().find(|name| place.has(name)) else { return };
    if found.gates.iter().any(|gate| gate.name == "test") {
        return;
    }
    if !place.seen.files.get(name).is_some_and(|file| file.executable) {
        let next = format!("chmod +x {name}, then a [[gate]] with run = \"./{name}\"");
        return found.missing.push(Missing::new(format!("{name} is there and cannot be executed"), next));
    }
    found.kinds.push(place.kind("a test script", format!("there is an executable {name}")));
    found.gates.push(place.gate("script", "test", &format!("./{name}"), format!("there is an executable {name}")));
    found.protected.push(name.to_owned());
}

/// Endings of sources, and what they are.
const LANGUAGES: [(&str, &str); 14] = [
    (".swift", "Swift"),
    (".cs", "C#"),
    (".kt", "Kotlin"),
    (".scala", "Scala"),
    (".php", "PHP"),
    (".rb", "Ruby"),
    (".hs", "Haskell"),
    (".ml", "OCaml"),
    (".zig", "Zig"),
    (".lua", "Lua"),
    (".jl", "Julia"),
    (".java", "Java"),
    (".c", "C"),
    (".cpp", "C++"),
];

/// Sources that nothing above knows how to test.
pub(super) fn unknown(place: &Place<'_>, found: &mut Found) {
    if !found.gates.is_empty() {
        return;
    }
    for (end, name) in LANGUAGES {
        let count = place.seen.files.keys().filter(|path| path.ends_with(end)).count() as u64;
        if count > 0 {
            let files = crate::base::text::plural(count, "file", "files");
            found.kinds.push(place.kind(name, format!("{files} named *{end}")));
            let next = format!("write the command that tests {name} here as a [[gate]]");
            found.missing.push(Missing::new(format!("how {name} is built and tested here: no build file was found"), next));
        }
    }
}

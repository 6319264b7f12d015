//! A developer's real tools, inside profile `default`: as root, and as an ordinary user whose Rust lies below a home of their own.
//!
//! What is not installed is skipped loudly; `.ci/tools.sh` installs it. The ordinary user's home is made in a mount namespace of the
//! test, so that nothing of it is left on the machine.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const COFFERDAM: &str = env!("CARGO_BIN_EXE_cofferdam");
/// An id that no account of a distribution has.
const TESTER: u32 = 61_234;
/// Makes the home of the ordinary user and runs cofferdam in it. The lines after it look at the home from outside.
const HOME_OF_TESTER: &str = r#"
set -eu
binary=$1 tools=$2 cargo=$3 rustup=$4 workspace=$5; shift 5
mount -t tmpfs -o mode=755 tmpfs /home
home=/home/tester
mkdir -p $home/bin $home/.cargo/bin $home/.rustup $home/.ssh $home/.npm/_cacache
echo 'a private key' > $home/.ssh/id_ed25519
echo 'a token' > $home/.cargo/credentials.toml
printf '[user]\n\tname = Tester\n\temail = t@example.org\n[credential]\n\thelper = store\n' > $home/.gitconfig
for store in .npm/_cacache .local/share/pnpm/store .yarn/berry/cache .m2/wrapper/dists; do
    mkdir -p $home/$store
    echo 'as it was' > $home/$store/entry
done
echo '<password>p</password>' > $home/.m2/settings.xml
touch $home/bin/cofferdam
chown -R 61234:61234 $home
mount --bind "$binary" $home/bin/cofferdam
[ -d "$cargo/bin" ] && mount --bind "$cargo/bin" $home/.cargo/bin
[ -d "$rustup" ] && mount --bind "$rustup" $home/.rustup
cd "$workspace"
code=0
setpriv --reuid=61234 --regid=61234 --clear-groups --inh-caps=-all env -i HOME=$home LANG=C.UTF-8 \
    PATH="$home/.cargo/bin:$tools/bin:/usr/local/bin:/usr/bin:/bin" $home/bin/cofferdam exec "$@" || code=$?
echo "outside: $(cat $home/.npm/_cacache/entry)"
for store in .local/share/pnpm/store .yarn/berry/cache .m2/wrapper/dists; do echo "$store outside: $(cat $home/$store/entry)"; done
exit $code
"#;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Person {
    Root,
    Ordinary,
}

fn tools() -> PathBuf {
    std::env::var_os("COFFERDAM_TOOLS").map_or_else(|| "/opt/cofferdam-tools".into(), PathBuf::from)
}

fn path() -> std::ffi::OsString {
    let own = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths([tools().join("bin")].into_iter().chain(std::env::split_paths(&own))).expect("a PATH")
}

fn have(program: &str) -> bool {
    std::env::split_paths(&path()).any(|folder| fs::metadata(folder.join(program)).is_ok_and(|m| m.permissions().mode() & 0o111 != 0))
}

fn home(variable: &str, below: &str) -> PathBuf {
    let default = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(below);
    std::env::var_os(variable).map_or_else(default, PathBuf::from)
}

/// Runs a script inside the sandbox, in a workspace of its own that `prepare` has filled.
fn sandboxed(person: Person, workspace: &Path, options: &[&str], script: &str) -> Output {
    let arguments = [options, &["--", "sh", "-ec", script]].concat();
    let mut command = match person {
        Person::Root => {
            let mut command = Command::new(COFFERDAM);
            command.arg("exec").args(arguments);
            command
        }
        Person::Ordinary => {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "sh", "-c", HOME_OF_TESTER, "sh", COFFERDAM]);
            command.args([tools(), home("CARGO_HOME", ".cargo"), home("RUSTUP_HOME", ".rustup"), workspace.to_path_buf()]).args(arguments);
            command
        }
    };
    command.current_dir(workspace).env("PATH", path()).stdin(std::process::Stdio::null()).output().expect("it starts")
}

fn workspace() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("cofferdam-tools-").tempdir_in("/var/tmp").expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("readable");
    folder
}

fn give(folder: &Path, to: u32) {
    chown(folder, Some(to), Some(to)).expect("given");
    for entry in fs::read_dir(folder).expect("listed").flatten() {
        if entry.file_type().expect("known").is_dir() {
            give(&entry.path(), to);
        } else {
            std::os::unix::fs::lchown(entry.path(), Some(to), Some(to)).expect("given");
        }
    }
}

/// Everybody who can be played on this machine.
fn people(test: &str) -> Vec<Person> {
    if nix::unistd::geteuid().is_root() {
        return vec![Person::Root, Person::Ordinary];
    }
    skipped(test, "as an ordinary user in a made-up home: only root can make one");
    // Whoever runs the tests is an ordinary user; they run cofferdam as themselves.
    vec![Person::Root]
}

/// One tool, for everybody: the script must succeed and print `expected`.
fn works(test: &str, needs: &[&str], prepare: impl Fn(&Path), script: &str, expected: &[&str]) {
    let missing: Vec<_> = needs.iter().filter(|program| !have(program)).collect();
    if !missing.is_empty() {
        return skipped(test, &format!("not installed: {missing:?} (.ci/tools.sh installs them)"));
    }
    for person in people(test) {
        let folder = workspace();
        prepare(folder.path());
        if person == Person::Ordinary {
            give(folder.path(), TESTER);
        }
        let output = sandboxed(person, folder.path(), &["--wall", "2m"], script);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{test} as {person:?}: {}\n{out}\n{err}", output.status);
        for words in expected {
            assert!(out.contains(words), "{test} as {person:?} did not print {words:?}:\n{out}\n{err}");
        }
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("below the folder")).expect("made");
    fs::write(path, text).expect("written");
}

fn nothing(_: &Path) {}

/// Past the test harness, which swallows what a passing test prints.
fn skipped(test: &str, why: &str) {
    let line = format!("SKIPPED {test}: {why}\n");
    std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).expect("standard error is there");
}

#[test]
fn git_makes_a_repository_and_commits() {
    let script = "git init -q -b main . && git config user.name A && git config user.email a@example.org && echo x > f && git add f
        git commit -qm first && git branch other && echo y >> f && git commit -qam second && git rebase -q other && git gc -q && git fsck && git log --format=%s";
    works("git", &["git"], nothing, script, &["second\nfirst"]);
}

#[test]
fn rustc_compiles_and_the_program_runs() {
    let prepare = |folder: &Path| write(folder, "a.rs", "fn main() { println!(\"rust {}\", 6 * 7); }");
    works("rustc", &["rustc", "cc"], prepare, "rustc a.rs && ./a", &["rust 42"]);
}

const MANIFEST: &str = "[package]\nname = \"real\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\nserde_json = \"1\"\nstrsim = \"0.11\"\n[workspace]\n";
const MAIN: &str = "fn main() { println!(\"{} {}\", serde_json::json!({\"cargo\": 6 * 7}), strsim::levenshtein(\"kitten\", \"sitting\")); }\n#[test]\nfn t() {}\n";

/// A project with real dependencies; our own lock file names versions that are in the cache, because these tests were built with them.
fn project(folder: &Path) {
    write(folder, "Cargo.toml", MANIFEST);
    write(folder, "src/main.rs", MAIN);
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"), folder.join("Cargo.lock")).expect("copied");
}

#[test]
fn cargo_builds_and_tests_a_crate_with_vendored_dependencies() {
    let prepare = |folder: &Path| {
        project(folder);
        let output = Command::new("cargo").args(["vendor", "--offline", "-q"]).current_dir(folder).output().expect("cargo starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let config = "[source.crates-io]\nreplace-with = \"vendored-sources\"\n[source.vendored-sources]\ndirectory = \"vendor\"\n";
        write(folder, ".cargo/config.toml", config);
    };
    let script = "cargo build --offline && ./target/debug/real && cargo test -q --offline";
    works("cargo, vendored", &["cargo", "cc"], prepare, script, &["{\"cargo\":42} 3", "1 passed"]);
}

#[test]
fn cargo_uses_the_hosts_downloads_and_cannot_change_them() {
    let test = "cargo, cache";
    let registry = home("CARGO_HOME", ".cargo").join("registry");
    if !have("cargo") || !registry.is_dir() {
        return skipped(test, &format!("no cargo, or nothing downloaded in {}", registry.display()));
    }
    let folder = workspace();
    project(folder.path());
    let script = "cargo build --offline && ./target/debug/real && echo poison > ~/.cargo/registry/poison && rm -rf ~/.cargo/registry/cache";
    let output = sandboxed(Person::Root, folder.path(), &["--wall", "2m"], script);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("{\"cargo\":42} 3"), "{out}\n{err}");
    assert!(!registry.join("poison").exists() && registry.join("cache").is_dir());
}

#[test]
fn node_runs_and_npm_installs_a_local_package_offline() {
    let prepare = |folder: &Path| {
        write(folder, "dep/package.json", r#"{"name": "dep", "version": "1.0.0", "main": "i.js", "bin": {"dep": "i.js"}}"#);
        write(folder, "dep/i.js", "#!/usr/bin/env node\nmodule.exports = 6 * 7; if (require.main === module) console.log('bin 42');\n");
        write(folder, "app/package.json", r#"{"name": "app", "version": "1.0.0", "scripts": {"test": "node t.js && dep"}}"#);
        write(folder, "app/t.js", "console.log('node', require('dep'));\n");
    };
    let script = "(cd dep && npm pack --silent --pack-destination ..) && cd app && npm install --offline --no-audit --no-fund ../dep-1.0.0.tgz && npm test";
    works("node and npm", &["node", "npm"], prepare, script, &["node 42", "bin 42"]);
}

#[test]
fn python_makes_a_virtual_environment_and_pytest_runs() {
    let prepare = |folder: &Path| {
        write(folder, "m.py", "import sqlite3, ssl, multiprocessing\ndef f():\n    return 6 * 7\n");
        let parallel = "with multiprocessing.get_context('fork').Pool(2) as p:\n        assert p.map(abs, [-1, -2]) == [1, 2]";
        write(folder, "test_m.py", &format!("import m, multiprocessing\ndef test_f(tmp_path):\n    assert m.f() == 42\n    {parallel}\n"));
    };
    let script = "python3 -m venv v && v/bin/python -c 'import m, sys; print(\"venv\", m.f(), sys.prefix != sys.base_prefix)' && v/bin/pip --version && pytest -q";
    works("python3, venv and pytest", &["python3", "pytest"], prepare, script, &["venv 42 True", "pip ", "1 passed"]);
}

#[test]
fn gcc_and_make_build_a_library_and_a_program() {
    let prepare = |folder: &Path| {
        write(folder, "l.c", "int f(void) { return 42; }\n");
        write(folder, "m.c", "#include <stdio.h>\nint f(void);\nint main(void) { printf(\"c %d\\n\", f()); return 0; }\n");
        write(
            folder,
            "Makefile",
            "m: m.c libl.so\n\tgcc -o m m.c -L. -ll -Wl,-rpath,'$$ORIGIN'\nlibl.so: l.c\n\tgcc -shared -fPIC -o libl.so l.c\n",
        );
    };
    works("gcc and make", &["gcc", "make"], prepare, "make -j2 && ./m", &["c 42"]);
}

#[test]
fn sqlite_writes_a_database() {
    let script = "sqlite3 a.db 'pragma journal_mode=wal; create table t(n); insert into t values (6*7); select n from t;'";
    works("sqlite3", &["sqlite3"], nothing, script, &["wal", "42"]);
}

#[test]
fn java_compiles_and_runs() {
    let prepare = |folder: &Path| {
        write(folder, "H.java", "public class H { public static void main(String[] a) { System.out.println(\"java \" + 6 * 7); } }");
    };
    works("java", &["java"], prepare, "if command -v javac >/dev/null; then javac H.java && java H; else java H.java; fi", &["java 42"]);
}

#[test]
fn go_builds_and_runs() {
    let prepare = |folder: &Path| {
        write(folder, "go.mod", "module m\n\ngo 1.19\n");
        write(folder, "m.go", "package main\n\nimport \"fmt\"\n\nfunc main() { fmt.Println(\"go\", 6*7) }\n");
    };
    works("go", &["go"], prepare, "go build -o m . && ./m", &["go 42"]);
}

#[test]
fn chromium_renders_a_page_with_its_own_sandbox_off() {
    let prepare = |folder: &Path| {
        write(folder, "p.html", "<p id=x></p><script>document.getElementById('x').textContent = 'page ' + 6 * 7</script>");
    };
    let script = "chromium --headless --no-sandbox --disable-gpu --dump-dom \"file://$PWD/p.html\" 2>/dev/null";
    works("chromium", &["chromium"], prepare, script, &["page 42"]);
}

#[test]
fn real_agents_start() {
    works("claude", &["claude"], nothing, "claude --version", &["Claude Code"]);
    works("codex", &["codex"], nothing, "codex --version", &["codex-cli"]);
}

#[test]
fn keys_beside_the_tools_are_not_there_and_caches_cannot_be_poisoned() {
    let test = "an ordinary user's secrets";
    if !people(test).contains(&Person::Ordinary) {
        return;
    }
    let folder = workspace();
    give(folder.path(), TESTER);
    let script = "cat ~/.npm/_cacache/entry; echo poison > ~/.npm/_cacache/entry; echo \"inside: $(cat ~/.npm/_cacache/entry)\"
        for store in .local/share/pnpm/store .yarn/berry/cache .m2/wrapper/dists; do
            echo \"$store before: $(cat ~/$store/entry)\"; echo poison > ~/$store/entry; echo \"$store inside: $(cat ~/$store/entry)\"
        done
        for f in /home/tester/.ssh/id_ed25519 /home/tester/.cargo/credentials.toml ~/.ssh ~/.cargo/credentials.toml ~/.m2/settings.xml; do
            if cat $f 2>/dev/null || ls $f 2>/dev/null; then echo \"SEEN $f\"; fi
        done; ls -a /home/tester; echo \"$HOME\"; git config --global --list; git config --global alias.x y";
    let output = sandboxed(Person::Ordinary, folder.path(), &[], script);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert!(!out.contains("SEEN") && !out.contains("private key") && !out.contains("token") && !out.contains(".ssh"), "{out}");
    for store in [".local/share/pnpm/store", ".yarn/berry/cache", ".m2/wrapper/dists"] {
        for words in ["before: as it was", "inside: poison", "outside: as it was"] {
            assert!(out.contains(&format!("{store} {words}")), "{store} {words} is missing in:\n{out}\n{err}");
        }
    }
    for words in ["as it was\ninside: poison", "outside: as it was", "/home/agent\nuser.name=Tester\nuser.email=t@example.org\noutside"] {
        assert!(out.contains(words), "{words:?} is missing in:\n{out}\n{err}");
    }
    // The control: without the sandbox this user reads the key.
    let control = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount -t tmpfs -o mode=755 t /home && echo 'a private key' > /home/k && setpriv --reuid=61234 --clear-groups cat /home/k")
        .output()
        .expect("it starts");
    assert!(String::from_utf8_lossy(&control.stdout).contains("private key"), "{control:?}");
}

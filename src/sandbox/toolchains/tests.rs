//! Made-up homes, and what is granted of them.

use std::path::Path;

use super::fake::{Fake, around};
use super::*;

const ALL: Wanted = Wanted { system: true, toolchains: true, caches: true };

fn look(view: &Fake, around: &Surroundings) -> Found {
    let protected = around.protected(view, &[]);
    scan(view, around, &protected, Some(Path::new("/home/u/work/project")), ALL)
}

/// Granted paths that are not the system's.
fn tools(found: &Found) -> Vec<String> {
    let own = |grant: &&Grant| !grant.inside.starts_with("/usr") && !grant.inside.starts_with("/etc");
    let mut tools: Vec<String> = found.grants.iter().filter(own).map(|grant| grant.inside.display().to_string()).collect();
    tools.sort();
    tools
}

fn path(found: &Found) -> String {
    found.path.iter().map(|entry| entry.display().to_string()).collect::<Vec<_>>().join(":")
}

fn why(found: &Found, subject: &str) -> String {
    let finding = found.findings.iter().find(|finding| finding.subject == Path::new(subject));
    finding.map(|finding| finding.why.clone()).unwrap_or_default()
}

#[test]
fn the_system_is_a_few_folders_and_links_and_never_all_of_etc() {
    let found = look(&Fake::host(), &around("/usr/bin:/bin", &[]));
    assert_eq!(tools(&found), Vec::<String>::new());
    let etc: Vec<_> = found.grants.iter().filter(|grant| grant.inside.starts_with("/etc")).map(|g| g.inside.to_str()).collect();
    for there in
        ["/etc/ld.so.cache", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/alternatives", "/etc/java-17-openjdk", "/etc/nsswitch.conf"]
    {
        assert!(etc.contains(&Some(there)), "{there} is missing in {etc:?}");
    }
    for never in ["/etc", "/etc/ssl", "/etc/shadow", "/etc/ssh", "/etc/ssl/private", "/etc/passwd", "/etc/profile"] {
        assert!(!etc.contains(&Some(never)), "{never} is granted");
    }
    let links: Vec<_> = found.links.iter().map(|l| format!("{} -> {}", l.inside.display(), l.target.display())).collect();
    for link in [
        "/bin -> usr/bin",
        "/lib64 -> usr/lib64",
        "/etc/localtime -> /usr/share/zoneinfo/Etc/UTC",
        "/etc/os-release -> ../usr/lib/os-release",
    ] {
        assert!(links.iter().any(|l| l == link), "{link} is missing in {links:?}");
    }
    assert_eq!(path(&found), "/usr/bin:/usr/local/bin", "/bin is the same folder");
}

#[test]
fn an_unmerged_usr_is_granted_folder_by_folder() {
    let view = Fake::new(&["/bin/sh", "/lib/libc.so", "/usr/bin/env", "/etc/ld.so.cache"]);
    let found = look(&view, &around("/usr/bin:/bin", &[]));
    let inside: Vec<_> = found.grants.iter().map(|g| g.inside.display().to_string()).collect();
    assert_eq!(inside, ["/bin", "/lib", "/usr", "/etc/ld.so.cache"]);
    assert_eq!(path(&found), "/usr/bin:/bin");
}

#[test]
fn rust_is_granted_and_its_credentials_are_not() {
    let view = Fake::host().with(&[
        "/home/u/.cargo/bin/cargo",
        "/home/u/.cargo/registry/cache/x.crate",
        "/home/u/.cargo/config.toml = [target.x]\nlinker = \"mold\"",
        "/home/u/.rustup/toolchains/stable/bin/rustc",
        "/home/u/.rustup/toolchains/mine -> /home/u/src/rust/build/stage1",
        "/home/u/src/rust/build/stage1/bin/rustc",
    ]);
    let found = look(&view, &around("/home/u/.cargo/bin:/usr/bin", &[]));
    assert_eq!(tools(&found), ["/home/agent/.cargo/config.toml", "/home/u/.cargo/bin", "/home/u/.rustup", "/home/u/src/rust/build/stage1"]);
    assert_eq!(found.environment.get("RUSTUP_HOME").map(|v| v.to_string_lossy().into_owned()).as_deref(), Some("/home/u/.rustup"));
    assert_eq!(found.caches.len(), 1);
    assert_eq!(found.caches[0].inside, Path::new("/home/agent/.cargo/registry"));

    let view = view.with(&["/home/u/.cargo/config.toml = [registries.x]\ntoken = \"abc\""]);
    let found = look(&view, &around("/home/u/.cargo/bin:/usr/bin", &[]));
    assert!(!tools(&found).contains(&"/home/agent/.cargo/config.toml".to_owned()));
    assert!(why(&found, "/home/u/.cargo/config.toml").contains("token"));
}

#[test]
fn stores_of_pnpm_yarn_and_mavens_wrapper_are_caches_and_what_lies_beside_them_is_not_there() {
    let view = Fake::host().with(&[
        "/home/u/.local/share/pnpm/store/v10/files/",
        "/home/u/.local/share/pnpm/pnpm",
        "/home/u/.cache/pnpm/metadata/",
        "/home/u/.cache/node/corepack/v1/",
        "/home/u/.yarn/berry/cache/",
        "/home/u/.yarnrc.yml = npmAuthToken: abc",
        "/home/u/.m2/settings.xml",
        "/home/u/.m2/wrapper/dists/",
    ]);
    let places = |found: &Found| {
        let mut places: Vec<_> =
            found.caches.iter().map(|cache| (cache.lower[0].display().to_string(), cache.inside.display().to_string())).collect();
        places.sort();
        places
    };
    let same = |below: &str| (format!("/home/u/{below}"), format!("/home/agent/{below}"));
    let found = look(&view, &around("/usr/bin", &[]));
    let expected = [".cache/node/corepack", ".cache/pnpm", ".local/share/pnpm/store", ".m2/wrapper", ".yarn/berry"].map(same);
    assert_eq!(places(&found), expected);
    assert!(tools(&found).is_empty(), "{:?}", tools(&found));
    assert!(found.caches.iter().all(|cache| cache.upper == Upper::Private));

    // With its programs on PATH, pnpm looks for the store beside them.
    let found = look(&view, &around("/home/u/.local/share/pnpm:/usr/bin", &[("PNPM_HOME", "/home/u/.local/share/pnpm")]));
    assert_eq!(tools(&found), ["/home/u/.local/share/pnpm"]);
    let store = "/home/u/.local/share/pnpm/store".to_owned();
    assert!(places(&found).contains(&(store.clone(), store)), "{:?}", places(&found));

    let view = view.with(&["/data/berry/cache/", "/data/maven/wrapper/dists/", "/data/store/v10/", "/data/xdg/pnpm/store/"]);
    let moved = [("YARN_GLOBAL_FOLDER", "/data/berry"), ("MAVEN_USER_HOME", "/data/maven"), ("npm_config_store_dir", "/data/store")];
    let found = look(&view, &around("/usr/bin", &moved));
    for pair in [("/data/berry", ".yarn/berry"), ("/data/maven/wrapper", ".m2/wrapper"), ("/data/store", ".local/share/pnpm/store")] {
        let pair = (pair.0.to_owned(), format!("/home/agent/{}", pair.1));
        assert!(places(&found).contains(&pair), "{pair:?}: {:?}", places(&found));
    }
    let found = look(&view, &around("/usr/bin", &[("XDG_DATA_HOME", "/data/xdg")]));
    assert!(places(&found).iter().any(|(host, _)| host == "/data/xdg/pnpm/store"), "{:?}", places(&found));

    // A store that somebody keeps keys in is none.
    let view = Fake::host().with(&["/home/u/.ssh/store/v10/"]);
    let found = look(&view, &around("/usr/bin", &[("npm_config_store_dir", "/home/u/.ssh/store")]));
    assert!(found.caches.is_empty() && why(&found, "/home/u/.ssh/store").contains("not used as a cache"));
}

#[test]
fn toolchains_that_were_moved_are_found_by_their_variables() {
    let view =
        Fake::host().with(&["/data/cargo/bin/cargo", "/data/cargo/credentials.toml", "/data/cargo/registry/", "/data/rustup/toolchains/"]);
    let moved = [("CARGO_HOME", "/data/cargo"), ("RUSTUP_HOME", "/data/rustup")];
    let found = look(&view, &around("/data/cargo/bin:/usr/bin", &moved));
    assert_eq!(tools(&found), ["/data/cargo/bin", "/data/rustup"]);
    assert_eq!(found.caches[0].lower, [Path::new("/data/cargo/registry")]);
}

#[test]
fn a_family_behind_a_link_is_visible_by_both_names() {
    let view = Fake::host().with(&["/home/u/.rustup -> /data/rustup", "/data/rustup/toolchains/stable/bin/rustc"]);
    let found = look(&view, &around("/usr/bin", &[]));
    assert_eq!(tools(&found), ["/data/rustup"]);
    assert!(found.links.contains(&Link { inside: "/home/u/.rustup".into(), target: "/data/rustup".into() }));
}

#[test]
fn version_managers_are_granted_as_a_whole_when_path_points_into_them() {
    for (entry, root) in [
        ("/home/u/.pyenv/shims", "/home/u/.pyenv"),
        ("/home/u/.nvm/versions/node/v22/bin", "/home/u/.nvm"),
        ("/home/u/.volta/bin", "/home/u/.volta"),
        ("/home/u/.asdf/shims", "/home/u/.asdf"),
        ("/home/u/.sdkman/candidates/java/current/bin", "/home/u/.sdkman/candidates"),
        ("/home/u/.rbenv/shims", "/home/u/.rbenv"),
        ("/home/u/go/bin", "/home/u/go/bin"),
        ("/home/u/miniconda3/envs/x/bin", "/home/u/miniconda3"),
    ] {
        let view = Fake::host().with(&[&format!("{entry}/program"), "/home/u/go/src/private/main.go"]);
        let found = look(&view, &around(&format!("{entry}:/usr/bin"), &[]));
        assert_eq!(tools(&found), [root], "{entry}");
        assert!(path(&found).starts_with(entry), "{entry}");
        // Installed but not used: nothing of it is shown.
        assert_eq!(tools(&look(&view, &around("/usr/bin", &[]))), Vec::<String>::new(), "{entry}");
    }
}

#[test]
fn programs_that_are_links_bring_what_they_link_to() {
    let view = Fake::host().with(&[
        "/home/u/.local/bin/claude -> /home/u/.local/share/claude/versions/2.1.3",
        "/home/u/.local/share/claude/versions/2.1.3",
        "/home/u/.local/bin/uvtool -> /home/u/.local/share/uv/tools/uvtool/bin/uvtool",
        "/home/u/.local/share/uv/tools/uvtool/bin/uvtool",
        "/home/u/.local/share/uv/tools/uvtool/pyvenv.cfg",
        "/home/u/.local/share/uv/tools/uvtool/bin/python -> /home/u/.pyenv/versions/3.12/bin/python3.12",
        "/home/u/.pyenv/versions/3.12/bin/python3.12",
        "/home/u/.local/share/uv/credentials/credentials.toml",
        "/home/u/.local/bin/script -> /home/u/work/other/script.py",
        "/home/u/work/other/script.py",
        "/home/u/work/other/.env",
        "/usr/local/bin/tool -> /opt/tool/bin/tool",
        "/opt/tool/bin/tool",
        "/opt/data/private",
    ]);
    let found = look(&view, &around("/home/u/.local/bin:/usr/local/bin:/usr/bin", &[]));
    let expected = [
        "/home/u/.local/bin",
        "/home/u/.local/share/claude",
        "/home/u/.local/share/uv/tools",
        "/home/u/.pyenv",
        "/home/u/work/other/script.py",
        "/opt/tool",
    ];
    assert_eq!(tools(&found), expected);
}

#[test]
fn a_prefix_is_granted_in_its_parts_and_a_repository_is_not() {
    let view = Fake::host().with(&[
        "/home/u/.npm-global/bin/eslint -> ../lib/node_modules/eslint/bin/eslint.js",
        "/home/u/.npm-global/lib/node_modules/eslint/bin/eslint.js",
        "/home/u/tools/node/bin/node",
        "/home/u/tools/node/lib/node_modules/npm/",
        "/home/u/tools/node/notes.txt",
        "/home/u/jdk/bin/java",
        "/home/u/jdk/release",
        "/home/u/repo/bin/dev",
        "/home/u/repo/lib/secret.py",
        "/home/u/repo/.git/",
        "/opt/vendor/bin/x",
    ]);
    let entries = "/home/u/.npm-global/bin:/home/u/tools/node/bin:/home/u/jdk/bin:/home/u/repo/bin:/opt/vendor/bin:/usr/bin";
    let found = look(&view, &around(entries, &[]));
    let expected = [
        "/home/u/.npm-global/bin",
        "/home/u/.npm-global/lib",
        "/home/u/jdk",
        "/home/u/repo/bin",
        "/home/u/tools/node/bin",
        "/home/u/tools/node/lib",
        "/opt/vendor",
    ];
    assert_eq!(tools(&found), expected);
}

#[test]
fn a_virtual_environment_in_the_workspace_brings_only_its_interpreter() {
    let view = Fake::host().with(&[
        "/home/u/work/project/.venv/pyvenv.cfg",
        "/home/u/work/project/.venv/bin/python -> /home/u/.pyenv/versions/3.12/bin/python3.12",
        "/home/u/.pyenv/versions/3.12/bin/python3.12",
    ]);
    let venv = [("VIRTUAL_ENV", "/home/u/work/project/.venv")];
    let found = look(&view, &around("/home/u/work/project/.venv/bin:/usr/bin", &venv));
    assert_eq!(tools(&found), ["/home/u/.pyenv"]);
    assert!(path(&found).starts_with("/home/u/work/project/.venv/bin:"));
    assert!(found.environment.contains_key("VIRTUAL_ENV"));
}

#[test]
fn entries_that_cannot_be_trusted_are_dropped_and_told() {
    let view = Fake::host().with(&["/srv/shared/!", "/home/u/file", "/snap/bin/code", "/home/u/bin/x"]);
    let entries = ":relative:.:/nowhere:/srv/shared:/home/u/file:/snap/bin:/home/u:/home/u/.ssh:/home/u/.aws:/:/home/u/bin:/usr/bin";
    let found = look(&view, &around(entries, &[]));
    assert_eq!(path(&found), "/home/u/bin:/usr/bin:/usr/local/bin");
    assert_eq!(tools(&found), ["/home/u/bin"]);
    for (subject, word) in [
        ("", "current folder"),
        ("relative", "relative"),
        ("/nowhere", "does not exist"),
        ("/srv/shared", "everybody"),
        ("/home/u/file", "not a folder"),
        ("/snap/bin", "privileged"),
        ("/home/u", "home folder"),
        ("/home/u/.ssh", "secrets"),
        ("/", "home folder"),
    ] {
        assert!(why(&found, subject).contains(word), "{subject:?}: {:?}", found.findings);
    }
}

#[test]
fn a_variable_that_points_to_a_home_or_a_project_grants_nothing() {
    let view = Fake::host().with(&["/home/u/bin/x", "/home/u/work/other/setup.py"]);
    let wrong = [
        ("GOPATH", "/home/u"),
        ("JAVA_HOME", "/home/u"),
        ("VIRTUAL_ENV", "/home/u/work/other"),
        ("PYENV_ROOT", "/home/u"),
        ("NVM_DIR", "relative"),
    ];
    let found = look(&view, &around("/home/u/bin:/usr/bin", &wrong));
    assert_eq!(tools(&found), ["/home/u/bin"]);
    assert!(!found.environment.contains_key("JAVA_HOME") && !found.environment.contains_key("PYENV_ROOT"));
}

#[test]
fn links_in_a_circle_end() {
    let view = Fake::host().with(&[
        "/a/x/bin/python -> /b/x/bin/p",
        "/b/x/bin/p",
        "/b/x/bin/python -> /a/x/bin/q",
        "/a/x/bin/q",
        "/a/x/lib/",
        "/loop -> /loop2",
        "/loop2 -> /loop",
        "/home/u/.local/bin/t -> /a/x/bin/q",
    ]);
    let found = look(&view, &around("/loop:/home/u/.local/bin:/usr/bin", &[]));
    assert!(tools(&found).contains(&"/a/x/bin".to_owned()), "{:?}", tools(&found));
}

#[test]
fn settings_with_a_password_are_covered_or_left_out() {
    let view = Fake::host().with(&[
        "/etc/npmrc = registry=https://u:p@host/",
        "/usr/etc/npmrc = //h/:_authToken=abc",
        "/etc/pip.conf = [global]\ntimeout = 9",
    ]);
    let found = look(&view, &around("/usr/bin", &[]));
    assert!(why(&found, "/etc/npmrc").contains("password"));
    assert!(found.grants.iter().any(|grant| grant.inside == Path::new("/etc/pip.conf")));
    assert_eq!(found.covered, [PathBuf::from("/usr/etc/npmrc")]);
}

#[test]
fn nothing_is_found_for_switches_that_are_off() {
    let view = Fake::host().with(&["/home/u/.cargo/bin/cargo", "/home/u/.cargo/registry/"]);
    let around = around("/home/u/.cargo/bin:/usr/bin", &[]);
    let protected = around.protected(&view, &[]);
    let found = scan(&view, &around, &protected, None, Wanted { system: true, toolchains: false, caches: false });
    assert_eq!((tools(&found).len(), found.caches.len()), (0, 0));
    assert_eq!(path(&found), "/usr/bin:/usr/local/bin");
    let found = scan(&view, &around, &protected, None, Wanted { system: false, toolchains: false, caches: false });
    assert_eq!((found.grants.len(), found.links.len(), found.path.len()), (0, 0, 0));
}

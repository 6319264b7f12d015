//! Repositories of strangers: nothing of theirs is followed, run, or believed.

use super::*;

#[test]
fn links_pipes_and_floods_are_not_read() {
    let world = repository(&[("package.json", r#"{"scripts": {"test": "true"}}"#)]);
    let folder = world.workspace();
    let outside = world.write("outside/Makefile", "test:\n\techo OUTSIDE\n");
    std::os::unix::fs::symlink(&outside, folder.join("Makefile")).expect("a link");
    std::os::unix::fs::symlink(world.path().join("outside"), folder.join("linked")).expect("a link");
    std::os::unix::fs::symlink(".", folder.join("loop")).expect("a link");
    nix::unistd::mkfifo(&folder.join("go.mod"), nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("a pipe");
    nix::unistd::mkfifo(&folder.join(".gitignore"), nix::sys::stat::Mode::from_bits_truncate(0o644)).expect("a pipe");
    let huge = fs_err::File::create(folder.join("pyproject.toml")).expect("a file");
    huge.set_len(8 << 30).expect("a hole");
    fs_err::write(folder.join("pom.xml"), b"<project>\xff\xfe</project>").expect("a file");
    let document = init(&world, &[]);
    let missing = missing(&document);
    for words in [
        "Makefile was not read: it is a link",
        "go.mod was not read",
        "pyproject.toml was not read: it is too large",
        "pom.xml was not read: it is not UTF-8",
    ] {
        assert!(missing.contains(words), "{words}: {missing}");
    }
    assert!(gates(&document).iter().all(|(_, run)| !run.contains("make") && !run.contains("go test")), "{document:#}");
}

#[test]
fn names_and_words_of_a_stranger_do_not_become_commands_or_escapes() {
    let script = r#"{"scripts": {"test": "\u001b[2J; rm -rf ~ #"}, "packageManager": "npm; touch pwned@1"}"#;
    let world = repository(&[
        ("a;touch pwned/package.json", script),
        ("$(touch pwned)/go.mod", "module m\n"),
        ("-rf/Cargo.toml", "[package]\n"),
        ("e\u{1b}[2Jvil/pom.xml", "<project/>\n"),
        ("line\nbreak/Makefile", "test:\n\ttrue\n"),
        (".github/workflows/e\u{1b}[31m.yml", "- run: cargo clippy; touch pwned\n- run: make \u{1b}[2J\n"),
        ("ok/package.json", script),
    ]);
    let output = cofferdam(&world, &["init"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!text(&output).contains('\u{1b}'), "{:?}", text(&output));
    let config = fs_err::read_to_string(world.workspace().join("cofferdam.toml")).expect("text");
    assert!(!config.contains('\u{1b}'));
    let commands: Vec<&str> = config.lines().filter(|line| line.starts_with("run = ")).collect();
    assert_eq!(commands.len(), 1, "{commands:?}");
    assert!(commands[0].starts_with("run = \"cd ok && npm test\""), "{commands:?}");
    assert!(text(&output).contains("no plain word of a shell"), "{}", text(&output));
}

#[test]
fn a_place_for_the_stories_that_leads_elsewhere_is_not_written_to() {
    let world = repository(&[]);
    let outside = world.path().join("outside");
    fs_err::create_dir(&outside).expect("a folder");
    std::os::unix::fs::symlink(&outside, world.workspace().join("stories")).expect("a link");
    init(&world, &[]);
    assert_eq!(fs_err::read_dir(&outside).expect("listed").count(), 0);
    assert!(world.workspace().join("cofferdam-stories/010-how-to-check.md").is_file());
    // Also when a configuration that is there names the link.
    let world = repository(&[("cofferdam.toml", "[project]\nstories = \"stories\"\n")]);
    let outside = world.path().join("outside");
    fs_err::create_dir(&outside).expect("a folder");
    std::os::unix::fs::symlink(&outside, world.workspace().join("stories")).expect("a link");
    let said = succeeds(&world, &["init"]);
    assert!(said.contains("it is no folder"), "{said}");
    assert_eq!(fs_err::read_dir(&outside).expect("listed").count(), 0);
    let world = repository(&[]);
    std::os::unix::fs::symlink(world.path().join("elsewhere"), world.workspace().join("cofferdam.toml")).expect("a link");
    assert_eq!(cofferdam(&world, &["init"]).status.code(), Some(2));
    assert!(!world.path().join("elsewhere").exists());
}

#[test]
fn a_folder_that_cannot_be_written_is_left_as_it_was() {
    if common::is_root() {
        // Root may write anywhere: a full disk stands for it.
        let world = repository(&[]);
        let folder = world.workspace();
        let script = format!(
            "mount -t tmpfs -o size=64k tmpfs {0} && cd {0} && git init -q . && head -c 65536 /dev/zero > big 2>/dev/null; \
             \"$0\" init; code=$?; ls -A; exit $code",
            folder.display()
        );
        let output = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .arg(world.program())
            .env("HOME", world.home())
            .output()
            .expect("unshare starts");
        let said = text(&output);
        assert!(!output.status.success(), "{said}");
        assert!(!said.contains("cofferdam.toml\n") && !String::from_utf8_lossy(&output.stdout).contains("stories"), "{said}");
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let world = repository(&[]);
    fs_err::set_permissions(world.workspace(), std::fs::Permissions::from_mode(0o555)).expect("locked");
    let output = cofferdam(&world, &["init"]);
    fs_err::set_permissions(world.workspace(), std::fs::Permissions::from_mode(0o755)).expect("unlocked");
    assert!(!output.status.success());
    assert!(!world.workspace().join("cofferdam.toml").exists() && !world.workspace().join("stories").exists());
}

#[test]
fn a_very_large_repository_is_looked_at_in_part_and_said_so() {
    let world = repository(&[("go.mod", "module m\n"), ("a_test.go", "package m\n")]);
    for folder in 0..16 {
        let folder = world.workspace().join(format!("data/{folder}"));
        fs_err::create_dir_all(&folder).expect("a folder");
        for file in 0..2000 {
            fs_err::write(folder.join(format!("{file}")), "").expect("a file");
        }
    }
    let start = std::time::Instant::now();
    let document = init(&world, &[]);
    assert!(start.elapsed() < std::time::Duration::from_secs(10), "{:?}", start.elapsed());
    assert_eq!(gates(&document).len(), 1);
    assert!(missing(&document).contains("only a part of this repository was looked at"), "{}", missing(&document));
}

//! Tells the program which commit it is built from. Reads files and runs nothing; without any of them the program says so.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=COFFERDAM_COMMIT");
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let given = std::env::var("COFFERDAM_COMMIT").ok();
    // A development build would be made anew after every commit, for a word that nobody asks it for.
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = given.or_else(|| of_package(&root)).or_else(|| release.then(|| of_checkout(&root)).flatten());
    let commit = commit.filter(|commit| (7..=64).contains(&commit.len()) && commit.bytes().all(|b| b.is_ascii_hexdigit()));
    println!("cargo:rustc-env=COFFERDAM_COMMIT={}", commit.unwrap_or_default());
    println!("cargo:rustc-env=COFFERDAM_TARGET={}", std::env::var("TARGET").unwrap_or_default());
    if is_static() && relocates_packed() {
        // A position-independent program moves its pointers when it starts. Written down as a bitmap they are a megabyte less to read.
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn is_static() -> bool {
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|list| list.split(',').any(|one| one == value));
    is("CARGO_CFG_TARGET_FEATURE", "crt-static") && is("CARGO_CFG_TARGET_ENV", "gnu")
}

/// Can the C library that is linked in read that bitmap? Its own header says which one it is: 2.36 was the first.
fn relocates_packed() -> bool {
    let header = std::fs::read_to_string("/usr/include/features.h").unwrap_or_default();
    let number = |name: &str| -> Option<u32> {
        let line = header.lines().find(|line| line.starts_with("#define") && line.contains(name))?;
        line.split_whitespace().nth(2)?.parse().ok()
    };
    number("__GLIBC__").zip(number("__GLIBC_MINOR__")).is_some_and(|version| version >= (2, 36))
}

/// What cargo writes into a published package.
fn of_package(root: &Path) -> Option<String> {
    let text = std::fs::read_to_string(root.join(".cargo_vcs_info.json")).ok()?;
    let (_, rest) = text.split_once("\"sha1\"")?;
    rest.split('"').nth(1).map(str::to_owned)
}

/// HEAD of the checkout this lies at the top of; also of a linked worktree.
fn of_checkout(root: &Path) -> Option<String> {
    let dot = root.join(".git");
    let git = match std::fs::read_to_string(&dot) {
        Ok(text) => root.join(text.trim().strip_prefix("gitdir: ")?),
        Err(_) => dot,
    };
    let common = std::fs::read_to_string(git.join("commondir")).map_or_else(|_| git.clone(), |text| git.join(text.trim()));
    let head = read(&git.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref: ") else { return Some(head) };
    let packed = || {
        let text = read(&common.join("packed-refs"))?;
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(_, of)| *of == name).map(|(id, _)| id.to_owned())
    };
    read(&common.join(name)).or_else(packed)
}

/// A file that decides: when it changes, the program is another one.
fn read(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.display());
    Some(text.trim().to_owned())
}

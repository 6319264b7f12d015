//! What an agent leaves to hurt the host: collected honestly, or named and left out; nothing runs, hangs or leads outside.
//!
//! The attacks write to an overlay's upper folder as an agent could through the merged view, and as it could if it reached it directly; and
//! to a plain checkout, which is the other way a workspace is laid out.

use std::path::Path;

use cofferdam::workspace::collect::{self, Collected, Layout, Settings};
use cofferdam::workspace::git::{Objects as _, Oid, Quarantine, Repository};
use cofferdam::workspace::rules::{Limits, Rule};
use cofferdam::workspace::walk::Folder;

use super::support::{Overlay, bash, git, scratch};

struct Scene {
    scratch: tempfile::TempDir,
    repository: Repository,
    quarantine: Quarantine,
    overlay: Overlay,
    layout: Layout,
    base: Oid,
}

impl Scene {
    /// A small repository, its checkout as the lower folder, and a host secret beside them.
    fn both() -> [Self; 2] {
        [Layout::Upper, Layout::Whole].map(Self::new)
    }

    fn new(layout: Layout) -> Self {
        let scratch = scratch();
        let main = scratch.path().join("main");
        fs_err::create_dir(&main).unwrap();
        let script = "git init -q -b main; mkdir -p src ignored; echo a > a; echo b > src/b; echo k > ignored/kept; echo x > '#x'; ln -s a link; \
            printf 'ignored/\\n*.o\\n' > .gitignore; git add -A -f; git commit -q -m base";
        assert!(bash(&main, script).status.success());
        let lower = scratch.path().join("lower");
        bash(
            scratch.path(),
            "cp -a main lower; rm -rf lower/.git; cp -a lower whole; mkdir whole/.git; echo SECRET > secret; mkdir outside; echo kept > outside/file",
        );
        let overlay = Overlay::new(&lower, &scratch.path().join("story"));
        let repository = Repository::discover(&main).unwrap();
        let quarantine = Quarantine::create(&scratch.path().join("quarantine"), &repository).unwrap();
        let base = git(&main, &["rev-parse", "HEAD^{tree}"]).parse().unwrap();
        Self { scratch, repository, quarantine, overlay, layout, base }
    }

    fn main(&self) -> std::path::PathBuf {
        self.scratch.path().join("main")
    }

    fn collect(&self) -> Collected {
        self.collect_with(Limits::default())
    }

    fn collect_with(&self, limits: Limits) -> Collected {
        let root = Folder::open_root(&self.root()).unwrap();
        collect::collect(&root, self.layout, self.base, &self.quarantine, &Settings::of(&self.repository, limits)).unwrap()
    }

    /// The names in a collected tree, with their content.
    fn content(&self, tree: Oid, path: &str) -> Option<Vec<u8>> {
        let mut at = tree;
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let entry = self.quarantine.tree(at).unwrap().into_iter().find(|e| e.name == part.as_bytes())?;
            if parts.peek().is_none() {
                return self.quarantine.blob(entry.id).ok();
            }
            if !entry.is_tree() {
                return None;
            }
            at = entry.id;
        }
        None
    }

    fn names(&self, tree: Oid) -> Vec<String> {
        self.quarantine.tree(tree).unwrap().iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()).collect()
    }

    fn root(&self) -> std::path::PathBuf {
        if self.layout == Layout::Upper { self.overlay.upper.clone() } else { self.scratch.path().join("whole") }
    }

    fn at(&self, path: &str) -> std::path::PathBuf {
        self.root().join(path)
    }

    /// A place for something else than what the base has there.
    fn instead(&self, path: &str) -> std::path::PathBuf {
        bash(&self.root(), &format!("rm -rf {path}"));
        self.at(path)
    }

    /// A script in the worktree as an agent sees it.
    fn run(&self, script: &str) -> std::process::Output {
        if self.layout == Layout::Upper { self.overlay.run(script) } else { bash(&self.root(), script) }
    }
}

fn has(collected: &Collected, rule: Rule, path: &str, kept: bool) -> bool {
    collected.findings.iter().any(|f| f.rule == rule && f.path == path && f.kept == kept)
}

/// A nested repository whose git directory runs a program on the next `git status` of anybody.
fn nested(place: &Path, canary: &Path) {
    let script = format!(
        "mkdir -p {0} && cd {0} && git init -q && echo x > x && git add x && git commit -q -m x && git config core.fsmonitor 'touch {1}; false' \
         && git config filter.f.clean 'touch {1}; cat' && echo '* filter=f' > .gitattributes",
        place.display(),
        canary.display()
    );
    assert!(bash(Path::new("/"), &script).status.success());
}

#[test]
fn a_nested_repository_never_runs_and_its_files_are_files() {
    Scene::both().iter().for_each(check_a_nested_repository_never_runs_and_its_files_are_files);
}

fn check_a_nested_repository_never_runs_and_its_files_are_files(scene: &Scene) {
    let canary = scene.scratch.path().join("canary");
    nested(&scene.at("vendor"), &canary);
    // The control: what an agent left does run when the host's git is let near it.
    bash(&scene.at("vendor"), "git status");
    assert!(canary.exists(), "the attack itself does not work here");
    fs_err::remove_file(&canary).unwrap();

    let collected = scene.collect();
    assert!(has(&collected, Rule::GitDirectory, "vendor/.git", false), "{:?}", collected.findings);
    assert_eq!(scene.content(collected.tree, "vendor/x").as_deref(), Some(&b"x\n"[..]));
    let vendor = scene.quarantine.tree(collected.tree).unwrap().into_iter().find(|e| e.name == b"vendor").unwrap();
    assert!(vendor.is_tree(), "never a gitlink");
    assert!(!scene.names(vendor.id).iter().any(|n| n == ".git"));
    bash(&scene.main(), "git status; git gc -q; git diff");
    assert!(!canary.exists());
}

#[test]
fn every_spelling_of_a_git_directory_is_left_out() {
    Scene::both().iter().for_each(check_every_spelling_of_a_git_directory_is_left_out);
}

fn check_every_spelling_of_a_git_directory_is_left_out(scene: &Scene) {
    for name in [".GIT", ".git.", "git~1", ".g\u{200c}it", ".git::$INDEX_ALLOCATION"] {
        fs_err::create_dir_all(scene.at(name)).unwrap();
        fs_err::write(scene.at(name).join("config"), "x").unwrap();
    }
    fs_err::write(scene.at("src-git"), "x").unwrap();
    fs_err::create_dir_all(scene.at("src")).unwrap();
    fs_err::write(scene.at("src/.git"), "gitdir: /root").unwrap();
    let collected = scene.collect();
    assert_eq!(collected.findings.iter().filter(|f| f.rule == Rule::GitDirectory && !f.kept).count(), 6, "{:?}", collected.findings);
    assert!(scene.names(collected.tree).iter().all(|n| n == "src-git" || !n.to_lowercase().contains("git") || n == ".gitignore"));
}

#[test]
fn special_files_are_findings_and_nothing_hangs() {
    Scene::both().iter().for_each(check_special_files_are_findings_and_nothing_hangs);
}

fn check_special_files_are_findings_and_nothing_hangs(scene: &Scene) {
    let script = "rm -f .gitignore a; mkfifo pipe .gitignore; mkdir -p src; mkfifo src/.gitattributes; mkfifo a; \
        python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")' 2>/dev/null || true; [ $(id -u) = 0 ] && mknod dev c 1 1; true";
    assert!(bash(&scene.root(), script).status.success());
    let started = std::time::Instant::now();
    let collected = scene.collect();
    assert!(started.elapsed().as_secs() < 5);
    for path in ["pipe", ".gitignore", "src/.gitattributes", "a"] {
        assert!(has(&collected, Rule::SpecialFile, path, false), "{path}: {:?}", collected.findings);
    }
    // What is no file any more is not in the tree as the old one either.
    assert!(!scene.names(collected.tree).contains(&"a".to_owned()));
}

#[test]
fn links_are_stored_as_links_and_never_followed() {
    Scene::both().iter().for_each(check_links_are_stored_as_links_and_never_followed);
}

fn check_links_are_stored_as_links_and_never_followed(scene: &Scene) {
    let secret = scene.scratch.path().join("secret");
    fs_err::os::unix::fs::symlink(&secret, scene.instead("a")).unwrap();
    fs_err::os::unix::fs::symlink(scene.scratch.path().join("outside"), scene.instead("src")).unwrap();
    fs_err::os::unix::fs::symlink("elsewhere", scene.at(".gitmodules")).unwrap();
    fs_err::os::unix::fs::symlink(&secret, scene.instead(".gitignore")).unwrap();
    // The control: each of them leads there.
    assert!(fs_err::read(scene.at("a")).unwrap().starts_with(b"SECRET") && scene.at("src/file").exists());
    let collected = scene.collect();
    assert_eq!(scene.content(collected.tree, "a").unwrap(), secret.as_os_str().as_encoded_bytes());
    assert!(has(&collected, Rule::LinkOutside, "a", true));
    assert!(has(&collected, Rule::LinkedGitFile, ".gitmodules", false));
    assert!(has(&collected, Rule::LinkedGitFile, ".gitignore", true));
    assert_eq!(scene.content(collected.tree, "src/file"), None);
}

#[test]
fn a_file_that_flips_to_a_link_while_it_is_collected_is_never_followed() {
    Scene::both().iter().for_each(check_a_file_that_flips_to_a_link_while_it_is_collected_is_never_followed);
}

fn check_a_file_that_flips_to_a_link_while_it_is_collected_is_never_followed(scene: &Scene) {
    let secret = scene.scratch.path().join("secret");
    for i in 0..200 {
        fs_err::write(scene.at(&format!("f{i}")), "good\n").unwrap();
    }
    let stop = std::sync::atomic::AtomicBool::new(false);
    let upper = scene.root();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (file, link) = (upper.join("real"), upper.join("bad"));
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for i in 0..200 {
                    let target = upper.join(format!("f{i}"));
                    drop(fs_err::os::unix::fs::symlink(&secret, &link));
                    drop(fs_err::rename(&link, &target));
                    drop(fs_err::write(&file, "good\n"));
                    drop(fs_err::rename(&file, &target));
                }
            }
        });
        let mut followed = false;
        for _ in 0..30 {
            // The control: whoever opens the names as they are is led astray.
            followed =
                followed || (0..200).any(|i| fs_err::read(upper.join(format!("f{i}"))).is_ok_and(|seen| seen.starts_with(b"SECRET")));
            let collected = scene.collect();
            for entry in scene.quarantine.tree(collected.tree).unwrap().iter().filter(|e| !e.is_tree()) {
                assert!(!scene.quarantine.blob(entry.id).unwrap().starts_with(b"SECRET"));
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(followed, "the attack itself does not work here");
    });
}

#[test]
fn bounds_are_findings() {
    Scene::both().iter().for_each(check_bounds_are_findings);
}

fn check_bounds_are_findings(scene: &Scene) {
    // 64 GiB of nothing.
    fs_err::File::create(scene.at("sparse")).unwrap().set_len(64 << 30).unwrap();
    fs_err::File::create(scene.at("a")).unwrap().set_len(64 << 30).unwrap();
    let mut deep = scene.at("deep");
    for _ in 0..150 {
        deep.push("d");
    }
    fs_err::create_dir_all(&deep).unwrap();
    fs_err::write(deep.join("x"), "x").unwrap();
    fs_err::write(scene.at("n".repeat(255).as_str()), "x").unwrap();
    let collected = scene.collect();
    assert!(has(&collected, Rule::TooLarge, "sparse", false));
    assert!(has(&collected, Rule::TooLarge, "a", false));
    assert_eq!(scene.content(collected.tree, "a").as_deref(), Some(&b"a\n"[..]), "what could not be taken stays as it was");
    assert!(collected.findings.iter().any(|f| f.rule == Rule::TooDeep));
    assert!(scene.names(collected.tree).contains(&"n".repeat(255)));

    for i in 0..300 {
        fs_err::write(scene.at(&format!("many{i}")), "").unwrap();
    }
    let collected = scene.collect_with(Limits { entries: 100, findings: 5, ..Limits::default() });
    assert!(collected.findings.len() <= 5);
    assert!(collected.findings.iter().any(|f| f.rule == Rule::TooMany), "{:?}", collected.findings);
}

#[test]
fn hard_links_that_lead_out_are_left_out_and_those_inside_are_taken() {
    Scene::both().iter().for_each(check_hard_links_that_lead_out_are_left_out_and_those_inside_are_taken);
}

fn check_hard_links_that_lead_out_are_left_out_and_those_inside_are_taken(scene: &Scene) {
    fs_err::hard_link(scene.scratch.path().join("secret"), scene.at("stolen")).unwrap();
    assert!(fs_err::read(scene.at("stolen")).unwrap().starts_with(b"SECRET"), "the attack itself does not work here");
    fs_err::write(scene.at("one"), "inside\n").unwrap();
    fs_err::hard_link(scene.at("one"), scene.at("two")).unwrap();
    fs_err::create_dir_all(scene.at("ignored")).unwrap();
    fs_err::write(scene.at("ignored/built"), "built\n").unwrap();
    fs_err::hard_link(scene.at("ignored/built"), scene.at("three")).unwrap();
    let collected = scene.collect();
    assert!(has(&collected, Rule::HardLink, "stolen", false), "{:?}", collected.findings);
    assert_eq!(scene.content(collected.tree, "stolen"), None);
    assert_eq!(scene.content(collected.tree, "two").as_deref(), Some(&b"inside\n"[..]));
    assert_eq!(scene.content(collected.tree, "three").as_deref(), Some(&b"built\n"[..]));
}

#[test]
fn tracked_files_in_ignored_folders_count_and_new_ones_do_not() {
    Scene::both().iter().for_each(check_tracked_files_in_ignored_folders_count_and_new_ones_do_not);
}

fn check_tracked_files_in_ignored_folders_count_and_new_ones_do_not(scene: &Scene) {
    let script = "echo changed > ignored/kept; echo new > ignored/new; mkdir -p other/ignored; echo n > other/ignored/x; echo o > x.o; echo y > src/y";
    assert!(scene.run(script).status.success());
    let collected = scene.collect();
    assert_eq!(scene.content(collected.tree, "ignored/kept").as_deref(), Some(&b"changed\n"[..]));
    assert_eq!(scene.content(collected.tree, "ignored/new"), None);
    assert_eq!(scene.content(collected.tree, "src/y").as_deref(), Some(&b"y\n"[..]));
    assert!(!scene.names(collected.tree).iter().any(|n| n == "other" || n == "x.o"));
}

#[test]
fn forged_overlay_attributes_show_nothing_of_elsewhere() {
    let scene = Scene::new(Layout::Upper);
    let script = "mkdir src2 && python3 -c 'import os; os.setxattr(\"src2\", \"user.overlay.redirect\", b\"/src\"); open(\"e\",\"w\"); os.setxattr(\"e\", \"user.overlay.whiteout\", b\"y\")'";
    let done = bash(&scene.root(), script);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let collected = scene.collect();
    assert!(has(&collected, Rule::OverlayAttribute, "src2", false));
    assert!(!scene.names(collected.tree).iter().any(|n| n == "src2" || n == "e"));
}

#[test]
fn names_are_escaped_wherever_they_are_shown() {
    Scene::both().iter().for_each(check_names_are_escaped_wherever_they_are_shown);
}

fn check_names_are_escaped_wherever_they_are_shown(scene: &Scene) {
    fs_err::write(scene.at("\u{1b}[2Jboo\nnext"), "x").unwrap();
    fs_err::write(scene.at("A"), "x").unwrap();
    let collected = scene.collect();
    assert!(has(&collected, Rule::PortableName, "\\u{1b}[2Jboo\\nnext", true), "{:?}", collected.findings);
    assert!(has(&collected, Rule::CaseCollision, "A", true));
}

//! The index that a small layer gets: that of the layer below with what differs. Git and libgit2 must find it as good as their own.

use super::collect::step;
use super::commands::World;
use super::support::{Random, bash};

/// Git's own checks of an index: its sum (`fsck`), what it says of its folders' trees, the files, and the tree that it makes.
const CHECK: &str = "set -e; export GIT_TEST_CHECK_CACHE_TREE=1; git fsck --no-dangling --no-progress 2>&1 >/dev/null | grep -i index || true; \
    git status --porcelain; git update-index --really-refresh >/dev/null || echo not clean; git ls-files -s; git rev-parse HEAD:; git write-tree";

#[test]
fn the_index_of_every_small_layer_is_the_one_that_git_would_write() {
    let world = World::new(None);
    bash(&world.main(), "git config core.autocrlf false");
    let mut random = Random::new(31);
    let mut stacked = 0;
    for round in 0..12 {
        let steps: Vec<_> = (0..if round == 0 { 60 } else { 8 }).map(|_| step(&mut random)).collect();
        let steps: Vec<_> = steps.into_iter().filter(|step| !step.contains(".gitattributes")).collect();
        bash(&world.main(), &steps.join("\n"));
        // An empty commit, one that removes whole folders, and one that puts files where folders were.
        match round {
            4 => drop(bash(&world.main(), "git stash -q -u")),
            6 => drop(bash(&world.main(), "mkdir -p x/y/z x-y; echo 1 > x/y/z/f; echo 1 > x-y/f; echo '*.x' > x/y/.gitignore")),
            8 => drop(bash(&world.main(), "rm -r x/y x-y; echo 1 > x/y; ln -s x x-y; chmod +x x/y")),
            _ => {}
        }
        bash(&world.main(), "git add -A -f; git commit -q --allow-empty -m round");
        let story = format!("S{round}");
        world.ok(&["workspace", "new", &story]);
        let inside = world.inside(&story, CHECK);
        let tree = world.git(&["rev-parse", "HEAD:"]);
        let expected = format!("{}\n{tree}\n{tree}\n", world.git(&["ls-files", "-s"]));
        assert_eq!(inside, expected.trim_start(), "round {round}");

        // What build tools read it with, and that no file of it was looked at: times and sizes fit.
        let layers = bash(&world.path("state"), "find . -path '*/layers/*/git*/.git/index' -newermt '1 minute ago'").stdout;
        for index in String::from_utf8_lossy(&layers).lines() {
            let index = git2::Index::open(&world.path("state").join(index)).unwrap();
            assert!(!index.is_empty());
        }
        stacked += usize::from(String::from_utf8_lossy(&layers).contains("/git."));
    }
    assert!(stacked > 6, "no small layers were made");
    // And what an agent's git does to it afterwards.
    let done = world.inside(
        "S11",
        "set -e; export GIT_TEST_CHECK_CACHE_TREE=1; echo 1 > new; git add new; git stash -q; git stash pop -q; git commit -q -m new; git update-index --split-index; \
         git status --porcelain; git update-index --no-split-index; git -c index.threads=1 status --porcelain; git -c index.version=4 add -A; git checkout -q -b b HEAD~1; git rebase -q main; \
         git gc -q; git fsck --no-progress 2>&1 | grep -i index || true; git rev-parse HEAD: ; git write-tree",
    );
    let lines: Vec<_> = done.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1], "{done}");
}

/// After a restart of the machine nothing counts that was not flushed: the layer's part is made anew, and what the old one left goes.
#[test]
fn what_was_not_made_durable_is_not_believed_after_a_restart() {
    let world = World::new(None);
    world.ok(&["workspace", "new", "first"]);
    world.bash("echo more >> a; git commit -qam more");
    world.ok(&["workspace", "new", "second"]);
    // The parts of another start, with what a crash can make of them.
    let moved = bash(
        &world.path("state"),
        "part=$(find . -name 'git.*-*' -path '*/layers/*' -type d); test -n \"$part\" && mv $part $(dirname $part)/git.00000000-0000-0000-0000-000000000000 \
         && : > $(dirname $part)/git.00000000-0000-0000-0000-000000000000/.git/index",
    );
    assert!(moved.status.success());
    assert_eq!(world.inside("second", "git status --porcelain; git fsck --no-progress --no-dangling; cat a"), "a\nmore\n");
    let parts = bash(&world.path("state"), "find . -name 'git.*-*' -path '*/layers/*' -type d").stdout;
    let parts = String::from_utf8_lossy(&parts).into_owned();
    assert!(parts.lines().count() == 1 && !parts.contains("git.00000000"), "{parts}");
}

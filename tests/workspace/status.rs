//! What an agent's own `git status` costs and says: it lists no folder that nobody changed, and misses nothing.

use super::commands::World;
use super::support::bash;

/// Folders whose names sort differently with a slash at their end, and ignore lists in some of them.
const BASE: &str = "mkdir -p p/deep/er p-b p.c none/at/all; for d in p p/deep p/deep/er p-b p.c none/at/all; do echo $d > $d/file; done; \
    echo '*.log' > p/.gitignore; echo 'x*' > none/at/.gitignore; : > p-b/.gitignore; git add -A; git commit -q -m folders";

/// Lists how many folders git opened, then what it says with what it remembered and without.
const COUNT: &str = "GIT_TRACE2_PERF=/tmp/trace git status --porcelain; grep -o 'opendir:.*' /tmp/trace";
const CHANGES: &str = "touch p/deep/x.log p/deep/x.o p/deep/seen none/at/all/xx none/at/all/yy new; mkdir -p p-b/new; touch p-b/new/f; \
    rm -r p.c; sleep 1.1; git status --porcelain > /tmp/1; echo '!x.log' >> p/deep/.gitignore; echo 'yy' >> none/at/.gitignore; \
    git status --porcelain > /tmp/2; git -c core.untrackedCache=false status --porcelain > /tmp/3; cmp /tmp/2 /tmp/3 && cat /tmp/1";

fn check(world: &World, story: &str) {
    world.ok(&["workspace", "new", story]);
    let first = world.inside(story, COUNT);
    assert_eq!(first, "opendir:0\n", "{story}");
    let said = world.inside(story, CHANGES);
    for expected in ["?? p/deep/seen\n", "?? none/at/all/yy\n", "?? new\n", "?? p-b/new/\n", " D p.c/file\n"] {
        assert!(said.contains(expected), "{story}: no {expected:?} in {said}");
    }
    assert!(!said.contains("x.log") && !said.contains("x.o") && !said.contains("xx"), "{story}: {said}");
}

#[test]
fn the_first_status_lists_no_folder_and_misses_nothing() {
    let world = World::new(None);
    assert!(bash(&world.main(), BASE).status.success());
    check(&world, "whole");
    // A small layer over it, and one with a folder gone and a new one.
    bash(&world.main(), "echo more >> p/deep/file; echo 'y*' >> none/at/.gitignore; git commit -qam more");
    world.ok(&["workspace", "new", "empty"]);
    bash(&world.main(), "git mv p/deep/er p/moved; echo 'x*' > none/at/.gitignore; git add -A; git commit -qam moved");
    check(&world, "stacked");
}

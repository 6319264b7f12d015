//! Workspaces against real git, real overlays and real attacks.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail, and a skipped one must say so")]

mod attacks;
mod caches;
mod collect;
mod commands;
mod controls;
mod crash;
mod encoding;
mod faults;
mod index;
mod inplace;
mod layers;
#[path = "../common/program.rs"]
mod program;
mod status;
mod support;

#[test]
fn what_holds_for_root_holds_for_an_ordinary_user() {
    again(&["attacks::", "caches::", "layers::", "encoding::"], 21);
}

#[test]
fn an_ordinary_user_collects_the_tree_that_git_writes() {
    again(&["collect::"], 1);
}

fn again(filters: &[&str], least: usize) {
    if !support::is_root() {
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED once more as an ordinary user: the tests do not run as root\n"));
        return;
    }
    let passed = support::again_as_ordinary(filters);
    assert!(passed >= least, "only {passed} ran");
}

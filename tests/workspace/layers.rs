//! A layer over layers shows exactly what a fresh checkout holds.

use std::path::Path;

use cofferdam::workspace::base::Layers;
use cofferdam::workspace::git::Repository;
use cofferdam::workspace::state::State;

use super::collect::step;
use super::support::{Overlay, Random, bash, git, scratch};

/// Every name with its kind, mode, and content or target.
const LISTING: &str = "find . -mindepth 1 -not -path './.git*' -printf '%P %y %m %l\\n' | LC_ALL=C sort; \
    find . -type f -not -path './.git*' -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum";

fn listing(output: &std::process::Output) -> String {
    // Overlay and plain folders differ in nothing that is listed.
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_stack_of_layers_is_a_fresh_checkout() {
    let scratch = scratch();
    let main = scratch.path().join("main");
    fs_err::create_dir(&main).unwrap();
    git(&main, &["init", "-q", "-b", "main"]);
    let mut random = Random::new(77);
    let mut deepest = 0;
    for round in 0..14 {
        let steps: Vec<_> = (0..if round == 0 { 60 } else { 6 }).map(|_| step(&mut random)).collect();
        // New attributes may change every file: such a commit gets a whole layer, which the last rounds are for.
        let script = if round < 11 { steps.into_iter().filter(|s| !s.contains(".gitattributes")).collect::<Vec<_>>() } else { steps };
        bash(&main, &script.join("\n"));
        bash(&main, "git add -A -f");
        git(&main, &["commit", "-q", "--allow-empty", "-m", "round"]);
        let repository = Repository::discover(&main).unwrap();
        let state = State::at(&scratch.path().join("state"), &repository).unwrap();
        let stack = Layers::new(&state, &repository).ensure(repository.commit("HEAD").unwrap()).unwrap();
        deepest = deepest.max(stack.top().unwrap().depth);

        let fresh = scratch.path().join("fresh");
        git(scratch.path(), &["clone", "-q", "main", "fresh"]);
        let expected = listing(&bash(&fresh, LISTING));
        let lower: Vec<_> = stack.trees().iter().map(|p| p.to_str().unwrap().to_owned()).collect();
        let overlay = Overlay::new(Path::new(&lower.join(":")), &scratch.path().join("mount"));
        let shown = listing(&overlay.run(LISTING));
        pretty(round, &expected, &shown);
        bash(scratch.path(), "rm -rf fresh mount");
    }
    assert!(deepest >= 3, "the layers were never stacked: {deepest}");
}

fn pretty(round: usize, expected: &str, shown: &str) {
    let missing: Vec<_> = expected.lines().filter(|line| !shown.lines().any(|l| l == *line)).collect();
    let extra: Vec<_> = shown.lines().filter(|line| !expected.lines().any(|l| l == *line)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "round {round}\nmissing {missing:#?}\nextra {extra:#?}");
}

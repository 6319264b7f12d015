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

#[test]
fn a_stack_that_grows_becomes_one_layer_beside_the_work() {
    let scratch = scratch();
    let main = scratch.path().join("main");
    fs_err::create_dir(&main).unwrap();
    git(&main, &["init", "-q", "-b", "main"]);
    let repository = Repository::discover(&main).unwrap();
    let mut state = State::at(&scratch.path().join("state"), &repository).unwrap();
    let flat = |state: &State| {
        let names = fs_err::read_dir(state.layers()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with("-flat") && !name.starts_with('.')).count()
    };
    let depth = |state: &State, n: usize| {
        bash(&main, &format!("mkdir -p d; echo {n} > d/f{n}; rm -f d/f{}; git add -A; git commit -q -m {n}", n.wrapping_sub(2)));
        let stack = Layers::new(state, &repository).ensure(repository.commit("HEAD").unwrap()).unwrap();
        stack.top().unwrap().depth
    };
    // Without being asked nothing happens beside.
    assert_eq!((0..6).map(|n| depth(&state, n)).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(flat(&state), 0);
    bash(scratch.path(), "rm -rf state/*/layers/*");
    state.compact_in_background();
    assert_eq!((6..11).map(|n| depth(&state, n)).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while flat(&state) == 0 {
        assert!(std::time::Instant::now() < end, "nobody made the stack into one layer");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // The next one lies on the one layer, and shows the same.
    assert_eq!(depth(&state, 11), 1);
    let stack = Layers::new(&state, &repository).ensure(repository.commit("HEAD").unwrap()).unwrap();
    let lower: Vec<_> = stack.trees().iter().map(|p| p.to_str().unwrap().to_owned()).collect();
    let overlay = Overlay::new(Path::new(&lower.join(":")), &scratch.path().join("mount"));
    pretty(11, &listing(&bash(&main, LISTING)), &listing(&overlay.run(LISTING)));
}

fn pretty(round: usize, expected: &str, shown: &str) {
    let missing: Vec<_> = expected.lines().filter(|line| !shown.lines().any(|l| l == *line)).collect();
    let extra: Vec<_> = shown.lines().filter(|line| !expected.lines().any(|l| l == *line)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "round {round}\nmissing {missing:#?}\nextra {extra:#?}");
}

/// Makes a layer look as if nobody had used it for long.
fn age(state: &State) {
    for entry in fs_err::read_dir(state.layers()).unwrap() {
        let record = fs_err::File::open(entry.unwrap().path().join("layer.json")).unwrap();
        record.file().set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(100_000)).unwrap();
    }
}

#[test]
fn layers_that_nobody_uses_go_by_themselves_and_others_stay() {
    let scratch = scratch();
    let main = scratch.path().join("main");
    fs_err::create_dir(&main).unwrap();
    let commit = |n: usize| bash(&main, &format!("echo {n} > f{n}; echo '*.{n} text' > .gitattributes; git add -A; git commit -q -m {n}"));
    git(&main, &["init", "-q", "-b", "main"]);
    let repository = Repository::discover(&main).unwrap();
    let mut state = State::at(&scratch.path().join("state"), &repository).unwrap();
    // New attributes: every commit gets a whole layer, so that none needs another.
    let ensure = |state: &State, n| {
        commit(n);
        Layers::new(state, &repository).ensure(repository.commit("HEAD").unwrap()).unwrap()
    };
    let count = |state: &State| fs_err::read_dir(state.layers()).unwrap().count();
    let held = ensure(&state, 1);
    drop(ensure(&state, 2));
    drop(ensure(&state, 3));
    fs_err::create_dir(state.stories().join("S")).unwrap();
    let layer = repository.commit("HEAD").unwrap().to_string();
    fs_err::write(state.stories().join("S/story.json"), format!("{{\"layer\": \"{layer}\"}}")).unwrap();
    drop(ensure(&state, 4));
    age(&state);
    // The bound is far away: everything stays.
    drop(ensure(&state, 5));
    assert_eq!(count(&state), 5);
    age(&state);
    state.keep_layers(1);
    drop(ensure(&state, 6));
    // Left: the one that is held, the story's, and the new one.
    assert_eq!(count(&state), 3);
    assert!(held.layers.iter().all(|(path, _)| path.join("tree").is_dir()));
    assert!(state.layers().join(layer).is_dir());
    // A record that cannot be read may name any layer.
    drop(held);
    age(&state);
    fs_err::write(state.stories().join("S/story.json"), "garbage").unwrap();
    drop(ensure(&state, 7));
    assert_eq!(count(&state), 4);
}

//! SIGKILL at random moments of everything that makes, fills, collects and removes workspaces: no acknowledged commit is ever lost, and
//! cleaning brings the state folder back to nothing.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::commands::{Form, World};
use super::support::{ORDINARY, Random, bash, is_root};

#[test]
fn a_kill_at_any_moment_loses_no_commit_and_leaves_nothing() {
    kill(&World::new(None), 200);
}

#[test]
fn a_kill_at_any_moment_as_an_ordinary_user() {
    if is_root() {
        kill(&World::new(Some(ORDINARY)), 40);
    } else {
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED kills as an ordinary user: the tests do not run as root\n"));
    }
}

#[test]
fn a_kill_at_any_moment_of_a_checkout() {
    kill(&World::with(None, Form::Checkout), 60);
}

#[test]
fn a_kill_at_any_moment_of_a_workspace_in_memory() {
    kill(&World::with(None, Form::Memory), 60);
}

fn kill(world: &World, kills: usize) {
    let mut random = Random::new(4242);
    // What was acknowledged: each ref that a finished command has named, with its commit.
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let (mut killed, mut finished) = (0, 0);
    let mut round = 0;
    while killed < kills || known.is_empty() {
        round += 1;
        assert!(round < 5000, "only {killed} of {round} commands were killed before they ended");
        let story = ["one", "two", "three"][random.below(3)];
        let write = format!(
            "echo {round} > f{}; mkdir -p d; echo {round} > d/x; rm -f f{}; git add -A; git commit -q -m {round}",
            random.below(4),
            random.below(4)
        );
        let args: Vec<&str> = match random.below(7) {
            0 | 1 => vec!["workspace", "new", story],
            2 | 3 => vec!["workspace", "exec", story, "--", "sh", "-c", &write],
            4 | 5 => vec!["workspace", "collect", story, "--json"],
            _ => vec!["workspace", "remove", story],
        };
        // The user's own git packs the refs now and then: deleting one then writes all of them anew.
        if round % 7 == 0 {
            world.bash("git pack-refs --all");
        }
        // A base that no layer is there for yet, now and then.
        if round % 10 == 0 {
            world.git(&["commit", "-q", "--allow-empty", "-m", "next"]);
        }
        let mut child = world.command(&args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // On a busy machine everything takes longer, and what never ends proves nothing.
        let patience = if finished * 4 < killed || known.is_empty() { 4 } else { 1 };
        let delay = Duration::from_micros(patience * random.below(if args[1] == "exec" { 240_000 } else { 90_000 }) as u64);
        let end = Instant::now() + delay;
        while Instant::now() < end && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            killed += 1;
        }
        let output = child.wait_with_output().unwrap();
        if output.status.success() {
            finished += 1;
            if let Ok(document) = serde_json::from_slice::<serde_json::Value>(&output.stdout)
                && let (Some(reference), Some(commit)) = (document["ref"].as_str(), document["commit"].as_str())
            {
                known.insert(reference.to_owned(), commit.to_owned());
            }
        }
        if round % 20 == 0 {
            let refs = world.git(&["for-each-ref", "--format=%(refname) %(objectname)", "refs/cofferdam/stories"]);
            for (reference, commit) in &known {
                assert!(refs.contains(&format!("{reference} {commit}")), "{reference} is lost after {killed} kills");
            }
        }
    }
    assert!(finished > kills / 10 && !known.is_empty(), "{finished} finished, {} collected", known.len());
    let problems = world.bash("git fsck --connectivity-only 2>&1 | grep -v dangling; git worktree list >/dev/null || echo list");
    assert_eq!(String::from_utf8_lossy(&problems.stdout), "");
    let mounts = fs_err::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(world.scratch.path().to_str().unwrap()), "something is mounted");
    // Whatever state each story is in, it can be used, or made, and removed.
    for story in ["one", "two", "three"] {
        drop(world.run(&["workspace", "new", story]));
        world.ok(&["workspace", "exec", story, "--", "sh", "-c", "echo after > after; rm -f .git/index.lock; git status"]);
        assert_eq!(world.git(&["show", &format!("{}:after", collect(world, story))]), "after");
        world.ok(&["workspace", "remove", story]);
    }
    world.ok(&["clean", "--keep", "1"]);
    // Nothing keeps the user's own git from its work.
    assert!(!world.main().join(".git/packed-refs.lock").exists() && !world.main().join(".git/cofferdam-packing").exists());
    world.git(&["pack-refs", "--all"]);
    let left = bash(&world.path("state"), "find . -mindepth 4").stdout;
    assert_eq!(String::from_utf8_lossy(&left), "");
    let bases = world.git(&["for-each-ref", "--format=%(refname)", "refs/cofferdam/stories/*/base"]);
    assert_eq!(bases, "");
    for (reference, commit) in &known {
        assert_eq!(&world.git(&["rev-parse", reference]), commit);
    }
}

fn collect(world: &World, story: &str) -> String {
    let document: serde_json::Value = serde_json::from_str(&world.ok(&["workspace", "collect", story, "--json"])).unwrap();
    document["commit"].as_str().unwrap().to_owned()
}

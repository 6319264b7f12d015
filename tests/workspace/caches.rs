//! Warm caches: what an untrusted run leaves in one is gone, what a landed run leaves is whole, and a crash changes neither.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use cofferdam::base::size::Size;
use cofferdam::sandbox::plan::Facts;
use cofferdam::sandbox::policy::{Access, Policy, Upper, Workspace, WorkspaceSource};
use cofferdam::sandbox::profile::load::load;
use cofferdam::sandbox::resolve::{ExecOptions, resolve};
use cofferdam::sandbox::toolchains::{Host, Surroundings};
use cofferdam::sandbox::{Cause, Engine, Outcome};
use cofferdam::workspace::cache::{Bounds, Caches, Promotion, Run};
use cofferdam::workspace::git::Repository;
use cofferdam::workspace::state::State;

use super::support::{bash, program, scratch};

/// A tree that gates run on, the caches of its repository, and what starts sandboxes.
struct Scene {
    scratch: tempfile::TempDir,
    engine: Engine,
    caches: Caches,
}

const INSIDE: &str = "/workspace/project";

impl Scene {
    fn new(bounds: Bounds) -> Self {
        let scratch = scratch();
        let made = bash(scratch.path(), "mkdir home tree; echo source > tree/main; git init -q tree-repository");
        assert!(made.status.success());
        let copy = scratch.path().join("cofferdam");
        crate::program::install(program(), &copy);
        let engine = Engine::with_helper(Facts::read(), &copy).unwrap();
        let caches = caches(scratch.path(), bounds);
        Self { scratch, engine, caches }
    }

    /// A gate: a fresh view of the tree, and warm caches in it.
    fn policy(&self, mounts: &[(&Run, &str)]) -> Policy {
        let home = self.scratch.path().join("home");
        let variables = [("HOME", home), ("PATH", "/usr/bin:/bin".into())].map(|(name, value)| (name.to_owned(), value.into_os_string()));
        let around = Surroundings::of(variables.into());
        let tree = self.scratch.path().join("tree");
        let options = ExecOptions { cwd: tree.clone(), ..ExecOptions::default() };
        let mut policy = resolve(&Host::default(), &load("gate", None).unwrap(), &options, &around).unwrap().policy;
        policy.workspace = Workspace {
            source: WorkspaceSource::Overlay { lower: vec![tree], upper: Upper::Private },
            inside: INSIDE.into(),
            access: Access::Write,
        };
        policy.caches = mounts.iter().map(|(run, at)| run.mount(Path::new(INSIDE).join(at))).collect();
        policy
    }

    fn run(&self, policy: &Policy, script: &str) -> (Outcome, String) {
        let finished = self.engine.sandbox(policy).command("sh").args(["-c", script]).output(1 << 20).unwrap();
        let said = String::from_utf8_lossy(&[finished.stdout, finished.stderr].concat()).into_owned();
        (finished.outcome, said)
    }

    /// Runs a script with one cache at `target`, and returns the run for whoever decides on it.
    #[track_caller]
    fn gate(&self, script: &str) -> (Run, String) {
        let run = self.caches.open("target").unwrap();
        let (outcome, said) = self.run(&self.policy(&[(&run, "target")]), script);
        assert_eq!((outcome.cause, outcome.exit_code, outcome.processes_left), (Cause::Exited, 0, 0), "{said}");
        (run, said)
    }

    /// What the next run finds.
    fn seen(&self) -> String {
        let script =
            "cd target; find . -mindepth 1 \\( -type f -printf '%P %m: ' -exec cat {} \\; \\) -o -printf '%P %y %l\\n' | LC_ALL=C sort";
        self.gate(script).1
    }

    fn folder(&self) -> PathBuf {
        let state = fs_err::read_dir(self.scratch.path().join("state")).unwrap().next().unwrap().unwrap().path();
        state.join("caches/target")
    }

    fn count(&self, what: &str) -> usize {
        fs_err::read_dir(self.folder().join(what)).unwrap().count()
    }
}

fn caches(scratch: &Path, bounds: Bounds) -> Caches {
    let repository = Repository::discover(&scratch.join("tree-repository")).unwrap();
    let state = State::at(&scratch.join("state"), &repository).unwrap();
    Caches::of(&state, bounds).unwrap()
}

#[test]
fn an_untrusted_run_poisons_nothing_and_a_landed_one_warms() {
    let scene = Scene::new(Bounds::default());
    let (run, said) =
        scene.gate("test -z \"$(ls target)\" && mkdir target/deps && echo good > target/tool && echo d > target/deps/d && echo cold");
    assert!(!run.is_warm() && said.trim() == "cold", "{said}");
    assert_eq!(run.promote("landed-1").unwrap(), Promotion::Promoted);
    let good = scene.seen();
    assert_eq!(good, "deps d \ndeps/d 644: d\ntool 644: good\n");

    // An implementer's run: it changes, adds, removes, locks, and leaves.
    let attack = "cd target; echo evil > tool; echo evil > planted; rm -rf deps; mkdir deps; echo evil > deps/d; mkfifo pipe; ln -s /etc/passwd link; \
        mkdir locked; echo x > locked/x; chmod 0 locked; cat tool deps/d";
    let (run, said) = scene.gate(attack);
    assert!(run.is_warm() && said == "evil\nevil\n", "the attack itself does not work here: {said}");
    drop(run);
    assert_eq!(scene.seen(), good);
    assert_eq!((scene.count("runs"), scene.count("states")), (0, 1));
    // The control: the same run, had somebody vouched for it, would be what the next one finds.
    let (run, _) = scene.gate(attack);
    assert_eq!(run.promote("landed-2").unwrap(), Promotion::Promoted);
    assert!(scene.seen().contains("planted 644: evil"), "{}", scene.seen());
    // The tree itself keeps no trace of the place where the cache was.
    assert_eq!(fs_err::read_dir(scene.scratch.path().join("tree")).unwrap().count(), 1);
}

#[test]
fn a_run_reaches_no_state_but_through_its_own_layer() {
    let scene = Scene::new(Bounds::default());
    let (run, _) = scene.gate("echo good > target/tool");
    run.promote("1").unwrap();
    let state = scene.folder();
    let (_, said) = scene.gate(&format!(
        "ls {0} 2>&1; echo evil > {0}/states/x 2>&1; echo evil > target/../../../..{0}/x 2>&1; \
         setfattr -n user.overlay.redirect -v /x target 2>&1; python3 -c 'import os; os.setxattr(\"target\", \"user.overlay.opaque\", b\"y\")' 2>&1 | tail -1; \
         mount --bind target target 2>&1; true",
        state.display()
    ));
    assert!(said.contains("No such file"), "{said}");
    assert_eq!(scene.seen(), "tool 644: good\n");
    // A tree that is a stranger's may have something else where the cache belongs: the run does not start, and nothing is followed.
    for trick in ["ln -sfn /tmp tree/target", "rm tree/target; echo x > tree/target"] {
        assert!(bash(scene.scratch.path(), trick).status.success());
        let run = scene.caches.open("target").unwrap();
        let error = scene.engine.sandbox(&scene.policy(&[(&run, "target")])).command("true").output(1).expect_err("it ran");
        assert!(error.to_string().contains("a place for /workspace/project/target"), "{error}");
    }
}

#[test]
fn two_gates_at_once_see_only_their_own_and_the_last_that_landed_stays_whole() {
    let scene = Scene::new(Bounds::default());
    let (run, _) = scene.gate("echo base > target/common; echo base > target/old");
    run.promote("1").unwrap();
    let runs = [scene.caches.open("target").unwrap(), scene.caches.open("target").unwrap()];
    std::thread::scope(|scope| {
        for (n, run) in runs.iter().enumerate() {
            let scene = &scene;
            scope.spawn(move || {
                // Both write the same names again and again while the other does.
                let script = format!(
                    "cd target; for i in $(seq 300); do echo {n} > common; echo {n} > only-{n}; test \"$(cat common)\" = {n} || exit 7; done; \
                     test ! -e only-{} && test \"$(cat old)\" = base; rm -f old",
                    1 - n
                );
                let (outcome, said) = scene.run(&scene.policy(&[(run, "target")]), &script);
                assert_eq!(outcome.exit_code, 0, "{said}");
            });
        }
    });
    let [first, second] = runs;
    assert_eq!(second.promote("3").unwrap(), Promotion::Promoted);
    assert_eq!(first.promote("2").unwrap(), Promotion::Promoted);
    // The view of the one that came last, as a whole: nothing of the other's.
    assert_eq!(scene.seen(), "common 644: 0\nonly-0 644: 0\n");
}

/// A source that another story changed while the run built is newer than what it built; make would otherwise test the old one.
#[test]
fn what_was_built_is_no_newer_than_the_beginning_of_its_run() {
    let scene = Scene::new(Bounds::default());
    let (run, _) = scene.gate(
        "mkdir target/deep; echo old > target/deep/built; ln -s built target/deep/link; touch -d '2001-01-01 UTC' target/old; sleep 2",
    );
    let meanwhile = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - 2;
    run.promote("1").unwrap();
    let (_, said) = scene.gate("stat -c %Y target/deep/built target/deep/link target/old");
    let times: Vec<u64> = said.lines().map(|line| line.parse().expect("seconds")).collect();
    assert!(times[0] < meanwhile && times[1] < meanwhile, "{times:?}, and a source of {meanwhile}");
    assert_eq!(times[2], 978_307_200, "what was old stays as it was");
}

#[test]
fn a_run_that_was_set_aside_is_promoted_or_forgotten_later() {
    let scene = Scene::new(Bounds::default());
    let (run, _) = scene.gate("echo one > target/x");
    let waiting = run.set_aside("candidate-1").unwrap();
    let (run, _) = scene.gate("echo two > target/x");
    let loser = run.set_aside("candidate-2").unwrap();
    assert_eq!(scene.seen(), "");
    // Another process, after a crash of the first.
    let later = caches(scene.scratch.path(), Bounds::default());
    let mut labels: Vec<_> = later.aside().unwrap().into_iter().map(|aside| (aside.label, aside.id)).collect();
    labels.sort();
    assert_eq!(labels, [("candidate-1".to_owned(), waiting.clone()), ("candidate-2".to_owned(), loser.clone())]);
    later.forget("target", &loser).unwrap();
    assert_eq!(later.promote("target", &loser, "2").unwrap(), Promotion::Gone);
    assert_eq!(later.promote("target", &waiting, "1").unwrap(), Promotion::Promoted);
    assert_eq!(later.promote("target", &waiting, "1").unwrap(), Promotion::Gone);
    assert_eq!(later.promote("never-heard-of", "x", "1").unwrap(), Promotion::Gone);
    assert_eq!(scene.seen(), "x 644: one\n");
}

#[test]
fn what_waits_is_promoted_by_the_name_it_is_listed_with() {
    let scene = Scene::new(Bounds::default());
    let caches = &scene.caches;
    // Names that no folder may have, and one that is long.
    for name in ["a cache/with ü", "50%", &"long".repeat(40)] {
        let run = caches.open(name).unwrap();
        let Upper::Folders { upper, .. } = run.mount("/x".into()).upper else { panic!("no folder to write to") };
        fs_err::write(upper.join("f"), "warm").unwrap();
        run.set_aside("candidate").unwrap();
        let [waiting] = &caches.aside().unwrap()[..] else { panic!("not one waits") };
        assert_eq!(waiting.cache, name);
        assert_eq!(caches.promote(&waiting.cache, &waiting.id, "landed").unwrap(), Promotion::Promoted, "{name}");
        assert!(caches.open(name).unwrap().is_warm(), "{name}");
    }
}

#[test]
fn many_promotions_are_what_one_folder_would_be() {
    let scene = Scene::new(Bounds::default());
    let plain = scene.scratch.path().join("plain/target");
    fs_err::create_dir_all(&plain).unwrap();
    let steps = [
        "mkdir -p a/b c; echo 1 > a/b/f; echo 1 > c/g; echo 1 > top; ln -s a link",
        "echo 2 > a/b/f; rm -r c; echo file > c; chmod 755 top",
        "rm c; mkdir c; echo 3 > c/new; ln top hard",
        "rm -r a; mkdir a; echo 4 > a/only; rm link; mkdir link",
        "mv a/only a/moved; : > empty; rm top",
        "mkdir -m 500 locked; echo 6 > c/g",
        "rm -rf c; echo 7 > hard",
        "mkdir -p c/d/e; echo 8 > c/d/e/f",
        "rm -r link; ln -s c link; chmod 600 empty",
        ":",
    ];
    for (n, step) in steps.iter().enumerate() {
        let (run, _) = scene.gate(&format!("set -e; cd target; {step}"));
        let promotion = run.promote(&n.to_string()).unwrap();
        assert_eq!(promotion, if *step == ":" { Promotion::Unchanged } else { Promotion::Promoted }, "{step}");
        assert!(bash(&plain, step).status.success());
        let list = "find . -mindepth 1 -printf '%P %y %m %l\\n' | LC_ALL=C sort; find . -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum";
        let (_, seen) = scene.gate(&format!("cd target; {list}"));
        assert_eq!(seen, String::from_utf8_lossy(&bash(&plain, list).stdout), "after {step}");
        assert!(scene.count("states") <= 6, "states pile up");
    }
}

#[test]
fn a_cache_beyond_its_bounds_starts_anew_and_the_least_used_goes_first() {
    let scene = Scene::new(Bounds { bytes: Size::mib(4), files: 60 });
    let (run, _) = scene.gate("head -c 3M /dev/zero > target/big; echo x > target/x");
    assert_eq!(run.promote("1").unwrap(), Promotion::Promoted);
    // The same file anew: two layers of three are one of three.
    let (run, _) = scene.gate("head -c 3M /dev/zero > target/big; echo again >> target/big");
    assert_eq!(run.promote("2").unwrap(), Promotion::Promoted);
    assert_eq!(scene.gate("tail -c 6 target/big; ls target").1, "again\nbig\nx\n");
    let (run, _) = scene.gate("head -c 3M /dev/zero > target/more");
    assert!(matches!(run.promote("3").unwrap(), Promotion::StartedAnew { .. }));
    assert_eq!((scene.seen().as_str(), scene.count("states")), ("", 0));
    let (run, _) = scene.gate("for i in $(seq 100); do echo > target/$i; done");
    assert!(matches!(run.promote("4").unwrap(), Promotion::StartedAnew { .. }));
    assert_eq!(scene.seen(), "");

    for name in ["target", "second"] {
        let run = scene.caches.open(name).unwrap();
        scene.run(&scene.policy(&[(&run, "target")]), "head -c 1M /dev/zero > target/x");
        run.promote("5").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert_eq!(scene.caches.shrink(1 << 20, true).unwrap().len(), 1, "only said");
    let dropped = scene.caches.shrink(1 << 20, false).unwrap();
    assert_eq!(dropped.iter().map(|d| d.cache.as_str()).collect::<Vec<_>>(), ["target"]);
    assert_eq!(scene.seen(), "");
    assert!(scene.caches.shrink(1 << 20, false).unwrap().is_empty());
}

#[test]
fn what_a_run_writes_to_a_cache_counts_against_its_disk_limit() {
    let scene = Scene::new(Bounds::default());
    let run = scene.caches.open("target").unwrap();
    let mut policy = scene.policy(&[(&run, "target")]);
    policy.limits.disk = Some(Size::mib(20));
    policy.limits.file_size = Some(Size::mib(200));
    let script = "i=0; while [ $i -lt 60 ]; do head -c 1M /dev/urandom > target/$i; sync target/$i; i=$((i+1)); done; sleep 5";
    let (outcome, said) = scene.run(&policy, script);
    assert_eq!(outcome.cause, Cause::Disk, "{said}");
}

#[test]
fn a_kill_in_the_middle_of_a_promotion_leaves_the_old_state_or_the_new_one() {
    let scene = Scene::new(Bounds::default());
    let mut promoted = 0;
    for round in 0..25_u64 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "caches::promoting_child", "--nocapture"])
            .env("COFFERDAM_TEST_PROMOTING", scene.scratch.path())
            .env("COFFERDAM_TEST_PROMOTING_FROM", promoted.to_string())
            .stderr(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let numbers = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("PROMOTED ").and_then(|n| n.parse::<u64>().ok()));
        let acknowledged = numbers.take(1 + usize::try_from(round % 9).unwrap()).last().unwrap();
        std::thread::sleep(std::time::Duration::from_micros(round * 517 % 9000));
        child.kill().unwrap();
        child.wait().unwrap();
        let (run, seen) = scene.gate("cd target; cat number; for f in $(seq 40); do cat f$f; done | sort | uniq -c");
        drop(run);
        // All forty files are of one promotion, none older than the last that was acknowledged.
        let (number, files) = seen.split_once('\n').unwrap();
        assert_eq!(files.trim().split_ascii_whitespace().collect::<Vec<_>>(), ["40", number], "half a state: {seen}");
        promoted = number.parse().unwrap();
        assert!(promoted >= acknowledged, "{promoted} is older than {acknowledged}");
        assert_eq!(scene.count("runs"), 0, "what the kill left is not swept");
        assert!(scene.count("states") <= 6);
    }
    assert!(promoted > 60);
}

#[test]
fn promoting_child() {
    let Some(dir) = std::env::var_os("COFFERDAM_TEST_PROMOTING") else { return };
    let from: u64 = std::env::var("COFFERDAM_TEST_PROMOTING_FROM").unwrap().parse().unwrap();
    let caches = caches(Path::new(&dir), Bounds::default());
    for number in from + 1.. {
        let run = caches.open("target").unwrap();
        let Upper::Folders { upper, .. } = run.mount("/x".into()).upper else { panic!("no folder") };
        fs_err::write(upper.join("number"), format!("{number}\n")).unwrap();
        for file in 1..=40 {
            fs_err::write(upper.join(format!("f{file}")), format!("{number}\n")).unwrap();
        }
        assert_eq!(run.promote(&number.to_string()).unwrap(), Promotion::Promoted);
        println!("PROMOTED {number}");
    }
}

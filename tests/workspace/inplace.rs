//! `exec` in place on a repository: the real git directory never changes, commits arrive as data, and what could run later is named.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::commands::{World, everybody};
use super::support::bash;

/// Every file below a folder with its content, but for what a commit that was taken adds.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs_err::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_owned();
            if name.starts_with("objects") || name.starts_with("refs/cofferdam") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                files.insert(name, fs_err::read(&path).unwrap());
            }
        }
    }
    files
}

fn run(world: &World, options: &[&str], script: &str) -> (Option<i32>, String, String) {
    let mut args = vec!["exec"];
    args.extend(options);
    args.extend(["--", "sh", "-c", script]);
    let output = world.run(&args);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn writes_to_the_git_directory_change_nothing_and_commits_arrive_as_data() {
    everybody(|world| {
        let before = snapshot(&world.main().join(".git"));
        let script = "set -e; test -z \"$(git status --porcelain)\"; git config core.hooksPath /evil; echo evil > .git/hooks/pre-commit; mkdir -p .git/worktrees/x .git/modules/y; echo '* filter=x' > .git/info/attributes; \
        echo work > work; git add work; git commit -q -m 'one'; git checkout -q -b topic; echo more >> work; git commit -q -a -m \"$(printf 'two \\033[2J')\"; git gc -q; git branch -f main HEAD~1; git log --oneline | wc -l";
        let (code, out, told) = run(world, &[], script);
        assert_eq!((code, out.trim()), (Some(0), "3"), "{told}");
        assert_eq!(snapshot(&world.main().join(".git")), before);
        assert!(told.contains("refs/cofferdam/exec/1"), "{told}");
        assert_eq!(world.git(&["log", "--format=%s", "refs/cofferdam/exec/1"]).lines().count(), 3);
        assert_eq!(world.git(&["show", "refs/cofferdam/exec/1:work"]), "work\nmore");
        assert!(told.contains("refs/cofferdam/exec/1: two \\u{1b}[2J"), "{told}");
        assert!(world.git(&["fsck", "--strict"]).is_empty());
        // Outside, the files are there and the branch is where it was.
        assert_eq!(world.git(&["status", "--porcelain"]), "?? work");
        // The control: a run that commits nothing makes no ref, and the next one counts on.
        run(world, &[], "git status");
        run(world, &[], "git add -A; git commit -q -m three");
        assert_eq!(world.git(&["for-each-ref", "--format=%(refname)", "refs/cofferdam/exec"]).lines().count(), 3);
        assert!(
            !world.path("state").join("cofferdam").read_dir().unwrap().any(|e| e
                .unwrap()
                .path()
                .join("exec")
                .read_dir()
                .unwrap()
                .next()
                .is_some())
        );
    });
}

#[test]
fn what_could_run_on_the_host_later_is_named() {
    everybody(|world| {
        world.bash("mkdir .vscode; echo {} > .vscode/tasks.json; echo 'all:' > Makefile; git init -q kept; git add Makefile .vscode");
        std::thread::sleep(std::time::Duration::from_millis(20));
        let script = "git init -q nested; echo 'export X=1' > .envrc; mkdir -p .github/workflows deep/er; echo 'on: push' > .github/workflows/ci.yml; echo '{}' > package.json; touch -d '1 year ago' package.json; \
        git init -q --bare deep/er/bare; echo evil > kept/.git/hooks/post-checkout; true";
        let (code, _, told) = run(world, &[], script);
        assert_eq!(code, Some(0), "{told}");
        for path in ["nested/.git", ".envrc", ".github/workflows/ci.yml", "package.json", "deep/er/bare", "kept/.git"] {
            assert!(told.contains(&format!("  {path}: ")), "{path}: {told}");
        }
        // What was there and did not change is not named.
        assert!(!told.contains("Makefile") && !told.contains("tasks.json"), "{told}");
    });
}

/// What an agent changes in a repository that runs in other hands: `$C` is what it touches then.
const LATER: &str = "set -e; printf 'all:\\n\\ttouch %s\\n' $C.make > Makefile; printf '{\"scripts\": {\"test\": \"touch %s\"}}' $C.npm > package.json; \
    echo touch $C.direnv > .envrc; printf '{\"tasks\": [{\"command\": \"touch %s\"}]}' $C.code > .vscode/tasks.json; \
    printf 'jobs: {x: {steps: [{run: touch %s}]}}' $C.ci > .github/workflows/ci.yml; git init -q nested; git -C nested config core.fsmonitor \"touch $C.nested; false\"";

/// And what runs it, of what is on every machine.
const HANDS: &str = "make; git -C nested status";

#[test]
fn what_runs_later_without_a_word_outside_is_named_by_us() {
    if std::process::Command::new("make").arg("--version").output().is_err() {
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED what runs later on the host: make is not installed\n"));
        return;
    }
    everybody(|world| {
        world.bash(
            "mkdir -p .vscode .github/workflows; echo 'all:' > Makefile; echo {} > package.json; echo : > .envrc; echo {} > .vscode/tasks.json; echo 'jobs: {}' > .github/workflows/ci.yml; \
             git add -A; git commit -q -m files; cp -a . ../copy",
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
        let named = ["Makefile", "package.json", ".envrc", ".vscode/tasks.json", ".github/workflows/ci.yml", "nested/.git"];
        let canary = |place: &str, what: &str| world.path("home").join(format!("{place}.{what}"));
        let script = |place: &str| format!("C={}; {LATER}", world.path("home").join(place).display());
        let ran = |place: &str| ["make", "nested"].map(|what| canary(place, what).exists());

        // The control: outside the same command changes the same files, nobody says anything, and what it left runs in the next hands.
        let outside = world.bash(&format!("cd ../copy; exec sh -c '{}'", script("outside").replace('\'', "'\\''")));
        let said = String::from_utf8_lossy(&[outside.stdout, outside.stderr].concat()).into_owned();
        assert!(outside.status.success() && said.is_empty(), "{said}");
        assert_eq!(ran("outside"), [false; 2]);
        world.bash(&format!("cd ../copy; {HANDS}"));
        assert_eq!(ran("outside"), [true; 2], "the attack itself does not work here");

        // A run that changes nothing of the kind has nothing to say.
        let (code, _, told) =
            run(world, &[], "echo more >> a; echo new > src/new; cat Makefile .envrc package.json > /dev/null; touch notes.txt");
        assert_eq!(code, Some(0), "{told}");
        assert!(named.iter().all(|name| !told.contains(name)) && !told.contains("look at these"), "{told}");

        let (code, _, told) = run(world, &[], &script("inside"));
        assert_eq!(code, Some(0), "{told}");
        for name in named {
            assert!(told.contains(&format!("  {name}: ")), "{name}: {told}");
        }
        // They are the caller's files, and would run as outside: what stands between is that they were named before anybody's hands were there.
        assert_eq!(ran("inside"), [false; 2]);
        world.bash(HANDS);
        assert_eq!(ran("inside"), [true; 2]);
    });
}

#[test]
fn the_git_directory_can_be_read_only_or_hidden() {
    everybody(|world| {
        let before = snapshot(&world.main().join(".git"));
        let (code, out, told) = run(
            world,
            &["--git", "readonly"],
            "git log --oneline | wc -l; echo x > .git/hooks/x; rm -f .git/config; git commit -q --allow-empty -m x; test -e .git/config",
        );
        assert_eq!((code, out.trim()), (Some(0), "1"), "{told}");
        let (code, out, told) =
            run(world, &["--git", "none"], "ls -A .git | wc -l; git log 2>/dev/null; echo x > .git/x; mv .git moved; test ! -e moved");
        assert_eq!((code, out.trim()), (Some(0), "0"), "{told}");
        assert_eq!(snapshot(&world.main().join(".git")), before);
        // A linked worktree's `.git` is a file.
        world.bash("git worktree add -q ../linked; git -C ../linked status");
        let linked = snapshot(&world.main().join(".git"));
        let output = world
            .command(&["exec", "--", "sh", "-c", "set -e; git status --porcelain; echo l > l; git add l; git commit -q -m linked"])
            .current_dir(world.path("linked"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(snapshot(&world.main().join(".git")), linked);
        assert_eq!(world.git(&["log", "-1", "--format=%s", "refs/cofferdam/exec/1"]), "linked");
    });
}

#[test]
fn what_is_no_honest_commit_is_not_taken() {
    everybody(|world| {
        for (at, (evil, why)) in [
        // A tree that holds a `.git`, one that names a parent folder, a gitlink, and an object that is not what its name says.
        ("blob=$(echo x | git hash-object -w --stdin); tree=$(printf '100644 .git\\0' | cat - <(echo $blob | perl -ne 'chomp; print pack q(H*), $_') | git hash-object -w -t tree --literally --stdin)", "own directory"),
        ("blob=$(echo x | git hash-object -w --stdin); tree=$(printf '100644 ..\\0' | cat - <(echo $blob | perl -ne 'chomp; print pack q(H*), $_') | git hash-object -w -t tree --literally --stdin)", "no file may be called so"),
        ("tree=$(printf '160000 commit %s\\tsub\\n' $(git rev-parse HEAD) | git mktree)", "repository of its own"),
        ("tree=$(git rev-parse HEAD^{tree}); blob=$(echo y | git hash-object -w --stdin); other=$(echo z | git hash-object -w --stdin); tree=$(printf '100644 blob %s\\ty\\n' $blob | git mktree); \
          p() { echo .git/objects/$(echo $1 | cut -c1-2)/$(echo $1 | cut -c3-); }; chmod +w $(p $blob); cp -f $(p $other) $(p $blob)", "not taken"),
        ("tree=$(git rev-parse HEAD^{tree}); mkdir -p .git/objects/aa; mkfifo .git/objects/aa/$(printf '%038d' 0); echo aa$(printf '%038d' 0) > .git/refs/heads/pipe; tree=$(printf '' | git mktree)", "pipe"),
    ]
    .into_iter()
    .enumerate()
    {
        let script = format!("{evil}; commit=$(git commit-tree -p HEAD -m evil $tree); git update-ref --no-deref HEAD $commit; true");
        let output = world.run(&["exec", "--", "bash", "-c", &script]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("were not taken") && told.contains(why), "{at}: {told}");
        assert!(world.git( &["fsck", "--strict"]).is_empty(), "{at}");
    }
        let (code, _, told) = run(world, &[], "rm -rf .git/refs .git/HEAD; mkfifo .git/HEAD; ln -s /etc .git/refs; true");
        assert_eq!(code, Some(0), "{told}");
    });
}

#[test]
fn the_outcome_tells_what_was_committed_and_left() {
    everybody(|world| {
        let file = world.path("outcome.json");
        let script = "echo w > w; echo x > .envrc; git add w; git commit -q -m subject; exit 3";
        let (code, out, _) = run(world, &["--quiet", "--json", "--outcome", file.to_str().unwrap()], script);
        assert_eq!(code, Some(3));
        let printed: serde_json::Value = serde_json::from_str(out.lines().last().unwrap()).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&fs_err::read(&file).unwrap()).unwrap();
        assert_eq!(printed, written);
        assert_eq!((&written["cause"], &written["exit_code"]), (&"exited".into(), &3.into()));
        let commits = written["git"]["commits"].as_array().unwrap();
        assert!(commits.iter().any(|c| c["ref"] == "refs/cofferdam/exec/1" && c["subject"] == "subject" && c["commits"] == 1), "{written}");
        assert_eq!(written["git"]["risks"][0]["path"], ".envrc");
        // Elsewhere than in a repository there is nothing to tell.
        fs_err::create_dir(world.path("plain")).unwrap();
        let plain = world.command(&["exec", "--json", "--", "true"]).current_dir(world.path("plain")).output().unwrap();
        let plain: serde_json::Value = serde_json::from_slice(&plain.stdout).unwrap();
        assert!(plain["git"].is_null(), "{plain}");
    });
}

#[test]
fn packs_and_objects_that_are_bombs_or_garbage_are_refused_and_bounded() {
    everybody(|world| {
        for (at, evil) in [
        // A blob over the bound, as a small pack; a pack of garbage beside a good one; one with a good head and a broken tail; a loose object that inflates for ever.
        "head -c 300M /dev/zero > big; git add big; git commit -q -m big; git gc -q; rm big",
        "echo x > x; git add x; git commit -q -m x; git gc -q; head -c 100k /dev/urandom > .git/objects/pack/pack-1234567890123456789012345678901234567890.pack",
        "echo y > y; git add y; git commit -q -m y; git gc -q; p=$(ls .git/objects/pack/*.pack | head -1); chmod +w $p; truncate -s -30 $p",
        // Ten folders of ten folders of …: seven objects, ten million files.
        "t=$(git rev-parse HEAD^{tree}); for i in 1 2 3 4 5 6 7; do t=$(for n in 0 1 2 3 4 5 6 7 8 9; do printf '040000 tree %s\\t%s\\n' $t d$n; done | git mktree); done; git update-ref HEAD $(git commit-tree -m bomb $t)",
        "echo z > z; git add z; git commit -q -m z; o=.git/objects/$(git rev-parse HEAD: | sed 's,^..,&/,'); chmod +w $o; python3 -c 'import zlib; open(\"z\", \"wb\").write(zlib.compress(b\"tree 99999999999\\0\" + bytes(10**8)))'; cp z $o",
    ]
    .into_iter()
    .enumerate()
    {
        let (_, _, told) = run(world, &["--file-size", "1GiB"], &format!("{evil}; true"));
        assert!(told.contains("were not taken"), "{at}: {told}");
        assert!(world.git( &["fsck"]).is_empty(), "{at}");
        world.bash( "git clean -qfdx; git checkout -q .");
    }
        assert_eq!(world.git(&["for-each-ref", "refs/cofferdam"]), "");
        // The control: what is honest is taken, packed or not.
        let (_, _, told) = run(world, &[], "echo good > good; git add good; git commit -q -m good; git gc -q");
        assert!(told.contains("refs/cofferdam/exec/1: good"), "{told}");
    });
}

#[test]
fn the_decoder_refuses_to_work_where_it_is_not_confined() {
    everybody(|world| {
        let decode = |folder: &Path| world.command(&["__unpack", folder.to_str().unwrap()]).output().unwrap();
        bash(&world.path("home"), "mkdir -p raw/objects/pack raw/packs; cp -r ../main/.git/objects/?? raw/objects/");
        let decoded = decode(&world.path("home/raw"));
        assert!(decoded.status.success() && decoded.stdout.len() > 100);
        // A link out of its folder leads nowhere, as nothing outside can be read.
        bash(&world.path("home"), "mkdir -p out/objects; mv raw/packs packs; ln -s ../packs raw/packs");
        assert!(!decode(&world.path("home/raw")).status.success());
    });
}

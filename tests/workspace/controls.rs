//! The same attacks twice: in a plain `git worktree` with the host's git they work, in a workspace none of them does.
//!
//! What an agent can write to in a plain worktree is its files and, through git itself, the repository's settings.

use std::path::Path;

use super::commands::{World, everybody, everywhere};
use super::support::{Overlay, bash, quote};

/// A name, what the agent does (`$C` is the canary), and what somebody on the host does next.
const RUNS: [(&str, &str, &str); 19] = [
    ("fsmonitor", "git config core.fsmonitor \"touch $C; false\"", "git status"),
    ("hook", "d=$(git rev-parse --git-common-dir)/hooks; mkdir -p $d; hook $d/pre-commit", "git commit -q --allow-empty -m x"),
    ("hooks path", "mkdir -p hooks; hook hooks/post-checkout; git config core.hooksPath $PWD/hooks", "git checkout -q HEAD"),
    ("ref hook", "mkdir -p hooks; hook hooks/reference-transaction; git config core.hooksPath $PWD/hooks", "git update-ref refs/x HEAD"),
    ("external diff", "echo 1 >> a; git config diff.external \"touch $C\"", "git diff"),
    ("text conversion", "echo 1 >> a; echo '* diff=f' > .gitattributes; git config diff.f.textconv \"touch $C; cat\"", "git diff"),
    ("clean filter", "echo 1 >> a; echo '* filter=f' > .gitattributes; git config filter.f.clean \"touch $C; cat\"", "git add -A"),
    ("smudge filter", "rm -f a; echo '* filter=f' > .gitattributes; git config filter.f.smudge \"touch $C; cat\"", "git checkout -- a"),
    (
        "merge driver",
        "git checkout -q -b m1; echo 1 > a; git commit -qam 1; git checkout -q -b m2 HEAD~1; echo 2 > a; echo '* merge=f' > .gitattributes; git add -A; git commit -qam 2; \
         git config merge.f.driver \"touch $C\"",
        "git merge -q m1",
    ),
    ("ssh", "git config core.sshCommand \"touch $C; false\"; git remote add r ssh://nowhere.invalid/x", "git fetch -q r"),
    ("signing", "hook signer; git config gpg.program $PWD/signer; git config commit.gpgSign true", "git commit -q --allow-empty -m x"),
    ("editor", "git config core.editor \"touch $C; true\"", "git commit -q --allow-empty"),
    (
        "include",
        "printf '[core]\\n\\tfsmonitor = \"touch %s; false\"\\n' $C > included; git config include.path $PWD/included",
        "git status",
    ),
    ("alias", "git config alias.st \"!touch $C\"", "git st"),
    (
        "worktree settings",
        "git config extensions.worktreeConfig true; git config --worktree core.fsmonitor \"touch $C; false\"",
        "git status",
    ),
    ("file for a folder", "evil; rm -rf .git; echo 'gitdir: evil/.git' > .git", "git status"),
    ("folder for a folder", "evil; rm -rf .git; mv evil/.git .git", "git status"),
    ("link for a folder", "evil; rm -rf .git; ln -s evil/.git .git", "git status"),
    ("common folder", "evil; echo $PWD/evil/.git > $(git rev-parse --git-dir)/commondir", "git status"),
];

/// What the attacks have in common: a program that touches the canary, and a repository that does.
const TOOLS: &str = "hook() { printf '#!/bin/sh\\ntouch %s\\n' $C > $1; chmod +x $1; }; \
    evil() { git init -q evil; git -C evil config core.fsmonitor \"touch $C; false\"; git -C evil commit -q --allow-empty -m e; }; ";

/// What a person's git does in the main repository at any time.
const OWN_GIT: &str = "git status; git gc -q; git fetch -q . main; git worktree list; git worktree prune; git log --all --stat; git fsck; git branch -a; git diff";

#[test]
fn every_attack_runs_in_a_plain_worktree() {
    everybody(|world| {
        for (at, (name, attack, next)) in RUNS.iter().enumerate() {
            let canary = world.path("home").join(format!("canary{at}"));
            let script = format!(
                "cp -a ../main ../main{at}; cd ../main{at}; git worktree add -q -b victim ../plain{at} || exit 9; cd ../plain{at}; export C={}; {TOOLS} {attack}; {next}; true",
                canary.display()
            );
            let done = world.bash(&script);
            assert!(canary.exists(), "{name} does not work here: {}", String::from_utf8_lossy(&done.stderr));
        }
    });
}

#[test]
fn no_attack_runs_from_a_workspace() {
    everywhere(|world| {
        let canary = world.path("home/canary");
        // Those that take the git directory away come one by one, the others together.
        let (last, together): (Vec<_>, Vec<_>) = RUNS.iter().partition(|(_, attack, _)| attack.contains("evil;"));
        let all = together.iter().map(|(_, attack, _)| format!("( {attack} )")).collect::<Vec<_>>().join("\n");
        let attacks = std::iter::once(all).chain(last.iter().map(|(_, attack, _)| (*attack).to_owned()));
        for (at, attack) in attacks.enumerate() {
            let story = format!("S{at}");
            world.ok(&["workspace", "new", &story]);
            // Inside it has its effect: the agent's own git obeys.
            world.inside(&story, &format!("C={}; {TOOLS} {attack}\necho {at} > mark; true", canary.display()));
            assert!(world.collect(&story)["changed"].to_string().contains("mark"), "{at}");
            world.ok(&["diff", &story]);
            world.ok(&["workspace", "list"]);
            world.ok(&["checkout", &story, world.path(&format!("seen{at}")).to_str().unwrap()]);
            drop(world.run(&["status"]));
            world.bash(OWN_GIT);
            world.bash(&format!("cd ../seen{at} && git status && git diff HEAD && git log -p && git add -A && git commit -q -m mine"));
            world.ok(&["workspace", "remove", &story]);
            world.ok(&["clean"]);
            world.bash(OWN_GIT);
            assert!(!canary.exists(), "something of the agent's ran on the host: {attack}");
        }
        assert_eq!(world.git(&["fsck", "--strict"]), "");
    });
}

/// What hangs, fills or breaks the host's git in a plain worktree. The workspaces' side of each is in `attacks`, `inplace` and `commands`.
#[test]
fn what_hangs_and_breaks_works_in_a_plain_worktree() {
    everybody(|world| {
        let code = |script: &str| {
            let done = world.bash(&format!(
                "rm -rf ../copy ../plain; cp -a ../main ../copy; cd ../copy; git worktree add -q -b victim ../plain; cd ../plain; {script}"
            ));
            done.status.code()
        };
        // A lock that is left, a pipe for a list of ignored names, a file of 64 GiB that holds nothing.
        assert_eq!(code("touch $(git rev-parse --git-dir)/index.lock; echo x > x; git add x"), Some(128));
        assert_eq!(code("rm .gitignore; mkfifo .gitignore; timeout 2 git status"), Some(124));
        assert_eq!(code("truncate -s 64G sparse; timeout 2 git add sparse"), Some(124));
        // Few objects that are a thousand million files, and one that is not what its name says.
        let bomb = "t=$(git rev-parse HEAD:); for i in 1 2 3 4 5 6 7 8 9; do t=$(for n in 0 1 2 3 4 5 6 7 8 9; do printf '040000 tree %s\\td%s\\n' $t $n; done | git mktree); done; \
            git branch bomb $(git commit-tree -m bomb $t); cd ../copy; timeout 2 git ls-tree -r bomb > /dev/null";
        assert_eq!(code(bomb), Some(124));
        let broken = "b=$(git rev-parse HEAD:a); o=$(git rev-parse --git-common-dir)/objects/$(echo $b | cut -c1-2)/$(echo $b | cut -c3-); chmod +w $o; echo broken > $o; cd ../copy; \
            git cat-file -p $b 2>/dev/null || exit 7";
        assert_eq!(code(broken), Some(7));
        // A terminal is given whatever a message holds, and a file is shown wherever a link leads.
        let told = world.bash("cd ../plain; git commit -q --allow-empty -m \"$(printf 'two \\033[2J')\"; git log -1 --format=%s");
        assert!(told.stdout.contains(&0x1b));
        fs_err::write(world.path("home/secret"), "SECRET").unwrap();
        world.bash("chmod a+r ../home/secret");
        let followed = world.bash("cd ../plain; ln -s ../home/secret leak; cp -L leak copied; git add copied; git show :copied");
        assert_eq!(followed.stdout, b"SECRET");
    });
}

/// In place: what the agent writes to the git directory is there when nothing stands between.
#[test]
fn in_place_without_us_the_git_directory_changes() {
    everybody(|world| {
        let script = "git config core.hooksPath /evil; echo evil > .git/hooks/pre-commit; mkdir -p .git/worktrees/x .git/modules/y; echo '* filter=x' > .git/info/attributes; \
            git branch -f moved HEAD; ls .git/worktrees .git/modules; cat .git/hooks/pre-commit; git config core.hooksPath";
        world.bash("mkdir -p .git/hooks .git/info; cp -a . ../copy");
        let inside = world.run(&["exec", "--quiet", "--", "sh", "-c", script]);
        let told = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told(&inside).contains("/evil"), "{}", String::from_utf8_lossy(&inside.stderr));
        // Each by itself: that one of them arrives must not speak for the others.
        let arrived = |place: &Path| {
            let look = [
                "grep -q /evil .git/config",
                "grep -q evil .git/hooks/pre-commit",
                "test -e .git/worktrees/x",
                "test -e .git/modules/y",
                "grep -q filter=x .git/info/attributes",
                "test -e .git/refs/heads/moved",
            ];
            look.map(|look| (look, bash(place, look).status.success()))
        };
        for (look, arrived) in arrived(&world.main()) {
            assert!(!arrived, "the real one changed: {look}");
        }
        world.bash(&format!("cd ../copy; {script}"));
        for (look, arrived) in arrived(&world.path("copy")) {
            assert!(arrived, "the attack itself does not work here: {look}");
        }
    });
}

/// A folder that says that its content lies elsewhere, and a file that says that its bytes do: in the upper folder itself, for every kind of
/// attribute that is named.
const FORGE: &str = "import os, sys
os.mkdir('shown')
open('copy', 'w').truncate(7)
for kind in sys.argv[1:]:
    os.setxattr('shown', kind + '.overlay.redirect', b'/private')
    os.setxattr('copy', kind + '.overlay.metacopy', b'')
    os.setxattr('copy', kind + '.overlay.redirect', b'/token')
";

/// What an agent does that hides files without removing them: it forges the overlay's own marks.
const HIDE: &str = "import os, stat
os.makedirs('src', exist_ok=True)
for work in [lambda: os.setxattr('src', 'user.overlay.opaque', b'y'), lambda: os.mknod('mark', 0o600 | stat.S_IFCHR, 0), lambda: os.rename('mark', 'a')]:
    try: work()
    except OSError as error: print(error)
";

/// An overlay of the repository's files as they are, whose upper folder anybody can write to.
fn plain_overlay(world: &World, name: &str) -> Overlay {
    let overlay = Overlay::new(&world.main(), &world.path(name));
    // In it the tests' user mounts, and the user of this world writes.
    assert!(bash(&overlay.upper, "chmod 777 .").status.success());
    overlay
}

#[test]
fn forged_attributes_lead_elsewhere_on_a_plain_overlay_and_nowhere_in_a_workspace() {
    everybody(|world| {
        world.bash("mkdir private; echo SECRET > private/s; echo SECRET > token; git add -A; git commit -q -m private");
        // The kind that a kernel obeys in redirects is its own administrator's to set: not a user's, nor of root in a namespace.
        let trusted = world.bash("touch ../probe; python3 -c \"import os; os.setxattr('../probe', 'trusted.overlay.probe', b'y')\"");
        let (trusted, beside_root) = (trusted.status.success(), world.user.is_some());
        let kinds = if trusted { "user trusted" } else { "user" };
        let forge = |upper: &Path| {
            let done = world.bash(&format!("cd {} && python3 -c \"{FORGE}\" {kinds}", upper.display()));
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        };
        const LOOK: &str = "cat shown/s copy 2>/dev/null; true";

        // The control: whoever mounts an overlay with what the kernel offers is shown what the upper folder never held.
        let overlay = plain_overlay(world, "plain");
        forge(&overlay.upper);
        if !trusted && !beside_root {
            say("SKIPPED forged redirects on a plain overlay: only the kernel's own root can set what a kernel obeys\n");
        }
        if trusted {
            match overlay.run_with("redirect_dir=on,metacopy=on,index=off", LOOK) {
                Ok(shown) => assert_eq!(String::from_utf8_lossy(&shown.stdout), "SECRET\nSECRET\n", "the attack itself does not work here"),
                Err(why) => say(&format!("SKIPPED forged redirects on a plain overlay: this kernel follows none: {why}\n")),
            }
        }

        // The same in the upper folder of a story, as if an agent had reached it.
        world.ok(&["workspace", "new", "S"]);
        let upper = world.bash("ls -d ../state/cofferdam/*/stories/S/upper").stdout;
        forge(&world.main().join(String::from_utf8(upper).unwrap().trim_end()));
        assert_eq!(world.inside("S", LOOK).matches("SECRET").count(), 0, "an attribute was obeyed");
        assert_eq!(world.inside("S", "cat private/s token"), "SECRET\nSECRET\n");
        let collected = world.collect("S");
        let findings = collected["findings"].as_array().unwrap();
        assert!(findings.iter().any(|f| f["rule"] == "overlay-attribute" && f["path"] == "shown" && f["kept"] == false), "{collected}");
        let holds = world.git(&["grep", "-a", "--name-only", "-e", "SECRET", collected["ref"].as_str().unwrap()]);
        assert!(holds.lines().count() == 2 && !holds.contains("copy") && !holds.contains("shown"), "{holds}");
    });
}

#[test]
fn forged_marks_hide_files_on_a_plain_overlay_and_none_in_a_workspace() {
    everybody(|world| {
        // The control: in an upper folder that an agent reaches, two marks take away what nobody removed.
        const LOOK: &str = "cat a src/b src/c 2>/dev/null; true";
        let overlay = plain_overlay(world, "plain");
        assert_eq!(overlay.run(LOOK).stdout, b"a\nb\nc\n");
        let done = world.bash(&format!("cd {} && python3 -c \"{HIDE}\"", overlay.upper.display()));
        assert_eq!(String::from_utf8_lossy(&done.stdout), "", "the attack itself does not work here");
        assert_eq!(String::from_utf8_lossy(&overlay.run(LOOK).stdout), "", "the attack itself does not work here");

        // An agent has the merged view: there they are refused, or names like any other.
        world.ok(&["workspace", "new", "S"]);
        // Not one that somebody installed for himself: a sandbox shows what belongs to the system.
        world.inside("S", &format!("PATH=/usr/bin:/bin:$PATH python3 -c \"{HIDE}\""));
        assert_eq!(world.inside("S", LOOK), "a\nb\nc\n");
        let collected = world.collect("S");
        assert_eq!(collected["changed"].as_array().unwrap().len(), 0, "{collected}");
    });
}

/// What some file system takes for `.git`, each in a folder of its own.
const SPELLINGS: [&str; 7] = [".GIT", ".Git", ".git ", ".git.", "git~1", ".g\u{200c}it", ".git::$INDEX_ALLOCATION"];

/// Makes `$1` a git directory that runs a program, made of files alone, so that a tree can hold it.
const EVIL: &str = "evil() { mkdir -p \"$1/objects\" \"$1/refs\"; touch \"$1/objects/keep\" \"$1/refs/keep\"; echo 'ref: refs/heads/x' > \"$1/HEAD\"; \
    printf '[core]\\n\\trepositoryformatversion = 0\\n\\tfsmonitor = \"touch %s; false\"\\n' \"$C\" > \"$1/config\"; }; ";

#[test]
fn every_spelling_of_a_git_directory_travels_in_plain_git_and_in_no_collected_tree() {
    everybody(|world| {
        // Git treats all users alike: the control is shown once.
        for (at, name) in SPELLINGS.iter().enumerate().filter(|_| world.user.is_none()) {
            let (canary, quoted) = (world.path("home").join(format!("canary{at}")), quote(name.as_bytes()));
            // The control: plain git keeps such a tree, and says itself that it is a git directory elsewhere.
            let script = format!(
                "set -e; C={}; {EVIL} git init -q ../plain{at}; cd ../plain{at}; evil d; git add d; \
                 tree=$(printf '040000 tree %s\\t%s\\0' $(git write-tree --prefix=d/) {quoted} | git mktree -z); git tag evil $(git commit-tree -m evil $tree); \
                 git fsck --strict 2>&1 | grep $tree",
                canary.display()
            );
            let said = world.bash(&script);
            let told = String::from_utf8_lossy(&said.stdout).into_owned();
            assert!(told.contains("hasDotgit"), "{name:?}: {told}{}", String::from_utf8_lossy(&said.stderr));
            // It lays it down where its guards are off, as nobody's are on who never thought of another file system; but for another case, which
            // it refuses everywhere: that one comes with whatever else copies files.
            let lay = "git -c core.protectHFS=false -c core.protectNTFS=false --work-tree=out checkout -q -f evil -- .";
            let lay = if name.eq_ignore_ascii_case(".git") { format!("! {lay} && cp -r d out/{quoted}") } else { lay.to_owned() };
            // This file system does not fold names: the renaming is what another one does to them. Then git obeys.
            let folded = format!("set -e; cd ../plain{at}; mkdir out; {lay}; mv out/{quoted} out/.git; cd out; git status; true");
            let done = world.bash(&folded);
            assert!(canary.exists(), "{name:?} does not work here: {}", String::from_utf8_lossy(&done.stderr));
            fs_err::remove_file(&canary).unwrap();
        }
        world.ok(&["workspace", "new", "S"]);
        let make: String = SPELLINGS.iter().enumerate().map(|(at, name)| format!("evil d{at}/{}; ", quote(name.as_bytes()))).collect();
        let script = format!("set -e; C={}; {EVIL} {make} for d in d?; do echo x > $d/beside; done", world.path("home/canary").display());
        world.ok(&["workspace", "exec", "S", "--", "bash", "-c", &script]);
        let collected = world.collect("S");
        let left_out = collected["findings"].as_array().unwrap().iter().filter(|f| f["rule"] == "git-directory" && f["kept"] == false);
        let left_out: Vec<_> = left_out.map(|f| f["path"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect();
        let folders: Vec<_> = (0..SPELLINGS.len()).map(|at| format!("d{at}")).collect();
        assert_eq!(left_out, folders, "{collected}");
        // What stands beside them is there, in a tree that git's own judge finds nothing in.
        let listed = world.git(&["ls-tree", "-r", "--name-only", collected["ref"].as_str().unwrap()]);
        let beside: Vec<_> = folders.iter().map(|folder| format!("{folder}/beside")).collect();
        assert_eq!(listed.lines().filter(|path| path.starts_with('d')).collect::<Vec<_>>(), beside);
        assert_eq!(world.git(&["fsck", "--strict"]), "");
    });
}

fn say(line: &str) {
    drop(std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()));
}

//! The same attacks twice: in a plain `git worktree` with the host's git they work, in a workspace none of them does.
//!
//! What an agent can write to in a plain worktree is its files and, through git itself, the repository's settings.

use std::path::Path;

use super::commands::{everybody, everywhere};
use super::support::bash;

/// A name, what the agent does (`$C` is the canary), and what somebody on the host does next.
const RUNS: [(&str, &str, &str); 18] = [
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
        let same = |copy: &Path| {
            let done = bash(copy, "cat .git/config; ls .git/hooks .git/worktrees .git/modules .git/refs/heads; cat .git/info/attributes");
            told(&done).contains("evil") || told(&done).contains("filter=x") || told(&done).contains("moved")
        };
        assert!(!same(&world.main()), "the real one changed");
        world.bash(&format!("cd ../copy; {script}"));
        assert!(same(&world.path("copy")), "the attack itself does not work here");
    });
}

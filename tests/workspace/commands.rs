//! The commands, end to end: real git, real sandboxes, as root and as an ordinary user.

use std::path::PathBuf;
use std::process::{Command, Output};

use super::support::{ORDINARY, bash, bash_command, git_command, is_root, scratch};

/// A repository, a state folder and the program, for one user.
pub(crate) struct World {
    pub(crate) scratch: tempfile::TempDir,
    pub(crate) program: PathBuf,
    pub(crate) user: Option<u32>,
    pub(crate) form: Form,
}

/// How workspaces are laid out: options of `workspace new`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Disk,
    Memory,
    Checkout,
}

impl Form {
    pub(crate) fn options(self) -> [&'static str; 2] {
        [
            "--set",
            match self {
                Self::Disk => "workspace.backend=overlay",
                Self::Memory => "workspace.upper=tmpfs",
                Self::Checkout => "workspace.backend=checkout",
            },
        ]
    }
}

impl World {
    /// Every user and every form.
    pub(crate) fn all() -> Vec<Self> {
        let users: &[Option<u32>] = if is_root() { &[None, Some(ORDINARY)] } else { &[None] };
        users.iter().flat_map(|user| [Form::Disk, Form::Memory, Form::Checkout].map(|form| Self::with(*user, form))).collect()
    }

    pub(crate) fn new(user: Option<u32>) -> Self {
        Self::with(user, Form::Disk)
    }

    pub(crate) fn with(user: Option<u32>, form: Form) -> Self {
        let scratch = scratch();
        let program = scratch.path().join("cofferdam");
        crate::program::install(super::support::program(), &program);
        let world = Self { scratch, program, user, form };
        fs_err::create_dir(world.main()).unwrap();
        fs_err::create_dir(world.path("home")).unwrap();
        let script = "git init -q -b main; mkdir -p src; echo a > a; echo b > src/b; echo c > src/c; echo '*.o' > .gitignore; git add -A; git commit -q -m base";
        assert!(bash(&world.main(), script).status.success());
        if let Some(user) = user {
            bash(world.scratch.path(), &format!("chown -R {user}:{user} . && chmod 755 ."));
        }
        world
    }

    /// Removes a folder of this user's. The overlay's own folders in it have no rights at all, for their owner neither.
    #[track_caller]
    pub(crate) fn take_away(&self, name: &str) {
        let mut command = Command::new("sh");
        command.args(["-c", "chmod -R u+rwx \"$0\" && rm -rf \"$0\""]).arg(self.path(name));
        assert!(command.status().expect("it runs").success(), "{name}");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn main(&self) -> PathBuf {
        self.path("main")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"]).arg(&self.program);
                command
            }
            None => Command::new(&self.program),
        };
        command.args(args);
        if args.starts_with(&["workspace", "new"]) {
            command.args(self.form.options());
        }
        command.current_dir(self.main()).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("XDG_STATE_HOME", self.path("state"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    #[track_caller]
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(
            output.status.success(),
            "{args:?}: {}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[track_caller]
    pub(crate) fn inside(&self, story: &str, script: &str) -> String {
        self.ok(&["workspace", "exec", story, "--", "sh", "-c", script])
    }

    #[track_caller]
    pub(crate) fn collect(&self, story: &str) -> serde_json::Value {
        serde_json::from_str(&self.ok(&["workspace", "collect", story, "--json"])).unwrap()
    }

    /// Git as the user.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        let output = self.as_user(git_command(&self.main(), args)).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A script of the user's in the repository.
    pub(crate) fn bash(&self, script: &str) -> Output {
        self.as_user(bash_command(&self.main(), script)).output().unwrap()
    }

    /// The same command as the user of this world.
    pub(crate) fn as_user(&self, command: Command) -> Command {
        let Some(user) = self.user else { return command };
        let mut other = Command::new("setpriv");
        other.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"]);
        other.arg(command.get_program()).args(command.get_args()).current_dir(self.main());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => other.env(name, value),
                None => other.env_remove(name),
            };
        }
        other
    }
}

fn story_of_a_change(world: &World) {
    world.ok(&["workspace", "new", "US-1"]);
    let listed = world.git(&["worktree", "list", "--porcelain"]);
    assert!(listed.contains("locked cofferdam story US-1"), "{listed}");
    let inside = world.inside(
        "US-1",
        "set -e; git status --porcelain; echo new > new; rm src/b; echo o > x.o; chmod +x a; git add -A; git commit -q -m work; \
         git checkout -q -b other; echo d > d; git stash -u -q; git stash pop -q; git add d; git commit -q -m two; git rebase -q main; git gc -q; git fsck; git log --oneline | wc -l",
    );
    assert!(inside.trim().ends_with('3'), "{inside}");
    let collected = world.collect("US-1");
    let changed: Vec<_> = collected["changed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| format!("{} {}", c["kind"].as_str().unwrap(), c["path"].as_str().unwrap()))
        .collect();
    assert_eq!(changed, ["mode a", "added d", "added new", "deleted src/b"]);
    assert_eq!(collected["findings"].as_array().unwrap().len(), 0, "{collected}");
    let commit = collected["commit"].as_str().unwrap();
    assert_eq!(world.git(&["rev-parse", "refs/cofferdam/stories/US-1/1"]), commit);
    assert!(world.git(&["worktree", "list", "--porcelain"]).contains(&format!("HEAD {commit}")));
    assert!(world.git(&["fsck"]).is_empty());
    // The same once more is nothing new; a second change is a second commit on the first.
    assert_eq!(world.collect("US-1")["new"], false);
    world.inside("US-1", "echo more >> new");
    assert_eq!(world.collect("US-1")["ref"], "refs/cofferdam/stories/US-1/2");
    assert_eq!(world.git(&["rev-parse", "refs/cofferdam/stories/US-1/2^"]), commit);
    let diff = world.ok(&["diff", "US-1"]);
    assert!(diff.contains("+more") && diff.contains("deleted file mode 100644"), "{diff}");
    world.ok(&["checkout", "US-1", world.path("seen").to_str().unwrap()]);
    assert_eq!(fs_err::read_to_string(world.path("seen/new")).unwrap(), "new\nmore\n");
    let seen = bash(&world.path("seen"), "git -c safe.directory='*' status --porcelain && git -c safe.directory='*' rev-parse HEAD");
    assert_eq!(String::from_utf8_lossy(&seen.stdout).trim(), world.git(&["rev-parse", "refs/cofferdam/stories/US-1/2"]));
    assert!(
        world.git(&["log", "-1", "--format=%B", "refs/cofferdam/stories/US-1/1"]).contains("Story US-1\n\ntwo"),
        "the agent's own words"
    );
    // Removing collects what was not collected, and keeps every commit until something else reaches it.
    world.inside("US-1", "echo last >> new");
    world.ok(&["workspace", "remove", "US-1"]);
    assert_eq!(world.git(&["show", "refs/cofferdam/stories/US-1/3:new"]), "new\nmore\nlast");
    world.ok(&["clean", "--keep", "1"]);
    assert_eq!(world.git(&["for-each-ref", "--format=%(refname)", "refs/cofferdam"]).lines().count(), 3);
    world.git(&["update-ref", "refs/heads/landed", "refs/cofferdam/stories/US-1/3"]);
    world.ok(&["clean", "--keep", "1"]);
    assert_eq!(world.git(&["for-each-ref", "refs/cofferdam"]), "");
    assert!(!world.git(&["worktree", "list"]).contains("US-1"));
    let state = bash(&world.path("state"), "find . -mindepth 4 | head").stdout;
    assert_eq!(String::from_utf8_lossy(&state), "", "the state folder is empty again");
}

/// Runs a test as every user on every form, and says on which one it failed.
pub(crate) fn everywhere(test: fn(&World)) {
    if !is_root() {
        drop(std::io::Write::write_all(&mut std::io::stderr(), b"SKIPPED as an ordinary user beside root: the tests do not run as root\n"));
    }
    for world in World::all() {
        let name = format!("{:?} as {:?}", world.form, world.user);
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&world))).is_err() {
            panic!("it failed on {name}");
        }
    }
}

/// The caller, and an ordinary user beside root.
fn everyone() -> Vec<Option<u32>> {
    if is_root() { vec![None, Some(ORDINARY)] } else { vec![None] }
}

/// The same for every user, where the form of a workspace plays no part.
pub(crate) fn everybody(test: fn(&World)) {
    for user in everyone() {
        test(&World::new(user));
    }
}

#[test]
fn a_change_from_new_to_clean() {
    everywhere(story_of_a_change);
}

#[test]
fn stories_see_neither_each_other_nor_the_user() {
    everywhere(|world| {
        fs_err::write(world.main().join("secret-draft"), "uncommitted\n").unwrap();
        world.git(&["add", "secret-draft"]);
        let draft = world.git(&["rev-parse", ":secret-draft"]);
        world.git(&["update-ref", "refs/heads/private", &world.git(&["commit-tree", "-m", "private branch", "HEAD^{tree}"])]);
        let private = world.git(&["rev-parse", "refs/heads/private"]);
        world.ok(&["workspace", "new", "one"]);
        world.ok(&["workspace", "new", "two"]);
        world.inside("one", "echo one > shared; echo 1 >> a");
        let first = world.collect("one")["commit"].as_str().unwrap().to_owned();
        world.inside("two", &format!("test ! -e shared && test \"$(cat a)\" = a && for id in {first} {draft} {private}; do git cat-file -e $id 2>/dev/null && exit 9; done; git cat-file -e HEAD && echo two > shared"));
        assert_ne!(world.collect("two")["commit"], first.as_str());
        assert_eq!(world.git(&["show", "refs/cofferdam/stories/one/1:shared"]), "one");
        assert_eq!(world.git(&["show", "refs/cofferdam/stories/two/1:shared"]), "two");
        // The control: with the whole history asked for by name, the objects are there.
        world.ok(&["workspace", "new", "three", "--history", "full"]);
        world.inside("three", &format!("git cat-file -e {private} && git log --oneline && git status --porcelain"));
        assert_eq!(fs_err::read_to_string(world.main().join("secret-draft")).unwrap(), "uncommitted\n");
    });
}

#[test]
fn a_git_directory_that_an_agent_turned_evil_runs_nothing_on_the_host() {
    everywhere(|world| {
        world.ok(&["workspace", "new", "evil"]);
        let canary = world.path("canary");
        let touch = format!("touch {}", canary.display());
        world.inside(
        "evil",
        &format!(
            "set -e; git config core.fsmonitor 'touch /tmp/ran; false'; git status > /dev/null; test -e /tmp/ran; git config core.fsmonitor '{touch}; false'; git config core.hooksPath hooks; \
             git config diff.f.textconv '{touch}; cat'; git config merge.f.driver '{touch}'; git config include.path ../included; git config -f included core.pager '{touch}'; \
             git config extensions.worktreeConfig true; git config --worktree core.editor '{touch}'; git config diff.external '{touch}'; git config filter.f.clean '{touch}; cat'; \
             git config filter.f.smudge '{touch}; cat'; git config core.sshCommand '{touch}'; git config gpg.program '{touch}'; git config alias.status '!{touch}'; \
             mkdir hooks; for h in pre-commit post-checkout reference-transaction post-index-change; do printf '#!/bin/sh\\n{touch}\\n' > hooks/$h; chmod +x hooks/$h; done; cp -r hooks/. .git/hooks/; \
             echo '* filter=f diff=f merge=f' > .gitattributes; echo x > file; git init -q nested; git -C nested config core.fsmonitor '{touch}; false'; echo y > nested/y; \
             echo /etc > .git/commondir; echo 'gitdir: /etc' > src/.git; touch .git/index.lock; echo ref: refs/heads/../../../../etc/x > .git/HEAD"
        ),
    );
        let collected = world.collect("evil");
        let findings = collected["findings"].to_string();
        assert!(findings.contains("nested/.git") && findings.contains("src/.git"), "{findings}");
        world.ok(&["diff", "evil"]);
        world.ok(&["workspace", "list"]);
        world.ok(&["checkout", "evil", world.path("seen").to_str().unwrap()]);
        world.bash(
            "git status; git gc -q --prune=now; git fetch -q . main; git worktree list; git worktree prune; git diff HEAD refs/cofferdam/stories/evil/1; git log --stat --all",
        );
        world.ok(&["workspace", "remove", "evil"]);
        world.ok(&["clean"]);
        assert!(!canary.exists(), "something of the agent's ran on the host");
        bash(&world.path("seen"), "git status; git diff; git add -A");
        assert!(!canary.exists(), "something of the agent's ran in a person's checkout");
        // An agent may also put something else in its place.
        for (at, evil) in
            ["rm -rf .git; ln -s /etc .git", "rm -rf .git; echo 'gitdir: /etc' > .git", "rm -rf .git; mkfifo .git", "rm -rf .git"]
                .iter()
                .enumerate()
        {
            let story = format!("e{at}");
            world.ok(&["workspace", "new", &story]);
            world.inside(&story, &format!("{evil}; echo {at} > file"));
            assert_eq!(world.collect(&story)["changed"][0]["path"], "file", "{evil}");
            world.ok(&["workspace", "remove", &story]);
        }
    });
}

fn refused(world: &World, setup: &str, expect: &str) {
    let place = world.path("other");
    fs_err::create_dir(&place).unwrap();
    assert!(bash(&place, setup).status.success(), "{setup}");
    if let Some(user) = world.user {
        bash(&place, &format!("chown -R {user}:{user} ."));
    }
    let output = world.command(&["workspace", "new", "S"]).current_dir(&place).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{setup}: {told}");
    assert!(told.contains(expect), "{setup}: {told}");
    fs_err::remove_dir_all(&place).unwrap();
}

#[test]
fn what_has_no_safe_path_is_refused_by_name() {
    for user in everyone() {
        for form in [Form::Disk, Form::Checkout] {
            check_refusals(&World::with(user, form));
        }
    }
}

fn check_refusals(world: &World) {
    refused(world, "true", "no git repository");
    refused(world, "git init -q --bare", "bare repository");
    refused(world, "git init -q", "no commit yet");
    refused(world, "git init -q --object-format=sha256 && git commit -q --allow-empty -m x", "SHA-256");
    let usage = Command::new("git").args(["init", "-h"]).output().expect("git runs");
    if [usage.stdout, usage.stderr].concat().windows(10).any(|word| word == b"ref-format") {
        refused(world, "git init -q --ref-format=reftable && git commit -q --allow-empty -m x", "reftables");
    } else {
        drop(std::io::Write::write_all(
            &mut std::io::stderr(),
            b"SKIPPED a repository with reftables is refused: this git cannot make one\n",
        ));
    }
    refused(world, "git init -q && git commit -q --allow-empty -m x && git config remote.origin.promisor true", "partial clone");
    let unknown = world.run(&["workspace", "new", "S", "--base", "nowhere"]);
    assert_eq!(unknown.status.code(), Some(2));
    world.ok(&["workspace", "new", "US-10"]);
    assert!(String::from_utf8_lossy(&world.run(&["workspace", "collect", "US-11"]).stderr).contains("did you mean `US-10`"));
    assert_eq!(world.run(&["workspace", "new", "US-10"]).status.code(), Some(2));
}

#[test]
fn odd_repositories_work() {
    for user in everyone() {
        for form in [Form::Disk, Form::Checkout] {
            check_odd_repositories(&World::with(user, form));
        }
    }
}

fn check_odd_repositories(world: &World) {
    // Detached, a worktree of a worktree, a shallow clone; submodules are named.
    world.git(&["checkout", "-q", "--detach"]);
    world.ok(&["workspace", "new", "detached"]);
    world.git(&["worktree", "add", "-q", "../linked"]);
    let linked = world.command(&["workspace", "list"]).current_dir(world.path("linked")).output().unwrap();
    assert!(String::from_utf8_lossy(&linked.stdout).contains("detached"));
    world.bash(
        "git commit -q --allow-empty -m two; git clone -q --depth 1 file://$PWD ../shallow; git clone -q . sub; git -c protocol.file.allow=always submodule -q add ./sub sub 2>/dev/null; git add -A; git commit -q -m sub",
    );
    let new = world.run(&["workspace", "new", "sub"]);
    assert!(String::from_utf8_lossy(&new.stderr).contains("submodule"), "{}", String::from_utf8_lossy(&new.stderr));
    world.inside("sub", "test -d sub && git status --porcelain && echo x > x");
    assert_eq!(world.collect("sub")["changed"].as_array().unwrap().len(), 1);
    let shallow = world.command(&["workspace", "new", "s"]).current_dir(world.path("shallow")).output().unwrap();
    assert!(shallow.status.success(), "{}", String::from_utf8_lossy(&shallow.stderr));
}

#[test]
fn a_base_that_is_rewritten_and_a_state_folder_that_is_deleted_lose_no_commit() {
    everywhere(|world| {
        world.ok(&["workspace", "new", "S"]);
        world.inside("S", "echo work > work");
        world.bash(
            "git checkout -q --orphan fresh; git commit -q -m other; git branch -q -D main; git reflog expire --expire=now --all; git gc -q --prune=now",
        );
        let commit = world.collect("S")["commit"].as_str().unwrap().to_owned();
        assert!(world.git(&["fsck"]).is_empty());
        world.take_away("state");
        assert_eq!(world.git(&["show", &format!("{commit}:work")]), "work");
        world.ok(&["clean"]);
        assert_eq!(world.git(&["rev-parse", "refs/cofferdam/stories/S/1"]), commit);
        assert!(!world.git(&["worktree", "list"]).contains("stories/S"));
        world.ok(&["workspace", "new", "S", "--set", "project.target=fresh"]);
    });
}

#[test]
fn setup_runs_before_any_agent_and_its_failure_leaves_no_workspace() {
    everywhere(|world| {
        fs_err::write(
            world.main().join("cofferdam.toml"),
            "[workspace]\ncopy = [\".env\"]\nsetup = \"test -f .env && echo made > made.o\"\n",
        )
        .unwrap();
        world.git(&["add", "cofferdam.toml"]);
        world.git(&["commit", "-q", "-m", "configuration"]);
        // Without the file the setup fails, and says so with its own words.
        let failed = world.run(&["workspace", "new", "S", "--set", "workspace.setup=echo its own words; exit 3"]);
        let told = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(1), "{told}");
        assert!(told.contains("exit code 3") && String::from_utf8_lossy(&failed.stdout).contains("its own words"), "{told}");
        assert_eq!(world.run(&["workspace", "new", "S"]).status.code(), Some(1));
        assert!(!world.git(&["worktree", "list"]).contains("stories/S"));
        fs_err::write(world.main().join(".env"), "A=1\n").unwrap();
        world.ok(&["workspace", "new", "S"]);
        assert_eq!(world.inside("S", "cat .env made.o"), "A=1\nmade\n");
    });
}

#[test]
fn a_checkout_is_no_repository_on_the_host() {
    for user in if is_root() { vec![None, Some(ORDINARY)] } else { vec![None] } {
        let world = World::with(user, Form::Checkout);
        world.ok(&["workspace", "new", "S"]);
        let canary = world.path("home/canary");
        world.inside(
            "S",
            &format!(
                "git config core.fsmonitor 'touch {0}; false'; rm -rf .git; mv .git away; rmdir .git; ln -s /etc .git/x; test -d .git && git init -q . && git config core.fsmonitor 'touch {0}; false'; git status >/dev/null",
                canary.display()
            ),
        );
        // Whoever walks into the folder that `git worktree list` shows finds no repository there.
        let listed = world.git(&["worktree", "list", "--porcelain"]);
        let tree =
            listed.lines().find_map(|line| line.strip_prefix("worktree ").filter(|path| path.ends_with("/S/tree"))).unwrap().to_owned();
        let status = |place: &str| world.bash(&format!("cd {place} && git -c safe.directory='*' status"));
        assert!(!status(&tree).status.success());
        assert!(!canary.exists());
        assert_eq!(fs_err::read_dir(format!("{tree}/.git")).unwrap().count(), 0);
        assert_eq!(world.collect("S")["changed"].as_array().unwrap().len(), 0);
        // The control: with the agent's git directory in it, the same command runs what the agent said.
        world.bash(&format!("rmdir {tree}/.git && cp -a {tree}/../git {tree}/.git"));
        status(&tree);
        assert!(canary.exists(), "the attack itself does not work here");
    }
}

#[test]
fn what_an_agent_writes_to_memory_is_bounded_and_taken_as_a_whole() {
    for user in if is_root() { vec![None, Some(ORDINARY)] } else { vec![None] } {
        let world = World::with(user, Form::Memory);
        world.ok(&["workspace", "new", "S"]);
        world.inside("S", "rm -r src; mkdir src; echo new > src/new; ln src/new src/hard; chmod +x a; mkdir -p d/e; echo 1 > d/e/f; mkfifo pipe; chmod 0 d/e");
        world.inside(
            "S",
            "chmod 700 d/e; test \"$(ls src)\" = \"$(printf 'hard\\nnew')\" && echo 2 >> src/new && rm -r d && mkdir d && echo 3 > d/g && rm a && mkdir a && echo 4 > a/b && truncate -s 20M holes; rm -f pipe; mkfifo pipe",
        );
        // The control of the next line: on disk there is no such thing.
        let folder = fs_err::read_dir(world.path("state/cofferdam")).unwrap().next().unwrap().unwrap().path().join("stories/S");
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs_err::metadata(folder.join("upper/holes")).unwrap().blocks(), 0, "a hole became data");
        world.inside("S", "rm holes; cat src/hard; test \"$(cat a/b)$(cat d/*)\" = 43");
        let collected = world.collect("S");
        let changed: Vec<_> = collected["changed"].as_array().unwrap().iter().map(|c| c["path"].as_str().unwrap().to_owned()).collect();
        assert_eq!(changed, ["a", "a/b", "d/g", "src/b", "src/c", "src/hard", "src/new"], "{collected}");
        assert!(collected["findings"].to_string().contains("special-file"));
        assert!(!folder.join("taken").exists());

        // The kernel holds the bounds: neither more bytes nor more files than the profile says, and what was written up to there is kept.
        let profile = "extends = \"implementer\"\n[limits]\ndisk = \"4MiB\"\nfiles = 2000\n";
        fs_err::create_dir_all(world.path("home/.config/cofferdam/profiles")).unwrap();
        fs_err::write(world.path("home/.config/cofferdam/profiles/small.toml"), profile).unwrap();
        let bytes = world.run(&[
            "workspace",
            "exec",
            "S",
            "--role",
            "small",
            "--",
            "sh",
            "-c",
            "echo kept > kept; i=0; while head -c 1M /dev/urandom > big$i; do i=$((i+1)); done; sleep 9; exit 3",
        ]);
        assert_eq!(bytes.status.code(), Some(137), "{}", String::from_utf8_lossy(&bytes.stderr));
        let files = world.run(&[
            "workspace",
            "exec",
            "S",
            "--role",
            "small",
            "--",
            "sh",
            "-c",
            "mkdir many; i=0; while : > many/$i; do i=$((i+1)); done; sleep 9; exit 3",
        ]);
        assert!(String::from_utf8_lossy(&files.stderr).contains("files"), "{}", String::from_utf8_lossy(&files.stderr));
        assert!(world.collect("S")["changed"].to_string().contains("kept"));
    }
}

#[test]
fn a_stack_that_has_grown_deep_becomes_one_layer_and_shows_the_same() {
    for user in if is_root() { vec![None, Some(ORDINARY)] } else { vec![None] } {
        let world = World::new(user);
        for n in 0..10 {
            world.bash(&format!("echo {n} > src/b; echo {n} > new{n}; git rm -q -f --ignore-unmatch new{}; mkdir -p d{n}; echo {n} > d{n}/f; chmod +x new{n}; git add -A; git commit -q -m {n}", n - 3));
            world.ok(&["workspace", "new", &format!("S{n}")]);
            let story = format!("S{n}");
            let seen = world.inside(&story, "git status --porcelain; git fsck 2>&1 | grep -v dangling; find . -path ./.git -prune -o -type f -printf '%P %m ' -exec cat {} \\; | LC_ALL=C sort");
            let expected = world.bash("find . -path ./.git -prune -o -type f -printf '%P %m ' -exec cat {} \\; | LC_ALL=C sort");
            assert_eq!(seen, String::from_utf8_lossy(&expected.stdout), "after {n}");
        }
        let layers = fs_err::read_dir(world.path("state/cofferdam")).unwrap().next().unwrap().unwrap().path().join("layers");
        let names: Vec<_> = fs_err::read_dir(&layers).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        let flat =
            names.iter().find(|name| name.ends_with("-flat")).unwrap_or_else(|| panic!("no stack was made into one layer: {names:?}"));
        assert!(layers.join(flat).join("git/.git/index").is_file());
        // The first ones still show what they showed, over the layers that were there before.
        assert_eq!(world.inside("S3", "cat src/b; git status --porcelain"), "3\n");
    }
}

#[test]
fn what_an_agent_hides_from_its_own_git_is_collected() {
    everywhere(|world| {
        world.ok(&["workspace", "new", "S"]);
        let hidden = world.inside(
            "S",
            "git update-index --skip-worktree a; git update-index --assume-unchanged src/b; echo '*' > .git/info/exclude; git config core.excludesFile /dev/null; git config core.fileMode false; \
             echo hidden > a; echo hidden > src/b; chmod +x src/c; echo new > new; touch -d '1 year ago' a src/b; git status --porcelain; git add -A; git diff --cached --name-only",
        );
        // The control: git says nothing of it, and takes nothing when it is told to take everything.
        assert_eq!(hidden, "", "the attack itself does not work here");
        let collected = world.collect("S");
        let changed: Vec<_> = collected["changed"].as_array().unwrap().iter().map(|c| c["path"].as_str().unwrap()).collect();
        assert_eq!(changed, ["a", "new", "src/b", "src/c"]);
    });
}

/// What an agent does to the refs and objects it can reach.
fn attack_on_refs(other: &str) -> String {
    format!(
        "set -e; git commit -q --allow-empty -m evil; e=$(git rev-parse HEAD); git branch -f main $e; git symbolic-ref HEAD refs/heads/main; git update-ref {other} $e; \
         git checkout -q --orphan fake; git commit -q --allow-empty -m fake; git replace $e $(git rev-parse fake); d=$(git rev-parse --git-common-dir); mkdir -p $d/info $d/objects/info; \
         echo $e > $d/shallow; echo \"$e $(git rev-parse fake)\" > $d/info/grafts; echo /etc > $d/objects/info/alternates; git pack-refs --all; git gc -q --prune=now 2>/dev/null || true; \
         git log -1 --format=%s main"
    )
}

/// The control: in a plain worktree of git's, the same attack reaches the user's refs, objects and history.
#[test]
fn the_attack_on_refs_works_in_a_plain_worktree() {
    let world = World::new(None);
    world.git(&["update-ref", "refs/cofferdam/stories/other/1", "HEAD"]);
    world.git(&["checkout", "-q", "--detach"]);
    let [main, other] = ["refs/heads/main", "refs/cofferdam/stories/other/1"].map(|name| world.git(&["rev-parse", name]));
    world.git(&["worktree", "add", "-q", "-b", "victim", "../plain"]);
    let attack = attack_on_refs("refs/cofferdam/stories/other/1");
    let done = bash(&world.path("plain"), &attack);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_ne!(world.git(&["rev-parse", "refs/heads/main"]), main);
    assert_ne!(world.git(&["rev-parse", "refs/cofferdam/stories/other/1"]), other);
    assert!(!world.git(&["for-each-ref", "refs/replace"]).is_empty());
    assert_eq!(fs_err::read_to_string(world.main().join(".git/objects/info/alternates")).unwrap(), "/etc\n");
    // The rest of it lies where the user's own git reads it, too.
    let evil = world.git(&["rev-parse", "refs/heads/main"]);
    for file in ["shallow", "info/grafts", "packed-refs"] {
        let content = fs_err::read_to_string(world.main().join(".git").join(file)).unwrap();
        assert!(content.contains(&evil), "{file}: {content}");
    }
    assert_eq!(world.git(&["rev-parse", "--is-shallow-repository"]), "true");
    // The user's history is the agent's: what the target was before is not in it any more.
    assert!(!world.git(&["log", "--format=%H", "refs/heads/main"]).contains(&main));
}

#[test]
fn thirty_two_workspaces_take_less_than_one_percent_of_as_many_checkouts() {
    let world = World::new(None);
    world.bash("mkdir many; for d in $(seq 40); do mkdir many/$d; for f in $(seq 100); do echo $d $f > many/$d/$f; done; done; git add -A; git commit -q -m many");
    world.ok(&["workspace", "new", "first"]);
    // What lies on the disk, in blocks, and not what files say of their length.
    let blocks = |folder: &std::path::Path| -> u64 {
        let said = bash(folder, "du -s --block-size=1 . | cut -f1").stdout;
        String::from_utf8_lossy(&said).trim().parse().unwrap()
    };
    world.git(&["worktree", "add", "-q", "--detach", "../plain"]);
    let checkout = blocks(&world.path("plain"));
    let before = blocks(&world.path("state"));
    for story in 0..32 {
        world.ok(&["workspace", "new", &format!("W{story}")]);
    }
    let taken = blocks(&world.path("state")) - before;
    assert!(taken * 100 < checkout * 32, "{taken} bytes for 32 workspaces, where a checkout takes {checkout}");
    assert!(world.inside("W31", "cat many/40/100; git status --porcelain") == "40 100\n");
}

#[test]
fn what_an_agent_does_to_its_refs_and_objects_changes_none_of_the_hosts() {
    everywhere(|world| {
        world.ok(&["workspace", "new", "other"]);
        world.inside("other", "echo theirs > theirs");
        world.collect("other");
        world.ok(&["workspace", "new", "S"]);
        let look = || {
            world.git(&["for-each-ref"])
                + &world.git(&["cat-file", "--batch-all-objects", "--batch-check"])
                + &world.git(&["log", "--all", "--format=%H %s"])
        };
        let before = look();
        let inside = world.inside("S", &attack_on_refs("refs/cofferdam/stories/other/1"));
        assert!(inside.contains("evil") || inside.contains("fake"), "{inside}");
        let collected = world.collect("S");
        assert_eq!(collected["changed"].as_array().unwrap().len(), 0, "{collected}");
        world.ok(&["workspace", "list"]);
        assert_eq!(look(), before);
        assert_eq!(world.git(&["show", "refs/cofferdam/stories/other/1:theirs"]), "theirs");
        assert_eq!(world.git(&["fsck", "--strict"]), "");
    });
}

/// In a chroot the kernel makes no user namespaces, and inside of a sandbox the filter refuses them: said before anything begins.
#[test]
fn where_no_sandbox_can_be_built_nothing_begins() {
    everybody(|world| {
        world.bash(
            "printf '[agents.implementer]\nadapter = \"command\"\ncommand = [\"true\"]\n' > cofferdam.toml; mkdir stories; \
             printf -- '---\nid: A\n---\n# S\n\n- [ ] x\n' > stories/a.md; git add -A; git commit -qm plan",
        );
        let program = world.program.to_str().unwrap().to_owned();
        let refused = |name: &str, output: &Output| {
            let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(!output.status.success() && told.contains("cannot be built here") && told.contains("next: "), "{name}: {told}");
            assert!(!told.contains("panicked") && !told.contains("run.started"), "{name}: {told}");
        };
        for args in [&["exec", "--", "true"][..], &["run"]] {
            let nested = ["exec", "--quiet", "--read", &program, "--", "env", "XDG_STATE_HOME=/tmp/state", &program];
            refused("inside of a sandbox", &world.run(&[&nested, args].concat()));
            if is_root() {
                let mut chroot = Command::new("unshare");
                let script = "mkdir -p ../all && mount --rbind / ../all && here=$PWD && cd ../all && exec chroot . sh -c 'cd \"$0\" && exec \"$@\"' \"$here\" \"$@\"";
                chroot.args(["-m", "sh", "-c", script, "sh", &program]).args(args).current_dir(world.main());
                chroot.env("HOME", world.path("home")).env("XDG_STATE_HOME", world.path("state"));
                if let Some(user) = world.user {
                    // As root up to there: who may not mount may not enter one either.
                    let as_user = format!("exec setpriv --reuid={user} --regid={user} --clear-groups \"$@\"");
                    chroot = Command::new("unshare");
                    let script = script.replace("exec \"$@\"", &as_user);
                    chroot.args(["-m", "sh", "-c", &script, "sh", &program]).args(args).current_dir(world.main());
                    chroot.env("HOME", world.path("home")).env("XDG_STATE_HOME", world.path("state"));
                }
                refused("in a chroot", &chroot.output().unwrap());
            }
        }
        // The control: outside of both the same command runs.
        world.ok(&["exec", "--", "true"]);
    });
}

#[test]
fn a_folder_of_programs_that_holds_the_state_shows_nothing_of_it() {
    everywhere(|world| {
        world.bash("mkdir -p ../bin && printf '#!/bin/sh\necho ran\n' > ../bin/tool && chmod +x ../bin/tool");
        let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
        let state = world.path("bin/state");
        let run = |args: &[&str]| {
            let output = world.command(args).env("PATH", &path).env("XDG_STATE_HOME", &state).output().unwrap();
            assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        run(&["workspace", "new", "S"]);
        for mode in ["755", "700"] {
            world.bash(&format!("chmod {mode} ../bin/state"));
            let look = format!("tool; find {} 2>/dev/null | grep -v -x -e {0} -e {0}/cofferdam", state.display());
            for args in [&["workspace", "exec", "S", "--"][..], &["exec", "--"]] {
                assert_eq!(run(&[args, &["sh", "-c", &format!("{look}; true")]].concat()), "ran\n", "{mode} {args:?}");
            }
        }
        // The control: it is there.
        let found = world.bash(&format!("find {} -name story.json", state.display()));
        assert!(!found.stdout.is_empty());
    });
}

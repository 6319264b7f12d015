//! A repository, a home and the program, for one user.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// Nobody's account on any machine we know.
const ORDINARY: u32 = 54_322;

pub(crate) struct World {
    scratch: tempfile::TempDir,
    user: Option<u32>,
}

/// The caller, and as root an ordinary user as well.
pub(crate) fn everybody() -> Vec<World> {
    let mut worlds = vec![World::new(None)];
    if nix::unistd::geteuid().is_root() {
        worlds.push(World::new(Some(ORDINARY)));
    }
    worlds
}

impl World {
    pub(crate) fn new(user: Option<u32>) -> Self {
        // On a disk, as an overlay's upper folder must be.
        let scratch = tempfile::Builder::new().prefix("cofferdam-test-").tempdir_in("/var/tmp").expect("a folder");
        fs_err::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let world = Self { scratch, user };
        crate::program::install(env!("CARGO_BIN_EXE_cofferdam"), world.path("cofferdam"));
        for folder in ["repo", "home"] {
            fs_err::create_dir(world.path(folder)).expect("a folder");
        }
        world.sh("git init -q -b main; echo one > file; echo '*.tmp' > .gitignore");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.path("repo")
    }

    /// Runs a script in the repository, as the user; nothing of the caller's git settings takes part.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let mut command = Command::new("bash");
        command.args(["-ec", script]).current_dir(self.repo());
        hermetic(&mut command);
        let output = command.output().expect("bash");
        assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        self.own();
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    pub(crate) fn own(&self) {
        if let Some(user) = self.user {
            let own = Command::new("chown").arg("-Rh").arg(format!("{user}:{user}")).arg(self.repo()).arg(self.path("home")).status();
            assert!(own.expect("chown").success());
        }
    }

    /// Commits everything, with this as the configuration.
    pub(crate) fn commit(&self, config: &str) -> String {
        fs_err::write(self.repo().join("cofferdam.toml"), config).expect("the configuration");
        self.sh("git add -A; git commit -q -m change; git rev-parse HEAD")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "--"]).arg(self.path("cofferdam"));
                command
            }
            None => Command::new(self.path("cofferdam")),
        };
        command.args(args).current_dir(self.repo()).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
        command.env("HOME", self.path("home"));
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran(self.command(args).output().expect("the program runs"))
    }

    /// `cofferdam gate --json ARGS`, and its one document.
    #[track_caller]
    pub(crate) fn gate(&self, args: &[&str]) -> (i32, Value) {
        let ran = self.run(&[&["gate", "--json"], args].concat());
        let document = serde_json::from_slice(&ran.0.stdout).unwrap_or_else(|e| panic!("{e}: {}{}", ran.out(), ran.err()));
        (ran.code(), document)
    }

    /// Everything below the state folder, by path.
    pub(crate) fn state(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.path("home/.local/state/cofferdam")];
        while let Some(folder) = folders.pop() {
            for entry in fs_err::read_dir(&folder).into_iter().flatten().flatten() {
                found.push(entry.path());
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    folders.push(entry.path());
                }
            }
        }
        found
    }
}

pub(crate) fn hermetic(command: &mut Command) {
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
    command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*");
    for (name, value) in [("NAME", "Tester"), ("EMAIL", "tester@example.org")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
}

#[derive(Debug)]
pub(crate) struct Ran(pub(crate) Output);

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }
}

/// Does any process of the machine have this in its command line?
pub(crate) fn alive(mark: &str) -> bool {
    let entries = fs_err::read_dir("/proc").expect("/proc").flatten();
    entries.filter_map(|e| fs_err::read(e.path().join("cmdline")).ok()).any(|line| {
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(mark)
    })
}

pub(crate) fn gate(name: &str, run: &str, more: &str) -> String {
    format!("[[gate]]\nname = \"{name}\"\nrun = '''{run}'''\n{more}\n")
}

const AGENT: &str =
    "[agents.implementer]\nadapter = \"command\"\ncommand = [\"./agent.sh\", \"{story}\"]\n[run]\nretry_delay = \"10ms\"\nparallel = 4\n";

/// A repository whose stories are done by the scripts beside them.
pub(crate) struct Project {
    pub(crate) world: World,
}

impl Project {
    pub(crate) fn new(world: World, config: &str, stories: &[(&str, &str)]) -> Self {
        let project = Self { world };
        let repo = project.world.repo();
        fs_err::write(repo.join("agent.sh"), "#!/bin/sh\nsh -e \"do/$1\"\n").expect("an agent");
        project.world.sh("chmod +x agent.sh; mkdir -p do stories");
        for (id, script) in stories {
            fs_err::write(repo.join("do").join(id), script).expect("a script");
            let text = format!("---\nid: {id}\ntitle: Story {id}\n---\n- [ ] AC-1: done\n");
            fs_err::write(repo.join(format!("stories/{id}.md")), text).expect("a story");
        }
        project.world.commit(&format!("{AGENT}{config}"));
        project
    }

    /// `cofferdam run` to its end.
    #[track_caller]
    pub(crate) fn run(&self, code: i32) -> Ran {
        let ran = self.world.run(&["run", "--plain"]);
        assert_eq!(ran.code(), code, "{}\n{}", ran.out(), ran.err());
        ran
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let ran = self.world.run(args);
        serde_json::from_slice(&ran.0.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {}", ran.err()))
    }

    pub(crate) fn states(&self) -> BTreeMap<String, String> {
        let status = self.json(&["status", "--json"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        status["stories"].as_array().expect("stories").iter().map(|s| (text(&s["id"]), text(&s["state"]))).collect()
    }

    pub(crate) fn events(&self, kind: &str) -> Vec<Value> {
        let ran = self.world.run(&["log", "--json"]);
        let lines = ran.out().lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>();
        lines.into_iter().filter(|event| event["kind"] == kind).collect()
    }

    /// Every commit of the target is the merge of its parent and its story, in one line, and green.
    #[track_caller]
    pub(crate) fn is_sound(&self, first: &str, landed: usize, green: &str) {
        let line = self.world.sh(&format!("git rev-list --first-parent --reverse {first}..main"));
        assert_eq!(line.lines().count(), landed, "{line}");
        for commit in line.lines() {
            let merged = self.world.sh(&format!("git merge-tree --write-tree {commit}^1 {commit}^2"));
            assert_eq!(merged, self.world.sh(&format!("git rev-parse {commit}^{{tree}}")));
            self.world.sh(&format!("rm -rf ../look; mkdir ../look; git archive {commit} | tar -x -C ../look; cd ../look; {green}"));
        }
        assert!(self.world.run(&["log", "--verify"]).code() == 0);
    }
}

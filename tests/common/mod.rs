//! Runs the program as a person would: in a home and a folder of its own, as root and as an ordinary user, with nothing inherited.
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses a part")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

mod program;

/// Who runs the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The user that runs the tests.
    Caller,
    /// An ordinary user, when the tests run as root.
    Ordinary,
}

/// No account has this id; nothing on the host belongs to it.
const ORDINARY: u32 = 64_242;

/// A home, a workspace in it, and the program where everybody can read it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) who: Who,
    root: tempfile::TempDir,
}

/// Every user the tests can be: the caller, and as root an ordinary one as well.
pub(crate) fn everybody() -> Vec<World> {
    let mut worlds = vec![World::new(Who::Caller)];
    if is_root() {
        worlds.push(World::new(Who::Ordinary));
    } else {
        // Past the test harness, which swallows what a passing test prints.
        let line = b"SKIPPED as an ordinary user beside root: the tests do not run as root\n";
        drop(std::io::Write::write_all(&mut std::io::stderr(), line));
    }
    worlds
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

impl World {
    pub(crate) fn new(who: Who) -> Self {
        let root = tempfile::Builder::new().prefix("cofferdam-test-").tempdir().expect("a temporary folder");
        fs_err::set_permissions(root.path(), std::fs::Permissions::from_mode(0o755)).expect("permissions");
        let world = Self { who, root };
        for folder in [world.home(), world.workspace()] {
            fs_err::create_dir_all(&folder).expect("a folder");
        }
        let program = world.program();
        if fs_err::hard_link(env!("CARGO_BIN_EXE_cofferdam"), &program).is_err() {
            program::install(env!("CARGO_BIN_EXE_cofferdam"), &program);
        }
        world.own(&world.home());
        world.own(&world.workspace());
        world
    }

    /// Gives a path to the user that runs the program.
    pub(crate) fn own(&self, path: &Path) {
        if self.who == Who::Ordinary {
            std::os::unix::fs::chown(path, Some(ORDINARY), Some(ORDINARY)).expect("chown");
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.root.path().canonicalize().expect("the temporary folder")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.path().join("home")
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.path().join("home/project")
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.path().join("cofferdam")
    }

    /// Writes a file that belongs to the user.
    pub(crate) fn write(&self, path: &str, content: &str) -> PathBuf {
        let path = self.path().join(path);
        fs_err::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs_err::write(&path, content).expect("a file");
        self.own(&path);
        path
    }

    /// The program as that user, with a clean environment, in the workspace.
    pub(crate) fn command(&self) -> Command {
        let mut command = if self.who == Who::Ordinary {
            let id = ORDINARY.to_string();
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(self.program());
            command
        } else {
            Command::new(self.program())
        };
        command.env_clear().env("HOME", self.home()).env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.current_dir(self.workspace()).stdin(Stdio::null());
        command
    }

    /// `cofferdam exec OPTIONS -- COMMAND`, to its end.
    pub(crate) fn exec(&self, options: &[&str], arguments: &[&str]) -> Ran {
        let outcome = self.path().join("home/outcome.json");
        let mut command = self.command();
        command.arg("exec").arg("--outcome").arg(&outcome).args(options).arg("--").args(arguments);
        let start = std::time::Instant::now();
        let output = command.output().expect("the program runs");
        let took = start.elapsed();
        let outcome = fs_err::read(&outcome).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or(Value::Null);
        Ran { output, outcome, took }
    }

    /// A shell script inside.
    pub(crate) fn sh(&self, options: &[&str], script: &str) -> Ran {
        self.exec(options, &["sh", "-c", script])
    }
}

/// A finished run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) output: Output,
    pub(crate) outcome: Value,
    pub(crate) took: std::time::Duration,
}

impl Ran {
    pub(crate) fn code(&self) -> i32 {
        self.output.status.code().unwrap_or(-1)
    }

    pub(crate) fn cause(&self) -> &str {
        self.outcome["cause"].as_str().unwrap_or("no outcome")
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    #[track_caller]
    pub(crate) fn expect(&self, code: i32, cause: &str) -> &Self {
        assert_eq!((self.code(), self.cause()), (code, cause), "out: {}\nerr: {}\noutcome: {:#}", self.out(), self.err(), self.outcome);
        self
    }
}

/// Processes of the whole machine whose command line contains `mark`.
pub(crate) fn processes_with(mark: &str) -> Vec<String> {
    let entries = fs_err::read_dir("/proc").expect("/proc").flatten();
    let lines = entries.filter_map(|entry| fs_err::read(entry.path().join("cmdline")).ok());
    lines.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ")).filter(|line| line.contains(mark)).collect()
}

/// Waits up to two seconds for something that happens soon.
pub(crate) fn soon(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(2);
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

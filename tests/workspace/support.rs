//! Repositories, scripts and overlays for the tests of this folder.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A small generator of the same numbers on every run: a failure names its seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    pub(crate) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }
}

/// Git with nobody's configuration but ours.
pub(crate) fn git(folder: &Path, args: &[&str]) -> String {
    let output = git_command(folder, args).output().unwrap();
    assert!(output.status.success(), "git {args:?} in {}: {}", folder.display(), String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

pub(crate) fn git_command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).args(args);
    hermetic(&mut command);
    command
}

fn hermetic(command: &mut Command) {
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", "/nonexistent");
    for (name, value) in [("NAME", "Tester"), ("EMAIL", "tester@example.org")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    command.env_remove("GIT_DIR").env_remove("GIT_WORK_TREE").env_remove("GIT_INDEX_FILE");
}

/// Runs a bash script in a folder.
pub(crate) fn bash(folder: &Path, script: &str) -> Output {
    bash_command(folder, script).output().unwrap()
}

pub(crate) fn bash_command(folder: &Path, script: &str) -> Command {
    let mut command = Command::new("bash");
    command.arg("-c").arg(script).current_dir(folder);
    hermetic(&mut command);
    command
}

/// Quotes any bytes for bash.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut quoted = String::from("$'");
    for byte in bytes {
        quoted.extend(format!("\\x{byte:02x}").chars());
    }
    quoted + "'"
}

/// An overlay that is mounted only inside a namespace of its own, while a script runs in it.
pub(crate) struct Overlay {
    pub(crate) lower: PathBuf,
    pub(crate) upper: PathBuf,
    work: PathBuf,
    merged: PathBuf,
}

impl Overlay {
    pub(crate) fn new(lower: &Path, folder: &Path) -> Self {
        let [upper, work, merged] = ["upper", "work", "merged"].map(|name| folder.join(name));
        for path in [&upper, &work, &merged] {
            fs_err::create_dir_all(path).unwrap();
        }
        Self { lower: lower.to_owned(), upper, work, merged }
    }

    /// Runs a script in the merged view.
    pub(crate) fn run(&self, script: &str) -> Output {
        self.run_with("userxattr,index=off,metacopy=off,volatile", script).unwrap_or_else(|why| panic!("no overlay here: {why}"))
    }

    /// The same with other options; an error says that this kernel or user cannot mount it so.
    pub(crate) fn run_with(&self, options: &str, script: &str) -> Result<Output, String> {
        let [lower, upper, work, merged] = [&self.lower, &self.upper, &self.work, &self.merged].map(|p| p.to_str().unwrap());
        let mount = format!(
            "rm -rf {work}/work && mount -t overlay overlay -o lowerdir={lower},upperdir={upper},workdir={work},{options} {merged} || exit 99\ncd {merged}\n"
        );
        let mut command = Command::new("unshare");
        command.args(if is_root() { &["-m"][..] } else { &["-U", "-r", "-m"] }).args(["bash", "-c"]).arg(mount + script);
        hermetic(&mut command);
        let output = command.output().unwrap();
        if output.status.code() == Some(99) { Err(String::from_utf8_lossy(&output.stderr).into_owned()) } else { Ok(output) }
    }
}

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The folder tests work in: on a disk, as an overlay's upper folder must be.
pub(crate) fn scratch() -> tempfile::TempDir {
    let place = std::env::var_os("COFFERDAM_TEST_SCRATCH").unwrap_or_else(|| "/var/tmp".into());
    tempfile::Builder::new().prefix("cofferdam-test-").tempdir_in(place).unwrap()
}

/// The program under test, where whoever runs this can read it.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("COFFERDAM_TEST_PROGRAM").map_or_else(|| env!("CARGO_BIN_EXE_cofferdam").into(), PathBuf::from)
}

/// Nobody's account on any machine we know.
pub(crate) const ORDINARY: u32 = 54_321;

/// Runs tests of this binary once more as an ordinary user; returns how many passed.
pub(crate) fn again_as_ordinary(filters: &[&str]) -> usize {
    let scratch = scratch();
    let [tests, copy] = ["tests", "cofferdam"].map(|name| scratch.path().join(name));
    crate::program::install(std::env::current_exe().unwrap(), &tests);
    crate::program::install(program(), &copy);
    assert!(bash(scratch.path(), &format!("mkdir home; chown {ORDINARY} . home; chmod 755 .")).status.success());
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={ORDINARY}"), &format!("--regid={ORDINARY}"), "--clear-groups", "--"]).arg(tests);
    command.args(filters).args(["--test-threads", "2"]).current_dir(scratch.path()).env("COFFERDAM_TEST_PROGRAM", copy);
    command.env("HOME", scratch.path().join("home")).env_remove("XDG_STATE_HOME");
    // An overlay's work folder is locked: only root can remove what is left of one.
    command.env("COFFERDAM_TEST_SCRATCH", scratch.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said.lines().filter(|line| line.ends_with("... ok")).count()
}

//! Where the demo plays: a repository of a small real project, the home of a person who keeps a key in it, and a state of its own.

use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::agent::{COMMAND, HOOK, KEY};
use crate::workspace::removal;

macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("club/", $path)))),*] };
}

/// The project as it is before anybody works on it.
pub(super) const BASE: &[(&str, &str)] = files![
    "README.md",
    "club",
    "data/members",
    "lib/members.sh",
    "lib/menu.sh",
    "stories/00-overview.md",
    "stories/10-landing.md",
    "stories/20-auth.md",
    "stories/30-settings.md",
    "stories/40-dashboard.md",
    "stories/50-billing.md",
    "tests/members_test.sh",
    "tests/run.sh",
    "tests/whole.sh",
];

/// A hook of the user's own, which must be the same afterwards.
const OWN_HOOK: &str = "#!/bin/sh\nexit 0\n";

/// Why there is no scene.
#[derive(Debug, thiserror::Error)]
pub(super) enum SceneError {
    #[error("{} is there already, and is not an empty folder", path.display())]
    Taken { path: PathBuf },
    #[error("the path {} is no UTF-8 text, and it must stand in a configuration", path.display())]
    Path { path: PathBuf },
    #[error("the repository cannot be made: {}", .0.message())]
    Git(#[from] git2::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A folder that goes when the demo goes, whatever agents left in it.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Folders without rights and foreign owners are what it is made for; what cannot be removed is nothing to fail for.
        drop(removal::empty(&self.0));
        drop(fs_err::remove_dir(&self.0));
    }
}

pub(super) struct Scene {
    scratch: Scratch,
    pub(super) repository: PathBuf,
    /// What `XDG_STATE_HOME` is for the run.
    states: PathBuf,
    /// What stands in the key file and nowhere else.
    canary: String,
}

impl Scene {
    /// Makes it: in a folder that is kept, with its state where the user's states are, or all of it in a temporary one.
    ///
    /// # Errors
    /// When the folder is taken, or cannot be written.
    pub(super) fn make(keep: Option<&Path>, program: &Path) -> Result<Self, SceneError> {
        let scratch = Scratch(tempfile::Builder::new().prefix("cofferdam-demo-").tempdir()?.keep());
        let place = fs_err::canonicalize(&scratch.0)?;
        let (repository, states) = match keep {
            None => (place.join("club"), place.join("state")),
            Some(folder) => (empty_folder(folder)?, states()?),
        };
        let canary = format!("canary-{:x}-{:x}", std::process::id(), jiff::Timestamp::now().as_nanosecond());
        let scene = Self { scratch, repository, states, canary };
        let home = scene.home();
        write(&home.join(KEY), &format!("{}\n", scene.canary), 0o600)?;
        fs_err::create_dir_all(home.join(".config"))?;
        for (path, content) in BASE {
            let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
            write(&scene.repository.join(path), content, mode)?;
        }
        let text = |path: &Path| path.to_str().map(str::to_owned).ok_or_else(|| SceneError::Path { path: path.to_owned() });
        let configuration = configuration(&text(program)?, &text(&home)?, &text(&scene.repository)?);
        write(&scene.repository.join("cofferdam.toml"), &configuration, 0o644)?;
        commit(&scene.repository)?;
        write(&scene.repository.join(HOOK), OWN_HOOK, 0o755)?;
        Ok(scene)
    }

    /// The home of the person who runs the agents.
    pub(super) fn home(&self) -> PathBuf {
        fs_err::canonicalize(&self.scratch.0).unwrap_or_else(|_| self.scratch.0.clone()).join("home")
    }

    pub(super) fn canary(&self) -> &str {
        &self.canary
    }

    /// The folder of the store.
    pub(super) fn state(&self) -> Option<PathBuf> {
        let git = fs_err::canonicalize(self.repository.join(".git")).ok()?;
        crate::store::place::locate(&self.states.join("cofferdam"), &git).ok()
    }

    /// Is the user's hook what it was, and alone?
    pub(super) fn hooks_are_untouched(&self) -> bool {
        let hook = self.repository.join(HOOK);
        fs_err::read_to_string(hook).is_ok_and(|text| text == OWN_HOOK)
    }

    /// `cofferdam run` in the repository, with an environment that holds nothing of the caller's but what programs are found by.
    pub(super) fn run(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["run", "--json"]).current_dir(&self.repository).env_clear();
        for name in ["PATH", "LANG", "LC_ALL", "TMPDIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        // A test leaves a guard out, to see that it is missed.
        #[cfg(debug_assertions)]
        command.envs(std::env::var_os("COFFERDAM_TEST_WITHOUT").map(|value| ("COFFERDAM_TEST_WITHOUT", value)));
        command.env("HOME", self.home()).env("XDG_CONFIG_HOME", self.home().join(".config")).env("XDG_STATE_HOME", &self.states);
        command
    }
}

/// Where this user's states are.
fn states() -> io::Result<PathBuf> {
    let of = |name: &str| std::env::var_os(name);
    let states = crate::store::place::state_home(of("XDG_STATE_HOME").as_deref(), of("HOME").as_deref()).map_err(io::Error::other)?;
    Ok(states.parent().unwrap_or(&states).to_owned())
}

fn empty_folder(folder: &Path) -> Result<PathBuf, SceneError> {
    fs_err::create_dir_all(folder).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => SceneError::Taken { path: folder.to_owned() },
        _ => error.into(),
    })?;
    if fs_err::read_dir(folder)?.next().is_some() {
        return Err(SceneError::Taken { path: folder.to_owned() });
    }
    Ok(fs_err::canonicalize(folder)?)
}

fn write(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs_err::create_dir_all(parent)?;
    }
    let mut file = fs_err::OpenOptions::new();
    file.write(true).create_new(true).options_mut().mode(mode);
    let mut file = file.open(path)?;
    io::Write::write_all(&mut file, content.as_bytes())?;
    // Whatever the caller's mask is.
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}

/// `cofferdam.toml` of the demo.
fn configuration(program: &str, home: &str, repository: &str) -> String {
    let list = |words: &[&str]| toml::Value::Array(words.iter().map(|word| toml::Value::String((*word).to_owned())).collect()).to_string();
    format!(
        "# Written by `cofferdam demo`. Its agents are scripts inside of the program itself.\n\
         [run]\nparallel = 3\nintegration_every = 2\nretry_delay = \"1ms\"\n\n\
         [agents.implementer]\nadapter = \"command\"\ncommand = {}\n\n\
         [agents.reviewer]\nadapter = \"command\"\ncommand = {}\n\n\
         [[gate]]\nname = \"test\"\nrun = \"sh tests/run.sh\"\nreport = \"tap\"\n\n\
         [[gate]]\nname = \"walk\"\nwhen = \"integration\"\nrun = \"sh tests/whole.sh\"\n\n\
         [merge]\nstyle = \"squash\"\nupdate_checkout = \"fast-forward-if-clean\"\n",
        list(&[program, COMMAND, "implement", "{story}", home, repository]),
        list(&[program, COMMAND, "review", "{story}"]),
    )
}

/// The first commit. The `git` program is not needed for it.
fn commit(repository: &Path) -> Result<(), git2::Error> {
    let mut options = git2::RepositoryInitOptions::new();
    options.initial_head("main").external_template(false).no_reinit(true);
    let repository = git2::Repository::init_opts(repository, &options)?;
    let mut config = repository.config()?.open_level(git2::ConfigLevel::Local)?;
    for (key, value) in [("user.name", "cofferdam demo"), ("user.email", "demo@localhost"), ("core.autocrlf", "false")] {
        config.set_str(key, value)?;
    }
    let mut index = repository.index()?;
    index.add_all(["*"], git2::IndexAddOption::FORCE, None)?;
    index.write()?;
    let tree = repository.find_tree(index.write_tree()?)?;
    let author = git2::Signature::now("cofferdam demo", "demo@localhost")?;
    repository.commit(Some("HEAD"), &author, &author, "A club with members and a menu\n", &tree, &[])?;
    Ok(())
}

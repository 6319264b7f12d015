//! The store of the repository that a command stands in, and what readers of it share.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::failure::{Exit, Failure};
use crate::base::id::StoryId;
use crate::base::text::{cut, one_line};
use crate::base::{duration, suggest};
use crate::config::load::Environment;
use crate::event::{Actor, Event, Kind};
use crate::store::health::{self, Runner, Status};
use crate::store::place::{self, PlaceError};
use crate::store::{Store, StoreError};
use crate::story::Story;

/// The version of the documents that `--json` prints here.
pub(in crate::face) const VERSION: u32 = 1;

/// Set for a command that the MCP server runs: the log says that a model asked in a person's name.
pub(in crate::face) const VIA: &str = "COFFERDAM_VIA";

/// Where the state of this repository is, or would be.
#[derive(Clone)]
pub(in crate::face) struct State {
    pub(in crate::face) folder: PathBuf,
    git: PathBuf,
}

impl State {
    /// # Errors
    /// When this is no repository, or it moved.
    pub(in crate::face) fn find() -> Result<Self, Failure> {
        let here =
            std::env::current_dir().map_err(|error| Failure::new(Exit::Failure, "the current directory cannot be read").because(&error))?;
        // The same variable that leads to the configuration.
        let here = Environment::of_process().project_dir.map_or(here.clone(), |named| here.join(named));
        let state = Self::at(&here)?;
        super::printer::detail(|| format!("what is remembered lies in {}", one_line(&state.folder.to_string_lossy())));
        Ok(state)
    }

    /// # Errors
    /// When this folder is in no repository, or it moved.
    pub(in crate::face) fn at(here: &Path) -> Result<Self, Failure> {
        let fail = |error: PlaceError| {
            let exit = if matches!(error, PlaceError::Io(_)) { Exit::Failure } else { Exit::Usage };
            Failure::new(exit, error.to_string()).next(error.next())
        };
        let git = place::common_git_dir(here).map_err(fail)?;
        let states = states().map_err(fail)?;
        let folder = place::locate(&states, &git).map_err(fail)?;
        Ok(Self { folder, git })
    }

    /// Of every repository of this user that anything was stored for; and whether the repository is still there.
    ///
    /// # Errors
    /// When the folder of all states cannot be read.
    pub(in crate::face) fn all() -> Result<Vec<(Self, bool)>, Failure> {
        let states = states().map_err(|error| Failure::new(Exit::Usage, error.to_string()).next(error.next()))?;
        let found = place::all(&states).map_err(|error| {
            Failure::new(Exit::Failure, "the states of your repositories cannot be read")
                .because(&error)
                .next("look at the path that is named")
        })?;
        Ok(found.into_iter().map(|(git, is_there, folder)| (Self { folder, git }, is_there)).collect())
    }

    /// The repository, as a person names it: the folder that holds its `.git`.
    pub(in crate::face) fn repository(&self) -> &Path {
        self.git.parent().filter(|_| self.git.file_name().is_some_and(|name| name == ".git")).unwrap_or(&self.git)
    }

    #[cfg(test)]
    pub(in crate::face) fn of_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), git: folder.to_owned() }
    }

    /// The store, when anything was ever stored. A reader makes none.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(in crate::face) fn store(&self) -> Result<Option<Store>, Failure> {
        Store::open_existing(&self.folder).map_err(failure)
    }

    /// The store of a command that writes to it.
    ///
    /// # Errors
    /// When it cannot be made or opened.
    pub(in crate::face) fn store_to_write(&self) -> Result<Store, Failure> {
        let claimed = place::claim(&self.folder, &self.git);
        claimed.map_err(|error| unwritable(&error))?;
        Store::open(&self.folder).map_err(failure)
    }

    /// What is to be believed about the runner.
    ///
    /// # Errors
    /// When the lock cannot be read.
    pub(in crate::face) fn runner(&self) -> Result<Runner, Failure> {
        let looked = health::runner(&self.folder, now());
        looked.map_err(|error| {
            Failure::new(Exit::Failure, "the runner's lock cannot be read").because(&error).next("look at the path that is named")
        })
    }
}

fn states() -> Result<PathBuf, PlaceError> {
    place::state_home(std::env::var_os("XDG_STATE_HOME").as_deref(), std::env::var_os("HOME").as_deref())
}

/// The failure of whoever wants to write where nothing can be written.
pub(in crate::face) fn unwritable(error: &dyn std::error::Error) -> Failure {
    Failure::new(Exit::Failure, "the state folder cannot be written")
        .because(error)
        .next("is there space on the disk, and may you write there? XDG_STATE_HOME names another place")
}

/// The failure for an error of the store.
pub(in crate::face) fn failure(error: StoreError) -> Failure {
    let next = error.next();
    match error {
        StoreError::Refused(refused) => {
            let story = one_line(refused.story.as_str());
            // `story.answered`: the word for what was wanted.
            let what = match refused.attempted.strip_prefix("story.") {
                Some(done) => format!("{story} was refused: it is not {done}"),
                None => format!("{} of {story} was refused", refused.attempted),
            };
            Failure::new(Exit::Failure, what).why(format!("the story is {}: {}", refused.state, refused.why)).next(next)
        }
        StoreError::Newer { .. } | StoreError::NotOurs { .. } => Failure::new(Exit::Usage, error.to_string()).next(next),
        StoreError::Damaged { .. }
        | StoreError::DiskFull { .. }
        | StoreError::Busy { .. }
        | StoreError::Vanished { .. }
        | StoreError::TooLarge { .. }
        | StoreError::Unreadable { .. }
        | StoreError::Io(_)
        | StoreError::Sqlite { .. } => Failure::new(Exit::Failure, error.to_string()).next(next),
    }
}

/// The one clock of these commands.
pub(in crate::face) fn now() -> Timestamp {
    Timestamp::now()
}

/// An event of the person at this terminal.
pub(in crate::face) fn said(story: Option<StoryId>, kind: Kind) -> Event {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let name = user.map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name);
    let name = if std::env::var_os(VIA).is_some_and(|via| via == "mcp") { format!("{name} by mcp") } else { name };
    Event { at: now(), run: None, story, actor: Actor::Human(name), kind }
}

/// A story by the id that was typed.
///
/// # Errors
/// When there is none: the nearest id is suggested.
pub(in crate::face) fn story(store: Option<&Store>, typed: &str) -> Result<Story, Failure> {
    let unknown = || Failure::usage(format!("there is no story `{}`", cut(&one_line(typed), 100)));
    let Some(store) = store else {
        return Err(unknown().why("nothing has run in this repository yet").next("cofferdam run"));
    };
    let id: StoryId = typed.parse().map_err(|error| unknown().because(&error))?;
    if let Some(story) = store.story(&id).map_err(failure)? {
        return Ok(story);
    }
    let rows = store.stories().map_err(failure)?;
    let next = match suggest::nearest(typed, rows.iter().map(|row| row.id.as_str())) {
        Some(near) => format!("did you mean {}?", one_line(near)),
        None => "cofferdam status lists the stories there are; one that was just written is known from the next run on".to_owned(),
    };
    Err(unknown().next(next))
}

/// `4 min 10 s ago`.
pub(in crate::face) fn ago(at: Timestamp) -> String {
    match std::time::Duration::try_from(now().duration_since(at)) {
        Ok(passed) => format!("{} ago", duration::display(passed)),
        // A clock was set back meanwhile.
        Err(_) => format!("at {at}"),
    }
}

/// A time for a person, to the second: `2026-11-21 08:00:03`.
pub(in crate::face) fn clock(at: &str) -> String {
    at.parse::<Timestamp>().map_or_else(|_| one_line(at).into_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// The runner's state as one word.
pub(in crate::face) fn status_word(status: Status) -> &'static str {
    match status {
        Status::Starting => "starting",
        Status::Running => "running",
        Status::Stopped => "stopped",
        Status::Error => "error",
        Status::Hung => "hung",
    }
}

/// `running (process 123, heartbeat 4 s ago)`.
pub(in crate::face) fn runner_line(runner: &Runner) -> String {
    let process = runner.pid.map(|pid| format!("process {pid}"));
    let beat = runner.heartbeat.map(|at| format!("heartbeat {}", ago(at)));
    let facts: Vec<String> =
        [process, beat, runner.detail.as_deref().map(|detail| one_line(detail).into_owned())].into_iter().flatten().collect();
    let word = status_word(runner.status);
    if facts.is_empty() { word.to_owned() } else { format!("{word} ({})", facts.join(", ")) }
}

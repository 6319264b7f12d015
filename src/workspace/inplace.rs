//! A run in place on a repository: its git directory is never writable inside. The agent sees a private one, and what it commits there
//! arrives as checked data under a ref.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::git::{GitError, Repository};
use super::import::{self, Imported, Refused, Tip};
use super::private_git::{self, OBJECTS_INSIDE};
use super::removal;
use super::risks::{self, Risk};
use super::state::{self, Lock, State};
use super::stories::WorkspaceError;
use super::walk::Folder;

/// What of the git directory is seen inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GitMode {
    /// A private one: commit, branch and rebase work, and change nothing outside.
    #[default]
    Private,
    /// The real one, read-only.
    Readonly,
    /// Nothing.
    None,
}

impl std::str::FromStr for GitMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "private" => Ok(Self::Private),
            "readonly" => Ok(Self::Readonly),
            "none" => Ok(Self::None),
            _ => Err("it is `private`, `readonly` or `none`".to_owned()),
        }
    }
}

/// One thing to put over the workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cover {
    pub host: PathBuf,
    pub inside: PathBuf,
    pub writable: bool,
}

/// A run about to start.
#[derive(Debug)]
pub struct InPlace {
    workspace: PathBuf,
    pub covers: Vec<Cover>,
    private: Option<Private>,
    hooks: Option<Vec<u8>>,
    start: (i64, i64),
}

#[derive(Debug)]
struct Private {
    repository: Repository,
    state: State,
    folder: PathBuf,
    before: Vec<Tip>,
    /// Tells a cleaning that this run lives.
    _alive: Lock,
}

/// What a run left.
#[derive(Debug, Default)]
pub struct Report {
    /// Each with its ref.
    pub commits: Vec<(String, Imported)>,
    pub refused: Vec<Refused>,
    pub risks: Vec<Risk>,
    pub more_risks: u64,
}

impl InPlace {
    /// Prepares a run in a folder. `None` when no git directory lies in it: then there is nothing to keep.
    pub fn prepare(workspace: &Path, mode: GitMode) -> Result<Option<Self>, WorkspaceError> {
        let dot_git = workspace.join(".git");
        let Ok(metadata) = fs_err::symlink_metadata(&dot_git) else { return Ok(None) };
        let mut run = Self { workspace: workspace.to_owned(), covers: Vec::new(), private: None, hooks: None, start: (0, 0) };
        match mode {
            GitMode::Private => run.make_private(&dot_git, metadata.is_dir())?,
            GitMode::Readonly => run.covers.push(Cover { host: dot_git.clone(), inside: dot_git, writable: false }),
            GitMode::None => {
                let folder = tempfile_folder()?;
                let empty = if metadata.is_dir() { folder.join("empty") } else { folder.join("none") };
                if metadata.is_dir() {
                    fs_err::create_dir_all(&empty)?;
                } else {
                    fs_err::write(&empty, "")?;
                }
                run.covers.push(Cover { host: empty, inside: dot_git, writable: false });
            }
        }
        run.start = now(&run)?;
        Ok(Some(run))
    }

    fn make_private(&mut self, dot_git: &Path, is_folder: bool) -> Result<(), WorkspaceError> {
        let repository = Repository::discover(&self.workspace)?;
        let own = repository.worktree().and_then(|tree| fs_err::canonicalize(tree).ok());
        if own != fs_err::canonicalize(&self.workspace).ok() {
            // Something that is no repository lies there, inside of another one.
            return Err(GitError::NotFound { path: self.workspace.clone() }.into());
        }
        let state = State::of(&repository)?;
        let folder = state.root().join("exec").join(state::unique("run-"));
        let git = folder.join("git");
        fs_err::create_dir_all(&folder)?;
        let alive = Lock::acquire(&folder.join("alive.lock"), "this run", Duration::ZERO)?;
        private_git::whole_skeleton(&repository, &git)?;
        for (name, required) in [("HEAD", true), ("index", false)] {
            match fs_err::copy(repository.worktree_git_dir().join(name), git.join(name)) {
                Err(e) if required || e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            }
        }
        for shared in fs_err::read_dir(repository.worktree_git_dir())? {
            let shared = shared?;
            if shared.file_name().as_encoded_bytes().starts_with(b"sharedindex.") {
                fs_err::copy(shared.path(), git.join(shared.file_name()))?;
            }
        }
        let mut packed = String::from("# pack-refs with: sorted\n");
        for prefix in ["refs/heads/", "refs/remotes/", "refs/tags/"] {
            let mut refs = repository.references(prefix)?;
            refs.sort();
            packed.extend(refs.into_iter().map(|(name, id)| format!("{id} {name}\n")));
        }
        fs_err::write(git.join("packed-refs"), packed)?;
        if let Ok(shallow) = fs_err::read(repository.common_dir().join("shallow")) {
            fs_err::write(git.join("shallow"), shallow)?;
        }
        let objects = private_git::object_folders(&repository)?;
        let places: String = (0..objects.len()).map(|at| format!("{OBJECTS_INSIDE}/{at}\n")).collect();
        fs_err::write(git.join("objects/info/alternates"), places)?;
        for (at, host) in objects.into_iter().enumerate() {
            self.covers.push(Cover { host, inside: PathBuf::from(format!("{OBJECTS_INSIDE}/{at}")), writable: false });
        }
        if is_folder {
            self.covers.push(Cover { host: git.clone(), inside: dot_git.to_owned(), writable: true });
        } else {
            // A linked worktree's `.git` is a file that names a folder.
            const FOLDER_INSIDE: &str = "/run/cofferdam-git";
            let pointer = folder.join("pointer");
            fs_err::write(&pointer, format!("gitdir: {FOLDER_INSIDE}\n"))?;
            self.covers.push(Cover { host: git.clone(), inside: FOLDER_INSIDE.into(), writable: true });
            self.covers.push(Cover { host: pointer, inside: dot_git.to_owned(), writable: false });
        }
        self.hooks = repository.hooks_path().and_then(|path| {
            let path = if path.is_absolute() { path.strip_prefix(&self.workspace).ok()?.to_owned() } else { path };
            Some(path.as_os_str().as_encoded_bytes().to_vec())
        });
        let before = import::tips(&Folder::open_root(&git)?);
        self.private = Some(Private { repository, state, folder, before, _alive: alive });
        Ok(())
    }

    /// Takes what was committed, and looks at what was left. Every process of the run is dead.
    pub fn finish(self, keep_commits: bool) -> Result<Report, WorkspaceError> {
        let mut report = Report::default();
        if let Ok(root) = Folder::open_root(&self.workspace) {
            (report.risks, report.more_risks) = risks::since(&root, self.start, self.hooks.as_deref());
        }
        let Some(private) = self.private else {
            for cover in &self.covers {
                if let Some(folder) = cover.host.parent().filter(|folder| is_ours(folder)) {
                    fs_err::remove_dir_all(folder)?;
                }
            }
            return Ok(report);
        };
        if keep_commits {
            (report.commits, report.refused) = take(&private.repository, &private.state, &private.folder, &private.before)?;
        }
        removal::discard(&private.folder, &private.state.trash())?;
        Ok(report)
    }
}

type Taken = (Vec<(String, Imported)>, Vec<Refused>);

/// Imports the commits of one run's private git directory, each tip under a ref of its own.
fn take(repository: &Repository, state: &State, folder: &Path, before: &[Tip]) -> Result<Taken, WorkspaceError> {
    let git = Folder::open_root(&folder.join("git"))?;
    let tips: Vec<Tip> = import::tips(&git).into_iter().filter(|tip| !before.contains(tip)).collect();
    // One at a time: a ref's number is its name.
    let _lock = state.lock("exec", Duration::from_secs(600))?;
    let (imported, refused) = import::import(&git, &tips, repository, folder)?;
    let mut commits = Vec::new();
    for one in imported {
        let reference = next_reference(repository)?;
        repository.create_reference(&reference, one.id)?;
        commits.push((reference, one));
    }
    Ok((commits, refused))
}

/// Finishes runs whose supervisor was killed: their commits are taken, their folders go. Returns what was or would be removed.
pub fn sweep(repository: &Repository, state: &State, dry_run: bool) -> Result<Vec<String>, WorkspaceError> {
    let runs = match fs_err::read_dir(state.root().join("exec")) {
        Ok(runs) => runs,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e.into()),
    };
    let mut swept = Vec::new();
    for run in runs {
        let run = run?.path();
        let Ok(alive) = Lock::acquire(&run.join("alive.lock"), "a run", Duration::ZERO) else { continue };
        swept.push(run.display().to_string());
        if dry_run {
            continue;
        }
        if run.join("git/HEAD").exists() {
            take(repository, state, &run, &[])?;
        }
        removal::discard(&run, &state.trash())?;
        drop(alive);
    }
    Ok(swept)
}

fn next_reference(repository: &Repository) -> Result<String, GitError> {
    const PREFIX: &str = "refs/cofferdam/exec/";
    let refs = repository.references(PREFIX)?;
    let last = refs.iter().filter_map(|(name, _)| name.strip_prefix(PREFIX)?.parse::<u64>().ok()).max();
    Ok(format!("{PREFIX}{}", last.map_or(1, |n| n + 1)))
}

const EMPTY_PREFIX: &str = "cofferdam-none-";

fn tempfile_folder() -> io::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix(EMPTY_PREFIX).tempdir()?.keep())
}

fn is_ours(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(EMPTY_PREFIX.as_bytes()))
}

/// The kernel's own clock for files, read from a file that was just made: change times are compared with it.
fn now(run: &InPlace) -> io::Result<(i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    let folder = run.private.as_ref().map_or_else(std::env::temp_dir, |private| private.folder.clone());
    let probe = tempfile::NamedTempFile::new_in(folder)?;
    let metadata = probe.as_file().metadata()?;
    Ok((metadata.ctime(), metadata.ctime_nsec()))
}

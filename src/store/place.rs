//! Where the state of a repository lies: `$XDG_STATE_HOME/cofferdam/<name>-<hash>/`.
//!
//! The key comes from the repository's common git directory, so that all its worktrees share one state. A repository that moved has another
//! key; it is recognised by the device and inode of its git directory, and the person is told how to take the state along.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::base::id::hex_text;

/// Whose state a folder is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Owner {
    version: u32,
    /// The common git directory. Paths that are no UTF-8 are shown here, and recognised by the rest.
    git: String,
    device: u64,
    inode: u64,
}

const OWNER: &str = "repository.json";

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("there is no home for the state: neither XDG_STATE_HOME nor HOME is an absolute path")]
    NoHome,
    #[error("there is no git repository at {} or above it", path.display())]
    NoRepository { path: PathBuf },
    #[error("the git repository at {} cannot be read: {detail}", path.display())]
    Unreadable { path: PathBuf, detail: String },
    #[error("{} belongs to another user", path.display())]
    NotOwned { path: PathBuf },
    #[error("this repository was at {}, and its state still belongs to that place", from.display())]
    Moved { from: PathBuf, old: PathBuf, new: PathBuf },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl PlaceError {
    /// What to do next.
    pub fn next(&self) -> String {
        match self {
            Self::NoHome => "set XDG_STATE_HOME to a folder that may be written, such as ~/.local/state".to_owned(),
            Self::NoRepository { .. } => "go into one, or make one: git init".to_owned(),
            Self::Unreadable { .. } => "see what `git status` and `git fsck` say there".to_owned(),
            Self::NotOwned { path } => {
                format!("work as that user, or trust the repository: git config --global --add safe.directory {}", shell(path))
            }
            Self::Moved { old, new, .. } => format!("take the state along: mv {} {}", shell(old), shell(new)),
            Self::Io(_) => "look at the path that is named: does it exist, and may you write there?".to_owned(),
        }
    }
}

/// A path as a shell reads it.
fn shell(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@%".contains(&b));
    if is_plain { text.into_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

/// The folder of all states, from the two variables that decide it.
///
/// # Errors
/// When neither is an absolute path. The XDG specification says that relative ones are ignored.
pub fn state_home(xdg_state_home: Option<&std::ffi::OsStr>, home: Option<&std::ffi::OsStr>) -> Result<PathBuf, PlaceError> {
    let absolute = |value: Option<&std::ffi::OsStr>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute(xdg_state_home).or_else(|| absolute(home).map(|home| home.join(".local/state")));
    base.map(|base| base.join("cofferdam")).ok_or(PlaceError::NoHome)
}

/// The common git directory of the repository that a folder is in, without symbolic links.
///
/// # Errors
/// When there is no repository.
pub fn common_git_dir(start: &Path) -> Result<PathBuf, PlaceError> {
    let repository = git2::Repository::discover(start).map_err(|error| match error.code() {
        git2::ErrorCode::Owner => PlaceError::NotOwned { path: start.to_owned() },
        git2::ErrorCode::NotFound => PlaceError::NoRepository { path: start.to_owned() },
        _ => PlaceError::Unreadable { path: start.to_owned(), detail: error.message().to_owned() },
    })?;
    Ok(fs::canonicalize(repository.commondir())?)
}

/// The key of a repository: a name for people, and a hash that keeps repositories of one name apart.
pub fn key(common_git_dir: &Path) -> String {
    use sha2::Digest;
    let bytes = common_git_dir.as_os_str().as_bytes();
    // A bare repository is named by its own folder, another one by the folder that holds `.git`.
    let named = if common_git_dir.file_name().is_some_and(|name| name == ".git") { common_git_dir.parent() } else { Some(common_git_dir) };
    let name = named.and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '-' };
    let name: String = name.trim_end_matches(".git").chars().take(40).map(safe).collect();
    let name = if name.is_empty() { "repository" } else { &name };
    format!("{name}-{}", &hex_text(&sha2::Sha256::digest(bytes))[..12])
}

/// The state folder of a repository. It is not made here: a reader leaves nothing behind.
///
/// # Errors
/// When the repository moved, and its state is still where it was.
pub fn locate(states: &Path, common_git_dir: &Path) -> Result<PathBuf, PlaceError> {
    let folder = states.join(key(common_git_dir));
    if fs::symlink_metadata(&folder).is_ok() {
        return Ok(folder);
    }
    let metadata = fs::metadata(common_git_dir)?;
    let entries = match fs::read_dir(states) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(folder),
        Err(error) => return Err(error.into()),
    };
    for entry in entries {
        let old = entry?.path();
        let Some(owner) = owner(&old) else { continue };
        let is_same = (owner.device, owner.inode) == (metadata.dev(), metadata.ino());
        // A repository that is still where its state says it is, is another one: inodes are used again.
        let is_there = fs::metadata(&owner.git).is_ok_and(|there| (there.dev(), there.ino()) == (owner.device, owner.inode))
            && Path::new(&owner.git) != common_git_dir;
        if is_same && !is_there {
            return Err(PlaceError::Moved { from: owner.git.into(), old, new: folder });
        }
    }
    Ok(folder)
}

/// Every repository that has a state: its common git directory as it was written down, whether it is still there, and the folder of its state. By path.
///
/// # Errors
/// When the folder of all states cannot be read. There may be none.
pub fn all(states: &Path) -> io::Result<Vec<(PathBuf, bool, PathBuf)>> {
    let entries = match fs::read_dir(states) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let folder = entry?.path();
        if let Some(owner) = owner(&folder) {
            let is_there = fs::metadata(&owner.git).is_ok_and(|there| (there.dev(), there.ino()) == (owner.device, owner.inode));
            found.push((owner.git.into(), is_there, folder));
        }
    }
    found.sort();
    Ok(found)
}

/// Makes the state folder, and writes down whose it is.
///
/// # Errors
/// When it cannot be written.
pub fn claim(folder: &Path, common_git_dir: &Path) -> io::Result<()> {
    make_private(folder)?;
    let metadata = fs::metadata(common_git_dir)?;
    let git = common_git_dir.to_string_lossy().into_owned();
    let now = Owner { version: 1, git, device: metadata.dev(), inode: metadata.ino() };
    if owner(folder).as_ref() == Some(&now) {
        return Ok(());
    }
    write_whole(&folder.join(OWNER), &serde_json::to_vec(&now).map_err(io::Error::other)?)
}

fn owner(folder: &Path) -> Option<Owner> {
    serde_json::from_slice(&fs::read(folder.join(OWNER)).ok()?).ok()
}

/// Makes a folder that only its owner may read: transcripts may hold what nobody else should see.
pub fn make_private(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| io::Error::new(error.kind(), format!("the folder {} cannot be made: {error}", folder.display())))
}

/// How files begin that are not in their place yet; the process that writes them follows.
const UNFINISHED: &str = ".new-";

/// Removes what writers of whole files left that were killed. Those that live are left alone. Returns how many there were.
///
/// # Errors
/// When the folder cannot be read.
pub fn sweep(folder: &Path) -> io::Result<u64> {
    let mut swept = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let writer = name.strip_prefix(UNFINISHED).and_then(|rest| rest.split_once('-')).and_then(|(pid, _)| pid.parse::<u32>().ok());
        if writer.is_some_and(|pid| fs::symlink_metadata(format!("/proc/{pid}")).is_err()) {
            fs::remove_file(entry.path())?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Replaces a file as a whole: a reader sees the old content or the new one, never a part.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    let folder = path.parent().unwrap_or(Path::new("."));
    let prefix = format!("{UNFINISHED}{}-", std::process::id());
    let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    super::evidence::sync_folder(folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsStr;

    #[test]
    fn the_state_has_a_home_by_the_xdg_rules() {
        let home = |a: Option<&str>, b: Option<&str>| state_home(a.map(OsStr::new), b.map(OsStr::new)).ok();
        assert_eq!(home(Some("/s"), Some("/h")), Some("/s/cofferdam".into()));
        assert_eq!(home(Some("relative"), Some("/h")), Some("/h/.local/state/cofferdam".into()));
        assert_eq!(home(None, None), None);
    }

    #[test]
    fn what_dead_writers_left_is_swept_and_what_the_living_write_is_not() {
        let dir = tempfile::tempdir().expect("dir");
        // No process has the highest number there is.
        for name in [".new-4194304-a", ".new-x", "other"].map(str::to_owned).into_iter().chain([format!(".new-{}-b", std::process::id())]) {
            fs::write(dir.path().join(name), "x").expect("written");
        }
        assert_eq!(sweep(dir.path()).expect("swept"), 1);
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 3);
        write_whole(&dir.path().join("health.json"), b"{}").expect("written");
        assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 4);
    }

    #[test]
    fn a_moved_repository_is_recognised_and_explained() {
        let dir = tempfile::tempdir().expect("dir");
        let (states, first, second) = (dir.path().join("states"), dir.path().join("a b"), dir.path().join("c"));
        git2::Repository::init(&first).expect("init");
        let git = common_git_dir(&first).expect("a repository");
        let folder = locate(&states, &git).expect("placed");
        claim(&folder, &git).expect("claimed");
        assert_eq!(locate(&states, &git).expect("again"), folder);
        fs::rename(&first, &second).expect("moved");
        let git = common_git_dir(&second).expect("a repository");
        let error = locate(&states, &git).expect_err("moved");
        let PlaceError::Moved { old, new, .. } = &error else { panic!("{error}") };
        assert!(error.next().contains("mv ") && error.to_string().contains("a b"), "{error} {}", error.next());
        fs::rename(old, new).expect("as told");
        let folder = locate(&states, &git).expect("placed");
        claim(&folder, &git).expect("claimed");
        // Another repository, beside it, has a state of its own.
        git2::Repository::init(&first).expect("init");
        let other = common_git_dir(&first).expect("a repository");
        assert_ne!(locate(&states, &other).expect("placed"), folder);
    }

    #[test]
    fn a_repository_of_another_user_is_not_taken_for_none() {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("SKIPPED a_repository_of_another_user_is_not_taken_for_none: only root can give a folder away");
            return;
        }
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("r");
        git2::Repository::init(&path).expect("init");
        for given in [path.clone(), path.join(".git")] {
            std::os::unix::fs::chown(given, Some(12_345), Some(12_345)).expect("given away");
        }
        let error = common_git_dir(&path).expect_err("another user's");
        assert!(matches!(error, PlaceError::NotOwned { .. }) && error.next().contains("safe.directory"), "{error}");
    }

    #[test]
    fn worktrees_share_their_repository_and_strangers_are_refused() {
        let dir = tempfile::tempdir().expect("dir");
        let error = common_git_dir(dir.path()).expect_err("no repository");
        assert!(error.next().contains("git init"));
        let repository = git2::Repository::init(dir.path().join("r")).expect("init");
        fs::create_dir(dir.path().join("r/sub")).expect("sub");
        let tree = repository.treebuilder(None).and_then(|builder| builder.write()).expect("an empty tree");
        let who = git2::Signature::new("test", "test@localhost", &git2::Time::new(0, 0)).expect("a signature");
        let tree = repository.find_tree(tree).expect("there");
        repository.commit(Some("HEAD"), &who, &who, "first", &tree, &[]).expect("committed");
        repository.worktree("w", &dir.path().join("w"), None).expect("a linked worktree");
        assert_eq!(common_git_dir(&dir.path().join("w")).expect("found"), common_git_dir(&dir.path().join("r")).expect("found"));
        assert_eq!(common_git_dir(&dir.path().join("r/sub")).expect("found"), common_git_dir(&dir.path().join("r")).expect("found"));
    }

    proptest! {
        #[test]
        fn keys_are_safe_names_and_differ(a in "/[\\PC]{0,60}", b in "/[a-z.]{0,10}/.git") {
            let (one, two) = (key(Path::new(&a)), key(Path::new(&b)));
            for key in [&one, &two] {
                prop_assert!(key.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c)) && key.len() <= 53, "{}", key);
            }
            prop_assert_eq!(one == two, a == b);
        }
    }
}

//! The git directory that an agent sees: its own HEAD, refs, config, index and objects. Nothing of it is shared, and the host never opens it.
//!
//! It lies in the layers below the workspace's overlay: each base layer brings a `.git` with the objects that its commit needs and an index
//! that knows every file, so that `git status` compares times and hashes nothing. What the agent writes to it goes to the story's upper
//! folder like everything else; a new workspace copies nothing.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use super::base::{BaseError, Layer, Stack};
use super::changes::{self, Change, Stopped};
use super::git::{self, GitError, IndexFile, Oid, Repository, mode};
use super::state::{self, State};
use super::untracked::{self, Stamp};

/// What of the repository's history an agent can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum History {
    /// Only the base commit and its files: no other branch's objects, no other story's, nothing uncommitted.
    #[default]
    Shallow,
    /// Every object of the repository can be read, whoever made it.
    Full,
}

impl std::str::FromStr for History {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "shallow" => Ok(Self::Shallow),
            "full" => Ok(Self::Full),
            _ => Err("it is `shallow` or `full`".to_owned()),
        }
    }
}

/// Where the repository's objects appear inside, for [`History::Full`].
pub const OBJECTS_INSIDE: &str = "/run/cofferdam-objects";

/// Settings that keep git fast on an overlay, and quiet. Times decide whether a file changed: inodes and change times differ per mount.
const CONFIG: &str = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n\tcheckStat = minimal\n\
\ttrustctime = false\n\tpreloadIndex = true\n\tuntrackedCache = true\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n[commit]\n\tgpgSign = false\n\
[user]\n\tname = agent\n\temail = agent@cofferdam.invalid\n[advice]\n\tdetachedHead = false\n";

/// Makes sure that every layer of a stack has its part of the git directory. Returns the folders to lay over the files, top first.
pub fn ensure(state: &State, repository: &Repository, stack: &Stack) -> Result<Vec<PathBuf>, BaseError> {
    let folders: Vec<PathBuf> = stack.layers.iter().map(|(path, _)| path.join("git")).collect();
    if folders.iter().all(|folder| folder.exists()) {
        return Ok(folders);
    }
    let _lock = state.lock("git-parts", std::time::Duration::from_secs(30 * 60))?;
    // From the bottom up: each part builds on the index of the one below.
    for (at, (path, layer)) in stack.layers.iter().enumerate().rev() {
        let target = &folders[at];
        if target.exists() {
            continue;
        }
        let place = path.join(state::unique(".git-"));
        fs_err::create_dir(&place)?;
        let below = folders.get(at + 1).map(|folder| (folder.as_path(), &stack.layers[at + 1].1));
        let built = build(repository, &place, path, layer, below).and_then(|()| {
            let lists = if at + 1 == folders.len() { &place } else { &folders[folders.len() - 1] };
            let trees: Vec<PathBuf> = stack.layers[at..].iter().map(|(path, _)| path.join("tree")).collect();
            remember_folders(repository, &place, &trees, &lists.join(".git/info/exclude"), parse(&layer.commit)?)?;
            Ok(git::sync_tree(&place)?)
        });
        if let Err(error) = built {
            // Half a part is worth nothing, and a full disk needs the space.
            super::removal::discard(&place, &state.trash())?;
            return Err(error.or_full(&state.layers()));
        }
        fs_err::rename(&place, target)?;
        state::sync_folder(path)?;
    }
    Ok(folders)
}

fn build(repository: &Repository, place: &Path, path: &Path, layer: &Layer, below: Option<(&Path, &Layer)>) -> Result<(), BaseError> {
    let (commit, tree) = (parse(&layer.commit)?, parse(&layer.tree)?);
    let git = place.join(".git");
    let files = path.join("tree");
    match below {
        None => whole(repository, &git, &files, commit, tree)?,
        Some((lower, layer_below)) => {
            fs_err::create_dir_all(git.join("objects/pack"))?;
            fs_err::write(git.join("shallow"), format!("{commit}\n"))?;
            let before = parse(&layer_below.tree)?;
            let changes = changes::between(repository, Some(before), Some(tree), usize::MAX).map_err(|stopped| match stopped {
                Stopped::Git(error) => BaseError::Git(error),
                Stopped::TooMany => io::Error::other("too many changes").into(),
            })?;
            let mut new = vec![commit];
            new.extend(
                changes.iter().filter_map(|change| change.now).filter(|(mode, _)| *mode & 0o170_000 != mode::SUBMODULE).map(|(_, id)| id),
            );
            changes::new_trees(repository, Some(before), tree, &mut new)?;
            repository.write_pack(&git.join("objects/pack"), &[], &new)?;
            let (removed, entries) = index_changes(&files, &changes)?;
            repository.write_index(&git.join("index"), Some(&lower.join(".git/index")), tree, &removed, &entries)?;
        }
    }
    Ok(keep_packs(&git)?)
}

/// Tells the index which folders hold tracked files alone, so that the first `git status` lists none of them. `trees` are the files' layers,
/// top first.
fn remember_folders(repository: &Repository, place: &Path, trees: &[PathBuf], exclude: &Path, commit: Oid) -> Result<(), BaseError> {
    let file = place.join(".git/index");
    let index = fs_err::read(&file)?;
    let Some(folders) = untracked::folders(&index) else { return Ok(()) };
    let stamp = |folder: &untracked::Folder| {
        // The root is the story's own folder: as large as this one, which holds the same name, and as old as `begin` makes it.
        if folder.path.is_empty() {
            return Ok(Stamp { seconds: root_time(repository, commit)?, size: fs_err::metadata(place)?.size() });
        }
        let path = std::ffi::OsStr::from_bytes(&folder.path);
        let found = trees.iter().find_map(|tree| std::fs::symlink_metadata(tree.join(path)).ok());
        Ok::<_, BaseError>(found.map(|found| Stamp { seconds: found.mtime(), size: found.size() }).unwrap_or_default())
    };
    let stamps = folders.iter().map(stamp).collect::<Result<Vec<_>, _>>()?;
    let mut listed = fs_err::read(exclude)?;
    // Git names what it parses, and that ends with a line.
    if !listed.is_empty() {
        listed.push(b'\n');
    }
    let mut name = [0; 20];
    name.copy_from_slice(git::blob_name(&listed)?.as_bytes());
    let system = nix::sys::utsname::uname().map(|host| host.sysname().to_string_lossy().into_owned()).unwrap_or_default();
    let content = untracked::extension(&folders, &stamps, &folder_inside(repository).to_string_lossy(), &system, name);
    let digest = |bytes: &[u8]| {
        let mut sum = [0; 20];
        sum.copy_from_slice(ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref());
        sum
    };
    if let Some(longer) = untracked::append(&index, &content, digest) {
        fs_err::write(&file, longer)?;
    }
    Ok(())
}

/// Where a workspace lies inside: the same for every story of a repository, so that build caches stay valid.
pub fn folder_inside(repository: &Repository) -> PathBuf {
    Path::new("/workspace").join(repository.name())
}

/// What time a workspace's root carries until something is put into it. Before the index is written, or git would not trust it.
fn root_time(repository: &Repository, commit: Oid) -> Result<i64, GitError> {
    Ok(repository.time_of(commit)?.saturating_sub(2))
}

/// A git directory that needs nothing from below: the commit's objects, and an index of the files as they lie there.
pub(super) fn whole(repository: &Repository, git: &Path, files: &Path, commit: Oid, tree: Oid) -> Result<(), BaseError> {
    fs_err::create_dir_all(git.join("objects/pack"))?;
    fs_err::write(git.join("shallow"), format!("{commit}\n"))?;
    whole_skeleton(repository, git)?;
    repository.write_pack(&git.join("objects/pack"), &[tree], &[commit])?;
    write_checkout_index(repository, files, tree, &git.join("index"))?;
    Ok(keep_packs(git)?)
}

/// The packs of a base are shared or large, and complete: an agent's gc must not copy them.
fn keep_packs(git: &Path) -> io::Result<()> {
    for entry in fs_err::read_dir(git.join("objects/pack"))? {
        let pack = entry?.path();
        if pack.extension().is_some_and(|e| e == "pack") {
            fs_err::write(pack.with_extension("keep"), "cofferdam base layer\n")?;
        }
    }
    Ok(())
}

/// A git directory with settings and lists, and without HEAD, refs and objects of its own.
pub(super) fn whole_skeleton(repository: &Repository, git: &Path) -> Result<(), BaseError> {
    for folder in ["refs/heads", "refs/tags", "info", "objects/info", "hooks"] {
        fs_err::create_dir_all(git.join(folder))?;
    }
    fs_err::write(git.join("HEAD"), "ref: refs/heads/none\n")?;
    let ends = repository.line_ends();
    let autocrlf = match ends.auto {
        super::convert::AutoCrlf::Off => "false",
        super::convert::AutoCrlf::On => "true",
        super::convert::AutoCrlf::Input => "input",
    };
    let eol = if ends.native_crlf { "crlf" } else { "native" };
    fs_err::write(git.join("config"), format!("{CONFIG}[core]\n\tautocrlf = {autocrlf}\n\teol = {eol}\n"))?;
    // What the collection leaves out, the agent's own `git status` leaves out too.
    fs_err::write(git.join("info/exclude"), repository.ignore_lists().join(&b'\n'))?;
    fs_err::write(git.join("info/attributes"), repository.attribute_lists().join(&b'\n'))?;
    Ok(())
}

/// The index of a worktree that was just filled in.
pub fn write_checkout_index(repository: &Repository, files: &Path, tree: Oid, index: &Path) -> Result<(), BaseError> {
    let mut entries = Vec::new();
    list(repository, files, tree, &mut Vec::new(), &mut entries)?;
    Ok(repository.write_index(index, None, tree, &[], &entries)?)
}

/// Every file of a whole layer as the index knows it.
fn list(repository: &Repository, files: &Path, tree: Oid, path: &mut Vec<u8>, out: &mut Vec<IndexFile>) -> Result<(), BaseError> {
    use super::git::Objects as _;
    for entry in repository.tree(tree)? {
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&entry.name);
        if entry.is_tree() {
            list(repository, files, entry.id, path, out)?;
        } else {
            out.push(index_file(files, path, entry.mode, entry.id)?);
        }
        path.truncate(length);
    }
    Ok(())
}

fn index_changes(files: &Path, changes: &[Change]) -> Result<(Vec<Vec<u8>>, Vec<IndexFile>), BaseError> {
    let removed = changes.iter().filter(|change| change.now.is_none()).map(|change| change.path.clone()).collect();
    let present = changes.iter().filter_map(|change| change.now.map(|(mode, id)| (change, mode, id)));
    let entries = present.map(|(change, mode, id)| index_file(files, &change.path, mode, id)).collect::<Result<_, _>>()?;
    Ok((removed, entries))
}

fn index_file(files: &Path, path: &[u8], mode: u32, id: Oid) -> Result<IndexFile, BaseError> {
    let stat = fs_err::symlink_metadata(files.join(std::ffi::OsStr::from_bytes(path)))?;
    Ok(IndexFile { path: path.to_vec(), mode, id, size: stat.size(), seconds: stat.mtime() })
}

/// What a new story's upper folder holds of the git directory: a branch on the base commit, and how much history shows.
pub fn begin(
    upper: &Path,
    repository: &Repository,
    base: Oid,
    branch: &str,
    target: Option<&str>,
    history: History,
) -> Result<(), BaseError> {
    start(&upper.join(".git"), repository, base, branch, target, history)?;
    if history == History::Full && !upper.join(".git/shallow").exists() {
        super::layer_files::whiteout(upper, Some(b".git/shallow"))?;
    }
    let time = TimeSpec::new(root_time(repository, base)?, 0);
    utimensat(AT_FDCWD, upper, &time, &time, UtimensatFlags::NoFollowSymlink).map_err(io::Error::from)?;
    Ok(())
}

/// The same in a git directory that has no other below it.
pub(super) fn start(
    git: &Path,
    repository: &Repository,
    base: Oid,
    branch: &str,
    target: Option<&str>,
    history: History,
) -> Result<(), BaseError> {
    let heads = git.join("refs/heads");
    fs_err::create_dir_all(&heads)?;
    fs_err::write(git.join("HEAD"), format!("ref: refs/heads/{branch}\n"))?;
    // The branch it started from comes second: a story of the same name must win.
    for name in target.into_iter().chain([branch]) {
        let file = heads.join(name);
        if let Some(parent) = file.parent() {
            fs_err::create_dir_all(parent)?;
        }
        fs_err::write(file, format!("{base}\n"))?;
    }
    if history == History::Full {
        fs_err::create_dir_all(git.join("objects/info"))?;
        let places: Vec<String> =
            object_folders(repository)?.iter().enumerate().map(|(at, _)| format!("{OBJECTS_INSIDE}/{at}\n")).collect();
        fs_err::write(git.join("objects/info/alternates"), places.concat())?;
        match fs_err::read(repository.common_dir().join("shallow")) {
            Ok(shallow) => fs_err::write(git.join("shallow"), shallow)?,
            Err(_) => match fs_err::remove_file(git.join("shallow")) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
                _ => {}
            },
        }
    }
    Ok(())
}

/// The repository's object folder, and those it reads through to.
pub fn object_folders(repository: &Repository) -> Result<Vec<PathBuf>, GitError> {
    let mut folders = vec![repository.objects_dir()];
    let mut at = 0;
    while let Some(folder) = folders.get(at).cloned() {
        at += 1;
        let Ok(list) = fs_err::read_to_string(folder.join("info/alternates")) else { continue };
        for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            // Git follows no more than five; whoever has more has a ring.
            if let Ok(found) = fs_err::canonicalize(folder.join(line))
                && !folders.contains(&found)
                && folders.len() < 16
            {
                folders.push(found);
            }
        }
    }
    Ok(folders)
}

fn parse(id: &str) -> Result<Oid, BaseError> {
    id.parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("a layer's record names the object {}", id.escape_debug())).into())
}

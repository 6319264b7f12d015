//! The one door to git: objects and refs of the user's repository, and of folders that only we ever wrote.
//!
//! Through libgit2, which runs no hook, no filter program and no external diff. **Invariant:** no path that an agent could have written is
//! ever opened here.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

pub use git2::{ObjectType as ObjectKind, Oid};

mod branch;
pub(crate) mod fault;
mod lines;
mod loose;
mod merge;
mod packed;
mod quarantine;
mod stack;

pub use branch::{Checkout, Swapped};
pub use lines::FileLines;
pub use loose::{Blob, BlobKind, Pair, patch_between};
pub use merge::{Conflict, ConflictKind, Merged, Read, Stamp};
pub use quarantine::Quarantine;
pub use stack::Stacked;

use super::convert::{AutoCrlf, LineEnds};

/// Why git could not do it.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    #[error("there is no git repository at {} or above it", path.display())]
    NotFound { path: PathBuf },
    #[error("{} belongs to another user; add it to git's `safe.directory`, or run as its owner", path.display())]
    Owner { path: PathBuf },
    #[error("{} is a bare repository: it has no files to work on; use a clone with a worktree", path.display())]
    Bare { path: PathBuf },
    #[error("{} has no commit yet; make the first one, then try again", path.display())]
    Unborn { path: PathBuf },
    #[error("{} {feature}, which cofferdam cannot read safely yet; {advice}", path.display())]
    Unsupported { path: PathBuf, feature: &'static str, advice: &'static str },
    #[error("`{}` names no commit in this repository", name.escape_debug())]
    NoSuchCommit { name: String },
    #[error("git object {id} holds a name that no folder may hold: `{}`", crate::base::text::bytes_line(name))]
    BadName { id: Oid, name: Vec<u8> },
    #[error("cannot {doing}: {}", source.message())]
    Git { doing: String, source: git2::Error },
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Says what was tried when libgit2 fails.
fn doing<T>(what: impl FnOnce() -> String) -> impl FnOnce(git2::Error) -> Result<T, GitError> {
    |source| Err(GitError::Git { doing: what(), source })
}

/// Refs that only cofferdam writes.
const OWN_REFS: &str = "refs/cofferdam/";
/// Fifty milliseconds each.
const LOCK_TRIES: u32 = 60;

/// File modes of git.
pub mod mode {
    pub const TREE: u32 = 0o040_000;
    pub const FILE: u32 = 0o100_644;
    pub const EXECUTABLE: u32 = 0o100_755;
    pub const LINK: u32 = 0o120_000;
    pub const SUBMODULE: u32 = 0o160_000;
}

/// One name of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: Vec<u8>,
    pub mode: u32,
    pub id: Oid,
}

impl Entry {
    pub fn is_tree(&self) -> bool {
        self.mode & 0o170_000 == mode::TREE
    }

    pub fn is_submodule(&self) -> bool {
        self.mode & 0o170_000 == mode::SUBMODULE
    }

    pub fn is_link(&self) -> bool {
        self.mode & 0o170_000 == mode::LINK
    }

    pub fn is_executable(&self) -> bool {
        self.mode & 0o100 != 0 && !self.is_tree() && !self.is_link() && !self.is_submodule()
    }

    /// The order of git's trees: a folder sorts as if its name ended in a slash.
    pub fn order(&self, other: &Self) -> Ordering {
        let shared = self.name.len().min(other.name.len());
        let end = |entry: &Self| entry.name.get(shared).copied().unwrap_or(if entry.is_tree() { b'/' } else { 0 });
        self.name[..shared].cmp(&other.name[..shared]).then_with(|| end(self).cmp(&end(other)))
    }
}

/// One file as an index knows it: unchanged as long as it has this size and time.
#[derive(Clone, Debug)]
pub struct IndexFile {
    pub path: Vec<u8>,
    pub mode: u32,
    pub id: Oid,
    pub size: u64,
    pub seconds: i64,
}

impl IndexFile {
    /// Old trees hold modes such as 100664; an index knows only two kinds of files.
    pub(in crate::workspace) fn canonical_mode(&self) -> u32 {
        match (self.mode & 0o170_000 == 0o100_000, self.mode & 0o100 != 0) {
            (true, true) => mode::EXECUTABLE,
            (true, false) => mode::FILE,
            (false, _) => self.mode,
        }
    }

    fn as_entry(&self) -> git2::IndexEntry {
        let time = git2::IndexTime::new(i32::try_from(self.seconds).unwrap_or(i32::MAX), 0);
        // Git keeps the low 32 bits of a size, and compares those.
        let file_size = (self.size & u64::from(u32::MAX)) as u32;
        let mode = self.canonical_mode();
        git2::IndexEntry {
            ctime: time,
            mtime: time,
            dev: 0,
            ino: 0,
            mode,
            uid: 0,
            gid: 0,
            file_size,
            id: self.id,
            flags: 0,
            flags_extended: 0,
            path: self.path.clone(),
        }
    }
}

/// The name that a blob of this content has.
pub fn blob_name(content: &[u8]) -> Result<Oid, GitError> {
    Oid::hash_object(ObjectKind::Blob, content).or_else(doing(|| "name a blob".to_owned()))
}

/// Where trees and blobs are read from.
pub trait Objects {
    fn tree(&self, id: Oid) -> Result<Vec<Entry>, GitError>;
    fn blob(&self, id: Oid) -> Result<Vec<u8>, GitError>;
}

/// Who writes a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub name: String,
    pub email: String,
}

/// A repository that nobody but its user and we write.
pub struct Repository {
    inner: git2::Repository,
    common: PathBuf,
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("common", &self.common).finish()
    }
}

impl Repository {
    /// Opens the repository that holds `path`, and refuses by name what has no safe path.
    pub fn discover(path: &Path) -> Result<Self, GitError> {
        let git_dir = match git2::Repository::discover_path(path, std::iter::empty::<&Path>()) {
            Ok(found) => found,
            Err(e) if e.code() == git2::ErrorCode::NotFound => return Err(GitError::NotFound { path: path.to_owned() }),
            Err(e) if e.code() == git2::ErrorCode::Owner => return Err(GitError::Owner { path: path.to_owned() }),
            Err(e) => return doing(|| format!("look for a repository at {}", path.display()))(e),
        };
        refuse_extensions(&git_dir)?;
        let inner = git2::Repository::open(&git_dir).or_else(|e| match e.code() {
            git2::ErrorCode::Owner => Err(GitError::Owner { path: git_dir.clone() }),
            _ => doing(|| format!("open the repository {}", git_dir.display()))(e),
        })?;
        let common = fs_err::canonicalize(inner.commondir())?;
        if inner.is_bare() {
            return Err(GitError::Bare { path: common });
        }
        refuse_extensions(&common)?;
        Ok(Self { inner, common })
    }

    /// The same repository once more, for another thread.
    pub fn reopen(&self) -> Result<Self, GitError> {
        let inner = git2::Repository::open(self.inner.path()).or_else(doing(|| format!("open {}", self.common.display())))?;
        Ok(Self { inner, common: self.common.clone() })
    }

    /// The git directory that all worktrees share; absolute and without links.
    pub fn common_dir(&self) -> &Path {
        &self.common
    }

    pub fn objects_dir(&self) -> PathBuf {
        self.common.join("objects")
    }

    /// The worktree this was opened from.
    pub fn worktree(&self) -> Option<&Path> {
        self.inner.workdir()
    }

    /// The name people know the repository by: its main worktree's folder.
    pub fn name(&self) -> String {
        let folder = if self.common.ends_with(".git") { self.common.parent() } else { Some(self.common.as_path()) };
        let name = folder.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| "repository".to_owned())
    }

    /// The branch HEAD is on, when it is on one.
    pub fn branch(&self) -> Option<String> {
        let head = self.inner.head().ok()?;
        head.is_branch().then(|| head.shorthand().ok().map(str::to_owned)).flatten()
    }

    /// The commit that a name stands for.
    pub fn commit(&self, name: &str) -> Result<Oid, GitError> {
        if name == "HEAD" && self.inner.head().is_err_and(|e| e.code() == git2::ErrorCode::UnbornBranch) {
            return Err(GitError::Unborn { path: self.common.clone() });
        }
        let found = self.inner.revparse_single(name).and_then(|object| object.peel_to_commit());
        found.map(|commit| commit.id()).map_err(|_| GitError::NoSuchCommit { name: name.to_owned() })
    }

    /// When a commit was made, in seconds since 1970, as it says itself.
    pub fn time_of(&self, commit: Oid) -> Result<i64, GitError> {
        self.inner.find_commit(commit).map(|c| c.time().seconds()).or_else(doing(|| format!("read commit {commit}")))
    }

    pub fn tree_of(&self, commit: Oid) -> Result<Oid, GitError> {
        self.inner.find_commit(commit).map(|c| c.tree_id()).or_else(doing(|| format!("read commit {commit}")))
    }

    /// The raw bytes of a commit object, without its header.
    pub fn raw_commit(&self, commit: Oid) -> Result<Vec<u8>, GitError> {
        let read = |odb: &git2::Odb<'_>| odb.read(commit).map(|object| (object.kind(), object.data().to_vec()));
        match self.inner.odb().and_then(|odb| read(&odb)).or_else(doing(|| format!("read commit {commit}")))? {
            (git2::ObjectType::Commit, bytes) => Ok(bytes),
            _ => Err(GitError::NoSuchCommit { name: commit.to_string() }),
        }
    }

    /// A commit's message.
    pub fn message_of(&self, commit: Oid) -> Result<String, GitError> {
        let commit = self.inner.find_commit(commit).or_else(doing(|| format!("read commit {commit}")))?;
        Ok(String::from_utf8_lossy(commit.message_bytes()).into_owned())
    }

    /// The git directory of this very worktree: its HEAD and index.
    pub fn worktree_git_dir(&self) -> &Path {
        self.inner.path()
    }

    /// Where the repository's configuration says its hooks are, when it says so.
    pub fn hooks_path(&self) -> Option<PathBuf> {
        self.inner.config().ok()?.get_path("core.hooksPath").ok()
    }

    /// Does the repository have this object?
    pub fn has(&self, id: Oid) -> bool {
        self.inner.odb().is_ok_and(|odb| odb.exists(id))
    }

    /// `core.autocrlf` and `core.eol`.
    pub fn line_ends(&self) -> LineEnds {
        let Ok(config) = self.inner.config() else { return LineEnds::default() };
        let auto = match config.get_string("core.autocrlf") {
            Ok(value) if value.eq_ignore_ascii_case("input") => AutoCrlf::Input,
            Ok(_) if config.get_bool("core.autocrlf").unwrap_or(false) => AutoCrlf::On,
            _ => AutoCrlf::Off,
        };
        let native_crlf = config.get_string("core.eol").is_ok_and(|value| value.eq_ignore_ascii_case("crlf"));
        LineEnds { auto, native_crlf }
    }

    /// The ignore lists outside of the tree, weakest first: the user's own, then the repository's.
    pub fn ignore_lists(&self) -> Vec<Vec<u8>> {
        self.lists("core.excludesFile", "ignore", "exclude")
    }

    /// The attributes outside of the tree: the user's own (weaker than the tree's), and the repository's (stronger).
    pub fn attribute_lists(&self) -> Vec<Vec<u8>> {
        self.lists("core.attributesFile", "attributes", "attributes")
    }

    fn lists(&self, key: &str, user: &str, own: &str) -> Vec<Vec<u8>> {
        let configured = self.inner.config().ok().and_then(|config| config.get_path(key).ok());
        let user_file = configured.or_else(|| config_home().map(|home| home.join("git").join(user)));
        let read = |path: PathBuf| fs_err::read(path).unwrap_or_default();
        vec![user_file.map(read).unwrap_or_default(), read(self.common.join("info").join(own))]
    }

    /// Who the repository's configuration says is at work, if it does.
    pub fn author(&self) -> Option<Author> {
        let signature = self.inner.signature().ok()?;
        Some(Author { name: signature.name().ok()?.to_owned(), email: signature.email().ok()?.to_owned() })
    }

    /// What a ref points to.
    pub fn reference(&self, name: &str) -> Option<Oid> {
        self.inner.find_reference(name).ok()?.target()
    }

    /// The refs below a prefix that ends in a slash, with what they point to.
    pub fn references(&self, prefix: &str) -> Result<Vec<(String, Oid)>, GitError> {
        let glob = format!("{prefix}*");
        let found = self.inner.references_glob(&glob).or_else(doing(|| format!("list the refs {glob}")))?;
        let mut refs = Vec::new();
        for reference in found {
            let reference = reference.or_else(doing(|| format!("list the refs {glob}")))?;
            if let (Ok(name), Some(target)) = (reference.name(), reference.target()) {
                refs.push((name.to_owned(), target));
            }
        }
        Ok(refs)
    }

    /// Makes a ref below `refs/cofferdam/` that must not exist yet, durably. The caller holds the lock of whatever the name belongs to.
    pub fn create_reference(&self, name: &str, target: Oid) -> Result<(), GitError> {
        debug_assert!(name.starts_with(OWN_REFS));
        // Nobody but us makes refs there, and we hold the lock: whoever left one was killed.
        self.remove_lock_of(name)?;
        fault::point();
        self.inner.reference(name, target, false, "cofferdam").map(drop).or_else(doing(|| format!("write the ref {name}")))?;
        let file = self.common.join(name);
        fs_err::File::open(&file)?.sync_all()?;
        if let Some(folder) = file.parent() {
            fs_err::File::open(folder)?.sync_all()?;
        }
        fault::point();
        Ok(())
    }

    /// Removes a ref below `refs/cofferdam/` that still points to `expected`.
    pub fn delete_reference(&self, name: &str, expected: Oid) -> Result<(), GitError> {
        debug_assert!(name.starts_with(OWN_REFS));
        let mut tries = 0;
        let _mark = if self.is_packed(name) { Some(self.mark_packing()?) } else { None };
        loop {
            let mut reference = match self.inner.find_reference(name) {
                Ok(reference) => reference,
                Err(e) if e.code() == git2::ErrorCode::NotFound => return Ok(()),
                Err(e) => return doing(|| format!("read the ref {name}"))(e),
            };
            if reference.target() != Some(expected) {
                return Ok(());
            }
            fault::point();
            match reference.delete() {
                Ok(()) => {
                    fault::point();
                    return Ok(());
                }
                // A `git pack-refs` of the user holds it for a moment; a killed cofferdam holds it for ever.
                Err(e) if e.code() == git2::ErrorCode::Locked && tries < LOCK_TRIES => {
                    tries += 1;
                    if tries == LOCK_TRIES {
                        self.remove_lock_of(name)?;
                    } else {
                        std::thread::sleep(std::time::Duration::from_millis(50));
                    }
                }
                Err(e) => return doing(|| format!("delete the ref {name}"))(e),
            }
        }
    }

    fn remove_lock_of(&self, name: &str) -> Result<(), GitError> {
        match fs_err::remove_file(self.common.join(format!("{name}.lock"))) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound && e.kind() != std::io::ErrorKind::NotADirectory => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Is `commit` reachable from a branch, a remote branch or a tag?
    pub fn is_reachable_elsewhere(&self, commit: Oid) -> Result<bool, GitError> {
        for prefix in ["refs/heads/", "refs/remotes/", "refs/tags/"] {
            for (name, _) in self.references(prefix)? {
                let Ok(tip) = self.commit(&name) else { continue };
                if tip == commit || self.inner.graph_descendant_of(tip, commit).unwrap_or(false) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// How many commits stand on `tip` since `base`.
    pub fn is_ancestor(&self, ancestor: Oid, descendant: Oid) -> bool {
        ancestor == descendant || self.inner.graph_descendant_of(descendant, ancestor).unwrap_or(false)
    }

    /// The last commit that both hold. None when there is none, or one of them is gone.
    pub fn merge_base(&self, a: Oid, b: Oid) -> Option<Oid> {
        self.inner.merge_base(a, b).ok()
    }

    /// Writes a pack with these objects (trees with all that is below them) into a folder of our own.
    pub fn write_pack(&self, folder: &Path, whole_trees: &[Oid], single: &[Oid]) -> Result<(), GitError> {
        let pack = || -> Result<(), git2::Error> {
            let mut builder = self.inner.packbuilder()?;
            builder.set_threads(0);
            for id in single {
                builder.insert_object(*id, None)?;
            }
            for tree in whole_trees {
                builder.insert_tree(*tree)?;
            }
            builder.write(folder, 0o444)
        };
        pack().or_else(doing(|| format!("write a pack into {}", folder.display())))
    }

    /// Writes an index for a tree. No file is looked at.
    pub fn write_index(&self, path: &Path, tree: Oid, entries: &[IndexFile]) -> Result<(), GitError> {
        let write = || -> Result<Oid, git2::Error> {
            let mut index = git2::Index::open(path)?;
            for entry in entries {
                index.add(&entry.as_entry())?;
            }
            // Names every folder's tree in the index, so that git need not work them out; and tells whether this is the tree.
            let written = index.write_tree_to(&self.inner)?;
            index.write()?;
            Ok(written)
        };
        let written = write().or_else(doing(|| format!("write the index {}", path.display())))?;
        let canonical = entries.iter().all(|entry| entry.mode == entry.canonical_mode());
        if written != tree && canonical {
            return Err(std::io::Error::other(format!("the index of tree {tree} came out as {written}")).into());
        }
        Ok(())
    }
}

impl Objects for Repository {
    fn tree(&self, id: Oid) -> Result<Vec<Entry>, GitError> {
        read_tree(&self.inner, id)
    }

    fn blob(&self, id: Oid) -> Result<Vec<u8>, GitError> {
        self.inner.find_blob(id).map(|blob| blob.content().to_vec()).or_else(doing(|| format!("read blob {id}")))
    }
}

/// The change between two trees as a patch, for a person. No external program takes part.
/// With binary files in full, or just named: what a program applies, or what somebody reads.
fn patch(repository: &git2::Repository, from: Oid, to: Oid, binary: bool) -> Result<Vec<u8>, GitError> {
    print_patch(repository, from, to, binary).or_else(doing(|| format!("compare trees {from} and {to}")))
}

fn print_patch(repository: &git2::Repository, from: Oid, to: Oid, binary: bool) -> Result<Vec<u8>, git2::Error> {
    let (from, to) = (repository.find_tree(from)?, repository.find_tree(to)?);
    let mut options = git2::DiffOptions::new();
    options.ignore_submodules(true).show_binary(binary);
    let diff = repository.diff_tree_to_tree(Some(&from), Some(&to), Some(&mut options))?;
    let mut out = Vec::new();
    diff.print(git2::DiffFormat::Patch, |_, _, line| {
        if matches!(line.origin(), '+' | '-' | ' ') {
            out.push(line.origin() as u8);
        }
        out.extend_from_slice(line.content());
        true
    })?;
    Ok(out)
}

fn read_tree(repository: &git2::Repository, id: Oid) -> Result<Vec<Entry>, GitError> {
    let tree = repository.find_tree(id).or_else(doing(|| format!("read tree {id}")))?;
    let entry =
        |e: git2::TreeEntry<'_>| Entry { name: e.name_bytes().to_vec(), mode: u32::try_from(e.filemode_raw()).unwrap_or(0), id: e.id() };
    Ok(tree.iter().map(entry).collect())
}

/// Above this many files one flush of the file system is cheaper than one for each.
const SINGLE_SYNCS_MAX: usize = 64;

/// How many files one thread flushes.
const SYNCS_EACH: usize = 4;

/// Makes the content of files durable.
pub(in crate::workspace) fn sync_files<'a>(folder: &Path, files: impl ExactSizeIterator<Item = &'a Path>) -> std::io::Result<()> {
    if files.len() > SINGLE_SYNCS_MAX {
        return Ok(nix::unistd::syncfs(fs_err::File::open(folder)?)?);
    }
    // Each flush waits for the device; side by side they wait together.
    let files: Vec<&Path> = files.collect();
    let flush = |files: &[&Path]| -> std::io::Result<()> {
        use fs_err::os::unix::fs::OpenOptionsExt;
        for file in files {
            fs_err::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(file)?.sync_data()?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let handles: Vec<_> = files.chunks(SYNCS_EACH).map(|chunk| scope.spawn(move || flush(chunk))).collect();
        handles.into_iter().try_for_each(|handle| handle.join().unwrap_or_else(|_| Err(std::io::Error::other("a worker panicked"))))
    })
}

/// Makes every file below a folder of our own durable.
pub(in crate::workspace) fn sync_tree(folder: &Path) -> std::io::Result<()> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
    }
    sync_files(folder, files.iter().map(PathBuf::as_path))
}

fn config_home() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_CONFIG_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    set.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))
}

/// Refuses what libgit2 cannot read, in words that help; libgit2's own would not.
fn refuse_extensions(git_dir: &Path) -> Result<(), GitError> {
    let file = git_dir.join("config");
    let Ok(config) = git2::Config::open(&file) else { return Ok(()) };
    let is = |key: &str, value: &str| config.get_string(key).is_ok_and(|v| v.eq_ignore_ascii_case(value));
    let refuse = |feature, advice| Err(GitError::Unsupported { path: git_dir.to_owned(), feature, advice });
    if is("extensions.refstorage", "reftable") {
        return refuse("keeps its refs in reftables", "`git refs migrate --ref-format=files` changes that");
    }
    if is("extensions.objectformat", "sha256") {
        return refuse("is a SHA-256 repository", "use a SHA-1 clone");
    }
    let promisor = config.entries(Some("remote\\..*\\.promisor")).is_ok_and(|mut entries| {
        let mut found = false;
        while let Some(Ok(entry)) = entries.next() {
            found |= entry.value().is_ok_and(|v| v != "false");
        }
        found
    });
    if promisor || config.get_string("extensions.partialclone").is_ok() {
        return refuse(
            "is a partial clone, whose objects are not all here",
            "`git fetch --refetch --no-filter` after unsetting `remote.<name>.promisor`, or a full clone, changes that",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_sort_as_git_sorts_them() {
        let entry = |name: &str, mode| Entry { name: name.into(), mode, id: Oid::ZERO_SHA1 };
        let mut entries = [entry("a0", mode::FILE), entry("a", mode::TREE), entry("a.b", mode::FILE), entry("a-b", mode::FILE)];
        entries.sort_by(Entry::order);
        let names: Vec<_> = entries.iter().map(|e| String::from_utf8_lossy(&e.name).into_owned()).collect();
        assert_eq!(names, ["a-b", "a.b", "a", "a0"]);
    }
}

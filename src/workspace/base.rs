//! Base layers: one immutable checkout per commit, shared by every story and gate that starts from it.
//!
//! A layer is built in a folder of its own, made durable, and renamed into place: one that is there is whole. A later commit is a small layer
//! over the nearest one. Nothing that runs in a sandbox can write to a layer: it is only ever a lower folder of an overlay.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::attributes::{Attributes, AttributesFile, AttributesStack, Value};
use super::changes::{self, ChangeKind, Stopped};
use super::convert::LineEnds;
use super::encoding;
use super::git::{self, Entry, GitError, Objects, Oid, Repository};
use super::layer_files::{self, Content, Job};
use super::removal;
use super::state::{self, Lock, State, StateError};

#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("the checkout of {commit} came out wrong: {found} names instead of {wanted}; the file system of {} may not tell case apart", place.display())]
    Unfaithful { commit: Oid, wanted: u64, found: u64, place: PathBuf },
    #[error("the disk under {} is full; `cofferdam clean` frees what nothing uses, then try again", place.display())]
    Full { place: PathBuf },
}

impl BaseError {
    /// A full disk is said as one, whoever ran into it.
    pub(super) fn or_full(self, place: &Path) -> Self {
        let full = match &self {
            Self::Io(e) | Self::Git(GitError::Io(e)) | Self::State(StateError::Io(e)) => {
                matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            // libgit2 has no code for it.
            Self::Git(GitError::Git { source, .. }) => source.message().contains("No space left on device"),
            _ => false,
        };
        if full { Self::Full { place: place.to_owned() } } else { self }
    }
}

/// What is known of one layer; it lies beside the layer's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    pub version: u32,
    pub commit: String,
    pub tree: String,
    /// The layer below, when this one holds only what differs from it.
    pub over: Option<String>,
    /// How many layers lie below.
    pub depth: u32,
    /// Files of the whole checkout.
    pub files: u64,
    /// Bytes that this layer itself holds.
    pub bytes: u64,
    /// The time every file of this layer carries, in seconds.
    pub time: i64,
    pub ends: LineEnds,
    pub warnings: Warnings,
}

/// What a person should know of a base.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warnings {
    /// Their folders are empty in a workspace.
    pub submodules: Vec<String>,
    /// Files that a filter program would change: LFS pointers and the like stay as they are.
    pub filtered: u64,
    /// Files whose attribute names an encoding that is not known here stay as they are stored.
    pub encoded: u64,
}

/// A layer with all that lies below it, top first. While one is held, none of its layers is removed.
#[derive(Clone, Debug)]
pub struct Stack {
    pub layers: Vec<(PathBuf, Layer)>,
    #[expect(dead_code, reason = "held for its drop")]
    held: Arc<Vec<Flock<std::fs::File>>>,
}

impl Stack {
    pub fn top(&self) -> Option<&Layer> {
        self.layers.first().map(|(_, layer)| layer)
    }

    /// The folders that hold the files, top first.
    pub fn trees(&self) -> Vec<PathBuf> {
        self.layers.iter().map(|(path, _)| path.join("tree")).collect()
    }
}

const VERSION: u32 = 1;
/// More layers make every lookup slower, and the kernel's list of them is short.
const DEPTH_MAX: u32 = 6;
/// From here on a stack is made into one layer beside the work, so that nobody has to wait for it when it is full.
const COMPACTED_DEPTH: u32 = 4;
/// Of how many layers the difference is asked for before a new one is laid.
const CANDIDATES: usize = 3;
/// Somebody else builds the same layer: waiting is faster than doing it again.
const LOCK_WAIT: Duration = Duration::from_secs(30 * 60);

/// The base layers of one repository.
#[derive(Debug)]
pub struct Layers<'a> {
    pub(super) state: &'a State,
    pub(super) repository: &'a Repository,
}

impl<'a> Layers<'a> {
    pub fn new(state: &'a State, repository: &'a Repository) -> Self {
        Self { state, repository }
    }

    /// The layer of a commit, built if it is not there.
    pub fn ensure(&self, commit: Oid) -> Result<Stack, BaseError> {
        let ends = self.repository.line_ends();
        if let Some(stack) = self.find(commit, ends)? {
            return Ok(stack);
        }
        let lock = self.state.lock("layers", LOCK_WAIT)?;
        if let Some(stack) = self.find(commit, ends)? {
            return Ok(stack);
        }
        self.sweep()?;
        self.build(commit, ends).map_err(|error| error.or_full(&self.state.layers()))?;
        let stack = self.find(commit, ends)?.ok_or_else(|| io::Error::other("the new layer is gone again"))?;
        drop(lock);
        // A layer too many is no reason not to use the new one.
        drop(self.keep_small());
        if self.state.compacts() && stack.top().is_some_and(|top| top.depth >= COMPACTED_DEPTH) {
            self.compact_beside(&folder_name(commit, ends));
        }
        Ok(stack)
    }

    /// The layer of a commit with those below it, when all of them are there.
    pub fn find(&self, commit: Oid, ends: LineEnds) -> Result<Option<Stack>, BaseError> {
        self.stack_of(&folder_name(commit, ends))
    }

    pub(super) fn stack_of(&self, name: &str) -> Result<Option<Stack>, BaseError> {
        let (mut layers, mut held) = (Vec::new(), Vec::new());
        let now = SystemTime::now();
        let mut next = Some(name.to_owned());
        while let Some(name) = next.take() {
            let path = self.state.layers().join(&name);
            let Some(layer) = state::read_record::<Layer>(&path.join("layer.json"))? else { return Ok(None) };
            if layer.version != VERSION || layers.len() > DEPTH_MAX as usize {
                return Ok(None);
            }
            next = layer.over.clone();
            if let Ok(file) = fs_err::File::open(path.join("layer.json")) {
                // The time of last use decides what goes first when space is needed.
                drop(file.file().set_modified(now));
                held.extend(Flock::lock(file.into_file(), FlockArg::LockSharedNonblock));
            }
            layers.push((path, layer));
        }
        Ok(Some(Stack { layers, held: Arc::new(held) }))
    }

    /// Every layer that is whole, the last used first.
    pub fn all(&self) -> Result<Vec<(String, SystemTime, Layer)>, BaseError> {
        let mut layers = Vec::new();
        for entry in fs_err::read_dir(self.state.layers())? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let record = entry.path().join("layer.json");
            if let Ok(Some(layer)) = state::read_record::<Layer>(&record) {
                let used = fs_err::metadata(&record).and_then(|m| m.modified()).unwrap_or(UNIX_EPOCH);
                layers.push((name, used, layer));
            }
        }
        // Those of one stack were used at the same moment: the upper ones are the newer ones.
        layers.sort_by_key(|(_, used, layer)| std::cmp::Reverse((*used, layer.depth)));
        Ok(layers)
    }

    /// Removes layers that nobody uses, the least recently used first, until the rest fits. `used` are the folder names in use; what lies
    /// below one that stays, stays. Returns what was or would be removed.
    pub fn shrink(&self, used: &HashSet<String>, keep_bytes: u64, dry_run: bool) -> Result<Vec<(String, Layer)>, BaseError> {
        let _lock = self.state.lock("layers", LOCK_WAIT)?;
        if !dry_run {
            self.sweep()?;
        }
        let mut layers = self.all()?;
        let mut removed = Vec::new();
        loop {
            let total: u64 = layers.iter().map(|(_, _, layer)| layer.bytes).sum();
            if total <= keep_bytes {
                break;
            }
            let below: HashSet<String> = layers.iter().filter_map(|(_, _, layer)| layer.over.clone()).collect();
            let Some(at) = layers.iter().rposition(|(name, ..)| {
                let held = || Lock::acquire(&self.state.layers().join(name).join("layer.json"), "a layer", Duration::ZERO).is_err();
                !used.contains(name) && !below.contains(name) && !held()
            }) else {
                break;
            };
            let (name, _, layer) = layers.remove(at);
            if !dry_run {
                removal::discard(&self.state.layers().join(&name), &self.state.trash())?;
            }
            removed.push((name, layer));
        }
        Ok(removed)
    }

    /// Removes what a crash left half built. Only under the lock.
    fn sweep(&self) -> Result<(), BaseError> {
        for entry in fs_err::read_dir(self.state.layers())? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                removal::discard(&entry.path(), &self.state.trash())?;
            }
        }
        Ok(())
    }

    fn build(&self, commit: Oid, ends: LineEnds) -> Result<(), BaseError> {
        let tree = self.repository.tree_of(commit)?;
        let place = self.state.layers().join(state::unique(".building-"));
        let files = place.join("tree");
        fs_err::create_dir_all(&files)?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
        let built = match self.nearest(tree, ends)? {
            Some((below, layer, changes)) if layer.depth < DEPTH_MAX => {
                self.delta(&files, tree, ends, time, &layer, &changes).map(|built| (Some(below), layer.depth + 1, built))
            }
            // The kernel's list is full: what lies below becomes one layer first.
            Some((below, layer, changes)) => match self.flatten(&below, &layer) {
                Ok(Some((flat, one))) => {
                    self.delta(&files, tree, ends, time, &one, &changes).map(|built| (Some(flat), one.depth + 1, built))
                }
                Ok(None) => self.whole(&files, commit, tree, ends, time).map(|built| (None, 0, built)),
                Err(error) => Err(error),
            },
            None => self.whole(&files, commit, tree, ends, time).map(|built| (None, 0, built)),
        };
        let (over, depth, built) = match built {
            Ok(built) => built,
            Err(error) => {
                // Half a layer is worth nothing, and a full disk needs the space.
                removal::discard(&place, &self.state.trash())?;
                return Err(error);
            }
        };
        let layer = Layer {
            version: VERSION,
            commit: commit.to_string(),
            tree: tree.to_string(),
            over,
            depth,
            files: built.files,
            bytes: built.bytes,
            time,
            ends,
            warnings: built.warnings,
        };
        layer_files::set_folder_times(&files, time.saturating_sub(2))?;
        git::sync_files(&place, built.written.iter().map(PathBuf::as_path))?;
        state::write_record(&place.join("layer.json"), &layer)?;
        let target = self.state.layers().join(folder_name(commit, ends));
        if target.exists() {
            // A folder without a readable record: nobody can have used it.
            removal::discard(&target, &self.state.trash())?;
        }
        fs_err::rename(&place, &target)?;
        state::sync_folder(&self.state.layers())?;
        Ok(())
    }

    /// The layer that differs least from a tree, if laying a small one over it is worth it.
    fn nearest(&self, tree: Oid, ends: LineEnds) -> Result<Option<(String, Layer, Vec<changes::Change>)>, BaseError> {
        let mut best: Option<(String, Layer, Vec<changes::Change>)> = None;
        for (name, _, layer) in self.all()?.into_iter().filter(|(_, _, l)| l.ends == ends && l.version == VERSION).take(CANDIDATES) {
            let Ok(from) = layer.tree.parse() else { continue };
            let limit = best
                .as_ref()
                .map_or(usize::try_from(layer.files / 10).unwrap_or(usize::MAX).max(1000), |(_, _, found)| found.len().saturating_sub(1));
            match changes::between(self.repository, Some(from), Some(tree), limit) {
                // New attributes may change the line ends of files that did not change.
                Ok(changes) if changes.iter().any(|c| c.path.ends_with(b".gitattributes")) => {}
                Ok(changes) => best = Some((name, layer, changes)),
                Err(Stopped::TooMany) => {}
                // Its tree may have been pruned from the repository since.
                Err(Stopped::Git(_)) => {}
            }
        }
        Ok(best)
    }

    /// Writes a commit's files into an empty folder that is nobody's layer.
    pub fn write_checkout(&self, files: &Path, commit: Oid) -> Result<Warnings, BaseError> {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
        self.whole(files, commit, self.repository.tree_of(commit)?, self.repository.line_ends(), time).map(|built| built.warnings)
    }

    fn whole(&self, files: &Path, commit: Oid, tree: Oid, ends: LineEnds, time: i64) -> Result<Built, BaseError> {
        let mut plan = Plan { warnings: Warnings::default(), jobs: Vec::new(), folders: 0, attributes: self.attributes() };
        plan.folder(self.repository, tree, files, &mut Vec::new())?;
        let count = plan.jobs.len() as u64;
        let bytes = layer_files::write_all(self.repository, files, &plan.jobs, ends, time)?;
        let (wanted, found) = (count + plan.folders, layer_files::count(files)?);
        if wanted != found {
            return Err(BaseError::Unfaithful { commit, wanted, found, place: files.to_owned() });
        }
        let written = files_of(&plan.jobs, files);
        Ok(Built { files: count, bytes, warnings: plan.warnings, written })
    }

    fn delta(
        &self,
        files: &Path,
        tree: Oid,
        ends: LineEnds,
        time: i64,
        below: &Layer,
        changes: &[changes::Change],
    ) -> Result<Built, BaseError> {
        let mut warnings = below.warnings.clone();
        let mut count = below.files;
        for change in changes {
            match change.kind {
                ChangeKind::Added => count += 1,
                ChangeKind::Deleted => count = count.saturating_sub(1),
                ChangeKind::Modified | ChangeKind::Mode | ChangeKind::Type => {}
            }
        }
        let jobs = self.jobs(files, tree, changes, &mut warnings)?;
        let bytes = layer_files::write_all(self.repository, files, &jobs, ends, time)?;
        for change in changes.iter().filter(|change| change.kind == ChangeKind::Deleted) {
            let gone = self.topmost_gone(tree, &change.path)?;
            layer_files::whiteout(files, gone)?;
        }
        let written = files_of(&jobs, files);
        Ok(Built { files: count, bytes, warnings, written })
    }

    /// What is to be written of changes, with the folders for it made.
    fn jobs(&self, files: &Path, tree: Oid, changes: &[changes::Change], warnings: &mut Warnings) -> Result<Vec<Job>, BaseError> {
        let mut jobs = Vec::new();
        let mut known = HashMap::new();
        for change in changes {
            let Some((mode, id)) = change.now else { continue };
            check_names(tree, &change.path)?;
            let parent = files.join(path_of(parent_of(&change.path)));
            fs_err::create_dir_all(&parent)?;
            let entry = Entry { name: Vec::new(), mode, id };
            if entry.is_submodule() {
                warnings.submodules.push(crate::base::text::bytes_line(&change.path));
                fs_err::create_dir(files.join(path_of(&change.path)))?;
                continue;
            }
            let attributes = self.attributes_at(tree, &change.path, &mut known)?;
            warnings.count(&attributes);
            jobs.push(Job { path: change.path.clone(), content: Content::of(&entry), id, attributes });
        }
        Ok(jobs)
    }

    /// Writes what a commit has elsewhere than other ones had it, with the present time, into an empty folder that is nobody's layer: over the
    /// commit's layers it makes those files as new as they are to whoever knew the others. At most `limit` of them; false when there are more.
    pub fn write_newer(&self, files: &Path, commit: Oid, others: &[Oid], limit: usize) -> Result<bool, BaseError> {
        let tree = self.repository.tree_of(commit)?;
        let mut differing = BTreeMap::new();
        for other in others {
            match changes::between(self.repository, Some(self.repository.tree_of(*other)?), Some(tree), limit) {
                Ok(changes) => differing.extend(changes.into_iter().map(|change| (change.path.clone(), change))),
                Err(Stopped::TooMany) => return Ok(false),
                Err(Stopped::Git(error)) => return Err(error.into()),
            }
        }
        // New attributes may change files that did not change.
        if differing.len() > limit || differing.keys().any(|path| path.ends_with(b".gitattributes")) {
            return Ok(false);
        }
        let changes: Vec<_> = differing.into_values().collect();
        let jobs = self.jobs(files, tree, &changes, &mut Warnings::default())?;
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().cast_signed();
        layer_files::write_all(self.repository, files, &jobs, self.repository.line_ends(), time)?;
        Ok(true)
    }

    /// The uppermost part of a path that a tree does not have; `None` when a file stands in its place already.
    fn topmost_gone<'p>(&self, tree: Oid, path: &'p [u8]) -> Result<Option<&'p [u8]>, BaseError> {
        let mut at = Some(tree);
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([path.len()]);
        let mut start = 0;
        for end in ends {
            // Something that is no folder hides all that was below it.
            let Some(id) = at else { return Ok(None) };
            let name = &path[start..end];
            match self.repository.tree(id)?.into_iter().find(|entry| entry.name == name) {
                None => return Ok(Some(&path[..end])),
                Some(entry) => at = entry.is_tree().then_some(entry.id),
            }
            start = end + 1;
        }
        Ok(None)
    }

    fn attributes(&self) -> AttributesStack {
        let lists = self.repository.attribute_lists();
        let list = |at: usize| AttributesFile::parse(b"", lists.get(at).map_or(&b""[..], Vec::as_slice));
        let mut stack = AttributesStack::new(list(1));
        stack.push(list(0));
        stack
    }

    /// The attributes of one path, read folder by folder; `known` remembers the folders.
    fn attributes_at(&self, tree: Oid, path: &[u8], known: &mut HashMap<Vec<u8>, Option<Vec<u8>>>) -> Result<Attributes, BaseError> {
        let mut stack = self.attributes();
        let mut at = Some(tree);
        let mut start = 0_usize;
        for end in path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(i, _)| i).chain([path.len()]) {
            let Some(id) = at else { break };
            let folder = path[..start.saturating_sub(1)].to_vec();
            let entries = self.repository.tree(id)?;
            if !known.contains_key(&folder) {
                let file = entries.iter().find(|e| e.name == b".gitattributes" && matches!(Content::of(e), Content::File { .. }));
                let content = file.map(|e| self.repository.blob(e.id)).transpose()?;
                known.insert(folder.clone(), content);
            }
            if let Some(Some(content)) = known.get(&folder) {
                stack.push(AttributesFile::parse(&folder, content));
            }
            let name = &path[start..end];
            at = entries.iter().find(|e| e.name == name && e.is_tree()).map(|e| e.id);
            start = end + 1;
        }
        Ok(stack.of(path))
    }
}

struct Built {
    files: u64,
    bytes: u64,
    warnings: Warnings,
    written: Vec<PathBuf>,
}

/// What must be made durable: links have no content of their own, and are never opened.
fn files_of(jobs: &[Job], root: &Path) -> Vec<PathBuf> {
    jobs.iter().filter(|job| job.content != Content::Link).map(|job| root.join(path_of(&job.path))).collect()
}

impl Warnings {
    fn count(&mut self, attributes: &Attributes) {
        self.filtered += u64::from(matches!(attributes.filter, Value::Text(_)));
        self.encoded += u64::from(encoding::is_unknown(&attributes.encoding));
    }
}

/// A whole checkout: the folders are made while the trees are read, the files are left to do.
struct Plan {
    warnings: Warnings,
    jobs: Vec<Job>,
    folders: u64,
    attributes: AttributesStack,
}

impl Plan {
    fn folder(&mut self, repository: &Repository, tree: Oid, place: &Path, path: &mut Vec<u8>) -> Result<(), BaseError> {
        let entries = repository.tree(tree)?;
        let list = entries.iter().find(|e| e.name == b".gitattributes" && matches!(Content::of(e), Content::File { .. }));
        let has_list = list.is_some();
        if let Some(list) = list {
            self.attributes.push(AttributesFile::parse(path, &repository.blob(list.id)?));
        }
        for entry in entries {
            if entry.name.contains(&b'/') {
                return Err(GitError::BadName { id: tree, name: entry.name }.into());
            }
            check_names(tree, &entry.name)?;
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            if entry.is_tree() || entry.is_submodule() {
                let folder = place.join(path_of(&entry.name));
                fs_err::create_dir(&folder)?;
                self.folders += 1;
                if entry.is_tree() {
                    self.folder(repository, entry.id, &folder, path)?;
                } else {
                    self.warnings.submodules.push(crate::base::text::bytes_line(path));
                }
            } else {
                let attributes = self.attributes.of(path);
                self.warnings.count(&attributes);
                self.jobs.push(Job { path: path.clone(), content: Content::of(&entry), id: entry.id, attributes });
            }
            path.truncate(length);
        }
        if has_list {
            self.attributes.pop();
        }
        Ok(())
    }
}

/// Refuses names that would lead out of a folder or into a git directory; git refuses to check them out too.
fn check_names(tree: Oid, path: &[u8]) -> Result<(), GitError> {
    let bad =
        |name: &[u8]| matches!(name, b"" | b"." | b"..") || name.contains(&0) || name.eq_ignore_ascii_case(b".git") || name.len() > 255;
    match path.split(|b| *b == b'/').find(|name| bad(name)) {
        Some(name) => Err(GitError::BadName { id: tree, name: name.to_vec() }),
        None => Ok(()),
    }
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|b| *b == b'/').map_or(b"", |at| &path[..at])
}

fn path_of(path: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(path))
}

/// A layer's folder: the commit, and what else decides its files.
pub fn folder_name(commit: Oid, ends: LineEnds) -> String {
    match (ends.auto, ends.native_crlf) {
        (super::convert::AutoCrlf::Off, false) => commit.to_string(),
        (auto, native) => format!("{commit}-{auto:?}{}", if native { "-crlf" } else { "" }).to_lowercase(),
    }
}

//! Warm caches that cannot be poisoned: folders that a gate finds as the last landed run left them.
//!
//! ```text
//! states/1 ◀─ states/2 ◀─ current        a run: overlay over `current`, writing to runs/<id>/upper
//!                                          ├─ dropped: nothing happened (every untrusted run, every run that nobody vouches for)
//!                                          └─ promoted by whoever landed the tree: upper becomes a state, `current` is replaced by one rename
//! ```
//!
//! A state is never written again. Two runs at once see neither each other nor what the other promotes; a promotion puts a run's own view in
//! place as a whole, so that no mixture of two runs is ever seen. What a crash leaves is either the old record or the new one; the rest is swept.

pub(in crate::workspace) mod merge;

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use self::merge::{Measured, Unfit};
use super::removal;
use super::state::{self, Lock, State, StateError};
use super::walk::Folder;
use crate::base::size::Size;
use crate::sandbox::policy::{Cache, Upper};

#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Upper bounds of one cache.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub bytes: Size,
    pub files: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        // What a large project's build leaves in a few weeks; beyond it a cold start is cheaper than the disk.
        Self { bytes: Size::gib(10), files: 1_000_000 }
    }
}

/// Short operations under the lock; merging states takes seconds at most.
const WAIT: Duration = Duration::from_secs(60);
/// A state of more layers is made into one: each layer costs every lookup.
const DEPTH_MAX: usize = 6;
/// A run that was set aside and that nobody asks for any more.
const ASIDE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const VERSION: u32 = 1;

/// The last promoted state of one cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Current {
    version: u32,
    /// Top first.
    layers: Vec<Part>,
    /// What it was promoted for: the landed commit, in the caller's words.
    landed: String,
}

/// One folder of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    name: String,
    bytes: u64,
    files: u64,
}

/// What is known of a run; it lies beside the run's files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RunRecord {
    version: u32,
    /// The cache it belongs to, as the caller names it: a folder's name does not tell.
    cache: String,
    layers: Vec<Part>,
    /// Set aside for a decision that comes later: what the caller knows it by.
    aside: Option<String>,
    made: u64,
}

/// A run that waits for its tree to land.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    pub cache: String,
    pub id: String,
    pub label: String,
}

/// What became of a request to promote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// The run's view is what the next run finds.
    Promoted,
    /// The run wrote nothing.
    Unchanged,
    /// It would have been larger than a cache may be: the next run starts cold.
    StartedAnew { bytes: Size, files: u64 },
    /// The run left what no run can have written; the state stays what it was.
    Refused { why: String },
    /// The run is not there any more; the state stays what it was.
    Gone,
}

/// What a cleaning removed, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dropped {
    pub cache: String,
    pub bytes: u64,
}

/// The warm caches of one repository.
#[derive(Clone, Debug)]
pub struct Caches {
    root: PathBuf,
    trash: PathBuf,
    bounds: Bounds,
}

impl Caches {
    /// Those of a repository's state folder.
    pub fn of(state: &State, bounds: Bounds) -> Result<Self, CacheError> {
        let root = state.root().join("caches");
        make_private(&root)?;
        Ok(Self { root, trash: state.trash(), bounds })
    }

    /// A run's own view of a cache: the last promoted state, and a place for what the run writes.
    pub fn open(&self, name: &str) -> Result<Run, CacheError> {
        let place = Place::new(self, name);
        for folder in [place.states(), place.runs(), place.folder.join("empty")] {
            make_private(&folder)?;
        }
        let _lock = place.lock()?;
        place.sweep()?;
        let current = place.current()?;
        let id = state::unique("r-");
        let landed = current.landed;
        let run = RunRecord { version: VERSION, cache: name.to_owned(), layers: current.layers, aside: None, made: now() };
        let folder = place.runs().join(&id);
        make_private(&folder)?;
        let held = Lock::acquire(&folder.join("run.lock"), name, Duration::ZERO)?;
        // Everybody's, as the root of any folder of files is: inside it belongs to the payload.
        fs_err::create_dir(folder.join("upper"))?;
        fs_err::create_dir(folder.join("work"))?;
        state::write_record(&folder.join("run.json"), &run)?;
        Ok(Run { caches: self.clone(), name: name.to_owned(), id, landed, record: run, held: Some(held) })
    }

    /// Promotes a run that was set aside: for whoever landed the tree that it ran on.
    pub fn promote(&self, name: &str, id: &str, landed: &str) -> Result<Promotion, CacheError> {
        let place = Place::new(self, name);
        let Some(_lock) = place.lock_if_there()? else { return Ok(Promotion::Gone) };
        match state::read_record::<RunRecord>(&place.runs().join(id).join("run.json"))? {
            Some(run) if run.aside.is_some() => place.promote(id, &run, landed),
            _ => Ok(Promotion::Gone),
        }
    }

    /// Drops a run that was set aside: its tree did not land.
    pub fn forget(&self, name: &str, id: &str) -> Result<(), CacheError> {
        let place = Place::new(self, name);
        let Some(_lock) = place.lock_if_there()? else { return Ok(()) };
        Ok(removal::discard(&place.runs().join(id), &self.trash)?)
    }

    /// The runs that wait for a decision, for a runner that starts again.
    pub fn aside(&self) -> Result<Vec<Aside>, CacheError> {
        let mut aside = Vec::new();
        for place in self.places()? {
            for id in names(&place.runs())? {
                if let Some(run) = state::read_record::<RunRecord>(&place.runs().join(&id).join("run.json"))?
                    && let Some(label) = run.aside
                {
                    aside.push(Aside { cache: run.cache, id, label });
                }
            }
        }
        Ok(aside)
    }

    /// Sweeps what crashes left, and drops the least recently used caches until the rest fits.
    pub fn shrink(&self, keep_bytes: u64, dry_run: bool) -> Result<Vec<Dropped>, CacheError> {
        let mut kept = Vec::new();
        for place in self.places()? {
            let Some(_lock) = place.lock_if_there()? else { continue };
            if !dry_run {
                place.sweep()?;
            }
            let bytes = place.current()?.layers.iter().map(|part| part.bytes).sum::<u64>();
            let used = fs_err::metadata(place.record()).and_then(|m| m.modified()).unwrap_or(UNIX_EPOCH);
            kept.push((used, bytes, place));
        }
        kept.sort_by_key(|(used, ..)| *used);
        let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        let mut dropped = Vec::new();
        for (_, bytes, place) in kept {
            if total <= keep_bytes {
                break;
            }
            let Some(_lock) = place.lock_if_there()? else { continue };
            if bytes == 0 || place.in_use()? {
                continue;
            }
            dropped.push(Dropped { cache: place.name()?, bytes });
            total -= bytes;
            if !dry_run {
                state::write_record(&place.record(), &Current { version: VERSION, ..Current::default() })?;
                place.sweep()?;
            }
        }
        Ok(dropped)
    }

    fn places(&self) -> Result<Vec<Place<'_>>, CacheError> {
        Ok(names(&self.root)?.into_iter().map(|slug| Place { caches: self, folder: self.root.join(slug) }).collect())
    }
}

/// One run's view of a cache. Dropping it throws away what the run wrote.
#[derive(Debug)]
pub struct Run {
    caches: Caches,
    name: String,
    id: String,
    /// What the state that it starts from was promoted for.
    landed: String,
    record: RunRecord,
    /// Held until it is promoted, set aside or dropped; a sweep passes over it.
    held: Option<Lock>,
}

impl Run {
    /// What the sandbox mounts.
    pub fn mount(&self, inside: PathBuf) -> Cache {
        let place = self.place();
        let folder = place.runs().join(&self.id);
        let mut lower: Vec<PathBuf> = self.record.layers.iter().map(|part| place.states().join(&part.name)).collect();
        // An overlay needs something below.
        lower.extend(lower.is_empty().then(|| place.folder.join("empty")));
        let upper = Upper::Folders { upper: folder.join("upper"), work: folder.join("work") };
        Cache { lower, inside, upper, reason: format!("warm cache {}", crate::base::text::one_line(&self.name)) }
    }

    /// Does it start from something?
    pub fn is_warm(&self) -> bool {
        !self.record.layers.is_empty()
    }

    /// What the state that it starts from was promoted for, in the words of who promoted it; none when it starts from nothing.
    pub fn landed(&self) -> Option<&str> {
        self.is_warm().then_some(self.landed.as_str())
    }

    /// Starts from nothing after all. Before it is mounted.
    pub fn start_cold(&mut self) -> Result<(), CacheError> {
        self.record.layers = Vec::new();
        Ok(state::write_record(&self.place().runs().join(&self.id).join("run.json"), &self.record)?)
    }

    /// Puts what this run left in place for the next ones. Only for who landed the tree it ran on, and when its last process is dead.
    pub fn promote(mut self, landed: &str) -> Result<Promotion, CacheError> {
        let place = self.place();
        let promotion = {
            let _lock = place.lock()?;
            place.promote(&self.id, &self.record, landed)?
        };
        drop(self.held.take());
        Ok(promotion)
    }

    /// Keeps what this run left, unused, until its tree has landed or not. Its last process is dead. Returns the name it is asked for by.
    pub fn set_aside(mut self, label: &str) -> Result<String, CacheError> {
        self.record.aside = Some(label.to_owned());
        state::write_record(&self.place().runs().join(&self.id).join("run.json"), &self.record)?;
        drop(self.held.take());
        Ok(self.id.clone())
    }

    fn place(&self) -> Place<'_> {
        Place::new(&self.caches, &self.name)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.held.is_some() {
            // What cannot be removed now is swept by the next run.
            drop(removal::discard(&self.place().runs().join(&self.id), &self.caches.trash));
        }
    }
}

/// The folder of one cache.
struct Place<'a> {
    caches: &'a Caches,
    folder: PathBuf,
}

impl<'a> Place<'a> {
    fn new(caches: &'a Caches, name: &str) -> Self {
        Self { caches, folder: caches.root.join(state::slug(name)) }
    }

    fn states(&self) -> PathBuf {
        self.folder.join("states")
    }

    fn runs(&self) -> PathBuf {
        self.folder.join("runs")
    }

    fn record(&self) -> PathBuf {
        self.folder.join("current.json")
    }

    /// As close to its name as the folder tells.
    fn name(&self) -> Result<String, CacheError> {
        Ok(self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default())
    }

    fn lock(&self) -> Result<Lock, StateError> {
        Lock::acquire(&self.folder.join("cache.lock"), "a warm cache", WAIT)
    }

    fn lock_if_there(&self) -> Result<Option<Lock>, StateError> {
        if self.runs().is_dir() { self.lock().map(Some) } else { Ok(None) }
    }

    /// The last promoted state; an empty one when there is none, or when somebody took a part of it away: a cold start harms nobody.
    fn current(&self) -> Result<Current, CacheError> {
        let current = match state::read_record::<Current>(&self.record()) {
            Ok(current) => current.unwrap_or_default(),
            Err(StateError::Record { .. }) => Current::default(),
            Err(error) => return Err(error.into()),
        };
        let whole = current.version == VERSION && current.layers.iter().all(|part| self.states().join(&part.name).is_dir());
        Ok(if whole { current } else { Current::default() })
    }

    /// Under the lock. From here on nothing is lost or half done, whatever happens between two lines.
    fn promote(&self, id: &str, run: &RunRecord, landed: &str) -> Result<Promotion, CacheError> {
        let upper = self.runs().join(id).join("upper");
        let root = match Folder::open_root(&upper) {
            Ok(root) => root,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Promotion::Gone),
            Err(e) => return Err(e.into()),
        };
        if !run.layers.iter().all(|part| self.states().join(&part.name).is_dir()) {
            return Ok(Promotion::Gone);
        }
        let measured = match merge::measure(&root, self.caches.bounds.files) {
            Ok(measured) => measured,
            Err(Unfit::Io(error)) => return Err(error.into()),
            Err(Unfit::TooMany) => return self.start_anew(id, Measured { files: self.caches.bounds.files, ..Measured::default() }, landed),
            Err(Unfit::Forged(why)) => {
                removal::discard(&self.runs().join(id), &self.caches.trash)?;
                return Ok(Promotion::Refused { why });
            }
        };
        if measured.files == 0 && self.current()?.layers == run.layers {
            removal::discard(&self.runs().join(id), &self.caches.trash)?;
            return Ok(Promotion::Unchanged);
        }
        // Tools like make take a source that is older than what was built as built already. A file of another story may be written while this
        // run builds, so what it built is as old as its beginning: that file is newer, whatever ended first.
        merge::date_back(&root, run.made.saturating_sub(1).cast_signed(), 0)?;
        // A crash of the machine must not leave a promoted state with empty files.
        merge::sync(&root)?;
        let mut layers = run.layers.clone();
        if measured.files > 0 {
            let part = Part { name: state::unique("s-"), bytes: measured.bytes, files: measured.files };
            fs_err::rename(&upper, self.states().join(&part.name))?;
            state::sync_folder(&self.states())?;
            layers.insert(0, part);
        }
        let total = |layers: &[Part]| layers.iter().fold((0, 0), |(b, f), part| (b + part.bytes, f + part.files));
        let over = |(bytes, files): (u64, u64)| bytes > self.caches.bounds.bytes.bytes() || files > self.caches.bounds.files;
        if layers.len() > DEPTH_MAX || over(total(&layers)) {
            // Overwritten files count once when the layers are made into one.
            layers = vec![self.merged(&layers)?];
        }
        let (bytes, files) = total(&layers);
        if over((bytes, files)) {
            return self.start_anew(id, Measured { bytes, files, ..Measured::default() }, landed);
        }
        state::write_record(&self.record(), &Current { version: VERSION, layers, landed: landed.to_owned() })?;
        removal::discard(&self.runs().join(id), &self.caches.trash)?;
        self.sweep()?;
        Ok(Promotion::Promoted)
    }

    fn start_anew(&self, id: &str, found: Measured, landed: &str) -> Result<Promotion, CacheError> {
        state::write_record(&self.record(), &Current { version: VERSION, layers: Vec::new(), landed: landed.to_owned() })?;
        removal::discard(&self.runs().join(id), &self.caches.trash)?;
        self.sweep()?;
        Ok(Promotion::StartedAnew { bytes: Size(found.bytes), files: found.files })
    }

    /// Several layers as one: the same files by further names, so it costs no space and no copying.
    fn merged(&self, layers: &[Part]) -> Result<Part, CacheError> {
        let building = self.states().join(state::unique(".building-"));
        fs_err::create_dir(&building)?;
        let sources = layers.iter().map(|part| Folder::open_root(&self.states().join(&part.name))).collect::<Result<Vec<_>, _>>()?;
        let measured = merge::merge(sources, &Folder::open_root(&building)?)?;
        merge::sync(&Folder::open_root(&building)?)?;
        let part = Part { name: state::unique("s-"), bytes: measured.bytes, files: measured.files };
        fs_err::rename(&building, self.states().join(&part.name))?;
        state::sync_folder(&self.states())?;
        Ok(part)
    }

    /// Removes what nobody needs: runs whose process is gone, states that no run and no record names. Under the lock.
    fn sweep(&self) -> Result<(), CacheError> {
        let mut used: HashSet<String> = self.current()?.layers.into_iter().map(|part| part.name).collect();
        for id in names(&self.runs())? {
            let folder = self.runs().join(&id);
            let record = state::read_record::<RunRecord>(&folder.join("run.json")).ok().flatten();
            let alive = || Lock::acquire(&folder.join("run.lock"), "a run", Duration::ZERO).is_err();
            let waits = |run: &RunRecord| run.aside.is_some() && now().saturating_sub(run.made) < ASIDE_MAX.as_secs();
            match record.filter(|run| waits(run) || alive()) {
                Some(run) => used.extend(run.layers.into_iter().map(|part| part.name)),
                None => removal::discard(&folder, &self.caches.trash)?,
            }
        }
        for name in all_names(&self.states())? {
            if !used.contains(&name) {
                removal::discard(&self.states().join(&name), &self.caches.trash)?;
            }
        }
        Ok(())
    }

    fn in_use(&self) -> Result<bool, CacheError> {
        let held = |id: String| Lock::acquire(&self.runs().join(id).join("run.lock"), "a run", Duration::ZERO).is_err();
        Ok(names(&self.runs())?.into_iter().any(held))
    }
}

fn make_private(folder: &Path) -> io::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|e| io::Error::new(e.kind(), format!("cannot make {}: {e}", folder.display())))
}

/// The names in a folder but for those that are being made; none when there is no folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    Ok(all_names(folder)?.into_iter().filter(|name| !name.starts_with('.')).collect())
}

fn all_names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<_>>>()?;
    Ok(names)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

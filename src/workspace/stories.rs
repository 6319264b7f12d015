//! The workspaces of one repository: made, listed, collected, removed. Everything here survives a SIGKILL between any two lines.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::base::{self, BaseError, Layers, Warnings};
use super::bootstrap;
use super::cache::{Bounds, CacheError, Caches};
use super::changes::{self, Change, Stopped};
use super::checkout::{self, Backend, Seen};
use super::collect::{self, CollectError, Layout, Settings};
use super::git::{Author, GitError, Objects as _, Oid, Quarantine, Repository};
use super::import;
use super::private_git::{self, History};
use super::registration;
use super::removal;
use super::rules::{Finding, Limits};
use super::state::{self, Lock, State, StateError};
use super::walk::Folder;

#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    #[error("there is no workspace for story `{}`{}", crate::base::text::one_line(story), nearest.as_ref().map_or_else(String::new, |near| format!("; did you mean `{near}`?")))]
    NoSuchStory { story: String, nearest: Option<String> },
    #[error("story `{}` has a workspace already", crate::base::text::one_line(story))]
    Exists { story: String },
    #[error("a story needs a name of 1 to 200 characters")]
    BadStory,
    #[error(
        "the workspace of story `{}` is a plain checkout, and a run whose changes are thrown away needs an overlay; give the role a profile with workspace = \"read\" or \"write\"",
        crate::base::text::one_line(story)
    )]
    NeedsOverlay { story: String },
    #[error("{} is there already and is not empty", path.display())]
    NotEmpty { path: PathBuf },
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Base(#[from] BaseError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Collect(#[from] CollectError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The record of one story's workspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    pub version: u32,
    pub story: String,
    /// The commit it started from.
    pub base: String,
    pub base_tree: String,
    /// The branch it started from, when there was one.
    pub target: Option<String>,
    pub history: History,
    #[serde(default)]
    pub backend: Backend,
    #[serde(default)]
    pub upper: Upper,
    /// The layer its files come from.
    pub layer: String,
    /// Seconds since 1970.
    pub created: u64,
}

/// What takes the writes of a running agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Upper {
    /// A folder on disk.
    #[default]
    Disk,
    /// Memory of a fixed size, which the kernel holds; what is in it goes to disk when the run has ended.
    Tmpfs,
}

/// How a workspace is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub history: History,
    pub backend: Backend,
    pub upper: Upper,
}

const VERSION: u32 = 1;
/// Short operations: whoever holds the lock longer hangs.
const SHORT_WAIT: Duration = Duration::from_secs(60);
/// A story whose sandbox runs is busy for as long as that runs; nobody waits for it.
const STORY_WAIT: Duration = Duration::from_millis(500);

impl Story {
    pub fn slug(&self) -> String {
        state::slug(&self.story)
    }

    pub(super) fn base_id(&self) -> Result<Oid, WorkspaceError> {
        parse(&self.base)
    }

    fn tree_id(&self) -> Result<Oid, WorkspaceError> {
        parse(&self.base_tree)
    }
}

fn parse(id: &str) -> Result<Oid, WorkspaceError> {
    id.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, format!("a record names the object {}", id.escape_debug())).into())
}

/// What one collection found.
#[derive(Debug)]
pub struct Collection {
    pub story: String,
    pub base: Oid,
    /// The base itself when nothing changed.
    pub commit: Oid,
    pub tree: Oid,
    /// The ref that keeps the commit; none when it is the base.
    pub reference: Option<String>,
    /// Was there anything new since the last collection?
    pub new: bool,
    pub changes: Vec<Change>,
    pub findings: Vec<Finding>,
    pub more_findings: u64,
}

/// What a collection's commit says.
#[derive(Clone, Debug, Default)]
pub struct CollectOptions {
    pub message: Option<String>,
    pub author: Option<Author>,
    pub limits: Limits,
}

/// A workspace as `list` shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub story: Story,
    pub collected: Vec<(u64, Oid)>,
    pub busy: bool,
}

/// What cleaning removed, or would.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cleaned {
    pub layers: Vec<String>,
    pub layer_bytes: u64,
    /// Warm caches, the least recently used first.
    pub caches: Vec<super::cache::Dropped>,
    /// Refs of collected commits that a branch or tag reaches.
    pub references: Vec<String>,
    /// Registrations and refs of stories that are gone.
    pub leftovers: Vec<String>,
    /// Collected commits that nothing else reaches: kept.
    pub kept: Vec<String>,
}

/// The workspaces of one repository.
#[derive(Debug)]
pub struct Workspaces {
    pub repository: Repository,
    pub state: State,
}

impl Workspaces {
    /// Those of the repository that holds a path.
    pub fn open(path: &Path) -> Result<Self, WorkspaceError> {
        let repository = Repository::discover(path)?;
        let state = State::of(&repository)?;
        Ok(Self { repository, state })
    }

    pub(super) fn folder(&self, slug: &str) -> PathBuf {
        self.state.stories().join(slug)
    }

    /// Where what the agent wrote lies.
    fn files(&self, story: &Story) -> PathBuf {
        self.folder(&story.slug()).join(if story.backend == Backend::Overlay { "upper" } else { "tree" })
    }

    fn prefix(slug: &str) -> String {
        format!("refs/cofferdam/stories/{slug}/")
    }

    /// Makes a story's workspace in the usual way.
    pub fn create(&self, name: &str, base: Option<&str>, history: History) -> Result<(Story, Warnings), WorkspaceError> {
        self.create_as(name, base, Form { history, ..Form::default() })
    }

    /// Makes a story's workspace. On an overlay its cost is that of a few folders when the base layer is there.
    pub fn create_as(&self, name: &str, base: Option<&str>, form: Form) -> Result<(Story, Warnings), WorkspaceError> {
        if name.is_empty() || name.chars().count() > 200 {
            return Err(WorkspaceError::BadStory);
        }
        let slug = state::slug(name);
        if self.folder(&slug).exists() {
            return Err(WorkspaceError::Exists { story: name.to_owned() });
        }
        let commit = self.repository.commit(base.unwrap_or("HEAD"))?;
        let story = Story {
            version: VERSION,
            story: name.to_owned(),
            base: commit.to_string(),
            base_tree: self.repository.tree_of(commit)?.to_string(),
            target: base.map_or_else(
                || self.repository.branch(),
                |name| self.repository.reference(&format!("refs/heads/{name}")).map(|_| name.to_owned()),
            ),
            history: form.history,
            backend: form.backend,
            upper: form.upper,
            layer: base::folder_name(commit, self.repository.line_ends()),
            created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        };
        let layers = Layers::new(&self.state, &self.repository);
        match form.backend {
            Backend::Overlay => {
                // The long part without the lock; the second time it is only looked up, and nobody can take it away any more.
                layers.ensure(commit)?;
                let _lock = self.state.lock("stories", SHORT_WAIT)?;
                let stack = layers.ensure(commit)?;
                private_git::ensure(&self.state, &self.repository, &stack)?;
                let place = self.state.stories().join(state::unique(".new-"));
                let upper = place.join("upper");
                fs_err::create_dir_all(&upper)?;
                fs_err::create_dir(place.join("work"))?;
                private_git::begin(&upper, &self.repository, commit, &slug, story.target.as_deref(), form.history)?;
                self.put_in_place(&place, &story)?;
                Ok((story, stack.top().map(|top| top.warnings.clone()).unwrap_or_default()))
            }
            Backend::Checkout => {
                let place = self.state.stories().join(state::unique(".fill-"));
                fs_err::create_dir_all(&place)?;
                // Filling it takes long: this tells a cleaning that we live.
                let _alive = Lock::acquire(&place.join("story.lock"), name, Duration::ZERO)?;
                let filled = checkout::fill(&layers, &self.repository, &place, commit, &slug, story.target.as_deref(), form.history);
                let done = filled.map_err(|e| WorkspaceError::from(e.or_full(&self.state.stories()))).and_then(|warnings| {
                    let _lock = self.state.lock("stories", SHORT_WAIT)?;
                    self.put_in_place(&place, &story)?;
                    Ok(warnings)
                });
                if done.is_err() {
                    // Half a checkout is worth nothing, and a full disk needs the space.
                    removal::discard(&place, &self.state.trash())?;
                }
                Ok((story, done?))
            }
        }
    }

    /// Makes what was prepared the workspace of a story. Under the lock.
    fn put_in_place(&self, place: &Path, story: &Story) -> Result<(), WorkspaceError> {
        let (slug, commit) = (story.slug(), story.base_id()?);
        let target = self.folder(&slug);
        if target.exists() {
            removal::discard(place, &self.state.trash())?;
            return Err(WorkspaceError::Exists { story: story.story.clone() });
        }
        state::write_record(&place.join("story.json"), story)?;
        // From here on the base cannot be pruned from the repository, whatever happens to its branch.
        let keep = format!("{}base", Self::prefix(&slug));
        if self.repository.reference(&keep) != Some(commit) {
            if let Some(old) = self.repository.reference(&keep) {
                self.repository.delete_reference(&keep, old)?;
            }
            self.repository.create_reference(&keep, commit)?;
        }
        fs_err::rename(place, &target)?;
        state::sync_folder(&self.state.stories())?;
        Ok(registration::register(&self.repository, &slug, &story.story, &target.join("tree"), self.head(story)?)?)
    }

    /// Copies a person's own untracked files into a workspace that nothing ran in yet.
    pub fn copy_in(&self, story: &Story, patterns: &[String]) -> Result<bootstrap::Copied, WorkspaceError> {
        let Some(from) = self.repository.worktree() else { return Ok(bootstrap::Copied::default()) };
        Ok(bootstrap::copy_in(from, &self.files(story), patterns)?)
    }

    /// The workspace of a story.
    pub fn story(&self, name: &str) -> Result<Story, WorkspaceError> {
        match state::read_record(&self.folder(&state::slug(name)).join("story.json"))? {
            Some(story) => Ok(story),
            None => {
                let known = self.names()?;
                let nearest = crate::base::suggest::nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
                Err(WorkspaceError::NoSuchStory { story: name.to_owned(), nearest })
            }
        }
    }

    fn records(&self) -> Result<Vec<Story>, WorkspaceError> {
        let mut stories = Vec::new();
        for entry in fs_err::read_dir(self.state.stories())? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if let Some(story) = state::read_record::<Story>(&entry.path().join("story.json"))? {
                stories.push(story);
            }
        }
        stories.sort_by(|a, b| a.story.cmp(&b.story));
        Ok(stories)
    }

    fn names(&self) -> Result<Vec<String>, WorkspaceError> {
        Ok(self.records()?.into_iter().map(|story| story.story).collect())
    }

    /// Every workspace, by name.
    pub fn list(&self) -> Result<Vec<Listed>, WorkspaceError> {
        let records = self.records()?;
        let listed = records.into_iter().map(|story| {
            let slug = story.slug();
            let collected = self.collected(&slug)?;
            let busy = Lock::acquire(&self.folder(&slug).join("story.lock"), &story.story, Duration::ZERO).is_err();
            Ok(Listed { story, collected, busy })
        });
        listed.collect()
    }

    /// The numbered commits of a story, oldest first. The refs are the truth; nothing else counts them.
    pub fn collected(&self, slug: &str) -> Result<Vec<(u64, Oid)>, WorkspaceError> {
        let prefix = Self::prefix(slug);
        let refs = self.repository.references(&prefix)?;
        let mut numbered: Vec<_> =
            refs.into_iter().filter_map(|(name, id)| name.strip_prefix(&prefix)?.parse().ok().map(|n| (n, id))).collect();
        numbered.sort_unstable_by_key(|(n, _)| *n);
        Ok(numbered)
    }

    /// The last collected commit of this workspace, or its base. Commits of an earlier workspace of the same name stand on another base.
    pub fn head(&self, story: &Story) -> Result<Oid, WorkspaceError> {
        let base = story.base_id()?;
        let last = self.collected(&story.slug())?.last().map(|(_, id)| *id);
        Ok(last.filter(|id| self.repository.is_ancestor(base, *id)).unwrap_or(base))
    }

    /// Keeps others away from a workspace: while its sandbox runs, and while it is collected or removed.
    pub fn hold(&self, story: &Story) -> Result<Lock, WorkspaceError> {
        let what = format!("the workspace of story {}", crate::base::text::one_line(&story.story));
        let folder = self.folder(&story.slug());
        let lock = Lock::acquire(&folder.join("story.lock"), &what, STORY_WAIT)?;
        self.lay_over(&folder)?;
        Ok(lock)
    }

    /// Collects what was changed, as a commit with a ref of its own. Every process of the story is dead: the caller holds the workspace.
    pub fn collect(&self, story: &Story, _held: &Lock, options: &CollectOptions) -> Result<Collection, WorkspaceError> {
        let slug = story.slug();
        let base = story.base_id()?;
        let head = self.head(story)?;
        let (quarantine, collected) = self.look(story, options.limits)?;
        let changes = match changes::between(&quarantine, Some(story.tree_id()?), Some(collected.tree), usize::MAX) {
            Ok(changes) => changes,
            Err(Stopped::Git(error)) => return Err(error.into()),
            Err(Stopped::TooMany) => Vec::new(),
        };
        let mut collection = Collection {
            story: story.story.clone(),
            base,
            commit: head,
            tree: collected.tree,
            reference: None,
            new: false,
            changes,
            findings: collected.findings,
            more_findings: collected.more_findings,
        };
        if self.repository.tree_of(head)? == collected.tree {
            let last = self.collected(&slug)?.last().filter(|(_, id)| *id == head).map(|(n, _)| *n);
            collection.reference = last.map(|n| format!("{}{n}", Self::prefix(&slug)));
            quarantine.abandon()?;
        } else {
            let author = options
                .author
                .clone()
                .or_else(|| self.repository.author())
                .unwrap_or_else(|| Author { name: "cofferdam".to_owned(), email: "cofferdam@localhost".to_owned() });
            let message = options.message.clone().unwrap_or_else(|| self.default_message(story));
            collection.commit =
                quarantine.write_commit(collected.tree, &[head], &author, &format!("{}\n", message.trim_end().replace('\0', "")))?;
            quarantine.release()?;
            let number = self.collected(&slug)?.last().map_or(1, |(n, _)| n + 1);
            let reference = format!("{}{number}", Self::prefix(&slug));
            self.repository.create_reference(&reference, collection.commit)?;
            collection.reference = Some(reference);
            collection.new = true;
        }
        registration::register(&self.repository, &slug, &story.story, &self.folder(&slug).join("tree"), collection.commit)?;
        Ok(collection)
    }

    /// What a commit says when nobody said it: the story, and what the agent wrote on its own last commit.
    fn default_message(&self, story: &Story) -> String {
        let folder = self.folder(&story.slug());
        let title = format!("Story {}", crate::base::text::one_line(&story.story));
        let git = match story.backend {
            Backend::Overlay => Folder::open_root(&folder.join("upper")).and_then(|upper| upper.child(b".git")),
            Backend::Checkout => Folder::open_root(&folder.join("git")),
        };
        let said = git.ok().and_then(|git| import::message(&git, &self.repository, &folder));
        said.map_or(title.clone(), |said| format!("{title}\n\n{said}"))
    }

    /// The change so far as a patch, since a commit or since the workspace began; nothing of it is kept.
    pub fn diff(&self, story: &Story, _held: &Lock, since: Option<Oid>, limits: Limits) -> Result<Vec<u8>, WorkspaceError> {
        let from = since.map_or_else(|| story.tree_id(), |commit| Ok(self.repository.tree_of(commit)?))?;
        let (quarantine, collected) = self.look(story, limits)?;
        let patch = quarantine.patch(from, collected.tree)?;
        quarantine.abandon()?;
        Ok(patch)
    }

    fn look(&self, story: &Story, limits: Limits) -> Result<(Quarantine, collect::Collected), WorkspaceError> {
        let folder = self.folder(&story.slug());
        // What a killed collection left; nobody else is at work here.
        for entry in fs_err::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b"quarantine-")
                || entry.file_name().as_encoded_bytes().starts_with(b"strange-")
                || entry.file_name().as_encoded_bytes().starts_with(b"taking-")
            {
                removal::discard(&entry.path(), &self.state.trash())?;
            }
        }
        let quarantine = Quarantine::create(&folder.join(state::unique("quarantine-")), &self.repository)?;
        let root = Folder::open_root(&self.files(story)).map_err(CollectError::Root)?;
        let mut settings = Settings::of(&self.repository, limits);
        let layout = match story.backend {
            Backend::Overlay => Layout::Upper,
            Backend::Checkout => {
                settings.seen = Seen::read(&folder.join("seen"));
                Layout::Whole
            }
        };
        let collected = collect::collect(&root, layout, story.tree_id()?, &quarantine, &settings)?;
        Ok((quarantine, collected))
    }

    /// Removes a workspace. Its collected commits stay, each with its ref.
    pub fn remove(&self, story: &Story, held: Lock) -> Result<(), WorkspaceError> {
        let slug = story.slug();
        let _lock = self.state.lock("stories", SHORT_WAIT)?;
        removal::discard(&self.folder(&slug), &self.state.trash())?;
        drop(held);
        self.forget(&slug)
    }

    /// Takes the marks of a story that is gone from the repository.
    fn forget(&self, slug: &str) -> Result<(), WorkspaceError> {
        registration::unregister(&self.repository, slug)?;
        let keep = format!("{}base", Self::prefix(slug));
        if let Some(base) = self.repository.reference(&keep) {
            self.repository.delete_reference(&keep, base)?;
        }
        Ok(())
    }

    /// Removes what makers of workspaces left that were killed. For a runner that starts: it holds the repository's lock, and others who make
    /// workspaces hold theirs. Returns how many there were.
    pub fn sweep(&self) -> Result<u64, WorkspaceError> {
        let _lock = self.state.lock("stories", SHORT_WAIT)?;
        let mut swept = 0;
        for entry in fs_err::read_dir(self.state.stories())? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".new-") {
                removal::discard(&entry.path(), &self.state.trash())?;
                swept += 1;
            }
        }
        removal::empty(&self.state.trash())?;
        Ok(swept)
    }

    /// Removes what nothing uses: never a commit that nothing else reaches.
    /// Unused layers are kept up to one size, warm caches up to another.
    pub fn clean(&self, layers_bytes: u64, caches_bytes: u64, dry_run: bool) -> Result<Cleaned, WorkspaceError> {
        let _lock = self.state.lock("stories", SHORT_WAIT)?;
        if !dry_run {
            self.repository.recover()?;
        }
        let mut cleaned = Cleaned::default();
        if !dry_run {
            removal::empty(&self.state.trash())?;
        }
        let mut live = HashSet::new();
        for entry in fs_err::read_dir(self.state.stories())? {
            let entry = entry?;
            let Ok(slug) = entry.file_name().into_string() else { continue };
            // Under the lock nobody else makes one, and who fills one in holds it: this one's maker is dead.
            let filling = slug.starts_with(".fill-");
            if filling && Lock::acquire(&entry.path().join("story.lock"), "a new workspace", Duration::ZERO).is_err() {
                continue;
            }
            if filling || slug.starts_with(".new-") {
                cleaned.leftovers.push(entry.path().display().to_string());
                if !dry_run {
                    removal::discard(&entry.path(), &self.state.trash())?;
                }
            } else {
                live.insert(slug);
            }
        }
        for entry in fs_err::read_dir(self.state.root())? {
            let entry = entry?;
            if !dry_run && entry.file_name().as_encoded_bytes().starts_with(b".try-") {
                removal::discard(&entry.path(), &self.state.trash())?;
            }
        }
        for slug in registration::registered(&self.repository)?.into_iter().filter(|slug| !live.contains(slug)) {
            cleaned.leftovers.push(format!("worktrees/cofferdam-{slug}"));
            if !dry_run {
                self.forget(&slug)?;
            }
        }
        for (name, id) in self.repository.references("refs/cofferdam/stories/")? {
            let Some((slug, number)) = name.strip_prefix("refs/cofferdam/stories/").and_then(|rest| rest.rsplit_once('/')) else {
                continue;
            };
            if live.contains(slug) {
                continue;
            }
            if number == "base" {
                cleaned.leftovers.push(name.clone());
            } else if self.repository.is_reachable_elsewhere(id)? {
                cleaned.references.push(name.clone());
            } else {
                cleaned.kept.push(name);
                continue;
            }
            if !dry_run {
                self.repository.delete_reference(&name, id)?;
            }
        }
        cleaned.leftovers.extend(super::inplace::sweep(&self.repository, &self.state, dry_run)?);
        let stories = self.records()?;
        for story in stories.iter().filter(|_| !dry_run) {
            // A crash may have come before the registration.
            registration::register(
                &self.repository,
                &story.slug(),
                &story.story,
                &self.folder(&story.slug()).join("tree"),
                self.head(story)?,
            )?;
        }
        let used = stories.into_iter().map(|story| story.layer).collect();
        for (name, layer) in Layers::new(&self.state, &self.repository).shrink(&used, layers_bytes, dry_run)? {
            cleaned.layer_bytes += layer.bytes;
            cleaned.layers.push(name);
        }
        cleaned.caches = Caches::of(&self.state, Bounds::default())?.shrink(caches_bytes, dry_run)?;
        Ok(cleaned)
    }

    /// Fills in the last collected commit of a story as files for a person, in a folder that does not exist yet or is empty.
    pub fn checkout(&self, story: &Story, folder: &Path) -> Result<Oid, WorkspaceError> {
        let head = self.head(story)?;
        let empty = fs_err::read_dir(folder).map(|mut entries| entries.next().is_none());
        match empty {
            Ok(true) => {}
            Ok(false) => return Err(WorkspaceError::NotEmpty { path: folder.to_owned() }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => fs_err::create_dir_all(folder)?,
            Err(e) => return Err(e.into()),
        }
        let layers = Layers::new(&self.state, &self.repository);
        layers.write_checkout(folder, head)?;
        // A worktree like any other of this repository: its git directory is one that we and git write, no agent.
        let folder = fs_err::canonicalize(folder)?;
        let index = registration::fill_in(&self.repository, &story.slug(), &story.story, &folder, head)?;
        private_git::write_checkout_index(&self.repository, &folder, self.repository.tree_of(head)?, &index)?;
        Ok(head)
    }

    /// One file of a collected commit.
    pub fn blob(&self, id: Oid) -> Result<Vec<u8>, WorkspaceError> {
        Ok(self.repository.blob(id)?)
    }
}

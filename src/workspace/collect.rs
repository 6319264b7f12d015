//! From what an agent left to a tree: the one that `git add -A && git write-tree` would give, without git, and with findings instead of
//! surprises. Its cost follows the change: only folders that the agent wrote to are opened.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use super::attributes::{AttributesFile, AttributesStack, Value};
use super::checkout::Seen;
use super::convert::LineEnds;
use super::encoding;
use super::git::{Entry, GitError, Objects, Oid, Quarantine, Repository, mode};
use super::ignore::{IgnoreFile, IgnoreStack};
use super::rules::{self, Finding, Limits, Rule};
use super::walk::{FileId, Folder, Kind, Mark, Status};
use crate::base::size::Size;

/// Why a workspace could not be collected at all.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("cannot read what the agent left: {0}")]
    Root(io::Error),
    #[error(transparent)]
    Git(#[from] GitError),
}

/// What the folder that is walked holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// An overlay's upper folder: what is not there is as in the base.
    Upper,
    /// A whole worktree: what is not there is gone.
    Whole,
}

/// Git's settings that bear on a collection, read from the user's repository before the agent runs or after, never from its own.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub ends: LineEnds,
    /// Weakest first.
    pub ignore_lists: Vec<Vec<u8>>,
    /// The user's (weakest), then the repository's (strongest).
    pub attribute_lists: Vec<Vec<u8>>,
    pub limits: Limits,
    /// What the files of a whole worktree looked like when it was made.
    pub seen: Seen,
}

impl Settings {
    pub fn of(repository: &Repository, limits: Limits) -> Self {
        Self {
            ends: repository.line_ends(),
            ignore_lists: repository.ignore_lists(),
            attribute_lists: repository.attribute_lists(),
            limits,
            seen: Seen::default(),
        }
    }
}

/// A collected tree; its objects lie in the quarantine it was collected into.
#[derive(Debug)]
pub struct Collected {
    pub tree: Oid,
    pub findings: Vec<Finding>,
    /// How many findings there were beyond those that are kept.
    pub more_findings: u64,
    /// How many names were looked at.
    pub entries: u64,
    pub bytes: u64,
}

/// Collects a folder on top of the base tree.
pub fn collect(upper: &Folder, layout: Layout, base: Oid, quarantine: &Quarantine, settings: &Settings) -> Result<Collected, CollectError> {
    let mut ignores = IgnoreStack::default();
    for list in &settings.ignore_lists {
        ignores.push(IgnoreFile::parse(b"", list));
    }
    let (weakest, strongest) = match settings.attribute_lists.as_slice() {
        [weakest, strongest] => (weakest.as_slice(), strongest.as_slice()),
        _ => (&b""[..], &b""[..]),
    };
    let mut attributes = AttributesStack::new(AttributesFile::parse(b"", strongest));
    attributes.push(AttributesFile::parse(b"", weakest));
    let mut walk = Walk {
        quarantine,
        settings,
        layout,
        root: upper,
        ignores,
        attributes,
        path: Vec::new(),
        link_counts: None,
        out: Collected { tree: base, findings: Vec::new(), more_findings: 0, entries: 0, bytes: 0 },
    };
    let place = Place { tracked: Some(base), visible: (layout == Layout::Upper).then_some(base), ignored: false, depth: 0 };
    let tree = walk.folder(upper, place)?;
    walk.out.tree = match tree {
        Some(tree) => tree,
        None => quarantine.write_tree(Vec::new())?,
    };
    Ok(walk.out)
}

/// One folder on the way down.
#[derive(Clone, Copy)]
struct Place {
    /// Its tree in the base: what git's index would know.
    tracked: Option<Oid>,
    /// The same, as far as it shows through from the layers below.
    visible: Option<Oid>,
    /// Is it below an ignored folder? Then only tracked paths count.
    ignored: bool,
    depth: usize,
}

struct Walk<'a> {
    quarantine: &'a Quarantine,
    settings: &'a Settings,
    layout: Layout,
    root: &'a Folder,
    ignores: IgnoreStack,
    attributes: AttributesStack,
    path: Vec<u8>,
    /// Names per file below the root, counted when the first file with several names is met.
    link_counts: Option<HashMap<FileId, u64>>,
    out: Collected,
}

/// What becomes of one name.
enum Verdict {
    /// It is this now.
    Is(u32, Oid),
    /// It is not in the tree.
    Gone,
    /// It could not be taken; what the base has stays.
    AsBefore,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Folder, place: Place) -> Result<Option<Oid>, CollectError> {
        let tracked = self.entries(place.tracked)?;
        let mut result = if place.visible == place.tracked { tracked.clone() } else { self.entries(place.visible)? };
        let left = self.settings.limits.entries.saturating_sub(self.out.entries);
        let names = match folder.names(left) {
            Ok(names) => names,
            Err(e) if place.depth == 0 && e.kind() != io::ErrorKind::FileTooLarge => return Err(CollectError::Root(e)),
            Err(e) => {
                let rule = if e.kind() == io::ErrorKind::FileTooLarge { Rule::TooMany } else { Rule::Unreadable };
                self.report(Finding::left_out(&self.path, rule, format!("the folder was left as it was: {e}")));
                return Ok(place.tracked);
            }
        };
        let has_ignores = self.push_ignores(folder, &result, place);
        let has_attributes = self.push_attributes(folder, &tracked);
        let mut folded = None;
        for name in &names {
            self.out.entries += 1;
            if place.depth == 0 && *name == b".git" {
                // The private git directory of the story. It is never read.
                continue;
            }
            let length = self.path.len();
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            let verdict = self.name(folder, name, tracked.get(name), place);
            self.path.truncate(length);
            match verdict? {
                Verdict::Is(mode, id) => {
                    if !tracked.contains_key(name) {
                        // What shows through, and what was there and still is.
                        let still = || names.iter().filter(|name| tracked.contains_key(*name));
                        let folded =
                            folded.get_or_insert_with(|| result.keys().chain(still()).map(|known| fold(known)).collect::<HashSet<_>>());
                        if !folded.insert(fold(name)) {
                            self.report(Finding::kept(
                                &self.join(name),
                                Rule::CaseCollision,
                                "another name in this folder differs only by case",
                            ));
                        }
                    }
                    result.insert(name.clone(), Entry { name: name.clone(), mode, id });
                }
                Verdict::Gone => drop(result.remove(name)),
                Verdict::AsBefore => match tracked.get(name) {
                    Some(before) => drop(result.insert(name.clone(), before.clone())),
                    None => drop(result.remove(name)),
                },
            }
        }
        if has_ignores {
            self.ignores.pop();
        }
        if has_attributes {
            self.attributes.pop();
        }
        if result.is_empty() {
            return Ok(None);
        }
        if result == tracked {
            return Ok(place.tracked);
        }
        Ok(Some(self.quarantine.write_tree(result.into_values().collect())?))
    }

    fn name(&mut self, folder: &Folder, name: &[u8], tracked: Option<&Entry>, place: Place) -> Result<Verdict, CollectError> {
        let limits = self.settings.limits;
        let status = match folder.status(name) {
            Ok(status) => status,
            Err(e) => return Ok(self.unreadable(&e)),
        };
        let kind = match (status.kind, self.layout) {
            (Kind::Whiteout, Layout::Upper) => return Ok(Verdict::Gone),
            (Kind::Whiteout, Layout::Whole) => Kind::Special("a character device"),
            (kind, _) => kind,
        };
        if rules::is_git_directory(name) {
            let what = if kind == Kind::Folder {
                "a nested repository: its files were taken as files, and nothing of its git directory"
            } else {
                "a name that git takes for its own directory"
            };
            self.report(Finding::left_out(&self.path, Rule::GitDirectory, what));
            return Ok(Verdict::Gone);
        }
        let is_tracked = tracked.is_some_and(|entry| !entry.is_tree());
        let ignored = place.ignored || (!is_tracked && self.ignores.ignores(&self.path, kind == Kind::Folder));
        let tracked_tree = tracked.filter(|entry| entry.is_tree()).map(|entry| entry.id);
        if ignored && !is_tracked && (kind != Kind::Folder || tracked_tree.is_none()) {
            return Ok(Verdict::Gone);
        }
        if is_tracked && matches!(kind, Kind::File | Kind::Link) && self.settings.seen.is_unchanged(&self.path, &status) {
            // As git's index does: who has not changed is what it was, whatever new attributes would make of it.
            return Ok(Verdict::AsBefore);
        }
        if name.len() > limits.name_bytes || self.path.len() > limits.path_bytes {
            let rule = if name.len() > limits.name_bytes { Rule::NameTooLong } else { Rule::PathTooLong };
            self.report(Finding::left_out(&self.path, rule, format!("{} bytes", self.path.len())));
            return Ok(Verdict::AsBefore);
        }
        match kind {
            Kind::Folder => {
                if tracked.is_some_and(Entry::is_submodule) {
                    return Ok(self.submodule(folder, name));
                }
                self.descend(folder, name, Place { tracked: tracked_tree, ignored, ..place })
            }
            Kind::File => self.file(folder, name, &status, tracked),
            Kind::Link => self.link(folder, name, place.depth),
            Kind::Special(what) => {
                self.report(Finding::left_out(&self.path, Rule::SpecialFile, what));
                Ok(Verdict::Gone)
            }
            Kind::Whiteout => Ok(Verdict::Gone),
        }
    }

    fn descend(&mut self, folder: &Folder, name: &[u8], place: Place) -> Result<Verdict, CollectError> {
        if place.depth + 1 > self.settings.limits.depth {
            self.report(Finding::left_out(&self.path, Rule::TooDeep, format!("more than {} folders deep", self.settings.limits.depth)));
            return Ok(Verdict::AsBefore);
        }
        let opened = folder.child(name).and_then(|child| child.mark().map(|mark| (child, mark)));
        let (child, mark) = match opened {
            Ok(found) => found,
            Err(e) => return Ok(self.unreadable(&e)),
        };
        if matches!(mark, Mark::Forged | Mark::Whiteout) && self.layout == Layout::Upper {
            self.report(Finding::left_out(&self.path, Rule::OverlayAttribute, "the folder claims that its content lies elsewhere"));
            return Ok(Verdict::AsBefore);
        }
        let visible = if self.layout == Layout::Whole || mark == Mark::Opaque || place.visible.is_none() { None } else { place.tracked };
        let tree = self.folder(&child, Place { visible, depth: place.depth + 1, ..place })?;
        Ok(tree.map_or(Verdict::Gone, |id| Verdict::Is(mode::TREE, id)))
    }

    fn file(&mut self, folder: &Folder, name: &[u8], status: &Status, tracked: Option<&Entry>) -> Result<Verdict, CollectError> {
        let limits = self.settings.limits;
        if status.size == 0 && self.layout == Layout::Upper {
            match folder.mark_of_file(name) {
                Ok(Mark::Whiteout) => return Ok(Verdict::Gone),
                Ok(_) => {}
                Err(e) => return Ok(self.unreadable(&e)),
            }
        }
        if status.size > limits.file_size.bytes() {
            let detail = format!("{}, and no more than {} is taken", Size(status.size), limits.file_size);
            self.report(Finding::left_out(&self.path, Rule::TooLarge, detail));
            return Ok(Verdict::AsBefore);
        }
        if self.out.bytes.saturating_add(status.size) > limits.total_size.bytes() {
            self.report(Finding::left_out(
                &self.path,
                Rule::TooLarge,
                format!("all changed files together are over {}", limits.total_size),
            ));
            return Ok(Verdict::AsBefore);
        }
        if status.links > 1 && !self.all_links_are_inside(status) {
            self.report(Finding::left_out(&self.path, Rule::HardLink, "another name of this file lies outside of the workspace"));
            return Ok(Verdict::Gone);
        }
        let content = match folder.read(name, status) {
            Ok(Some(content)) => content,
            Ok(None) => {
                self.report(Finding::left_out(&self.path, Rule::Changed, "it changed while it was read"));
                return Ok(Verdict::AsBefore);
            }
            Err(e) => return Ok(self.unreadable(&e)),
        };
        self.out.bytes += status.size;
        if status.mode & 0o7000 != 0 {
            self.report(Finding::kept(&self.path, Rule::SpecialMode, format!("mode {:o}: only the executable bit was kept", status.mode)));
        }
        self.warn_of_name(name);
        let attributes = self.attributes.of(&self.path);
        let decoded = encoding::to_stored(&attributes.encoding, &content).unwrap_or_else(|fault| {
            let named = if let Value::Text(name) = &attributes.encoding { crate::base::text::bytes_line(name) } else { String::new() };
            let detail = format!("stored as it is, not converted from `{named}`: {fault}");
            self.report(Finding::kept(&self.path, Rule::Encoding, detail));
            content.as_slice().into()
        });
        let before = || tracked.filter(|e| !e.is_tree() && !e.is_submodule()).and_then(|e| self.quarantine.blob(e.id).ok());
        let stored = self.settings.ends.to_stored(&attributes, &decoded, before);
        let id = self.quarantine.write_blob(&stored)?;
        Ok(Verdict::Is(if status.mode & 0o100 == 0 { mode::FILE } else { mode::EXECUTABLE }, id))
    }

    fn link(&mut self, folder: &Folder, name: &[u8], depth: usize) -> Result<Verdict, CollectError> {
        let target = match folder.link(name) {
            Ok(target) => target,
            Err(e) => return Ok(self.unreadable(&e)),
        };
        if rules::is_git_file(name) {
            // Git itself refuses the first; the others it would not read through a link.
            let refused = rules::is_submodules_file(name);
            let finding = if refused { Finding::left_out } else { Finding::kept };
            self.report(finding(&self.path, Rule::LinkedGitFile, format!("a link to {}", crate::base::text::bytes_line(&target))));
            if refused {
                return Ok(Verdict::Gone);
            }
        }
        if rules::leads_outside(&target, depth) {
            self.report(Finding::kept(&self.path, Rule::LinkOutside, format!("leads to {}", crate::base::text::bytes_line(&target))));
        }
        self.warn_of_name(name);
        self.out.bytes += target.len() as u64;
        Ok(Verdict::Is(mode::LINK, self.quarantine.write_blob(&target)?))
    }

    /// A submodule's folder stays what it is; what an agent put there is only reported.
    fn submodule(&mut self, folder: &Folder, name: &[u8]) -> Verdict {
        let empty = folder.child(name).and_then(|child| child.names(1)).is_ok_and(|names| names.is_empty());
        if !empty {
            self.report(Finding::left_out(&self.path, Rule::Submodule, "what was written into a submodule's folder is not collected"));
        }
        Verdict::AsBefore
    }

    fn all_links_are_inside(&mut self, status: &Status) -> bool {
        let limit = self.settings.limits.entries;
        let counts = self.link_counts.get_or_insert_with(|| self.root.count_links(limit).unwrap_or_default());
        counts.get(&status.file).is_some_and(|seen| *seen >= status.links)
    }

    fn entries(&self, tree: Option<Oid>) -> Result<BTreeMap<Vec<u8>, Entry>, CollectError> {
        let entries = tree.map(|id| self.quarantine.tree(id)).transpose()?.unwrap_or_default();
        Ok(entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect())
    }

    /// The rules of this folder, as they lie in the worktree.
    fn push_ignores(&mut self, folder: &Folder, below: &BTreeMap<Vec<u8>, Entry>, place: Place) -> bool {
        if place.ignored {
            return false;
        }
        let Some(content) = self.list(folder, b".gitignore", below, false) else { return false };
        self.ignores.push(IgnoreFile::parse(&self.path, &content));
        true
    }

    fn push_attributes(&mut self, folder: &Folder, tracked: &BTreeMap<Vec<u8>, Entry>) -> bool {
        // Where the worktree has none, git reads the one that is tracked.
        let Some(content) = self.list(folder, b".gitattributes", tracked, true) else { return false };
        self.attributes.push(AttributesFile::parse(&self.path, &content));
        true
    }

    /// One of git's lists in a folder: what the agent left there, else what shows through. Links are not followed, nothing hangs.
    fn list(&mut self, folder: &Folder, name: &[u8], below: &BTreeMap<Vec<u8>, Entry>, removed_falls_back: bool) -> Option<Vec<u8>> {
        match folder.status(name) {
            Ok(status) if status.kind == Kind::File => {
                if status.size > LIST_MAX.bytes() {
                    self.report(Finding::kept(
                        &self.join(name),
                        Rule::TooLarge,
                        format!("its rules were not applied: it is over {LIST_MAX}"),
                    ));
                    return None;
                }
                return folder.read(name, &status).ok().flatten();
            }
            Ok(_) if !removed_falls_back => return None,
            Err(e) if e.kind() != io::ErrorKind::NotFound => return None,
            Ok(_) | Err(_) => {}
        }
        let entry = below.get(name).filter(|entry| !entry.is_tree() && !entry.is_link() && !entry.is_submodule())?;
        self.quarantine.blob(entry.id).ok()
    }

    fn warn_of_name(&mut self, name: &[u8]) {
        if let Some(why) = rules::unportable(name) {
            self.report(Finding::kept(&self.path, Rule::PortableName, why));
        }
    }

    fn unreadable(&mut self, error: &io::Error) -> Verdict {
        self.report(Finding::left_out(&self.path, Rule::Unreadable, error.to_string()));
        Verdict::AsBefore
    }

    fn report(&mut self, finding: Finding) {
        if self.out.findings.len() < self.settings.limits.findings {
            self.out.findings.push(finding);
        } else {
            self.out.more_findings += 1;
        }
    }

    fn join(&self, name: &[u8]) -> Vec<u8> {
        if self.path.is_empty() { name.to_vec() } else { [self.path.as_slice(), b"/", name].concat() }
    }
}

/// A longer list of rules is nothing that a person wrote.
const LIST_MAX: Size = Size::mib(1);

/// A name as a file system that does not tell case apart sees it.
fn fold(name: &[u8]) -> Vec<u8> {
    std::str::from_utf8(name).map_or_else(|_| name.to_ascii_lowercase(), |name| name.to_lowercase().into_bytes())
}

//! Commits that an agent made, taken as data: its git directory is read like any other folder it wrote, object by object.
//!
//! Nothing of it is opened as a repository. Objects are copied into a quarantine of ours, named by their own content, walked from the tips,
//! checked, and only what was reached is written anew into the repository.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;

use super::git::{Entry, GitError, ObjectKind, Objects as _, Oid, Quarantine, Repository, mode};
use super::rules;
use super::state;
use super::unpack;
use super::walk::{Folder, Kind};

/// Bounds of one import.
const OBJECTS_MAX: u64 = 200_000;
const OBJECT_BYTES_MAX: u64 = 256 << 20;
const TOTAL_BYTES_MAX: u64 = 1 << 30;
const DEPTH_MAX: usize = 128;
/// As many as a collection takes.
const NAMES_MAX: u64 = 1_000_000;
const REFS_MAX: usize = 1000;

/// A commit that the agent's refs point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// `HEAD` or `refs/heads/…`.
    pub name: String,
    pub id: Oid,
}

/// What came of one tip.
#[derive(Clone, Debug)]
pub struct Imported {
    pub name: String,
    pub id: Oid,
    /// The first line of its message, escaped.
    pub subject: String,
    /// How many commits were new.
    pub commits: u64,
}

/// Why a tip was not imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub name: String,
    pub why: String,
}

/// Reads the tips of an agent's git directory: HEAD first, then its branches. What is malformed is no tip.
pub fn tips(git: &Folder) -> Vec<Tip> {
    let mut branches = Vec::new();
    if let Some(packed) = read_text(git, b"packed-refs", 16 << 20) {
        for line in packed.lines() {
            if let Some((id, name)) = line.split_once(' ')
                && name.starts_with("refs/heads/")
                && branches.len() < REFS_MAX
                && let Ok(id) = id.parse()
            {
                branches.push(Tip { name: name.to_owned(), id });
            }
        }
    }
    if let Ok(heads) = git.child(b"refs").and_then(|refs| refs.child(b"heads")) {
        loose(&heads, "refs/heads", &mut branches, 0);
    }
    let head = read_text(git, b"HEAD", 4096).unwrap_or_default();
    let head = match head.trim_end().strip_prefix("ref: ") {
        // A loose ref is stronger than a packed one, and was read after it.
        Some(name) => branches.iter().rev().find(|tip| tip.name == name).map(|tip| tip.id),
        None => head.trim_end().parse().ok(),
    };
    head.map(|id| Tip { name: "HEAD".to_owned(), id }).into_iter().chain(branches).collect()
}

fn loose(folder: &Folder, prefix: &str, out: &mut Vec<Tip>, depth: usize) {
    for name in folder.names(REFS_MAX as u64).unwrap_or_default() {
        let (Ok(status), Ok(text)) = (folder.status(&name), std::str::from_utf8(&name)) else { continue };
        let full = format!("{prefix}/{text}");
        match status.kind {
            Kind::Folder if depth < 8 => {
                if let Ok(child) = folder.child(&name) {
                    loose(&child, &full, out, depth + 1);
                }
            }
            Kind::File if out.len() < 2 * REFS_MAX => {
                if let Some(id) = read_text(folder, &name, 4096).and_then(|text| text.trim_end().parse().ok()) {
                    out.push(Tip { name: full, id });
                }
            }
            _ => {}
        }
    }
}

fn read_text(folder: &Folder, name: &[u8], limit: u64) -> Option<String> {
    let status = folder.status(name).ok().filter(|s| s.kind == Kind::File && s.size <= limit)?;
    String::from_utf8(folder.read(name, &status).ok().flatten()?).ok()
}

/// Imports the tips that the repository does not have. The caller gives each imported one a ref at once.
pub fn import(git: &Folder, tips: &[Tip], repository: &Repository, scratch: &Path) -> Result<(Vec<Imported>, Vec<Refused>), GitError> {
    let (mut imported, mut refused) = (Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    let new: Vec<_> = tips.iter().filter(|tip| !repository.has(tip.id) && seen.insert(tip.id)).collect();
    if new.is_empty() {
        return Ok((imported, refused));
    }
    let place = scratch.join(state::unique("strange-"));
    let strange = Quarantine::create(&place, repository)?;
    let copied = git.child(b"objects").map_err(GitError::from).and_then(|objects| decode(&objects, &strange, scratch));
    let clean = Quarantine::create(&scratch.join(state::unique("clean-")), repository)?;
    for tip in new {
        if let Err(error) = &copied {
            refused.push(Refused { name: tip.name.clone(), why: error.to_string() });
            continue;
        }
        let mut check =
            Check { strange: &strange, clean: &clean, repository, done: HashSet::new(), names: HashMap::new(), bytes: 0, commits: 0 };
        match check.commit(tip.id) {
            Ok(subject) => imported.push(Imported { name: tip.name.clone(), id: tip.id, subject, commits: check.commits }),
            Err(why) => refused.push(Refused { name: tip.name.clone(), why: why.to_string() }),
        }
    }
    drop(strange);
    fs_err::remove_dir_all(&place)?;
    if imported.is_empty() {
        clean.abandon()?;
    } else {
        clean.release()?;
    }
    Ok((imported, refused))
}

/// The message of the commit that an agent's HEAD is on, as text and no more; `None` when it is no commit of its own making.
///
/// Nothing is imported. What cannot be read has no message.
pub fn message(git: &Folder, repository: &Repository, scratch: &Path) -> Option<String> {
    const MESSAGE_BYTES_MAX: usize = 64 << 10;
    let head = tips(git).into_iter().find(|tip| tip.name == "HEAD").filter(|tip| !repository.has(tip.id))?;
    let place = scratch.join(state::unique("strange-"));
    let strange = Quarantine::create(&place, repository).ok()?;
    let read = || -> Option<String> {
        let objects = git.child(b"objects").ok()?;
        let name = head.id.to_string();
        let loose = objects.child(&name.as_bytes()[..2]).ok().and_then(|fan| {
            let status = fan.status(&name.as_bytes()[2..]).ok().filter(|s| s.kind == Kind::File && s.size <= MESSAGE_BYTES_MAX as u64)?;
            fan.read(&name.as_bytes()[2..], &status).ok().flatten()
        });
        match loose {
            Some(content) => strange.take_loose(&name, &content).ok()?,
            None => decode(&objects, &strange, scratch).ok()?,
        }
        let (kind, size) = strange.header(head.id).ok()?;
        let text = (kind == ObjectKind::Commit && size <= MESSAGE_BYTES_MAX).then(|| strange.commit(head.id).ok())??.2;
        // Lines stay lines; everything else that a terminal would obey is shown instead.
        let lines: Vec<_> = text.lines().map(crate::base::text::one_line).collect();
        Some(lines.join("\n").trim().to_owned()).filter(|text| !text.is_empty())
    };
    let message = read();
    drop(fs_err::remove_dir_all(&place));
    message
}

/// Takes every object, each under the name that its own content gives it. Decoding happens in a process of its own.
fn decode(objects: &Folder, strange: &Quarantine, scratch: &Path) -> Result<(), GitError> {
    let raw = scratch.join(state::unique("strange-raw-"));
    fs_err::create_dir_all(raw.join("objects/pack"))?;
    fs_err::create_dir_all(raw.join("packs"))?;
    let bounds = unpack::Bounds { objects: OBJECTS_MAX, object_bytes: OBJECT_BYTES_MAX, total_bytes: TOTAL_BYTES_MAX };
    let take = |kind, content: &[u8]| strange.write_object(kind, content).map(drop);
    let decoded = copy(objects, &raw).and_then(|()| unpack::each(&raw, bounds, take));
    fs_err::remove_dir_all(&raw)?;
    decoded
}

/// Copies every loose object and pack, as bytes.
fn copy(objects: &Folder, raw: &Path) -> Result<(), GitError> {
    let too_much = || GitError::Io(io::Error::other("there are more objects than are imported"));
    let (mut count, mut bytes, mut packs) = (0_u64, 0_u64, 0_u64);
    let mut read = |folder: &Folder, name: &[u8], limit: u64| -> Result<Option<Vec<u8>>, GitError> {
        let Ok(status) = folder.status(name) else { return Ok(None) };
        if status.kind != Kind::File || status.links != 1 {
            return Ok(None);
        }
        count += 1;
        bytes = bytes.saturating_add(status.size);
        if status.size > limit || bytes > TOTAL_BYTES_MAX || count > OBJECTS_MAX {
            return Err(too_much());
        }
        Ok(folder.read(name, &status)?)
    };
    let hex = |name: &[u8], length: usize| name.len() == length && name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    for fan in objects.names(1000)? {
        if hex(&fan, 2) {
            let Ok(folder) = objects.child(&fan) else { continue };
            for name in folder.names(OBJECTS_MAX)?.into_iter().filter(|name| hex(name, 38)) {
                if let Some(content) = read(&folder, &name, OBJECT_BYTES_MAX)? {
                    let place = raw.join("objects").join(std::str::from_utf8(&fan).map_err(io::Error::other)?);
                    fs_err::create_dir_all(&place)?;
                    fs_err::write(place.join(std::str::from_utf8(&name).map_err(io::Error::other)?), content)?;
                }
            }
        } else if fan == b"pack" {
            let Ok(folder) = objects.child(&fan) else { continue };
            for name in folder.names(10_000)?.into_iter().filter(|name| name.ends_with(b".pack")) {
                if let Some(content) = read(&folder, &name, TOTAL_BYTES_MAX)? {
                    packs += 1;
                    fs_err::write(raw.join(format!("packs/{packs}")), content)?;
                }
            }
        }
    }
    Ok(())
}

/// Why an object is not taken.
#[derive(Debug, thiserror::Error)]
enum Objection {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error("`{}` in tree {tree}: {why}", crate::base::text::bytes_line(name))]
    Entry { tree: Oid, name: Vec<u8>, why: &'static str },
    #[error("tree {tree} spreads out to more than {NAMES_MAX} names")]
    Bomb { tree: Oid },
    #[error("it holds more than is imported")]
    TooMuch,
}

struct Check<'a> {
    strange: &'a Quarantine,
    clean: &'a Quarantine,
    repository: &'a Repository,
    done: HashSet<Oid>,
    /// Trees that were taken, with the names they spread out to.
    names: HashMap<Oid, u64>,
    bytes: u64,
    commits: u64,
}

impl Check<'_> {
    /// Takes a commit with everything it reaches that the repository does not have. Parents are taken before their children.
    fn commit(&mut self, tip: Oid) -> Result<String, Objection> {
        let mut order = Vec::new();
        let mut waiting = vec![tip];
        while let Some(id) = waiting.pop() {
            if self.repository.has(id) || !self.done.insert(id) {
                continue;
            }
            self.size(id, ObjectKind::Commit)?;
            let (tree, parents, _) = self.strange.commit(id)?;
            order.push((id, tree));
            waiting.extend(parents);
        }
        for (id, tree) in order.into_iter().rev() {
            self.tree(tree, 0)?;
            self.take(id, ObjectKind::Commit)?;
            self.commits += 1;
        }
        let (_, _, message) = self.strange.commit(tip)?;
        Ok(crate::base::text::cut(&crate::base::text::one_line(message.lines().next().unwrap_or_default()), 120))
    }

    /// Takes a tree with everything below it. Returns how many names it spreads out to: the same folder may stand in it many times.
    fn tree(&mut self, id: Oid, depth: usize) -> Result<u64, Objection> {
        if let Some(known) = self.names.get(&id) {
            return Ok(*known);
        }
        if self.repository.has(id) {
            return Ok(0);
        }
        self.done.insert(id);
        if depth > DEPTH_MAX {
            return Err(Objection::TooMuch);
        }
        self.size(id, ObjectKind::Tree)?;
        let entries = self.strange.tree(id)?;
        for pair in entries.windows(2) {
            if pair[0].order(&pair[1]).is_ge() || pair[0].name == pair[1].name {
                return Err(Objection::Entry { tree: id, name: pair[1].name.clone(), why: "it is not in order" });
            }
        }
        let mut names = 0_u64;
        for entry in entries {
            names = names.saturating_add(1);
            if let Some(why) = objection(&entry) {
                return Err(Objection::Entry { tree: id, name: entry.name, why });
            }
            if entry.is_submodule() {
                continue;
            }
            if entry.is_tree() {
                names = names.saturating_add(self.tree(entry.id, depth + 1)?);
            } else if !self.repository.has(entry.id) && self.done.insert(entry.id) {
                self.size(entry.id, ObjectKind::Blob)?;
                self.take(entry.id, ObjectKind::Blob)?;
            }
        }
        if names > NAMES_MAX {
            return Err(Objection::Bomb { tree: id });
        }
        self.take(id, ObjectKind::Tree)?;
        self.names.insert(id, names);
        Ok(names)
    }

    /// Is it there, of this kind, and small enough? Before it is read.
    fn size(&mut self, id: Oid, kind: ObjectKind) -> Result<(), Objection> {
        let (found, size) = self.strange.header(id)?;
        self.bytes = self.bytes.saturating_add(size as u64);
        let fits = size as u64 <= OBJECT_BYTES_MAX && self.bytes <= TOTAL_BYTES_MAX && self.done.len() as u64 <= OBJECTS_MAX;
        if found != kind || !fits { Err(Objection::TooMuch) } else { Ok(()) }
    }

    fn take(&mut self, id: Oid, kind: ObjectKind) -> Result<(), Objection> {
        let written = self.clean.write_object(kind, &self.strange.object(id)?)?;
        if written == id { Ok(()) } else { Err(GitError::Io(io::Error::other(format!("object {id} is not what its name says"))).into()) }
    }
}

fn objection(entry: &Entry) -> Option<&'static str> {
    let name = entry.name.as_slice();
    if matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.len() > 255 {
        return Some("no file may be called so");
    }
    if rules::is_git_directory(name) {
        return Some("git takes it for its own directory");
    }
    if entry.is_link() && rules::is_submodules_file(name) {
        return Some("git refuses it as a link");
    }
    let known = [mode::TREE, mode::FILE, mode::EXECUTABLE, mode::LINK].contains(&entry.mode);
    if entry.is_submodule() {
        return Some("it is a repository of its own, which has no safe path yet");
    }
    (!known).then_some("it has a mode that git does not know")
}

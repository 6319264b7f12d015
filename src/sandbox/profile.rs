//! Profiles: what a role's sandbox may read, write, reach and use, written as TOML. Pure.
//!
//! A file is read into a [`Layer`] ([`read`]), where every key may be absent. A chain of `extends` is laid on [`Profile::nothing`]
//! with [`Layer::widen`]; a file that comes from an agent or a repository is laid on with [`Layer::narrow`], which can only take away.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::policy::{Limits, NetworkMode, Tier};
use crate::base::size::Size;

pub mod allow;
pub mod load;
pub mod read;
#[cfg(test)]
pub(crate) mod tests;
pub mod write;

pub use load::ProfileError;

/// The profiles that are part of the program, in the order in which `profile list` shows them.
pub const BUILT_IN: [(&str, &str); 8] = [
    ("default", include_str!("../../sandbox-profiles/default.toml")),
    ("implementer", include_str!("../../sandbox-profiles/implementer.toml")),
    ("reviewer", include_str!("../../sandbox-profiles/reviewer.toml")),
    ("verifier", include_str!("../../sandbox-profiles/verifier.toml")),
    ("gate", include_str!("../../sandbox-profiles/gate.toml")),
    ("ci", include_str!("../../sandbox-profiles/ci.toml")),
    ("offline", include_str!("../../sandbox-profiles/offline.toml")),
    ("strict", include_str!("../../sandbox-profiles/strict.toml")),
];

/// What becomes of the writes to the workspace. In the order of what is granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkspaceMode {
    /// They are refused.
    #[default]
    Read,
    /// They go to a layer that is thrown away.
    Discard,
    /// They are real.
    Write,
}

/// Everything a profile decides, with nothing left open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Profile {
    pub name: String,
    pub description: String,
    /// The profiles it was laid upon, nearest first.
    pub extends: Vec<String>,
    pub files: Files,
    pub network: NetworkRules,
    pub environment: Environment,
    pub limits: Limits,
    pub require: Tier,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// `/usr`, `/bin`, … and the entries of `/etc` that programs need.
    pub system: bool,
    /// What PATH and the tools' own variables point to.
    pub toolchains: bool,
    /// Package caches, on a layer that is thrown away.
    pub caches: bool,
    pub workspace: WorkspaceMode,
    /// Absolute, or below the user's home with `~/`.
    pub read: BTreeSet<PathBuf>,
    pub write: BTreeSet<PathBuf>,
    /// Never there, whatever else is granted.
    pub deny: BTreeSet<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRules {
    pub mode: NetworkMode,
    pub loopback: bool,
    pub allow: BTreeSet<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Names that are taken over from the caller when they are set there.
    pub pass: BTreeSet<String>,
    pub set: BTreeMap<String, String>,
}

/// A limit in a file: `"none"` lifts what the profile below had set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound<T> {
    Lifted,
    At(T),
}

/// One file: what it says, and nothing about what it does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layer {
    pub description: Option<String>,
    pub extends: Option<String>,
    pub system: Option<bool>,
    pub toolchains: Option<bool>,
    pub caches: Option<bool>,
    pub workspace: Option<WorkspaceMode>,
    pub read: Option<BTreeSet<PathBuf>>,
    pub write: Option<BTreeSet<PathBuf>>,
    pub deny: Option<BTreeSet<PathBuf>>,
    pub mode: Option<NetworkMode>,
    pub loopback: Option<bool>,
    pub allow: Option<BTreeSet<String>>,
    pub pass: Option<BTreeSet<String>>,
    pub set: Option<BTreeMap<String, String>>,
    pub limits: LayerLimits,
    pub require: Option<Tier>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerLimits {
    pub memory: Option<Bound<Size>>,
    pub pids: Option<Bound<u64>>,
    pub cpus: Option<Bound<f64>>,
    pub wall: Option<Bound<Duration>>,
    pub cpu_time: Option<Bound<Duration>>,
    pub output: Option<Bound<Size>>,
    pub disk: Option<Bound<Size>>,
    pub files: Option<Bound<u64>>,
    pub open_files: Option<Bound<u64>>,
    pub file_size: Option<Bound<Size>>,
}

impl Profile {
    /// Deny everything: what every chain of profiles starts from.
    pub fn nothing(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            extends: Vec::new(),
            files: Files::default(),
            network: NetworkRules::default(),
            environment: Environment::default(),
            limits: Limits::default(),
            require: Tier::Full,
        }
    }
}

impl Layer {
    /// Lays a file of the caller's own on a profile: switches and limits replace, lists add.
    #[must_use]
    pub fn widen(self, name: &str, base: Profile) -> Profile {
        let Profile { name: below, mut extends, files, network, mut environment, limits, require, .. } = base;
        if self.extends.is_some() {
            extends.insert(0, below);
        }
        environment.set.extend(self.set.unwrap_or_default());
        Profile {
            name: name.to_owned(),
            description: self.description.unwrap_or_default(),
            extends,
            files: Files {
                system: self.system.unwrap_or(files.system),
                toolchains: self.toolchains.unwrap_or(files.toolchains),
                caches: self.caches.unwrap_or(files.caches),
                workspace: self.workspace.unwrap_or(files.workspace),
                read: union(files.read, self.read),
                write: union(files.write, self.write),
                deny: union(files.deny, self.deny),
            },
            network: NetworkRules {
                mode: self.mode.unwrap_or(network.mode),
                loopback: self.loopback.unwrap_or(network.loopback),
                allow: union(network.allow, self.allow),
            },
            environment: Environment { pass: union(environment.pass, self.pass), set: environment.set },
            limits: self.limits.over(limits, How::Replaced),
            require: self.require.unwrap_or(require),
        }
    }

    /// Lays a file of an agent or a repository on a profile: the result is what both grant. What the file is silent about stays as it is.
    #[must_use]
    pub fn narrow(&self, base: &Profile) -> Profile {
        let (files, network) = (&base.files, &base.network);
        let read = self.read.as_ref().map(|mine| {
            // What the file may write it may read as well, and so may the base.
            let mine = mine.iter().chain(self.write.iter().flatten());
            let theirs: Vec<&PathBuf> = files.read.iter().chain(&files.write).collect();
            both(mine, &theirs, |path, of| path.starts_with(of))
        });
        let write = self.write.as_ref().map(|mine| both(mine, &files.write.iter().collect::<Vec<_>>(), |path, of| path.starts_with(of)));
        let mut environment = base.environment.clone();
        if let Some(pass) = &self.pass {
            environment.pass.retain(|name| pass.contains(name));
        }
        if let Some(set) = &self.set {
            environment.set.retain(|name, value| set.get(name) == Some(value));
        }
        // A path that loses its write access keeps its read access: silence about `read` is no wish to take it away.
        let kept = write.as_ref().unwrap_or(&files.write);
        let lost = files.write.iter().filter(|path| self.read.is_none() && !kept.contains(*path));
        let read = read.unwrap_or_else(|| files.read.iter().chain(lost).cloned().collect());
        Profile {
            name: base.name.clone(),
            description: base.description.clone(),
            extends: base.extends.clone(),
            files: Files {
                system: files.system && self.system != Some(false),
                toolchains: files.toolchains && self.toolchains != Some(false),
                caches: files.caches && self.caches != Some(false),
                workspace: files.workspace.min(self.workspace.unwrap_or(files.workspace)),
                read,
                write: write.unwrap_or_else(|| files.write.clone()),
                deny: union(files.deny.clone(), self.deny.clone()),
            },
            network: NetworkRules {
                mode: network.mode.min(self.mode.unwrap_or(network.mode)),
                loopback: network.loopback && self.loopback != Some(false),
                allow: match &self.allow {
                    Some(mine) => {
                        let (mine_denied, mine): (Vec<_>, Vec<_>) = mine.iter().partition(|rule| allow::denies(rule));
                        let (denied, theirs): (Vec<_>, Vec<_>) = network.allow.iter().partition(|rule| allow::denies(rule));
                        let mut rules = both(mine, &theirs, |rule, of| allow::covers(of, rule));
                        // What either forbids stays forbidden.
                        rules.extend(mine_denied.into_iter().chain(denied).cloned());
                        rules
                    }
                    None => network.allow.clone(),
                },
            },
            environment,
            limits: self.limits.over(base.limits, How::Lowered),
            // `full` asks the kernel for more, so it is the narrower of the two.
            require: if self.require == Some(Tier::Full) { Tier::Full } else { base.require },
        }
    }
}

impl LayerLimits {
    fn over(&self, below: Limits, how: How) -> Limits {
        Limits {
            memory: how.bound(below.memory, self.memory),
            pids: how.bound(below.pids, self.pids),
            cpus: how.bound(below.cpus, self.cpus),
            wall: how.bound(below.wall, self.wall),
            cpu_time: how.bound(below.cpu_time, self.cpu_time),
            // No profile knows how long an agent thinks.
            silence: below.silence,
            output: how.bound(below.output, self.output),
            disk: how.bound(below.disk, self.disk),
            files: how.bound(below.files, self.files),
            open_files: how.bound(below.open_files, self.open_files),
            file_size: how.bound(below.file_size, self.file_size),
        }
    }
}

/// How a limit meets the one below it.
#[derive(Clone, Copy)]
enum How {
    Replaced,
    Lowered,
}

impl How {
    fn bound<T: PartialOrd + Copy>(self, below: Option<T>, mine: Option<Bound<T>>) -> Option<T> {
        match (self, below, mine) {
            (_, below, None) | (Self::Lowered, below, Some(Bound::Lifted)) => below,
            (Self::Replaced, _, Some(Bound::Lifted)) => None,
            (Self::Lowered, Some(below), Some(Bound::At(mine))) if below < mine => Some(below),
            (_, _, Some(Bound::At(mine))) => Some(mine),
        }
    }
}

fn union<T: Ord>(mut below: BTreeSet<T>, mine: Option<BTreeSet<T>>) -> BTreeSet<T> {
    below.extend(mine.into_iter().flatten());
    below
}

/// What both sides grant: of two entries of which one lies within the other, the one within.
fn both<'a, T: Ord + Clone + 'a>(mine: impl IntoIterator<Item = &'a T>, theirs: &[&'a T], within: impl Fn(&T, &T) -> bool) -> BTreeSet<T> {
    let pairs = mine.into_iter().flat_map(|a| theirs.iter().map(move |b| (a, *b)));
    let all: BTreeSet<T> =
        pairs.filter_map(|(a, b)| if within(a, b) { Some(a.clone()) } else { within(b, a).then(|| b.clone()) }).collect();
    // Without what lies within another entry: narrowing twice is the same as once.
    all.iter().filter(|entry| !all.iter().any(|other| other != *entry && within(entry, other))).cloned().collect()
}

//! What one sandbox may touch: a profile and a command line, resolved against this host into plain data.
//!
//! Pure. Nothing here looks at the host: [`super::toolchains`] does, and [`super::profile`] joins the two.

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::wire;
use crate::base::size::Size;

/// Everything one sandbox may touch. Deny by default: what is not named here is not there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// The profile's name, for explanations.
    pub profile: String,
    pub tier: Tier,
    pub workspace: Workspace,
    /// Host paths that are visible inside, in the order in which they are put on: no grant comes after one that lies below it.
    /// What is mounted below a granted folder on the host (a `/usr/local` of its own) is part of the grant.
    pub grants: Vec<Grant>,
    /// Symbolic links made in the new root, where no grant, cache or workspace brings a file of that name: `/bin` → `usr/bin`.
    pub links: Vec<Link>,
    /// Small files of our own below the private home.
    pub files: Vec<OwnFile>,
    /// Paths below a grant or the workspace that are covered after everything else is put on: a folder by an empty read-only one,
    /// a file by an empty one.
    pub masks: Vec<Mask>,
    /// Caches: readable from the host, written to a layer of their own.
    pub caches: Vec<Cache>,
    /// Whole trees to read beside the workspace: a commit's files, from the layers that hold them.
    #[serde(default)]
    pub trees: Vec<Tree>,
    pub network: Network,
    pub limits: Limits,
    /// The whole environment of the payload.
    pub environment: Vec<(OsString, OsString)>,
    /// Networks that are local inside beside the loopback's own: address and prefix length.
    #[serde(default)]
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Sockets that the sandbox's init opens inside and hands out to the supervisor.
    pub listeners: Vec<Listener>,
    /// A local socket that the sandbox's init opens and hands out to the supervisor, seen at this path: what runs inside may ask there.
    #[serde(default)]
    pub socket: Option<PathBuf>,
    /// Give the payload a private terminal instead of pipes.
    pub terminal: bool,
}

impl Policy {
    /// Does it show layers of the host that somebody else puts to use after it? A layer takes writes again only when the mount that had it
    /// is gone.
    pub fn borrows_layers(&self) -> bool {
        let on_host = |upper: &Upper| matches!(upper, Upper::Folders { .. });
        let workspace = matches!(&self.workspace.source, WorkspaceSource::Overlay { upper, .. } if on_host(upper));
        workspace || !self.trees.is_empty() || self.caches.iter().any(|cache| on_host(&cache.upper))
    }
}

/// How much of the kernel must be there. Nothing below these two exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Every layer.
    #[default]
    Full,
    /// Without user namespaces: only for whoever asks for it by name.
    NoUserns,
}

/// The folder the payload works in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    pub source: WorkspaceSource,
    /// Where the payload sees it.
    pub inside: PathBuf,
    pub access: Access,
}

/// Where the workspace's files come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkspaceSource {
    /// A folder of the host in place: absolute and without links.
    Folder(PathBuf),
    /// An overlay, mounted inside the sandbox's own mount namespace: `lower` top layer first, never written.
    Overlay { lower: Vec<PathBuf>, upper: Upper },
}

/// What takes the writes of an overlay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upper {
    /// A tmpfs of this run, bounded by the disk and files limits. The supervisor holds a descriptor of it after the run.
    Private,
    /// Two empty or earlier used folders on one file system.
    Folders {
        #[serde(with = "wire::path")]
        upper: PathBuf,
        #[serde(with = "wire::path")]
        work: PathBuf,
    },
}

/// One host path that is visible inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub host: PathBuf,
    pub inside: PathBuf,
    pub access: Access,
    /// Why it is there: the profile's line or the option.
    pub reason: String,
}

/// A symbolic link of the new root.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    pub inside: PathBuf,
    /// As on the host: it may be relative.
    pub target: PathBuf,
}

/// A small file that is made for the run and belongs to the payload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OwnFile {
    pub inside: PathBuf,
    #[serde(with = "super::wire::content")]
    pub content: Vec<u8>,
}

/// A path that exists on the host below something granted, and must not be seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mask {
    pub inside: PathBuf,
    pub folder: bool,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Read and execute.
    Read,
    Write,
}

/// A cache: what lies in its folders is readable, and what is written goes elsewhere. Nothing inside ever writes to the folders themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cache {
    /// Top first; never empty. One folder of the host for its package caches; the promoted states of a warm cache.
    pub lower: Vec<PathBuf>,
    pub inside: PathBuf,
    /// Private and dropped with the run, or folders of the caller's, who decides what becomes of them.
    pub upper: Upper,
    pub reason: String,
}

/// Files to read that lie in layers on top of each other: `lower` top layer first. Nothing inside can write there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    pub lower: Vec<PathBuf>,
    pub inside: PathBuf,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkMode {
    /// An empty network namespace with a private loopback.
    #[default]
    None,
    /// No route out; listeners inside that the supervisor serves.
    Gateway,
    /// The host's own network: for humans who ask for it by name.
    Host,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    pub mode: NetworkMode,
    /// May the payload use TCP on its private loopback?
    pub loopback: bool,
    /// What the gateway may dial: `host`, `*.host`, `host:port`. Nothing else is reachable through it.
    pub allow: Vec<String>,
    /// Who chose the mode, for explanations: `profile default`, `--net`.
    pub origin: String,
}

/// A socket opened inside the sandbox's network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub protocol: Protocol,
    pub address: SocketAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// Upper bounds. `None` is "no bound of ours".
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    pub memory: Option<Size>,
    pub pids: Option<u64>,
    /// Processors' worth of time per second.
    pub cpus: Option<f64>,
    pub wall: Option<Duration>,
    pub cpu_time: Option<Duration>,
    /// How long it may neither print anything nor use a processor.
    pub silence: Option<Duration>,
    /// Both streams together.
    pub output: Option<Size>,
    /// What the run may add to the workspace; also the size of its private folders.
    pub disk: Option<Size>,
    /// How many files the run may add to the workspace; also the inodes of its private folders.
    pub files: Option<u64>,
    pub open_files: Option<u64>,
    pub file_size: Option<Size>,
}

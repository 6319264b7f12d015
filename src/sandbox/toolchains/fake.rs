//! A made-up file system for tests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::{Entry, Kind, Surroundings, View};

#[derive(Clone, Debug)]
enum Node {
    Folder { world_writable: bool },
    File(String),
    Link(PathBuf),
    Pipe,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Fake {
    nodes: BTreeMap<PathBuf, Node>,
}

impl Fake {
    /// One line an entry: `/folder/`, `/shared/!` (everybody may write), `/file`, `/file = text`, `/link -> target`, `/pipe |`.
    pub(crate) fn new(lines: &[&str]) -> Self {
        let mut fake = Self::default();
        for line in lines {
            fake.add(line);
        }
        fake
    }

    pub(crate) fn add(&mut self, line: &str) {
        let (path, node) = if let Some((path, target)) = line.split_once(" -> ") {
            (path, Node::Link(target.into()))
        } else if let Some((path, text)) = line.split_once(" = ") {
            (path, Node::File(text.into()))
        } else if let Some(path) = line.strip_suffix("/!") {
            (path, Node::Folder { world_writable: true })
        } else if let Some(path) = line.strip_suffix(" |") {
            (path, Node::Pipe)
        } else if let Some(path) = line.strip_suffix('/') {
            (path, Node::Folder { world_writable: false })
        } else {
            (line, Node::File(String::new()))
        };
        let path = PathBuf::from(path);
        for parent in path.ancestors().skip(1) {
            self.nodes.entry(parent.to_path_buf()).or_insert(Node::Folder { world_writable: false });
        }
        self.nodes.insert(path, node);
    }

    /// A host as distributions make it, with a person on it who has everything worth stealing.
    pub(crate) fn host() -> Self {
        Self::new(&[
            "/bin -> usr/bin",
            "/sbin -> usr/sbin",
            "/lib -> usr/lib",
            "/lib64 -> usr/lib64",
            "/usr/bin/sh",
            "/usr/sbin/",
            "/usr/lib/",
            "/usr/lib64/",
            "/usr/local/bin/",
            "/usr/share/zoneinfo/Etc/UTC",
            "/usr/lib/os-release",
            "/etc/passwd",
            "/etc/shadow",
            "/etc/ssh/ssh_host_key",
            "/etc/ssl/certs/ca-certificates.crt",
            "/etc/ssl/private/host.key",
            "/etc/ssl/openssl.cnf",
            "/etc/ld.so.cache",
            "/etc/nsswitch.conf",
            "/etc/profile",
            "/etc/localtime -> /usr/share/zoneinfo/Etc/UTC",
            "/etc/os-release -> ../usr/lib/os-release",
            "/etc/alternatives/",
            "/etc/java-17-openjdk/",
            "/opt/",
            "/tmp/!",
            "/home/u/.ssh/id_ed25519",
            "/home/u/.aws/credentials",
            "/home/u/.netrc",
            "/home/u/.npmrc",
            "/home/u/.git-credentials",
            "/home/u/.gnupg/",
            "/home/u/.kube/config",
            "/home/u/.docker/config.json",
            "/home/u/.config/gh/hosts.yml",
            "/home/u/.cargo/credentials.toml",
            "/home/u/.local/state/cofferdam/store.db",
            "/home/u/.bashrc",
            "/home/u/work/project/src/main.rs",
            "/home/other/secret",
        ])
    }

    pub(crate) fn with(mut self, lines: &[&str]) -> Self {
        for line in lines {
            self.add(line);
        }
        self
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.nodes.keys().map(PathBuf::as_path)
    }
}

/// The surroundings of the person of [`Fake::host`].
pub(crate) fn around(path: &str, more: &[(&str, &str)]) -> Surroundings {
    let variables = [("HOME", "/home/u"), ("PATH", path), ("LANG", "de_DE.UTF-8"), ("AWS_SECRET_ACCESS_KEY", "hunter2")];
    Surroundings::of(variables.iter().chain(more).map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect())
}

impl View for Fake {
    fn entry(&self, path: &Path) -> Option<Entry> {
        let parent = path.parent().map(|parent| self.real(parent)).unwrap_or(Some("/".into()))?;
        let found = self.nodes.get(&path.file_name().map_or_else(|| PathBuf::from("/"), |name| parent.join(name)))?;
        let world_writable = matches!(found, Node::Folder { world_writable: true });
        let kind = match found {
            Node::Folder { .. } => Kind::Folder,
            Node::File(_) => Kind::File,
            Node::Link(_) => Kind::Link,
            Node::Pipe => Kind::Other,
        };
        Some(Entry { kind, world_writable, executable: true })
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        match self.nodes.get(path)? {
            Node::Link(target) => Some(target.clone()),
            _ => None,
        }
    }

    fn real(&self, path: &Path) -> Option<PathBuf> {
        let mut done = PathBuf::from("/");
        let mut left: Vec<PathBuf> = path.components().rev().map(|c| PathBuf::from(c.as_os_str())).collect();
        let mut links = 0;
        while let Some(part) = left.pop() {
            match part.components().next() {
                Some(Component::RootDir) => done = PathBuf::from("/"),
                Some(Component::ParentDir) => drop(done.pop()),
                Some(Component::Normal(name)) => match self.nodes.get(&done.join(name))? {
                    Node::Link(target) => {
                        links += 1;
                        if links > 40 {
                            return None;
                        }
                        left.extend(target.components().rev().map(|c| PathBuf::from(c.as_os_str())));
                    }
                    Node::Folder { .. } => done.push(name),
                    Node::File(_) | Node::Pipe if left.is_empty() => done.push(name),
                    Node::File(_) | Node::Pipe => return None,
                },
                _ => {}
            }
        }
        Some(done)
    }

    fn list(&self, path: &Path) -> Vec<(OsString, Kind)> {
        let Some(real) = self.real(path) else { return Vec::new() };
        let below = self.nodes.keys().filter(|node| node.parent() == Some(&real));
        below.filter_map(|node| Some((node.file_name()?.to_owned(), self.entry(node)?.kind))).collect()
    }

    fn text(&self, path: &Path, limit: u64) -> Option<String> {
        match self.nodes.get(&self.real(path)?)? {
            Node::File(text) if text.len() as u64 <= limit => Some(text.clone()),
            _ => None,
        }
    }
}

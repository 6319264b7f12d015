//! A tree of files as the rules see it: small, bounded, never following a link.

use std::collections::BTreeMap;
use std::path::Path;

use crate::workspace::walk::{Folder, Kind};

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Nothing,
    File {
        size: u64,
        executable: bool,
    },
    Link,
    Folder,
    Special,
    /// It could not be looked at.
    Unknown(String),
}

/// Files larger than this are not read by any rule.
pub const LARGEST: u64 = 8 << 20;
/// Paths that a pattern is tried on.
pub const MOST_PATHS: usize = 500_000;

/// A tree, by paths with `/` from its root.
pub trait Tree {
    fn find(&self, path: &str) -> Found;
    /// # Errors
    /// When it is no regular file, larger than [`LARGEST`], or cannot be read.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
    /// Every path that is no folder, sorted. Names that are no UTF-8 are left out: no rule can name them.
    ///
    /// # Errors
    /// When there are too many, or a folder cannot be read.
    fn paths(&self) -> Result<Vec<String>, String>;
}

/// A tree in memory.
impl Tree for BTreeMap<String, Vec<u8>> {
    fn find(&self, path: &str) -> Found {
        match self.get(path) {
            Some(content) => Found::File { size: content.len() as u64, executable: content.starts_with(b"#!") },
            None if self.keys().any(|k| k.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))) => Found::Folder,
            None => Found::Nothing,
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.get(path).cloned().ok_or_else(|| "it is not there".to_owned())
    }

    fn paths(&self) -> Result<Vec<String>, String> {
        Ok(self.keys().cloned().collect())
    }
}

/// A tree on disk, read through descriptors below its root.
#[derive(Debug)]
pub struct OnDisk(Folder);

impl OnDisk {
    /// # Errors
    /// When the root cannot be opened.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        Folder::open_root(root).map(Self)
    }

    /// The folder that a path is in, and its name there.
    fn parent<'p>(&self, path: &'p str) -> std::io::Result<(Option<Folder>, &'p str)> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at = None;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            at = Some(at.as_ref().unwrap_or(&self.0).child(part.as_bytes())?);
        }
        Ok((at, name))
    }

    fn walk(folder: &Folder, prefix: &str, depth: usize, out: &mut Vec<String>) -> Result<(), String> {
        let names = folder.names(MOST_PATHS as u64).map_err(|e| format!("{prefix}: {e}"))?;
        for name in names {
            let Ok(text) = std::str::from_utf8(&name) else { continue };
            let path = if prefix.is_empty() { text.to_owned() } else { format!("{prefix}/{text}") };
            let kind = folder.status(&name).map_err(|e| format!("{path}: {e}"))?.kind;
            if kind != Kind::Folder {
                out.push(path);
            } else if depth >= 200 {
                return Err(format!("{prefix} is nested too deeply"));
            } else {
                let child = folder.child(&name).map_err(|e| format!("{path}: {e}"))?;
                Self::walk(&child, &path, depth + 1, out)?;
            }
            if out.len() > MOST_PATHS {
                return Err(format!("the tree holds more than {MOST_PATHS} files"));
            }
        }
        Ok(())
    }
}

impl Tree for OnDisk {
    fn find(&self, path: &str) -> Found {
        let missing = |e: &std::io::Error| matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory);
        let (parent, name) = match self.parent(path) {
            Ok(found) => found,
            // A link on the way: what is behind it is not in the tree.
            Err(e) if missing(&e) || e.raw_os_error() == Some(libc::ELOOP) => return Found::Nothing,
            Err(e) => return Found::Unknown(e.to_string()),
        };
        match parent.as_ref().unwrap_or(&self.0).status(name.as_bytes()) {
            Ok(status) => match status.kind {
                Kind::File => Found::File { size: status.size, executable: status.mode & 0o111 != 0 },
                Kind::Folder => Found::Folder,
                Kind::Link => Found::Link,
                Kind::Whiteout => Found::Nothing,
                Kind::Special(_) => Found::Special,
            },
            Err(e) if missing(&e) => Found::Nothing,
            Err(e) => Found::Unknown(e.to_string()),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let (parent, name) = self.parent(path).map_err(|e| e.to_string())?;
        let folder = parent.as_ref().unwrap_or(&self.0);
        let status = folder.status(name.as_bytes()).map_err(|e| e.to_string())?;
        if status.kind != Kind::File {
            return Err("it is no regular file".to_owned());
        }
        if status.size > LARGEST {
            return Err(format!("it is larger than {} MiB", LARGEST >> 20));
        }
        folder.read(name.as_bytes(), &status).map_err(|e| e.to_string())?.ok_or_else(|| "it changed while it was read".to_owned())
    }

    fn paths(&self) -> Result<Vec<String>, String> {
        let mut out = Vec::new();
        Self::walk(&self.0, "", 0, &mut out)?;
        out.sort_unstable();
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_on_disk_is_what_is_there_and_links_lead_nowhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs_err::create_dir_all(at("a/b")).expect("made");
        fs_err::write(at("a/b/c"), "text").expect("written");
        fs_err::write(at("a/none"), "").expect("written");
        std::os::unix::fs::symlink("/etc", at("out")).expect("linked");
        std::os::unix::fs::symlink("b/c", at("a/link")).expect("linked");
        nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("made");
        let tree = OnDisk::open(folder.path()).expect("opened");
        assert_eq!(tree.find("a/b/c"), Found::File { size: 4, executable: false });
        assert_eq!((tree.find("a/b"), tree.find("a/link"), tree.find("pipe")), (Found::Folder, Found::Link, Found::Special));
        assert_eq!((tree.find("out/passwd"), tree.find("a/x"), tree.find("a/b/c/d")), (Found::Nothing, Found::Nothing, Found::Nothing));
        assert_eq!(tree.read("a/b/c").as_deref(), Ok(b"text".as_slice()));
        assert!(tree.read("out/passwd").is_err() && tree.read("pipe").is_err() && tree.read("a/link").is_err());
        assert_eq!(tree.paths().expect("listed"), ["a/b/c", "a/link", "a/none", "out", "pipe"]);
    }
}

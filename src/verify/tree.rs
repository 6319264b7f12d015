//! A tree of files as the rules see it: small, bounded, never following a link.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag};

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

/// A tree on disk, read through descriptors below its root. Inside a sandbox, where nobody else can write it: there is no `openat2` there.
#[derive(Debug)]
pub struct OnDisk(OwnedFd);

fn folder_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

impl OnDisk {
    /// # Errors
    /// When the root cannot be opened.
    pub fn open(root: &Path) -> io::Result<Self> {
        Ok(Self(nix::fcntl::open(root, folder_flags(), Mode::empty())?))
    }

    /// The folder that a path is in, and its name there. One part at a time, so that no link is followed on the way.
    fn parent<'p>(&self, path: &'p str) -> io::Result<(Option<OwnedFd>, &'p str)> {
        let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut at: Option<OwnedFd> = None;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            at = Some(nix::fcntl::openat(at.as_ref().unwrap_or(&self.0), part, folder_flags(), Mode::empty())?);
        }
        Ok((at, name))
    }

    fn status(&self, path: &str) -> io::Result<FileStat> {
        let (parent, name) = self.parent(path)?;
        Ok(nix::sys::stat::fstatat(parent.as_ref().unwrap_or(&self.0), name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    fn walk(folder: &OwnedFd, prefix: &str, depth: usize, out: &mut Vec<String>) -> Result<(), String> {
        let failed = |path: &str| {
            let path = path.to_owned();
            move |e: nix::Error| format!("{path}: {e}")
        };
        let copy = nix::fcntl::openat(folder, ".", folder_flags(), Mode::empty()).map_err(failed(prefix))?;
        for entry in nix::dir::Dir::from_fd(copy).map_err(failed(prefix))?.iter() {
            let entry = entry.map_err(failed(prefix))?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name == "." || name == ".." {
                continue;
            }
            let path = if prefix.is_empty() { name.to_owned() } else { format!("{prefix}/{name}") };
            let stat = nix::sys::stat::fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed(&path))?;
            if format_of(&stat) != SFlag::S_IFDIR {
                out.push(path);
            } else if depth >= 200 {
                return Err(format!("{prefix} is nested too deeply"));
            } else {
                let child = nix::fcntl::openat(folder, name, folder_flags(), Mode::empty()).map_err(failed(&path))?;
                Self::walk(&child, &path, depth + 1, out)?;
            }
            if out.len() > MOST_PATHS {
                return Err(format!("the tree holds more than {MOST_PATHS} files"));
            }
        }
        Ok(())
    }
}

fn format_of(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

impl Tree for OnDisk {
    fn find(&self, path: &str) -> Found {
        match self.status(path) {
            Ok(stat) => match format_of(&stat) {
                SFlag::S_IFREG => Found::File { size: u64::try_from(stat.st_size).unwrap_or(0), executable: stat.st_mode & 0o111 != 0 },
                SFlag::S_IFDIR => Found::Folder,
                SFlag::S_IFLNK => Found::Link,
                _ => Found::Special,
            },
            // A link on the way: what is behind it is not in the tree.
            Err(e) if e.raw_os_error() == Some(libc::ELOOP) => Found::Nothing,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Found::Nothing,
            Err(e) => Found::Unknown(e.to_string()),
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        let (parent, name) = self.parent(path).map_err(|e| e.to_string())?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let fd = nix::fcntl::openat(parent.as_ref().unwrap_or(&self.0), name, flags, Mode::empty()).map_err(|e| e.to_string())?;
        let stat = nix::sys::stat::fstat(&fd).map_err(|e| e.to_string())?;
        if format_of(&stat) != SFlag::S_IFREG {
            return Err("it is no regular file".to_owned());
        }
        let mut content = Vec::new();
        io::Read::take(std::fs::File::from(fd), LARGEST + 1).read_to_end(&mut content).map_err(|e| e.to_string())?;
        if content.len() as u64 > LARGEST {
            return Err(format!("it is larger than {} MiB", LARGEST >> 20));
        }
        Ok(content)
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
        nix::unistd::mkfifo(&at("pipe"), Mode::from_bits_truncate(0o600)).expect("made");
        let tree = OnDisk::open(folder.path()).expect("opened");
        assert_eq!(tree.find("a/b/c"), Found::File { size: 4, executable: false });
        assert_eq!((tree.find("a/b"), tree.find("a/link"), tree.find("pipe")), (Found::Folder, Found::Link, Found::Special));
        assert_eq!((tree.find("out/passwd"), tree.find("a/x"), tree.find("a/b/c/d")), (Found::Nothing, Found::Nothing, Found::Nothing));
        assert_eq!(tree.read("a/b/c").as_deref(), Ok(b"text".as_slice()));
        assert!(tree.read("out/passwd").is_err() && tree.read("pipe").is_err() && tree.read("a/link").is_err());
        assert_eq!(tree.paths().expect("listed"), ["a/b/c", "a/link", "a/none", "out", "pipe"]);
    }
}

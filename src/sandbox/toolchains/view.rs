//! The few questions that are asked of a file system. [`Host`] asks the real one; tests answer from a made-up one.

use std::ffi::OsString;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Folder,
    File,
    Link,
    /// A socket, a device, a pipe.
    Other,
}

/// A name, looked at without following it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// Anybody on the machine may change it.
    pub world_writable: bool,
}

pub trait View {
    /// The entry itself, not what it links to.
    fn entry(&self, path: &Path) -> Option<Entry>;
    fn link(&self, path: &Path) -> Option<PathBuf>;
    /// The same place without links, when it exists.
    fn real(&self, path: &Path) -> Option<PathBuf>;
    /// The names of a folder, in no order; nothing when it cannot be listed.
    fn list(&self, path: &Path) -> Vec<(OsString, Kind)>;
    /// A small regular file's text; nothing when it is longer than `limit`, not UTF-8 or not there.
    fn text(&self, path: &Path, limit: u64) -> Option<String>;

    fn is_folder(&self, path: &Path) -> bool {
        self.entry(path).is_some_and(|entry| entry.kind == Kind::Folder)
    }

    fn exists(&self, path: &Path) -> bool {
        self.entry(path).is_some()
    }
}

/// The host's own file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Host;

fn kind(of: std::fs::FileType) -> Kind {
    if of.is_dir() {
        Kind::Folder
    } else if of.is_file() {
        Kind::File
    } else if of.is_symlink() {
        Kind::Link
    } else {
        Kind::Other
    }
}

impl View for Host {
    fn entry(&self, path: &Path) -> Option<Entry> {
        let found = fs_err::symlink_metadata(path).ok()?;
        Some(Entry { kind: kind(found.file_type()), world_writable: found.permissions().mode() & 0o002 != 0 })
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        fs_err::read_link(path).ok()
    }

    fn real(&self, path: &Path) -> Option<PathBuf> {
        fs_err::canonicalize(path).ok()
    }

    fn list(&self, path: &Path) -> Vec<(OsString, Kind)> {
        let Ok(entries) = fs_err::read_dir(path) else { return Vec::new() };
        entries.filter_map(|e| e.ok().and_then(|e| Some((e.file_name(), kind(e.file_type().ok()?))))).collect()
    }

    fn text(&self, path: &Path, limit: u64) -> Option<String> {
        // Looked at before it is opened: opening a FIFO would wait for a writer.
        if !fs_err::metadata(path).ok()?.is_file() {
            return None;
        }
        let mut text = String::new();
        fs_err::File::open(path).ok()?.take(limit + 1).read_to_string(&mut text).ok()?;
        (text.len() as u64 <= limit).then_some(text)
    }
}

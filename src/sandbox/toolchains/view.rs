//! The few questions that are asked of a file system. [`Host`] asks the real one; tests answer from a made-up one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

/// The kernel's own limit: a chain of more links is a circle.
const MOST_LINKS: usize = 40;

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
    /// Somebody may run it.
    pub executable: bool,
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

/// The host's own file system, looked at once: what a name was on the first look it stays, so that the same folders are not asked for
/// again and again. Whoever opens what was found looks for themselves.
#[derive(Clone, Debug, Default)]
pub struct Host {
    names: RefCell<HashMap<OsString, Name>>,
}

#[derive(Clone, Debug)]
enum Name {
    Missing,
    Plain,
    Link(PathBuf),
}

impl Host {
    fn name(&self, path: &Path) -> Name {
        if let Some(known) = self.names.borrow().get(path.as_os_str()) {
            return known.clone();
        }
        let name = match nix::fcntl::readlink(path) {
            Ok(target) => Name::Link(target.into()),
            // The name is there, and it is no link.
            Err(Errno::EINVAL) => Name::Plain,
            Err(_) => Name::Missing,
        };
        self.names.borrow_mut().insert(path.as_os_str().to_owned(), name.clone());
        name
    }
}

impl Host {
    /// Is every part of this path a name and no link? `Some(false)` when one is missing, `None` when it has to be resolved part by part.
    fn plain(&self, path: &Path) -> Option<bool> {
        let bytes = path.as_os_str().as_bytes();
        // Written in any other way than the one that is the answer, it is taken apart.
        if bytes.len() < 2 || bytes.ends_with(b"/") || bytes[1..].split(|b| *b == b'/').any(|part| matches!(part, b"" | b"." | b"..")) {
            return None;
        }
        let ends = bytes.iter().enumerate().skip(1).filter(|(_, b)| **b == b'/').map(|(end, _)| end).chain([bytes.len()]);
        for end in ends {
            match self.look(OsStr::from_bytes(&bytes[..end])) {
                Look::Plain => {}
                Look::Link => return None,
                Look::Missing => return Some(false),
            }
        }
        Some(true)
    }

    fn look(&self, path: &OsStr) -> Look {
        let look = |name: &Name| match name {
            Name::Missing => Look::Missing,
            Name::Plain => Look::Plain,
            Name::Link(_) => Look::Link,
        };
        let known = self.names.borrow().get(path).map(look);
        known.unwrap_or_else(|| look(&self.name(Path::new(path))))
    }
}

/// [`Name`] without where it leads.
enum Look {
    Missing,
    Plain,
    Link,
}

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
        let mode = found.permissions().mode();
        Some(Entry { kind: kind(found.file_type()), world_writable: mode & 0o002 != 0, executable: mode & 0o111 != 0 })
    }

    fn link(&self, path: &Path) -> Option<PathBuf> {
        match self.name(path) {
            Name::Link(target) => Some(target),
            Name::Plain | Name::Missing => None,
        }
    }

    fn real(&self, path: &Path) -> Option<PathBuf> {
        if !path.is_absolute() {
            return None;
        }
        match self.plain(path) {
            Some(true) => return Some(path.to_path_buf()),
            Some(false) => return None,
            None => {}
        }
        let mut done = PathBuf::from("/");
        let mut left: Vec<OsString> = path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
        let mut links = 0;
        while let Some(part) = left.pop() {
            match Path::new(&part).components().next() {
                Some(Component::RootDir) => done = PathBuf::from("/"),
                Some(Component::ParentDir) => drop(done.pop()),
                Some(Component::Normal(name)) => {
                    done.push(name);
                    match self.name(&done) {
                        Name::Missing => return None,
                        Name::Plain => {}
                        Name::Link(target) => {
                            links += 1;
                            if links > MOST_LINKS {
                                return None;
                            }
                            done.pop();
                            left.extend(target.components().rev().map(|part| part.as_os_str().to_owned()));
                        }
                    }
                }
                _ => {}
            }
        }
        Some(done)
    }

    fn list(&self, path: &Path) -> Vec<(OsString, Kind)> {
        let Ok(entries) = fs_err::read_dir(path) else { return Vec::new() };
        entries.filter_map(|e| e.ok().and_then(|e| Some((e.file_name(), kind(e.file_type().ok()?))))).collect()
    }

    fn text(&self, path: &Path, limit: u64) -> Option<String> {
        // Looked at before it is opened: opening a FIFO would wait for a writer.
        let found = fs_err::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        // Room for all of it, and for seeing its end: else it is read in small pieces.
        let mut text = String::with_capacity(usize::try_from(found.len().min(limit)).unwrap_or(0) + 33);
        fs_err::File::open(path).ok()?.take(limit + 1).read_to_string(&mut text).ok()?;
        (text.len() as u64 <= limit).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel's own resolution says, for every shape of path.
    #[test]
    fn real_is_what_the_kernel_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path();
        fs_err::create_dir_all(root.join("a/b/c")).expect("made");
        fs_err::write(root.join("a/file"), "x").expect("made");
        for (link, target) in [
            ("relative", "a/b"),
            ("up", "a/b/../../a/file"),
            ("a/b/out", "../../relative/c"),
            ("dangling", "nowhere"),
            ("loop", "loop2"),
            ("loop2", "loop"),
            ("below_file", "a/file/x"),
            ("slash", "a/b/"),
        ] {
            std::os::unix::fs::symlink(target, root.join(link)).expect("made");
        }
        std::os::unix::fs::symlink(root.join("a"), root.join("absolute")).expect("made");
        let view = Host::default();
        for name in [
            "",
            "a",
            "a/b/c",
            "relative",
            "relative/c",
            "relative/../file",
            "up",
            "a/b/out",
            "absolute/b/out/..",
            "dangling",
            "loop",
            "below_file",
            "a/file",
            "a/file/x",
            "nowhere",
            "slash/c",
            "./a/.",
            "relative/out",
        ] {
            let path = root.join(name);
            // Twice: the second answer comes from what was remembered.
            for _ in 0..2 {
                assert_eq!(view.real(&path), std::fs::canonicalize(&path).ok(), "{name}");
            }
        }
        assert_eq!(view.real(Path::new("a")), None);
    }
}

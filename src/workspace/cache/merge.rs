//! Looking through what a run wrote to a cache, and making several layers of it into one. Nothing is opened but folders, and no link is followed.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat, mkdirat};

use crate::workspace::walk::{Folder, Kind, Mark};

/// Deeper folders belong to no build.
const DEPTH_MAX: usize = 256;

/// What a folder holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::workspace) struct Measured {
    pub(in crate::workspace) bytes: u64,
    /// Names of every kind, marks for removed ones included.
    pub(in crate::workspace) files: u64,
    /// What is no folder.
    pub(in crate::workspace) plain: u64,
}

/// Why a folder cannot become a state.
#[derive(Debug)]
pub(in crate::workspace) enum Unfit {
    TooMany,
    Forged(String),
    Io(io::Error),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::FileTooLarge { Self::TooMany } else { Self::Io(error) }
    }
}

/// Counts what a run wrote, up to `limit` names.
pub(in crate::workspace) fn measure(root: &Folder, limit: u64) -> Result<Measured, Unfit> {
    let mut measured = Measured::default();
    let mut linked = HashSet::new();
    measure_into(root, limit, 0, &mut linked, &mut measured)?;
    Ok(measured)
}

fn measure_into(
    folder: &Folder,
    limit: u64,
    depth: usize,
    linked: &mut HashSet<crate::workspace::walk::FileId>,
    measured: &mut Measured,
) -> Result<(), Unfit> {
    if depth > DEPTH_MAX {
        return Err(Unfit::TooMany);
    }
    for name in folder.names(limit.saturating_sub(measured.files))? {
        measured.files += 1;
        let status = folder.status(&name)?;
        match status.kind {
            Kind::Folder => {
                let child = folder.child(&name)?;
                // No run can write one through the merged view.
                if child.mark()? == Mark::Forged {
                    let name = crate::base::text::bytes_line(&name);
                    return Err(Unfit::Forged(format!("the folder {name} claims that its content lies elsewhere")));
                }
                measure_into(&child, limit, depth + 1, linked, measured)?;
            }
            Kind::File if status.links == 1 || linked.insert(status.file) => measured.bytes = measured.bytes.saturating_add(status.size),
            Kind::File | Kind::Link | Kind::Whiteout | Kind::Special(_) => {}
        }
    }
    Ok(())
}

/// Gives every file that is newer than `latest`, in seconds, that time.
pub(in crate::workspace) fn date_back(folder: &Folder, latest: i64, depth: usize) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, "a cache is deeper than any build makes it"));
    }
    let time = nix::sys::time::TimeSpec::new(latest, 0);
    for name in folder.names(u64::MAX)? {
        match folder.status(&name)?.kind {
            Kind::Folder => date_back(&folder.child(&name)?, latest, depth + 1)?,
            Kind::File | Kind::Link => {
                let os = OsStr::from_bytes(&name);
                if nix::sys::stat::fstatat(folder, os, AtFlags::AT_SYMLINK_NOFOLLOW)?.st_mtime >= latest {
                    nix::sys::stat::utimensat(folder, os, &time, &time, nix::sys::stat::UtimensatFlags::NoFollowSymlink)?;
                }
            }
            Kind::Whiteout | Kind::Special(_) => {}
        }
    }
    Ok(())
}

/// Makes layers (top first) into one in an empty folder, file by file under a further name. What a layer removed is not there any more.
pub(in crate::workspace) fn merge(layers: Vec<Folder>, into: &Folder) -> io::Result<Measured> {
    let mut measured = Measured::default();
    let mut linked = HashSet::new();
    merge_into(&layers, into, 0, &mut linked, &mut measured)?;
    Ok(measured)
}

fn merge_into(
    layers: &[Folder],
    into: &Folder,
    depth: usize,
    linked: &mut HashSet<crate::workspace::walk::FileId>,
    measured: &mut Measured,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidFilename, "a cache is deeper than any build makes it"));
    }
    let mut names = BTreeSet::new();
    for layer in layers {
        names.extend(layer.names(u64::MAX)?);
    }
    for name in names {
        let Some((top, status)) = first(layers, &name)? else { continue };
        match status.kind {
            Kind::Whiteout => continue,
            Kind::File if status.size == 0 && layers[top].mark_of_file(&name)? == Mark::Whiteout => continue,
            Kind::Folder => {
                let below = folders(&layers[top..], &name)?;
                let os = OsStr::from_bytes(&name);
                mkdirat(into, os, Mode::S_IRWXU).map_err(io::Error::from)?;
                merge_into(&below, &into.child(&name)?, depth + 1, linked, measured)?;
                // Its own mode and time come last: filling it changed the time, and the mode may forbid filling it.
                let stat = nix::sys::stat::fstatat(&layers[top], os, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                let times = [(stat.st_atime, stat.st_atime_nsec), (stat.st_mtime, stat.st_mtime_nsec)]
                    .map(|(seconds, nanos)| nix::sys::time::TimeSpec::new(seconds, nanos));
                nix::sys::stat::utimensat(into, os, &times[0], &times[1], nix::sys::stat::UtimensatFlags::NoFollowSymlink)?;
                fchmodat(into, os, Mode::from_bits_truncate(stat.st_mode & 0o777), FchmodatFlags::FollowSymlink)?;
            }
            Kind::File | Kind::Link | Kind::Special(_) => {
                let os = OsStr::from_bytes(&name);
                nix::unistd::linkat(&layers[top], os, into, os, AtFlags::empty())?;
                measured.plain += 1;
                if status.kind == Kind::File && linked.insert(status.file) {
                    measured.bytes = measured.bytes.saturating_add(status.size);
                }
            }
        }
        measured.files += 1;
    }
    Ok(())
}

/// The uppermost layer that says something of a name.
fn first(layers: &[Folder], name: &[u8]) -> io::Result<Option<(usize, crate::workspace::walk::Status)>> {
    for (at, layer) in layers.iter().enumerate() {
        match layer.status(name) {
            Ok(status) => return Ok(Some((at, status))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// The folders of that name that show through each other, from the uppermost on.
fn folders(layers: &[Folder], name: &[u8]) -> io::Result<Vec<Folder>> {
    let mut found = Vec::new();
    for layer in layers {
        match layer.status(name) {
            Ok(status) if status.kind == Kind::Folder => {
                let folder = layer.child(name)?;
                let opaque = folder.mark()? == Mark::Opaque;
                found.push(folder);
                if opaque {
                    break;
                }
            }
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(found)
}

/// Makes everything on the folder's file system durable.
pub(in crate::workspace) fn sync(folder: &Folder) -> io::Result<()> {
    Ok(nix::unistd::syncfs(folder.as_fd())?)
}

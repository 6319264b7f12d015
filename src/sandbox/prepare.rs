//! What root does for a sandbox from outside: opens the host folders that only it can reach, and makes what the payload writes to appear
//! as the payload's own.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::mounts;
use super::plan::{PAYLOAD_ID, Step};
use super::policy::Upper;
use super::sys::{self, NamespaceHolder};

#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error("{what} could not be opened for the sandbox: {source}")]
    Source { what: PathBuf, source: io::Error },
    #[error("the owner of {what} could not be mapped to the sandbox's user: {source}")]
    Owner { what: PathBuf, source: io::Error },
}

/// User namespaces that map one owner on disk to the payload: made once for each owner.
#[derive(Debug, Default)]
pub(super) struct Owners {
    known: HashMap<(u32, u32), OwnedFd>,
    /// Holders of namespaces that are no longer needed: they end while something else is done.
    ending: Vec<NamespaceHolder>,
}

impl Owners {
    /// For each step the host folders that it needs, in the order in which it needs them.
    ///
    /// # Errors
    /// When a source is missing, or the kernel refuses.
    pub(super) fn prepare(&mut self, steps: &[Step], workspace: &Path) -> Result<Vec<Vec<OwnedFd>>, PrepareError> {
        steps.iter().map(|step| self.prepare_step(step, workspace)).collect()
    }

    /// Waits for what was left to end by itself.
    pub(super) fn settle(&mut self) {
        self.ending.clear();
    }

    fn prepare_step(&mut self, step: &Step, workspace: &Path) -> Result<Vec<OwnedFd>, PrepareError> {
        Ok(match step {
            Step::Bind { source, writable: true, .. } => vec![self.open_owned(source)?],
            // Who may read the workspace may read all of it, whatever modes an agent left; not every file system can map owners.
            Step::Bind { source, path, .. } if path.starts_with(workspace) => vec![self.open_owned(source).or_else(|_| open(source))?],
            Step::Bind { source, writable: false, .. } => vec![open(source)?],
            Step::Mask { folder: false, .. } => vec![open(Path::new("/dev/null"))?],
            Step::Overlay { lower, upper, .. } => {
                let mut prepared = lower.iter().map(|l| self.open_owned(l)).collect::<Result<Vec<_>, _>>()?;
                if let Upper::Folders { upper, .. } = upper {
                    prepared.push(self.open_owned(upper.parent().unwrap_or(upper))?);
                }
                prepared
            }
            _ => Vec::new(),
        })
    }

    fn open_owned(&mut self, source: &Path) -> Result<OwnedFd, PrepareError> {
        let owner = |source_error| PrepareError::Owner { what: source.to_owned(), source: source_error };
        let tree = open(source)?;
        let stat = nix::sys::stat::fstat(&tree).map_err(|e| owner(e.into()))?;
        let key = (stat.st_uid, stat.st_gid);
        let namespace = match self.known.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let (namespace, holder) = owner_namespace(key.0, key.1).map_err(owner)?;
                self.ending.push(holder);
                new.insert(namespace)
            }
        };
        sys::mount_setattr(tree.as_fd(), sys::AT_RECURSIVE, 0, Some(namespace.as_fd())).map_err(owner)?;
        Ok(tree)
    }
}

/// What shows a readable part of the host, opened.
pub(super) fn open_shown(step: &Step) -> Result<OwnedFd, PrepareError> {
    match step {
        Step::Bind { source, .. } => open(source),
        other => Err(PrepareError::Source { what: other.to_string().into(), source: io::ErrorKind::InvalidInput.into() }),
    }
}

fn open(source: &Path) -> Result<OwnedFd, PrepareError> {
    mounts::open_source(source).map_err(|error| PrepareError::Source { what: source.to_owned(), source: error })
}

/// A user namespace in which the owner on disk stands for the payload's host id: what an idmapped mount takes.
fn owner_namespace(uid: u32, gid: u32) -> io::Result<(OwnedFd, NamespaceHolder)> {
    let mut holder = NamespaceHolder::new()?;
    let pid = holder.pid();
    fs_err::write(format!("/proc/{pid}/uid_map"), format!("{uid} {PAYLOAD_ID} 1"))?;
    fs_err::write(format!("/proc/{pid}/gid_map"), format!("{gid} {PAYLOAD_ID} 1"))?;
    let namespace = fs_err::File::open(format!("/proc/{pid}/ns/user"))?;
    holder.let_go();
    Ok((namespace.into_file().into(), holder))
}

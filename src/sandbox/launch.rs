//! Makes the sandbox's init from a single-threaded process: what only the parent can do, and then one fork.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use seccompiler::BpfProgram;
use serde::{Deserialize, Serialize};

use super::mounts::{self, Prepared};
use super::plan::{Namespace, PAYLOAD_ID, Plan, Step};
use super::policy::Upper;
use super::sys::{self, Fork};
use super::{filter, init};

/// One run, as plain data: it can cross a socket to the helper.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub plan: Plan,
    /// The program and its arguments; never empty.
    pub arguments: Vec<OsString>,
    pub environment: Vec<(OsString, OsString)>,
    /// Is the launching process root?
    pub privileged: bool,
    pub terminal: bool,
    /// The supervisor's process id, which must not be reachable from inside.
    pub supervisor: i32,
}

impl Job {
    fn namespaces(&self) -> impl Iterator<Item = Namespace> + '_ {
        self.plan.steps.iter().flat_map(|step| if let Step::Namespaces(list) = step { list.as_slice() } else { &[] }).copied()
    }

    pub(super) fn has_user_namespace(&self) -> bool {
        self.namespaces().any(|n| n == Namespace::User)
    }

    pub(super) fn has_pid_namespace(&self) -> bool {
        self.namespaces().any(|n| n == Namespace::Pid)
    }
}

/// The payload's ends of its three streams.
#[derive(Debug)]
pub struct Streams {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// How the first process gets into its group.
#[derive(Debug, Default)]
pub struct Admission {
    /// v2: it is born in this directory's group.
    pub into: Option<OwnedFd>,
    /// v1: it writes itself into each of these files.
    pub join: Vec<OwnedFd>,
}

/// A sandbox whose init runs.
#[derive(Debug)]
pub struct Launched {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("{what} could not be opened for the sandbox: {source}")]
    Source { what: PathBuf, source: io::Error },
    #[error("the owner of {what} could not be mapped to the sandbox's user: {source}")]
    Owner { what: PathBuf, source: io::Error },
    #[error(transparent)]
    Filter(#[from] filter::FilterError),
    #[error("new namespaces are refused: {0}")]
    Namespaces(io::Error),
    #[error("the sandbox's user could not be mapped: {0}")]
    Identity(io::Error),
}

/// Launches sandboxes one after the other; remembers what is the same for each.
#[derive(Debug, Default)]
pub struct Launcher {
    /// User namespaces that map one owner on disk to the payload: made once for each owner.
    owners: HashMap<(u32, u32), OwnedFd>,
    /// Compiled filters: a sandbox's init inherits what it needs.
    filters: HashMap<filter::Spec, BpfProgram>,
}

impl Launcher {
    /// Makes the sandbox's init, which builds the sandbox and reports on `control`.
    ///
    /// # Errors
    /// When a source is missing, or the kernel refuses. Nothing is left behind then.
    pub fn launch(&mut self, job: &Job, control: OwnedFd, streams: Option<Streams>, entry: Admission) -> Result<Launched, LaunchError> {
        let prepared = if job.privileged { self.prepare(&job.plan)? } else { Vec::new() };
        self.compile_filters(&job.plan.steps)?;
        let flags = job.namespaces().fold(0, |flags, n| flags | n.flag());
        let maps = job.privileged && job.has_user_namespace();
        let pipe = maps.then(|| nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)).transpose();
        let (mapped, done) = pipe.map_err(|e| LaunchError::Identity(e.into()))?.unzip();
        match sys::fork_into(flags, entry.into.as_ref().map(AsFd::as_fd)).map_err(LaunchError::Namespaces)? {
            Fork::Child => {
                drop(done);
                init::run(init::Birth { job, streams, group: entry.join, mapped, prepared, filters: &self.filters }, control)
            }
            Fork::Parent { pid, pidfd } => {
                let pidfd = pidfd.ok_or_else(|| LaunchError::Namespaces(io::Error::other("no pidfd")))?;
                if let Err(error) = map_identity(job, pid) {
                    drop(sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL));
                    return Err(LaunchError::Identity(error));
                }
                Ok(Launched { pid, pidfd })
            }
        }
    }

    fn compile_filters(&mut self, steps: &[Step]) -> Result<(), LaunchError> {
        for step in steps {
            if let Step::Filter(spec) = step
                && let Entry::Vacant(new) = self.filters.entry(*spec)
            {
                new.insert(filter::program(*spec)?);
            }
        }
        Ok(())
    }

    /// Opens every host folder as root, who alone may be able to reach it; those that the payload writes to are seen as its own.
    fn prepare(&mut self, plan: &Plan) -> Result<Vec<Prepared>, LaunchError> {
        plan.steps.iter().map(|step| self.prepare_step(step, &plan.folder)).collect()
    }

    fn prepare_step(&mut self, step: &Step, workspace: &Path) -> Result<Prepared, LaunchError> {
        Ok(match step {
            Step::Bind { source, writable: true, .. } => vec![self.open_owned(source)?],
            // Who may read the workspace may read all of it, whatever modes an agent left; not every file system can map owners.
            Step::Bind { source, path, .. } if path.starts_with(workspace) => vec![self.open_owned(source).or_else(|_| open(source))?],
            Step::Bind { source, writable: false, .. } => vec![open(source)?],
            Step::Device { name } => vec![open(&Path::new("/dev").join(name))?],
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

    fn open_owned(&mut self, source: &Path) -> Result<OwnedFd, LaunchError> {
        let owner = |source_error| LaunchError::Owner { what: source.to_owned(), source: source_error };
        let tree = open(source)?;
        let stat = nix::sys::stat::fstat(&tree).map_err(|e| owner(e.into()))?;
        let key = (stat.st_uid, stat.st_gid);
        let namespace = match self.owners.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(owner_namespace(key.0, key.1).map_err(owner)?),
        };
        sys::mount_setattr(tree.as_fd(), sys::AT_RECURSIVE, 0, Some(namespace.as_fd())).map_err(owner)?;
        Ok(tree)
    }
}

fn open(source: &Path) -> Result<OwnedFd, LaunchError> {
    mounts::open_source(source).map_err(|error| LaunchError::Source { what: source.to_owned(), source: error })
}

/// A user namespace in which the owner on disk stands for the payload's host id: what an idmapped mount takes.
fn owner_namespace(uid: u32, gid: u32) -> io::Result<OwnedFd> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match sys::fork_into(libc::CLONE_NEWUSER as u64, None)? {
        Fork::Child => {
            // Lives until the parent has its namespace: the parent's end of the pipe closes then, or when the parent dies.
            sys::close_number(std::os::fd::AsRawFd::as_raw_fd(&writer));
            let _ = nix::unistd::read(&reader, &mut [0]);
            sys::exit_now(0);
        }
        Fork::Parent { pid, .. } => {
            let namespace = (|| {
                fs_err::write(format!("/proc/{pid}/uid_map"), format!("{uid} {PAYLOAD_ID} 1"))?;
                fs_err::write(format!("/proc/{pid}/gid_map"), format!("{gid} {PAYLOAD_ID} 1"))?;
                fs_err::File::open(format!("/proc/{pid}/ns/user")).map(|file| OwnedFd::from(file.into_file()))
            })();
            drop(writer);
            // With SIGCHLD ignored there is nothing to wait for, and this returns when the child is gone.
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None);
            namespace
        }
    }
}

/// Root maps for its children; an ordinary user's init maps itself.
fn map_identity(job: &Job, pid: i32) -> io::Result<()> {
    if !job.privileged || !job.has_user_namespace() {
        return Ok(());
    }
    for step in &job.plan.steps {
        if let Step::Identity { inside, uid, gid } = step {
            fs_err::write(format!("/proc/{pid}/uid_map"), format!("{inside} {uid} 1"))?;
            fs_err::write(format!("/proc/{pid}/gid_map"), format!("{inside} {gid} 1"))?;
        }
    }
    Ok(())
}

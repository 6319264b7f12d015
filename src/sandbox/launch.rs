//! Makes a sandbox's first process from a single-threaded process: one fork, and what only its parent can do for it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use super::init;
use super::plan::{Namespace, Step};
use super::sys::{self, Apart, Fork, Processors, Unhurried};

/// What is built before any policy is known: namespaces, an empty root, devices, private folders. The same for every sandbox of its kind,
/// so that it can be built ahead, while somebody else still reads a profile or runs another sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Hull {
    pub(super) steps: Vec<Step>,
    /// Is the launching process root?
    pub(super) privileged: bool,
}

impl Hull {
    pub(super) fn has(&self, namespace: Namespace) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Namespaces(list) if list.contains(&namespace)))
    }
}

/// A first process that builds its hull and then waits for orders.
#[derive(Debug)]
pub struct Launched {
    pub pid: i32,
    pub pidfd: OwnedFd,
    /// The processor that it leaves to who launched it.
    pub apart: Option<Apart>,
}

#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("new namespaces are refused: {0}")]
    Namespaces(io::Error),
    #[error("the sandbox's user could not be mapped: {0}")]
    Identity(io::Error),
}

/// Makes the sandbox's first process, which reports on `control`; on cgroup v2 it is born in the group `into`. `apart`: this process goes on
/// working meanwhile, and wants a processor for itself.
///
/// # Errors
/// When the kernel refuses. Nothing is left behind then.
pub(super) fn launch(hull: &Hull, control: OwnedFd, into: Option<BorrowedFd<'_>>, apart: bool) -> Result<Launched, LaunchError> {
    let namespaces = hull.steps.iter().flat_map(|step| if let Step::Namespaces(list) = step { list.as_slice() } else { &[] });
    // The dearest one by far is made from there, while everybody else goes on.
    let flags = namespaces.filter(|n| **n != Namespace::Network).fold(0, |flags, n| flags | n.flag());
    let maps = hull.privileged && hull.has(Namespace::User);
    let pipe = maps.then(|| nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)).transpose();
    let (mapped, done) = pipe.map_err(|e| LaunchError::Identity(e.into()))?.unzip();
    // Nothing depends on it but a limit of processors, which then says so.
    let processors = Processors::own().ok();
    let unhurried = apart.then(Unhurried::begin);
    match sys::fork_into(flags, into).map_err(LaunchError::Namespaces)? {
        Fork::Child => {
            drop((done, unhurried));
            init::run(hull, processors, mapped, control)
        }
        Fork::Parent { pid, pidfd } => {
            let apart = if apart { Apart::from(pid) } else { None };
            drop(unhurried);
            if maps && let Err(error) = map_identity(hull, pid) {
                drop(sys::pidfd_send_signal(pidfd.as_fd(), libc::SIGKILL));
                return Err(LaunchError::Identity(error));
            }
            Ok(Launched { pid, pidfd, apart })
        }
    }
}

/// Root maps for its children; an ordinary user's init maps itself.
fn map_identity(hull: &Hull, pid: i32) -> io::Result<()> {
    for step in &hull.steps {
        if let Step::Identity { inside, uid, gid } = step {
            fs_err::write(format!("/proc/{pid}/uid_map"), format!("{inside} {uid} 1"))?;
            fs_err::write(format!("/proc/{pid}/gid_map"), format!("{inside} {gid} 1"))?;
        }
    }
    Ok(())
}

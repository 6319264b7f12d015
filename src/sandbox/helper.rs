//! A single-threaded process that forks for a threaded one.
//!
//! It is ourselves, executed anew as `cofferdam __helper` before it has any history, with a socket as its standard input. It makes first
//! processes of sandboxes, which build their hull and then take their orders from whoever asked, over a socket of their own. It ends when
//! its socket's other end closes, and every sandbox it made ends with its own supervisor's socket.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

use super::command::SandboxError;
use super::launch::{self, Hull, Launched};
use super::message::{receive, send};
use super::sys;

/// The hidden command that makes this binary a helper.
pub const COMMAND: &str = "__helper";

/// With the sandbox's end of its control socket, and the group to be born in.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    hull: Hull,
    into: bool,
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Launched { pid: i32 },
    Failed(String),
}

/// The threaded side. Each request has one answer, in their order.
#[derive(Debug)]
pub(super) struct Helper {
    socket: OwnedFd,
    process: Child,
}

impl Helper {
    /// Starts one from the program at `program`.
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        let (socket, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let mut command = Command::new(program);
        // A group of its own: an interrupt from the terminal is for us alone, who still need it to end in good order.
        let process = command.arg(COMMAND).stdin(Stdio::from(theirs)).stdout(Stdio::null()).process_group(0).spawn()?;
        Ok(Self { socket, process })
    }

    pub(super) fn request(&self, hull: &Hull, control: OwnedFd, into: Option<OwnedFd>) -> Result<(), SandboxError> {
        let request = Request { hull: hull.clone(), into: into.is_some() };
        let fds = [Some(control), into];
        let borrowed: Vec<_> = fds.iter().flatten().map(AsFd::as_fd).collect();
        send(self.socket.as_fd(), &request, &borrowed).map_err(SandboxError::Helper)
    }

    pub(super) fn answer(&self) -> Result<Launched, SandboxError> {
        let gone = || SandboxError::Helper(io::Error::from(io::ErrorKind::BrokenPipe));
        let failed = |why| SandboxError::Step { step: "launch".to_owned(), errno: 0, detail: why };
        let (reply, fds) = receive::<Reply>(self.socket.as_fd(), true).map_err(SandboxError::Helper)?.ok_or_else(gone)?;
        match (reply, fds.into_iter().next()) {
            (Reply::Launched { pid }, Some(pidfd)) => Ok(Launched { pid, pidfd, apart: None }),
            (Reply::Launched { .. }, None) => Err(failed("the helper sent no process".to_owned())),
            (Reply::Failed(why), _) => Err(failed(why)),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Its socket closes with ours; ending it by signal as well keeps this from ever waiting.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// The helper's whole life: launches what arrives on its standard input until that closes.
pub fn serve() -> io::Result<()> {
    let socket = sys::standard(0);
    // Children that end leave no zombie: nobody waits for them here, their supervisors hold pidfds.
    sys::ignore_signal(libc::SIGCHLD)?;
    while let Some((request, fds)) = receive::<Request>(socket, true)? {
        match launch(&request, fds) {
            Ok(launched) => send(socket, &Reply::Launched { pid: launched.pid }, &[launched.pidfd.as_fd()])?,
            Err(why) => send(socket, &Reply::Failed(why), &[])?,
        }
    }
    Ok(())
}

fn launch(request: &Request, fds: Vec<OwnedFd>) -> Result<Launched, String> {
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or("a descriptor is missing from the request");
    let control = next()?;
    let into = request.into.then(&mut next).transpose()?;
    launch::launch(&request.hull, control, into.as_ref().map(AsFd::as_fd), false).map_err(|e| e.to_string())
}

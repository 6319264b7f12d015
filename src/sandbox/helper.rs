//! A single-threaded process that forks for a threaded one.
//!
//! It is ourselves, executed anew as `cofferdam __helper` before it has any history, with a socket as its standard input. A job crosses
//! as JSON in a memory file with the payload's descriptors; the sandbox's pidfd comes back. It ends when the socket's other end closes,
//! and every sandbox it made ends with its own supervisor's socket.

use std::ffi::CString;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

use super::command::SandboxError;
use super::launch::{Admission, Job, Launched, Launcher, Streams};
use super::message::{receive, send};
use super::sys;

/// The hidden command that makes this binary a helper.
pub const COMMAND: &str = "__helper";

/// What the descriptors of a request are, in order.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Request {
    streams: bool,
    into: bool,
    join: usize,
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Launched { pid: i32 },
    Failed(String),
}

/// The threaded side.
#[derive(Debug)]
pub(super) struct Helper {
    socket: Mutex<OwnedFd>,
    process: Child,
}

impl Helper {
    /// Starts one from the program at `program`.
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let mut command = Command::new(program);
        // A group of its own: an interrupt from the terminal is for us alone, who still need it to end in good order.
        let process = command.arg(COMMAND).stdin(Stdio::from(theirs)).stdout(Stdio::null()).process_group(0).spawn()?;
        Ok(Self { socket: Mutex::new(ours), process })
    }

    pub(super) fn launch(&self, job: &Job, control: OwnedFd, streams: Option<Streams>, entry: Admission) -> Result<Launched, SandboxError> {
        let request = Request { streams: streams.is_some(), into: entry.into.is_some(), join: entry.join.len() };
        let mut file = memory_file().map_err(SandboxError::Helper)?;
        serde_json::to_writer(&mut file, job).map_err(|e| SandboxError::Helper(e.into()))?;
        let mut fds = vec![OwnedFd::from(file), control];
        fds.extend(streams.into_iter().flat_map(|s| [s.stdin, s.stdout, s.stderr]));
        fds.extend(entry.into);
        fds.extend(entry.join);
        let socket = self.socket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        exchange(&socket, &request, &fds).map_err(SandboxError::Helper)?.map_err(|why| SandboxError::Step {
            step: "launch".to_owned(),
            errno: 0,
            detail: why,
        })
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Its socket closes with ours; ending it by signal as well keeps this from ever waiting.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn exchange(socket: &OwnedFd, request: &Request, fds: &[OwnedFd]) -> io::Result<Result<Launched, String>> {
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    send(socket.as_fd(), request, &borrowed)?;
    let (reply, fds) = receive::<Reply>(socket.as_fd(), true)?.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe))?;
    Ok(match (reply, fds.into_iter().next()) {
        (Reply::Launched { pid }, Some(pidfd)) => Ok(Launched { pid, pidfd }),
        (Reply::Launched { .. }, None) => Err("the helper sent no process".to_owned()),
        (Reply::Failed(why), _) => Err(why),
    })
}

/// The helper's whole life: launches what arrives on its standard input until that closes.
pub fn serve() -> io::Result<()> {
    let socket = sys::standard(0);
    // Children that end leave no zombie: nobody waits for them here, their supervisors hold pidfds.
    sys::ignore_signal(libc::SIGCHLD)?;
    let mut launcher = Launcher::default();
    while let Some((request, fds)) = receive::<Request>(socket, true)? {
        match launch(&mut launcher, &request, fds) {
            Ok(launched) => send(socket, &Reply::Launched { pid: launched.pid }, &[launched.pidfd.as_fd()])?,
            Err(why) => send(socket, &Reply::Failed(why), &[])?,
        }
    }
    Ok(())
}

fn launch(launcher: &mut Launcher, request: &Request, fds: Vec<OwnedFd>) -> Result<Launched, String> {
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or("a descriptor is missing from the request");
    let mut file = std::fs::File::from(next()?);
    let control = next()?;
    let streams = if request.streams { Some(Streams { stdin: next()?, stdout: next()?, stderr: next()? }) } else { None };
    let into = if request.into { Some(next()?) } else { None };
    let join = (0..request.join).map(|_| next()).collect::<Result<_, _>>()?;
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(|e| e.to_string())?;
    let job: Job = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
    launcher.launch(&job, control, streams, Admission { into, join }).map_err(|e| e.to_string())
}

fn memory_file() -> io::Result<std::fs::File> {
    let name = CString::new("cofferdam-job")?;
    let fd = nix::sys::memfd::memfd_create(name.as_c_str(), nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?;
    Ok(std::fs::File::from(fd))
}

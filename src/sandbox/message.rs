//! What the supervisor and the sandbox's init say to each other, one datagram a message, over a socket pair that nobody else holds.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::plan::{Probe, Step};
use super::wire::{self, Text};

/// From init to supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromInit {
    /// A step failed, or the payload could not join its group; nothing was executed.
    Failed { step: String, errno: i32, detail: String },
    /// Everything is enforced and probed; the descriptors named here come with the message, in this order.
    Ready { probes: Vec<(Probe, bool)>, descriptors: Vec<Handed> },
    /// The program could not be executed.
    ExecFailed { errno: i32 },
    /// The payload ended, and everybody else in the sandbox was ended; init, which says so, ends right after this. `left` is how many they
    /// were, when the payload failed.
    Ended { code: Option<i32>, signal: Option<i32>, cpu_ms: u64, peak_memory_bytes: u64, left: u64 },
}

/// What a descriptor is that init hands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Handed {
    /// Where `connect` calls are announced.
    Watch,
    /// The sandbox's own `/proc`.
    Processes,
    /// A folder of the private file system, for counting what is used.
    Private,
    /// The folder that takes the writes of the workspace's overlay.
    Upper,
    /// The master of the payload's terminal.
    Terminal,
    /// A listener, by its place in the policy.
    Listener(usize),
    /// The local socket.
    Socket,
}

/// From supervisor to init.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToInit {
    /// Descriptors that the orders after this need: more than one message carries.
    Descriptors,
    /// Steps that the orders would begin with in any case, and how many opened folders each has. The descriptors come with it.
    Ahead { steps: Vec<Step>, prepared: Vec<usize> },
    /// What to become. The descriptors come with it.
    Go(Box<Order>),
    /// The same, in a file that is the last descriptor: longer than a message may be.
    GoByFile,
    /// The group is ready: one file for each part of it, for the payload to join. Sent after the orders, because making a group takes time.
    Join,
    /// Send this signal to the payload.
    Signal(i32),
}

/// What a hull becomes: the rest of the steps, and then the payload. Its descriptors are the three streams and the host folders that a privileged supervisor opened, in the order of the steps.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) steps: Vec<Step>,
    /// How many opened folders each step has.
    pub(super) prepared: Vec<usize>,
    #[serde(with = "wire::path")]
    pub(super) folder: PathBuf,
    /// The program and its arguments; never empty.
    pub(super) arguments: Vec<Text<'static>>,
    pub(super) environment: Vec<(Text<'static>, Text<'static>)>,
    pub(super) terminal: bool,
    /// The supervisor's process id, which must not be reachable from inside.
    pub(super) supervisor: i32,
}

/// Sends the orders. A peer that is gone has said why, or its end does.
pub(super) fn order(socket: BorrowedFd<'_>, order: Order, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut rest = descriptors;
    while let Some((now, later)) = rest.split_at_checked(DESCRIPTORS_AT_ONCE) {
        send(socket, &ToInit::Descriptors, now)?;
        rest = later;
    }
    let go = serde_json::to_vec(&ToInit::Go(Box::new(order)))?;
    if go.len() <= LONGEST {
        return send_bytes(socket, &go, rest);
    }
    let mut file = std::fs::File::from(nix::sys::memfd::memfd_create(c"cofferdam-order", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?);
    io::Write::write_all(&mut file, &go)?;
    send(socket, &ToInit::GoByFile, &[rest, &[file.as_fd()]].concat())
}

/// Sends steps that the orders will hold in any case, so that they are performed while the rest is still being found out. False when they
/// are too many for one message: they then come with the orders.
pub(super) fn ahead(socket: BorrowedFd<'_>, steps: Vec<Step>, prepared: Vec<usize>, descriptors: &[BorrowedFd<'_>]) -> io::Result<bool> {
    let bytes = serde_json::to_vec(&ToInit::Ahead { steps, prepared })?;
    let fits = bytes.len() <= LONGEST && descriptors.len() <= DESCRIPTORS_AT_ONCE;
    if fits {
        send_bytes(socket, &bytes, descriptors)?;
    }
    Ok(fits)
}

/// Is there something to hear, or nobody any more?
pub(super) fn waits(socket: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::POLLIN)];
    !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
}

/// What a hull hears, with the descriptors that belong to it.
#[derive(Debug)]
pub(super) enum Heard {
    /// Some steps; more is to come.
    Ahead {
        steps: Vec<Step>,
        prepared: Vec<usize>,
        descriptors: Vec<OwnedFd>,
    },
    Go(Box<Order>, Vec<OwnedFd>),
}

/// Waits for what to do next; `None` when there will be nothing.
pub(super) fn orders(socket: BorrowedFd<'_>) -> io::Result<Option<Heard>> {
    let mut descriptors = Vec::new();
    while let Some((message, more)) = receive::<ToInit>(socket, true)? {
        descriptors.extend(more);
        match message {
            ToInit::Descriptors => {}
            ToInit::Ahead { steps, prepared } => return Ok(Some(Heard::Ahead { steps, prepared, descriptors })),
            ToInit::Go(order) => return Ok(Some(Heard::Go(order, descriptors))),
            ToInit::GoByFile => {
                let mut file = std::fs::File::from(descriptors.pop().ok_or_else(|| io::Error::other("the orders have no file"))?);
                let mut bytes = Vec::new();
                io::Seek::rewind(&mut file)?;
                io::Read::read_to_end(&mut file, &mut bytes)?;
                return match serde_json::from_slice(&bytes)? {
                    ToInit::Go(order) => Ok(Some(Heard::Go(order, descriptors))),
                    other => Err(io::Error::other(format!("{other:?} are no orders"))),
                };
            }
            other @ (ToInit::Join | ToInit::Signal(_)) => return Err(io::Error::other(format!("{other:?} came before any orders"))),
        }
    }
    Ok(None)
}

/// Waits for the files to join the group through; `None` when they will not come.
pub(super) fn group(socket: BorrowedFd<'_>) -> io::Result<Option<Vec<OwnedFd>>> {
    match receive::<ToInit>(socket, true)? {
        Some((ToInit::Join, files)) => Ok(Some(files)),
        Some((other, _)) => Err(io::Error::other(format!("{other:?} came before the group"))),
        None => Ok(None),
    }
}

/// No message is longer; a longer one is a defect and refused.
const LONGEST: usize = 64 * 1024;
/// The kernel carries 253 at once; some room is left for what comes with them.
const DESCRIPTORS_AT_ONCE: usize = 240;
/// No message carries more descriptors: the kernel's own bound.
const MOST_DESCRIPTORS: usize = 253;

pub(super) fn send(socket: BorrowedFd<'_>, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    send_bytes(socket, &serde_json::to_vec(message)?, descriptors)
}

fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &control[..0] } else { &control[..] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// The next message with its descriptors; `None` when the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>, wait: bool) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; waiting(socket, wait)?.min(LONGEST)];
    let mut space = nix::cmsg_space!([i32; MOST_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(nix::Error::EINTR | RESET) => {}
            other => break other?,
        }
    };
    let mut descriptors = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            descriptors.extend(numbers.into_iter().map(super::sys::own_received));
        }
    }
    let length = received.bytes;
    if length == 0 {
        return Ok(None);
    }
    if received.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message between supervisor and sandbox was cut"));
    }
    Ok(Some((serde_json::from_slice(&bytes[..length])?, descriptors)))
}

/// A peer that died with messages unread resets the connection. The kernel says so once, before what the peer had sent: that is still there.
const RESET: nix::Error = nix::Error::ECONNRESET;

/// How long the next message is; 0 when the other side is gone. A buffer for the longest one would cost more than the call.
fn waiting(socket: BorrowedFd<'_>, wait: bool) -> io::Result<usize> {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC | if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    loop {
        match nix::sys::socket::recv(socket.as_raw_fd(), &mut [], flags) {
            Err(nix::Error::EINTR | RESET) => {}
            other => return Ok(other?),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    use super::*;

    /// Init fails while orders are on their way to it: why it failed is heard all the same.
    #[test]
    fn what_a_peer_said_before_it_died_is_heard() {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).expect("sockets");
        send(ours.as_fd(), &ToInit::Join, &[]).expect("sent");
        send(theirs.as_fd(), &FromInit::ExecFailed { errno: 2 }, &[]).expect("sent");
        drop(theirs);
        assert!(matches!(receive(ours.as_fd(), true), Ok(Some((FromInit::ExecFailed { errno: 2 }, _)))));
        assert!(matches!(receive::<FromInit>(ours.as_fd(), true), Ok(None)));
    }
}

//! What the supervisor and the sandbox's init say to each other, one datagram a message, over a socket pair that nobody else holds.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::plan::Probe;

/// From init to supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromInit {
    /// A step failed; nothing was executed.
    Failed { step: String, errno: i32, detail: String },
    /// Everything is enforced and probed; the descriptors named here come with the message, in this order.
    Ready { probes: Vec<(Probe, bool)>, descriptors: Vec<Handed> },
    /// The program could not be executed.
    ExecFailed { errno: i32 },
    /// The payload ended; init and everything else in the sandbox end right after this. `left` is how many they were, when it failed.
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
}

/// From supervisor to init.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToInit {
    /// Send this signal to the payload.
    Signal(i32),
}

/// No message is longer; a longer one is a defect and refused.
const LONGEST: usize = 64 * 1024;
/// No message carries more descriptors: the kernel's own bound.
const MOST_DESCRIPTORS: usize = 253;

pub(super) fn send(socket: BorrowedFd<'_>, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let numbers: Vec<i32> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let control = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &control[..0] } else { &control[..] };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(&bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// The next message with its descriptors; `None` when the other side is gone.
pub(super) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>, wait: bool) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; LONGEST];
    let mut space = nix::cmsg_space!([i32; MOST_DESCRIPTORS]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
            Err(nix::Error::EINTR) => {}
            // A peer that died with messages unread resets the connection: gone either way.
            Err(nix::Error::ECONNRESET) => return Ok(None),
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

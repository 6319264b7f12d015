//! The payload's streams: relayed with bounded memory, counted, and cut at the cap. Nothing here ever waits for a slow reader.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// One read; also the most that waits for a slow reader.
const CHUNK: usize = 64 * 1024;
/// A pipe or terminal that is ready for writing takes this much without waiting: `PIPE_BUF`.
const SURE_WRITE: usize = 4096;
/// How much of a stream's end is kept for explaining a failure.
const TAIL: usize = 16 * 1024;

/// Takes bytes as they come.
type Take = Box<dyn FnMut(&[u8]) + Send>;

/// Where a stream of the payload goes.
pub enum Destination {
    /// A descriptor of ours, borrowed by number: written only when it is ready.
    Descriptor(OwnedFd),
    /// Memory, up to a cap; what is beyond is dropped and counted.
    Memory(usize),
    Function(Take),
    Nothing,
}

impl fmt::Debug for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Descriptor(_) => "Descriptor",
            Self::Memory(_) => "Memory",
            Self::Function(_) => "Function",
            Self::Nothing => "Nothing",
        })
    }
}

/// One stream from the payload.
#[derive(Debug)]
pub(super) struct Outgoing {
    reader: Option<File>,
    destination: Destination,
    pending: Vec<u8>,
    written: usize,
    pub(super) memory: Vec<u8>,
    tail: VecDeque<u8>,
}

impl Outgoing {
    pub(super) fn new(reader: OwnedFd, destination: Destination) -> io::Result<Self> {
        set_nonblocking(&reader)?;
        Ok(Self { reader: Some(reader.into()), destination, pending: Vec::new(), written: 0, memory: Vec::new(), tail: VecDeque::new() })
    }

    /// A stream whose source comes later: the terminal that init opens.
    pub(super) fn pending(destination: Destination) -> Self {
        Self { reader: None, destination, pending: Vec::new(), written: 0, memory: Vec::new(), tail: VecDeque::new() }
    }

    pub(super) fn attach(&mut self, reader: OwnedFd) -> io::Result<()> {
        set_nonblocking(&reader)?;
        self.reader = Some(reader.into());
        Ok(())
    }

    /// Everything was read and handed on, or nobody reads it any more.
    pub(super) fn done(&self) -> bool {
        self.reader.is_none() && self.pending.is_empty()
    }

    pub(super) fn tail(&self) -> Vec<u8> {
        self.tail.iter().copied().collect()
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Option<PollFd<'_>> {
        if self.pending.is_empty() {
            return self.reader.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN));
        }
        match &self.destination {
            Destination::Descriptor(fd) => Some(PollFd::new(fd.as_fd(), PollFlags::POLLOUT)),
            _ => None,
        }
    }

    /// Reads and writes what is ready, at most `allowance` new bytes. Returns how many bytes were new.
    pub(super) fn turn(&mut self, allowance: u64) -> io::Result<u64> {
        let mut new = 0;
        if self.pending.is_empty() {
            new = self.read(allowance)?;
        }
        self.write()?;
        Ok(new)
    }

    fn read(&mut self, allowance: u64) -> io::Result<u64> {
        let Some(reader) = &self.reader else { return Ok(0) };
        // Room that is written to only where bytes arrive: most looks find none.
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = reader.take(CHUNK as u64).read_to_end(&mut chunk);
        let over = match &read {
            Ok(_) => chunk.len() < CHUNK,
            // How a terminal says that nobody holds its other side.
            Err(e) if e.raw_os_error() == Some(libc::EIO) => true,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => false,
            Err(_) => return read.map(|_| 0),
        };
        if over {
            self.reader = None;
        }
        let new = chunk.len();
        // One byte more than is allowed tells that the cap was passed, and is not handed on.
        chunk.truncate(usize::try_from(allowance).unwrap_or(usize::MAX));
        self.remember(&chunk);
        self.pending = chunk;
        self.written = 0;
        Ok(new as u64)
    }

    fn remember(&mut self, chunk: &[u8]) {
        let keep = &chunk[chunk.len().saturating_sub(TAIL)..];
        let over = (self.tail.len() + keep.len()).saturating_sub(TAIL);
        self.tail.drain(..over.min(self.tail.len()));
        self.tail.extend(keep);
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.pending.len() {
            let rest = &self.pending[self.written..];
            match &mut self.destination {
                Destination::Nothing => self.written = self.pending.len(),
                Destination::Memory(cap) => {
                    let room = cap.saturating_sub(self.memory.len());
                    self.memory.extend(&rest[..rest.len().min(room)]);
                    self.written = self.pending.len();
                }
                Destination::Function(take) => {
                    take(rest);
                    self.written = self.pending.len();
                }
                Destination::Descriptor(fd) => {
                    if !ready_for_writing(fd.as_fd())? {
                        return Ok(());
                    }
                    match nix::unistd::write(fd, &rest[..rest.len().min(SURE_WRITE)]) {
                        Ok(n) => self.written += n,
                        Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Ok(()),
                        // The reader went away, or the disk behind it is full: the payload learns it as it would without us.
                        Err(nix::Error::EPIPE | nix::Error::EIO | nix::Error::EBADF | nix::Error::ENOSPC) => {
                            self.close();
                            return Ok(());
                        }
                        Err(e) => return Err(e.into()),
                    }
                }
            }
        }
        self.pending.clear();
        self.written = 0;
        Ok(())
    }

    /// Reads no more; what was read is still handed on.
    pub(super) fn stop_reading(&mut self) {
        self.reader = None;
    }

    /// Reads no more: the payload's next write fails.
    pub(super) fn close(&mut self) {
        self.reader = None;
        self.pending.clear();
        self.destination = Destination::Nothing;
    }
}

fn ready_for_writing(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLOUT)];
    match poll(&mut fds, PollTimeout::ZERO) {
        Ok(n) => Ok(n > 0),
        Err(nix::Error::EINTR) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// The stream to the payload.
#[derive(Debug)]
pub(super) struct Incoming {
    source: Option<OwnedFd>,
    writer: Option<OwnedFd>,
    pending: Vec<u8>,
}

impl Incoming {
    /// Relays `source` into `writer`: the payload never holds a descriptor of the host's file or terminal.
    pub(super) fn new(source: OwnedFd, writer: OwnedFd) -> io::Result<Self> {
        set_nonblocking(&writer)?;
        Ok(Self { source: Some(source), writer: Some(writer), pending: Vec::new() })
    }

    /// Input whose other side comes later: the terminal that init opens.
    pub(super) fn pending(source: Option<OwnedFd>) -> Self {
        Self { source, writer: None, pending: Vec::new() }
    }

    pub(super) fn attach(&mut self, writer: OwnedFd) {
        self.writer = Some(writer);
    }

    pub(super) fn nothing() -> Self {
        Self { source: None, writer: None, pending: Vec::new() }
    }

    pub(super) fn interest(&self) -> Option<PollFd<'_>> {
        let writer = self.writer.as_ref()?;
        if self.pending.is_empty() {
            self.source.as_ref().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
        } else {
            Some(PollFd::new(writer.as_fd(), PollFlags::POLLOUT))
        }
    }

    /// Called when what [`Self::interest`] named is ready.
    pub(super) fn turn(&mut self) {
        let (Some(source), Some(writer)) = (&self.source, &self.writer) else { return };
        if self.pending.is_empty() {
            let mut chunk = vec![0; CHUNK];
            match nix::unistd::read(source, &mut chunk) {
                Ok(0) => return self.close(),
                Ok(n) => {
                    chunk.truncate(n);
                    self.pending = chunk;
                }
                Err(nix::Error::EAGAIN | nix::Error::EINTR) => return,
                // A terminal that went away is the end of input.
                Err(_) => return self.close(),
            }
        }
        match nix::unistd::write(writer, &self.pending) {
            Ok(n) => drop(self.pending.drain(..n)),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            // The payload reads no more.
            Err(_) => self.close(),
        }
    }

    fn close(&mut self) {
        *self = Self::nothing();
    }
}

pub(super) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
    Ok(fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)?)
}

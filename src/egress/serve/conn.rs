//! A connection with what was read of it and not used yet.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, timeout_at};

use super::super::http1::{Flaw, head_end};

const SMALL: usize = 16 * 1024;
const LARGE: usize = 256 * 1024;

#[derive(Debug)]
pub(crate) struct Conn<S> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
    used: usize,
    /// How much is asked for at once: more when the last read was full.
    wish: usize,
}

/// Why there is no head.
#[derive(Debug)]
pub(crate) enum NoHead {
    Flaw(Flaw),
    /// It began, and did not end in time.
    Slow,
    Gone,
}

impl<S> Conn<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Vec::new(), used: 0, wish: SMALL }
    }

    /// With bytes that were read already.
    pub(crate) fn with(stream: S, pending: Vec<u8>) -> Self {
        Self { stream, buffer: pending, used: 0, wish: SMALL }
    }

    pub(crate) fn pending(&self) -> &[u8] {
        self.buffer.get(self.used..).unwrap_or_default()
    }

    pub(crate) fn consume(&mut self, bytes: usize) {
        self.used = (self.used + bytes).min(self.buffer.len());
        if self.used == self.buffer.len() {
            self.buffer.clear();
            self.used = 0;
        }
    }

    /// Bytes that another owner of the stream has read, and not used.
    pub(crate) fn put_back(&mut self, pending: Vec<u8>) {
        self.buffer = pending;
        self.used = 0;
    }

    pub(crate) fn take_pending(&mut self) -> Vec<u8> {
        let pending = self.pending().to_vec();
        self.buffer = Vec::new();
        self.used = 0;
        pending
    }
}

impl<S: AsyncRead + Unpin> Conn<S> {
    /// Reads more. 0 is the end.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        self.buffer.reserve(self.wish);
        let room = self.buffer.capacity() - self.buffer.len();
        let read = self.stream.read_buf(&mut self.buffer).await?;
        self.wish = if read == room { LARGE.min(self.wish * 2) } else { self.wish.max(SMALL) };
        Ok(read)
    }

    /// Waits for a whole head: how long it is. `None` when the connection ended between requests.
    pub(crate) async fn head(&mut self, idle: Duration, patience: Duration) -> Result<Option<usize>, NoHead> {
        if self.pending().is_empty() {
            // A large body is over; an idle connection keeps no large buffer.
            self.buffer = Vec::new();
            self.wish = SMALL;
            match timeout_at(Instant::now() + idle, self.fill()).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return Ok(None),
            }
        }
        let deadline = Instant::now() + patience;
        let mut looked = 0;
        loop {
            match head_end(self.pending(), looked).map_err(NoHead::Flaw)? {
                Some(end) => return Ok(Some(end)),
                None => looked = self.pending().len(),
            }
            match timeout_at(deadline, self.fill()).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) => return Err(NoHead::Gone),
                Err(_) => return Err(NoHead::Slow),
            }
        }
    }
}

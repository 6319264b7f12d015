//! A request to stop, from the loop to whoever works for it: once for an orderly end, twice for an immediate one.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// One worker's request to stop.
#[derive(Debug)]
pub struct Stop {
    asked: AtomicU8,
    /// What a sandbox listens to: one byte, a signal's number, for each request.
    reader: OwnedFd,
    writer: OwnedFd,
    asleep: Mutex<()>,
    woken: Condvar,
}

impl Stop {
    /// # Errors
    /// When there are no descriptors left.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        Ok(Self { asked: AtomicU8::new(0), reader, writer, asleep: Mutex::new(()), woken: Condvar::new() })
    }

    /// Asks to stop. The first request is passed on to what runs in a sandbox, which has a moment to end; the second ends it.
    pub fn ask(&self) {
        if self.asked.fetch_add(1, Ordering::SeqCst) < 2 {
            // Both bytes fit into the pipe, whoever reads it.
            let _ = nix::unistd::write(&self.writer, &[15]);
        }
        let _guard = self.asleep.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.woken.notify_all();
    }

    /// How often it was asked.
    pub fn count(&self) -> u8 {
        self.asked.load(Ordering::SeqCst)
    }

    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst) > 0
    }

    /// Waits, unless it is asked to stop. True when the whole time passed.
    pub fn sleep(&self, time: Duration) -> bool {
        let guard = self.asleep.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        drop(self.woken.wait_timeout_while(guard, time, |()| !self.is_asked()));
        !self.is_asked()
    }

    /// What a sandbox takes: see [`crate::sandbox::Running::stop_on`].
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn requests(&self) -> io::Result<OwnedFd> {
        self.reader.try_clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_ends_when_it_is_asked_to() {
        let stop = std::sync::Arc::new(Stop::new().expect("a pipe"));
        assert!(stop.sleep(Duration::from_millis(1)) && !stop.is_asked());
        let other = stop.clone();
        let sleeper = std::thread::spawn(move || other.sleep(Duration::from_secs(60)));
        stop.ask();
        assert!(!sleeper.join().expect("no panic"));
        let mut bytes = [0; 8];
        assert_eq!(nix::unistd::read(stop.requests().expect("a copy"), &mut bytes), Ok(1));
        (0..100_000).for_each(|_| stop.ask());
    }
}

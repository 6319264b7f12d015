//! The counter at which one process asks: a local socket inside its sandbox, served from outside for as long as the process lives.
//!
//! What is asked and answered is [`super::ask`]. Whoever stands here is one process of one role by where the socket is: no other sandbox has it.
//! The token beside it is what keeps a word from an earlier attempt, or from another's files, out.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ask::{self, Hearing, Pass, Reply, Said};
use super::folder::RunFolder;
use crate::base::id::hex_text;
use crate::sandbox::plan::HOME;
use crate::sandbox::policy::{Access, Grant, OwnFile, Policy};

/// Where it is, inside.
pub const SOCKET: &str = "/run/cofferdam/socket";
/// Where this program is, inside: first on PATH.
const PROGRAMS: &str = "/run/cofferdam/bin";
const PROGRAM: &str = "cofferdam";
/// Below the private home, which is gone with the process.
const TOKEN: &str = ".cofferdam/token";

/// Who asks waits its turn behind so many.
const MOST_AT_ONCE: usize = 8;
/// Between two looks when nobody can be let in.
const BREATH: Duration = Duration::from_millis(50);
/// A request that is not whole by then is none.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much is read at once.
const PIECE: usize = 64 << 10;

/// Takes what a process said.
pub type Hears = Box<dyn Fn(Said) + Send + Sync>;

/// One process's counter.
pub struct Counter {
    hearing: Mutex<Hearing>,
    /// Since it serves.
    begun: OnceLock<Instant>,
    token: String,
    hears: Hears,
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counter").finish_non_exhaustive()
    }
}

/// Where a process finds its token.
pub fn token_file() -> std::path::PathBuf {
    Path::new(HOME).join(TOKEN)
}

impl Counter {
    /// The pass gets a token that nobody else has.
    ///
    /// # Errors
    /// When there is no chance to be had.
    pub fn new(pass: Pass, hears: Hears) -> io::Result<Self> {
        let mut bytes = [0_u8; 32];
        fs_err::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let token = hex_text(&bytes);
        let pass = Pass { token: token.clone(), ..pass };
        Ok(Self { hearing: Mutex::new(Hearing::new(pass)), begun: OnceLock::new(), token, hears })
    }

    /// Puts it into a sandbox: the socket, this program as its client, and the token.
    ///
    /// # Errors
    /// When a place for it cannot be made, or this program's own file is not found.
    pub fn furnish(&self, folder: &RunFolder, policy: &mut Policy) -> io::Result<()> {
        let program = std::env::current_exe()?;
        if !program.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "this program was replaced since it began; end the run and begin it again",
            ));
        }
        folder.write("socket", b"")?;
        folder.write(&format!("bin/{PROGRAM}"), b"")?;
        policy.socket = Some(SOCKET.into());
        policy.grants.push(Grant {
            host: program,
            inside: Path::new(PROGRAMS).join(PROGRAM),
            access: Access::Read,
            reason: "the client of cofferdam ask".to_owned(),
        });
        policy.files.push(OwnFile { inside: token_file(), content: self.token.clone().into_bytes() });
        let path = policy.environment.iter_mut().find(|(name, _)| name == "PATH");
        match path {
            Some((_, path)) if path.is_empty() => *path = PROGRAMS.into(),
            Some((_, path)) => {
                let mut first = std::ffi::OsString::from(PROGRAMS);
                first.push(":");
                first.push(&*path);
                *path = first;
            }
            None => policy.environment.push(("PATH".into(), format!("{PROGRAMS}:/usr/bin:/bin").into())),
        }
        Ok(())
    }

    /// The process declared its approach in another way.
    pub fn declared(&self, approach: &str) {
        self.hearing().declared(approach);
    }

    fn now(&self) -> Duration {
        self.begun.get_or_init(Instant::now).elapsed()
    }

    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        self.hearing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves until `end` is closed or says something. Whatever comes costs so much memory and time and no more.
    pub fn serve(&self, socket: OwnedFd, end: &OwnedFd) {
        let listener = UnixListener::from(socket);
        self.now();
        if listener.set_nonblocking(true).is_ok() {
            let mut asking = Vec::new();
            while self.turn(&listener, &mut asking, end) {}
        }
        self.hearing().close();
    }

    /// One look at everything that is open. False at the end.
    fn turn(&self, listener: &UnixListener, asking: &mut Vec<Asking>, end: &OwnedFd) -> bool {
        let wait = self.hearing().wait(self.now());
        // Whoever asked too much is not heard for a moment; its end is seen all the same.
        let open = wait.is_zero();
        let mut ready = vec![PollFd::new(end.as_fd(), PollFlags::POLLIN)];
        if open && asking.len() < MOST_AT_ONCE {
            ready.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
        }
        let first = ready.len();
        if open {
            ready.extend(asking.iter().map(|one| PollFd::new(one.stream.as_fd(), PollFlags::POLLIN)));
        }
        let now = Instant::now();
        let patience = asking.iter().map(|one| (one.since + PATIENCE).saturating_duration_since(now)).min();
        let timeout = if open { patience } else { Some(wait) };
        let timeout =
            timeout.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX));
        match poll(&mut ready, timeout) {
            Err(nix::Error::EINTR) => return true,
            Err(_) => return false,
            Ok(_) => {}
        }
        let happened: Vec<bool> = ready.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect();
        drop(ready);
        if happened.first() == Some(&true) {
            return false;
        }
        let mut numbers = happened.iter().skip(first);
        let now = Instant::now();
        asking.retain_mut(|one| {
            let goes_on = !numbers.next().copied().unwrap_or(false) || self.read(one);
            // While nobody is heard, nobody runs out of time.
            goes_on && (!open || now < one.since + PATIENCE)
        });
        if first == 2 && happened.get(1) == Some(&true) {
            match listener.accept() {
                Ok((stream, _)) => {
                    if stream.set_nonblocking(true).is_ok() {
                        asking.push(Asking { stream, line: Vec::new(), since: Instant::now() });
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                // Without a descriptor to be had it goes on waiting, and would be found waiting again at once.
                Err(_) => std::thread::sleep(BREATH),
            }
        }
        true
    }

    /// Reads what is there, and answers when it is whole. False when this one is done.
    fn read(&self, one: &mut Asking) -> bool {
        let mut piece = vec![0; PIECE];
        let length = match one.stream.read(&mut piece) {
            Ok(length) => length,
            Err(error) => return matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        let part = &piece[..length];
        let end = part.iter().position(|byte| *byte == b'\n');
        one.line.extend_from_slice(&part[..end.unwrap_or(length)]);
        let reply = if one.line.len() >= ask::LONGEST {
            Reply::Refused(ask::too_long())
        } else if end.is_some() {
            self.answer(&one.line)
        } else {
            // At the end without a line there is nothing to answer.
            return length != 0;
        };
        // One that does not listen is not waited for.
        drop(one.stream.write_all(&reply.line()));
        drop(one.stream.shutdown(std::net::Shutdown::Write));
        false
    }

    fn answer(&self, line: &[u8]) -> Reply {
        let (reply, said) = self.hearing().hear(line, self.now());
        if let Some(said) = said {
            (self.hears)(said);
        }
        reply
    }
}

/// One connection, and what it said so far.
struct Asking {
    stream: UnixStream,
    line: Vec<u8>,
    since: Instant,
}

/// Asks as a process inside does. The token is the caller's.
///
/// # Errors
/// When there is no counter here, or it does not answer.
pub fn ask(socket: &Path, request: &serde_json::Value) -> io::Result<serde_json::Value> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    let mut line = request.to_string().into_bytes();
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    let read = stream.take(1 << 20).read_to_end(&mut answer);
    if answer.is_empty() {
        read?;
    }
    serde_json::from_slice(&answer).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("its answer cannot be read: {e}")))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::config::Role;
    use serde_json::json;

    /// A counter that is served, as long as this is held.
    struct Served {
        dir: tempfile::TempDir,
        token: String,
        said: Arc<Mutex<Vec<Said>>>,
        end: Option<OwnedFd>,
        thread: Option<std::thread::JoinHandle<()>>,
    }

    impl Served {
        fn new(role: Role) -> Self {
            let dir = tempfile::tempdir().expect("dir");
            let listener = UnixListener::bind(dir.path().join("socket")).expect("a socket");
            let said = Arc::new(Mutex::new(Vec::new()));
            let kept = said.clone();
            let pass = Pass {
                token: String::new(),
                role,
                story: "US-1".to_owned(),
                title: "t".to_owned(),
                criteria: Vec::new(),
                attempt: 1,
                expires: None,
                budget: serde_json::Value::Null,
            };
            let counter = Counter::new(pass, Box::new(move |said| kept.lock().expect("held").push(said))).expect("a counter");
            let token = counter.token.clone();
            let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
            let thread = std::thread::spawn(move || counter.serve(listener.into(), &reader));
            Self { dir, token, said, end: Some(writer), thread: Some(thread) }
        }

        fn socket(&self) -> std::path::PathBuf {
            self.dir.path().join("socket")
        }

        fn ask(&self, what: &str, text: Option<&str>) -> serde_json::Value {
            ask(&self.socket(), &json!({"token": self.token, "ask": what, "text": text})).expect("an answer")
        }
    }

    impl Drop for Served {
        fn drop(&mut self) {
            drop(self.end.take());
            self.thread.take().expect("once").join().expect("no panic");
        }
    }

    #[test]
    fn a_request_is_heard_and_answered() {
        let served = Served::new(Role::Implementer);
        assert_eq!(served.token.len(), 64);
        assert_eq!(served.ask("status", None)["story"], "US-1");
        assert_eq!(served.ask("progress", Some("half"))["ok"], true);
        assert_eq!(served.ask("verdict", Some("{}"))["ok"], false);
        assert_eq!(*served.said.lock().expect("held"), [Said::Progress("half".to_owned())]);
    }

    #[test]
    fn half_lines_garbage_and_a_flood_of_connections_keep_nobody_from_being_heard() {
        let served = Served::new(Role::Implementer);
        // More than are served at once say half a line and stay: they are sent away in time.
        let halves: Vec<UnixStream> = (0..2 * MOST_AT_ONCE)
            .map(|_| {
                let mut stream = UnixStream::connect(served.socket()).expect("connected");
                stream.write_all(b"{\"ask\":").expect("written");
                stream
            })
            .collect();
        let begun = Instant::now();
        assert_eq!(served.ask("progress", Some("still here"))["ok"], true);
        assert!(begun.elapsed() < 4 * PATIENCE, "{:?}", begun.elapsed());
        drop(halves);
        // A line without an end is read so far and no further.
        let mut endless = UnixStream::connect(served.socket()).expect("connected");
        endless.set_write_timeout(Some(Duration::from_secs(10))).expect("set");
        let (piece, mut sent) = (vec![b'x'; 1 << 16], 0_usize);
        while endless.write_all(&piece).is_ok() && sent < (64 << 20) {
            sent += piece.len();
        }
        assert!(sent < (8 << 20), "it took {sent} bytes of a line without an end");
        let mut binary = UnixStream::connect(served.socket()).expect("connected");
        binary.write_all(b"\0\xff\x1b[2J\n").expect("written");
        let mut answer = String::new();
        binary.read_to_string(&mut answer).expect("an answer");
        assert!(answer.contains("\"ok\":false"), "{answer}");
        assert_eq!(served.ask("status", None)["ok"], true);
    }

    #[test]
    fn a_flood_of_requests_is_measured() {
        let served = Served::new(Role::Implementer);
        let (begun, count) = (Instant::now(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    while begun.elapsed() < Duration::from_secs(2) {
                        drop(ask(&served.socket(), &json!({"token": served.token, "ask": "progress", "text": "x"})));
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
        });
        // Twenty at once and five a second, and those that were on their way.
        assert!(count.load(Ordering::SeqCst) <= 60, "{count:?} were heard");
        assert!(served.said.lock().expect("held").len() >= 20);
    }
}

//! Watches one sandbox from outside until nothing of it is left: streams, limits, denials, signals.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::base::size::Size;

use super::cgroup::{Enforced, Group, Usage};
use super::command::{Finished, SandboxError, io_error};
use super::disk;
use super::engine::{Engine, Hold, Vessel};
use super::message::{FromInit, Handed, ToInit, receive, send};
use super::outcome::{Cause, OUTCOME_VERSION, Outcome, exit_code};
use super::plan::{Plan, Probe};
use super::policy::{Policy, Upper, WorkspaceSource};
use super::receipt::{self, Kept};
use super::streams::{Incoming, Outgoing};
use super::sys::{self, Apart};
use super::usage::{self, Seen};
use super::watch::{self, Connections};

/// How often limits are looked at that the kernel does not watch for us.
const TICK: Duration = Duration::from_millis(25);
/// The same for the disk, whose question costs more.
const DISK_TICK: Duration = Duration::from_millis(50);
/// Less of one processor than this share of the time is none: what waits for nothing still looks at its clock now and then.
const IDLE_SHARE: u32 = 200;
/// How often a silence is looked at: so many times while it is as long as it may be.
const SILENCE_LOOKS: u32 = 16;
/// Where no namespace ends them together, a process may outlive the others by this much with an open pipe.
const ORPHAN_OUTPUT_MS: u16 = 500;
/// How long a command that was asked to stop may take before it is ended.
const GRACE: Duration = Duration::from_secs(2);
/// A command that runs for longer than this is none of those whose end is to be heard on a processor of our own.
const STAYS: Duration = Duration::from_millis(20);

/// Everything that [`Running`] is made from.
pub(super) struct Wiring<'a> {
    pub(super) engine: &'a Engine,
    pub(super) policy: &'a Policy,
    pub(super) plan: Plan,
    pub(super) group: Group,
    pub(super) vessel: Vessel,
    /// The processor that init leaves to us, when it may be kept.
    pub(super) apart: Option<Apart>,
    pub(super) stdin: Incoming,
    pub(super) stdout: Option<Outgoing>,
    pub(super) stderr: Option<Outgoing>,
    pub(super) started: Instant,
}

/// A sandbox that runs. Dropping it ends everything inside.
#[derive(Debug)]
pub struct Running<'a> {
    engine: &'a Engine,
    policy: &'a Policy,
    plan: Plan,
    hold: Hold,
    apart: Option<Apart>,
    enforced: Enforced,
    /// Is there still something to be heard from init?
    hears: bool,
    stdin: Incoming,
    stdout: Option<Outgoing>,
    stderr: Option<Outgoing>,
    started: Instant,
    probes: Vec<(Probe, bool)>,
    watch: Option<OwnedFd>,
    processes: Option<OwnedFd>,
    private: Option<OwnedFd>,
    upper: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    listeners: Vec<OwnedFd>,
    socket: Option<OwnedFd>,
    /// Where the caller's requests to stop arrive.
    requests: Option<OwnedFd>,
    asked: Option<(i32, Instant)>,
    disk: Option<disk::Watch>,
    /// When the supervised limits and the disk were last looked at.
    sampled: Instant,
    measured: Instant,
    connections: Connections,
    output_bytes: u64,
    seen: Seen,
    /// When it last printed or worked, and how much it had printed and worked then.
    stirred: Instant,
    stirred_at: (u64, Duration),
    listened: Instant,
    /// When the group's counters were read last: not every limit of it wakes us.
    looked: Instant,
    ended: Option<FromInit>,
    /// Has init said that nobody else is left?
    emptied: bool,
    /// What the group had used when the payload ended: read while init takes the sandbox down.
    used: Option<Usage>,
    stopped: Option<(Cause, String)>,
    gone: Option<Instant>,
}

impl std::fmt::Debug for Wiring<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wiring").finish_non_exhaustive()
    }
}

impl<'a> Running<'a> {
    /// Waits until the sandbox is complete, or says which step failed.
    pub(super) fn begin(wiring: Wiring<'a>) -> Result<Self, SandboxError> {
        let Wiring { engine, policy, plan, group, vessel, apart, stdin, stdout, stderr, started } = wiring;
        let _staying = apart.map(Apart::stay);
        let enforced = group.enforced();
        let mut running = Self {
            engine,
            policy,
            plan,
            hold: Hold { vessel, group },
            apart,
            enforced,
            hears: true,
            stdin,
            stdout,
            stderr,
            started,
            probes: Vec::new(),
            watch: None,
            processes: None,
            private: None,
            upper: None,
            terminal: None,
            listeners: Vec::new(),
            socket: None,
            requests: None,
            asked: None,
            disk: None,
            sampled: started,
            measured: started,
            connections: Connections::default(),
            output_bytes: 0,
            seen: Seen::default(),
            stirred: started,
            stirred_at: (0, Duration::ZERO),
            listened: started,
            looked: started,
            ended: None,
            emptied: false,
            used: None,
            stopped: None,
            gone: None,
        };
        match receive::<FromInit>(running.hold.vessel.control(), true).map_err(io_error("no word from the sandbox"))? {
            Some((FromInit::Ready { probes, descriptors }, fds)) => {
                running.probes = probes;
                running.take(descriptors.into_iter().zip(fds)).map_err(io_error("the sandbox's terminal"))?;
            }
            Some((FromInit::Failed { step, errno, detail }, _)) => return Err(SandboxError::Step { step, errno, detail }),
            Some(_) | None => return Err(SandboxError::Vanished),
        }
        running.disk = running.watch_disk().map_err(io_error("the workspace cannot be watched"))?;
        Ok(running)
    }

    /// While the command runs there is time for what the engine has put off.
    pub(super) fn settle(&self) {
        self.engine.settle(&self.plan);
    }

    fn take(&mut self, handed: impl Iterator<Item = (Handed, OwnedFd)>) -> io::Result<()> {
        for (what, fd) in handed {
            match what {
                Handed::Watch => self.watch = Some(fd),
                Handed::Processes => self.processes = Some(fd),
                Handed::Private => self.private = Some(fd),
                Handed::Upper => self.upper = Some(fd),
                Handed::Listener(_) => self.listeners.push(fd),
                Handed::Socket => self.socket = Some(fd),
                Handed::Terminal => {
                    if let Some(stdout) = &mut self.stdout {
                        stdout.attach(fd.try_clone()?)?;
                    }
                    self.stdin.attach(fd.try_clone()?);
                    self.terminal = Some(fd);
                }
            }
        }
        Ok(())
    }

    fn watch_disk(&self) -> io::Result<Option<disk::Watch>> {
        let limits = (self.policy.limits.disk.map(Size::bytes), self.policy.limits.files);
        if limits == (None, None) {
            return Ok(None);
        }
        let on_disk = |upper: &Upper| if let Upper::Folders { upper, .. } = upper { Some(upper.clone()) } else { None };
        let workspace = match &self.policy.workspace.source {
            _ if self.policy.workspace.access == super::policy::Access::Read => None,
            WorkspaceSource::Folder(folder) => Some(folder.clone()),
            // A private one's own file system is bounded.
            WorkspaceSource::Overlay { upper, .. } => on_disk(upper),
        };
        let folders = workspace.into_iter().chain(self.policy.caches.iter().filter_map(|cache| on_disk(&cache.upper)));
        let folders: Vec<OwnedFd> = folders.map(|folder| Ok(fs_err::File::open(folder)?.into_file().into())).collect::<io::Result<_>>()?;
        if folders.is_empty() { Ok(None) } else { disk::Watch::new(folders, limits).map(Some) }
    }

    /// The sockets that were opened inside, in the policy's order.
    pub fn listeners(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.listeners)
    }

    /// The local socket that was opened inside, when the policy has one.
    pub fn socket(&mut self) -> Option<OwnedFd> {
        self.socket.take()
    }

    /// The payload's terminal, for its size.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.terminal.as_ref().map(AsFd::as_fd)
    }

    /// What arrives on `requests` (a pipe of signal numbers, one byte each, or a signal descriptor) is passed on to the command; the second
    /// one, or a command that does not follow the first, ends everything.
    pub fn stop_on(&mut self, requests: OwnedFd) {
        self.requests = Some(requests);
    }

    /// Waits until everything inside has ended and every byte of output is handed on.
    ///
    /// # Errors
    /// When the supervisor itself cannot go on; everything inside is ended then.
    pub fn wait(mut self) -> Result<Finished, SandboxError> {
        // For the shortest commands, whose end init announces at once. Whatever threads there will be have begun.
        let mut staying = self.apart.map(Apart::stay);
        while !self.finished() {
            if self.started.elapsed() >= STAYS {
                drop(staying.take());
            }
            self.turn().map_err(io_error("the sandbox cannot be watched any more"))?;
        }
        Ok(self.conclude())
    }

    fn finished(&self) -> bool {
        let done = |stream: &Option<Outgoing>| stream.as_ref().is_none_or(Outgoing::done);
        self.gone.is_some() && done(&self.stdout) && done(&self.stderr)
    }

    /// One round: wait for something to happen, and answer it.
    fn turn(&mut self) -> io::Result<()> {
        let timeout = self.timeout();
        let ready = self.poll(timeout)?;
        if ready.watch
            && let Some(watch) = &self.watch
        {
            // A call whose caller vanished is no reason to stop.
            drop(self.connections.take(watch.as_fd()));
        }
        if ready.watch_over {
            // Nobody uses the filter any more; its descriptor would be "ready" until everything is gone.
            self.watch = None;
        }
        if ready.requests {
            self.asked_to_stop();
        }
        if ready.stdin {
            self.stdin.turn();
        }
        self.relay_output()?;
        if self
            .gone
            .is_some_and(|since| !self.hold.vessel.has_pid_namespace() && since.elapsed() >= Duration::from_millis(ORPHAN_OUTPUT_MS.into()))
        {
            // Whoever still holds the pipes is none of ours to wait for.
            self.stdout.iter_mut().chain(&mut self.stderr).for_each(Outgoing::stop_reading);
        }
        if ready.group || self.hold.group.look_every().is_some_and(|every| self.looked.elapsed() >= every) {
            self.check_group();
        }
        self.check_limits();
        if ready.control {
            self.hear()?;
        }
        if ready.pidfd && self.gone.is_none() {
            // Messages that init sent before it ended are still in the socket.
            self.hear()?;
            self.hold.vessel.reap();
            self.hold.end_orphans();
        } else if !self.said_over() || self.gone.is_some() {
            return Ok(());
        }
        self.gone = Some(Instant::now());
        self.stdin = Incoming::nothing();
        Ok(())
    }

    fn poll(&self, timeout: PollTimeout) -> io::Result<Ready> {
        let mut fds: Vec<(Source, PollFd<'_>)> = Vec::with_capacity(12);
        let input = PollFlags::POLLIN;
        if self.gone.is_none() {
            fds.push((Source::Pidfd, PollFd::new(self.hold.vessel.pidfd(), input)));
            fds.extend(self.hears.then(|| (Source::Control, PollFd::new(self.hold.vessel.control(), input))));
            fds.extend(self.watch.as_ref().map(|fd| (Source::Watch, PollFd::new(fd.as_fd(), input))));
            fds.extend(self.hold.group.events().map(|(fd, flags)| (Source::Group, PollFd::new(fd, flags))));
            fds.extend(self.stdin.interest().map(|fd| (Source::Stdin, fd)));
        }
        fds.extend(self.requests.as_ref().map(|fd| (Source::Requests, PollFd::new(fd.as_fd(), input))));
        fds.extend(self.stdout.iter().chain(&self.stderr).filter_map(Outgoing::interest).map(|fd| (Source::Output, fd)));
        let (sources, mut polled): (Vec<Source>, Vec<PollFd<'_>>) = fds.into_iter().unzip();
        match poll(&mut polled, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut ready = Ready::default();
        for (source, fd) in sources.into_iter().zip(&polled) {
            if fd.revents().is_some_and(|events| !events.is_empty()) {
                match source {
                    Source::Pidfd => ready.pidfd = true,
                    Source::Control => ready.control = true,
                    Source::Watch if fd.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP)) => ready.watch_over = true,
                    Source::Watch => ready.watch = true,
                    Source::Group => ready.group = true,
                    Source::Stdin => ready.stdin = true,
                    Source::Requests => ready.requests = true,
                    Source::Output => {}
                }
            }
        }
        Ok(ready)
    }

    /// Until when nothing needs to be looked at by itself.
    fn timeout(&self) -> PollTimeout {
        if self.gone.is_some() {
            return if self.hold.vessel.has_pid_namespace() { PollTimeout::NONE } else { PollTimeout::from(ORPHAN_OUTPUT_MS) };
        }
        let limits = &self.policy.limits;
        let mut wait: Option<Duration> = None;
        let mut at_most = |d: Duration| wait = Some(wait.map_or(d, |w| w.min(d)));
        if let Some(wall) = limits.wall {
            at_most(wall.saturating_sub(self.started.elapsed()));
        }
        if let Some((_, deadline)) = self.asked {
            at_most(deadline.saturating_duration_since(Instant::now()));
        }
        if self.supervises() {
            at_most(TICK);
        }
        if let Some(every) = self.hold.group.look_every().filter(|_| self.enforced.pids) {
            at_most(every.saturating_sub(self.looked.elapsed()));
        }
        if self.measures_disk() {
            at_most(DISK_TICK);
        }
        if let Some(silence) = limits.silence {
            at_most(look_after(silence).saturating_sub(self.listened.elapsed()));
        }
        // Rounded up: a deadline is looked at when it has passed, not just before.
        wait.map_or(PollTimeout::NONE, |d| PollTimeout::try_from(d.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX))
    }

    /// Is there a limit that only we watch?
    fn supervises(&self) -> bool {
        let limits = &self.policy.limits;
        (limits.memory.is_some() && !self.enforced.memory) || (limits.pids.is_some() && !self.enforced.pids) || limits.cpu_time.is_some()
    }

    fn measures_disk(&self) -> bool {
        self.policy.limits.disk.is_some() || self.policy.limits.files.is_some()
    }

    fn relay_output(&mut self) -> io::Result<()> {
        let cap = self.policy.limits.output.map_or(u64::MAX, Size::bytes);
        let mut over = false;
        for stream in self.stdout.iter_mut().chain(&mut self.stderr) {
            let new = stream.turn(cap.saturating_sub(self.output_bytes))?;
            self.output_bytes = self.output_bytes.saturating_add(new);
            over |= self.output_bytes > cap;
        }
        if over {
            self.output_bytes = self.output_bytes.min(cap);
            self.end(Cause::Output, "it wrote more output than it may");
            for stream in self.stdout.iter_mut().chain(&mut self.stderr) {
                stream.stop_reading();
            }
        }
        Ok(())
    }

    fn check_group(&mut self) {
        self.looked = Instant::now();
        let usage = self.hold.group.usage();
        if usage.oom_kills > 0 {
            self.end(Cause::Memory, "it used more memory than it may");
        } else if usage.pids_max_hits > 0 {
            self.end(Cause::Pids, "it started more processes than it may");
        }
    }

    fn check_limits(&mut self) {
        if self.gone.is_some() || self.stopped.is_some() {
            return;
        }
        let limits = self.policy.limits;
        if limits.wall.is_some_and(|wall| self.started.elapsed() >= wall) {
            self.end(Cause::Wall, "its time was up");
        }
        if self.asked.is_some_and(|(_, deadline)| Instant::now() >= deadline) {
            self.end(Cause::Cancelled, "it did not stop when it was asked to");
        }
        if self.supervises() && due(&mut self.sampled, TICK) {
            self.sample();
        }
        if let Some(silence) = limits.silence
            && due(&mut self.listened, look_after(silence))
        {
            self.check_silence(silence);
        }
        if self.measures_disk() && due(&mut self.measured, DISK_TICK) {
            self.check_disk();
        }
    }

    /// A hung process neither prints nor works. One that waits for a slow answer does the same: the limit is to be longer than that.
    fn check_silence(&mut self, silence: Duration) {
        let cpu = self.hold.group.usage().cpu.unwrap_or_else(|| match &self.processes {
            Some(processes) => usage::look(processes.as_fd()).cpu,
            None => usage::look_below(self.hold.vessel.pid()).cpu,
        });
        let (printed, worked) = self.stirred_at;
        // Where `/proc` counts, the time of who ended may be gone again: that is life too.
        let idles = cpu.checked_sub(worked).is_some_and(|more| more < silence / IDLE_SHARE);
        if self.output_bytes != printed || !idles {
            self.stirred = self.listened;
            self.stirred_at = (self.output_bytes, cpu);
        } else if self.stirred.elapsed() >= silence {
            let how_long = crate::base::duration::display(silence);
            self.end(Cause::Silence, &format!("it printed nothing and used no processor for {how_long}"));
        }
    }

    fn check_disk(&mut self) {
        match self.disk.as_ref().map(disk::Watch::passed) {
            Some(Ok((true, _))) => self.end(Cause::Disk, "it wrote more to its workspace than it may"),
            Some(Ok((_, true))) => self.end(Cause::Files, "it made more files in its workspace than it may"),
            _ => self.check_private(),
        }
    }

    fn check_private(&mut self) {
        let full: Vec<_> = self.bounded().filter_map(|folder| disk::full(folder.as_fd()).ok()).collect();
        if full.iter().any(|(bytes, _)| *bytes) {
            self.end(Cause::Disk, "its private folders are full");
        } else if full.iter().any(|(_, files)| *files) {
            self.end(Cause::Files, "its private folders hold as many files as they may");
        }
    }

    /// The folders in memory of a fixed size: the private ones, and what takes the writes of a throw-away overlay.
    fn bounded(&self) -> impl Iterator<Item = &OwnedFd> {
        let in_memory = matches!(self.policy.workspace.source, WorkspaceSource::Overlay { upper: Upper::Private, .. });
        self.private.iter().chain(self.upper.as_ref().filter(move |_| in_memory))
    }

    fn sample(&mut self) {
        let limits = self.policy.limits;
        let private = self.private.as_ref().and_then(|folder| disk::held(folder.as_fd()).ok()).unwrap_or(0);
        let now = match &self.processes {
            Some(processes) => usage::look(processes.as_fd()),
            None => usage::look_below(self.hold.vessel.pid()),
        };
        let now = now.with_private(private);
        self.seen = self.seen.max(now);
        if !self.enforced.memory && limits.memory.is_some_and(|limit| now.memory > limit.bytes()) {
            return self.end(Cause::Memory, "it used more memory than it may");
        }
        // The kernel lets no more in, so "as many as it may" is what a fork bomb looks like.
        if !self.enforced.pids && limits.pids.is_some_and(|limit| now.processes >= limit) {
            return self.end(Cause::Pids, "it started as many processes as it may");
        }
        let cpu = self.hold.group.usage().cpu.unwrap_or(now.cpu);
        if limits.cpu_time.is_some_and(|limit| cpu >= limit) {
            self.end(Cause::Cpu, "it used more processor time than it may");
        }
    }

    fn asked_to_stop(&mut self) {
        let Some(requests) = &self.requests else { return };
        // Bytes from a pipe, or the kernel's record from a signal descriptor, which begins with the number.
        let mut record = [0; 128];
        match nix::unistd::read(requests, &mut record) {
            Ok(0) => self.requests = None,
            Ok(128) => self.asked_for(i32::from_ne_bytes([record[0], record[1], record[2], record[3]])),
            // Two that came at once are two.
            Ok(count) => record[..count].iter().for_each(|signal| self.asked_for(i32::from(*signal))),
            Err(_) => {}
        }
    }

    fn asked_for(&mut self, signal: i32) {
        if signal == libc::SIGWINCH {
            if let Some(terminal) = &self.terminal {
                // A terminal without a size keeps the old one.
                drop(sys::copy_window_size(sys::standard(0), terminal.as_fd()));
            }
            return;
        }
        if self.asked.is_some() {
            return self.end(Cause::Cancelled, "it was told to stop twice");
        }
        self.asked = Some((signal, Instant::now() + GRACE));
        if self.hears {
            // A payload that is already gone needs no signal.
            drop(send(self.hold.vessel.control(), &ToInit::Signal(signal), &[]));
        }
    }

    fn hear(&mut self) -> io::Result<()> {
        while self.hears {
            match receive::<FromInit>(self.hold.vessel.control(), false) {
                Ok(Some((FromInit::Ready { .. }, _))) => {}
                Ok(Some((message, _))) => {
                    self.emptied |= matches!(message, FromInit::Ended { .. });
                    // The end that follows a failed exec is only its echo.
                    if self.ended.is_none() {
                        self.ended = Some(message);
                        self.used = Some(self.hold.group.usage());
                    }
                }
                Ok(None) => self.hears = false,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Is it over although init may still be there? Init says that nobody else is left; its own end frees what was mounted, and nobody
    /// waits for that unless layers are wanted again.
    fn said_over(&self) -> bool {
        self.emptied && self.hold.vessel.has_pid_namespace() && !self.policy.borrows_layers()
    }

    /// Ends everything inside, for the first reason that came up.
    fn end(&mut self, cause: Cause, detail: &str) {
        if self.stopped.is_none() && self.gone.is_none() {
            self.stopped = Some((cause, detail.to_owned()));
            self.hold.kill();
        }
    }

    fn conclude(mut self) -> Finished {
        let wall = self.started.elapsed();
        let used = self.used.unwrap_or_else(|| self.hold.group.usage());
        let processes_left = self.hold.group.processes().len() as u64;
        let (cause, exit_code, signal, detail) = self.verdict(used.oom_kills, used.pids_max_hits);
        let (own_cpu, own_peak, left) = match &self.ended {
            Some(FromInit::Ended { cpu_ms, peak_memory_bytes, left, .. }) => (*cpu_ms, *peak_memory_bytes, *left),
            _ => (0, 0, 0),
        };
        let mut denials = self.connections.denials(self.policy);
        if exit_code != 0
            && let Some(errors) = self.stderr.as_ref().or(self.stdout.as_ref())
        {
            let errors = errors.tail();
            watch::answers_told(&mut denials, &errors);
            denials.extend(watch::paths_denied(self.policy, &errors));
        }
        let kept = Kept {
            group: self.enforced,
            mode: self.engine.cgroups().mode().name(),
            detail: self.engine.cgroups().detail(),
            probes: &self.probes,
        };
        let outcome = Outcome {
            version: OUTCOME_VERSION,
            cause,
            exit_code,
            signal,
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            cpu_ms: used.cpu.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX)).max(own_cpu),
            peak_memory_bytes: used.memory_peak.unwrap_or(0).max(own_peak).max(self.seen.memory),
            peak_pids: used.pids_peak.unwrap_or(0).max(self.seen.processes).max(left + 1),
            output_bytes: self.output_bytes,
            processes_left,
            detail,
            denials,
            receipt: receipt::receipt(&self.engine.facts, &self.plan, &self.policy.limits, &kept),
        };
        if !self.hold.vessel.has_ended() {
            self.engine.let_go(self.hold);
        }
        let memory = |stream: &mut Option<Outgoing>| stream.take().map(|s| s.memory).unwrap_or_default();
        Finished { outcome, stdout: memory(&mut self.stdout), stderr: memory(&mut self.stderr), upper: self.upper.take() }
    }

    /// What ended the command, from what was seen; the limit that was hit comes before what it looked like from inside.
    fn verdict(&self, oom_kills: u64, pids_max_hits: u64) -> (Cause, i32, Option<i32>, Option<String>) {
        let killed = Some(libc::SIGKILL);
        if let Some((cause, detail)) = &self.stopped {
            let detail = Some(detail.clone());
            return match (cause, self.asked) {
                (Cause::Wall, _) => (Cause::Wall, exit_code::WALL, killed, detail),
                (Cause::Cancelled, Some((signal, _))) => (Cause::Cancelled, exit_code::signalled(signal), killed, detail),
                (cause, _) => (*cause, exit_code::KILLED, killed, detail),
            };
        }
        if oom_kills > 0 {
            return (Cause::Memory, exit_code::KILLED, killed, Some("it used more memory than it may".to_owned()));
        }
        match &self.ended {
            Some(FromInit::ExecFailed { errno }) => {
                let not_found = matches!(*errno, libc::ENOENT | libc::ENOTDIR);
                let code = if not_found { exit_code::NOT_FOUND } else { exit_code::NOT_EXECUTABLE };
                (Cause::ExecFailed, code, None, Some(io::Error::from_raw_os_error(*errno).to_string()))
            }
            Some(FromInit::Failed { step, detail, .. }) => {
                (Cause::ExecFailed, exit_code::NOT_EXECUTABLE, None, Some(format!("{step}: {detail}")))
            }
            Some(FromInit::Ended { code, signal, left, .. }) => {
                let shown = code.unwrap_or_else(|| exit_code::signalled(signal.unwrap_or(0)));
                if let Some((signal, _)) = self.asked {
                    return (Cause::Cancelled, exit_code::signalled(signal), Some(signal), None);
                }
                // A shell reports the signal that ended its command as its own code.
                let by = signal.or_else(|| code.filter(|c| *c > 128).map(|c| c - 128));
                let limits = &self.policy.limits;
                let file_too_large = by == Some(libc::SIGXFSZ) && (limits.file_size.is_some() || limits.disk.is_some());
                // As if it had been noticed a moment earlier: whoever ends between two looks has still lost what it could not write.
                let (disk_full, files_full) = self.is_full();
                if files_full && !disk_full && !file_too_large {
                    return (Cause::Files, exit_code::KILLED, *signal, Some("it made as many files as it may".to_owned()));
                }
                if (shown != 0 && file_too_large) || disk_full {
                    return (Cause::Disk, exit_code::KILLED, *signal, Some("a file or a private folder grew beyond its limit".to_owned()));
                }
                if limits.cpu_time.is_some() && matches!(by, Some(libc::SIGXCPU | libc::SIGKILL)) {
                    return (Cause::Cpu, exit_code::KILLED, *signal, Some("it used more processor time than it may".to_owned()));
                }
                // Without a group that counts: the payload failed, and was one of as many as there may be.
                let crowded = !self.enforced.pids && limits.pids.is_some_and(|limit| *left + 1 >= limit);
                if shown != 0 && (pids_max_hits > 0 || crowded) {
                    return (Cause::Pids, exit_code::KILLED, *signal, Some("it started more processes than it may".to_owned()));
                }
                let cause = if code.is_some() { Cause::Exited } else { Cause::Signalled };
                (cause, shown, *signal, None)
            }
            // Init was killed and nobody here did it.
            _ => (Cause::Signalled, exit_code::KILLED, killed, Some("the sandbox's first process was killed from outside".to_owned())),
        }
    }

    /// Is the disk limit reached at the end, and the files limit? Both in the private folders and in the workspace.
    fn is_full(&self) -> (bool, bool) {
        let workspace = self.disk.as_ref().and_then(|watch| watch.passed().ok()).unwrap_or_default();
        let full = self.bounded().filter_map(|folder| disk::full(folder.as_fd()).ok());
        full.fold(workspace, |all, one| (all.0 || one.0, all.1 || one.1))
    }
}

/// Has `every` passed since `last`? Then it counts from now on.
fn due(last: &mut Instant, every: Duration) -> bool {
    let now = Instant::now();
    let due = now.duration_since(*last) >= every;
    if due {
        *last = now;
    }
    due
}

/// The pause between two looks at a silence.
fn look_after(silence: Duration) -> Duration {
    (silence / SILENCE_LOOKS).clamp(TICK, Duration::from_secs(5))
}

enum Source {
    Pidfd,
    Control,
    Watch,
    Group,
    Stdin,
    Requests,
    Output,
}

#[derive(Default)]
struct Ready {
    pidfd: bool,
    control: bool,
    watch: bool,
    watch_over: bool,
    group: bool,
    stdin: bool,
    requests: bool,
}

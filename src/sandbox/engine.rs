//! What sandboxes of one process share: what the host can do, where groups are made, who forks, and hulls that are built ahead.
//!
//! A hull is the part of a sandbox that no policy decides. In a process that runs one sandbox after the other, the next hull is built
//! while the last one is in use; `cofferdam exec` has one built while it still reads its profile. A hull is used once, by whoever wants
//! exactly its steps; else it is thrown away, and nothing but time is lost.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};

use super::cgroup::{Cgroups, Group, Mode};
use super::command::{Sandbox, SandboxError, io_error};
use super::helper::Helper;
use super::launch::{self, Hull, Launched};
use super::message;
use super::plan::{self, Facts, Namespace, Plan, Step};
use super::policy::{Grant, Limits, Policy, Tier};
use super::prepare::{self, Owners};
use super::sys::Apart;
use super::{reaper, sys};

/// So many may be about to end, with their descriptors and groups, while nobody wants another sandbox.
const MOST_LEAVING: usize = 4;

/// What sandboxes of one process share.
#[derive(Debug)]
pub struct Engine {
    /// Sandboxes in which nobody is left but a first process that is about to end.
    leaving: Mutex<VecDeque<Hold>>,
    forker: Forker,
    pub facts: Facts,
    /// Found when they are needed first: a sandbox can be begun before.
    cgroups: OnceLock<Cgroups>,
    owners: Mutex<Owners>,
}

#[derive(Debug)]
enum Forker {
    /// This process is single-threaded and forks by itself.
    Here(Box<Mutex<Option<Vessel>>>),
    Helper(Box<Mutex<Line>>),
}

/// The line to the helper, and what was built ahead through it.
#[derive(Debug)]
struct Line {
    helper: Helper,
    /// A hull that was asked for and not answered yet.
    asked: Option<Asked>,
    spare: Option<Vessel>,
    /// Did it not fit the last plan?
    missed: bool,
    /// Has a sandbox been run? A process that runs only one needs none ahead.
    busy: bool,
}

#[derive(Debug)]
struct Asked {
    hull: Hull,
    shown: Shown,
    control: OwnedFd,
    group: Group,
}

/// A hull, and its first process, which waits for orders. Dropping it ends it, unless it has ended.
#[derive(Debug)]
pub(super) struct Vessel {
    hull: Hull,
    shown: Shown,
    pid: i32,
    pidfd: OwnedFd,
    control: OwnedFd,
    group: Option<Group>,
    /// Is it our own child, which leaves a zombie?
    child: bool,
    apart: Option<Apart>,
    ended: bool,
}

impl Vessel {
    fn new(hull: Hull, launched: Launched, control: OwnedFd, group: Option<Group>, child: bool) -> Self {
        let Launched { pid, pidfd, apart } = launched;
        Self { hull, shown: Shown::default(), pid, pidfd, control, group, child, apart, ended: false }
    }

    pub(super) fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sees to it that it leaves this processor to its supervisor. One that was launched by its supervisor has done so all along; such a
    /// supervisor, which has nothing else to do, may stay there.
    pub(super) fn apart(&self) -> Option<Apart> {
        if self.apart.is_none() {
            Apart::from(self.pid);
        }
        self.apart
    }

    pub(super) fn has_pid_namespace(&self) -> bool {
        self.hull.has(Namespace::Pid)
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// What is left of a plan for it; `None` when it was built for another one, or has ended.
    fn rest(&self, plan: &Plan) -> Option<Vec<Step>> {
        let (hull, rest) = plan.steps.split_at(plan.hull);
        if self.hull.steps == hull && self.waits() { plan::without(rest, &self.shown.steps) } else { None }
    }

    /// Does it wait, as far as it has said?
    fn waits(&self) -> bool {
        let mut fds = [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// Has its first process ended by now?
    fn is_over(&self) -> bool {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// Until its first process has ended: nothing may be left then, and the group, which is removed next, must be empty.
    fn wait(&self) {
        let mut fds = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        while matches!(poll(&mut fds, PollTimeout::NONE), Err(nix::Error::EINTR)) {}
    }

    /// Its first process has ended: takes the zombie away.
    pub(super) fn reap(&mut self) {
        if !std::mem::replace(&mut self.ended, true) && self.child {
            let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(self.pid), None);
        }
    }
}

impl Drop for Vessel {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        drop(sys::pidfd_send_signal(self.pidfd.as_fd(), libc::SIGKILL));
        self.wait();
        self.reap();
    }
}

/// A sandbox as the kernel holds it: its first process, and the group of everybody else. Dropping it ends who is alive, waits for that, and
/// takes the group away.
#[derive(Debug)]
pub(super) struct Hold {
    /// Before its group, which must be empty to go.
    pub(super) vessel: Vessel,
    pub(super) group: Group,
}

impl Hold {
    pub(super) fn kill(&self) {
        if self.vessel.has_pid_namespace() {
            // With its first process the kernel ends the whole namespace.
            drop(sys::pidfd_send_signal(self.vessel.pidfd(), libc::SIGKILL));
        } else {
            // Init ends everything below it when it hears that we are gone; the group makes sure.
            let _ = shutdown(self.vessel.control.as_raw_fd(), Shutdown::Both);
            drop(self.group.kill());
        }
    }

    /// Without a pid namespace init's end is not everybody's: whoever it left behind is ended here.
    pub(super) fn end_orphans(&self) {
        if !self.vessel.has_pid_namespace() {
            drop(self.group.kill());
            if self.vessel.child {
                // We are the next reaper above init.
                reaper::end_descendants();
            }
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.vessel.ended {
            self.kill();
            // By itself, so that one without a pid namespace can end what it started.
            self.vessel.wait();
            self.vessel.reap();
        }
    }
}

/// A hull that is built while its owner still finds out what it is for.
#[derive(Debug)]
pub struct Early(Vessel);

impl Early {
    /// Begins to build the usual one. None where it would not help, or cannot be had: whoever wants a sandbox then builds it whole, and
    /// says what is wrong.
    pub fn begin(facts: &Facts) -> Option<Self> {
        // On cgroup v2 a process must be born in its group, and there is none yet.
        let unified =
            nix::sys::statfs::statfs("/sys/fs/cgroup").is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC);
        if unified || !facts.user_namespaces {
            return None;
        }
        let hull = Hull { steps: plan::hull(facts, true), privileged: facts.uid == 0 };
        let (control, theirs) = control_sockets().ok()?;
        let launched = launch::launch(&hull, theirs, None, true).ok()?;
        Some(Self(Vessel::new(hull, launched, control, None, true)))
    }

    /// Has what will be shown of the host in any case put on, while the rest is still being found out. Should the plan want something else
    /// in the end, another sandbox is built.
    pub fn show(&mut self, grants: &[Grant]) {
        let mut steps: Vec<Step> = grants.iter().map(plan::shown).collect();
        steps.sort_by(|a, b| plan::place(a).cmp(&plan::place(b)));
        self.0.shown = Shown::soon(self.0.control(), steps, self.0.hull.privileged).unwrap_or_default();
    }
}

/// Parts of the host that a hull shows already.
#[derive(Debug, Default)]
struct Shown {
    steps: Vec<Step>,
    /// For a hull that waits for long: what each was when it was opened, and what tells when anything was mounted or unmounted since.
    was: Vec<(u64, u64)>,
    table: Option<OwnedFd>,
}

impl Shown {
    /// Has them put on by a hull that is used at once. None when something cannot be opened: that is said by who needs it.
    fn soon(control: BorrowedFd<'_>, steps: Vec<Step>, privileged: bool) -> Option<Self> {
        let opened = if privileged { steps.iter().map(prepare::open_shown).collect::<Result<_, _>>().ok()? } else { Vec::new() };
        Self::send(control, steps, &opened)
    }

    /// The same for one that waits until somebody wants it. Only root knows what it has opened, so it can tell whether that is still there.
    fn for_long(control: BorrowedFd<'_>, steps: Vec<Step>) -> Option<Self> {
        let table = sys::open_at(sys::cwd(), c"/proc/self/mountinfo", libc::O_RDONLY, 0).ok()?;
        let opened: Vec<OwnedFd> = steps.iter().map(prepare::open_shown).collect::<Result<_, _>>().ok()?;
        let was = opened.iter().map(|fd| nix::sys::stat::fstat(fd).map(|s| (s.st_dev, s.st_ino))).collect::<Result<_, _>>().ok()?;
        Some(Self { was, table: Some(table), ..Self::send(control, steps, &opened)? })
    }

    fn send(control: BorrowedFd<'_>, steps: Vec<Step>, opened: &[OwnedFd]) -> Option<Self> {
        let descriptors: Vec<_> = opened.iter().map(AsFd::as_fd).collect();
        let sent = message::ahead(control, steps.clone(), vec![1; opened.len()], &descriptors);
        matches!(sent, Ok(true)).then(|| Self { steps, ..Self::default() })
    }

    /// Is every place on the host still what was put on? A folder that was replaced, or mounted over, must not be shown as it was. The table
    /// tells of a change only once: what has changed is not asked again.
    fn still_is(&self) -> bool {
        let changed = |table: &OwnedFd| {
            let mut fds = [PollFd::new(table.as_fd(), PollFlags::POLLPRI)];
            !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
        };
        let same = |(step, was): (&Step, &(u64, u64))| match step {
            Step::Bind { source, .. } => nix::sys::stat::lstat(source).is_ok_and(|now| (now.st_dev, now.st_ino) == *was),
            _ => false,
        };
        !self.table.as_ref().is_some_and(changed) && self.steps.iter().zip(&self.was).all(same)
    }
}

impl Engine {
    /// For a single-threaded process that runs one sandbox after the other, such as `cofferdam exec`.
    pub fn here(facts: Facts) -> Self {
        Self::here_with(facts, None)
    }

    /// The same, with a hull that was begun earlier.
    pub fn here_with(facts: Facts, early: Option<Early>) -> Self {
        Self::new(facts, Forker::Here(Box::new(Mutex::new(early.map(|early| early.0)))))
    }

    /// For a threaded process: a single-threaded helper forks for it.
    ///
    /// # Errors
    /// When the helper cannot be started.
    pub fn with_helper(facts: Facts, program: &Path) -> io::Result<Self> {
        let line = Line { helper: Helper::start(program)?, asked: None, spare: None, missed: false, busy: false };
        Ok(Self::new(facts, Forker::Helper(Box::new(Mutex::new(line)))))
    }

    fn new(facts: Facts, forker: Forker) -> Self {
        // In this order they are dropped: groups go before the place they stand in.
        let leaving = Mutex::default();
        Self { leaving, forker, facts, cgroups: OnceLock::new(), owners: Mutex::default() }
    }

    /// Where groups are made, without those that a killed cofferdam left there.
    pub fn cgroups(&self) -> &Cgroups {
        self.cgroups.get_or_init(|| {
            let cgroups = Cgroups::find();
            // What cannot be taken away now is tried again by the next start; it is no reason not to work.
            drop(cgroups.sweep());
            cgroups
        })
    }

    pub fn sandbox<'a>(&'a self, policy: &'a Policy) -> Sandbox<'a> {
        Sandbox { engine: self, policy }
    }

    /// Can sandboxes be begun here at all? Tried, before anything depends on it: the first hull is built, and kept for the first sandbox.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn check(&self) -> Result<(), SandboxError> {
        let Forker::Helper(line) = &self.forker else { return Ok(()) };
        let hull = Hull { steps: plan::hull(&self.facts, true), privileged: self.facts.uid == 0 };
        let mut line = held(line);
        line.ask(hull, Vec::new(), self.cgroups())?;
        line.answered()
    }

    /// Throws away what was built ahead, and waits for what is about to end: for a process that will run nothing for a while.
    pub fn rest(&self) {
        let gone = std::mem::take(&mut *held(&self.leaving));
        drop(gone);
        match &self.forker {
            Forker::Here(early) => drop(held(early).take()),
            Forker::Helper(line) => {
                let mut line = held(line);
                line.settle();
                line.spare = None;
            }
        }
    }

    /// Nobody is left in this sandbox but its first process, which ends by itself: tidied up while a later command runs, and waited for when
    /// this engine rests or goes.
    pub(super) fn let_go(&self, hold: Hold) {
        if matches!(self.forker, Forker::Here(_)) {
            // There may be no next one, and there is nothing better to do until it has ended.
            hold.group.clear();
        }
        let mut leaving = held(&self.leaving);
        leaving.push_back(hold);
        let oldest = (leaving.len() > MOST_LEAVING).then(|| leaving.pop_front());
        // What is waited for here keeps nobody else from leaving.
        drop(leaving);
        drop(oldest);
    }

    fn hull(&self, plan: &Plan) -> Hull {
        Hull { steps: plan.steps[..plan.hull].to_vec(), privileged: self.facts.uid == 0 }
    }

    /// A hull for this plan, one that was built ahead or a new one, and the steps that are left for it.
    pub(super) fn float(&self, plan: &Plan) -> Result<(Vessel, Vec<Step>), SandboxError> {
        let hull = self.hull(plan);
        let all = || plan.steps[plan.hull..].to_vec();
        match &self.forker {
            Forker::Here(early) => {
                if !sys::single_threaded() {
                    return Err(SandboxError::NoHelper);
                }
                if plan.tier == Tier::NoUserns {
                    // Orphans of an init that was killed come to us, and are ended by us.
                    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map_err(io_error("the tree could not be held"))?;
                }
                if let Some(vessel) = held(early).take()
                    && let Some(rest) = vessel.rest(plan)
                {
                    return Ok((vessel, rest));
                }
                let (control, theirs) = control_sockets()?;
                let group = Group::prepare(self.cgroups())?;
                let launched = launch::launch(&hull, theirs, group.clone_into_fd()?, true)?;
                Ok((Vessel::new(hull, launched, control, Some(group), true), all()))
            }
            Forker::Helper(line) => {
                let mut line = held(line);
                line.settle();
                drop(line.spare.take_if(|vessel| !vessel.shown.still_is()));
                if let Some(vessel) = line.spare.take() {
                    match vessel.rest(plan) {
                        Some(rest) => {
                            line.missed = false;
                            return Ok((vessel, rest));
                        }
                        // Where two policies take turns it is wanted next time; after two that it does not fit nobody waits for it.
                        None if std::mem::replace(&mut line.missed, true) => line.missed = false,
                        None => line.spare = Some(vessel),
                    }
                }
                let (control, theirs) = control_sockets()?;
                let group = Group::prepare(self.cgroups())?;
                line.helper.request(&hull, theirs, into(&group)?)?;
                let launched = line.helper.answer()?;
                Ok((Vessel::new(hull, launched, control, Some(group), false), all()))
            }
        }
    }

    /// The vessel's group, with the limits of this run.
    pub(super) fn group(&self, vessel: &mut Vessel, limits: &Limits) -> Result<Group, SandboxError> {
        let cgroups = self.cgroups();
        let born_inside = vessel.group.is_some();
        let mut group = vessel.group.take().map_or_else(|| Group::prepare(cgroups), Ok)?;
        group.limit(cgroups, limits)?;
        if !born_inside && *cgroups.mode() == Mode::V2 {
            // It cannot join by itself there. The move waits for the whole host, which is why hulls are not begun early on cgroup v2; this
            // is for a host where it did not look like it.
            group.adopt(u32::try_from(vessel.pid).unwrap_or(0))?;
        }
        Ok(group)
    }

    /// What root opens from outside for each step; nothing for an ordinary user, whose init opens it itself.
    pub(super) fn prepare(&self, rest: &[Step], plan: &Plan) -> Result<Vec<Vec<OwnedFd>>, SandboxError> {
        if self.facts.uid == 0 { Ok(held(&self.owners).prepare(rest, &plan.folder)?) } else { Ok(Vec::new()) }
    }

    /// While the command runs: tidies up after those that have ended, and has the next hull built. Waits for nobody, for the command has
    /// limits that are to be watched.
    pub(super) fn settle(&self, plan: &Plan) {
        held(&self.owners).settle();
        let leaving = std::mem::take(&mut *held(&self.leaving));
        let (over, left): (Vec<Hold>, Vec<Hold>) = leaving.into_iter().partition(|hold| hold.vessel.is_over());
        held(&self.leaving).extend(left);
        drop(over);
        if let Forker::Helper(line) = &self.forker {
            let mut line = held(line);
            line.settle();
            if std::mem::replace(&mut line.busy, true) && line.spare.is_none() {
                // Only time is lost without it: the next sandbox then says what is wrong.
                drop(line.ask(self.hull(plan), plan::lasting(plan), self.cgroups()));
            }
        }
    }
}

impl Line {
    fn ask(&mut self, hull: Hull, lasting: Vec<Step>, cgroups: &Cgroups) -> Result<(), SandboxError> {
        let (control, theirs) = control_sockets()?;
        let group = Group::prepare(cgroups)?;
        self.helper.request(&hull, theirs, into(&group)?)?;
        let shown = if hull.privileged { Shown::for_long(control.as_fd(), lasting) } else { None };
        self.asked = Some(Asked { hull, shown: shown.unwrap_or_default(), control, group });
        Ok(())
    }

    /// Reads the answer that is still due, so that the next one is the next request's.
    fn settle(&mut self) {
        // Only time is lost without it.
        drop(self.answered());
    }

    fn answered(&mut self) -> Result<(), SandboxError> {
        if let Some(Asked { hull, shown, control, group }) = self.asked.take() {
            let launched = self.helper.answer()?;
            let mut spare = Vessel::new(hull, launched, control, Some(group), false);
            spare.shown = shown;
            self.spare = Some(spare);
        }
        Ok(())
    }
}

fn into(group: &Group) -> Result<Option<OwnedFd>, SandboxError> {
    group.clone_into_fd()?.map(|fd| fd.try_clone_to_owned()).transpose().map_err(io_error("no group"))
}

fn control_sockets() -> Result<(OwnedFd, OwnedFd), SandboxError> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(|e| io_error("no control socket")(e.into()))
}

/// A poisoned lock holds what it held: nothing here is left half done by a panic.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What waits for its use for long is not used when the host's folder is another one by then.
    #[test]
    fn a_folder_that_was_replaced_is_shown_no_more() {
        let temp = tempfile::tempdir().expect("a folder");
        let folder = temp.path().join("shown");
        fs_err::create_dir(&folder).expect("made");
        let stat = nix::sys::stat::lstat(&folder).expect("there");
        let steps = vec![Step::Bind { source: folder.clone(), path: folder.clone(), writable: false }];
        let shown = Shown { steps, was: vec![(stat.st_dev, stat.st_ino)], table: None };
        fs_err::write(folder.join("inside"), "what is in it may change").expect("written");
        assert!(shown.still_is());
        fs_err::rename(&folder, temp.path().join("away")).expect("moved");
        assert!(!shown.still_is(), "nothing is there");
        fs_err::create_dir(&folder).expect("made");
        assert!(!shown.still_is(), "another folder of that name");
    }
}

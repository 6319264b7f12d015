//! Ends what is left of a sandbox: all of a pid namespace, or a tree of processes that no namespace holds together.

use std::collections::BTreeSet;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::usage;

/// Ends everybody else in the pid namespace whose first process this is, and returns when nobody is left: whoever loses its parent becomes
/// this process's child before that parent is taken away, so there is nobody when there are no children.
pub(super) fn end_namespace() {
    // The kernel lets nobody fork past a signal for everybody.
    let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    while matches!(waitpid(None, None), Ok(_) | Err(nix::Error::EINTR)) {}
}

/// Ends everything below this process, which is the reaper of all orphans. What is stopped cannot fork, so stopping comes first,
/// in rounds until nobody new is found; then everybody is killed.
pub(super) fn end_descendants() {
    let signal = |pids: &BTreeSet<i32>, signal| pids.iter().for_each(|pid| _ = kill(Pid::from_raw(*pid), signal));
    let reap = || while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {};
    loop {
        let mut stopped = BTreeSet::new();
        loop {
            let found: BTreeSet<i32> = usage::descendants().into_iter().collect();
            if found.is_subset(&stopped) {
                break;
            }
            signal(&found, Signal::SIGSTOP);
            stopped.extend(found);
        }
        if stopped.is_empty() {
            return;
        }
        signal(&stopped, Signal::SIGKILL);
        reap();
    }
}

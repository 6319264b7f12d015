//! From what was seen to a verdict. Pure.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::attack::{Attack, Attempt, Control, Gap};

/// Did the sandbox hold?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The kernel said what it must say, and nothing changed outside.
    Held,
    /// The attack worked, or its effect was seen outside.
    Broken,
    /// It did not work, but not for a reason that proves the protection.
    Unproven,
    /// It worked, and this host has nothing that could refuse it: known, and said aloud.
    Gap,
    /// There was nothing to attack.
    Inapplicable,
}

/// What of the host decides whether a hole is a known gap.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    /// The version of Landlock, 0 for none.
    pub landlock: u32,
    /// Are limits kept by a control group?
    pub group: bool,
}

impl Gap {
    const fn is_open(self, host: Host) -> bool {
        match self {
            Self::Landlock(version) => host.landlock < version,
            Self::Group => !host.group,
        }
    }

    /// What the host lacks, in words.
    pub fn lacks(self) -> String {
        match self {
            Self::Landlock(version) => format!("this kernel's Landlock is older than ABI {version}, which could refuse it"),
            Self::Group => "limits are supervised here; only a control group counts this".to_owned(),
        }
    }
}

/// What the control showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum ControlShown {
    /// The same code works outside.
    Works,
    /// The same call arrives in the kernel outside.
    Arrives { errno: i32 },
    /// This host does not have what is attacked.
    Absent { errno: i32 },
    /// Outside it needs root or a capability that the caller does not have.
    NeedsRights,
    /// It should have worked outside and did not: the sandbox's answer is worth less here.
    Failed { outside: Attempt },
    /// Not run, and why.
    NotRun { why: String },
}

/// The verdict of one attack: what it said, and what was seen outside whatever it said.
pub fn verdict(attack: &Attack, attempt: &Attempt, seen_outside: &[String], host: Host) -> Verdict {
    let hole = if attack.gap.is_some_and(|gap| gap.is_open(host)) { Verdict::Gap } else { Verdict::Broken };
    if !seen_outside.is_empty() {
        return hole;
    }
    match attempt {
        Attempt::Succeeded { .. } => hole,
        Attempt::Refused { errno, .. } if attack.proof.contains(errno) => Verdict::Held,
        Attempt::Died { signal } if attack.fatal.contains(signal) => Verdict::Held,
        Attempt::NotThere { .. } | Attempt::Stopped { .. } => Verdict::Held,
        Attempt::Inapplicable { .. } => Verdict::Inapplicable,
        Attempt::Refused { .. } | Attempt::Died { .. } | Attempt::CouldNotTry { .. } | Attempt::NoAnswer { .. } => Verdict::Unproven,
    }
}

/// The rights of whoever runs the test.
#[derive(Clone, Copy, Debug)]
pub struct Rights {
    pub root: bool,
    /// The effective capabilities.
    pub capabilities: u64,
}

/// May this caller do it outside at all?
pub fn allowed_outside(attack: &Attack, rights: Rights) -> bool {
    let user = match attack.control {
        Control::Works | Control::Arrives => true,
        Control::WorksForRoot | Control::ArrivesForRoot => rights.root,
        Control::No(_) => return false,
    };
    user && attack.needs.is_none_or(|bit| rights.capabilities >> bit & 1 == 1)
}

/// What the control's answer means. `None` is "it was not run".
pub fn control(attack: &Attack, attempt: Option<&Attempt>, rights: Rights) -> ControlShown {
    if let Control::No(why) = attack.control {
        return ControlShown::NotRun { why: why.to_owned() };
    }
    if !allowed_outside(attack, rights) {
        return ControlShown::NeedsRights;
    }
    let Some(attempt) = attempt else {
        return ControlShown::NotRun { why: "it was not asked for".to_owned() };
    };
    match attempt {
        Attempt::Succeeded { .. } => ControlShown::Works,
        Attempt::Refused { errno, .. } | Attempt::CouldNotTry { errno, .. } if attack.absent.contains(errno) => {
            ControlShown::Absent { errno: *errno }
        }
        Attempt::Refused { errno, .. }
            if matches!(attack.control, Control::Arrives | Control::ArrivesForRoot) && !attack.proof.contains(errno) =>
        {
            ControlShown::Arrives { errno: *errno }
        }
        Attempt::Inapplicable { why } => ControlShown::NotRun { why: why.clone() },
        other => ControlShown::Failed { outside: other.clone() },
    }
}

/// `EPERM`, `ENOENT`, …: how people who read this know the kernel's words.
pub fn errno_name(errno: i32) -> String {
    match Errno::from_raw(errno) {
        Errno::UnknownErrno => format!("error {errno}"),
        known => format!("{known:?}"),
    }
}

impl Attempt {
    /// What the kernel said, in a few words.
    pub fn short(&self) -> String {
        match self {
            Self::Refused { errno, .. } => errno_name(*errno),
            Self::NotThere { .. } => "not there".to_owned(),
            Self::Stopped { cause, .. } => format!("limit: {cause}"),
            Self::Died { signal } => {
                nix::sys::signal::Signal::try_from(*signal).map_or_else(|_| format!("signal {signal}"), |known| known.as_str().to_owned())
            }
            Self::Succeeded { .. } => "it worked".to_owned(),
            Self::CouldNotTry { errno, .. } => format!("not tried: {}", errno_name(*errno)),
            Self::Inapplicable { .. } => "nothing there".to_owned(),
            Self::NoAnswer { .. } => "no answer".to_owned(),
        }
    }

    /// The whole of it, in words.
    pub fn long(&self) -> String {
        match self {
            Self::Refused { call, errno } => format!("{call} said {}", errno_name(*errno)),
            Self::NotThere { what } => what.clone(),
            Self::Stopped { detail, .. } | Self::Succeeded { detail } => detail.clone(),
            Self::Died { .. } => format!("the attacker was ended by {}", self.short()),
            Self::CouldNotTry { step, errno } => format!("a step before the attack failed: {step} said {}", errno_name(*errno)),
            Self::Inapplicable { why } | Self::NoAnswer { why } => why.clone(),
        }
    }
}

impl ControlShown {
    /// In a few words, for the control column.
    pub fn short(&self) -> String {
        match self {
            Self::Works => "works".to_owned(),
            Self::Arrives { errno } => format!("arrives: {}", errno_name(*errno)),
            Self::Absent { .. } => "not on host".to_owned(),
            Self::NeedsRights => "needs rights".to_owned(),
            Self::Failed { outside } => format!("fails: {}", outside.short()),
            Self::NotRun { .. } => "not run".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ATTACK: Attack = Attack::new("A-test", "a test", &[libc::EPERM], |_| Ok(String::new())).absent(&[libc::ENOSYS]);

    const HOST: Host = Host { landlock: 7, group: true };

    fn refused(errno: i32) -> Attempt {
        Attempt::Refused { call: "call".to_owned(), errno }
    }

    #[test]
    fn only_the_listed_errors_prove_the_protection() {
        assert_eq!(verdict(&ATTACK, &refused(libc::EPERM), &[], HOST), Verdict::Held);
        assert_eq!(verdict(&ATTACK, &refused(libc::EFAULT), &[], HOST), Verdict::Unproven);
        assert_eq!(verdict(&ATTACK, &Attempt::Died { signal: libc::SIGSEGV }, &[], HOST), Verdict::Unproven);
        assert_eq!(verdict(&ATTACK, &Attempt::CouldNotTry { step: String::new(), errno: libc::EPERM }, &[], HOST), Verdict::Unproven);
        assert_eq!(verdict(&ATTACK, &Attempt::NoAnswer { why: String::new() }, &[], HOST), Verdict::Unproven);
        assert_eq!(verdict(&ATTACK, &Attempt::Succeeded { detail: String::new() }, &[], HOST), Verdict::Broken);
    }

    #[test]
    fn an_effect_outside_is_a_hole_whatever_the_attacker_says() {
        assert_eq!(verdict(&ATTACK, &refused(libc::EPERM), &["changed".to_owned()], HOST), Verdict::Broken);
    }

    #[test]
    fn a_gap_is_known_only_where_the_host_lacks_what_would_close_it() {
        let worked = Attempt::Succeeded { detail: String::new() };
        let attack = ATTACK.gap_without(Gap::Landlock(9));
        assert_eq!(verdict(&attack, &worked, &[], HOST), Verdict::Gap);
        assert_eq!(verdict(&attack, &worked, &[], Host { landlock: 9, group: true }), Verdict::Broken);
        assert_eq!(verdict(&attack, &refused(libc::EPERM), &[], HOST), Verdict::Held);
    }

    #[test]
    fn a_control_that_fails_is_told_from_one_that_cannot_work_here() {
        let works = Attempt::Succeeded { detail: String::new() };
        let user = Rights { root: false, capabilities: 0 };
        let root_user = Rights { root: true, capabilities: 1 << 1 };
        assert_eq!(control(&ATTACK, Some(&works), user), ControlShown::Works);
        assert_eq!(control(&ATTACK, Some(&refused(libc::ENOSYS)), user), ControlShown::Absent { errno: libc::ENOSYS });
        assert_eq!(control(&ATTACK, Some(&refused(libc::EPERM)), user), ControlShown::Failed { outside: refused(libc::EPERM) });
        let root = ATTACK.control(Control::WorksForRoot);
        assert_eq!(control(&root, Some(&refused(libc::EPERM)), user), ControlShown::NeedsRights);
        assert_eq!(control(&root.needs(7), Some(&works), root_user), ControlShown::NeedsRights);
        assert_eq!(control(&root.needs(1), Some(&works), root_user), ControlShown::Works);
        let arrives = ATTACK.control(Control::Arrives);
        assert_eq!(control(&arrives, Some(&refused(libc::EBADF)), root_user), ControlShown::Arrives { errno: libc::EBADF });
        assert!(matches!(control(&arrives, Some(&refused(libc::EPERM)), root_user), ControlShown::Failed { .. }));
    }
}

//! From what a host can do, and how one real sandbox went, to what is missing and the command that mends it. Pure.

use serde::{Deserialize, Serialize};

use super::cgroup::{Controllers, Mode};
use super::host::{Attempt, HostCaps, Refusal, Stage, Tried};
use super::plan::OLDEST_LANDLOCK;
use super::receipt::Receipt;

/// The version of the document below.
pub const DIAGNOSIS_VERSION: u32 = 1;

/// The oldest git that is tested against.
pub const OLDEST_GIT: [u32; 2] = [2, 30];

/// The document of `doctor --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    pub version: u32,
    pub verdict: Verdict,
    pub kernel: String,
    pub layers: Vec<Line>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Everything.
    Ready,
    /// Every layer that keeps a command in; something beside them is missing.
    Limited,
    NotEnforceable,
}

/// One layer on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub name: String,
    /// Does the full tier refuse to run without it?
    pub wanted: bool,
    pub supported: bool,
    pub detail: String,
    /// The commands that mend it.
    pub fix: Option<String>,
}

/// How a real sandbox went.
#[derive(Clone, Debug, PartialEq)]
pub enum Trial {
    /// It ran, and this is what was enforced.
    Ran(Box<Receipt>),
    /// It did not, and what it said.
    Failed(String),
}

/// Everything that is known about the host.
#[derive(Clone, Debug)]
pub struct Findings {
    pub caps: HostCaps,
    pub tried: Tried,
    pub limits: Mode,
    pub limits_detail: String,
    pub controllers: Controllers,
    pub git: Option<([u32; 2], String)>,
    pub trial: Trial,
}

/// The whole diagnosis.
pub fn diagnose(findings: &Findings) -> Diagnosis {
    let layers = vec![
        namespaces(findings),
        proc(findings),
        landlock(findings),
        overlay(findings),
        limits(findings),
        git(findings),
        sandbox(findings),
    ];
    let verdict = if layers.iter().any(|line| line.wanted && !line.supported) {
        Verdict::NotEnforceable
    } else if layers.iter().any(|line| !line.supported) {
        Verdict::Limited
    } else {
        Verdict::Ready
    };
    Diagnosis { version: DIAGNOSIS_VERSION, verdict, kernel: findings.caps.facts.kernel.clone(), layers }
}

fn line(name: &str, wanted: bool, result: Result<String, (String, Option<String>)>) -> Line {
    let (supported, detail, fix) = match result {
        Ok(detail) => (true, detail, None),
        Err((detail, fix)) => (false, detail, fix),
    };
    Line { name: name.to_owned(), wanted, supported, detail, fix }
}

fn namespaces(findings: &Findings) -> Line {
    let caps = &findings.caps;
    let result = findings.tried.namespaces.map(|()| "user, mount, pid, network, ipc, uts and cgroup".to_owned());
    line("namespaces", true, result.map_err(|refusal| namespaces_refused(caps, refusal)))
}

/// Why there are no user namespaces here, most certain cause first.
fn namespaces_refused(caps: &HostCaps, refusal: Refusal) -> (String, Option<String>) {
    let root = caps.facts.uid == 0;
    let fix = |text: &str| Some(text.to_owned());
    if caps.max_user_namespaces == Some(0) {
        return ("user namespaces are switched off".to_owned(), fix("sudo sysctl -w user.max_user_namespaces=15000"));
    }
    if !root && caps.userns_clone == Some(false) {
        return (
            "user namespaces are switched off for ordinary users".to_owned(),
            fix("sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        );
    }
    if !root && caps.apparmor_restricts && matches!(refusal.errno, libc::EPERM | libc::EACCES) {
        return (
            "AppArmor allows user namespaces only to programs that a profile names".to_owned(),
            fix(
                "cofferdam doctor --apparmor | sudo tee /etc/apparmor.d/cofferdam >/dev/null\nsudo apparmor_parser -r /etc/apparmor.d/cofferdam",
            ),
        );
    }
    if refusal.step == Stage::Namespaces && refusal.errno == libc::ENOSPC {
        return ("this user has as many user namespaces as it may".to_owned(), fix("sudo sysctl -w user.max_user_namespaces=15000"));
    }
    if refusal.step == Stage::Namespaces && refusal.errno == libc::EUSERS {
        return ("user namespaces are nested too deeply".to_owned(), fix("run cofferdam one container further out"));
    }
    if let Some(profile) = &caps.apparmor_profile {
        return (
            format!("{}; this process runs under the AppArmor profile {profile}", told(refusal)),
            fix("start the container with --security-opt apparmor=unconfined"),
        );
    }
    if caps.filtered {
        let mend = if caps.container {
            "start the container with --security-opt seccomp=unconfined"
        } else {
            "take RestrictNamespaces= and SystemCallFilter= out of this unit"
        };
        return (format!("{}; a system call filter was put on this process from outside", told(refusal)), fix(mend));
    }
    if root && refusal.step == Stage::Namespaces && refusal.errno == libc::EPERM {
        // Nothing else refuses root that was not looked for above.
        return (
            format!("{}; the kernel makes no user namespace for a process in a chroot", told(refusal)),
            fix("leave the chroot, or enter its folder as a container does (pivot_root)\n\
                 cofferdam exec --require no-userns … (Landlock and seccomp only)"),
        );
    }
    (told(refusal), fix("cofferdam exec --require no-userns … (Landlock and seccomp only)"))
}

/// `new namespaces: Operation not permitted`
fn told(refusal: Refusal) -> String {
    let step = match refusal.step {
        Stage::Namespaces => "new namespaces",
        Stage::Identity => "a user inside",
        Stage::Memory => "a file system in memory",
        Stage::Proc => "a new /proc",
        Stage::Overlay => "an overlay",
    };
    format!("{step}: {}", nix::errno::Errno::from_raw(refusal.errno).desc())
}

/// A stage that was not reached says no more than the one before it.
fn after(earlier: Attempt, this: Attempt) -> Option<Refusal> {
    this.err().filter(|_| earlier.is_ok())
}

fn proc(findings: &Findings) -> Line {
    let tried = &findings.tried;
    let result = match (tried.proc, after(tried.namespaces, tried.proc)) {
        (Ok(()), _) => Ok("a new one for each sandbox".to_owned()),
        (_, None) => Err(("not reached: needs namespaces".to_owned(), None)),
        // The kernel allows a new /proc only where the old one is not covered in places, as container engines do.
        (_, Some(refusal)) => Err((
            format!("{}; parts of this /proc are covered", told(refusal)),
            Some("docker: --security-opt systempaths=unconfined\npodman: --security-opt unmask=ALL".to_owned()),
        )),
    };
    line("/proc", true, result)
}

fn landlock(findings: &Findings) -> Line {
    let caps = &findings.caps;
    let result = match caps.facts.landlock_abi {
        Some(abi) if abi >= OLDEST_LANDLOCK => Ok(format!("ABI {abi}")),
        Some(abi) => Err((
            format!("ABI {abi}, and {OLDEST_LANDLOCK} is the oldest that can confine renames"),
            Some("update the kernel to Linux 5.19 or newer".to_owned()),
        )),
        None => Err(no_landlock(caps)),
    };
    line("landlock", true, result)
}

fn no_landlock(caps: &HostCaps) -> (String, Option<String>) {
    let kernel = &caps.facts.kernel;
    if older_than(kernel, [5, 19]) {
        return (format!("Linux {kernel} is too old for it"), Some("update the kernel to Linux 5.19 or newer".to_owned()));
    }
    match &caps.modules {
        Some(modules) if !modules.iter().any(|module| module == "landlock") => (
            "this kernel was started without it".to_owned(),
            Some(format!("put this on the kernel's command line and restart:\nlsm=landlock,{}", modules.join(","))),
        ),
        _ if caps.filtered => (
            "a system call filter from outside refuses it".to_owned(),
            Some("update the container engine, or start the container with:\n--security-opt seccomp=unconfined".to_owned()),
        ),
        _ => (
            "this kernel has none".to_owned(),
            Some("start a kernel that has CONFIG_SECURITY_LANDLOCK,\nwith landlock in the lsm= of its command line".to_owned()),
        ),
    }
}

/// Is a release such as `5.10.0-32-cloud-amd64` older than this? Unknown is not.
fn older_than(release: &str, than: [u32; 2]) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if [major, minor] < than)
}

fn overlay(findings: &Findings) -> Line {
    let tried = &findings.tried;
    let result = match (tried.overlay, after(tried.namespaces, tried.overlay)) {
        (Ok(()), _) => Ok("inside a user namespace".to_owned()),
        (_, None) => Err(("not reached: needs namespaces".to_owned(), None)),
        (_, Some(refusal)) if refusal.errno == libc::ENODEV => {
            Err(("the kernel's overlay module is not loaded".to_owned(), Some("sudo modprobe overlay".to_owned())))
        }
        (_, Some(refusal)) if older_than(&findings.caps.facts.kernel, [5, 11]) => {
            Err((format!("{}; ordinary users may since Linux 5.11", told(refusal)), Some("update the kernel".to_owned())))
        }
        (_, Some(refusal)) => Err((format!("{}; --discard, --diff and package caches need it", told(refusal)), None)),
    };
    line("overlay", false, result)
}

fn limits(findings: &Findings) -> Line {
    let caps = &findings.caps;
    let result = match &findings.limits {
        Mode::Supervised { why } => {
            let mend = if caps.container {
                Some("give the container its own writable cgroup v2 hierarchy".to_owned())
            } else if !caps.systemd {
                None
            } else if caps.legacy_cgroups {
                Some("start the kernel with systemd.unified_cgroup_hierarchy=1".to_owned())
            } else if caps.facts.uid == 0 {
                Some("add Delegate=yes to the unit, or start cofferdam with:\nsystemd-run --scope -p Delegate=yes cofferdam …".to_owned())
            } else {
                Some("systemd-run --user --scope -p Delegate=yes cofferdam …".to_owned())
            };
            Err((format!("looked at by cofferdam every 25 ms, not held by the kernel: {why}"), mend))
        }
        _ if !findings.controllers.cpu => Err((format!("{}; memory and processes, but no processor time", findings.limits_detail), None)),
        _ => Ok(findings.limits_detail.clone()),
    };
    line("limits", false, result)
}

fn git(findings: &Findings) -> Line {
    let [major, minor] = OLDEST_GIT;
    let result = match &findings.git {
        Some((version, shown)) if *version >= OLDEST_GIT => Ok(shown.clone()),
        Some((_, shown)) => Err((format!("{shown}; {major}.{minor} is the oldest that is tested"), Some("update git".to_owned()))),
        None => Err((
            "not found on PATH; agents need it inside".to_owned(),
            Some("sudo apt-get install git, or the same with your package manager".to_owned()),
        )),
    };
    line("git", false, result)
}

/// The last word: the real sequence, all of it.
fn sandbox(findings: &Findings) -> Line {
    let result = match &findings.trial {
        Trial::Ran(receipt) => {
            let missing: Vec<&str> = receipt.missing().map(|layer| layer.name.as_str()).collect();
            let enforced = receipt.layers.iter().filter(|layer| layer.enforced).count();
            let tested = receipt.layers.iter().filter(|layer| layer.probed == Some(true)).count();
            if missing.is_empty() {
                Ok(format!("ran; {enforced} layers enforced, {tested} of them tested from inside"))
            } else {
                Err((format!("ran, but these did not hold: {}", missing.join(", ")), None))
            }
        }
        Trial::Failed(said) => Err((said.clone(), None)),
    };
    line("a real sandbox", true, result)
}

#[cfg(test)]
mod tests {
    use super::super::plan::Facts;
    use super::*;

    fn good() -> Findings {
        Findings {
            caps: HostCaps {
                facts: Facts { kernel: "6.8.0-1-x".into(), uid: 1000, gid: 1000, landlock_abi: Some(4), user_namespaces: true },
                max_user_namespaces: Some(15000),
                userns_clone: None,
                apparmor_restricts: false,
                apparmor_profile: None,
                filtered: false,
                modules: None,
                systemd: true,
                legacy_cgroups: false,
                container: false,
            },
            tried: Tried { namespaces: Ok(()), proc: Ok(()), overlay: Ok(()) },
            limits: Mode::V2,
            limits_detail: "cgroup v2 in /x".into(),
            controllers: Controllers { memory: true, pids: true, cpu: true, cpuacct: true },
            git: Some(([2, 43], "2.43.0".into())),
            trial: Trial::Ran(Box::default()),
        }
    }

    fn refused(step: Stage, errno: i32) -> Tried {
        let refusal = Err(Refusal { step, errno });
        Tried { namespaces: refusal, proc: refusal, overlay: refusal }
    }

    fn failing(change: impl FnOnce(&mut Findings)) -> (Verdict, Line) {
        let mut findings = good();
        change(&mut findings);
        let diagnosis = diagnose(&findings);
        let line = diagnosis.layers.into_iter().find(|line| !line.supported).unwrap();
        (diagnosis.verdict, line)
    }

    #[test]
    fn a_good_host_is_ready() {
        let diagnosis = diagnose(&good());
        assert_eq!(diagnosis.verdict, Verdict::Ready);
        assert!(diagnosis.layers.iter().all(|line| line.supported && line.fix.is_none()));
    }

    #[test]
    fn each_cause_of_missing_namespaces_has_its_own_mend() {
        type Change = fn(&mut Findings);
        let cases: [(Change, &str); 6] = [
            (|f| f.caps.max_user_namespaces = Some(0), "user.max_user_namespaces"),
            (|f| f.caps.userns_clone = Some(false), "unprivileged_userns_clone=1"),
            (|f| f.caps.apparmor_restricts = true, "apparmor_parser -r"),
            (|f| f.caps.apparmor_profile = Some("docker-default (enforce)".into()), "apparmor=unconfined"),
            (|f| (f.caps.filtered, f.caps.container) = (true, true), "seccomp=unconfined"),
            (|f| f.caps.filtered = true, "RestrictNamespaces="),
        ];
        for (change, mend) in cases {
            let (verdict, line) = failing(|f| {
                f.tried = refused(Stage::Namespaces, libc::EPERM);
                change(f);
            });
            assert_eq!((verdict, line.name.as_str()), (Verdict::NotEnforceable, "namespaces"));
            assert!(line.fix.as_deref().is_some_and(|fix| fix.contains(mend)), "{line:?}");
            assert!(line.fix.iter().flat_map(|fix| fix.lines()).all(|fix| fix.chars().count() <= 76), "{line:?}");
        }
    }

    #[test]
    fn root_is_not_told_about_switches_that_do_not_hold_it() {
        let (_, line) = failing(|f| {
            f.tried = refused(Stage::Namespaces, libc::EPERM);
            (f.caps.facts.uid, f.caps.userns_clone, f.caps.apparmor_restricts) = (0, Some(false), true);
        });
        assert!(line.fix.is_some_and(|fix| fix.contains("no-userns")));
    }

    #[test]
    fn landlock_too_old_off_or_filtered() {
        let fix = |change: fn(&mut Findings)| failing(|f| (f.caps.facts.landlock_abi = None, change(f)).1).1.fix.unwrap();
        assert!(fix(|f| f.caps.facts.kernel = "5.10.0-32-cloud-amd64".into()).contains("5.19"));
        assert!(fix(|f| f.caps.modules = Some(vec!["yama".into(), "apparmor".into()])).contains("lsm=landlock,yama,apparmor"));
        assert!(fix(|f| (f.caps.filtered, f.caps.modules) = (true, Some(vec!["landlock".into()]))).contains("seccomp=unconfined"));
        assert_eq!(failing(|f| f.caps.facts.landlock_abi = Some(1)).0, Verdict::NotEnforceable);
    }

    #[test]
    fn what_is_beside_the_walls_only_limits() {
        let why = || Mode::Supervised { why: "not delegated".into() };
        let (verdict, line) = failing(|f| f.limits = why());
        assert_eq!(verdict, Verdict::Limited);
        assert!(line.fix.is_some_and(|fix| fix.starts_with("systemd-run --user --scope -p Delegate=yes")));
        assert!(failing(|f| (f.limits = why(), f.caps.facts.uid = 0).0).1.fix.is_some_and(|fix| !fix.contains("--user")));
        let legacy = failing(|f| (f.limits, f.caps.legacy_cgroups) = (why(), true)).1.fix;
        assert!(legacy.is_some_and(|fix| fix.contains("unified_cgroup_hierarchy=1")));
        assert_eq!(failing(|f| f.git = Some(([2, 17], "2.17.1".into()))).0, Verdict::Limited);
        assert_eq!(failing(|f| f.tried.overlay = Err(Refusal { step: Stage::Overlay, errno: libc::ENODEV })).0, Verdict::Limited);
        assert_eq!(failing(|f| f.controllers.cpu = false).0, Verdict::Limited);
    }

    #[test]
    fn a_sandbox_that_did_not_run_is_never_ready() {
        assert_eq!(failing(|f| f.trial = Trial::Failed("step: no".into())).0, Verdict::NotEnforceable);
        let layer = crate::sandbox::Layer {
            name: "seccomp".into(),
            wanted: true,
            supported: true,
            enforced: true,
            probed: Some(false),
            detail: String::new(),
        };
        let receipt = Receipt { layers: vec![layer], ..Receipt::default() };
        assert_eq!(failing(|f| f.trial = Trial::Ran(Box::new(receipt))).0, Verdict::NotEnforceable);
    }

    #[test]
    fn kernels_are_compared_by_number() {
        assert!(older_than("5.10.0-32", [5, 19]) && older_than("4.20", [5, 1]));
        assert!(!older_than("6.1.0", [5, 19]) && !older_than("5.19", [5, 19]) && !older_than("strange", [5, 19]));
    }
}

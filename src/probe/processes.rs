//! Section B: nothing outside can be touched, nothing survives the run, and no new namespace gives power.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::attack::{Attack, Attempt, Control, Stage, Tried, inapplicable, not_there, prepare, said};
use super::calls::{call, fd, fork_with, leave, owned};
use super::drive::{Driver, Ended};
use crate::sandbox::Cause;

/// The process is not there, or is not for us.
const UNTOUCHED: &[i32] = &[libc::ESRCH, libc::EPERM];
const UNTOUCHED_OR_NO_CALL: &[i32] = &[libc::ESRCH, libc::EPERM, libc::ENOSYS];
const REFUSED: &[i32] = &[libc::EPERM, libc::ENOSYS];
const NOT_MORE: &[i32] = &[libc::EPERM, libc::EACCES];
const CLOSED: &[i32] = &[libc::EPERM, libc::EACCES, libc::ENOENT, libc::EROFS];

const SYS_PROCESS_MADVISE: libc::c_long = 440;
const PIDFD_GET_USER_NAMESPACE: usize = 0xff09;

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("B-kill", "signal a process outside", UNTOUCHED, |s| {
        aim(s, "kill", |pid| call(libc::SYS_kill, [pid, libc::SIGCONT as usize]))
    }),
    Attack::new("B-tgkill", "the same with tgkill", UNTOUCHED, |s| {
        aim(s, "tgkill", |pid| call(libc::SYS_tgkill, [pid, pid, libc::SIGCONT as usize]))
    }),
    Attack::new("B-sigqueue", "the same with rt_sigqueueinfo", UNTOUCHED, |s| {
        // si_signo, si_errno, si_code = SI_QUEUE, the rest zero: what an ordinary process may send.
        let mut info = [0_i32; 32];
        (info[0], info[2]) = (libc::SIGCONT, -1);
        aim(s, "rt_sigqueueinfo", |pid| call(libc::SYS_rt_sigqueueinfo, [pid, libc::SIGCONT as usize, info.as_ptr() as usize]))
    }),
    Attack::new("B-pidfd", "open a pidfd of a process outside", UNTOUCHED_OR_NO_CALL, |s| {
        aim(s, "pidfd_open", |pid| owned(call(libc::SYS_pidfd_open, [pid, 0])))
    }),
    Attack::new("B-ptrace", "trace a process outside", UNTOUCHED_OR_NO_CALL, |s| {
        aim(s, "ptrace(SEIZE)", |pid| call(libc::SYS_ptrace, [libc::PTRACE_SEIZE as usize, pid, 0, 0]))
    }),
    Attack::new("B-read-memory", "read memory of a process outside", UNTOUCHED_OR_NO_CALL, |s| aim(s, "process_vm_readv", read_memory)),
    Attack::new("B-write-memory", "write memory of a process outside", UNTOUCHED_OR_NO_CALL, |s| aim(s, "process_vm_writev", write_memory))
        .control(Control::Arrives),
    Attack::new("B-prlimit", "change limits of a process outside", UNTOUCHED_OR_NO_CALL, |s| aim(s, "prlimit64", lower_limit)),
    Attack::new("B-setpriority", "change its priority", UNTOUCHED_OR_NO_CALL, |s| {
        aim(s, "setpriority", |pid| call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, pid, 10]))
    }),
    Attack::new("B-ioprio", "change its input/output priority", UNTOUCHED_OR_NO_CALL, |s| {
        // IOPRIO_WHO_PROCESS, the idle class.
        aim(s, "ioprio_set", |pid| call(libc::SYS_ioprio_set, [1, pid, 3 << 13]))
    }),
    Attack::new("B-affinity", "change its processors", UNTOUCHED_OR_NO_CALL, |s| {
        let one = [1_u64; 1];
        aim(s, "sched_setaffinity", |pid| call(libc::SYS_sched_setaffinity, [pid, 8, one.as_ptr() as usize]))
    }),
    Attack::new("B-scheduler", "change its scheduler", UNTOUCHED_OR_NO_CALL, |s| {
        let priority = 0_i32;
        let batch = libc::SCHED_BATCH as usize;
        aim(s, "sched_setscheduler", |pid| call(libc::SYS_sched_setscheduler, [pid, batch, (&raw const priority) as usize]))
    }),
    Attack::new("B-kcmp", "compare with a process outside", UNTOUCHED_OR_NO_CALL, |s| {
        let own = std::process::id() as usize;
        aim(s, "kcmp", |pid| call(libc::SYS_kcmp, [own, pid, 0, 0, 0]))
    })
    .absent(&[libc::ENOSYS]),
    Attack::new("B-owner", "have signals sent to a process outside", &[libc::ESRCH, libc::EPERM], |s| {
        let pipe = prepare("pipe", std::io::pipe())?;
        aim(s, "fcntl(F_SETOWN)", |pid| call(libc::SYS_fcntl, [fd(&pipe.0), libc::F_SETOWN as usize, pid]))
    }),
    Attack::new("B-session", "share the caller's session or process group", &[], |_| {
        let session = prepare("getsid", call(libc::SYS_getsid, [0]))?;
        let group = prepare("getpgid", call(libc::SYS_getpgid, [0]))?;
        match (session, group) {
            (0, _) | (_, 0) => Ok("its leader is outside: kill(0) and the terminal reach the caller".into()),
            _ => not_there("a session and a group of its own"),
        }
    })
    .control(Control::No("only a process namespace has an outside")),
    Attack::new("B-kill-init", "kill the sandbox's first process", UNTOUCHED, |_| {
        prepare("kill", call(libc::SYS_kill, [1, 0]))
            .or_else(|refused| if matches!(refused, Attempt::CouldNotTry { errno: libc::EPERM, .. }) { Ok(0) } else { Err(refused) })?;
        said("kill", call(libc::SYS_kill, [1, libc::SIGKILL as usize]))?;
        std::thread::sleep(Duration::from_millis(20));
        // Its death would be ours: the kernel ends a process namespace with its first process.
        not_there("the kernel dropped the signal: we are alive, so it is")
    })
    .control(Control::No("it would be the host's first process")),
    Attack::new("B-stop-init", "trace the sandbox's first process", REFUSED, |s| {
        said("ptrace(SEIZE)", call(libc::SYS_ptrace, [libc::PTRACE_SEIZE as usize, first(s), 0, 0])).map(|_| "traced".into())
    }),
    Attack::new("B-init-memory", "read the first process's memory", REFUSED, |s| {
        said("process_vm_readv", read_memory(first(s))).map(|_| "read".into())
    }),
    Attack::new("B-init-limits", "change the first process's limits", REFUSED, |s| {
        said("prlimit64", lower_limit(first(s))).map(|_| "changed".into())
    }),
    Attack::new("B-init-getfd", "take a descriptor of the first process", REFUSED, |s| {
        let pidfd = pidfd(first(s))?;
        said("pidfd_getfd", owned(call(libc::SYS_pidfd_getfd, [fd(&pidfd), 0, 0]))).map(|_| "took it".into())
    }),
    Attack::new("B-init-madvise", "page out the first process's memory", REFUSED, |s| {
        let pidfd = pidfd(first(s))?;
        let range: [usize; 2] = [0, 0];
        let advised = call(SYS_PROCESS_MADVISE, [fd(&pidfd), range.as_ptr() as usize, 1, libc::MADV_COLD as usize, 0]);
        said("process_madvise", advised).map(|_| "advised".into())
    })
    .needs(SYS_NICE),
    Attack::new("B-init-pidfd-ns", "take its namespaces from a pidfd", &[libc::EPERM, libc::EACCES, libc::ENOSYS], |s| {
        let pidfd = pidfd(first(s))?;
        said("ioctl(PIDFD_GET_USER_NAMESPACE)", owned(call(libc::SYS_ioctl, [fd(&pidfd), PIDFD_GET_USER_NAMESPACE, 0])))
            .map(|_| "took it".into())
    })
    .absent(&[libc::ENOTTY]),
    Attack::new("B-init-files", "write the first process's /proc files", &[], |s| {
        // Opening some of them is allowed to anyone; it is the write that counts.
        let values = [
            ("oom_score_adj", "1000"),
            ("oom_adj", "15"),
            ("comm", "attacked"),
            ("clear_refs", "1"),
            ("coredump_filter", "0"),
            ("timerslack_ns", "1000000"),
            ("sched", "0"),
            ("autogroup", "10"),
            ("setgroups", "deny"),
        ];
        let write = |(name, value): &(&str, &str)| {
            let opened = OpenOptions::new().write(true).open(format!("/proc/{}/{name}", first(s)));
            opened.and_then(|mut file| file.write_all(value.as_bytes())).is_ok()
        };
        values
            .iter()
            .find(|pair| write(pair))
            .map_or_else(|| not_there("none can be written"), |(name, _)| Ok(format!("{name} was written")))
    }),
    Attack::new("B-oom-score", "exempt itself from the memory killer", NOT_MORE, |_| {
        let mut file = prepare("open", OpenOptions::new().write(true).open("/proc/self/oom_score_adj"))?;
        said("write", file.write_all(b"-1000")).map(|()| "exempt".into())
    })
    .control(Control::WorksForRoot)
    .needs(SYS_RESOURCE),
    Attack::new("B-uid-map", "write its own uid_map", CLOSED, |_| {
        let mut file = said("open", OpenOptions::new().write(true).open("/proc/self/uid_map"))?;
        said("write", file.write_all(b"0 0 1")).map(|()| "mapped".into())
    })
    .control(Control::No("a namespace's map is written once, by its maker")),
    Attack::new("B-setuid", "become another user", &[libc::EPERM, libc::EINVAL], |_| {
        let other = if nix::unistd::getuid().as_raw() == 1 { 2 } else { 1 };
        said("setuid", call(libc::SYS_setuid, [other])).map(|_| "became user 1".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("B-setgroups", "change its groups", REFUSED, |_| {
        said("setgroups", call(libc::SYS_setgroups, [0, 0])).map(|_| "changed".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("B-capset", "raise capabilities", REFUSED, |_| {
        // _LINUX_CAPABILITY_VERSION_3, this process; CAP_CHOWN effective and permitted.
        let header: [u32; 2] = [0x2008_0522, 0];
        let data: [u32; 6] = [1, 1, 0, 0, 0, 0];
        said("capset", call(libc::SYS_capset, [header.as_ptr() as usize, data.as_ptr() as usize])).map(|_| "raised".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("B-realtime", "schedule itself in real time", NOT_MORE, |_| {
        let priority = 1_i32;
        let set = call(libc::SYS_sched_setscheduler, [0, libc::SCHED_FIFO as usize, (&raw const priority) as usize]);
        said("sched_setscheduler", set).map(|_| "scheduled".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("B-nice", "raise its own priority", NOT_MORE, |_| {
        said("setpriority", call(libc::SYS_setpriority, [0, 0, -19_isize as usize])).map(|_| "raised".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("B-raise-limits", "raise a hard limit", REFUSED, |_| {
        let mut limit = [0_u64; 2];
        prepare("prlimit64", call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, 0, limit.as_mut_ptr() as usize]))?;
        limit = [limit[1] + 1; 2];
        said("prlimit64", call(libc::SYS_prlimit64, [0, libc::RLIMIT_NOFILE as usize, limit.as_ptr() as usize, 0])).map(|_| "raised".into())
    })
    .control(Control::WorksForRoot)
    .needs(SYS_RESOURCE),
    Attack::new("B-core-limit", "have a core dump made, or handed to the host", &[], |_| {
        // A limit of 1 stops both files and the host's handler; 0 stops files only, and so does a lowered limit.
        let read = || {
            let mut limit = [0_u64; 2];
            prepare("prlimit64", call(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as usize, 0, limit.as_mut_ptr() as usize])).map(|_| limit)
        };
        for wanted in [0, u64::MAX] {
            let limit = [wanted, wanted.max(read()?[1])];
            drop(call(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as usize, limit.as_ptr() as usize, 0]));
        }
        let zero = [0_u64; 2];
        drop(call(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as usize, zero.as_ptr() as usize, 0]));
        match read()? {
            [1, 1] => not_there("the limit stays 1: no file, and no handler of the host's"),
            [soft, hard] => Ok(format!("the limit is {soft}, at most {hard}: the host's handler is called")),
        }
    }),
    Attack::new("B-personality", "change its personality", REFUSED, |_| {
        // READ_IMPLIES_EXEC.
        said("personality", call(libc::SYS_personality, [0x0040_0000])).map(|_| "changed".into())
    }),
    Attack::new("B-setns", "enter a namespace by its file", REFUSED, |_| {
        let file = prepare("open", fs::File::open("/proc/self/ns/uts"))?;
        said("setns", call(libc::SYS_setns, [fd(&file), libc::CLONE_NEWUTS as usize])).map(|_| "entered".into())
    })
    .control(Control::WorksForRoot),
    Attack::new("B-unshare-user", "make a user namespace", REFUSED, |_| unshare(libc::CLONE_NEWUSER)),
    Attack::new("B-unshare-mount", "make a mount namespace", REFUSED, |_| unshare(libc::CLONE_NEWNS)).control(Control::WorksForRoot),
    Attack::new("B-unshare-pid", "make a process namespace", REFUSED, |_| unshare(libc::CLONE_NEWPID)).control(Control::WorksForRoot),
    Attack::new("B-unshare-net", "make a network namespace", REFUSED, |_| unshare(libc::CLONE_NEWNET)).control(Control::WorksForRoot),
    Attack::new("B-unshare-ipc", "make an IPC namespace", REFUSED, |_| unshare(libc::CLONE_NEWIPC)).control(Control::WorksForRoot),
    Attack::new("B-unshare-uts", "make a host name namespace", REFUSED, |_| unshare(libc::CLONE_NEWUTS)).control(Control::WorksForRoot),
    Attack::new("B-unshare-cgroup", "make a cgroup namespace", REFUSED, |_| unshare(libc::CLONE_NEWCGROUP)).control(Control::WorksForRoot),
    Attack::new("B-unshare-time", "make a time namespace", REFUSED, |_| unshare(CLONE_NEWTIME)).control(Control::WorksForRoot),
    Attack::new("B-clone-user", "clone into a user namespace", REFUSED, |_| clone_into(libc::CLONE_NEWUSER)),
    Attack::new("B-clone-user-high", "the same with high flag bits set", REFUSED, |_| {
        // The kernel looks at the low 32 bits of clone's flags; a filter that compares all 64 would miss this.
        let flags = (libc::CLONE_NEWUSER | libc::SIGCHLD) as usize | 1 << 40;
        child(call(libc::SYS_clone, [flags]), "clone")
    }),
    Attack::new("B-clone-net", "clone into a network namespace", REFUSED, |_| clone_into(libc::CLONE_NEWNET))
        .control(Control::WorksForRoot),
    Attack::new("B-clone3-user", "the same with clone3", REFUSED, |_| {
        let mut arguments = [0_u64; 8];
        (arguments[0], arguments[4]) = (libc::CLONE_NEWUSER as u64, libc::SIGCHLD as u64);
        child(call(libc::SYS_clone3, [arguments.as_ptr() as usize, size_of_val(&arguments)]), "clone3")
    })
    .absent(&[libc::ENOSYS]),
    Attack::new("B-seccomp-again", "stack a permissive filter, then try again", REFUSED, |_| {
        // BPF_RET | BPF_K, SECCOMP_RET_ALLOW. A refused filter is no news: what counts is the call after it.
        let program: [u64; 1] = [0x7fff_0000_0000_0006];
        let header: [usize; 2] = [1, program.as_ptr() as usize];
        drop(call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0]));
        drop(call(libc::SYS_seccomp, [libc::SECCOMP_SET_MODE_FILTER as usize, 0, header.as_ptr() as usize]));
        unshare(libc::CLONE_NEWUSER)
    }),
    Attack::new("B-landlock-again", "stack a permissive ruleset, then write", &[libc::EROFS, libc::EACCES, libc::EPERM], |s| {
        // handled_access_fs: everything of the first ABI; one rule that allows it all below the root.
        let handled: [u64; 1] = [0x1fff];
        let made = owned(call(libc::SYS_landlock_create_ruleset, [handled.as_ptr() as usize, 8, 0]));
        if let (Ok(ruleset), Ok(root)) = (made, super::calls::open_path(std::path::Path::new("/"))) {
            let descriptor = u64::from(u32::try_from(fd(&root)).unwrap_or_default());
            // struct landlock_path_beneath_attr is packed: eight bytes of rights, then four of the descriptor.
            let rule: [u64; 2] = [0x1fff, descriptor];
            drop(call(libc::SYS_landlock_add_rule, [fd(&ruleset), 1, rule.as_ptr() as usize, 0]));
            drop(call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as usize, 1, 0, 0, 0]));
            drop(call(libc::SYS_landlock_restrict_self, [fd(&ruleset), 0]));
        }
        let mut file = said("open", OpenOptions::new().append(true).open(s.granted()))?;
        said("write", file.write_all(b"attacked\n")).map(|()| "wrote".into())
    }),
    Attack::driven("B-stubborn", "outlive the limit: no SIGTERM, setsid, forks", stubborn, |d| {
        ends_at(d, &["--wall", "700ms"], &[Cause::Wall])
    }),
    Attack::driven("B-held-pipe", "outlive the main process and hold its pipes", held_pipe, outlive),
    Attack::driven("B-late-writer", "write the workspace after the main one ended", late_writer, outlive),
    Attack::driven("B-orphaned", "outlive a supervisor that is killed", stubborn, orphaned),
    Attack::driven("B-crash", "leave a core dump", crash, |d| {
        let ended = d.run(&[])?;
        let left = fs::read_dir(&d.scene.workspace).map_err(|_| Attempt::NoAnswer { why: "the workspace is gone".to_owned() })?;
        let core = left.flatten().find(|entry| entry.file_name().as_encoded_bytes().starts_with(b"core"));
        match core {
            Some(core) => Ok(format!("{} is in the workspace", core.file_name().display())),
            None if ended.code == 128 + libc::SIGABRT => not_there("it ended by SIGABRT, and left nothing"),
            None => Err(Attempt::NoAnswer { why: format!("it ended with {}", ended.code) }),
        }
    })
    .control(Control::No("where cores go is the host's own choice")),
    Attack::driven("B-orphan-flood", "keep the first process busy with orphans", orphan_flood, |d| {
        ends_at(d, &["--wall", "1s"], &[Cause::Wall, Cause::Pids])
    })
    .control(Control::No("it would keep the host's first process busy")),
    Attack::driven("B-fork-bomb", "fork without end", |_| fork_many(400, true), |d| ends_at(d, &["--pids", "32"], &[Cause::Pids])),
    Attack::driven("B-zombies", "leave 1,000 zombies", |_| fork_many(1000, false), |d| ends_at(d, &["--pids", "64"], &[Cause::Pids])),
];

/// CAP_SYS_NICE.
const SYS_NICE: u32 = 23;
/// CAP_SYS_RESOURCE.
const SYS_RESOURCE: u32 = 24;
const CLONE_NEWTIME: libc::c_int = 0x80;

/// The process that an attack aims at: the sandbox's first, or the sibling for the control.
fn first(stage: &Stage) -> usize {
    if stage.scene.control { stage.scene.sibling.cast_unsigned() as usize } else { 1 }
}

fn pidfd(pid: usize) -> Result<std::os::fd::OwnedFd, Attempt> {
    prepare("pidfd_open", owned(call(libc::SYS_pidfd_open, [pid, 0])))
}

/// Tries something on the sibling outside, by the number it has there.
fn aim<T>(stage: &Stage, name: &str, act: impl Fn(usize) -> std::io::Result<T>) -> Tried {
    let pid = stage.scene.sibling;
    // Inside, the number may belong to somebody else; that one is none of ours to touch.
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let there = fs::exists(format!("/proc/{pid}")).unwrap_or(false);
    if there && !String::from_utf8_lossy(&arguments).contains(&stage.scene.token) {
        return not_there(format!("number {pid} is another process here"));
    }
    said(name, act(pid.cast_unsigned() as usize)).map(|_| format!("it worked on process {pid} outside"))
}

fn read_memory(pid: usize) -> std::io::Result<isize> {
    // An address where nothing is: a tracer that is allowed gets EFAULT, or nothing; one that is not gets EPERM first.
    let mut buffer = [0_u8; 8];
    let local: [usize; 2] = [buffer.as_mut_ptr() as usize, buffer.len()];
    let address = mapped_address(pid).unwrap_or(4096);
    let remote: [usize; 2] = [address, buffer.len()];
    call(libc::SYS_process_vm_readv, [pid, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0])
}

fn write_memory(pid: usize) -> std::io::Result<isize> {
    // Page zero is never mapped: an allowed writer gets EFAULT and harms nobody.
    let buffer = [0_u8; 8];
    let local: [usize; 2] = [buffer.as_ptr() as usize, buffer.len()];
    let remote: [usize; 2] = [0, buffer.len()];
    call(libc::SYS_process_vm_writev, [pid, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0])
}

/// Where a process has something to read, if its map can be seen.
fn mapped_address(pid: usize) -> Option<usize> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).ok()?;
    let line = maps.lines().find(|line| line.contains(" r"))?;
    usize::from_str_radix(line.split('-').next()?, 16).ok()
}

fn lower_limit(pid: usize) -> std::io::Result<isize> {
    let limit: [u64; 2] = [64, 64];
    call(libc::SYS_prlimit64, [pid, libc::RLIMIT_SIGPENDING as usize, limit.as_ptr() as usize, 0])
}

fn unshare(flags: libc::c_int) -> Tried {
    said("unshare", call(libc::SYS_unshare, [flags as usize])).map(|_| "made one".into())
}

fn clone_into(flags: libc::c_int) -> Tried {
    child(fork_with(flags), "clone")
}

/// The two sides of a clone: the child leaves at once, the parent tells.
fn child(result: std::io::Result<isize>, name: &str) -> Tried {
    match said(name, result)? {
        0 => leave(0),
        pid => {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(-1));
            prepare("wait", nix::sys::wait::waitpid(pid, None).map_err(std::io::Error::from))?;
            Ok("made one".into())
        }
    }
}

/// How long a payload that should be ended goes on: bounded, so that a hole does no harm either.
const STUBBORN: Duration = Duration::from_secs(20);

fn tick(stage: &Stage, until: Instant) {
    let path = ticks(stage.scene.control.then(|| stage.scene.workspace.clone()), stage.id);
    while Instant::now() < until {
        // A read-only workspace has no ticks; its processes are counted from outside all the same.
        drop(OpenOptions::new().append(true).create(true).open(&path).and_then(|mut file| file.write_all(b".")));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ticks(workspace: Option<PathBuf>, id: &str) -> PathBuf {
    workspace.unwrap_or_default().join(format!("{id}.ticks"))
}

fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
        // struct sigaction as the kernel has it: SIG_IGN, no flags, no restorer, no mask.
        let action: [usize; 4] = [1, 0, 0, 0];
        drop(call(libc::SYS_rt_sigaction, [signal as usize, action.as_ptr() as usize, 0, 8]));
    }
}

/// Leaves the session, forks twice, ignores every polite signal, and goes on for a while.
fn stubborn(stage: &Stage) -> Tried {
    let until = Instant::now() + STUBBORN;
    ignore_signals();
    if prepare("fork", fork_with(0))? == 0 {
        drop(call(libc::SYS_setsid, []));
        if fork_with(0).is_ok_and(|pid| pid == 0) {
            tick(stage, until);
        }
        leave(0);
    }
    tick(stage, until);
    Ok("lived to its own end".into())
}

/// A grandchild keeps the output pipe, and the main process ends at once.
fn held_pipe(_: &Stage) -> Tried {
    if prepare("fork", fork_with(0))? == 0 {
        drop(call(libc::SYS_setsid, []));
        std::thread::sleep(STUBBORN);
        leave(0);
    }
    Ok("the main process ended".into())
}

fn late_writer(stage: &Stage) -> Tried {
    if prepare("fork", fork_with(0))? == 0 {
        drop(call(libc::SYS_setsid, []));
        tick(stage, Instant::now() + STUBBORN);
        leave(0);
    }
    std::thread::sleep(Duration::from_millis(60));
    Ok("the main process ended".into())
}

/// Leaves children to the first process as fast as it can.
fn orphan_flood(_: &Stage) -> Tried {
    let until = Instant::now() + STUBBORN;
    while Instant::now() < until {
        // A child that forks and leaves: its own child is an orphan at once. A refused fork is tried again.
        match fork_with(0) {
            Ok(0) => {
                drop(fork_with(0));
                leave(0);
            }
            Ok(pid) => {
                let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(-1));
                prepare("wait", nix::sys::wait::waitpid(pid, None).map_err(std::io::Error::from))?;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    Ok("went on to its own end".into())
}

fn crash(_: &Stage) -> Tried {
    let limit = [u64::MAX; 2];
    drop(call(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as usize, limit.as_ptr() as usize, 0]));
    drop(call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE as usize, 1]));
    std::process::abort()
}

/// Forks up to a number of children that sleep, or end at once and stay unreaped.
fn fork_many(count: usize, sleep: bool) -> Tried {
    for made in 0..count {
        match fork_with(0) {
            Ok(0) => {
                if sleep {
                    std::thread::sleep(Duration::from_millis(1500));
                }
                leave(0);
            }
            Ok(_) => {}
            Err(error) => {
                // The engine has until the end of this pause to see the limit and end the run by itself.
                std::thread::sleep(Duration::from_millis(500));
                return said("fork", Err(error)).map(|()| format!("{made} processes"));
            }
        }
    }
    Ok(format!("made {count} processes"))
}

/// Runs the payload under a limit: it must end there, with that cause, and leave nothing alive.
pub(super) fn ends_at(driver: &Driver, limits: &[&str], causes: &[Cause]) -> Tried {
    if driver.control() {
        let ended = driver.start(&[])?.end_within(Duration::from_millis(1500))?;
        let alive = driver.survivors().len();
        driver.clear();
        let own = ended.answers.into_iter().next().map(|answer| answer.attempt);
        return match own {
            Some(Attempt::Succeeded { detail }) => Ok(detail),
            Some(other) => Err(other),
            None if alive > 0 => Ok(format!("{alive} processes outlived a plain kill")),
            None => Err(Attempt::NoAnswer { why: format!("it ended with {}", ended.code) }),
        };
    }
    let ended = driver.run(limits)?;
    judge_limit(driver, &ended, causes)
}

/// What a run under a limit shows.
pub(super) fn judge_limit(driver: &Driver, ended: &Ended, causes: &[Cause]) -> Tried {
    let alive = driver.survivors();
    driver.clear();
    if !alive.is_empty() {
        return Ok(format!("{} processes are alive after the run", alive.len()));
    }
    let Some(outcome) = &ended.outcome else {
        return Err(Attempt::NoAnswer { why: format!("no outcome was written; exec said {}: {}", ended.code, ended.errors) });
    };
    if outcome.processes_left > 0 {
        return Ok(format!("the outcome counts {} processes left", outcome.processes_left));
    }
    if outcome.cause == Cause::Wall && ended.took > Duration::from_secs(6) {
        return Ok(format!("the run returned {} after its start", crate::base::duration::display(ended.took)));
    }
    if causes.contains(&outcome.cause) {
        let cause = serde_json::to_value(outcome.cause).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default();
        let detail = outcome.detail.clone().unwrap_or_else(|| format!("ended by the limit: {cause}"));
        return Err(Attempt::Stopped { cause, detail });
    }
    match ended.answers.first().map(|answer| &answer.attempt) {
        Some(Attempt::Succeeded { detail }) => Ok(detail.clone()),
        Some(other) => {
            Err(Attempt::NoAnswer { why: format!("the cause is {:?}, not {causes:?}; the payload: {}", outcome.cause, other.long()) })
        }
        None => Err(Attempt::NoAnswer { why: format!("the cause is {:?}, not {causes:?}: {}", outcome.cause, ended.errors) }),
    }
}

/// The main process ends by itself; whoever it left behind must be dead when the run returns.
fn outlive(driver: &Driver) -> Tried {
    let ended = driver.run(&[])?;
    let alive = driver.survivors().len();
    let path = ticks(Some(driver.scene.workspace.clone()), driver.ids.first().copied().unwrap_or_default());
    let length = || fs::metadata(&path).map_or(0, |meta| meta.len());
    let before = length();
    std::thread::sleep(Duration::from_millis(150));
    let grew = length() > before;
    driver.clear();
    if grew {
        return Ok("the workspace was written after the run had returned".into());
    }
    if alive > 0 {
        return Ok(format!("{alive} processes are alive after the run"));
    }
    if ended.code != 0 {
        return Err(Attempt::NoAnswer { why: format!("exec said {}: {}", ended.code, ended.errors) });
    }
    if ended.took > STUBBORN {
        return Ok("the run waited for the grandchild".into());
    }
    not_there(format!("all dead when the run returned, after {}", crate::base::duration::display(ended.took)))
}

/// The supervisor is killed; the tree must die with it.
fn orphaned(driver: &Driver) -> Tried {
    let running = driver.start(&[])?;
    let supervisor = running.pid();
    let since = Instant::now();
    // The payload counts as started when it runs beside the supervisor that holds the same words in its arguments.
    let others = || driver.survivors().into_iter().filter(|pid| *pid != supervisor).count();
    let expected = if driver.control() { 1 } else { 2 };
    while others() < expected && since.elapsed() < Duration::from_secs(15) {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(100));
    if others() == 0 {
        drop(running.kill());
        return inapplicable("the payload was not seen to start");
    }
    running.kill()?;
    let since = Instant::now();
    while !driver.survivors().is_empty() && since.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let alive = driver.survivors().len();
    driver.clear();
    if alive > 0 {
        return Ok(format!("{alive} processes outlived it"));
    }
    if driver.control() {
        return not_there("all dead within a second");
    }
    // The next start sweeps what a killed supervisor could not.
    Driver { ids: &[super::run::HELLO], ..*driver }.run(&[])?;
    match group_of(supervisor) {
        Some(path) => Ok(format!("its control group is still there: {}", path.display())),
        None => not_there("all dead within a second, and the next start removed the rest"),
    }
}

/// A control group that was made by this supervisor and is still there.
fn group_of(supervisor: i32) -> Option<PathBuf> {
    let name = format!("cofferdam-{supervisor}-");
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).ok().into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(&name) {
                    return Some(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    None
}

//! The system call filter as data: what is allowed, what is refused and why, and everything else does not exist.
//!
//! Pure. A table of rows becomes one BPF program: a binary search over ranges of call numbers, whose leaves are either a constant verdict
//! or the argument conditions that `seccompiler` compiled. One short program matters twice: the kernel runs it once for every known call
//! number when it is installed (to remember the calls that are always allowed), and a linear list of some 340 calls would cost more than
//! all mounts of a sandbox together. A test compares the program, call by call, with the table.
//!
//! The program of the usual sandbox is kept ready-made in `filter/usual.rs`; a test compares it with the table too.

#[cfg(test)]
mod keep;
mod shorten;
mod usual;

use std::collections::BTreeMap;

use libc::{EAFNOSUPPORT, ENOSYS, EPERM, c_long};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

/// What happens to one system call.
#[derive(Clone, Debug)]
pub enum Verdict {
    Allow,
    Errno(i32),
    /// The supervisor is told, and the kernel decides.
    Notify,
    /// Allowed when every condition of one of the lists holds; else the error number (0: success without doing anything).
    When(Vec<Vec<Condition>>, i32),
    /// Refused with the error number when every condition of the list holds; else as the rest says.
    Unless(Vec<Condition>, i32, Box<Self>),
}

/// A condition on one argument.
#[derive(Clone, Debug)]
pub struct Condition {
    pub argument: u8,
    pub width: SeccompCmpArgLen,
    pub operator: SeccompCmpOp,
    pub value: u64,
}

/// One row: a call that is not simply allowed, and why.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: &'static str,
    pub call: c_long,
    pub verdict: Verdict,
    pub why: &'static str,
}

/// What a sandbox's filter must do beyond the common table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Spec {
    /// No network namespace stands behind it: no socket of any family but local stream pairs.
    pub no_sockets: bool,
    /// No pid namespace stands behind it: limits, priorities and processors of other processes cannot be changed.
    pub own_process_only: bool,
    /// Tell the supervisor of each `connect`, to explain what was refused.
    pub watch_connect: bool,
}

impl Spec {
    /// A sandbox with all its namespaces.
    pub const USUAL: Self = Self { no_sockets: false, own_process_only: false, watch_connect: true };
}

#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    #[error("the system call filter does not know this processor: {0}")]
    Architecture(&'static str),
    #[error("a condition of the system call filter is malformed: {0}")]
    Compile(#[from] seccompiler::BackendError),
    #[error("the system call filter has {0} instructions, more than the kernel takes")]
    TooLong(usize),
}

fn when(argument: u8, width: SeccompCmpArgLen, operator: SeccompCmpOp, value: u64) -> Condition {
    Condition { argument, width, operator, value }
}

/// None of the bits of `mask` is set.
fn without(argument: u8, mask: u64) -> Condition {
    when(argument, Dword, MaskedEq(mask), 0)
}

const SETID_BITS: u64 = (libc::S_ISUID | libc::S_ISGID) as u64;
/// O_CREAT, and the bit of O_TMPFILE that is not O_DIRECTORY: only with these does `open` look at its mode.
const CREATES: u64 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u64;
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

macro_rules! calls {
    ($($number:ident)*) => { &[$((stringify!($number), libc::$number)),*] };
}

/// Calls that every program may make: files, memory, processes of the sandbox, sockets that exist, time that is only read.
const ALLOWED: &[(&str, c_long)] = calls! {
    SYS_accept SYS_accept4 SYS_access SYS_alarm SYS_arch_prctl SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_chown
    SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_close SYS_close_range SYS_copy_file_range SYS_dup SYS_dup2 SYS_dup3
    SYS_epoll_create SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_epoll_wait SYS_eventfd SYS_eventfd2 SYS_execve
    SYS_execveat SYS_exit SYS_exit_group SYS_faccessat SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fchdir SYS_fchown SYS_fchownat
    SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fork SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs
    SYS_fsync SYS_ftruncate SYS_futex SYS_futimesat SYS_get_mempolicy SYS_get_robust_list SYS_getcpu SYS_getcwd SYS_getdents
    SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid SYS_getpgrp SYS_getpid
    SYS_getppid SYS_getpriority SYS_getrandom SYS_getresgid SYS_getresuid SYS_getrlimit SYS_getrusage SYS_getsid SYS_getsockname
    SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr SYS_inotify_add_watch SYS_inotify_init SYS_inotify_init1
    SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents SYS_io_setup SYS_io_submit SYS_ioprio_get SYS_ioprio_set SYS_kill
    SYS_landlock_add_rule SYS_landlock_create_ruleset SYS_landlock_restrict_self SYS_lchown SYS_lgetxattr SYS_link SYS_linkat SYS_listen
    SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_lstat SYS_madvise SYS_mbind SYS_membarrier
    SYS_memfd_create SYS_mincore SYS_mkdir SYS_mkdirat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mprotect SYS_mq_getsetattr
    SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap SYS_msgctl SYS_msgget SYS_msgrcv SYS_msgsnd
    SYS_msync SYS_munlock SYS_munlockall SYS_munmap SYS_nanosleep SYS_newfstatat SYS_pause SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe
    SYS_pipe2 SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_poll SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_preadv2
    SYS_pselect6 SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead SYS_readlink SYS_readlinkat SYS_readv SYS_recvfrom
    SYS_recvmmsg SYS_recvmsg SYS_removexattr SYS_rename SYS_renameat SYS_renameat2 SYS_restart_syscall SYS_rmdir SYS_rseq
    SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn SYS_rt_sigsuspend SYS_rt_sigtimedwait
    SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr
    SYS_sched_getparam SYS_sched_getscheduler SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam
    SYS_sched_setscheduler SYS_sched_yield SYS_seccomp SYS_select SYS_semctl SYS_semget SYS_semop SYS_semtimedop SYS_sendfile
    SYS_sendmmsg SYS_sendmsg SYS_sendto SYS_set_mempolicy SYS_set_robust_list SYS_set_tid_address SYS_setfsgid SYS_setfsuid SYS_setgid
    SYS_setgroups SYS_setitimer SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsid
    SYS_setsockopt SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown SYS_sigaltstack SYS_signalfd
    SYS_signalfd4 SYS_socketpair SYS_splice SYS_stat SYS_statfs SYS_statx SYS_symlink SYS_symlinkat SYS_sync SYS_sync_file_range
    SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill SYS_time SYS_timer_create SYS_timer_delete SYS_timer_getoverrun SYS_timer_gettime
    SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask SYS_uname
    SYS_unlink SYS_unlinkat SYS_utime SYS_utimensat SYS_utimes SYS_vfork SYS_vmsplice SYS_wait4 SYS_waitid SYS_write SYS_writev
};

/// The same, newer than the C library's list of names; these numbers are the same on every architecture.
const ALLOWED_NEWER: &[(&str, c_long)] = &[
    ("futex_waitv", 449),
    ("cachestat", 451),
    ("map_shadow_stack", 453),
    ("futex_wake", 454),
    ("futex_wait", 455),
    ("futex_requeue", 456),
    ("mseal", 462),
];

fn refused(name: &'static str, call: c_long, why: &'static str) -> Row {
    Row { name, call, verdict: Verdict::Errno(EPERM), why }
}

fn only(name: &'static str, call: c_long, lists: Vec<Vec<Condition>>, otherwise: i32, why: &'static str) -> Row {
    Row { name, call, verdict: Verdict::When(lists, otherwise), why }
}

/// Every call that is neither simply allowed nor unknown, with its reason. Calls in no table get ENOSYS, so that libraries fall back.
pub fn unusual(spec: Spec) -> Vec<Row> {
    let setid = "a set-user-id or set-group-id bit on a file outlives the sandbox";
    let mounts = "mounts would change what the sandbox is made of";
    let host = "it changes the host for everybody";
    let others = "it reaches into other processes";
    let keys = "keyrings are not confined by any namespace";
    let device = "only plain files, pipes and sockets: devices and overlay whiteouts outlive the sandbox";
    let file_kinds = [0, libc::S_IFREG, libc::S_IFIFO, libc::S_IFSOCK].map(u64::from);
    let plain_nodes = |argument| -> Vec<Vec<Condition>> {
        file_kinds.iter().map(|kind| vec![when(argument, Dword, MaskedEq(u64::from(libc::S_IFMT) | SETID_BITS), *kind)]).collect()
    };
    let creates = |flags, mode| vec![vec![without(flags, CREATES)], vec![without(mode, SETID_BITS)]];
    let mut rows = vec![
        only("chmod", libc::SYS_chmod, vec![vec![without(1, SETID_BITS)]], EPERM, setid),
        only("fchmod", libc::SYS_fchmod, vec![vec![without(1, SETID_BITS)]], EPERM, setid),
        only("fchmodat", libc::SYS_fchmodat, vec![vec![without(2, SETID_BITS)]], EPERM, setid),
        only("fchmodat2", 452, vec![vec![without(2, SETID_BITS)]], EPERM, setid),
        only("creat", libc::SYS_creat, vec![vec![without(1, SETID_BITS)]], EPERM, setid),
        only("open", libc::SYS_open, creates(1, 2), EPERM, setid),
        only("openat", libc::SYS_openat, creates(2, 3), EPERM, setid),
        only("mknod", libc::SYS_mknod, plain_nodes(1), EPERM, device),
        only("mknodat", libc::SYS_mknodat, plain_nodes(2), EPERM, device),
        only("clone", libc::SYS_clone, vec![vec![without(0, NEW_NAMESPACES)]], EPERM, "threads and processes, but no new namespaces"),
        refused("unshare", libc::SYS_unshare, "no new namespaces: they open the largest attack surface of the kernel"),
        refused("setns", libc::SYS_setns, "no other namespaces"),
        refused("mount", libc::SYS_mount, mounts),
        refused("umount2", libc::SYS_umount2, mounts),
        refused("pivot_root", libc::SYS_pivot_root, mounts),
        refused("chroot", libc::SYS_chroot, mounts),
        refused("fsopen", libc::SYS_fsopen, mounts),
        refused("fsconfig", libc::SYS_fsconfig, mounts),
        refused("fsmount", libc::SYS_fsmount, mounts),
        refused("fspick", libc::SYS_fspick, mounts),
        refused("move_mount", libc::SYS_move_mount, mounts),
        refused("open_tree", libc::SYS_open_tree, mounts),
        refused("open_tree_attr", 467, mounts),
        refused("mount_setattr", libc::SYS_mount_setattr, mounts),
        refused("ptrace", libc::SYS_ptrace, others),
        refused("process_vm_readv", libc::SYS_process_vm_readv, others),
        refused("process_vm_writev", libc::SYS_process_vm_writev, others),
        refused("process_madvise", libc::SYS_process_madvise, others),
        refused("pidfd_getfd", libc::SYS_pidfd_getfd, others),
        refused("kcmp", libc::SYS_kcmp, others),
        refused("move_pages", libc::SYS_move_pages, others),
        refused("migrate_pages", libc::SYS_migrate_pages, others),
        refused("add_key", libc::SYS_add_key, keys),
        refused("request_key", libc::SYS_request_key, keys),
        refused("keyctl", libc::SYS_keyctl, keys),
        refused("bpf", libc::SYS_bpf, "programs inside the kernel"),
        refused("perf_event_open", libc::SYS_perf_event_open, "it watches the kernel and other processes"),
        refused("userfaultfd", libc::SYS_userfaultfd, "it stops the kernel in the middle of a copy: the usual helper of exploits"),
        refused("open_by_handle_at", libc::SYS_open_by_handle_at, "it opens files by number, past every mount and folder"),
        refused("name_to_handle_at", libc::SYS_name_to_handle_at, "the other half of opening by number"),
        refused("fanotify_init", libc::SYS_fanotify_init, "it watches whole file systems"),
        refused("fanotify_mark", libc::SYS_fanotify_mark, "it watches whole file systems"),
        refused("init_module", libc::SYS_init_module, host),
        refused("finit_module", libc::SYS_finit_module, host),
        refused("delete_module", libc::SYS_delete_module, host),
        refused("kexec_load", libc::SYS_kexec_load, host),
        refused("kexec_file_load", libc::SYS_kexec_file_load, host),
        refused("reboot", libc::SYS_reboot, host),
        refused("swapon", libc::SYS_swapon, host),
        refused("swapoff", libc::SYS_swapoff, host),
        refused("acct", libc::SYS_acct, host),
        refused("settimeofday", libc::SYS_settimeofday, host),
        refused("clock_settime", libc::SYS_clock_settime, host),
        refused("clock_adjtime", libc::SYS_clock_adjtime, host),
        refused("adjtimex", libc::SYS_adjtimex, host),
        refused("quotactl", libc::SYS_quotactl, host),
        refused("quotactl_fd", libc::SYS_quotactl_fd, host),
        refused("syslog", libc::SYS_syslog, "the kernel's log names addresses and other people's processes"),
        refused("sethostname", libc::SYS_sethostname, "the name is part of the sandbox"),
        refused("setdomainname", libc::SYS_setdomainname, "the name is part of the sandbox"),
        refused("iopl", libc::SYS_iopl, host),
        refused("ioperm", libc::SYS_ioperm, host),
        refused("modify_ldt", libc::SYS_modify_ldt, "16-bit segments: a source of kernel bugs that no tool needs"),
        refused("vhangup", libc::SYS_vhangup, "it acts on the terminal"),
        only(
            "personality",
            libc::SYS_personality,
            [0xffff_ffff, 0, 0x0004_0000].map(|v| vec![when(0, Dword, Eq, v)]).into(),
            EPERM,
            "reading it, plain Linux, and no address randomisation for debuggers; not the compatibility modes",
        ),
        only(
            "ioctl",
            libc::SYS_ioctl,
            vec![vec![when(1, Dword, Ne, libc::TIOCSTI), when(1, Dword, Ne, 0x541c), when(1, Dword, Ne, 0x5423)]],
            EPERM,
            "TIOCSTI and TIOCLINUX type into a terminal, TIOCSETD loads line disciplines; compared by the 32 bits that the kernel looks at",
        ),
        only(
            "fcntl",
            libc::SYS_fcntl,
            vec![vec![when(1, Dword, Ne, libc::F_SETLEASE as u64), when(1, Dword, Ne, libc::F_NOTIFY as u64)]],
            EPERM,
            "a lease on a file that is only readable here would stop its writers on the host",
        ),
        only(
            "setrlimit",
            libc::SYS_setrlimit,
            vec![vec![when(0, Dword, Ne, u64::from(libc::RLIMIT_CORE))]],
            0,
            "a core limit of 1 keeps the host's core handler away; programs that set it to 0 are told that it is done",
        ),
    ];
    let core_limit_read_or_other = vec![vec![when(1, Dword, Ne, u64::from(libc::RLIMIT_CORE))], vec![when(2, Qword, Eq, 0)]];
    if spec.own_process_only {
        let own = "no pid namespace confines it: only the caller itself";
        let own_and_no_core = core_limit_read_or_other.into_iter().map(|mut list| {
            list.push(when(0, Dword, Eq, 0));
            list
        });
        rows.push(only("prlimit64", libc::SYS_prlimit64, own_and_no_core.collect(), EPERM, own));
        rows.push(only("setpriority", libc::SYS_setpriority, vec![vec![when(0, Dword, Eq, 0), when(1, Dword, Eq, 0)]], EPERM, own));
        rows.push(only("ioprio_set", libc::SYS_ioprio_set, vec![vec![when(0, Dword, Eq, 1), when(1, Dword, Eq, 0)]], EPERM, own));
        for (name, call) in [
            ("sched_setaffinity", libc::SYS_sched_setaffinity),
            ("sched_setscheduler", libc::SYS_sched_setscheduler),
            ("sched_setparam", libc::SYS_sched_setparam),
            ("sched_setattr", libc::SYS_sched_setattr),
        ] {
            rows.push(only(name, call, vec![vec![when(0, Dword, Eq, 0)]], EPERM, own));
        }
    } else {
        // Process 1 keeps the sandbox: it has the payload's user id, so the kernel alone would let the payload change its limits.
        let of_another = vec![when(0, Dword, Ne, 0), when(2, Qword, Ne, 0)];
        let own = Box::new(Verdict::When(core_limit_read_or_other, 0));
        let verdict = Verdict::Unless(of_another, EPERM, own);
        rows.push(Row { name: "prlimit64", call: libc::SYS_prlimit64, verdict, why: "only one's own limits; the core limit as setrlimit" });
    }
    if spec.no_sockets {
        let stream_pair = vec![vec![when(0, Dword, Eq, 1), when(1, Dword, MaskedEq(0xf), 1)]];
        rows.push(Row { name: "socket", call: libc::SYS_socket, verdict: Verdict::Errno(EPERM), why: "no network namespace confines it" });
        rows.push(only("socketpair", libc::SYS_socketpair, stream_pair, EPERM, "only local stream pairs"));
    } else {
        let local = vec![when(0, Dword, Eq, libc::AF_UNIX as u64)];
        let protocols = [0, libc::IPPROTO_ICMP, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ICMPV6];
        let internet = [libc::AF_INET, libc::AF_INET6]
            .into_iter()
            .flat_map(|family| protocols.map(|protocol| vec![when(0, Dword, Eq, family as u64), when(2, Dword, Eq, protocol as u64)]));
        let netlink_route = vec![when(0, Dword, Eq, libc::AF_NETLINK as u64), when(2, Dword, Eq, 0)];
        rows.push(only(
            "socket",
            libc::SYS_socket,
            [local, netlink_route].into_iter().chain(internet).collect(),
            EAFNOSUPPORT,
            "local, TCP and UDP, and the netlink family that the C library asks for interfaces; all others, and SCTP, DCCP, multipath TCP \
             (which Landlock's TCP rules do not know) and their like, are attack surface",
        ));
    }
    let connect = if spec.watch_connect { Verdict::Notify } else { Verdict::Allow };
    rows.push(Row {
        name: "connect",
        call: libc::SYS_connect,
        verdict: connect,
        why: "watched, so that a refusal can be explained; the kernel decides",
    });
    rows
}

/// The verdict for every call number that has one, in the order of the numbers; all others get ENOSYS.
fn table(spec: Spec) -> Vec<(u32, Verdict)> {
    let allowed = ALLOWED.iter().chain(ALLOWED_NEWER).map(|(_, call)| (*call, Verdict::Allow));
    let unusual = unusual(spec).into_iter().map(|row| (row.call, row.verdict));
    let mut table: Vec<_> = unusual.chain(allowed).filter_map(|(call, verdict)| Some((u32::try_from(call).ok()?, verdict))).collect();
    // Of two verdicts on one call the unusual one holds: the sort keeps their order.
    table.sort_by_key(|(call, _)| *call);
    table.dedup_by_key(|(call, _)| *call);
    table
}

// Classic BPF: a load, a mask, jumps, a return. The constants are the kernel's.
const LD_W_ABS: u16 = 0x20;
const JMP_JA: u16 = 0x05;
const JMP_JEQ_K: u16 = 0x15;
const JMP_JGT_K: u16 = 0x25;
const JMP_JGE_K: u16 = 0x35;
const AND_K: u16 = 0x54;
const RET_K: u16 = 0x06;
const OFFSET_NR: u32 = 0;
const OFFSET_ARCH: u32 = 4;
const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_ERRNO: u32 = 0x0005_0000;
/// The kernel takes no longer program.
const LONGEST: usize = 4096;

#[cfg(target_arch = "x86_64")]
const ARCH: (u32, TargetArch) = (0xc000_003e, TargetArch::x86_64);

const fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// The whole filter as one program.
///
/// # Errors
/// When a condition is malformed or the program grows beyond what the kernel takes; both are found by the tests.
pub fn program(spec: Spec) -> Result<BpfProgram, FilterError> {
    if spec == Spec::USUAL { Ok(usual::WORDS.iter().map(|word| unpacked(*word)).collect()) } else { made(spec) }
}

/// An instruction as the kernel lays it out, in one number.
const fn unpacked(word: u64) -> sock_filter {
    let [code_low, code_high, jt, jf, k @ ..] = word.to_le_bytes();
    sock_filter { code: u16::from_le_bytes([code_low, code_high]), jt, jf, k: u32::from_le_bytes(k) }
}

/// Makes it from the table.
fn made(spec: Spec) -> Result<BpfProgram, FilterError> {
    let mut leaves = Leaves::default();
    let unknown = leaves.constant(RET_ERRNO | ENOSYS as u32);
    // Ranges of call numbers with one verdict, by their first number.
    let mut ranges: Vec<(u32, usize)> = Vec::new();
    let mut next = 0;
    let mut begin = |number, leaf| {
        if ranges.last().map(|(_, last)| *last) != Some(leaf) {
            ranges.push((number, leaf));
        }
    };
    for (call, verdict) in table(spec) {
        if call > next {
            begin(next, unknown);
        }
        begin(call, leaves.verdict(call, &verdict)?);
        next = call + 1;
    }
    begin(next, unknown);

    let search = search(&ranges);
    let mut program = vec![
        statement(LD_W_ABS, OFFSET_ARCH),
        jump(JMP_JEQ_K, ARCH.0, 1, 0),
        statement(RET_K, RET_KILL_PROCESS),
        statement(LD_W_ABS, OFFSET_NR),
    ];
    let leaves_start = program.len() + search.len();
    for node in search {
        let here = program.len();
        program.push(match node {
            Node::AtLeast { number, less } => jump(JMP_JGE_K, number, 0, less),
            // Every leaf lies behind the search, so the distance is never negative.
            Node::Leaf(leaf) => statement(JMP_JA, u32::try_from(leaves_start + leaves.starts[leaf] - here - 1).unwrap_or(u32::MAX)),
            Node::Far(distance) => statement(JMP_JA, distance),
        });
    }
    program.extend(leaves.code);
    let program = shorten::shorten(program);
    if program.len() >= LONGEST { Err(FilterError::TooLong(program.len())) } else { Ok(program) }
}

/// The ends of the search: pieces of program, each used by any number of ranges.
#[derive(Default)]
struct Leaves {
    code: Vec<sock_filter>,
    starts: Vec<usize>,
    constants: BTreeMap<u32, usize>,
}

impl Leaves {
    fn constant(&mut self, action: u32) -> usize {
        if let Some(leaf) = self.constants.get(&action) {
            return *leaf;
        }
        self.starts.push(self.code.len());
        self.code.push(statement(RET_K, action));
        self.constants.insert(action, self.starts.len() - 1);
        self.starts.len() - 1
    }

    fn verdict(&mut self, call: u32, verdict: &Verdict) -> Result<usize, FilterError> {
        Ok(match verdict {
            Verdict::Allow => self.constant(RET_ALLOW),
            Verdict::Errno(errno) => self.constant(RET_ERRNO | *errno as u32),
            Verdict::Notify => self.constant(RET_USER_NOTIF),
            Verdict::When(..) | Verdict::Unless(..) => {
                let code = compile(call, verdict)?;
                self.starts.push(self.code.len());
                self.code.extend(code);
                self.starts.len() - 1
            }
        })
    }
}

/// One verdict on one call as a program of its own.
fn compile(call: u32, verdict: &Verdict) -> Result<BpfProgram, FilterError> {
    let conditions = |lists: &[Vec<Condition>], otherwise, matched| -> Result<BpfProgram, FilterError> {
        let rules: Result<Vec<SeccompRule>, _> = lists.iter().map(|list| rule(list)).collect();
        Ok(SeccompFilter::new([(i64::from(call), rules?)].into(), otherwise, matched, ARCH.1)?.try_into()?)
    };
    let refused = |errno: i32| SeccompAction::Errno(errno as u32);
    match verdict {
        Verdict::Allow => Ok(vec![statement(RET_K, RET_ALLOW)]),
        Verdict::Errno(errno) => Ok(vec![statement(RET_K, RET_ERRNO | *errno as u32)]),
        Verdict::Notify => Ok(vec![statement(RET_K, RET_USER_NOTIF)]),
        Verdict::When(lists, otherwise) => conditions(lists, refused(*otherwise), SeccompAction::Allow),
        Verdict::Unless(list, errno, rest) => {
            let mut code = conditions(std::slice::from_ref(list), SeccompAction::Allow, refused(*errno))?;
            // What this part lets pass goes on behind its end, where the rest stands.
            let end = code.len();
            for (at, instruction) in code.iter_mut().enumerate().filter(|(_, i)| i.code == RET_K && i.k == RET_ALLOW) {
                *instruction = statement(JMP_JA, u32::try_from(end - at - 1).unwrap_or(u32::MAX));
            }
            code.extend(compile(call, rest)?);
            Ok(code)
        }
    }
}

fn rule(list: &[Condition]) -> Result<SeccompRule, seccompiler::BackendError> {
    let conditions: Result<Vec<_>, _> =
        list.iter().map(|c| SeccompCondition::new(c.argument, c.width.clone(), c.operator.clone(), c.value)).collect();
    SeccompRule::new(conditions?)
}

/// One instruction of the search, before the leaves' places are known.
enum Node {
    /// Go on here when the call number is at least `number`, else skip `less` instructions.
    AtLeast {
        number: u32,
        less: u8,
    },
    Leaf(usize),
    Far(u32),
}

/// Binary search over ranges sorted by their first number.
fn search(ranges: &[(u32, usize)]) -> Vec<Node> {
    let [(_, leaf)] = ranges else {
        let (low, high) = ranges.split_at(ranges.len() / 2);
        let number = high[0].0;
        let (low, high) = (search(low), search(high));
        let mut nodes = Vec::with_capacity(low.len() + high.len() + 2);
        // A conditional jump reaches 255 instructions; a longer way takes a plain jump.
        if let Ok(less) = u8::try_from(high.len()) {
            nodes.push(Node::AtLeast { number, less });
        } else {
            nodes.push(Node::AtLeast { number, less: 1 });
            nodes.push(Node::Far(1));
            nodes.push(Node::Far(u32::try_from(high.len()).unwrap_or(u32::MAX)));
        }
        nodes.extend(high);
        nodes.extend(low);
        return nodes;
    };
    vec![Node::Leaf(*leaf)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Spec = Spec::USUAL;
    const BARE: Spec = Spec { no_sockets: true, own_process_only: true, watch_connect: false };

    /// What the kernel would do: the classic BPF machine, as far as these programs use it.
    pub(super) fn run(program: &[sock_filter], arch: u32, call: u32, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(call.to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        args.iter().for_each(|a| data.extend(a.to_ne_bytes()));
        let (mut pc, mut a) = (0, 0_u32);
        loop {
            let i = &program[pc];
            pc += 1;
            let branch = |taken: bool| usize::from(if taken { i.jt } else { i.jf });
            match i.code {
                LD_W_ABS => a = u32::from_ne_bytes(data[i.k as usize..][..4].try_into().unwrap()),
                JMP_JA => pc += i.k as usize,
                JMP_JEQ_K => pc += branch(a == i.k),
                JMP_JGE_K => pc += branch(a >= i.k),
                JMP_JGT_K => pc += branch(a > i.k),
                AND_K => a &= i.k,
                RET_K => return i.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn holds(c: &Condition, args: [u64; 6]) -> bool {
        let cut = |v: u64| if c.width == Dword { v & 0xffff_ffff } else { v };
        let (a, v) = (cut(args[usize::from(c.argument)]), cut(c.value));
        match c.operator {
            Eq => a == v,
            Ne => a != v,
            MaskedEq(mask) => a & cut(mask) == v,
            ref other => panic!("{other:?}"),
        }
    }

    fn expected(spec: Spec, call: u32, args: [u64; 6]) -> u32 {
        match table(spec).iter().find(|(number, _)| *number == call) {
            None => RET_ERRNO | ENOSYS as u32,
            Some((_, verdict)) => expected_of(verdict, args),
        }
    }

    fn expected_of(verdict: &Verdict, args: [u64; 6]) -> u32 {
        let all = |list: &Vec<Condition>| list.iter().all(|c| holds(c, args));
        match verdict {
            Verdict::Allow => RET_ALLOW,
            Verdict::Errno(e) => RET_ERRNO | *e as u32,
            Verdict::Notify => RET_USER_NOTIF,
            Verdict::When(lists, _) if lists.iter().any(all) => RET_ALLOW,
            Verdict::Unless(list, e, _) if all(list) => RET_ERRNO | *e as u32,
            Verdict::When(_, e) => RET_ERRNO | *e as u32,
            Verdict::Unless(_, _, rest) => expected_of(rest, args),
        }
    }

    #[test]
    fn the_program_is_the_table_for_every_call_number() {
        for spec in [PLAIN, BARE] {
            let program = program(spec).unwrap();
            for call in (0..1200).chain([0x4000_0000, 0x4000_0208, u32::MAX]) {
                assert_eq!(run(&program, ARCH.0, call, [0; 6]), expected(spec, call, [0; 6]), "call {call}");
            }
        }
    }

    #[test]
    fn another_architecture_is_killed() {
        let program = program(PLAIN).unwrap();
        assert_eq!(run(&program, 0x4000_0003, 1, [0; 6]), RET_KILL_PROCESS);
    }

    #[test]
    fn the_program_is_short_and_its_search_is_shallow() {
        let program = program(PLAIN).unwrap();
        assert!(program.len() < 400, "{}", program.len());
    }

    #[test]
    fn no_call_stands_in_two_tables() {
        for row in unusual(PLAIN) {
            let twice = ALLOWED.iter().chain(ALLOWED_NEWER).any(|(_, call)| *call == row.call);
            assert!(!twice, "{} is also simply allowed", row.name);
            assert!(!row.why.is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_program_is_the_table_for_arguments_too(
            pick in 0_usize..200, bare in any::<bool>(),
            args in proptest::array::uniform6(prop_oneof![any::<u64>(), 0_u64..32, Just(0o6755), Just(0x5412), Just(0x1_0000_5412), Just(0o100), Just(0xffff_ffff)]),
        ) {
            let spec = if bare { BARE } else { PLAIN };
            let rows = unusual(spec);
            let call = u32::try_from(rows[pick % rows.len()].call).unwrap();
            let program = program(spec).unwrap();
            prop_assert_eq!(run(&program, ARCH.0, call, args), expected(spec, call, args));
        }
    }
}

//! Puts the last layers on the calling process, for ever: limits, privileges, Landlock, the filter; and tries what must fail.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::sys::resource::{self, setrlimit};

use super::plan::{Landlock, Probe, Resource, Rights, Step};
use super::{sys, usage};

pub(super) fn limit(which: Resource, value: u64) -> io::Result<()> {
    let kind = match which {
        Resource::Processes | Resource::MoreProcesses => resource::Resource::RLIMIT_NPROC,
        Resource::OpenFiles => resource::Resource::RLIMIT_NOFILE,
        Resource::FileSize => resource::Resource::RLIMIT_FSIZE,
        Resource::CpuSeconds => resource::Resource::RLIMIT_CPU,
        Resource::Core => resource::Resource::RLIMIT_CORE,
        Resource::MessageQueues => resource::Resource::RLIMIT_MSGQUEUE,
        Resource::RealTime => resource::Resource::RLIMIT_RTPRIO,
    };
    // A hard limit of the host that is already lower stays: it is narrower.
    let (_, hard) = resource::getrlimit(kind)?;
    let besides = if which == Resource::MoreProcesses { usage::threads_of(nix::unistd::getuid().as_raw()) } else { 0 };
    let value = value.saturating_add(besides).min(hard);
    Ok(setrlimit(kind, value, value)?)
}

pub(super) fn drop_privileges() -> io::Result<()> {
    sys::drop_all_capabilities()?;
    // No program gains privileges by being executed, root's programs included; neither bit can be taken back.
    const NOROOT_LOCKED_AND_NO_SETUID_FIXUP_LOCKED_AND_NO_AMBIENT: usize = 0b1111 | 0b1100_0000;
    // Without CAP_SETPCAP the bits cannot be set; the empty bounding set already says the same.
    drop(sys::prctl(libc::PR_SET_SECUREBITS, NOROOT_LOCKED_AND_NO_SETUID_FIXUP_LOCKED_AND_NO_AMBIENT, 0));
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    Ok(())
}

/// The pinned versions of the Landlock interface: a kernel that knows more is used as the newest we know.
fn abi(number: u32) -> ABI {
    match number {
        0 | 1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        6 => ABI::V6,
        7 => ABI::V7,
        8 => ABI::V8,
        _ => ABI::V9,
    }
}

fn rights(rights: Rights, abi: ABI) -> BitFlags<AccessFs> {
    let read = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    let known = AccessFs::from_all(abi);
    known
        & match rights {
            Rights::List => AccessFs::ReadDir.into(),
            Rights::Read => read,
            Rights::Adjust => AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::Truncate,
            // An older kernel has no such right, and refuses no such connection.
            Rights::Ask => AccessFs::ResolveUnix.into(),
            Rights::Device => AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::IoctlDev,
            // Local sockets of servers outside stay out of reach even when their file lies in the workspace; those made inside need no right.
            Rights::Write => known & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev | AccessFs::ResolveUnix),
        }
}

pub(super) fn landlock(plan: &Landlock) -> io::Result<()> {
    let abi = abi(plan.abi);
    // Hard: what this kernel's version must know and does not is an error, never silently less.
    let mut ruleset =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::from_all(abi)).map_err(other)?;
    if plan.no_tcp && plan.abi >= 4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi)).map_err(other)?;
    }
    if plan.abi >= 6 {
        ruleset = ruleset.scope(Scope::from_all(abi)).map_err(other)?;
    }
    let mut created = ruleset.create().map_err(other)?;
    for (path, wanted) in &plan.rules {
        // A path that is not there needs no rule; a path that is there and cannot be opened gets none, which is narrower.
        let Ok(fd) = PathFd::new(path) else { continue };
        let access = allowed_on(&fd, rights(*wanted, abi), abi)?;
        if access.is_empty() {
            continue;
        }
        created = created.add_rule(PathBeneath::new(fd, access)).map_err(other)?;
    }
    if plan.no_tcp && plan.abi >= 4 {
        for port in &plan.tcp_ports {
            created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(other)?;
        }
    }
    let status = created.restrict_self().map_err(other)?;
    if status.ruleset == RulesetStatus::FullyEnforced {
        Ok(())
    } else {
        Err(io::Error::other("the kernel did not enforce the whole ruleset"))
    }
}

/// Signals reach no process but the caller's own descendants, where this kernel's Landlock can say so.
pub(super) fn own_signals_only(steps: &[Step]) -> io::Result<()> {
    let scopes = steps.iter().any(|step| matches!(step, Step::Landlock(plan) if plan.abi >= 6));
    if !scopes {
        return Ok(());
    }
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement).scope(Scope::Signal).map_err(other)?;
    ruleset.create().and_then(landlock::RulesetCreated::restrict_self).map(drop).map_err(other)
}

/// A rule on a file takes only rights that files have.
fn allowed_on(fd: &PathFd, access: BitFlags<AccessFs>, abi: ABI) -> io::Result<BitFlags<AccessFs>> {
    let folder = nix::sys::stat::fstat(fd.as_fd())?.st_mode & libc::S_IFMT == libc::S_IFDIR;
    Ok(if folder { access } else { access & AccessFs::from_file(abi) })
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::other(error)
}

/// Tries one thing that must fail. `true` when it failed the way the layer makes it fail.
pub(super) fn probe(probe: &Probe, supervisor: i32) -> bool {
    let errno = |result: io::Result<()>| result.err().and_then(|e| e.raw_os_error());
    let open = |path: &Path| errno(std::fs::File::open(path).map(drop));
    match probe {
        Probe::NewUserNamespace => {
            errno(sys::raw(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0, 0, 0, 0]).map(drop)) == Some(libc::EPERM)
        }
        Probe::Mount => {
            let tmpfs = c"tmpfs".as_ptr() as usize;
            errno(sys::raw(libc::SYS_mount, [tmpfs, c"/tmp".as_ptr() as usize, tmpfs, 0, 0, 0]).map(drop)) == Some(libc::EPERM)
        }
        Probe::OutsidePath(path) => open(path) == Some(libc::ENOENT),
        Probe::UngrantedPath(path) => open(path) == Some(libc::EACCES),
        Probe::OutsideConnection => {
            // A documentation address: never assigned, and a datagram socket sends nothing when it connects.
            let socket = std::net::UdpSocket::bind("0.0.0.0:0");
            socket.is_ok_and(|s| errno(s.connect("192.0.2.1:9")) == Some(libc::ENETUNREACH))
        }
        Probe::OutsideProcess => {
            let itself_first = std::process::id() == 1;
            itself_first && nix::sys::signal::kill(nix::unistd::Pid::from_raw(supervisor.max(2)), None) == Err(nix::Error::ESRCH)
        }
        Probe::Capabilities => sys::has_no_capabilities().unwrap_or(false),
    }
}

/// Confines this process, which has one thread and reads what a stranger wrote, to one folder: no other file, no network, no capability, so much
/// memory and processor time. Tries afterwards what must fail.
///
/// # Errors
/// When a layer cannot be had. Nothing may be read then.
pub fn only_this_folder(folder: &Path, memory: u64, seconds: u64) -> io::Result<()> {
    let abi =
        sys::landlock_abi().filter(|abi| *abi >= super::plan::OLDEST_LANDLOCK).ok_or_else(|| other(io::Error::other("no Landlock")))?;
    setrlimit(resource::Resource::RLIMIT_AS, memory, memory)?;
    limit(Resource::CpuSeconds, seconds)?;
    limit(Resource::FileSize, memory)?;
    limit(Resource::Core, 1)?;
    drop_privileges()?;
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as usize, 0)?;
    landlock(&Landlock { abi, rules: vec![(folder.to_owned(), Rights::Write)], no_tcp: true, tcp_ports: Vec::new() })?;
    let filter =
        super::filter::program(super::filter::Spec { no_sockets: true, own_process_only: true, watch_connect: false }).map_err(other)?;
    sys::install_filter(&filter, false)?;
    let refused = std::fs::File::open("/proc/self/status").is_err()
        && std::net::UdpSocket::bind("127.0.0.1:0").is_err()
        && probe(&Probe::NewUserNamespace, 0)
        && probe(&Probe::Capabilities, 0);
    if refused { Ok(()) } else { Err(io::Error::other("the kernel accepted the layers but does not enforce them")) }
}

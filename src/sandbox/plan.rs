//! From a policy and a few facts about the host to the list of steps that build one sandbox.
//!
//! Pure. The order of the steps is the order of enforcement; [`super::init`] executes them one by one and names the one that failed.

use std::collections::HashSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::policy::{Access, Cache, Grant, Limits, Listener, NetworkMode, Policy, Protocol, Tier, Upper, Workspace, WorkspaceSource};
use super::secrets::within;
use super::{filter, wire};
use crate::base::size::Size;

/// The payload's identity inside. Not 0: agents refuse to run as root, and tools behave differently for it.
pub const INSIDE_ID: u32 = 1000;
pub const USER: &str = "agent";
pub const HOME: &str = "/home/agent";
pub const HOST_NAME: &str = "cofferdam";

/// What System V shared memory may hold: it belongs to no process, so where no control group counts, only the kernel's own bound does. As much
/// as Linux gave everybody for twenty years.
const SHARED_MEMORY: u64 = 32 << 20;

/// The host identity of payloads that root starts: owns nothing, is in no group, and lies above the ranges that distributions,
/// container managers and systemd give out.
pub const PAYLOAD_ID: u32 = 2_081_422_848;

/// A file of every root that no rule grants: the self-test reads it, and must fail.
const UNGRANTED: &str = "/.ungranted";

/// Oldest Landlock that the full tier is built on: the first one that can confine renames across folders.
pub const OLDEST_LANDLOCK: u32 = 2;

/// What of the host decides the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    pub kernel: String,
    pub uid: u32,
    pub gid: u32,
    pub landlock_abi: Option<u32>,
    /// May this user make user namespaces, as far as the kernel's settings say?
    pub user_namespaces: bool,
}

/// One action of the sandbox's init.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Step {
    Namespaces(Vec<Namespace>),
    /// Inside ids, and the host ids they stand for.
    Identity {
        inside: u32,
        uid: u32,
        gid: u32,
    },
    /// The new root: an empty tmpfs, which also holds the private folders.
    Root,
    /// How much the root and the private folders may hold.
    Room {
        bytes: Option<u64>,
        files: Option<u64>,
    },
    Folder {
        #[serde(with = "wire::path")]
        path: PathBuf,
        mode: u32,
    },
    File {
        #[serde(with = "wire::path")]
        path: PathBuf,
        #[serde(with = "wire::content")]
        content: Vec<u8>,
    },
    Link {
        #[serde(with = "wire::path")]
        path: PathBuf,
        #[serde(with = "wire::path")]
        target: PathBuf,
    },
    /// A host path, seen at `path`. A link below the final component's place is not followed.
    Bind {
        #[serde(with = "wire::path")]
        source: PathBuf,
        #[serde(with = "wire::path")]
        path: PathBuf,
        writable: bool,
    },
    /// A private, writable folder on the root's own tmpfs.
    Private {
        #[serde(with = "wire::path")]
        path: PathBuf,
        mode: u32,
    },
    /// Host folders below, a private or given folder on top; what is kept is flushed when the sandbox ends, a cache is not.
    Overlay {
        #[serde(with = "wire::path")]
        path: PathBuf,
        #[serde(with = "wire::paths")]
        lower: Vec<PathBuf>,
        upper: Upper,
        keep: bool,
    },
    /// A folder within a mount that is already on, made when it is missing.
    Place {
        #[serde(with = "wire::path")]
        path: PathBuf,
    },
    /// A local socket at `path`, handed to the supervisor. Nobody but the supervisor listens there.
    Socket {
        #[serde(with = "wire::path")]
        path: PathBuf,
    },
    /// Something below a granted path that must not be seen.
    Mask {
        #[serde(with = "wire::path")]
        path: PathBuf,
        folder: bool,
    },
    Device {
        name: String,
    },
    Terminals,
    Processes,
    /// The old root is gone after this.
    Enter,
    Loopback,
    /// A network that is local inside, of this number among them.
    Address {
        number: usize,
        ip: Ipv4Addr,
        bits: u8,
    },
    Listen(Listener),
    HostName(String),
    /// How much System V shared memory its ipc namespace may hold, in bytes.
    SharedMemory(u64),
    Session,
    Limit {
        resource: Resource,
        value: u64,
    },
    Processors(usize),
    /// Every capability, the bounding set, and new privileges for ever.
    Privileges,
    Landlock(Landlock),
    Filter(filter::Spec),
    /// Things that must fail are tried.
    Probe(Vec<Probe>),
    Execute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    User,
    Mount,
    Pid,
    Network,
    Ipc,
    Uts,
    Cgroup,
}

impl Namespace {
    pub const fn flag(self) -> u64 {
        (match self {
            Self::User => libc::CLONE_NEWUSER,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Network => libc::CLONE_NEWNET,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
        }) as u64
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user namespace",
            Self::Mount => "mount namespace",
            Self::Pid => "pid namespace",
            Self::Network => "network namespace",
            Self::Ipc => "ipc namespace",
            Self::Uts => "uts namespace",
            Self::Cgroup => "cgroup namespace",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    Processes,
    /// On top of what this user runs already: the kernel counts them together where no user namespace tells them apart.
    MoreProcesses,
    OpenFiles,
    FileSize,
    CpuSeconds,
    Core,
    MessageQueues,
    RealTime,
}

/// The Landlock ruleset, as paths inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landlock {
    pub abi: u32,
    #[serde(with = "wire::pairs")]
    pub rules: Vec<(PathBuf, Rights)>,
    /// Refuse every TCP port, the private loopback's included, but the ones of our own sockets.
    pub no_tcp: bool,
    pub tcp_ports: Vec<u16>,
}

/// What may be done below one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rights {
    /// See names only.
    List,
    /// Read and execute.
    Read,
    /// Read, and write to what is there: `/proc`.
    Adjust,
    /// Connect to a local socket that was there before this sandbox was closed.
    Ask,
    /// Read, write and control a device.
    Device,
    /// Everything but devices.
    Write,
}

/// One thing that must fail from inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Probe {
    NewUserNamespace,
    Mount,
    /// A path that every host has and this sandbox must not.
    OutsidePath(PathBuf),
    /// A path that is there and readable by its mode, but that no Landlock rule grants.
    UngrantedPath(PathBuf),
    OutsideConnection,
    OutsideProcess,
    Capabilities,
}

/// Everything needed to launch one sandbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub tier: Tier,
    pub steps: Vec<Step>,
    /// How many of the steps come before everything that a policy decides: a sandbox can be built so far ahead of its policy.
    pub hull: usize,
    /// Where the payload starts.
    pub folder: PathBuf,
}

/// Why no plan can be made: the whole list, not the first item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host cannot enforce the {tier} tier: {}", list(needs))]
pub struct Unenforceable {
    pub tier: &'static str,
    pub needs: Vec<Need>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub need: String,
    pub have: String,
}

fn list(needs: &[Need]) -> String {
    needs.iter().map(|n| format!("needs {}, has {}", n.need, n.have)).collect::<Vec<_>>().join("; ")
}

impl Tier {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::NoUserns => "no-userns",
        }
    }
}

/// The steps for one run.
///
/// # Errors
/// Everything the tier needs that the host does not have. Never a weaker plan.
pub fn plan(policy: &Policy, facts: &Facts) -> Result<Plan, Unenforceable> {
    let mut needs = Vec::new();
    let abi = facts.landlock_abi.unwrap_or(0);
    if abi < OLDEST_LANDLOCK {
        let have = facts.landlock_abi.map_or("no Landlock".to_owned(), |abi| format!("ABI {abi}"));
        needs.push(Need {
            need: format!("Landlock ABI {OLDEST_LANDLOCK} or newer (Linux 5.19)"),
            have: format!("{have} (Linux {})", facts.kernel),
        });
    }
    if policy.tier == Tier::Full && !facts.user_namespaces {
        needs.push(Need { need: "user namespaces".to_owned(), have: "none for this user".to_owned() });
    }
    if policy.tier == Tier::NoUserns {
        needs.extend(
            policy
                .socket
                .iter()
                .map(|path| Need { need: format!("mounts, to show the socket {}", path.display()), have: "none in this tier".to_owned() }),
        );
        needs.extend(policy.trees.iter().map(|tree| Need {
            need: format!("mounts, to show {} ({})", tree.inside.display(), tree.reason),
            have: "none in this tier".to_owned(),
        }));
        // Landlock grants whole trees; only a mount can take something out of one.
        needs.extend(policy.masks.iter().map(|mask| Need {
            need: format!("mounts, to cover {} ({})", mask.inside.display(), mask.reason),
            have: "none in this tier".to_owned(),
        }));
        needs.extend(policy.caches.iter().filter(|cache| cache.upper != Upper::Private).map(|cache| Need {
            need: format!("mounts, to keep what is written to {}", cache.inside.display()),
            have: "none in this tier".to_owned(),
        }));
    }
    if !needs.is_empty() {
        return Err(Unenforceable { tier: policy.tier.name(), needs });
    }
    let (steps, hull) = match policy.tier {
        Tier::Full => full(policy, facts, abi),
        Tier::NoUserns => no_userns(policy, facts, abi),
    };
    Ok(Plan { tier: policy.tier, steps, hull, folder: policy.workspace.inside.clone() })
}

fn full(policy: &Policy, facts: &Facts, abi: u32) -> (Vec<Step>, usize) {
    let own_network = policy.network.mode != NetworkMode::Host;
    let mut rules = vec![(PathBuf::from("/"), Rights::List)];
    let mut steps = hull_steps(facts, own_network, &mut rules);
    let hull = steps.len();
    let mounts = policy.grants.iter().map(|g| &g.inside).chain(policy.caches.iter().map(|c| &c.inside)).chain([&policy.workspace.inside]);
    let mounts: Vec<&PathBuf> = mounts.chain(policy.trees.iter().map(|tree| &tree.inside)).collect();
    for step in &mut steps {
        // `/var/tmp` is a link to `/tmp`, unless something is to be put on below it: a link is never walked through.
        if let Step::Link { path, .. } = step
            && mounts.iter().any(|mount| within(mount, &*path))
        {
            let path = std::mem::take(path);
            rules.push((path.clone(), Rights::Write));
            *step = Step::Private { path, mode: 0o1777 };
        }
    }
    steps.push(Step::Room { bytes: policy.limits.disk.map(Size::bytes), files: policy.limits.files });
    steps.extend(policy.files.iter().map(|file| Step::File { path: file.inside.clone(), content: file.content.clone() }));
    steps.extend(policy.links.iter().map(|link| Step::Link { path: link.inside.clone(), target: link.target.clone() }));
    // A grant within the workspace would be hidden by it: it is put on afterwards.
    let in_workspace = |grant: &&Grant| within(&grant.inside, &policy.workspace.inside);
    for grant in policy.grants.iter().filter(|grant| !in_workspace(grant)) {
        bind(grant, &mut steps, &mut rules);
    }
    let inside_workspace = |cache: &&Cache| within(&cache.inside, &policy.workspace.inside);
    for one in policy.caches.iter().filter(|cache| !inside_workspace(cache)) {
        cache(one, &mut steps, &mut rules);
    }
    for tree in &policy.trees {
        steps.push(match tree.lower.as_slice() {
            [only] => Step::Bind { source: only.clone(), path: tree.inside.clone(), writable: false },
            // Landlock keeps everybody from writing; were it not there, the writes would go to a layer that is thrown away.
            layers => Step::Overlay { path: tree.inside.clone(), lower: layers.to_vec(), upper: Upper::Private, keep: false },
        });
        rules.push((tree.inside.clone(), Rights::Read));
    }
    steps.push(workspace(&policy.workspace));
    let rights = if policy.workspace.access == Access::Write { Rights::Write } else { Rights::Read };
    rules.push((policy.workspace.inside.clone(), rights));
    for one in policy.caches.iter().filter(inside_workspace) {
        if matches!(policy.workspace.source, WorkspaceSource::Overlay { .. }) {
            // In an overlay a place can be made without a trace on the host; in a folder of the host it must be there.
            steps.push(Step::Place { path: one.inside.clone() });
        }
        cache(one, &mut steps, &mut rules);
    }
    for grant in policy.grants.iter().filter(in_workspace) {
        bind(grant, &mut steps, &mut rules);
    }
    if let Some(path) = &policy.socket {
        steps.push(Step::Socket { path: path.clone() });
        rules.push((path.clone(), Rights::Ask));
    }
    steps.extend(policy.masks.iter().map(|mask| Step::Mask { path: mask.inside.clone(), folder: mask.folder }));

    steps.push(Step::Enter);
    if own_network {
        steps.extend(policy.addresses.iter().enumerate().map(|(number, (ip, bits))| Step::Address { number, ip: *ip, bits: *bits }));
    }
    steps.extend(policy.listeners.iter().map(|l| Step::Listen(*l)));
    steps.push(Step::Session);
    steps.extend(limits(&policy.limits, true));
    steps.push(Step::Privileges);
    let no_tcp = own_network && !policy.network.loopback;
    let tcp_ports = policy.listeners.iter().filter(|l| l.protocol == Protocol::Tcp).map(|l| l.address.port()).collect();
    steps.push(Step::Landlock(Landlock { abi, rules: minimal(rules), no_tcp, tcp_ports }));
    if own_network {
        // Before the filter: after it every connect waits for the supervisor, who listens only when the sandbox is complete.
        steps.push(Step::Probe(vec![Probe::OutsideConnection]));
    }
    steps.push(Step::Filter(filter::Spec { watch_connect: own_network, ..filter::Spec::USUAL }));
    let granted = |path: &Path| policy.grants.iter().any(|g| within(path, &g.inside) || within(&g.inside, path));
    let outside = ["/sys", "/boot", "/srv", "/mnt"].map(PathBuf::from).into_iter().find(|path| !granted(path));
    let ungranted = Probe::UngrantedPath(UNGRANTED.into());
    let mut probes = vec![Probe::NewUserNamespace, Probe::Mount, ungranted, Probe::OutsideProcess, Probe::Capabilities];
    probes.extend(outside.map(Probe::OutsidePath));
    steps.extend([Step::Probe(probes), Step::Execute]);
    (steps, hull)
}

/// What is left of `steps` when those of `done`, in this order, were performed before all of them; `None` when that makes another sandbox:
/// one of them is not wanted, or should have come after something at its place, above it or below it.
pub fn without(steps: &[Step], done: &[Step]) -> Option<Vec<Step>> {
    let mut left: Vec<Step> = Vec::with_capacity(steps.len());
    let mut done = done.iter().peekable();
    for step in steps {
        if done.peek() != Some(&step) {
            left.push(step.clone());
        } else if left.iter().all(|other| apart(other, step)) {
            done.next();
        } else {
            return None;
        }
    }
    done.peek().is_none().then_some(left)
}

/// What a plan shows of the host's system, which the next one is likely to show too; nothing when it cannot come before all the rest.
pub fn lasting(plan: &Plan) -> Vec<Step> {
    let rest = &plan.steps[plan.hull..];
    let system = |path: &Path| {
        let top = path.components().nth(1).map(|top| top.as_os_str().as_bytes()).unwrap_or_default();
        (matches!(top, b"usr" | b"bin" | b"sbin" | b"etc") || top.starts_with(b"lib")) && !path.starts_with(&plan.folder)
    };
    let shown = |step: &&Step| matches!(step, Step::Bind { source, path, writable: false } if source == path && system(path));
    let lasting: Vec<Step> = rest.iter().filter(shown).cloned().collect();
    if without(rest, &lasting).is_some() { lasting } else { Vec::new() }
}

/// Is it the same which of the two comes first?
fn apart(one: &Step, other: &Step) -> bool {
    match (place(one), place(other)) {
        (Some(one), Some(other)) => !within(one, other) && !within(other, one),
        _ => matches!(one, Step::Room { .. }),
    }
}

/// Where a step puts something.
pub fn place(step: &Step) -> Option<&Path> {
    match step {
        Step::Folder { path, .. }
        | Step::File { path, .. }
        | Step::Link { path, .. }
        | Step::Bind { path, .. }
        | Step::Private { path, .. }
        | Step::Overlay { path, .. }
        | Step::Place { path }
        | Step::Mask { path, .. } => Some(path),
        _ => None,
    }
}

/// A grant as a step: what will be shown of the host.
pub fn shown(grant: &Grant) -> Step {
    Step::Bind { source: grant.host.clone(), path: grant.inside.clone(), writable: grant.access == Access::Write }
}

/// The part of every plan that no policy decides.
pub fn hull(facts: &Facts, own_network: bool) -> Vec<Step> {
    hull_steps(facts, own_network, &mut Vec::new())
}

fn hull_steps(facts: &Facts, own_network: bool, rules: &mut Vec<(PathBuf, Rights)>) -> Vec<Step> {
    let mut namespaces = vec![Namespace::User, Namespace::Mount, Namespace::Pid];
    namespaces.extend(own_network.then_some(Namespace::Network));
    namespaces.extend([Namespace::Ipc, Namespace::Uts, Namespace::Cgroup]);
    let (uid, gid) = host_ids(facts);
    let mut steps = vec![Step::Namespaces(namespaces)];
    // The setting belongs to root, and init stops being root with the next step.
    steps.extend((facts.uid == 0).then_some(Step::SharedMemory(SHARED_MEMORY)));
    steps.extend([Step::Identity { inside: INSIDE_ID, uid, gid }, Step::HostName(HOST_NAME.to_owned())]);
    steps.extend(own_network.then_some(Step::Loopback));
    steps.push(Step::Root);
    steps.extend(skeleton(rules));
    steps
}

fn cache(cache: &Cache, steps: &mut Vec<Step>, rules: &mut Vec<(PathBuf, Rights)>) {
    steps.push(Step::Overlay { path: cache.inside.clone(), lower: cache.lower.clone(), upper: cache.upper.clone(), keep: false });
    rules.push((cache.inside.clone(), Rights::Write));
}

fn bind(grant: &Grant, steps: &mut Vec<Step>, rules: &mut Vec<(PathBuf, Rights)>) {
    steps.push(shown(grant));
    rules.push((grant.inside.clone(), if grant.access == Access::Write { Rights::Write } else { Rights::Read }));
}

/// Landlock, the filter and limits only. The receipt says what is missing.
fn no_userns(policy: &Policy, facts: &Facts, abi: u32) -> (Vec<Step>, usize) {
    let (uid, gid) = host_ids(facts);
    let mut steps = Vec::new();
    let hull = usize::from(facts.uid == 0);
    if facts.uid == 0 {
        // Root needs a mount namespace for the workspace's owner to be the payload; it never runs as root.
        steps.push(Step::Namespaces(vec![Namespace::Mount]));
        steps.push(workspace(&policy.workspace));
    }
    steps.push(Step::Identity { inside: uid, uid, gid });
    steps.push(Step::Session);
    steps.extend(limits(&policy.limits, false));
    steps.push(Step::Privileges);
    let mut rules: Vec<(PathBuf, Rights)> =
        ["null", "zero", "full", "random", "urandom"].iter().map(|d| (Path::new("/dev").join(d), Rights::Device)).collect();
    // Without a pid namespace the process list is the host's; the receipt says so.
    rules.push(("/proc".into(), Rights::Read));
    for grant in &policy.grants {
        rules.push((grant.inside.clone(), if grant.access == Access::Write { Rights::Write } else { Rights::Read }));
    }
    rules.extend(policy.caches.iter().flat_map(|cache| &cache.lower).map(|folder| (folder.clone(), Rights::Read)));
    let rights = if policy.workspace.access == Access::Write { Rights::Write } else { Rights::Read };
    rules.push((policy.workspace.inside.clone(), rights));
    steps.push(Step::Landlock(Landlock { abi, rules: minimal(rules), no_tcp: true, tcp_ports: Vec::new() }));
    steps.push(Step::Filter(filter::Spec { no_sockets: true, own_process_only: true, watch_connect: false }));
    let ungranted = Probe::UngrantedPath("/".into());
    let probes = vec![Probe::NewUserNamespace, Probe::Mount, ungranted, Probe::Capabilities];
    steps.extend([Step::Probe(probes), Step::Execute]);
    (steps, hull)
}

/// The host ids of the payload: one's own, or for root the dedicated one.
pub const fn host_ids(facts: &Facts) -> (u32, u32) {
    if facts.uid == 0 { (PAYLOAD_ID, PAYLOAD_ID) } else { (facts.uid, facts.gid) }
}

fn workspace(workspace: &Workspace) -> Step {
    let path = workspace.inside.clone();
    match &workspace.source {
        WorkspaceSource::Folder(source) => Step::Bind { source: source.clone(), path, writable: workspace.access == Access::Write },
        WorkspaceSource::Overlay { lower, upper } => Step::Overlay { path, lower: lower.clone(), upper: upper.clone(), keep: true },
    }
}

/// What every root has: devices, processes, private folders, and the files that name its one user.
fn skeleton(rules: &mut Vec<(PathBuf, Rights)>) -> Vec<Step> {
    let mut steps = Vec::new();
    for name in ["null", "zero", "full", "random", "urandom"] {
        steps.push(Step::Device { name: name.to_owned() });
        rules.push((Path::new("/dev").join(name), Rights::Device));
    }
    steps.push(Step::Terminals);
    rules.push(("/dev/pts".into(), Rights::Device));
    for (path, target) in [
        ("/dev/ptmx", "pts/ptmx"),
        ("/dev/fd", "/proc/self/fd"),
        ("/dev/stdin", "/proc/self/fd/0"),
        ("/dev/stdout", "/proc/self/fd/1"),
        ("/dev/stderr", "/proc/self/fd/2"),
        ("/var/run", "/run"),
        ("/etc/mtab", "/proc/self/mounts"),
    ] {
        steps.push(Step::Link { path: path.into(), target: target.into() });
    }
    steps.push(Step::Processes);
    rules.push(("/proc".into(), Rights::Adjust));
    for (path, mode) in [("/tmp", 0o1777), ("/var/tmp", 0o1777), ("/dev/shm", 0o1777), (HOME, 0o755)] {
        steps.push(Step::Private { path: path.into(), mode });
        rules.push((path.into(), Rights::Write));
    }
    for path in ["/run", "/etc", "/var"] {
        steps.push(Step::Folder { path: path.into(), mode: 0o755 });
        rules.push((path.into(), Rights::Read));
    }
    let (id, nobody) = (INSIDE_ID, 65_534);
    for (path, content) in [
        ("/etc/passwd", format!("{USER}:x:{id}:{id}::{HOME}:/bin/sh\nnobody:x:{nobody}:{nobody}::/:/bin/false\n")),
        ("/etc/group", format!("{USER}:x:{id}:\nnogroup:x:{nobody}:\n")),
        ("/etc/hosts", format!("127.0.0.1 localhost {HOST_NAME}\n::1 localhost {HOST_NAME}\n")),
        ("/etc/hostname", format!("{HOST_NAME}\n")),
        (UNGRANTED, "Only the Landlock layer keeps this file from being read.\n".to_owned()),
    ] {
        steps.push(Step::File { path: path.into(), content: content.into() });
    }
    steps
}

fn limits(limits: &Limits, namespaced: bool) -> Vec<Step> {
    let mut steps = vec![
        // 1, not 0: it keeps core handlers that are programs of the host away as well.
        Step::Limit { resource: Resource::Core, value: 1 },
        Step::Limit { resource: Resource::MessageQueues, value: 819_200 },
        Step::Limit { resource: Resource::RealTime, value: 0 },
    ];
    let mut limit = |resource, value: Option<u64>| steps.extend(value.map(|value| Step::Limit { resource, value }));
    // Our own init is one more, and the group, which says why it refused, is to be reached first.
    limit(if namespaced { Resource::Processes } else { Resource::MoreProcesses }, limits.pids.map(|n| n + 2));
    limit(Resource::OpenFiles, limits.open_files);
    limit(Resource::FileSize, limits.file_size.or(limits.disk).map(Size::bytes));
    // A backstop for each process; the sum over all of them is the supervisor's.
    limit(Resource::CpuSeconds, limits.cpu_time.map(|t| t.as_secs().saturating_add(2)));
    if let Some(cpus) = limits.cpus {
        // At least one processor; the exact share is the cgroup's.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
        steps.push(Step::Processors(cpus.ceil().max(1.0) as usize));
    }
    steps
}

/// Drops rules that another rule on the same or a higher path already covers.
fn minimal(rules: Vec<(PathBuf, Rights)>) -> Vec<(PathBuf, Rights)> {
    let mut seen: HashSet<(&[u8], Rights)> = HashSet::with_capacity(rules.len());
    let all: HashSet<(&[u8], Rights)> = rules.iter().map(|(path, rights)| (path.as_os_str().as_bytes(), *rights)).collect();
    let covered = |path: &[u8], rights: Rights| {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(end, _)| end.max(1));
        !matches!(rights, Rights::List) && ends.filter(|end| *end < path.len()).any(|end| all.contains(&(&path[..end], rights)))
    };
    let keep: Vec<bool> = rules
        .iter()
        .map(|(path, rights)| {
            let path = path.as_os_str().as_bytes();
            !covered(path, *rights) && seen.insert((path, *rights))
        })
        .collect();
    rules.into_iter().zip(keep).filter_map(|(rule, keep)| keep.then_some(rule)).collect()
}

impl fmt::Display for Step {
    /// One line for a person: `profile explain` prints these.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespaces(list) => {
                let names: Vec<_> = list.iter().map(|n| n.name().trim_end_matches(" namespace")).collect();
                write!(f, "new namespaces: {}", names.join(", "))
            }
            Self::Identity { inside, uid, .. } => write!(f, "user {inside} inside, {uid} on the host"),
            Self::Root => f.write_str("an empty root in memory"),
            Self::Room { bytes, files } => match (bytes.map(Size), files) {
                (None, None) => f.write_str("the root and private folders may hold half of the memory"),
                (Some(bytes), None) => write!(f, "the root and private folders may hold {bytes}"),
                (None, Some(files)) => write!(f, "the root and private folders may hold {files} files"),
                (Some(bytes), Some(files)) => write!(f, "the root and private folders may hold {bytes} in {files} files"),
            },
            Self::Folder { path, .. } => write!(f, "an empty folder {}", path.display()),
            Self::File { path, .. } => write!(f, "our own {}", path.display()),
            Self::Link { path, target } => write!(f, "a link {} to {}", path.display(), target.display()),
            Self::Bind { source, path, writable } => {
                write!(f, "{} {}", if *writable { "writable:" } else { "readable:" }, path.display())?;
                if source == path { Ok(()) } else { write!(f, " (from {})", source.display()) }
            }
            Self::Private { path, .. } => write!(f, "private and empty: {}", path.display()),
            Self::Overlay { path, lower, upper, .. } => {
                let drop = if matches!(upper, Upper::Private) { ", changes are dropped" } else { "" };
                let below: Vec<_> = lower.iter().map(|l| l.display().to_string()).collect();
                write!(f, "overlay: {} over {}{drop}", path.display(), below.join(", "))
            }
            Self::Place { path } => write!(f, "a place for {}", path.display()),
            Self::Socket { path } => write!(f, "a socket {} of the supervisor", path.display()),
            Self::Mask { path, .. } => write!(f, "covered: {}", path.display()),
            Self::Device { name } => write!(f, "device /dev/{name}"),
            Self::Terminals => f.write_str("private terminals in /dev/pts"),
            Self::Processes => f.write_str("/proc of this sandbox only, with the kernel's settings read-only"),
            Self::Enter => f.write_str("the host's root is gone"),
            Self::Loopback => f.write_str("private loopback up"),
            Self::Address { ip, bits, .. } => write!(f, "{ip}/{bits} is local inside"),
            Self::Listen(listener) => write!(f, "listen on {} for the supervisor", listener.address),
            Self::HostName(name) => write!(f, "host name {name}"),
            Self::SharedMemory(bytes) => write!(f, "at most {} of System V shared memory", Size(*bytes)),
            Self::Session => f.write_str("a session of its own, no terminal of the host"),
            Self::Limit { resource, value } => write!(f, "limit {resource:?}: {value}"),
            Self::Processors(count) => write!(f, "at most {count} processors"),
            Self::Privileges => f.write_str("no capabilities, and no new privileges for ever"),
            Self::Landlock(l) => write!(f, "Landlock ABI {}: {} paths", l.abi, l.rules.len()),
            Self::Filter(_) => f.write_str("system call filter"),
            Self::Probe(probes) => write!(f, "try {} things that must fail", probes.len()),
            Self::Execute => f.write_str("execute"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::sandbox::policy::{Grant, Network};
    use proptest::prelude::*;

    fn facts(uid: u32, abi: Option<u32>, user_namespaces: bool) -> Facts {
        Facts { kernel: "6.1".to_owned(), uid, gid: uid, landlock_abi: abi, user_namespaces }
    }

    fn policy(tier: Tier, grants: &[(u8, bool)], net: NetworkMode, pids: Option<u64>) -> Policy {
        let grant = |(n, write): &(u8, bool)| Grant {
            host: format!("/host/{n}").into(),
            inside: format!("/host/{n}").into(),
            access: if *write { Access::Write } else { Access::Read },
            reason: String::new(),
        };
        Policy {
            profile: "test".to_owned(),
            tier,
            workspace: Workspace { source: WorkspaceSource::Folder("/work".into()), inside: "/work".into(), access: Access::Write },
            grants: grants.iter().map(grant).collect(),
            links: Vec::new(),
            files: Vec::new(),
            masks: Vec::new(),
            caches: Vec::new(),
            trees: Vec::new(),
            network: Network { mode: net, loopback: true, ..Network::default() },
            limits: Limits { pids, memory: Some(Size::mib(64)), ..Limits::default() },
            environment: Vec::new(),
            addresses: Vec::new(),
            listeners: Vec::new(),
            socket: None,
            terminal: false,
        }
    }

    fn place(steps: &[Step], wanted: impl Fn(&Step) -> bool) -> Option<usize> {
        steps.iter().position(wanted)
    }

    /// Every host path that becomes visible, and whether it can be written.
    fn visible(plan: &Plan) -> BTreeSet<(PathBuf, bool)> {
        let binds = plan.steps.iter().filter_map(|step| match step {
            Step::Bind { source, writable, .. } => Some((source.clone(), *writable)),
            _ => None,
        });
        binds.collect()
    }

    #[test]
    fn a_host_without_landlock_gets_no_plan_in_any_tier() {
        for tier in [Tier::Full, Tier::NoUserns] {
            for abi in [None, Some(1)] {
                let refused = plan(&policy(tier, &[], NetworkMode::None, None), &facts(1000, abi, true)).expect_err("a weaker plan");
                assert!(refused.to_string().contains("needs Landlock"), "{refused}");
            }
        }
    }

    #[test]
    fn without_user_namespaces_only_the_lower_tier_can_be_had() {
        let refused = plan(&policy(Tier::Full, &[], NetworkMode::None, None), &facts(1000, Some(7), false));
        assert!(refused.expect_err("a weaker plan").to_string().contains("user namespaces"));
        assert!(plan(&policy(Tier::NoUserns, &[], NetworkMode::None, None), &facts(1000, Some(7), false)).is_ok());
    }

    #[test]
    fn the_lower_tier_has_no_sockets_and_touches_no_other_process() {
        let plan = plan(&policy(Tier::NoUserns, &[], NetworkMode::None, None), &facts(1000, Some(7), false)).expect("a plan");
        assert!(plan.steps.contains(&Step::Filter(filter::Spec { no_sockets: true, own_process_only: true, watch_connect: false })));
    }

    #[test]
    fn a_socket_for_asking_is_all_that_may_be_connected_to() {
        let asks = |tier| Policy { socket: Some("/run/x/socket".into()), ..policy(tier, &[(1, true)], NetworkMode::None, None) };
        let with = plan(&asks(Tier::Full), &facts(1000, Some(9), true)).expect("a plan");
        let rights = |plan: &Plan| -> Vec<PathBuf> {
            let rules = plan.steps.iter().find_map(|step| if let Step::Landlock(rules) = step { Some(rules.rules.clone()) } else { None });
            rules.unwrap_or_default().into_iter().filter(|(_, rights)| *rights == Rights::Ask).map(|(path, _)| path).collect()
        };
        assert_eq!(rights(&with), [PathBuf::from("/run/x/socket")]);
        let entered = place(&with.steps, |step| matches!(step, Step::Enter)).expect("entered");
        assert!(
            place(&with.steps, |step| matches!(step, Step::Socket { .. })).expect("made") < entered,
            "on the private root, not the host"
        );
        let without = plan(&policy(Tier::Full, &[(1, true)], NetworkMode::None, None), &facts(1000, Some(9), true)).expect("a plan");
        assert!(rights(&without).is_empty() && place(&without.steps, |step| matches!(step, Step::Socket { .. })).is_none());
        let refused = plan(&asks(Tier::NoUserns), &facts(1000, Some(9), true)).expect_err("there are no mounts");
        assert!(refused.to_string().contains("to show the socket"), "{refused}");
    }

    #[test]
    fn shared_memory_is_bounded_while_init_is_root() {
        for (uid, bounded) in [(0, true), (1000, false)] {
            let steps = hull(&facts(uid, Some(7), true), true);
            let bound = steps.iter().position(|step| matches!(step, Step::SharedMemory(_)));
            let identity = steps.iter().position(|step| matches!(step, Step::Identity { .. })).expect("an identity");
            assert_eq!(bound.is_some_and(|bound| bound < identity), bounded, "{uid}");
        }
        // Without an ipc namespace of its own, it would be the host's.
        let plan = plan(&policy(Tier::NoUserns, &[], NetworkMode::None, None), &facts(0, Some(7), true)).expect("a plan");
        assert!(!plan.steps.iter().any(|step| matches!(step, Step::SharedMemory(_))));
    }

    #[test]
    fn root_is_never_the_payload() {
        for tier in [Tier::Full, Tier::NoUserns] {
            let plan = plan(&policy(tier, &[], NetworkMode::None, None), &facts(0, Some(7), true)).expect("a plan");
            let identity = plan
                .steps
                .iter()
                .find_map(|s| if let Step::Identity { inside, uid, gid } = s { Some((*inside, *uid, *gid)) } else { None });
            let (inside, uid, gid) = identity.expect("an identity");
            assert!(inside != 0 && uid != 0 && gid != 0);
        }
    }

    #[test]
    fn what_was_shown_early_is_wanted_and_disturbs_nothing() {
        let bind = |path: &str| Step::Bind { source: path.into(), path: path.into(), writable: false };
        let link = |path: &str| Step::Link { path: path.into(), target: "/x".into() };
        let room = Step::Room { bytes: None, files: None };
        let steps = [room.clone(), link("/lib"), bind("/etc/a"), bind("/usr"), bind("/usr/b"), Step::Enter];
        let left = |done: &[Step]| without(&steps, done);
        assert_eq!(left(&[bind("/etc/a"), bind("/usr")]), Some(vec![room, link("/lib"), bind("/usr/b"), Step::Enter]));
        assert_eq!(left(&[]), Some(steps.to_vec()));
        // Not wanted any more, in another order, and put on before what should lie below it.
        assert_eq!(left(&[bind("/etc/c")]), None);
        assert_eq!(left(&[bind("/usr"), bind("/etc/a")]), None);
        assert_eq!(left(&[bind("/usr/b")]), None);
        // A writable one is another one.
        assert_eq!(left(&[Step::Bind { source: "/usr".into(), path: "/usr".into(), writable: true }]), None);
        assert_eq!(without(&[link("/usr"), bind("/usr")], &[bind("/usr")]), None);
        assert_eq!(without(&[Step::Enter, bind("/usr")], &[bind("/usr")]), None);
    }

    proptest! {
        /// Whatever is shown early: the same steps in the end, and two that meet in the order of the plan.
        #[test]
        fn showing_early_changes_no_sandbox(paths in proptest::collection::vec("(/(usr|etc|lib|a)){1,3}", 1..9), early in proptest::collection::vec(any::<bool>(), 9)) {
            let mut paths = paths;
            paths.sort();
            paths.dedup();
            let steps: Vec<Step> = paths.iter().map(|p| Step::Bind { source: p.into(), path: p.into(), writable: false }).collect();
            let done: Vec<Step> = steps.iter().zip(&early).filter(|(_, early)| **early).map(|(step, _)| step.clone()).collect();
            if let Some(left) = without(&steps, &done) {
                let performed: Vec<&Step> = done.iter().chain(&left).collect();
                let at = |step: &Step| performed.iter().position(|other| *other == step);
                prop_assert_eq!(performed.len(), steps.len());
                for (i, a) in steps.iter().enumerate() {
                    for b in &steps[i + 1..] {
                        prop_assert!(apart(a, b) || at(a) < at(b), "{a} and {b}");
                    }
                }
            }
        }

        #[test]
        fn what_needs_privileges_comes_before_they_are_gone_and_the_filter_comes_last(
            root in any::<bool>(), userns in any::<bool>(), host_net in any::<bool>(), pids in proptest::option::of(1_u64..9999),
            grants in proptest::collection::vec((any::<u8>(), any::<bool>()), 0..8),
        ) {
            let net = if host_net { NetworkMode::Host } else { NetworkMode::None };
            let tier = if userns { Tier::Full } else { Tier::NoUserns };
            let facts = facts(if root { 0 } else { 1000 }, Some(7), true);
            let plan = plan(&policy(tier, &grants, net, pids), &facts).expect("a plan");
            let steps = &plan.steps;
            let privileges = place(steps, |s| matches!(s, Step::Privileges)).expect("privileges");
            let landlock = place(steps, |s| matches!(s, Step::Landlock(_))).expect("landlock");
            let filter = place(steps, |s| matches!(s, Step::Filter(_))).expect("filter");
            prop_assert!(privileges < landlock && landlock < filter);
            for (i, step) in steps.iter().enumerate() {
                let needs = !matches!(step, Step::Privileges | Step::Landlock(_) | Step::Filter(_) | Step::Probe(_) | Step::Execute);
                prop_assert!(!needs || i < privileges, "{step} comes too late");
            }
            prop_assert!(matches!(steps[filter + 1], Step::Probe(_)) && matches!(steps.last(), Some(Step::Execute)));
            prop_assert_eq!(place(steps, |s| matches!(s, Step::Loopback)).is_some(), userns && !host_net);
        }

        #[test]
        fn a_narrower_policy_shows_no_more(
            grants in proptest::collection::vec((0_u8..20, any::<bool>()), 0..10), keep in proptest::collection::vec(any::<bool>(), 10), userns in any::<bool>(),
        ) {
            let tier = if userns { Tier::Full } else { Tier::NoUserns };
            let fewer: Vec<_> = grants.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(g, _)| *g).collect();
            let make = |grants: &[(u8, bool)]| plan(&policy(tier, grants, NetworkMode::None, None), &facts(1000, Some(7), true)).expect("a plan");
            let (wide, narrow) = (make(&grants), make(&fewer));
            prop_assert!(visible(&narrow).is_subset(&visible(&wide)));
            let rules = |plan: &Plan| -> Vec<(PathBuf, Rights)> { plan.steps.iter().find_map(|s| if let Step::Landlock(l) = s { Some(l.rules.clone()) } else { None }).unwrap_or_default() };
            let wide_rules = rules(&wide);
            prop_assert!(rules(&narrow).iter().all(|rule| wide_rules.contains(rule)));
        }
    }
}

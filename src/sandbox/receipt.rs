//! The receipt: what the kernel really enforced on one run, layer by layer.

use serde::{Deserialize, Serialize};

use super::cgroup::Enforced;
use super::plan::{Facts, Namespace, Plan, Probe, Step};
use super::policy::{Limits, Tier};

/// One layer of one run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// `user namespace`, `landlock`, `seccomp`, `memory limit`, ….
    pub name: String,
    pub wanted: bool,
    /// Can this host do it?
    pub supported: bool,
    /// Did the kernel accept it on this run?
    pub enforced: bool,
    /// A self-test from inside, before the command started: `Some(true)` when what must fail did fail.
    pub probed: Option<bool>,
    /// How: `ABI 7`, `cgroup v2`, `supervised`, ….
    pub detail: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// `full` or `no-userns`.
    pub tier: String,
    pub kernel: String,
    /// The Landlock ABI of this kernel, when it has Landlock.
    pub landlock_abi: Option<u32>,
    /// `v2`, `v1` or `supervised`.
    pub limits: String,
    pub layers: Vec<Layer>,
}

impl Receipt {
    /// Layers that were wanted and not enforced, or whose self-test failed.
    pub fn missing(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(|layer| layer.wanted && (!layer.enforced || layer.probed == Some(false)))
    }
}

/// What one run really had, for [`receipt`].
#[derive(Debug)]
pub(super) struct Kept<'a> {
    pub(super) group: Enforced,
    /// `v2`, `v1` or `supervised`.
    pub(super) mode: &'static str,
    pub(super) detail: String,
    pub(super) probes: &'a [(Probe, bool)],
}

/// The receipt of a run whose init reported that every step of `plan` was done: a step that fails ends the run before its command starts.
pub(super) fn receipt(facts: &Facts, plan: &Plan, limits: &Limits, kept: &Kept<'_>) -> Receipt {
    let mut layers = Vec::new();
    for namespace in
        [Namespace::User, Namespace::Mount, Namespace::Pid, Namespace::Network, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup]
    {
        layers.push(namespace_layer(plan, kept, namespace));
    }
    let has = |wanted: fn(&Step) -> bool| plan.steps.iter().any(wanted);
    let root = has(|s| matches!(s, Step::Enter));
    let layer = |name: &str, wanted, enforced, probed, detail: String| Layer {
        name: name.to_owned(),
        wanted,
        supported: true,
        enforced,
        probed,
        detail,
    };
    let own = "a root built from nothing".to_owned();
    let missing = "the host's own tree: names, sizes and times of everything can be seen, contents only where Landlock allows".to_owned();
    layers.push(layer(
        "root",
        plan.tier == Tier::Full,
        root,
        probed(kept, |p| matches!(p, Probe::OutsidePath(_))),
        if root { own } else { missing },
    ));
    let privileges = probed(kept, |p| matches!(p, Probe::Capabilities | Probe::Mount));
    layers.push(layer(
        "privileges",
        true,
        has(|s| matches!(s, Step::Privileges)),
        privileges,
        "no capabilities, no new privileges".to_owned(),
    ));
    layers.push(landlock_layer(facts, plan, kept));
    let filter = probed(kept, |p| matches!(p, Probe::NewUserNamespace | Probe::Mount));
    layers.push(layer("seccomp", true, has(|s| matches!(s, Step::Filter(_))), filter, "unknown calls do not exist".to_owned()));
    layers.extend(limit_layers(limits, kept));
    Receipt {
        tier: plan.tier.name().to_owned(),
        kernel: facts.kernel.clone(),
        landlock_abi: facts.landlock_abi,
        limits: kept.mode.to_owned(),
        layers,
    }
}

/// Did every probe of this kind hold? `None` when none ran.
fn probed(kept: &Kept<'_>, kind: impl Fn(&Probe) -> bool) -> Option<bool> {
    let mut results = kept.probes.iter().filter(|(probe, _)| kind(probe)).map(|(_, held)| *held).peekable();
    results.peek()?;
    Some(results.all(|held| held))
}

fn namespace_layer(plan: &Plan, kept: &Kept<'_>, namespace: Namespace) -> Layer {
    let made = plan.steps.iter().any(|step| matches!(step, Step::Namespaces(list) if list.contains(&namespace)));
    let (probe, without): (Option<bool>, &str) = match namespace {
        Namespace::User => (probed(kept, |p| matches!(p, Probe::NewUserNamespace)), "the payload has the host's identity"),
        Namespace::Mount => (probed(kept, |p| matches!(p, Probe::Mount)), "no mounts of its own"),
        Namespace::Pid => (probed(kept, |p| matches!(p, Probe::OutsideProcess)), "the process list can be seen"),
        Namespace::Network => (probed(kept, |p| matches!(p, Probe::OutsideConnection)), "the host's network"),
        Namespace::Ipc => (None, "the host's message queues and shared memory"),
        Namespace::Uts => (None, "the host's name"),
        Namespace::Cgroup => (None, "the host's group names"),
    };
    // The host's network is a choice of the caller; everything else belongs to the full tier.
    let wanted = made || (plan.tier == Tier::Full && namespace != Namespace::Network);
    let detail = if made { String::new() } else { without.to_owned() };
    Layer { name: namespace.name().to_owned(), wanted, supported: made || wanted, enforced: made, probed: probe.filter(|_| made), detail }
}

fn landlock_layer(facts: &Facts, plan: &Plan, kept: &Kept<'_>) -> Layer {
    let abi = facts.landlock_abi.unwrap_or(0);
    let without = |from: u32, to: u32| {
        let rights: Vec<&str> =
            LANDLOCK_RIGHTS.iter().filter(|(since, _)| (from + 1..=to).contains(since)).map(|(_, right)| *right).collect();
        rights.join(", ")
    };
    let mut detail = format!("ABI {abi}");
    let (lacking, unused) = (without(abi, u32::MAX), without(NEWEST_LANDLOCK, abi));
    if !lacking.is_empty() {
        detail.push_str("; this kernel lacks: ");
        detail.push_str(&lacking);
    }
    if !unused.is_empty() {
        detail.push_str("; not used by this version: ");
        detail.push_str(&unused);
    }
    Layer {
        name: "landlock".to_owned(),
        wanted: true,
        supported: abi > 0,
        enforced: plan.steps.iter().any(|step| matches!(step, Step::Landlock(_))),
        probed: probed(kept, |p| matches!(p, Probe::UngrantedPath(_))),
        detail,
    }
}

/// The newest version of the interface that [`super::confine`] uses.
const NEWEST_LANDLOCK: u32 = 9;

/// The rights that later versions of Landlock added, by version: the account of what was wanted and is not to be had on older kernels.
const LANDLOCK_RIGHTS: [(u32, &str); 6] = [
    (3, "truncation"),
    (4, "TCP ports"),
    (5, "device control"),
    (6, "signal and abstract socket scopes"),
    (9, "local socket paths"),
    (10, "UDP ports"),
];

fn limit_layers(limits: &Limits, kept: &Kept<'_>) -> Vec<Layer> {
    let by_group = |held: bool| if held { kept.detail.clone() } else { format!("supervised ({})", kept.detail) };
    let line = |name: &str, wanted: bool, detail: String| Layer {
        name: name.to_owned(),
        wanted,
        supported: true,
        enforced: wanted,
        probed: None,
        detail,
    };
    let ours = || "supervised".to_owned();
    let mut lines = vec![
        line("memory limit", limits.memory.is_some(), by_group(kept.group.memory)),
        line(
            "process limit",
            limits.pids.is_some(),
            if kept.group.pids { kept.detail.clone() } else { "resource limit of the user namespace, supervised".to_owned() },
        ),
        line(
            "processor limit",
            limits.cpus.is_some(),
            if kept.group.cpus { kept.detail.clone() } else { "whole processors by affinity".to_owned() },
        ),
        line("wall clock", limits.wall.is_some(), ours()),
        line("processor time", limits.cpu_time.is_some(), ours()),
        line("output", limits.output.is_some(), ours()),
        line("disk", limits.disk.is_some(), "private folders by the kernel, the workspace supervised".to_owned()),
        line("files", limits.files.is_some(), "private folders by the kernel, the workspace supervised".to_owned()),
    ];
    // Only agents have it.
    lines.extend(limits.silence.map(|_| line("silence", true, ours())));
    lines
}

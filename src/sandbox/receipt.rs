//! The receipt: what the kernel really enforced on one run, layer by layer.

use serde::{Deserialize, Serialize};

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

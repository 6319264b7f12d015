//! How a sandboxed command ended, and why: the document of `--outcome`.

use serde::{Deserialize, Serialize};

use super::denial::Denial;
use super::receipt::Receipt;

/// The version of the document below; it grows when a field changes its meaning.
pub const OUTCOME_VERSION: u32 = 1;

/// What ended the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It ended by itself.
    Exited,
    /// A signal ended it that we did not send.
    Signalled,
    Wall,
    Cpu,
    /// It hung: it printed nothing and used no processor for as long as it may.
    Silence,
    Memory,
    Pids,
    Disk,
    Files,
    Output,
    ExecFailed,
    /// The supervisor was asked to stop.
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub version: u32,
    pub cause: Cause,
    /// The code that `cofferdam exec` exits with.
    pub exit_code: i32,
    /// The signal that ended the command, ours included.
    pub signal: Option<i32>,
    pub wall_ms: u64,
    pub cpu_ms: u64,
    pub peak_memory_bytes: u64,
    pub peak_pids: u64,
    pub output_bytes: u64,
    /// Always 0 when a run returns: counted after the tree was ended, before the workspace is read.
    pub processes_left: u64,
    /// In words, when the cause is not `exited`.
    pub detail: Option<String>,
    pub denials: Vec<Denial>,
    pub receipt: Receipt,
}

/// Exit codes of `exec` that are not the command's own.
pub mod exit_code {
    pub const WALL: i32 = 124;
    pub const OURS: i32 = 125;
    pub const NOT_EXECUTABLE: i32 = 126;
    pub const NOT_FOUND: i32 = 127;
    /// 128 + SIGKILL: every limit but the wall clock ends the command with it.
    pub const KILLED: i32 = 137;

    /// What a shell reports for a command that a signal ended.
    pub const fn signalled(signal: i32) -> i32 {
        128 + signal
    }
}

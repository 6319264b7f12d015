//! The sandbox engine. It knows paths and policy, and nothing of stories.
//!
//! ```text
//! profile (TOML) + options + toolchains of this host ─▶ Policy ─▶ Plan (steps) ─▶ launch + init ─▶ payload
//!                                                                     supervise: limits, output, denials ─▶ Outcome + Receipt
//! ```
//!
//! Decisions are pure (`policy`, `plan`, `filter`, `receipt`, `outcome`); effects live in `launch`, `init`, `supervise` and `cgroup`,
//! and every `unsafe` line in [`sys`].

pub mod cgroup;
pub mod changes;
pub mod command;
mod confine;
pub mod denial;
pub mod diagnosis;
mod disk;
mod engine;
mod facts;
pub mod filter;
pub mod helper;
pub mod host;
mod init;
pub mod launch;
mod message;
mod mounts;
pub mod outcome;
pub mod plan;
pub mod policy;
mod prepare;
pub mod profile;
mod reaper;
pub mod receipt;
pub mod resolve;
pub mod secrets;
mod streams;
pub mod supervise;
pub mod sys;
pub mod toolchains;
mod usage;
mod watch;
mod wire;

pub use command::{Command, Finished, Sandbox, SandboxError};
pub use confine::only_this_folder;
pub use denial::Denial;
pub use engine::{Early, Engine};
pub use outcome::{Cause, Outcome};
pub use policy::Policy;
pub use receipt::{Layer, Receipt};
pub use streams::Destination;
pub use supervise::Running;

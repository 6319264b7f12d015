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
pub mod denial;
pub mod filter;
mod confine;
mod init;
pub mod launch;
mod message;
mod mounts;
pub mod outcome;
pub mod plan;
pub mod policy;
pub mod receipt;
pub mod sys;

pub use denial::Denial;
pub use outcome::{Cause, Outcome};
pub use policy::Policy;
pub use receipt::{Layer, Receipt};

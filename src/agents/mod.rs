//! Who does the work: what an agent is told, how it is called, and what it answers.
//!
//! ```text
//! story + feedback ─▶ task (task.json) ─▶ prompt (prompt.md) ─▶ folder (/run/cofferdam) ─▶ adapter (arguments) ─▶ process
//!                                                                   out/*.json ─▶ answers (strict)
//!                                                                   counter (a socket inside) ─▶ ask (what its role may)
//! ```
//!
//! Nothing that an agent says about its own work counts as evidence: answers tell what it meant, what it asks, and how to call the commit.

pub mod adapter;
pub mod answers;
pub mod ask;
pub mod call;
pub mod command;
pub mod counter;
pub mod folder;
pub mod look;
pub mod prompt;
pub mod protocol;
pub mod roles;
pub mod task;

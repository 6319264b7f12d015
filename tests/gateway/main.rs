//! The gateway: what it lets through, and what it never dials.
//!
//! Every refusal has a canary: a listener at the very place that the attack is after, which counts who connected. `control` tests show that
//! the canary hears a connection that is allowed.

#[path = "../common/mod.rs"]
mod common;

mod broken;
mod door;
mod hostile;
mod logins;
mod models;
mod opened;
mod runner;
mod sandboxed;
mod support;
mod tools;

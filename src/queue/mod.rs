//! How work lands: the exact tree that was proven is the tree that lands, many at a time.
//!
//! ```text
//! ready stories ─▶ order ─▶ chain (which candidates, which gates) ─▶ candidate (a real commit, with a ref) ─▶ gate, in a fresh sandbox
//!                                                                          land: compare-and-swap of the target to the tested commit
//! ```
//!
//! Decisions are pure: [`order`], [`chain`], [`gate`]. Effects: [`gate_run`] (sandboxes), [`candidate`] (objects and refs), [`land`] (the
//! target).

pub mod candidate;
pub mod chain;
pub mod ci;
pub mod gate;
pub mod gate_memory;
mod gate_network;
pub mod gate_run;
pub mod land;
pub mod order;
pub mod perform;
pub mod push;

#[cfg(test)]
mod property_tests;

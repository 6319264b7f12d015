//! One unit of work: facts, the phase derived from them, and the one function that changes them. Pure.
//!
//! ```text
//! (story, event, now) ─▶ step ─▶ Step { next, record, effects }     or     Refused { state, attempted, instead }
//!                          facts ─▶ phase (what it is)  ─▶ wanted (what the world should do about it)
//! ```
//!
//! No state is stored that could contradict the facts: [`phase::phase`] derives it, and its variants carry the proof. Effects are data;
//! those of a step are what [`wanted::wanted`] asks for after the event and did not ask for before. After a crash, the same function says
//! what is still to be done.

pub mod budget;
pub mod facts;
pub mod feedback;
pub mod manifest;
pub mod memory;
pub mod phase;
pub mod stagnation;
pub mod step;
pub mod wanted;

pub use facts::Story;
pub use phase::{Phase, phase};
pub use step::{Refused, Step, create, step};
pub use wanted::{Effect, wanted};

#[cfg(test)]
pub(crate) mod harness;
#[cfg(test)]
pub(crate) mod machine_tests;
#[cfg(test)]
mod tests;

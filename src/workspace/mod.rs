//! Where a story's files are: one overlay per story over an immutable checkout, a private git directory, and what the agent changed, collected
//! as checked data.
//!
//! ```text
//! commit ─▶ base layer (checked out once) ─▶ overlay in the story's sandbox ─▶ upper folder ─▶ walk + rules ─▶ quarantine ─▶ commit + ref
//! ```
//!
//! **Invariant:** the host never runs git in, and never opens as a repository, anything that an agent could have written. What it left is
//! read through descriptors, without following anything, after its last process is dead.

pub mod attributes;
pub mod base;
pub mod bootstrap;
pub mod cache;
pub mod changes;
pub mod checkout;
pub mod collect;
mod compact;
pub mod convert;
pub mod encoding;
pub mod fsmonitor;
pub mod git;
pub mod glob;
pub mod ignore;
pub mod import;
pub mod index;
pub mod inplace;
pub mod layer_files;
pub mod mounting;
pub mod private_git;
pub mod registration;
pub mod removal;
pub mod risks;
pub mod rules;
pub mod state;
pub mod stories;
pub mod taking;
pub mod unpack;
pub mod untracked;
pub mod walk;

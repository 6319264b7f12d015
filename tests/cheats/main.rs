//! Whoever would rather look done than be done: scripted implementers and reviewers, run for real through `cofferdam run`.
//!
//! Each cheat is a script below `fixtures/agents/`. It must end refused, with a reason that a person understands; and with the one guard
//! against it left out, the same cheat gets through: that is the control.

mod advice;
mod asks;
#[path = "../common/mod.rs"]
mod common;
mod evidence;
mod implementers;
mod kvstore;
mod project;
mod reviewers;

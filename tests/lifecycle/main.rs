//! `cofferdam run` from a list of stories to collected, verified work: the real program, real sandboxes, scripted agents.

#[path = "../common/mod.rs"]
mod common;
mod support;

mod crash;
mod documents;
mod faults;
mod hung;
mod manners;
mod notify;
mod outside;
mod ratchet;
mod rules;
mod scenario;
mod watch;

//! cofferdam runs untrusted coding agents in parallel and lands only what has been proven.
//!
//! The modules stand in the order of the data's path; a reader goes top to bottom and seldom jumps back.
//!
//! ```text
//! stories ─▶ plan ─▶ story ─▶ workspace ─▶ sandbox ─▶ agents ─▶ verify ─▶ queue ─▶ land
//!                                  every step is an event in the store; every face is a fold over those events
//! ```
//!
//! - [`base`]: words shared by all (sizes, durations, safe text, suggestions). Pure.
//! - [`event`]: what happened: one versioned enum, and every face is a fold over it. Pure.
//! - [`config`]: layers of TOML, with the provenance of every value.
//! - [`spec`]: what the human wants: stories, from whatever they are written in.
//! - [`plan`]: what will be done: what waits for what, who may start, and why not the others.
//! - [`story`]: one unit of work: facts, derived phase, `step(story, event, now)`, budgets, failure memory. Pure.
//! - [`workspace`]: where a story's files are, and how what changed in them comes out as checked data.
//! - [`sandbox`]: what a process may touch: policy, plan, the engine that enforces it, and the receipt.
//! - [`egress`]: the one door out of a sandbox: rules, the proxy that enforces them, credentials that stay outside.
//! - [`report`]: how many tests ran, as what runs them says. Pure.
//! - [`queue`]: how it lands: gates on the exact tree, candidates many at a time, the compare-and-swap of the target.
//! - [`probe`]: the self-test: the attacks of the threat model, tried from inside.
//! - [`role`]: how a process of any role is run: its policy, its transcript, its request to stop.
//! - [`agents`]: who does the work: what an agent is told, how it is called, what it answers.
//! - [`verify`]: is it good: evaluators, each of which judges one commit.
//! - [`store`]: memory: events (append-only, hash-chained), the folds shown from them, evidence, the runner's lock.
//! - [`engine`]: the only loop: what the stories want is performed, and what comes of it is stored.
//! - [`survey`]: what a repository is made of and which commands prove it, for its first configuration.
//! - [`face`]: readers of what happened and writers of commands: the command line.

pub mod base;

pub mod event;

pub mod config;

pub mod spec;

pub mod plan;

pub mod story;

pub mod sandbox;
pub mod workspace;

pub mod egress;

pub mod report;

pub mod queue;

pub mod probe;

pub mod role;

pub mod agents;

pub mod verify;

pub mod store;

pub mod engine;

pub mod survey;

pub mod face;

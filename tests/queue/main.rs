//! Gates, candidates and landings: real git, real sandboxes, the real program.

mod batches;
mod ci;
mod gates;
mod landing;
#[path = "../common/program.rs"]
mod program;
mod reverts;
mod support;

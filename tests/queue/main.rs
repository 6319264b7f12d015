//! Gates, candidates and landings: real git, real sandboxes, the real program.

mod gates;
mod landing;
mod support;

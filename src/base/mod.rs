//! Words shared by every module. Pure: no files, processes, clock, environment or randomness.

pub mod columns;
pub mod duration;
pub mod excerpt;
pub mod graph;
pub mod host;
pub mod id;
pub mod name;
pub mod path;
pub mod reach;
pub mod redact;
pub mod size;
pub mod source;
pub mod suggest;
pub mod text;
pub mod tree;

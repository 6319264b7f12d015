//! Words shared by every module. Pure: no files, processes, clock, environment or randomness.

pub mod duration;
pub mod excerpt;
pub mod id;
pub mod size;
pub mod suggest;
pub mod text;

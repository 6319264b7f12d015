//! Who does the work.

pub mod adapter;
pub mod protocol;

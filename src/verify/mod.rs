//! Is it good? What judges a collected commit.

pub mod artifacts;
pub mod code;
pub mod integrity;
pub mod paths;
pub mod request;
pub mod secrets;
pub mod size;
pub mod tree;
pub mod verdict;
pub mod verifier;

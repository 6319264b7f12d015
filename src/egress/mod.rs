//! The one door out of a sandbox.

pub mod address;
pub mod client_hello;
pub mod dns;
pub mod http1;
pub mod rule;
pub mod socks5;

//! Workspaces against real git, real overlays and real attacks.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail, and a skipped one must say so")]

mod attacks;
mod collect;
mod commands;
mod crash;
mod inplace;
mod layers;
mod support;

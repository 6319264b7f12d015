//! Workspaces against real git, real overlays and real attacks.

mod attacks;
mod collect;
mod commands;
mod crash;
mod inplace;
mod layers;
mod support;

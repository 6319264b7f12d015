//! Workspaces against real git, real overlays and real attacks.

mod attacks;
mod collect;
mod commands;
mod layers;
mod support;

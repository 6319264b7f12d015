//! Workspaces against real git, real overlays and real attacks.

mod collect;
mod support;

//! How the configuration wants workspaces to be laid out, on this host.

use crate::config::{Backend as Wish, Workspace as Settings};
use crate::sandbox::Engine;
use crate::workspace::checkout::Backend;
use crate::workspace::mounting::overlay_works;
use crate::workspace::private_git::History;
use crate::workspace::state::{State, StateError};
use crate::workspace::stories::{Form, Upper};

#[derive(Debug, thiserror::Error)]
pub enum FormError {
    #[error("workspace.upper = tmpfs needs an overlay, and on this host a workspace is a plain checkout")]
    NoOverlay,
    #[error(transparent)]
    State(#[from] StateError),
}

impl FormError {
    /// What to do next.
    pub fn next(&self) -> String {
        match self {
            Self::NoOverlay => "set workspace.upper to disk; `cofferdam doctor` says what keeps overlays from working here".to_owned(),
            Self::State(_) => "is the state folder still there, and may you write to it?".to_owned(),
        }
    }
}

/// The form of a new workspace. Where the configuration leaves it open, an overlay is tried once.
///
/// # Errors
/// When the configuration asks for what this host does not have.
pub fn form(settings: &Settings, state: &State, engine: &Engine, history: History) -> Result<Form, FormError> {
    let backend = match settings.backend {
        Wish::Overlay => Backend::Overlay,
        Wish::Checkout => Backend::Checkout,
        Wish::Auto => Backend::choose(state, |folder| overlay_works(engine, folder))?,
    };
    match (settings.in_memory, backend) {
        (true, Backend::Checkout) => Err(FormError::NoOverlay),
        (true, Backend::Overlay) => Ok(Form { history, backend, upper: Upper::Tmpfs }),
        (false, _) => Ok(Form { history, backend, upper: Upper::Disk }),
    }
}

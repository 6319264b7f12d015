//! Stories of the plan that nothing has run yet: whoever speaks about one makes it known to the store, as a run would.

use super::failure::Failure;
use super::project::{Checked, PlanArgs};
use super::state::{self, State};
use crate::base::source::any_error;
use crate::base::text::plural;
use crate::engine::sync;

/// Brings the store to what the plan's files say. `Err` in words when the plan cannot be read; nothing is changed then.
///
/// # Errors
/// When the store cannot be written.
pub(super) fn learn(state: &State) -> Result<Result<(), String>, Failure> {
    let Checked { loaded, spec, problems, .. } = PlanArgs::default().check()?;
    let Some(loaded) = loaded.filter(|_| !any_error(&problems)) else {
        let errors = problems.iter().filter(|problem| problem.is_error()).count() as u64;
        return Ok(Err(format!("the plan cannot be read: {}; cofferdam lint shows them", plural(errors, "error", "errors"))));
    };
    let mut store = state.store_to_write()?;
    // A run, or another command, may do the same at this moment: then what is stored is looked at again.
    for _ in 0..3 {
        let known = store.all_facts().map_err(state::failure)?;
        let hash = store.overview().map_err(state::failure)?.plan;
        let events = sync::events(&spec, &loaded.config, &known, hash.as_deref());
        if events.is_empty() {
            return Ok(Ok(()));
        }
        let events = events.into_iter().map(|(story, kind)| state::said(story, kind)).collect();
        match store.append(events) {
            Ok(_) => return Ok(Ok(())),
            Err(crate::store::StoreError::Refused(_)) => {}
            Err(error) => return Err(state::failure(error)),
        }
    }
    Ok(Err("somebody else changes the plan at this moment".to_owned()))
}

/// After the files of the plan were written by a command: what runs, or has run, knows of it at once.
///
/// # Errors
/// As [`learn`].
pub(super) fn after_writing(root: &std::path::Path) -> Result<(), Failure> {
    // A folder that is no repository, or where nothing ran yet, has nobody to tell.
    let Ok(state) = State::at(root) else { return Ok(()) };
    if state.store()?.is_some() {
        // Whether the files are right was said by the command itself.
        drop(learn(&state)?);
    }
    Ok(())
}

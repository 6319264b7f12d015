//! Where every story of a plan stands, from the store: the one place where phases become what the picker knows.

use super::failure::Failure;
use super::show;
use super::state::{self, State};
use crate::config::load::{Loaded, Target};
use crate::engine::view::standing;
use crate::plan::Plan;
use crate::plan::next::{Facts, Standing};
use crate::story::phase;

/// The facts of a plan. A repository in which nothing ran yet, and a folder that is no repository, have stories that wait.
///
/// # Errors
/// When there is a store and it cannot be read: guessing would start what is done.
pub(super) fn facts(loaded: &Loaded, plan: &Plan) -> Result<Facts, Failure> {
    let mut facts = Facts { standings: vec![Standing::Waiting; plan.stories.len()], ..Facts::default() };
    if loaded.target == Target::NoRepository {
        return Ok(facts);
    }
    let Some(store) = State::at(&loaded.root)?.store()? else { return Ok(facts) };
    let overview = store.overview().map_err(state::failure)?;
    facts.paused = overview.paused;
    facts.red_target = overview.target.is_some_and(|target| target.green == Some(false));
    for story in store.all_facts().map_err(state::failure)? {
        // A story that is no longer in the plan has a state, and nobody asks for it.
        let Some(position) = plan.position(story.id.as_str()) else { continue };
        let phase = phase(&story);
        let next = show::next(&story, &phase).unwrap_or_else(|| format!("cofferdam why {}", story.id));
        facts.standings[position] = standing(&phase, || next, state::now());
    }
    Ok(facts)
}

//! Stories that must be wired together: none lands before the integration gates are green on all of them, and then all land.

use std::collections::BTreeSet;

use super::Runner;
use crate::base::id::StoryId;
use crate::config::When;
use crate::story::Phase;

impl Runner<'_> {
    /// The others of the group that a story completes with.
    pub(super) fn partners<'a>(&'a self, story: &StoryId) -> impl Iterator<Item = &'a StoryId> {
        let plan = &self.reading.plan;
        let own = plan.position(story.as_str());
        let group = own.and_then(|own| plan.groups.iter().find(|group| group.contains(&own)));
        group.into_iter().flatten().filter(move |at| Some(**at) != own).map(|at| plan.id(*at))
    }

    /// A partner that is still being worked on: nobody of the group lands yet.
    pub(super) fn unfinished_partner(&self, story: &StoryId) -> Option<&StoryId> {
        self.partners(story).find(|partner| match self.view.get(partner).map(|known| &known.phase) {
            Some(Phase::Queued { .. } | Phase::Merging { .. }) => self.keeping.aside.contains_key(*partner),
            Some(phase) => !phase.is_terminal(),
            None => true,
        })
    }

    /// Those of the waiting that wait for each other.
    pub(super) fn wired(&self, waiting: &[(StoryId, crate::base::id::CommitId)]) -> Vec<(StoryId, StoryId)> {
        if self.reading.plan.groups.is_empty() {
            return Vec::new();
        }
        let there: BTreeSet<&StoryId> = waiting.iter().map(|(story, _)| story).collect();
        let pairs = waiting.iter().flat_map(|(story, _)| self.partners(story).map(move |partner| (story, partner)));
        pairs.filter(|(_, partner)| there.contains(partner)).map(|(story, partner)| (story.clone(), partner.clone())).collect()
    }

    /// Which gates a candidate needs: the one that brings a wired group together needs the integration gates as well.
    pub(super) fn needed(&self, members: &[StoryId], behind: &[StoryId]) -> &'static [When] {
        let inside: BTreeSet<&StoryId> = members.iter().chain(behind).collect();
        let brings = members.iter().any(|member| {
            let mut partners = self.partners(member).peekable();
            let is_wired = partners.peek().is_some();
            let is_in =
                |partner: &StoryId| inside.contains(partner) || self.view.get(partner).is_some_and(|known| known.phase.is_terminal());
            is_wired && partners.all(is_in)
        });
        if brings { &[When::Always, When::Integration] } else { &[When::Always] }
    }
}

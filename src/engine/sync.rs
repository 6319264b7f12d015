//! From the plan's files to events: what is new, what changed, what is gone. Pure.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest, Sha256};

use crate::base::id::{StoryId, hex_text};
use crate::config::{self, Config, Contract, Role, When};
use crate::event::{ContractMode, Criterion, Kind, Landing, Limits, Rules, StorySpec};
use crate::spec::{self, Spec};
use crate::story::facts::{End, Story};
use crate::verify;

/// The events that bring the stories to what the plan says. Empty when they are there.
pub fn events<'a>(
    spec: &Spec,
    config: &Config,
    known: impl IntoIterator<Item = &'a Story>,
    hash: Option<&str>,
) -> Vec<(Option<StoryId>, Kind)> {
    let known: BTreeMap<&StoryId, &Story> = known.into_iter().map(|story| (&story.id, story)).collect();
    let (mut added, mut changed) = (Vec::new(), Vec::new());
    for (at, story) in spec.stories.iter().enumerate() {
        let wanted = story_spec(story, u32::try_from(at + 1).unwrap_or(u32::MAX), config);
        match known.get(&story.id) {
            None => added.push((story.id.clone(), Kind::StoryCreated { spec: wanted })),
            Some(old) if matches!(old.end, Some(End::Cancelled { removed: true, .. })) => {
                added.push((story.id.clone(), Kind::StoryCreated { spec: wanted }));
            }
            Some(old) if old.spec != wanted => changed.push((story.id.clone(), Kind::StoryChanged { spec: wanted })),
            Some(_) => {}
        }
    }
    let there: BTreeSet<&StoryId> = spec.stories.iter().map(|story| &story.id).collect();
    let gone = known.values().filter(|story| story.end.is_none() && !there.contains(&story.id));
    let removed: Vec<_> = gone.map(|story| (story.id.clone(), Kind::StoryRemoved {})).collect();
    let now = digest(spec);
    if added.is_empty() && changed.is_empty() && removed.is_empty() && hash == Some(&now) {
        return Vec::new();
    }
    let ids = |events: &[(StoryId, Kind)]| events.iter().map(|(id, _)| id.clone()).collect();
    let plan = Kind::PlanChanged { hash: now, added: ids(&added), changed: ids(&changed), removed: ids(&removed) };
    let stories = added.into_iter().chain(changed).chain(removed).map(|(id, kind)| (Some(id), kind));
    std::iter::once((None, bounded(plan))).chain(stories).collect()
}

/// A plan of ten thousand stories changes in one event, whose lists tell only the first of them.
fn bounded(mut plan: Kind) -> Kind {
    if let Kind::PlanChanged { added, changed, removed, .. } = &mut plan {
        for list in [added, changed, removed] {
            list.truncate(200);
        }
    }
    plan
}

/// The hash of everything a plan asks for.
pub fn digest(spec: &Spec) -> String {
    spec::change::digest(spec)
}

/// What the controller needs to know of a story.
pub fn story_spec(story: &spec::Story, ordinal: u32, config: &Config) -> StorySpec {
    StorySpec {
        title: story.title.clone(),
        epic: story.epic.clone(),
        ordinal,
        after: story.after.clone(),
        wired_with: story.wired_with.clone(),
        criteria: story.criteria.iter().map(|criterion| Criterion { id: criterion.id.clone(), text: criterion.text.clone() }).collect(),
        proof: proof(story),
        automatable: story.automatable,
        rules: rules(story, config),
    }
}

/// The hash of everything that a verdict depends on. What only decides about order is not part of it.
pub fn proof(story: &spec::Story) -> String {
    let judged = serde_json::json!([story.title, story.text, story.criteria, story.artifacts, story.checks, story.scope]);
    hex_text(&Sha256::digest(judged.to_string()))
}

fn rules(story: &spec::Story, config: &Config) -> Rules {
    let contract = config.agents.get(&Role::Implementer).map_or(ContractMode::Off, |agent| match agent.contract {
        Contract::With => ContractMode::With,
        Contract::Before => ContractMode::Before,
        Contract::Off => ContractMode::Off,
    });
    Rules {
        contract,
        evaluators: verify::required(story, config),
        gates: config.gates.iter().filter(|gate| gate.when == When::Always).map(|gate| gate.name.clone()).collect(),
        candidate_gates: config.ci.provider.map(|_| config::CI_GATE.to_owned()).into_iter().collect(),
        diagnose: config.agents.contains_key(&Role::Diagnoser),
        propose: config.agents.contains_key(&Role::Planner),
        landing: match config.merge.landing {
            config::Landing::Queue => Landing::Queue,
            config::Landing::Approval => Landing::Approval,
            config::Landing::Stop => Landing::Stop,
        },
        limits: limits(story, config),
    }
}

fn limits(story: &spec::Story, config: &Config) -> Limits {
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let (own, of_all) = (&story.budget, &config.budget);
    let microusd = |usd: f64| (usd * 1e6).round() as u64;
    let ms = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Limits {
        iterations: small(own.iterations.unwrap_or(config.run.iterations)),
        review_cycles: small(config.run.review_cycles),
        notify_cycle: small(config.run.review_notify),
        stagnation: small(config.run.stagnation),
        same_approach: small(config.run.approach_failures),
        model_calls: own.model_calls.or(of_all.model_calls),
        tokens: own.tokens.or(of_all.tokens),
        cost_microusd: own.usd.or(of_all.usd).map(microusd),
        wall_ms: own.wall.or(of_all.wall).map(ms),
        ..Limits::default()
    }
}

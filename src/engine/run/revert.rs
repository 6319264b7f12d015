//! What landed and turned out red: whose fault it is, and the commit that takes it back, gated and landed like anything else.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::queue::{Done, ticket};
use super::{RunError, Runner};
use crate::base::id::{CommitId, EvidenceId, StoryId};
use crate::config::When;
use crate::engine::crash;
use crate::engine::perform::Hands;
use crate::engine::perform::gate::{self, Case, Looked};
use crate::event::{Finding, Kind};
use crate::queue::candidate;
use crate::queue::chain::Verdict;
use crate::queue::gate::Definition;
use crate::queue::perform::Fault;
use crate::role::Stop;
use crate::store::Filter;
use crate::story::facts::Revert;
use crate::workspace::git::{Oid, Repository};

/// Events in which the last landings are looked for.
const LOOKED_BACK: u64 = 2_000;
/// Landings of which one is at fault.
const MOST: usize = 64;

/// One landing, oldest first in a list.
#[derive(Clone, Debug)]
pub(super) struct Landed {
    story: StoryId,
    /// Of a batch, the merge of this story.
    own: CommitId,
    before: CommitId,
    /// Where the target went.
    tip: CommitId,
}

/// What a task about a revert came to.
pub(super) enum Reverting {
    /// It was built, or there is none.
    Prepared {
        tip: CommitId,
        trouble: Option<String>,
    },
    Tested {
        story: StoryId,
        candidate: CommitId,
        verdict: Verdict,
    },
    /// The compare-and-swap was tried.
    Swapped {
        story: StoryId,
        revert: Revert,
        moved: Result<bool, String>,
    },
}

impl Runner<'_> {
    /// Prepares, tests or lands what takes back a landing that turned out red. True when something was begun.
    pub(super) fn take_back(&mut self, tip: &CommitId) -> Result<bool, RunError> {
        let keeping = &self.keeping;
        let is_busy = keeping.reverting || keeping.landing || keeping.checking || keeping.following > 0 || keeping.integrating;
        if is_busy {
            return Ok(false);
        }
        let open = self.view.stories().find_map(|story| Some((story.id.clone(), story.revert.clone()?)));
        let Some((story, revert)) = open else {
            let is_new = self.red_target && !self.repairs && self.keeping.tried.as_ref() != Some(tip);
            return if is_new { self.prepare_revert(tip) } else { Ok(false) };
        };
        if revert.base != *tip {
            // It may have landed, and the runner died before it could say so.
            let Ok(held) = self.help().with(|keeper| keeper.holds(&revert.candidate)) else {
                // Git cannot say where the target is: that is no reason to drop it. The next turn asks again.
                return Ok(false);
            };
            if held {
                self.taken_back(&story, &revert)?;
            } else {
                self.drop_revert(&story, &revert, "the target moved")?;
            }
            return Ok(true);
        }
        let is_green = self.keeping.known.as_ref().is_some_and(|(commit, green)| commit == tip && *green);
        if is_green && !self.red_target {
            self.drop_revert(&story, &revert, "the target is green")?;
            return Ok(true);
        }
        match (revert.ready, revert.approved || self.reading.config.merge.revert) {
            (false, _) => self.test_revert(story, &revert).map(|()| true),
            (true, true) => {
                self.land_revert(story, revert);
                Ok(true)
            }
            (true, false) => Ok(false),
        }
    }

    fn drop_revert(&mut self, story: &StoryId, revert: &Revert, why: &str) -> Result<(), RunError> {
        self.tell(story, Kind::RevertDropped { candidate: revert.candidate.clone(), why: why.to_owned() }).map(drop)
    }

    fn prepare_revert(&mut self, tip: &CommitId) -> Result<bool, RunError> {
        let landed = self.last_landings(tip)?;
        let stop = Arc::new(Stop::new()?);
        self.keeping.tried = Some(tip.clone());
        let Some(last) = landed.last().cloned() else { return Ok(false) };
        let tickets: Vec<_> = landed
            .iter()
            .filter_map(|one| {
                let story = &self.view.get(&one.story)?.story;
                Some(ticket(story, &story.change()?.commit))
            })
            .collect();
        let said = self.keeping.red.clone().unwrap_or_default();
        let fallen = self.keeping.fallen_at.clone().unwrap_or_else(|| last.tip.clone());
        let gates = self.gates(&[When::Always, When::Post]);
        let (help, shop, tip) = (self.help(), self.shop.clone(), tip.clone());
        self.keeping.others.push(stop.clone());
        self.keeping.reverting = true;
        self.keeping.make(move || {
            crash::point("a revert is prepared");
            let (at, why, evidence) = match at_fault(&shop, &stop, &gates, &landed, &fallen, &said) {
                Ok(fault) => fault,
                Err(why) => return Done::Reverting(Reverting::Prepared { tip, trouble: Some(why) }),
            };
            let Some(ticket) = tickets.iter().find(|ticket| ticket.story == at.story) else {
                let why = format!("{} is not in the plan any more", at.story);
                return Done::Reverting(Reverting::Prepared { tip, trouble: Some(why) });
            };
            let fault = Fault { landed: &at.own, before: &at.before, why: &why, evidence: evidence.as_ref() };
            let prepared = help.with(|keeper| keeper.prepare_revert(ticket, &fault, &mut help.teller()));
            let trouble = match prepared {
                Ok(true) => None,
                Ok(false) => Some(format!("later work builds on {}, whose landing is at fault", at.story)),
                Err(error) => Some(error.to_string()),
            };
            Done::Reverting(Reverting::Prepared { tip, trouble })
        });
        Ok(true)
    }

    /// What landed last, up to the target's tip, oldest first. Empty when the tip is none of ours.
    fn last_landings(&self, tip: &CommitId) -> Result<Vec<Landed>, RunError> {
        let mut told = Vec::new();
        self.store.events(&Filter { last: Some(LOOKED_BACK), ..Filter::default() }, |stored| {
            if let Ok(event) = stored.event()
                && let (Some(story), Kind::StoryLanded { commit, from, story_commit, .. }) = (event.story, event.kind)
            {
                told.push((story, commit, from, story_commit));
            }
            ControlFlow::Continue(())
        })?;
        let Some(repository) = &self.keeping.repository else { return Ok(Vec::new()) };
        let mut line = Vec::new();
        let mut at = tip.clone();
        // From the tip down, as long as each landing stands on the one before it: what others pushed is not taken back by us.
        while line.len() < MOST {
            let here: Vec<_> = told.iter().filter(|(_, commit, ..)| *commit == at).collect();
            let Some((.., from, _)) = here.first() else { break };
            let mut shares: Vec<Landed> =
                here.iter().filter_map(|(story, commit, from, own)| share(repository, story, commit, from, own)).collect();
            // Of a batch, each merge stands on the one before it.
            shares.sort_by_key(|one| shares_below(repository, one, from));
            line.extend(shares.into_iter().rev());
            at = from.clone();
        }
        line.reverse();
        Ok(line)
    }

    fn test_revert(&mut self, story: StoryId, revert: &Revert) -> Result<(), RunError> {
        let case = Case {
            stories: vec![story.clone()],
            candidate: revert.candidate.clone(),
            tree: revert.tree.clone(),
            base: revert.base.clone(),
            target: self.reading.target.clone(),
            // Taking work back takes its tests back too.
            approved: true,
        };
        let gates: Vec<Definition> = self.gates(&[When::Always, When::Post]);
        let stop = Arc::new(Stop::new()?);
        self.keeping.others.push(stop.clone());
        self.keeping.reverting = true;
        let hands = Hands { shop: self.shop.clone(), desk: self.desk.clone(), stop, words: self.words.clone() };
        self.keeping.tasks.spawn_blocking(move || {
            crash::point("a revert is tested");
            let verdict = gate::test(&hands, &case, &gates).unwrap_or(Verdict::Cancelled);
            Done::Reverting(Reverting::Tested { story, candidate: case.candidate, verdict })
        });
        Ok(())
    }

    fn land_revert(&mut self, story: StoryId, revert: Revert) {
        let help = self.help();
        (self.keeping.reverting, self.keeping.landing) = (true, true);
        self.keeping.tasks.spawn_blocking(move || {
            let landed = help.with(|keeper| keeper.land_revert(&revert, &mut |step| crash::point(&format!("revert: {step:?}"))));
            let moved = landed.map(|aside| aside.is_some()).map_err(|error| error.to_string());
            Done::Reverting(Reverting::Swapped { story, revert, moved })
        });
    }

    /// A task about a revert has ended.
    pub(super) fn reverting(&mut self, came: Reverting) -> Result<(), RunError> {
        self.keeping.reverting = false;
        match came {
            Reverting::Prepared { trouble: None, .. } => {}
            Reverting::Prepared { trouble: Some(why), tip } => {
                let detail = format!("the target is red at {}, and no revert could be prepared: {why}", tip.short());
                self.watcher.say(&detail);
                self.append(None, vec![Kind::HumanNotified { reason: "revert".to_owned(), detail }])?;
            }
            Reverting::Tested { story, candidate, verdict } => self.revert_tested(&story, candidate, verdict)?,
            Reverting::Swapped { story, revert, moved } => {
                self.keeping.landing = false;
                match moved {
                    Ok(true) => self.taken_back(&story, &revert)?,
                    Ok(false) => self.drop_revert(&story, &revert, "the target moved")?,
                    Err(why) => {
                        self.drop_revert(&story, &revert, &why)?;
                        self.keeping.broken = Some(format!("the revert of {story} could not be landed: {why}"));
                    }
                }
            }
        }
        Ok(())
    }

    fn revert_tested(&mut self, story: &StoryId, candidate: CommitId, verdict: Verdict) -> Result<(), RunError> {
        let why = match verdict {
            Verdict::Green => {
                self.tell(story, Kind::RevertReady { candidate: candidate.clone() })?;
                if !self.reading.config.merge.revert {
                    let detail = format!("the revert of {story} is green and ready: cofferdam approve {story} lands it");
                    self.watcher.say(&detail);
                    self.tell(story, Kind::HumanNotified { reason: "revert".to_owned(), detail })?;
                }
                return Ok(());
            }
            Verdict::Cancelled => return Ok(()),
            Verdict::Red => "its own gates are red: taking the landing back does not mend the target",
            Verdict::Broken => "its gates came to no verdict",
        };
        self.tell(story, Kind::RevertDropped { candidate, why: why.to_owned() })?;
        let detail = format!("the revert of {story} was dropped: {why}");
        self.watcher.say(&detail);
        self.tell(story, Kind::HumanNotified { reason: "revert".to_owned(), detail }).map(drop)
    }

    /// The target is without it, and the story goes to repair with the reason: its work is put onto the target again, and is mended there.
    fn taken_back(&mut self, story: &StoryId, revert: &Revert) -> Result<(), RunError> {
        let Some(known) = self.view.get(story) else { return Ok(()) };
        let help = self.help();
        let ticket = known.story.change().map(|change| ticket(&known.story, &change.commit));
        // Without it the repair begins on the target alone: the story's own commits are kept by their refs.
        let from = ticket.and_then(|ticket| help.with(|keeper| keeper.again(&ticket, revert)).ok());
        let first = revert.why.lines().next().unwrap_or_default().to_owned();
        let finding = Finding { text: revert.why.clone(), severity: Some("error".to_owned()), ..Finding::default() };
        self.tell(story, Kind::StoryReverted { commit: revert.candidate.clone(), reason: first.clone() })?;
        let reopened = Kind::StoryReopened {
            why: first,
            findings: vec![finding],
            evidence: revert.evidence.clone(),
            onto: from.is_some().then(|| revert.candidate.clone()),
            from,
        };
        self.tell(story, reopened)?;
        let commit = revert.candidate.clone();
        let moved = Kind::TargetMoved { target: self.reading.target.clone(), from: Some(revert.base.clone()), to: commit.clone() };
        let checked = Kind::TargetChecked { commit: commit.clone(), green: true, detail: None, evidence: None };
        (self.keeping.fallen, self.keeping.fallen_at, self.keeping.red) = (None, None, None);
        self.append(None, vec![moved, checked])?;
        self.red_target = false;
        self.keeping.known = Some((commit.clone(), true));
        self.watcher.say(&format!("{story} was taken back by {}: the target is green again, and the story goes to repair", commit.short()));
        if gate::follows_outside(&self.reading.config) {
            self.keeping.following += 1;
            let (shop, target) = (self.shop.clone(), self.reading.target.clone());
            self.spawn_other(move |stop| Done::Followed { looked: gate::follow(&shop, stop, &[], Some(&target), &commit), commit });
        }
        Ok(())
    }

    /// The refs of these stay.
    pub(super) fn open_reverts(&self) -> Vec<CommitId> {
        self.view.stories().filter_map(|story| Some(story.revert.as_ref()?.candidate.clone())).collect()
    }

    /// What a human is asked, when the target is red and there is something to approve.
    pub(super) fn revert_question(&self) -> Option<String> {
        let ready = self.view.stories().find(|story| story.revert.as_ref().is_some_and(|revert| revert.ready && !revert.approved))?;
        Some(format!("the revert of {0} is green and ready: cofferdam approve {0}, then cofferdam run lands it", ready.id))
    }
}

fn share(repository: &Repository, story: &StoryId, commit: &CommitId, from: &CommitId, own: &CommitId) -> Option<Landed> {
    let of = |id: &CommitId| id.as_str().parse::<Oid>().ok();
    let id = |id: Oid| id.to_string().parse().ok();
    let (own, before) = match candidate::share(repository, of(commit)?, of(own)?).ok()? {
        Some((own, before)) => (id(own)?, id(before)?),
        None => (commit.clone(), from.clone()),
    };
    Some(Landed { story: story.clone(), own, before, tip: commit.clone() })
}

/// How many merges lie between the landing's beginning and this one.
fn shares_below(repository: &Repository, one: &Landed, from: &CommitId) -> usize {
    let (mut at, mut below) = (one.before.clone(), 0);
    while at != *from && below < MOST {
        let parent = at.as_str().parse().ok().and_then(|id| repository.parents_of(id).ok()?.first().copied());
        let Some(parent) = parent.and_then(|id| id.to_string().parse().ok()) else { break };
        (at, below) = (parent, below + 1);
    }
    below
}

/// The landing that the target is red with, and was green without; else why that cannot be told.
fn at_fault(
    shop: &crate::role::Workshop,
    stop: &Stop,
    gates: &[Definition],
    landed: &[Landed],
    fallen: &CommitId,
    said: &str,
) -> Result<(Landed, String, Option<EvidenceId>), String> {
    let look = |commit: &CommitId| gate::look(shop, stop, gates, commit);
    let Some(last) = landed.last() else { return Err("what is at its tip was not landed by cofferdam".to_owned()) };
    let now: Looked = look(&last.own);
    if now.green == Some(false) {
        let line: Vec<_> = landed.iter().map(|one| (one.story.clone(), one.own.clone())).collect();
        let culprit = gate::culprit(shop, stop, gates, &line).and_then(|story| landed.iter().rfind(|one| one.story == story));
        let Some(at) = culprit else { return Err("the gates could not be run on what landed before".to_owned()) };
        let (with, without) = (look(&at.own), look(&at.before));
        return match (with.green, without.green) {
            (Some(false), Some(true)) => Ok((at.clone(), with.why, with.evidence)),
            (_, Some(false)) => Err(format!("it was red before {} landed", at.story)),
            _ => Err("the gates could not be run on what landed before".to_owned()),
        };
    }
    if now.green.is_none() {
        return Err(format!("the gates could not be run: {}", now.why));
    }
    // Our own gates have nothing against it: external CI looked at one landing, and said so.
    match landed.iter().filter(|one| one.tip == *fallen).collect::<Vec<_>>()[..] {
        [one] => Ok((one.clone(), said.to_owned(), None)),
        [] => Err("it is not known which landing is at fault".to_owned()),
        _ => Err("several stories landed as one, and external CI does not tell which is at fault; cofferdam revert STORY takes one back"
            .to_owned()),
    }
}

//! The loop's part in landing: what waits, what the chain decides, and the checks of the target itself.
//!
//! The chain decides ([`crate::queue::chain`]); tasks do it side by side and tell what they did by letter; the facts they come back with
//! are fed to the chain. Nothing here is kept over a crash: it is derived from the stories and the target again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::revert::Reverting;
use super::{RunError, Runner};
use crate::base::id::{CommitId, StoryId};
use crate::config::{Style, When};
use crate::engine::crash;
use crate::engine::perform::gate::{self, Case, Looked};
use crate::engine::perform::{Desk, Hands, Trouble, Untold, blocked};
use crate::event::{GateResult, Kind};
use crate::queue::chain::{Action, Chain, Fact, Verdict, Why};
use crate::queue::gate::Definition;
use crate::queue::land::{Aside, LandError};
use crate::queue::order::{Waiting, order};
use crate::queue::perform::{Keeper, Ticket, Undone};
use crate::role::{Stop, Workshop};
use crate::store::Filter;
use crate::story::facts::Attempt;
use crate::story::{Phase, Story};
use crate::workspace::git::Repository;
use crate::workspace::stories::Workspaces;

/// Events in which the last stories that left the queue are looked for.
const LOOKED_BACK: u64 = 2_000;

/// What a task of the queue came to.
pub(super) enum Done {
    Facts(Vec<Fact>),
    Landed {
        facts: Vec<Fact>,
        aside: Vec<Aside>,
        /// What a human is asked, of each story.
        trouble: Vec<(StoryId, Trouble)>,
    },
    /// A story that was at fault together with others was looked at again, alone on the target.
    Settled {
        story: StoryId,
    },
    Checked {
        commit: CommitId,
        looked: Looked,
    },
    /// What has landed was looked at.
    Followed {
        commit: CommitId,
        looked: Looked,
    },
    Integrated {
        commit: CommitId,
        /// How many there had been when it began.
        landings: u64,
        looked: Looked,
        culprit: Option<StoryId>,
    },
    Reverting(Reverting),
    /// The same, of a task that may have made a ref: whoever removes refs waits until it is known what for.
    Made(Box<Self>),
    /// Something of our own went wrong: a human is asked.
    Trouble {
        story: Option<StoryId>,
        trouble: Trouble,
    },
}

/// The queue of one run.
#[derive(Default)]
pub(super) struct Keeping {
    pub(super) repository: Option<Repository>,
    pub(super) chain: Option<Chain>,
    pub(super) fed: Vec<(StoryId, CommitId)>,
    /// When each story entered, by the event that says so.
    pub(super) entered: BTreeMap<StoryId, (CommitId, u64)>,
    pub(super) tasks: JoinSet<Done>,
    /// What is being tested, by candidate.
    pub(super) stops: HashMap<CommitId, Arc<Stop>>,
    /// Stops of everything else.
    pub(super) others: Vec<Arc<Stop>>,
    /// Stories that were at fault together with others that have not landed yet.
    pub(super) aside: BTreeMap<StoryId, BTreeSet<StoryId>>,
    /// The target's commit that was looked at last, and whether it is green.
    pub(super) known: Option<(CommitId, bool)>,
    pub(super) checking: bool,
    /// Where the target was when it was last looked at, also by a run before this one.
    pub(super) last_target: Option<CommitId>,
    /// Looks at what has landed that are not over.
    pub(super) following: usize,
    /// Why what has landed is red: until a later landing is green.
    pub(super) fallen: Option<String>,
    /// Which landing that was.
    pub(super) fallen_at: Option<CommitId>,
    /// A revert is being prepared, tested or landed.
    pub(super) reverting: bool,
    /// The red tip for which a revert was looked for.
    pub(super) tried: Option<CommitId>,
    /// Tasks that make refs which nothing else names yet.
    pub(super) making: usize,
    pub(super) integrating: bool,
    pub(super) landing: bool,
    pub(super) recovered: bool,
    /// Why the gates cannot be run at all.
    pub(super) broken: Option<String>,
    /// Why the target is red.
    pub(super) red: Option<String>,
}

impl Keeping {
    /// Begins a task that makes refs.
    pub(super) fn make(&mut self, act: impl FnOnce() -> Done + Send + 'static) {
        self.making += 1;
        self.tasks.spawn_blocking(move || Done::Made(Box::new(act())));
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.tasks.is_empty()
    }

    pub(super) fn ask_to_stop(&self) {
        self.stops.values().chain(&self.others).for_each(|stop| stop.ask());
    }

    /// Why nothing new may start before the target was looked at.
    pub(super) fn holds(&self) -> Option<String> {
        match (&self.broken, &self.known) {
            (Some(why), _) => Some(why.clone()),
            (None, None) => Some("the target's own gates run first".to_owned()),
            (None, Some(_)) if self.following > 0 => Some("what has landed is being checked".to_owned()),
            (None, Some(_)) => None,
        }
    }
}

/// Everything that a task needs to keep the target.
#[derive(Clone)]
pub(super) struct Help {
    shop: Arc<Workshop>,
    desk: Desk,
    target: String,
    run: String,
}

impl Help {
    pub(super) fn with<T>(&self, act: impl FnOnce(&Keeper<'_>) -> Result<T, Undone<Untold>>) -> Result<T, Undone<Untold>> {
        let Workspaces { repository, state } =
            self.shop.workspaces().map_err(|error| std::io::Error::other(error.to_string())).map_err(|e| Undone::Git(e.into()))?;
        let merge = self.shop.config().merge.clone();
        act(&Keeper {
            repository: &repository,
            state: &state,
            target: &self.target,
            style: merge.style,
            update: merge.update_checkout,
            push: merge.push.as_deref(),
            run: Some(self.run.clone()),
        })
    }

    pub(super) fn teller(&self) -> impl FnMut(&StoryId, Kind) -> Result<(), Untold> {
        let desk = self.desk.clone();
        move |story, kind| desk.tell(story, vec![kind])
    }
}

/// A story that refuses the event has moved on: nothing is to be done. Anything else is ours.
pub(super) fn undone(story: &StoryId, error: Undone<Untold>) -> Done {
    match error {
        Undone::Told(_) => Done::Facts(Vec::new()),
        error => {
            let trouble =
                Trouble::new(format!("it could not be landed: {error}"), format!("mend what it names, then cofferdam retry {story}"));
            Done::Trouble { story: Some(story.clone()), trouble }
        }
    }
}

/// The attempt that this commit is of.
fn judged<'a>(story: &'a Story, commit: &CommitId) -> Option<&'a Attempt> {
    story.attempts.iter().rev().find(|a| a.change.as_ref().is_some_and(|change| change.commit == *commit))
}

pub(super) fn ticket(story: &Story, commit: &CommitId) -> Ticket {
    // The one document that names all the rest by hash.
    let evidence = judged(story, commit).and_then(|attempt| attempt.manifest.clone()).into_iter().collect();
    Ticket {
        story: story.id.clone(),
        title: story.spec.title.clone(),
        commit: commit.clone(),
        gates: story.spec.rules.gates.clone(),
        evidence,
    }
}

impl Runner<'_> {
    /// Looks at the target and at who waits, and begins what the chain asks for. True when something was begun.
    pub(super) fn keep(&mut self) -> Result<bool, RunError> {
        if self.stopping || self.keeping.broken.is_some() {
            return Ok(false);
        }
        if !self.keeping.recovered {
            self.keeping.recovered = true;
            self.recover_landings()?;
        }
        let Some(tip) = self.tip()? else { return Ok(false) };
        let mut acted = self.notice_rewriting(&tip)?;
        acted |= self.check_target(&tip);
        // A repair is built on the target as it is; that it is green with it is what its own gates say.
        let is_green = self.keeping.known.as_ref().is_some_and(|(commit, green)| *commit == tip && (*green || self.repairs));
        let slots = usize::try_from(self.reading.config.queue.slots).unwrap_or(1);
        if self.keeping.chain.is_none() && is_green {
            let recent = self.recently_red()?;
            self.keeping.chain = Some(Chain::new(slots, tip.clone()).with_batches(self.batch(), recent));
        }
        let mut facts = Vec::new();
        if let Some(chain) = &self.keeping.chain
            && !self.keeping.landing
            && is_green
            && *chain.target() != tip
        {
            facts.push(Fact::Target(tip.clone()));
        }
        let waiting = self.waiting()?;
        // In the middle of a landing the story is in the target and in the chain: its end comes first.
        if self.keeping.chain.is_some() && !self.keeping.landing && waiting != self.keeping.fed {
            self.keeping.fed.clone_from(&waiting);
            facts.push(Fact::Wired(self.wired(&waiting)));
            facts.push(Fact::Queue(waiting));
        }
        acted |= self.feed(facts)?;
        acted |= self.settle_aside();
        acted |= self.integrate(false);
        acted |= self.take_back(&tip)?;
        Ok(acted)
    }

    /// The most stories that are tested as one. In one straight line of commits each is tested by itself: only a merge can stand for several.
    fn batch(&self) -> usize {
        let config = &self.reading.config;
        if config.merge.style == Style::Merge { usize::try_from(config.queue.batch).unwrap_or(1) } else { 1 }
    }

    /// Whether the last stories that left the queue were red, the newest last.
    fn recently_red(&self) -> Result<Vec<bool>, RunError> {
        let mut red = Vec::new();
        self.store.events(&Filter { last: Some(LOOKED_BACK), ..Filter::default() }, |stored| {
            match stored.event().map(|event| event.kind) {
                Ok(Kind::StoryLanded { .. }) => red.push(false),
                Ok(Kind::CandidateRefused { candidate: Some(_), .. }) => red.push(true),
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        Ok(red)
    }

    pub(super) fn tip(&mut self) -> Result<Option<CommitId>, RunError> {
        let keeping = &mut self.keeping;
        if keeping.repository.is_none() {
            keeping.repository = self.shop.workspaces().ok().map(|workspaces| workspaces.repository);
        }
        let Some(repository) = &keeping.repository else { return Ok(None) };
        let tip = repository.branch_tip(&self.reading.target).ok().flatten();
        Ok(tip.and_then(|tip| tip.to_string().parse().ok()))
    }

    pub(super) fn help(&self) -> Help {
        Help { shop: self.shop.clone(), desk: self.desk.clone(), target: self.reading.target.clone(), run: self.run.to_string() }
    }

    /// A runner that died in the middle of a landing: the target tells what came of it.
    fn recover_landings(&mut self) -> Result<(), RunError> {
        let help = self.help();
        let synced = help.with(|keeper| {
            keeper.sync()?;
            Ok(())
        });
        if let Err(error) = synced {
            self.keeping.broken = Some(format!("the target cannot be brought together with its remote: {error}"));
            return Ok(());
        }
        let open: Vec<_> = self
            .view
            .stories()
            .filter_map(|story| {
                let queue = story.queue.as_ref()?;
                let candidate = queue.candidate.as_ref().filter(|candidate| candidate.landing)?;
                Some((ticket(story, &queue.commit), candidate.commit.clone(), candidate.base.clone()))
            })
            .collect();
        for (ticket, candidate, base) in open {
            let mut told = Vec::new();
            let recovered = help.with(|keeper| {
                keeper.recover(&ticket, &candidate, &base, &mut |_, kind| {
                    told.push(kind);
                    Ok(())
                })
            });
            if let Err(error) = recovered {
                told.push(blocked(&Trouble::new(error, format!("cofferdam retry {}", ticket.story))));
            }
            for kind in told {
                self.tell(&ticket.story, kind)?;
            }
        }
        Ok(())
    }

    /// The proven stories, in the one order.
    fn waiting(&mut self) -> Result<Vec<(StoryId, CommitId)>, RunError> {
        let mut waiting = Vec::new();
        for known in self.view.all() {
            let (Phase::Queued { proof } | Phase::Merging { proof, .. }) = &known.phase else { continue };
            let (story, commit) = (known.story.id.clone(), proof.commit().clone());
            if self.keeping.aside.contains_key(&story) {
                continue;
            }
            // What lands names its manifest; it comes in a moment.
            if judged(&known.story, &commit).is_some_and(|attempt| attempt.manifest.is_none()) {
                continue;
            }
            let entered = match self.keeping.entered.get(&story) {
                Some((of, seq)) if *of == commit => *seq,
                _ => {
                    self.store.transitions(&story)?.iter().rev().find(|t| t.to == "queued" && t.kind == "story.queued").map_or(0, |t| t.seq)
                }
            };
            self.keeping.entered.insert(story.clone(), (commit.clone(), entered));
            let urgent = known.story.is_urgent();
            // Nothing is piled on what is broken.
            let mends = urgent || (self.repairs && self.is_named(&story));
            if self.red_target && !mends {
                continue;
            }
            if self.unfinished_partner(&story).is_some() {
                continue;
            }
            let ordinal = known.story.spec.ordinal;
            waiting.push((Waiting { priority: self.priority(&story), story, urgent, entered, ordinal }, commit));
        }
        waiting.sort_by(|(a, _), (b, _)| order(a, b));
        Ok(waiting.into_iter().map(|(waiting, commit)| (waiting.story, commit)).collect())
    }

    fn priority(&self, story: &StoryId) -> u64 {
        let stream = self.specs.get(story).and_then(|spec| spec.stream.as_ref());
        stream.and_then(|stream| self.reading.config.streams.get(stream)).map_or(crate::config::DEFAULT_PRIORITY, |stream| stream.priority)
    }

    fn feed(&mut self, facts: Vec<Fact>) -> Result<bool, RunError> {
        let mut acted = false;
        for fact in facts {
            let actions = self.keeping.chain.as_mut().map(|chain| chain.take(fact)).unwrap_or_default();
            for action in actions {
                acted = true;
                self.begin_action(action)?;
            }
        }
        Ok(acted)
    }

    fn begin_action(&mut self, action: Action) -> Result<(), RunError> {
        match action {
            Action::Build { members, base, behind } => {
                let known = members.iter().filter_map(|(story, commit)| Some(ticket(&self.view.get(story)?.story, commit)));
                let (tickets, help): (Vec<Ticket>, Help) = (known.collect(), self.help());
                let Some(first) = tickets.first().map(|ticket| ticket.story.clone()) else { return Ok(()) };
                self.keeping.make(move || {
                    crash::point("a candidate is built");
                    let built = help.with(|keeper| keeper.build(&tickets, &base, &behind, &mut help.teller()));
                    built.map_or_else(|error| undone(&first, error), |fact| Done::Facts(vec![fact]))
                });
            }
            Action::Test { members, candidate, behind } => self.begin_test(&members, &candidate, &behind)?,
            Action::Stop { candidate } => {
                if let Some(stop) = self.keeping.stops.remove(&candidate) {
                    stop.ask();
                }
            }
            Action::Drop { members, candidate, why } => {
                for story in members {
                    self.tell(&story, Kind::CandidateDropped { candidate: candidate.clone(), why: why.words().to_owned() })?;
                }
            }
            Action::Land { members, candidate, base } => self.begin_landing(&members, candidate, base),
            Action::Eject { story, candidate: Some(candidate), why: Why::Broken, .. } => {
                let gates = self.view.get(&story).and_then(|known| known.story.queue.as_ref()?.candidate.as_ref()).map(|c| &c.gates);
                let said = gates.and_then(|gates| gates.iter().find(|(_, run)| run.result == GateResult::Error));
                let why = said.map_or_else(String::new, |(gate, run)| {
                    format!(": {gate}: {}", run.detail.as_deref().unwrap_or_default().lines().next().unwrap_or_default())
                });
                let what = format!("the gates of its candidate {} came to no verdict{why}", candidate.short());
                self.tell(&story, blocked(&Trouble::new(what, format!("cofferdam show {story}; then cofferdam retry {story}"))))?;
            }
            Action::Eject { story, candidate, base, why, behind } if behind.is_empty() => self.begin_refusal(story, candidate, base, why),
            Action::Eject { story, behind, .. } => {
                // Together with stories that have not landed: it is looked at again when they have, on a target that holds them.
                self.keeping.aside.insert(story, behind.into_iter().collect());
            }
        }
        Ok(())
    }

    fn begin_test(&mut self, members: &[StoryId], candidate: &CommitId, behind: &[StoryId]) -> Result<(), RunError> {
        let known = members.iter().filter_map(|story| {
            let facts = &self.view.get(story)?.story;
            let queue = facts.queue.as_ref()?;
            let built = queue.candidate.as_ref().filter(|built| built.commit == *candidate)?;
            Some((facts, queue, built))
        });
        let known: Vec<_> = known.collect();
        let Some((.., built)) = known.first().filter(|_| known.len() == members.len()) else {
            // A story has moved on, or a candidate that was asked for earlier came late: it is built again.
            let again = Fact::NotLanded { candidate: candidate.clone() };
            self.keeping.tasks.spawn_blocking(move || Done::Facts(vec![again]));
            return Ok(());
        };
        let case = Case {
            stories: members.to_vec(),
            candidate: candidate.clone(),
            tree: built.tree.clone(),
            base: built.base.clone(),
            target: self.reading.target.clone(),
            approved: known.iter().all(|(facts, queue, _)| facts.approvals.contains(&queue.commit)),
        };
        let is_required = |gate: &Definition| known.iter().any(|(facts, ..)| facts.spec.rules.gates.contains(&gate.name));
        let always = |gate: &Definition| gate.when != When::Always || is_required(gate);
        let gates: Vec<Definition> = self.gates(self.needed(members, behind)).into_iter().filter(always).collect();
        let stop = Arc::new(Stop::new()?);
        self.keeping.stops.insert(candidate.clone(), stop.clone());
        let hands = Hands { shop: self.shop.clone(), desk: self.desk.clone(), stop, words: self.words.clone() };
        self.keeping.tasks.spawn_blocking(move || {
            crash::point("a candidate is tested");
            // Whoever does not take the result has moved on.
            let verdict = gate::test(&hands, &case, &gates).unwrap_or(Verdict::Cancelled);
            Done::Facts(vec![Fact::Verdict { candidate: case.candidate, verdict }])
        });
        Ok(())
    }

    fn begin_landing(&mut self, members: &[StoryId], candidate: CommitId, base: CommitId) {
        let known = members.iter().filter_map(|story| {
            let facts = &self.view.get(story)?.story;
            Some(ticket(facts, &facts.queue.as_ref()?.commit))
        });
        let tickets: Vec<Ticket> = known.collect();
        let help = self.help();
        self.keeping.landing = true;
        self.keeping.tasks.spawn_blocking(move || {
            let landed = help.with(|keeper| {
                keeper.land(&tickets, &candidate, &base, &mut |step| crash::point(&format!("landing: {step:?}")), &mut help.teller())
            });
            let error = match landed {
                Ok((facts, aside)) => return Done::Landed { facts, aside, trouble: Vec::new() },
                Err(error) => error,
            };
            let trouble = |story: &StoryId| match &error {
                Undone::Told(_) => None,
                Undone::Push(_) | Undone::Diverged(_) => Some(Trouble::new(&error, format!("mend it there, then cofferdam retry {story}"))),
                Undone::Land(LandError::Checkout { .. }) => Some(Trouble::new(&error, format!("then cofferdam retry {story}"))),
                _ => Some(Trouble::new(
                    format!("it could not be landed: {error}"),
                    format!("mend what it names, then cofferdam retry {story}"),
                )),
            };
            let trouble = tickets.iter().filter_map(|ticket| Some((ticket.story.clone(), trouble(&ticket.story)?))).collect();
            Done::Landed { facts: vec![Fact::NotLanded { candidate }], aside: Vec::new(), trouble }
        });
    }

    /// Something was red once, and is tried again: those behind it need not wait for that.
    pub(super) fn suspected(&mut self, kinds: &[Kind]) -> Result<(), RunError> {
        let candidates = kinds.iter().filter_map(|kind| match kind {
            Kind::GateSuspected { commit, .. } => Some(Fact::Suspect { candidate: commit.clone() }),
            _ => None,
        });
        let facts: Vec<Fact> = candidates.collect();
        if facts.is_empty() { Ok(()) } else { self.feed(facts).map(drop) }
    }

    /// One task of the queue has ended.
    pub(super) fn kept(&mut self, done: Result<Done, tokio::task::JoinError>) -> Result<(), RunError> {
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                self.keeping.broken = Some(format!("cofferdam itself is at fault: {error}"));
                return Ok(());
            }
        };
        match done {
            Done::Facts(facts) => {
                for fact in &facts {
                    if let Fact::Verdict { candidate, .. } = fact {
                        self.keeping.stops.remove(candidate);
                    }
                }
                self.feed(facts)?;
            }
            Done::Landed { facts, aside, trouble } => {
                for (story, trouble) in trouble {
                    self.tell(&story, blocked(&trouble))?;
                }
                self.landed(facts, &aside)?;
            }
            Done::Settled { story } => {
                self.keeping.aside.remove(&story);
            }
            Done::Checked { commit, looked } => self.checked(commit, looked)?,
            Done::Followed { commit, looked } => self.followed(commit, looked)?,
            Done::Reverting(came) => self.reverting(came)?,
            Done::Made(done) => {
                self.keeping.making = self.keeping.making.saturating_sub(1);
                return self.kept(Ok(*done));
            }
            Done::Integrated { commit, landings, looked, culprit } => self.integrated(commit, landings, looked, culprit)?,
            Done::Trouble { story, trouble } => match story {
                Some(story) => drop(self.tell(&story, blocked(&trouble))?),
                None => self.keeping.broken = Some(trouble.what),
            },
        }
        Ok(())
    }

    fn landed(&mut self, facts: Vec<Fact>, aside: &[Aside]) -> Result<(), RunError> {
        self.keeping.landing = false;
        for one in aside {
            self.watcher.say(&format!(
                "{} was on the target and stays as it is, on the branch {}: `git pull` or `cofferdam land` there brings it along",
                one.files.display(),
                one.branch
            ));
        }
        let landed = facts.iter().find_map(|fact| match fact {
            Fact::Landed { candidate } => Some(candidate.clone()),
            _ => None,
        });
        // Where somebody else moved the target to is looked at before anything is built on it.
        self.feed(facts.into_iter().filter(|fact| !matches!(fact, Fact::Target(_))).collect())?;
        let Some(commit) = landed else { return Ok(()) };
        self.keeping.known = Some((commit.clone(), true));
        self.keeping.last_target = Some(commit.clone());
        let checked = Kind::TargetChecked { commit: commit.clone(), green: true, detail: None, evidence: None };
        self.append(None, vec![checked])?;
        let mut live = self.keeping.chain.as_ref().map(Chain::live).unwrap_or_default();
        live.extend(self.open_reverts());
        let repairs = self.open_repairs();
        // What is being made is not known to anybody yet, and would be taken away. A ref too many is removed by a later landing.
        if self.keeping.making == 0 {
            drop(self.help().with(|keeper| Ok(keeper.tidy(&live, &repairs)?)));
        }
        let post = self.gates(&[When::Post]);
        let (shop, target) = (self.shop.clone(), self.reading.target.clone());
        let outside = gate::follows_outside(&self.reading.config);
        let looks = !post.is_empty() || outside;
        self.keeping.following += usize::from(looks);
        self.spawn_other(move |stop| {
            gate::settle_caches(&shop, &commit, &live);
            if looks {
                Done::Followed { looked: gate::follow(&shop, stop, &post, outside.then_some(target.as_str()), &commit), commit }
            } else {
                Done::Facts(Vec::new())
            }
        });
        Ok(())
    }
}

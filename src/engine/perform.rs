//! From an effect to the world and back to events: one function per effect, in the files below. Nothing here decides what comes next.

mod advise;
mod attempt;
pub mod ci;
mod collect;
mod evaluate;
pub mod gate;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::crash;
use crate::base::id::{AttemptNo, CommitId, EvidenceId, StoryId};
use crate::event::{Block, Kind};
use crate::role::process::Listener;
use crate::role::{Stop, Workshop};
use crate::spec;
use crate::store::live;
use crate::story::facts::Attempt;
use crate::story::{Effect, Refused, Story, manifest};

pub use attempt::{folder_of, folders_of};
pub use collect::salvage;

/// Events on their way to the one owner of the store.
#[derive(Debug)]
pub struct Letter {
    pub story: Option<StoryId>,
    pub kinds: Vec<Kind>,
    pub reply: oneshot::Sender<Result<(), Untold>>,
}

/// Why events were not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untold {
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The loop has ended, or its store cannot be written. Whoever hears this stops.
    #[error("the run is over")]
    Over,
}

/// What a worker has of the loop: a way to tell it what happened.
#[derive(Clone, Debug)]
pub struct Desk {
    letters: mpsc::Sender<Letter>,
}

impl Desk {
    pub fn new(letters: mpsc::Sender<Letter>) -> Self {
        Self { letters }
    }

    /// Stores events of a story, all or none. When this returns without an error, they are on the disk.
    ///
    /// # Errors
    /// When the story refuses one of them, or the run is over.
    pub fn tell(&self, story: &StoryId, kinds: Vec<Kind>) -> Result<(), Untold> {
        self.send(Some(story.clone()), kinds)
    }

    /// The same for what concerns the run as a whole.
    ///
    /// # Errors
    /// As [`Desk::tell`].
    pub fn tell_of_run(&self, kinds: Vec<Kind>) -> Result<(), Untold> {
        self.send(None, kinds)
    }

    fn send(&self, story: Option<StoryId>, kinds: Vec<Kind>) -> Result<(), Untold> {
        let (reply, answer) = oneshot::channel();
        self.letters.blocking_send(Letter { story, kinds, reply }).map_err(|_| Untold::Over)?;
        answer.blocking_recv().unwrap_or(Err(Untold::Over))
    }
}

/// Lines that are kept of what one story's processes say.
const KEPT: usize = 200;

/// The last words of what runs, by story: shown, and never decided by.
#[derive(Clone, Debug, Default)]
pub struct Words(Arc<Mutex<BTreeMap<StoryId, Said>>>);

#[derive(Debug, Default)]
struct Said {
    lines: VecDeque<String>,
    /// Something was said that was not written down yet.
    is_new: bool,
    /// What is written down is of the past.
    is_over: bool,
}

impl Words {
    /// Takes what a process of this story says.
    pub fn listener(&self, story: &StoryId) -> Listener {
        let (words, story) = (self.clone(), story.clone());
        Arc::new(move |line| {
            let mut words = words.all();
            let said = words.entry(story.clone()).or_default();
            if std::mem::take(&mut said.is_over) {
                said.lines.clear();
            }
            said.lines.push_back(line.to_owned());
            said.lines.drain(..said.lines.len().saturating_sub(KEPT));
            said.is_new = true;
        })
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<StoryId, Said>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn of(&self, story: &StoryId) -> Option<String> {
        self.all().get(story).filter(|said| !said.is_over)?.lines.back().cloned()
    }

    pub fn forget(&self, story: &StoryId) {
        if let Some(said) = self.all().get_mut(story) {
            said.is_over = true;
        }
    }

    /// Writes down what is new, for readers beside this process.
    pub fn write_down(&self, folder: &std::path::Path) {
        self.all().retain(|story, said| {
            if said.is_over {
                live::remove(folder, story);
                return false;
            }
            // On a full disk nobody reads along; the run is not ended by it.
            if std::mem::take(&mut said.is_new) {
                drop(live::write(folder, story, &said.lines));
            }
            true
        });
    }
}

/// One effect to perform, with everything it is about as it was when the effect was decided on.
#[derive(Debug)]
pub struct Work {
    pub story: Story,
    /// The story's text. None when it is no longer in the plan.
    pub spec: Option<Arc<spec::Story>>,
    pub overview: Option<Arc<str>>,
    /// The target's commit, which the configuration and its programs are read from.
    pub target: CommitId,
    pub effect: Effect,
}

/// What performs it has.
#[derive(Clone, Debug)]
pub struct Hands {
    pub shop: Arc<Workshop>,
    pub desk: Desk,
    pub stop: Arc<Stop>,
    pub words: Words,
}

/// Something of our own went wrong: no agent is to blame, and a human is asked.
#[derive(Debug)]
pub struct Trouble {
    pub what: String,
    pub next: String,
}

impl Trouble {
    pub fn new(what: impl std::fmt::Display, next: impl Into<String>) -> Self {
        Self { what: what.to_string(), next: next.into() }
    }
}

/// Why an effect has no answer.
#[derive(Debug)]
pub enum Unanswered {
    Trouble(Trouble),
    Untold(Untold),
}

impl From<Trouble> for Unanswered {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<Untold> for Unanswered {
    fn from(untold: Untold) -> Self {
        Self::Untold(untold)
    }
}

impl Work {
    fn attempt(&self) -> Result<&Attempt, Trouble> {
        self.story.attempts.last().ok_or_else(|| Trouble::new("there is no attempt", "cofferdam log; this is a fault of cofferdam"))
    }

    fn spec(&self) -> Result<&Arc<spec::Story>, Trouble> {
        let next = || format!("put it back, or cofferdam cancel {}", self.story.id);
        self.spec.as_ref().ok_or_else(|| Trouble::new("the story is no longer in the plan", next()))
    }
}

/// Performs one effect to its end. What it leads to is told as events.
pub fn perform(hands: &Hands, work: &Work) {
    crash::point("an effect begins");
    let answered = match &work.effect {
        Effect::StartAttempt { .. } => attempt::start(hands, work),
        Effect::Propose { attempt } => advise::propose(hands, work, *attempt),
        Effect::AskContract { attempt } => attempt::ask_contract(hands, work, *attempt),
        Effect::Collect { attempt } => collect::collect(hands, work, *attempt),
        Effect::RunEvaluator { evaluator, commit, tree, proof, tries, .. } => {
            evaluate::evaluate(hands, work, evaluator, commit, tree, proof, *tries)
        }
        // The loop does this one itself: it alone knows what runs.
        Effect::StopAttempt { .. } => Ok(()),
        Effect::RunGate { gate, commit, .. } => gate::run(hands, work, gate, commit),
        Effect::Seal { attempt, .. } => seal(hands, work, *attempt),
        Effect::Enqueue { commit } => tell(hands, work, Kind::StoryQueued { commit: commit.clone() }),
        Effect::Dequeue { commit } => {
            tell(hands, work, Kind::StoryDequeued { commit: commit.clone(), why: "it is not ready any more".to_owned() })
        }
        Effect::Diagnose { commit, .. } => advise::diagnose(hands, work, commit),
    };
    if let Err(Unanswered::Trouble(trouble)) = answered
        && !hands.stop.is_asked()
    {
        drop(hands.desk.tell(&work.story.id, vec![blocked(&trouble)]));
    }
    crash::point("an effect ended");
}

/// `Seal` → `evidence.sealed`: a document of what the facts say, kept as evidence.
fn seal(hands: &Hands, work: &Work, no: AttemptNo) -> Result<(), Unanswered> {
    let evidence = &hands.shop.evidence;
    let size = |id: &EvidenceId| fs_err::metadata(evidence.path(id)).ok().map(|status| status.len());
    let Some(manifest) = manifest::manifest(&work.story, no, &size) else { return Ok(()) };
    let id = evidence.put(&manifest.bytes()).map_err(|e| Trouble::new(e, "free some space on the disk that holds the state folder"))?;
    crash::point("a manifest is kept");
    tell(hands, work, Kind::EvidenceSealed { attempt: no, manifest: id })
}

fn tell(hands: &Hands, work: &Work, kind: Kind) -> Result<(), Unanswered> {
    Ok(hands.desk.tell(&work.story.id, vec![kind])?)
}

/// The event that asks a human about a fault of ours.
pub fn blocked(trouble: &Trouble) -> Kind {
    let block = Block { reason: "runner".to_owned(), question: trouble.what.clone(), next: trouble.next.clone() };
    Kind::StoryBlocked { block }
}

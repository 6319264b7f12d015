//! What is known of a story. Facts only: whether it is ready, or blocked, is derived from them in [`super::phase`].

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::memory::{Approach, Memory};
use crate::base::id::{AttemptNo, CommitId, EvidenceId, PatchId, StoryId, TreeId};
use crate::event::{AgentCall, Amount, AttemptEnd, Block, CriterionVerdict, Finding, GateResult, StorySpec, Task, Verdict};

/// One story.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Story {
    pub id: StoryId,
    pub spec: StorySpec,
    /// It holds a slot: `story.started` was accepted, and the work was not set down since.
    pub active: bool,
    /// All attempts there ever were, the current one last.
    pub attempts: Vec<Attempt>,
    /// Attempts up to this one do not count against the budgets any more: a human granted a fresh one.
    pub granted_after: u32,
    /// Stagnation is counted from the attempt after this one: a human asked for another approach.
    pub replanned_after: u32,
    /// What was spent since the last grant.
    pub spent: Amount,
    /// What was spent in all.
    pub spent_total: Amount,
    /// The commit that the next attempt continues on. None starts from the base.
    pub resume_from: Option<CommitId>,
    /// Where a repair after the queue goes on: the target's commit, and the work merged into it.
    #[serde(default)]
    pub onto: Option<(CommitId, CommitId)>,
    /// A provider's quota, and the like: not to be started before.
    pub not_before: Option<Timestamp>,
    pub memory: Memory,
    /// What a planner proposed for the story as it is now.
    #[serde(default)]
    pub proposal: Option<Proposal>,
    /// Commits that a human approved.
    pub approvals: BTreeSet<CommitId>,
    /// The gates that a human gave up by name, and with which commit.
    #[serde(default)]
    pub given_up: BTreeSet<(CommitId, String)>,
    /// What humans said, for the next attempt to read.
    pub notes: Vec<Note>,
    pub queue: Option<Queue>,
    /// What would take back what it landed.
    #[serde(default)]
    pub revert: Option<Revert>,
    pub halt: Option<Halt>,
    pub end: Option<End>,
    /// A human was told that the repairs do not end.
    pub notified: bool,
}

/// One implementer process, and what became of what it left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub no: AttemptNo,
    pub task: Task,
    /// The target's commit that the change is measured against.
    pub base: CommitId,
    /// The earlier work it continues on.
    pub from: Option<CommitId>,
    pub agent: Option<String>,
    pub started: bool,
    pub contract: bool,
    pub declared: Option<String>,
    pub ended: Option<AttemptEnd>,
    /// The agent's own words; no evidence.
    pub summary: Option<String>,
    pub transcript: Option<EvidenceId>,
    pub change: Option<Change>,
    pub results: BTreeMap<String, Judgement>,
    pub gates: BTreeMap<String, GateRun>,
    pub diagnosis: Option<Diagnosis>,
    pub conclusion: Option<Conclusion>,
    pub receipts: Vec<EvidenceId>,
    /// The agents that worked on it, in the order of their calls.
    #[serde(default)]
    pub calls: Vec<AgentCall>,
    /// Everything that its events name as evidence.
    #[serde(default)]
    pub papers: Vec<Paper>,
    /// What its agents and evaluators spent.
    #[serde(default)]
    pub spent: Amount,
    /// The document that binds all of it, once it was judged.
    #[serde(default)]
    pub manifest: Option<EvidenceId>,
}

/// One piece of evidence, and what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paper {
    pub id: EvidenceId,
    pub what: String,
}

/// A collected commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub commit: CommitId,
    pub tree: TreeId,
    pub base: CommitId,
    pub reference: String,
    pub patch: PatchId,
    pub files: u64,
    pub findings: Vec<Finding>,
}

/// What one evaluator said of the attempt's commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The story text it judged against.
    pub proof: String,
    /// Of the last try.
    pub verdict: Verdict,
    pub problems: u32,
    /// How often it was tried, and how many of the tries ended in an error.
    pub tries: u32,
    pub errors: u32,
    pub criteria: Vec<CriterionVerdict>,
    pub findings: Vec<Finding>,
    pub evidence: Vec<EvidenceId>,
    pub cached: bool,
    pub wall_ms: u64,
}

/// What one gate said of one commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateRun {
    pub tree: TreeId,
    pub result: GateResult,
    pub tries: u32,
    pub errors: u32,
    pub flaky: bool,
    pub problems: u32,
    pub detail: Option<String>,
    pub evidence: Vec<EvidenceId>,
    pub cached: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    pub summary: String,
    pub tasks: Vec<String>,
    /// Why there is none: nothing is told to the next attempt then.
    #[serde(default)]
    pub error: Option<String>,
}

/// How a planner would go about the story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    pub summary: String,
    /// Why there is none.
    pub error: Option<String>,
}

/// How an attempt came out when it did not make the story ready.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Conclusion {
    /// It does not count: the provider, an interruption, a start that failed.
    Void,
    /// It asked instead of finishing.
    Asked,
    Failed(Failure),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    pub why: Vec<Finding>,
    /// What failed, by name and sorted: the same names again are the same failure again.
    pub signature: Vec<String>,
    /// Something got better than ever before.
    pub improved: bool,
    /// A verification failed, so that mending it is a review-fix cycle.
    pub reviewed: bool,
}

/// The story's place in the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queue {
    pub commit: CommitId,
    pub candidate: Option<Candidate>,
}

/// The merge that would land.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    pub commit: CommitId,
    pub tree: TreeId,
    pub base: CommitId,
    pub gates: BTreeMap<String, GateRun>,
    pub landing: bool,
}

/// A commit that takes back what a story landed, because it turned out red.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Revert {
    pub candidate: CommitId,
    pub tree: TreeId,
    pub base: CommitId,
    /// What is taken back.
    pub landed: CommitId,
    pub why: String,
    pub evidence: Option<EvidenceId>,
    /// Its gates are green.
    pub ready: bool,
    /// A human approved it.
    pub approved: bool,
}

/// Why the work stands still until a human says something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Halt {
    Blocked(Block),
    Escalated { reason: String, detail: String },
    Stagnated { iterations: u32 },
}

/// How a story ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum End {
    Merged { commit: CommitId, tree: TreeId, story_commit: CommitId },
    Reverted { commit: CommitId, reason: String },
    Cancelled { reason: String, removed: bool },
    Backfilled { commit: Option<CommitId>, reason: String },
}

/// What a human said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub at: Timestamp,
    /// `note`, `answer`, `rejection`, `replan`.
    pub kind: String,
    pub text: String,
}

impl Story {
    /// What it waits for is something of this host, which a human mends and need not speak of: a program, space on a disk.
    pub fn is_held_by_host(&self) -> bool {
        matches!(&self.halt, Some(Halt::Blocked(block)) if matches!(block.reason.as_str(), "agent" | "runner"))
    }

    pub fn new(id: StoryId, spec: StorySpec) -> Self {
        Self {
            id,
            spec,
            active: false,
            attempts: Vec::new(),
            granted_after: 0,
            replanned_after: 0,
            spent: Amount::default(),
            spent_total: Amount::default(),
            resume_from: None,
            onto: None,
            not_before: None,
            memory: Memory::default(),
            proposal: None,
            approvals: BTreeSet::new(),
            given_up: BTreeSet::new(),
            notes: Vec::new(),
            queue: None,
            revert: None,
            halt: None,
            end: None,
            notified: false,
        }
    }

    /// It mends what landed and broke the target: it goes before the others.
    pub fn is_urgent(&self) -> bool {
        let is_one = |failure: &Failure| failure.signature == ["integration"];
        self.attempts.iter().any(|attempt| matches!(&attempt.conclusion, Some(Conclusion::Failed(failure)) if is_one(failure)))
    }

    /// The current attempt.
    pub fn attempt(&self) -> Option<&Attempt> {
        self.attempts.last()
    }

    /// The attempt whose process runs, as far as is known.
    pub fn running(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.started && attempt.ended.is_none())
    }

    /// The change that is being judged, or was last collected.
    pub fn change(&self) -> Option<&Change> {
        self.attempts.iter().rev().find_map(|attempt| attempt.change.as_ref())
    }

    /// The attempt whose work only waits to be judged further: it is not concluded, and its process left a change.
    pub fn unjudged(&self) -> Option<&Attempt> {
        self.attempts.last().filter(|attempt| attempt.conclusion.is_none() && attempt.change.is_some())
    }

    /// The number that `story.started` must carry: that of the attempt to be judged further, or of a new one.
    pub fn next_attempt(&self) -> AttemptNo {
        match (self.unjudged(), self.attempts.last()) {
            (Some(attempt), _) => attempt.no,
            (None, Some(last)) => last.no.next(),
            (None, None) => AttemptNo::FIRST,
        }
    }

    /// Attempts that count against the budget.
    pub fn counted(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        self.attempts.iter().filter(|a| a.no.get() > self.granted_after && a.conclusion != Some(Conclusion::Void))
    }
}

impl Attempt {
    pub fn new(no: AttemptNo, task: Task, base: CommitId, from: Option<CommitId>) -> Self {
        Self {
            no,
            task,
            base,
            from,
            agent: None,
            started: false,
            contract: false,
            declared: None,
            ended: None,
            summary: None,
            transcript: None,
            change: None,
            results: BTreeMap::new(),
            gates: BTreeMap::new(),
            diagnosis: None,
            conclusion: None,
            receipts: Vec::new(),
            calls: Vec::new(),
            papers: Vec::new(),
            spent: Amount::default(),
            manifest: None,
        }
    }

    /// What it tried, as far as is known.
    pub fn approach(&self) -> Approach {
        Approach { change: self.change.as_ref().filter(|c| c.files > 0).map(|c| c.patch.clone()), declared: self.declared.clone() }
    }
}

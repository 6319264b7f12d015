//! What happened: one versioned enum. Every face is a fold over it.
//!
//! An event is never changed after it was stored. A new version may add kinds and optional fields; a kind that this version does not
//! know is kept as it is ([`Kind::Unknown`]), never dropped. `docs/event-catalog.md` is generated from this file and checked by a test.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::base::id::{AttemptNo, CommitId, EvidenceId, PatchId, RunId, StoryId, TreeId};

pub mod payload;

pub use payload::{
    Actor, AgentCall, Amount, AttemptEnd, Block, ContractMode, Criterion, CriterionVerdict, Finding, GateResult, Landing, Limits, Rules,
    StopReason, StorySpec, Task, Verdict,
};

/// The version of the event format. It grows when the meaning of a kind or field changes; stores of older versions stay readable.
pub const EVENT_VERSION: u32 = 1;

/// Something that happened, before it has its place in the chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub at: Timestamp,
    pub run: Option<RunId>,
    /// The story it is about. None for what concerns the run as a whole.
    pub story: Option<StoryId>,
    pub actor: Actor,
    pub kind: Kind,
}

/// What is said of one kind in the catalogue.
#[derive(Clone, Copy, Debug)]
pub struct KindDoc {
    pub name: &'static str,
    pub doc: &'static str,
    pub fields: &'static [(&'static str, &'static str, &'static str)],
}

/// Why stored data is no event.
#[derive(Debug, thiserror::Error)]
#[error("the data of a `{kind}` event cannot be read: {source}")]
pub struct KindError {
    kind: String,
    source: serde_json::Error,
}

/// Declares the enum, its names and its catalogue in one place, so that they cannot drift apart.
macro_rules! kinds {
    ($(
        $(#[doc = $doc:literal])+
        $variant:ident = $name:literal {
            $( $(#[doc = $field_doc:literal])* $(#[serde($($serde:tt)*)])* $field:ident : $ty:ty ),* $(,)?
        }
    )+) => {
        /// Everything that can happen.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", content = "data")]
        pub enum Kind {
            $(
                $(#[doc = $doc])+
                #[serde(rename = $name)]
                $variant { $( $(#[doc = $field_doc])* $(#[serde($($serde)*)])* $field: $ty ),* },
            )+
            /// A kind that a newer version wrote. It is kept, shown and exported, and decides nothing.
            #[serde(skip)]
            Unknown { kind: String, data: serde_json::Value },
        }

        /// Every kind this version knows, in the order of a story's life.
        pub const CATALOG: &[KindDoc] = &[
            $( KindDoc {
                name: $name,
                doc: concat!($($doc),+),
                fields: &[ $( (stringify!($field), stringify!($ty), concat!("", $($field_doc),*)) ),* ],
            } ),+
        ];

        impl Kind {
            /// The name in the log: `change.collected`.
            pub fn name(&self) -> &str {
                match self {
                    $( Self::$variant { .. } => $name, )+
                    Self::Unknown { kind, .. } => kind,
                }
            }
        }
    };
}

kinds! {
    /// A runner took the repository's lock and began.
    RunStarted = "run.started" {
        pid: u32,
        /// Of cofferdam.
        version: String,
        /// Stories at once.
        parallel: u32,
        /// The ref that stories land on.
        target: String,
        commit: CommitId,
    }
    /// A runner ended in good order, or its successor found that it had died.
    RunStopped = "run.stopped" { reason: StopReason, detail: Option<String> }
    /// A human paused the run: what is running goes on, nothing new starts.
    RunPaused = "run.paused" { reason: Option<String> }
    /// A human ended the pause.
    RunResumed = "run.resumed" {}
    /// The files of the plan changed. The stories concerned follow as events of their own.
    PlanChanged = "plan.changed" {
        /// Of the whole plan.
        hash: String,
        #[serde(default)]
        added: Vec<StoryId>,
        #[serde(default)]
        changed: Vec<StoryId>,
        #[serde(default)]
        removed: Vec<StoryId>,
    }
    /// A provider's quota is spent; agents that use it wait.
    ProviderPaused = "provider.paused" { provider: String, until: Timestamp, reason: String }
    /// A provider answers again.
    ProviderResumed = "provider.resumed" { provider: String }
    /// The target ref is somewhere else than it was, by a landing or by somebody's push.
    TargetMoved = "target.moved" { target: String, from: Option<CommitId>, to: CommitId }
    /// The target's own check ended: is the base green?
    TargetChecked = "target.checked" { commit: CommitId, green: bool, detail: Option<String>, evidence: Option<EvidenceId> }
    /// The integration check ended. Red is a repair task of the story it points to.
    IntegrationChecked = "integration.checked" {
        commit: CommitId,
        green: bool,
        detail: Option<String>,
        evidence: Option<EvidenceId>,
        points_to: Option<StoryId>,
        /// How many landings there had been when it began: what landed meanwhile is not part of it.
        #[serde(default)]
        landings: Option<u64>,
    }

    /// A story is new in the plan, or came back to it.
    StoryCreated = "story.created" { spec: StorySpec }
    /// A story's text or rules changed. Verdicts on the old text prove nothing any more.
    StoryChanged = "story.changed" { spec: StorySpec }
    /// A story is no longer in the plan. Its work is kept.
    StoryRemoved = "story.removed" {}
    /// A story was given a slot.
    StoryStarted = "story.started" {
        attempt: AttemptNo,
        /// The target's commit it starts from.
        base: CommitId,
    }
    /// The agent's contract names the story's title and all its criteria.
    ContractAccepted = "contract.accepted" { attempt: AttemptNo, evidence: Option<EvidenceId> }
    /// The agent did not understand the story: its contract is missing, or differs.
    ContractRefused = "contract.refused" { attempt: AttemptNo, why: String, evidence: Option<EvidenceId> }
    /// A planner looked at the project and said how it would go about the story, or could not.
    ApproachProposed = "approach.proposed" {
        attempt: AttemptNo,
        /// Empty when there is none.
        summary: String,
        /// Why there is none. The story goes on without.
        error: Option<String>,
        evidence: Option<EvidenceId>,
    }
    /// An agent's process of any role: what it is, and exactly what it was told.
    AgentCalled = "agent.called" { attempt: AttemptNo, call: AgentCall }
    /// An implementer process runs.
    AttemptStarted = "attempt.started" {
        attempt: AttemptNo,
        task: Task,
        /// The adapter and model: `claude/…`.
        agent: String,
    }
    /// The agent said how it will go about it.
    ApproachDeclared = "approach.declared" { attempt: AttemptNo, summary: String }
    /// An agent said something to whoever runs it, while it worked. Its own words: no evidence of anything, and they decide nothing.
    AgentSaid = "agent.said" {
        attempt: AttemptNo,
        role: String,
        /// `progress`, `done`, `question`, `verdict`: what it asked for.
        what: String,
        text: String,
    }
    /// An implementer process ended, and all its descendants are dead.
    AttemptEnded = "attempt.ended" {
        attempt: AttemptNo,
        end: AttemptEnd,
        /// The agent's own words. No evidence of anything.
        summary: Option<String>,
        /// The agent cannot go on without an answer.
        question: Option<String>,
        transcript: Option<EvidenceId>,
        #[serde(default)]
        wall_ms: u64,
    }
    /// What the attempt left was collected as a commit, and the commit has a ref.
    ChangeCollected = "change.collected" {
        attempt: AttemptNo,
        commit: CommitId,
        tree: TreeId,
        base: CommitId,
        /// The ref that keeps it.
        reference: String,
        /// The normalised change against the base.
        patch: PatchId,
        /// Files that differ from the base. 0 is no change at all.
        files: u64,
        /// Paths that were refused.
        #[serde(default)]
        findings: Vec<Finding>,
    }
    /// An evaluator judged one commit.
    EvaluatorFinished = "evaluator.finished" {
        evaluator: String,
        commit: CommitId,
        tree: TreeId,
        /// The story text it was judged against (`proof` of the story).
        proof: String,
        verdict: Verdict,
        /// How many things are wrong: fewer than before is better.
        problems: u32,
        #[serde(default)]
        criteria: Vec<CriterionVerdict>,
        #[serde(default)]
        findings: Vec<Finding>,
        #[serde(default)]
        evidence: Vec<EvidenceId>,
        /// Remembered from an earlier run on the same tree, and not paid for again.
        #[serde(default)]
        cached: bool,
        #[serde(default)]
        wall_ms: u64,
    }
    /// A diagnoser said what is wrong with a commit, and what to mend.
    DiagnosisMade = "diagnosis.made" {
        commit: CommitId,
        summary: String,
        #[serde(default)]
        tasks: Vec<String>,
        evidence: Option<EvidenceId>,
        /// Why there is none. The repair goes on without.
        #[serde(default)]
        error: Option<String>,
    }
    /// A gate began.
    GateStarted = "gate.started" { gate: String, commit: CommitId, tree: TreeId }
    /// A gate was red once. It is tried again on the same tree, which tells a flake from a red one; those behind it in the queue are built
    /// without it meanwhile.
    GateSuspected = "gate.suspected" {
        gate: String,
        commit: CommitId,
        tree: TreeId,
        /// The tail of the log.
        detail: Option<String>,
        #[serde(default)]
        evidence: Vec<EvidenceId>,
        #[serde(default)]
        wall_ms: u64,
    }
    /// A gate ended on one commit.
    GateFinished = "gate.finished" {
        gate: String,
        commit: CommitId,
        tree: TreeId,
        result: GateResult,
        /// Red at first, green when tried again on the same tree.
        #[serde(default)]
        flaky: bool,
        problems: u32,
        /// The tail of the log.
        detail: Option<String>,
        #[serde(default)]
        evidence: Vec<EvidenceId>,
        /// Remembered for this tree and gate, and not paid for again.
        #[serde(default)]
        cached: bool,
        #[serde(default)]
        wall_ms: u64,
    }

    /// Everything that an attempt's judgement rests on was put into one document: its files by their hashes, its verdicts, its agents.
    EvidenceSealed = "evidence.sealed" {
        attempt: AttemptNo,
        /// Evidence itself, and known by its hash.
        manifest: EvidenceId,
    }
    /// All evaluators and gates passed on this very commit. Written by the controller when it is so.
    StoryReady = "story.ready" { commit: CommitId, tree: TreeId }
    /// The story entered the queue.
    StoryQueued = "story.queued" { commit: CommitId }
    /// The story left the queue without landing.
    StoryDequeued = "story.dequeued" { commit: CommitId, why: String }
    /// The merge that would land was built.
    CandidateBuilt = "candidate.built" {
        /// The commit that gates test, and that lands.
        candidate: CommitId,
        tree: TreeId,
        /// What the target must be at when it lands.
        base: CommitId,
        story_commit: CommitId,
        /// Stories in the candidate before this one.
        #[serde(default)]
        behind: Vec<StoryId>,
    }
    /// A candidate is void through no fault of its story; it will be built again.
    CandidateDropped = "candidate.dropped" { candidate: CommitId, why: String }
    /// A candidate is red, or cannot be built. Its story goes to repair.
    CandidateRefused = "candidate.refused" {
        /// None when it could not be built at all.
        candidate: Option<CommitId>,
        story_commit: CommitId,
        why: String,
        #[serde(default)]
        findings: Vec<Finding>,
        evidence: Option<EvidenceId>,
        /// The target's commit that the repair is made on. None is the base the story had.
        #[serde(default)]
        onto: Option<CommitId>,
        /// The story's work merged into that commit, with conflicts marked: what the repair continues on.
        #[serde(default)]
        from: Option<CommitId>,
    }
    /// The compare-and-swap is about to be done; after a crash the target tells whether it was.
    LandingStarted = "landing.started" { candidate: CommitId, target: String, from: CommitId }
    /// The target ref went from the tested base to the tested commit.
    StoryLanded = "story.landed" { commit: CommitId, tree: TreeId, story_commit: CommitId, target: String, from: CommitId }
    /// What landed turned out red, and a commit that takes it back was built. It is gated like anything else.
    RevertPrepared = "revert.prepared" {
        /// The commit that gates test, and that the target goes to.
        candidate: CommitId,
        tree: TreeId,
        /// What the target must be at when it lands.
        base: CommitId,
        /// What is taken back.
        landed: CommitId,
        /// What is red.
        why: String,
        evidence: Option<EvidenceId>,
    }
    /// The gates of a prepared revert are green. It lands when a human approves it, or by itself where `merge.revert` is `auto`.
    RevertReady = "revert.ready" { candidate: CommitId }
    /// A prepared revert is void: it is red, or the target is somewhere else.
    RevertDropped = "revert.dropped" { candidate: CommitId, why: String }
    /// What landed was taken back.
    StoryReverted = "story.reverted" { commit: CommitId, reason: String }

    /// What this story landed is at fault: an integration check points to it, and it is repaired on top of the target; or it was taken back,
    /// and is repaired on a target without it.
    StoryReopened = "story.reopened" {
        why: String,
        #[serde(default)]
        findings: Vec<Finding>,
        evidence: Option<EvidenceId>,
        /// The target's commit that the repair is made on, when its work was taken back there.
        #[serde(default)]
        onto: Option<CommitId>,
        /// Its work, put onto that commit again: what the repair continues on.
        #[serde(default)]
        from: Option<CommitId>,
    }

    /// A human is needed: one reason, one question, one next command.
    StoryBlocked = "story.blocked" { block: Block }
    /// What this host kept from starting is tried again by a new run: the story goes on with the budget it has.
    StoryUnblocked = "story.unblocked" { why: String }
    /// The controller gave up within its budget.
    StoryEscalated = "story.escalated" {
        /// A short word: `review_cycles`, `iterations`, `model_calls`, `tokens`, `cost`, `wall`.
        reason: String,
        detail: String,
    }
    /// Iterations went by in which no evaluator got better.
    StoryStagnated = "story.stagnated" { iterations: u32 }
    /// Somebody should look, though nothing waits for them.
    HumanNotified = "human.notified" { reason: String, detail: String }

    /// A human, or the check of a pull request, refused the work. The story goes back to pending, and the next attempt reads the reason.
    StoryRejected = "story.rejected" { commit: Option<CommitId>, reason: String }
    /// A human approved this very commit, and no other.
    StoryApproved = "story.approved" {
        commit: CommitId,
        /// The gates that go with it, each named: none is given up by the way.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        without_gates: Vec<String>,
    }
    /// A human answered the question of a blocked story.
    StoryAnswered = "story.answered" { text: String }
    /// A human left a note for the next attempt.
    StoryNoted = "story.noted" { text: String }
    /// A human lets a story that stopped go on with a fresh budget, from the work it has.
    StoryRetried = "story.retried" {}
    /// A human puts a story back to the beginning: fresh base, fresh budget. Refs of earlier work are kept.
    StoryReset = "story.reset" {
        /// Also forget which approaches failed.
        #[serde(default)]
        forget: bool,
    }
    /// A human wants another approach. Evidence on the same tree stays valid.
    StoryReplanned = "story.replanned" { reason: String }
    /// A human ended the story.
    StoryCancelled = "story.cancelled" { reason: String }
    /// The work was done outside of cofferdam.
    StoryBackfilled = "story.backfilled" {
        /// Part of the target. None is a human's word alone.
        commit: Option<CommitId>,
        reason: String,
        /// The gates that were green on the commit. None of them: no gate looked at it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gates: Vec<String>,
    }

    /// A process of a role spent something.
    BudgetSpent = "budget.spent" { role: String, model: Option<String>, amount: Amount }
    /// A budget is spent. Written by the controller when it is so.
    BudgetExceeded = "budget.exceeded" { which: String, limit: u64, spent: u64 }
    /// What the kernel enforced on one process.
    SandboxReceipt = "sandbox.receipt" {
        role: String,
        attempt: Option<AttemptNo>,
        tier: String,
        /// Layers that were wanted and are not enforced.
        #[serde(default)]
        missing: Vec<String>,
        evidence: EvidenceId,
    }
    /// A process tried what its sandbox keeps from it, and was refused by the kernel.
    SandboxDenied = "sandbox.denied" {
        role: String,
        attempt: Option<AttemptNo>,
        /// `connect`, `open`, `write`.
        operation: String,
        target: String,
        /// The line that refuses it.
        rule: String,
        /// What the kernel answered, as the process itself reported it: `ENOENT`.
        errno: Option<String>,
        count: u64,
    }
    /// A sandbox tried to reach what its rules do not allow.
    NetworkDenied = "network.denied" { role: String, target: String, rule: String, count: u64 }
    /// A start after a crash removed what the runner before it had left.
    LeftoverSwept = "leftover.swept" { what: String, count: u64 }
}

impl Kind {
    /// The kind from its name and its data. An unknown name is kept; known names with data that does not fit are an error, because a
    /// decision might rest on them.
    ///
    /// # Errors
    /// When the data of a known kind cannot be read.
    pub fn from_parts(name: &str, data: serde_json::Value) -> Result<Self, KindError> {
        if !CATALOG.iter().any(|doc| doc.name == name) {
            return Ok(Self::Unknown { kind: name.to_owned(), data });
        }
        let mut parts = serde_json::Map::new();
        parts.insert("kind".to_owned(), name.into());
        parts.insert("data".to_owned(), data);
        Self::deserialize(serde_json::Value::Object(parts)).map_err(|source| KindError { kind: name.to_owned(), source })
    }

    /// The data as JSON. Maps are sorted by key, so the text of equal data is equal.
    pub fn data(&self) -> serde_json::Value {
        match self {
            Self::Unknown { data, .. } => data.clone(),
            known => match serde_json::to_value(known) {
                Ok(serde_json::Value::Object(mut parts)) => parts.remove("data").unwrap_or_default(),
                // The derive writes an object, and no field of a kind can fail to be written.
                _ => serde_json::Value::Null,
            },
        }
    }

    /// The evidence that this event rests on, each with what it is.
    pub fn evidence(&self) -> Vec<(&EvidenceId, String)> {
        let one = |id, what: &str| vec![(id, what.to_owned())];
        match self {
            Self::TargetChecked { evidence: Some(id), .. } => one(id, "target check"),
            Self::IntegrationChecked { evidence: Some(id), .. } => one(id, "integration check"),
            Self::ContractAccepted { evidence: Some(id), .. } | Self::ContractRefused { evidence: Some(id), .. } => one(id, "contract"),
            Self::AttemptEnded { transcript: Some(id), attempt, .. } => vec![(id, format!("transcript of attempt {attempt}"))],
            Self::EvaluatorFinished { evidence, evaluator, .. } => {
                evidence.iter().map(|id| (id, format!("evaluator {evaluator}"))).collect()
            }
            Self::DiagnosisMade { evidence: Some(id), .. } => one(id, "diagnosis"),
            Self::ApproachProposed { evidence: Some(id), .. } => one(id, "proposed approach"),
            Self::AgentCalled { call, .. } => vec![(&call.prompt, format!("prompt of {}", call.role))],
            Self::EvidenceSealed { manifest, attempt } => vec![(manifest, format!("manifest of attempt {attempt}"))],
            Self::GateSuspected { evidence, gate, .. } | Self::GateFinished { evidence, gate, .. } => {
                evidence.iter().map(|id| (id, format!("gate {gate}"))).collect()
            }
            Self::CandidateRefused { evidence: Some(id), .. } => one(id, "candidate"),
            Self::RevertPrepared { evidence: Some(id), .. } => one(id, "target check"),
            Self::StoryReopened { evidence: Some(id), .. } => one(id, "integration check"),
            Self::SandboxReceipt { evidence, role, .. } => vec![(evidence, format!("receipt of {role}"))],
            _ => Vec::new(),
        }
    }
}

/// The catalogue as a page.
pub fn catalog_markdown() -> String {
    use std::fmt::Write;
    let mut page = String::from(
        "# Events\n\nEvery kind of event, as `cofferdam log --json` prints it: one line of JSON with `version`, `seq`, `prev_hash`, `hash`, `at`, `run`, \
         `story`, `kind`, `actor` and `data`.\nThe fields below are those of `data`. A reader must ignore fields and kinds it does not know.\n\
         This page is generated from `src/event.rs` (`COFFERDAM_UPDATE_DOCS=1 cargo test event::`).\n",
    );
    for kind in CATALOG {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## `{}`\n\n{}\n", kind.name, kind.doc.trim());
        if !kind.fields.is_empty() {
            page.push_str("\n| field | type | meaning |\n| --- | --- | --- |\n");
        }
        for (name, ty, doc) in kind.fields {
            let _ = writeln!(page, "| `{name}` | `{}` | {} |", ty.replace(' ', ""), doc.trim());
        }
    }
    page
}

#[cfg(test)]
#[path = "event/tests.rs"]
pub(crate) mod tests;

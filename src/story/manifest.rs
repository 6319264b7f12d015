//! The manifest of an attempt: what a judgement of it rests on, in one document that names every file by its hash.
//!
//! It is made from facts alone, so whoever has the events makes the same one again, and sees what was changed since.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::facts::{Attempt, Conclusion, Diagnosis, Paper, Story};
use super::phase::{Phase, phase};
use super::wanted::Effect;
use crate::base::id::{AttemptNo, CommitId, EvidenceId, PatchId, StoryId, TreeId};
use crate::event::{AgentCall, Amount, CriterionVerdict, GateResult, Task, Verdict};

pub const MANIFEST_VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    /// The version of cofferdam that made it.
    pub cofferdam: String,
    pub story: StoryId,
    pub title: String,
    /// The hash of the story's text. Verdicts on another text prove nothing.
    pub proof: String,
    pub attempt: AttemptNo,
    pub task: Task,
    /// `ready`, `failed` or `asked`.
    pub outcome: String,
    pub base: CommitId,
    pub commit: CommitId,
    pub tree: TreeId,
    pub patch: PatchId,
    /// The ref that keeps the commit.
    pub reference: String,
    pub approach: Option<String>,
    /// A human approved this very commit.
    pub approved: bool,
    pub agents: Vec<AgentCall>,
    /// Evaluators that must pass, and what each said.
    pub wanted: Vec<String>,
    pub verdicts: BTreeMap<String, Said>,
    pub wanted_gates: Vec<String>,
    pub gates: BTreeMap<String, Ran>,
    pub diagnosis: Option<Diagnosis>,
    pub spent: Amount,
    /// Every file of evidence, and who wrote it.
    pub files: Vec<File>,
}

/// What an evaluator said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    pub verdict: Verdict,
    pub proof: String,
    pub problems: u32,
    pub tries: u32,
    pub criteria: Vec<CriterionVerdict>,
    pub evidence: Vec<EvidenceId>,
}

/// How a gate ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ran {
    pub result: GateResult,
    pub tree: TreeId,
    pub flaky: bool,
    pub evidence: Vec<EvidenceId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    pub id: EvidenceId,
    /// None when it was not there any more.
    pub bytes: Option<u64>,
    pub what: String,
}

/// Attempts that are judged to their end and have no manifest yet.
pub fn due(story: &Story) -> Vec<Effect> {
    let open = story.attempts.iter().filter(|attempt| attempt.manifest.is_none() && outcome(story, attempt).is_some());
    open.filter_map(|attempt| Some(Effect::Seal { attempt: attempt.no, commit: attempt.change.as_ref()?.commit.clone() })).collect()
}

/// How it came out, once there is nothing more to come.
fn outcome(story: &Story, attempt: &Attempt) -> Option<&'static str> {
    attempt.change.as_ref()?;
    match &attempt.conclusion {
        Some(Conclusion::Failed(_)) => Some("failed"),
        Some(Conclusion::Asked) => Some("asked"),
        Some(Conclusion::Void) => None,
        None => {
            let is_last = story.attempts.last().is_some_and(|last| last.no == attempt.no);
            let ready = matches!(phase(story), Phase::Ready { .. } | Phase::Queued { .. } | Phase::Merging { .. } | Phase::Merged { .. });
            (is_last && ready).then_some("ready")
        }
    }
}

/// The manifest of an attempt. None while it is not judged to its end.
pub fn manifest(story: &Story, no: AttemptNo, size: &dyn Fn(&EvidenceId) -> Option<u64>) -> Option<Manifest> {
    let attempt = story.attempts.iter().find(|attempt| attempt.no == no)?;
    let change = attempt.change.as_ref()?;
    let said = |result: &super::facts::Judgement| Said {
        verdict: result.verdict,
        proof: result.proof.clone(),
        problems: result.problems,
        tries: result.tries,
        criteria: result.criteria.clone(),
        evidence: result.evidence.clone(),
    };
    let ran =
        |run: &super::facts::GateRun| Ran { result: run.result, tree: run.tree.clone(), flaky: run.flaky, evidence: run.evidence.clone() };
    let file = |paper: &Paper| File { id: paper.id.clone(), bytes: size(&paper.id), what: paper.what.clone() };
    Some(Manifest {
        version: MANIFEST_VERSION,
        cofferdam: env!("CARGO_PKG_VERSION").to_owned(),
        story: story.id.clone(),
        title: story.spec.title.clone(),
        proof: story.spec.proof.clone(),
        attempt: no,
        task: attempt.task,
        outcome: outcome(story, attempt)?.to_owned(),
        base: attempt.base.clone(),
        commit: change.commit.clone(),
        tree: change.tree.clone(),
        patch: change.patch.clone(),
        reference: change.reference.clone(),
        approach: attempt.declared.clone(),
        approved: story.approvals.contains(&change.commit),
        agents: attempt.calls.clone(),
        wanted: story.spec.rules.evaluators.clone(),
        verdicts: attempt.results.iter().map(|(name, result)| (name.clone(), said(result))).collect(),
        wanted_gates: story.spec.rules.gates.clone(),
        gates: attempt.gates.iter().map(|(name, run)| (name.clone(), ran(run))).collect(),
        diagnosis: attempt.diagnosis.clone(),
        spent: attempt.spent,
        files: attempt.papers.iter().map(file).collect(),
    })
}

impl Manifest {
    /// The bytes that it is known by.
    pub fn bytes(&self) -> Vec<u8> {
        // Plain data: every part of it can be written.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Why this document does not prove that its commit is ready, on its own word. None when it does.
    pub fn lacks(&self) -> Option<String> {
        if self.outcome != "ready" {
            return Some(format!("attempt {} is {}, not ready", self.attempt, self.outcome));
        }
        let verdict = |name: &String| match self.verdicts.get(name) {
            None => Some(format!("{name} said nothing")),
            Some(said) if said.proof != self.proof => Some(format!("{name} judged another text of the story")),
            Some(said) if said.verdict == Verdict::Pass && said.problems == 0 => None,
            Some(said) if said.verdict == Verdict::NeedsApproval && self.approved => None,
            Some(said) => Some(format!("{name} says {:?}", said.verdict)),
        };
        let gate = |name: &String| match self.gates.get(name) {
            None => Some(format!("gate {name} did not run")),
            Some(run) if run.tree != self.tree => Some(format!("gate {name} ran on another tree")),
            Some(run) if run.result == GateResult::Pass => None,
            Some(run) => Some(format!("gate {name} is {:?}", run.result)),
        };
        if self.wanted.is_empty() {
            return Some("no evaluator was asked".to_owned());
        }
        self.wanted.iter().find_map(verdict).or_else(|| self.wanted_gates.iter().find_map(gate))
    }
}

#[cfg(test)]
mod tests {
    use super::super::harness::{World, no, spec};
    use super::*;
    use crate::event::GateResult;

    fn made(w: &World, n: u32) -> Option<Manifest> {
        manifest(&w.story, no(n), &|_| Some(1))
    }

    #[test]
    fn it_is_due_when_an_attempt_is_judged_and_proves_what_the_facts_prove() {
        let mut w = World::new(spec());
        w.start().work(1, "a");
        assert!(due(&w.story).is_empty() && made(&w, 1).is_none(), "nothing is judged yet");
        w.judge(1, Verdict::Pass, Verdict::Fail);
        let failed = made(&w, 1).expect("the first failed");
        assert_eq!((failed.outcome.as_str(), due(&w.story).len()), ("failed", 1));
        assert!(failed.lacks().is_some_and(|why| why.contains("failed")));
        w.work(2, "b").judge(2, Verdict::Pass, Verdict::Pass).ok(super::super::harness::gated(2, GateResult::Pass));
        let ready = made(&w, 2).expect("the second is ready");
        assert_eq!((ready.lacks(), due(&w.story).len()), (None, 2));
        assert_eq!(serde_json::from_slice::<Manifest>(&ready.bytes()).expect("its own words"), ready);
        let id = EvidenceId::of(&ready.bytes());
        w.ok(crate::event::Kind::EvidenceSealed { attempt: no(2), manifest: id });
        assert_eq!(due(&w.story).len(), 1);
        type Spoil = fn(&mut Manifest);
        let spoilt: [(Spoil, &str); 5] = [
            (|m| drop(m.verdicts.remove("review")), "review said nothing"),
            (|m| m.verdicts.values_mut().for_each(|said| said.proof = "p0".to_owned()), "another text"),
            (|m| m.verdicts.values_mut().for_each(|said| said.verdict = Verdict::NeedsApproval), "NeedsApproval"),
            (|m| m.gates.values_mut().for_each(|run| run.tree = super::super::harness::tree(9)), "another tree"),
            (|m| m.wanted.clear(), "no evaluator"),
        ];
        for (spoil, why) in spoilt {
            let mut other = ready.clone();
            spoil(&mut other);
            assert!(other.lacks().is_some_and(|said| said.contains(why)), "{why}");
        }
    }
}

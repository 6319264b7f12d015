//! A story under test, and short names for what happens to it. Shared by the tests of the machine, of the store and of the faces.

use jiff::Timestamp;

use super::facts::Story;
use super::*;
use crate::base::id::{AttemptNo, CommitId, PatchId, TreeId};
use crate::event::*;

pub(crate) fn commit(n: u32) -> CommitId {
    format!("{n:040x}").parse().expect("a commit id")
}

pub(crate) fn tree(n: u32) -> TreeId {
    format!("{:040x}", n + 0x1000).parse().expect("a tree id")
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).expect("in range")
}

pub(crate) fn no(n: u32) -> AttemptNo {
    AttemptNo::new(n).expect("not zero")
}

pub(crate) fn spec() -> StorySpec {
    StorySpec {
        title: "Keys can expire".to_owned(),
        epic: Some("kvstore".to_owned()),
        ordinal: 1,
        after: Vec::new(),
        wired_with: Vec::new(),
        criteria: vec![Criterion { id: "AC-1".to_owned(), text: "they do".to_owned() }],
        proof: "p1".to_owned(),
        automatable: true,
        rules: Rules {
            contract: ContractMode::Off,
            evaluators: vec!["checks".to_owned(), "review".to_owned()],
            gates: vec!["test".to_owned()],
            candidate_gates: Vec::new(),
            diagnose: false,
            propose: false,
            landing: Landing::Queue,
            limits: Limits::default(),
        },
    }
}

/// A story under test: what was accepted is kept, and what is recorded is fed back as the store does.
pub(crate) struct World {
    pub(crate) story: Story,
    pub(crate) log: Vec<Kind>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) second: i64,
}

impl World {
    pub(crate) fn new(spec: StorySpec) -> Self {
        let id = "US-1".parse().expect("an id");
        let kind = Kind::StoryCreated { spec };
        let story = create(&id, &kind).expect("created").next;
        Self { story, log: vec![kind], effects: Vec::new(), second: 0 }
    }

    pub(crate) fn take(&mut self, kind: Kind) -> Result<(), Refused> {
        self.second += 1;
        let taken = step(&self.story, &kind, at(self.second))?;
        self.story = taken.next;
        self.effects.clone_from(&taken.effects);
        self.log.push(kind);
        for recorded in taken.record {
            let told = step(&self.story, &recorded, at(self.second)).expect("what the controller records fits");
            assert_eq!(told.next, self.story, "a record tells, it changes nothing: {}", recorded.name());
            assert!(told.effects.is_empty() && told.record.is_empty());
            self.log.push(recorded);
        }
        Ok(())
    }

    pub(crate) fn ok(&mut self, kind: Kind) -> &mut Self {
        let name = kind.name().to_owned();
        self.take(kind).unwrap_or_else(|refused| panic!("{name}: {refused}; {}", refused.instead));
        self
    }

    pub(crate) fn refused(&mut self, kind: Kind) -> Refused {
        let before = self.story.clone();
        let refused = self.take(kind).expect_err("refused");
        assert_eq!(self.story, before);
        assert!(!refused.instead.is_empty() && !refused.why.is_empty());
        refused
    }

    pub(crate) fn state(&self) -> &'static str {
        phase(&self.story).name()
    }

    pub(crate) fn start(&mut self) -> &mut Self {
        let attempt = self.story.next_attempt();
        self.ok(Kind::StoryStarted { attempt, base: commit(0) })
    }

    /// The current attempt runs, ends and leaves commit `n` with patch `patch`.
    pub(crate) fn work(&mut self, n: u32, patch: &str) -> &mut Self {
        let (attempt, task) = self.story.attempt().map(|a| (a.no, a.task)).expect("an attempt");
        self.ok(Kind::AttemptStarted { attempt, task, agent: "command".to_owned() }).end(AttemptEnd::Finished, None).ok(collected(
            attempt.get(),
            n,
            patch,
            1,
        ))
    }

    pub(crate) fn end(&mut self, end: AttemptEnd, question: Option<&str>) -> &mut Self {
        let attempt = self.story.attempt().expect("an attempt").no;
        self.ok(ended(attempt.get(), end, question))
    }

    pub(crate) fn judge(&mut self, n: u32, checks: Verdict, review: Verdict) -> &mut Self {
        self.ok(judged(n, "checks", checks, u32::from(checks == Verdict::Fail))).ok(judged(
            n,
            "review",
            review,
            u32::from(review == Verdict::Fail),
        ))
    }

    pub(crate) fn ready(&mut self, n: u32) -> &mut Self {
        self.start().work(n, &n.to_string()).judge(n, Verdict::Pass, Verdict::Pass).ok(gated(n, GateResult::Pass))
    }

    pub(crate) fn recorded(&self, name: &str) -> usize {
        self.log.iter().filter(|kind| kind.name() == name).count()
    }
}

pub(crate) fn ended(attempt: u32, end: AttemptEnd, question: Option<&str>) -> Kind {
    let question = question.map(str::to_owned);
    Kind::AttemptEnded { attempt: no(attempt), end, summary: None, question, transcript: None, wall_ms: 5 }
}

pub(crate) fn collected(attempt: u32, n: u32, patch: &str, files: u64) -> Kind {
    Kind::ChangeCollected {
        attempt: no(attempt),
        commit: commit(n),
        tree: tree(n),
        base: commit(0),
        reference: format!("refs/cofferdam/stories/US-1/{attempt}"),
        patch: PatchId::of(patch.as_bytes()),
        files,
        findings: Vec::new(),
    }
}

pub(crate) fn judged(n: u32, evaluator: &str, verdict: Verdict, problems: u32) -> Kind {
    Kind::EvaluatorFinished {
        evaluator: evaluator.to_owned(),
        commit: commit(n),
        tree: tree(n),
        proof: "p1".to_owned(),
        verdict,
        problems,
        criteria: Vec::new(),
        findings: Vec::new(),
        evidence: Vec::new(),
        cached: false,
        wall_ms: 1,
    }
}

pub(crate) fn gated(n: u32, result: GateResult) -> Kind {
    Kind::GateFinished {
        gate: "test".to_owned(),
        commit: commit(n),
        tree: tree(n),
        result,
        flaky: false,
        problems: 0,
        detail: None,
        evidence: Vec::new(),
        cached: false,
        wall_ms: 1,
    }
}

pub(crate) fn built(candidate: u32, story: u32) -> Kind {
    Kind::CandidateBuilt {
        candidate: commit(candidate),
        tree: tree(candidate),
        base: commit(0),
        story_commit: commit(story),
        behind: Vec::new(),
    }
}

pub(crate) fn landed(candidate: u32, story: u32) -> Kind {
    Kind::StoryLanded {
        commit: commit(candidate),
        tree: tree(candidate),
        story_commit: commit(story),
        target: "refs/heads/main".to_owned(),
        from: commit(0),
    }
}

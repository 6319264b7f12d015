//! What a gate is, what its result is remembered by, and what makes it green. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::id::hex_text;
use crate::config;
use crate::event::GateResult;
use crate::report::{Counts, ReportError};

/// A gate as the target branch's commit defines it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    pub name: String,
    pub run: String,
    pub timeout: Option<Duration>,
    pub cache: Vec<String>,
    /// Rules of what it may reach. Empty is nothing.
    pub network: Vec<String>,
    pub report: Option<config::Report>,
    pub when: config::When,
}

impl From<&config::Gate> for Definition {
    fn from(gate: &config::Gate) -> Self {
        Self {
            name: gate.name.clone(),
            run: gate.run.clone(),
            timeout: gate.timeout,
            cache: gate.cache.clone(),
            network: gate.network.clone(),
            report: gate.report.clone(),
            when: gate.when,
        }
    }
}

impl Definition {
    /// What decides the result. When it runs does not; its name does, because people read logs by it.
    pub fn hash(&self) -> String {
        let report = self.report.as_ref().map(|report| (report.format.name(), &report.path));
        digest(&(&self.name, &self.run, self.timeout.map(|t| t.as_millis()), &self.cache, &self.network, report))
    }
}

/// What a result holds for: the same four again are not paid for again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    pub tree: String,
    pub definition: String,
    /// What the sandbox grants and limits.
    pub profile: String,
    pub toolchain: String,
}

impl Key {
    /// As a name for a file.
    pub fn name(&self) -> String {
        digest(self)
    }
}

pub(super) fn digest(value: &impl Serialize) -> String {
    use sha2::Digest;
    // Plain data with text for keys can always be written.
    let text = serde_json::to_vec(value).unwrap_or_default();
    hex_text(&sha2::Sha256::digest(text))
}

/// How the command of one gate run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub enum Ended {
    Exited {
        code: i32,
    },
    /// A limit or a signal, in words.
    Killed {
        why: String,
    },
    /// We stopped it.
    Cancelled,
}

/// One run of a gate, as far as it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub ended: Ended,
    pub counts: Option<Counts>,
    /// Why a report that was asked for says nothing.
    pub report_error: Option<String>,
}

impl Seen {
    pub fn new(ended: Ended, report: Option<Result<Counts, ReportError>>) -> Self {
        let (counts, error) = match report {
            None => (None, None),
            Some(Ok(counts)) => (Some(counts), None),
            Some(Err(error)) => (None, Some(error.to_string())),
        };
        Self { ended, counts, report_error: error }
    }

    /// The machine may have been at fault, not the tree: such a result is not remembered.
    pub fn is_remembered(&self) -> bool {
        matches!(self.ended, Ended::Exited { .. })
    }
}

/// What is measured against: the same gate on the base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// Tests that ran on the base.
    pub executed: Option<u64>,
    /// A human approved this very commit.
    pub approved: bool,
}

/// What it comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    pub result: GateResult,
    /// How many things are wrong: fewer than before is better.
    pub problems: u32,
    /// Why, for a person and for the next attempt.
    pub why: Vec<String>,
}

/// Green only when everything says so.
pub fn judge(seen: &Seen, floor: Floor) -> Judgement {
    let mut why = Vec::new();
    match &seen.ended {
        Ended::Cancelled => {
            return Judgement { result: GateResult::Cancelled, problems: 0, why: vec!["it was stopped before its end".to_owned()] };
        }
        Ended::Exited { code: 0 } => {}
        Ended::Exited { code } => why.push(format!("the command failed with exit code {code}")),
        Ended::Killed { why: reason } => why.push(reason.clone()),
    }
    let mut failed = 0;
    // A command that failed says enough by itself; its report only counts.
    let succeeded = seen.ended == Ended::Exited { code: 0 };
    if let Some(counts) = seen.counts {
        failed = counts.failed;
        if counts.failed > 0 {
            why.push(format!("{} of {} tests failed", counts.failed, counts.executed));
        } else if counts.executed == 0 && succeeded {
            why.push(format!("no test ran ({} skipped): a gate that tests nothing proves nothing", counts.skipped));
        }
        if let Some(before) = floor.executed.filter(|before| *before > counts.executed && succeeded && !floor.approved) {
            why.push(format!("{} tests ran, and {before} ran before this change: fewer tests need a human's approval", counts.executed));
        }
    } else if let Some(error) = seen.report_error.as_ref().filter(|_| succeeded) {
        why.push(error.clone());
    }
    if why.is_empty() {
        return Judgement { result: GateResult::Pass, problems: 0, why };
    }
    let problems = u32::try_from(failed.max(1)).unwrap_or(u32::MAX);
    Judgement { result: GateResult::Red, problems, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32, counts: Option<(u64, u64, u64)>) -> Seen {
        let counts = counts.map(|(executed, failed, skipped)| Counts { executed, failed, skipped });
        Seen { ended: Ended::Exited { code }, counts, report_error: None }
    }

    #[test]
    fn green_needs_everything_to_say_so() {
        let none = Floor::default();
        for (seen, floor, result) in [
            (exited(0, None), none, GateResult::Pass),
            (exited(1, None), none, GateResult::Red),
            (exited(0, Some((3, 0, 0))), none, GateResult::Pass),
            (exited(0, Some((3, 1, 0))), none, GateResult::Red),
            (exited(0, Some((0, 0, 0))), none, GateResult::Red),
            (exited(0, Some((0, 0, 9))), none, GateResult::Red),
            (exited(0, Some((2, 0, 0))), Floor { executed: Some(3), approved: false }, GateResult::Red),
            (exited(0, Some((2, 0, 0))), Floor { executed: Some(3), approved: true }, GateResult::Pass),
            (exited(1, Some((2, 0, 0))), Floor { executed: Some(2), approved: true }, GateResult::Red),
            (exited(0, Some((3, 0, 0))), Floor { executed: Some(3), approved: false }, GateResult::Pass),
            (Seen { report_error: Some("none".into()), ..exited(0, None) }, Floor { executed: None, approved: true }, GateResult::Red),
            (Seen { ended: Ended::Killed { why: "wall".into() }, counts: None, report_error: None }, none, GateResult::Red),
            (Seen { ended: Ended::Cancelled, counts: None, report_error: None }, none, GateResult::Cancelled),
        ] {
            let judged = judge(&seen, floor);
            assert_eq!(judged.result, result, "{seen:?} {floor:?} {judged:?}");
            assert_eq!(judged.problems > 0, result == GateResult::Red);
        }
    }

    #[test]
    fn a_result_is_of_one_definition() {
        let gate = Definition {
            name: "a".into(),
            run: "true".into(),
            timeout: None,
            cache: vec![],
            network: vec![],
            report: None,
            when: config::When::Always,
        };
        let others = [
            Definition { name: "b".into(), ..gate.clone() },
            Definition { run: "false".into(), ..gate.clone() },
            Definition { timeout: Some(Duration::from_secs(1)), ..gate.clone() },
            Definition { cache: vec!["x".into()], ..gate.clone() },
            Definition { network: vec!["example.org".into()], ..gate.clone() },
            Definition { report: config::Report::parse("cargo").ok(), ..gate.clone() },
            Definition { report: config::Report::parse("cargo:x").ok(), ..gate.clone() },
        ];
        let mut hashes: Vec<_> = others.iter().chain([&gate]).map(Definition::hash).collect();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), 8);
        assert_eq!(Definition { when: config::When::Final, ..gate.clone() }.hash(), gate.hash());
    }
}

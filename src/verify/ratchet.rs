//! Gates only tighten: what a change takes away from the gates of the target goes with a human's word for each of them, and in no other way. Pure.
//!
//! How long a gate may take, what it keeps warm and what else the file says is not looked at here: the file itself is protected.

use super::request::Report;
use crate::base::text::{cut, one_line};
use crate::config::{FILE, Gate, When};
use crate::event::Finding;

/// What of a command is shown.
const SHOWN: usize = 200;
/// More than this is not asked of a human at once. Fewer than are kept of an evaluator's findings: what is not kept would not be asked.
const MOST: usize = 40;

/// The gates that the change takes away or weakens, each as something that a human must approve by its name.
pub fn losses(before: &[Gate], after: &[Gate]) -> Report {
    let mut report = Report::default();
    for old in before {
        let name = one_line(&old.name).into_owned();
        let new = after.iter().find(|gate| gate.name == old.name);
        for text in new.map_or_else(|| vec![format!("the gate `{name}` goes")], |new| weaker(&name, old, new)) {
            report.approvals.push(Finding { text, path: Some(FILE.to_owned()), gate: Some(old.name.clone()), ..Finding::default() });
        }
    }
    let lost = report.approvals.len();
    if lost > MOST {
        let text = format!("it takes {lost} things from the gates: no more than {MOST} in one change, so that each can be looked at");
        return Report { findings: vec![Finding { text, path: Some(FILE.to_owned()), ..Finding::default() }], ..Report::default() };
    }
    report
}

fn weaker(name: &str, old: &Gate, new: &Gate) -> Vec<String> {
    let mut weaker = Vec::new();
    // Nobody can tell which of two commands asks more: a human looks at both.
    if old.run != new.run {
        let shown = |run: &str| cut(&one_line(run), SHOWN);
        weaker.push(format!("the gate `{name}` runs `{}` instead of `{}`", shown(&new.run), shown(&old.run)));
    }
    if old.report != new.report && old.report.is_some() {
        let how = if new.report.is_some() { "counts its tests in another report" } else { "no longer counts its tests" };
        weaker.push(format!("the gate `{name}` {how}"));
    }
    if old.when != new.when && new.when != When::Always {
        weaker.push(format!("the gate `{name}` runs {} instead of {}", at(new.when), at(old.when)));
    }
    weaker
}

const fn at(when: When) -> &'static str {
    match when {
        When::Always => "on every candidate",
        When::Integration => "every few landings",
        When::Final => "at the end",
        When::Post => "on what has landed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Report as Counted, ReportFormat};
    use crate::event::Verdict;

    fn gate(name: &str) -> Gate {
        let report = Some(Counted { format: ReportFormat::Tap, path: None });
        Gate {
            name: name.to_owned(),
            run: "make test".to_owned(),
            timeout: None,
            cache: Vec::new(),
            network: Vec::new(),
            report,
            when: When::Always,
        }
    }

    fn lost(after: &[Gate]) -> Vec<(String, String)> {
        let report = losses(&[gate("test"), gate("lint")], after);
        assert_eq!(report.verdict(), if report.approvals.is_empty() { Verdict::Pass } else { Verdict::NeedsApproval });
        report.approvals.into_iter().map(|loss| (loss.gate.expect("named"), loss.text)).collect()
    }

    #[test]
    fn nothing_goes_unasked_in_a_crowd() {
        let gates: Vec<_> = (0..=MOST).map(|number| gate(&format!("g{number}"))).collect();
        assert_eq!(losses(&gates[..MOST], &[]).approvals.len(), MOST);
        let many = losses(&gates, &[]);
        assert!(many.verdict() == Verdict::Fail && many.findings[0].text.contains("41 things"), "{many:?}");
    }

    #[test]
    fn what_is_taken_from_a_gate_is_named_and_what_is_added_is_not() {
        let (test, lint) = (gate("test"), gate("lint"));
        let slower = Gate { timeout: Some(std::time::Duration::from_secs(9)), cache: vec!["target".to_owned()], ..lint.clone() };
        assert_eq!(lost(&[lint.clone(), gate("new"), test.clone()]), []);
        assert_eq!(lost(&[test.clone(), slower]), [], "time and caches decide nothing");
        for (after, gate, words) in [
            (vec![test.clone()], "lint", "the gate `lint` goes"),
            (vec![test.clone(), Gate { name: "Lint".to_owned(), ..lint.clone() }], "lint", "the gate `lint` goes"),
            (vec![Gate { run: "true".to_owned(), ..test.clone() }, lint.clone()], "test", "runs `true` instead of `make test`"),
            (vec![Gate { report: None, ..test.clone() }, lint.clone()], "test", "no longer counts its tests"),
            (vec![Gate { when: When::Post, ..test.clone() }, lint.clone()], "test", "on what has landed instead of on every candidate"),
        ] {
            let lost = lost(&after);
            assert!(lost.len() == 1 && lost[0].0 == gate && lost[0].1.contains(words), "{words}: {lost:?}");
        }
        assert_eq!(lost(&[]).len(), 2);
        let later = Gate { when: When::Final, ..gate("test") };
        assert!(losses(&[later], &[gate("test")]).approvals.is_empty(), "more often is tighter");
    }
}

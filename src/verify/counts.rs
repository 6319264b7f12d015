//! Did fewer tests run than before? Checks that run tests are run on the tree before and on the tree after, and both are counted.
//!
//! This sees what reading the change does not: a hook that drops tests while they are collected, a process that ends early with success.

use super::{Case, Judged, checks};
use crate::base::text::{cut, one_line};
use crate::config::ReportFormat;
use crate::event::{Finding, Verdict};
use crate::report;

/// A transcript is counted up to here.
const LOOKED_AT: usize = 8 << 20;

/// What runs tests, as far as its command line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Runner {
    Known(ReportFormat),
    Unittest,
}

/// What the change said, and what the counts say.
pub(super) fn and_counts(case: &Case<'_>, mut judged: Judged) -> Judged {
    for check in &case.spec.checks {
        let Some(runner) = runner(check) else { continue };
        if case.stop.is_asked() {
            return Judged::error("it was stopped");
        }
        let base = case.attempt.base.as_str();
        let (before, after) = std::thread::scope(|scope| {
            let before = scope.spawn(|| checks::run_one(case, base, check));
            let after = checks::run_one(case, case.commit.as_str(), check);
            (before.join().unwrap_or_else(|_| Err("it stopped".to_owned())), after)
        });
        let (Ok(before), Ok(after)) = (before, after) else { continue };
        judged.evidence.extend([before.transcript.clone(), after.transcript.clone()]);
        let counted = |ran: &crate::role::process::Ran| {
            let bytes = case.shop.evidence.read(&ran.transcript).unwrap_or_default();
            count(runner, bytes.get(..bytes.len().min(LOOKED_AT)).unwrap_or_default())
        };
        let passed = checks::failure(&after).is_none();
        if let Some(why) = fallen(counted(&before), counted(&after), passed) {
            judged.verdict = Verdict::Fail;
            judged.problems += 1;
            judged.findings.push(Finding { text: format!("`{}`: {why}", cut(&one_line(check), 200)), ..Finding::default() });
        }
    }
    judged
}

/// Why two counts of executed tests are no honest pair. A check that failed says so itself.
fn fallen(before: Option<u64>, after: Option<u64>, passed: bool) -> Option<String> {
    match (before, after) {
        _ if !passed => None,
        (Some(before), Some(after)) if after < before => Some(format!("{before} tests ran before the change, {after} run now")),
        (_, Some(0)) => Some("no test ran".to_owned()),
        (Some(before), None) => Some(format!("{before} tests ran before the change; now it ends with success and counts none")),
        (None, None) => Some("it ends with success and counts no test".to_owned()),
        _ => None,
    }
}

fn runner(check: &str) -> Option<Runner> {
    // What is redirected or filtered away cannot be counted.
    if check.contains('>') || check.contains('|') {
        return None;
    }
    let words: Vec<&str> =
        check.split(|c: char| c.is_whitespace() || matches!(c, ';' | '&' | '(' | ')')).filter(|w| !w.is_empty()).collect();
    let program = |name: &str| words.iter().any(|word| word.rsplit('/').next() == Some(name));
    let follows = |a: &str, b: &str| words.windows(2).any(|w| w[0].rsplit('/').next() == Some(a) && w[1] == b);
    if program("pytest") || program("py.test") {
        return Some(Runner::Known(ReportFormat::Pytest));
    }
    if program("unittest") {
        return Some(Runner::Unittest);
    }
    if follows("cargo", "test") || follows("cargo", "nextest") {
        return Some(Runner::Known(ReportFormat::Cargo));
    }
    if follows("go", "test") && (words.contains(&"-v") || words.contains(&"-json")) {
        return Some(Runner::Known(ReportFormat::Go));
    }
    follows("node", "--test").then_some(Runner::Known(ReportFormat::Node))
}

/// Tests that were executed; none when the text counts none.
fn count(runner: Runner, bytes: &[u8]) -> Option<u64> {
    match runner {
        Runner::Known(format) => report::count(format, bytes).ok().map(|counts| counts.executed),
        Runner::Unittest => {
            let text = String::from_utf8_lossy(bytes);
            let (mut ran, mut skipped) = (None, 0);
            for line in text.lines() {
                if let Some(rest) = line.strip_prefix("Ran ") {
                    let number: u64 = rest.split(' ').next()?.parse().ok()?;
                    ran = Some(ran.unwrap_or(0_u64).saturating_add(number));
                } else if let Some((_, rest)) = line.split_once("skipped=") {
                    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                    skipped += digits.parse::<u64>().unwrap_or(0);
                }
            }
            ran.map(|ran| ran.saturating_sub(skipped))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fewer_tests_than_before_are_no_success() {
        for (before, after, passed, wrong) in [
            (Some(3), Some(3), true, false),
            (Some(3), Some(4), true, false),
            (None, Some(2), true, false),
            (Some(3), Some(2), true, true),
            (Some(3), None, true, true),
            (None, None, true, true),
            (None, Some(0), true, true),
            (Some(3), Some(0), false, false),
        ] {
            assert_eq!(fallen(before, after, passed).is_some(), wrong, "{before:?} {after:?}");
        }
    }

    #[test]
    fn checks_that_run_tests_are_known_and_counted() {
        for (check, known) in [
            ("python3 -m pytest -q tests", true),
            ("cd a && ./venv/bin/pytest", true),
            ("python3 -m unittest discover -s tests", true),
            ("cargo test --workspace", true),
            ("cargo nextest run", true),
            ("go test -v ./...", true),
            ("go test ./...", false),
            ("node --test", true),
            ("pytest > log", false),
            ("grep -q x pytest.txt", false),
            ("./ci/all.sh", false),
        ] {
            assert_eq!(runner(check).is_some(), known, "{check}");
        }
        assert_eq!(count(Runner::Unittest, b"...\nRan 3 tests in 0.001s\n\nOK (skipped=1)\n"), Some(2));
        assert_eq!(count(Runner::Unittest, b""), None);
        assert_eq!(count(Runner::Known(ReportFormat::Pytest), b"==== 2 passed, 1 skipped in 0.01s ===="), Some(2));
    }
}

//! How many tests a gate ran, as its report says. Pure.
//!
//! A count can only make a gate stricter: an exit code of 0 is needed all the same. A test that was skipped is not a test that passed.

use regex_lite::Regex;
use serde::{Deserialize, Serialize};

use crate::config::ReportFormat;

/// What a report says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Tests that ran, whatever came of it. Skipped ones did not.
    pub executed: u64,
    pub failed: u64,
    pub skipped: u64,
}

/// Why a report says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    #[error("the gate wrote no report at {path}; look at its `report` in cofferdam.toml")]
    Missing { path: String },
    #[error("the report is larger than {limit} MiB")]
    TooLarge { limit: usize },
    #[error("the report is no {format}: {why}")]
    Unreadable { format: &'static str, why: String },
    #[error("the {format} report counts no test at all")]
    Nothing { format: &'static str },
}

/// Counts what a report says.
///
/// # Errors
/// When it is none, or counts nothing.
pub fn count(format: ReportFormat, bytes: &[u8]) -> Result<Counts, ReportError> {
    let name = format.name();
    let unreadable = |why: String| ReportError::Unreadable { format: name, why };
    let text = String::from_utf8_lossy(bytes);
    let plain = plain(&text);
    let found = match format {
        ReportFormat::Junit => junit(&text).map_err(unreadable)?,
        ReportFormat::Tap => tap(&plain).map_err(unreadable)?,
        ReportFormat::Cargo => cargo(&plain),
        ReportFormat::Pytest => pytest(&plain),
        ReportFormat::Go => go(&plain),
        ReportFormat::Node => node(&plain),
    };
    match found {
        None => Err(ReportError::Nothing { format: name }),
        Some(counts) if counts.failed > counts.executed => {
            let why = format!("it counts {} failures of {} tests", counts.failed, counts.executed);
            Err(ReportError::Unreadable { format: name, why })
        }
        Some(counts) => Ok(counts),
    }
}

/// Without the escapes that colour a terminal.
fn plain(text: &str) -> String {
    pattern(r"\x1b\[[0-9;?]*[A-Za-z]").replace_all(text, "").into_owned()
}

fn pattern(text: &str) -> Regex {
    // The patterns are constants of this file, and its tests use every one.
    Regex::new(text).unwrap_or_else(|error| unreachable!("{text}: {error}"))
}

fn number(text: Option<regex_lite::Match<'_>>) -> u64 {
    // More digits than a count has are nonsense; sums of these cannot overflow.
    text.map_or(0, |m| m.as_str().parse::<u32>().map_or(0, u64::from))
}

fn junit(text: &str) -> Result<Option<Counts>, String> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(text);
    let (mut counts, mut seen, mut open) = (Counts::default(), false, None);
    loop {
        match reader.read_event().map_err(|e| e.to_string())? {
            Event::Start(e) | Event::Empty(e) if matches!(e.local_name().as_ref(), "testsuites" | "testsuite") => {
                seen = true;
            }
            Event::Start(e) if e.local_name().as_ref() == "testcase" => open = Some(Case::Passed),
            Event::Empty(e) if e.local_name().as_ref() == "testcase" => counts.executed += 1,
            Event::Start(e) | Event::Empty(e) => {
                // The reruns of a flaky test are elements of other names.
                if let Some(case) = &mut open {
                    match e.local_name().as_ref() {
                        "failure" | "error" => *case = Case::Failed,
                        "skipped" if *case == Case::Passed => *case = Case::Skipped,
                        _ => {}
                    }
                }
            }
            Event::End(e) if e.local_name().as_ref() == "testcase" => match open.take() {
                Some(Case::Skipped) => counts.skipped += 1,
                Some(case) => {
                    counts.executed += 1;
                    counts.failed += u64::from(case == Case::Failed);
                }
                None => {}
            },
            Event::Eof if open.is_some() => return Err("it ends within a test case".to_owned()),
            Event::Eof => break,
            _ => {}
        }
    }
    if !seen {
        return Err("it holds no testsuite".to_owned());
    }
    Ok(Some(counts))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Passed,
    Failed,
    Skipped,
}

/// The lines of the outermost level; those of subtests are indented.
fn tap(text: &str) -> Result<Option<Counts>, String> {
    let line_of = pattern(r"^(not )?ok\b[ \t]*\d*([^#]*)(?:#[ \t]*(\w+))?");
    let plan_of = pattern(r"^1\.\.(\d+)");
    let (mut counts, mut lines, mut plan) = (Counts::default(), 0_u64, None);
    for line in text.lines() {
        if line.starts_with("Bail out!") {
            return Err(crate::base::text::cut(line, 200));
        }
        if let Some(found) = plan_of.captures(line) {
            plan = Some(number(found.get(1)));
        } else if let Some(found) = line_of.captures(line) {
            lines += 1;
            let directive = found.get(3).map_or("", |m| m.as_str()).to_ascii_lowercase();
            if directive.starts_with("skip") || directive == "todo" {
                counts.skipped += 1;
            } else {
                counts.executed += 1;
                counts.failed += u64::from(found.get(1).is_some());
            }
        }
    }
    match plan {
        Some(planned) if planned > lines => Err(format!("{planned} tests were planned, and {lines} are in it")),
        None if lines == 0 => Ok(None),
        _ => Ok(Some(counts)),
    }
}

fn cargo(text: &str) -> Option<Counts> {
    let own = pattern(r"(?m)^test result: \w+\. (\d+) passed; (\d+) failed; (\d+) ignored");
    let next = pattern(r"(?m)^\s*Summary \[[^\]]*\]\s+(\d+)(?:/\d+)? tests? run:(.*)$");
    let (failed_of, skipped_of) = (pattern(r"(\d+) (?:failed|timed out|exec failed)"), pattern(r"(\d+) skipped"));
    let (mut counts, mut seen) = (Counts::default(), false);
    for found in own.captures_iter(text) {
        seen = true;
        counts.executed += number(found.get(1)) + number(found.get(2));
        counts.failed += number(found.get(2));
        counts.skipped += number(found.get(3));
    }
    for found in next.captures_iter(text) {
        seen = true;
        let rest = found.get(2).map_or("", |m| m.as_str());
        counts.executed += number(found.get(1));
        counts.failed += failed_of.captures_iter(rest).map(|m| number(m.get(1))).sum::<u64>();
        counts.skipped += skipped_of.captures_iter(rest).map(|m| number(m.get(1))).sum::<u64>();
    }
    seen.then_some(counts)
}

/// The last line that sums up; a gate may run pytest more than once, and then each sum counts.
fn pytest(text: &str) -> Option<Counts> {
    let line_of = pattern(r"(?m)^(?:=+ )?((?:\d+ \w+(?:, )?)+|no tests ran) in [\d.]+s");
    let part_of = pattern(r"(\d+) (\w+)");
    let (mut counts, mut seen) = (Counts::default(), false);
    for found in line_of.captures_iter(text) {
        seen = true;
        for part in part_of.captures_iter(found.get(1).map_or("", |m| m.as_str())) {
            let count = number(part.get(1));
            match part.get(2).map_or("", |m| m.as_str()) {
                "passed" | "xpassed" => counts.executed += count,
                "failed" | "error" | "errors" => {
                    counts.executed += count;
                    counts.failed += count;
                }
                // A test that is expected to fail shows nothing when it does.
                "skipped" | "xfailed" => counts.skipped += count,
                _ => {}
            }
        }
    }
    seen.then_some(counts)
}

fn go(text: &str) -> Option<Counts> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Line {
        action: String,
        test: Option<String>,
    }
    let verbose = pattern(r"^\s*--- (PASS|FAIL|SKIP): ");
    let (mut counts, mut seen) = (Counts::default(), false);
    for line in text.lines() {
        let action = if line.starts_with('{') {
            let Ok(line) = serde_json::from_str::<Line>(line) else { continue };
            seen |= line.action == "start" || line.action == "pass";
            if line.test.is_none() {
                continue;
            }
            line.action
        } else if let Some(found) = verbose.captures(line) {
            found.get(1).map_or("", |m| m.as_str()).to_ascii_lowercase()
        } else {
            continue;
        };
        match action.as_str() {
            "pass" => counts.executed += 1,
            "fail" => {
                counts.executed += 1;
                counts.failed += 1;
            }
            "skip" => counts.skipped += 1,
            _ => continue,
        }
        seen = true;
    }
    seen.then_some(counts)
}

fn node(text: &str) -> Option<Counts> {
    let line_of = pattern(r"(?m)^(?:ℹ|#) (tests|fail|cancelled|skipped|todo) (\d+)$");
    let (mut tests, mut counts, mut seen) = (0, Counts::default(), false);
    for found in line_of.captures_iter(text) {
        let count = number(found.get(2));
        match found.get(1).map_or("", |m| m.as_str()) {
            "tests" => {
                seen = true;
                tests += count;
            }
            "fail" | "cancelled" => counts.failed += count,
            _ => counts.skipped += count,
        }
    }
    counts.executed = tests.saturating_sub(counts.skipped);
    seen.then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn says(format: ReportFormat, text: &str, executed: u64, failed: u64, skipped: u64) {
        assert_eq!(count(format, text.as_bytes()), Ok(Counts { executed, failed, skipped }), "{text}");
    }

    #[test]
    fn each_format_is_counted() {
        let suite = "<?xml version=\"1.0\"?><testsuites><testsuite tests=\"4\"><testcase name=\"a\"/><testcase name=\"b\"><failure message=\"<\">x</failure></testcase>\
                     <testcase name=\"c\"><skipped/></testcase><testcase name=\"d\"><system-out>error</system-out><flakyFailure/></testcase></testsuite></testsuites>";
        says(ReportFormat::Junit, &suite.replace("\"<\"", "\"&lt;\""), 3, 1, 1);
        says(ReportFormat::Junit, "<testsuite tests=\"9\"/>", 0, 0, 0);
        says(
            ReportFormat::Tap,
            "TAP version 13\n1..4\nok 1 - a\nnot ok 2 - b\nok 3 # SKIP no disk\nnot ok 4 later # TODO\n    ok 1 - sub\n",
            2,
            1,
            2,
        );
        says(
            ReportFormat::Cargo,
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured\n",
            8,
            2,
            1,
        );
        says(
            ReportFormat::Cargo,
            "\u{1b}[32m     Summary\u{1b}[0m [   0.1s] 5 tests run: 3 passed (1 flaky), 1 failed, 1 timed out, 2 skipped\n",
            5,
            2,
            2,
        );
        says(ReportFormat::Cargo, "     Summary [   0.1s] 3/9 tests run: 3 passed, 0 skipped\n", 3, 0, 0);
        says(ReportFormat::Pytest, "==== 1 failed, 3 passed, 2 skipped, 1 xfailed, 4 warnings in 0.12s ====\n", 4, 1, 3);
        says(ReportFormat::Pytest, "...\n3 passed in 0.01s\n", 3, 0, 0);
        says(ReportFormat::Pytest, "=== no tests ran in 0.01s ===\n", 0, 0, 0);
        says(
            ReportFormat::Go,
            "=== RUN TestA\n--- PASS: TestA (0.00s)\n    --- FAIL: TestA/x (0.00s)\n--- SKIP: TestB (0.00s)\nok  pkg 0.1s\n",
            2,
            1,
            1,
        );
        says(
            ReportFormat::Go,
            "{\"Action\":\"start\",\"Package\":\"p\"}\n{\"Action\":\"pass\",\"Package\":\"p\",\"Test\":\"A\"}\n{\"Action\":\"skip\",\"Package\":\"p\",\"Test\":\"B\"}\n{\"Action\":\"pass\",\"Package\":\"p\"}\n",
            1,
            0,
            1,
        );
        says(ReportFormat::Node, "ℹ tests 5\nℹ suites 0\nℹ pass 3\nℹ fail 1\nℹ cancelled 0\nℹ skipped 1\nℹ todo 0\n", 4, 1, 1);
        says(ReportFormat::Node, "# tests 2\n# pass 2\n# fail 0\n# skipped 0\n# todo 0\n", 2, 0, 0);
    }

    #[test]
    fn what_counts_nothing_is_no_report() {
        for format in ReportFormat::ALL {
            for text in ["", "all tests passed\n", "<html><body/></html>"] {
                assert!(count(format, text.as_bytes()).is_err(), "{} {text}", format.name());
            }
        }
        assert!(count(ReportFormat::Tap, b"1..3\nok 1\n").is_err(), "two tests never reported");
        assert!(count(ReportFormat::Tap, b"1..1\nok 1\nBail out! no database\n").is_err());
        assert!(count(ReportFormat::Junit, b"<testsuites><testsuite><testcase>").is_err(), "it was cut short");
    }

    proptest::proptest! {
        #[test]
        fn anything_may_come(text in "\\PC{0,200}", parts in proptest::collection::vec("(<testcase>|</testcase>|<skipped/>|ok 1|1\\.\\.9999|ℹ tests 99999999999999999999|\\{\"Action\":\"pass\"|\n| passed in 1s|9)", 0..20)) {
            for format in ReportFormat::ALL {
                drop(count(format, text.as_bytes()));
                drop(count(format, parts.concat().as_bytes()));
            }
        }
    }
}

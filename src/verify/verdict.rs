//! `verdict.json`: a reviewer's judgement, read strictly. Pure.
//!
//! A verdict lands other people's code, so whatever is not exactly a verdict on exactly these criteria is an error, and an error is never a pass.

use crate::base::source::Source;
use crate::base::text::{cut, list, one_line};
use crate::base::tree::{Node, json};
use crate::event::{CriterionVerdict, Finding};

/// The longest verdict that is read.
pub const LONGEST: u64 = 1 << 20;
/// The longest text in one.
const LONGEST_TEXT: usize = 8 << 10;
const MOST_FINDINGS: usize = 500;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Pass,
    Changes,
    /// The reviewer says that it could not judge.
    Error,
}

/// A verdict on exactly the story's criteria.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub decision: Decision,
    pub criteria: Vec<CriterionVerdict>,
    pub findings: Vec<Finding>,
    pub confidence: Option<f64>,
    pub recovery: Option<String>,
}

/// Severities, the heaviest first. A pass with one of the first two contradicts itself.
pub const SEVERITIES: [&str; 7] = ["blocker", "critical", "high", "major", "medium", "minor", "info"];
const HEAVY: usize = 3;

/// Reads a verdict on these criteria. `exists` says whether a path and a line are in the tree that was judged.
///
/// # Errors
/// Why it is none, in a sentence.
pub fn verdict(bytes: &[u8], criteria: &[String], exists: &dyn Fn(&str, Option<u32>) -> bool) -> Result<Verdict, String> {
    if bytes.len() as u64 > LONGEST {
        return Err(format!("the verdict is larger than {} KiB", LONGEST >> 10));
    }
    let content = std::str::from_utf8(bytes).map_err(|_| "the verdict is no UTF-8 text".to_owned())?;
    if content.trim().is_empty() {
        return Err("the verdict is empty".to_owned());
    }
    let root = json(&Source::new("verdict.json", content)).map_err(|problem| format!("the verdict cannot be read: {}", problem.what))?;
    // Keys that are not known change nothing: a reviewer may say more than it is asked.
    if root.table().is_none() {
        return Err(format!("the verdict must be an object, and it is {}", root.kind()));
    }
    let decision = match text(&root, "decision")?.as_deref() {
        Some("pass") => Decision::Pass,
        Some("changes") => Decision::Changes,
        Some("error") => Decision::Error,
        Some(other) => return Err(format!("`decision` must be `pass`, `changes` or `error`, and it is `{}`", one_line(&cut(other, 60)))),
        None => return Err("the verdict has no `decision`".to_owned()),
    };
    let read = Verdict {
        decision,
        criteria: each(&root, "criteria")?.iter().map(criterion).collect::<Result<_, _>>()?,
        findings: each(&root, "findings")?.iter().map(finding).collect::<Result<_, _>>()?,
        confidence: confidence(&root)?,
        recovery: text(&root, "recovery")?,
    };
    complete(&read, criteria, exists)?;
    Ok(read)
}

/// Is it about these criteria, each once, and of one mind?
fn complete(read: &Verdict, wanted: &[String], exists: &dyn Fn(&str, Option<u32>) -> bool) -> Result<(), String> {
    // Whoever could not judge need not say more.
    if read.decision == Decision::Error && read.criteria.is_empty() {
        return Ok(());
    }
    let named = |id: &String| read.criteria.iter().filter(|c| c.id == *id).count();
    let missing: Vec<&String> = wanted.iter().filter(|id| named(id) == 0).collect();
    if !missing.is_empty() {
        return Err(format!("the verdict leaves out {}", list(&missing)));
    }
    if let Some(twice) = wanted.iter().find(|id| named(id) > 1) {
        return Err(format!("the verdict judges `{}` twice", one_line(twice)));
    }
    if let Some(other) = read.criteria.iter().find(|c| !wanted.contains(&c.id)) {
        return Err(format!("the verdict judges `{}`, which is no criterion of this story", one_line(&cut(&other.id, 60))));
    }
    if read.decision != Decision::Pass {
        return Ok(());
    }
    if let Some(failed) = read.criteria.iter().find(|c| !c.pass) {
        return Err(format!("the verdict says pass, and that `{}` fails", one_line(&failed.id)));
    }
    let heavy = |f: &&Finding| f.severity.as_deref().is_some_and(|s| SEVERITIES.iter().take(HEAVY).any(|heavy| *heavy == s));
    if let Some(finding) = read.findings.iter().find(heavy) {
        let severity = finding.severity.as_deref().unwrap_or_default();
        return Err(format!("the verdict says pass with a finding of severity {severity}: {}", one_line(&cut(&finding.text, 200))));
    }
    for criterion in &read.criteria {
        let Some((path, line)) = place(&criterion.evidence) else {
            let shown = one_line(&cut(&criterion.evidence, 80)).into_owned();
            return Err(format!("the verdict passes `{}` without a file and line as evidence; it says `{shown}`", one_line(&criterion.id)));
        };
        if !exists(path, line) {
            let shown = one_line(&cut(&criterion.evidence, 80)).into_owned();
            return Err(format!("the verdict passes `{}` on evidence that is not in the tree: `{shown}`", one_line(&criterion.id)));
        }
    }
    Ok(())
}

/// `path:12`, `path:12-15`, `path:12: words` or `path`. The first of several places counts.
pub fn place(evidence: &str) -> Option<(&str, Option<u32>)> {
    let first = evidence.trim().trim_start_matches('`').split([' ', ',', ';', '`', '\n']).next().unwrap_or_default();
    let first = first.trim_start_matches("./").trim_end_matches(':');
    if first.is_empty() {
        return None;
    }
    let Some((path, rest)) = first.split_once(':') else { return Some((first, None)) };
    let digits: String = rest.trim_start_matches('L').chars().take_while(char::is_ascii_digit).collect();
    if path.is_empty() || digits.is_empty() {
        return None;
    }
    Some((path, Some(digits.parse().ok()?)))
}

fn text(node: &Node, key: &str) -> Result<Option<String>, String> {
    let Some(value) = node.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    let text = value.text().ok_or_else(|| format!("`{key}` must be a text, and it is {}", value.kind()))?.trim();
    Ok((!text.is_empty()).then(|| cut(text, LONGEST_TEXT)))
}

fn each<'n>(root: &'n Node, key: &str) -> Result<&'n [Node], String> {
    let Some(value) = root.get(key).filter(|value| !value.is_null()) else { return Ok(&[]) };
    let items = value.list().ok_or_else(|| format!("`{key}` must be a list, and it is {}", value.kind()))?;
    if items.len() > MOST_FINDINGS {
        return Err(format!("`{key}` has more than {MOST_FINDINGS} items"));
    }
    Ok(items)
}

fn criterion(node: &Node) -> Result<CriterionVerdict, String> {
    let id = text(node, "id")?.ok_or("a criterion in the verdict has no `id`")?;
    let pass = match text(node, "result")?.as_deref() {
        Some("pass") => true,
        Some("fail") => false,
        _ => return Err(format!("the `result` of `{}` must be `pass` or `fail`", one_line(&cut(&id, 60)))),
    };
    Ok(CriterionVerdict { id, pass, evidence: text(node, "evidence")?.unwrap_or_default() })
}

fn finding(node: &Node) -> Result<Finding, String> {
    let severity = text(node, "severity")?.map(|s| s.to_ascii_lowercase());
    if let Some(unknown) = severity
        .as_ref()
        .filter(|s| !SEVERITIES.contains(&s.as_str()) && !matches!(s.as_str(), "low" | "note" | "nit" | "error" | "warning"))
    {
        return Err(format!("a finding has the severity `{}`; known are {}", one_line(&cut(unknown, 60)), list(&SEVERITIES)));
    }
    let line = match node.get("line").filter(|value| !value.is_null()) {
        None => None,
        Some(value) => Some(value.count().and_then(|n| u32::try_from(n).ok()).ok_or("the `line` of a finding must be a number")?),
    };
    let text_of = text(node, "text")?.ok_or("a finding says nothing: it has no `text`")?;
    Ok(Finding { text: text_of, path: text(node, "file")?, line, criterion: text(node, "criterion")?, severity, gate: None })
}

fn confidence(root: &Node) -> Result<Option<f64>, String> {
    let Some(value) = root.get("confidence").filter(|value| !value.is_null()) else { return Ok(None) };
    let number = value.number().filter(|n| (0.0..=1.0).contains(n));
    number.map(Some).ok_or_else(|| "`confidence` must be a number from 0 to 1".to_owned())
}

/// The schema of `verdict.json`.
pub fn schema() -> serde_json::Value {
    let text = || serde_json::json!({"type": "string"});
    let optional = || serde_json::json!({"type": ["string", "null"]});
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cofferdam verdict",
        "description": "What a reviewer leaves in /run/cofferdam/out/verdict.json: one verdict on every criterion of the story, and on no other",
        "type": "object",
        "required": ["decision", "criteria"],
        "properties": {
            "decision": {"enum": ["pass", "changes", "error"]},
            "criteria": {"type": "array", "items": {
                "type": "object", "required": ["id", "result", "evidence"],
                "properties": {"id": text(), "result": {"enum": ["pass", "fail"]}, "evidence": {"type": "string", "description": "file:line"}},
            }},
            "findings": {"type": "array", "items": {
                "type": "object", "required": ["text"],
                "properties": {"severity": {"enum": SEVERITIES}, "criterion": optional(), "file": optional(),
                    "line": {"type": ["integer", "null"], "minimum": 1}, "text": text()},
            }},
            "confidence": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
            "recovery": optional(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Verdict, String> {
        verdict(text.as_bytes(), &["AC-1".to_owned(), "AC-2".to_owned()], &|path, line| path == "a.py" && line.is_none_or(|l| l <= 9))
    }

    fn both(second: &str) -> String {
        format!(r#"[{{"id":"AC-1","result":"pass","evidence":"a.py:1"}},{second}]"#)
    }

    #[test]
    fn a_verdict_is_read() {
        let text = format!(
            r#"{{"decision":"changes","criteria":{},"findings":[{{"severity":"high","criterion":"AC-2","file":"a.py","line":3,"text":"no expiry"}}],"confidence":0.8,"recovery":"store the time"}}"#,
            both(r#"{"id":"AC-2","result":"fail","evidence":"a.py:3"}"#)
        );
        let read = read(&text).expect("a verdict");
        assert_eq!((read.decision, read.criteria.len(), read.findings[0].line), (Decision::Changes, 2, Some(3)));
        assert_eq!((read.confidence, read.recovery.as_deref()), (Some(0.8), Some("store the time")));
    }

    #[test]
    fn whatever_is_not_exactly_a_verdict_is_an_error() {
        let pass = |second: &str| format!(r#"{{"decision":"pass","criteria":{}}}"#, both(second));
        let good = pass(r#"{"id":"AC-2","result":"pass","evidence":"a.py:2-4"}"#);
        assert_eq!(read(&good).expect("a pass").decision, Decision::Pass);
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        for (text, why) in [
            ("", "empty"),
            (" \n", "empty"),
            ("pass", "cannot be read"),
            (r#"{"decision":"pass""#, "cannot be read"),
            (&format!("{good}{good}"), "cannot be read"),
            ("[]", "must be an object"),
            ("{}", "no `decision`"),
            (r#"{"decision":"pass","decision":"pass"}"#, "twice"),
            (r#"{"decision":"PASS"}"#, "must be `pass`"),
            (r#"{"decision":true}"#, "must be a text"),
            (r#"{"decision":"pass"}"#, "leaves out `AC-1` and `AC-2`"),
            (r#"{"decision":"pass","criteria":{}}"#, "must be a list"),
            (&pass(r#"{"id":"AC-1","result":"pass","evidence":"a.py:1"}"#), "leaves out `AC-2`"),
            (&pass(r#"{"id":"AC-2","result":"pass","evidence":"a.py:1"},{"id":"AC-2","result":"pass","evidence":"a.py:1"}"#), "twice"),
            (
                &pass(r#"{"id":"AC-2","result":"pass","evidence":"a.py:1"},{"id":"AC-9","result":"pass","evidence":"a.py:1"}"#),
                "no criterion",
            ),
            (&pass(r#"{"id":"AC-2","result":"fail","evidence":"a.py:1"}"#), "says pass, and that `AC-2` fails"),
            (&pass(r#"{"id":"AC-2","result":"ok","evidence":"a.py:1"}"#), "must be `pass` or `fail`"),
            (&pass(r#"{"id":"AC-2","result":"pass"}"#), "without a file and line"),
            (&pass(r#"{"id":"AC-2","result":"pass","evidence":"looks good"}"#), "not in the tree"),
            (&pass(r#"{"id":"AC-2","result":"pass","evidence":"a.py:99"}"#), "not in the tree"),
            (&pass(r#"{"id":"AC-2","result":"pass","evidence":"b.py:1"}"#), "not in the tree"),
            (&format!("{},\"findings\":[{{\"severity\":\"critical\",\"text\":\"x\"}}]}}", &good[..good.len() - 1]), "severity critical"),
            (&format!("{},\"confidence\":7}}", &good[..good.len() - 1]), "from 0 to 1"),
            (&deep, "cannot be read"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(why), "{why} not in {error}");
        }
        assert!(verdict(&vec![b' '; (LONGEST + 1) as usize], &[], &|_, _| true).expect_err("large").contains("larger"));
        assert!(verdict(b"\xff\xfe{\0}\0", &[], &|_, _| true).expect_err("another encoding").contains("UTF-8"));
    }

    proptest! {
        #[test]
        fn nothing_breaks_it_and_nothing_odd_passes(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,a-zAC12 -]{0,120}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                let read = verdict(bytes, &["AC-1".to_owned()], &|_, _| true);
                prop_assert!(read.map_or(true, |verdict| verdict.decision != Decision::Pass));
            }
            drop(place(&text).map(|(path, line)| (path.to_owned(), line)));
        }
    }
}

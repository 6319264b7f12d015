//! What an agent leaves in `out/`, read strictly: one JSON document, no key twice, known types, bounded. Pure.

use crate::base::source::Source;
use crate::base::text::cut;
use crate::base::tree::{Node, json};

/// The longest answer of these kinds.
pub const LONGEST: u64 = 256 << 10;
/// The longest sentence that is kept.
const LONGEST_TEXT: usize = 8 << 10;
/// The longest list of criteria.
const MOST_CRITERIA: usize = 1_000;
/// More tasks than these are no repair.
const MOST_TASKS: usize = 20;

/// `contract.json`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    pub title: String,
    pub criteria: Vec<String>,
}

/// `report.json`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub summary: Option<String>,
    /// What the commit is to say.
    pub message: Option<String>,
    pub question: Option<String>,
}

impl Report {
    /// With what another one says beside it.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            summary: self.summary.or(other.summary),
            message: self.message.or(other.message),
            question: self.question.or(other.question),
        }
    }
}

/// Reads `contract.json`.
///
/// # Errors
/// Why it is none.
pub fn contract(bytes: &[u8]) -> Result<Contract, String> {
    let name = "contract.json";
    let node = table(bytes, name)?;
    let title = text(&node, "title", name)?.ok_or_else(|| format!("{name} has no `title`"))?;
    let list = node.get("criteria").ok_or_else(|| format!("{name} has no `criteria`"))?;
    let list = list.list().ok_or_else(|| format!("`criteria` of {name} must be a list, and this is {}", list.kind()))?;
    if list.len() > MOST_CRITERIA {
        return Err(format!("{name} names more than {MOST_CRITERIA} criteria"));
    }
    let criteria = list.iter().map(|item| item.text().map(str::to_owned)).collect::<Option<Vec<_>>>();
    Ok(Contract { title, criteria: criteria.ok_or_else(|| format!("`criteria` of {name} must be a list of texts"))? })
}

/// Whether a contract names exactly this story.
///
/// # Errors
/// What differs, in a sentence.
pub fn keeps(contract: &Contract, title: &str, criteria: &[String]) -> Result<(), String> {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    if words(&contract.title) != words(title) {
        return Err(format!(
            "it names the title `{}`, and the story's is `{}`",
            cut(&words(&contract.title), 200),
            cut(&words(title), 200)
        ));
    }
    let missing: Vec<_> = criteria.iter().filter(|id| !contract.criteria.contains(id)).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(format!("it leaves out {}", crate::base::text::list(&missing)));
    }
    let unknown: Vec<_> = contract.criteria.iter().filter(|id| !criteria.contains(id)).map(|id| cut(id, 100)).collect();
    if !unknown.is_empty() {
        return Err(format!("it names {}, which the story does not have", crate::base::text::list(&unknown[..unknown.len().min(5)])));
    }
    if contract.criteria.len() != criteria.len() {
        return Err("it names a criterion twice".to_owned());
    }
    Ok(())
}

/// Reads `approach.json`: how the agent will go about it.
///
/// # Errors
/// Why it is none.
pub fn approach(bytes: &[u8]) -> Result<String, String> {
    let node = table(bytes, "approach.json")?;
    text(&node, "summary", "approach.json")?.ok_or_else(|| "approach.json has no `summary`".to_owned())
}

/// Reads `report.json`.
///
/// # Errors
/// Why it is none.
pub fn report(bytes: &[u8]) -> Result<Report, String> {
    let name = "report.json";
    let node = table(bytes, name)?;
    Ok(Report { summary: text(&node, "summary", name)?, message: text(&node, "message", name)?, question: text(&node, "question", name)? })
}

/// `diagnosis.json`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnosis {
    /// The cause, in a sentence.
    pub summary: String,
    /// The repair, step by step.
    pub tasks: Vec<String>,
}

/// Reads `diagnosis.json`.
///
/// # Errors
/// Why it is none.
pub fn diagnosis(bytes: &[u8]) -> Result<Diagnosis, String> {
    let name = "diagnosis.json";
    let node = table(bytes, name)?;
    let summary = text(&node, "summary", name)?.ok_or_else(|| format!("{name} has no `summary`"))?;
    let Some(list) = node.get("tasks").filter(|value| !value.is_null()) else { return Ok(Diagnosis { summary, tasks: Vec::new() }) };
    let list = list.list().ok_or_else(|| format!("`tasks` of {name} must be a list, and this is {}", list.kind()))?;
    if list.len() > MOST_TASKS {
        return Err(format!("{name} has more than {MOST_TASKS} tasks"));
    }
    let tasks = list.iter().map(|item| item.text().map(|text| cut(text.trim(), LONGEST_TEXT))).collect::<Option<Vec<_>>>();
    let tasks = tasks.ok_or_else(|| format!("`tasks` of {name} must be a list of texts"))?;
    Ok(Diagnosis { summary, tasks: tasks.into_iter().filter(|task| !task.is_empty()).collect() })
}

/// The schema of `diagnosis.json`.
pub fn diagnosis_schema() -> serde_json::Value {
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "cofferdam diagnosis",
        "description": "What a diagnoser leaves in /run/cofferdam/out/diagnosis.json: the one cause, and what is to be done about it",
        "type": "object",
        "required": ["summary"],
        "properties": {
            "summary": {"type": "string", "minLength": 1},
            "tasks": {"type": ["array", "null"], "maxItems": MOST_TASKS, "items": {"type": "string"}},
        },
    })
}

/// The JSON of a last message, for agents that cannot write files: the whole message, or the only fenced block in it.
///
/// # Errors
/// When the message holds none, or more than one.
pub fn in_message<'m>(message: &'m str, what: &str) -> Result<&'m str, String> {
    let whole = message.trim();
    if whole.starts_with('{') && whole.ends_with('}') {
        return Ok(whole);
    }
    let mut blocks = Vec::new();
    let mut rest = whole;
    while let Some((_, after)) = rest.split_once("```") {
        let Some((block, behind)) = after.split_once("```") else { break };
        let block = block.strip_prefix("json").unwrap_or(block).trim();
        if block.starts_with('{') {
            blocks.push(block);
        }
        rest = behind;
    }
    match blocks.as_slice() {
        [one] => Ok(one),
        [] => Err(format!("its last message holds no {what}")),
        more => Err(format!("its last message holds more than one {what} ({})", more.len())),
    }
}

fn table(bytes: &[u8], name: &str) -> Result<Node, String> {
    let content = std::str::from_utf8(bytes).map_err(|_| format!("{name} is no UTF-8 text"))?;
    let node = json(&Source::new(name, content)).map_err(|problem| format!("{name} is not taken: {}", problem.what))?;
    if node.table().is_none() {
        return Err(format!("{name} must be an object, and this is {}", node.kind()));
    }
    Ok(node)
}

/// A text that is there and says something. Empty and null are nothing.
fn text(node: &Node, key: &str, name: &str) -> Result<Option<String>, String> {
    let Some(value) = node.get(key).filter(|value| !value.is_null()) else { return Ok(None) };
    let text = value.text().ok_or_else(|| format!("`{key}` of {name} must be a text, and this is {}", value.kind()))?;
    let text = text.trim();
    Ok((!text.is_empty()).then(|| cut(text, LONGEST_TEXT)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn answers_are_read_strictly() {
        let good = contract(br#"{"title": "T", "criteria": ["AC-1", "AC-2"], "more": 1}"#).expect("read");
        assert_eq!(good, Contract { title: "T".into(), criteria: vec!["AC-1".into(), "AC-2".into()] });
        for (bad, why) in [
            (&b""[..], "no JSON"),
            (b"{\"title\": \"T\"}", "no `criteria`"),
            (b"[]", "must be an object"),
            (b"{\"title\": 1, \"criteria\": []}", "must be a text"),
            (b"{\"title\": \"T\", \"title\": \"T\", \"criteria\": []}", "twice"),
            (b"{\"title\": \"T\", \"criteria\": [1]}", "list of texts"),
            (b"{\"title\": \"T\", \"criteria\": {}}", "must be a list"),
            (b"\xff", "UTF-8"),
            (b"{\"title\": \"T\", \"criteria\": []} x", "no JSON"),
        ] {
            let error = contract(bad).expect_err("refused");
            assert!(error.contains(why), "{error}");
        }
        let deep = format!("{{\"title\": \"T\", \"x\": {}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        assert!(contract(deep.as_bytes()).is_err());
        assert_eq!(report(br#"{"question": "  ", "summary": null}"#), Ok(Report::default()));
        assert_eq!(approach(br#"{"summary": " a b "}"#), Ok("a b".to_owned()));
    }

    #[test]
    fn a_contract_names_the_title_and_every_criterion() {
        let ids = ["AC-1".to_owned(), "AC-2".to_owned()];
        let check = |title: &str, named: &[&str]| {
            keeps(&Contract { title: title.into(), criteria: named.iter().map(|&n| n.into()).collect() }, "Keys can  expire", &ids)
        };
        assert_eq!(check("Keys can expire", &["AC-2", "AC-1"]), Ok(()));
        assert!(check("Keys can", &["AC-1", "AC-2"]).expect_err("another").contains("title"));
        assert!(check("Keys can expire", &["AC-1"]).expect_err("one").contains("`AC-2`"));
        assert!(check("Keys can expire", &["AC-1", "AC-2", "AC-3"]).expect_err("more").contains("`AC-3`"));
        assert!(check("Keys can expire", &["AC-1", "AC-2", "AC-2"]).expect_err("twice").contains("twice"));
    }

    #[test]
    fn an_answer_in_a_message_is_the_only_one_there() {
        assert_eq!(in_message(" {\"a\":1}\n", "verdict"), Ok("{\"a\":1}"));
        assert_eq!(in_message("Here:\n```json\n{\"a\":1}\n```\nDone.", "verdict"), Ok("{\"a\":1}"));
        assert!(in_message("All good, pass.", "verdict").is_err());
        assert!(in_message("```json\n{}\n``` or ```json\n{}\n```", "verdict").is_err());
    }

    #[test]
    fn a_diagnosis_names_a_cause() {
        let read = diagnosis(br#"{"summary": " the clock ", "tasks": ["read it once", " "], "more": 1}"#);
        assert_eq!(read, Ok(Diagnosis { summary: "the clock".into(), tasks: vec!["read it once".into()] }));
        assert_eq!(diagnosis(br#"{"summary": "x", "tasks": null}"#).map(|d| d.tasks.len()), Ok(0));
        let many = format!(r#"{{"summary": "x", "tasks": [{}]}}"#, vec![r#""a""#; MOST_TASKS + 1].join(","));
        for (bad, why) in [
            ("{}", "no `summary`"),
            (r#"{"summary": ""}"#, "no `summary`"),
            (r#"{"summary": "x", "tasks": "a"}"#, "must be a list"),
            (r#"{"summary": "x", "tasks": [1]}"#, "list of texts"),
            (r#"{"summary": "x", "summary": "y"}"#, "twice"),
            (many.as_str(), "more than"),
        ] {
            let error = diagnosis(bad.as_bytes()).expect_err(bad);
            assert!(error.contains(why), "{why} not in {error}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,a-z0-9 ]{0,60}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                drop((contract(bytes), approach(bytes), report(bytes), diagnosis(bytes)));
                drop(in_message(&text, "verdict"));
            }
        }
    }
}

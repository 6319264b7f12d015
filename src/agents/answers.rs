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

    proptest! {
        #[test]
        fn nothing_makes_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[\\]{}\":,a-z0-9 ]{0,60}") {
            for bytes in [bytes.as_slice(), text.as_bytes()] {
                drop((contract(bytes), approach(bytes), report(bytes)));
            }
        }
    }
}

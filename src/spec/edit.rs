//! Edits of story files by tools: what the author wrote stays as it is, byte for byte, around what is added.
//!
//! Every edit is checked by reading the result: either it says exactly what was wanted, or nothing is changed.

use toml_edit::{Array, DocumentMut, Item, Value as TomlValue};

use super::markdown::{is_criteria_heading, outline};
use super::print::scalar;
use super::story_file::{FrontMatter, front_matter, parse};
use super::{Criterion, Story};
use crate::base::id::StoryId;
use crate::base::source::Source;
use crate::base::tree::{self, Value};

/// A list of ids in the front matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    After,
    WiredWith,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is written in a way that cannot be edited safely; add {what} to it by hand")]
pub struct EditError {
    pub file: String,
    pub what: String,
}

impl Ids {
    const fn key(self) -> &'static str {
        match self {
            Self::After => "after",
            Self::WiredWith => "wired_with",
        }
    }

    fn of(self, story: &mut Story) -> &mut Vec<StoryId> {
        match self {
            Self::After => &mut story.after,
            Self::WiredWith => &mut story.wired_with,
        }
    }
}

/// Adds ids to a list of a story file. Ids that are there already stay where they are.
pub fn add_ids(source: &Source, stem: &str, list: Ids, ids: &[StoryId]) -> Result<String, EditError> {
    let key = list.key();
    let names: Vec<&str> = ids.iter().map(StoryId::as_str).collect();
    let fail = || EditError { file: source.name.to_string(), what: format!("`{key}: [{}]`", names.join(", ")) };
    let mut wanted = sound(source, stem).ok_or_else(fail)?;
    let new: Vec<StoryId> = ids.iter().filter(|id| !list.of(&mut wanted).contains(id)).cloned().collect();
    if new.is_empty() {
        return Ok(source.text.to_string());
    }
    list.of(&mut wanted).extend(new.iter().cloned());
    let edited = match front_matter(source) {
        Ok(Some(front)) if front.toml => toml_list(source, &front, key, &new),
        Ok(Some(front)) => yaml_list(source, &front, key, &new),
        Ok(None) => Some(format!("---\n{key}: [{}]\n---\n{}", flow(&new), source.text.trim_start_matches('\u{feff}'))),
        Err(_) => None,
    };
    edited.filter(|text| says(text, stem, &wanted)).ok_or_else(fail)
}

/// Adds criteria to a story file, below those it has.
pub fn add_criteria(source: &Source, stem: &str, criteria: &[Criterion]) -> Result<String, EditError> {
    let names: Vec<&str> = criteria.iter().map(|c| c.id.as_str()).collect();
    let fail = || EditError { file: source.name.to_string(), what: format!("the criteria {}", names.join(", ")) };
    let mut wanted = sound(source, stem).ok_or_else(fail)?;
    let new: Vec<&Criterion> = criteria.iter().filter(|c| wanted.criteria.iter().all(|old| old.id != c.id)).collect();
    if new.is_empty() {
        return Ok(source.text.to_string());
    }
    wanted.criteria.extend(new.iter().map(|c| (*c).clone()));
    let body = front_matter(source).map_err(|_| fail())?.map_or(0, |f| f.body);
    let text = &source.text;
    let outline = outline(source, body..text.len());
    let section = (0..outline.headings.len()).find(|i| is_criteria_heading(&outline.headings[*i].text));
    let scope = section.map_or(body..text.len(), |i| outline.section(i, text.len()));
    let last = outline.items_in(&scope).filter(|i| section.is_some() || i.checked.is_some()).last();
    let edited = match last {
        Some(item) => {
            let line = text[..item.span.start].rfind('\n').map_or(0, |i| i + 1);
            let marker: String = text[line..item.content.start.max(line)].to_owned();
            // A numbered list counts on by itself in Markdown.
            let end = item.span.start + text[item.span.clone()].trim_end().len();
            let marker = marker.replace("[x]", "[ ]").replace("[X]", "[ ]");
            let items = new.iter().map(|c| format!("\n{marker}{}{}: {}", space(&marker), c.id, c.text.replace('\n', "\n  ")));
            format!("{}{}{}", &text[..end], items.collect::<String>(), &text[end..])
        }
        None => {
            let items = new.iter().map(|c| format!("- {}: {}\n", c.id, c.text.replace('\n', "\n  ")));
            let heading = if section.is_some() { "" } else { "## Acceptance criteria\n" };
            let at = scope.end.min(text.len());
            let at = if section.is_some() { text[..at].trim_end().len() } else { text.len() };
            let gap = if text[..at].ends_with('\n') { "\n" } else { "\n\n" };
            format!("{}{gap}{heading}{}{}", &text[..at], items.collect::<String>(), &text[at..])
        }
    };
    Some(edited).filter(|text| says(text, stem, &wanted)).ok_or_else(fail)
}

/// A marker that ends in a check box needs a space after it.
fn space(marker: &str) -> &'static str {
    if marker.ends_with(' ') { "" } else { " " }
}

/// The story of a file that has no errors.
fn sound(source: &Source, stem: &str) -> Option<Story> {
    let (story, problems) = parse(source, stem);
    story.filter(|_| !crate::base::source::any_error(&problems))
}

fn says(text: &str, stem: &str, wanted: &Story) -> bool {
    sound(&Source::new("", text), stem).is_some_and(|story| story.digest() == wanted.digest())
}

fn flow(ids: &[StoryId]) -> String {
    ids.iter().map(|id| scalar(id.as_str())).collect::<Vec<_>>().join(", ")
}

fn yaml_list(source: &Source, front: &FrontMatter, key: &str, new: &[StoryId]) -> Option<String> {
    let text = &source.text;
    let root = tree::yaml(source, front.inner.clone()).ok()?;
    let entry = root.table().unwrap_or_default().iter().find(|e| e.key == key);
    let Some(entry) = entry else {
        let before = &text[..front.inner.end];
        let gap = if before.ends_with('\n') { "" } else { "\n" };
        return Some(format!("{before}{gap}{key}: [{}]\n{}", flow(new), &text[front.inner.end..]));
    };
    let span = entry.node.span.clone();
    let (at, added) = match &entry.node.value {
        Value::List(items) if text[span.clone()].starts_with('[') => {
            let close = span.start + text[span.clone()].rfind(']')?;
            (text[..close].trim_end().len(), format!("{}{}", if items.is_empty() { "" } else { ", " }, flow(new)))
        }
        Value::List(items) => {
            // After the last item's line, so that a comment at its end stays with it; with the marks of that line.
            let last = items.last()?;
            let start = text[..last.span.start].rfind('\n').map_or(0, |i| i + 1);
            let end = last.span.end + text[last.span.end..].find('\n')?;
            let marker = &text[start..last.span.start];
            (end, new.iter().map(|id| format!("\n{marker}{}", scalar(id.as_str()))).collect())
        }
        Value::Scalar { .. } => {
            let edited = format!("{}[{}, {}]{}", &text[..span.start], &text[span.clone()], flow(new), &text[span.end..]);
            return Some(edited);
        }
        Value::Null => {
            let colon = entry.key_span.end + text[entry.key_span.end..].find(':')? + 1;
            return Some(format!("{} [{}]{}", &text[..colon], flow(new), &text[colon..]));
        }
        Value::Table(_) => return None,
    };
    Some(format!("{}{added}{}", &text[..at], &text[at..]))
}

fn toml_list(source: &Source, front: &FrontMatter, key: &str, new: &[StoryId]) -> Option<String> {
    let text = &source.text;
    let mut document: DocumentMut = text[front.inner.clone()].parse().ok()?;
    let ids = new.iter().map(StoryId::as_str);
    match document.get_mut(key) {
        None => drop(document.insert(key, Item::Value(TomlValue::Array(ids.collect::<Array>())))),
        Some(Item::Value(TomlValue::Array(array))) => ids.for_each(|id| array.push(id)),
        Some(item) => {
            let old = item.as_str()?.to_owned();
            *item = Item::Value(TomlValue::Array(std::iter::once(old.as_str()).chain(ids).collect::<Array>()));
        }
    }
    Some(format!("{}{document}{}", &text[..front.inner.start], &text[front.inner.end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(text: &str) -> StoryId {
        text.parse().expect("id")
    }

    fn add(text: &str) -> Result<String, EditError> {
        add_ids(&Source::new("s.md", text), "s", Ids::After, &[id("B"), id("C")])
    }

    #[test]
    fn what_the_author_wrote_stays() {
        for (before, after) in [
            (
                "---\nid:   A   # mine\nafter: [ B ]  # why\ntitle: 't'\n---\n# x\n",
                "---\nid:   A   # mine\nafter: [ B, C ]  # why\ntitle: 't'\n---\n# x\n",
            ),
            (
                "---\ntitle: t\nafter:\n  - B # first\n  - D\n\nepic: e\n---\n",
                "---\ntitle: t\nafter:\n  - B # first\n  - D\n  - C\n\nepic: e\n---\n",
            ),
            ("---\ntitle: t\nafter: B # x\n---\n", "---\ntitle: t\nafter: [B, C] # x\n---\n"),
            ("---\ntitle: t\nafter: # nothing yet\n---\n", "---\ntitle: t\nafter: [B, C] # nothing yet\n---\n"),
            ("---\ntitle: t\n# end\n---\n", "---\ntitle: t\n# end\nafter: [B, C]\n---\n"),
            ("# t\n\n- [ ] x\n", "---\nafter: [B, C]\n---\n# t\n\n- [ ] x\n"),
            ("+++\ntitle = \"t\" # x\nafter = [ \"B\" ]\n+++\n", "+++\ntitle = \"t\" # x\nafter = [ \"B\" , \"C\"]\n+++\n"),
            (
                "+++\ntitle = \"t\"\n[budget]\nwall = \"2h\"\n+++\n",
                "+++\ntitle = \"t\"\nafter = [\"B\", \"C\"]\n[budget]\nwall = \"2h\"\n+++\n",
            ),
            ("---\ntitle: t\nafter: [C, B]\n---\n", "---\ntitle: t\nafter: [C, B]\n---\n"),
        ] {
            assert_eq!(add(before).as_deref(), Ok(after), "{before}");
        }
        let error = add("---\ntitle: t\nafter: [B\n---\n").expect_err("broken");
        assert_eq!(error.to_string(), "s.md is written in a way that cannot be edited safely; add `after: [B, C]` to it by hand");
    }

    #[test]
    fn criteria_are_added_below_the_others() {
        let new = [Criterion { id: "AC-9".into(), text: "nine\nlines".into() }];
        for (before, after) in [
            ("# t\n\n- [x] one\n- [ ] two\n\nEnd.\n", "# t\n\n- [x] one\n- [ ] two\n- [ ] AC-9: nine\n  lines\n\nEnd.\n"),
            (
                "# t\n## Acceptance criteria\n* AC-1: one\n\n## Notes\nn\n",
                "# t\n## Acceptance criteria\n* AC-1: one\n* AC-9: nine\n  lines\n\n## Notes\nn\n",
            ),
            ("# t\nText.\n", "# t\nText.\n\n## Acceptance criteria\n- AC-9: nine\n  lines\n"),
        ] {
            assert_eq!(add_criteria(&Source::new("s.md", before), "s", &new).as_deref(), Ok(after), "{before}");
        }
    }

    proptest! {
        #[test]
        fn an_edit_says_what_was_wanted_or_nothing(front in "(after:|  - |\\[|\\]|B|A1|,| |#|\n|\"|title: t\n|epic: x\n){0,12}", body in "(- \\[ \\] |- |x|\n|## Acceptance criteria\n|```\n){0,10}") {
            let text = format!("---\ntitle: t\n{front}\n---\n{body}");
            if let Ok(edited) = add(&text) {
                let story = sound(&Source::new("", &edited), "s").expect("sound");
                prop_assert!(story.after.contains(&id("B")) && story.after.contains(&id("C")));
                prop_assert!(edited.ends_with(&body));
            }
            let new = [Criterion { id: "AC-9".into(), text: "nine".into() }];
            if let Ok(edited) = add_criteria(&Source::new("", &text), "s", &new) {
                prop_assert!(sound(&Source::new("", &edited), "s").expect("sound").criteria.iter().any(|c| c.id == "AC-9"));
            }
        }
    }
}

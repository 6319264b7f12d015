//! `master_spec.md`: one file, a section per heading, each with its acceptance criteria and what it depends on.

use std::collections::BTreeMap;

use super::fields::{Draft, Fields};
use super::markdown::{Item, Outline, is_criteria_heading, item_text, outline, split_id};
use super::story_file::clean_title;
use super::{ArtifactRule, Spec, Story};
use crate::base::id::StoryId;
use crate::base::name::slug;
use crate::base::path;
use crate::base::source::{Problem, Source, Span};
use crate::base::suggest::nearest;
use crate::base::tree::shown;

/// Files with acceptance criteria that sections name, by path; `None` for one that does not exist.
pub type AcceptanceFiles = BTreeMap<String, Option<Source>>;

/// One line such as `**Depends on:** Section 1`.
struct FieldLine {
    key: &'static str,
    value: String,
    value_span: Span,
    line: Span,
}

struct Section {
    heading: Span,
    title: String,
    number: Option<String>,
    body: Span,
    fields: Vec<FieldLine>,
}

/// What people call the fields of a section.
const FIELD_NAMES: [(&str, &str); 17] = [
    ("id", "id"),
    ("depends on", "after"),
    ("dependencies", "after"),
    ("depends", "after"),
    ("after", "after"),
    ("requires", "after"),
    ("wired with", "wired_with"),
    ("integrates with", "wired_with"),
    ("integration check", "wired_with"),
    ("acceptance", "acceptance"),
    ("acceptance file", "acceptance"),
    ("acceptance criteria", "acceptance"),
    ("epic", "epic"),
    ("stream", "stream"),
    ("priority", "priority"),
    ("artifacts", "artifacts"),
    ("checks", "checks"),
];

/// Sections that speak about the whole.
const OVERVIEW: [&str; 12] = [
    "overview",
    "introduction",
    "goal",
    "goals",
    "context",
    "background",
    "summary",
    "notes",
    "non-goals",
    "vision",
    "glossary",
    "constraints",
];

/// The files that [`parse`] wants to see: those that are named, and those that usually belong to a numbered section.
pub fn acceptance_paths(source: &Source) -> Vec<String> {
    let (sections, _) = sections(source);
    let named = sections.iter().flat_map(|s| &s.fields).filter(|f| f.key == "acceptance").filter_map(|f| acceptance_path(&f.value));
    let usual = sections.iter().filter_map(usual_path);
    named.chain(usual).filter(|p| path::flaw(p).is_none()).collect()
}

fn usual_path(section: &Section) -> Option<String> {
    section.number.as_ref().map(|n| format!("docs/acceptance/section-{n}.md"))
}

/// The path in `docs/x.md`, `` `docs/x.md` `` or `[x](docs/x.md)`.
fn acceptance_path(value: &str) -> Option<String> {
    let link = value.split_once("](").and_then(|(_, rest)| rest.split_once(')')).map(|(path, _)| path);
    let path = link.unwrap_or(value).trim().trim_matches('`').trim();
    (path.ends_with(".md") && !path.contains(char::is_whitespace)).then(|| path.to_owned())
}

pub fn parse(source: &Source, files: &AcceptanceFiles) -> (Spec, Vec<Problem>) {
    let mut problems = Vec::new();
    let (sections, outline) = sections(source);
    let mut overview: Vec<String> = Vec::new();
    let start = outline.headings.iter().find(|h| h.level == 1).map_or(0, |h| h.span.end);
    let first = sections.first().map_or(source.text.len(), |s| s.heading.start);
    overview.push(source.text.get(start..first).unwrap_or_default().trim().to_owned());

    let mut stories: Vec<(usize, Story)> = Vec::new();
    let mut wires: Vec<usize> = Vec::new();
    for (index, section) in sections.iter().enumerate() {
        let lower = section.title.to_ascii_lowercase();
        if lower.starts_with("integration check") || lower.starts_with("integration point") {
            wires.push(index);
            continue;
        }
        let criteria = criteria(source, &outline, section, files, &mut problems);
        let is_story = section.number.is_some() || !criteria.0.is_empty() || !section.fields.is_empty();
        if !is_story {
            let text = source.text.get(section.heading.start..section.body.end).unwrap_or_default().trim();
            overview.push(text.to_owned());
            if !OVERVIEW.contains(&lower.trim_end_matches(':')) {
                let what = format!(
                    "the section `{}` has no acceptance criteria, so it is read as part of the overview and nothing is built for it",
                    shown(&section.title)
                );
                problems.push(source.warning(
                    "no-story",
                    &section.heading,
                    what,
                    "give it a list under `### Acceptance criteria`, or name it Overview or Notes",
                ));
            }
            continue;
        }
        if let Some(story) = story(source, section, criteria, &mut problems) {
            stories.push((index, story));
        }
    }
    references(source, &sections, &mut stories, &mut problems);
    for index in wires {
        integration(source, &outline, &sections[index], &sections, &mut stories, &mut problems);
    }
    if stories.is_empty() {
        let next = "write a heading per section, such as `## Section 1: Landing page`, with `### Acceptance criteria` and a list below it";
        problems.push(source.error("no-stories", &(0..1), "this file holds no sections to build", next));
    }
    let overview = overview.into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("\n\n");
    let overview = Some(overview).filter(|t| !t.is_empty());
    (Spec { stories: stories.into_iter().map(|(_, story)| story).collect(), overview }, problems)
}

/// The sections: headings of the level at which `Section N` stands, else of the second.
fn sections(source: &Source) -> (Vec<Section>, Outline) {
    let end = source.text.len();
    let outline = outline(source, 0..end);
    let level = outline.headings.iter().find(|h| numbered(&h.text).is_some()).map_or(2, |h| h.level);
    let indices = (0..outline.headings.len()).filter(|i| outline.headings[*i].level == level && level > 0);
    let sections = indices.map(|index| {
        let heading = &outline.headings[index];
        let body = outline.section(index, end);
        let (number, title) = numbered(&heading.text).map_or((None, heading.text.as_str()), |(n, t)| (Some(n), t));
        let title = clean_title(title);
        let title = if title.is_empty() { clean_title(&heading.text) } else { title };
        Section { heading: heading.span.clone(), title, number, fields: field_lines(source, &body), body }
    });
    (sections.collect(), outline)
}

/// `Section 3: Billing`, `3. Billing`.
fn numbered(heading: &str) -> Option<(String, &str)> {
    let text = heading.trim();
    let (word, rest) = match text.get(..8).filter(|w| w.eq_ignore_ascii_case("section ")) {
        Some(_) => (true, &text[8..]),
        None => (false, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = rest.split_at(end);
    let rest = rest.trim_start();
    let marked = rest.starts_with(['.', ':', ')', '-', '–', '—']);
    (!number.is_empty() && number.len() < 6 && (marked || (word && rest.is_empty())))
        .then(|| (number.to_owned(), rest.trim_start_matches(['.', ':', ')', '-', '–', '—', ' '])))
}

fn field_lines(source: &Source, body: &Span) -> Vec<FieldLine> {
    let mut fields = Vec::new();
    let mut at = body.start;
    let mut fenced = false;
    for line in source.text.get(body.clone()).unwrap_or_default().split_inclusive('\n') {
        let span = at..at + line.len();
        at = span.end;
        let text = line.trim();
        fenced ^= text.starts_with("```") || text.starts_with("~~~");
        let bare = text.trim_start_matches(['-', '*', ' ']).replace("**", "");
        let Some((name, value)) = bare.split_once(':').filter(|_| !fenced && !text.starts_with('#')) else { continue };
        let name = name.trim().to_ascii_lowercase();
        let Some((_, key)) = FIELD_NAMES.iter().find(|(known, _)| *known == name) else { continue };
        let value = value.trim().to_owned();
        // `Acceptance criteria:` above a list is a heading in all but form.
        if value.is_empty() || (*key == "acceptance" && acceptance_path(&value).is_none()) {
            continue;
        }
        let offset = line.find(value.as_str()).unwrap_or_default();
        fields.push(FieldLine {
            key,
            value_span: span.start + offset..span.start + line.trim_end().len().max(offset + 1),
            value,
            line: span,
        });
    }
    fields
}

type Criteria = (Vec<(Option<String>, String, Span)>, Vec<Span>);

/// The criteria of a section, from its own lists or from its acceptance file; and the spans they were taken from.
fn criteria(source: &Source, outline: &Outline, section: &Section, files: &AcceptanceFiles, problems: &mut Vec<Problem>) -> Criteria {
    let within = |span: &Span| span.start >= section.body.start && span.start < section.body.end;
    let is_field = |item: &Item| section.fields.iter().any(|f| item.span.start < f.line.end && f.line.start < item.span.end);
    let mut taken = Vec::new();
    let mut items: Vec<&Item> = Vec::new();
    for (index, heading) in outline.headings.iter().enumerate() {
        if within(&heading.span) && is_criteria_heading(&heading.text) {
            taken.push(heading.span.clone());
            items.extend(outline.items_in(&outline.section(index, section.body.end)).filter(|i| !is_field(i)));
        }
    }
    if taken.is_empty() {
        items.extend(outline.items_in(&section.body).filter(|i| i.checked.is_some() && !is_field(i)));
    }
    taken.extend(items.iter().map(|i| i.span.clone()));
    let mut criteria: Vec<_> = items.into_iter().map(|item| read_item(source, item)).collect();
    let named = section.fields.iter().filter(|f| f.key == "acceptance");
    let named: Vec<(String, Option<&Span>)> = named.filter_map(|f| Some((acceptance_path(&f.value)?, Some(&f.value_span)))).collect();
    let usual = usual_path(section).filter(|_| named.is_empty() && criteria.is_empty()).map(|p| (p, None));
    for (file, span) in named.into_iter().chain(usual) {
        let found = files.get(&file).and_then(Option::as_ref);
        match (found, span, path::flaw(&file)) {
            (Some(file), ..) => criteria.extend(acceptance_file(file).into_iter().map(|(id, text, _)| (id, text, section.heading.clone()))),
            (None, Some(span), Some(flaw)) => {
                problems.push(source.error(
                    "outside-tree",
                    span,
                    format!("`{}` {flaw}", shown(&file)),
                    "name a file inside the repository",
                ));
            }
            (None, Some(span), None) => {
                problems.push(source.error(
                    "missing-file",
                    span,
                    format!("{} does not exist", shown(&file)),
                    "write that file, or put the criteria into this section",
                ));
            }
            (None, None, _) => {}
        }
    }
    (criteria, taken)
}

fn read_item(source: &Source, item: &Item) -> (Option<String>, String, Span) {
    let text = item_text(source, item);
    let (id, text) = split_id(&text);
    (id.map(str::to_owned), super::markdown::dedent(text), if item.content.is_empty() { item.span.clone() } else { item.content.clone() })
}

/// An acceptance file: its criteria section, else its check boxes, else all its items.
fn acceptance_file(file: &Source) -> Vec<(Option<String>, String, Span)> {
    let whole = 0..file.text.len();
    let outline = outline(file, whole.clone());
    let section = (0..outline.headings.len()).find(|i| is_criteria_heading(&outline.headings[*i].text) && outline.headings[*i].level > 1);
    let scope = section.map_or(whole.clone(), |i| outline.section(i, whole.end));
    let ticked = outline.items_in(&scope).any(|i| i.checked.is_some());
    outline.items_in(&scope).filter(|i| !ticked || i.checked.is_some()).map(|item| read_item(file, item)).collect()
}

fn story(source: &Source, section: &Section, (criteria, taken): Criteria, problems: &mut Vec<Problem>) -> Option<Story> {
    let mut draft = Draft { title: Some((section.title.clone(), section.heading.clone())), ..Draft::default() };
    for field in &section.fields {
        let bad = |what: String, next: &str| source.error("bad-value", &field.value_span, what, next);
        match field.key {
            "id" => match field.value.trim_matches('`').parse::<StoryId>() {
                Ok(id) => draft.id = Some((id, field.value_span.clone())),
                Err(error) => problems.push(bad(error.to_string(), "choose an id such as US-1")),
            },
            "epic" => draft.epic = Some(clean_title(&field.value)),
            "stream" => match slug(&field.value) {
                Some(stream) => draft.stream = Some(stream.to_string()),
                None => problems.push(bad(format!("`{}` is no name of a stream", shown(&field.value)), "write letters and digits")),
            },
            "priority" => match field.value.parse::<u64>().ok().filter(|p| (1..=9).contains(p)) {
                Some(priority) => draft.priority = Some(priority),
                None => {
                    problems
                        .push(bad(format!("`{}` is no priority", shown(&field.value)), "write a number from 1, which goes first, to 9"));
                }
            },
            "artifacts" => {
                for word in field.value.split(',').map(|w| w.trim().trim_matches('`')).filter(|w| !w.is_empty()) {
                    match path::glob_flaw(word) {
                        None => draft
                            .artifacts
                            .push((ArtifactRule { path: word.to_owned(), ..ArtifactRule::default() }, field.value_span.clone())),
                        Some(why) => problems.push(source.error(
                            "outside-tree",
                            &field.value_span,
                            format!("the artifact `{}` {why}", shown(word)),
                            "write paths inside the repository",
                        )),
                    }
                }
            }
            "checks" => draft.checks.push(field.value.trim_matches('`').to_owned()),
            _ => {}
        }
    }
    let numbered = section.number.as_ref().map(|n| format!("section-{n}"));
    let Some(id) = numbered.as_deref().map_or_else(|| slug(&section.title.to_lowercase()), slug) else {
        problems.push(super::fields::no_id(source, &section.heading));
        return None;
    };
    let mut removed: Vec<Span> = section.fields.iter().map(|f| f.line.clone()).chain(taken).collect();
    removed.sort_by_key(|s| s.start);
    let mut text = String::new();
    let mut at = section.body.start;
    for span in removed {
        text.push_str(source.text.get(at..span.start).unwrap_or_default());
        at = at.max(span.end);
    }
    text.push_str(source.text.get(at..section.body.end).unwrap_or_default());
    let text = text.replace("\r\n", "\n").trim().to_owned();
    Some(Fields { source, problems }.finish(draft, (id, section.heading.clone()), text, criteria))
}

/// Finds the story that a reference means: an id, `Section 3`, `3`, or a title.
fn resolve(reference: &str, sections: &[Section], stories: &[(usize, Story)]) -> Option<StoryId> {
    let text = reference.trim().trim_matches(['`', '.', '"']).trim();
    let number = text.get(..8).filter(|w| w.eq_ignore_ascii_case("section ")).map_or(text, |_| &text[8..]).trim();
    let found = stories.iter().find(|(index, story)| {
        let section = &sections[*index];
        story.id.as_str() == text || section.number.as_deref() == Some(number) || section.title.eq_ignore_ascii_case(text)
    });
    found.map(|(_, story)| story.id.clone())
}

fn split_references(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ';', '+', '&', '↔']).flat_map(|t| t.split(" and ")).map(str::trim).filter(|t| !t.is_empty())
}

fn unknown(source: &Source, span: &Span, reference: &str, stories: &[(usize, Story)]) -> Problem {
    let names = stories.iter().flat_map(|(_, s)| [s.id.as_str(), s.title.as_str()]);
    let next = nearest(reference, names)
        .map_or_else(|| "name a section by its number, its title or its id".to_owned(), |near| format!("did you mean `{near}`?"));
    source.error("unknown-id", span, format!("`{}` is no section of this file", shown(reference)), next)
}

fn references(source: &Source, sections: &[Section], stories: &mut [(usize, Story)], problems: &mut Vec<Problem>) {
    for i in 0..stories.len() {
        for field in sections[stories[i].0].fields.iter().filter(|f| matches!(f.key, "after" | "wired_with")) {
            if ["none", "nothing", "-", "n/a", "—"].contains(&field.value.trim_end_matches('.').to_ascii_lowercase().as_str()) {
                continue;
            }
            for reference in split_references(&field.value) {
                match resolve(reference, sections, stories) {
                    None => problems.push(unknown(source, &field.value_span, reference, stories)),
                    Some(id) if field.key == "after" => add(&mut stories[i].1, id, &field.value_span, false),
                    Some(id) => {
                        let own = stories[i].1.id.clone();
                        wire(stories, &own, &id, &field.value_span);
                    }
                }
            }
        }
    }
}

/// The two are wired with each other: in a master spec it is said once, for both.
fn wire(stories: &mut [(usize, Story)], a: &StoryId, b: &StoryId, span: &Span) {
    for (_, story) in stories.iter_mut() {
        if story.id == *a && a != b {
            add(story, b.clone(), span, true);
        } else if story.id == *b && a != b {
            add(story, a.clone(), span, true);
        }
    }
}

fn add(story: &mut Story, id: StoryId, span: &Span, wired: bool) {
    let (ids, spans) =
        if wired { (&mut story.wired_with, &mut story.origin.wired_with) } else { (&mut story.after, &mut story.origin.after) };
    if !ids.contains(&id) {
        ids.push(id);
        spans.push(span.clone());
    }
}

/// A section `Integration checks` with items such as `between section 3 and section 4`.
fn integration(
    source: &Source,
    outline: &Outline,
    section: &Section,
    sections: &[Section],
    stories: &mut [(usize, Story)],
    problems: &mut Vec<Problem>,
) {
    for item in outline.items_in(&section.body) {
        let text = item_text(source, item);
        let text = text.lines().next().unwrap_or_default();
        let text = text.split_once(':').map_or(text, |(head, _)| head);
        let text = text.strip_prefix("Between ").or_else(|| text.strip_prefix("between ")).unwrap_or(text);
        let text = text.strip_prefix("sections ").unwrap_or(text);
        let ids: Vec<Option<StoryId>> = split_references(text).map(|r| resolve(r, sections, stories)).collect();
        if ids.len() < 2 || ids.iter().any(Option::is_none) {
            let what = "this integration check does not name two sections";
            problems.push(source.error(
                "unknown-id",
                &item.content,
                what,
                "write `- between section 3 and section 4`, by number, title or id",
            ));
            continue;
        }
        let ids: Vec<StoryId> = ids.into_iter().flatten().collect();
        for (i, a) in ids.iter().enumerate() {
            for b in &ids[i + 1..] {
                wire(stories, a, b, &item.content);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "# Shop\n\nA shop.\n\n## Overview\n\nMore.\n\n## Section 1: Landing\n\nA page.\n\n### Acceptance criteria\n- AC-1: shows\n- works\n\n## Section 2: Auth\n**Depends on:** Section 1\n**Acceptance:** docs/acceptance/auth.md\n\n## Section 3: Billing\n- Depends on: Landing, 2\n- [ ] pays\n\n## Section 4: Settings\nDepends on: Auth\n\n- [ ] saves\n\n## Ideas\n\nLater.\n\n## Integration checks\n- between section 3 and 4: the user flow\n";

    #[test]
    fn sections_become_stories() {
        let source = Source::new("master_spec.md", SAMPLE);
        assert_eq!(acceptance_paths(&source)[0], "docs/acceptance/auth.md");
        let files =
            BTreeMap::from([("docs/acceptance/auth.md".to_owned(), Some(Source::new("auth.md", "# Auth\n- [ ] logs in\n- note\n")))]);
        let (spec, problems) = parse(&source, &files);
        assert_eq!(problems.iter().map(|p| p.rule).collect::<Vec<_>>(), ["no-story"]);
        let shape: Vec<_> =
            spec.stories.iter().map(|s| (s.id.as_str(), s.title.as_str(), s.after.len(), s.wired_with.len(), s.criteria.len())).collect();
        assert_eq!(
            shape,
            [
                ("section-1", "Landing", 0, 0, 2),
                ("section-2", "Auth", 1, 0, 1),
                ("section-3", "Billing", 2, 1, 1),
                ("section-4", "Settings", 1, 1, 1)
            ]
        );
        assert_eq!(spec.stories[0].text, "A page.");
        assert_eq!(spec.stories[1].criteria[0].text, "logs in");
        assert_eq!(spec.overview.as_deref(), Some("A shop.\n\n## Overview\n\nMore.\n\n## Ideas\n\nLater."));
    }

    #[test]
    fn what_is_wrong_is_shown_at_its_place() {
        for (text, rule, line) in [
            ("# X\n", "no-stories", 1),
            ("## Section 1: A\nDepends on: Sektion 9\n- [ ] x\n", "unknown-id", 2),
            ("## Section 1: A\nAcceptance: docs/none.md\n", "missing-file", 2),
            ("## Section 1: A\nAcceptance: ../none.md\n", "outside-tree", 2),
            ("## Section 1: A\nPriority: high\n- [ ] x\n", "bad-value", 2),
            ("## Section 1: A\nArtifacts: /etc/x\n- [ ] x\n", "outside-tree", 2),
            ("## A\n- [ ] x\n## Integration checks\n- everything\n", "unknown-id", 4),
        ] {
            let (_, problems) = parse(&Source::new("x.md", text), &BTreeMap::new());
            let first = problems.iter().find(|p| p.is_error()).expect("error");
            assert_eq!((first.rule, first.place.as_ref().map(|p| p.line)), (rule, Some(line)), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(## Section |## |Depends on:|Acceptance:|- \\[ \\] |[a1:é\\n/., *-]){0,40}") {
            let source = Source::new("x", &text);
            drop(acceptance_paths(&source));
            drop(parse(&source, &BTreeMap::new()));
        }
    }
}

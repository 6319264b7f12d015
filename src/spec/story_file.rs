//! One story in one Markdown file, with front matter in YAML (`---`), in TOML (`+++`), or with none.

use super::fields::{Draft, Fields, LONGEST_LINE};
use super::markdown::{is_criteria_heading, item_text, outline, split_id};
use super::{Criterion, Story};
use crate::base::id::StoryId;
use crate::base::name::slug;
use crate::base::source::{Problem, Source, Span};
use crate::base::tree::{self, Node, Value};

/// What kind of front matter a file has, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontMatter {
    pub toml: bool,
    /// Without the fences.
    pub inner: Span,
    /// Where the Markdown begins.
    pub body: usize,
}

/// A story file. The name, without its ending, becomes the id when the file gives none.
pub fn parse(source: &Source, stem: &str) -> (Option<Story>, Vec<Problem>) {
    read(source, stem, false)
}

/// A prompt: a story file of which nothing but its text is expected.
pub fn parse_prompt(source: &Source, stem: &str) -> (Option<Story>, Vec<Problem>) {
    read(source, stem, true)
}

fn read(source: &Source, stem: &str, prompt: bool) -> (Option<Story>, Vec<Problem>) {
    let mut problems = Vec::new();
    let front = match front_matter(source) {
        Ok(front) => front,
        Err(problem) => return (None, vec![problem]),
    };
    let body = front.as_ref().map_or_else(|| bom(source), |f| f.body)..source.text.len();
    let node = match front.as_ref().map(|f| if f.toml { tree::toml(source, f.inner.clone()) } else { tree::yaml(source, f.inner.clone()) })
    {
        Some(Ok(node)) => node,
        Some(Err(problem)) => return (None, vec![problem]),
        None => Node { span: 0..0, value: Value::Null },
    };
    let mut fields = Fields { source, problems: &mut problems };
    let mut draft = fields.draft(&node);
    let parts = body_parts(source, body.clone(), &mut draft);
    let first_line = body.start..source.text[body.clone()].find('\n').map_or(body.end, |i| body.start + i);

    if draft.title.is_none() && prompt {
        let title =
            clean_title(parts.text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default().trim_start_matches(['#', '-', '*', ' ']));
        if title.is_empty() {
            problems.push(source.error("empty", &first_line, "this prompt says nothing", "write what is to be done"));
            return (None, problems);
        }
        draft.title = Some((crate::base::text::cut(&title, 72), first_line.clone()));
    }
    if draft.title.is_none() {
        problems.push(source.error(
            "missing-key",
            &first_line,
            "this story has no title",
            "add a line such as `# Keys can expire`, or a `title` to its front matter",
        ));
    }
    let Some(fallback) = draft.id.as_ref().map(|(id, _)| id.clone()).or_else(|| slug(stem)) else {
        problems.push(super::fields::no_id(source, &first_line));
        return (None, problems);
    };
    let mut criteria = parts.criteria;
    if prompt && criteria.is_empty() {
        // A prompt is all there is: that it is done is the one thing that can be asked of the work.
        criteria.push((Some("AC-1".into()), "Everything that the prompt asks for is done".into(), first_line.clone()));
    }
    let missing_title = draft.title.is_none();
    let story = Fields { source, problems: &mut problems }.finish(draft, (fallback, first_line), parts.text, criteria);
    ((!missing_title).then_some(story), problems)
}

fn bom(source: &Source) -> usize {
    if source.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 }
}

/// Finds the front matter; a fence that is never closed is an error, because half of the story would be lost in it.
pub fn front_matter(source: &Source) -> Result<Option<FrontMatter>, Problem> {
    let start = bom(source);
    let text = &source.text[start..];
    let mut lines = text.split_inclusive('\n');
    let Some(first) = lines.next() else { return Ok(None) };
    let fence = first.trim_end();
    if fence != "---" && fence != "+++" {
        return Ok(None);
    }
    let inner = start + first.len();
    let mut at = inner;
    for line in lines {
        let word = line.trim_end();
        if word == fence || (fence == "---" && word == "...") {
            return Ok(Some(FrontMatter { toml: fence == "+++", inner: inner..at, body: at + line.len() }));
        }
        at += line.len();
    }
    let what = format!("the front matter that `{fence}` opens is never closed");
    Err(source.error("syntax", &(start..start + fence.len()), what, format!("write `{fence}` on a line of its own after it")))
}

struct Parts {
    text: String,
    criteria: Vec<(Option<String>, String, Span)>,
}

/// Takes title and criteria out of the Markdown; the rest is the story's text.
fn body_parts(source: &Source, body: Span, draft: &mut Draft) -> Parts {
    let outline = outline(source, body.clone());
    let title =
        outline.headings.iter().find(|h| h.level == 1).map(|h| (clean_title(&h.text), h.span.clone())).filter(|(t, _)| !t.is_empty());
    // Criteria in the front matter mean that nothing of the Markdown is taken as anything but text.
    if let Some(criteria) = draft.criteria.take() {
        draft.title = draft.title.take().or(title);
        return Parts { text: normal(&source.text[body]), criteria };
    }
    let mut removed: Vec<Span> = Vec::new();
    if let Some((text, span)) = title
        && draft.title.as_ref().is_none_or(|(given, _)| *given == text)
    {
        removed.push(span.clone());
        draft.title.get_or_insert((text, span));
    }
    let sections: Vec<usize> = (0..outline.headings.len()).filter(|i| is_criteria_heading(&outline.headings[*i].text)).collect();
    let mut criteria = Vec::new();
    let mut take = |item: &super::markdown::Item, removed: &mut Vec<Span>| {
        let text = item_text(source, item);
        let (id, text) = split_id(&text);
        criteria.push((
            id.map(str::to_owned),
            super::markdown::dedent(text),
            if item.content.is_empty() { item.span.clone() } else { item.content.clone() },
        ));
        removed.push(item.span.clone());
    };
    if sections.is_empty() {
        for item in outline.items.iter().filter(|i| i.checked.is_some()) {
            take(item, &mut removed);
        }
    }
    for index in sections {
        let section = outline.section(index, body.end);
        // A heading inside a section that was taken already brings nothing new.
        if removed.contains(&outline.headings[index].span) {
            continue;
        }
        removed.push(outline.headings[index].span.clone());
        for item in outline.items_in(&section) {
            if !removed.contains(&item.span) {
                take(item, &mut removed);
            }
        }
    }
    removed.sort_by_key(|s| s.start);
    let mut text = String::new();
    let mut at = body.start;
    for span in removed {
        text.push_str(source.text.get(at..span.start).unwrap_or_default());
        at = at.max(span.end);
    }
    text.push_str(source.text.get(at..body.end).unwrap_or_default());
    Parts { text: normal(&text), criteria }
}

fn normal(text: &str) -> String {
    text.replace("\r\n", "\n").trim().to_owned()
}

/// A heading as a title: one line without control characters.
pub fn clean_title(text: &str) -> String {
    let words: Vec<&str> = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let title = words.join(" ");
    title[..title.floor_char_boundary(LONGEST_LINE.min(title.len()))].trim().to_owned()
}

/// The story that `--prompt TEXT` makes.
pub fn from_prompt_text(text: &str) -> (Option<Story>, Vec<Problem>) {
    parse_prompt(&Source::new("--prompt", text), "prompt")
}

impl Story {
    /// A new story, as `add` makes it.
    pub fn new(id: StoryId, title: &str, text: &str, criteria: Vec<Criterion>) -> Self {
        let source = Source::new("new story", title);
        Self {
            id,
            title: clean_title(title),
            epic: None,
            stream: None,
            priority: None,
            after: Vec::new(),
            wired_with: Vec::new(),
            artifacts: Vec::new(),
            checks: Vec::new(),
            budget: super::StoryBudget::default(),
            scope: Vec::new(),
            automatable: true,
            text: normal(text),
            criteria,
            origin: super::Origin::at(&source, 0..title.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::print::print;
    use super::*;
    use proptest::prelude::*;

    const SAMPLE: &str = "---\nid: US-1.2\ntitle: Keys can expire\nepic: kvstore\nafter: [US-1.1]\nwired_with: [US-1.3]\nartifacts:\n  - path: kvstore.py\n    contains: [ttl_seconds, _is_expired]\n  - path: tests/test_ttl.py\n    min_tests: 3\nchecks:\n  - python3 -m pytest -q tests/test_ttl.py\nbudget: { iterations: 6, model_calls: 30 }\n---\nValues vanish.\n\n## Acceptance criteria\n- AC-1: `set(key, value, ttl_seconds=n)` stores\n  for n seconds\n- **AC-2**: more\n";

    fn story(text: &str) -> Story {
        let (story, problems) = parse(&Source::new("010-ttl.md", text), "010-ttl");
        assert_eq!(problems, []);
        story.expect("story")
    }

    #[test]
    fn the_story_of_the_documentation_is_read() {
        let story = story(SAMPLE);
        assert_eq!((story.id.as_str(), story.title.as_str(), story.epic.as_deref()), ("US-1.2", "Keys can expire", Some("kvstore")));
        assert_eq!(story.artifacts[0].contains, ["ttl_seconds", "_is_expired"]);
        assert_eq!((story.artifacts[1].min_tests, story.budget.model_calls), (Some(3), Some(30)));
        assert_eq!(story.text, "Values vanish.");
        assert_eq!(story.criteria[0].text, "`set(key, value, ttl_seconds=n)` stores\nfor n seconds");
        assert_eq!((story.criteria[1].id.as_str(), story.criteria[1].text.as_str()), ("AC-2", "more"));
        assert!(print(&story).contains("\n## Acceptance criteria\n- AC-1: `set"), "{}", print(&story));
    }

    #[test]
    fn toml_and_no_front_matter_are_read_too() {
        let toml = story("+++\nid = \"A\"\ntitle = \"T\"\nafter = [\"B\"]\nbudget = { wall = \"2h\" }\n+++\n- [ ] it works\n");
        assert_eq!((toml.after[0].as_str(), toml.criteria[0].text.as_str()), ("B", "it works"));
        let plain = story("# Title here\n\nSome text.\n\n- [ ] first\n- [x] second\n\nEnd.\n");
        assert_eq!((plain.id.as_str(), plain.title.as_str(), plain.criteria.len()), ("010-ttl", "Title here", 2));
        assert_eq!(plain.text, "Some text.\n\nEnd.");
    }

    #[test]
    fn what_is_wrong_is_shown_at_its_place() {
        for (text, rule, line) in [
            ("---\nid: a\n", "syntax", 1),
            ("---\nid: a b\ntitle: t\n---\n", "bad-value", 2),
            ("---\ntitle: t\nafter: [a b]\n---\n", "bad-value", 3),
            ("---\ntitle: t\ndepends_on: [a]\n---\n", "unknown-key", 3),
            ("---\ntitle: t\nartifacts:\n  - path: ../x\n---\n", "outside-tree", 4),
            ("---\ntitle: t\nartifacts:\n  - path: /etc/passwd\n---\n", "outside-tree", 4),
            ("---\ntitle: t\nartifacts:\n  - contains: x\n---\n", "bad-value", 4),
            ("---\ntitle: t\nartifacts:\n  - { path: x, absent: true, min_tests: 1 }\n---\n", "contradiction", 4),
            ("---\ntitle: t\npriority: 12\n---\n", "bad-value", 3),
            ("---\ntitle: t\nautomatable: yes\n---\n", "wrong-kind", 3),
            ("---\ntitle: t\nbudget: { iteration: 3 }\n---\n", "unknown-key", 3),
            ("---\ntitle: t\nbudget: 3\n---\n", "wrong-kind", 3),
            ("---\n- a\n---\n", "wrong-kind", 2),
            ("no title\n", "missing-key", 1),
            ("# T\n- [ ] AC-1: a\n- [ ] AC-1: b\n", "duplicate-id", 3),
            ("# T\n- [ ]\n\n## Acceptance criteria\n-\n", "bad-value", 5),
        ] {
            let (_, problems) = parse(&Source::new("x.md", text), "x");
            let problem = problems.first().unwrap_or_else(|| panic!("{text}"));
            assert_eq!((problem.rule, problem.place.as_ref().map(|p| p.line)), (rule, Some(line)), "{text} {problem:?}");
        }
        let (_, problems) = parse(&Source::new("x.md", "---\ntitle: t\ndepends_on: [a]\n---\n"), "x");
        assert_eq!(problems[0].next, "it is called `after` here");
    }

    #[test]
    fn a_prompt_is_a_story() {
        let (story, problems) = from_prompt_text("Add a flag --verbose to the tool.\nIt prints more.");
        assert_eq!(problems, []);
        let story = story.expect("story");
        assert_eq!((story.id.as_str(), story.title.as_str(), story.criteria.len()), ("prompt", "Add a flag --verbose to the tool.", 1));
        assert_eq!(from_prompt_text(" \n").1[0].rule, "empty");
    }

    fn round_trip(text: &str) -> Result<(), TestCaseError> {
        if let (Some(story), _) = parse(&Source::new("x.md", text), "x") {
            let printed = print(&story);
            let (again, problems) = parse(&Source::new("y.md", &printed), "y");
            prop_assert_eq!(&problems, &[], "{:?}", printed);
            prop_assert_eq!(again.map(|s| s.digest()), Some(story.digest()), "{:?} -> {:?}", text, printed);
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn printing_what_was_read_reads_the_same(body in "([-#*>`+ \\[\\]x:|a1~=\u{e9}\\n\t]|- \\[ \\] |## Acceptance criteria\n|AC-1: |```\n|<!--|\r\n){0,40}", title in "\\PC{1,30}") {
            round_trip(&body)?;
            round_trip(&format!("# {title}\n{body}"))?;
            round_trip(&format!("---\ntitle: {}\n---\n{body}", serde_json::to_string(&title).expect("json")))?;
        }

        #[test]
        fn bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            round_trip(&String::from_utf8_lossy(&bytes))?;
        }

        #[test]
        fn front_matter_reads_as_printed(contains in proptest::collection::vec("\\PC{1,20}", 0..3), check in "\\PC{1,30}", epic in "\\PC{1,12}", criterion in "(\\PC|\\n){1,30}") {
            let mut story = Story::new("A-1".parse().expect("id"), "T: # x", "text", vec![Criterion { id: "AC-1".into(), text: super::super::markdown::dedent(&format!("c {criterion}")) }]);
            let keep = |text: &str| Some(text.trim().to_owned()).filter(|t| !t.is_empty() && !t.chars().any(char::is_control));
            story.epic = keep(&epic);
            story.checks = keep(&check).into_iter().collect();
            story.artifacts = vec![super::super::ArtifactRule { path: "a/b.rs".into(), contains: contains.iter().filter_map(|c| keep(c)).collect(), ..Default::default() }];
            story.budget.usd = Some(2.5);
            story.after = vec!["1.10".parse().expect("id"), "true".parse().expect("id"), "[x],\"y\":#".parse().expect("id")];
            let printed = print(&story);
            let (again, problems) = parse(&Source::new("y.md", &printed), "y");
            prop_assert_eq!(&problems, &[], "{:?}", printed);
            prop_assert_eq!(again.map(|s| s.digest()), Some(story.digest()), "{:?}", printed);
        }
    }
}

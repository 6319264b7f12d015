//! Stories in JSON: `prd.json` as ralph loops use it, and epics → stories as `loopctl import_stories` takes them.

use super::fields::{Draft, Fields};
use super::markdown::dedent;
use super::story_file::clean_title;
use super::{ArtifactRule, Spec, Story};
use crate::base::id::StoryId;
use crate::base::name::{id_of, slug};
use crate::base::path;
use crate::base::source::{Level, Problem, Source, Span, any_error};
use crate::base::tree::{self, Node, shown, wrong_kind};

/// One story with what the file says beside it.
struct Found {
    story: Story,
    /// The file's own order, which ralph loops call priority.
    order: Option<u64>,
    names_dependencies: bool,
}

struct Reader<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
    found: Vec<Found>,
    /// `story_dependencies` beside the epics: the story and what it waits for.
    edges: Vec<(StoryId, StoryId, Span)>,
}

/// Reads any of the known shapes: `{userStories: […]}`, `{stories: […]}`, `{epics: [{stories: […]}]}`, a list of stories, or one story.
pub fn parse(source: &Source) -> (Spec, Vec<Problem>) {
    let root = match tree::json(source) {
        Ok(root) => root,
        Err(problem) => return (Spec::default(), vec![problem]),
    };
    let mut reader = Reader { source, problems: Vec::new(), found: Vec::new(), edges: Vec::new() };
    let is_ralph = first(&root, &["userStories", "user_stories"]).is_some();
    reader.root(&root);
    let overview = first(&root, &["description", "overview"]).and_then(Node::text).map(dedent).filter(|t| !t.is_empty());
    reader.join_edges();
    if is_ralph {
        reader.put_in_order();
    }
    let stories = reader.found.into_iter().map(|f| f.story).collect();
    (Spec { stories, overview }, reader.problems)
}

fn first<'a>(node: &'a Node, names: &[&str]) -> Option<&'a Node> {
    names.iter().find_map(|name| node.get(name)).filter(|n| !n.is_null())
}

impl Reader<'_> {
    fn root(&mut self, root: &Node) {
        if let Some(items) = root.list() {
            return self.stories(items, None);
        }
        let epics = first(root, &["epics"]);
        let stories = first(root, &["userStories", "user_stories", "stories", "tasks", "tests", "items"]);
        match (epics, stories) {
            (Some(epics), _) => match epics.list() {
                Some(epics) => epics.iter().for_each(|epic| self.epic(epic)),
                None => self.problems.push(wrong_kind(self.source, epics, "epics", "a list of epics")),
            },
            (None, Some(stories)) => match stories.list() {
                Some(items) => self.stories(items, None),
                None => self.problems.push(wrong_kind(self.source, stories, "stories", "a list of stories")),
            },
            (None, None) if root.get("title").is_some() => self.stories(std::slice::from_ref(root), None),
            (None, None) => {
                let next = "write a list of stories under \"userStories\" or \"stories\", or epics with stories under \"epics\"";
                self.problems.push(self.source.error(
                    "no-stories",
                    &(root.span.start..root.span.start + 1),
                    "this file holds no stories",
                    next,
                ));
            }
        }
        for edge in first(root, &["story_dependencies", "storyDependencies"]).and_then(Node::list).unwrap_or_default() {
            let id = |names: &[&str]| first(edge, names).and_then(|n| Some((id_of(n.any_text()?)?, n.span.clone())));
            match (id(&["story", "story_number", "from", "id"]), id(&["depends_on", "depends_on_story", "dependsOn", "to", "after"])) {
                (Some((story, _)), Some((needs, span))) => self.edges.push((story, needs, span)),
                _ => self.problems.push(self.source.error(
                    "bad-value",
                    &edge.span,
                    "this dependency does not name two stories",
                    "write {\"story\": …, \"depends_on\": …}",
                )),
            }
        }
    }

    fn epic(&mut self, epic: &Node) {
        let name = first(epic, &["title", "name"]).and_then(Node::any_text).map(clean_title);
        let number = first(epic, &["number", "id"]).and_then(Node::any_text).map(clean_title);
        let label = match (number, name) {
            (Some(number), Some(name)) if number.chars().all(|c| c.is_ascii_digit()) => Some(format!("{number} {name}")),
            (number, name) => name.or(number),
        };
        match first(epic, &["stories", "userStories"]).map(|s| (s, s.list())) {
            Some((_, Some(items))) => self.stories(items, label.filter(|l| !l.is_empty())),
            Some((node, None)) => self.problems.push(wrong_kind(self.source, node, "stories", "a list of stories")),
            None => self.problems.push(Problem {
                level: Level::Warning,
                ..self.source.error(
                    "no-stories",
                    &(epic.span.start..epic.span.start + 1),
                    "this epic holds no stories",
                    "add stories to it, or remove it",
                )
            }),
        }
    }

    fn stories(&mut self, items: &[Node], epic: Option<String>) {
        for item in items {
            if item.table().is_none() {
                self.problems.push(wrong_kind(self.source, item, "stories", "a list of stories, each a table"));
                continue;
            }
            match self.story(item, epic.clone()) {
                Ok(found) => self.found.push(found),
                Err(problem) => self.problems.push(problem),
            }
        }
    }

    /// Foreign files have keys of their own; what we do not know is left aside, what we know is read strictly.
    fn story(&mut self, node: &Node, epic: Option<String>) -> Result<Found, Problem> {
        let source = self.source;
        let mut problems = Vec::new();
        let mut fields = Fields { source, problems: &mut problems };
        let here = node.span.start..node.span.start + 1;
        let mut draft = Draft { epic, ..Draft::default() };
        let title =
            first(node, &["title", "name", "summary"]).map(|n| Ok::<_, Problem>((fields.line(n, "title")?, n.span.clone()))).transpose()?;
        let id_node = first(node, &["id", "number", "story_number", "key"]);
        let id = id_node.and_then(Node::any_text).and_then(id_of).or_else(|| slug(&title.as_ref()?.0));
        let Some(id) = id else { return Err(super::fields::no_id(source, &here)) };
        let id_span = id_node.map_or_else(|| here.clone(), |n| n.span.clone());
        draft.title = title;
        if draft.title.is_none() {
            return Err(source.error("missing-key", &id_span, format!("the story {id} has no title"), "add a \"title\""));
        }
        draft.id = Some((id.clone(), id_span));
        if let Some(label) = first(node, &["epic", "category", "phase"]).and_then(Node::text) {
            draft.epic = draft.epic.or_else(|| Some(clean_title(label)).filter(|t| !t.is_empty()));
        }
        draft.stream = first(node, &["stream"]).and_then(Node::text).and_then(slug).map(|s| s.to_string());
        let dependencies = ["after", "dependsOn", "depends_on", "dependencies", "blockedBy", "blocked_by"].iter().find_map(|n| node.get(n));
        for item in dependencies.map(|n| n.list().unwrap_or(std::slice::from_ref(n))).unwrap_or_default() {
            let named = item.any_text().or_else(|| first(item, &["id", "number", "story"])?.any_text());
            match named.and_then(id_of) {
                Some(after) => draft.after.push((after, item.span.clone())),
                None if item.is_null() => {}
                None => return Err(wrong_kind(source, item, "dependsOn", "a list of ids")),
            }
        }
        if let Some(commands) = first(node, &["checks", "verificationCommands", "verification_commands"]) {
            for command in commands.list().unwrap_or(std::slice::from_ref(commands)) {
                draft.checks.push(fields.line(command, "checks")?);
            }
        }
        for file in first(node, &["filesToModify", "files", "targetFiles", "files_touched"]).and_then(Node::list).unwrap_or_default() {
            // A file that another tool guessed is a prediction; one that cannot be a path in the tree is none.
            if let Some(path) = file.text().filter(|p| path::glob_flaw(p).is_none()) {
                draft.artifacts.push((ArtifactRule { path: path.to_owned(), ..ArtifactRule::default() }, file.span.clone()));
            }
        }
        draft.human = first(node, &["automatable"]).and_then(Node::flag) == Some(false);
        let mut criteria = Vec::new();
        if let Some(list) = first(node, &["acceptanceCriteria", "acceptance_criteria", "criteria", "acs", "steps"]) {
            for item in list.list().unwrap_or(std::slice::from_ref(list)) {
                criteria.push(fields.criterion(item)?);
            }
        }
        let texts = ["description", "text", "notes"].iter().filter_map(|n| Some(dedent(node.get(n)?.text()?))).filter(|t| !t.is_empty());
        let text = texts.collect::<Vec<_>>().join("\n\n");
        let order = first(node, &["priority"]).and_then(Node::count);
        let story = fields.finish(draft, (id, here.clone()), text, criteria);
        let failed = any_error(&problems);
        self.problems.extend(problems);
        if failed {
            // The problems are already collected; the story goes on so that references to it are not reported as unknown too.
            return Ok(Found { story, order, names_dependencies: dependencies.is_some() });
        }
        let done = first(node, &["passes", "completed", "done"]).and_then(Node::flag) == Some(true)
            || first(node, &["status"]).and_then(Node::text).is_some_and(|s| matches!(s, "passed" | "done" | "completed" | "verified"));
        if done {
            self.problems.push(Problem {
                level: Level::Warning,
                ..source.error(
                    "claims-done",
                    &story.origin.head,
                    format!("this file says that {} is done, which is no evidence", shown(story.id.as_str())),
                    format!("if it is: cofferdam backfill {} --commit SHA", story.id),
                )
            });
        }
        Ok(Found { story, order, names_dependencies: dependencies.is_some() })
    }

    fn join_edges(&mut self) {
        for (story, needs, span) in std::mem::take(&mut self.edges) {
            match self.found.iter_mut().find(|f| f.story.id == story) {
                Some(found) if found.story.after.contains(&needs) => {}
                Some(found) => {
                    found.story.after.push(needs);
                    found.story.origin.after.push(span);
                    found.names_dependencies = true;
                }
                None => {
                    let what = format!("this dependency is of {story}, which is no story here");
                    self.problems.push(self.source.error("unknown-id", &span, what, "name a story of this file"));
                }
            }
        }
    }

    /// A ralph loop works through its stories one after the other, by priority. Where the file says nothing else, that is kept.
    fn put_in_order(&mut self) {
        self.found.sort_by_key(|f| f.order.unwrap_or(u64::MAX));
        if self.found.len() < 2 || self.found.iter().any(|f| f.names_dependencies) {
            return;
        }
        let ids: Vec<StoryId> = self.found.iter().map(|f| f.story.id.clone()).collect();
        for (found, before) in self.found.iter_mut().skip(1).zip(ids) {
            found.story.after.push(before);
            found.story.origin.after.push(found.story.origin.head.clone());
        }
        self.problems.push(Problem {
            level: Level::Warning,
            place: None,
            ..Problem::anywhere(
                "in-order",
                format!(
                    "no story of {} says what it depends on, so they are done one after the other, by priority",
                    shown(&self.source.name)
                ),
                "add \"dependsOn\": [] to the stories to let them run side by side",
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(spec: &Spec) -> Vec<String> {
        spec.stories.iter().map(|s| format!("{}<{}", s.id, s.after.iter().map(StoryId::as_str).collect::<Vec<_>>().join("+"))).collect()
    }

    #[test]
    fn a_prd_keeps_its_order_and_a_claim_is_no_evidence() {
        let text = r#"{"project": "x", "description": "About x.", "userStories": [
          {"id": "US-002", "title": "Second", "description": "d", "acceptanceCriteria": ["a", "AC-7: b"], "priority": 2, "passes": false, "notes": "n"},
          {"id": "US-001", "title": "First", "acceptanceCriteria": ["a"], "priority": 1, "passes": true}]}"#;
        let (spec, problems) = parse(&Source::new("prd.json", text));
        assert_eq!(ids(&spec), ["US-001<", "US-002<US-001"]);
        assert_eq!(
            problems.iter().map(|p| (p.level, p.rule)).collect::<Vec<_>>(),
            [(Level::Warning, "claims-done"), (Level::Warning, "in-order")]
        );
        assert_eq!(spec.stories[1].criteria.iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["AC-1", "AC-7"]);
        assert_eq!((spec.stories[1].text.as_str(), spec.overview.as_deref()), ("d\n\nn", Some("About x.")));
    }

    #[test]
    fn epics_and_dependencies_are_read() {
        let text = r#"{"epics": [{"number": 6, "title": "Billing", "stories": [
          {"number": "6.1", "title": "A", "acceptance_criteria": [{"id": "AC-6.1.1", "description": "x"}], "dependencies": []},
          {"number": "6.2", "title": "B", "acceptance_criteria": [{"id": "AC-6.2.1", "text": "y"}]}]}],
          "story_dependencies": [{"story": "6.2", "depends_on": "6.1"}]}"#;
        let (spec, problems) = parse(&Source::new("epics.json", text));
        assert_eq!(problems, []);
        assert_eq!(ids(&spec), ["6.1<", "6.2<6.1"]);
        assert_eq!((spec.stories[0].epic.as_deref(), spec.stories[0].criteria[0].id.as_str()), (Some("6 Billing"), "AC-6.1.1"));
    }

    #[test]
    fn what_is_wrong_is_shown_at_its_place() {
        for (text, rule, line) in [
            ("{}", "no-stories", 1),
            ("{\"stories\": 3}", "wrong-kind", 1),
            ("{\"stories\": [\n3]}", "wrong-kind", 2),
            ("{\"stories\": [\n{\"id\": \"a\"}]}", "missing-key", 2),
            ("{\"stories\": [{\"title\": \"\"}]}", "bad-value", 1),
            ("{\"stories\": [{\"title\": \"…\"}]}", "missing-key", 1),
            ("{\"stories\": [{\"title\": \"t\", \"dependsOn\": [[]]}]}", "wrong-kind", 1),
            ("{\"stories\": [{\"title\": \"t\", \"acceptanceCriteria\": [{\"x\": 1, \"y\": 2}]}]}", "bad-value", 1),
            ("{\"stories\": [{\"title\": \"t\"}], \"story_dependencies\": [{\"story\": \"zz\", \"depends_on\": \"t\"}]}", "unknown-id", 1),
        ] {
            let (_, problems) = parse(&Source::new("x.json", text));
            let problem = problems.first().unwrap_or_else(|| panic!("{text}"));
            assert_eq!((problem.rule, problem.place.as_ref().map(|p| p.line)), (rule, Some(line)), "{text} {problem:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(title in "\\PC{0,9}", id in "\\PC{0,9}", text in "[{}\\[\\]:,\"a0 ]{0,40}") {
            let node = serde_json::json!({"userStories": [{"title": title, "id": id, "acceptanceCriteria": [text.clone()], "dependsOn": [id]}]});
            drop(parse(&Source::new("x", &node.to_string())));
            drop(parse(&Source::new("x", &text)));
        }
    }
}

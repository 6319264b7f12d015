//! The fields of a story, from front matter or JSON: every wrong value named and shown.

use super::{ArtifactRule, Criterion, DataFormat, Equals, Origin, Story, StoryBudget};
use crate::base::duration;
use crate::base::id::StoryId;
use crate::base::name;
use crate::base::path;
use crate::base::source::{Problem, Source, Span};
use crate::base::text::list;
use crate::base::tree::{Entry, Node, shown, unknown_key, wrong_kind};

/// A story as far as it was read.
#[derive(Debug, Default)]
pub struct Draft {
    pub id: Option<(StoryId, Span)>,
    pub title: Option<(String, Span)>,
    pub epic: Option<String>,
    pub stream: Option<String>,
    pub priority: Option<u64>,
    pub after: Vec<(StoryId, Span)>,
    pub wired_with: Vec<(StoryId, Span)>,
    pub artifacts: Vec<(ArtifactRule, Span)>,
    pub checks: Vec<String>,
    pub scope: Vec<String>,
    pub budget: StoryBudget,
    pub human: bool,
    /// `None`: not given here, so the text may hold them.
    pub criteria: Option<Vec<(Option<String>, String, Span)>>,
}

pub const KEYS: [&str; 13] = [
    "id",
    "title",
    "epic",
    "stream",
    "priority",
    "after",
    "wired_with",
    "artifacts",
    "checks",
    "scope",
    "budget",
    "automatable",
    "criteria",
];
pub const ARTIFACT_KEYS: [&str; 15] = [
    "path",
    "contains",
    "regex",
    "symbols",
    "min_tests",
    "absent",
    "min_size",
    "executable",
    "changed",
    "unchanged",
    "json",
    "toml",
    "yaml",
    "command",
    "output",
];
pub const BUDGET_KEYS: [&str; 5] = ["iterations", "model_calls", "tokens", "usd", "wall"];

/// What other tools call our keys.
const OTHER_NAMES: [(&str, &str); 14] = [
    ("depends_on", "after"),
    ("dependsOn", "after"),
    ("dependencies", "after"),
    ("depends", "after"),
    ("requires", "after"),
    ("needs", "after"),
    ("blocked_by", "after"),
    ("acceptance_criteria", "criteria"),
    ("acceptanceCriteria", "criteria"),
    ("acceptance", "criteria"),
    ("name", "title"),
    ("tests", "checks"),
    ("files", "artifacts"),
    ("outputs", "artifacts"),
];

/// One thing a person wrote may be long, but not without end.
pub const LONGEST_LINE: usize = 4096;
const MOST: usize = 1000;

/// Reads fields, and collects what is wrong with them.
#[derive(Debug)]
pub struct Fields<'a> {
    pub source: &'a Source,
    pub problems: &'a mut Vec<Problem>,
}

impl Fields<'_> {
    /// Reads front matter.
    pub fn draft(&mut self, node: &Node) -> Draft {
        let mut draft = Draft::default();
        if node.is_null() {
            return draft;
        }
        let Some(entries) = node.table() else {
            self.problems.push(wrong_kind(self.source, node, "front matter", "a table of keys and values"));
            return draft;
        };
        for entry in entries {
            if let Err(problem) = self.field(&mut draft, entry) {
                self.problems.push(problem);
            }
        }
        draft
    }

    fn field(&mut self, draft: &mut Draft, entry: &Entry) -> Result<(), Problem> {
        let (key, node) = (entry.key.as_str(), &entry.node);
        // A key with nothing after it is as good as no key.
        if node.is_null() && KEYS.contains(&key) {
            return Ok(());
        }
        match key {
            "id" => draft.id = Some((self.story_id(node, key)?, node.span.clone())),
            "title" => draft.title = Some((self.line(node, key)?, node.span.clone())),
            "epic" => draft.epic = Some(self.line(node, key)?),
            "stream" => draft.stream = Some(self.name(node, key)?),
            "priority" => draft.priority = Some(self.count(node, key, 1, 9)?),
            "after" => draft.after = self.ids(node, key)?,
            "wired_with" => draft.wired_with = self.ids(node, key)?,
            "artifacts" => draft.artifacts = self.artifacts(node)?,
            "checks" => draft.checks = self.lines(node, key)?.into_iter().map(|(text, _)| text).collect(),
            "scope" => draft.scope = self.globs(node, key)?,
            "budget" => draft.budget = self.budget(node)?,
            "automatable" => draft.human = !node.flag().ok_or_else(|| wrong_kind(self.source, node, key, "`true` or `false`"))?,
            "criteria" => draft.criteria = Some(self.criteria(node)?),
            other => {
                let mut problem = unknown_key(self.source, entry, "a story", &KEYS);
                if let Some((_, ours)) = OTHER_NAMES.iter().find(|(theirs, _)| *theirs == other) {
                    problem.next = format!("it is called `{ours}` here");
                }
                return Err(problem);
            }
        }
        Ok(())
    }

    fn bad(&self, span: &Span, what: String, next: &str) -> Problem {
        self.source.error("bad-value", span, what, next)
    }

    /// One line of text.
    pub fn line(&self, node: &Node, key: &str) -> Result<String, Problem> {
        let text = node.any_text().ok_or_else(|| wrong_kind(self.source, node, key, "a text"))?.trim();
        if text.is_empty() || text.len() > LONGEST_LINE || text.chars().any(char::is_control) {
            let next = format!("write one line of 1 to {LONGEST_LINE} bytes");
            return Err(self.bad(&node.span, format!("`{key}` is empty, too long, or has line breaks or control characters in it"), &next));
        }
        Ok(text.to_owned())
    }

    fn name(&self, node: &Node, key: &str) -> Result<String, Problem> {
        let text = self.line(node, key)?;
        match name::flaw(&text) {
            None => Ok(text),
            Some(why) => {
                Err(self.bad(&node.span, format!("`{}` is no name: {why}", shown(&text)), "write letters, digits, `.`, `_` and `-`"))
            }
        }
    }

    fn story_id(&self, node: &Node, key: &str) -> Result<StoryId, Problem> {
        let text = self.line(node, key)?;
        text.parse().map_err(|e: crate::base::id::IdError| self.bad(&node.span, e.to_string(), "choose an id such as US-1.2"))
    }

    fn count(&self, node: &Node, key: &str, low: u64, high: u64) -> Result<u64, Problem> {
        let wanted = format!("a whole number from {low} to {high}");
        let n = node.count().ok_or_else(|| wrong_kind(self.source, node, key, &wanted))?;
        if (low..=high).contains(&n) {
            Ok(n)
        } else {
            Err(self.bad(&node.span, format!("`{key}`: {n} is out of bounds"), &format!("write {wanted}")))
        }
    }

    /// A list, or one item without the list around it.
    fn items<'n>(&self, node: &'n Node, key: &str) -> Result<&'n [Node], Problem> {
        let items = node.list().unwrap_or(std::slice::from_ref(node));
        if items.len() > MOST {
            return Err(self.bad(&node.span, format!("`{key}` has more than {MOST} items"), "split the story"));
        }
        Ok(items)
    }

    fn lines(&self, node: &Node, key: &str) -> Result<Vec<(String, Span)>, Problem> {
        self.no_table(node, key, "a list of texts")?;
        self.items(node, key)?.iter().map(|item| Ok((self.line(item, key)?, item.span.clone()))).collect()
    }

    /// Patterns of paths in the tree.
    fn globs(&self, node: &Node, key: &str) -> Result<Vec<String>, Problem> {
        let lines = self.lines(node, key)?;
        for (glob, span) in &lines {
            if let Some(why) = path::glob_flaw(glob) {
                let what = format!("`{}` {why}", shown(glob));
                return Err(self.source.error("outside-tree", span, what, "write a path inside the repository, such as src/**"));
            }
        }
        Ok(lines.into_iter().map(|(glob, _)| glob).collect())
    }

    fn no_table(&self, node: &Node, key: &str, wanted: &str) -> Result<(), Problem> {
        let wrong = node.list().unwrap_or(std::slice::from_ref(node)).iter().find(|n| n.any_text().is_none());
        wrong.map_or(Ok(()), |node| Err(wrong_kind(self.source, node, key, wanted)))
    }

    fn ids(&self, node: &Node, key: &str) -> Result<Vec<(StoryId, Span)>, Problem> {
        self.no_table(node, key, "a list of story ids, such as [US-1.1]")?;
        self.items(node, key)?.iter().map(|item| Ok((self.story_id(item, key)?, item.span.clone()))).collect()
    }

    fn artifacts(&mut self, node: &Node) -> Result<Vec<(ArtifactRule, Span)>, Problem> {
        let mut rules = Vec::new();
        for item in self.items(node, "artifacts")? {
            match self.artifact(item) {
                Ok(rule) => rules.push((rule, item.get("path").map_or_else(|| item.span.clone(), |p| p.span.clone()))),
                Err(problem) => self.problems.push(problem),
            }
        }
        Ok(rules)
    }

    fn artifact(&mut self, node: &Node) -> Result<ArtifactRule, Problem> {
        let mut rule = ArtifactRule::default();
        let path = match node.table() {
            None => node,
            Some(entries) => {
                for entry in entries {
                    let (key, node) = (entry.key.as_str(), &entry.node);
                    let texts = |this: &Self| Ok::<_, Problem>(this.lines(node, key)?.into_iter().map(|(text, _)| text).collect());
                    match key {
                        "path" => {}
                        "contains" => rule.contains = texts(self)?,
                        "regex" => rule.regex = texts(self)?,
                        "symbols" => rule.symbols = texts(self)?,
                        "min_tests" => rule.min_tests = Some(self.count(node, key, 1, 100_000)?),
                        "absent" => rule.absent = self.flag(node, key)?,
                        "min_size" => rule.min_size = Some(self.count(node, key, 0, 1 << 40)?),
                        "executable" => rule.executable = Some(self.flag(node, key)?),
                        "changed" => rule.changed = Some(self.flag(node, key)?),
                        "unchanged" => rule.changed = Some(!self.flag(node, key)?),
                        "json" => self.equals(node, DataFormat::Json, &mut rule)?,
                        "toml" => self.equals(node, DataFormat::Toml, &mut rule)?,
                        "yaml" => self.equals(node, DataFormat::Yaml, &mut rule)?,
                        "command" => rule.command = Some(self.line(node, key)?),
                        "output" => rule.output = Some(self.line(node, key)?),
                        _ => self.problems.push(unknown_key(self.source, entry, "an artifact", &ARTIFACT_KEYS)),
                    }
                }
                node.get("path")
                    .ok_or_else(|| self.bad(&node.span, "this artifact has no `path`".into(), "add a line such as path: src/lib.rs"))?
            }
        };
        rule.path = self.line(path, "path")?;
        if let Some(why) = path::glob_flaw(&rule.path) {
            let what = format!("the artifact `{}` {why}", shown(&rule.path));
            return Err(self.source.error("outside-tree", &path.span, what, "write a path inside the repository, such as src/lib.rs"));
        }
        if rule.output.is_some() && rule.command.is_none() {
            let what = format!("the artifact `{}` wants an output and names no command", shown(&rule.path));
            return Err(self.source.error("contradiction", &path.span, what, "add `command`, or remove `output`"));
        }
        let nothing = ArtifactRule { path: rule.path.clone(), absent: true, ..ArtifactRule::default() };
        let asks = rule != nothing;
        if rule.absent && asks {
            let what = format!("the artifact `{}` must be absent and must hold something", shown(&rule.path));
            return Err(self.source.error("contradiction", &path.span, what, "remove `absent`, or everything but `path` and `absent`"));
        }
        Ok(rule)
    }

    fn flag(&self, node: &Node, key: &str) -> Result<bool, Problem> {
        node.flag().ok_or_else(|| wrong_kind(self.source, node, key, "`true` or `false`"))
    }

    /// `json: { version: 2, servers.0.port: 80 }`
    fn equals(&self, node: &Node, format: DataFormat, rule: &mut ArtifactRule) -> Result<(), Problem> {
        let wanted = "a table of places and values, such as { version: 2 }";
        let entries = node.table().ok_or_else(|| wrong_kind(self.source, node, format.name(), wanted))?;
        for entry in entries {
            let value = entry.node.any_text().ok_or_else(|| wrong_kind(self.source, &entry.node, &entry.key, "one value"))?;
            rule.equals.push(Equals { format, at: entry.key.clone(), value: value.to_owned() });
        }
        Ok(())
    }

    fn budget(&mut self, node: &Node) -> Result<StoryBudget, Problem> {
        let entries = node.table().ok_or_else(|| wrong_kind(self.source, node, "budget", "a table such as { iterations: 6 }"))?;
        let mut budget = StoryBudget::default();
        for entry in entries {
            let (key, node) = (entry.key.as_str(), &entry.node);
            match key {
                "iterations" => budget.iterations = Some(self.count(node, key, 1, 1000)?),
                "model_calls" => budget.model_calls = Some(self.count(node, key, 1, 1_000_000)?),
                "tokens" => budget.tokens = Some(self.count(node, key, 1, 1_000_000_000_000)?),
                "usd" => {
                    let usd = node.number().filter(|n| *n > 0.0 && *n <= 1e9);
                    budget.usd = Some(usd.ok_or_else(|| wrong_kind(self.source, node, key, "a number greater than 0"))?);
                }
                "wall" => {
                    budget.wall =
                        Some(duration::parse(&self.line(node, key)?).map_err(|e| self.bad(&node.span, e.to_string(), "write such as 2h"))?);
                }
                _ => self.problems.push(unknown_key(self.source, entry, "a budget", &BUDGET_KEYS)),
            }
        }
        Ok(budget)
    }

    /// Criteria in front matter: `- AC-1: text`, `- text`, or `- { id: AC-1, text: … }`.
    fn criteria(&mut self, node: &Node) -> Result<Vec<(Option<String>, String, Span)>, Problem> {
        let mut criteria = Vec::new();
        for item in self.items(node, "criteria")? {
            criteria.push(self.criterion(item)?);
        }
        Ok(criteria)
    }

    pub fn criterion(&self, item: &Node) -> Result<(Option<String>, String, Span), Problem> {
        if let Some(text) = item.any_text() {
            let (id, text) = super::markdown::split_id(text.trim());
            return Ok((id.map(str::to_owned), super::markdown::dedent(text), item.span.clone()));
        }
        let entries = item.table().ok_or_else(|| wrong_kind(self.source, item, "criteria", "a list of texts"))?;
        // YAML reads `- AC-1: text` as a table with one key.
        if let [entry] = entries
            && !["text", "id"].contains(&entry.key.as_str())
            && let Some(text) = entry.node.any_text()
        {
            return Ok((Some(entry.key.clone()), super::markdown::dedent(text), item.span.clone()));
        }
        let first = |names: &[&str]| names.iter().find_map(|n| item.get(n)).filter(|n| !n.is_null());
        let text = first(&["text", "description", "criterion", "statement", "title"]);
        let text = text
            .and_then(Node::any_text)
            .ok_or_else(|| self.bad(&item.span, "this criterion has no `text`".into(), "write { id: AC-1, text: … }"))?;
        let id = first(&["id", "number"]).and_then(Node::any_text).map(str::to_owned);
        Ok((id, super::markdown::dedent(text), item.span.clone()))
    }

    /// Makes a story of a draft and of what its text gave. Criteria without an id get the next free `AC-n`.
    pub fn finish(
        &mut self,
        draft: Draft,
        fallback: (StoryId, Span),
        text: String,
        criteria: Vec<(Option<String>, String, Span)>,
    ) -> Story {
        let title_span = draft.title.as_ref().map(|(_, span)| span.clone());
        let (id, head) = draft.id.unwrap_or_else(|| (fallback.0, title_span.unwrap_or(fallback.1)));
        let (after, after_spans) = self.without_repeats("after", draft.after);
        let (wired_with, wired_spans) = self.without_repeats("wired_with", draft.wired_with);
        let (artifacts, artifact_spans) = draft.artifacts.into_iter().unzip();
        let (criteria, criteria_spans) = self.number(criteria);
        let origin = Origin {
            source: self.source.clone(),
            head,
            after: after_spans,
            wired_with: wired_spans,
            artifacts: artifact_spans,
            criteria: criteria_spans,
        };
        Story {
            title: draft.title.map_or_else(|| id.to_string(), |(title, _)| title),
            id,
            epic: draft.epic,
            stream: draft.stream,
            priority: draft.priority,
            after,
            wired_with,
            artifacts,
            checks: draft.checks,
            scope: draft.scope,
            budget: draft.budget,
            automatable: !draft.human,
            text,
            criteria,
            origin,
        }
    }

    fn without_repeats(&mut self, key: &str, ids: Vec<(StoryId, Span)>) -> (Vec<StoryId>, Vec<Span>) {
        let mut kept = (Vec::new(), Vec::new());
        for (id, span) in ids {
            if kept.0.contains(&id) {
                self.problems.push(self.source.warning("repeated", &span, format!("`{key}` names {id} twice"), "remove one of the two"));
            } else {
                kept.0.push(id);
                kept.1.push(span);
            }
        }
        kept
    }

    fn number(&mut self, criteria: Vec<(Option<String>, String, Span)>) -> (Vec<Criterion>, Vec<Span>) {
        let mut taken: std::collections::HashSet<String> = criteria.iter().filter_map(|(id, ..)| id.clone()).collect();
        let mut next = 1;
        let mut kept: (Vec<Criterion>, Vec<Span>) = (Vec::new(), Vec::new());
        for (given, text, span) in criteria {
            if let Some(why) = given.as_deref().and_then(name::flaw) {
                let what = format!("`{}` is no id of a criterion: {why}", shown(given.as_deref().unwrap_or_default()));
                self.problems.push(self.bad(&span, what, "choose an id such as AC-1"));
                continue;
            }
            let id = given.unwrap_or_else(|| {
                while taken.contains(&format!("AC-{next}")) {
                    next += 1;
                }
                let id = format!("AC-{next}");
                taken.insert(id.clone());
                id
            });
            if text.is_empty() {
                self.problems.push(self.bad(&span, format!("the criterion {id} says nothing"), "write what must be true, or remove it"));
            } else if kept.0.iter().any(|c| c.id == id) {
                let what = format!("there are two criteria with the id {id}");
                self.problems.push(self.source.error("duplicate-id", &span, what, "give one of them another id"));
            } else {
                kept.0.push(Criterion { id, text });
                kept.1.push(span);
            }
        }
        kept
    }
}

/// A message for a story that has neither id nor usable name.
pub fn no_id(source: &Source, span: &Span) -> Problem {
    source.error("missing-key", span, "this story has no id", format!("add an id; the keys of a story are {}", list(&KEYS)))
}

//! Rules about the whole of a spec: what each story says may be right, and together it is not.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Spec, Story};
use crate::base::graph;
use crate::base::path;
use crate::base::source::{Problem, Span};
use crate::base::suggest::nearest;
use crate::base::tree::shown;

/// What the configuration says about stories.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `criteria`, `artifacts`, `checks`: what every story must have.
    pub require: Vec<String>,
    /// Streams with settings of their own.
    pub streams: Vec<String>,
    /// Stories may start on a commit that has not landed yet.
    pub stacked: bool,
}

/// Everything that is wrong with a spec as a whole.
pub fn lint(spec: &Spec, rules: &Rules) -> Vec<Problem> {
    let lint = Lint { spec, index: index(spec), stories: &spec.stories };
    let mut problems = lint.duplicates();
    problems.extend(lint.references());
    problems.extend(lint.missing(rules));
    problems.extend(lint.artifacts());
    problems.extend(lint.streams(rules));
    let after = lint.edges(|s| &s.after);
    match graph::levels(&after) {
        Err(cycles) => problems.extend(cycles.iter().map(|cycle| lint.cycle(cycle, &after))),
        Ok(_) => {
            problems.extend(lint.deadlocks(&after, rules));
            problems.extend(lint.opposites(&after));
        }
    }
    problems
}

/// The first story of each id.
fn index(spec: &Spec) -> HashMap<&str, usize> {
    let mut index = HashMap::with_capacity(spec.stories.len());
    for (i, story) in spec.stories.iter().enumerate() {
        index.entry(story.id.as_str()).or_insert(i);
    }
    index
}

struct Lint<'a> {
    spec: &'a Spec,
    index: HashMap<&'a str, usize>,
    stories: &'a [Story],
}

impl<'a> Lint<'a> {
    /// Known edges only, and none to itself: what is unknown has its own problem.
    fn edges(&self, of: impl Fn(&'a Story) -> &'a Vec<crate::base::id::StoryId>) -> Vec<Vec<usize>> {
        let known = |(i, story): (usize, &'a Story)| {
            let ids = of(story).iter().filter_map(|id| self.index.get(id.as_str()).copied());
            ids.filter(|n| *n != i).collect()
        };
        self.stories.iter().enumerate().map(known).collect()
    }

    fn duplicates(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut lower: HashMap<String, &Story> = HashMap::new();
        for (i, story) in self.stories.iter().enumerate() {
            let origin = &story.origin;
            let first = self.index.get(story.id.as_str()).copied().unwrap_or(i);
            if first != i {
                let other = &self.stories[first].origin;
                let place = other.source.place(&other.head);
                let what = format!("there are two stories with the id {}; the other is {}:{}", story.id, place.file, place.line);
                problems.push(origin.source.error("duplicate-id", &origin.head, what, "give one of them another id"));
            } else if let Some(other) = lower.insert(story.id.as_str().to_ascii_lowercase(), story) {
                let what = format!("{} and {} differ only in upper and lower case", story.id, other.id);
                problems.push(origin.source.warning("similar-id", &origin.head, what, "give one of them an id that cannot be confused"));
            }
        }
        problems
    }

    fn references(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for story in self.stories {
            let origin = &story.origin;
            for (key, ids, spans) in [("after", &story.after, &origin.after), ("wired_with", &story.wired_with, &origin.wired_with)] {
                for (i, id) in ids.iter().enumerate() {
                    let span = spans.get(i).unwrap_or(&origin.head);
                    if *id == story.id {
                        let what = format!("{id} names itself in `{key}`");
                        problems.push(origin.source.error("self-reference", span, what, "remove it"));
                    } else if !self.index.contains_key(id.as_str()) {
                        let next = match nearest(id.as_str(), self.stories.iter().map(|s| s.id.as_str())) {
                            Some(near) => format!("did you mean {near}?"),
                            None => "write that story, or remove the id here".to_owned(),
                        };
                        problems.push(origin.source.error("unknown-id", span, format!("{id} is no story"), next));
                    } else if key == "wired_with" && !self.spec.stories[self.index[id.as_str()]].wired_with.contains(&story.id) {
                        let what = format!("{} is wired with {id}, and {id} does not say so; it is taken as said", story.id);
                        problems.push(origin.source.warning("one-sided", span, what, format!("add `wired_with: [{}]` to {id}", story.id)));
                    }
                }
            }
        }
        problems
    }

    fn missing(&self, rules: &Rules) -> Vec<Problem> {
        let mut problems = Vec::new();
        for story in self.stories.iter().filter(|s| s.automatable) {
            let origin = &story.origin;
            for required in &rules.require {
                let (missing, next) = match required.as_str() {
                    "criteria" => {
                        (story.criteria.is_empty(), "add a section `## Acceptance criteria` with a list: what must be true when it is done")
                    }
                    "artifacts" => (story.artifacts.is_empty(), "add `artifacts` to its front matter: the files it must leave"),
                    "checks" => (story.checks.is_empty(), "add `checks` to its front matter: commands that must exit 0"),
                    _ => (false, ""),
                };
                if missing {
                    let noun = if required == "criteria" { "acceptance criteria" } else { required };
                    problems.push(origin.source.error("incomplete", &origin.head, format!("{} has no {noun}", story.id), next));
                }
            }
        }
        problems
    }

    fn artifacts(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for story in self.stories {
            let origin = &story.origin;
            for (i, rule) in story.artifacts.iter().enumerate() {
                let here = origin.artifacts.get(i).unwrap_or(&origin.head);
                for pattern in &rule.regex {
                    if let Err(error) = regex_lite::Regex::new(pattern) {
                        let what = format!("`{}` is no regular expression: {error}", shown(pattern));
                        problems.push(origin.source.error("bad-value", here, what, "mend it, or use `contains` for plain text"));
                    }
                }
                if story.artifacts[..i].iter().any(|other| other.path == rule.path && other.absent != rule.absent) {
                    let what = format!("{} wants {} to be there and to be absent", story.id, shown(&rule.path));
                    problems.push(origin.source.error("contradiction", here, what, "remove one of the two"));
                }
            }
        }
        problems
    }

    fn streams(&self, rules: &Rules) -> Vec<Problem> {
        if rules.streams.is_empty() {
            return Vec::new();
        }
        let unknown = self.stories.iter().filter(|s| s.stream.as_ref().is_some_and(|name| !rules.streams.contains(name)));
        let warn = |story: &Story| {
            let name = story.stream.as_deref().unwrap_or_default();
            let next = nearest(name, rules.streams.iter().map(String::as_str))
                .map_or_else(|| format!("add [stream.{name}] to cofferdam.toml"), |near| format!("did you mean `{near}`?"));
            story.origin.source.warning(
                "unknown-stream",
                &story.origin.head,
                format!("{} is in the stream `{name}`, which has no settings", story.id),
                next,
            )
        };
        unknown.map(warn).collect()
    }

    fn cycle(&self, cycle: &[usize], after: &[Vec<usize>]) -> Problem {
        let names: Vec<&str> = cycle.iter().chain(cycle.first()).map(|n| self.stories[*n].id.as_str()).collect();
        let story = &self.stories[cycle[0]];
        debug_assert!(after[cycle[0]].contains(&cycle[1 % cycle.len()]), "a cycle is made of edges");
        let span = self.span_of_after(story, names[1]);
        let what = format!("these stories wait for each other: {}", names.join(" → "));
        story.origin.source.error("cycle", &span, what, "remove one of these `after`")
    }

    fn span_of_after(&self, story: &Story, id: &str) -> Span {
        let position = story.after.iter().position(|a| a.as_str() == id);
        position.and_then(|i| story.origin.after.get(i)).unwrap_or(&story.origin.head).clone()
    }

    /// Stories that complete together cannot wait for each other's landing.
    fn deadlocks(&self, after: &[Vec<usize>], rules: &Rules) -> Vec<Problem> {
        if rules.stacked {
            return Vec::new();
        }
        let mut problems = Vec::new();
        for group in groups(&self.edges(|s| &s.wired_with)) {
            for member in &group {
                let upstream: BTreeSet<usize> = graph::reachable(after, *member).into_iter().collect();
                for other in group.iter().filter(|o| upstream.contains(o)) {
                    let (story, other) = (&self.stories[*member], &self.stories[*other]);
                    let span = self.span_of_after(story, other.id.as_str());
                    let what = format!(
                        "{} waits for {} to land, and neither lands without the other, because they are wired together",
                        story.id, other.id
                    );
                    let next = "remove the `after` or the `wired_with`, or set run.start_on = \"ready_for_review\"";
                    problems.push(story.origin.source.error("contradiction", &span, what, next));
                }
            }
        }
        problems
    }

    /// One story wants a file, another wants it gone, and nothing says which comes first.
    fn opposites(&self, after: &[Vec<usize>]) -> Vec<Problem> {
        let mut wanted: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        let mut unwanted: Vec<(usize, usize)> = Vec::new();
        for (i, story) in self.stories.iter().enumerate() {
            for (k, rule) in story.artifacts.iter().enumerate() {
                if rule.absent {
                    unwanted.push((i, k));
                } else {
                    wanted.entry(&rule.path).or_default().push(i);
                }
            }
        }
        let mut problems = Vec::new();
        for (i, k) in unwanted.into_iter().take(1000) {
            let story = &self.stories[i];
            let rule = &story.artifacts[k];
            let upstream = graph::reachable(after, i);
            for other in wanted.iter().filter(|(path, _)| path::glob_matches(&rule.path, path)).flat_map(|(_, stories)| stories) {
                if *other != i && upstream.binary_search(other).is_err() && !graph::reachable(after, *other).contains(&i) {
                    let other = &self.stories[*other].id;
                    let what = format!(
                        "{} wants {} to be absent, {other} wants it to be there, and neither comes after the other",
                        story.id,
                        shown(&rule.path)
                    );
                    let span = story.origin.artifacts.get(k).unwrap_or(&story.origin.head);
                    problems.push(story.origin.source.error(
                        "contradiction",
                        span,
                        what,
                        format!("say which comes first: `after: [{other}]`"),
                    ));
                }
            }
        }
        problems
    }
}

/// Groups of what is wired together, directly or through others; each in plan order, only those with more than one member.
pub fn groups(wired: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut both = wired.to_vec();
    for (a, others) in wired.iter().enumerate() {
        for b in others {
            both[*b].push(a);
        }
    }
    let mut seen = vec![false; wired.len()];
    let mut groups = Vec::new();
    for start in 0..wired.len() {
        if seen[start] || both[start].is_empty() {
            continue;
        }
        let mut group = Vec::new();
        let mut todo = vec![start];
        while let Some(node) = todo.pop() {
            if !std::mem::replace(&mut seen[node], true) {
                group.push(node);
                todo.extend(&both[node]);
            }
        }
        group.sort_unstable();
        if group.len() > 1 {
            groups.push(group);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::source::{Level, Source};
    use crate::spec::story_file::parse;

    fn spec(stories: &[&str]) -> Spec {
        let read = |text: &&str| parse(&Source::new("s.md", &format!("---\n{text}\n---\n- [ ] x\n")), "s").0.expect(text);
        Spec { stories: stories.iter().map(read).collect(), overview: None }
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let rules = Rules { require: vec!["criteria".into()], streams: vec!["web".into()], stacked: false };
        for (stories, rule, level, what) in [
            (
                vec!["{id: a, title: t}", "{id: a, title: u}"],
                "duplicate-id",
                Level::Error,
                "two stories with the id a; the other is s.md:2",
            ),
            (vec!["{id: a, title: t}", "{id: A, title: u}"], "similar-id", Level::Warning, "upper and lower case"),
            (vec!["{id: a-1, title: t}", "{id: b, title: u, after: [a1]}"], "unknown-id", Level::Error, "a1 is no story"),
            (vec!["{id: a, title: t, after: a}"], "self-reference", Level::Error, "names itself"),
            (vec!["{id: a, title: t, wired_with: b}", "{id: b, title: u}"], "one-sided", Level::Warning, "b does not say so"),
            (
                vec!["{id: a, title: t, after: c}", "{id: b, title: u, after: a}", "{id: c, title: v, after: b}"],
                "cycle",
                Level::Error,
                "a → c → b → a",
            ),
            (
                vec!["{id: a, title: t, wired_with: c}", "{id: b, title: u, after: a}", "{id: c, title: v, after: b, wired_with: a}"],
                "contradiction",
                Level::Error,
                "neither lands without",
            ),
            (
                vec!["{id: a, title: t, artifacts: [{path: x/y, absent: true}]}", "{id: b, title: u, artifacts: [x/y]}"],
                "contradiction",
                Level::Error,
                "neither comes after",
            ),
            (
                vec!["{id: a, title: t, artifacts: [x, {path: x, absent: true}]}"],
                "contradiction",
                Level::Error,
                "to be there and to be absent",
            ),
            (vec!["{id: a, title: t, artifacts: [{path: x, regex: '('}]}"], "bad-value", Level::Error, "no regular expression"),
            (vec!["{id: a, title: t, stream: wbe}"], "unknown-stream", Level::Warning, "no settings"),
            (vec!["{id: a, title: t, criteria: []}"], "incomplete", Level::Error, "no acceptance criteria"),
        ] {
            let problems = lint(&spec(&stories), &rules);
            assert_eq!(problems.iter().map(|p| (p.rule, p.level)).collect::<Vec<_>>(), [(rule, level)], "{stories:?} {problems:#?}");
            assert!(problems[0].what.contains(what), "{}", problems[0].what);
        }
    }

    #[test]
    fn what_is_right_has_no_problem() {
        let stories = [
            "{id: a, title: t, wired_with: b}",
            "{id: b, title: u, wired_with: a}",
            "{id: c, title: v, after: [a, b], artifacts: [{path: x, absent: true}]}",
            "{id: d, title: w, after: c, artifacts: [x]}",
            "{id: h, title: w, automatable: false, criteria: []}",
        ];
        assert_eq!(lint(&spec(&stories), &Rules { require: vec!["criteria".into()], ..Rules::default() }), []);
    }
}

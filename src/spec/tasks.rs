//! spec-kit's `tasks.md`: each phase becomes a story, its tasks the criteria. Without phases, each task is a story.

use super::fields::{Draft, Fields};
use super::markdown::{Item, dedent, item_text, outline};
use super::story_file::clean_title;
use super::{ArtifactRule, Spec, Story};
use crate::base::id::StoryId;
use crate::base::name::{self, slug};
use crate::base::path;
use crate::base::source::{Level, Problem, Source, Span};

struct Task {
    id: String,
    text: String,
    parallel: bool,
    done: bool,
    span: Span,
}

/// What a phase is for; it decides what waits for what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Everything after it waits for it: setup, foundations, or anything whose kind is not known.
    Step,
    /// A user story: these stand side by side.
    Story,
    /// Waits for everything before it.
    Last,
}

pub fn parse(source: &Source) -> (Spec, Vec<Problem>) {
    let whole = 0..source.text.len();
    let outline = outline(source, whole.clone());
    let mut problems = Vec::new();
    let mut stories = Vec::new();
    let title = outline.headings.iter().find(|h| h.level == 1).map(|h| clean_title(&h.text));
    let phases: Vec<usize> = (0..outline.headings.len()).filter(|i| phase_number(&outline.headings[*i].text).is_some()).collect();
    let mut seen = std::collections::HashSet::new();
    for index in &phases {
        let heading = &outline.headings[*index];
        let section = outline.section(*index, whole.end);
        // A phase ends where the next begins, also when that one stands deeper.
        let end = phases.iter().map(|i| outline.headings[*i].span.start).find(|s| *s > heading.span.start).unwrap_or(whole.end);
        let section = section.start..section.end.min(end);
        let tasks: Vec<Task> = outline.items_in(&section).filter_map(|item| task(source, item)).collect();
        if !tasks.is_empty() {
            let id = phase_id(&heading.text, &mut seen);
            let phase = phase_kind(&heading.text);
            let text = leading_text(source, &outline.items, &section);
            stories.push((phase, story(source, &id, &phase_title(&heading.text), heading.span.clone(), &text, tasks, &mut problems)));
        }
    }
    let stories = if phases.is_empty() { flat(source, &outline.items, &mut problems) } else { chain(stories) };
    if stories.is_empty() {
        let next = "write tasks as `- [ ] T001 What is to be done in src/file.py`";
        problems.push(source.error("no-stories", &(0..1), "this file holds no tasks", next));
    }
    (Spec { stories, overview: title.filter(|t| !t.is_empty()) }, problems)
}

fn phase_number(heading: &str) -> Option<&str> {
    let rest = heading.trim().strip_prefix("Phase ")?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
    (end > 0).then(|| &rest[..end])
}

fn phase_title(heading: &str) -> String {
    let rest = heading.split_once(':').map_or(heading, |(_, rest)| rest);
    let title = clean_title(rest.split("(Priority").next().unwrap_or(rest));
    if title.is_empty() { clean_title(heading) } else { title }
}

fn phase_id(heading: &str, seen: &mut std::collections::HashSet<String>) -> StoryId {
    let number = phase_number(heading).unwrap_or("0");
    let user_story = heading.split("User Story ").nth(1).map(|r| r.chars().take_while(char::is_ascii_digit).collect::<String>());
    let base = user_story.filter(|n| !n.is_empty()).map_or_else(|| format!("phase-{number}"), |n| format!("US{n}"));
    let base = slug(&base).map_or_else(|| "phase".to_owned(), |s| s.to_string());
    let mut id = base.clone();
    let mut n = 2;
    while !seen.insert(id.clone()) {
        id = format!("{}-{n}", base.get(..base.len().min(50)).unwrap_or("phase"));
        n += 1;
    }
    id.parse().unwrap_or_else(|_| unreachable!("a slug and a number are an id"))
}

fn phase_kind(heading: &str) -> Phase {
    let lower = heading.to_ascii_lowercase();
    if lower.contains("user story") {
        Phase::Story
    } else if ["polish", "cross-cutting", "final"].iter().any(|w| lower.contains(w)) {
        Phase::Last
    } else {
        Phase::Step
    }
}

/// `- [ ] T001 [P] [US1] Text`.
fn task(source: &Source, item: &Item) -> Option<Task> {
    let done = item.checked?;
    let text = item_text(source, item);
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((&text, ""));
    let has_id = name::flaw(word).is_none() && word.starts_with('T') && word[1..].starts_with(|c: char| c.is_ascii_digit());
    let (id, mut rest) = if has_id { (word.to_owned(), rest.trim_start()) } else { (String::new(), text.as_str()) };
    let mut parallel = false;
    while let Some((mark, tail)) = rest.strip_prefix('[').and_then(|r| r.split_once(']')).filter(|(m, _)| m.len() < 12 && !m.contains(' '))
    {
        parallel |= mark == "P";
        rest = tail.trim_start();
    }
    Some(Task { id, text: dedent(rest), parallel, done, span: item.content.clone() })
}

/// What stands between the heading and the first task.
fn leading_text(source: &Source, items: &[Item], section: &Span) -> String {
    let end = items.iter().map(|i| i.span.start).find(|s| section.contains(s)).unwrap_or(section.end);
    let text = source.text.get(section.start..end).unwrap_or_default();
    // A heading just before the tasks belongs to them.
    let lines = text.lines().filter(|l| !l.starts_with('#') && l.trim() != "---");
    lines.collect::<Vec<_>>().join("\n").trim().to_owned()
}

fn story(source: &Source, id: &StoryId, title: &str, head: Span, text: &str, tasks: Vec<Task>, problems: &mut Vec<Problem>) -> Story {
    if tasks.iter().any(|t| t.done) {
        let done = tasks.iter().filter(|t| t.done).count();
        let what = format!("{done} of {} tasks of {id} are ticked, which is no evidence: they are verified like the others", tasks.len());
        let next = format!("if all of it is done: cofferdam backfill {id} --commit SHA");
        problems.push(Problem { level: Level::Warning, ..source.error("claims-done", &head, what, next) });
    }
    let mut draft = Draft { title: Some((title.to_owned(), head.clone())), ..Draft::default() };
    for (path, span) in tasks.iter().flat_map(|t| paths(&t.text).map(|p| (p, t.span.clone()))) {
        if !draft.artifacts.iter().any(|(rule, _)| rule.path == path) {
            draft.artifacts.push((ArtifactRule { path: path.to_owned(), ..ArtifactRule::default() }, span));
        }
    }
    let criteria = tasks.into_iter().map(|t| (Some(t.id).filter(|id| !id.is_empty()), t.text, t.span)).collect();
    Fields { source, problems }.finish(draft, (id.clone(), head), text.to_owned(), criteria)
}

/// Words of a task that are file paths: with a folder and an ending.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| c.is_whitespace() || "`\"'(),;".contains(c));
    words.map(|w| w.trim_end_matches(['.', ':'])).filter(|w| {
        let name = w.rsplit('/').next().unwrap_or_default();
        let ending = name.rsplit_once('.').map(|(stem, ending)| (stem.len(), ending));
        w.contains('/')
            && w.is_ascii()
            && !w.contains("://")
            && !w.contains(['*', '?', '[', '{', '<', '→'])
            && ending.is_some_and(|(_, e)| (1..=5).contains(&e.len()) && e.chars().all(|c| c.is_ascii_alphanumeric()))
            && path::glob_flaw(w).is_none()
    })
}

fn chain(stories: Vec<(Phase, Story)>) -> Vec<Story> {
    let mut out = Vec::<Story>::new();
    // The last step that all wait for, and the user stories since then.
    let mut step: Option<StoryId> = None;
    let mut beside: Vec<StoryId> = Vec::new();
    for (phase, mut story) in stories {
        let after: Vec<StoryId> = match phase {
            Phase::Story => step.iter().cloned().collect(),
            Phase::Step | Phase::Last if beside.is_empty() => step.iter().cloned().collect(),
            Phase::Step | Phase::Last => std::mem::take(&mut beside),
        };
        story.origin.after = vec![story.origin.head.clone(); after.len()];
        story.after = after;
        if phase == Phase::Story {
            beside.push(story.id.clone());
        } else {
            step = Some(story.id.clone());
        }
        out.push(story);
    }
    out
}

/// Without phases each task is a story; one without `[P]` waits for all before it, one with waits for the last without.
fn flat(source: &Source, items: &[Item], problems: &mut Vec<Problem>) -> Vec<Story> {
    let mut out = Vec::<Story>::new();
    let mut last: Option<StoryId> = None;
    let mut beside: Vec<StoryId> = Vec::new();
    for (i, task) in items.iter().filter_map(|item| task(source, item)).enumerate() {
        let name = if task.id.is_empty() { format!("task-{}", i + 1) } else { task.id.clone() };
        let Some(id) = slug(&name) else { continue };
        let (parallel, title, span) = (task.parallel, crate::base::text::cut(&clean_title(&task.text), 120), task.span.clone());
        let mut story = story(source, &id, &title, span.clone(), "", vec![Task { id: "AC-1".into(), ..task }], problems);
        story.after = if parallel || beside.is_empty() { last.iter().cloned().collect() } else { std::mem::take(&mut beside) };
        story.origin.after = vec![span; story.after.len()];
        if parallel {
            beside.push(id);
        } else {
            last = Some(id);
        }
        out.push(story);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(spec: &Spec) -> Vec<String> {
        spec.stories.iter().map(|s| format!("{}<{}", s.id, s.after.iter().map(StoryId::as_str).collect::<Vec<_>>().join("+"))).collect()
    }

    #[test]
    fn phases_become_stories_that_wait_for_each_other() {
        let text = "# Tasks: Shop\n\n## Phase 1: Setup\n\n- [x] T001 Make src/app.py\n\n## Phase 2: Foundational\n\n**Purpose**: base\n\n- [ ] T002 [P] Models in `src/models.py`\n\n## Phase 3: User Story 1 - Cart (Priority: P1)\n\n### Tests\n- [ ] T003 [P] [US1] Test in tests/test_cart.py\n### Implementation\n- [ ] T004 [US1] Cart in src/cart.py, see https://x.org/a.b\n\n## Phase 4: User Story 2 - Pay\n\n- [ ] T005 [US2] Pay\n\n## Phase 5: Polish\n\n- [ ] T006 Docs\n\n## Dependencies\n\n- text\n";
        let (spec, problems) = parse(&Source::new("tasks.md", text));
        assert_eq!(shape(&spec), ["phase-1<", "phase-2<phase-1", "US1<phase-2", "US2<phase-2", "phase-5<US1+US2"]);
        assert_eq!(problems.iter().map(|p| p.rule).collect::<Vec<_>>(), ["claims-done"]);
        let cart = &spec.stories[2];
        assert_eq!((cart.title.as_str(), cart.criteria[1].id.as_str()), ("User Story 1 - Cart", "T004"));
        assert_eq!(cart.artifacts.iter().map(|a| a.path.as_str()).collect::<Vec<_>>(), ["tests/test_cart.py", "src/cart.py"]);
        assert_eq!(spec.stories[1].text, "**Purpose**: base");
    }

    #[test]
    fn without_phases_each_task_is_a_story() {
        let (spec, problems) = parse(&Source::new("tasks.md", "- [ ] T001 a\n- [ ] T002 [P] b\n- [ ] T003 [P] c\n- [ ] T004 d\n"));
        assert_eq!(problems, []);
        assert_eq!(shape(&spec), ["T001<", "T002<T001", "T003<T001", "T004<T002+T003"]);
        assert_eq!(parse(&Source::new("tasks.md", "nothing")).1[0].rule, "no-stories");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "(## Phase |- \\[ \\] |T1 |\\[P\\]|User Story |[a1:é\\n/. ]){0,40}") {
            drop(parse(&Source::new("x", &text)));
        }
    }
}

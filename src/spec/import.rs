//! What an import would do to a folder of story files: decided here, done elsewhere.

use std::collections::HashSet;

use super::edit::{self, EditError, Ids};
use super::print::print;
use super::{Criterion, Spec, Story};
use crate::base::id::StoryId;
use crate::base::source::{Level, Problem};

/// One file to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Below the folder of stories; for a file that is replaced, as its story's origin names it.
    pub name: String,
    pub text: String,
    /// It is there already, and is replaced.
    pub replaces: bool,
    pub story: Option<StoryId>,
}

/// What an import comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    pub writes: Vec<Write>,
    /// Stories that are there already and say the same or more.
    pub unchanged: Vec<StoryId>,
    pub problems: Vec<Problem>,
}

/// Turns a spec into files beside those that exist. `names` are the paths below the folder; a file that is replaced has the name that
/// its story's origin names.
///
/// Without `merge` nothing that exists may be met. With it, new stories are added, and those that exist get what is missing:
/// ids to wait for, ids to be wired with, criteria. Nothing an author wrote is removed or rewritten.
pub fn import(existing: &Spec, names: &[String], incoming: &Spec, merge: bool) -> Import {
    let mut out = Import::default();
    let mut new: Vec<&Story> = Vec::new();
    for story in &incoming.stories {
        match existing.get(story.id.as_str()) {
            None => new.push(story),
            Some(_) if !merge => {
                let what = format!("{} exists already", story.id);
                out.problems.push(story.origin.source.error(
                    "exists",
                    &story.origin.head,
                    what,
                    "use --merge to add what is new and leave the rest",
                ));
            }
            Some(old) => out.merge(old, story),
        }
    }
    let mut namer = Namer::new(names, new.len());
    for story in new {
        let name = namer.name(story);
        out.writes.push(Write { name, text: print(story), replaces: false, story: Some(story.id.clone()) });
    }
    if let Some(overview) = incoming.overview.as_ref().filter(|_| existing.overview.is_none()) {
        out.writes.push(Write { name: "00-overview.md".into(), text: format!("{}\n", overview.trim()), replaces: false, story: None });
    }
    out
}

impl Import {
    fn merge(&mut self, old: &Story, new: &Story) {
        let warn = |what: String| Problem {
            level: Level::Warning,
            ..new.origin.source.error("kept", &new.origin.head, what, "change the story file by hand if the new words are better")
        };
        if old.title != new.title {
            self.problems.push(warn(format!("{} keeps its title `{}`", old.id, crate::base::tree::shown(&old.title))));
        }
        let differs = |c: &&Criterion| old.criteria.iter().any(|o| o.id == c.id && o.text != c.text);
        for criterion in new.criteria.iter().filter(differs) {
            self.problems.push(warn(format!("{} keeps its words of {}", old.id, criterion.id)));
        }
        match merged(old, new) {
            Ok(text) if *text == *old.origin.source.text => self.unchanged.push(old.id.clone()),
            Ok(text) => {
                self.writes.push(Write { name: old.origin.source.name.to_string(), text, replaces: true, story: Some(old.id.clone()) });
            }
            Err(error) => {
                let what = error.to_string();
                self.problems.push(old.origin.source.error(
                    "cannot-edit",
                    &old.origin.head,
                    what,
                    "add it by hand, or leave the story out",
                ));
            }
        }
    }
}

/// The file of a story with what the other adds to it.
fn merged(old: &Story, new: &Story) -> Result<String, EditError> {
    let mut source = old.origin.source.clone();
    let stem = stem(&source.name).to_owned();
    for (list, ids) in [(Ids::After, &new.after), (Ids::WiredWith, &new.wired_with)] {
        source.text = edit::add_ids(&source, &stem, list, ids)?.into();
    }
    edit::add_criteria(&source, &stem, &new.criteria)
}

pub fn stem(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// Names new files so that their order is the plan's: `010-keys-can-expire.md`.
#[derive(Debug)]
pub struct Namer {
    taken: HashSet<String>,
    next: u64,
    step: u64,
    width: usize,
}

impl Namer {
    pub fn new(names: &[String], count: usize) -> Self {
        let number = |name: &String| name.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().ok();
        let last = names.iter().filter_map(number).filter(|n| *n < 1_000_000_000).max().unwrap_or_default();
        let count = count as u64;
        let step = if last + 10 * count < 1000 { 10 } else { 1 };
        let next = if step == 10 { (last / 10 + 1) * 10 } else { last + 1 };
        let width = (last + step * count).to_string().len().max(3);
        Self { taken: names.iter().cloned().collect(), next, step, width }
    }

    pub fn name(&mut self, story: &Story) -> String {
        let words: String = story.title.to_lowercase();
        let mut slug = crate::base::name::slug(&words).map_or_else(|| "story".to_owned(), |s| s.as_str().replace('.', "-"));
        slug.truncate(40);
        let slug = slug.trim_end_matches('-');
        let mut name = format!("{:0width$}-{slug}.md", self.next, width = self.width);
        let mut n = 2;
        while !self.taken.insert(name.clone()) {
            name = format!("{:0width$}-{slug}-{n}.md", self.next, width = self.width);
            n += 1;
        }
        self.next += self.step;
        name
    }
}

/// The order of story files: by their numbers first, so that 1000 comes after 990.
pub fn order(name: &str) -> Vec<(u64, String)> {
    let part = |part: &str| {
        let digits: String = part.chars().take_while(char::is_ascii_digit).take(18).collect();
        (digits.parse().unwrap_or(u64::MAX), part.to_owned())
    };
    name.split('/').map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::source::Source;
    use crate::spec::story_file::parse;

    fn story(name: &str, text: &str) -> Story {
        parse(&Source::new(name, text), stem(name)).0.expect("story")
    }

    #[test]
    fn new_stories_become_files_in_plan_order() {
        let a = story("a.md", "---\nid: A\ntitle: Keys can expire!\n---\n- [ ] x\n");
        let b = story("b.md", "---\nid: B\ntitle: Keys can expire!\nafter: A\n---\n- [ ] x\n");
        let incoming = Spec { stories: vec![a, b], overview: Some("About".into()) };
        let import = import(&Spec::default(), &["015-x.md".into()], &incoming, false);
        assert_eq!(import.problems, []);
        assert_eq!(
            import.writes.iter().map(|w| w.name.as_str()).collect::<Vec<_>>(),
            ["020-keys-can-expire.md", "030-keys-can-expire.md", "00-overview.md"]
        );
        for write in &import.writes[..2] {
            assert_eq!(parse(&Source::new("x", &write.text), "x").1, []);
        }
        assert_eq!(Namer::new(&[], 10_000).name(&incoming.stories[0]), "00001-keys-can-expire.md");
    }

    #[test]
    fn a_merge_adds_and_never_rewrites() {
        let old = story("stories/a.md", "---\nid: A\ntitle: Mine   # as I like it\n---\nText.\n\n- [ ] AC-1: mine\n");
        let existing = Spec { stories: vec![old], overview: None };
        let new = story("x.md", "---\nid: A\ntitle: Theirs\nafter: [Z]\n---\n- [ ] AC-1: theirs\n- [ ] AC-2: more\n");
        let incoming = Spec { stories: vec![new], overview: None };
        assert_eq!(import(&existing, &[], &incoming, false).problems[0].rule, "exists");
        let merged = import(&existing, &[], &incoming, true);
        assert_eq!(
            merged.problems.iter().map(|p| (p.rule, p.level)).collect::<Vec<_>>(),
            [("kept", Level::Warning), ("kept", Level::Warning)]
        );
        assert_eq!(
            merged.writes[0].text,
            "---\nid: A\ntitle: Mine   # as I like it\nafter: [Z]\n---\nText.\n\n- [ ] AC-1: mine\n- [ ] AC-2: more\n"
        );
        assert!(merged.writes[0].replaces);
        assert_eq!(import(&existing, &[], &existing, true).unchanged.len(), 1);
    }
}

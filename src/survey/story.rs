//! The first story: small, useful in any repository, and checked by rules and not by words alone. Pure.

use super::{Found, Seen};
use crate::base::id::StoryId;
use crate::spec::print::print;
use crate::spec::{ArtifactRule, Criterion, Story};

/// Its file, in the folder of the stories.
pub const FILE: &str = "010-how-to-check.md";
const ID: &str = "US-1";
/// Where people look for how to work on a project.
const PAGES: [&str; 3] = ["CONTRIBUTING.md", "DEVELOPMENT.md", "docs/development.md"];

/// A story that writes down, for people, what the gates say to machines. `None` only if its id were none.
pub fn first(seen: &Seen, found: &Found) -> Option<String> {
    let exists = |page: &str| seen.files.keys().any(|path| path.eq_ignore_ascii_case(page));
    let page = PAGES.into_iter().find(|page| !exists(page)).unwrap_or(PAGES[0]);
    let commands: Vec<&str> = found.gates.iter().map(|gate| gate.human.as_str()).take(4).collect();
    let id: StoryId = ID.parse().ok()?;
    let text = format!(
        "A newcomer finds on one page how this project is built and tested.\n\n\
         `{page}` is short: what has to be installed, the commands, and what they print when all is well."
    );
    let mut criteria: Vec<String> = vec![format!("`{page}` says in one sentence what this project is")];
    match commands.as_slice() {
        [] => criteria.push(format!("`{page}` says how the project is built and tested, or that there are no tests yet")),
        commands => {
            let list: Vec<String> = commands.iter().map(|command| format!("`{command}`")).collect();
            criteria.push(format!("`{page}` names the commands that must succeed before a change lands: {}", list.join(", ")));
        }
    }
    criteria.push("no other file changes".to_owned());
    let criteria = criteria.into_iter().zip(1..).map(|(text, n)| Criterion { id: format!("AC-{n}"), text }).collect();
    let mut story = Story::new(id, "One page says how this project is checked", &text, criteria);
    let contains = commands.into_iter().map(str::to_owned).collect();
    story.artifacts = vec![ArtifactRule { path: page.to_owned(), contains, changed: Some(true), ..ArtifactRule::default() }];
    story.scope = vec![page.to_owned()];
    Some(print(&story))
}

//! How the demo tells what happens: one short line for what a person wants to know, and nothing for the rest. Pure.

use std::collections::BTreeMap;

use clap::builder::styling::{AnsiColor, Style};
use jiff::Timestamp;

use super::facts::{Facts, STORIES, Story};
use crate::base::text::{cut, one_line, plural};
use crate::event::{Event, Kind, Task, Verdict};

/// Lines are no longer than the narrowest usual terminal.
const WIDTH: usize = 80;
/// Where the text of a live line begins.
const INDENT: usize = 30;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const TITLE: Style = Style::new().bold();

/// Shows paths as a person knows them.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) home: String,
    pub(super) repository: String,
}

impl Names {
    fn short(&self, text: &str) -> String {
        one_line(text).replace(&self.home, "~").replace(&self.repository, "club")
    }
}

/// Tells a run while it goes on.
#[derive(Debug)]
pub(super) struct Teller {
    names: Names,
    began: Option<Timestamp>,
    passed: BTreeMap<String, u32>,
    /// What agents last said of their own work.
    claims: BTreeMap<String, String>,
    looked: bool,
}

fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Breaks a text at spaces; what is longer than a line stays whole.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + 1 + word.chars().count() <= width) {
            Some(line) => *line = format!("{line} {word}"),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A paragraph with a first line that begins in its own way.
fn paragraph(first: &str, indent: usize, text: &str) -> String {
    wrap(text, WIDTH - indent).iter().enumerate().fold(String::new(), |all, (number, line)| match number {
        0 => format!("{first}{line}"),
        _ => format!("{all}\n{:indent$}{line}", ""),
    })
}

impl Teller {
    pub(super) fn new(names: Names) -> Self {
        Self { names, began: None, passed: BTreeMap::new(), claims: BTreeMap::new(), looked: false }
    }

    /// The line of an event, when it has one.
    pub(super) fn line(&mut self, event: &Event) -> Option<String> {
        let began = *self.began.get_or_insert(event.at);
        let story = event.story.as_ref().map(ToString::to_string).unwrap_or_default();
        let (style, word, text) = self.said(&story, &event.kind)?;
        let seconds = event.at.duration_since(began).as_secs_f64();
        let head = format!("{seconds:4.1} s  {:<10} {}", one_line(&story), styled(style, &format!("{word:<9}")));
        Some(paragraph(&format!("{head}  "), INDENT, &text))
    }

    fn said(&mut self, story: &str, kind: &Kind) -> Option<(Style, &'static str, String)> {
        let plain = Style::new();
        Some(match kind {
            Kind::TargetChecked { green: true, .. } if !self.looked => {
                self.looked = true;
                (plain, "green", "the repository's own tests pass: work may begin".to_owned())
            }
            Kind::AttemptStarted { task: Task::Implement, .. } => (plain, "begins", "an agent, in a sandbox of its own".to_owned()),
            Kind::AttemptStarted { task: Task::Repair, .. } => {
                self.passed.remove(story);
                (plain, "repairs", "a fresh agent, told what was wrong".to_owned())
            }
            Kind::SandboxDenied { operation, target, errno, .. } => {
                let errno = errno.as_deref().unwrap_or("refused");
                (BAD, "DENIED", format!("{operation} {} → {}", self.names.short(target), one_line(errno)))
            }
            Kind::AttemptEnded { summary, .. } => {
                self.claims.insert(story.to_owned(), summary.clone().unwrap_or_default());
                return None;
            }
            Kind::EvaluatorFinished { verdict: Verdict::Pass, .. } => {
                *self.passed.entry(story.to_owned()).or_default() += 1;
                return None;
            }
            Kind::EvaluatorFinished { evaluator, verdict: Verdict::Fail, findings, .. } => {
                let finding = findings.first();
                let text = finding.and_then(|f| f.text.lines().next()).unwrap_or("it is not good").trim_end_matches(':');
                let text = match finding.and_then(|finding| finding.path.as_deref()) {
                    Some(path) if !text.contains(path) => format!("{path}: {text}"),
                    _ => text.to_owned(),
                };
                let text = format!("by {}: {}", one_line(evaluator), cut(&self.names.short(&text), 160));
                if evaluator != "integrity" {
                    return Some((plain, "sent back", text));
                }
                let claim = self.claims.get(story).filter(|claim| !claim.is_empty());
                let claim = claim.map(|claim| format!("; it had said “{}”", cut(&one_line(claim), 60)));
                (BAD, "CAUGHT", text + &claim.unwrap_or_default())
            }
            Kind::StoryReady { .. } => {
                let passed = self.passed.get(story).copied().unwrap_or_default();
                (plain, "proven", format!("{} and the gate agree", plural(u64::from(passed), "evaluator", "evaluators")))
            }
            Kind::CandidateRefused { findings, .. } => {
                let path = findings.iter().find_map(|finding| finding.path.as_deref()).unwrap_or("the whole");
                (BAD, "CONFLICT", format!("in {}; back to its agent with both sides", one_line(path)))
            }
            Kind::StoryLanded { commit, .. } => (GOOD, "LANDED", format!("as {}, the commit that was tested", commit.short())),
            Kind::IntegrationChecked { green: true, .. } => (plain, "green", "a walk through all pages there are".to_owned()),
            Kind::IntegrationChecked { detail, .. } => (BAD, "RED", detail.clone().unwrap_or_default()),
            Kind::StoryBlocked { block } => (BAD, "BLOCKED", block.question.clone()),
            Kind::StoryEscalated { detail, .. } => (BAD, "STOPPED", detail.clone()),
            Kind::StoryStagnated { .. } => (BAD, "STOPPED", "nothing gets better any more".to_owned()),
            _ => return None,
        })
    }
}

/// What each story is there to show, for `--list`.
pub(super) const SHOWS: [(&str, &str); 5] = [
    ("landing", "an agent that does its work; it lands at once"),
    ("auth", "weakens a test that stands in its way; the integrity guard catches it, a fresh agent repairs it, it lands"),
    (
        "settings",
        "tries to read ~/.ssh, to open a connection and to plant a git hook; the kernel denies all three; it is repaired and lands",
    ),
    ("dashboard", "works beside billing, and both change the same line"),
    ("billing", "works beside dashboard; whichever comes second meets the conflict and resolves it"),
];

pub(super) fn list() -> String {
    let mut lines = vec!["The stories of the demo, in the order of its plan:".to_owned(), String::new()];
    lines.extend(SHOWS.iter().map(|(story, shows)| paragraph(&format!("  {story:<11}"), 13, shows)));
    lines.join("\n")
}

/// What became of a story, in words.
fn came_of(id: &str, story: &Story, facts: &Facts, names: &Names) -> Vec<String> {
    let mut said = Vec::new();
    if let Some(caught) = story.caught_by("integrity") {
        let path = caught.path.as_deref().unwrap_or_default();
        said.push(format!(
            "weakened a test and said that all was green; caught by the integrity guard ({path}: {})",
            one_line(&caught.text)
        ));
    }
    if !story.denied.is_empty() {
        said.push(format!("was denied by the kernel, {}:", plural(story.denied.len() as u64, "time", "times")));
        said.extend(story.denied.iter().map(|denied| {
            let errno = denied.errno.as_deref().unwrap_or("refused");
            format!("  {:<7} {} → {}", one_line(&denied.call), names.short(&denied.target), one_line(errno))
        }));
    }
    if let Some(path) = &story.conflict {
        let before = facts.landed.iter().map(|(id, _)| id.as_str()).take_while(|landed| *landed != id).last();
        said.push(format!("conflicted with {} in {}; resolved with both sides in front of it", before.unwrap_or("main"), one_line(path)));
    }
    let end = match (&story.landed, story.attempts) {
        (Some(commit), 1) => format!("landed at the first attempt, as {}", commit.short()),
        (Some(commit), _) => format!("repaired by a fresh agent, and landed as {}", commit.short()),
        (None, _) => {
            format!("did not land: {}", one_line(story.stopped.as_deref().or(facts.ended.as_deref()).unwrap_or("the run ended before")))
        }
    };
    said.push(end);
    said
}

/// What the demo ends in.
#[derive(Debug)]
pub(super) struct Ending<'a> {
    pub(super) facts: &'a Facts,
    pub(super) names: &'a Names,
    pub(super) checks: &'a [(&'static str, bool)],
    /// `abc1234 subject`, the first one first.
    pub(super) history: &'a [String],
    pub(super) evidence: usize,
    pub(super) layers: (usize, usize),
    pub(super) seconds: f64,
    /// The folder that is kept, and where its state is.
    pub(super) kept: Option<(&'a str, &'a str)>,
}

pub(super) fn summary(ending: &Ending<'_>) -> String {
    let Ending { facts, names, checks, history, evidence, layers, seconds, kept } = ending;
    let failed: Vec<&str> = checks.iter().filter(|(_, held)| !held).map(|(what, _)| *what).collect();
    let mut lines = vec![String::new()];
    let head = format!("{} of {} stories landed in {seconds:.1} s", facts.landed.len(), STORIES.len());
    lines.push(styled(TITLE, &head));
    lines.push(String::new());
    let nothing = Story::default();
    for id in STORIES {
        let story = facts.stories.get(id).unwrap_or(&nothing);
        for (number, text) in came_of(id, story, facts, names).iter().enumerate() {
            let first = if number == 0 { format!("  {id:<11}") } else { " ".repeat(13) };
            // What is indented is a line of a table.
            lines.push(if text.starts_with(' ') { format!("{first}{text}") } else { paragraph(&first, 13, text) });
        }
    }
    lines.extend([String::new(), styled(TITLE, "The history of main, green at every commit"), String::new()]);
    lines.extend(history.iter().map(|line| format!("  {}", cut(&one_line(line), WIDTH - 2))));
    lines.push(String::new());
    let agents = format!(
        "{} of agents nobody trusts, each behind {} of the kernel, {} of them tried from inside before it began. {} of {} checks on what they did hold. {} in a chained log, {} of evidence.",
        plural(u64::from(facts.agents), "process", "processes"),
        plural(layers.0 as u64, "layer", "layers"),
        layers.1,
        checks.len() - failed.len(),
        checks.len(),
        plural(facts.events, "event", "events"),
        plural(*evidence as u64, "piece", "pieces"),
    );
    lines.push(paragraph("", 0, &agents));
    match kept {
        Some((_, state)) => lines.push(format!("evidence: {state}/evidence")),
        None => lines.push("Everything of it is gone again; --keep DIR leaves it to explore.".to_owned()),
    }
    lines.extend([String::new(), styled(TITLE, "Next"), String::new()]);
    let next: [(String, &str); 3] = match kept {
        Some((folder, _)) => [
            (format!("cd {folder} && cofferdam show auth"), "who was caught, by whom"),
            ("cofferdam log settings".to_owned(), "what was denied, event by event"),
            ("cofferdam evidence show landing".to_owned(), "the proof of a landing"),
        ],
        None => [
            ("cofferdam demo --keep club".to_owned(), "the same, left to explore"),
            ("cofferdam exec -- COMMAND".to_owned(), "one command in such a sandbox"),
            ("cofferdam init".to_owned(), "begin in a repository of yours"),
        ],
    };
    let wide = next.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    lines.extend(next.iter().map(|(command, what)| format!("  {command:<wide$}  {what}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_no_wider_than_a_narrow_terminal() {
        let text = "weakened a test that stood in its way and was caught by somebody who looked at what was left of it";
        let paragraph = paragraph("  auth       ", 13, text);
        assert!(paragraph.lines().all(|line| line.chars().count() <= WIDTH), "{paragraph}");
        assert_eq!(paragraph.split_whitespace().skip(1).collect::<Vec<_>>().join(" "), text);
        assert!(list().lines().all(|line| line.chars().count() <= WIDTH));
        assert_eq!(SHOWS.map(|(story, _)| story), STORIES);
    }
}

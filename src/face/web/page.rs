//! The pages. Everything that a stranger wrote goes through [`text`]; there is no other way into a page. Pure.

use jiff::Timestamp;

use super::super::cli::log::{end_word, gate_word, summary, verdict_word};
use super::super::cli::revert;
use super::super::cli::show::{Shown, conclusion_word, next};
use super::super::cli::state::{clock, status_word};
use super::super::cli::status::{by_phase, progress};
use super::super::cli::why::Because;
use crate::base::id::{EvidenceId, StoryId};
use crate::base::text::{cut, escape_html as text, one_line, plural};
use crate::event::Verdict;
use crate::store::fold::Overview;
use crate::store::health::{Runner, Status};
use crate::store::{Stored, StoryRow};
use crate::story::facts::{Attempt, End};
use crate::story::{Story, phase};

/// Texts of agents are cut here; what they really said is evidence.
const LONGEST: usize = 600;

/// What an overview shows.
pub(super) struct Seen<'a> {
    pub(super) project: &'a str,
    pub(super) runner: &'a Runner,
    pub(super) overview: &'a Overview,
    pub(super) rows: &'a [StoryRow],
    pub(super) news: &'a [Stored],
    pub(super) now: Timestamp,
}

fn add(page: &mut String, part: &str) {
    page.push_str(part);
}

fn short(said: &str) -> String {
    text(&cut(&one_line(said), LONGEST))
}

/// The frame of every page. `root` leads from the page to the first one, as a path.
fn page(root: &str, title: &str, main: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\" data-root=\"{root}\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{}</title>\n<link rel=\"stylesheet\" href=\"{root}style.css\">\n\
         <link rel=\"icon\" href=\"data:,\">\n<script src=\"{root}follow.js\" defer></script>\n</head>\n<body>\n<main>\n{main}</main>\n</body>\n</html>\n",
        text(title)
    )
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = &str>| cells.map(|cell| format!("<{tag}>{cell}</{tag}>")).collect::<String>();
    let rows: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", &mut row.iter().map(String::as_str)))).collect();
    format!("<div class=\"scroll\"><table>\n<tr>{}</tr>\n{rows}</table></div>\n", cells("th", &mut head.iter().copied()))
}

/// The colour says what the word says.
fn tone(state: &str) -> &'static str {
    match state {
        "merged" | "backfilled" | "ready_for_review" | "running" | "green" | "pass" => "good",
        "blocked" | "escalated" | "stagnated" | "hung" => "wait",
        "reverted" | "error" | "red" | "fail" => "bad",
        "cancelled" | "pending" | "stopped" | "open" => "soft",
        _ => "busy",
    }
}

fn toned(word: &str) -> String {
    format!("<span class=\"{}\">{}</span>", tone(word), text(word))
}

fn story_link(root: &str, id: &str) -> String {
    match id.parse::<StoryId>() {
        Ok(parsed) => format!("<a href=\"{root}story/{}\">{}</a>", text(&parsed.encoded()), text(id)),
        Err(_) => text(id),
    }
}

fn evidence_link(root: &str, id: &EvidenceId) -> String {
    format!("<a href=\"{root}evidence/{id}\"><code>{}</code></a>", text(id.short()))
}

/// What a human is asked, and what they type.
fn asks(who: &str, reason: &str, question: &str, next: Option<&str>) -> String {
    let next = next.map(|next| format!("<p><code>{}</code></p>", text(next))).unwrap_or_default();
    format!("<div class=\"asks\"><p>{who} <span class=\"wait\">{}</span>: {}</p>{next}</div>\n", text(reason), short(question))
}

fn events(news: &[Stored], root: &str) -> String {
    let rows: Vec<Vec<String>> = news
        .iter()
        .rev()
        .map(|stored| {
            let said = stored.event().map_or_else(|error| format!("(unreadable: {error})"), |event| summary(&event.kind));
            let story = stored.story.as_deref().map(|id| story_link(root, id)).unwrap_or_default();
            vec![stored.seq.to_string(), text(&clock(&stored.at)), story, text(&stored.kind), short(&said)]
        })
        .collect();
    table(&["event", "when", "story", "what", ""], &rows)
}

/// The first page: everything at a glance.
pub(super) fn overview(root: &str, seen: &Seen<'_>) -> String {
    let Seen { project, runner, overview, rows, news, now } = seen;
    let (merged, total) = progress(rows);
    let mut main = format!("<h1>{}</h1>\n", text(project));
    let process = runner.pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    let detail = runner.detail.as_deref().map(|detail| format!(", {}", text(detail))).unwrap_or_default();
    add(&mut main, &format!("<p>runner {}{process}{detail}", toned(status_word(runner.status))));
    if let Some(target) = &overview.target {
        let health = target.green.map_or("not checked", |green| if green { "green" } else { "red" });
        add(&mut main, &format!(" · {} at <code>{}</code> {}", text(&target.reference), text(target.commit.short()), toned(health)));
    }
    if let Some(reason) = &overview.paused {
        add(&mut main, &format!(" · <span class=\"wait\">paused by a human</span> {}", text(reason)));
    }
    add(&mut main, &format!(" · <span class=\"soft\">as of {}</span></p>\n", text(&clock(&now.to_string()))));
    if runner.status == Status::Hung {
        add(&mut main, "<p class=\"wait\">Its heartbeat is old: nothing moves until it is ended and started again.</p>\n");
    }
    if total > 0 {
        add(&mut main, &format!("<progress value=\"{merged}\" max=\"{total}\"></progress>\n"));
    }
    add(
        &mut main,
        &format!(
            "<p>{merged} of {} merged <span class=\"soft\">({})</span></p>\n",
            plural(total, "story", "stories"),
            text(&by_phase(rows))
        ),
    );
    let waiting = rows.iter().filter(|row| row.next.is_some());
    let reverts = overview.reverts.iter().filter(|(_, revert)| revert.waits_for_human());
    let reverts: String = reverts
        .map(|(story, of)| {
            let next = format!("cofferdam approve {story}");
            asks(&story_link(root, story.as_str()), "revert", &revert::line(story, of), Some(&next))
        })
        .collect();
    let waiting: String = waiting
        .map(|row| {
            let (reason, question) = (row.reason.as_deref().unwrap_or("waits"), row.question.as_deref().unwrap_or_default());
            asks(&story_link(root, &row.id), reason, question, row.next.as_deref())
        })
        .collect();
    if !waiting.is_empty() || !reverts.is_empty() {
        add(&mut main, &format!("<h2>Waiting for a human</h2>\n{reverts}{waiting}"));
    }
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let attempt = if row.attempt == 0 { String::new() } else { row.attempt.to_string() };
            let commit = row
                .commit
                .as_deref()
                .map(|commit| format!("<code>{}</code>", text(commit.get(..10).unwrap_or(commit))))
                .unwrap_or_default();
            vec![story_link(root, &row.id), toned(&row.phase), attempt, commit, short(&row.title)]
        })
        .collect();
    add(&mut main, &format!("<h2>Stories</h2>\n{}", table(&["story", "state", "attempt", "commit", "title"], &lines)));
    add(&mut main, &format!("<h2>What happened</h2>\n{}", events(news, root)));
    page(root, &format!("{merged}/{total} {project}"), &main)
}

/// One story, with all that its state rests on.
pub(super) fn story(root: &str, shown: &Shown, because: &Because, news: &[Stored]) -> String {
    let story = &shown.story;
    let phase = phase(story);
    let mut main =
        format!("<p><a href=\"{root}\">all stories</a></p>\n<h1>{} {}</h1>\n", text(story.id.as_str()), short(&story.spec.title));
    add(&mut main, &format!("<p>{} because {}</p>\n", toned(phase.name()), short(&because.why)));
    if let (Some((reason, question)), Some(next)) = (phase.reason(), next(story, &phase)) {
        main.push_str(&asks("", reason, question, Some(&next)));
    }
    if let Some(End::Merged { commit, .. }) = &story.end {
        add(&mut main, &format!("<p>landed as <code>{}</code></p>\n", text(commit.as_str())));
    }
    if let Some(change) = story.change() {
        let files = plural(change.files, "file", "files");
        let diff = format!("<a href=\"{root}diff/{}\">the change</a>", text(&story.id.encoded()));
        add(&mut main, &format!("<p>commit <code>{}</code>, {files}: {diff}</p>\n", text(change.commit.as_str())));
    }
    let criteria: Vec<Vec<String>> =
        shown.criteria().iter().map(|c| vec![text(c.id), toned(c.result), short(c.text), short(c.evidence.unwrap_or_default())]).collect();
    if !criteria.is_empty() {
        add(&mut main, &format!("<h2>Acceptance criteria</h2>\n{}", table(&["", "", "criterion", "evidence"], &criteria)));
    }
    for attempt in story.attempts.iter().rev() {
        main.push_str(&of_attempt(root, story, attempt));
    }
    let papers: Vec<Vec<String>> =
        shown.evidence.iter().map(|used| vec![evidence_link(root, &used.id), text(&used.what), used.seq.to_string()]).collect();
    if !papers.is_empty() {
        add(&mut main, &format!("<h2>Evidence</h2>\n{}", table(&["sha256", "what", "event"], &papers)));
    }
    add(&mut main, &format!("<h2>What happened</h2>\n{}", events(news, root)));
    page(root, &format!("{} {}", story.id, phase.name()), &main)
}

fn of_attempt(root: &str, story: &Story, attempt: &Attempt) -> String {
    let end =
        attempt.ended.as_ref().map_or_else(|| if attempt.started { "runs".to_owned() } else { "has not started".to_owned() }, end_word);
    let agent = attempt.agent.as_deref().map(|agent| format!(" by {}", text(agent))).unwrap_or_default();
    let came = attempt.conclusion.as_ref().map(|_| format!(", {}", text(conclusion_word(story, attempt)))).unwrap_or_default();
    let mut said = format!("<h2>Attempt {}{agent}</h2>\n<p>{}{came}</p>\n", attempt.no, short(&end));
    let links = |evidence: &[EvidenceId]| evidence.iter().map(|id| evidence_link(root, id)).collect::<Vec<_>>().join(" ");
    let mut rows: Vec<Vec<String>> = Vec::new();
    for (name, result) in &attempt.results {
        let word = if result.verdict == Verdict::Fail { "fail" } else { verdict_word(result.verdict) };
        let findings: Vec<String> = result
            .findings
            .iter()
            .take(20)
            .map(|finding| {
                let place = match (&finding.path, finding.line) {
                    (Some(path), Some(line)) => format!("<code>{}:{line}</code> ", text(path)),
                    (Some(path), None) => format!("<code>{}</code> ", text(path)),
                    (None, _) => String::new(),
                };
                format!("{place}{}", short(&finding.text))
            })
            .collect();
        rows.push(vec![text(name), toned(word), findings.join("<br>"), links(&result.evidence)]);
    }
    for (name, run) in &attempt.gates {
        let detail = run.detail.as_deref().and_then(|detail| detail.trim_end().lines().next_back()).unwrap_or_default();
        rows.push(vec![format!("gate {}", text(name)), toned(gate_word(run.result)), short(detail), links(&run.evidence)]);
    }
    if !rows.is_empty() {
        said.push_str(&table(&["judge", "verdict", "", "evidence"], &rows));
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::fold::Revert;
    use proptest::prelude::*;

    #[test]
    fn a_revert_that_is_ready_waits_for_a_human() {
        let shown = |ready, approved| {
            let candidate = "1".repeat(40).parse().expect("an id");
            let revert = Revert { candidate, why: "<b>red".to_owned(), ready, approved };
            let reverts = [("US-1".parse().expect("an id"), revert)].into();
            let overview = Overview { reverts, ..Overview::default() };
            let runner = Runner { status: Status::Stopped, pid: None, heartbeat: None, detail: None };
            let seen = Seen { project: "p", runner: &runner, overview: &overview, rows: &[], news: &[], now: Timestamp::UNIX_EPOCH };
            super::overview("/r/", &seen)
        };
        let page = shown(true, false);
        assert!(page.contains("Waiting for a human") && page.contains("<code>cofferdam approve US-1</code>"), "{page}");
        assert!(page.contains("/r/story/US-1") && page.contains("&lt;b&gt;red") && !page.contains("<b>"), "{page}");
        for (ready, approved) in [(false, false), (true, true)] {
            assert!(!shown(ready, approved).contains("Waiting for a human"));
        }
    }

    proptest! {
        #[test]
        fn what_strangers_wrote_opens_no_tag_and_leaves_no_attribute(said in "[a-z<>&\"'=/!\\-\n\u{1b}\u{202e}\u{0}]{0,40}") {
            for cell in [text(&said), short(&said), asks("", &said, &said, Some(&said)), toned(&said), story_link("/r/", &said)] {
                for tag in cell.split('<').skip(1) {
                    let name = tag.trim_start_matches('/').split(['>', ' ']).next().unwrap_or("");
                    prop_assert!(["div", "p", "span", "code", "a"].contains(&name), "{}", cell);
                }
                prop_assert!(!cell.contains(['\u{1b}', '\u{202e}', '\u{0}', '\'']), "{}", cell);
                let attributes = cell.matches('"').count();
                prop_assert_eq!(attributes % 2, 0);
            }
            prop_assert!(!text(&said).contains('"'));
        }
    }
}

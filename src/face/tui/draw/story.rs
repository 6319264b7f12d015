//! One story: where it stands, each criterion with what each evaluator said of it, its attempts, and what is being said at this moment.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::super::data::Item;
use super::super::model::{Part, Screen};
use super::super::text::{age, width, wrap};
use super::super::theme::{Tone, of_phase};
use super::row::{Row, labelled, list, rule, scrolled, wrapped};
use crate::base::text::plural;
use crate::event::{Finding, GateResult, Verdict};
use crate::face::cli::log::{end_word, gate_word, verdict_word};
use crate::face::cli::show::conclusion_word;
use crate::face::cli::why::because;
use crate::story::budget::{cycles, iterations, money};
use crate::story::facts::{Attempt, Conclusion, End, Story};
use crate::story::feedback;

/// From this width on, facts and words stand beside each other.
const BESIDE: u16 = 120;
/// Lines of one finding.
const FINDING: usize = 3;

pub(super) fn render(screen: &Screen, buffer: &mut Buffer, area: Rect) -> usize {
    let Some(item) = screen.chosen() else { return 0 };
    let words_are_there = screen.data.words.story == item.row.id && !screen.data.words.lines.is_empty();
    let part = if screen.part == Part::Both && !words_are_there { Part::Facts } else { screen.part };
    let (facts_area, words_area) = areas(part, area);
    let mut reach = 0;
    if let Some(area) = facts_area {
        let rows = facts(screen, item, usize::from(area.width).saturating_sub(1));
        reach = scrolled(buffer, area, &rows, screen.scroll, screen.look);
    }
    if let Some(area) = words_area {
        // Where only the words are shown, they are what scrolls: from the end, because the end is the news.
        let scroll = if screen.part == Part::Words { screen.scroll } else { 0 };
        let found = words(screen, item, buffer, area, scroll);
        reach = if screen.part == Part::Words { found } else { reach };
    }
    reach
}

fn areas(part: Part, area: Rect) -> (Option<Rect>, Option<Rect>) {
    match part {
        Part::Facts => (Some(area), None),
        Part::Words => (None, Some(area)),
        Part::Both if area.width >= BESIDE => {
            let left = area.width * 11 / 20;
            (Some(Rect { width: left - 1, ..area }), Some(Rect { x: area.x + left, width: area.width - left, ..area }))
        }
        Part::Both => {
            let low = (area.height * 2 / 5).max(3).min(area.height);
            let top = area.height - low;
            (Some(Rect { height: top, ..area }), Some(Rect { y: area.y + top, height: low, ..area }))
        }
    }
}

/// The words from the end back; says how far back they go.
fn words(screen: &Screen, item: &Item, buffer: &mut Buffer, area: Rect, back: usize) -> usize {
    let columns = usize::from(area.width);
    let words = &screen.data.words;
    let is_its = words.story == item.row.id;
    let title = if is_its && !words.title.is_empty() { words.title.as_str() } else { "nothing was said yet" };
    list(buffer, area, &[rule(title, columns)], 0, screen.look);
    let below = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let lines: &[String] = if is_its { &words.lines } else { &[] };
    let mut rows: Vec<Row> = Vec::new();
    for line in lines {
        rows.extend(wrapped(1, Tone::Plain, line, columns, 4));
    }
    let reach = rows.len().saturating_sub(usize::from(below.height));
    list(buffer, below, &rows, reach - back.min(reach), screen.look);
    reach
}

fn facts(screen: &Screen, item: &Item, columns: usize) -> Vec<Row> {
    let (story, phase) = (&item.story, &item.phase);
    let mut rows = wrapped(1, Tone::Strong, &format!("{}  {}", item.row.id, item.row.title), columns, 3);
    let since = item.since.map(|at| u64::try_from(screen.now.duration_since(at).as_secs()).unwrap_or(0));
    let since = since.map(|seconds| format!(", for {}", age(seconds))).unwrap_or_default();
    let epic = story.spec.epic.as_deref().map(|epic| format!("  (epic {epic})")).unwrap_or_default();
    rows.extend(labelled(" state", of_phase(phase.name()), &format!("{}{since}{epic}", phase.name()), columns));
    if let Some(runner) = &screen.data.runner {
        let because = because(story, &screen.data.phases, &screen.data.overview, runner, screen.now);
        rows.extend(labelled(" because", Tone::Plain, &because.why, columns));
        rows.extend(because.next.iter().flat_map(|next| labelled(" next", Tone::Ask, next, columns)));
    }
    if let Some(End::Merged { commit, .. }) = &story.end {
        rows.extend(labelled(" landed", Tone::Good, commit.short(), columns));
    } else if let Some(change) = story.change() {
        let text = format!("{} ({})", change.commit.short(), plural(change.files, "file", "files"));
        rows.extend(labelled(" commit", Tone::Plain, &text, columns));
    }
    let limits = &story.spec.rules.limits;
    let cost = story.spent_total.cost_microusd;
    let cost = if cost > 0 { format!(", {}", money(cost)) } else { String::new() };
    let budget = format!(
        "{} of {} iterations, {} of {} review-fix cycles{cost}",
        iterations(story),
        limits.iterations,
        cycles(story),
        limits.review_cycles
    );
    rows.extend(labelled(" budget", Tone::Plain, &budget, columns));
    rows.extend(criteria(item, columns));
    if let Some(attempt) = story.attempt() {
        rows.extend(judges(item, attempt, columns));
    }
    for attempt in story.attempts.iter().rev() {
        let landed = matches!(story.end, Some(End::Merged { .. })) && story.attempt().is_some_and(|last| last.no == attempt.no);
        rows.extend(of_attempt(story, attempt, landed, columns));
    }
    for blocked in feedback::blocked_approaches(story) {
        let text = format!("{} (failed {})", blocked.summary, plural(u64::from(blocked.times), "time", "times"));
        rows.push(Row::of(Tone::Strong, " approach that is blocked"));
        rows.extend(wrapped(3, Tone::Plain, &text, columns, FINDING));
    }
    for note in story.notes.iter().rev() {
        rows.extend(labelled(&format!(" {}", note.kind), Tone::Plain, &note.text, columns));
    }
    rows
}

/// Criteria down, evaluators that judge single criteria across.
fn criteria(item: &Item, columns: usize) -> Vec<Row> {
    let spec = &item.story.spec;
    let attempt = item.story.attempts.iter().rev().find(|attempt| !attempt.results.is_empty());
    let judged: Vec<(&String, _)> = attempt
        .into_iter()
        .flat_map(|attempt| &attempt.results)
        .filter(|(_, result)| result.proof == spec.proof && !result.criteria.is_empty())
        .collect();
    let ids = spec.criteria.iter().map(|criterion| width(&criterion.id)).max().unwrap_or(0).clamp(8, 14);
    let cell = |name: &str| width(name).clamp(4, 12) + 2;
    // Room for the words comes first.
    let mut room = columns.saturating_sub(ids + 4 + columns / 3);
    let shown: Vec<_> = judged
        .iter()
        .filter(|(name, _)| {
            let fits = room >= cell(name);
            room = room.saturating_sub(cell(name));
            fits
        })
        .collect();
    let mut head = Row::of(Tone::Plain, " ").column(Tone::Strong, "criteria", ids + 2);
    for (name, _) in &shown {
        head = head.column(Tone::Dim, name, cell(name));
    }
    let mut rows = vec![Row::new(), head];
    for criterion in &spec.criteria {
        let mut row = Row::of(Tone::Plain, "  ").column(Tone::Strong, &criterion.id, ids + 1);
        for (name, result) in &shown {
            let said = result.criteria.iter().filter(|said| said.id == criterion.id).map(|said| said.pass).min();
            let (tone, word) = match said {
                Some(true) => (Tone::Good, "✓ pass"),
                Some(false) => (Tone::Bad, "✗ fail"),
                None => (Tone::Dim, "–"),
            };
            row = row.column(tone, word, cell(name));
        }
        if judged.is_empty() {
            row = row.column(Tone::Dim, "open", 6);
        }
        let used = row.width();
        let mut lines = wrap(&super::super::text::clean(&criterion.text), columns.saturating_sub(used)).into_iter();
        rows.push(row.say(Tone::Plain, &lines.next().unwrap_or_default()));
        rows.extend(lines.take(2).map(|line| Row::of(Tone::Plain, &" ".repeat(used)).say(Tone::Plain, &line)));
    }
    rows
}

/// What every evaluator and gate says of the current attempt, on as few lines as it takes.
fn judges(item: &Item, attempt: &Attempt, columns: usize) -> Vec<Row> {
    let rules = &item.story.spec.rules;
    let mut said: Vec<(String, Tone, String)> = Vec::new();
    for name in &rules.evaluators {
        let result = attempt.results.get(name).filter(|result| result.proof == item.story.spec.proof);
        let (tone, word) = match result {
            None => (Tone::Dim, "–".to_owned()),
            Some(result) if result.verdict == Verdict::Fail => (Tone::Bad, format!("✗ fail {}", result.problems)),
            Some(result) => match result.verdict {
                Verdict::Pass => (Tone::Good, "✓ pass".to_owned()),
                other => (Tone::Ask, verdict_word(other).to_owned()),
            },
        };
        said.push((name.clone(), tone, word));
    }
    for name in &rules.gates {
        let (tone, word) = match attempt.gates.get(name) {
            None => (Tone::Dim, "–".to_owned()),
            Some(run) => {
                let tone = match run.result {
                    GateResult::Pass => Tone::Good,
                    GateResult::Red => Tone::Bad,
                    GateResult::Cancelled | GateResult::Error => Tone::Ask,
                };
                let mark = match run.result {
                    GateResult::Pass => "✓ ",
                    GateResult::Red => "✗ ",
                    GateResult::Cancelled | GateResult::Error => "",
                };
                (tone, format!("{mark}{}{}", gate_word(run.result), if run.flaky { ", flaky" } else { "" }))
            }
        };
        said.push((format!("gate {name}"), tone, word));
    }
    let mut rows = vec![Row::new(), Row::of(Tone::Strong, &format!(" evaluators of attempt {}", attempt.no))];
    let mut row = Row::of(Tone::Plain, "  ");
    for (name, tone, word) in said {
        let cell = width(&name) + 1 + width(&word) + 3;
        if row.width() > 2 && row.width() + cell > columns {
            rows.push(std::mem::replace(&mut row, Row::of(Tone::Plain, "  ")));
        }
        row = row.say(Tone::Plain, &format!("{name} ")).say(tone, &word).say(Tone::Plain, "   ");
    }
    rows.push(row);
    rows
}

fn of_attempt(story: &Story, attempt: &Attempt, has_landed: bool, columns: usize) -> Vec<Row> {
    let agent = attempt.agent.as_deref().map(|agent| format!(" by {agent}")).unwrap_or_default();
    let end = match (&attempt.ended, attempt.started) {
        (Some(end), _) => end_word(end),
        (None, true) => "runs".to_owned(),
        (None, false) => "has not started".to_owned(),
    };
    let task = format!("{:?}", attempt.task).to_lowercase();
    let conclusion = match (&attempt.conclusion, has_landed) {
        (None, true) => ", landed".to_owned(),
        (None, false) => String::new(),
        (Some(_), _) => format!(", {}", conclusion_word(story, attempt)),
    };
    let what = format!("attempt {} ({task}{agent}): {end}{conclusion}", attempt.no);
    let mut rows = vec![Row::new()];
    rows.extend(wrapped(1, Tone::Strong, &what, columns, 3));
    rows.extend(attempt.declared.iter().flat_map(|text| wrapped(3, Tone::Plain, &format!("approach: {text}"), columns, FINDING)));
    if let Some(Conclusion::Failed(failure)) = &attempt.conclusion {
        for finding in failure.why.iter().take(10) {
            rows.extend(wrapped(3, Tone::Plain, &format!("- {}", of_finding(finding)), columns, FINDING));
        }
        let more = failure.why.len().saturating_sub(10);
        rows.extend((more > 0).then(|| Row::of(Tone::Dim, &format!("   … and {more} more"))));
    }
    rows.extend(
        attempt.diagnosis.iter().flat_map(|made| wrapped(3, Tone::Plain, &format!("diagnosis: {}", made.summary), columns, FINDING)),
    );
    rows
}

fn of_finding(finding: &Finding) -> String {
    match (&finding.path, finding.line) {
        (Some(path), Some(line)) => format!("{path}:{line}: {}", finding.text),
        (Some(path), None) => format!("{path}: {}", finding.text),
        (None, _) => finding.text.clone(),
    }
}

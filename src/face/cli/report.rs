//! `cofferdam report`: the whole run as a page, in Markdown or HTML. One list of blocks, two ways to write it: what strangers wrote is
//! escaped in one place for each.

use std::path::PathBuf;
use std::process::ExitCode;

use super::failure::{Exit, Failure};
use super::printer;
use super::show::{Shown, conclusion_word, next};
use super::state::{self, State};
use super::status::{by_phase, progress};
use crate::base::text::{cut, escape_html, one_line, plural};
use crate::store::Store;
use crate::story::budget::money;
use crate::story::facts::End;
use crate::story::phase;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[arg(long, value_enum, default_value = "markdown")]
    format: Format,
    /// Write it to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Markdown,
    Html,
}

/// What a page is made of.
#[derive(Debug)]
enum Block {
    Heading(u8, String),
    Paragraph(String),
    List(Vec<String>),
    Table(Vec<&'static str>, Vec<Vec<String>>),
}

/// # Errors
/// When the store cannot be read, or the file cannot be written.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let store = State::find()?.store()?;
    let blocks = match &store {
        Some(store) => page(store)?,
        None => vec![Block::Heading(1, "Report".to_owned()), Block::Paragraph("Nothing has run in this repository yet.".to_owned())],
    };
    let text = match args.format {
        Format::Markdown => markdown(&blocks),
        Format::Html => html(&blocks),
    };
    match &args.output {
        None => printer::out(text.trim_end()),
        Some(path) => fs_err::write(path, text)
            .map_err(|error| Failure::new(Exit::Failure, "the report could not be written").because(&error).next("choose another file"))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn page(store: &Store) -> Result<Vec<Block>, Failure> {
    let overview = store.overview().map_err(state::failure)?;
    let rows = store.stories().map_err(state::failure)?;
    let (merged, total) = progress(&rows);
    let mut blocks = vec![Block::Heading(1, "Report".to_owned())];
    let mut facts = vec![
        format!("{merged} of {total} stories merged ({})", by_phase(&rows)),
        format!("{} spent, as far as it was reported", money(overview.spent.cost_microusd)),
    ];
    if let Some(target) = &overview.target {
        let health = target.green.map_or("not checked", |green| if green { "green" } else { "red" });
        facts.push(format!("{} at {} ({health})", target.reference, target.commit));
    }
    if let Some(at) = overview.last_at {
        facts.push(format!("{}, the last at {at}, chain head {}", plural(overview.events, "event", "events"), overview.head));
    }
    blocks.push(Block::List(facts));
    let waiting: Vec<String> =
        rows.iter().filter_map(|row| Some(format!("{}: {} ({})", row.id, row.question.as_deref()?, row.next.as_deref()?))).collect();
    if !waiting.is_empty() {
        blocks.push(Block::Heading(2, "Waiting for a human".to_owned()));
        blocks.push(Block::List(waiting));
    }
    blocks.push(Block::Heading(2, "Stories".to_owned()));
    let line = |row: &crate::store::StoryRow| {
        let commit = row.commit.as_deref().map(|commit| cut(commit, 10).trim_end_matches('…').to_owned()).unwrap_or_default();
        vec![row.id.clone(), row.title.clone(), row.phase.clone(), row.attempt.to_string(), row.cycle.to_string(), commit]
    };
    blocks.push(Block::Table(vec!["story", "title", "state", "attempts", "cycles", "commit"], rows.iter().map(line).collect()));
    for row in &rows {
        let story = state::story(Some(store), &row.id)?;
        blocks.extend(story_blocks(&Shown::of(Some(store), story)?));
    }
    Ok(blocks)
}

fn story_blocks(shown: &Shown) -> Vec<Block> {
    let story = &shown.story;
    let phase = phase(story);
    let mut blocks = vec![Block::Heading(2, format!("{}: {}", story.id, story.spec.title))];
    let mut said = vec![format!("State: {}.", phase.name())];
    said.extend(phase.reason().map(|(reason, question)| format!("{reason}: {question}")));
    said.extend(next(story, &phase).map(|next| format!("Next: {next}")));
    if let Some(End::Merged { commit, tree, .. }) = &story.end {
        said.push(format!("Landed as commit {commit}, tree {tree}."));
    }
    blocks.push(Block::Paragraph(said.join(" ")));
    let criteria = shown.criteria();
    if !criteria.is_empty() {
        let row = |c: &super::show::CriterionShown<'_>| {
            vec![c.id.to_owned(), c.text.to_owned(), c.result.to_owned(), c.evidence.unwrap_or("").to_owned()]
        };
        blocks.push(Block::Table(vec!["criterion", "text", "result", "evidence"], criteria.iter().map(row).collect()));
    }
    let attempts: Vec<Vec<String>> = story
        .attempts
        .iter()
        .map(|attempt| {
            let failed: Vec<&str> = match &attempt.conclusion {
                Some(crate::story::facts::Conclusion::Failed(failure)) => failure.why.iter().map(|finding| finding.text.as_str()).collect(),
                _ => Vec::new(),
            };
            let commit = attempt.change.as_ref().map(|change| change.commit.short().to_owned()).unwrap_or_default();
            vec![
                attempt.no.to_string(),
                attempt.agent.clone().unwrap_or_default(),
                commit,
                conclusion_word(story, attempt).to_owned(),
                cut(&failed.join("; "), 300),
            ]
        })
        .collect();
    if !attempts.is_empty() {
        blocks.push(Block::Table(vec!["attempt", "agent", "commit", "came out", "because"], attempts));
    }
    if !shown.evidence.is_empty() {
        blocks.push(Block::List(
            shown.evidence.iter().map(|used| format!("{}: sha256:{} (event {})", used.what, used.id, used.seq)).collect(),
        ));
    }
    blocks
}

fn markdown(blocks: &[Block]) -> String {
    blocks.iter().map(markdown_block).collect()
}

fn markdown_block(block: &Block) -> String {
    match block {
        Block::Heading(level, text) => format!("{} {}\n\n", "#".repeat(usize::from(*level)), escape_markdown(text)),
        Block::Paragraph(text) => format!("{}\n\n", escape_markdown(text)),
        Block::List(items) => items.iter().map(|item| format!("- {}\n", escape_markdown(item))).chain(["\n".to_owned()]).collect(),
        Block::Table(head, rows) => {
            let head = format!("| {} |\n|{}\n", head.join(" | "), " --- |".repeat(head.len()));
            let line =
                |row: &Vec<String>| format!("| {} |\n", row.iter().map(|cell| escape_markdown(cell)).collect::<Vec<_>>().join(" | "));
            [head].into_iter().chain(rows.iter().map(line)).chain(["\n".to_owned()]).collect()
        }
    }
}

/// Text that means nothing to a Markdown reader: no links, no tags, no cells, one line.
fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in one_line(text).chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '#' | '!' | '~' => escaped.extend(['\\', c]),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Styles of our own, and no script, image or font of anybody.
const HTML_HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>Report</title>\n\
    <style>body{font:16px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}table{border-collapse:collapse}\
    td,th{border:1px solid #999;padding:.2em .6em;text-align:left;vertical-align:top;overflow-wrap:anywhere}</style>\n";

fn html(blocks: &[Block]) -> String {
    [HTML_HEAD.to_owned()].into_iter().chain(blocks.iter().map(html_block)).chain(["</html>\n".to_owned()]).collect()
}

fn html_block(block: &Block) -> String {
    let cell = |tag: &str, text: &str| format!("<{tag}>{}</{tag}>", escape_html(text));
    match block {
        Block::Heading(level, text) => cell(&format!("h{level}"), text) + "\n",
        Block::Paragraph(text) => cell("p", text) + "\n",
        Block::List(items) => {
            let items: String = items.iter().map(|item| cell("li", item) + "\n").collect();
            format!("<ul>\n{items}</ul>\n")
        }
        Block::Table(head, rows) => {
            let head: String = head.iter().map(|text| cell("th", text)).collect();
            let row = |row: &Vec<String>| format!("<tr>{}</tr>\n", row.iter().map(|text| cell("td", text)).collect::<String>());
            format!("<table>\n<tr>{head}</tr>\n{}</table>\n", rows.iter().map(row).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_strangers_wrote_is_text_in_both_formats(text in "[a-z<>&\"'|\\[\\]()*`#!~\\\\\n\u{1b}\u{202e}]{0,40}") {
            let blocks = [Block::Table(vec!["a", "b"], vec![vec![text.clone(), "x".to_owned()]]), Block::List(vec![text.clone()]), Block::Heading(2, text.clone())];
            let page = html(&blocks);
            // Every tag is one of ours: nothing else opens.
            for tag in page.split('<').skip(1) {
                let name = tag.trim_start_matches('/').split(['>', ' ']).next().unwrap_or("");
                prop_assert!(["!doctype", "html", "meta", "title", "style", "h2", "ul", "li", "table", "tr", "td", "th"].contains(&name), "{}", tag);
            }
            let page = markdown(&blocks);
            let is_tame = !page.contains(['<', '\u{1b}', '\u{202e}']);
            prop_assert!(is_tame, "{}", page);
            // A reader of Markdown finds text, and no link, image, code or HTML of a stranger.
            for event in pulldown_cmark::Parser::new(&page) {
                use pulldown_cmark::{Event, Tag};
                let is_foreign = matches!(event, Event::Html(_) | Event::InlineHtml(_) | Event::Code(_) | Event::Start(Tag::Link { .. } | Tag::Image { .. } | Tag::Emphasis));
                prop_assert!(!is_foreign, "{:?} in {}", event, page);
            }
        }
    }
}

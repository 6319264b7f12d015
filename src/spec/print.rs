//! A story as a story file.

use std::fmt::Write as _;

use super::{Story, story_file};
use crate::base::duration;
use crate::base::source::Source;

/// The file of a story. It reads back as the same story, whatever stands in its text.
pub fn print(story: &Story) -> String {
    let pretty = pretty(story);
    let (again, problems) = story_file::parse(&Source::new("", &pretty), "x");
    if problems.is_empty() && again.is_some_and(|s| s.digest() == story.digest()) {
        return pretty;
    }
    // A text that holds, say, an open code fence would swallow the criteria after it. In the front matter nothing can.
    let mut out = front_matter(story);
    if story.criteria.is_empty() {
        out.push_str("criteria: []\n");
    } else {
        out.push_str("criteria:\n");
    }
    for criterion in &story.criteria {
        line(&mut out, format_args!("  - id: {}", scalar(&criterion.id)));
        line(&mut out, format_args!("    text: {}", scalar(&criterion.text)));
    }
    line(&mut out, format_args!("---\n{}", story.text));
    out
}

fn pretty(story: &Story) -> String {
    let mut out = front_matter(story);
    out.push_str("---\n");
    if !story.text.is_empty() {
        line(&mut out, format_args!("{}\n", story.text));
    }
    if !story.criteria.is_empty() {
        out.push_str("## Acceptance criteria\n");
    }
    for criterion in &story.criteria {
        line(&mut out, format_args!("- {}: {}", criterion.id, criterion.text.replace('\n', "\n  ")));
    }
    out
}

fn front_matter(story: &Story) -> String {
    let mut out = String::from("---\n");
    line(&mut out, format_args!("id: {}", scalar(story.id.as_str())));
    line(&mut out, format_args!("title: {}", scalar(&story.title)));
    for (key, value) in [("epic", &story.epic), ("stream", &story.stream)] {
        if let Some(value) = value {
            line(&mut out, format_args!("{key}: {}", scalar(value)));
        }
    }
    if let Some(priority) = story.priority {
        line(&mut out, format_args!("priority: {priority}"));
    }
    for (key, ids) in [("after", &story.after), ("wired_with", &story.wired_with)] {
        if !ids.is_empty() {
            let ids: Vec<String> = ids.iter().map(|id| scalar(id.as_str())).collect();
            line(&mut out, format_args!("{key}: [{}]", ids.join(", ")));
        }
    }
    if !story.artifacts.is_empty() {
        out.push_str("artifacts:\n");
    }
    for rule in &story.artifacts {
        line(&mut out, format_args!("  - path: {}", scalar(&rule.path)));
        for (key, texts) in [("contains", &rule.contains), ("regex", &rule.regex), ("symbols", &rule.symbols)] {
            if !texts.is_empty() {
                let texts: Vec<String> = texts.iter().map(|t| scalar(t)).collect();
                line(&mut out, format_args!("    {key}: [{}]", texts.join(", ")));
            }
        }
        if let Some(tests) = rule.min_tests {
            line(&mut out, format_args!("    min_tests: {tests}"));
        }
        more_of(&mut out, rule);
    }
    if !story.checks.is_empty() {
        out.push_str("checks:\n");
    }
    for check in &story.checks {
        line(&mut out, format_args!("  - {}", scalar(check)));
    }
    if !story.scope.is_empty() {
        let globs: Vec<String> = story.scope.iter().map(|glob| scalar(glob)).collect();
        line(&mut out, format_args!("scope: [{}]", globs.join(", ")));
    }
    budget(&mut out, &story.budget);
    if !story.automatable {
        out.push_str("automatable: false\n");
    }
    out
}

/// The rarer keys of an artifact.
fn more_of(out: &mut String, rule: &super::ArtifactRule) {
    if let Some(size) = rule.min_size {
        line(out, format_args!("    min_size: {size}"));
    }
    let changed = rule.changed.map(|changed| if changed { "changed" } else { "unchanged" });
    let flags =
        [("executable", rule.executable), ("absent", rule.absent.then_some(true)), (changed.unwrap_or_default(), changed.map(|_| true))];
    for (key, flag) in flags.into_iter().filter_map(|(key, flag)| Some((key, flag?))) {
        line(out, format_args!("    {key}: {flag}"));
    }
    for format in [super::DataFormat::Json, super::DataFormat::Toml, super::DataFormat::Yaml] {
        let values = rule.equals.iter().filter(|equals| equals.format == format);
        let values: Vec<String> = values.map(|equals| format!("{}: {}", scalar(&equals.at), scalar(&equals.value))).collect();
        if !values.is_empty() {
            line(out, format_args!("    {}: {{ {} }}", format.name(), values.join(", ")));
        }
    }
    for (key, text) in [("command", &rule.command), ("output", &rule.output)] {
        if let Some(text) = text {
            line(out, format_args!("    {key}: {}", scalar(text)));
        }
    }
}

fn budget(out: &mut String, budget: &super::StoryBudget) {
    let counts = [("iterations", budget.iterations), ("model_calls", budget.model_calls), ("tokens", budget.tokens)];
    let mut parts: Vec<String> = counts.iter().filter_map(|(key, n)| n.map(|n| format!("{key}: {n}"))).collect();
    parts.extend(budget.usd.map(|usd| format!("usd: {usd:?}")));
    parts.extend(budget.wall.map(|wall| format!("wall: {}", duration::exact(wall))));
    if !parts.is_empty() {
        line(out, format_args!("budget: {{ {} }}", parts.join(", ")));
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// A YAML scalar that reads back as this text, wherever it stands: plain when that is certainly safe, else in double quotes.
pub fn scalar(text: &str) -> String {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.' || c == '/';
    let inner = |c: char| c.is_alphanumeric() || " _-./+=@()<>*;$^~".contains(c);
    // Words that other readers of YAML take for something else stay in quotes, for their sake.
    let lower = text.to_ascii_lowercase();
    let special = matches!(lower.as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n" | "." | "..");
    let plain = text.starts_with(first)
        && text.chars().all(inner)
        && !text.ends_with(' ')
        && !special
        && text.len() < 200
        && !text.starts_with("...");
    let number_like =
        text.starts_with(|c: char| c.is_ascii_digit() || c == '.') && text.chars().all(|c| c.is_ascii_hexdigit() || "._+-xo".contains(c));
    if plain && !number_like {
        return text.to_owned();
    }
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // What YAML cannot hold as it stands, and what a person could not see.
            c if c.is_control() || matches!(c, '\u{a0}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') => {
                let _ = write!(out, "\\U{:08X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

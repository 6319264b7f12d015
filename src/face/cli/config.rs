//! `cofferdam config show`: each value and where it came from.

use std::process::ExitCode;

use serde_json::json;

use super::failure::Failure;
use super::printer;
use super::project::ProjectArgs;
use crate::base::suggest::nearest;
use crate::base::text::one_line;
use crate::config::keys::KEYS;
use crate::config::layer::{Origin, Setting};
use crate::config::load::{Loaded, Target};

#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show each value and where it came from
    Show {
        /// Show only this key, or this table
        key: Option<String>,
        /// Print one JSON document
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        project: ProjectArgs,
    },
}

pub fn run(args: ConfigArgs) -> Result<ExitCode, Failure> {
    let Command::Show { key, json, project } = args.command;
    let loaded = project.load()?;
    let key = key.as_deref();
    let shown: Vec<&Setting> = loaded.settings.values().filter(|s| key.is_none_or(|k| is_below(&s.path, k))).collect();
    if let (Some(key), true) = (key, shown.is_empty()) {
        return unset(key);
    }
    if json {
        printer::json(&document(&loaded, &shown));
        return Ok(ExitCode::SUCCESS);
    }
    // A long value goes beyond its column: a short one must not be pushed off the screen by it.
    let width = |text: fn(&Setting) -> usize, most| shown.iter().map(|s| text(s)).max().unwrap_or_default().min(most);
    let (keys, values) = (width(|s| s.path.chars().count(), 60), width(|s| s.value.to_string().chars().count(), 24));
    let lines = shown.iter().map(|s| {
        let value = s.value.to_string();
        format!("{:keys$} = {:values$}  # {}", s.path, one_line(&value), from(s))
    });
    printer::prose(&lines.collect::<Vec<_>>().join("\n"));
    Ok(ExitCode::SUCCESS)
}

fn is_below(path: &str, key: &str) -> bool {
    path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A key that is known but not set is an answer; an unknown one is an error.
fn unset(key: &str) -> Result<ExitCode, Failure> {
    let tables = KEYS.iter().map(|k| k.path.split(['.', '[']).next().unwrap_or_default());
    let known: Vec<&str> = KEYS.iter().map(|k| k.path).chain(tables).collect();
    let generic: Vec<String> = known.iter().map(|k| k.replace("[]", "")).collect();
    let parts: Vec<&str> = key.split(['.', '[']).filter(|p| !p.ends_with(']')).collect();
    let fits = |path: &String| {
        let path: Vec<&str> = path.split('.').collect();
        path.len() >= parts.len() && path.iter().zip(&parts).all(|(p, k)| p == k || p.starts_with('{'))
    };
    if generic.iter().any(fits) {
        printer::err(&format!("{} is not set, and has no default.", one_line(key)));
        return Ok(ExitCode::SUCCESS);
    }
    let failure = Failure::usage(format!("`{}` is no key", one_line(key)));
    Err(match nearest(key, known) {
        Some(near) => failure.next(format!("did you mean `{near}`?")),
        None => failure.next("see all keys: cofferdam config show"),
    })
}

fn from(setting: &Setting) -> String {
    let place = setting.source.place(&setting.span);
    match &setting.origin {
        Origin::BuiltIn => "built-in".to_owned(),
        Origin::Flag => "--set".to_owned(),
        Origin::User | Origin::File => format!("{}:{}", place.file, place.line),
        Origin::Target { commit, .. } => format!("{}:{} at {}", place.file, place.line, commit.get(..10).unwrap_or(commit)),
    }
}

fn document(loaded: &Loaded, shown: &[&Setting]) -> serde_json::Value {
    let settings = shown.iter().map(|s| {
        let place = s.source.place(&s.span);
        json!({"key": s.path, "value": s.value, "origin": s.origin, "file": place.file, "line": place.line})
    });
    let target = match &loaded.target {
        Target::At { branch, commit } => json!({"branch": branch, "commit": commit}),
        Target::Unborn | Target::NoRepository => serde_json::Value::Null,
    };
    json!({"version": 1, "root": loaded.root, "target": target, "settings": settings.collect::<Vec<_>>()})
}

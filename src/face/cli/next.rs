//! `cofferdam next`: who starts now, and why not the others.

use std::process::ExitCode;

use serde_json::json;

use super::failure::Failure;
use super::printer;
use super::project::PlanArgs;
use crate::base::text::{cut, one_line, plural};
use crate::plan::next::{Reason, choose};

#[derive(Debug, clap::Args)]
pub struct NextArgs {
    /// Also list every story that does not start, with the one reason
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    plan: PlanArgs,
}

pub fn run(args: NextArgs) -> Result<ExitCode, Failure> {
    let project = args.plan.project()?;
    let plan = &project.plan;
    let choice = choose(plan, &project.rules, &project.facts);
    if args.plan.json {
        let start = choice.start.iter().map(|s| json!({"id": plan.id(*s), "title": plan.stories[*s].title, "epic": plan.stories[*s].epic}));
        let not = choice.not.iter().map(|(s, reason)| json!({"id": plan.id(*s), "reason": reason, "text": reason.to_string()}));
        printer::json(&json!({"version": 1, "start": start.collect::<Vec<_>>(), "not": not.collect::<Vec<_>>()}));
        return Ok(ExitCode::SUCCESS);
    }
    let line = |s: usize| format!("{}  {}", plan.id(s), one_line(&cut(&plan.stories[s].title, 72)));
    for story in &choice.start {
        printer::prose(&line(*story));
    }
    let waiting = choice.not.iter().filter(|(_, r)| !matches!(r, Reason::Landed | Reason::Cancelled));
    if choice.start.is_empty() {
        printer::err(match waiting.clone().next() {
            Some(_) => "Nothing can start now; cofferdam blocked says what holds it up.",
            None => "Nothing is left to start: every story of the plan has landed, or was cancelled.",
        });
    }
    if args.all {
        for (story, reason) in waiting {
            printer::prose(&format!("- {}: {reason}", line(*story)));
        }
    } else {
        let count = waiting.count() as u64;
        if count > 0 {
            printer::err(&format!("{} later; --all says why.", plural(count, "story starts", "stories start")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

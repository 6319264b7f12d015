//! `cofferdam blocked`: what holds the plan up, the root first.

use std::process::ExitCode;

use serde_json::json;

use super::failure::{Exit, Failure};
use super::printer;
use super::project::PlanArgs;
use crate::base::text::{cut, one_line, plural};
use crate::plan::blocked::blocked;

/// More names than this on one line are a number.
const NAMED: usize = 8;

#[derive(Debug, clap::Args)]
pub struct BlockedArgs {
    #[command(flatten)]
    plan: PlanArgs,
}

pub fn run(args: BlockedArgs) -> Result<ExitCode, Failure> {
    let project = args.plan.project()?;
    let plan = &project.plan;
    let found = blocked(plan, &project.rules, &project.facts);
    // A plan in which nothing can move needs a human; one with a blockage beside the way does not yet.
    let code = if found.stalled { ExitCode::from(Exit::Blocked as u8) } else { ExitCode::SUCCESS };
    if args.plan.json {
        let roots = found.roots.iter().map(|b| {
            let holds: Vec<_> = b.holds.iter().map(|s| plan.id(*s)).collect();
            json!({"id": plan.id(b.story), "title": plan.stories[b.story].title, "reason": b.reason, "text": b.reason.to_string(), "holds": holds})
        });
        printer::json(&json!({"version": 1, "stalled": found.stalled, "roots": roots.collect::<Vec<_>>()}));
        return Ok(code);
    }
    if found.roots.is_empty() {
        printer::prose("Nothing is blocked.");
    }
    for blocker in &found.roots {
        printer::prose(&format!(
            "{}  {}: {}",
            plan.id(blocker.story),
            one_line(&cut(&plan.stories[blocker.story].title, 60)),
            blocker.reason
        ));
        if !blocker.holds.is_empty() {
            let names: Vec<&str> = blocker.holds.iter().take(NAMED).map(|s| plan.id(*s).as_str()).collect();
            let more = blocker.holds.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            printer::prose(&format!("  holds {}: {}{more}", plural(blocker.holds.len() as u64, "story", "stories"), names.join(", ")));
        }
    }
    Ok(code)
}

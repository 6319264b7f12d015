//! `cofferdam graph`: what waits for what.

use std::process::ExitCode;

use serde_json::json;

use super::failure::Failure;
use super::printer;
use super::project::{PlanArgs, out};
use crate::plan::draw;

#[derive(Debug, clap::Args)]
pub struct GraphArgs {
    /// Print it for Graphviz
    #[arg(long, conflicts_with_all = ["mermaid", "json"])]
    dot: bool,
    /// Print it for Mermaid
    #[arg(long, conflicts_with = "json")]
    mermaid: bool,
    #[command(flatten)]
    plan: PlanArgs,
}

pub fn run(args: GraphArgs) -> Result<ExitCode, Failure> {
    let project = args.plan.project()?;
    let plan = &project.plan;
    if args.plan.json {
        let id = |n: &usize| plan.id(*n).clone();
        let nodes = plan.stories.iter().enumerate().map(|(i, s)| {
            json!({"id": s.id, "title": s.title, "epic": s.epic, "wave": s.wave, "after": plan.after[i].iter().map(id).collect::<Vec<_>>()})
        });
        let wired: Vec<Vec<_>> = plan.groups.iter().map(|g| g.iter().map(id).collect()).collect();
        printer::json(&json!({"version": 1, "stories": nodes.collect::<Vec<_>>(), "wired": wired}));
    } else if args.dot {
        out(&draw::dot(plan));
    } else if args.mermaid {
        out(&draw::mermaid(plan));
    } else {
        out(&draw::tree(plan, &|_| String::new()));
        for group in &plan.groups {
            let names: Vec<&str> = group.iter().map(|n| plan.id(*n).as_str()).collect();
            out(&format!("wired together: {}", names.join(", ")));
        }
    }
    Ok(ExitCode::SUCCESS)
}

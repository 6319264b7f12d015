//! `cofferdam plan`: the waves, what it may cost at most, and what each sandbox may touch.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::failure::Failure;
use super::printer;
use super::project::{PlanArgs, Project, out};
use crate::base::duration;
use crate::base::text::{cut, one_line, plural};
use crate::config::{Config, Limits, Role, When};
use crate::plan::cost::{Ceiling, ceiling};
use crate::plan::next::choose;
use crate::plan::overlap::{MOST, Overlap, overlaps};

/// More lines than this of one kind are a number.
const SHOWN: usize = 20;

#[derive(Debug, clap::Args)]
pub struct PlanCommandArgs {
    #[command(flatten)]
    plan: PlanArgs,
}

pub fn run(args: PlanCommandArgs) -> Result<ExitCode, Failure> {
    let project = args.plan.project()?;
    let ceiling = ceiling(&project.plan, &project.loaded.config);
    let overlaps = overlaps(&project.plan);
    if args.plan.json {
        printer::json(&document(&project, &ceiling, &overlaps));
        return Ok(ExitCode::SUCCESS);
    }
    out(&waves(&project));
    out(&points(&project));
    out(&overlap_lines(&project, &overlaps));
    out(&ceiling_lines(&ceiling));
    out(&touch_lines(&project.loaded.config));
    Ok(ExitCode::SUCCESS)
}

fn waves(project: &Project) -> String {
    let plan = &project.plan;
    let waves = plan.waves();
    let stories = plural(plan.stories.len() as u64, "story", "stories");
    let mut lines = vec![format!(
        "{}: {stories} in {}, {} at once",
        one_line(&project.place),
        plural(waves.len() as u64, "wave", "waves"),
        project.rules.parallel
    )];
    let start = choose(plan, &project.rules, &project.facts).start;
    for (i, wave) in waves.iter().enumerate() {
        lines.push(format!("\nwave {}", i + 1));
        for story in wave.iter().take(SHOWN * 5) {
            let planned = &plan.stories[*story];
            let mut notes = Vec::new();
            let after: Vec<&str> = plan.after[*story].iter().map(|a| plan.id(*a).as_str()).collect();
            if !after.is_empty() {
                notes.push(format!("after {}", after.join(", ")));
            }
            notes.extend(planned.stream.as_ref().map(|s| format!("stream {s}")));
            if !planned.automatable {
                notes.push("a human's".to_owned());
            }
            let notes = if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) };
            let mark = if start.contains(story) { "▸" } else { " " };
            lines.push(format!("{mark} {:<10} {}{notes}", planned.id.as_str(), one_line(&cut(&planned.title, 70))));
        }
        if wave.len() > SHOWN * 5 {
            lines.push(format!("  … and {} more", wave.len() - SHOWN * 5));
        }
    }
    lines.join("\n")
}

/// Where an integration check stands between stories and their completion.
fn points(project: &Project) -> String {
    let config = &project.loaded.config;
    let mut lines = vec!["\nintegration checks".to_owned()];
    for group in &project.plan.groups {
        let names: Vec<&str> = group.iter().map(|n| project.plan.id(*n).as_str()).collect();
        lines.push(format!("  before any of {} completes: they are wired together", names.join(", ")));
    }
    let gates: Vec<&str> = config.gates.iter().filter(|g| g.when == When::Integration).map(|g| g.name.as_str()).collect();
    if gates.is_empty() {
        lines.push("  none is defined: add a [[gate]] with when = \"integration\" to cofferdam.toml".to_owned());
    } else {
        let every = plural(config.run.integration_every, "landing", "landings");
        lines.push(format!("  after every {every} and at the end: {}", gates.join(", ")));
    }
    lines.join("\n")
}

fn overlap_lines(project: &Project, overlaps: &[Overlap]) -> String {
    if overlaps.is_empty() {
        return "\nno two stories that may run side by side are expected to change the same file".to_owned();
    }
    let mut lines = vec!["\nexpected to change the same file, so never at the same time".to_owned()];
    for overlap in overlaps.iter().take(SHOWN) {
        lines.push(format!("  {} and {}: {}", project.plan.id(overlap.a), project.plan.id(overlap.b), one_line(&overlap.path)));
    }
    if overlaps.len() > SHOWN {
        let more = overlaps.len() - SHOWN;
        lines.push(format!("  … and {more}{} more", if overlaps.len() >= MOST { " or" } else { "" }));
    }
    lines.join("\n")
}

fn ceiling_lines(ceiling: &Ceiling) -> String {
    let or_none = |value: Option<String>, key: &str| value.unwrap_or_else(|| format!("no bound (set {key})"));
    let lines = [
        format!("\nat most, for {}", plural(ceiling.stories as u64, "story", "stories")),
        format!("  attempts     {}", ceiling.attempts),
        format!("  model calls  {}", or_none(ceiling.model_calls.map(|n| n.to_string()), "budget.model_calls")),
        format!("  tokens       {}", or_none(ceiling.tokens.map(|n| n.to_string()), "budget.tokens")),
        format!("  money        {}", or_none(ceiling.usd.map(|n| format!("{n:.2} USD")), "budget.usd")),
        format!("  time         {}", or_none(ceiling.wall.map(duration::display), "budget.wall")),
        format!("  longest chain {}", or_none(ceiling.longest_chain.map(duration::display), "budget.wall")),
    ];
    lines.join("\n")
}

/// What a role's sandbox may touch, in words. The profile says the rest.
fn touch(config: &Config, role: Role) -> Value {
    let agent = config.agents.get(&role);
    let profile = agent.and_then(|a| a.profile.clone()).unwrap_or_else(|| match role {
        // The roles without a profile of their own only read.
        Role::Planner | Role::Diagnoser => "reviewer".to_owned(),
        other => other.name().to_owned(),
    });
    let tree = match role {
        Role::Implementer => "writes its story's worktree",
        Role::Gate => "a fresh tree, thrown away",
        Role::Planner | Role::Reviewer | Role::Verifier | Role::Diagnoser => "reads the worktree",
    };
    let limits = config.limits.get(&role).copied().unwrap_or_default();
    json!({
        "role": role.name(),
        "adapter": agent.map(|a| &a.adapter),
        "model": agent.and_then(|a| a.model.as_ref()),
        "profile": profile,
        "tree": tree,
        "network": config.network.get(&role).cloned().unwrap_or_default(),
        "limits": limits_json(limits),
    })
}

fn limits_json(limits: Limits) -> Value {
    json!({
        "memory": limits.memory.map(crate::base::size::Size::exact),
        "pids": limits.pids,
        "cpus": limits.cpus,
        "wall": limits.wall.map(duration::exact),
        "silence": limits.silence.map(duration::exact),
        "output": limits.output.map(crate::base::size::Size::exact),
        "disk": limits.disk.map(crate::base::size::Size::exact),
        "files": limits.files,
    })
}

/// The roles that a run of this configuration would have.
fn roles(config: &Config) -> impl Iterator<Item = Role> {
    let gates = !config.gates.is_empty();
    let agents: Vec<Role> = config.agents.keys().copied().collect();
    Role::ALL.into_iter().filter(move |r| agents.contains(r) || (*r == Role::Gate && gates))
}

fn touch_lines(config: &Config) -> String {
    let mut lines = vec!["\nwhat each sandbox may touch".to_owned()];
    for role in roles(config) {
        let touch = touch(config, role);
        let text = |key: &str| touch[key].as_str().unwrap_or_default().to_owned();
        let network = config.network.get(&role).filter(|hosts| !hosts.is_empty());
        let own = config.gates.iter().filter(|gate| role == Role::Gate && !gate.network.is_empty());
        let own: Vec<String> = own.map(|gate| format!("{} also reaches {}", gate.name, gate.network.join(", "))).collect();
        let network = network.map_or_else(|| "no network".to_owned(), |hosts| format!("network: {}", hosts.join(", ")));
        let limits = &touch["limits"];
        let limit = |key: &str| limits[key].as_str().unwrap_or("no bound").to_owned();
        lines.push(format!(
            "  {:<12} {}; {network}{}; {} memory, {} time; profile {}",
            role.name(),
            text("tree"),
            own.iter().map(|own| format!("; {own}")).collect::<String>(),
            limit("memory"),
            limit("wall"),
            text("profile")
        ));
    }
    if lines.len() == 1 {
        lines.push("  nobody is set up to work: add [agents.implementer] to cofferdam.toml".to_owned());
    }
    lines.join("\n")
}

fn document(project: &Project, ceiling: &Ceiling, overlaps: &[Overlap]) -> Value {
    let plan = &project.plan;
    let config = &project.loaded.config;
    let id = |n: &usize| plan.id(*n).clone();
    let ids = |list: &[usize]| list.iter().map(id).collect::<Vec<_>>();
    let stories = plan.stories.iter().enumerate().map(|(i, s)| {
        json!({
            "id": s.id, "title": s.title, "epic": s.epic, "stream": s.stream, "priority": s.priority, "automatable": s.automatable,
            "wave": s.wave + 1, "after": ids(&plan.after[i]), "paths": s.paths, "digest": project.spec.stories[i].digest(),
        })
    });
    json!({
        "version": 1,
        "place": project.place,
        "parallel": project.rules.parallel,
        "stories": stories.collect::<Vec<_>>(),
        "waves": plan.waves().iter().map(|w| ids(w)).collect::<Vec<_>>(),
        "wired": plan.groups.iter().map(|g| ids(g)).collect::<Vec<_>>(),
        "integration": {"every": config.run.integration_every, "gates": config.gates.iter().filter(|g| g.when == When::Integration).map(|g| &g.name).collect::<Vec<_>>()},
        "overlaps": overlaps.iter().map(|o| json!({"stories": ids(&[o.a, o.b]), "path": o.path})).collect::<Vec<_>>(),
        "start": ids(&choose(plan, &project.rules, &project.facts).start),
        "ceiling": ceiling,
        "gates": config.gates.iter().map(|gate| json!({"name": gate.name, "network": gate.network})).collect::<Vec<_>>(),
        "sandboxes": roles(config).map(|r| touch(config, r)).collect::<Vec<_>>(),
    })
}

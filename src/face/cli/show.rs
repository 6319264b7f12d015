//! `cofferdam show`: everything about one story.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::failure::Failure;
use super::log::{end_word, gate_word, verdict_word};
use super::printer;
use super::state::{self, State, VERSION};
use crate::base::id::{CommitId, EvidenceId};
use crate::base::text::{cut, one_line, plural};
use crate::event::{AgentCall, Amount, Finding, Verdict};
use crate::store::fold::SpendKey;
use crate::store::{EvidenceUse, Store};
use crate::story::budget::money;
use crate::story::facts::{Attempt, Conclusion, End, Story};
use crate::story::{Phase, budget, feedback, phase};

#[derive(Debug, clap::Args)]
pub struct Args {
    story: String,
    #[arg(long)]
    json: bool,
}

/// # Errors
/// When there is no such story, or the store cannot be read.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let state = State::find()?;
    let store = state.store()?;
    let story = state::story(store.as_ref(), &args.story)?;
    let shown = Shown::of(store.as_ref(), story)?;
    if args.json {
        printer::json(&shown.document());
    } else {
        printer::prose(&shown.text());
    }
    Ok(ExitCode::SUCCESS)
}

/// A story, and what is kept beside its facts.
pub(in crate::face) struct Shown {
    pub(in crate::face) story: Story,
    pub(in crate::face) costs: Vec<(SpendKey, Amount)>,
    pub(in crate::face) evidence: Vec<EvidenceUse>,
}

/// The last verdict on one acceptance criterion.
pub(in crate::face) struct CriterionShown<'a> {
    pub(in crate::face) id: &'a str,
    pub(in crate::face) text: &'a str,
    /// `pass`, `fail`, or `open` when nobody judged it on the current commit.
    pub(in crate::face) result: &'static str,
    pub(in crate::face) evidence: Option<&'a str>,
    pub(in crate::face) by: Option<&'a str>,
}

impl Shown {
    pub(in crate::face) fn of(store: Option<&Store>, story: Story) -> Result<Self, Failure> {
        let Some(store) = store else { return Ok(Self { story, costs: Vec::new(), evidence: Vec::new() }) };
        let mut costs = store.spend().map_err(state::failure)?;
        costs.retain(|((of, _, _), _)| of == story.id.as_str());
        let evidence = store.evidence_uses(Some(&story.id)).map_err(state::failure)?;
        Ok(Self { story, costs, evidence })
    }

    /// Each criterion with what was last said of it, on the story's text as it is now. One no is a no.
    pub(in crate::face) fn criteria(&self) -> Vec<CriterionShown<'_>> {
        let attempt = self.story.attempts.iter().rev().find(|attempt| !attempt.results.is_empty());
        let shown = self.story.spec.criteria.iter().map(|criterion| {
            let results =
                attempt.into_iter().flat_map(|attempt| &attempt.results).filter(|(_, result)| result.proof == self.story.spec.proof);
            let said = results.flat_map(|(by, result)| result.criteria.iter().filter(|c| c.id == criterion.id).map(move |c| (by, c)));
            let worst = said.min_by_key(|(_, c)| c.pass);
            CriterionShown {
                id: &criterion.id,
                text: &criterion.text,
                result: worst.map_or("open", |(_, c)| if c.pass { "pass" } else { "fail" }),
                evidence: worst.map(|(_, c)| c.evidence.as_str()),
                by: worst.map(|(by, _)| by.as_str()),
            }
        });
        shown.collect()
    }

    fn document(&self) -> Value {
        let story = &self.story;
        let phase = phase(story);
        let limits = &story.spec.rules.limits;
        let criteria: Vec<Value> = self
            .criteria()
            .iter()
            .map(|c| json!({"id": c.id, "text": c.text, "result": c.result, "evidence": c.evidence, "by": c.by}))
            .collect();
        let costs: Vec<Value> =
            self.costs.iter().map(|((_, role, model), amount)| json!({"role": role, "model": model, "amount": amount})).collect();
        let evidence: Vec<Value> = self.evidence.iter().map(|used| json!({"id": used.id, "seq": used.seq, "what": used.what})).collect();
        json!({
            "version": VERSION,
            "id": story.id,
            "title": story.spec.title,
            "epic": story.spec.epic,
            "after": story.spec.after,
            "wired_with": story.spec.wired_with,
            "state": phase.name(),
            "reason": phase.reason().map(|(reason, _)| reason),
            "question": phase.reason().map(|(_, question)| question),
            "next": next(story, &phase),
            "commit": story.change().map(|change| &change.commit),
            "tree": story.change().map(|change| &change.tree),
            "base": story.change().map(|change| &change.base),
            "landed": match &story.end { Some(End::Merged { commit, tree, .. }) => json!({"commit": commit, "tree": tree}), _ => Value::Null },
            "criteria": criteria,
            "proposal": story.proposal,
            "attempts": story.attempts.iter().map(|attempt| attempt_json(story, attempt)).collect::<Vec<_>>(),
            "notes": story.notes,
            "blocked_approaches": feedback::blocked_approaches(story),
            "budget": {
                "iterations": {"used": budget::iterations(story), "limit": limits.iterations},
                "review_cycles": {"used": budget::cycles(story), "limit": limits.review_cycles},
                "spent": story.spent, "spent_total": story.spent_total, "limits": limits,
            },
            "costs": costs,
            "evidence": evidence,
        })
    }

    fn text(&self) -> String {
        let story = &self.story;
        let phase = phase(story);
        let mut lines = vec![format!("{}  {}", one_line(story.id.as_str()), one_line(&story.spec.title))];
        lines.push(format!(
            "  state     {}{}",
            phase.name(),
            story.spec.epic.as_deref().map(|epic| format!("  (epic {})", one_line(epic))).unwrap_or_default()
        ));
        if let Some((reason, question)) = phase.reason() {
            lines.push(format!("  reason    {}: {}", one_line(reason), one_line(question)));
        }
        if let Some(next) = next(story, &phase) {
            lines.push(format!("  next      {}", one_line(&next)));
        }
        if let Some(End::Merged { commit, .. }) = &story.end {
            lines.push(format!("  landed    {commit}"));
        }
        if let Some(change) = story.change() {
            lines.push(format!(
                "  commit    {} ({}, kept as {})",
                change.commit,
                plural(change.files, "file", "files"),
                one_line(&change.reference)
            ));
        }
        let limits = &story.spec.rules.limits;
        let spent =
            if story.spent_total.cost_microusd > 0 { format!(", {}", money(story.spent_total.cost_microusd)) } else { String::new() };
        let (iterations, cycles) = (budget::iterations(story), budget::cycles(story));
        lines.push(format!(
            "  budget    {iterations} of {} iterations, {cycles} of {} review-fix cycles{spent}",
            limits.iterations, limits.review_cycles
        ));
        lines.push("  criteria".to_owned());
        for criterion in self.criteria() {
            let by =
                criterion.by.map(|by| format!(" ({} by {})", one_line(criterion.evidence.unwrap_or("")), one_line(by))).unwrap_or_default();
            lines.push(format!("    {:<5} {}  {}{by}", criterion.result, one_line(criterion.id), cut(&one_line(criterion.text), 100)));
        }
        if let Some(proposal) = &story.proposal {
            let said = proposal.error.as_ref().map_or_else(|| proposal.summary.clone(), |why| format!("none ({why})"));
            lines.push(format!("  proposal  {}", cut(&one_line(&said), 200)));
        }
        for attempt in &story.attempts {
            lines.extend(attempt_lines(story, attempt));
        }
        for blocked in feedback::blocked_approaches(story) {
            lines.push(format!(
                "  blocked approach {}: {} (failed {} times)",
                blocked.id,
                cut(&one_line(&blocked.summary), 100),
                blocked.times
            ));
        }
        for note in &story.notes {
            lines.push(format!("  {} {}: {}", one_line(&note.kind), state::ago(note.at), one_line(&note.text)));
        }
        if !self.evidence.is_empty() {
            lines.push(format!(
                "  evidence  {}; cofferdam evidence show {}",
                plural(self.evidence.len() as u64, "piece", "pieces"),
                one_line(story.id.as_str())
            ));
        }
        lines.join("\n")
    }
}

/// What a human can do about a story that stands still.
pub(in crate::face) fn next(story: &Story, phase: &Phase) -> Option<String> {
    match phase {
        Phase::Blocked(block) => Some(block.next.clone()),
        Phase::Escalated { .. } | Phase::Stagnated { .. } => {
            Some(format!("cofferdam why {0}; then cofferdam retry {0}, or cofferdam replan {0} REASON", story.id))
        }
        _ => None,
    }
}

fn attempt_json(story: &Story, attempt: &Attempt) -> Value {
    let evaluators: Vec<Value> = attempt
        .results
        .iter()
        .map(|(name, result)| {
            json!({
                "name": name, "verdict": result.verdict, "problems": result.problems, "findings": result.findings, "criteria": result.criteria,
                "evidence": result.evidence, "cached": result.cached, "wall_ms": result.wall_ms, "tries": result.tries,
            })
        })
        .collect();
    let gates: Vec<Value> = attempt
        .gates
        .iter()
        .map(|(name, run)| json!({"name": name, "result": run.result, "flaky": run.flaky, "detail": run.detail, "evidence": run.evidence, "cached": run.cached}))
        .collect();
    let change = attempt.change.as_ref();
    json!({
        "attempt": attempt.no, "task": attempt.task, "agent": attempt.agent, "base": attempt.base, "from": attempt.from,
        "approach": {"id": attempt.approach().id(), "summary": attempt.declared},
        "end": attempt.ended, "summary": attempt.summary, "transcript": attempt.transcript,
        "commit": change.map(|c| &c.commit), "tree": change.map(|c| &c.tree), "reference": change.map(|c| &c.reference), "files": change.map(|c| c.files),
        "path_findings": change.map(|c| &c.findings),
        "evaluators": evaluators, "gates": gates, "diagnosis": attempt.diagnosis, "conclusion": conclusion_word(story, attempt),
        "findings": failures(attempt), "receipts": attempt.receipts,
        "calls": attempt.calls,
    })
}

/// How an attempt came out, as one word.
pub(in crate::face) fn conclusion_word(story: &Story, attempt: &Attempt) -> &'static str {
    let is = |commit: &CommitId| attempt.change.as_ref().is_some_and(|change| change.commit == *commit);
    match (&attempt.conclusion, &story.end) {
        (Some(Conclusion::Void), _) => "not counted",
        (Some(Conclusion::Asked), _) => "asked",
        (Some(Conclusion::Failed(_)), _) => "failed",
        (None, Some(End::Merged { story_commit, .. })) if is(story_commit) => "landed",
        (None, Some(End::Reverted { .. })) => "taken back",
        (None, _) => match phase(story) {
            Phase::Ready { proof } | Phase::Queued { proof } | Phase::Merging { proof, .. } if is(proof.commit()) => "proven",
            _ => "open",
        },
    }
}

fn failures(attempt: &Attempt) -> &[Finding] {
    match &attempt.conclusion {
        Some(Conclusion::Failed(failure)) => &failure.why,
        _ => &[],
    }
}

fn attempt_lines(story: &Story, attempt: &Attempt) -> Vec<String> {
    let agent = attempt.agent.as_deref().map(|agent| format!(" by {}", one_line(agent))).unwrap_or_default();
    let end =
        attempt.ended.as_ref().map_or_else(|| if attempt.started { "runs".to_owned() } else { "has not started".to_owned() }, end_word);
    let mut lines = vec![format!(
        "  attempt {} ({}{agent}): {}, {}",
        attempt.no,
        format!("{:?}", attempt.task).to_lowercase(),
        one_line(&end),
        conclusion_word(story, attempt)
    )];
    let id = |evidence: &[EvidenceId]| evidence.first().map(|id| format!("  evidence {}", id.short())).unwrap_or_default();
    lines.extend(attempt.calls.iter().map(|call| format!("    called    {}", one_line(&call_line(call)))));
    if let Some(declared) = &attempt.declared {
        lines.push(format!("    approach  {}", cut(&one_line(declared), 120)));
    }
    if let Some(change) = &attempt.change {
        lines.push(format!("    commit    {} ({})", change.commit.short(), plural(change.files, "file", "files")));
    }
    for (name, result) in &attempt.results {
        let problems = if result.verdict == Verdict::Fail {
            format!(", {}", plural(u64::from(result.problems), "problem", "problems"))
        } else {
            String::new()
        };
        lines.push(format!("    {:<9} {}{problems}{}", one_line(name), verdict_word(result.verdict), id(&result.evidence)));
    }
    for (name, run) in &attempt.gates {
        lines.push(format!(
            "    gate {}: {}{}{}",
            one_line(name),
            gate_word(run.result),
            if run.flaky { ", flaky" } else { "" },
            id(&run.evidence)
        ));
    }
    for finding in failures(attempt).iter().take(10) {
        let place = match (&finding.path, finding.line) {
            (Some(path), Some(line)) => format!("{}:{line}: ", one_line(path)),
            (Some(path), None) => format!("{}: ", one_line(path)),
            (None, _) => String::new(),
        };
        lines.push(format!("    - {place}{}", cut(&one_line(&finding.text), 200)));
    }
    if let Some(diagnosis) = &attempt.diagnosis {
        let said = diagnosis.error.as_ref().map_or_else(|| diagnosis.summary.clone(), |why| format!("none ({why})"));
        lines.push(format!("    diagnosis {}", cut(&one_line(&said), 200)));
        lines.extend(diagnosis.tasks.iter().map(|task| format!("      - {}", cut(&one_line(task), 200))));
    }
    lines
}

/// One call of an agent: who, which version, and which words it was given.
pub(in crate::face) fn call_line(call: &AgentCall) -> String {
    let version = call.version.as_deref().map(|version| format!(" ({version})")).unwrap_or_default();
    let cut = if call.cut.is_empty() { String::new() } else { format!(", without all of its {}", call.cut.join(", ")) };
    format!("{} {}{version}, role text {}, prompt {}{cut}", call.role, call.agent, call.text, call.prompt.short())
}

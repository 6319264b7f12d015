//! `RunEvaluator` → `evaluator.finished`.

use std::time::Instant;

use jiff::Timestamp;

use super::{Hands, Trouble, Unanswered, Work};
use crate::base::id::{CommitId, EvidenceId, TreeId};
use crate::engine::sync;
use crate::event::{Amount, Finding, Kind};
use crate::verify::{self, Case, Judged};

/// Findings of one evaluator that an event carries; all of them are in its evidence.
const MOST_FINDINGS: usize = 100;
const LONGEST_FINDING: usize = 4_000;

pub(super) fn evaluate(
    hands: &Hands,
    work: &Work,
    evaluator: &str,
    commit: &CommitId,
    tree: &TreeId,
    proof: &str,
    tries: u32,
) -> Result<(), Unanswered> {
    let (spec, attempt) = (work.spec()?, work.attempt()?);
    if sync::proof(spec) != proof {
        // The story was changed since: the verdict would be about a text that nobody wants any more.
        return Ok(());
    }
    let case = Case {
        shop: &hands.shop,
        spec,
        overview: work.overview.as_deref(),
        story: &work.story,
        attempt,
        commit,
        tree,
        target: &work.target,
        tries,
        stop: &hands.stop,
        listener: Some(hands.words.listener(&work.story.id)),
    };
    let begun = Instant::now();
    let judged = judge(hands, work, evaluator, &case)?;
    if hands.stop.is_asked() {
        // Half a judgement is none, and no error of the evaluator either.
        return Ok(());
    }
    let wall_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let evidence = keep(hands, &judged)?;
    let ran_a_process = !evidence.is_empty();
    let Judged { verdict, problems, criteria, findings, told, .. } = judged;
    let cut = |finding: Finding| Finding { text: crate::base::text::cut(&finding.text, LONGEST_FINDING), ..finding };
    let finished = Kind::EvaluatorFinished {
        evaluator: evaluator.to_owned(),
        commit: commit.clone(),
        tree: tree.clone(),
        proof: proof.to_owned(),
        verdict,
        problems,
        criteria,
        findings: findings.into_iter().take(MOST_FINDINGS).map(cut).collect(),
        evidence,
        cached: false,
        wall_ms,
    };
    let spent = Kind::BudgetSpent { role: evaluator.to_owned(), model: None, amount: Amount { wall_ms, ..Amount::default() } };
    // What only looked at facts took no time worth a line in the log.
    let events: Vec<Kind> = std::iter::once(finished).chain(ran_a_process.then_some(spent)).chain(told).collect();
    Ok(hands.desk.tell(&work.story.id, events)?)
}

/// Asks the evaluator; when its provider refuses for now, again after the pause. That is no error of the evaluator.
fn judge(hands: &Hands, work: &Work, evaluator: &str, case: &Case<'_>) -> Result<Judged, Unanswered> {
    loop {
        let judged = verify::judge(evaluator, case);
        let Some(limited) = judged.limited.clone().filter(|_| !hands.stop.is_asked()) else { return Ok(judged) };
        let (provider, until) = (limited.provider.clone(), limited.until);
        hands.desk.tell_of_run(vec![Kind::ProviderPaused { provider: limited.provider, until, reason: limited.reason }])?;
        hands.desk.tell(&work.story.id, judged.told)?;
        let pause = until.duration_since(Timestamp::now()).unsigned_abs();
        if !hands.stop.sleep(pause) {
            return Ok(Judged::error("it was stopped"));
        }
        hands.desk.tell_of_run(vec![Kind::ProviderResumed { provider }])?;
    }
}

/// Keeps the logs, and all findings when there are more than an event carries.
fn keep(hands: &Hands, judged: &Judged) -> Result<Vec<EvidenceId>, Trouble> {
    let put = |bytes: &[u8]| {
        hands.shop.evidence.put(bytes).map_err(|error| Trouble::new(error, "free some space on the disk that holds the state folder"))
    };
    let mut evidence = judged.evidence.clone();
    for (_, log) in &judged.logs {
        evidence.push(put(&hands.shop.secrets().text(log))?);
    }
    if judged.findings.len() > MOST_FINDINGS || judged.findings.iter().any(|finding| finding.text.len() > LONGEST_FINDING) {
        evidence.push(put(&serde_json::to_vec_pretty(&judged.findings).unwrap_or_default())?);
    }
    Ok(evidence)
}

//! External CI on a candidate before it lands, and on what has landed.

use std::io::Write;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::gate::Said;
use crate::base::id::{CommitId, EvidenceId};
use crate::config::CI_GATE;
use crate::event::GateResult;
use crate::queue::ci::{self, Subject, Verdict};
use crate::queue::gate::Judgement;
use crate::queue::push::Remote;
use crate::role::{Stop, Workshop};
use crate::workspace::git::{Oid, Repository};

/// What is asked about.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    pub commit: &'a CommitId,
    pub tree: &'a str,
    pub base: &'a CommitId,
    /// The whole name of the target's ref.
    pub target: &'a str,
    /// It has landed: it is where the target is, and other checks count.
    pub landed: bool,
}

/// Asks external CI until it has a verdict. A candidate is pushed first, and its branch taken away afterwards.
pub fn ask(shop: &Workshop, stop: &Stop, question: &Question<'_>) -> Said {
    let config = shop.config();
    let (began, mut log) = (Instant::now(), Vec::new());
    let remote = config.ci.push.as_deref().filter(|_| !question.landed);
    let branch = format!("refs/heads/cofferdam/queue/{}", question.commit.short());
    let published = remote.map(|name| publish(shop, &Remote { name, branch: &branch }, question.commit));
    let verdict = match &published {
        Some(Err(why)) => Verdict::Unknown(format!("the candidate cannot be pushed for the CI to see it: {why}")),
        Some(Ok(_)) | None => {
            let required = if question.landed { &config.ci.after } else { &config.ci.required };
            let subject = Subject {
                commit: question.commit.as_str(),
                tree: question.tree,
                base: question.base.as_str(),
                target: question.target.strip_prefix("refs/heads/").unwrap_or(question.target),
                reference: if question.landed { Some(question.target) } else { remote.map(|_| branch.as_str()) },
                required,
            };
            let mut say = |line: &str| log.push(format!("{} {line}\n", Timestamp::now()));
            ci::ask(&config.ci, shop.root(), &subject, &|time: Duration| stop.sleep(time), &mut say)
        }
    };
    if let (Some(name), Some(Ok((repository, commit)))) = (remote, published) {
        // A branch too many at the remote is untidy, and no more than that.
        drop(Remote { name, branch: &branch }.withdraw(&repository, commit));
    }
    let (result, why) = match verdict {
        Verdict::Green => (GateResult::Pass, Vec::new()),
        Verdict::Red(why) => (GateResult::Red, vec![why]),
        Verdict::Stopped => (GateResult::Cancelled, vec!["it was stopped before its end".to_owned()]),
        Verdict::Unknown(why) => (GateResult::Error, vec![why]),
    };
    Said {
        denied: Vec::new(),
        gate: CI_GATE.to_owned(),
        detail: why.join("\n"),
        judged: Judgement { result, problems: u32::from(result == GateResult::Red), why },
        flaky: false,
        cached: false,
        evidence: kept(shop, &log.concat()).into_iter().collect(),
        wall_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

fn publish(shop: &Workshop, remote: &Remote<'_>, commit: &CommitId) -> Result<(Repository, Oid), String> {
    let repository = shop.workspaces().map_err(|error| error.to_string())?.repository;
    let commit: Oid = commit.as_str().parse().map_err(|_| format!("{commit} is no commit"))?;
    remote.publish(&repository, commit).map_err(|error| error.to_string())?;
    Ok((repository, commit))
}

/// What was answered on the way, as evidence. Without it the verdict stands all the same: it is somebody else's, and can be looked up there.
fn kept(shop: &Workshop, log: &str) -> Option<EvidenceId> {
    let mut writer = shop.evidence.writer().ok()?;
    writer.write_all(log.as_bytes()).ok()?;
    writer.finish().ok()
}

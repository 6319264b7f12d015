//! `exec` in place on a repository: the git directory is covered before, and what was committed or left behind is told after.

use super::failure::{Exit, Failure};
use super::printer;
use crate::base::text::{bytes_line, one_line, plural};
use crate::sandbox::policy::{Access, Grant, Policy, Tier, WorkspaceSource};
use crate::workspace::import::{Imported, Refused};
use crate::workspace::inplace::{GitMode, InPlace};
use crate::workspace::risks::Risk;
use crate::workspace::stories::WorkspaceError;

/// Covers the git directory of the policy's workspace, when there is one.
pub(super) fn cover(policy: &mut Policy, mode: GitMode, quiet: bool) -> Result<Option<InPlace>, Failure> {
    let folder = match &policy.workspace.source {
        WorkspaceSource::Folder(folder) => folder.clone(),
        WorkspaceSource::Overlay { lower, .. } => match lower.as_slice() {
            [folder] => folder.clone(),
            _ => return Ok(None),
        },
    };
    let shown = bytes_line(folder.as_os_str().as_encoded_bytes());
    if policy.tier == Tier::NoUserns {
        // Landlock grants whole trees: the git directory would be writable with the files around it.
        let exposed = policy.workspace.access == Access::Write && fs_err::symlink_metadata(folder.join(".git")).is_ok();
        return if exposed {
            let failure =
                Failure::new(Exit::Unenforceable, format!("the tier no-userns cannot keep the git directory of {shown} out of reach"));
            Err(failure.why("without mounts nothing can lie over it").next("use the tier full, or a copy of the files without .git"))
        } else {
            Ok(None)
        };
    }
    let run = match InPlace::prepare(&folder, mode) {
        // What cannot be read safely can still be kept safe.
        Err(WorkspaceError::Git(error)) if mode == GitMode::Private => {
            if !quiet {
                printer::err(&format!("cofferdam: git is read-only inside: {}", one_line(&error.to_string())));
            }
            InPlace::prepare(&folder, GitMode::Readonly)
        }
        other => other,
    };
    let run = run.map_err(|e| {
        Failure::new(Exit::ExecOurs, format!("the git directory of {shown} cannot be covered; nothing was run"))
            .because(&e)
            .next("mend what is named, or hide the git directory with --git none")
    })?;
    if mode != GitMode::None && run.is_some() {
        // For root the read-only parts keep their owner, whom git inside does not know; what is mounted here was chosen, not found.
        let setting = [("GIT_CONFIG_COUNT", "1"), ("GIT_CONFIG_KEY_0", "safe.directory"), ("GIT_CONFIG_VALUE_0", "*")];
        if !policy.environment.iter().any(|(name, _)| name == "GIT_CONFIG_COUNT") {
            policy.environment.extend(setting.map(|(name, value)| (name.into(), value.into())));
        }
    }
    for cover in run.iter().flat_map(|run| &run.covers) {
        let access = if cover.writable { Access::Write } else { Access::Read };
        policy.grants.push(Grant {
            host: cover.host.clone(),
            inside: cover.inside.clone(),
            access,
            reason: "the repository's git directory stays out of reach".to_owned(),
        });
    }
    Ok(run)
}

/// What a run in place left: its commits as data, and what to look at.
#[derive(Debug, serde::Serialize)]
pub(super) struct Left {
    commits: Vec<Taken>,
    refused: Vec<NotTaken>,
    risks: Vec<Risk>,
    more_risks: u64,
}

#[derive(Debug, serde::Serialize)]
struct Taken {
    #[serde(rename = "ref")]
    reference: String,
    id: String,
    /// What pointed to it inside: HEAD, or a branch.
    name: String,
    subject: String,
    commits: u64,
}

#[derive(Debug, serde::Serialize)]
struct NotTaken {
    name: String,
    why: String,
}

/// Imports what was committed. `kept` says that the workspace's files are real and not a throw-away layer.
pub(super) fn finish(run: Option<InPlace>, kept: bool) -> Result<Option<Left>, Failure> {
    let Some(run) = run else { return Ok(None) };
    let report = run.finish(kept).map_err(|e| {
        Failure::new(Exit::ExecOurs, "the command ran, but its commits could not be taken")
            .because(&e)
            .next("`cofferdam clean` tries once more")
    })?;
    let taken = |(reference, one): (String, Imported)| Taken {
        reference,
        id: one.id.to_string(),
        name: one_line(&one.name).into_owned(),
        subject: one.subject,
        commits: one.commits,
    };
    let refused = |one: Refused| NotTaken { name: one_line(&one.name).into_owned(), why: one_line(&one.why).into_owned() };
    Ok(Some(Left {
        commits: report.commits.into_iter().map(taken).collect(),
        refused: report.refused.into_iter().map(refused).collect(),
        // On a throw-away layer nothing is left.
        risks: if kept { report.risks } else { Vec::new() },
        more_risks: if kept { report.more_risks } else { 0 },
    }))
}

pub(super) fn tell(left: &Left) {
    for commit in &left.commits {
        let count = plural(commit.commits, "commit", "commits");
        printer::err(&format!("cofferdam: {count} on {} in {}: {}", commit.name, commit.reference, commit.subject));
    }
    if let Some(commit) = left.commits.first() {
        printer::err(&format!("  next: git log -p HEAD..{}; your own branch and index are as they were", commit.reference));
    }
    for refused in &left.refused {
        printer::err(&format!("cofferdam: commits on {} were not taken: {}", refused.name, refused.why));
    }
    if !left.risks.is_empty() {
        printer::err("cofferdam: look at these before a tool of yours runs them:");
    }
    for risk in &left.risks {
        printer::err(&format!("  {}: {}", risk.path, risk.why));
    }
    if left.more_risks > 0 {
        printer::err(&format!("  and {} more", left.more_risks));
    }
}

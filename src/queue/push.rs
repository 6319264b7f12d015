//! The remote's branch: pushed with a lease, and followed when others moved it. The one place that runs the host's `git`: see
//! `docs/decisions/0007-pushing-by-git.md`.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use wait_timeout::ChildExt;

use crate::base::text::{bytes_line, cut};
use crate::workspace::git::{Oid, Repository};

/// A remote that answers no faster is not there.
const WAIT: Duration = Duration::from_secs(120);
/// What of git's words a person reads.
const SAID: usize = 2_000;

/// What a push came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    Done,
    /// Somebody else moved the remote's branch: nothing was pushed.
    Stale,
}

#[derive(Debug, thiserror::Error)]
pub enum PushError {
    #[error("git cannot be run: {0}")]
    Git(#[from] std::io::Error),
    #[error("the remote `{remote}` did not answer within {} s", WAIT.as_secs())]
    Slow { remote: String },
    #[error("the remote `{remote}` refused it: {said}")]
    Refused { remote: String, said: String },
}

/// The remote a landing is pushed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote<'a> {
    pub name: &'a str,
    /// The whole name of the branch.
    pub branch: &'a str,
}

impl Remote<'_> {
    /// Where the remote's branch was when it was last heard of.
    fn known(&self) -> String {
        format!("refs/remotes/{}/{}", self.name, self.branch.strip_prefix("refs/heads/").unwrap_or(self.branch))
    }

    /// Moves the remote's branch to a commit that holds all it had, if it still is where it was last heard of.
    ///
    /// # Errors
    /// When the remote refuses, or cannot be reached. Nothing was pushed then, as far as can be known.
    pub fn push(&self, repository: &Repository, to: Oid) -> Result<Pushed, PushError> {
        let known = repository.reference(&self.known());
        if known.is_some_and(|known| !repository.is_ancestor(known, to)) {
            return Ok(Pushed::Stale);
        }
        // An empty lease says that there must be no such branch yet.
        let lease = format!("--force-with-lease={}:{}", self.branch, known.map(|id| id.to_string()).unwrap_or_default());
        let (good, said) =
            self.git(repository, &["push", "--porcelain", "--no-verify", &lease, self.name, &format!("{to}:{}", self.branch)])?;
        if good {
            return Ok(Pushed::Done);
        }
        // What git says when the lease does not hold, or somebody was faster at the remote itself.
        let stale = ["stale info", "fetch first", "non-fast-forward", "cannot lock ref", "failed to update ref"];
        if stale.iter().any(|mark| said.contains(mark)) {
            return Ok(Pushed::Stale);
        }
        Err(PushError::Refused { remote: self.name.to_owned(), said: cut(said.trim(), SAID) })
    }

    /// Puts a commit on a branch of its own, for others to see. Somebody else's commit there is left alone.
    ///
    /// # Errors
    /// When the remote refuses, or cannot be reached.
    pub fn publish(&self, repository: &Repository, commit: Oid) -> Result<(), PushError> {
        let lease = format!("--force-with-lease={}:", self.branch);
        let (good, said) =
            self.git(repository, &["push", "--porcelain", "--no-verify", &lease, self.name, &format!("{commit}:{}", self.branch)])?;
        if good { Ok(()) } else { Err(PushError::Refused { remote: self.name.to_owned(), said: cut(said.trim(), SAID) }) }
    }

    /// Takes such a branch away again, when it still holds the commit.
    ///
    /// # Errors
    /// When the remote refuses, or cannot be reached.
    pub fn withdraw(&self, repository: &Repository, commit: Oid) -> Result<(), PushError> {
        let lease = format!("--force-with-lease={}:{commit}", self.branch);
        let (good, said) =
            self.git(repository, &["push", "--porcelain", "--no-verify", &lease, self.name, &format!(":{}", self.branch)])?;
        if good { Ok(()) } else { Err(PushError::Refused { remote: self.name.to_owned(), said: cut(said.trim(), SAID) }) }
    }

    /// Where the remote's branch is now, with its objects here. None when it has no such branch.
    ///
    /// # Errors
    /// When the remote cannot be reached.
    pub fn fetch(&self, repository: &Repository) -> Result<Option<Oid>, PushError> {
        let kept = self.known();
        let spec = format!("+{}:{kept}", self.branch);
        let (good, said) = self.git(
            repository,
            &["fetch", "--quiet", "--no-tags", "--no-auto-gc", "--no-recurse-submodules", "--no-write-fetch-head", self.name, &spec],
        )?;
        if good {
            return Ok(repository.reference(&kept));
        }
        if said.contains("couldn't find remote ref") {
            return Ok(None);
        }
        Err(PushError::Refused { remote: self.name.to_owned(), said: cut(said.trim(), SAID) })
    }

    /// Runs git on the repository's own directory. Nothing of a worktree takes part: hooks, filters and monitors that lie in files of the
    /// project may have been written by an agent, and are switched off.
    fn git(&self, repository: &Repository, args: &[&str]) -> Result<(bool, String), PushError> {
        let mut command = Command::new("git");
        // As a bare repository: no worktree takes part. Where we stand only decides what a relative path of a remote means.
        command.arg("--bare").arg("--git-dir").arg(repository.common_dir());
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.attributesFile=/dev/null",
            "protocol.ext.allow=never",
            "push.recurseSubmodules=no",
            "gc.auto=0",
        ] {
            command.args(["-c", setting]);
        }
        command.args(args).current_dir(repository.worktree().unwrap_or_else(|| repository.common_dir()));
        for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES"] {
            command.env_remove(variable);
        }
        // Nobody sits here who could answer.
        command.env("GIT_TERMINAL_PROMPT", "0").env("LC_ALL", "C").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let readers = [child.stdout.take().map(read), child.stderr.take().map(read)];
        let status = child.wait_timeout(WAIT)?;
        if status.is_none() {
            child.kill()?;
            child.wait()?;
        }
        let said: Vec<u8> = readers.into_iter().flatten().flat_map(|reader| reader.join().unwrap_or_default()).collect();
        let said: Vec<String> = said.split(|byte| *byte == b'\n').map(bytes_line).collect();
        match status {
            Some(status) => Ok((status.success(), said.join("\n"))),
            None => Err(PushError::Slow { remote: self.name.to_owned() }),
        }
    }
}

/// Reads a stream to its end, and keeps a bounded part of it.
fn read(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut kept, mut chunk) = (Vec::new(), [0; 4096]);
        while let Ok(count) = from.read(&mut chunk) {
            if count == 0 {
                break;
            }
            let room = (64_usize << 10).saturating_sub(kept.len());
            kept.extend_from_slice(&chunk[..count.min(room)]);
        }
        kept
    })
}

//! Branches of the user's repository: moved only by compare-and-swap, and where they are checked out.

use std::path::{Path, PathBuf};

use super::{GitError, LOCK_TRIES, Oid, Repository, doing, fault};

/// What a compare-and-swap came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    Done,
    /// Somebody else moved it: where it is now.
    Elsewhere(Option<Oid>),
}

/// A folder with files of this repository, and the branch it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    pub git_dir: PathBuf,
    pub files: PathBuf,
    /// The full name of the branch; none when HEAD is a commit.
    pub branch: Option<String>,
}

impl Repository {
    /// Where a branch is, read again from the repository.
    pub fn branch_tip(&self, name: &str) -> Result<Option<Oid>, GitError> {
        match self.inner.find_reference(name) {
            Ok(reference) => match reference.target() {
                Some(id) => Ok(Some(id)),
                None => Err(std::io::Error::other(format!("{name} is a symbolic ref; name the branch it stands for")).into()),
            },
            Err(e) if e.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(e) => doing(|| format!("read {name}"))(e),
        }
    }

    /// Moves a branch from one commit to another, durably, if it still is where it is believed to be.
    pub fn swap_branch(&self, name: &str, from: Oid, to: Oid, why: &str) -> Result<Swapped, GitError> {
        let mut tries = 0;
        loop {
            let now = self.branch_tip(name)?;
            if now != Some(from) {
                return Ok(Swapped::Elsewhere(now));
            }
            fault::point();
            match self.inner.reference_matching(name, to, true, from, why) {
                Ok(_) => break,
                Err(e) if matches!(e.code(), git2::ErrorCode::Modified | git2::ErrorCode::NotFound) => {
                    return Ok(Swapped::Elsewhere(self.branch_tip(name)?));
                }
                // The user's git holds it for a moment. A lock that stays is theirs to look at: it is never taken away here.
                Err(e) if e.code() == git2::ErrorCode::Locked && tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                Err(e) => return doing(|| format!("move {name} to {to}"))(e),
            }
        }
        let file = self.common.join(name);
        fs_err::File::open(&file)?.sync_all()?;
        if let Some(folder) = file.parent() {
            fs_err::File::open(folder)?.sync_all()?;
        }
        fault::point();
        Ok(Swapped::Done)
    }

    pub fn parents_of(&self, commit: Oid) -> Result<Vec<Oid>, GitError> {
        self.inner.find_commit(commit).map(|c| c.parent_ids().collect()).or_else(doing(|| format!("read commit {commit}")))
    }

    /// Does a line of commits with one parent each lead from `tip` down to `base`?
    pub fn first_parents(&self, tip: Oid, base: Oid) -> Result<bool, GitError> {
        let mut at = tip;
        while at != base {
            match self.parents_of(at)?.as_slice() {
                [parent] => at = *parent,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Makes a branch, or moves one that nothing but `to` would be lost of.
    pub fn put_branch(&self, name: &str, to: Oid) -> Result<bool, GitError> {
        match self.branch_tip(name)? {
            None => {
                fault::point();
                self.inner
                    .reference(name, to, false, "cofferdam: a checkout stays where it is")
                    .or_else(doing(|| format!("make {name}")))?;
                Ok(true)
            }
            Some(now) if now == to => Ok(true),
            Some(now) if self.is_ancestor(now, to) => {
                Ok(self.swap_branch(name, now, to, "cofferdam: a checkout stays where it is")? == Swapped::Done)
            }
            Some(_) => Ok(false),
        }
    }

    /// Says of a branch that it follows another one of this repository.
    pub fn follow(&self, branch: &str, followed: &str) -> Result<(), GitError> {
        let set = || -> Result<(), git2::Error> {
            let mut config = self.inner.config()?.open_level(git2::ConfigLevel::Local)?;
            config.set_str(&format!("branch.{branch}.remote"), ".")?;
            config.set_str(&format!("branch.{branch}.merge"), followed)
        };
        set().or_else(doing(|| format!("let {branch} follow {followed}")))
    }

    /// Every checkout of this repository that a person made.
    pub fn checkouts(&self) -> Result<Vec<Checkout>, GitError> {
        let mut found = Vec::new();
        if let Some(files) = self.common.parent().filter(|_| self.common.ends_with(".git")) {
            found.push(Checkout { git_dir: self.common.clone(), files: files.to_owned(), branch: head(&self.common)? });
        } else if let Some(files) = self.inner.workdir().filter(|_| self.inner.path() == self.common) {
            found.push(Checkout { git_dir: self.common.clone(), files: files.to_owned(), branch: head(&self.common)? });
        }
        let entries = match fs_err::read_dir(self.common.join("worktrees")) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(e) => return Err(e.into()),
        };
        for entry in entries {
            let git_dir = entry?.path();
            // Half an entry belongs to nobody yet, or any more.
            let Ok(place) = fs_err::read_to_string(git_dir.join("gitdir")) else { continue };
            let Some(files) = Path::new(place.trim_end()).parent().map(Path::to_owned) else { continue };
            found.push(Checkout { branch: head(&git_dir).unwrap_or_default(), git_dir, files });
        }
        Ok(found)
    }

    /// Puts a checkout on a branch that is at the same commit: neither its files nor its index change.
    pub fn set_head(&self, checkout: &Checkout, branch: &str) -> Result<(), GitError> {
        let set = || git2::Repository::open(&checkout.git_dir)?.set_head(branch);
        fault::point();
        set().or_else(doing(|| format!("put {} on {branch}", checkout.files.display())))?;
        fault::point();
        Ok(())
    }

    /// Is there nothing in a checkout that is not committed? Untracked files count; ignored ones do not.
    pub fn is_clean(&self, checkout: &Checkout) -> Result<bool, GitError> {
        let look = || -> Result<bool, git2::Error> {
            let repository = git2::Repository::open(&checkout.git_dir)?;
            if repository.state() != git2::RepositoryState::Clean {
                return Ok(false);
            }
            let mut options = git2::StatusOptions::new();
            options.include_untracked(true).include_ignored(false).no_refresh(true).exclude_submodules(true);
            Ok(repository.statuses(Some(&mut options))?.is_empty())
        };
        look().or_else(doing(|| format!("look at {}", checkout.files.display())))
    }

    /// Brings a clean checkout to a commit and a branch that is there. Nothing that is not committed is overwritten: then nothing changes.
    pub fn fast_forward(&self, checkout: &Checkout, to: Oid, branch: &str) -> Result<(), GitError> {
        let move_files = || -> Result<(), git2::Error> {
            let repository = git2::Repository::open(&checkout.git_dir)?;
            let commit = repository.find_commit(to)?;
            let mut how = git2::build::CheckoutBuilder::new();
            how.safe();
            repository.checkout_tree(commit.as_object(), Some(&mut how))?;
            repository.set_head(branch)
        };
        move_files().or_else(doing(|| format!("bring {} to {to}", checkout.files.display())))
    }
}

/// The branch that a HEAD names.
fn head(git_dir: &Path) -> Result<Option<String>, GitError> {
    let text = fs_err::read_to_string(git_dir.join("HEAD"))?;
    Ok(text.strip_prefix("ref:").map(|name| name.trim().to_owned()))
}

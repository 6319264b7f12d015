//! What each role is told to do: versioned texts, built in; a person's own take their place from outside the repository.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::base::id::hex_text;
use crate::config::Role;

const IMPLEMENTER: &str = include_str!("roles/implementer.md");
const REVIEWER: &str = include_str!("roles/reviewer.md");
const DIAGNOSER: &str = include_str!("roles/diagnoser.md");
const PLANNER: &str = include_str!("roles/planner.md");
const VERIFIER: &str = include_str!("roles/verifier.md");

/// A person's text is not longer than this: the task must find room beside it.
const LONGEST: u64 = 16 << 10;

/// The text of a role, and what it is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolePrompt {
    pub text: String,
    /// Of a built-in text, as its first line says; else `own`.
    pub version: String,
    /// SHA-256 of the text: recorded with every run.
    pub hash: String,
    /// The file it was read from; none when it is built in.
    pub origin: Option<PathBuf>,
}

/// Why a person's own text cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct RoleError {
    path: PathBuf,
    why: String,
}

/// The text of a role. `folder` is where a person's own are: `ROLE.md`. One that cannot be read is an error, never passed over.
///
/// # Errors
/// When a person's file is too long, or cannot be read.
pub fn load(role: Role, folder: Option<&Path>) -> Result<RolePrompt, RoleError> {
    let path = folder.map(|folder| folder.join(format!("{}.md", role.name())));
    let own = path.as_ref().map(|path| (path, fs_err::metadata(path)));
    match own {
        Some((path, Ok(status))) => {
            let failed = |why: String| RoleError { path: path.clone(), why };
            if status.len() > LONGEST {
                return Err(failed(format!("it is longer than {} KiB", LONGEST >> 10)));
            }
            let text = fs_err::read_to_string(path).map_err(|e| failed(e.to_string()))?;
            Ok(RolePrompt { version: "own".to_owned(), hash: hex_text(&Sha256::digest(&text)), text, origin: Some(path.clone()) })
        }
        Some((path, Err(e))) if e.kind() != std::io::ErrorKind::NotFound => Err(RoleError { path: path.clone(), why: e.to_string() }),
        _ => {
            let text = built_in(role).to_owned();
            Ok(RolePrompt { version: version(&text).to_owned(), hash: hex_text(&Sha256::digest(&text)), text, origin: None })
        }
    }
}

/// `2` of `<!-- cofferdam role: reviewer, version 2 -->`.
fn version(text: &str) -> &str {
    text.split_once(", version ").and_then(|(_, rest)| rest.split_once(' ')).map_or("own", |(version, _)| version)
}

fn built_in(role: Role) -> &'static str {
    match role {
        Role::Implementer => IMPLEMENTER,
        Role::Reviewer => REVIEWER,
        Role::Diagnoser => DIAGNOSER,
        Role::Planner => PLANNER,
        Role::Verifier => VERIFIER,
        // A gate runs a command, and is told nothing.
        Role::Gate => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_has_a_text_with_its_version_and_a_persons_own_comes_first() {
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Gate) {
            let RolePrompt { text, version, .. } = load(role, None).expect("built in");
            assert!(version.parse::<u32>().is_ok(), "{version}");
            assert!(text.starts_with(&format!("<!-- cofferdam role: {}, version ", role.name())) && text.contains("/run/cofferdam/out/"));
        }
        let folder = tempfile::tempdir().expect("a folder");
        fs_err::write(folder.path().join("reviewer.md"), "Be strict.").expect("written");
        let own = load(Role::Reviewer, Some(folder.path())).expect("read");
        assert_eq!((own.text.as_str(), own.version.as_str(), own.hash.len(), own.origin.is_some()), ("Be strict.", "own", 64, true));
        assert!(load(Role::Planner, Some(folder.path())).expect("built in").origin.is_none());
        fs_err::write(folder.path().join("planner.md"), "x".repeat(20_000)).expect("written");
        assert!(load(Role::Planner, Some(folder.path())).is_err());
    }
}

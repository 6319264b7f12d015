//! Copies of a person's own untracked files into a new workspace: `[workspace] copy`. Copies, never links: nothing inside leads to the host.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::glob::Glob;
use super::walk::{Folder, Kind};

/// Whoever needs more than this does not mean a settings file.
const FILE_BYTES_MAX: u64 = 16 << 20;
const FILES_MAX: usize = 1000;
const DEPTH_MAX: usize = 64;

/// What was copied, and what was named and could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Paths below the workspace, escaped.
    pub files: Vec<String>,
    pub left_out: Vec<(String, &'static str)>,
}

/// Copies the files of `from` that a pattern names into `upper`, which no agent has seen yet.
///
/// The patterns are part of the repository: they are matched against names found below `from`, so that none can lead out of it.
pub fn copy_in(from: &Path, upper: &Path, patterns: &[String]) -> io::Result<Copied> {
    let globs: Vec<Glob> = patterns.iter().map(|pattern| Glob::new(pattern.trim_start_matches("./").as_bytes())).collect();
    let mut copied = Copied::default();
    if !globs.is_empty() {
        descend(&Folder::open_root(from)?, &mut Vec::new(), upper, &globs, &mut copied, 0)?;
    }
    Ok(copied)
}

fn descend(folder: &Folder, path: &mut Vec<u8>, upper: &Path, globs: &[Glob], copied: &mut Copied, depth: usize) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    for name in folder.names(1_000_000)? {
        if super::rules::is_git_directory(&name) {
            continue;
        }
        let Ok(status) = folder.status(&name) else { continue };
        let length = path.len();
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        if status.kind == Kind::Folder {
            if depth < DEPTH_MAX
                && let Ok(child) = folder.child(&name)
            {
                descend(&child, path, upper, globs, copied, depth + 1)?;
            }
        } else if globs.iter().any(|glob| glob.matches(path)) {
            let shown = crate::base::text::bytes_line(path);
            let why = match status.kind {
                Kind::File if status.size > FILE_BYTES_MAX => Some("it is over 16 MiB"),
                Kind::File if copied.files.len() >= FILES_MAX => Some("there are over 1000 files"),
                Kind::File => None,
                _ => Some("it is no regular file"),
            };
            match (why, if why.is_none() { folder.read(&name, &status)? } else { None }) {
                (None, Some(content)) => {
                    let target = upper.join(std::ffi::OsStr::from_bytes(path));
                    if let Some(parent) = target.parent() {
                        fs_err::create_dir_all(parent)?;
                    }
                    fs_err::write(&target, content)?;
                    fs_err::set_permissions(&target, PermissionsExt::from_mode(if status.mode & 0o100 == 0 { 0o644 } else { 0o755 }))?;
                    copied.files.push(shown);
                }
                (why, _) => copied.left_out.push((shown, why.unwrap_or("it changed while it was read"))),
            }
        }
        path.truncate(length);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_regular_files_below_the_root_are_copied() {
        let scratch = tempfile::tempdir().unwrap();
        let (from, upper) = (scratch.path().join("from"), scratch.path().join("upper"));
        fs_err::create_dir_all(from.join("sub")).unwrap();
        fs_err::create_dir(&upper).unwrap();
        fs_err::write(scratch.path().join("secret"), "s").unwrap();
        fs_err::write(from.join(".env"), "A=1").unwrap();
        fs_err::write(from.join("sub/x.local"), "x").unwrap();
        fs_err::write(from.join("other"), "o").unwrap();
        fs_err::os::unix::fs::symlink("../secret", from.join("link.local")).unwrap();
        let patterns = [".env", "**/*.local", "../secret", "/etc/passwd"].map(str::to_owned);
        let copied = copy_in(&from, &upper, &patterns).unwrap();
        assert_eq!(copied.files, [".env", "sub/x.local"]);
        assert_eq!(copied.left_out, [("link.local".to_owned(), "it is no regular file")]);
        assert!(!upper.join("other").exists() && !upper.join("link.local").exists());
    }
}

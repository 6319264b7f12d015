//! Writing story files: all of them or none.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::failure::{Exit, Failure};
use crate::spec::import::Write;

/// Writes every file, or undoes what was done. New files never replace anything; replaced ones change in one step.
pub fn write_all(root: &Path, folder: &str, writes: &[Write]) -> Result<Vec<PathBuf>, Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::new(Exit::Failure, "the story files could not be written, and nothing was changed")
            .because(error)
            .next("free some space or mend the permissions, and run it again")
    };
    let base = root.join(folder);
    fs_err::create_dir_all(&base).map_err(|e| failed(&e))?;
    // Everything is on the disk before the first name changes.
    let mut staged = Vec::new();
    for write in writes {
        let path = if write.replaces { root.join(&write.name) } else { base.join(&write.name) };
        let parent = path.parent().unwrap_or(&base);
        let mut file = tempfile::Builder::new().prefix(".cofferdam-").suffix(".tmp").tempfile_in(parent).map_err(|e| failed(&e))?;
        file.write_all(write.text.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(|e| failed(&e))?;
        let before = if write.replaces { Some(fs_err::read(&path).map_err(|e| failed(&e))?) } else { None };
        set_mode(&file, write.replaces.then_some(path.as_path())).map_err(|e| failed(&e))?;
        staged.push((file, path, before));
    }
    let mut done: Vec<(PathBuf, Option<Vec<u8>>)> = Vec::new();
    for (file, path, before) in staged {
        let result = if before.is_some() { file.persist(&path) } else { file.persist_noclobber(&path) };
        if let Err(error) = result {
            undo(&done);
            return Err(failed(&error.error));
        }
        done.push((path, before));
    }
    Ok(done.into_iter().map(|(path, _)| path).collect())
}

/// A temporary file is for its owner alone; a story file has the mode it had, or can be read by all.
fn set_mode(file: &NamedTempFile, old: Option<&Path>) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = match old {
        Some(path) => fs_err::metadata(path)?.permissions().mode() & 0o777,
        None => 0o644,
    };
    file.as_file().set_permissions(std::fs::Permissions::from_mode(mode))
}

fn undo(done: &[(PathBuf, Option<Vec<u8>>)]) {
    for (path, before) in done {
        // Nothing better can be done when undoing fails as well; the message says that writing failed.
        drop(match before {
            None => fs_err::remove_file(path),
            Some(bytes) => fs_err::write(path, bytes),
        });
    }
}

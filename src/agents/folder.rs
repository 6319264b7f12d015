//! `/run/cofferdam` of one process: a folder of the host that it reads, with one folder in it that it writes.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::answers::{self, Report};
use crate::sandbox::policy::{Access, Grant, Policy, Tree};
use crate::workspace::walk::{Folder, Kind};

/// Where it is seen inside.
pub const RUN: &str = "/run/cofferdam";
pub const TASK: &str = "/run/cofferdam/task.json";
pub const PROMPT: &str = "/run/cofferdam/prompt.md";
pub const OUT: &str = "/run/cofferdam/out";
/// The tree before the change, for whoever judges one.
pub const BEFORE: &str = "/run/cofferdam/before";
/// The target's tree, for programs that come with the project.
pub const BASE: &str = "/run/cofferdam/base";

/// What an implementer reported at its counter; beside `out/`, not in it.
const SAID: &str = "said.json";

/// Answers are a few sentences; whoever leaves more wants to fill the disk.
const MOST_BYTES: u64 = 32 << 20;
const MOST_FILES: u64 = 1_000;

/// The folder of one process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes an empty one; what an earlier process of the same name left is gone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(path: &Path) -> io::Result<Self> {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The payload of a run by root is another user: it must be able to read.
        for folder in [path.to_owned(), path.join("out"), path.join("base")] {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
        }
        Ok(Self { path: path.to_owned() })
    }

    /// One that was made before.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Writes a file for the process to read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let path = self.path.join(name);
        if let Some(parent) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        fs::write(&path, content)?;
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
    }

    /// Makes an empty folder in it: a place for files to be mounted on, or to be written to.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn place(&self, name: &str) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(self.path.join(name))
    }

    /// Shows it to a process: all of it to read, `out/` to write, and the base tree when a program comes from there.
    pub fn grant(&self, policy: &mut Policy, base: Option<Vec<PathBuf>>) {
        let grant = |host: PathBuf, inside: &str, access| Grant { host, inside: inside.into(), access, reason: "the task".to_owned() };
        policy.grants.push(grant(self.path.clone(), RUN, Access::Read));
        policy.grants.push(grant(self.path.join("out"), OUT, Access::Write));
        policy.trees.extend(base.map(|lower| Tree { lower, inside: BASE.into(), reason: "the agent's program".to_owned() }));
    }

    /// One answer, opened without following anything. `Ok(None)` when there is none.
    ///
    /// # Errors
    /// Why it is not taken: no regular file, too large, not readable.
    pub fn answer(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, String> {
        let unreadable = |error: io::Error| format!("out/{name} cannot be read: {error}");
        let out = Folder::open_root(&self.path.join("out")).map_err(unreadable)?;
        let status = match out.status(name.as_bytes()) {
            Ok(status) => status,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(error)),
        };
        match status.kind {
            Kind::File if status.size > limit => Err(format!("out/{name} is larger than {} KiB", limit >> 10)),
            Kind::File => match out.read(name.as_bytes(), &status).map_err(unreadable)? {
                Some(bytes) => Ok(Some(bytes)),
                None => Err(format!("out/{name} changed while it was read")),
            },
            Kind::Folder => Err(format!("out/{name} is a folder")),
            Kind::Link => Err(format!("out/{name} is a link, and links are not followed")),
            Kind::Whiteout | Kind::Special(_) => Err(format!("out/{name} is no regular file")),
        }
    }

    /// The report of an implementer that has ended: what it said at its counter, else the file that it left.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn report(&self) -> Result<Option<Report>, String> {
        match fs::read(self.path.join(SAID)) {
            Ok(bytes) => answers::report(&bytes).map(Some),
            Err(_) => self.answer("report.json", answers::LONGEST)?.map(|bytes| answers::report(&bytes)).transpose(),
        }
    }

    /// Keeps what it said, where nothing inside can write: the commit is named by it. What it did not say may stand in the file that it left.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_report(&self, said: Report) -> Result<Report, String> {
        let report = said.or(self.report().ok().flatten().unwrap_or_default());
        let text = serde_json::json!({"summary": report.summary, "message": report.message, "question": report.question});
        self.write(SAID, text.to_string().as_bytes()).map_err(|e| format!("what it said cannot be kept: {e}"))?;
        Ok(report)
    }

    /// Whether more was left in `out/` than answers need.
    pub fn is_flooded(&self) -> bool {
        let Ok(out) = Folder::open_root(&self.path.join("out")) else { return false };
        let (mut bytes, mut files) = (0, 0);
        let mut folders = vec![(out, 0)];
        while let Some((folder, depth)) = folders.pop() {
            let Ok(names) = folder.names(MOST_FILES) else { return true };
            for name in names {
                files += 1;
                let Ok(status) = folder.status(&name) else { continue };
                bytes += status.size;
                if files > MOST_FILES || bytes > MOST_BYTES || depth > 8 {
                    return true;
                }
                if status.kind == Kind::Folder
                    && let Ok(child) = folder.child(&name)
                {
                    folders.push((child, depth + 1));
                }
            }
        }
        false
    }

    /// Removes it. Everything worth keeping is evidence by then.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(self) -> io::Result<()> {
        fs::remove_dir_all(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_said_stands_in_the_file_that_was_left() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = RunFolder::create(&dir.path().join("run")).expect("made");
        let left = dir.path().join("run/out/report.json");
        fs::write(&left, r#"{"summary": "left", "message": "kv: delete"}"#).expect("written");
        let said = Report { summary: Some("said".to_owned()), question: Some("why?".to_owned()), message: None };
        let report = Report { message: Some("kv: delete".to_owned()), ..said.clone() };
        assert_eq!(folder.keep_report(said.clone()), Ok(report.clone()));
        assert_eq!(folder.report(), Ok(Some(report)), "the commit is called so too");
        let folder = RunFolder::create(&dir.path().join("run")).expect("made");
        fs::write(&left, "{").expect("written");
        assert_eq!(folder.keep_report(said.clone()), Ok(said), "a file that cannot be read takes nothing from what was said");
    }

    #[test]
    fn only_small_regular_files_are_answers() {
        let dir = tempfile::tempdir().expect("dir");
        let folder = RunFolder::create(&dir.path().join("run")).expect("made");
        let out = dir.path().join("run/out");
        assert_eq!(folder.answer("report.json", 100), Ok(None));
        fs::write(out.join("report.json"), "{}").expect("written");
        assert_eq!(folder.answer("report.json", 100), Ok(Some(b"{}".to_vec())));
        assert!(folder.answer("report.json", 1).expect_err("large").contains("larger"));
        fs::write(dir.path().join("secret"), "secret").expect("written");
        std::os::unix::fs::symlink(dir.path().join("secret"), out.join("link.json")).expect("linked");
        assert!(folder.answer("link.json", 100).expect_err("a link").contains("link"));
        fs::create_dir(out.join("folder.json")).expect("made");
        assert!(folder.answer("folder.json", 100).expect_err("a folder").contains("folder"));
        nix::unistd::mkfifo(&out.join("pipe.json"), nix::sys::stat::Mode::S_IRWXU).expect("made");
        assert!(folder.answer("pipe.json", 100).expect_err("a pipe").contains("no regular file"));
        assert!(!folder.is_flooded());
        std::fs::File::create(out.join("big")).and_then(|file| file.set_len(MOST_BYTES)).expect("made");
        assert!(folder.is_flooded());
        folder.remove().expect("removed");
        // What was there before is gone.
        fs::create_dir_all(&out).expect("made");
        fs::write(out.join("report.json"), "old").expect("written");
        let folder = RunFolder::create(&dir.path().join("run")).expect("made");
        assert_eq!(folder.answer("report.json", 100), Ok(None));
    }
}

//! What a run in place left behind that could run code on the host later: named, so that a person looks before a tool does.

use super::rules;
use super::walk::{Folder, Kind};

/// One such thing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Risk {
    /// Escaped: safe to print.
    pub path: String,
    pub why: &'static str,
}

/// How many are told; a thousand say no more than a hundred.
const RISKS_MAX: usize = 100;
const ENTRIES_MAX: u64 = 2_000_000;
const DEPTH_MAX: usize = 128;

/// Why a file with such a path can run code by itself, or in the hands of a common tool. Pure. `path` is below the workspace.
pub fn risky_file(path: &[u8]) -> Option<&'static str> {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
    let within = |folder: &[u8]| path.starts_with(folder) || path.windows(folder.len() + 1).any(|w| w[0] == b'/' && &w[1..] == folder);
    Some(match name {
        b".envrc" => "direnv runs it when somebody enters the folder",
        b".gitattributes" => "it chooses filters and drivers that your git configuration names",
        b".gitmodules" => "it names repositories that git would fetch",
        b"package.json" => "npm runs its scripts, some of them at install",
        b"Makefile" | b"makefile" | b"GNUmakefile" | b"justfile" | b"Justfile" | b"Taskfile.yml" => "a build tool runs it",
        b"build.rs" | b"setup.py" | b"conftest.py" | b"build.gradle" | b"build.gradle.kts" => "a build or test tool runs it",
        b".pre-commit-config.yaml" | b"lefthook.yml" => "it chooses the hooks that a commit runs",
        b".gitlab-ci.yml" | b"Jenkinsfile" | b".travis.yml" | b"azure-pipelines.yml" => "CI runs it",
        b".npmrc" | b".yarnrc" | b".yarnrc.yml" | b".pnpmfile.cjs" | b"pip.conf" => "it changes where a package manager gets its code",
        b".mcp.json" | b"CLAUDE.md" | b"AGENTS.md" => "the next agent obeys it",
        _ if within(b".vscode/") || within(b".idea/") || within(b".zed/") => "an editor may run it when the folder is opened",
        _ if within(b".github/workflows/") || within(b".github/actions/") || within(b".circleci/") || within(b".buildkite/") => {
            "CI runs it"
        }
        _ if within(b".husky/") || within(b".githooks/") => "a hook manager runs it",
        _ if within(b".cargo/") => "cargo obeys it: it may name programs",
        _ if within(b".claude/") || within(b".cursor/") || within(b".codex/") => "the next agent obeys it",
        _ if within(b".devcontainer/") => "an editor builds and runs it",
        _ if name.ends_with(b".code-workspace") => "an editor may run its tasks",
        _ => return None,
    })
}

/// Everything of that kind that changed since a moment: what the kernel says, which the run could not forge.
pub fn since(root: &Folder, start: (i64, i64), hooks: Option<&[u8]>) -> (Vec<Risk>, u64) {
    let mut look = Look { start, hooks, risks: Vec::new(), more: 0, left: ENTRIES_MAX };
    look.folder(root, &mut Vec::new(), 0);
    (look.risks, look.more)
}

struct Look<'a> {
    start: (i64, i64),
    hooks: Option<&'a [u8]>,
    risks: Vec<Risk>,
    more: u64,
    left: u64,
}

impl Look<'_> {
    fn folder(&mut self, folder: &Folder, path: &mut Vec<u8>, depth: usize) {
        let Ok(names) = folder.names(self.left) else { return };
        let has = |name: &[u8]| names.binary_search_by(|known| known.as_slice().cmp(name)).is_ok();
        if depth > 0 && has(b"HEAD") && has(b"objects") && has(b"refs") && self.is_new(folder, b"HEAD") {
            self.tell(path, "a repository without a worktree: git obeys its configuration for whoever stands in it");
        }
        for name in names {
            self.left = self.left.saturating_sub(1);
            let Ok(status) = folder.status(&name) else { continue };
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let changed = status.changed >= self.start;
            if rules::is_git_directory(&name) {
                // The repository's own was replaced inside; any other one is obeyed by whoever stands near it.
                if depth > 0 || name != b".git" {
                    self.git(folder, &name, changed, path);
                }
            } else if status.kind == Kind::Folder {
                if depth < DEPTH_MAX
                    && let Ok(child) = folder.child(&name)
                {
                    self.folder(&child, path, depth + 1);
                }
            } else if changed {
                let hook = self.hooks.is_some_and(|hooks| path.strip_prefix(hooks).is_some_and(|rest| rest.starts_with(b"/")));
                if hook {
                    self.tell(path, "this repository's git runs it as a hook");
                } else if let Some(why) = risky_file(path) {
                    self.tell(path, why);
                }
            }
            path.truncate(length);
        }
    }

    /// A git directory below the root: its own time, or that of what it runs.
    fn git(&mut self, parent: &Folder, name: &[u8], changed: bool, path: &[u8]) {
        let inner = parent.child(name);
        let touched = |folder: &Folder, names: &[&[u8]]| names.iter().any(|name| self.is_new(folder, name));
        let changed = changed
            || inner.as_ref().is_ok_and(|git| {
                touched(git, &[b"config", b"config.worktree", b"HEAD", b"commondir", b"hooks", b"info"])
                    || git
                        .child(b"hooks")
                        .is_ok_and(|hooks| hooks.names(1000).unwrap_or_default().iter().any(|name| self.is_new(&hooks, name)))
            });
        if changed {
            self.tell(path, "a nested repository: git obeys its hooks and configuration for whoever stands in it");
        }
    }

    fn is_new(&self, folder: &Folder, name: &[u8]) -> bool {
        folder.status(name).is_ok_and(|status| status.changed >= self.start)
    }

    fn tell(&mut self, path: &[u8], why: &'static str) {
        if self.risks.len() < RISKS_MAX {
            self.risks.push(Risk { path: crate::base::text::bytes_line(path), why });
        } else {
            self.more += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::risky_file;

    #[test]
    fn what_tools_obey_is_known_wherever_it_lies() {
        for path in [
            ".envrc",
            "a/.envrc",
            ".vscode/tasks.json",
            "x/.vscode/tasks.json",
            "package.json",
            ".github/workflows/ci.yml",
            "Makefile",
            ".husky/pre-commit",
        ] {
            assert!(risky_file(path.as_bytes()).is_some(), "{path}");
        }
        for path in ["src/main.rs", "vscode/tasks.json", "a.vscode/x", "README.md"] {
            assert_eq!(risky_file(path.as_bytes()), None, "{path}");
        }
    }
}

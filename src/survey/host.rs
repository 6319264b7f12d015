//! What this host has: programs on PATH, agents, their keys and logins by name. Nothing is run, and no value is read.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Host;
use super::agents::{Agent, UNUSED_LOGINS};
use crate::agents::adapter;

/// Programs that gates need.
const PROGRAMS: [&str; 32] = [
    "cargo",
    "cargo-clippy",
    "cargo-fmt",
    "cargo-nextest",
    "node",
    "npm",
    "pnpm",
    "yarn",
    "bun",
    "python3",
    "pytest",
    "uv",
    "poetry",
    "ruff",
    "mypy",
    "flake8",
    "go",
    "golangci-lint",
    "java",
    "mvn",
    "gradle",
    "make",
    "cmake",
    "ctest",
    "meson",
    "ninja",
    "bundle",
    "mix",
    "cc",
    "git",
    "tox",
    "nox",
];

/// Looks around. `adapters` is the folder of a person's own adapters.
pub fn host(variables: &BTreeMap<String, OsString>, adapters: Option<&Path>) -> Host {
    // A relative entry would be a folder of the repository.
    let path = variables.get("PATH").cloned().unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect();
    let find = |program: &str| {
        let is =
            |folder: &&PathBuf| fs_err::metadata(folder.join(program)).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
        folders.iter().find(is).map(|folder| folder.to_string_lossy().into_owned())
    };
    let programs = PROGRAMS.iter().filter_map(|program| Some(((*program).to_owned(), find(program)?))).collect();
    let is_set = |name: &str| variables.get(name).is_some_and(|value| !value.is_empty());
    let home = variables.get("HOME").map(PathBuf::from);
    let is_login = |path: PathBuf| fs_err::metadata(path).is_ok_and(|m| m.is_file() && m.len() > 0);
    let folder = |name: &str| variables.get(name).map(PathBuf::from);
    let login_used = |adapter: &adapter::Adapter| {
        home.as_ref().is_some_and(|home| adapter.logins.iter().any(|login| is_login(login.place(home, &folder).0)))
    };
    let logged_in = |name: &str| {
        let unused = UNUSED_LOGINS.iter().filter(|(agent, _)| *agent == name);
        unused.filter_map(|(_, path)| Some(home.as_ref()?.join(path))).any(is_login)
    };
    // In the order of the built-in ones, then a person's own; one that cannot be read is told by whoever uses it.
    let built_in = adapter::BUILT_IN.iter().map(|(name, _)| (*name).to_owned());
    let own = adapter::known(adapters).into_iter().filter(|name| !adapter::BUILT_IN.iter().any(|(known, _)| known == name));
    let adapters = built_in.chain(own).filter_map(|name| adapter::load(&name, adapters).ok()).filter(|adapter| !adapter.program.is_empty());
    let agents = adapters.map(|adapter| {
        let key = adapter.provider.as_ref().map(|provider| provider.key.clone());
        let installed =
            if adapter.program.starts_with('/') { Path::new(&adapter.program).is_file() } else { find(&adapter.program).is_some() };
        let login_used = login_used(&adapter);
        let logged_in = login_used || logged_in(&adapter.name);
        Agent { installed, has_key: key.as_deref().is_some_and(is_set), logged_in, login_used, key, name: adapter.name }
    });
    Host { agents: agents.collect(), programs }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_known_by_its_program_the_name_of_its_key_and_the_file_of_its_login() {
        let root = tempfile::tempdir().unwrap();
        for name in ["bin/claude", "home/.claude/.credentials.json", "home/.codex/auth.json", "bin/npm"] {
            let path = root.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(&path, "sk-secret").unwrap();
            fs_err::set_permissions(&path, std::fs::Permissions::from_mode(if name.starts_with("bin/c") { 0o755 } else { 0o600 })).unwrap();
        }
        let path = format!("relative:{}", root.path().join("bin").display());
        let variables = [("PATH", path), ("HOME", root.path().join("home").display().to_string()), ("OPENAI_API_KEY", "sk-secret".into())];
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let host = host(&variables, None);
        let of = |name: &str| host.agents.iter().find(|agent| agent.name == name).map(|a| (a.installed, a.has_key, a.logged_in)).unwrap();
        assert_eq!((of("claude"), of("codex"), of("gemini")), ((true, false, true), (false, true, true), (false, false, false)));
        assert!(host.programs.is_empty(), "npm cannot be executed: {:?}", host.programs);
        assert!(!format!("{host:?}").contains("sk-secret"));
    }
}

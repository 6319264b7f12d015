//! `cofferdam doctor --agents`: which agents are here, and would their models answer? Each one's next command otherwise.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::doctor::wrapped;
use super::failure::{Exit, Failure};
use super::printer;
use crate::agents::adapter::{self, Adapter};
use crate::base::text::{cut, one_line};
use crate::egress::Kept;
use crate::egress::login::{State, about};
use crate::sandbox::policy::{Access, Limits, Policy};
use crate::sandbox::profile::load;
use crate::sandbox::resolve::{ExecOptions, resolve};
use crate::sandbox::toolchains::{Host, Surroundings};
use crate::sandbox::{Cause, Destination, Engine};
use crate::survey::host;

const VERSION: u32 = 1;
/// For a program to say which version it is: also one that is read from a slow disk for the first time.
const WALL: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Document {
    version: u32,
    agents: Vec<Line>,
}

/// One agent.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// Its program is on PATH.
    installed: bool,
    /// What the program says that it is. None when it was not asked, or says nothing.
    found: Option<String>,
    access: Way,
    /// The variable or the file.
    from: Option<String>,
    /// When a login ends, or ended.
    until: Option<Timestamp>,
    detail: String,
    /// What to do before it can work.
    next: Option<String>,
}

/// How a run would come to its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Key,
    Login,
    Expired,
    Unreadable,
    None,
}

/// # Errors
/// When this host cannot be looked at.
pub(super) fn run(json: bool) -> Result<ExitCode, Failure> {
    let around = Surroundings::of_process();
    let own = around.profiles.as_deref().and_then(std::path::Path::parent).map(|folder| folder.join("adapters"));
    let surveyed = host::host(&around.variables, own.as_deref());
    let asker = Asker::new(&around);
    let now = Timestamp::now();
    let mut agents = Vec::new();
    for found in surveyed.agents {
        let adapter =
            adapter::load(&found.name, own.as_deref()).map_err(|error| Failure::new(Exit::Usage, error.to_string()).next(error.next()))?;
        let printed = if found.installed { asker.as_ref().and_then(|asker| asker.ask(&adapter)) } else { None };
        agents.push(line(&adapter, found.installed, printed, access(&adapter, &around, now)));
    }
    let ready = agents.iter().any(|agent| agent.next.is_none());
    if json {
        printer::json(&Document { version: VERSION, agents });
    } else {
        printer::out(&report(&agents));
    }
    Ok(if ready { ExitCode::SUCCESS } else { ExitCode::from(Exit::Blocked as u8) })
}

/// What its model would be paid with, in the order in which a run looks: a key, then a login.
struct Found {
    way: Way,
    from: Option<String>,
    until: Option<Timestamp>,
    detail: String,
    next: Option<String>,
}

fn access(adapter: &Adapter, around: &Surroundings, now: Timestamp) -> Found {
    let key = adapter.provider.as_ref().map(|provider| provider.key.clone());
    if let Some(key) = key.as_ref().filter(|key| around.variables.get(key.as_str()).is_some_and(|value| !value.is_empty())) {
        return Found { way: Way::Key, from: Some(key.clone()), until: None, detail: format!("key in {key}"), next: None };
    }
    let variable = |name: &str| around.variables.get(name).map(PathBuf::from);
    let kept = around.home.as_deref().and_then(|home| Kept::find(&adapter.logins, home, &variable));
    let Some(kept) = kept else {
        let next = match (adapter.logins.first(), &key) {
            (Some(login), Some(key)) => Some(format!("{}    # or: export {key}=…", login.renew)),
            (None, Some(key)) => Some(format!("export {key}=…")),
            _ => None,
        };
        let detail = key.map_or_else(|| "it brings its own model".to_owned(), |key| format!("no login, and {key} is not set"));
        return Found { way: Way::None, from: None, until: None, detail, next };
    };
    let (shown, renew) = (kept.shown().to_owned(), kept.login.renew.clone());
    let (way, until, detail, next) = match kept.state(now) {
        State::Good { until: Some(until) } => (Way::Login, Some(until), format!("logged in by {shown}, for {}", about(until, now)), None),
        State::Good { until: None } => (Way::Login, None, format!("logged in by {shown}"), None),
        State::Expired(until) => {
            (Way::Expired, Some(until), format!("the login in {shown} expired {} ago", about(until, now)), Some(renew))
        }
        State::Empty => (Way::None, None, format!("nobody is logged in by {shown}"), Some(renew)),
        State::Unreadable(why) => (Way::Unreadable, None, why, Some(renew)),
    };
    Found { way, from: Some(shown), until, detail, next }
}

fn line(adapter: &Adapter, installed: bool, found: Option<String>, access: Found) -> Line {
    let Found { way, from, until, mut detail, mut next } = access;
    let wanted = adapter.version.as_ref();
    if !installed {
        detail = format!("`{}` is not on PATH; {detail}", adapter.program);
        next = Some(install(adapter));
    } else if let (Some(printed), Some(wanted)) = (&found, wanted)
        && adapter.is_new_enough(printed) == Some(false)
    {
        detail = format!("it is older than {}; {detail}", wanted.minimum);
        next = Some(install(adapter));
    }
    Line { name: adapter.name.clone(), installed, found, access: way, from, until, detail, next }
}

fn install(adapter: &Adapter) -> String {
    let update = adapter.version.as_ref().and_then(|version| version.update.clone());
    update.unwrap_or_else(|| format!("install `{}`", adapter.program))
}

/// Programs are asked in a sandbox without a network: to ask is to run them.
struct Asker {
    engine: Engine,
    around: Surroundings,
    folder: tempfile::TempDir,
}

impl Asker {
    fn new(around: &Surroundings) -> Option<Self> {
        let engine = Engine::here(crate::sandbox::plan::Facts::read());
        Some(Self { engine, around: around.clone(), folder: tempfile::tempdir().ok()? })
    }

    fn ask(&self, adapter: &Adapter) -> Option<String> {
        let version = adapter.version.as_ref()?;
        let policy = self.policy(&adapter.program)?;
        let command = self.engine.sandbox(&policy).command(&adapter.program).args(&version.arguments);
        let finished = command.stdout(Destination::Memory(4096)).stderr(Destination::Memory(4096)).spawn().ok()?.wait().ok()?;
        if finished.outcome.cause != Cause::Exited || finished.outcome.exit_code != 0 {
            return None;
        }
        let text = String::from_utf8_lossy(&finished.stdout).into_owned();
        text.lines().map(str::trim).find(|line| !line.is_empty()).map(|line| cut(&one_line(line), 60))
    }

    fn policy(&self, program: &str) -> Option<Policy> {
        let options = ExecOptions {
            cwd: self.folder.path().to_path_buf(),
            program: Some(program.into()),
            limits: Limits { wall: Some(WALL), ..Limits::default() },
            ..ExecOptions::default()
        };
        let mut policy = resolve(&Host::default(), &load::load("default", None).ok()?, &options, &self.around).ok()?.policy;
        policy.workspace.access = Access::Read;
        Some(policy)
    }
}

/// For a person, at 80 columns.
fn report(agents: &[Line]) -> String {
    let mut lines = Vec::new();
    for agent in agents {
        let state = match (agent.next.is_none(), agent.installed) {
            (true, _) => "ok",
            (false, true) => "NOT YET",
            (false, false) => "-",
        };
        let version = agent.found.as_ref().map_or_else(String::new, |found| format!("{found}; "));
        lines.extend(wrapped(&format!("  {state:<8} {:<10}", agent.name), &one_line(&format!("{version}{}", agent.detail))));
        if agent.installed
            && let Some(next) = &agent.next
        {
            lines.push(format!("    next: {next}"));
        }
    }
    let missing: Vec<&Line> = agents.iter().filter(|agent| !agent.installed).collect();
    let ready = agents.iter().filter(|agent| agent.next.is_none()).count();
    lines.push(String::new());
    if ready == 0 {
        lines.extend(wrapped("not ready: ", "no agent here would get an answer; do what stands behind `next`"));
        // Whoever has one wants that one to work.
        let none = missing.len() == agents.len();
        lines.extend(missing.iter().filter(|_| none).filter_map(|agent| Some(format!("    next: {}", agent.next.as_ref()?))));
    } else {
        lines.extend(wrapped("ready: ", &format!("{ready} of {}; keys and logins stay outside of the sandboxes", agents.len())));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(home: &std::path::Path, more: &[(&str, &str)]) -> Surroundings {
        let own = [("HOME", home.to_str().expect("text"))];
        let variables = own.iter().chain(more).map(|(n, v)| ((*n).to_owned(), (*v).into()));
        Surroundings::of(variables.collect())
    }

    #[test]
    fn each_way_to_a_model_is_told_with_what_is_to_be_done() {
        let home = tempfile::tempdir().expect("a home");
        fs_err::create_dir_all(home.path().join(".claude")).expect("a folder");
        let claude = adapter::load("claude", None).expect("claude");
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().expect("a moment");
        let write = |text: &str| fs_err::write(home.path().join(".claude/.credentials.json"), text).expect("written");
        let say = |more: &[(&str, &str)], installed, printed: Option<&str>| {
            line(&claude, installed, printed.map(str::to_owned), access(&claude, &around(home.path(), more), now))
        };
        let mut lines =
            vec![say(&[("ANTHROPIC_API_KEY", "sk-x")], true, Some("2.1.9 (Claude Code)")), say(&[], true, Some("1.0.3 (Claude Code)"))];
        for text in [
            r#"{"claudeAiOauth":{"accessToken":"sk-ant-oat01-x","expiresAt":1767290400000}}"#,
            r#"{"claudeAiOauth":{"accessToken":"sk-ant-oat01-x","expiresAt":1767200000000}}"#,
            r#"{"claudeAiOauth":{"accessToken":""}}"#,
            "no JSON sk-ant-oat01-x",
        ] {
            write(text);
            lines.push(say(&[], true, Some("2.1.9 (Claude Code)")));
        }
        lines.push(say(&[], false, None));
        let text = report(&lines);
        assert!(!text.contains("sk-"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!(text);
        let ways: Vec<Way> = lines.iter().map(|line| line.access).collect();
        assert_eq!(ways, [Way::Key, Way::None, Way::Login, Way::Expired, Way::None, Way::Unreadable, Way::Unreadable]);
    }
}

//! Merged settings to a [`Config`], and the checks that need more than one value.

use std::collections::BTreeMap;
use std::time::Duration;

use super::layer::{Origin, Setting, Settings};
use super::value::Value;
use super::{
    Agent, Backend, Budget, CI_GATE, Ci, CiProvider, Config, Contract, Credential, DEFAULT_PRIORITY, Gate, Health, Invariants, Landing,
    Limits, LoginUse, Merge, Notify, Project, Queue, Report, Role, Run, Sandbox, Secret, StartOn, Stream, Style, UpdateCheckout, Verify,
    When, Workspace,
};
use crate::base::size::Size;
use crate::base::source::{Level, Problem};

/// Builds the configuration. `None` when a value that must be there is missing; the problems say which.
pub fn build(settings: &Settings) -> (Option<Config>, Vec<Problem>) {
    let mut reader = Reader { settings, problems: Vec::new() };
    let config = reader.config();
    reader.cross_check(&config);
    let Reader { problems, .. } = reader;
    let sound = !crate::base::source::any_error(&problems);
    (sound.then_some(config), problems)
}

struct Reader<'a> {
    settings: &'a Settings,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn text(&self, path: &str) -> Option<String> {
        match self.settings.get(path).map(|s| &s.value) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn texts(&self, path: &str) -> Vec<String> {
        match self.settings.get(path).map(|s| &s.value) {
            Some(Value::Texts(texts)) => texts.clone(),
            _ => Vec::new(),
        }
    }

    fn count(&self, path: &str) -> Option<u64> {
        match self.settings.get(path).map(|s| &s.value) {
            Some(Value::Count(n)) => Some(*n),
            _ => None,
        }
    }

    fn number(&self, path: &str) -> Option<f64> {
        match self.settings.get(path).map(|s| &s.value) {
            Some(Value::Number(n)) => Some(*n),
            _ => None,
        }
    }

    fn time(&self, path: &str) -> Option<Duration> {
        match self.settings.get(path).map(|s| &s.value) {
            Some(Value::Time(t)) => Some(*t),
            _ => None,
        }
    }

    fn size(&self, path: &str) -> Option<Size> {
        match self.settings.get(path).map(|s| &s.value) {
            Some(Value::Size(s)) => Some(*s),
            _ => None,
        }
    }

    /// A value without which nothing can be decided. The built-in layer has them all, so its absence is found by the tests.
    fn must<T: Default>(&mut self, path: &str, value: Option<T>) -> T {
        value.unwrap_or_else(|| {
            self.problems.push(Problem::anywhere("missing-key", format!("`{path}` is not set"), format!("set `{path}`")));
            T::default()
        })
    }

    fn must_count(&mut self, path: &str) -> u64 {
        self.must(path, self.count(path))
    }

    fn must_time(&mut self, path: &str) -> Duration {
        self.must(path, self.time(path))
    }

    fn must_text(&mut self, path: &str) -> String {
        self.must(path, self.text(path))
    }

    fn config(&mut self) -> Config {
        let stories = self.must_text("project.stories");
        let unset = Workspace::default();
        let mut protected = self.texts("verify.protected");
        // What decides about the work is never changed by the work alone, whatever the list says.
        for always in [
            "cofferdam.toml".to_owned(),
            if stories.ends_with(".md") || stories.ends_with(".json") {
                stories.clone()
            } else {
                format!("{}/**", stories.trim_end_matches('/'))
            },
        ] {
            if !protected.contains(&always) {
                protected.push(always);
            }
        }
        Config {
            project: Project {
                target: self.must_text("project.target"),
                stories_by_default: self.settings.get("project.stories").is_some_and(|s| s.origin == Origin::BuiltIn),
                stories,
            },
            run: Run {
                parallel: self.must_count("run.parallel"),
                start_on: match self.must_text("run.start_on").as_str() {
                    "ready_for_review" => StartOn::ReadyForReview,
                    _ => StartOn::Merged,
                },
                iterations: self.must_count("run.iterations"),
                review_cycles: self.must_count("run.review_cycles"),
                review_notify: self.must_count("run.review_notify"),
                stagnation: self.must_count("run.stagnation"),
                approach_failures: self.must_count("run.approach_failures"),
                integration_every: self.must_count("run.integration_every"),
                retry_delay: self.must_time("run.retry_delay"),
            },
            budget: self.budget("budget"),
            run_budget: self.budget("budget.run"),
            agents: self.agents(),
            gates: self.gates(),
            verify: Verify {
                protected,
                tests: self.texts("verify.tests"),
                reviewers: self.must_count("verify.reviewers"),
                max_files: self.must_count("verify.max_files"),
                max_bytes: self.size("verify.max_bytes").unwrap_or(Size::mib(4)),
                binaries: self.texts("verify.binaries"),
            },
            network: self.by_role(|this, role| {
                let path = format!("network.{role}");
                this.settings.contains_key(&path).then(|| this.texts(&path))
            }),
            credentials: self.credentials(),
            limits: self.by_role(|this, role| Some(this.limits(role))),
            workspace: Workspace {
                backend: match self.must_text("workspace.backend").as_str() {
                    "overlay" => Backend::Overlay,
                    "checkout" => Backend::Checkout,
                    _ => Backend::Auto,
                },
                in_memory: self.must_text("workspace.upper") == "tmpfs",
                layers: self.size("workspace.layers").unwrap_or(unset.layers),
                caches: self.size("workspace.caches").unwrap_or(unset.caches),
                copy: self.texts("workspace.copy"),
                setup: self.text("workspace.setup"),
            },
            sandbox: Sandbox { allow_no_userns: self.must_text("sandbox.require") == "no-userns" },
            merge: Merge {
                style: match self.must_text("merge.style").as_str() {
                    "squash" => Style::Squash,
                    "rebase" => Style::Rebase,
                    _ => Style::Merge,
                },
                push: self.text("merge.push"),
                revert: self.must_text("merge.revert") == "auto",
                update_checkout: match self.must_text("merge.update_checkout").as_str() {
                    "fast-forward-if-clean" => UpdateCheckout::FastForwardIfClean,
                    _ => UpdateCheckout::Never,
                },
                landing: match self.must_text("merge.landing").as_str() {
                    "approval" => Landing::Approval,
                    "stop" => Landing::Stop,
                    _ => Landing::Queue,
                },
            },
            queue: Queue { slots: self.must_count("queue.slots"), batch: self.must_count("queue.batch") },
            ci: self.ci(),
            streams: self.streams(),
            invariants: Invariants { require: self.texts("invariants.require"), serial: self.texts("invariants.serial") },
            health: Health { interval: self.must_time("health.interval"), stale_after: self.must_time("health.stale_after") },
            notify: Notify {
                command: self.texts("notify.command"),
                secret: self.text("notify.secret").and_then(|text| secret(&text)),
                on: self.texts("notify.on"),
            },
        }
    }

    fn by_role<T>(&self, read: impl Fn(&Self, &str) -> Option<T>) -> BTreeMap<Role, T> {
        Role::ALL.into_iter().filter_map(|role| Some((role, read(self, role.name())?))).collect()
    }

    fn budget(&self, at: &str) -> Budget {
        Budget {
            model_calls: self.count(&format!("{at}.model_calls")),
            tokens: self.count(&format!("{at}.tokens")),
            usd: self.number(&format!("{at}.usd")),
            wall: self.time(&format!("{at}.wall")),
        }
    }

    fn limits(&self, role: &str) -> Limits {
        let at = |key: &str| format!("limits.{role}.{key}");
        Limits {
            memory: self.size(&at("memory")),
            pids: self.count(&at("pids")),
            cpus: self.number(&at("cpus")),
            wall: self.time(&at("wall")),
            silence: self.time(&at("silence")),
            output: self.size(&at("output")),
            disk: self.size(&at("disk")),
            files: self.count(&at("files")),
        }
    }

    fn agents(&mut self) -> BTreeMap<Role, Agent> {
        let mut agents = BTreeMap::new();
        for role in Role::ALL {
            let at = |key: &str| format!("agents.{}.{key}", role.name());
            let Some(first) = self.first_below(&format!("agents.{}.", role.name())) else { continue };
            let Some(adapter) = self.text(&at("adapter")) else {
                let what = format!("[agents.{}] names no adapter", role.name());
                self.problems.push(first.source.error("missing-key", &first.span, what, "add a line such as adapter = \"claude\""));
                continue;
            };
            let command = self.texts(&at("command"));
            let is_command = adapter == "command";
            if is_command && command.is_empty() {
                let what = format!("[agents.{}] has the adapter `command` and no command", role.name());
                self.problems.push(first.source.error(
                    "missing-key",
                    &first.span,
                    what,
                    "add a line such as command = [\"./my-agent\", \"--task\", \"{task}\"]",
                ));
            }
            if let (false, Some(setting)) = (is_command, self.settings.get(&at("command"))) {
                let what = format!("[agents.{}] has a command, which the adapter `{adapter}` does not use", role.name());
                self.problems.push(setting.source.error("contradiction", &setting.span, what, "remove it, or set adapter = \"command\""));
            }
            let contract = match self.text(&at("contract")).as_deref() {
                Some("with") => Contract::With,
                Some("before") => Contract::Before,
                Some(_) => Contract::Off,
                // A model can echo what it was asked to do; any other program need not know of contracts.
                None if is_command => Contract::Off,
                // It writes no file beside the project's.
                None if adapter == "aider" => Contract::Off,
                None => Contract::With,
            };
            let login = self.login(&at("login"));
            let (model, profile) = (self.text(&at("model")), self.text(&at("profile")));
            agents.insert(role, Agent { adapter, model, command, profile, contract, login });
        }
        agents
    }

    /// Whoever gives a login away says so where no repository can say it for them.
    fn login(&mut self, path: &str) -> LoginUse {
        match self.text(path).as_deref() {
            Some("share") => {}
            Some("off") => return LoginUse::Off,
            _ => return LoginUse::Gateway,
        }
        if let Some(setting) = self.settings.get(path).filter(|setting| !matches!(setting.origin, Origin::User | Origin::Flag)) {
            let what = "login = \"share\" copies your own login into a sandbox, and this file may be somebody else's";
            let next =
                "remove it: the gateway uses a login without showing it; to share yours all the same, write it into your own config.toml";
            self.problems.push(setting.source.error("not-here", &setting.span, what, next));
        }
        LoginUse::Share
    }

    fn gates(&mut self) -> Vec<Gate> {
        let mut gates = Vec::<Gate>::new();
        for at in self.list("gate") {
            let Some(first) = self.first_below(&format!("{at}.")) else { continue };
            let name = self.required(&first, &at, "name", "a gate", "name = \"test\"");
            let run = self.required(&first, &at, "run", "a gate", "run = \"cargo test\"");
            if let Some(twice) = self.settings.get(&format!("{at}.name")).filter(|_| gates.iter().any(|g| g.name == name)) {
                let what = format!("there are two gates named `{name}`");
                self.problems.push(twice.source.error("duplicate-id", &twice.span, what, "give one of them another name"));
            }
            let report = self.text(&format!("{at}.report")).and_then(|text| Report::parse(&text).ok());
            let when = match self.text(&format!("{at}.when")).as_deref() {
                Some("integration") => When::Integration,
                Some("final") => When::Final,
                Some("post") => When::Post,
                _ => When::Always,
            };
            gates.push(Gate {
                name,
                run,
                timeout: self.time(&format!("{at}.timeout")),
                cache: self.texts(&format!("{at}.cache")),
                network: self.texts(&format!("{at}.network")),
                report,
                when,
            });
        }
        gates
    }

    fn credentials(&mut self) -> Vec<Credential> {
        let mut credentials = Vec::<Credential>::new();
        for at in self.list("credential") {
            let Some(first) = self.first_below(&format!("{at}.")) else { continue };
            let host = self.required(&first, &at, "host", "a credential", "host = \"api.example.org\"");
            let header = self.required(&first, &at, "header", "a credential", "header = \"authorization\"");
            let from = self.required(&first, &at, "from", "a credential", "from = \"env:NAME\"");
            let Some(from) = secret(&from) else { continue };
            if credentials.iter().any(|c| c.host == host && c.header.eq_ignore_ascii_case(&header)) {
                let what = format!("two credentials go to {host} in the header {header}");
                self.problems.push(first.source.error("duplicate-id", &first.span, what, "keep one of them"));
            }
            let api = self.text(&format!("{at}.api"));
            let methods = self.texts(&format!("{at}.methods"));
            let (path, variable) = (self.text(&format!("{at}.path")), self.text(&format!("{at}.variable")));
            credentials.push(Credential { host, header, from, api, methods, path, variable });
        }
        credentials
    }

    fn ci(&mut self) -> Ci {
        Ci {
            provider: self.text("ci.provider").map(|word| if word == "command" { CiProvider::Command } else { CiProvider::GitHub }),
            required: self.texts("ci.required"),
            after: self.texts("ci.after"),
            push: self.text("ci.push"),
            repository: self.text("ci.repository").unwrap_or_default(),
            api: self.must_text("ci.api"),
            token: self.text("ci.token").and_then(|text| secret(&text)),
            command: self.texts("ci.command"),
            poll: self.must_time("ci.poll"),
            timeout: self.must_time("ci.timeout"),
        }
    }

    fn streams(&self) -> BTreeMap<String, Stream> {
        let below = self.settings.keys().filter_map(|path| path.strip_prefix("stream."));
        // A stream's name may hold dots; its keys do not.
        let names = below.filter_map(|rest| rest.rsplit_once('.')).map(|(name, _)| name.to_owned());
        names
            .map(|name| {
                let priority = self.count(&format!("stream.{name}.priority")).unwrap_or(DEFAULT_PRIORITY);
                let parallel = self.count(&format!("stream.{name}.parallel"));
                (name, Stream { priority, parallel })
            })
            .collect()
    }

    /// The tables of a list that have anything set: `gate[0]`, `gate[1]`, ….
    fn list(&self, name: &str) -> Vec<String> {
        let prefix = format!("{name}[");
        let indices = self.settings.keys().filter_map(|path| path.strip_prefix(&prefix)?.split(']').next()?.parse::<usize>().ok());
        indices.collect::<std::collections::BTreeSet<_>>().into_iter().map(|i| format!("{name}[{i}]")).collect()
    }

    fn required(&mut self, first: &Setting, at: &str, key: &str, what: &str, example: &str) -> String {
        self.text(&format!("{at}.{key}")).unwrap_or_else(|| {
            let what = format!("{what} has no `{key}`");
            self.problems.push(first.source.error("missing-key", &first.span, what, format!("add a line such as {example}")));
            String::new()
        })
    }

    /// The setting that stands first in its file, of all below a prefix: the place to point at when a neighbour is missing.
    fn first_below(&self, prefix: &str) -> Option<Setting> {
        let below = self.settings.iter().filter(|(path, _)| path.starts_with(prefix));
        below.map(|(_, s)| s).min_by_key(|s| s.span.start).cloned()
    }

    fn cross_check(&mut self, config: &Config) {
        let run = &config.run;
        if run.review_notify > run.review_cycles {
            self.contradiction(
                "run.review_notify",
                format!("a human is told after {} review cycles, and the story stops after {}", run.review_notify, run.review_cycles),
                "set run.review_notify to at most run.review_cycles",
            );
        }
        if config.health.interval >= config.health.stale_after {
            self.contradiction(
                "health.stale_after",
                "a healthy runner would count as hung".into(),
                "set health.stale_after to more than health.interval",
            );
        }
        self.check_ci(config);
        self.refuse_theirs("notify.command", "a repository names a program that would run on this host outside of every sandbox");
        self.refuse_theirs("notify.secret", "a repository names a secret of this host");
        for (role, limits) in &config.limits {
            if let (Some(attempt), Some(story)) = (limits.wall, config.budget.wall)
                && attempt > story
                && *role == Role::Implementer
            {
                self.contradiction(
                    "limits.implementer.wall",
                    "one attempt may take longer than its whole story".into(),
                    "raise budget.wall, or lower this",
                );
            }
        }
        if let (Some(implementer), Some(reviewer)) = (config.agents.get(&Role::Implementer), config.agents.get(&Role::Reviewer))
            && (&implementer.adapter, &implementer.model, &implementer.command) == (&reviewer.adapter, &reviewer.model, &reviewer.command)
            && let Some(setting) = self.settings.get("agents.reviewer.adapter")
        {
            let what = "the reviewer is the same adapter and model as the implementer, and shares its blind spots";
            self.problems.push(setting.source.warning(
                "same-reviewer",
                &setting.span,
                what,
                "choose another model or adapter for [agents.reviewer]",
            ));
        }
    }

    /// Whoever owns the machine decides what runs on it outside of a sandbox, and not whoever wrote the repository.
    fn refuse_theirs(&mut self, path: &str, what: &str) {
        let theirs = |setting: &&Setting| matches!(setting.origin, Origin::Target { .. });
        if let Some(setting) = self.settings.get(path).filter(theirs) {
            let next = format!("if you want it, set {path} in your own config.toml, or with --set");
            self.problems.push(setting.source.error("host-command", &setting.span, what, next));
        }
    }

    fn check_ci(&mut self, config: &Config) {
        let ci = &config.ci;
        let Some(provider) = ci.provider else { return };
        if config.gates.iter().any(|gate| gate.name == CI_GATE) {
            let what = format!("a gate is named `{CI_GATE}`, which is the name of the external CI");
            self.contradiction("ci.provider", what, "give the gate another name");
        }
        match provider {
            CiProvider::Command if ci.command.is_empty() => {
                self.contradiction(
                    "ci.provider",
                    "[ci] has no command".into(),
                    "add a line such as command = [\"/usr/local/bin/ci-state\"]",
                );
            }
            // Whoever owns the machine decides what runs on it outside of a sandbox, and not whoever wrote the repository.
            CiProvider::Command => {
                let theirs = |setting: &&Setting| matches!(setting.origin, Origin::Target { .. });
                if let Some(setting) = self.settings.get("ci.command").filter(theirs) {
                    self.problems.push(setting.source.error(
                        "host-command",
                        &setting.span,
                        "a repository names a program that would run on this host outside of every sandbox",
                        "if you want it, set ci.command in your own config.toml, or with --set",
                    ));
                }
            }
            CiProvider::GitHub => {
                let parts: Vec<&str> = ci.repository.split('/').collect();
                let is_name = |part: &&str| {
                    !part.is_empty() && !part.starts_with('.') && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
                };
                if parts.len() != 2 || !parts.iter().all(is_name) {
                    self.contradiction("ci.provider", "[ci] names no repository".into(), "add a line such as repository = \"owner/name\"");
                }
                if ci.push.is_none() {
                    self.contradiction(
                        "ci.provider",
                        "[ci] names no remote, so GitHub would never see a candidate".into(),
                        "add a line such as push = \"origin\"",
                    );
                }
            }
        }
    }

    /// Marks the given key; a value nobody set cannot contradict.
    fn contradiction(&mut self, path: &str, what: String, next: &str) {
        let problem = match self.settings.get(path) {
            Some(setting) => setting.source.error("contradiction", &setting.span, what, next),
            None => Problem { level: Level::Error, rule: "contradiction", what, place: None, next: next.into() },
        };
        self.problems.push(problem);
    }
}

fn secret(text: &str) -> Option<Secret> {
    Some(match text.split_once(':')? {
        ("env", name) => Secret::Env(name.to_owned()),
        ("file", path) => Secret::File(path.to_owned()),
        (_, command) => Secret::Command(command.to_owned()),
    })
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;

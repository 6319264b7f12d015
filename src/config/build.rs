//! Merged settings to a [`Config`], and the checks that need more than one value.

use std::collections::BTreeMap;
use std::time::Duration;

use super::layer::{Setting, Settings};
use super::value::Value;
use super::{
    Agent, Backend, Budget, Config, Contract, Credential, DEFAULT_PRIORITY, Gate, Health, Invariants, Landing, Limits, Merge, Project,
    Queue, Report, Role, Run, Sandbox, Secret, StartOn, Stream, Style, UpdateCheckout, Verify, When, Workspace,
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
                stories_by_default: self.settings.get("project.stories").is_some_and(|s| s.origin == super::layer::Origin::BuiltIn),
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
            queue: Queue { slots: self.must_count("queue.slots") },
            streams: self.streams(),
            invariants: Invariants { require: self.texts("invariants.require"), serial: self.texts("invariants.serial") },
            health: Health { interval: self.must_time("health.interval"), stale_after: self.must_time("health.stale_after") },
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
                None => Contract::With,
            };
            agents.insert(role, Agent { adapter, model: self.text(&at("model")), command, profile: self.text(&at("profile")), contract });
        }
        agents
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
            let from = match from.split_once(':') {
                Some(("env", name)) => Secret::Env(name.to_owned()),
                Some(("file", path)) => Secret::File(path.to_owned()),
                Some((_, command)) => Secret::Command(command.to_owned()),
                None => continue,
            };
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

    /// Marks the given key; a value nobody set cannot contradict.
    fn contradiction(&mut self, path: &str, what: String, next: &str) {
        let problem = match self.settings.get(path) {
            Some(setting) => setting.source.error("contradiction", &setting.span, what, next),
            None => Problem { level: Level::Error, rule: "contradiction", what, place: None, next: next.into() },
        };
        self.problems.push(problem);
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::{AGENTS, KEYS, SANDBOXES};
    use super::super::layer::{Origin, put, read, read_flag};
    use super::*;
    use crate::base::source::Source;

    fn with(text: &str) -> (Option<Config>, Vec<Problem>) {
        let mut settings = Settings::new();
        let (built_in, problems) = read(&Source::new("default.toml", include_str!("default.toml")), &Origin::BuiltIn);
        assert_eq!(problems, []);
        put(&mut settings, built_in);
        let (layer, mut problems) = read(&Source::new("cofferdam.toml", text), &Origin::File);
        put(&mut settings, layer);
        let (config, more) = build(&settings);
        problems.extend(more);
        (config.filter(|_| !crate::base::source::any_error(&problems)), problems)
    }

    #[test]
    fn the_built_in_layer_is_a_whole_configuration() {
        let (config, problems) = with("");
        assert_eq!(problems, []);
        let config = config.expect("config");
        assert_eq!((config.run.parallel, config.run.iterations, config.run.review_cycles, config.run.stagnation), (2, 6, 5, 3));
        assert_eq!((config.budget.model_calls, config.run.approach_failures, config.run.integration_every), (Some(30), 3, 2));
    }

    #[test]
    fn every_key_changes_the_configuration() {
        let needed = [
            ("agents.", "agents.ROLE.adapter = \"claude\"\n"),
            ("gate[]", "name = \"x\"\nrun = \"true\"\n"),
            ("credential[]", "host = \"example.org\"\nheader = \"x-key\"\nfrom = \"env:X\"\n"),
        ];
        for key in KEYS {
            let names: &[&str] = if key.path.contains("{agent}") {
                &AGENTS
            } else if key.path.contains("{sandbox}") {
                &SANDBOXES
            } else {
                &["x"]
            };
            for name in names {
                let path = key.path.replace("{agent}", name).replace("{sandbox}", name).replace("{name}", "web");
                let extra = needed.iter().find(|(prefix, _)| path.starts_with(prefix)).map_or("", |(_, text)| text).replace("ROLE", name);
                let last = path.rsplit('.').next().expect("last");
                // A table cannot be given a key twice: the sample takes the place of what is needed.
                let extra: String = extra
                    .lines()
                    .filter(|l| !l.split(" =").next().is_some_and(|k| k.ends_with(last)))
                    .fold(String::new(), |a, l| a + l + "\n");
                let sample = match path.as_str() {
                    "run.review_notify" => "4",
                    p if p.ends_with(".command") => "[\"./sample\", \"{task}\"]",
                    p if p.ends_with(".adapter") => "\"gemini\"",
                    "limits.implementer.wall" => "\"9m\"",
                    "run.retry_delay" | "health.interval" => "\"7s\"",
                    _ => key.kind.sample(),
                };
                let (base, text) = match path.split_once("[].") {
                    Some((list, key)) => (format!("[[{list}]]\n{extra}"), format!("[[{list}]]\n{extra}{key} = {sample}\n")),
                    None if path.ends_with(".command") => {
                        (extra.replace("claude", "command"), format!("{}{path} = {sample}\n", extra.replace("claude", "command")))
                    }
                    None => (extra.clone(), format!("{extra}{path} = {sample}\n")),
                };
                let (config, problems) = with(&text);
                let config = config.unwrap_or_else(|| panic!("{text}: {problems:#?}"));
                assert_ne!(Some(config), with(&base).0, "{text} changes nothing");
            }
        }
    }

    #[test]
    fn what_contradicts_is_shown_at_its_place() {
        for (text, rule, line) in [
            ("[run]\nreview_cycles = 2\n", "contradiction", None),
            ("[run]\nreview_cycles = 2\nreview_notify = 3\n", "contradiction", Some(3)),
            ("[health]\nstale_after = \"3s\"\n", "contradiction", Some(2)),
            ("[agents.reviewer]\nmodel = \"x\"\n", "missing-key", Some(2)),
            ("[agents.reviewer]\nadapter = \"command\"\n", "missing-key", Some(2)),
            ("[agents.reviewer]\nadapter = \"claude\"\ncommand = [\"x\"]\n", "contradiction", Some(3)),
            ("[[gate]]\nname = \"a\"\n", "missing-key", Some(2)),
            ("[[gate]]\nname = \"a\"\nrun = \"x\"\n[[gate]]\nname = \"a\"\nrun = \"y\"\n", "duplicate-id", Some(5)),
            ("[runn]\n", "unknown-key", Some(1)),
            ("[run]\nparalel = 2\n", "unknown-key", Some(2)),
            ("run = 1\n", "wrong-kind", Some(1)),
            ("[gate]\nname = \"a\"\n", "wrong-kind", Some(1)),
            ("[run]\nparallel = 0\n", "bad-value", Some(2)),
            ("[run]\nparallel = \"2\"\n", "wrong-kind", Some(2)),
            ("[run]\nstart_on = \"merge\"\n", "bad-value", Some(2)),
            ("[project]\nstories = \"../x\"\n", "bad-value", Some(2)),
            ("[project]\ntarget = \"-x\"\n", "bad-value", Some(2)),
            ("[agents.gate]\nadapter = \"claude\"\n", "unknown-key", Some(1)),
            ("[limits.gate]\nmemory = \"4Gb\"\n", "bad-value", Some(2)),
            ("[network]\nimplementer = [\"https://x.org/\"]\n", "bad-value", Some(2)),
            ("[[credential]]\nhost = \"x.org\"\nheader = \"a\"\nfrom = \"env:X\"\npath = \"/a/../b\"\n", "bad-value", Some(5)),
            ("[[credential]]\nhost = \"x.org\"\nheader = \"a\"\nfrom = \"env:X\"\nvariable = \"A B\"\n", "bad-value", Some(5)),
            ("[[credential]]\nhost = \"x.org\"\nheader = \"a b\"\nfrom = \"env:X\"\n", "bad-value", Some(3)),
            ("[[credential]]\nhost = \"x.org\"\nheader = \"a\"\nfrom = \"sk-123\"\n", "bad-value", Some(4)),
            ("[agents.implementer]\nadapter = \"command\"\ncommand = [\"x\", \"{tsk}\"]\n", "bad-value", Some(3)),
            ("[budget]\nusd = -1\n", "bad-value", Some(2)),
            ("a = = 1\n", "syntax", Some(1)),
        ] {
            let (config, problems) = with(text);
            assert!(config.is_none(), "{text}");
            assert_eq!(problems[0].rule, rule, "{text}: {problems:#?}");
            if let Some(line) = line {
                assert_eq!(problems[0].place.as_ref().expect("place").line, line, "{text}: {problems:#?}");
            }
        }
    }

    #[test]
    fn a_secret_written_by_mistake_is_marked_but_its_message_does_not_repeat_it() {
        let (_, problems) = with("[[credential]]\nhost = \"x.org\"\nheader = \"a\"\nfrom = \"sk-123456\"\n");
        assert!(!problems[0].what.contains("sk-123456"), "{}", problems[0].what);
        assert!(!problems[0].place.as_ref().expect("place").excerpt.contains("sk-123456"));
    }

    #[test]
    fn a_higher_layer_replaces_a_list_of_tables_as_a_whole() {
        let mut settings = Settings::new();
        put(
            &mut settings,
            read(&Source::new("a", "[[gate]]\nname = \"a\"\nrun = \"x\"\n[[gate]]\nname = \"b\"\nrun = \"y\"\n"), &Origin::User).0,
        );
        put(&mut settings, read(&Source::new("b", "[[gate]]\nname = \"c\"\nrun = \"z\"\n"), &Origin::File).0);
        assert_eq!(settings.keys().map(String::as_str).collect::<Vec<_>>(), ["gate[0].name", "gate[0].run"]);
    }

    #[test]
    fn a_flag_is_toml_or_a_text() {
        for (flag, value) in [
            ("run.parallel=4", Value::Count(4)),
            ("project.target=develop", Value::Text("develop".into())),
            ("merge.push=\"origin\"", Value::Text("origin".into())),
        ] {
            let (settings, problems) = read_flag(flag);
            assert_eq!(problems, [], "{flag}");
            assert_eq!(settings[0].value, value);
        }
        assert_eq!(read_flag("run.parallel").1[0].rule, "syntax");
        assert_eq!(read_flag("run.paralel=4").1[0].rule, "unknown-key");
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[\\[\\]\\.=\"a-z0-9\\n #,{}]{0,80}", flag in "\\PC{0,20}") {
            drop(with(&text));
            drop(read_flag(&flag));
        }
    }
}

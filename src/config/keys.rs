//! Every key there is: the one table behind reading, checking, `config show`, the schema and the documentation.
//!
//! To add a key: one line here, one line in `default.toml` (when it has a default), one in [`super::build`].

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Text,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A whole number from … to.
    Count(u64, u64),
    /// A number greater than zero and at most this.
    Number(f64),
    Flag,
    /// A length of time.
    Time,
    /// A number of bytes.
    Size,
    /// Words out of these.
    Words(&'static [&'static str]),
    /// Paths inside the repository, where `*` and `**` stand for parts.
    Globs,
    /// Folders inside the repository, each by its own path.
    Folders,
    /// One path inside the repository.
    Path,
    /// Host patterns, with an optional port.
    Hosts,
    /// A program and its arguments.
    Argv,
    /// Names that somebody else chose.
    Texts,
    /// The name of something that becomes part of paths and refs.
    Name,
    /// A branch of the repository.
    Branch,
    Host,
    Header,
    /// The path of a URL: where a prefix begins.
    UrlPath,
    /// The name of an environment variable.
    Variable,
    /// `env:NAME`, `file:PATH` or `command:COMMAND`.
    Secret,
    /// `junit:PATH`, `cargo`, ….
    Report,
}

/// One key. In its path, `{agent}`, `{sandbox}` and `{name}` stand for a name the person chooses from, `[]` for one of a list of tables.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub path: &'static str,
    pub kind: Kind,
    pub help: &'static str,
}

/// Roles that run an agent.
pub const AGENTS: [&str; 5] = ["planner", "implementer", "reviewer", "verifier", "diagnoser"];
/// Roles that run in a sandbox.
pub const SANDBOXES: [&str; 6] = ["planner", "implementer", "reviewer", "verifier", "diagnoser", "gate"];
/// Adapters; `command` is any program.
pub const ADAPTERS: [&str; 7] = ["claude", "codex", "opencode", "gemini", "qwen", "aider", "command"];

const fn key(path: &'static str, kind: Kind, help: &'static str) -> Key {
    Key { path, kind, help }
}

const MANY: u64 = 1_000_000_000_000;

pub const KEYS: &[Key] = &[
    key("project.target", Kind::Branch, "the branch that proven work lands on; this file is read from its commit"),
    key("project.stories", Kind::Path, "a folder of story files, or one file: master_spec.md, prompt.md, prd.json, tasks.md"),
    key("run.parallel", Kind::Count(1, 256), "how many stories are worked on at once"),
    key("run.start_on", Kind::Word(&["merged", "ready_for_review"]), "what a story must have reached before those after it start"),
    key("run.iterations", Kind::Count(1, 1000), "attempts of one story before it stops for a human"),
    key("run.review_cycles", Kind::Count(1, 1000), "review and repair cycles of one story before it stops for a human"),
    key("run.review_notify", Kind::Count(1, 1000), "review and repair cycles after which a human is told"),
    key("run.stagnation", Kind::Count(1, 1000), "iterations in a row in which no evaluator got better, before the story stops"),
    key("run.approach_failures", Kind::Count(1, 1000), "failures after which an approach is never run again"),
    key("run.integration_every", Kind::Count(1, 1000), "landings between two runs of the integration gates; they also run at the end"),
    key("run.retry_delay", Kind::Time, "the pause before the next attempt of a story"),
    key("budget.model_calls", Kind::Count(1, MANY), "model calls one story may make"),
    key("budget.tokens", Kind::Count(1, MANY), "tokens one story may use"),
    key("budget.usd", Kind::Number(1e9), "money one story may cost, in US dollars"),
    key("budget.wall", Kind::Time, "time one story may take in all, waiting not counted"),
    key("budget.run.model_calls", Kind::Count(1, MANY), "model calls one run may make"),
    key("budget.run.tokens", Kind::Count(1, MANY), "tokens one run may use"),
    key("budget.run.usd", Kind::Number(1e9), "money one run may cost, in US dollars"),
    key("budget.run.wall", Kind::Time, "time one run may take"),
    key(
        "agents.{agent}.adapter",
        Kind::Name,
        "what does this role's work: claude, codex, opencode, gemini, qwen, aider, command, or a file of yours in adapters/",
    ),
    key("agents.{agent}.model", Kind::Text, "the model it is asked to use"),
    key("agents.{agent}.command", Kind::Argv, "with adapter = \"command\": the program and its arguments"),
    key("agents.{agent}.profile", Kind::Name, "the sandbox profile, when it is not the one named like the role"),
    key("agents.{agent}.contract", Kind::Word(&["with", "before", "off"]), "when the agent echoes title and criteria"),
    key(
        "agents.{agent}.login",
        Kind::Word(&["gateway", "share", "off"]),
        "a login of yours on this host: read outside by the gateway; copied into the sandbox (only in your own configuration); not used",
    ),
    key("gate[].name", Kind::Name, "the gate's name"),
    key("gate[].run", Kind::Text, "a shell command that must exit 0"),
    key("gate[].timeout", Kind::Time, "how long it may take; else limits.gate.wall"),
    key("gate[].cache", Kind::Folders, "folders kept warm between runs"),
    key("gate[].network", Kind::Hosts, "hosts this gate may reach, through the gateway, beside those of network.gate"),
    key("gate[].report", Kind::Report, "a test report it writes: skipped tests are not passed tests"),
    key(
        "gate[].when",
        Kind::Word(&["always", "integration", "final", "post"]),
        "on every candidate; every few landings and at the end; at the end; on what has landed",
    ),
    key("verify.protected", Kind::Globs, "paths whose change needs a human's approval"),
    key("verify.tests", Kind::Globs, "paths of tests: deleting or skipping there is a finding"),
    key("verify.reviewers", Kind::Count(1, 9), "how many reviewers judge a change, each by itself; all must pass it"),
    key("verify.max_files", Kind::Count(1, MANY), "files a change may touch before a human must approve it"),
    key("verify.max_bytes", Kind::Size, "what a change may add before a human must approve it"),
    key("verify.binaries", Kind::Globs, "paths that may hold what is no text; elsewhere a human must approve it"),
    key("network.{sandbox}", Kind::Hosts, "hosts this role may reach, through the gateway"),
    key("credential[].host", Kind::Host, "the host a credential is for"),
    key("credential[].header", Kind::Header, "the header it is sent in"),
    key(
        "credential[].api",
        Kind::Word(&["anthropic", "openai", "gemini"]),
        "the model API that the host speaks; known for the providers' own",
    ),
    key("credential[].from", Kind::Secret, "where it is taken from; it never enters a sandbox"),
    key(
        "credential[].methods",
        Kind::Words(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]),
        "the requests that get it, where the host is no model's; every method without it",
    ),
    key("credential[].path", Kind::UrlPath, "the path below which requests get it, where the host is no model's"),
    key("credential[].variable", Kind::Variable, "the variable that holds a placeholder inside; else the one that it is taken from"),
    key("limits.{sandbox}.memory", Kind::Size, "memory"),
    key("limits.{sandbox}.pids", Kind::Count(1, 4_194_304), "processes and threads"),
    key("limits.{sandbox}.cpus", Kind::Number(4096.0), "processors"),
    key("limits.{sandbox}.wall", Kind::Time, "time of one attempt or one gate"),
    key(
        "limits.{sandbox}.silence",
        Kind::Time,
        "how long it may neither print anything nor use a processor before it counts as hung and is ended; longer than a model may think",
    ),
    key("limits.{sandbox}.output", Kind::Size, "output, both streams together"),
    key("limits.{sandbox}.disk", Kind::Size, "what it may write"),
    key("limits.{sandbox}.files", Kind::Count(1, MANY), "files it may make"),
    key("workspace.backend", Kind::Word(&["auto", "overlay", "checkout"]), "how a story's files are laid out"),
    key("workspace.upper", Kind::Word(&["disk", "tmpfs"]), "what takes an agent's writes while it runs; tmpfs is memory of a fixed size"),
    key("workspace.layers", Kind::Size, "base layers that nothing uses are kept up to this size, together"),
    key("workspace.caches", Kind::Size, "the largest size of each warm cache; beyond it, it starts anew"),
    key("workspace.copy", Kind::Globs, "ignored files of yours that every workspace gets a copy of"),
    key("workspace.setup", Kind::Text, "a command run in the sandbox of a new workspace"),
    key("sandbox.require", Kind::Word(&["full", "no-userns"]), "how much of the kernel must be there"),
    key("merge.style", Kind::Word(&["merge", "squash", "rebase"]), "what a landing looks like in history"),
    key(
        "merge.landing",
        Kind::Word(&["queue", "approval", "stop"]),
        "what is ready lands by itself, or when a human approved its commit, or not at all",
    ),
    key(
        "merge.revert",
        Kind::Word(&["ask", "auto"]),
        "what is done with the revert that is prepared when what landed turns out red: ask, and land it when a human approves; or land it when its gates are green",
    ),
    key("merge.push", Kind::Text, "the remote a landing is pushed to"),
    key(
        "merge.update_checkout",
        Kind::Word(&["never", "fast-forward-if-clean"]),
        "what happens to a checkout of the target after a landing",
    ),
    key("queue.slots", Kind::Count(1, 64), "candidates that are built and tested at the same time"),
    key("queue.batch", Kind::Count(1, 64), "stories that are tested and landed as one while many wait and red is rare; 1 is never"),
    key("ci.provider", Kind::Word(&["github", "command"]), "external CI that must be green on a candidate before it lands"),
    key("ci.required", Kind::Texts, "the checks that must succeed; none set: those that the branch's protection on GitHub asks for"),
    key("ci.after", Kind::Texts, "checks that must succeed on what has landed, before another story starts"),
    key("ci.push", Kind::Text, "the remote that candidates are pushed to, as cofferdam/queue/…, for the CI to find them"),
    key("ci.repository", Kind::Text, "with provider = \"github\": OWNER/NAME"),
    key("ci.api", Kind::Text, "with provider = \"github\": where its API is"),
    key("ci.token", Kind::Secret, "with provider = \"github\": where the token is taken from; it never enters a sandbox"),
    key("ci.command", Kind::Argv, "with provider = \"command\": a program of this host, run outside of every sandbox"),
    key("ci.poll", Kind::Time, "how often it is asked"),
    key("ci.timeout", Kind::Time, "how long an answer is awaited; none by then is neither red nor green, and a human is asked"),
    key("stream.{name}.priority", Kind::Count(1, 9), "1 goes first; stories without a stream have 5"),
    key("stream.{name}.parallel", Kind::Count(0, 256), "how many of its stories are worked on at once; 0 holds the stream"),
    key("invariants.require", Kind::Words(&["criteria", "artifacts", "checks"]), "what every story must have"),
    key("invariants.serial", Kind::Globs, "paths that two stories never change at the same time"),
    key(
        "notify.command",
        Kind::Argv,
        "a program of this host that hears of events, run outside of every sandbox; each is JSON on its standard input",
    ),
    key("notify.secret", Kind::Secret, "what events are signed with for it: HMAC-SHA256, in COFFERDAM_SIGNATURE"),
    key("notify.on", Kind::Texts, "the kinds of events it hears of, or whole families, such as [\"story\"]"),
    key("health.interval", Kind::Time, "how often the runner writes its heartbeat"),
    key("health.stale_after", Kind::Time, "the age of a heartbeat from which the runner counts as hung"),
];

/// One step from a table to what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Name(&'a str),
    /// Any of these names.
    OneOf(&'static [&'static str]),
    /// Any name at all that is a safe name.
    Any,
}

/// The steps of a key's path; the `[]` of a list stays with its name.
pub fn steps(path: &str) -> impl Iterator<Item = Step<'_>> {
    path.split('.').map(|part| match part {
        "{agent}" => Step::OneOf(&AGENTS),
        "{sandbox}" => Step::OneOf(&SANDBOXES),
        "{name}" => Step::Any,
        name => Step::Name(name),
    })
}

impl Kind {
    /// For "must be …".
    pub fn wanted(self) -> String {
        let one_of = |words: &[&str]| crate::base::text::list(words).replace(" and `", " or `");
        match self {
            Self::Text => "a text".into(),
            Self::Word(words) => one_of(words),
            Self::Count(low, high) if high == MANY => format!("a whole number from {low}"),
            Self::Count(low, high) => format!("a whole number from {low} to {high}"),
            Self::Number(_) => "a number greater than 0".into(),
            Self::Flag => "`true` or `false`".into(),
            Self::Time => "a length of time such as \"20m\"".into(),
            Self::Size => "a size such as \"4GiB\"".into(),
            Self::Words(words) => format!("a list of {}", one_of(words)),
            Self::Globs => "a list of paths in the repository, such as [\"src/**\"]".into(),
            Self::Folders => "a list of folders in the repository, each by its own path, such as [\"target\", \"web/node_modules\"]".into(),
            Self::Path => "a path in the repository".into(),
            Self::Hosts => "a list of hosts, such as [\"*.example.org:443\"]".into(),
            Self::Argv => "a list of texts: the program and its arguments".into(),
            Self::Texts => "a list of names, such as [\"build\"]".into(),
            Self::Name => "a name of letters, digits, `.`, `_` and `-`".into(),
            Self::Branch => "the name of a branch, such as \"main\"".into(),
            Self::Host => "a host, such as \"api.example.org\"".into(),
            Self::Header => "the name of an HTTP header".into(),
            Self::UrlPath => "a path, such as \"/api/\"".into(),
            Self::Variable => "the name of a variable".into(),
            Self::Secret => "\"env:NAME\", \"file:PATH\" or \"command:COMMAND\"".into(),
            Self::Report => "\"junit:PATH\", or \"tap\", \"cargo\", \"pytest\", \"go\" or \"node\" with or without \":PATH\"".into(),
        }
    }

    /// A value that is allowed and is no default: for tests, and for the examples in the schema.
    pub fn sample(self) -> &'static str {
        match self {
            Self::Text => "\"sample\"",
            Self::Word(words) => match words {
                ["ask", ..] => "\"auto\"",
                ["merged", ..] => "\"ready_for_review\"",
                ["anthropic", ..] => "\"openai\"",
                ["with", ..] => "\"before\"",
                ["gateway", ..] => "\"off\"",
                ["always", ..] => "\"integration\"",
                ["queue", ..] => "\"stop\"",
                ["github", ..] => "\"github\"",
                ["never", ..] => "\"fast-forward-if-clean\"",
                ["disk", ..] => "\"tmpfs\"",
                ["auto", ..] => "\"overlay\"",
                ["full", ..] => "\"no-userns\"",
                ["merge", ..] => "\"squash\"",
                _ => "\"gemini\"",
            },
            Self::Count(..) => "7",
            Self::Number(_) => "2.5",
            Self::Flag => "true",
            Self::Time => "\"77m\"",
            Self::Size => "\"77MiB\"",
            Self::Words(["GET", ..]) => "[\"PATCH\"]",
            Self::Words(_) => "[\"checks\"]",
            Self::Argv => "[\"./sample\", \"{task}\"]",
            Self::Texts => "[\"sample (of a kind)\"]",
            Self::Globs => "[\"sample/**\"]",
            Self::Folders => "[\"sample/folder\"]",
            Self::Path => "\"sample/path\"",
            Self::Hosts => "[\"*.example.org:443\"]",
            Self::Name | Self::Branch => "\"sample\"",
            Self::Host => "\"api.example.org\"",
            Self::Header => "\"x-sample\"",
            Self::UrlPath => "\"/sample/\"",
            Self::Variable => "\"SAMPLE\"",
            Self::Secret => "\"env:SAMPLE\"",
            Self::Report => "\"junit:out.xml\"",
        }
    }
}

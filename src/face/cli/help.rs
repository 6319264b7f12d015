//! What `--help`, the manual pages and the completions say beside the arguments: examples, exit codes, the version.
//!
//! Added only when somebody asks: reading arguments must not wait for it.

use clap::CommandFactory;

use crate::agents::adapter::BUILT_IN;

/// A code and what it means.
type Code = (u8, &'static str);

/// Of every command but `exec`, `workspace exec` and `shell`.
pub const EXIT_CODES: [Code; 8] = [
    (0, "done"),
    (1, "it failed"),
    (2, "usage or configuration"),
    (3, "blocked: a human is needed"),
    (4, "the budget is spent"),
    (5, "a gate is red"),
    (6, "the sandbox cannot be enforced here"),
    (130, "interrupted"),
];

/// Of `exec` and `workspace exec`, beside the command's own.
pub const EXEC_CODES: [Code; 6] = [
    (6, "the sandbox cannot be enforced here; nothing ran"),
    (124, "the wall limit"),
    (125, "cofferdam itself failed, its arguments included"),
    (126, "the command cannot be executed"),
    (127, "the command was not found"),
    (137, "another limit, such as memory; `--outcome` names it"),
];

/// The variables that cofferdam itself reads.
const VARIABLES: [(&str, &str); 6] = [
    ("COFFERDAM_PROJECT_DIR", "the project's folder, in place of the repository around the current one"),
    ("XDG_CONFIG_HOME", "cofferdam/ in it holds your config.toml, profiles, adapters and prompts; else ~/.config"),
    ("XDG_STATE_HOME", "cofferdam/ in it holds what is remembered; else ~/.local/state"),
    ("NO_COLOR", "set to anything: no colours"),
    ("CLICOLOR_FORCE", "set to anything but 0: colours in a pipe, too"),
    ("TERM", "dumb: no colours, and nothing is drawn over"),
];

/// At least one for each command that does something; each is read by the same parser, in a test.
pub const EXAMPLES: &[(&str, &[&str])] = &[
    ("add", &["cofferdam add 'Keys can expire' --criterion 'get returns nothing after n seconds' --after US-1"]),
    ("answer", &["cofferdam answer US-2 'Use seconds, not milliseconds.'"]),
    ("approve", &["cofferdam approve US-2", "cofferdam approve US-2 --commit 1a2b3c4", "cofferdam approve US-2 --without-gate lint"]),
    ("backfill", &["cofferdam backfill US-2 --commit HEAD 'done by hand'", "cofferdam backfill US-9 'the account is open'"]),
    ("blocked", &["cofferdam blocked"]),
    ("cancel", &["cofferdam cancel US-2 'not wanted any more'"]),
    ("checkout", &["cofferdam checkout US-2 ../look-at-it"]),
    ("clean", &["cofferdam clean --dry-run", "cofferdam clean --keep 5GiB"]),
    ("completions", &["cofferdam completions bash"]),
    ("config show", &["cofferdam config show", "cofferdam config show run.parallel"]),
    ("costs", &["cofferdam costs"]),
    ("demo", &["cofferdam demo", "cofferdam demo --keep ./the-demo", "cofferdam demo --list"]),
    ("diff", &["cofferdam diff US-2"]),
    ("doctor", &["cofferdam doctor", "cofferdam doctor --agents", "cofferdam doctor --apparmor"]),
    ("evidence export", &["cofferdam evidence export US-2 ./proof"]),
    ("evidence show", &["cofferdam evidence show US-2"]),
    ("evidence verify", &["cofferdam evidence verify"]),
    (
        "exec",
        &[
            "cofferdam exec -- cargo test",
            "cofferdam exec --wall 20m --memory 4GiB --outcome result.json -- ./my-agent 'fix the bug'",
            "cofferdam exec --diff -- npm run build",
            "cofferdam exec --allow example.org -- curl https://example.org",
        ],
    ),
    ("gate", &["cofferdam gate", "cofferdam gate test --fresh", "cofferdam gate --config cofferdam.toml"]),
    ("graph", &["cofferdam graph", "cofferdam graph --dot"]),
    ("import", &["cofferdam import prd.json --dry-run", "cofferdam import tasks.md --merge"]),
    ("init", &["cofferdam init", "cofferdam init --agent claude --reviewer codex", "cofferdam init --agent './my-agent {task}' --dry-run"]),
    ("land", &["cofferdam land"]),
    ("lint", &["cofferdam lint", "cofferdam lint --config cofferdam.toml"]),
    (
        "log",
        &[
            "cofferdam log -n 20",
            "cofferdam log --kind attempt --search timeout",
            "cofferdam log -f --format compact",
            "cofferdam log -f --json",
            "cofferdam log --verify",
        ],
    ),
    ("man", &["cofferdam man", "cofferdam man ~/.local/share/man/man1"]),
    ("mcp", &["cofferdam mcp", "cofferdam mcp --read-only"]),
    ("next", &["cofferdam next --all"]),
    ("note", &["cofferdam note US-2 'The clock is injected in tests/clock.py.'"]),
    ("pause", &["cofferdam pause 'until the release is out'"]),
    ("plan", &["cofferdam plan"]),
    ("probe", &["cofferdam probe", "cofferdam probe --profile strict --quick"]),
    ("profile check", &["cofferdam profile check my-profile.toml"]),
    ("profile explain", &["cofferdam profile explain implementer"]),
    ("profile list", &["cofferdam profile list"]),
    ("profile show", &["cofferdam profile show gate"]),
    ("queue", &["cofferdam queue"]),
    ("reject", &["cofferdam reject US-2 'The error message names no file.'"]),
    ("replan", &["cofferdam replan US-2 'Use the standard library.'"]),
    ("report", &["cofferdam report --format html -o report.html"]),
    ("reset", &["cofferdam reset US-2 --forget"]),
    ("resume", &["cofferdam resume"]),
    ("retry", &["cofferdam retry US-2"]),
    ("revert", &["cofferdam revert US-2 'it broke the nightly build'"]),
    (
        "run",
        &[
            "cofferdam run",
            "cofferdam run US-2 --set run.parallel=4",
            "cofferdam run --watch",
            "cofferdam run --prompt 'Add a --version flag'",
        ],
    ),
    ("schema", &["cofferdam schema", "cofferdam schema config"]),
    ("serve", &["cofferdam serve", "cofferdam serve --port 0"]),
    ("shell", &["cofferdam shell US-2"]),
    ("show", &["cofferdam show US-2"]),
    ("stats", &["cofferdam stats"]),
    ("status", &["cofferdam status", "cofferdam status --json", "cofferdam status --all"]),
    ("watch", &["cofferdam watch"]),
    ("why", &["cofferdam why", "cofferdam why US-2"]),
    ("workspace collect", &["cofferdam workspace collect US-2 -m 'Keys can expire'"]),
    ("workspace exec", &["cofferdam workspace exec US-2 -- ./my-agent 'keys can expire'"]),
    ("workspace list", &["cofferdam workspace list"]),
    ("workspace new", &["cofferdam workspace new US-2", "cofferdam workspace new US-2 --base main"]),
    ("workspace remove", &["cofferdam workspace remove US-2"]),
];

/// Arguments that say the same everywhere, where they say nothing themselves.
const ARGUMENTS: [(&str, &str); 7] = [
    ("json", "Print one JSON document"),
    ("story", "The story's id"),
    ("text", "The words"),
    ("epic", "The epic it belongs to"),
    ("format", "The format of the page"),
    ("file", "The file"),
    ("shell", "The shell"),
];

/// The whole tree of commands with everything that people read.
pub fn tree() -> clap::Command {
    let tree = super::Args::command().long_version(long_version()).after_help(
        "Begin with: cofferdam demo, then cofferdam init in your repository.\n\
         cofferdam help COMMAND tells more of one; cofferdam help exit-codes, and cofferdam help environment, of all.",
    );
    let tree = tree.after_long_help(format!(
        "Begin with: cofferdam demo, then cofferdam init in your repository.\n\n{}\n\n{}",
        exit_codes(),
        environment()
    ));
    with_examples(tree, "")
}

fn with_examples(command: clap::Command, path: &str) -> clap::Command {
    let own: Vec<String> = command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect();
    let mut command = command.mut_args(|argument| {
        let words = ARGUMENTS.iter().find(|(id, _)| *id == argument.get_id().as_str());
        match words.filter(|_| argument.get_help().is_none()) {
            Some((_, words)) => argument.help(*words),
            None => argument,
        }
    });
    for name in own {
        let below = if path.is_empty() { name.clone() } else { format!("{path} {name}") };
        command = command.mut_subcommand(&name, |sub| with_examples(sub, &below));
    }
    let Some((_, examples)) = EXAMPLES.iter().find(|(of, _)| *of == path) else { return command };
    let before = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    let head = if examples.len() == 1 { "Example" } else { "Examples" };
    command.after_help(format!("{before}{head}:\n  {}", examples.join("\n  ")))
}

/// `cofferdam help TOPIC`, for topics that are no commands.
pub fn topic(name: &str) -> Option<String> {
    match name {
        "exit-codes" => Some(exit_codes()),
        "environment" => Some(environment()),
        _ => None,
    }
}

fn exit_codes() -> String {
    let list = |codes: &[Code]| codes.iter().map(|(code, what)| format!("  {code:>3}  {what}\n")).collect::<String>();
    format!(
        "Exit codes:\n{}\nof exec, workspace exec and shell: the command's own, 128+n when signal n ended it, and\n{}",
        list(&EXIT_CODES),
        list(&EXEC_CODES)
    )
    .trim_end()
    .to_owned()
}

fn environment() -> String {
    let lines: Vec<String> = VARIABLES.iter().map(|(name, what)| format!("  {name}\n      {what}")).collect();
    format!("Environment:\n{}", lines.join("\n"))
}

/// The version for whoever reports a mistake.
fn long_version() -> String {
    let commit = match env!("COFFERDAM_COMMIT") {
        "" => "a development build".to_owned(),
        commit => format!("commit {}", commit.get(..12).unwrap_or(commit)),
    };
    let linked = if cfg!(target_feature = "crt-static") { "static" } else { "dynamic" };
    let (major, minor, patch) = git2::Version::get().libgit2_version();
    let adapters: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
    format!(
        "{} ({commit})\ntarget    {}, {linked}\nlibraries libgit2 {major}.{minor}.{patch}, SQLite {}\nadapters  {}",
        env!("CARGO_PKG_VERSION"),
        env!("COFFERDAM_TARGET"),
        rusqlite::version(),
        adapters.join(", ")
    )
}

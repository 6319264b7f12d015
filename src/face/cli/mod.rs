//! The command line: arguments to plain values, one file a command, failures to exit codes.

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

pub mod add;
mod ask;
pub mod attack;
pub mod backfill;
pub mod blocked;
mod busy;
pub mod checkout;
pub mod clean;
pub mod command;
pub mod completions;
pub mod config;
pub mod demo;
pub mod diff;
pub mod doctor;
mod door;
pub mod evidence;
pub mod exec;
pub mod failure;
pub mod files;
pub mod gate;
pub mod graph;
pub mod help;
pub mod import;
pub mod init;
mod inplace;
pub mod land;
mod learn;
pub mod lint;
mod live;
pub mod log;
mod logins;
pub mod mcp;
pub mod next;
pub mod plan;
pub mod printer;
pub mod probe;
pub mod problems;
pub mod profile;
pub mod project;
pub mod queue;
pub mod report;
pub mod revert;
pub mod run;
pub mod schema;
mod schemas;
pub mod serve;
pub mod shell;
pub mod show;
mod standing;
pub(in crate::face) mod state;
pub mod stats;
pub mod status;
mod throwaway;
pub mod watch;
pub mod why;
pub mod workspace;

use failure::{Exit, Failure};

use crate::base::duration;
use crate::sandbox::{helper, sys};
use crate::workspace::{fsmonitor, unpack};

#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, about = "Run untrusted coding agents in parallel; land only what has been proven.")]
struct Args {
    /// Say nothing beside what was asked for, and errors
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more: what was read, what was used, and how long it took
    #[arg(short, long, global = true)]
    verbose: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Watch five stories land, in a temporary repository: no key, no network
    Demo(demo::Args),
    /// Run one command in a sandbox
    Exec(Box<exec::Args>),
    /// Try the attacks of the threat model from inside a sandbox
    Probe(probe::Args),
    /// Can this host enforce a sandbox? Every layer, and what mends it
    Doctor(doctor::Args),
    /// Look at this repository and write its first configuration and story
    Init(init::Args),
    /// What a sandbox may touch: list, show, check and explain profiles
    Profile(profile::Args),
    /// One safe worktree per story: new, exec, collect, list, remove
    Workspace(workspace::Args),
    /// Fill in a story's last collected commit as files for a person
    Checkout(checkout::Args),
    /// Open a shell in a story's sandbox
    Shell(shell::Args),
    /// Show what a story changed
    Diff(diff::Args),
    /// Remove what nothing uses any more; never a commit that nothing else reaches
    Clean(clean::Args),
    /// Run the gates on a clean commit: is the base red?
    Gate(gate::Args),
    /// Show what waits to land, in order, and what each waits for
    Queue(queue::Args),
    /// Bring the clean checkouts of the target to what has landed
    Land(land::Args),
    /// Take back what a story landed; gated like anything else
    Revert(revert::Args),
    /// Add a story
    Add(Box<add::AddArgs>),
    /// Make story files of what other tools wrote
    Import(import::ImportArgs),
    /// Check the stories and the configuration
    Lint(lint::LintArgs),
    /// Show the waves, what the plan may cost at most, and what each sandbox may touch
    Plan(plan::PlanCommandArgs),
    /// Show what waits for what
    Graph(graph::GraphArgs),
    /// Show who starts now, and why not the others
    Next(next::NextArgs),
    /// Show what holds the plan up, the root first
    Blocked(blocked::BlockedArgs),
    /// Work on the stories until nothing more can be done without a human
    Run(Box<run::Args>),
    /// Where every story stands
    Status(status::Args),
    /// Everything about one story
    Show(show::Args),
    /// Why a story is where it is, or why nothing moves
    Why(why::Args),
    /// What happened, event by event
    Log(log::Args),
    /// All of it on a screen that follows, with the commands of a human at hand
    Watch(watch::Args),
    /// All of it as a page for a browser on this machine, which follows; it can only be read
    Serve(serve::Args),
    /// The same as tools for an agent of yours (Model Context Protocol)
    Mcp(mcp::Args),
    /// Counts: stories, attempts, evaluators, gates
    Stats(stats::Args),
    /// What was spent, by story, role and model
    Costs(stats::Args),
    /// The whole run as a page, in Markdown or HTML
    Report(report::Args),
    /// Look at evidence, check it, take it along
    Evidence(evidence::Args),
    /// Leave a note for a story's next attempt
    Note(command::Text),
    /// Answer the question of a blocked story
    Answer(command::Text),
    /// Approve a story's commit, that one and no other
    Approve(command::Approve),
    /// Send a story's work back, with the reason
    Reject(command::Reject),
    /// Let a story that stopped go on, with a fresh budget, from the work it has
    Retry(command::Only),
    /// Put a story back to its beginning
    Reset(command::Reset),
    /// Ask for another approach; evidence on the same tree stays valid
    Replan(command::Text),
    /// End a story
    Cancel(command::Cancel),
    /// Start nothing new
    Pause(command::Pause),
    /// End a pause
    Resume(command::Resume),
    /// Record that a story's work was done outside of cofferdam
    Backfill(backfill::Args),
    /// Show the configuration and where it comes from
    Config(config::ConfigArgs),
    /// Print the JSON Schema of a file format
    Schema(schema::SchemaArgs),
    /// Print the completions of a shell
    Completions(completions::Completions),
    /// Print the manual page, or write all of them
    Man(completions::Man),
}

/// The program.
pub fn main() -> ExitCode {
    sys::fill_standard_streams();
    // Before anything else: this process must stay as small and single-threaded as it was born.
    if std::env::args_os().nth(1).is_some_and(|first| first == helper::COMMAND) {
        return if helper::serve().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    // Inside a sandbox: git asks by this name.
    if fsmonitor::is_asked(std::env::args_os().next()) {
        let answered = fsmonitor::answer(std::env::args_os().skip(1), std::io::stdout().lock());
        return if matches!(answered, Ok(true)) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if std::env::args_os().nth(1).is_some_and(|first| first == unpack::COMMAND) {
        return unpack::serve(std::env::args_os().skip(2));
    }
    // Inside a sandbox: the program judges what an agent left, and knows no other command there.
    if std::env::args_os().nth(1).is_some_and(|first| first == crate::verify::verifier::COMMAND) {
        return crate::verify::verifier::main();
    }
    if std::env::args_os().nth(1).is_some_and(|first| first == demo::agent::COMMAND) {
        return demo::agent::main(std::env::args_os().skip(2));
    }
    if std::env::args_os().nth(1).is_some_and(|first| first == ask::COMMAND) {
        return ask::main(std::env::args_os().skip(2));
    }
    if std::env::args_os().nth(1).is_some_and(|first| first == "exec") {
        let early = exec::begin(std::env::args_os().skip(2));
        let plain = exec::Args::without_options(std::env::args_os().skip(2));
        if let Some(args) = plain.or_else(|| alone(std::env::args_os().skip(1))) {
            return end(exec::run(args, early));
        }
    }
    // Inside a sandbox too: no command for people.
    if std::env::args_os().nth(1).is_some_and(|first| first == attack::COMMAND)
        && let Some(args) = alone(std::env::args_os().skip(1))
    {
        return end(attack::run(args));
    }
    if let Some(text) = topic(std::env::args_os().skip(1)) {
        printer::out(&text);
        return ExitCode::SUCCESS;
    }
    match Args::try_parse() {
        Ok(args) => {
            printer::set_level(args.quiet, args.verbose);
            let begun = Instant::now();
            let code = end(run(args.command));
            printer::detail(|| format!("it took {}", duration::display(begun.elapsed())));
            code
        }
        Err(error) => usage(&error),
    }
}

/// `help TOPIC`, where the topic is no command.
fn topic(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<String> {
    let (first, second) = (arguments.next()?, arguments.next()?);
    if first == "help" { help::topic(second.to_str()?) } else { None }
}

fn unwritten(why: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, "standard output could not be written").why(why.to_string()).next("is there space where it leads to?")
}

fn end(result: Result<ExitCode, Failure>) -> ExitCode {
    let result = result.and_then(|code| match printer::lost() {
        // What the command found out stays its answer.
        Some(why) if code == ExitCode::SUCCESS => Err(unwritten(why)),
        _ => Ok(code),
    });
    result.unwrap_or_else(|failure| {
        printer::failed(&failure.to_string());
        ExitCode::from(failure.exit as u8)
    })
}

/// The arguments of one command, read by themselves.
///
/// The whole tree of commands costs more to build than a sandbox: `exec`, which scripts run again and again, gets its own branch alone.
/// Whatever is wrong, or asks for help, is answered by the whole tree.
fn alone<A: clap::Args>(arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<A> {
    let branch = A::augment_args(clap::Command::new("cofferdam"));
    let matches = branch.try_get_matches_from(arguments).ok()?;
    A::from_arg_matches(&matches).ok()
}

/// Help goes to standard output and is a success; a typing error keeps `exec`'s own code, because 2 may be its command's.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind::{DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion};
    // Whoever asks for help gets all of it, which costs more to build than to leave out.
    let asks = matches!(error.kind(), DisplayHelp | DisplayHelpOnMissingArgumentOrSubcommand | DisplayVersion);
    let whole = if asks { help::tree().try_get_matches().err() } else { None };
    let error = whole.as_ref().unwrap_or(error);
    let printed = error.print();
    if !error.use_stderr() {
        return match printed {
            // Whoever pipes help into `head` has read enough.
            Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => end(Err(unwritten(&why))),
            _ => ExitCode::SUCCESS,
        };
    }
    let exec = std::env::args_os().nth(1).is_some_and(|first| first == "exec");
    ExitCode::from(if exec { Exit::ExecOurs } else { Exit::Usage } as u8)
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Exec(args) => exec::run(*args, None),
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Probe(args) => probe::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Init(args) => init::run(&args),
        Command::Profile(args) => profile::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Graph(args) => graph::run(args),
        Command::Next(args) => next::run(args),
        Command::Blocked(args) => blocked::run(args),
        Command::Add(args) => add::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Lint(args) => lint::run(args),
        Command::Schema(args) => schema::run(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => completions::man(&args),
        Command::Config(args) => config::run(args),
        Command::Status(args) => status::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Why(args) => why::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Mcp(args) => mcp::run(&args),
        Command::Evidence(args) => evidence::run(&args),
        Command::Stats(args) => stats::run(&args),
        Command::Costs(args) => stats::run_costs(&args),
        Command::Report(args) => report::run(&args),
        Command::Note(args) => command::note(&args),
        Command::Answer(args) => command::answer(&args),
        Command::Approve(args) => command::approve(&args),
        Command::Reject(args) => command::reject(&args),
        Command::Retry(args) => command::retry(&args),
        Command::Reset(args) => command::reset(&args),
        Command::Replan(args) => command::replan(&args),
        Command::Cancel(args) => command::cancel(&args),
        Command::Backfill(args) => backfill::run(&args),
        Command::Pause(args) => command::pause(&args),
        Command::Resume(args) => command::resume(&args),
        Command::Workspace(args) => workspace::run(args),
        Command::Checkout(args) => checkout::run(&args),
        Command::Shell(args) => shell::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Clean(args) => clean::run(&args),
        Command::Gate(args) => gate::run(&args),
        Command::Queue(args) => queue::run(&args),
        Command::Land(args) => land::run(&args),
        Command::Revert(args) => revert::run(&args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_alone_reads_what_the_whole_tree_reads() {
        let words = |line: &str| line.split(' ').map(std::ffi::OsString::from).collect::<Vec<_>>();
        for line in [
            "exec -- true",
            "exec --profile strict --wall 1s --memory 64MiB -- sh -c x",
            "exec --read a --read b --env A=1 -q -v --diff -- make",
            "exec true",
            "exec",
            "exec --nothing -- true",
            "exec --help",
            "exec --memory -1 -- true",
        ] {
            let whole = Args::try_parse_from([vec!["cofferdam".into()], words(line)].concat());
            let whole = whole.ok().map(|args| format!("{:?}", args.command));
            let alone = alone::<exec::Args>(words(line).into_iter()).map(|args| format!("{:?}", Command::Exec(Box::new(args))));
            assert_eq!(alone, whole, "{line}");
        }
    }
}

//! `cofferdam exec`: one command in one sandbox.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::door;
use super::failure::{Exit, Failure};
use super::inplace;
use super::printer;
use super::profile;
use super::throwaway;
use crate::base::duration;
use crate::base::size::Size;
use crate::base::text::{bytes_line, one_line};
use crate::egress::{Endpoint, Grant, Source, Tally};
use crate::sandbox::plan::Facts;
use crate::sandbox::policy::{self, Access, Limits, NetworkMode, Policy, Tier, WorkspaceSource};
use crate::sandbox::profile::BUILT_IN;
use crate::sandbox::resolve::{ExecOptions, resolve_telling};
use crate::sandbox::toolchains::{Host, Surroundings};
use crate::sandbox::{Cause, Destination, Early, Engine, Finished, Outcome, SandboxError, command, sys};
use crate::workspace::inplace::GitMode;

/// The profile of who names none.
const PROFILE: &str = "default";

#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Exit code: the command's own; 124 wall limit, 125 cofferdam itself failed, 126 not executable, 127 not found,\n\
    128+n ended by signal n, 137 another limit (the outcome says which), 6 the sandbox cannot be enforced here.")]
pub struct Args {
    /// What the command may touch: a profile's name or a file
    #[arg(long, default_value = PROFILE, value_name = "NAME|FILE", help_heading = "Access")]
    profile: String,
    /// The folder to work in [default: the current folder]
    #[arg(long, value_name = "DIR", help_heading = "Access")]
    workspace: Option<PathBuf>,
    /// One more path it may read
    #[arg(long, value_name = "PATH", help_heading = "Access")]
    read: Vec<PathBuf>,
    /// One more path it may read and write
    #[arg(long, value_name = "PATH", help_heading = "Access")]
    write: Vec<PathBuf>,
    /// One more variable: NAME takes it from here, NAME=VALUE sets it
    #[arg(long, value_name = "NAME[=VALUE]", help_heading = "Access")]
    env: Vec<OsString>,
    /// The network: none, through the gateway, or the host's own
    #[arg(long, value_name = "MODE", help_heading = "Access")]
    net: Option<Net>,
    /// One more host it may reach through the gateway: a name, *.name, an address or a range, and what narrows it
    #[arg(long, value_name = "HOST[:PORT]", help_heading = "Access")]
    allow: Vec<String>,
    /// Propose rules for what the command wants of the network; what no rule allows is refused all the same
    #[arg(long, help_heading = "Access")]
    observe: bool,
    /// A model it may call: anthropic, openai or gemini, at the provider's own host or another one. The key stays outside
    #[arg(long, value_name = "PROVIDER[=HOST[:PORT]]", value_parser = door::model, help_heading = "Access")]
    model: Vec<door::Model>,
    /// Where the model's key is taken from: env:NAME, file:PATH or command:COMMAND [default: the provider's usual variable]
    #[arg(long, value_name = "SOURCE", requires = "model", help_heading = "Access")]
    model_key: Option<Source>,
    /// A model it may call by your own login of an agent, such as claude or codex: used outside, where a placeholder lies inside
    #[arg(long, value_name = "AGENT", help_heading = "Access")]
    login: Vec<String>,
    /// A key for one host, put in outside; the command sees a placeholder. SOURCE is env:NAME, file:PATH or command:COMMAND
    #[arg(long, value_name = "HEADER@HOST[:PORT]=SOURCE", value_parser = door::grant, help_heading = "Access")]
    credential: Vec<Grant>,
    /// How many model calls it may make
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true, help_heading = "Limits")]
    model_calls: Option<u64>,
    /// The name server that the gateway asks [default: the host's own]
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = name_server, help_heading = "Access")]
    resolver: Option<SocketAddr>,

    /// The repository's git directory inside: private (commits come out as a ref), readonly, or none
    #[arg(long, value_name = "MODE", default_value = "private", help_heading = "Access")]
    git: GitMode,

    /// Memory, such as 512MiB
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = "Limits")]
    memory: Option<Size>,
    /// Processes and threads
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true, help_heading = "Limits")]
    pids: Option<u64>,
    /// Processors, such as 1.5
    #[arg(long, value_name = "N", value_parser = processors, allow_hyphen_values = true, help_heading = "Limits")]
    cpus: Option<f64>,
    /// Time on the clock, such as 20m
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true, help_heading = "Limits")]
    wall: Option<Duration>,
    /// Processor time, such as 10m
    #[arg(long, value_name = "TIME", value_parser = duration::parse, allow_hyphen_values = true, help_heading = "Limits")]
    cpu_time: Option<Duration>,
    /// What it may print, such as 64MiB
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = "Limits")]
    output: Option<Size>,
    /// What it may write to the workspace, and to its private folders
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = "Limits")]
    disk: Option<Size>,
    /// How many files it may make
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true, help_heading = "Limits")]
    files: Option<u64>,
    /// Open files
    #[arg(long, value_name = "N", value_parser = count, allow_hyphen_values = true, help_heading = "Limits")]
    open_files: Option<u64>,
    /// The largest file it may write
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, help_heading = "Limits")]
    file_size: Option<Size>,

    /// How the command ended, as a JSON file
    #[arg(long, value_name = "FILE", help_heading = "Result")]
    outcome: Option<PathBuf>,
    /// Run on a throw-away overlay of the workspace
    #[arg(long, help_heading = "Result")]
    discard: bool,
    /// The same, and print what would have changed
    #[arg(long, help_heading = "Result")]
    diff: bool,
    /// How the command ended, as one line of JSON at the end of the output
    #[arg(long, help_heading = "Result")]
    json: bool,
    /// Say nothing beside what the command says
    #[arg(short, long, help_heading = "Result")]
    quiet: bool,
    /// Print what the kernel enforced
    #[arg(short, long, help_heading = "Result")]
    verbose: bool,
    /// The tier: full, or no-userns where user namespaces are not to be had
    #[arg(long, value_name = "TIER", help_heading = "Access")]
    require: Option<Require>,

    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Net {
    None,
    Gateway,
    Host,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Require {
    Full,
    NoUserns,
}

fn name_server(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse().or_else(|_| text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53)));
    with_port.map_err(|_| "it must be an address, such as 192.0.2.53 or 192.0.2.53:53".to_owned())
}

fn count(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| "it must be a whole number above 0".to_owned())
}

fn processors(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|n: &f64| n.is_finite() && *n >= 0.01 && *n <= 4096.0)
        .ok_or_else(|| "it must be a number between 0.01 and 4096".to_owned())
}

impl Args {
    /// Those of `exec -- COMMAND…`, the form that scripts use most: without an option there is nothing that has to be read by rules, which
    /// takes longer than most steps of a sandbox. None for any other form.
    pub fn without_options(mut arguments: impl Iterator<Item = OsString>) -> Option<Self> {
        let command: Vec<OsString> = arguments.next().filter(|first| first == "--").map(|_| arguments.collect())?;
        (!command.is_empty()).then(|| Self { profile: PROFILE.to_owned(), command, ..Self::default() })
    }
}

/// Has the part of the sandbox built that nothing decides, while we still find out what is wanted. Where an option may ask for another
/// one it would be thrown away, so it is not begun.
pub fn begin(arguments: impl Iterator<Item = OsString>) -> Option<(Facts, Option<Early>)> {
    if !usual(arguments) {
        return None;
    }
    let facts = Facts::read();
    let early = Early::begin(&facts);
    Some((facts, early))
}

/// Do these arguments look as if they asked for a sandbox of the usual kind, all namespaces included? A wrong guess costs time alone.
fn usual(mut arguments: impl Iterator<Item = OsString>) -> bool {
    while let Some(argument) = arguments.next().filter(|argument| argument != "--") {
        let Some(argument) = argument.to_str() else { continue };
        let (option, value) = argument.split_once('=').map_or((argument, None), |(option, value)| (option, Some(value.to_owned())));
        let mut value = || value.clone().or_else(|| arguments.next()?.into_string().ok()).unwrap_or_default();
        let fits = match option {
            "--net" => value() != "host",
            "--require" => value() == "full",
            // What a profile of somebody's own asks for is not known yet.
            "--profile" => {
                let wanted = value();
                BUILT_IN.iter().any(|(name, _)| wanted == *name)
            }
            "--help" | "-h" => false,
            _ => true,
        };
        if !fits {
            return false;
        }
    }
    true
}

/// # Errors
/// Everything that kept the command from running, or its outcome from being written.
pub fn run(args: Args, begun: Option<(Facts, Option<Early>)>) -> Result<ExitCode, Failure> {
    execute(args, begun).map_err(|failure| {
        // The codes 1 to 5 belong to the command; only "cannot be enforced here" keeps its own.
        let exit = if failure.exit == Exit::Unenforceable { failure.exit } else { Exit::ExecOurs };
        Failure { exit, ..failure }
    })
}

fn execute(args: Args, begun: Option<(Facts, Option<Early>)>) -> Result<ExitCode, Failure> {
    let around = Surroundings::of_process();
    let chosen = crate::sandbox::profile::load::load(&args.profile, around.profiles.as_deref()).map_err(|e| profile::failed(&e))?;
    let options = options(&args)?;
    let (facts, mut early) = begun.unwrap_or_else(|| (Facts::read(), None));
    let mut show = |grants: &[policy::Grant]| early.iter_mut().for_each(|early| early.show(grants));
    let resolved = resolve_telling(&Host::default(), &chosen, &options, &around, &mut show).map_err(|e| profile::refused(&e))?;
    if !args.quiet {
        resolved.notices.iter().for_each(|notice| printer::err(&format!("cofferdam: {}", one_line(notice))));
    }
    let mut policy = resolved.policy;
    let mut outcome_file = args.outcome.as_deref().map(|path| OutcomeFile::create(path, &policy)).transpose()?;

    let engine = Engine::here_with(facts, early);
    let in_place = inplace::cover(&mut policy, args.git, args.quiet)?;
    let kept = matches!(policy.workspace.source, WorkspaceSource::Folder(_));
    let door = door::prepare(&mut policy, wishes(&args, &around)?)?;
    let (finished, tally) = supervise(&engine, &policy, &args.command, door)?;
    // Whatever becomes of its commits, how it ended is said.
    let git = inplace::finish(in_place, kept);
    let document = Document { outcome: &finished.outcome, git: git.as_ref().ok().and_then(Option::as_ref) };
    if let Some(file) = &mut outcome_file {
        file.write(&document)?;
    }
    if args.diff {
        throwaway::print(&policy, &finished);
    }
    report(&args, &policy, &document, tally.as_ref());
    if let Some(git) = git?.filter(|_| !args.quiet) {
        inplace::tell(&git);
    }
    Ok(exit_code(finished.outcome.exit_code))
}

/// The document of `--json` and `--outcome`.
#[derive(serde::Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// What was committed and left behind, in place on a repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    git: Option<&'a inplace::Left>,
}

fn wishes(args: &Args, around: &Surroundings) -> Result<door::Wishes, Failure> {
    let mut endpoints: Vec<Endpoint> = args.model.iter().map(|model| model.endpoint(args.model_key.as_ref())).collect();
    for agent in &args.login {
        let endpoint = door::login(agent, around)?;
        if endpoints.iter().any(|other| other.provider == endpoint.provider) {
            return Err(Failure::usage(format!("{} would be reached in two ways; nothing was run", endpoint.provider.name()))
                .next(format!("leave out --login {agent}, or the --model of the same provider")));
        }
        endpoints.push(endpoint);
    }
    if endpoints.is_empty() && args.model_calls.is_some() {
        return Err(Failure::usage("--model-calls counts the calls of a model, and there is none; nothing was run")
            .next("pass --model PROVIDER or --login AGENT too"));
    }
    let accounts = if endpoints.is_empty() { None } else { Some(door::accounts(around, args.model_calls)?) };
    Ok(door::Wishes { observe: args.observe, resolver: args.resolver, endpoints, grants: args.credential.clone(), accounts })
}

pub(super) fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1))
}

/// Who wants to see what is wanted, or a model to be called, means the gateway: nothing else can do it.
fn wants_gateway(args: &Args) -> bool {
    args.observe || !args.model.is_empty() || !args.login.is_empty() || !args.credential.is_empty()
}

fn options(args: &Args) -> Result<ExecOptions, Failure> {
    let cwd = std::env::current_dir().map_err(|e| {
        Failure::usage("the current folder cannot be used")
            .because(&e)
            .next("change to a folder that exists, or name one with --workspace DIR")
    })?;
    Ok(ExecOptions {
        cwd,
        workspace: args.workspace.clone(),
        program: args.command.first().cloned(),
        read: args.read.clone(),
        write: args.write.clone(),
        env: args.env.clone(),
        net: args.net.or(wants_gateway(args).then_some(Net::Gateway)).map(|net| match net {
            Net::None => NetworkMode::None,
            Net::Gateway => NetworkMode::Gateway,
            Net::Host => NetworkMode::Host,
        }),
        allow: args.allow.clone(),
        limits: Limits {
            memory: args.memory,
            pids: args.pids,
            cpus: args.cpus,
            wall: args.wall,
            cpu_time: args.cpu_time,
            silence: None,
            output: args.output,
            disk: args.disk,
            files: args.files,
            open_files: args.open_files,
            file_size: args.file_size,
        },
        require: args.require.map(|tier| match tier {
            Require::Full => Tier::Full,
            Require::NoUserns => Tier::NoUserns,
        }),
        discard: args.discard || args.diff,
        terminal: terminal(args),
    })
}

/// A private terminal for the command, when a person sits at ours.
fn terminal(args: &Args) -> bool {
    !matches!(args.require, Some(Require::NoUserns)) && at_a_terminal()
}

/// Does a person sit at all three of our streams?
pub(super) fn at_a_terminal() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
}

/// Runs a command to its end, with our own streams as its streams, and its gateway when it has one.
pub(super) fn supervise(
    engine: &Engine,
    policy: &Policy,
    command: &[OsString],
    door: Option<door::Ready>,
) -> Result<(Finished, Option<Tally>), Failure> {
    let own = |number| {
        sys::standard(number).try_clone_to_owned().map_err(|e| Failure::new(Exit::ExecOurs, "a standard stream cannot be used").because(&e))
    };
    let stdin = own(0)?;
    let mut sandboxed = engine.sandbox(policy).command(&command[0]).args(&command[1..]);
    if !command::is_null(&stdin) {
        sandboxed = sandboxed.stdin(stdin);
    }
    let sandboxed = sandboxed.stdout(Destination::Descriptor(own(1)?)).stderr(Destination::Descriptor(own(2)?));
    let signals = signals().map_err(|e| Failure::new(Exit::ExecOurs, "signals cannot be received").because(&e))?;
    let mut running = sandboxed.spawn().map_err(|e| failed(&e, policy.tier))?;
    running.stop_on(signals);
    // Everything is forked and signals are blocked: the gateway's threads inherit that.
    let serving = door.map(|door| door.serve(&mut running)).transpose()?;
    let raw = running.terminal().map(|theirs| {
        // A terminal without a size has none to copy.
        drop(sys::copy_window_size(sys::standard(0), theirs));
        Raw::enter()
    });
    let finished = running.wait();
    drop(raw);
    let tally = serving.map(door::Serving::stop);
    let mut finished = finished.map_err(|e| failed(&e, policy.tier))?;
    if let Some(tally) = &tally {
        door::record(&mut finished.outcome, tally);
    }
    Ok((finished, tally))
}

fn signals() -> std::io::Result<OwnedFd> {
    let set = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH]);
    set.thread_block()?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?.as_fd().try_clone_to_owned()
}

/// Our terminal in raw mode: every key goes to the command's own terminal.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Self {
        let before = tcgetattr(sys::standard(0)).ok();
        if let Some(mut raw) = before.clone() {
            cfmakeraw(&mut raw);
            // A terminal that refuses stays as it is: keys then arrive line by line.
            let _ = tcsetattr(sys::standard(0), SetArg::TCSANOW, &raw);
        }
        Self(before)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(sys::standard(0), SetArg::TCSANOW, before);
        }
    }
}

/// How the engine's errors read on the command line.
pub fn failed(error: &SandboxError, tier: Tier) -> Failure {
    let what = "the sandbox cannot be built here; nothing was run";
    match error {
        SandboxError::Unenforceable(missing) => {
            let mut failure =
                Failure::new(Exit::Unenforceable, format!("this host cannot enforce the {} tier; nothing was run", missing.tier));
            for need in &missing.needs {
                failure = failure.why(format!("need: {}; have: {}", need.need, need.have));
            }
            failure.next("cofferdam doctor shows every layer, and what mends it")
        }
        SandboxError::Launch(_) | SandboxError::Step { .. } | SandboxError::Vanished => {
            let failure = Failure::new(Exit::Unenforceable, what).because(error);
            let failure = failure.next("cofferdam doctor names the layer that is missing, and what mends it");
            if tier == Tier::Full {
                failure.next("--require no-userns runs with Landlock and seccomp only, and says what that leaves open")
            } else {
                failure
            }
        }
        _ => Failure::new(Exit::ExecOurs, "the command was not run").because(error),
    }
}

/// Where the outcome goes; tried before anything runs, so that a path that cannot be written is said before, not after hours of work.
enum OutcomeFile {
    /// Opened before the run.
    Open(fs_err::File),
    /// In a folder that the command may write: it could leave a link or a made-up outcome at that name, so the name is replaced, and only
    /// when nobody inside is alive and the folder is still the same one.
    Replace { path: PathBuf, folder: PathBuf },
}

impl OutcomeFile {
    fn create(path: &Path, policy: &Policy) -> Result<Self, Failure> {
        let failed = |e: &std::io::Error| {
            Failure::usage("the outcome cannot be written").because(e).next("name a file in a folder that exists and that you may write to")
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = fs_err::canonicalize(parent).map_err(|e| failed(&e))?;
        if !writable_inside(policy, &folder) {
            return fs_err::File::create(path).map(Self::Open).map_err(|e| failed(&e));
        }
        let name = path.file_name().ok_or_else(|| failed(&std::io::Error::from_raw_os_error(libc::EISDIR)))?;
        if path.is_dir() {
            return Err(failed(&std::io::Error::from_raw_os_error(libc::EISDIR)));
        }
        // Only to see whether it can be done.
        tempfile::NamedTempFile::new_in(&folder).map_err(|e| failed(&e))?;
        Ok(Self::Replace { path: folder.join(name), folder })
    }

    fn write(&mut self, document: &Document<'_>) -> Result<(), Failure> {
        let bytes =
            serde_json::to_vec_pretty(document).map_err(|e| Failure::new(Exit::ExecOurs, "the outcome cannot be written").because(&e))?;
        let failed = |e: std::io::Error| Failure::new(Exit::ExecOurs, "the command ran, but its outcome could not be written").because(&e);
        match self {
            Self::Open(file) => {
                // Whatever the command could write into it is not part of it.
                if file.metadata().map_err(failed)?.is_file() {
                    file.set_len(0).map_err(failed)?;
                }
                std::io::Write::write_all(file, &bytes).map_err(failed)
            }
            Self::Replace { path, folder } => {
                if fs_err::canonicalize(&*folder).map_err(failed)? != *folder {
                    return Err(failed(std::io::Error::other("the command replaced the folder by a link")));
                }
                let mut file = tempfile::NamedTempFile::new_in(&*folder).map_err(failed)?;
                std::io::Write::write_all(&mut file, &bytes).map_err(failed)?;
                // Readable as any file that is made: a temporary file begins closed to others.
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
                file.as_file().set_permissions(mode).map_err(failed)?;
                file.persist(path).map(drop).map_err(|e| failed(e.error))
            }
        }
    }
}

/// May the command write in this folder of the host?
fn writable_inside(policy: &Policy, folder: &Path) -> bool {
    let workspace = match &policy.workspace.source {
        WorkspaceSource::Folder(host) if policy.workspace.access == Access::Write => Some(host),
        WorkspaceSource::Folder(_) | WorkspaceSource::Overlay { .. } => None,
    };
    let grants = policy.grants.iter().filter(|grant| grant.access == Access::Write).map(|grant| &grant.host);
    workspace.into_iter().chain(grants).any(|host| folder.starts_with(host))
}

fn report(args: &Args, policy: &Policy, document: &Document<'_>, tally: Option<&Tally>) {
    let outcome = document.outcome;
    if args.json {
        match serde_json::to_string(document) {
            Ok(line) => printer::out(&line),
            Err(error) => printer::err(&format!("cofferdam: the outcome cannot be printed: {error}")),
        }
    }
    if args.quiet {
        return;
    }
    if let Some(line) = ending(policy, outcome, &args.command[0]) {
        printer::err(&format!("cofferdam: {line}"));
    }
    if outcome.exit_code != 0 || args.verbose {
        door::others(outcome);
    }
    if let Some(tally) = tally {
        door::report(outcome, tally, args.observe);
    }
    if args.verbose {
        printer::say(&receipt(outcome));
    }
}

/// One sentence on what ended the command, when it was not the command itself.
pub(super) fn ending(policy: &Policy, outcome: &Outcome, program: &OsString) -> Option<String> {
    let program = bytes_line(program.as_encoded_bytes());
    let limits = &policy.limits;
    let size = |limit: Option<Size>| limit.map_or_else(String::new, |l| l.to_string());
    let (limit, option) = match outcome.cause {
        Cause::Exited => return None,
        Cause::Signalled => {
            let signal = outcome.signal.unwrap_or(0);
            let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |s| s.to_string());
            let detail = outcome.detail.as_ref().map_or_else(String::new, |d| format!(": {d}"));
            return Some(format!("{program} was ended by {name}{detail}"));
        }
        Cause::ExecFailed => {
            let detail = outcome.detail.as_deref().unwrap_or("it cannot be executed");
            let hint = if outcome.exit_code == 127 {
                "is it installed, and does PATH lead to it inside? cofferdam profile explain shows"
            } else {
                "is it a program, and may it be executed?"
            };
            return Some(format!("{program} could not be started: {detail}\n  next: {hint}"));
        }
        Cause::Cancelled => return Some(format!("{program} was stopped: {}", outcome.detail.as_deref().unwrap_or("as you asked"))),
        Cause::Wall => (limits.wall.map(duration::display).unwrap_or_default(), "--wall"),
        Cause::Cpu => (limits.cpu_time.map(duration::display).unwrap_or_default(), "--cpu-time"),
        // No option sets it: `exec` has no such limit of its own.
        Cause::Silence => (limits.silence.map(duration::display).unwrap_or_default(), "silence"),
        Cause::Memory => (size(limits.memory), "--memory"),
        Cause::Pids => (limits.pids.map(|n| n.to_string()).unwrap_or_default(), "--pids"),
        Cause::Disk => (size(limits.disk), "--disk"),
        Cause::Files => (limits.files.map(|n| n.to_string()).unwrap_or_default(), "--files"),
        Cause::Output => (size(limits.output), "--output"),
    };
    let detail = outcome.detail.as_deref().unwrap_or("a limit was hit");
    Some(format!("{program} was ended: {detail} (limit {limit})\n  next: raise the limit with {option} if that is what it needs"))
}

/// The receipt as a short table.
pub fn receipt(outcome: &Outcome) -> String {
    let receipt = &outcome.receipt;
    let mut shown = format!("receipt: tier {}, Linux {}, limits {}", receipt.tier, receipt.kernel, receipt.limits);
    for layer in receipt.layers.iter().filter(|layer| layer.wanted || !layer.enforced) {
        let state = match (layer.wanted, layer.enforced, layer.probed) {
            (false, ..) => "not wanted",
            (true, false, _) => "MISSING",
            (true, true, Some(true)) => "enforced, tested",
            (true, true, Some(false)) => "NOT HOLDING",
            (true, true, None) => "enforced",
        };
        let line = format!("\n  {:<18} {state:<17} {}", layer.name, layer.detail);
        shown.push_str(line.trim_end());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(list: &[&str]) -> Vec<OsString> {
        list.iter().map(OsString::from).collect()
    }

    #[test]
    fn a_sandbox_of_another_kind_is_not_begun_early() {
        for line in [
            "",
            "-- true",
            "--profile strict -- true",
            "--profile=ci --net none -- make",
            "--net=gateway -q -- x",
            "--require full -- x",
            "-- x --net host",
        ] {
            assert!(usual(words(&line.split(' ').collect::<Vec<_>>()).into_iter()), "{line}");
        }
        for line in [
            "--net host -- true",
            "--net=host -- true",
            "--require no-userns -- x",
            "--profile ./own.toml -- x",
            "--profile",
            "--help",
            "-q -h",
        ] {
            assert!(!usual(words(&line.split(' ').collect::<Vec<_>>()).into_iter()), "{line}");
        }
        // Every profile that comes with the program is of the usual kind.
        for (name, _) in BUILT_IN {
            let profile = crate::sandbox::profile::load::load(name, None).expect("a profile");
            assert!(profile.network.mode != NetworkMode::Host && profile.require == Tier::Full, "{name}");
        }
    }

    /// What is not read by the rules is what the rules would have made of it.
    #[test]
    fn without_options_is_what_the_rules_say() {
        for command in [&["--", "true"][..], &["--", "sh", "-c", "exit 7", "--wall", "--", "-h"], &["--", "--"], &["--", ""]] {
            let plain = Args::without_options(words(command).into_iter()).expect("a command");
            let read = super::super::alone::<Args>(words(&[&["exec"], command].concat()).into_iter()).expect("read");
            assert_eq!(format!("{plain:?}"), format!("{read:?}"));
        }
        for other in [&[][..], &["--"], &["true"], &["--quiet", "--", "true"], &["-"]] {
            assert!(Args::without_options(words(other).into_iter()).is_none(), "{other:?}");
        }
    }
}

//! `cofferdam run`: works on the plan until nothing more can be done without a human.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::failure::{Exit, Failure};
use super::live::{Lines, Live, Watched};
use super::project::PlanArgs;
use super::state::{self, State};
use super::{printer, problems, workspace};
use crate::agents::call::secrets_of_logins;
use crate::base::id::StoryId;
use crate::base::source::any_error;
use crate::base::text::plural;
use crate::config::Role;
use crate::config::load::{FILE, Target};
use crate::engine::run::{Beginning, Counts, Ended, Reading, RunError, Signals, Source, Watcher, fingerprint, run as work};
use crate::event::StopReason;
use crate::face::tui::{self, Environment};
use crate::plan::{Plan, Rules};
use crate::role::{PolicyError, Workshop};
use crate::sandbox::Engine;
use crate::sandbox::plan::Facts;
use crate::sandbox::toolchains::Surroundings;
use crate::spec::load::{Form, USUAL};
use crate::store::lock::{LockError, RunnerLock};
use crate::workspace::git::Repository;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these stories, with what they come after
    stories_to_run: Vec<String>,
    #[command(flatten)]
    plan: PlanArgs,
    /// The target is red and the named stories mend it: they start and land on it, and nothing else does
    #[arg(long, requires = "stories_to_run")]
    repair_red: bool,
    /// Print plain lines, also on a terminal; `cofferdam log -f` tells every event
    #[arg(long)]
    plain: bool,
    /// Show it on the screen of cofferdam watch
    #[arg(long, conflicts_with_all = ["plain", "json"])]
    watch: bool,
}

/// Said once, when it begins.
const NO_GATE: &str = "cofferdam: warning: no [[gate]] is configured: stories land on their own verification alone\n  \
    next: cofferdam init --dry-run shows commands that test this repository; write one into cofferdam.toml and commit it";

/// # Errors
/// What kept the run from beginning, or from going on.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    if args.watch {
        // Before anything is begun.
        tui::check(&Environment::of_process())?;
    }
    let named: Vec<StoryId> = args
        .stories_to_run
        .iter()
        .map(|typed| typed.parse().map_err(|error| Failure::usage(format!("`{typed}` is no story")).because(&error)))
        .collect::<Result<_, _>>()?;
    let mut files = Files::open(&args.plan)?;
    let reading = files.first()?;
    known(&named, &reading)?;
    if reading.config.gates.is_empty() {
        printer::err(NO_GATE);
    }
    let root = files.root.clone();
    let state = State::at(&root)?;
    // Held until the very end: it dies with this process, however that ends.
    let _lock = RunnerLock::take(&state.folder, state::now()).map_err(|error| match error {
        LockError::Held { .. } => {
            Failure::new(Exit::Failure, error.to_string()).next("watch it with `cofferdam status`, or stop it there with Ctrl-C")
        }
        LockError::Io { .. } => state::unwritable(&error),
    })?;
    let store = state.store_to_write()?;
    let evidence = store.evidence();
    evidence.sweep().map_err(|error| Failure::new(Exit::Failure, "what a killed run left cannot be removed").because(&error))?;
    // The helper comes before every thread.
    let program =
        std::env::current_exe().map_err(|error| Failure::new(Exit::Failure, "this program cannot find itself").because(&error))?;
    let engine = Engine::with_helper(Facts::read(), &program)
        .map_err(|error| Failure::new(Exit::Failure, "the helper that launches sandboxes cannot be started").because(&error))?;
    // Whatever a killed runner's sandboxes still hold is ended before anything of theirs is read.
    engine
        .cgroups()
        .sweep()
        .map_err(|error| Failure::new(Exit::Failure, "processes of an earlier run could not be ended").because(&error))?;
    // A run that cannot start its first agent must not begin, and block the stories one by one.
    engine.check().map_err(|error| {
        Failure::new(Exit::Unenforceable, "sandboxes cannot be built here; nothing was run")
            .because(&error)
            .next("cofferdam doctor names the layer that is missing, and what mends it")
    })?;
    let shop = Workshop::new(engine, evidence, Surroundings::of_process(), &root, reading.config.clone());
    shop.conceal(secrets_of_logins(&shop));
    let shop = Arc::new(shop);
    for role in [Role::Implementer, Role::Gate] {
        shop.check(role).map_err(|error| refused(&error))?;
    }
    let mut watcher: Box<dyn Watcher> = if args.watch {
        Box::new(Watched::open(&program)?)
    } else if args.plan.json {
        Box::new(Lines::json())
    } else if args.plain || !Live::is_possible() {
        Box::new(Lines::plain())
    } else {
        Box::new(Live::new())
    };
    let beginning = Beginning { store, shop, reading, source: &mut files, watcher: &mut *watcher, named, repairs: args.repair_red };
    let ended = drive(beginning)?;
    drop(watcher);
    if !args.plan.json {
        printer::say(&summary(&ended));
    }
    Ok(ExitCode::from(code(&ended)))
}

fn drive(beginning: Beginning<'_>) -> Result<Ended, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(2)
        .build()
        .map_err(|error| Failure::new(Exit::Failure, "no threads can be started").because(&error))?;
    let signals = Signals::default();
    let ended = runtime.block_on(async {
        tokio::spawn(listen(signals.clone()));
        work(beginning, signals).await
    });
    // Nobody waits for work that was told to stop: its sandboxes end with this process.
    runtime.shutdown_background();
    ended.map_err(|error| match error {
        RunError::Store(error) => state::failure(error).next("then cofferdam run goes on from here"),
        RunError::NoStory(_) | RunError::Plan(_) => Failure::usage(error.to_string()).next("see cofferdam plan"),
        RunError::Io(_) => Failure::new(Exit::Failure, "the run cannot go on").because(&error).next("cofferdam run goes on from here"),
    })
}

/// The first interrupt or termination is orderly, the second immediate.
async fn listen(signals: Signals) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else { return };
    let mut hang_up = signal(SignalKind::hangup()).ok();
    for token in [&signals.first, &signals.second] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = async { if let Some(hang_up) = &mut hang_up { hang_up.recv().await; } else { std::future::pending::<()>().await } } => {}
        }
        token.cancel();
    }
}

/// The plan's files, read through the same door as every other command.
struct Files<'a> {
    args: &'a PlanArgs,
    root: PathBuf,
    repository: Repository,
    /// What the fingerprint is taken of.
    paths: Vec<PathBuf>,
    target: String,
    /// Files beside the main one may be part of the plan: it is read again now and then.
    also_beside: bool,
    began: std::time::Instant,
}

impl<'a> Files<'a> {
    fn open(args: &'a PlanArgs) -> Result<Self, Failure> {
        let loaded = args.project.load_silently()?;
        let repository = Repository::discover(&loaded.root).map_err(|error| workspace::failed(&error.into()))?;
        let target = match &loaded.target {
            Target::At { branch, .. } => format!("refs/heads/{branch}"),
            Target::Unborn | Target::NoRepository => {
                return Err(Failure::usage("there is no commit to start from").next("make the first commit on the target branch"));
            }
        };
        Ok(Self { args, root: loaded.root, repository, paths: Vec::new(), target, also_beside: false, began: std::time::Instant::now() })
    }

    fn first(&mut self) -> Result<Reading, Failure> {
        let checked = self.args.check()?;
        if any_error(&checked.problems) {
            return Err(problems::failure("there is no plan yet", &checked.problems)
                .next("mend these and run it again; cofferdam lint checks without doing anything"));
        }
        problems::print(&checked.problems);
        self.reading(checked).map_err(|why| Failure::usage("there is no plan yet").why(why).next("see cofferdam lint"))
    }

    fn reading(&mut self, checked: super::project::Checked) -> Result<Reading, String> {
        let loaded = checked.loaded.ok_or("the configuration cannot be used")?;
        let Target::At { branch, commit } = &loaded.target else { return Err("there is no commit to start from".to_owned()) };
        let plan = Plan::build(&checked.spec, &loaded.config.streams).map_err(|error| error.to_string())?;
        self.also_beside = checked.form == Some(Form::MasterSpec);
        self.target = format!("refs/heads/{branch}");
        let mut paths: Vec<PathBuf> = USUAL.iter().map(|place| self.root.join(place)).collect();
        paths.extend([self.root.join(&checked.place), self.root.join(&loaded.config.project.stories), self.root.join(FILE)]);
        paths.extend(crate::config::load::Environment::of_process().user_file());
        paths.extend(self.args.project.file().map(|file| self.root.join(file)));
        paths.sort();
        paths.dedup();
        self.paths = paths;
        Ok(Reading {
            rules: Rules::of(&loaded.config),
            plan,
            spec: checked.spec,
            config: Arc::new(loaded.config),
            target: self.target.clone(),
            commit: commit.parse().map_err(|_| format!("{commit} is no commit"))?,
        })
    }
}

impl Source for Files<'_> {
    fn fingerprint(&mut self) -> u64 {
        let paths: Vec<_> = self.paths.iter().map(PathBuf::as_path).collect();
        let commit = self.repository.reference(&self.target).map(|id| id.to_string()).unwrap_or_default();
        let now_and_then = if self.also_beside { self.began.elapsed().as_secs() / 2 } else { 0 };
        let commit = commit.bytes().fold(now_and_then, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        fingerprint(&paths) ^ commit
    }

    fn read(&mut self) -> Result<Reading, String> {
        let checked = self.args.check().map_err(|failure| failure.what)?;
        if let Some(problem) = checked.problems.iter().find(|problem| problem.is_error()) {
            let place = problem.place.as_ref().map(|place| format!("{}:{}: ", place.file, place.line)).unwrap_or_default();
            return Err(format!("{place}{}", problem.what));
        }
        self.reading(checked)
    }
}

fn known(named: &[StoryId], reading: &Reading) -> Result<(), Failure> {
    for id in named {
        if reading.plan.position(id.as_str()).is_none() {
            let ids = reading.plan.stories.iter().map(|story| story.id.as_str());
            let next = crate::base::suggest::nearest(id.as_str(), ids)
                .map_or("see cofferdam plan".to_owned(), |near| format!("did you mean {near}?"));
            return Err(Failure::usage(format!("there is no story `{id}` in the plan")).next(next));
        }
    }
    if !reading.config.agents.contains_key(&Role::Implementer) {
        return Err(Failure::usage("no implementer is configured, so there is nobody to do the work")
            .next("commit a cofferdam.toml with: [agents.implementer]  adapter = \"command\"  command = [\"./my-agent\", \"{task}\"]"));
    }
    Ok(())
}

fn refused(error: &PolicyError) -> Failure {
    let exit = match error {
        PolicyError::Unenforceable(_) => Exit::Unenforceable,
        _ => Exit::Usage,
    };
    Failure::new(exit, "the sandbox of an agent cannot be built; nothing was begun").because(error).next(error.next())
}

fn code(ended: &Ended) -> u8 {
    match ended.reason {
        StopReason::Finished => 0,
        StopReason::Blocked => Exit::Blocked as u8,
        StopReason::Budget => Exit::Budget as u8,
        StopReason::Interrupted => Exit::Interrupted as u8,
        StopReason::RedTarget => Exit::Red as u8,
        StopReason::Error | StopReason::Died => Exit::Failure as u8,
    }
}

/// What a person reads at the end.
fn summary(ended: &Ended) -> String {
    let Counts { total, landed, ready, blocked, escalated, cancelled, waiting } = ended.counts;
    let parts = [
        (landed, "landed"),
        (ready, "ready for review"),
        (blocked, "blocked"),
        (escalated, "out of budget"),
        (cancelled, "cancelled"),
        (waiting, "waiting"),
    ];
    let parts: Vec<String> = parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    let what = match ended.reason {
        StopReason::Finished if waiting == 0 => "done",
        StopReason::Finished => "nothing more can be done now",
        StopReason::Blocked => "a human is needed",
        StopReason::Budget => "the budget is spent",
        StopReason::Interrupted => "interrupted",
        StopReason::RedTarget => "the target is red, and nothing may be built on it",
        StopReason::Error | StopReason::Died => "stopped by an error",
    };
    let mut lines = vec![String::new(), format!("{what}: {} of {}", parts.join(", "), plural(total as u64, "story", "stories"))];
    if let Some(detail) = &ended.detail {
        lines.push(format!("  {detail}"));
    }
    for (story, reason) in ended.not.iter().take(20) {
        lines.push(format!("  {story}: {reason}"));
    }
    if ended.not.len() > 20 {
        lines.push(format!("  … and {} more: cofferdam next --all", ended.not.len() - 20));
    }
    if ready > 0 {
        lines.push(
            "  what is ready waits as a commit: cofferdam diff STORY shows it; [merge] landing decides whether it lands, and cofferdam approve STORY lets it".to_owned(),
        );
    }
    if ended.reason == StopReason::Interrupted {
        lines.push("  go on with: cofferdam run".to_owned());
    }
    lines.join("\n")
}

//! What a sandbox costs, side by side and interleaved in one run: bare, bubblewrap, the floor of plain system calls, our spawn from a
//! running process, our cold `exec`. Driven by `bench/spawn.sh`, which builds what this compares.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cofferdam::sandbox::plan::Facts;
use cofferdam::sandbox::profile::load::load;
use cofferdam::sandbox::resolve::{ExecOptions, resolve};
use cofferdam::sandbox::toolchains::{Host, Surroundings};
use cofferdam::sandbox::{Engine, Policy};

type Error = Box<dyn std::error::Error>;

/// A program that does one spawn for each byte and answers with nanoseconds.
struct Floor {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Floor {
    fn start(program: &PathBuf) -> Result<Self, Error> {
        let mut process = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (ask, answers) = (process.stdin.take().ok_or("no stdin")?, process.stdout.take().ok_or("no stdout")?);
        Ok(Self { process, ask, answers: BufReader::new(answers) })
    }

    fn once(&mut self) -> Result<Duration, Error> {
        self.ask.write_all(b"x")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(Duration::from_nanos(line.trim().parse()?))
    }

    fn end(mut self) -> Result<(), Error> {
        drop(self.ask);
        self.process.wait()?;
        Ok(())
    }
}

fn timed(run: impl FnOnce() -> Result<(), Error>) -> Result<Duration, Error> {
    let start = Instant::now();
    run()?;
    Ok(start.elapsed())
}

fn status(command: &mut Command) -> Result<(), Error> {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

fn bubblewrap() -> Command {
    let mut command = Command::new("bwrap");
    command.args(["--unshare-all", "--die-with-parent", "--new-session", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]);
    command.args(["--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"]);
    let folders = [
        "/usr",
        "/etc/ssl",
        "/etc/alternatives",
        "/etc/fonts",
        "/etc/perl",
        "/etc/python3",
        "/etc/terminfo",
        "/etc/ld.so.conf.d",
        "/etc/X11",
        "/etc/default",
    ];
    for folder in folders {
        command.args(["--ro-bind-try", folder, folder]);
    }
    command.args(["--", "/usr/bin/true"]);
    command
}

fn policy(profile: &str, folder: PathBuf) -> Result<Policy, Error> {
    let around = Surroundings::of_process();
    let profile = load(profile, None)?;
    let options = ExecOptions { cwd: folder, ..ExecOptions::default() };
    Ok(resolve(&Host::default(), &profile, &options, &around)?.policy)
}

fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100].as_secs_f64() * 1000.0
}

/// The orders of `count` things, one after the other: what one of them leaves for the kernel to tidy up is charged to each other one as
/// often as to any.
fn order(count: usize, round: usize) -> Vec<usize> {
    // A step that has no divisor in common with the number of orders comes past all of them, and from one to a very different one.
    let mut rest = round * 47;
    let mut left: Vec<usize> = (0..count).collect();
    (1..=count)
        .rev()
        .map(|many| {
            let chosen = left.remove(rest % many);
            rest /= many;
            chosen
        })
        .collect()
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() -> Result<(), Error> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let (Some(program), Some(floor)) = (from("COFFERDAM_BIN"), from("FLOOR_BIN")) else {
        println!("skipped: run bench/spawn.sh, which names what is compared");
        return Ok(());
    };
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(300);
    let workspace = tempfile::tempdir()?;
    let folder = workspace.path().canonicalize()?;
    let policy = policy(&std::env::var("PROFILE").unwrap_or_else(|_| "default".to_owned()), folder.clone())?;
    let engine = Engine::with_helper(Facts::read(), &program)?;
    let mut floor = Floor::start(&floor)?;

    let mut results: Vec<(&str, Vec<Duration>)> = ["bare", "bubblewrap", "floor", "spawn", "exec"].map(|name| (name, Vec::new())).into();
    for round in 0..rounds + 10 {
        for turn in order(results.len(), round) {
            let time = match results[turn].0 {
                "bare" => timed(|| status(&mut Command::new("/usr/bin/true")))?,
                "bubblewrap" => timed(|| status(&mut bubblewrap()))?,
                "floor" => floor.once()?,
                "spawn" => timed(|| {
                    let finished = engine.sandbox(&policy).command("/usr/bin/true").output(4096)?;
                    if finished.outcome.exit_code == 0 { Ok(()) } else { Err(format!("{:?}", finished.outcome).into()) }
                })?,
                _ => timed(|| status(Command::new(&program).current_dir(&folder).args(["exec", "--", "/usr/bin/true"])))?,
            };
            // The first rounds fill caches.
            if round >= 10 {
                results[turn].1.push(time);
            }
        }
    }
    floor.end()?;

    println!("{rounds} rounds, interleaved, milliseconds");
    let mut medians = Vec::new();
    for (name, times) in &mut results {
        let (p10, p50, p95) = (percentile(times, 10), percentile(times, 50), percentile(times, 95));
        medians.push((p10, p50, p95));
        println!("{name:<11} p10 {p10:6.2}   p50 {p50:6.2}   p95 {p95:6.2}");
    }
    let [_, bubblewrap, floor, spawn, exec] = medians[..] else { return Err("results are missing".into()) };
    // The first tenth is what a machine without anything else to do would show.
    println!("spawn / floor       p10 {:.2}   p50 {:.2}   (promise: at most 1.5)", spawn.0 / floor.0, spawn.1 / floor.1);
    println!(
        "exec / bubblewrap   p10 {:.2}   p50 {:.2}   p95 {:.2}   (promise: at most 0.8, p95 not worse)",
        exec.0 / bubblewrap.0,
        exec.1 / bubblewrap.1,
        exec.2 / bubblewrap.2
    );
    Ok(())
}

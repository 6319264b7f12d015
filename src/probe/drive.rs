//! Starting payloads: inside, through the program's own `exec`, and outside, for the controls. Everything that is started is bounded in time.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wait_timeout::ChildExt;

use super::attack::{Answer, Attempt};
use super::scene::{SECRET_VARIABLES, Scene};
use crate::sandbox::Outcome;

/// Longer than any attack needs on a loaded machine: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How much of a stream is kept; the rest is counted.
const KEEP: usize = 1 << 20;

/// How payloads are started.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The program whose `exec` is tested; also the attacker's program.
    pub program: PathBuf,
    /// The profile, by name or as a file.
    pub profile: String,
    /// Options for every `exec`.
    pub options: Vec<String>,
}

/// Starts the payloads of one attack.
#[derive(Debug)]
pub struct Driver<'a> {
    pub engine: &'a Engine,
    pub scene: &'a Scene,
    /// Where outcome documents go.
    pub state: &'a Path,
    /// The attacks that the payload runs: one, or a batch.
    pub ids: &'a [&'a str],
}

/// A payload that was started.
#[derive(Debug)]
pub struct Running {
    child: Child,
    outcome: Option<PathBuf>,
    since: Instant,
    control: bool,
}

/// How a payload ended, as it is seen from outside.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, or 128 + the signal.
    pub code: i32,
    /// What the engine says about it; `None` for a control.
    pub outcome: Option<Outcome>,
    pub answers: Vec<Answer>,
    pub output: Vec<u8>,
    pub output_bytes: u64,
    /// The end of what came on standard error: a reason has to fit into a line.
    pub errors: String,
    pub error_bytes: u64,
    pub took: Duration,
    /// The most memory that the supervisor had, sampled.
    pub supervisor_peak: u64,
}

impl Driver<'_> {
    /// Is this the control?
    pub fn control(&self) -> bool {
        self.scene.control
    }

    /// Runs the payload to its end.
    pub fn run(&self, options: &[&str]) -> Result<Ended, Attempt> {
        self.start(options)?.end()
    }

    /// Starts the payload with an empty standard input.
    pub fn start(&self, options: &[&str]) -> Result<Running, Attempt> {
        self.start_with(options, Stdio::null())
    }

    /// Starts the payload.
    pub fn start_with(&self, options: &[&str], input: Stdio) -> Result<Running, Attempt> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let no_answer = |what: &str, error: &dyn std::fmt::Display| Attempt::NoAnswer { why: format!("{what}: {error}") };
        let scene = serde_json::to_string(self.scene).map_err(|error| no_answer("the scene cannot be written", &error))?;
        let own = options.windows(2).find(|pair| pair[0] == "--outcome").map(|pair| PathBuf::from(pair[1]));
        let elsewhere = own.is_some();
        let outcome = own.unwrap_or_else(|| self.state.join(format!("outcome-{}.json", COUNT.fetch_add(1, Ordering::Relaxed))));
        let control = self.control();
        let mut command = Command::new(&self.engine.program);
        if !control {
            command.arg("exec").arg("--quiet").args(["--profile", &self.engine.profile]);
            command.arg("--workspace").arg(&self.scene.workspace).arg("--read").arg(&self.scene.granted);
            command.arg("--read").arg(&self.engine.program);
            if !elsewhere {
                command.arg("--outcome").arg(&outcome);
            }
            command.args(&self.engine.options).args(options).arg("--").arg(&self.engine.program);
        }
        command.args(["__attack", "--scene", &scene]).args(self.ids);
        command.env_clear().envs(environment(self.scene)).current_dir(&self.scene.workspace);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().map_err(|error| no_answer("the payload could not be started", &error))?;
        Ok(Running { child, outcome: (!control).then_some(outcome), since: Instant::now(), control })
    }

    /// The processes of this attack that are alive on the host: their arguments hold the scene's token and the attack's id.
    /// A payload inside is seen here too, whatever its own namespace calls it.
    pub fn survivors(&self) -> Vec<i32> {
        let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| {
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut arguments = arguments.split(|byte| *byte == 0);
            let token = self.scene.token.as_bytes();
            arguments.any(|argument| argument.windows(token.len()).any(|window| window == token))
                && self.ids.iter().any(|id| arguments.any(|argument| argument == id.as_bytes()))
        })
        .collect()
    }

    /// Ends what a control left behind. Only processes that carry this run's token are touched.
    pub fn clear(&self) {
        for pid in self.survivors() {
            // One that has ended meanwhile is what was wanted.
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
}

/// What the caller of `exec` has in its environment: the secrets included, so that a launcher that hands them on is caught.
fn environment(scene: &Scene) -> Vec<(String, std::ffi::OsString)> {
    let mut all = vec![("HOME".to_owned(), scene.home.clone().into_os_string())];
    for name in ["LANG", "TMPDIR"] {
        all.extend(std::env::var_os(name).map(|value| (name.to_owned(), value)));
    }
    let own = [".cargo/bin", ".local/bin"].map(|name| scene.home.join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path)));
    all.extend(path.map(|path| ("PATH".to_owned(), path)));
    // A profile of the user's own is found where the user keeps it; what the run itself keeps goes to the scene.
    let config = std::env::var_os("XDG_CONFIG_HOME").or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config").into()));
    all.extend(config.map(|path| ("XDG_CONFIG_HOME".to_owned(), path)));
    if let Some(root) = scene.home.parent() {
        all.push(("XDG_STATE_HOME".to_owned(), root.join("state").into()));
        all.push(("XDG_CACHE_HOME".to_owned(), root.join("state").into()));
    }
    // Without its real value a launcher could not reach the user's cgroup manager.
    all.extend(std::env::var_os("XDG_RUNTIME_DIR").map(|value| ("XDG_RUNTIME_DIR".to_owned(), value)));
    for name in SECRET_VARIABLES {
        all.push((name.to_owned(), scene.secret.clone().into()));
    }
    all
}

impl Running {
    /// The supervisor's process, or the payload's for a control.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap_or(i32::MAX)
    }

    /// SIGKILL for the supervisor: nothing of it gets a chance to clean up.
    pub fn kill(mut self) -> Result<(), Attempt> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|error| Attempt::NoAnswer { why: format!("the supervisor could not be ended: {error}") })
    }

    /// Waits for its end, and reads what it says meanwhile.
    pub fn end(self) -> Result<Ended, Attempt> {
        self.end_within(PATIENCE)
    }

    /// The same; what is still there after `patience` is ended (the main process alone, as a plain `kill` does) and that is no error for a control.
    pub fn end_within(mut self, patience: Duration) -> Result<Ended, Attempt> {
        let streams = (self.child.stdout.take(), self.child.stderr.take());
        let output = streams.0.map(|stream| std::thread::spawn(move || drain(stream)));
        let errors = streams.1.map(|stream| std::thread::spawn(move || drain(stream)));
        let mut peak = 0;
        let status = loop {
            match self.child.wait_timeout(Duration::from_millis(20)) {
                Ok(Some(status)) => break status,
                Ok(None) if self.since.elapsed() < patience => peak = peak.max(peak_memory(self.child.id())),
                Ok(None) => {
                    drop(self.child.kill());
                    let status = self.child.wait();
                    if !self.control {
                        return Err(Attempt::NoAnswer { why: format!("the run had no end after {} s", patience.as_secs()) });
                    }
                    match status {
                        Ok(status) => break status,
                        Err(error) => return Err(Attempt::NoAnswer { why: format!("the control cannot be waited for: {error}") }),
                    }
                }
                Err(error) => return Err(Attempt::NoAnswer { why: format!("the run cannot be waited for: {error}") }),
            }
        };
        let took = self.since.elapsed();
        // A control's grandchildren may hold the pipes open for as long as they live: what was said until now is enough.
        let (output, output_bytes) = output.map_or((Vec::new(), 0), |thread| collect(thread, self.control));
        let (errors, error_bytes) = errors.map_or((Vec::new(), 0), |thread| collect(thread, self.control));
        let text = String::from_utf8_lossy(&output);
        let answers = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let outcome = self.outcome.as_ref().and_then(|path| std::fs::read(path).ok()).and_then(|text| serde_json::from_slice(&text).ok());
        let code = status.code().unwrap_or_else(|| 128 + std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or(0));
        let errors = String::from_utf8_lossy(&errors[errors.len().saturating_sub(400)..]).trim().to_owned();
        drop(text);
        Ok(Ended { code, outcome, answers, output, output_bytes, errors, error_bytes, took, supervisor_peak: peak })
    }
}

type Drained = std::thread::JoinHandle<(Vec<u8>, u64)>;

fn collect(thread: Drained, may_hang: bool) -> (Vec<u8>, u64) {
    let since = Instant::now();
    while may_hang && !thread.is_finished() && since.elapsed() < Duration::from_millis(200) {
        std::thread::sleep(Duration::from_millis(5));
    }
    if may_hang && !thread.is_finished() {
        return (Vec::new(), 0);
    }
    thread.join().unwrap_or_default()
}

fn drain(mut stream: impl Read) -> (Vec<u8>, u64) {
    let (mut kept, mut count, mut chunk) = (Vec::new(), 0_u64, vec![0; 1 << 16]);
    while let Ok(length) = stream.read(&mut chunk) {
        if length == 0 {
            break;
        }
        count += length as u64;
        kept.extend_from_slice(&chunk[..length.min(KEEP - kept.len())]);
    }
    (kept, count)
}

/// The most memory a process has had until now, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
    kib * 1024
}

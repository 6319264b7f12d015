//! One call of a configured agent: what is run, what it says while it runs, and how it ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::adapter::{self, Adapter, AdapterError, Answers, Call};
use super::command;
use super::counter::Counter;
use super::folder::{OUT, PROMPT, TASK};
use super::protocol::{Format, Reader, Reset, Session};
use super::roles::RolePrompt;
use crate::base::text::{cut, one_line};
use crate::config::{self, LoginUse, Role};
use crate::egress::{Endpoint, Kept};
use crate::event::AgentCall;
use crate::role::network::Purse;
use crate::role::process::{Listener, Process, ProcessError, Ran, Reception};
use crate::role::{Stop, Workshop};
use crate::sandbox::policy::{Access, Network, NetworkMode, OwnFile, Policy};
use crate::sandbox::toolchains::HOME;
use crate::sandbox::{Cause, Destination};

/// An agent that said it is done, and is not gone after this, is ended.
const LINGER: Duration = Duration::from_secs(10);
/// Between the friendly request to end and the other.
const GRACE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);
/// The pause when a provider does not say how long it refuses.
const UNKNOWN_RESET: SignedDuration = SignedDuration::from_mins(5);

/// For a program to say which version it is: also one that is read from a slow disk for the first time.
const VERSION_WALL: Duration = Duration::from_secs(60);
const VERSION_LENGTH: usize = 4 << 10;

/// A configured agent and its adapter.
#[derive(Clone, Debug)]
pub struct Agent {
    config: config::Agent,
    adapter: Adapter,
    call: command::Invocation,
    /// Where its model is, inside.
    endpoint: Option<String>,
    /// A person's login on this host, where there is no key.
    login: Option<Arc<Kept>>,
}

/// The provider's refusal for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limited {
    pub provider: String,
    pub until: Timestamp,
    pub reason: String,
}

/// How a call ended.
#[derive(Debug)]
pub struct Done {
    pub ran: Ran,
    pub session: Session,
    /// It said that it was done and did not leave: we ended it.
    pub lingered: bool,
}

/// What one call has beside its arguments.
pub struct Around<'a> {
    pub stop: &'a Stop,
    pub listener: Option<Listener>,
    pub purse: &'a Purse,
    /// Where it may ask, when its policy has a socket.
    pub counter: Option<&'a Counter>,
    /// Who says so ends it.
    pub over: &'a Over,
}

impl std::fmt::Debug for Around<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Around").finish_non_exhaustive()
    }
}

/// A word about a process that runs: what it was started for is there, and it may be ended.
#[derive(Debug, Default)]
pub struct Over(Mutex<Option<Instant>>);

impl Over {
    /// It said that it is done: it has a moment to leave by itself.
    pub fn said(&self) {
        self.at(Instant::now() + LINGER);
    }

    /// Nothing that it does from here on is of use.
    pub fn now(&self) {
        self.at(Instant::now());
    }

    fn at(&self, at: Instant) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(known.map_or(at, |known| known.min(at)));
    }

    fn due(&self) -> Option<Instant> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An agent that is older than its adapter knows.
#[derive(Debug, thiserror::Error)]
#[error("`{program}` says that it is {found}, and the adapter {adapter} needs {minimum} or newer")]
pub struct TooOld {
    program: String,
    found: String,
    adapter: String,
    minimum: String,
    update: Option<String>,
}

impl TooOld {
    /// What to do next.
    pub fn next(&self) -> String {
        self.update.clone().unwrap_or_else(|| format!("install a newer `{}`", self.program))
    }
}

impl Agent {
    /// # Errors
    /// When there is no such adapter, or its file is wrong.
    pub fn load(config: &config::Agent, story: &str, shop: &Workshop) -> Result<Self, AdapterError> {
        let adapter = adapter::load(&config.adapter, shop.adapters().as_deref())?;
        let endpoint = adapter.provider.as_ref().and_then(|provider| shop.endpoint_of(&provider.host));
        // Whoever names a key, or another model server, means that one.
        let own = endpoint.is_some() || adapter.provider.as_ref().is_some_and(|provider| provider.url.is_some());
        let login = if own || config.login == LoginUse::Off { None } else { shop.login(&adapter.logins).map(Arc::new) };
        // As it is now: its own program may have renewed it since the run began.
        login.iter().for_each(|login| shop.conceal(secrets_of(login)));
        let endpoint = match &login {
            Some(login) if config.login == LoginUse::Gateway => Some(Endpoint::address(login.login.api)),
            _ => endpoint,
        };
        Ok(Self { config: config.clone(), adapter, call: command::invocation(config, story), endpoint, login })
    }

    /// The login that the gateway uses for it.
    fn through_gateway(&self) -> Option<&Arc<Kept>> {
        self.login.as_ref().filter(|_| self.config.login == LoginUse::Gateway)
    }

    /// What the log calls it: `command`, `claude/…`.
    pub fn name(&self) -> &str {
        &self.call.name
    }

    /// A program named by an absolute path, which must be visible inside.
    pub fn program(&self) -> Option<&Path> {
        self.call.program.as_deref()
    }

    /// Does its program come from the base tree?
    pub fn from_base(&self) -> bool {
        self.call.from_base
    }

    pub fn model(&self) -> Option<String> {
        self.config.model.clone()
    }

    pub fn answers(&self) -> Answers {
        self.adapter.answers
    }

    pub fn is_command(&self) -> bool {
        self.adapter.program.is_empty()
    }

    /// The program as a person wrote it, or as its adapter calls it.
    pub fn typed(&self) -> &str {
        if self.is_command() { self.config.command.first().map_or("", String::as_str) } else { &self.adapter.program }
    }

    /// What to do when its program did not start.
    pub fn next_when_missing(&self) -> String {
        if self.is_command() {
            "is the program named in the agent's command there? A relative path is looked for in the target's commit".to_owned()
        } else {
            format!("is `{}` installed and on PATH? `cofferdam exec -- {} --version` tries it", self.adapter.program, self.adapter.program)
        }
    }

    /// What its program says that it is. Asked once for all processes of a run, in a sandbox without a network.
    ///
    /// # Errors
    /// When it is too old for its adapter.
    pub fn version(&self, shop: &Workshop, policy: &Policy, stop: &Stop) -> Result<Option<String>, TooOld> {
        let Some(wanted) = self.adapter.version.as_ref().filter(|_| !self.is_command()) else { return Ok(None) };
        let printed = shop.versions.get(&self.adapter.program, || self.ask_version(shop, policy, &wanted.arguments, stop));
        match printed {
            // What says nothing that is a version is tried as it is.
            Some(printed) if self.adapter.is_new_enough(&printed) == Some(false) => Err(TooOld {
                program: self.adapter.program.clone(),
                found: printed,
                adapter: self.adapter.name.clone(),
                minimum: wanted.minimum.clone(),
                update: wanted.update.clone(),
            }),
            other => Ok(other),
        }
    }

    /// The first line that it prints. None when it does not start: the call itself says why.
    fn ask_version(&self, shop: &Workshop, policy: &Policy, arguments: &[String], stop: &Stop) -> Option<String> {
        let mut policy = policy.clone();
        drop(self.arguments("", "", &mut policy));
        policy.network = Network::default();
        policy.listeners.clear();
        policy.workspace.access = Access::Read;
        policy.limits.wall = Some(VERSION_WALL);
        let command = shop.engine.sandbox(&policy).command(&self.adapter.program).args(arguments);
        let mut running = command.stdout(Destination::Memory(VERSION_LENGTH)).spawn().ok()?;
        running.stop_on(stop.requests().ok()?);
        let finished = running.wait().ok().filter(|finished| finished.outcome.cause == Cause::Exited && finished.outcome.exit_code == 0)?;
        let text = String::from_utf8_lossy(&finished.stdout).into_owned();
        let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
        Some(cut(&one_line(line), 100))
    }

    /// The record of a call: who it is, and exactly what it is told.
    ///
    /// # Errors
    /// When the prompt cannot be kept.
    pub fn called(
        &self,
        role: Role,
        shop: &Workshop,
        text: &RolePrompt,
        prompt: &str,
        cut: &[&'static str],
        version: Option<String>,
    ) -> io::Result<AgentCall> {
        Ok(AgentCall {
            role: role.name().to_owned(),
            agent: self.name().to_owned(),
            version,
            profile: shop.profile_of(role),
            text: text.version.clone(),
            text_hash: text.hash.clone(),
            prompt: shop.evidence.put(&shop.secrets().text(prompt.as_bytes()))?,
            cut: cut.iter().map(|part| (*part).to_owned()).collect(),
        })
    }

    /// What is run; its environment and small files go into the policy.
    pub fn arguments(&self, story: &str, prompt: &str, policy: &mut Policy) -> Vec<OsString> {
        if self.is_command() {
            return self.call.arguments.clone();
        }
        let call = Call {
            task: TASK,
            prompt: PROMPT,
            prompt_text: prompt,
            out: OUT,
            story,
            model: self.config.model.as_deref(),
            home: HOME,
            // The gateway's own door first; else a model server that the person's own adapter names.
            endpoint: self.endpoint.as_deref().or_else(|| self.adapter.provider.as_ref()?.url.as_deref()),
            login: self.login.is_some(),
        };
        let invocation = self.adapter.invocation(&call);
        for (name, value) in invocation.environment {
            policy.environment.retain(|(known, _)| *known != name);
            policy.environment.push((name, value));
        }
        policy.files.extend(
            invocation.files.into_iter().map(|(path, content)| OwnFile { inside: Path::new(HOME).join(path), content: content.into() }),
        );
        if let Some(login) = &self.login {
            if let Some(provider) = &self.adapter.provider {
                // A program that sees a key takes it, and looks for no login.
                policy.environment.retain(|(known, _)| known != provider.key.as_str());
            }
            if policy.network.mode == NetworkMode::None {
                policy.network.mode = NetworkMode::Gateway;
            }
            if self.config.login == LoginUse::Share {
                share(login, policy);
            }
        }
        invocation.arguments
    }

    /// Did its provider refuse for now, so that nothing of this is its fault?
    pub fn limited(&self, session: &Session, ran: &Ran) -> Option<Limited> {
        let limited = |provider: &str, reset: Reset, reason: &str| {
            let until = reset.until(Timestamp::now(), UNKNOWN_RESET);
            Some(Limited { provider: provider.to_owned(), until, reason: one_line(reason).into_owned() })
        };
        // Words of any program are no proof of a provider.
        if let Some((reset, message)) = session.stopped_by_limit()
            && let Some(provider) = self.provider()
        {
            return limited(provider, reset, message);
        }
        // The gateway heard it from the provider itself, whatever the agent is and says, and the agent did not end well after it.
        let well = session.ended.unwrap_or(ran.outcome.cause == Cause::Exited && ran.outcome.exit_code == 0);
        let (provider, wait) = ran.tally.paused.filter(|_| !well)?;
        let reset = wait.and_then(|wait| SignedDuration::try_from(wait).ok()).map_or(Reset::Unknown, Reset::After);
        limited(provider.host(), reset, "it refused the last model call for now, as the gateway saw")
    }

    /// What its pauses are told of: the host of its provider, or its adapter's name. None for a program that may use any.
    pub fn provider(&self) -> Option<&str> {
        let any = self.adapter.stream == Format::Text && self.is_command();
        (!any).then(|| self.adapter.provider.as_ref().map_or(self.adapter.name.as_str(), |provider| provider.host.as_str()))
    }

    /// Runs it to its end, or until it is asked to stop, or lingers.
    ///
    /// # Errors
    /// When it could not be started, or its words could not be kept.
    pub fn run(&self, shop: &Workshop, policy: &Policy, arguments: Vec<OsString>, around: Around<'_>) -> Result<Done, ProcessError> {
        let Around { stop, listener, purse, counter, over } = around;
        let heard = Arc::new(Mutex::new(Heard { reader: Reader::new(self.adapter.stream), session: Session::default(), ended: None }));
        let plain = self.adapter.stream == Format::Text;
        let tap = {
            let (heard, listener) = (heard.clone(), listener.clone().filter(|_| !plain));
            Arc::new(move |stream: usize, bytes: &[u8]| {
                if stream == 0 {
                    heard.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, listener.as_ref());
                }
            })
        };
        let own = Stop::new().map_err(ProcessError::Stop)?;
        let serve = counter.map(|counter| move |socket: OwnedFd, end: &OwnedFd| counter.serve(socket, end));
        let reception = serve.as_ref().map(|serve| serve as Reception<'_>);
        let (ended, end) = channel::<()>();
        let (ran, lingered) = std::thread::scope(|scope| {
            let (own, heard) = (&own, &heard);
            let watch = scope.spawn(move || {
                let mut watch = Watch { stop, own, passed_on: 0, asked: None };
                while end.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    let ended = heard.lock().unwrap_or_else(PoisonError::into_inner).ended;
                    watch.look(ended.map(|at| at + LINGER).into_iter().chain(over.due()).min());
                }
                watch.asked.is_some()
            });
            let process = Process { shop, policy, arguments, stop: own, listener: listener.filter(|_| plain), tap: Some(tap), reception };
            let purse = purse.with(self.through_gateway().and_then(Kept::endpoint));
            let ran = process.run_paid(Some(&purse));
            drop(ended);
            (ran, watch.join().unwrap_or(false))
        });
        let ran = ran?;
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.finish();
        if ran.tally.spent.model_calls > 0 {
            // The provider's numbers, counted outside: an agent's own are hearsay.
            heard.session.spent = ran.tally.spent;
        }
        Ok(Done { ran, session: std::mem::take(&mut heard.session), lingered: lingered && !stop.is_asked() })
    }
}

/// Puts a person's own login into a sandbox, where they said so: whatever runs there can take it along to its host.
fn share(login: &Kept, policy: &mut Policy) {
    let Ok(content) = fs_err::read(&login.at) else { return };
    let inside = Path::new(HOME).join(&login.login.path);
    policy.files.retain(|file| file.inside != inside);
    policy.files.push(OwnFile { inside, content });
    if policy.network.mode == NetworkMode::Gateway && !policy.network.allow.contains(&login.login.host) {
        policy.network.allow.push(login.login.host.clone());
    }
}

/// What the logins of the configured agents hold, so that it is never kept.
pub fn secrets_of_logins(shop: &Workshop) -> Vec<(String, Vec<u8>)> {
    let config = shop.config();
    let used = config.agents.values().filter(|agent| agent.login != LoginUse::Off);
    let adapters = used.filter_map(|agent| adapter::load(&agent.adapter, shop.adapters().as_deref()).ok());
    let kept = adapters.filter_map(|adapter| shop.login(&adapter.logins));
    kept.flat_map(|kept| secrets_of(&kept)).collect()
}

fn secrets_of(login: &Kept) -> Vec<(String, Vec<u8>)> {
    login.secrets().into_iter().map(|value| (format!("the login in {}", login.shown()), value.into_bytes())).collect()
}

/// What was heard so far.
struct Heard {
    reader: Reader,
    session: Session,
    /// When it said that it was done.
    ended: Option<Instant>,
}

impl Heard {
    fn take(&mut self, bytes: &[u8], listener: Option<&Listener>) {
        for event in self.reader.push(bytes) {
            let shown = self.session.take(event);
            if let (Some(listener), Some(line)) = (listener, shown) {
                listener(&line);
            }
        }
        match (self.session.ended, self.ended) {
            (Some(_), None) => self.ended = Some(Instant::now()),
            (None, Some(_)) => self.ended = None,
            _ => {}
        }
    }

    fn finish(&mut self) {
        for event in self.reader.finish() {
            self.session.take(event);
        }
    }
}

/// Passes requests to stop on, and makes its own when an agent lingers.
struct Watch<'a> {
    stop: &'a Stop,
    own: &'a Stop,
    passed_on: u8,
    asked: Option<Instant>,
}

impl Watch<'_> {
    /// `due` is when it should have left by itself.
    fn look(&mut self, due: Option<Instant>) {
        while self.passed_on < self.stop.count().min(2) {
            self.passed_on += 1;
            self.own.ask();
        }
        match self.asked {
            None if due.is_some_and(|at| Instant::now() >= at) => {
                self.asked = Some(Instant::now());
                self.own.ask();
            }
            Some(at) if at.elapsed() >= GRACE && self.own.count() < 2 => self.own.ask(),
            _ => {}
        }
    }
}

//! The loop: news, keys and time to the model, its wishes to the world, the screen to the terminal when it changed.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

use super::feed::Feed;
use super::keys::Typed;
use super::model::{Message, Order, Screen, Wish};
use super::terminal::{self, Input, Terminal};
use super::theme::Look;
use crate::event::Kind;
use crate::face::cli::command::{approval, tell};
use crate::face::cli::failure::{Exit, Failure};
use crate::face::cli::state::State;

/// How often the store is asked whether it changed while a runner works; one question costs some ten microseconds.
const BUSY: Duration = Duration::from_millis(250);
/// The same when nothing works.
const IDLE: Duration = Duration::from_secs(1);

/// What the environment says of the terminal.
#[derive(Clone, Debug, Default)]
pub(in crate::face) struct Environment {
    pub(in crate::face) term: Option<String>,
    pub(in crate::face) no_color: Option<String>,
    /// The first that is set of `LC_ALL`, `LC_CTYPE` and `LANG`.
    pub(in crate::face) locale: Option<String>,
}

impl Environment {
    pub(in crate::face) fn of_process() -> Self {
        let text = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self { term: text("TERM"), no_color: text("NO_COLOR"), locale: ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(text) }
    }

    fn look(&self) -> Look {
        let is_utf8 = |locale: &String| locale.to_ascii_lowercase().replace('-', "").contains("utf8");
        Look { color: self.no_color.is_none(), unicode: self.locale.as_ref().is_some_and(is_utf8) }
    }
}

/// Refuses where nothing can be drawn.
///
/// # Errors
/// When there is no terminal, or one that only takes lines.
pub(in crate::face) fn check(environment: &Environment) -> Result<(), Failure> {
    let refuse = |what: &str, why: String| {
        Err(Failure::usage(what).why(why).next("cofferdam status shows where everything stands; cofferdam log -f follows what happens"))
    };
    if !terminal::is_there() {
        return refuse("there is no terminal to draw on", "standard input and output must both be a terminal".to_owned());
    }
    match environment.term.as_deref() {
        None => refuse("this terminal cannot be drawn on", "TERM is not set".to_owned()),
        Some("dumb") => refuse("this terminal cannot be drawn on", "TERM is dumb".to_owned()),
        Some(_) => Ok(()),
    }
}

/// Shows the screen until the person leaves it. `of_run` is set when it belongs to a run in the same terminal, which is then the parent.
///
/// # Errors
/// When the terminal cannot be used, or the screen cannot be drawn any more.
pub(in crate::face) fn run(state: State, environment: &Environment, of_run: bool) -> Result<ExitCode, Failure> {
    check(environment)?;
    let broken = |error: std::io::Error| {
        Failure::new(Exit::Failure, "the terminal cannot be used").because(&error).next("cofferdam status shows the same in lines")
    };
    let mut terminal = Terminal::open().map_err(broken)?;
    let mut shown = Shown {
        screen: Screen::new(Timestamp::now(), environment.look(), of_run),
        feed: Feed::of_project(state),
        parent: getppid(),
        read: None,
    };
    let ended = shown.go_on(&mut terminal);
    drop(terminal);
    ended.map_err(broken)
}

struct Shown {
    screen: Screen,
    feed: Feed,
    /// The run this screen belongs to.
    parent: Pid,
    /// When the store was last asked.
    read: Option<Instant>,
}

/// What becomes of the screen after a wish.
enum Next {
    Stay,
    Leave(ExitCode),
}

impl Shown {
    fn go_on(&mut self, terminal: &mut Terminal) -> std::io::Result<ExitCode> {
        let mut is_new = true;
        loop {
            // The run is gone: nobody would wait for this screen, and the terminal belongs to somebody else.
            if self.screen.of_run && getppid() != self.parent {
                return Ok(ExitCode::FAILURE);
            }
            is_new |= self.news();
            if is_new {
                self.screen.size = terminal.size();
                self.screen.reach = terminal.draw(&self.screen)?.reach;
                is_new = false;
            }
            match terminal.wait(self.pause())? {
                Input::Nothing => {}
                Input::Resized => is_new = true,
                Input::End => return Ok(ExitCode::from(Exit::Interrupted as u8)),
                Input::Suspend => {
                    terminal.suspend()?;
                    is_new = true;
                }
                Input::Typed(typed) => {
                    for one in typed {
                        let message = match one {
                            Typed::Key(key) => Message::Key(key),
                            Typed::Paste(text) => Message::Paste(text),
                        };
                        let Some(wish) = self.screen.update(message) else { continue };
                        if let Next::Leave(code) = self.grant(wish, terminal)? {
                            return Ok(code);
                        }
                    }
                    is_new = true;
                }
            }
        }
    }

    fn pause(&self) -> Duration {
        if self.screen.data.is_running() { BUSY } else { IDLE }
    }

    /// Reads what is new. True when there is something to draw.
    fn news(&mut self) -> bool {
        // A key that is held down does not ask the store each time.
        if self.read.is_some_and(|read| read.elapsed() < self.pause() / 2) {
            let is_other = self.screen.chosen_id().is_some_and(|id| id != self.screen.data.words.story);
            if !is_other {
                return false;
            }
        }
        self.read = Some(Instant::now());
        let now = Timestamp::now();
        let moves = self.screen.data.stories.iter().any(|item| item.since.is_some());
        // Ages are shown to the second while they are young; what stands still is drawn once.
        let tick = moves && self.screen.data.is_running() && now.as_second() != self.screen.now.as_second();
        if tick || !moves {
            self.screen.update(Message::Tick(now));
        }
        let chosen = self.screen.chosen_id();
        match self.feed.poll(chosen.as_deref()) {
            Some(data) => {
                self.screen.update(Message::Tick(now));
                self.screen.update(Message::News(Box::new(data)));
                true
            }
            None => tick,
        }
    }

    fn grant(&mut self, wish: Wish, terminal: &mut Terminal) -> std::io::Result<Next> {
        match wish {
            Wish::Leave => return Ok(Next::Leave(ExitCode::SUCCESS)),
            Wish::Interrupt if !self.screen.of_run => return Ok(Next::Leave(ExitCode::from(Exit::Interrupted as u8))),
            Wish::Interrupt => {
                kill(self.parent, Signal::SIGINT)?;
                let told = "The run is asked to stop: agents are ended, and what they wrote is kept. Once more ends everything at once.";
                self.screen.update(Message::Told(Ok(told.to_owned())));
            }
            Wish::Suspend => terminal.suspend()?,
            Wish::Repaint => terminal.forget()?,
            Wish::Tell { story, order } => {
                let told = perform(self.feed.state(), &story, order).map_err(|failure| failure.to_string());
                self.screen.update(Message::Told(told));
                self.read = None;
            }
        }
        Ok(Next::Stay)
    }
}

/// Tells the controller, by the very functions that the commands use.
fn perform(state: &State, story: &str, order: Order) -> Result<String, Failure> {
    let told = match order {
        Order::Answer(text) => tell(state, story, |_| Ok(Kind::StoryAnswered { text })),
        Order::Note(text) => tell(state, story, |_| Ok(Kind::StoryNoted { text })),
        Order::Retry => tell(state, story, |_| Ok(Kind::StoryRetried {})),
        Order::Cancel(reason) => {
            let reason = if reason.is_empty() { crate::face::cli::command::CANCELLED.to_owned() } else { reason };
            tell(state, story, |_| Ok(Kind::StoryCancelled { reason }))
        }
        Order::Approve { commit } => tell(state, story, |story| approval(story, Some(&commit), &[])),
    }?;
    let mut said = told.text().unwrap_or_default();
    if !told.is_running {
        said.push_str(". No runner is working: cofferdam run acts on it");
    }
    Ok(said)
}

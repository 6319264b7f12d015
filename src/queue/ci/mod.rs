//! External CI as a gate: asked again and again until it says red or green in so many words. Anything else is neither, and nothing lands by it.

pub mod checks;
pub mod command;
pub mod github;
pub mod http;

use std::path::Path;
use std::time::{Duration, Instant};

use self::checks::Said;
use self::github::GitHub;
use self::http::{Address, Client};
use crate::config::{Ci, CiProvider, Secret};
use crate::egress::Source;

/// Faults in a row of a program of this host before it is given up: it is here, and gets no better by waiting.
const MOST_FAULTS: u32 = 5;
/// Between two tries after many faults.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What CI is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub commit: &'a str,
    pub tree: &'a str,
    pub base: &'a str,
    /// The target's branch, without `refs/heads/`.
    pub target: &'a str,
    /// The remote's ref that holds the commit, when it was pushed.
    pub reference: Option<&'a str>,
    pub required: &'a [String],
}

/// One question's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Polled {
    Said(Said),
    /// No answer, or none that can be believed: asked again.
    Later {
        why: String,
        wait: Option<Duration>,
    },
    /// Asking again is of no use.
    Never(String),
}

/// What CI said in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Green,
    Red(String),
    /// We were told to stop asking.
    Stopped,
    /// Nobody knows: a human is needed.
    Unknown(String),
}

/// Asks until there is a verdict. `sleep` is false when it was cut short; `say` gets a line whenever something changes.
pub fn ask(ci: &Ci, root: &Path, subject: &Subject<'_>, sleep: &dyn Fn(Duration) -> bool, say: &mut dyn FnMut(&str)) -> Verdict {
    match ci.provider {
        None => Verdict::Unknown("no CI is configured".to_owned()),
        Some(CiProvider::Command) => watch(ci, MOST_FAULTS, &mut || command::poll(&ci.command, root, subject), sleep, say),
        Some(CiProvider::GitHub) => {
            let mut github = match github(ci, subject) {
                Ok(github) => github,
                Err(why) => return Verdict::Unknown(why),
            };
            // A server that is away for a while comes back; the timeout is its bound.
            watch(ci, u32::MAX, &mut || github.poll(subject.commit), sleep, say)
        }
    }
}

fn github<'a>(ci: &'a Ci, subject: &Subject<'a>) -> Result<GitHub<'a>, String> {
    let address = Address::parse(&ci.api).map_err(|error| error.to_string())?;
    let token = ci.token.as_ref().map(|secret| source(secret).key()).transpose();
    let token = token.map_err(|why| format!("the token of ci.token cannot be read: {why}"))?;
    let client = Client::new(address, token).map_err(|error| error.to_string())?;
    Ok(GitHub { client, repository: &ci.repository, branch: subject.target, required: subject.required.to_vec() })
}

fn source(secret: &Secret) -> Source {
    match secret {
        Secret::Env(name) => Source::Env(name.clone()),
        Secret::File(path) => Source::File(path.into()),
        Secret::Command(command) => Source::Command(command.clone()),
    }
}

fn watch(
    ci: &Ci,
    most_faults: u32,
    poll: &mut dyn FnMut() -> Polled,
    sleep: &dyn Fn(Duration) -> bool,
    say: &mut dyn FnMut(&str),
) -> Verdict {
    let (began, mut faults, mut last) = (Instant::now(), 0_u32, String::new());
    loop {
        let (word, pause) = match poll() {
            Polled::Said(Said::Green) => {
                say("green");
                return Verdict::Green;
            }
            Polled::Said(Said::Red(why)) => {
                say(&format!("red: {why}"));
                return Verdict::Red(why);
            }
            Polled::Said(Said::Unclear(why)) => {
                say(&format!("neither red nor green: {why}"));
                return Verdict::Unknown(why);
            }
            Polled::Never(why) => {
                say(&format!("it cannot be asked: {why}"));
                return Verdict::Unknown(why);
            }
            Polled::Said(Said::Wait(what)) => {
                faults = 0;
                (format!("waiting for {what}"), ci.poll)
            }
            Polled::Later { why, wait } => {
                faults = faults.saturating_add(1);
                if faults >= most_faults {
                    say(&format!("given up: {why}"));
                    return Verdict::Unknown(format!("{why}, {faults} times in a row"));
                }
                let twice = ci.poll.saturating_mul(1_u32.checked_shl(faults.min(16)).unwrap_or(u32::MAX));
                (format!("no answer: {why}"), twice.min(LONGEST_PAUSE).max(wait.unwrap_or_default()))
            }
        };
        if word != last {
            say(&word);
            last = word;
        }
        let Some(left) = ci.timeout.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else {
            say("its time is up");
            return Verdict::Unknown(format!("there was no verdict within {}: {last}", crate::base::duration::display(ci.timeout)));
        };
        if !sleep(pause.min(left)) {
            say("stopped");
            return Verdict::Stopped;
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

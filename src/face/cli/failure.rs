//! How a command fails: what happened, why, what to do next, and the exit code.

use std::fmt;

/// Exit codes of every command but `exec` and `workspace exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Failure = 1,
    /// Usage or configuration.
    Usage = 2,
    /// Blocked: a human is needed.
    Blocked = 3,
    /// The budget is spent.
    Budget = 4,
    /// A gate is red.
    Red = 5,
    /// The sandbox cannot be enforced here.
    Unenforceable = 6,
    /// `exec`: cofferdam itself failed.
    ExecOurs = 125,
    Interrupted = 130,
}

/// One failure, as a person reads it.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub what: String,
    pub why: Vec<String>,
    pub next: Vec<String>,
}

impl Failure {
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, what: what.into(), why: Vec::new(), next: Vec::new() }
    }

    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Adds a reason.
    #[must_use]
    pub fn why(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    /// Adds every cause in an error's chain as reasons.
    #[must_use]
    pub fn because(mut self, error: &dyn std::error::Error) -> Self {
        let mut cause = Some(error);
        while let Some(e) = cause {
            self.why.push(e.to_string());
            cause = e.source();
        }
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next.push(next.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cofferdam: {}", self.what)?;
        for why in &self.why {
            write!(f, "\n  because: {}", why.replace('\n', "\n    "))?;
        }
        for next in &self.next {
            write!(f, "\n  next: {}", next.replace('\n', "\n    "))?;
        }
        Ok(())
    }
}

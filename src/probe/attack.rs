//! The words of the self-test: an attack, what came of it, and the control that shows it working without the sandbox.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::drive::Driver;
use super::scene::Scene;

/// A section of the threat model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Section {
    A,
    B,
    C,
    D,
    E,
}

impl Section {
    pub const ALL: [Self; 5] = [Self::A, Self::B, Self::C, Self::D, Self::E];

    pub const fn title(self) -> &'static str {
        match self {
            Self::A => "A. Files",
            Self::B => "B. Processes",
            Self::C => "C. Kernel surface",
            Self::D => "D. Network and sockets",
            Self::E => "E. Resources",
        }
    }

    /// The section an attack's id belongs to: ids start with its letter.
    pub fn of(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.title().as_bytes().first() == id.as_bytes().first())
    }
}

/// One thing that must not work from inside.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Starts with the section's letter; also the name of the attack's own canary files.
    pub id: &'static str,
    pub title: &'static str,
    pub how: How,
    /// The errors that prove the protection. Any other refusal proves nothing and counts as a failure.
    pub proof: &'static [i32],
    /// The signals that prove it, when the kernel ends the attacker instead of answering.
    pub fatal: &'static [i32],
    pub control: Control,
    /// The capability that the control needs, beside root's user id: a root without it is refused outside too.
    pub needs: Option<u32>,
    /// What it would take to hold, on hosts that do not have it: there the attack is known to work, and is told as such.
    pub gap: Option<Gap>,
    /// Errors of the control that mean "this host does not have what is attacked".
    pub absent: &'static [i32],
}

/// What only some hosts have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Landlock of at least this version.
    Landlock(u32),
    /// A control group: a supervisor that adds up what processes have does not see all that they use.
    Group,
}

/// How an attack is carried out.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// A function that runs inside, in a process of its own, and says what the kernel said.
    Inside(fn(&Stage) -> Tried),
    /// A payload that runs inside a sandbox of its own, and a driver outside that starts it and looks at how it ended.
    Driven { payload: fn(&Stage) -> Tried, drive: fn(&Driver) -> Tried },
}

/// What the same code does outside, and so what the sandbox's answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// It works for anyone.
    Works,
    /// It works for root; an ordinary user is refused outside too.
    WorksForRoot,
    /// The call arrives in the kernel and fails there for a reason that is none of the proofs: for anyone.
    Arrives,
    /// The same for root only.
    ArrivesForRoot,
    /// It is not run outside, and why not.
    No(&'static str),
}

/// What came of one try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Attempt {
    /// The kernel refused the call that matters.
    Refused { call: String, errno: i32 },
    /// What was looked for is not there.
    NotThere { what: String },
    /// The sandbox ended the run and typed the cause.
    Stopped { cause: String, detail: String },
    /// The kernel ended the attacker.
    Died { signal: i32 },
    /// The attack worked.
    Succeeded { detail: String },
    /// A step before the one that matters failed: this proves nothing.
    CouldNotTry { step: String, errno: i32 },
    /// There is nothing to attack in this sandbox or on this host.
    Inapplicable { why: String },
    /// The attacker gave no answer in time, or none that can be read.
    NoAnswer { why: String },
}

/// `Ok` is the attack's success, in words; everything else is an [`Attempt`].
pub type Tried = Result<String, Attempt>;

/// What an attack knows of the scene around it.
#[derive(Clone, Copy, Debug)]
pub struct Stage<'a> {
    pub scene: &'a Scene,
    pub id: &'a str,
}

impl Attack {
    /// An attack that asks the kernel from inside.
    pub(super) const fn new(id: &'static str, title: &'static str, proof: &'static [i32], run: fn(&Stage) -> Tried) -> Self {
        Self { id, title, how: How::Inside(run), proof, fatal: &[], control: Control::Works, needs: None, gap: None, absent: &[] }
    }

    /// An attack on limits or on the end of a run, which is judged from outside.
    pub(super) const fn driven(id: &'static str, title: &'static str, payload: fn(&Stage) -> Tried, drive: fn(&Driver) -> Tried) -> Self {
        Self {
            id,
            title,
            how: How::Driven { payload, drive },
            proof: &[],
            fatal: &[],
            control: Control::Works,
            needs: None,
            gap: None,
            absent: &[],
        }
    }

    pub(super) const fn control(mut self, control: Control) -> Self {
        self.control = control;
        self
    }

    pub(super) const fn needs(mut self, capability: u32) -> Self {
        self.needs = Some(capability);
        self
    }

    pub(super) const fn gap_without(mut self, gap: Gap) -> Self {
        self.gap = Some(gap);
        self
    }

    pub(super) const fn absent(mut self, absent: &'static [i32]) -> Self {
        self.absent = absent;
        self
    }

    pub(super) const fn fatal(mut self, fatal: &'static [i32]) -> Self {
        self.fatal = fatal;
        self
    }
}

impl Stage<'_> {
    /// This attack's own canary file outside, in a folder that is not granted.
    pub fn outside(&self) -> PathBuf {
        self.scene.outside.join(self.id)
    }

    /// This attack's own canary file in a folder that is granted for reading.
    pub fn granted(&self) -> PathBuf {
        self.scene.granted.join(self.id)
    }

    /// A folder of this attack's own that it may write: in the workspace, or in the private temporary folder when the workspace is read-only.
    pub fn scratch(&self) -> Result<PathBuf, Attempt> {
        let places = [std::env::current_dir().unwrap_or_default(), std::env::temp_dir()];
        let mut refused = Attempt::CouldNotTry { step: "mkdir".to_owned(), errno: libc::ENOENT };
        for place in places {
            let folder = place.join(format!("{}.{}", self.id, std::process::id()));
            match std::fs::create_dir(&folder) {
                Ok(()) => return Ok(folder),
                Err(error) => refused = Attempt::CouldNotTry { step: format!("mkdir {}", folder.display()), errno: errno(&error) },
            }
        }
        Err(refused)
    }

    /// A fresh file in [`Self::scratch`].
    pub fn scratch_file(&self) -> Result<PathBuf, Attempt> {
        let path = self.scratch()?.join("file");
        prepare("create a file", std::fs::write(&path, "mine\n"))?;
        Ok(path)
    }
}

/// The number of an error, 0 when it has none.
pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// The answer to the call that matters.
pub(super) fn said<T>(call: &str, result: io::Result<T>) -> Result<T, Attempt> {
    result.map_err(|error| Attempt::Refused { call: call.to_owned(), errno: errno(&error) })
}

/// The answer to a step before the one that matters.
pub(super) fn prepare<T>(step: &str, result: io::Result<T>) -> Result<T, Attempt> {
    result.map_err(|error| Attempt::CouldNotTry { step: step.to_owned(), errno: errno(&error) })
}

pub(super) fn not_there(what: impl Into<String>) -> Tried {
    Err(Attempt::NotThere { what: what.into() })
}

pub(super) fn inapplicable(why: impl Into<String>) -> Tried {
    Err(Attempt::Inapplicable { why: why.into() })
}

impl From<Tried> for Attempt {
    fn from(tried: Tried) -> Self {
        match tried {
            Ok(detail) => Self::Succeeded { detail },
            Err(attempt) => attempt,
        }
    }
}

/// One line of an attacker's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub id: String,
    pub attempt: Attempt,
}

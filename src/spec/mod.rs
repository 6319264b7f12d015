//! What the human wants: stories, from whatever they are written in.
//!
//! ```text
//! folder of *.md ─ story_file ┐
//! master_spec.md ─ master     │
//! prompt.md ────── story_file ├─▶ Spec ─▶ lint ─▶ plan
//! prd.json, epics ─ json      │
//! tasks.md ─────── tasks      ┘
//! ```
//!
//! All but [`load`] is pure. Readers never stop at the first problem, and a spec with an error in it is never used in part.

pub mod change;
pub mod edit;
pub mod fields;
pub mod import;
pub mod json;
pub mod lint;
pub mod load;
pub mod markdown;
pub mod master;
pub mod print;
pub mod schema;
pub mod story_file;
pub mod tasks;

use std::fmt;
use std::time::Duration;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::base::duration;
use crate::base::id::StoryId;
use crate::base::source::{Source, Span};

/// Everything a human asked for.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// In plan order: the order in which they were written down.
    pub stories: Vec<Story>,
    /// What every story needs to know, from `00-overview.md` or the part of a master spec before its sections.
    pub overview: Option<String>,
}

/// One unit of work.
#[derive(Clone, Debug, Serialize)]
pub struct Story {
    pub id: StoryId,
    pub title: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// 1 goes first, 9 last; else the stream's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u64>,
    /// What must have landed before it starts.
    pub after: Vec<StoryId>,
    /// What it must work together with: neither completes before an integration check of all of them.
    pub wired_with: Vec<StoryId>,
    pub artifacts: Vec<ArtifactRule>,
    /// Shell commands that must exit 0.
    pub checks: Vec<String>,
    /// Patterns of the paths it may change; empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scope: Vec<String>,
    pub budget: StoryBudget,
    /// `false`: a human's story, never given to an agent.
    pub automatable: bool,
    /// What is asked for, as Markdown, without the criteria.
    pub text: String,
    pub criteria: Vec<Criterion>,
    #[serde(skip)]
    pub origin: Origin,
}

/// One acceptance criterion. Its id is unique within its story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Criterion {
    pub id: String,
    pub text: String,
}

/// What must be there when the story is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct ArtifactRule {
    /// A path in the tree, or a pattern of which at least one path must fit.
    pub path: String,
    /// Texts that the file must hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<String>,
    /// Regular expressions that must match in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub regex: Vec<String>,
    /// Names that must be defined in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<String>,
    /// How many tests it must hold at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tests: Option<u64>,
    /// It must not be there any more.
    #[serde(skip_serializing_if = "is_false")]
    pub absent: bool,
    /// Bytes it must have at least; 1 when nobody says otherwise, because an empty file proves nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_size: Option<u64>,
    /// Its executable bit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
    /// `Some(true)`: the story must have changed it; `Some(false)`: it must not have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<bool>,
    /// Values in it, by format and path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub equals: Vec<Equals>,
    /// A shell command that must exit 0 in the tree, and print `output` when that is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// What the command must print, somewhere in its output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// One value in a file of data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Equals {
    pub format: DataFormat,
    /// Keys and positions from the top, joined by dots: `servers.0.port`.
    pub at: String,
    /// The scalar as it is written there, without quotes.
    pub value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataFormat {
    Json,
    Toml,
    Yaml,
}

impl DataFormat {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Toml => "toml",
            Self::Yaml => "yaml",
        }
    }
}

/// Bounds of one story that differ from the configuration's.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StoryBudget {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iterations: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_calls: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_text")]
    pub wall: Option<Duration>,
}

/// Where a story was written, for messages.
#[derive(Clone)]
pub struct Origin {
    pub source: Source,
    /// Its id, or its title, or the start of its file.
    pub head: Span,
    pub after: Vec<Span>,
    pub wired_with: Vec<Span>,
    pub artifacts: Vec<Span>,
    pub criteria: Vec<Span>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn as_text<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    value.map(duration::exact).serialize(serializer)
}

impl Story {
    /// SHA-256 over everything but where it was written: two stories with the same digest ask for the same.
    pub fn digest(&self) -> String {
        // A story holds no maps with other keys than texts and no numbers that JSON lacks, so this cannot fail.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl Spec {
    pub fn get(&self, id: &str) -> Option<&Story> {
        self.stories.iter().find(|s| s.id.as_str() == id)
    }
}

impl Origin {
    /// A place for what is not read from a file.
    pub fn at(source: &Source, head: Span) -> Self {
        Self { source: source.clone(), head, after: Vec::new(), wired_with: Vec::new(), artifacts: Vec::new(), criteria: Vec::new() }
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Origin({} {:?})", self.source.name, self.head)
    }
}

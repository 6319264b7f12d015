//! Just enough of a reader of source text to tell code from what only looks like it: comments, strings, definitions, test cases. Pure.
//!
//! It is no parser and never fails: what it cannot make sense of is code. It reads what agents wrote, so every loop goes forward, and the
//! cost is that of the text's length.

mod blank;
pub mod cases;
mod define;
mod token;

pub use blank::{Parts, parts};
pub use define::defines;

/// Languages whose comments and definitions are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Rust,
    Python,
    /// And TypeScript.
    JavaScript,
    Go,
    Java,
    /// And C++.
    C,
    /// Shell, Ruby, TOML, YAML and others whose comments start with `#`. Definitions are not known.
    Hash,
}

/// The language of a file, by its name.
pub fn language(path: &str) -> Option<Language> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension {
        "rs" => Language::Rust,
        "py" | "pyi" => Language::Python,
        "js" | "jsx" | "mjs" | "cjs" | "ts" | "tsx" | "mts" | "cts" => Language::JavaScript,
        "go" => Language::Go,
        "java" | "kt" | "scala" => Language::Java,
        "c" | "h" | "cc" | "cpp" | "cxx" | "hpp" | "hh" => Language::C,
        "sh" | "bash" | "rb" | "toml" | "yaml" | "yml" | "ex" | "exs" | "pl" | "r" => Language::Hash,
        _ => return None,
    })
}

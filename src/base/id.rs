//! Ids that people choose: opaque words, but safe as a file name, a ref name and an argument.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The id of a story, such as `US-1.2`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoryId(Arc<str>);

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no id: {why}; write 1 to {LONGEST} letters, digits, `.`, `_` or `-`, starting with a letter or digit", super::text::one_line(&super::text::cut(text, 80)))]
pub struct IdError {
    text: String,
    why: &'static str,
}

/// Ids become file names and ref components; both have room for this and more.
pub const LONGEST: usize = 64;

impl StoryId {
    pub fn new(text: &str) -> Result<Self, IdError> {
        match flaw(text) {
            None => Ok(Self(text.into())),
            Some(why) => Err(IdError { text: text.to_owned(), why }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The same rule for other names (of gates, streams, criteria) that become parts of paths and refs.
pub fn flaw(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > LONGEST {
        return Some("it is too long");
    }
    if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Some("it does not start with a letter or digit");
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
        return Some("it has a character that is not safe in a file name");
    }
    // Git refuses these in a ref name, and a folder named so surprises people.
    if text.contains("..") || text.ends_with('.') || text.to_ascii_lowercase().ends_with(".lock") {
        return Some("git could not name a ref after it");
    }
    None
}

/// A safe id made from any text: for importers, whose sources know no such rule. `None` when nothing is left of it.
pub fn slug(text: &str) -> Option<StoryId> {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || (matches!(c, '.' | '_') && !out.ends_with(['.', '-'])) {
            out.push(c);
        } else if !out.ends_with(['-', '.']) {
            out.push('-');
        }
        if out.len() >= LONGEST {
            break;
        }
    }
    let kept = out.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    StoryId::new(kept.strip_suffix(".lock").unwrap_or(kept)).ok()
}

impl fmt::Display for StoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for StoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::str::FromStr for StoryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl std::borrow::Borrow<str> for StoryId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for StoryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StoryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_are_safe_names() {
        for good in ["US-1.2", "a", "7", "T001", "x_y.z"] {
            assert_eq!(StoryId::new(good).expect(good).to_string(), good);
        }
        for bad in ["", "-x", ".x", "a/b", "a b", "a..b", "a.", "a.lock", "é", "a\nb", &"x".repeat(65)] {
            StoryId::new(bad).expect_err(bad);
        }
        assert_eq!(slug("User story: log in!").expect("slug").as_str(), "User-story-log-in");
        assert_eq!(slug("…"), None);
    }

    proptest! {
        #[test]
        fn a_slug_is_an_id_and_an_id_prints_as_it_was_read(text in "\\PC{0,80}") {
            if let Ok(id) = StoryId::new(&text) {
                prop_assert_eq!(id.as_str(), &text);
                prop_assert_eq!(slug(&text), Some(id));
            }
            if let Some(id) = slug(&text) {
                prop_assert_eq!(StoryId::new(id.as_str()), Ok(id.clone()));
            }
        }
    }
}

//! Names that become part of paths, refs and arguments as they stand: of gates, streams, profiles, criteria.

use super::id::StoryId;

/// File names and ref components have room for this and more.
pub const LONGEST: usize = 64;

/// Why a text is no safe name.
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

/// A safe name made from any text, as an id. `None` when nothing is left of it.
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
    kept.strip_suffix(".lock").unwrap_or(kept).parse().ok()
}

/// The id that a text of another tool means: the text itself where it can be one, else the nearest safe name.
pub fn id_of(text: &str) -> Option<StoryId> {
    let text = text.trim();
    text.parse().ok().or_else(|| slug(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_safe() {
        for good in ["US-1.2", "a", "7", "T001", "x_y.z"] {
            assert_eq!(flaw(good), None, "{good}");
        }
        for bad in ["", "-x", ".x", "a/b", "a b", "a..b", "a.", "a.lock", "é", "a\nb", &"x".repeat(65)] {
            assert!(flaw(bad).is_some(), "{bad}");
        }
        assert_eq!(slug("User story: log in!").expect("slug").as_str(), "User-story-log-in");
        assert_eq!(slug("…"), None);
        assert_eq!(id_of("AUTH/3").expect("id").as_str(), "AUTH/3");
        assert_eq!(id_of("story three").expect("id").as_str(), "story-three");
    }

    proptest! {
        #[test]
        fn a_slug_is_a_name_and_a_name_is_its_own_slug(text in "\\PC{0,80}") {
            if flaw(&text).is_none() {
                let own = slug(&text).expect("a name");
                prop_assert_eq!(own.as_str(), &text);
            }
            if let Some(name) = slug(&text) {
                prop_assert_eq!(flaw(name.as_str()), None);
            }
        }
    }
}

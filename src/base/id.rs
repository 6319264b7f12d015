//! Ids as types of their own, so that a commit is never taken for a tree, nor a story for a path.
//!
//! Every id satisfies `parse(display(id)) == id`. What comes from a person or an agent passes through `FromStr`, also when it is read
//! from JSON: an id that exists is a valid one.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not {noun}: {why}", super::text::cut(&text.escape_debug().to_string(), 100))]
pub struct IdError {
    text: String,
    noun: &'static str,
    why: &'static str,
}

/// Longest story id in bytes: percent-encoded (three bytes for one) with `.lock` behind it, it still fits one file name of 255 bytes.
const STORY_ID_MAX: usize = 80;

/// The id of a story, as its author wrote it (`US-1.2`). Opaque: no part of it has a meaning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoryId(String);

impl StoryId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id as one component of a ref or a path. Letters, digits, `-` and `_` stay, and `.` where git allows it; every other byte is
    /// `%XX`. Different ids have different encodings, and [`StoryId::decode`] gives the id back.
    pub fn encoded(&self) -> String {
        let bytes = self.0.as_bytes();
        let mut out = String::with_capacity(bytes.len());
        for (i, &byte) in bytes.iter().enumerate() {
            // git refuses components that begin with a dot, end with one, contain two in a row, or end with `.lock`.
            let dot_is_safe = i > 0 && i + 1 < bytes.len() && bytes[i - 1] != b'.' && !bytes[i..].eq_ignore_ascii_case(b".lock");
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') || (byte == b'.' && dot_is_safe) {
                out.push(char::from(byte));
            } else {
                out.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]);
            }
        }
        out
    }

    /// The id whose encoding this is.
    ///
    /// # Errors
    /// When no id has this encoding.
    pub fn decode(encoded: &str) -> Result<Self, IdError> {
        let fail = |why| IdError { text: encoded.to_owned(), noun: "an encoded story id", why };
        let mut bytes = Vec::with_capacity(encoded.len());
        let mut rest = encoded.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let (high, low) = rest
                    .next()
                    .and_then(hex_value)
                    .zip(rest.next().and_then(hex_value))
                    .ok_or_else(|| fail("a % is not followed by two hex digits"))?;
                bytes.push(high << 4 | low);
            } else {
                bytes.push(byte);
            }
        }
        let id: Self = String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8"))?.parse()?;
        // Only one spelling is the encoding of an id; another one would be a second name for the same place.
        if id.encoded() == encoded { Ok(id) } else { Err(fail("it is not the canonical spelling")) }
    }
}

fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble & 15)])
}

fn hex_value(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

impl FromStr for StoryId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let fail = |why| Err(IdError { text: text.to_owned(), noun: "a story id", why });
        if text.is_empty() {
            return fail("it is empty");
        }
        if text.len() > STORY_ID_MAX {
            return fail("it is longer than 80 bytes");
        }
        if text.starts_with('-') {
            return fail("it starts with a dash, which a command line reads as an option");
        }
        if text.chars().any(char::is_whitespace) {
            return fail("it contains a space");
        }
        if super::text::one_line(text) != text {
            return fail("it contains a control character");
        }
        Ok(Self(text.to_owned()))
    }
}

/// One run of the controller: the time it began and a few random digits, so that runs sort by time: `20261121T075412Z-4f2a91`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(String);

impl RunId {
    /// Time and randomness are given, never taken: this module is pure.
    pub fn new(at: jiff::Timestamp, nonce: u32) -> Self {
        Self(format!("{}-{:06x}", at.strftime("%Y%m%dT%H%M%SZ"), nonce & 0x00ff_ffff))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RunId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let shape = |c: (usize, u8)| match c.0 {
            8 => c.1 == b'T',
            15 => c.1 == b'Z',
            16 => c.1 == b'-',
            0..16 => c.1.is_ascii_digit(),
            _ => matches!(c.1, b'0'..=b'9' | b'a'..=b'f'),
        };
        if text.len() == 23 && text.bytes().enumerate().all(shape) {
            Ok(Self(text.to_owned()))
        } else {
            Err(IdError { text: text.to_owned(), noun: "a run id", why: "it does not look like 20261121T075412Z-4f2a91" })
        }
    }
}

/// A commit of the repository: 40 hex digits. SHA-256 repositories are not supported.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitId(String);

/// A tree of the repository: 40 hex digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreeId(String);

/// The SHA-256 of a piece of evidence: anyone can check it with `sha256sum`. Read with or without `sha256:` before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EvidenceId(String);

/// What a change is, whatever it is called: the SHA-256 of the normalised patch (see `story::memory`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatchId(String);

/// Reads exactly `length` lower-case hex digits.
fn hex(text: &str, length: usize, noun: &'static str, why: &'static str) -> Result<String, IdError> {
    if text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(text.to_owned())
    } else {
        Err(IdError { text: text.to_owned(), noun, why })
    }
}

impl FromStr for CommitId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        hex(text, 40, "a commit id", "it is not 40 hex digits").map(Self)
    }
}

impl FromStr for TreeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        hex(text, 40, "a tree id", "it is not 40 hex digits").map(Self)
    }
}

impl FromStr for EvidenceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        hex(text.strip_prefix("sha256:").unwrap_or(text), 64, "an evidence id", "it is not 64 hex digits").map(Self)
    }
}

impl FromStr for PatchId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        hex(text, 64, "a patch id", "it is not 64 hex digits").map(Self)
    }
}

impl PatchId {
    /// The id of a patch that was normalised already.
    pub fn of(normalised: &[u8]) -> Self {
        use sha2::Digest;
        Self(hex_text(&sha2::Sha256::digest(normalised)))
    }
}

impl EvidenceId {
    /// The id of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest;
        Self::from_digest(&sha2::Sha256::digest(bytes))
    }

    /// The id for a digest that was computed while the bytes went by.
    pub fn from_digest(digest: &[u8]) -> Self {
        Self(hex_text(digest))
    }
}

/// Bytes as lower-case hex digits.
pub fn hex_text(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|nibble| hex_digit(nibble).to_ascii_lowercase()).collect()
}

/// The ordinal of an attempt of a story: 1 is the first. It only grows, so that it can name refs and evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptNo(NonZeroU32);

impl AttemptNo {
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    pub fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// The next attempt. It stops growing at the largest number, which no budget reaches.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl FromStr for AttemptNo {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let number = if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None };
        number.and_then(Self::new).ok_or_else(|| IdError {
            text: text.to_owned(),
            noun: "an attempt number",
            why: "it is not a number from 1",
        })
    }
}

impl fmt::Display for AttemptNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for AttemptNo {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.get())
    }
}

impl<'de> Deserialize<'de> for AttemptNo {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        NonZeroU32::deserialize(deserializer).map(Self)
    }
}

macro_rules! text_id {
    ($($id:ident),*) => { $(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $id {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $id {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )* };
}

macro_rules! short_hex {
    ($($id:ident),*) => { $(
        impl $id {
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Enough digits for a person to recognise it.
            pub fn short(&self) -> &str {
                &self.0[..10]
            }
        }
    )* };
}

text_id!(StoryId, RunId, CommitId, TreeId, EvidenceId, PatchId);
short_hex!(CommitId, TreeId, EvidenceId, PatchId);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What git accepts as one component of a ref (git-check-ref-format), and what a file system accepts as one name.
    fn is_safe_component(name: &str) -> bool {
        !name.is_empty()
            && name.len() <= 250
            && !name.starts_with('.')
            && !name.ends_with('.')
            && !name.contains("..")
            && !name.to_ascii_lowercase().ends_with(".lock")
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.%".contains(&b))
    }

    #[test]
    fn a_story_id_is_refused_with_the_reason() {
        for (text, why) in
            [("", "empty"), ("-x", "option"), ("a b", "space"), ("a\u{1b}[2J", "control"), ("a\u{202e}b", "control"), ("a\nb", "space")]
        {
            let error = text.parse::<StoryId>().expect_err(text).to_string();
            assert!(error.contains(why), "{text:?}: {error}");
        }
        assert!("x".repeat(81).parse::<StoryId>().is_err());
    }

    #[test]
    fn what_people_use_stays_readable_in_a_ref() {
        let encoded = |text: &str| text.parse::<StoryId>().expect(text).encoded();
        assert_eq!(encoded("US-1.2"), "US-1.2");
        assert_eq!(encoded("epic/a"), "epic%2Fa");
        assert_eq!(encoded(".."), "%2E%2E");
        assert_eq!(encoded("a.lock"), "a%2Elock");
        assert_eq!(encoded("ü"), "%C3%BC");
        assert_ne!(encoded("%41"), encoded("A"));
    }

    #[test]
    fn other_ids_are_strict() {
        assert!("ABCDEF".repeat(7).parse::<CommitId>().is_err());
        assert!("a".repeat(39).parse::<TreeId>().is_err());
        assert!("../../etc/passwd".parse::<EvidenceId>().is_err());
        assert_eq!(format!("sha256:{}", "a".repeat(64)).parse::<EvidenceId>().map(|id| id.to_string()), Ok("a".repeat(64)));
        assert_eq!(EvidenceId::of(b"").as_str(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert!("0".parse::<AttemptNo>().is_err());
        assert!("+1".parse::<AttemptNo>().is_err());
        assert!("20261121T075412Z-4f2a9".parse::<RunId>().is_err());
    }

    proptest! {
        #[test]
        fn story_ids_round_trip_and_encode_safely(text in "\\PC{1,30}", other in "[.a%/A-]{1,8}") {
            for text in [text, other] {
                let Ok(id) = text.parse::<StoryId>() else { continue };
                prop_assert_eq!(id.to_string().parse::<StoryId>(), Ok(id.clone()));
                let encoded = id.encoded();
                prop_assert!(is_safe_component(&encoded), "{}", encoded);
                prop_assert_eq!(StoryId::decode(&encoded), Ok(id));
            }
        }

        #[test]
        fn decoding_never_panics_and_gives_only_canonical_ids(text in "[a-z%0-9A-F.é]{0,20}") {
            if let Ok(id) = StoryId::decode(&text) {
                prop_assert_eq!(id.encoded(), text);
            }
        }

        #[test]
        fn the_other_ids_round_trip(bytes in any::<[u8; 32]>(), seconds in 0_i64..4_000_000_000, nonce in any::<u32>(), number in 1_u32..) {
            let commit: CommitId = hex_text(&bytes[..20]).parse().expect("40 digits");
            prop_assert_eq!(commit.to_string().parse::<CommitId>(), Ok(commit.clone()));
            prop_assert_eq!(serde_json::from_str::<CommitId>(&serde_json::to_string(&commit).expect("json")).expect("json"), commit);
            let tree: TreeId = hex_text(&bytes[..20]).parse().expect("40 digits");
            prop_assert_eq!(tree.to_string().parse::<TreeId>(), Ok(tree));
            let evidence = EvidenceId::from_digest(&bytes);
            prop_assert_eq!(evidence.to_string().parse::<EvidenceId>(), Ok(evidence));
            let run = RunId::new(jiff::Timestamp::from_second(seconds).expect("in range"), nonce);
            prop_assert_eq!(run.to_string().parse::<RunId>(), Ok(run));
            let attempt = AttemptNo::new(number).expect("not zero");
            prop_assert_eq!(attempt.to_string().parse::<AttemptNo>(), Ok(attempt));
        }
    }
}

//! The chain: each event's hash covers the event and the hash before it.
//!
//! The hashed bytes are the line that `cofferdam log --json` prints, without its `hash`: one JSON object, keys sorted, no spaces. So
//! anybody can check it with `jq -cS 'del(.hash)' | sha256sum`, line by line. What the chain cannot show is an end that was cut off together
//! with every trace of it: note a hash elsewhere (landing commits do), and check against that.

use sha2::Digest;

use super::read::Stored;
use crate::base::id::hex_text;

/// What stands before the first event.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The fields of an event as they are stored.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    pub seq: u64,
    pub version: u32,
    pub prev_hash: &'a str,
    pub at: &'a str,
    pub run: Option<&'a str>,
    pub story: Option<&'a str>,
    pub kind: &'a str,
    pub actor: &'a str,
    /// Canonical JSON: keys sorted, no spaces.
    pub data: &'a str,
}

impl Line<'_> {
    /// The bytes that are hashed.
    pub fn canonical(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let option = |value: Option<&str>| value.map_or_else(|| "null".to_owned(), text);
        format!(
            r#"{{"actor":{},"at":{},"data":{},"kind":{},"prev_hash":{},"run":{},"seq":{},"story":{},"version":{}}}"#,
            text(self.actor),
            text(self.at),
            self.data,
            text(self.kind),
            text(self.prev_hash),
            option(self.run),
            self.seq,
            option(self.story),
            self.version
        )
    }

    pub fn hash(&self) -> String {
        hex_text(&sha2::Sha256::digest(self.canonical()))
    }
}

/// The first place where the chain does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chain breaks at event {seq}: {why}")]
pub struct Broken {
    pub seq: u64,
    pub why: String,
}

/// Walks the chain.
#[derive(Debug)]
pub struct Walker {
    next: u64,
    head: String,
}

impl Default for Walker {
    fn default() -> Self {
        Self { next: 1, head: GENESIS.to_owned() }
    }
}

impl Walker {
    /// Takes the next event.
    ///
    /// # Errors
    /// When it does not follow from the one before it, or was changed.
    pub fn take(&mut self, stored: &Stored) -> Result<(), Broken> {
        let fail = |why: String| Err(Broken { seq: self.next, why });
        if stored.seq != self.next {
            return fail(format!("it is missing; the next one there is {}", stored.seq));
        }
        if stored.prev_hash != self.head {
            return fail("it does not follow from the event before it".to_owned());
        }
        let hash = stored.line().hash();
        if hash != stored.hash {
            return fail(format!(
                "its content has the hash {}…, and {}… is recorded: it was changed",
                &hash[..12],
                stored.hash.get(..12).unwrap_or("?")
            ));
        }
        self.next += 1;
        self.head = hash;
        Ok(())
    }

    /// How many events held, and the hash of the last one.
    pub fn head(&self) -> (u64, &str) {
        (self.next - 1, &self.head)
    }
}

//! What the sandbox refused, told from facts: who refused it, by which line, and what would allow it.

use serde::{Deserialize, Serialize};

/// One refused operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// What was tried: `connect`, `open`, ….
    pub operation: String,
    /// On what: `1.1.1.1:443`, `/root/.ssh/id_rsa`.
    pub target: String,
    /// The line that refuses it: `profile default: network = none`.
    pub rule: String,
    /// What the kernel answered, where the command's own message says so: `ENOENT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// The option that would allow it, when there is one.
    pub allow: Option<String>,
    /// How often it was seen.
    pub count: u64,
}

impl std::fmt::Display for Denial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "denied: {} {} ({})", self.operation, crate::base::text::one_line(&self.target), self.rule)?;
        if self.count > 1 {
            write!(f, ", {} times", self.count)?;
        }
        if let Some(allow) = &self.allow {
            write!(f, " — allow it with {}", crate::base::text::one_line(allow))?;
        }
        Ok(())
    }
}

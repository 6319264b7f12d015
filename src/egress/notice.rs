//! What the gateway says: why something is refused, in words for a person, for a model, and for the log. Pure.

use std::time::Duration;

use crate::base::host::Authority;
use crate::event::Amount;

use super::ledger::Exceeded;
use super::provider::Provider;
use super::rule::{Denied, Rules};

/// Something was refused, and the reason is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `evil.example:443`, or a name that was looked up.
    pub target: String,
    /// One clause: `it is not on this sandbox's list`.
    pub why: String,
    /// The rule that would allow it, when a rule can.
    pub allow: Option<String>,
}

/// What happened at the door. Handed out as it happens; a reader that is too slow misses some, never the door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Refused(Refusal),
    /// Allowed, and not to be had: the name does not resolve, nobody listens, the certificate is wrong.
    Failed {
        target: String,
        why: String,
    },
    /// A connection or request ended.
    Passed {
        target: String,
        up: u64,
        down: u64,
    },
    /// A model call ended: what it used, and whether the provider said so itself.
    Spent {
        provider: Provider,
        model: Option<String>,
        amount: Amount,
        reported: bool,
    },
    /// A model call was refused because a budget is spent.
    Exceeded {
        provider: Provider,
        exceeded: Exceeded,
    },
    /// The provider's own limit: it wants no further call for a while.
    Paused {
        provider: Provider,
        wait: Option<Duration>,
    },
}

impl Refusal {
    pub fn of(target: &Authority, denied: &Denied) -> Self {
        let plain = |why: &str| Self { target: target.to_string(), why: why.to_owned(), allow: Some(target.to_string()) };
        match denied {
            Denied::Unlisted => plain("it is not on this sandbox's list"),
            Denied::Port(ports) => {
                let list: Vec<String> = ports.iter().map(u16::to_string).collect();
                plain(&format!("of this host only port {} is on this sandbox's list", list.join(", ")))
            }
            Denied::Forbidden(rule) => Self { allow: None, ..plain(&format!("the rule {rule} forbids it")) },
            Denied::Request => plain("this method or path is not on this sandbox's list"),
            Denied::Ambiguous => {
                Self { allow: None, ..plain("its path can be read in more than one way, and only some paths are allowed") }
            }
            Denied::Push => Self {
                allow: Some(format!("GET,POST {target}/PATH-OF-THE-REPOSITORY")),
                ..plain("it pushes, which only a rule with method and path allows")
            },
        }
    }

    /// The host is allowed, and what is done with it is not.
    pub fn manner(target: &Authority, why: impl Into<String>, allow: Option<String>) -> Self {
        Self { target: target.to_string(), why: why.into(), allow }
    }

    pub fn address(target: &Authority, ip: std::net::IpAddr, kind: &str) -> Self {
        let bits = if ip.is_ipv4() { 32 } else { 128 };
        Self::manner(target, format!("it leads to {ip}, which is {kind}"), Some(format!("{ip}/{bits}:{}", target.port)))
    }

    /// The option of `exec` that allows it.
    pub fn option(&self) -> Option<String> {
        self.allow.as_ref().map(|rule| if rule.contains(' ') { format!("--allow '{rule}'") } else { format!("--allow {rule}") })
    }

    /// One line, fit for the reason in a status line: what many clients show, and all they show.
    pub fn line(&self) -> String {
        let option = self.option().map_or_else(String::new, |option| format!("; a human can pass {option}"));
        crate::base::text::one_line(&format!("cofferdam: {} is refused: {}{option}", self.target, self.why)).into_owned()
    }

    /// The text of a 403, written for a model: what is allowed, and how a human allows more.
    pub fn page(&self, rules: &Rules) -> String {
        const MOST: usize = 50;
        let mut allowed: Vec<&str> = rules.allowed().take(MOST).collect();
        if allowed.is_empty() {
            allowed.push("nothing");
        }
        let how = match self.option() {
            Some(option) => format!("A human can allow it: cofferdam exec {option}, or network in cofferdam.toml."),
            None => "No option allows it.".to_owned(),
        };
        format!(
            "cofferdam: {} is refused: {}.\nAllowed from this sandbox: {}.\n{how} Other ways out are closed too; say what you need and why.\n",
            crate::base::text::one_line(&self.target),
            crate::base::text::one_line(&self.why),
            allowed.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_why_and_what_next() {
        let target = Authority::parse("evil.test:443", None).unwrap();
        let refusal = Refusal::of(&target, &Denied::Unlisted);
        assert_eq!(
            refusal.line(),
            "cofferdam: evil.test:443 is refused: it is not on this sandbox's list; a human can pass --allow evil.test:443"
        );
        let page = refusal.page(&Rules::parse(&["a.b", "!c.d"]).unwrap());
        assert!(page.contains("Allowed from this sandbox: a.b.") && page.contains("cofferdam exec --allow evil.test:443"), "{page}");
        assert!(refusal.page(&Rules::default()).contains("Allowed from this sandbox: nothing."));
        let inner = Refusal::address(&target, "10.0.0.1".parse().unwrap(), "private");
        assert_eq!(inner.option().as_deref(), Some("--allow 10.0.0.1/32:443"));
    }
}

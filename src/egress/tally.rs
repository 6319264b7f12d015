//! What a sandbox wanted, summed up: bounded, however much it wants. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ledger::Exceeded;
use super::notice::{Notice, Refusal};
use super::provider::Provider;
use crate::event::Amount;

/// No more different targets are kept; what comes after them is only counted.
const MOST: usize = 256;

/// One target that was refused or could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub target: String,
    pub why: String,
    pub allow: Option<String>,
    pub count: u64,
    /// Refused by a rule, or allowed and not to be had.
    pub refused: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    lines: BTreeMap<(String, String), Line>,
    passed: BTreeMap<String, (u64, u64, u64)>,
    /// Refusals of targets that are not kept.
    pub more: u64,
    /// On models.
    pub spent: Amount,
    /// The budget that was met last.
    pub exceeded: Option<Exceeded>,
    /// The provider that wanted a pause at its last call, and for how long.
    pub paused: Option<(Provider, Option<Duration>)>,
}

impl Tally {
    pub fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Refused(Refusal { target, why, allow }) => self.line(target, why, allow.as_ref(), true),
            Notice::Spent { provider, amount, .. } => {
                self.spent = self.spent.plus(*amount);
                // It answers again.
                self.paused = self.paused.filter(|(paused, _)| paused != provider);
            }
            Notice::Exceeded { provider, exceeded } => {
                self.exceeded = Some(*exceeded);
                self.line(provider.name(), &exceeded.to_string(), None, true);
            }
            Notice::Paused { provider, wait } => {
                self.paused = Some((*provider, *wait));
                let seconds = wait.map_or_else(String::new, |wait| format!(" for {} s", wait.as_secs()));
                self.line(provider.name(), &format!("the provider wants no further call{seconds}"), None, false);
            }
            Notice::Failed { target, why } => self.line(target, why, None, false),
            Notice::Passed { target, up, down } => {
                if self.passed.len() < MOST || self.passed.contains_key(target) {
                    let sum = self.passed.entry(target.clone()).or_default();
                    *sum = (sum.0 + 1, sum.1.saturating_add(*up), sum.2.saturating_add(*down));
                }
            }
        }
    }

    fn line(&mut self, target: &str, why: &str, allow: Option<&String>, refused: bool) {
        let key = (target.to_owned(), why.to_owned());
        let full = self.lines.len() >= MOST;
        match self.lines.get_mut(&key) {
            Some(line) => line.count += 1,
            None if full => self.more += 1,
            None => {
                let line = Line { target: target.to_owned(), why: why.to_owned(), allow: allow.cloned(), count: 1, refused };
                self.lines.insert(key, line);
            }
        }
    }

    pub fn lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.values()
    }

    /// Target, how often, bytes out, bytes in.
    pub fn passed(&self) -> impl Iterator<Item = (&str, u64, u64, u64)> {
        self.passed.iter().map(|(target, (count, up, down))| (target.as_str(), *count, *up, *down))
    }

    /// The rules that would allow what was wanted, for a human to read before they use them.
    pub fn proposal(&self) -> Vec<String> {
        let wanted = self.lines.values().filter(|line| line.refused).filter_map(|line| line.allow.clone());
        let reached = self.passed.keys().cloned();
        let all: std::collections::BTreeSet<String> = wanted.chain(reached).collect();
        // A host that is wanted at its own port says all that the same host without a port would say.
        all.iter()
            .filter(|rule| rule.contains(':') || !all.iter().any(|other| other.split(':').next() == Some(rule) && other != *rule))
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(target: &str) -> Notice {
        Notice::Refused(Refusal { target: target.to_owned(), why: "no".to_owned(), allow: Some(target.to_owned()) })
    }

    #[test]
    fn it_counts_and_is_bounded() {
        let mut tally = Tally::default();
        for n in 0..1000 {
            tally.note(&refused(&format!("h{n}.test:443")));
            tally.note(&refused("same.test:443"));
        }
        assert!(tally.lines().count() <= MOST && tally.more > 0);
        let mut tally = Tally::default();
        (0..3).for_each(|_| tally.note(&refused("a.test:443")));
        tally.note(&Notice::Failed { target: "b.test:443".to_owned(), why: "nobody listens".to_owned() });
        tally.note(&refused("a.test"));
        assert_eq!(
            tally.lines().map(|l| (l.target.as_str(), l.count)).collect::<Vec<_>>(),
            [("a.test", 1), ("a.test:443", 3), ("b.test:443", 1)]
        );
        assert_eq!(tally.proposal(), ["a.test:443"]);
    }
}

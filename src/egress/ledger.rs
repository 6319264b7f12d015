//! What was spent on models, and how much may be: asked before every call, told after it.

use std::sync::Mutex;

use crate::event::Amount;

use super::door::lock;

/// Upper bounds. `None` is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub model_calls: Option<u64>,
    /// Read and written, together.
    pub tokens: Option<u64>,
    /// Millionths of a US dollar.
    pub cost_microusd: Option<u64>,
}

/// Why no further call is made: which budget, its limit, what is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    pub which: &'static str,
    pub limit: u64,
    pub spent: u64,
}

/// The account of a story, a role or a run; several sandboxes may share one.
#[derive(Debug)]
pub struct Ledger {
    budget: Budget,
    spent: Mutex<Amount>,
}

impl Ledger {
    /// With what was spent before: budgets survive a restart.
    pub fn new(budget: Budget, spent: Amount) -> Self {
        Self { budget, spent: Mutex::new(spent) }
    }

    pub fn spent(&self) -> Amount {
        *lock(&self.spent)
    }

    /// Takes one call, when there is one left. Several at once cannot take the same one.
    ///
    /// # Errors
    /// The budget that is spent.
    pub(super) fn admit(&self) -> Result<(), Exceeded> {
        let mut spent = lock(&self.spent);
        let tokens = spent.tokens_in.saturating_add(spent.tokens_out);
        for (which, limit, used) in [
            ("model_calls", self.budget.model_calls, spent.model_calls),
            ("tokens", self.budget.tokens, tokens),
            ("cost", self.budget.cost_microusd, spent.cost_microusd),
        ] {
            if let Some(limit) = limit.filter(|limit| used >= *limit) {
                return Err(Exceeded { which, limit, spent: used });
            }
        }
        spent.model_calls = spent.model_calls.saturating_add(1);
        Ok(())
    }

    /// What the call cost; the call itself was counted when it was admitted.
    pub(super) fn add(&self, amount: Amount) {
        let mut spent = lock(&self.spent);
        *spent = spent.plus(Amount { model_calls: 0, ..amount });
    }

    /// A call that another account refused, or that never reached its provider.
    pub(super) fn give_back(&self) {
        let mut spent = lock(&self.spent);
        spent.model_calls = spent.model_calls.saturating_sub(1);
    }
}

impl std::fmt::Display for Exceeded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.which {
            "cost" => write!(f, "the budget of {:.2} US dollars is spent", self.limit as f64 / 1e6),
            "tokens" => write!(f, "the budget of {} tokens is spent ({} used)", self.limit, self.spent),
            _ => write!(f, "the budget of {} is spent", crate::base::text::plural(self.limit, "model call", "model calls")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_call_is_the_last() {
        let ledger = Ledger::new(Budget { model_calls: Some(3), ..Budget::default() }, Amount { model_calls: 1, ..Amount::default() });
        assert!(ledger.admit().is_ok() && ledger.admit().is_ok());
        assert_eq!(ledger.admit().map_err(|e| (e.which, e.limit, e.spent)), Err(("model_calls", 3, 3)));
        ledger.give_back();
        assert!(ledger.admit().is_ok() && ledger.admit().is_err());
        let money = Ledger::new(Budget { cost_microusd: Some(100), ..Budget::default() }, Amount::default());
        assert!(money.admit().is_ok());
        money.add(Amount { model_calls: 1, cost_microusd: 100, tokens_in: 5, ..Amount::default() });
        assert_eq!((money.admit().is_err(), money.spent().model_calls), (true, 1));
    }

    #[test]
    fn many_at_once_take_no_more_than_there_are() {
        let ledger = Ledger::new(Budget { model_calls: Some(50), ..Budget::default() }, Amount::default());
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| (0..20).filter(|_| ledger.admit().is_ok()).count())).collect();
            threads.into_iter().map(|t| t.join().expect("no panic")).sum()
        });
        assert_eq!(taken, 50);
    }
}

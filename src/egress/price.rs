//! What a model call costs, by a table that is data. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::meter::Usage;

const BUILT_IN: &str = include_str!("prices.toml");

/// US dollars for a million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    input: f64,
    cached: f64,
    written: f64,
    output: f64,
    /// What a call costs that reads a lot.
    long: Option<Long>,
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Long {
    /// A call that reads more tokens than this.
    above: u64,
    input: f64,
    cached: f64,
    written: f64,
    output: f64,
}

impl Price {
    /// Input, cached, written and output, for a call that reads so many tokens.
    fn of(&self, read: u64) -> [f64; 4] {
        match self.long.filter(|long| read > long.above) {
            Some(long) => [long.input, long.cached, long.written, long.output],
            None => [self.input, self.cached, self.written, self.output],
        }
    }
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    models: BTreeMap<String, Price>,
}

impl Prices {
    /// The table that is part of the program, with a person's own lines over it.
    ///
    /// # Errors
    /// What is wrong with the person's own.
    pub fn with(own: Option<&str>) -> Result<Self, String> {
        let mut all: Self = toml::from_str(BUILT_IN).map_err(|e| e.to_string())?;
        if let Some(own) = own {
            let own: Self = toml::from_str(own).map_err(|e| e.to_string())?;
            all.models.extend(own.models);
        }
        let sane = |p: &Price| [p.of(0), p.of(u64::MAX)].iter().flatten().all(|n| n.is_finite() && *n >= 0.0 && *n < 1e6);
        match all.models.iter().find(|(_, price)| !sane(price)) {
            Some((name, _)) => Err(format!("the price of {name} is no price")),
            None => Ok(all),
        }
    }

    /// Millionths of a US dollar. A model that nobody knows costs what the dearest one does: a budget must hold.
    pub fn cost(&self, usage: &Usage) -> u64 {
        let name = usage.model.as_deref().unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or(name);
        let known = self.models.iter().filter(|(prefix, _)| name.starts_with(prefix.as_str())).max_by_key(|(prefix, _)| prefix.len());
        let price = |p: &Price| {
            let tokens = [usage.input, usage.cached, usage.written, usage.output];
            #[expect(clippy::cast_precision_loss, reason = "tokens of one call are far below 2^52")]
            let sum: f64 = tokens.iter().zip(p.of(usage.tokens_in())).map(|(tokens, dollars)| *tokens as f64 * dollars).sum();
            sum
        };
        let cost = match known {
            Some((_, p)) => price(p),
            None => self.models.values().map(price).fold(0.0, f64::max),
        };
        // A dollar for a million tokens is a millionth of a dollar for one. `as` saturates.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and it saturates")]
        let micros = cost.ceil() as u64;
        micros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(model: &str, input: u64, output: u64) -> Usage {
        Usage { model: Some(model.to_owned()), input, output, reported: true, ..Usage::default() }
    }

    #[test]
    fn the_nearest_name_counts_and_the_unknown_is_dear() {
        let prices = Prices::with(None).expect("the built-in table");
        assert_eq!(prices.cost(&call("claude-sonnet-4-5-20250929", 1_000_000, 0)), 3_000_000);
        assert_eq!(prices.cost(&call("claude-opus-4-5", 0, 1_000_000)), 25_000_000);
        assert_eq!(prices.cost(&call("claude-opus-4-1", 0, 1_000_000)), 75_000_000);
        // Never less than the dearest that is known.
        assert_eq!(prices.cost(&call("nobody-knows", 0, 1_000_000)), 180_000_000);
        assert_eq!(prices.cost(&call("claude-opus-5-5-20260922", 0, 1_000_000)), 20_000_000);
        // A call that reads a lot costs more, with all that belongs to it.
        assert_eq!(prices.cost(&call("gpt-5.4", 272_000, 1_000_000)), 680_000 + 15_000_000);
        assert_eq!(prices.cost(&call("gpt-5.4", 300_000, 1_000_000)), 1_500_000 + 22_500_000);
        assert_eq!(prices.cost(&call("gpt-5-mini", 3, 0)), 1);
        let own =
            Prices::with(Some("[models]\n\"nobody\" = { input = 1.0, cached = 1.0, written = 1.0, output = 1.0 }\n")).expect("a table");
        assert_eq!(own.cost(&call("nobody-knows", 0, 1_000_000)), 1_000_000);
        for bad in
            ["x", "[models]\n\"a\" = { input = 1.0 }", "[models]\n\"a\" = { input = -1.0, cached = 1.0, written = 1.0, output = 1.0 }"]
        {
            assert!(Prices::with(Some(bad)).is_err(), "{bad}");
        }
    }
}

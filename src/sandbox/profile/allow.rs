//! The text of one allow rule ([`crate::base::reach`]), where profiles and options meet it. Pure.
//!
//! A typing error is found where it was typed; what a rule means on the wire is the gateway's.

use crate::base::reach::Reach;

/// Why a text is no allow rule.
pub fn check(rule: &str) -> Result<(), &'static str> {
    Reach::parse(rule).map(drop)
}

/// Does `wide` allow everything that `narrow` allows? Unsure is no.
pub fn covers(wide: &str, narrow: &str) -> bool {
    matches!((Reach::parse(wide), Reach::parse(narrow)), (Ok(wide), Ok(narrow)) if wide.covers(&narrow))
}

/// Is it a rule that takes away?
pub fn denies(rule: &str) -> bool {
    rule.starts_with('!')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn typing_errors_are_found() {
        for good in ["example.org", "*.example.org:443", "10.0.0.0/8", "[::1]:80", "::1", "a_b.c", "example.org."] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["", "*", "https://example.org", "a b", "x:0", "x:99999", "a.*.b", "ex..org", "10.0.0.0/33", "user@host", "a.b/../c"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rule_covers_only_what_lies_within() {
        for (wide, narrow) in [("a.b", "a.b:443"), ("*.b", "a.b"), ("*.b", "*.a.b"), ("A.b.", "a.b"), ("*.b:1", "x.b:1")] {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [("a.b:443", "a.b"), ("*.b", "b"), ("a.b", "*.a.b"), ("*.b", "evilb"), ("b", "a.b"), ("*.b", "*.b.c")] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_every_rule_covers_itself(a in "\\PC{0,20}", b in "[a-c*.:0-9\\[\\]/]{0,12}") {
            let _ = check(&a);
            let _ = check(&b);
            prop_assert!(check(&b).is_err() || b.starts_with('!') || covers(&b, &b));
        }
    }
}

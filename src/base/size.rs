//! Byte sizes as people write them: `64MiB`, `1.5GiB`, `500MB`, `4096`.

use std::fmt;

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// Why a text is no size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a size: {why}; write a number with a unit, such as 64MiB, 1.5GiB or 4096", text.escape_debug())]
pub struct SizeError {
    text: String,
    why: &'static str,
}

/// Every unit, the longest spelling of a family first; decimal and binary units differ on purpose.
const UNITS: [(&str, u64); 13] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("K", 1 << 10),
    ("M", 1 << 20),
    ("G", 1 << 30),
    ("B", 1),
];

impl Size {
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// The text that reads back as exactly this size.
    pub fn exact(self) -> String {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let whole = units.iter().find(|(_, bits)| self.0 >> bits > 0 && self.0.trailing_zeros() >= *bits);
        whole.map_or_else(|| self.0.to_string(), |(name, bits)| format!("{}{name}", self.0 >> bits))
    }

    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl std::str::FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let fail = |why| SizeError { text: text.to_owned(), why };
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        if number.is_empty() {
            return Err(fail(if text.starts_with('-') { "it is negative" } else { "it does not start with a number" }));
        }
        let factor = if unit.is_empty() {
            1
        } else {
            let found = UNITS.iter().find(|(name, _)| *name == unit);
            found.ok_or_else(|| fail(if unit.trim() == unit { "its unit is unknown" } else { "it contains a space" }))?.1
        };
        let bytes = match number.split_once('.') {
            None => number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(|| fail("it is too large"))?,
            Some((whole, fraction)) => {
                if whole.is_empty() || fraction.is_empty() || fraction.contains('.') || fraction.len() > 6 {
                    return Err(fail("its number is malformed"));
                }
                let scale = 10_u64.pow(u32::try_from(fraction.len()).unwrap_or(6));
                let parts = whole.parse::<u64>().ok().zip(fraction.parse::<u64>().ok());
                parts
                    .and_then(|(w, f)| {
                        let fraction = u128::from(f) * u128::from(factor) / u128::from(scale);
                        w.checked_mul(factor)?.checked_add(u64::try_from(fraction).ok()?)
                    })
                    .ok_or_else(|| fail("it is too large"))?
            }
        };
        if bytes == 0 {
            return Err(fail("it is zero"));
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for Size {
    /// The exact text when a binary unit divides it, else one decimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in [("TiB", 1_u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor {
                if self.0.is_multiple_of(factor) {
                    return write!(f, "{}{name}", self.0 / factor);
                }
                let tenths = u128::from(self.0) * 10 / u128::from(factor);
                return write!(f, "{}.{}{name}", tenths / 10, tenths % 10);
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl serde::Serialize for Size {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Size;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Size, E> {
                Ok(Size(bytes))
            }
            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::custom("a size is not negative"))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_people_write() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1.5GiB", 3 << 29), ("500MB", 500_000_000), ("4096", 4096), ("2G", 2 << 30)] {
            assert_eq!(text.parse::<Size>(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn refuses_with_the_reason() {
        for (text, why) in [
            ("4GB ", "a space"),
            ("-1", "negative"),
            ("", "start with a number"),
            ("4Gb", "unknown"),
            ("1.2.3M", "malformed"),
            ("99999999999999999999", "too large"),
            ("0", "zero"),
        ] {
            let error = text.parse::<Size>().expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_prints_what_it_read(text in "\\PC{0,12}", bytes in 1_u64..u64::MAX) {
            drop(text.parse::<Size>());
            prop_assert_eq!(Size(bytes).exact().parse::<Size>(), Ok(Size(bytes)));
            let exact = format!("{bytes}");
            prop_assert_eq!(exact.parse::<Size>(), Ok(Size(bytes)));
            let whole = Size(bytes >> 40 << 40).to_string();
            if bytes >> 40 > 0 {
                prop_assert_eq!(whole.parse::<Size>(), Ok(Size(bytes >> 40 << 40)));
            }
        }
    }
}

//! `working-tree-encoding`: git stores such files as UTF-8, and lays them out in the encoding that the attribute names. Pure.

use std::borrow::Cow;

use super::attributes::Value;

/// Why a file is not converted. It stays as it is, and that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodingFault {
    #[error("cofferdam does not know this encoding; it knows UTF-16 and UTF-32 with their variants, ISO-8859-1, Windows-1252 and ASCII")]
    Unknown,
    #[error("`true` and `false` name no encoding")]
    NoName,
    #[error("it begins with a byte order mark, and this encoding forbids one")]
    MarkForbidden,
    #[error("it has no byte order mark, and this encoding demands one")]
    MarkMissing,
    #[error("its bytes are no text in this encoding")]
    Malformed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Wide { unit: Unit, order: Order, mark: Mark },
    Latin1,
    Windows1252,
    Ascii,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Two,
    Four,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

/// What is known of the byte order mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// The name tells the order.
    Forbidden,
    /// Only the mark tells the order.
    Demanded,
    /// Written; read with or without it.
    Written,
}

/// 0x80 to 0x9f of Windows-1252; zero where there is nothing.
const WINDOWS_1252: [u16; 32] = [
    0x20ac, 0, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152, 0, 0x017d, 0, 0, 0x2018, 0x2019,
    0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0, 0x017e, 0x0178,
];

/// What an attribute asks for; `None` when it asks for nothing.
fn asked(value: &Value) -> Result<Option<Encoding>, EncodingFault> {
    let name = match value {
        Value::Unspecified => return Ok(None),
        Value::Set | Value::Unset => return Err(EncodingFault::NoName),
        Value::Text(name) => name.to_ascii_uppercase(),
    };
    // Git takes `utf16` for `UTF-16`.
    let utf = name.strip_prefix(b"UTF").map(|rest| rest.strip_prefix(b"-").unwrap_or(rest));
    let wide = |unit, order, mark| Ok(Some(Encoding::Wide { unit, order, mark }));
    match utf {
        Some(b"8") => return Ok(None),
        // Written as this machine would.
        Some(b"16") => return wide(Unit::Two, NATIVE, Mark::Demanded),
        Some(b"16LE") => return wide(Unit::Two, Order::Little, Mark::Forbidden),
        Some(b"16BE") => return wide(Unit::Two, Order::Big, Mark::Forbidden),
        Some(b"16LE-BOM") => return wide(Unit::Two, Order::Little, Mark::Written),
        Some(b"32") => return wide(Unit::Four, NATIVE, Mark::Demanded),
        Some(b"32LE") => return wide(Unit::Four, Order::Little, Mark::Forbidden),
        Some(b"32BE") => return wide(Unit::Four, Order::Big, Mark::Forbidden),
        _ => {}
    }
    match name.as_slice() {
        b"" => Ok(None),
        b"ISO-8859-1" | b"ISO_8859-1" | b"ISO8859-1" | b"ISO88591" | b"8859_1" | b"LATIN1" | b"L1" => Ok(Some(Encoding::Latin1)),
        b"WINDOWS-1252" | b"CP1252" => Ok(Some(Encoding::Windows1252)),
        b"ASCII" | b"US-ASCII" => Ok(Some(Encoding::Ascii)),
        _ => Err(EncodingFault::Unknown),
    }
}

const NATIVE: Order = if cfg!(target_endian = "big") { Order::Big } else { Order::Little };

/// Does an attribute ask for something that is not done here?
pub fn is_unknown(value: &Value) -> bool {
    asked(value).is_err()
}

/// What is stored, as it lies in a worktree. What cannot be said in that encoding stays as it is stored, as with git.
pub fn to_worktree<'a>(value: &Value, stored: Cow<'a, [u8]>) -> Cow<'a, [u8]> {
    let Ok(Some(encoding)) = asked(value) else { return stored };
    if stored.is_empty() {
        return stored;
    }
    let encoded = std::str::from_utf8(&stored).ok().and_then(|text| encode(encoding, text));
    encoded.map_or(stored, Cow::Owned)
}

/// What lies in a worktree, as UTF-8.
pub fn to_stored<'a>(value: &Value, content: &'a [u8]) -> Result<Cow<'a, [u8]>, EncodingFault> {
    match asked(value)? {
        Some(encoding) if !content.is_empty() => decode(encoding, content).map(|text| Cow::Owned(text.into_bytes())),
        _ => Ok(Cow::Borrowed(content)),
    }
}

fn encode(encoding: Encoding, text: &str) -> Option<Vec<u8>> {
    let one = |c: char| match encoding {
        Encoding::Latin1 => u8::try_from(u32::from(c)).ok(),
        Encoding::Windows1252 if u32::from(c) >= 0x80 && !(0xa0..=0xff).contains(&u32::from(c)) => {
            let at = WINDOWS_1252.iter().position(|known| u32::from(*known) == u32::from(c))?;
            u8::try_from(0x80 + at).ok()
        }
        Encoding::Windows1252 => u8::try_from(u32::from(c)).ok(),
        Encoding::Ascii | Encoding::Wide { .. } => u8::try_from(u32::from(c)).ok().filter(u8::is_ascii),
    };
    let Encoding::Wide { unit, order, mark } = encoding else { return text.chars().map(one).collect() };
    let mark = (mark != Mark::Forbidden).then_some('\u{feff}');
    let mut out = Vec::with_capacity(text.len() * 2 + 4);
    for c in mark.into_iter().chain(text.chars()) {
        match (unit, order) {
            (Unit::Two, Order::Little) => out.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_le_bytes())),
            (Unit::Two, Order::Big) => out.extend(c.encode_utf16(&mut [0; 2]).iter().flat_map(|unit| unit.to_be_bytes())),
            (Unit::Four, Order::Little) => out.extend(u32::from(c).to_le_bytes()),
            (Unit::Four, Order::Big) => out.extend(u32::from(c).to_be_bytes()),
        }
    }
    Some(out)
}

fn decode(encoding: Encoding, content: &[u8]) -> Result<String, EncodingFault> {
    let Encoding::Wide { unit, order, mark } = encoding else {
        let one = |byte: &u8| match (encoding, byte) {
            (_, 0..0x80) => Some(char::from(*byte)),
            (Encoding::Windows1252, 0x80..0xa0) => {
                char::from_u32(u32::from(WINDOWS_1252[usize::from(byte - 0x80)])).filter(|known| *known != '\0')
            }
            (Encoding::Latin1 | Encoding::Windows1252, _) => Some(char::from(*byte)),
            _ => None,
        };
        return content.iter().map(one).collect::<Option<String>>().ok_or(EncodingFault::Malformed);
    };
    let marks: [&[u8]; 2] = match unit {
        Unit::Two => [b"\xff\xfe", b"\xfe\xff"],
        Unit::Four => [b"\xff\xfe\0\0", b"\0\0\xfe\xff"],
    };
    let found = marks.iter().position(|bytes| content.starts_with(bytes));
    let (order, content) = match (mark, found) {
        (Mark::Forbidden, Some(_)) => return Err(EncodingFault::MarkForbidden),
        (Mark::Demanded, None) => return Err(EncodingFault::MarkMissing),
        (_, Some(at)) => (if at == 0 { Order::Little } else { Order::Big }, &content[marks[at].len()..]),
        (_, None) => (order, content),
    };
    let text = match unit {
        Unit::Two => {
            let (units, rest) = content.as_chunks::<2>();
            let units = units.iter().map(|pair| if order == Order::Little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) });
            if rest.is_empty() { char::decode_utf16(units).collect::<Result<String, _>>().ok() } else { None }
        }
        Unit::Four => {
            let (units, rest) = content.as_chunks::<4>();
            let units = units.iter().map(|four| if order == Order::Little { u32::from_le_bytes(*four) } else { u32::from_be_bytes(*four) });
            if rest.is_empty() { units.map(char::from_u32).collect() } else { None }
        }
    };
    text.ok_or(EncodingFault::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(name: &str) -> Value {
        Value::Text(name.as_bytes().to_vec())
    }

    #[test]
    fn what_is_no_text_is_said() {
        let fault = |name: &str, content: &[u8]| to_stored(&named(name), content).unwrap_err();
        assert_eq!(fault("UTF-16", b"a\0"), EncodingFault::MarkMissing);
        assert_eq!(fault("UTF-16LE", b"\xff\xfea\0"), EncodingFault::MarkForbidden);
        assert_eq!(fault("UTF-16LE", b"a\0b"), EncodingFault::Malformed);
        assert_eq!(fault("UTF-16BE", b"\xd8\x00\0a"), EncodingFault::Malformed);
        assert_eq!(fault("UTF-32BE", b"\0\x11\0\0"), EncodingFault::Malformed);
        assert_eq!(fault("CP1252", b"\x81"), EncodingFault::Malformed);
        assert_eq!(fault("ascii", b"\xe4"), EncodingFault::Malformed);
        assert_eq!(fault("shift-jis", b"a"), EncodingFault::Unknown);
        assert_eq!(to_stored(&Value::Set, b"a"), Err(EncodingFault::NoName));
        // Git leaves alone what it cannot say, and what is no UTF-8.
        assert_eq!(&*to_worktree(&named("latin1"), "€".as_bytes().into()), "€".as_bytes());
        assert_eq!(&*to_worktree(&named("UTF-16"), b"\xff"[..].into()), b"\xff");
        assert_eq!(&*to_worktree(&named("UTF-16"), b""[..].into()), b"");
    }

    proptest! {
        #[test]
        fn text_survives_the_round_trip(text in "\\PC{1,40}", name in "UTF-?(16|32)(LE|BE)?|UTF-16LE-BOM|utf-8") {
            // A mark at the start of the text itself is one too many.
            prop_assume!(!text.starts_with('\u{feff}'));
            let there = to_worktree(&named(&name), text.as_bytes().into());
            prop_assert_eq!(&*to_stored(&named(&name), &there).unwrap(), text.as_bytes());
        }

        #[test]
        fn any_bytes_are_text_or_a_fault(content in proptest::collection::vec(any::<u8>(), 0..12), name in "UTF-?(16|32)(LE|BE)?|CP1252|latin1") {
            if let Ok(stored) = to_stored(&named(&name), &content) {
                prop_assert!(std::str::from_utf8(&stored).is_ok());
            }
        }
    }
}

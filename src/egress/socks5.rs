//! SOCKS 5 as bytes (RFC 1928), without authentication and for `CONNECT` only. Pure.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::http1::Flaw;
use crate::base::host::{Authority, Host, Name};

/// What is answered to a greeting: no authentication; or that none of the offers will do.
pub const NO_AUTHENTICATION: [u8; 2] = [5, 0];
pub const NO_METHOD: [u8; 2] = [5, 0xff];

/// The answer's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reply {
    Granted = 0,
    Failure = 1,
    NotAllowed = 2,
    Unreachable = 4,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

/// Something complete at the front of the bytes, and how long it was. `None`: more bytes are needed.
pub type Taken<T> = Result<Option<(T, usize)>, Flaw>;

/// The client's offers. True when no authentication is among them.
///
/// # Errors
/// When this is no SOCKS 5.
pub fn greeting(bytes: &[u8]) -> Taken<bool> {
    match bytes {
        [version, ..] if *version != 5 => Err(Flaw("this is not version 5 of SOCKS")),
        [_, 0, ..] => Err(Flaw("it offers no way to authenticate")),
        [_, count, methods @ ..] if methods.len() >= usize::from(*count) => {
            let methods = &methods[..usize::from(*count)];
            Ok(Some((methods.contains(&0), 2 + methods.len())))
        }
        _ => Ok(None),
    }
}

/// Where the client wants to go, or the reply that says why it cannot be asked for.
///
/// # Errors
/// When this is no request.
pub fn request(bytes: &[u8]) -> Taken<Result<Authority, Reply>> {
    let [version, command, reserved, kind, rest @ ..] = bytes else {
        return if bytes.first().is_some_and(|v| *v != 5) { Err(Flaw("this is not version 5 of SOCKS")) } else { Ok(None) };
    };
    if (*version, *reserved) != (5, 0) {
        return Err(Flaw("this is no request of SOCKS 5"));
    }
    let (length, skipped) = match (kind, rest) {
        (1, _) => (4, 0),
        (4, _) => (16, 0),
        (3, [length, ..]) => (usize::from(*length), 1),
        (3, []) => return Ok(None),
        _ => return Ok(Some((Err(Reply::NoSuchAddress), bytes.len()))),
    };
    let (Some(address), Some(port)) = (rest.get(skipped..skipped + length), rest.get(skipped + length..skipped + length + 2)) else {
        return Ok(None);
    };
    let taken = 4 + skipped + length + 2;
    if *command != 1 {
        return Ok(Some((Err(Reply::NoSuchCommand), taken)));
    }
    let host = match kind {
        1 => <[u8; 4]>::try_from(address).ok().map(|a| Host::Address(Ipv4Addr::from(a).into())),
        4 => <[u8; 16]>::try_from(address).ok().map(|a| Host::Address(Ipv6Addr::from(a).into())),
        // Some clients send an address as a name.
        _ => std::str::from_utf8(address).ok().and_then(|text| Host::parse(text).or_else(|_| Name::parse(text).map(Host::Name)).ok()),
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    match host {
        Some(host) if port > 0 => Ok(Some((Ok(Authority { host, port }), taken))),
        _ => Err(Flaw("it does not name a host and a port")),
    }
}

/// The answer to a request.
pub const fn reply(code: Reply) -> [u8; 10] {
    [5, code as u8, 0, 1, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn greetings_and_requests_are_read() {
        assert_eq!(greeting(&[5, 2, 2, 0, 9]), Ok(Some((true, 4))));
        assert_eq!(greeting(&[5, 1, 2]), Ok(Some((false, 3))));
        assert_eq!(greeting(&[5, 3, 0]), Ok(None));
        assert!(greeting(&[4, 1, 0]).is_err() && greeting(&[5, 0]).is_err());
        let name = [&[5, 1, 0, 3, 3][..], b"a.b", &[1, 187]].concat();
        let wanted = Authority::parse("a.b:443", None).expect("an authority");
        assert_eq!(request(&name), Ok(Some((Ok(wanted), name.len()))));
        assert_eq!(request(&name[..6]), Ok(None));
        assert_eq!(
            request(&[5, 1, 0, 1, 127, 0, 0, 1, 0, 80]).map(|r| r.map(|r| r.0.map(|a| a.to_string()))),
            Ok(Some(Ok("127.0.0.1:80".to_owned())))
        );
    }

    #[test]
    fn other_commands_and_bad_names_are_refused() {
        assert_eq!(request(&[5, 2, 0, 1, 1, 1, 1, 1, 0, 80]), Ok(Some((Err(Reply::NoSuchCommand), 10))));
        assert_eq!(request(&[5, 3, 0, 1, 1, 1, 1, 1, 0, 80]), Ok(Some((Err(Reply::NoSuchCommand), 10))));
        assert_eq!(request(&[5, 1, 0, 2, 1]), Ok(Some((Err(Reply::NoSuchAddress), 5))));
        for bad in ["a b", "a\0.b", "evil.test/.example.test", "user@a.b", "a\r\n", "127.1", ""] {
            let bytes = [&[5, 1, 0, 3, u8::try_from(bad.len()).unwrap()][..], bad.as_bytes(), &[1, 187]].concat();
            assert!(request(&bytes).is_err(), "{bad:?}");
        }
        assert!(request(&[5, 1, 0, 1, 1, 1, 1, 1, 0, 0]).is_err(), "port 0");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_more_bytes_change_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..40), more in any::<u8>()) {
            let longer: Vec<u8> = bytes.iter().copied().chain([more]).collect();
            if let Ok(Some((offer, taken))) = greeting(&bytes) {
                prop_assert!(taken <= bytes.len());
                prop_assert_eq!(greeting(&longer), Ok(Some((offer, taken))));
            }
            if let Ok(Some((Ok(target), taken))) = request(&bytes) {
                prop_assert!(taken <= bytes.len());
                prop_assert_eq!(request(&longer), Ok(Some((Ok(target), taken))));
            }
        }
    }
}

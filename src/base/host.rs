//! Host names, addresses and authorities (`host:port`), validated before anything is decided about them. Pure.
//!
//! There is one form of each: lower case, no dot at the end, an address as an address. What is decided, resolved and dialled is this
//! value, never the text it came from, so that two readers cannot read it differently.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name that DNS can carry.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// A host name: letters, digits, `-`, `_` and dots; lower case; an international name in its `xn--` form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// What a request may be for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    Name(Name),
    Address(IpAddr),
}

/// A host and a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Authority {
    pub host: Host,
    pub port: u16,
}

impl Name {
    /// # Errors
    /// Why it is no host name.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return Err("it does not name a host");
        }
        if name.len() > LONGEST_NAME {
            return Err("its name is longer than 253 characters");
        }
        let label = |l: &str| {
            let inner = l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
            !l.is_empty() && l.len() <= LONGEST_LABEL && inner && !l.starts_with('-') && !l.ends_with('-')
        };
        if !name.split('.').all(label) {
            return Err("it is not a host name; letters, digits, dashes and dots (an international name in its xn-- form)");
        }
        // `127.1`, `0x7f.1`, `2130706433`: old libraries read these as addresses, and a name never ends like this.
        let last = name.rsplit('.').next().unwrap_or(name);
        let hex = last.strip_prefix("0x").or(last.strip_prefix("0X")).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
        if hex || last.bytes().all(|b| b.is_ascii_digit()) {
            return Err("it ends in a number and is no address; write an address as four numbers, such as 192.0.2.1");
        }
        Ok(Self(name.to_ascii_lowercase()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Is this a subdomain of `domain`? The domain itself is not.
    pub fn is_below(&self, domain: &Self) -> bool {
        self.0.strip_suffix(&domain.0).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    }
}

impl Host {
    /// A name, an IPv4 address as four numbers, or an IPv6 address with or without brackets.
    ///
    /// # Errors
    /// Why it is neither.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or("its bracket is not closed")?;
            return inner.parse::<Ipv6Addr>().map(|ip| Self::Address(ip.into())).map_err(|_| "it is no IPv6 address");
        }
        if text.contains(':') {
            return text.parse::<Ipv6Addr>().map(|ip| Self::Address(ip.into())).map_err(|_| "it is no IPv6 address");
        }
        match text.parse::<Ipv4Addr>() {
            Ok(ip) => Ok(Self::Address(ip.into())),
            Err(_) => Name::parse(text).map(Self::Name),
        }
    }
}

impl Authority {
    /// `host:port`; without a port the `default` one. An IPv6 address needs its brackets.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str, default: Option<u16>) -> Result<Self, &'static str> {
        let (host, port) = split_port(text)?;
        let port = match port {
            Some(port) => parse_port(port)?,
            None => default.ok_or("its port is missing")?,
        };
        Ok(Self { host: Host::parse(host)?, port })
    }
}

/// A port as it is written: digits only, without a sign, at most 65535 and not 0.
///
/// # Errors
/// Why it is none.
pub fn parse_port(text: &str) -> Result<u16, &'static str> {
    let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
    let port = if digits { text.parse().unwrap_or(0) } else { 0 };
    if port == 0 { Err("its port is not a number from 1 to 65535") } else { Ok(port) }
}

/// `host:port` to its two parts; `[::1]:443` and `::1` are told apart by the brackets.
///
/// # Errors
/// When there is text between a bracket and the port.
pub fn split_port(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or("its bracket is not closed")? + 1;
        let (host, tail) = text.split_at(end);
        return match tail.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if tail.is_empty() => Ok((host, None)),
            None => Err("there is text behind the bracket that is no port"),
        };
    }
    Ok(match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (text, None),
    })
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Address(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Address(ip) => ip.fmt(f),
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_host_is_refused() {
        for bad in [
            "",
            ".",
            "a..b",
            "a b",
            "a\0b",
            "a\rb",
            "a\nb",
            "a%2eb",
            "user@host",
            "a/b",
            "evil.test/.example.test",
            "-a.b",
            "a-.b",
            "bücher.de",
            "127.1",
            "0x7f.1",
            "2130706433",
            "0177.0.0.1",
            "1.2.3.4.5",
            "a.0x1f",
            "[::1",
            "::1]",
            "fe80::1%eth0",
            "1.2.3.256",
            "a:b",
            "a\\b",
            "a?b",
            "a#b",
            "*.a.b",
        ] {
            assert!(Host::parse(bad).is_err(), "{bad:?} is a host");
        }
        for bad in ["a:", "a:0", "a:65536", "a:+80", "a: 80", "a:80a", "[::1]80", "::1:80:90:z", "a", "a:000080"] {
            assert!(Authority::parse(bad, None).is_err(), "{bad:?} is an authority");
        }
    }

    #[test]
    fn every_spelling_of_a_host_is_the_same_value() {
        let same = |a: &str, b: &str| assert_eq!(Authority::parse(a, Some(443)).expect(a), Authority::parse(b, Some(443)).expect(b));
        same("Example.ORG", "example.org:443");
        same("example.org.", "example.org");
        same("XN--Bcher-Kva.example.:443", "xn--bcher-kva.example");
        same("[0:0::1]:443", "[::1]");
        assert_eq!(Authority::parse("a:080", None).expect("a port").port, 80);
    }

    #[test]
    fn only_subdomains_are_below_a_domain() {
        let below = |a: &str, b: &str| Name::parse(a).unwrap().is_below(&Name::parse(b).unwrap());
        assert!(below("a.example.test", "example.test") && below("a.b.example.test", "example.test"));
        assert!(!below("example.test", "example.test") && !below("evilexample.test", "example.test"));
        assert!(!below("test", "example.test") && !below("example.test.evil", "example.test"));
    }

    proptest! {
        #[test]
        fn a_host_is_its_own_text(text in "[\\x00-\\x7f]{0,20}|[a-zA-Z0-9._-]{1,20}|[0-9a-f:.\\[\\]]{1,20}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(&Host::parse(&host.to_string()), &Ok(host.clone()));
                prop_assert!(!host.to_string().bytes().any(|b| b <= b' ' || b == b'@' || b == b'/' || b == b'%' || b >= 127));
            }
            if let Ok(authority) = Authority::parse(&text, Some(80)) {
                prop_assert_eq!(Authority::parse(&authority.to_string(), None), Ok(authority));
            }
        }
    }
}

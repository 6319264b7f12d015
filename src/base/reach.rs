//! One rule of what may be reached through the gateway, as people write it. Pure.
//!
//! ```text
//! [!][METHODS ]HOST[:PORT][/PATH][ opaque][ up=SIZE][ down=SIZE]
//! ```
//!
//! `example.org` is that host on ports 80 and 443, `*.example.org` its subdomains and not itself, `10.0.0.0/8` a range of addresses.
//! `!` denies and wins. `GET,HEAD` and `/path` narrow a rule to requests that the gateway can see. `opaque` lets bytes through that are
//! neither TLS for that name nor HTTP. `up` and `down` bound how many bytes go out and come in.

use std::net::IpAddr;

use super::host::{Host, Name, parse_port, split_port};
use super::size::Size;

/// What a rule without a port means.
pub const USUAL_PORTS: [u16; 2] = [80, 443];
/// No rule is longer: a mistake, not a rule.
const LONGEST: usize = 2048;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub deny: bool,
    pub to: To,
    /// The one port; without one, [`USUAL_PORTS`].
    pub port: Option<u16>,
    /// Upper case; empty is every method.
    pub methods: Vec<String>,
    /// Starts with a slash; ends a whole segment.
    pub path: Option<String>,
    pub opaque: bool,
    pub up: Option<Size>,
    pub down: Option<Size>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    Name(Name),
    /// Subdomains of it, and not itself.
    Below(Name),
    Address(IpAddr),
    Range(IpAddr, u8),
}

/// Whole segments: `/api` is `/api`, `/api/x` and `/api?x`, and not `/apix`.
pub fn begins_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| prefix.ends_with('/') || rest.is_empty() || rest.starts_with(['/', '?']))
}

impl Reach {
    /// # Errors
    /// Why the text is no rule.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > LONGEST {
            return Err("it is longer than any rule");
        }
        if text.contains("://") {
            return Err("it is an address with a scheme; write only the host, such as example.org or example.org:443");
        }
        let (deny, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let mut words = text.split(' ').filter(|word| !word.is_empty()).peekable();
        let methods = match words.next_if(|word| is_methods(word)) {
            Some(list) => list.split(',').map(str::to_owned).collect(),
            None => Vec::new(),
        };
        let target = words.next().ok_or("it does not name a host")?;
        let (to, port, path) = target_of(target)?;
        let mut rule = Self { deny, to, port, methods, path, opaque: false, up: None, down: None };
        for word in words {
            match word.split_once('=') {
                None if word == "opaque" => rule.opaque = true,
                Some(("up", size)) => rule.up = Some(size.parse().map_err(|_| "what follows up= is no size, such as 1MiB")?),
                Some(("down", size)) => rule.down = Some(size.parse().map_err(|_| "what follows down= is no size, such as 1MiB")?),
                _ => return Err("behind the host stand only opaque, up=SIZE and down=SIZE"),
            }
        }
        if rule.opaque && rule.sees_requests() {
            return Err("what is opaque cannot be judged by method or path; leave out one of them");
        }
        if rule.deny && (rule.opaque || rule.up.is_some() || rule.down.is_some()) {
            return Err("a rule that denies has no opaque, up= or down=");
        }
        Ok(rule)
    }

    /// Is it about single requests, which the gateway must be able to see?
    pub fn sees_requests(&self) -> bool {
        !self.methods.is_empty() || self.path.is_some()
    }

    pub fn has_port(&self, port: u16) -> bool {
        self.port.map_or(USUAL_PORTS.contains(&port), |only| only == port)
    }

    /// Is this host, as it was asked for, meant by the rule?
    pub fn has_host(&self, host: &Host) -> bool {
        match (&self.to, host) {
            (To::Name(name), Host::Name(asked)) => name == asked,
            (To::Below(domain), Host::Name(asked)) => asked.is_below(domain),
            (To::Address(_) | To::Range(..), Host::Address(ip)) => self.has_address(*ip),
            _ => false,
        }
    }

    /// Is this address one that the rule names?
    pub fn has_address(&self, ip: IpAddr) -> bool {
        match self.to {
            To::Address(address) => address.to_canonical() == ip.to_canonical(),
            To::Range(base, bits) => in_range(base, bits, ip),
            To::Name(_) | To::Below(_) => false,
        }
    }

    pub fn has_method(&self, method: &str) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|m| m == method)
    }

    pub fn has_path(&self, path: &str) -> bool {
        self.path.as_deref().is_none_or(|prefix| begins_with(path, prefix))
    }

    /// Does this rule allow everything that `narrow` allows? Unsure is no. A denial allows nothing.
    pub fn covers(&self, narrow: &Self) -> bool {
        if narrow.deny {
            return true;
        }
        let host = match (&self.to, &narrow.to) {
            (To::Name(a), To::Name(b)) => a == b,
            (To::Below(a), To::Name(b)) => b.is_below(a),
            (To::Below(a), To::Below(b)) => a == b || b.is_below(a),
            (To::Address(_) | To::Range(..), To::Address(ip)) => self.has_address(*ip),
            (To::Range(_, wide), To::Range(base, bits)) => wide <= bits && self.has_address(*base),
            _ => false,
        };
        let port = match (self.port, narrow.port) {
            (None, port) => port.is_none_or(|p| USUAL_PORTS.contains(&p)),
            (Some(a), b) => b == Some(a),
        };
        let methods = self.methods.is_empty() || (!narrow.methods.is_empty() && narrow.methods.iter().all(|m| self.has_method(m)));
        let path = self.path.is_none() || narrow.path.as_ref().is_some_and(|p| self.has_path(p));
        let within = |wide: Option<Size>, narrow: Option<Size>| wide.is_none_or(|w| narrow.is_some_and(|n| n <= w));
        let budgets = within(self.up, narrow.up) && within(self.down, narrow.down);
        !self.deny && host && port && methods && path && budgets && (self.opaque || !narrow.opaque)
    }
}

/// `GET` or `GET,HEAD`: upper case letters only, which no host name of more than one label is.
fn is_methods(word: &str) -> bool {
    word.split(',').all(|m| !m.is_empty() && m.len() <= 20 && m.bytes().all(|b| b.is_ascii_uppercase()))
}

/// Where to, which port, which path.
type Target = (To, Option<u16>, Option<String>);

fn target_of(text: &str) -> Result<Target, &'static str> {
    if let Some(range) = range_of(text)? {
        return Ok(range);
    }
    let (authority, path) = match text.find('/') {
        Some(at) => (&text[..at], Some(path_of(&text[at..])?)),
        None => (text, None),
    };
    // Only IPv6 addresses have more than one colon, and they may come without brackets when no port follows.
    let (host, port) = split_port(authority)?;
    let port = port.map(parse_port).transpose()?;
    if host == "*" {
        return Err("it does not name a host; to reach everything, a human passes --net host");
    }
    if host.trim_start_matches("*.").contains('*') {
        return Err("a star may only stand for whole labels at the front, as in *.example.org");
    }
    let to = match host.strip_prefix("*.") {
        Some(domain) => To::Below(Name::parse(domain)?),
        None => match Host::parse(host)? {
            Host::Name(name) => To::Name(name),
            Host::Address(ip) => To::Address(ip),
        },
    };
    Ok((to, port, path))
}

/// `ADDRESS/BITS[:PORT]`, or nothing when the text is not of that kind.
fn range_of(text: &str) -> Result<Option<Target>, &'static str> {
    let Some((address, rest)) = text.split_once('/') else { return Ok(None) };
    let bare = address.strip_prefix('[').and_then(|a| a.strip_suffix(']')).unwrap_or(address);
    let Ok(base) = bare.parse::<IpAddr>() else { return Ok(None) };
    let (bits, port) = rest.split_once(':').map_or((rest, None), |(bits, port)| (bits, Some(port)));
    let most = if base.is_ipv4() { 32 } else { 128 };
    match bits.parse::<u8>() {
        Ok(bits) if bits <= most => Ok(Some((To::Range(base, bits), port.map(parse_port).transpose()?, None))),
        _ => Err("its prefix length is out of range"),
    }
}

fn path_of(text: &str) -> Result<String, &'static str> {
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\%\"<>{}|^`".contains(&b));
    if !plain || text.contains("//") || text.split('/').any(|part| part == "." || part == "..") {
        return Err("its path is not plain; letters, digits and slashes, without .., % and ?");
    }
    Ok(text.to_owned())
}

fn in_range(base: IpAddr, bits: u8, ip: IpAddr) -> bool {
    match (base.to_canonical(), ip.to_canonical()) {
        (IpAddr::V4(base), IpAddr::V4(ip)) => {
            let shift = 32_u32.saturating_sub(bits.into());
            u32::from(base).checked_shr(shift).unwrap_or(0) == u32::from(ip).checked_shr(shift).unwrap_or(0)
        }
        (IpAddr::V6(base), IpAddr::V6(ip)) => {
            let shift = 128_u32.saturating_sub(bits.into());
            u128::from(base).checked_shr(shift).unwrap_or(0) == u128::from(ip).checked_shr(shift).unwrap_or(0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rule(text: &str) -> Reach {
        Reach::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn a_rule_is_read_whole() {
        let all = rule("GET,HEAD *.Example.org.:8443/api/ up=1MiB down=2MiB");
        assert_eq!(
            (all.methods.as_slice(), all.port, all.path.as_deref()),
            (["GET", "HEAD"].map(str::to_owned).as_slice(), Some(8443), Some("/api/"))
        );
        assert_eq!((all.to, all.up, all.down), (To::Below(Name::parse("example.org").unwrap()), Some(Size::mib(1)), Some(Size::mib(2))));
        assert!(rule("!a.b").deny && rule("a.b:22 opaque").opaque);
        assert_eq!(rule("10.0.0.0/8:80").to, To::Range("10.0.0.0".parse().unwrap(), 8));
        assert_eq!(rule("::1").to, To::Address("::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_rule_is_refused() {
        for bad in [
            "",
            "!",
            "GET",
            "a.b opaqe",
            "a.b up=x",
            "a.b/../c",
            "a.b//c",
            "a.b/%2e",
            "GET a.b opaque",
            "a.b/x opaque",
            "!a.b up=1MiB",
            "10.0.0.0/33",
            "10.0.0.0/8/x",
            "*",
            "*.",
            "a.*.b",
            "**.b",
            "a.b:0",
            "a.b:http",
            "user@a.b",
            "https://a.b",
            "127.1",
            "a.b c.d",
        ] {
            assert!(Reach::parse(bad).is_err(), "{bad:?} is a rule");
        }
    }

    #[test]
    fn paths_match_whole_segments() {
        let api = rule("a.b/api");
        assert!(api.has_path("/api") && api.has_path("/api/x") && api.has_path("/api?x"));
        assert!(!api.has_path("/apix") && !api.has_path("/") && !api.has_path("/x/api"));
        assert!(rule("a.b/api/").has_path("/api/x") && !rule("a.b/api/").has_path("/api"));
    }

    #[test]
    fn a_rule_covers_only_what_lies_within() {
        for (wide, narrow) in [
            ("a.b", "a.b:443"),
            ("*.b", "a.b"),
            ("*.b", "*.a.b"),
            ("A.b.", "a.b"),
            ("*.b:1", "x.b:1"),
            ("a.b", "GET a.b"),
            ("a.b/x", "a.b/x/y"),
            ("10.0.0.0/8", "10.1.0.0/16"),
            ("a.b opaque", "a.b"),
            ("a.b up=2MiB", "a.b up=1MiB"),
            ("a.b", "!c.d"),
        ] {
            assert!(rule(wide).covers(&rule(narrow)), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("a.b:443", "a.b"),
            ("*.b", "b"),
            ("a.b", "*.a.b"),
            ("*.b", "evilb"),
            ("b", "a.b"),
            ("*.b", "*.b.c"),
            ("a.b", "a.b:22"),
            ("GET a.b", "a.b"),
            ("a.b/x", "a.b"),
            ("10.0.0.0/16", "10.0.0.0/8"),
            ("a.b", "a.b opaque"),
            ("a.b up=1MiB", "a.b"),
            ("!a.b", "a.b"),
        ] {
            assert!(!rule(wide).covers(&rule(narrow)), "{wide} {narrow}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_every_rule_covers_itself(text in "\\PC{0,30}|[A-Ca-c*.:0-9\\[\\]/! ]{0,24}") {
            if let Ok(rule) = Reach::parse(&text) {
                prop_assert!(rule.deny || rule.covers(&rule));
            }
        }

        #[test]
        fn a_range_holds_exactly_its_addresses(base in any::<u32>(), bits in 0_u8..=32, ip in any::<u32>()) {
            let ours = in_range(IpAddr::V4(base.into()), bits, IpAddr::V4(ip.into()));
            let mask = if bits == 0 { 0 } else { u32::MAX << (32 - bits) };
            prop_assert_eq!(ours, base & mask == ip & mask);
        }
    }
}

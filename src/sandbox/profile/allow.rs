//! The text of one allow rule: `host`, `*.host`, an address or a range of addresses, each with an optional `:port`. Pure.
//!
//! Only the shape is decided here, so that a typing error is found where it was typed; what a rule means on the wire is the gateway's.

use std::net::IpAddr;

/// Why a text is no allow rule.
pub fn check(rule: &str) -> Result<(), &'static str> {
    if rule.contains("://") {
        return Err("it is an address with a scheme; write only the host, such as example.org or example.org:443");
    }
    let (host, port) = parts(rule);
    if let Some(port) = port {
        match port.parse::<u16>() {
            Ok(0) | Err(_) => return Err("its port is not a number from 1 to 65535"),
            Ok(_) => {}
        }
    }
    if let Some((address, bits)) = host.split_once('/') {
        let Ok(address) = address.parse::<IpAddr>() else { return Err("a path is not part of a host") };
        let most = if address.is_ipv4() { 32 } else { 128 };
        return if bits.parse::<u8>().is_ok_and(|b| b <= most) { Ok(()) } else { Err("its prefix length is out of range") };
    }
    if host.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    if host == "*" || name.is_empty() {
        return Err("it does not name a host; to reach everything, a human passes --net host");
    }
    if name.contains('*') {
        return Err("a star may only stand for whole labels at the front, as in *.example.org");
    }
    if name.len() > 253 {
        return Err("its name is longer than 253 characters");
    }
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && !l.starts_with('-') && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    };
    if name.strip_suffix('.').unwrap_or(name).split('.').all(label) {
        Ok(())
    } else {
        Err("it is not a host name; letters, digits, dashes and dots (an international name in its xn-- form)")
    }
}

/// Does `wide` allow everything that `narrow` allows? Unsure is no.
pub fn covers(wide: &str, narrow: &str) -> bool {
    let ((wide_host, wide_port), (host, port)) = (parts(wide), parts(narrow));
    if wide_port.is_some() && wide_port != port {
        return false;
    }
    let clean = |host: &str| host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let (wide_host, host) = (clean(wide_host), clean(host));
    if wide_host == host {
        return true;
    }
    // `*.example.org` covers `a.example.org` and `*.a.example.org`, and not `example.org` itself.
    let Some(domain) = wide_host.strip_prefix('*') else { return false };
    host.strip_prefix('*').unwrap_or(&host).strip_suffix(domain).is_some_and(|rest| !rest.is_empty())
}

/// The host and the port; `[::1]:443` and `::1` are told apart by the brackets.
fn parts(rule: &str) -> (&str, Option<&str>) {
    if let Some(rest) = rule.strip_prefix('[')
        && let Some((host, tail)) = rest.split_once(']')
    {
        return (host, tail.strip_prefix(':').or((!tail.is_empty()).then_some(tail)));
    }
    match rule.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, Some(port)),
        _ => (rule, None),
    }
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
        for bad in ["", "*", "https://example.org", "a b", "x:0", "x:99999", "a.*.b", "ex..org", "10.0.0.0/33", "host/path", "user@host"] {
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
            prop_assert!(covers(&b, &b));
        }
    }
}

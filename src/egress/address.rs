//! Which addresses may be dialled. Pure.
//!
//! The decision is made on the very address that is dialled, after names were resolved: a name that is allowed and leads to the machine
//! itself, to its network or to a cloud's metadata is refused, unless a rule grants the address by its range.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What kind of address it is, when it is none of the public internet.
pub fn kind(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => kind4(ip),
        IpAddr::V6(ip) => kind6(ip),
    }
}

fn kind4(ip: Ipv4Addr) -> Option<&'static str> {
    let [a, b, c, _] = ip.octets();
    Some(match (a, b, c) {
        (0, ..) => "of \"this network\"",
        (10, ..) | (172, 16..=31, _) | (192, 168, _) => "private",
        (100, 64..=127, _) => "shared by a provider's customers",
        (127, ..) => "loopback",
        (169, 254, _) => "link-local, where clouds keep their metadata",
        (192, 0, 0) => "reserved for protocols",
        (192, 0, 2) | (198, 51, 100) | (203, 0, 113) => "for documentation",
        (192, 88, 99) => "a relay of translated addresses",
        (198, 18 | 19, _) => "for measurements",
        (224..=239, ..) => "multicast",
        (240.., ..) => "reserved",
        _ => return None,
    })
}

fn kind6(ip: Ipv6Addr) -> Option<&'static str> {
    let s = ip.segments();
    if ip.to_ipv4_mapped().is_some() {
        return Some("a mapped IPv4 address");
    }
    // Translated and tunnelled forms carry an IPv4 address that nobody would check again.
    if s[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let embedded = Ipv4Addr::from((u32::from(s[6]) << 16) | u32::from(s[7]));
        return kind4(embedded).map(|_| "a translated form of an IPv4 address that is not public");
    }
    Some(match s {
        [0, 0, 0, 0, 0, 0, 0, 0] => "unspecified",
        [0, 0, 0, 0, 0, 0, 0, 1] => "loopback",
        [0, 0, 0, 0, 0, 0, ..] => "an IPv4 address in an old form",
        [0x64, 0xff9b, ..] => "a translated IPv4 address",
        [0x2002, ..] => "a tunnelled IPv4 address (6to4)",
        [0x2001, 0, ..] => "a tunnelled IPv4 address (Teredo)",
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => "for documentation",
        [0x2001, 0x2, 0, ..] => "for measurements",
        [0x2001, 0x10..=0x3f, ..] => "a name and no place (ORCHID)",
        [0xfc00..=0xfdff, ..] => "private",
        [0xfe80..=0xfebf, ..] => "link-local",
        [0xfec0..=0xfeff, ..] => "site-local",
        [0xff00..=0xffff, ..] => "multicast",
        [0x2000..=0x3fff, ..] => return None,
        _ => "not of the public internet",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_but_the_public_internet_is_public() {
        for inner in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:8.8.8.8",
            "64:ff9b::7f00:1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(kind(inner.parse().unwrap()).is_some(), "{inner} may be dialled");
        }
        for outer in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
        ] {
            assert_eq!(kind(outer.parse().unwrap()), None, "{outer}");
        }
        for outer in ["2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808"] {
            assert_eq!(kind(outer.parse().unwrap()), None, "{outer}");
        }
    }

    proptest! {
        /// However an IPv4 address that is not public is wrapped, it is refused.
        #[test]
        fn no_wrapping_makes_an_address_public(n in any::<u32>()) {
            let ip = Ipv4Addr::from(n);
            let [a, b] = [(n >> 16) as u16, n as u16];
            let inner = kind4(ip).is_some();
            prop_assert!(kind(ip.to_ipv6_mapped().into()).is_some());
            prop_assert!(kind6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, a, b)).is_some());
            prop_assert!(kind6(Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1)).is_some());
            prop_assert_eq!(kind6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b)).is_some(), inner);
            prop_assert_eq!(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast(), inner && (ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_multicast() || ip.is_broadcast()));
        }
    }
}

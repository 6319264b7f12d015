//! What one sandbox may reach: a list of rules, and the decision on one target. Pure.
//!
//! An empty list is nothing. A rule that denies wins over every rule that allows. A decision is about a validated [`Authority`], and, where
//! the request can be seen, about its method and path.

use std::net::IpAddr;

use crate::base::host::Authority;
use crate::base::reach::{Reach, To};

use super::address;

/// The rules of one sandbox, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    rules: Vec<(String, Reach)>,
}

/// A request that can be seen.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub method: &'a str,
    /// Path and query, as they were sent.
    pub path: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// By the rule of this number; `opaque` when bytes that nobody can judge may pass.
    Allow {
        rule: usize,
        opaque: bool,
    },
    /// Only some requests are allowed there: whoever cannot see them must refuse.
    Look,
    Deny(Denied),
}

/// Why it is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No rule names it.
    Unlisted,
    /// The host is listed, and this port is not.
    Port(Vec<u16>),
    /// A rule forbids it: its text.
    Forbidden(String),
    /// The host is listed, and this request is not.
    Request,
    /// Its path can be read in more than one way.
    Ambiguous,
    /// A push, which only a rule with method and path allows.
    Push,
}

impl Rules {
    /// # Errors
    /// The first text that is no rule, and why. Nothing is allowed then.
    pub fn parse<S: AsRef<str>>(texts: &[S]) -> Result<Self, (String, &'static str)> {
        let read = |text: &S| {
            Reach::parse(text.as_ref()).map(|rule| (text.as_ref().to_owned(), rule)).map_err(|why| (text.as_ref().to_owned(), why))
        };
        texts.iter().map(read).collect::<Result<_, _>>().map(|rules| Self { rules })
    }

    pub fn is_empty(&self) -> bool {
        !self.rules.iter().any(|(_, rule)| !rule.deny)
    }

    /// Is any of them about single requests?
    pub fn see_requests(&self) -> bool {
        self.rules.iter().any(|(_, rule)| rule.sees_requests())
    }

    pub fn len(&self) -> usize {
        self.rules.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Reach)> {
        self.rules.iter().map(|(text, rule)| (text.as_str(), rule))
    }

    pub fn get(&self, rule: usize) -> Option<&Reach> {
        self.rules.get(rule).map(|(_, rule)| rule)
    }

    /// What is allowed, as people wrote it, for messages.
    pub fn allowed(&self) -> impl Iterator<Item = &str> {
        self.iter().filter(|(_, rule)| !rule.deny).map(|(text, _)| text)
    }

    /// Could any rule allow this host on some port? What no rule could mean needs no address.
    pub fn may_mean(&self, target: &crate::base::host::Host) -> bool {
        self.rules.iter().any(|(_, rule)| !rule.deny && rule.has_host(target))
    }

    /// May this be reached?
    pub fn decide(&self, target: &Authority, request: Option<Request<'_>>) -> Decision {
        let meant = |rule: &Reach| rule.has_host(&target.host) && (rule.has_port(target.port) || (rule.deny && rule.port.is_none()));
        for (text, rule) in self.rules.iter().filter(|(_, rule)| rule.deny && meant(rule)) {
            let hits = match request {
                Some(request) => {
                    rule.has_method(request.method)
                        && rule.path.as_ref().is_none_or(|_| ambiguous(request.path) || rule.has_path(request.path))
                }
                // A part of the requests is forbidden: they must be seen.
                None if rule.sees_requests() => return Decision::Look,
                None => true,
            };
            if hits {
                return Decision::Deny(Denied::Forbidden(text.clone()));
            }
        }
        let allowing = || self.rules.iter().enumerate().filter(|(_, (_, rule))| !rule.deny && meant(rule));
        let Some(request) = request else {
            let whole = allowing().filter(|(_, (_, rule))| !rule.sees_requests());
            // The rule that lets more through decides about what can be seen.
            return match whole.max_by_key(|(n, (_, rule))| (rule.opaque, std::cmp::Reverse(*n))) {
                Some((n, (_, rule))) => Decision::Allow { rule: n, opaque: rule.opaque },
                None if allowing().next().is_some() => Decision::Look,
                None => Decision::Deny(self.unlisted(target)),
            };
        };
        let push = is_push(request.path);
        let mut why = self.unlisted(target);
        for (n, (_, rule)) in allowing() {
            if push && (rule.methods.is_empty() || rule.path.is_none()) {
                why = Denied::Push;
            } else if rule.path.is_some() && ambiguous(request.path) {
                why = Denied::Ambiguous;
            } else if rule.has_method(request.method) && rule.has_path(request.path) {
                return Decision::Allow { rule: n, opaque: rule.opaque };
            } else {
                why = Denied::Request;
            }
        }
        Decision::Deny(why)
    }

    fn unlisted(&self, target: &Authority) -> Denied {
        let ports: Vec<u16> = self
            .rules
            .iter()
            .filter(|(_, rule)| !rule.deny && rule.has_host(&target.host))
            .flat_map(|(_, rule)| rule.port.map_or(vec![80, 443], |p| vec![p]))
            .collect();
        if ports.is_empty() || ports.contains(&target.port) { Denied::Unlisted } else { Denied::Port(ports) }
    }

    /// May this address be dialled, whatever name led to it? Why not, when not.
    ///
    /// # Errors
    /// What kind of address it is.
    pub fn may_dial(&self, ip: IpAddr, port: u16) -> Result<(), &'static str> {
        let names =
            |rule: &Reach| rule.has_address(ip) && (rule.has_port(port) || (rule.port.is_none() && matches!(rule.to, To::Range(..))));
        if self.rules.iter().any(|(_, rule)| rule.deny && rule.has_address(ip) && (rule.port.is_none() || rule.has_port(port))) {
            return Err("forbidden by a rule");
        }
        match address::kind(ip) {
            Some(kind) if !self.rules.iter().any(|(_, rule)| !rule.deny && names(rule)) => Err(kind),
            _ => Ok(()),
        }
    }
}

/// A path that a server may read differently than we do cannot be compared with a prefix.
pub(super) fn ambiguous(path: &str) -> bool {
    let path = path.split('?').next().unwrap_or(path);
    let odd = path.contains(['\\', ';']) || path.contains("//") || !path.starts_with('/');
    // What needs no encoding and has one is there to be overlooked.
    let hidden = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/\\%;\0".contains(&byte);
    odd || path.split('/').any(|part| part == "." || part == "..") || encoded(path).any(|byte| byte.is_none_or(hidden))
}

/// The bytes that are written as `%XX`; nothing for a `%` that is none.
fn encoded(text: &str) -> impl Iterator<Item = Option<u8>> {
    text.split('%').skip(1).map(|rest| rest.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
}

fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => out.extend([char::from(byte)].into_iter().chain(part[2..].chars())),
            None => out.extend(['%'].into_iter().chain(part.chars())),
        }
    }
    out
}

/// Does git send with this request? Fetching is another service. However it is written: a push that is not seen as one would pass.
fn is_push(path: &str) -> bool {
    let once = decoded(path);
    [path, &once, &decoded(&once)].iter().any(|text| text.to_ascii_lowercase().contains("git-receive-pack"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(texts: &[&str]) -> Rules {
        Rules::parse(texts).unwrap_or_else(|(text, why)| panic!("{text}: {why}"))
    }

    fn at(text: &str) -> Authority {
        Authority::parse(text, Some(443)).unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    fn tunnel(list: &[&str], target: &str) -> bool {
        matches!(rules(list).decide(&at(target), None), Decision::Allow { .. })
    }

    fn request(list: &[&str], target: &str, method: &str, path: &str) -> Decision {
        rules(list).decide(&at(target), Some(Request { method, path }))
    }

    #[test]
    fn empty_is_nothing_and_denials_win() {
        assert!(!tunnel(&[], "example.org") && rules(&[]).is_empty() && rules(&["!a.b"]).is_empty());
        assert!(tunnel(&["*.example.org"], "a.example.org") && !tunnel(&["*.example.org", "!a.example.org"], "a.example.org"));
        assert!(!tunnel(&["!a.example.org", "a.example.org"], "a.example.org:443"));
        assert!(tunnel(&["a.b:8443", "!a.b:443"], "a.b:8443") && !tunnel(&["a.b:8443", "!a.b"], "a.b:8443"));
        assert_eq!(request(&["a.b", "!POST a.b"], "a.b", "POST", "/"), Decision::Deny(Denied::Forbidden("!POST a.b".to_owned())));
        assert_eq!(rules(&["a.b", "!POST a.b"]).decide(&at("a.b"), None), Decision::Look);
    }

    #[test]
    fn hosts_and_ports_are_exact() {
        assert!(!tunnel(&["example.test"], "a.example.test") && !tunnel(&["*.example.test"], "example.test"));
        assert!(!tunnel(&["*.example.test"], "evilexample.test") && !tunnel(&["example.test"], "example.test.evil.test"));
        assert!(!tunnel(&["example.test"], "example.test:8443") && !tunnel(&["example.test:8443"], "example.test:443"));
        assert_eq!(rules(&["a.b:1"]).decide(&at("a.b:2"), None), Decision::Deny(Denied::Port(vec![1])));
        // A name that happens to be listed says nothing about its address as a literal, and the other way round.
        assert!(!tunnel(&["10.0.0.0/8"], "a.b") && !tunnel(&["a.b"], "10.0.0.1") && tunnel(&["10.0.0.0/8"], "10.0.0.1"));
        assert!(tunnel(&["127.0.0.1"], "[::ffff:127.0.0.1]"), "a mapped address is the address it maps");
    }

    #[test]
    fn requests_are_judged_where_they_are_seen() {
        let list = ["GET,HEAD a.b/api/"];
        assert_eq!(rules(&list).decide(&at("a.b"), None), Decision::Look);
        assert!(matches!(request(&list, "a.b", "GET", "/api/x?y"), Decision::Allow { .. }));
        assert_eq!(request(&list, "a.b", "POST", "/api/x"), Decision::Deny(Denied::Request));
        assert_eq!(request(&list, "a.b", "GET", "/apix"), Decision::Deny(Denied::Request));
        for path in
            ["/api/../x", "/api/%2e%2e/x", "/api//x", "/api/a%2fb", "/api/a\\b", "/api/a;b", "*", "/api/%252e", "/%61pi/x", "/api/%"]
        {
            assert_eq!(request(&list, "a.b", "GET", path), Decision::Deny(Denied::Ambiguous), "{path}");
        }
        assert_eq!(
            request(&["!a.b/secret", "a.b"], "a.b", "GET", "/x/../secret"),
            Decision::Deny(Denied::Forbidden("!a.b/secret".to_owned()))
        );
    }

    #[test]
    fn a_push_is_granted_by_method_and_path_only() {
        let push = "/team/project.git/git-receive-pack";
        assert_eq!(request(&["a.b"], "a.b", "POST", push), Decision::Deny(Denied::Push));
        assert_eq!(request(&["a.b/team/"], "a.b", "POST", push), Decision::Deny(Denied::Push));
        assert_eq!(request(&["a.b"], "a.b", "GET", "/p.git/info/refs?service=git-receive-pack"), Decision::Deny(Denied::Push));
        assert_eq!(request(&["a.b"], "a.b", "GET", "/p.git/info/refs?service=git%2Dreceive%2dpack"), Decision::Deny(Denied::Push));
        assert_eq!(request(&["a.b"], "a.b", "POST", "/p.git/%67it-receive-pac%256b"), Decision::Deny(Denied::Push));
        assert!(matches!(request(&["a.b", "GET,POST a.b/team/project.git/"], "a.b", "POST", push), Decision::Allow { rule: 1, .. }));
        assert!(matches!(request(&["a.b"], "a.b", "POST", "/p.git/git-upload-pack"), Decision::Allow { .. }));
    }

    #[test]
    fn only_public_and_granted_addresses_are_dialled() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(rules(&["a.b"]).may_dial(ip("1.1.1.1"), 443).is_ok());
        for inner in ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1"] {
            assert!(rules(&["a.b"]).may_dial(ip(inner), 443).is_err(), "{inner}");
        }
        assert!(
            rules(&["127.0.0.0/8"]).may_dial(ip("127.0.0.1"), 8080).is_ok()
                && rules(&["127.0.0.0/8:80"]).may_dial(ip("127.0.0.1"), 8080).is_err()
        );
        assert!(
            rules(&["127.0.0.1:8080"]).may_dial(ip("127.0.0.1"), 8080).is_ok()
                && rules(&["127.0.0.1:8080"]).may_dial(ip("127.0.0.2"), 8080).is_err()
        );
        assert!(rules(&["a.b", "!1.1.1.1"]).may_dial(ip("1.1.1.1"), 443).is_err());
    }

    proptest! {
        /// Case, a dot at the end and the default port written out change nothing.
        #[test]
        fn spelling_changes_nothing(labels in proptest::collection::vec("[a-z]{1,3}", 1..4), upper in any::<u32>(), dot in any::<bool>(), port in any::<bool>(), star in any::<bool>()) {
            let name = labels.join(".");
            let spelled: String = name.chars().enumerate().map(|(i, c)| if upper >> (i % 32) & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect();
            let spelled = format!("{spelled}{}{}", if dot { "." } else { "" }, if port { ":443" } else { "" });
            let list = if star { format!("*.{}", labels[1..].join(".")) } else { name.clone() };
            if let Ok(rules) = Rules::parse(&[list]) {
                prop_assert_eq!(rules.decide(&at(&name), None), rules.decide(&at(&spelled), None));
            }
        }

        /// A denial never makes more reachable.
        #[test]
        fn a_denial_only_takes_away(target in "[a-c]\\.[a-c]", allow in "(\\*\\.)?[a-c](\\.[a-c])?", deny in "(\\*\\.)?[a-c](\\.[a-c])?(/x)?", path in "/[x-z]") {
            let (plain, both) = (rules(&[&allow]), rules(&[&allow, &format!("!{deny}")]));
            for request in [None, Some(Request { method: "GET", path: &path })] {
                let allowed = |rules: &Rules| matches!(rules.decide(&at(&target), request), Decision::Allow { .. });
                prop_assert!(!allowed(&both) || allowed(&plain));
            }
        }
    }
}

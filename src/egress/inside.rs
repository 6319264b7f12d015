//! What a sandbox with a gateway must have inside: sockets, addresses, variables, a resolver's file. Pure.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::base::host::{Authority, Host};
use crate::base::reach::{To, USUAL_PORTS};
use crate::sandbox::plan::HOME;
use crate::sandbox::policy::{Listener, OwnFile, Policy, Protocol};

use super::endpoint::Endpoint;
use super::grant::Opened;
use super::names::{self, FIXED, Names, OURS, numbered};
use super::provider::Provider;
use super::rule::Rules;

const PROXY: u16 = 3128;
const SOCKS: u16 = 1080;
const DNS: u16 = 53;
/// No more rules have sockets of their own; the others are reached through the proxy.
const MOST_FIXED: u32 = 100;

/// Whom programs inside trust where TLS ends at the gateway.
const AUTHORITIES: &str = "/etc/cofferdam/authorities.pem";
/// The same for Java, and the variable that every Java reads, whoever starts it.
const JAVA_STORE: &str = "/etc/cofferdam/authorities.p12";
const JAVA_OPTIONS: &str = "JAVA_TOOL_OPTIONS";
/// The variables by which programs find it.
const TRUST: [&str; 11] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "npm_config_cafile",
    "CARGO_HTTP_CAINFO",
    "AWS_CA_BUNDLE",
    "DENO_CERT",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
];

/// What one socket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    Proxy,
    Socks,
    DnsUdp,
    DnsTcp,
    /// Connections of programs that use no proxy, on this port of any address of ours.
    Capture(u16),
    /// The API of a model.
    Model(Provider),
    /// The same as a capture, for one host and port that a rule names.
    Fixed(Authority),
}

/// What was put into a policy, and what the gateway needs to know of it.
#[derive(Clone, Debug)]
pub struct Inside {
    /// In the order of the policy's listeners.
    pub services: Vec<Service>,
    pub names: Names,
}

/// Adds to a sandbox's policy what the gateway's programs inside need. What the policy sets already stays.
pub fn furnish(policy: &mut Policy, rules: &Rules, endpoints: &[Endpoint], opened: &Opened) -> Inside {
    let mut inside = Inside { services: Vec::new(), names: Names::default() };
    let mut listen = |service: Service, protocol, ip: Ipv4Addr, port| {
        inside.services.push(service);
        policy.listeners.push(Listener { protocol, address: SocketAddr::new(ip.into(), port) });
    };
    listen(Service::Proxy, Protocol::Tcp, OURS, PROXY);
    listen(Service::Socks, Protocol::Tcp, OURS, SOCKS);
    listen(Service::DnsUdp, Protocol::Udp, OURS, DNS);
    listen(Service::DnsTcp, Protocol::Tcp, OURS, DNS);
    for endpoint in endpoints {
        listen(Service::Model(endpoint.provider), Protocol::Tcp, OURS, Endpoint::port(endpoint.provider));
    }
    for port in USUAL_PORTS {
        listen(Service::Capture(port), Protocol::Tcp, Ipv4Addr::UNSPECIFIED, port);
    }
    let mut addresses = BTreeSet::from([names::NETWORK]);
    let mut given = FIXED;
    let mut taken = BTreeSet::new();
    for (_, rule) in rules.iter().filter(|(_, rule)| !rule.deny) {
        // A name gets its address when it is asked for; with a port of its own it needs a socket there, made now.
        let (host, ip) = match &rule.to {
            To::Name(name) => {
                let known = inside.names.known(name);
                (Host::Name(name.clone()), known.unwrap_or_else(|| numbered(given)))
            }
            To::Address(IpAddr::V4(ip)) if !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast() => {
                (Host::Address((*ip).into()), *ip)
            }
            _ => continue,
        };
        if given >= FIXED + MOST_FIXED {
            break;
        }
        match &host {
            Host::Name(name) => {
                if rule.port.is_none_or(|port| USUAL_PORTS.contains(&port)) {
                    continue;
                }
                given += u32::from(inside.names.known(name).is_none());
                inside.names.fix(name, ip);
            }
            // The address itself is local inside, so that a program that connects to it meets us.
            Host::Address(_) => drop(addresses.insert((ip, 32))),
        }
        if let Some(port) = rule.port.filter(|port| !USUAL_PORTS.contains(port))
            && taken.insert((ip, port))
        {
            inside.services.push(Service::Fixed(Authority { host, port }));
            policy.listeners.push(Listener { protocol: Protocol::Tcp, address: SocketAddr::new(ip.into(), port) });
        }
    }
    policy.addresses.extend(addresses);
    let resolver =
        format!("# The gateway of this sandbox answers; nothing is asked outside.\nnameserver {OURS}\noptions timeout:5 attempts:2\n");
    policy.files.push(OwnFile { inside: "/etc/resolv.conf".into(), content: resolver.into() });
    for (path, content) in endpoints.iter().filter(|endpoint| endpoint.login.is_none()).flat_map(Endpoint::files) {
        let inside = std::path::Path::new(HOME).join(path);
        if !policy.files.iter().any(|file| file.inside == inside) {
            policy.files.push(OwnFile { inside, content: content.into() });
        }
    }
    // By these a program believes itself logged in: whatever else would lie or stand there says otherwise.
    for login in endpoints.iter().filter_map(|endpoint| endpoint.login.as_ref()) {
        for (path, content) in login.files() {
            let inside = std::path::Path::new(HOME).join(path);
            policy.files.retain(|file| file.inside != inside);
            policy.files.push(OwnFile { inside, content: content.into() });
        }
        for (name, value) in login.environment() {
            policy.environment.retain(|(known, _)| known != name.as_str());
            policy.environment.push((name.into(), value.into()));
        }
    }
    for endpoint in endpoints {
        // Whatever is there is no key of this provider: the placeholder is the one that is looked for on its way elsewhere.
        policy.environment.retain(|(known, _)| known != endpoint.provider.key_variable());
    }
    if let Some(issuer) = &opened.issuer {
        policy.files.push(OwnFile { inside: AUTHORITIES.into(), content: issuer.bundle().into() });
        // In the place of what was taken over from the host: what the host trusts is in the bundle too.
        policy.environment.retain(|(known, _)| !TRUST.iter().any(|name| known == name));
        policy.environment.extend(TRUST.map(|name| (OsString::from(name), AUTHORITIES.into())));
        if has_java(policy) {
            trust_for_java(policy, issuer.java_store());
        }
    }
    for (variable, grant) in opened.grants.iter().filter_map(|grant| Some((grant.variable.as_ref()?, grant))) {
        policy.environment.retain(|(known, _)| known != variable.as_str());
        policy.environment.push((variable.into(), grant.placeholder.clone().into()));
    }
    let ours = environment().into_iter().map(|(name, value)| (name.to_owned(), value));
    for (name, value) in ours.chain(endpoints.iter().flat_map(Endpoint::environment)) {
        if !policy.environment.iter().any(|(known, _)| known == name.as_str()) {
            policy.environment.push((OsString::from(name), value.into()));
        }
    }
    inside
}

/// Is a Java among the toolchains? Its store costs some milliseconds, and its variable a line on the standard error of every Java.
fn has_java(policy: &Policy) -> bool {
    let of_java =
        |part: &str| part.starts_with("java") || ["jdk", "jvm", "openjdk", ".jenv", ".sdkman"].iter().any(|word| part.contains(word));
    let granted = policy.grants.iter().flat_map(|grant| grant.inside.components());
    granted.filter_map(|part| part.as_os_str().to_str()).any(of_java) || policy.environment.iter().any(|(name, _)| name == "JAVA_HOME")
}

/// Java reads no file of texts, and learns of a store by an option only. What a person's own options say comes later, and wins.
fn trust_for_java(policy: &mut Policy, store: Vec<u8>) {
    policy.files.push(OwnFile { inside: JAVA_STORE.into(), content: store });
    let mut options = OsString::from(format!("-Djavax.net.ssl.trustStore={JAVA_STORE} -Djavax.net.ssl.trustStoreType=PKCS12"));
    if let Some(at) = policy.environment.iter().position(|(name, _)| name == JAVA_OPTIONS) {
        let (_, own) = policy.environment.remove(at);
        options.push(" ");
        options.push(own);
    }
    policy.environment.push((JAVA_OPTIONS.into(), options));
}

/// The variables by which programs find a proxy.
fn environment() -> Vec<(&'static str, String)> {
    let proxy = format!("http://{OURS}:{PROXY}");
    // The private loopback, and our own endpoints, need none.
    let direct = format!("localhost,127.0.0.1,::1,{OURS}");
    let mut all = Vec::new();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        all.push((name, proxy.clone()));
    }
    all.extend([("NO_PROXY", direct.clone()), ("no_proxy", direct)]);
    // Node's own fetch reads these variables only when it is told to.
    all.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    all
}

//! Rules that change, budgets, and what passes.

use std::io::{Read, Write};
use std::time::Duration;

use cofferdam::egress::Rules;

use super::support::{NameServer, Rig, Site, talk};

#[test]
fn a_rule_that_goes_closes_what_it_allowed() {
    let echo = Site::echo();
    let names = NameServer::start(&[]);
    let target = format!("127.0.0.1:{}", echo.port());
    let rig = Rig::new(&[&format!("{target} opaque")], &names, &target);
    let mut tunnel = rig.tunnel(&target);
    tunnel.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut back = [0; 5];
    tunnel.write_all(b"hello").and_then(|()| tunnel.read_exact(&mut back)).expect("an echo");
    // A change that still allows it closes nothing.
    rig.gateway.replace(Rules::parse(&[format!("{target} opaque"), "other.test".to_owned()]).expect("rules"));
    tunnel.write_all(b"hello").and_then(|()| tunnel.read_exact(&mut back)).expect("an echo");
    rig.gateway.replace(Rules::parse(&["other.test"]).expect("rules"));
    assert_eq!(tunnel.read(&mut back).unwrap_or(0), 0, "the tunnel is closed");
    assert!(rig.raw(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes()).starts_with("HTTP/1.1 403"));
}

#[test]
fn bytes_are_counted_and_their_bound_holds() {
    let site = Site::http();
    let names = NameServer::start(&[]);
    let target = format!("127.0.0.1:{}", site.port());
    let rig = Rig::new(&[&format!("{target} up=2KiB")], &names, &target);
    let post = |bytes: usize| {
        let body = "x".repeat(bytes);
        rig.raw(
            format!("POST http://{target}/ HTTP/1.1\r\nHost: {target}\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n{body}")
                .as_bytes(),
        )
    };
    assert!(post(1000).starts_with("HTTP/1.1 200"));
    let over = post(1500);
    assert!(over.contains("403") && over.contains("used up"), "{over}");
    assert!(post(1).contains("used up"));
    // What was used stays used when the rules change and the rule stays.
    rig.gateway.replace(Rules::parse(&["other.test".to_owned(), format!("{target} up=2KiB")]).expect("rules"));
    assert!(post(1).contains("used up"));
    let passed: Vec<_> = rig.gateway.tally().passed().map(|(t, n, up, _)| (t.to_owned(), n, up > 1000)).collect();
    assert_eq!(passed, [(target, 1, true)]);
}

#[test]
fn bodies_of_every_kind_pass_unchanged() {
    let site = Site::http();
    let names = NameServer::start(&[]);
    let target = format!("127.0.0.1:{}", site.port());
    let rig = Rig::new(&[&target], &names, &target);
    let large = "y".repeat(3 << 20);
    let answer = rig.raw(
        format!("POST http://{target}/ HTTP/1.1\r\nHost: {target}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{large}", large.len())
            .as_bytes(),
    );
    assert!(answer.ends_with(&large), "{} bytes", answer.len());
    let chunked = Site::answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nWiki\r\n5;x=y\r\npedia\r\n0\r\n\r\n");
    let at = format!("127.0.0.1:{}", chunked.port());
    rig.gateway.replace(Rules::parse(&[&at]).expect("rules"));
    assert!(
        rig.raw(format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n").as_bytes()).ends_with("pedia\r\n0\r\n\r\n")
    );
    // A client of the old version gets the content alone.
    let old = rig.raw(format!("GET http://{at}/ HTTP/1.0\r\nHost: {at}\r\n\r\n").as_bytes());
    assert!(old.ends_with("\r\n\r\nWikipedia"), "{old}");
    let until_close = Site::answering(b"HTTP/1.0 200 OK\r\n\r\nto the end");
    let at = format!("127.0.0.1:{}", until_close.port());
    rig.gateway.replace(Rules::parse(&[&at]).expect("rules"));
    assert!(rig.raw(format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes()).ends_with("to the end"));
}

#[test]
fn requests_are_judged_by_method_and_path() {
    let site = Site::http();
    let names = NameServer::start(&[]);
    let target = format!("127.0.0.1:{}", site.port());
    let rig = Rig::new(&[&format!("GET {target}/api")], &names, &target);
    let ask = |method: &str, path: &str| {
        rig.raw(format!("{method} http://{target}{path} HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n").as_bytes())
    };
    assert!(ask("GET", "/api/x").starts_with("HTTP/1.1 200"));
    for (method, path) in [("POST", "/api"), ("GET", "/apix"), ("GET", "/api/../x"), ("GET", "/api/%2e%2e/x"), ("DELETE", "/api")] {
        assert!(ask(method, path).starts_with("HTTP/1.1 403"), "{method} {path}");
    }
    // In a tunnel they are judged too.
    let mut tunnel = rig.tunnel(&target);
    write!(tunnel, "POST /api HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n").expect("written");
    let mut answer = String::new();
    tunnel.read_to_string(&mut answer).ok();
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let push = rig.raw(format!("GET http://{target}/api/info/refs?service=git-receive-pack HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes());
    assert_eq!((push.starts_with("HTTP/1.1 200"), site.seen().len()), (true, 2), "a rule with method and path may grant it");
}

#[test]
fn a_gateway_that_stops_leaves_no_door() {
    let site = Site::echo();
    let names = NameServer::start(&[]);
    let target = format!("127.0.0.1:{}", site.port());
    let rig = Rig::new(&[&format!("{target} opaque")], &names, &target);
    let mut tunnel = rig.tunnel(&target);
    let proxy = rig.proxy;
    drop(rig.gateway.stop());
    assert_eq!(tunnel.read(&mut [0; 1]).unwrap_or(0), 0);
    super::common::soon("the end of the listener", || std::net::TcpStream::connect(proxy).is_err());
    assert!(talk_or_nothing(proxy).is_empty());
}

fn talk_or_nothing(address: std::net::SocketAddr) -> String {
    std::net::TcpStream::connect(address).map(|_| talk(address, b"GET http://a/ HTTP/1.1\r\n\r\n")).unwrap_or_default()
}

//! The attacks of THREATS section D, byte for byte: refused with 400 or 403, noted with the reason, and never dialled.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};

use super::support::{NameServer, Rig, Site, eventually, hello, talk};

/// A gateway that allows `good.test` at the canary's port, and nothing at the victim's.
struct Scene {
    good: Site,
    victim: Site,
    names: NameServer,
    rig: Rig,
}

impl Scene {
    fn new() -> Self {
        let (good, victim) = (Site::http(), Site::canary());
        let names = NameServer::start(&[
            ("good.test", &[&["127.0.0.1"]]),
            ("evil.test", &[&["127.0.0.1"]]),
            ("evilgood.test", &[&["127.0.0.1"]]),
            ("good.test.evil.test", &[&["127.0.0.1"]]),
            ("sub.wild.test", &[&["127.0.0.1"]]),
            ("wild.test", &[&["127.0.0.1"]]),
            ("evilwild.test", &[&["127.0.0.1"]]),
        ]);
        let port = good.port();
        let grant = format!("127.0.0.1/32:{port}");
        let rules = [format!("good.test:{port}"), format!("*.wild.test:{port}"), grant, format!("inner.test:{}", victim.port())];
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let rig = Rig::new(&rules, &names, &format!("good.test:{port}"));
        Self { good, victim, names, rig }
    }

    fn why(&self) -> Vec<String> {
        self.rig.gateway.tally().lines().map(|line| format!("{}: {}", line.target, line.why)).collect()
    }
}

/// The answer's status.
fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[test]
fn control_what_is_allowed_is_dialled_and_answered() {
    let scene = Scene::new();
    let port = scene.good.port();
    let answer = scene
        .rig
        .raw(format!("GET http://good.test:{port}/x?y HTTP/1.1\r\nHost: good.test:{port}\r\nConnection: close\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("you sent: GET /x?y HTTP/1.1\r\nHost: good.test"), "{answer}");
    assert_eq!(scene.good.dialled(), 1);
    // Case, a dot at the end: the same host.
    let answer =
        scene.rig.raw(format!("GET http://GOOD.test.:{port}/ HTTP/1.1\r\nHost: Good.Test.:{port}\r\nConnection: close\r\n\r\n").as_bytes());
    assert_eq!(status(&answer), "200", "{answer}");
    let answer = scene
        .rig
        .raw(format!("GET http://sub.wild.test:{port}/ HTTP/1.1\r\nHost: sub.wild.test:{port}\r\nConnection: close\r\n\r\n").as_bytes());
    assert_eq!(status(&answer), "200", "{answer}");
    // In a tunnel, by SOCKS, and where a program connects by itself.
    let request = format!("GET /in HTTP/1.1\r\nHost: good.test:{port}\r\nConnection: close\r\n\r\n");
    let mut tunnel = scene.rig.tunnel(&format!("good.test:{port}"));
    tunnel.write_all(request.as_bytes()).expect("written");
    let mut answer = String::new();
    tunnel.read_to_string(&mut answer).expect("an answer");
    assert_eq!(status(&answer), "200", "{answer}");
    assert_eq!(status(&talk(scene.rig.fixed, request.as_bytes())), "200");
    let socks = [&[5, 1, 0, 5, 1, 0, 3, 9][..], b"good.test", &port.to_be_bytes(), request.as_bytes()].concat();
    assert!(talk(scene.rig.socks, &socks).contains("200 OK"));
    assert_eq!(scene.victim.dialled(), 0);
}

#[test]
fn what_is_not_listed_is_never_dialled() {
    let scene = Scene::new();
    let (port, victim) = (scene.good.port(), scene.victim.port());
    for target in [
        format!("evil.test:{port}"),
        format!("evilgood.test:{port}"),
        format!("good.test.evil.test:{port}"),
        format!("wild.test:{port}"),
        format!("evilwild.test:{port}"),
        format!("good.test:{victim}"),
        format!("127.0.0.1:{victim}"),
        format!("[::ffff:127.0.0.1]:{victim}"),
        format!("[::1]:{victim}"),
        "169.254.169.254:80".to_owned(),
    ] {
        let answer = scene.rig.raw(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes());
        assert_eq!(status(&answer), "403", "{target}: {answer}");
        assert!(answer.contains("A human can allow it") && answer.contains("Allowed from this sandbox: good.test"), "{answer}");
        let answer = scene.rig.raw(format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes());
        assert_eq!(status(&answer), "403", "{target}: {answer}");
    }
    let socks = [&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1][..], &victim.to_be_bytes()].concat();
    assert_eq!(talk(scene.rig.socks, &socks).as_bytes().get(3), Some(&2), "not allowed");
    assert_eq!((scene.good.dialled(), scene.victim.dialled()), (0, 0));
    // A name that is not listed is not even looked up.
    assert_eq!(scene.names.asked(), Vec::<String>::new());
    assert!(scene.why().iter().any(|line| line.contains("of this host only port")), "{:?}", scene.why());
}

#[test]
fn a_listed_name_that_leads_inside_is_never_dialled() {
    for inner in [
        "127.0.0.1",
        "127.9.9.9",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "224.0.0.1",
        "198.18.0.1",
    ] {
        check_inner(inner);
    }
    for inner in ["::1", "::ffff:127.0.0.1", "fd00::1", "fe80::1", "64:ff9b::7f00:1", "2002:7f00:1::1", "::127.0.0.1", "ff02::1"] {
        check_inner(inner);
    }
}

fn check_inner(inner: &str) {
    let victim = Site::canary();
    let names = NameServer::start(&[("inner.test", &[&[inner]])]);
    let target = format!("inner.test:{}", victim.port());
    let rig = Rig::new(&[&target], &names, &target);
    let answer = rig.raw(format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes());
    assert_eq!(status(&answer), "403", "{inner}: {answer}");
    assert!(answer.contains("it leads to"), "{inner}: {answer}");
    let mut tunnel = rig.tunnel(&target);
    tunnel.write_all(&hello("inner.test")).expect("written");
    let mut rest = Vec::new();
    tunnel.read_to_end(&mut rest).ok();
    assert_eq!((victim.dialled(), names.asked().is_empty()), (0, false), "{inner}");
}

#[test]
fn a_second_answer_that_differs_leads_nowhere() {
    let (good, victim) = (Site::http(), Site::canary());
    // First an address that is granted, then, when it is asked again, one that is not.
    let names = NameServer::start(&[("flip.test", &[&["127.0.0.1"], &["127.0.0.2"]])]);
    let target = format!("flip.test:{}", good.port());
    let rig = Rig::new(&[&target, &format!("127.0.0.1/32:{}", good.port())], &names, &target);
    let request = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&rig.raw(request.as_bytes())), "200");
    let answer = rig.raw(request.as_bytes());
    assert!(status(&answer) == "403" && answer.contains("127.0.0.2"), "{answer}");
    // Of an answer with both, only the granted one is dialled.
    let both = NameServer::start(&[("both.test", &[&["127.0.0.2", "127.0.0.1"]])]);
    let target = format!("both.test:{}", good.port());
    let rig = Rig::new(&[&target, &format!("127.0.0.1/32:{}", good.port())], &both, &target);
    assert_eq!(status(&rig.raw(format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n").as_bytes())), "200");
    assert_eq!(victim.dialled(), 0);
}

#[test]
fn a_request_that_says_two_things_is_refused() {
    let scene = Scene::new();
    let at = format!("good.test:{}", scene.good.port());
    for bad in [
        format!("GET http://{at}/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
        format!("GET http://evil.test/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nHost: {at}\r\n\r\n"),
        format!("GET http://{at}/ HTTP/1.1\r\n\r\n"),
        format!("GET http://{at}@evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n"),
        format!("GET http://user:pw@{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET http://evil.test/.{at} HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET http://good.test%00.evil.test/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET http://good.test\0.evil.test/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        "GET http://2130706433/ HTTP/1.1\r\nHost: 2130706433\r\n\r\n".to_owned(),
        "GET http://0x7f.1/ HTTP/1.1\r\nHost: 0x7f.1\r\n\r\n".to_owned(),
        format!("CONNECT {at} HTTP/1.1\r\nHost: evil.test:1\r\n\r\n"),
        "CONNECT evil.test/.good.test:443 HTTP/1.1\r\n\r\n".to_owned(),
        format!("CONNECT user@{at} HTTP/1.1\r\n\r\n"),
        format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"),
        format!("POST http://{at}/ HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        format!("GET http://{at}/ HTTP/1.1\nHost: {at}\n\n\r\n\r\n"),
        format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\nX: y\r\n\r\n"),
        format!("GET http://{at}/ HTTP/1.1\r\nHost : {at}\r\n\r\n"),
        format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n folded\r\n\r\n"),
        format!("GET http://{at}/\r\nX: HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET /x HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        format!("GET https://{at}/ HTTP/1.1\r\nHost: {at}\r\n\r\n"),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
        format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)),
        format!("GET http://{at}/ HTTP/1.1\r\nHost: {at}\r\n{}\r\n", "A: b\r\n".repeat(1000)),
    ] {
        let answer = scene.rig.raw(bad.as_bytes());
        let start: String = bad.chars().take(120).collect();
        assert_eq!(status(&answer), "400", "{start:?}: {answer}");
    }
    assert_eq!((scene.good.dialled(), scene.victim.dialled()), (0, 0));
    assert!(scene.why().iter().any(|line| line.contains("both a length and a transfer coding")), "{:?}", scene.why());
}

#[test]
fn what_hides_behind_an_allowed_request_stays_there() {
    let scene = Scene::new();
    let at = format!("good.test:{}", scene.good.port());
    // A second request in the same bytes is judged like the first, not passed along with it.
    let answer = scene.rig.raw(
        format!(
            "POST http://{at}/one HTTP/1.1\r\nHost: {at}\r\nContent-Length: 3\r\n\r\nabcGET http://evil.test:1/two HTTP/1.1\r\nHost: evil.test:1\r\n\r\n"
        )
        .as_bytes(),
    );
    assert!(answer.contains("POST /one HTTP/1.1") && answer.contains("403 cofferdam: evil.test:1 is refused"), "{answer}");
    // A body that is longer than its chunks say is not a request for the server.
    let answer = scene.rig.raw(
        format!(
            "POST http://{at}/chunks HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcGET /smuggled HTTP/1.1\r\n\r\n"
        )
        .as_bytes(),
    );
    assert!(!answer.contains("smuggled"), "{answer}");
    // Headers of the connection to us, and a change of protocol, do not reach the server.
    let answer = scene.rig.raw(
        format!("GET http://{at}/hop HTTP/1.1\r\nHost: {at}\r\nProxy-Authorization: x\r\nUpgrade: h2c\r\nHTTP2-Settings: y\r\nConnection: close, upgrade, x-hop\r\nX-Hop: z\r\nX-Kept: yes\r\n\r\n")
            .as_bytes(),
    );
    let seen = scene.good.seen().pop().expect("a request").to_ascii_lowercase();
    assert!(answer.contains("200 OK") && seen.contains("x-kept: yes"), "{answer}");
    for hop in ["proxy-authorization", "upgrade", "http2-settings", "x-hop"] {
        assert!(!seen.contains(hop), "{hop}: {seen}");
    }
    assert!(!scene.good.seen().iter().any(|request| request.contains("smuggled") || request.contains("/two")));
    // A tunnel in a tunnel is a request to the first one's host, and that is no proxy.
    let mut tunnel = scene.rig.tunnel(&at);
    write!(tunnel, "CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n").expect("written");
    let mut answer = String::new();
    tunnel.read_to_string(&mut answer).ok();
    assert_eq!((status(&answer), scene.victim.dialled()), ("400", 0), "{answer}");
}

#[test]
fn a_hello_for_another_host_is_never_dialled() {
    let canary = Site::canary();
    let names = NameServer::start(&[("good.test", &[&["127.0.0.1"]])]);
    let port = canary.port();
    let (target, literal) = (format!("good.test:{port}"), format!("127.0.0.1:{port}"));
    let rig = Rig::new(&[&target, &literal], &names, &target);
    let after = |target: &str, first: &[u8]| {
        let mut tunnel = rig.tunnel(target);
        tunnel.write_all(first).expect("written");
        tunnel.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        let mut rest = Vec::new();
        tunnel.read_to_end(&mut rest).ok();
        rest
    };
    // The alert "access denied" is what a TLS client understands.
    assert_eq!(after(&target, &hello("evil.test")), [21, 3, 3, 0, 2, 2, 49]);
    // An address as the server's name is no name: this hello has none.
    assert_eq!(after(&target, &hello("192.0.2.1")), [21, 3, 3, 0, 2, 2, 49]);
    after(&target, b"SSH-2.0-x\r\n");
    after(&target, &[22, 3, 1, 0, 4, 1, 0, 0, 0]);
    after(&literal, &hello("evil.test"));
    let mut hidden = hello("good.test");
    hide(&mut hidden);
    after(&target, &hidden);
    let by_itself = talk(rig.fixed, &hello("evil.test"));
    assert!(!by_itself.is_empty());
    let answer = talk(rig.fixed, format!("GET / HTTP/1.1\r\nHost: evil.test:{port}\r\n\r\n").as_bytes());
    assert_eq!((status(&answer), canary.dialled()), ("400", 0), "{answer}");
    let why: Vec<String> = rig.gateway.tally().lines().map(|l| l.why.clone()).collect();
    for reason in ["the TLS hello is for evil.test", "the TLS hello names no host", "the TLS hello hides the name", "neither TLS nor HTTP"]
    {
        assert!(why.iter().any(|w| w.contains(reason)), "{reason}: {why:?}");
    }
    // Control: the right name is dialled, and the hello arrives whole.
    after(&target, &hello("good.test"));
    after(&literal, &hello("127.0.0.1"));
    assert_eq!(canary.dialled(), 2);
}

/// Turns an extension that servers may ignore into an encrypted name.
fn hide(hello: &mut [u8]) {
    // session_ticket (35) or extended_master_secret (23): both are in every hello of this client, the second with no content.
    let at = hello.windows(4).rposition(|w| w == [0, 23, 0, 0]).expect("the extension");
    hello[at..at + 2].copy_from_slice(&[0xfe, 0x0d]);
}

#[test]
fn an_opaque_rule_lets_any_bytes_through_and_only_then() {
    let echo = Site::echo();
    let names = NameServer::start(&[("echo.test", &[&["127.0.0.1"]])]);
    let (target, grant) = (format!("echo.test:{}", echo.port()), format!("127.0.0.1/32:{}", echo.port()));
    let opaque = format!("{target} opaque");
    for (rule, passes) in [(&opaque, true), (&target, false)] {
        let rig = Rig::new(&[rule, &grant], &names, &target);
        let mut tunnel = rig.tunnel(&target);
        tunnel.write_all(b"\x00\x01 any bytes").expect("written");
        tunnel.shutdown(std::net::Shutdown::Write).expect("shut");
        let mut back = Vec::new();
        tunnel.read_to_end(&mut back).ok();
        assert_eq!(back == b"\x00\x01 any bytes", passes, "{rule}: {back:?}");
    }
    assert_eq!(echo.dialled(), 1);
}

#[test]
fn a_server_that_answers_nonsense_is_a_502() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"[..],
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"",
    ] {
        let site = Site::answering(answer);
        let names = NameServer::start(&[]);
        let target = format!("127.0.0.1:{}", site.port());
        let rig = Rig::new(&[&target], &names, &target);
        let got = rig.raw(format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes());
        assert_eq!(status(&got), "502", "{:?}: {got}", String::from_utf8_lossy(answer));
    }
}

/// As many as a sandbox likes: what is over the cap waits in its own queue, and whoever stands beside it feels nothing.
#[test]
fn ten_thousand_connections_of_one_sandbox_leave_the_others_alone() {
    const MANY: usize = 10_000;
    let good = Site::http();
    let names = NameServer::start(&[]);
    let target = format!("127.0.0.1:{}", good.port());
    // Both are served by the threads of this one process, as in a run.
    let (flooded, other) = (Rig::new(&[&target], &names, &target), Rig::new(&[&target], &names, &target));
    let request = format!("GET http://{target}/ HTTP/1.1\r\nHost: {target}\r\nConnection: close\r\n\r\n");
    let measured = || {
        let mut times: Vec<Duration> = (0..50)
            .map(|_| {
                let begun = Instant::now();
                assert_eq!(status(&other.raw(request.as_bytes())), "200");
                begun.elapsed()
            })
            .collect();
        times.sort();
        (times[25], times[49])
    };
    let (before, _) = measured();
    let begun = Instant::now();
    let mut held = Vec::new();
    for n in 0..MANY {
        // Without waiting: those that find no room stay half open, as long as we like.
        let stream = connecting(flooded.proxy);
        if n % 2 == 0 {
            (&stream).write_all(b"GET http").ok();
        }
        held.push(stream);
    }
    let took = begun.elapsed();
    let (during, worst) = measured();
    let line = format!(
        "{MANY} connections in {took:?}: the other sandbox's request took {before:?} before, {during:?} and at worst {worst:?} beside them\n"
    );
    std::io::stderr().write_all(line.as_bytes()).ok();
    assert_eq!(held.len(), MANY);
    assert!(during < before * 5 + Duration::from_millis(100) && worst < Duration::from_secs(5), "{line}");
    // And the flooded one serves again when the flood is over.
    drop(held);
    eventually("an answer", || status(&flooded.raw(request.as_bytes())) == "200");
}

/// A connection that is begun, whether it comes to be or not.
fn connecting(to: SocketAddr) -> TcpStream {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).expect("a socket: is the limit of open files high enough?");
    let SocketAddr::V4(to) = to else { panic!("the rig listens on an address of four numbers") };
    match connect(socket.as_raw_fd(), &SockaddrIn::from(to)) {
        Ok(()) | Err(Errno::EINPROGRESS) => TcpStream::from(socket),
        Err(error) => panic!("{error}"),
    }
}

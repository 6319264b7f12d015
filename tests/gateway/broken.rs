//! Servers that end badly or never, and clients that say something before they are asked.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

use super::support::{NameServer, Rig, Site, eventually, hello, talk};

fn request(target: &str, path: &str) -> String {
    format!("GET http://{target}{path} HTTP/1.1\r\nHost: {target}\r\n\r\n")
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

/// Ends a connection with a reset in the place of an end.
fn reset(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &linger).expect("set");
    drop(stream);
}

#[test]
fn a_server_that_resets_is_a_502_or_an_end_and_never_a_whole_answer() {
    let names = NameServer::start(&[]);
    for (begun, code) in [
        (&b""[..], "502"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "502"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "200"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", "200"),
    ] {
        let site = Site::raw(move |mut stream| {
            let mut bytes = [0; 4096];
            assert!(stream.read(&mut bytes).unwrap_or(0) > 0);
            stream.write_all(begun).expect("written");
            std::thread::sleep(Duration::from_millis(100));
            reset(stream);
        });
        let target = format!("127.0.0.1:{}", site.port());
        let rig = Rig::new(&[&target], &names, &target);
        let answer = rig.raw(request(&target, "/").as_bytes());
        let said = String::from_utf8_lossy(begun);
        assert_eq!(status(&answer), code, "{said:?}: {answer}");
        // What was cut off is never given an end: no last chunk, no whole length, and no second answer behind it.
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        assert!(code == "502" || (body.len() < 10 && !body.contains("0\r\n")), "{said:?}: {answer}");
        // A client that waits for the other end in a tunnel is not left waiting either.
        let mut tunnel = rig.tunnel(&target);
        tunnel.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        write!(tunnel, "GET / HTTP/1.1\r\nHost: {target}\r\n\r\n").expect("written");
        let mut rest = Vec::new();
        let ended = tunnel.read_to_end(&mut rest);
        assert!(!matches!(&ended, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock), "{said:?}: {ended:?}");
    }
}

/// A server that writes for ever, and says how much it got rid of.
fn endless() -> (Site, Arc<AtomicU64>, Arc<AtomicBool>) {
    let (written, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, flag) = (written.clone(), ended.clone());
    let site = Site::raw(move |mut stream| {
        let mut bytes = [0; 4096];
        assert!(stream.read(&mut bytes).unwrap_or(0) > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").expect("written");
        let chunk = [&b"10000\r\n"[..], &[b'x'; 65536], b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {
            count.fetch_add(65536, Ordering::SeqCst);
        }
        flag.store(true, Ordering::SeqCst);
    });
    (site, written, ended)
}

#[test]
fn an_answer_that_never_ends_takes_no_memory_and_ends_with_its_client_or_its_bytes() {
    let names = NameServer::start(&[]);
    let (site, written, ended) = endless();
    let target = format!("127.0.0.1:{}", site.port());
    let rig = Rig::new(&[&target], &names, &target);
    let mut client = TcpStream::connect(rig.proxy).expect("the proxy");
    client.write_all(request(&target, "/").as_bytes()).expect("written");
    let mut some = vec![0; 1 << 20];
    client.read_exact(&mut some).expect("it comes as it is written");
    // The client stops to read: so does the gateway, and nothing piles up in it. What is in between are the sockets' own buffers.
    let mut last = u64::MAX;
    eventually("a server that is not read any more", || {
        std::thread::sleep(Duration::from_millis(300));
        let now = written.load(Ordering::SeqCst);
        std::mem::replace(&mut last, now) == now
    });
    assert!(last < 64 << 20, "{last} bytes were taken from the server");
    assert!(!ended.load(Ordering::SeqCst), "control: it would go on");
    drop(client);
    eventually("the end of the server's connection", || ended.load(Ordering::SeqCst));
    // A bound of bytes ends it too, while its client reads on.
    let (site, written, ended) = endless();
    let target = format!("127.0.0.1:{}", site.port());
    let rig = Rig::new(&[&format!("{target} down=3MiB")], &names, &target);
    let answer = talk(rig.proxy, request(&target, "/").as_bytes());
    assert!((2 << 20..4 << 20).contains(&answer.len()), "{}", answer.len());
    eventually("the end of the server's connection", || ended.load(Ordering::SeqCst));
    assert!(written.load(Ordering::SeqCst) < 64 << 20);
}

#[test]
fn what_a_client_says_too_early_is_judged_like_the_rest() {
    let canary = Site::canary();
    let site = Site::http();
    let names = NameServer::start(&[("good.test", &[&["127.0.0.1"]])]);
    let target = format!("good.test:{}", canary.port());
    let plain = format!("good.test:{}", site.port());
    let grants = [canary.port(), site.port()].map(|port| format!("127.0.0.1/32:{port}"));
    let rig = Rig::new(&[&target, &plain, &grants[0], &grants[1]], &names, &target);
    let early = |target: &str, first: &[u8]| {
        talk(rig.proxy, &[format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes(), first].concat())
    };
    // The first bytes of a tunnel, sent before anybody allowed it: not where it is refused, and not when they are for somebody else.
    assert_eq!(status(&early("evil.test:443", &hello("evil.test"))), "403");
    early(&target, &hello("evil.test"));
    assert_eq!(canary.dialled(), 0);
    early(&target, &hello("good.test"));
    assert_eq!(canary.dialled(), 1, "control: the right ones arrive");
    let answer = early(&plain, format!("GET /early HTTP/1.1\r\nHost: {plain}\r\nConnection: close\r\n\r\n").as_bytes());
    assert!(answer.contains("you sent: GET /early"), "{answer}");
    assert_eq!(site.seen().len(), 1);
}

/// TLS that ends here takes no data before its handshake is over: it could be sent a second time by whoever recorded it.
#[test]
fn no_early_data_is_taken_where_tls_ends() {
    let issuer = Arc::new(cofferdam::egress::Issuer::new().expect("an issuer"));
    let site = Site::https("api.test");
    let names = NameServer::start(&[("api.test", &[&["127.0.0.1"]])]);
    let target = format!("api.test:{}", site.port());
    let rules = [format!("GET {target}/v1/"), format!("127.0.0.1/32:{}", site.port())];
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let rig = Rig::opened(&rules, &names, &target, issuer.clone());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(issuer.bundle().as_bytes()).expect("a certificate")).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.enable_early_data = true;
    config.resumption = Resumption::in_memory_sessions(16);
    let config = Arc::new(config);
    let mut resumed = 0;
    for _ in 0..3 {
        let name = ServerName::try_from("api.test").expect("a name");
        let mut client = rustls::ClientConnection::new(config.clone(), name).expect("a client");
        assert!(client.early_data().is_none(), "it was offered to send data early");
        let mut stream = rig.tunnel(&target);
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let mut tls = rustls::Stream::new(&mut client, &mut stream);
        write!(tls, "GET /secret HTTP/1.1\r\nHost: {target}\r\nEarly-Data: 1\r\nConnection: close\r\n\r\n").expect("written");
        let mut answer = Vec::new();
        tls.read_to_end(&mut answer).ok();
        assert_eq!(status(&String::from_utf8_lossy(&answer)), "403");
        assert!(!client.is_early_data_accepted());
        resumed += u32::from(client.handshake_kind() == Some(rustls::HandshakeKind::Resumed));
    }
    assert!(resumed > 0, "control: the session was resumed, so that early data could have been offered");
    assert_eq!(site.seen(), Vec::<String>::new());
}

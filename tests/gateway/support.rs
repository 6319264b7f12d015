//! Servers that the tests start on the host's loopback, and a gateway on sockets of the host, without a sandbox.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cofferdam::base::host::{Authority, Name};
use cofferdam::egress::inside::Service;
use cofferdam::egress::names::Names;
use cofferdam::egress::{Gateway, Inside, Issuer, Opened, Resolver, Rules, Setup, Threads};

/// A server that counts its connections and remembers what they sent first.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
    /// For TLS: the certificate that clients must trust, as PEM.
    pub(crate) certificate: String,
}

impl Site {
    /// Plain HTTP/1.1 that answers every request with what it got.
    pub(crate) fn http() -> Self {
        Self::http_at("127.0.0.1:0")
    }

    pub(crate) fn http_at(address: &str) -> Self {
        Self::start(address, String::new(), |stream, seen| serve(stream, seen))
    }

    /// The same behind TLS, with a certificate for `name`.
    pub(crate) fn https(name: &str) -> Self {
        Self::https_at("127.0.0.1:0", name)
    }

    pub(crate) fn https_at(address: &str, name: &str) -> Self {
        Self::tls_at(address, name, |stream, seen| serve(stream, seen))
    }

    /// A provider behind TLS: it gets each request's head and body, and how many came before, and writes what it likes.
    pub(crate) fn model(name: &str, answer: impl Fn(&str, usize, &mut dyn Write) + Send + Sync + 'static) -> Self {
        let before = AtomicUsize::new(0);
        Self::tls_at("127.0.0.1:0", name, move |mut stream, seen| {
            let mut bytes = Vec::new();
            while let Some(request) = one_request(&mut stream, &mut bytes) {
                seen(&request);
                answer(&String::from_utf8_lossy(&request), before.fetch_add(1, Ordering::SeqCst), &mut stream);
                if stream.flush().is_err() {
                    return;
                }
            }
        })
    }

    /// Serves what a function knows by path; everything else is not there. Behind TLS when it has a name.
    pub(crate) fn pages(address: &str, name: Option<&str>, page: impl Fn(&str) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let serve = move |stream: &mut dyn ReadWrite, seen: &mut dyn FnMut(&[u8])| serve_pages(stream, seen, &page);
        match name {
            None => Self::start(address, String::new(), move |mut stream, seen| serve(&mut stream, seen)),
            Some(name) => Self::tls_at(address, name, move |mut stream, seen| serve(&mut stream, seen)),
        }
    }

    fn tls_at(address: &str, name: &str, serve: impl Fn(Tls, &mut dyn FnMut(&[u8])) + Send + Sync + 'static) -> Self {
        Self::certified(address, &rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name"), serve)
    }

    /// Behind TLS with a certificate that was good until long ago.
    pub(crate) fn expired(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).expect("a name");
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(2001, 1, 1), rcgen::date_time_ymd(2002, 1, 1));
        Self::certified("127.0.0.1:0", &params, |stream, seen| serve(stream, seen))
    }

    fn certified(
        address: &str,
        params: &rcgen::CertificateParams,
        serve: impl Fn(Tls, &mut dyn FnMut(&[u8])) + Send + Sync + 'static,
    ) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).expect("a configuration");
        let config = Arc::new(config);
        Self::start(address, certificate.pem(), move |stream, seen| {
            let connection = rustls::ServerConnection::new(config.clone()).expect("a connection");
            serve(rustls::StreamOwned::new(connection, stream), seen);
        })
    }

    /// A listener that says nothing: only whether somebody came counts.
    pub(crate) fn canary() -> Self {
        Self::start("127.0.0.1:0", String::new(), |mut stream, seen| {
            let mut bytes = [0; 1024];
            let read = stream.read(&mut bytes).unwrap_or(0);
            seen(&bytes[..read]);
        })
    }

    /// Answers with what it is told, whatever it is asked.
    pub(crate) fn answering(answer: &'static [u8]) -> Self {
        Self::start("127.0.0.1:0", String::new(), move |mut stream, seen| {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).unwrap_or(0);
            seen(&bytes[..read]);
            stream.write_all(answer).ok();
        })
    }

    /// Does what a function does with each connection.
    pub(crate) fn raw(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::start("127.0.0.1:0", String::new(), move |stream, _| serve(stream))
    }

    /// Sends back what it gets, byte for byte.
    pub(crate) fn echo() -> Self {
        Self::start("127.0.0.1:0", String::new(), |mut stream, _| {
            let mut bytes = [0; 65536];
            while let Ok(n @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..n]).is_err() {
                    return;
                }
            }
        })
    }

    fn start(address: &str, certificate: String, serve: impl Fn(TcpStream, &mut dyn FnMut(&[u8])) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("a port");
        let address = listener.local_addr().expect("an address");
        let (connections, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, log, serve) = (connections.clone(), seen.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let (log, serve) = (log.clone(), serve.clone());
                std::thread::spawn(move || {
                    stream.set_read_timeout(Some(Duration::from_secs(20))).ok();
                    serve(stream, &mut |bytes| {
                        log.lock().expect("no poison and no overflow").push(String::from_utf8_lossy(bytes).into_owned());
                    });
                });
            }
        });
        Self { address, connections, seen, certificate }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many connections there were.
    pub(crate) fn dialled(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no poison and no overflow").clone()
    }
}

type Tls = rustls::StreamOwned<rustls::ServerConnection, TcpStream>;

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn serve_pages(stream: &mut dyn ReadWrite, seen: &mut dyn FnMut(&[u8]), page: &dyn Fn(&str) -> Option<Vec<u8>>) {
    let mut bytes = Vec::new();
    while let Some(request) = one_request(stream, &mut bytes) {
        seen(&request);
        let text = String::from_utf8_lossy(&request).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default();
        let found = page(path.split('?').next().unwrap_or_default());
        let status = if found.is_some() { "200 OK" } else { "404 Not Found" };
        let kind = if path.starts_with("/simple") { "text/html" } else { "application/octet-stream" };
        let page = found.unwrap_or_default();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", page.len());
        let body = if text.starts_with("HEAD") { &[][..] } else { &page };
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// One request with its body; `bytes` keeps what came after it.
fn one_request(stream: &mut (impl Read + ?Sized), bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut more = |bytes: &mut Vec<u8>| {
        let mut piece = [0; 16384];
        let read = stream.read(&mut piece).unwrap_or(0);
        bytes.extend(&piece[..read]);
        read > 0
    };
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at + 4;
        }
        if !more(bytes) {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    let length = text.lines().find_map(|l| l.strip_prefix("content-length:")).and_then(|v| v.trim().parse::<usize>().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        if !more(bytes) {
            return None;
        }
    }
    Some(bytes.drain(..end + length).collect())
}

/// HTTP/1.1 with keep-alive: answers each request with itself.
fn serve(mut stream: impl Read + Write, seen: &mut dyn FnMut(&[u8])) {
    let mut bytes = Vec::new();
    while let Some(request) = one_request(&mut stream, &mut bytes) {
        seen(&request);
        let page = [b"you sent: ", &request[..]].concat();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", page.len());
        if stream.write_all(answer.as_bytes()).and_then(|()| stream.write_all(&page)).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}

/// A name server: names to lists of addresses, one list for each time it is asked, the last one for ever.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    pub(crate) fn start(names: &[(&str, &[&[&str]])]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let mut answers: HashMap<String, Vec<Vec<IpAddr>>> = HashMap::new();
        for (name, times) in names {
            let times = times.iter().map(|ips| ips.iter().map(|ip| ip.parse().expect("an address")).collect()).collect();
            answers.insert((*name).to_owned(), times);
        }
        let log = asked.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 1024];
            let mut asked_before: HashMap<(String, u8), usize> = HashMap::new();
            while let Ok((length, from)) = socket.recv_from(&mut bytes) {
                let question = &bytes[..length];
                let (name, end) = read_name(question);
                log.lock().expect("no poison and no overflow").push(name.clone());
                let kind = question[end + 1];
                let time = asked_before.entry((name.clone(), kind)).or_default();
                let list = answers.get(&name).and_then(|times| times.get(*time).or(times.last()));
                *time += 1;
                socket.send_to(&answer(question, end, kind, list), from).ok();
            }
        });
        Self { address, asked }
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no poison and no overflow").clone()
    }
}

fn read_name(question: &[u8]) -> (String, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while question[at] != 0 {
        let length = usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..at + 1 + length]).into_owned());
        at += 1 + length;
    }
    (labels.join("."), at + 1)
}

fn answer(question: &[u8], end: usize, kind: u8, list: Option<&Vec<IpAddr>>) -> Vec<u8> {
    let mut out = question[..end + 4].to_vec();
    let records: Vec<Vec<u8>> = list
        .into_iter()
        .flatten()
        .filter_map(|ip| match (ip, kind) {
            (IpAddr::V4(ip), 1) => Some(ip.octets().to_vec()),
            (IpAddr::V6(ip), 28) => Some(ip.octets().to_vec()),
            _ => None,
        })
        .collect();
    out[2] = 0x81;
    out[3] = if list.is_some() { 0x80 } else { 0x83 };
    out[6..12].copy_from_slice(&[0, u8::try_from(records.len()).expect("no poison and no overflow"), 0, 0, 0, 0]);
    for data in records {
        out.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0, 0, u8::try_from(data.len()).expect("no poison and no overflow")]);
        out.extend(data);
    }
    out
}

/// A gateway on sockets of the host.
pub(crate) struct Rig {
    pub(crate) proxy: SocketAddr,
    pub(crate) socks: SocketAddr,
    pub(crate) fixed: SocketAddr,
    pub(crate) gateway: Gateway,
    _threads: Threads,
}

impl Rig {
    /// `fixed` is where the third socket leads.
    pub(crate) fn new(rules: &[&str], names: &NameServer, fixed: &str) -> Self {
        Self::with(rules, names, fixed, Opened::default())
    }

    /// One where TLS ends where the rules need it.
    pub(crate) fn opened(rules: &[&str], names: &NameServer, fixed: &str, issuer: Arc<Issuer>) -> Self {
        Self::with(rules, names, fixed, Opened { grants: Vec::new(), issuer: Some(issuer) })
    }

    fn with(rules: &[&str], names: &NameServer, fixed: &str, opened: Opened) -> Self {
        let threads = Threads::start().expect("threads");
        let listeners: Vec<TcpListener> = (0..3).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")).collect();
        let at = |n: usize| listeners[n].local_addr().expect("an address");
        let (proxy, socks, fixed_at) = (at(0), at(1), at(2));
        let services = vec![Service::Proxy, Service::Socks, Service::Fixed(Authority::parse(fixed, None).expect("a target"))];
        let setup = Setup {
            rules: Rules::parse(rules).expect("rules"),
            inside: Inside { services, names: Names::default() },
            resolver: Arc::new(Resolver::with_server(names.address)),
            notices: None,
            observe: false,
            endpoints: Vec::new(),
            opened,
            accounts: None,
        };
        let gateway = Gateway::start(threads.handle(), setup, listeners.into_iter().map(OwnedFd::from).collect()).expect("a gateway");
        Self { proxy, socks, fixed: fixed_at, gateway, _threads: threads }
    }

    /// Sends bytes to the proxy and reads to the end.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        talk(self.proxy, bytes)
    }

    /// A tunnel, ready to be written to.
    pub(crate) fn tunnel(&self, target: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.proxy).expect("the proxy");
        write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").expect("written");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            assert_eq!(stream.read(&mut byte).expect("read"), 1, "{}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        stream
    }
}

/// Waits for what takes a while on a machine that is busy.
pub(crate) fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !happened() {
        assert!(std::time::Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    // The gateway may have refused and closed before everything is written.
    stream.write_all(bytes).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A real client's first message for `name`.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a hello");
    bytes
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

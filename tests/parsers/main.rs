//! The gateway's parsers against bytes that somebody chose: examples of every kind, cut, spliced and changed at random, and what comes out
//! compared with another reader of the same bytes.
//!
//! A short round in every test run; `COFFERDAM_FUZZ=600 cargo test --test parsers -- --test-threads 1` goes on for ten minutes a parser, and keeps
//! what brought something new out of it in `fixtures/fuzz/gateway-PARSER/`: from then on that is tried first. A failure prints the bytes.

mod engine;
mod shapes;

use std::cell::Cell;

use cofferdam::base::host::{Authority, Host, Name};
use cofferdam::base::reach::Reach;
use cofferdam::egress::client_hello::{self, Hello, Seen};
use cofferdam::egress::http1::{self, Body, Flaw, Length};
use cofferdam::egress::request::Wanted;
use cofferdam::egress::rule::{Decision, Request, Rules};
use cofferdam::egress::{dns, request, socks5};
use engine::{Target, fuzz, outcome};

const HTTP: &[&[u8]] = &[
    b"GET /x?y HTTP/1.1\r\nHost: good.test\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: good.test\r\nContent-Length: 5\r\n\r\nhelloGET /second HTTP/1.1\r\nHost: good.test\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\nGET /second HTTP/1.1\r\nHost: good.test\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\nHost: good.test\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding : chunked\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"GET http://good.test/abs HTTP/1.1\r\nHost: good.test\r\nConnection: close, x-gone\r\nX-Gone: 1\r\n\r\n",
    b"GET /old HTTP/1.0\r\nHost: good.test\r\nConnection: keep-alive\r\n\r\nGET /new HTTP/1.1\r\nHost: good.test\r\n\r\n",
    // Behind the last chunk stands what a server without trailers takes for a request.
    b"POST /x HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nGET /hidden HTTP/1.1\r\nHost: good.test\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: good.test:80\r\n\r\n",
    b"GET /folded HTTP/1.1\r\nHost: good.test\r\nX: a\r\n b\r\n\r\n",
    b"GET /lf HTTP/1.1\nHost: good.test\n\nGET /second HTTP/1.1\r\nHost: good.test\r\n\r\n",
    b"GET /up HTTP/1.1\r\nHost: good.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"POST /ff HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000001\r\nx\r\nfffffffffffffffff\r\n",
];
const HTTP_WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"chunked",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 0\r\n",
    b"Content-Length: 7\r\n",
    b"Host: evil.test\r\n",
    b"GET /hidden HTTP/1.1\r\nHost: good.test\r\n\r\n",
    b"0\r\n\r\n",
    b"\r\n\r\n",
    b"Connection: content-length, transfer-encoding, host\r\n",
    b"+",
    b"0x",
    b";",
    b"\xff",
];

/// A request, as some reader sees it.
type Read = (String, String, Vec<u8>);

/// What goes to the server when a client sends these bytes to where only `good.test` is served, the requests that were understood, and why
/// there were no more.
fn passed_on(bytes: &[u8]) -> (Vec<u8>, Vec<Read>, &'static str) {
    let (mut rest, mut out, mut read) = (bytes, Vec::new(), Vec::new());
    let why = loop {
        match one_passed_on(rest, &mut out, &mut read) {
            Ok(Some(taken)) => rest = &rest[taken..],
            Ok(None) => break "the end",
            Err(flaw) => break flaw.0,
        }
    };
    (out, read, why)
}

fn one_passed_on(rest: &[u8], out: &mut Vec<u8>, read: &mut Vec<Read>) -> Result<Option<usize>, Flaw> {
    let target = Authority::parse("good.test:80", None).expect("a target");
    let Some(end) = http1::head_end(rest, 0)? else { return Ok(None) };
    let head = http1::request(&rest[..end])?;
    let path = request::of_host(&head, &target)?;
    let (text, length) = request::rewritten(&head, &target, 80, &path, &[], &[])?;
    let (mut body, mut content) = (Body::new(length), Vec::new());
    let tail = &rest[end..];
    let taken = body.take(tail, |range| content.extend(&tail[range]))?;
    if !body.is_done() {
        return Err(Flaw("its body is cut"));
    }
    out.extend(&text);
    out.extend(&tail[..taken]);
    read.push((head.method.to_owned(), path, content));
    Ok(head.keeps().then_some(end + taken))
}

/// Another reader: strict, and written by another thought. None when the bytes are not whole requests from beginning to end.
fn strictly(mut bytes: &[u8]) -> Option<Vec<Read>> {
    let mut read = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        if head.replace("\r\n", "").contains(['\r', '\n', '\0']) {
            return None;
        }
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, path, version) = (words.next()?.to_owned(), words.next()?.to_owned(), words.next()?);
        let headers: Vec<(String, String)> =
            lines.map(|line| line.split_once(':').map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned()))).collect::<Option<_>>()?;
        let all = |name: &str| headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.clone()).collect::<Vec<_>>();
        if version != "HTTP/1.1" || words.next().is_some() || all("host") != ["good.test"] || headers.iter().any(|(n, _)| n.contains(' ')) {
            return None;
        }
        let content = match (all("transfer-encoding").as_slice(), all("content-length").as_slice()) {
            ([], []) => Vec::new(),
            ([], [length]) => {
                let (content, rest) = bytes.split_at_checked(length.parse().ok()?)?;
                bytes = rest;
                content.to_vec()
            }
            ([coding], []) if coding == "chunked" => chunks(&mut bytes)?,
            _ => return None,
        };
        read.push((method, path, content));
    }
    Some(read)
}

fn line(bytes: &mut &[u8]) -> Option<String> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
    *bytes = &bytes[end + 2..];
    Some(line)
}

fn chunks(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    loop {
        let size = usize::from_str_radix(line(bytes)?.split(';').next()?, 16).ok()?;
        if size == 0 {
            while !line(bytes)?.is_empty() {}
            return Some(content);
        }
        let (chunk, rest) = bytes.split_at_checked(size)?;
        content.extend(chunk);
        *bytes = rest.strip_prefix(b"\r\n")?;
    }
}

/// What an old and careless server takes for a request line: any line that looks like one, whatever ends it.
fn request_lines(bytes: &[u8], contents: &[Read]) -> usize {
    let mut text = bytes.to_vec();
    // What is said to be content is content to everybody who can count.
    for (_, _, content) in contents.iter().filter(|(_, _, content)| content.len() > 3) {
        if let Some(at) = text.windows(content.len()).position(|window| window == &content[..]) {
            text.drain(at..at + content.len());
        }
    }
    let lines = text.split(|b| *b == b'\n' || *b == b'\r');
    lines.filter(|line| line.ends_with(b" HTTP/1.1") && !line.contains(&b':') && line.first().is_some_and(u8::is_ascii_uppercase)).count()
}

#[test]
fn what_goes_on_is_read_by_others_as_it_was_judged() {
    let seeds = HTTP.iter().map(|bytes| bytes.to_vec()).collect();
    fuzz(&Target { name: "requests", seeds, words: HTTP_WORDS, make: &shapes::requests }, |bytes| {
        let (out, read, why) = passed_on(bytes);
        assert_eq!(strictly(&out).as_ref(), Some(&read), "a strict server reads something else");
        if read.iter().all(|(_, _, content)| content.is_empty()) {
            assert!(request_lines(&out, &read) <= read.len(), "a careless server reads more requests");
        }
        // As an answer: the first line is a good one, so that the others are looked at.
        let (_, rest) = bytes.split_at(bytes.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1));
        let answer = [b"HTTP/1.1 200 OK\r\n", rest].concat();
        let end = http1::head_end(&answer, 0).ok().flatten().unwrap_or(answer.len());
        let answer = http1::response(&answer[..end]).and_then(|head| head.length("GET"));
        // However the bytes come, the body is the same.
        for length in [Length::Chunked, Length::Known(7), Length::UntilClose] {
            let (mut whole, mut cut) = (Body::new(length), Body::new(length));
            let at_once = whole.take(bytes, |_| {});
            let mut one_by_one = Ok(0);
            for byte in bytes.chunks(1) {
                match cut.take(byte, |_| {}) {
                    Ok(0) => break,
                    Ok(n) => one_by_one = one_by_one.map(|sum| sum + n),
                    Err(flaw) => {
                        one_by_one = Err(flaw);
                        break;
                    }
                }
            }
            assert_eq!(at_once, one_by_one);
        }
        let kind = outcome(&answer, |length| match length {
            Length::Known(_) => "counted".to_owned(),
            other => format!("{other:?}"),
        });
        format!("{} then {why}; {kind}", read.len().min(3))
    });
}

/// The readers above are worth something: what is wrong is seen by them.
#[test]
fn control_the_other_readers_see_what_is_hidden() {
    assert_eq!(strictly(b"GET / HTTP/1.1\r\nHost: good.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx"), None);
    assert_eq!(strictly(b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n"), None);
    let two = strictly(b"POST / HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\nHost: good.test\r\n\r\n");
    assert_eq!(two.map(|read| read.into_iter().map(|(_, path, _)| path).collect::<Vec<_>>()), Some(vec!["/".to_owned(), "/x".to_owned()]));
    assert_eq!(request_lines(b"GET / HTTP/1.1\r\nHost: a\r\nX: y\nGET /hidden HTTP/1.1\r\n\r\n", &[]), 2);
}

/// A real client's hello.
fn hello(name: &str) -> Vec<u8> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = rustls::ClientConnection::new(std::sync::Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("a hello");
    bytes
}

#[test]
fn a_hello_s_name_is_the_one_that_a_server_reads() {
    let (one, other) = (hello("good.test"), hello("a-much-longer-name.of.another.example"));
    let (address, mut cut) = (hello("127.0.0.1"), Vec::new());
    for part in one[5..].chunks(50) {
        cut.extend([&[22, 3, 1][..], &u16::try_from(part.len()).expect("short").to_be_bytes(), part].concat());
    }
    let words: &[&[u8]] =
        &[b"good.test", b"evil.test", b"\0\0", b"\x16\x03\x01", b"\xfe\x0d", b"\0\x0e\0\x0c\0\0\x09evil.test", b"\x01\0\0", b"\xff\xff"];
    let (agreed, named) = (Cell::new(0), Cell::new(0));
    let seeds = vec![one.clone(), other, address, cut, b"GET / HTTP/1.1\r\n".to_vec()];
    fuzz(&Target { name: "hello", seeds, words, make: &|dice| shapes::hello(dice, &one) }, |bytes| {
        let ours = client_hello::look(bytes);
        let mut acceptor = rustls::server::Acceptor::default();
        let mut reader = bytes;
        let theirs = loop {
            match acceptor.accept() {
                Ok(Some(accepted)) => break Some(accepted.client_hello().server_name().map(str::to_ascii_lowercase)),
                Err(_) => break None,
                Ok(None) => match acceptor.read_tls(&mut reader) {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => break None,
                },
            }
        };
        let word = outcome(&ours, |seen| match seen {
            Seen::Hello(Hello { name, hidden }) => format!("a hello, named {}, hidden {hidden}", name.is_some()),
            other => format!("{other:?}"),
        });
        let word = format!("{word}; {}", theirs.is_some());
        if let (Ok(Seen::Hello(hello)), Some(theirs)) = (ours, theirs) {
            let ours = hello.name.map(|name| name.to_string());
            named.set(named.get() + u64::from(ours.is_some()));
            assert_eq!(ours, theirs, "a server reads another name");
            agreed.set(agreed.get() + 1);
        }
        // However the bytes come, the same is seen once enough of them is here.
        if let Some(Ok(first)) = (0..16).map(|n| client_hello::look(&bytes[..bytes.len() * n / 16])).find(|seen| *seen != Ok(Seen::More)) {
            assert_eq!(Ok(first), client_hello::look(bytes), "more bytes change what was seen");
        }
        word
    });
    assert!(agreed.get() > 100 && named.get() > 100, "both read many: {} {}", agreed.get(), named.get());
}

#[test]
fn names_are_asked_and_answered_within_their_bytes() {
    let name = Name::parse("good.test").expect("a name");
    let ask = dns::ask(7, &name, dns::A);
    let mut answer = ask.clone();
    answer[2] |= 0x80;
    answer[7] = 1;
    answer.extend([&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4][..], &[93, 184, 216, 34]].concat());
    let alias = [&answer[..ask.len()], &[0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 9, 0, 2, 0xc0, 12]].concat();
    let words: &[&[u8]] = &[&[0xc0, 12], &[0xc0, 0xff], &[0], &[63], &[0, 1, 0, 1], &[0, 28], &[0, 5], b"evil", &[0xff; 4]];
    fuzz(&Target { name: "names", seeds: vec![ask, answer, alias], words, make: &shapes::names }, |bytes| {
        let asked = dns::question(bytes);
        if let Ok(question) = &asked {
            let answer = dns::answer(question, dns::Answer::Address([192, 0, 2, 1].into()));
            assert!(answer.len() <= bytes.len() + 64 && answer.get(..2) == bytes.get(..2), "an answer is no amplifier");
            if let Some(name) = &question.name {
                assert_eq!(Name::parse(name.as_str()).as_ref(), Ok(name), "what is decided about is a name");
                assert_eq!(labels(bytes).as_deref(), Some(name.as_str()), "another reader reads another name");
                assert_eq!(labels(&answer).as_deref(), Some(name.as_str()), "the answer is about another name");
                // What we answer is an answer to the name that was asked for, as a program's own library reads it.
                if question.kind == dns::A {
                    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
                    let read = dns::reply(&answer, id, name, dns::A);
                    assert!(matches!(&read, Ok(dns::Reply::Addresses(found, _)) if found.len() == 1), "{read:?}");
                }
            }
        }
        let answered = dns::reply(bytes, 7, &name, dns::A);
        if let Ok(dns::Reply::Addresses(found, ttl)) = &answered {
            assert!(found.len() <= 32 && (*ttl < u32::MAX || found.is_empty()), "{found:?} {ttl}");
        }
        let asked = outcome(&asked, |question| format!("a question, named {}", question.name.is_some()));
        let answered = outcome(&answered, |reply| match reply {
            dns::Reply::Addresses(found, _) => format!("{} addresses", found.len().min(4)),
            other => format!("{other:?}"),
        });
        format!("{asked}; {answered}")
    });
}

/// The name in a question, read label by label by somebody who knows no pointers: none belongs there.
fn labels(bytes: &[u8]) -> Option<String> {
    let (mut rest, mut all) = (bytes.get(12..)?, Vec::new());
    while let [length @ 1..=63, tail @ ..] = rest {
        let (label, after) = tail.split_at_checked(usize::from(*length))?;
        all.push(String::from_utf8(label.to_ascii_lowercase()).ok()?);
        rest = after;
    }
    rest.first().is_some_and(|end| *end == 0).then(|| all.join("."))
}

#[test]
fn socks_reads_one_target_however_much_follows() {
    let corpus: &[&[u8]] =
        &[&[5, 1, 0], b"\x05\x01\x00\x03\x09good.test\x01\xbb", &[5, 1, 0, 1, 127, 0, 0, 1, 0, 80], &[5, 2, 0, 2, 5, 1, 0, 4]];
    let words: &[&[u8]] = &[b"\x05\x01\x00", b"evil.test", b"\0", b"\xff", b"good.test\0evil"];
    let seeds = corpus.iter().map(|bytes| bytes.to_vec()).collect();
    fuzz(&Target { name: "socks", seeds, words, make: &shapes::socks }, |bytes| {
        let longer = [bytes, b"more"].concat();
        let greeted = socks5::greeting(bytes);
        if let Ok(Some((_, taken))) = greeted {
            assert!(taken <= bytes.len() && socks5::greeting(&longer) == greeted);
        }
        // A client that sends both at once, as some do.
        let rest = greeted.ok().flatten().map_or(bytes, |(_, taken)| &bytes[taken..]);
        let asked = socks5::request(rest);
        if let Ok(Some((Ok(target), taken))) = &asked {
            assert!(*taken <= rest.len());
            assert_eq!(Authority::parse(&target.to_string(), None).as_ref(), Ok(target), "what is decided about is one target");
            assert_eq!(socks_target(rest).as_ref(), Some(target), "another reader reads another target");
            assert_eq!(socks5::request(&[rest, b"more"].concat()), asked, "what follows changes nothing");
            assert_eq!(socks5::request(&rest[..taken - 1]), Ok(None), "nothing is decided before all of it is here");
        }
        let greeted = outcome(&greeted, |found| format!("{:?}", found.map(|(offer, _)| offer)));
        let asked = outcome(&asked, |found| match found {
            Some((Ok(Authority { host: Host::Name(_), .. }), _)) => "a name".to_owned(),
            Some((Ok(_), _)) => "an address".to_owned(),
            Some((Err(reply), _)) => format!("{reply:?}"),
            None => "more".to_owned(),
        });
        format!("{greeted}; {asked}")
    });
}

/// A request of SOCKS as a plain server reads it that trusts its client.
fn socks_target(bytes: &[u8]) -> Option<Authority> {
    let (host, port) = match bytes.get(3)? {
        1 => (std::net::Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(4..8)?).ok()?).to_string(), bytes.get(8..10)?),
        3 => {
            let end = 5 + usize::from(*bytes.get(4)?);
            let name = String::from_utf8(bytes.get(5..end)?.to_ascii_lowercase()).ok()?;
            let name = if name.contains(':') && !name.starts_with('[') { format!("[{name}]") } else { name };
            (name.strip_suffix('.').unwrap_or(&name).to_owned(), bytes.get(end..end + 2)?)
        }
        _ => (format!("[{}]", std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes.get(4..20)?).ok()?)), bytes.get(20..22)?),
    };
    Authority::parse(&format!("{host}:{}", u16::from_be_bytes([port[0], port[1]])), None).ok()
}

/// What a proxy is asked for, read by somebody else; and every careless way to read it leads to no other host.
#[test]
fn what_a_proxy_is_asked_for_is_one_host_to_everybody() {
    let seeds: &[&[u8]] = &[
        b"CONNECT good.test:443 HTTP/1.1\r\nHost: good.test:443\r\n\r\n",
        b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n",
        b"CONNECT GOOD.test.:443 HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\nCONNECT evil.test:443 HTTP/1.1\r\n\r\n",
        b"GET http://good.test:80/x?y HTTP/1.1\r\nHost: good.test\r\n\r\n",
        b"POST http://good.test?q HTTP/1.1\r\nHost: good.test:80\r\nContent-Length: 1\r\n\r\nx",
        b"GET http://good.test\\@evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
    ];
    let words: &[&[u8]] = &[
        b"@",
        b"\\",
        b"%00",
        b"%2e",
        b":",
        b":443",
        b"evil.test",
        b"good.test",
        b"http://",
        b"\r\nHost: evil.test",
        b"#",
        b"?",
        b" ",
        b"\t",
        b"[",
        b"]",
        b".",
        b"\xc3\xa4",
        b"CONNECT ",
    ];
    let seeds = seeds.iter().map(|bytes| bytes.to_vec()).collect();
    let (tunnels, fetches) = (Cell::new(0), Cell::new(0));
    fuzz(&Target { name: "connect", seeds, words, make: &shapes::to_proxy }, |bytes| {
        let Some(end) = http1::head_end(bytes, 0).ok().flatten() else { return "no head".to_owned() };
        let head = http1::request(&bytes[..end]);
        let wanted = head.as_ref().map_err(|flaw| *flaw).and_then(request::of_proxy);
        let Ok(head) = head else { return outcome(&wanted, |_| String::new()) };
        let (target, word) = match &wanted {
            Ok(Wanted::Tunnel(target)) => (target, "a tunnel"),
            Ok(Wanted::Fetch(target, path)) => {
                fetches.set(fetches.get() + 1);
                let (text, _) = match request::rewritten(&head, target, 80, path, &[], &[]) {
                    Ok(rewritten) => rewritten,
                    Err(flaw) => return flaw.0.to_owned(),
                };
                let again = http1::request(&text).expect("what we write can be read");
                assert_eq!(request::of_host(&again, target).as_ref(), Ok(path), "the server is told something else");
                (target, "a request")
            }
            Err(flaw) => return flaw.0.to_owned(),
        };
        tunnels.set(tunnels.get() + u64::from(word == "a tunnel"));
        assert_eq!(head.method == "CONNECT", word == "a tunnel");
        assert_eq!(Authority::parse(&target.to_string(), None).as_ref(), Ok(target));
        let usual = if word == "a tunnel" { target.port } else { 80 };
        for text in std::iter::once(head.target).chain(hosts(bytes, end)) {
            for host in carelessly(text) {
                let read = Authority::parse(&host, Some(usual));
                assert_eq!(read.as_ref(), Ok(target), "{text:?} is {host:?} to somebody");
            }
        }
        word.to_owned() + if matches!(target.host, Host::Name(_)) { " for a name" } else { " for an address" }
    });
    assert!(tunnels.get() > 100 && fetches.get() > 100, "both are read: {} {}", tunnels.get(), fetches.get());
}

/// The values of every line that some reader takes for a `Host`.
fn hosts(bytes: &[u8], end: usize) -> Vec<&str> {
    let head = std::str::from_utf8(&bytes[..end]).unwrap_or_default();
    let lines = head.split(['\r', '\n']).filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| name.trim().eq_ignore_ascii_case("host")).map(|(_, value)| value.trim()).collect()
}

/// The hosts that readers of addresses are known to find in a text.
fn carelessly(text: &str) -> Vec<String> {
    let rest = text.find("://").filter(|at| *at < 6).map_or(text, |at| &text[at + 3..]);
    let ends: [&[char]; 3] = [&['/', '?', '#'], &['/', '\\', '?', '#', ';', ','], &['/', '?', '#', '\0', ' ', '\t', '%']];
    let cut = |ends: &[char]| rest.split(ends).next().unwrap_or(rest).to_owned();
    let mut all: Vec<String> = ends.iter().map(|ends| cut(ends)).collect();
    all.extend(
        all.clone()
            .iter()
            .flat_map(|host| [host.rsplit('@').next().map(str::to_owned), host.split('@').next().map(str::to_owned)])
            .flatten(),
    );
    all
}

#[test]
fn a_rule_says_what_it_says_and_decides_without_surprise() {
    let corpus: &[&[u8]] = &[
        b"GET,HEAD *.good.test:8443/api/ up=1MiB down=2GiB",
        b"!good.test",
        b"10.0.0.0/8:80",
        b"[::1]:443 opaque",
        b"good.test/a/b",
        b"192.0.2.7:22 opaque",
    ];
    let words: &[&[u8]] =
        &[b"*.", b"!", b"..", b"%2e", b"//", b":", b"@", b" ", b"evil.test", b"opaque", b"\0", b"GET ", b"xn--", b"\xc3\xa4"];
    let seeds = corpus.iter().map(|bytes| bytes.to_vec()).collect();
    fuzz(&Target { name: "rules", seeds, words, make: &shapes::rule }, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        // A name is one way of writing it, whatever way it was written.
        if let Ok(target) = Authority::parse(&text, Some(443)) {
            assert_eq!(Authority::parse(&target.to_string(), None), Ok(target));
        }
        let rule = match Reach::parse(&text) {
            Ok(rule) => rule,
            Err(why) => return why.to_string(),
        };
        assert!(rule.deny || rule.covers(&rule), "a rule covers itself");
        let rules = Rules::parse(&[&text]).expect("it was a rule just now");
        for (host, path) in
            [("good.test:443", "/api/x"), ("evil.test:443", "/"), ("a.good.test:8443", "/api/../x"), ("10.0.0.1:80", "/a/b")]
        {
            let target = Authority::parse(host, None).expect("a target");
            let whole = matches!(rules.decide(&target, None), Decision::Allow { .. });
            let seen = matches!(rules.decide(&target, Some(Request { method: "GET", path })), Decision::Allow { .. });
            assert!(!(whole || seen) || (!rule.deny && rule.has_host(&target.host) && rule.has_port(target.port)), "{host} was not named");
            assert!(!whole || seen, "who may pass unseen may pass seen");
        }
        format!("deny {}, methods {}, path {}, port {}", rule.deny, rule.methods.len().min(2), rule.path.is_some(), rule.port.is_some())
    });
}

//! The gateway's parsers against bytes that somebody chose: examples of every kind, cut, spliced and changed at random, and what comes out
//! compared with another reader of the same bytes.
//!
//! A short round in every test run; `FUZZ_SECONDS=600 cargo nextest run --test parsers` goes on for ten minutes a parser. A failure prints the
//! bytes as an example to add to the corpus.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use cofferdam::base::host::{Authority, Name};
use cofferdam::base::reach::Reach;
use cofferdam::egress::client_hello::{self, Seen};
use cofferdam::egress::http1::{self, Body, Length};
use cofferdam::egress::rule::{Decision, Request, Rules};
use cofferdam::egress::{dns, request, socks5};

/// Rounds of one parser in a usual run.
const ROUNDS: u64 = 20_000;
const LONGEST: usize = 4096;

/// Random enough, and the same on every machine for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).expect("it is below n")
    }
}

/// One example, changed a few times.
fn changed(dice: &mut Dice, corpus: &[Vec<u8>], words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = corpus[dice.below(corpus.len())].clone();
    for _ in 0..dice.below(6) {
        let (at, to) = (dice.below(bytes.len() + 1), dice.below(bytes.len() + 1));
        let (from, to) = (at.min(to), at.max(to));
        match dice.below(8) {
            0 if !bytes.is_empty() => {
                let at = dice.below(bytes.len());
                bytes[at] ^= 1 << dice.below(8);
            }
            1 if !bytes.is_empty() => {
                let at = dice.below(bytes.len());
                bytes[at] = u8::try_from(dice.below(256)).expect("a byte");
            }
            2 => drop(bytes.drain(from..to.min(from + 8))),
            3 => {
                let word = words[dice.below(words.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            4 => {
                let piece: Vec<u8> = bytes[from..to].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let other = &corpus[dice.below(corpus.len())];
                let cut = dice.below(other.len() + 1);
                bytes.truncate(at);
                bytes.extend(&other[cut..]);
            }
            6 => bytes.truncate(at),
            _ => {
                let word = words[dice.below(words.len())];
                bytes.splice(from..to.min(from + word.len()), word.iter().copied());
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// Every example as it is, then changed ones until the time or the rounds are over.
fn fuzz(name: &str, corpus: &[&[u8]], words: &[&[u8]], check: impl Fn(&[u8])) {
    let corpus: Vec<Vec<u8>> = corpus.iter().map(|bytes| bytes.to_vec()).collect();
    let seconds = std::env::var("FUZZ_SECONDS").ok().and_then(|text| text.parse::<u64>().ok());
    let deadline = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    // A longer round looks at other bytes each time, and says which.
    let seed = if deadline.is_some() { u64::from(std::process::id()) << 20 | 1 } else { 0x2545_F491_4F6C_DD1D };
    let mut dice = Dice(seed);
    let mut round = 0;
    loop {
        let bytes = match corpus.get(usize::try_from(round).unwrap_or(usize::MAX)) {
            Some(bytes) => bytes.clone(),
            None => changed(&mut dice, &corpus, words),
        };
        if catch_unwind(AssertUnwindSafe(|| check(&bytes))).is_err() {
            let hex = bytes.iter().fold(String::new(), |mut text, b| {
                write!(text, "{b:02x}").expect("a text takes more");
                text
            });
            panic!("{name}: round {round} of seed {seed:#x}: {:?} = {hex}", String::from_utf8_lossy(&bytes));
        }
        round += 1;
        match deadline {
            Some(deadline) if Instant::now() >= deadline => break,
            None if round >= ROUNDS => break,
            _ => {}
        }
    }
}

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

/// What goes to the server when a client sends these bytes to where only `good.test` is served, and the requests that were understood.
fn passed_on(bytes: &[u8]) -> (Vec<u8>, Vec<Read>) {
    let target = Authority::parse("good.test:80", None).expect("a target");
    let (mut rest, mut out, mut read) = (bytes, Vec::new(), Vec::new());
    while let Ok(Some(end)) = http1::head_end(rest, 0) {
        let Ok(head) = http1::request(&rest[..end]) else { break };
        let Ok(path) = request::of_host(&head, &target) else { break };
        let Ok((text, length)) = request::rewritten(&head, &target, 80, &path, &[], &[]) else { break };
        let (mut body, mut content) = (Body::new(length), Vec::new());
        let tail = &rest[end..];
        let Ok(taken) = body.take(tail, |range| content.extend(&tail[range])) else { break };
        if !body.is_done() {
            break;
        }
        out.extend(&text);
        out.extend(&tail[..taken]);
        read.push((head.method.to_owned(), path, content));
        rest = &tail[taken..];
        if !head.keeps() {
            break;
        }
    }
    (out, read)
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
    fuzz("requests", HTTP, HTTP_WORDS, |bytes| {
        let (out, read) = passed_on(bytes);
        assert_eq!(strictly(&out).as_ref(), Some(&read), "a strict server reads something else");
        if read.iter().all(|(_, _, content)| content.is_empty()) {
            assert!(request_lines(&out, &read) <= read.len(), "a careless server reads more requests");
        }
        // Heads and answers, as they are.
        let _ = http1::response(bytes).map(|head| (head.length("GET"), head.keeps())).is_ok();
        let _ = http1::request(bytes).map(|head| request::of_proxy(&head)).is_ok();
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
    let (agreed, named) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    fuzz("hello", &[&one, &other, &address, &cut, b"GET / HTTP/1.1\r\n"], words, |bytes| {
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
        if let (Ok(Seen::Hello(hello)), Some(theirs)) = (ours, theirs) {
            let ours = hello.name.map(|name| name.to_string());
            named.set(named.get() + u64::from(ours.is_some()));
            assert_eq!(ours, theirs, "a server reads another name");
            agreed.set(agreed.get() + 1);
        }
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
    fuzz("names", &[&ask, &answer, &alias], words, |bytes| {
        if let Ok(question) = dns::question(bytes) {
            let answer = dns::answer(&question, dns::Answer::NoSuchName);
            assert!(answer.len() <= bytes.len() + 64 && answer.get(..2) == bytes.get(..2), "an answer is no amplifier");
            if let Some(name) = &question.name {
                assert_eq!(Name::parse(name.as_str()).as_ref(), Ok(name), "what is decided about is a name");
            }
        }
        let _ = dns::reply(bytes, 7, &name, dns::A).is_ok();
    });
}

#[test]
fn socks_reads_one_target_however_much_follows() {
    let corpus: &[&[u8]] =
        &[&[5, 1, 0], b"\x05\x01\x00\x03\x09good.test\x01\xbb", &[5, 1, 0, 1, 127, 0, 0, 1, 0, 80], &[5, 2, 0, 2, 5, 1, 0, 4]];
    fuzz("socks", corpus, &[b"\x05\x01\x00", b"evil.test", b"\0", b"\xff", b"good.test\0evil"], |bytes| {
        let longer = [bytes, b"more"].concat();
        if let Ok(Some((_, taken))) = socks5::greeting(bytes) {
            assert!(taken <= bytes.len() && socks5::greeting(&longer) == socks5::greeting(bytes));
        }
        if let Ok(Some((Ok(target), taken))) = socks5::request(bytes) {
            assert!(taken <= bytes.len());
            assert_eq!(Authority::parse(&target.to_string(), None), Ok(target), "what is decided about is one target");
        }
    });
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
    fuzz("rules", corpus, words, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        // A name is one way of writing it, whatever way it was written.
        if let Ok(target) = Authority::parse(&text, Some(443)) {
            assert_eq!(Authority::parse(&target.to_string(), None), Ok(target));
        }
        let Ok(rule) = Reach::parse(&text) else { return };
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
    });
}

//! Input made to the grammar of each parser, with whatever may be wrong about it at each place.

use super::engine::Dice;

const METHODS: [&str; 8] = ["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "PRI", "get", "A\tB"];
const VERSIONS: [&str; 6] = ["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "http/1.1"];
const ENDS: [&str; 12] = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n"];
const PATHS: [&str; 10] = ["/", "/x?y", "*", "/a/../b", "//evil.test/", "/%2e%2e/", "/x#y", "http://good.test/z", "http://evil.test/", ""];
const HEADERS: [&str; 22] = [
    "Connection: close",
    "Connection: keep-alive, x-gone",
    "Connection: content-length",
    "Connection: transfer-encoding, host",
    "X-Gone: 1",
    "Accept: a\tb",
    "X: a\r\n b",
    "X : a",
    ": a",
    "X",
    "X: \0",
    "X: \u{e4}",
    "X\u{e4}: a",
    "Expect: 100-continue",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Early-Data: 1",
    "TE: trailers",
    "Trailer: X",
    "Proxy-Authorization: Basic eDp5",
    "X-Forwarded-Host: evil.test",
];
const LENGTHS: [&str; 12] = ["0", "1", "5", "05", "+5", "-1", "5, 5", "0x5", " 5 ", "18446744073709551616", "999999999999999999", ""];
const CODINGS: [&str; 7] = ["chunked", "Chunked", "gzip, chunked", "chunked, chunked", "identity", "xchunked", "chunked;q=1"];
/// Parts of what may stand where a host does.
const HOSTS: [&str; 30] = [
    "good.test",
    "good.test",
    "good.test",
    "GOOD.Test",
    "good.test.",
    "good.test..",
    "evil.test",
    "user@evil.test",
    "good.test@evil.test",
    "evil.test/.good.test",
    "evil.test\\.good.test",
    "evil.test%2egood.test",
    "evil.test#good.test",
    "evil.test?good.test",
    "evilgood.test",
    "good.test.evil.test",
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "2130706433",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[fe80::1%25lo]",
    "::1",
    "[good.test]",
    "good.test,evil.test",
    "xn--gd-fka.test",
    "g\u{f6}\u{f6}d.test",
    "-good.test",
    "",
];
const PORTS: [&str; 14] =
    [":443", ":443", ":80", "", ":0", ":65536", ":+443", ":0443", ":443:80", ":", ":99999999999", ": 443", ":443@evil.test", ":8443"];

/// A host, and perhaps a port.
fn authority(dice: &mut Dice) -> String {
    format!("{}{}", dice.one_of(&HOSTS), dice.one_of(&PORTS))
}

fn framed(dice: &mut Dice, out: &mut Vec<u8>) {
    let mut body: Vec<u8> = Vec::new();
    let mut lines = String::new();
    for _ in 0..dice.one_of(&[0, 1, 1, 1, 1, 2]) {
        if dice.once_in(2) {
            let length = dice.one_of(&LENGTHS);
            lines.extend(["Content-Length: ", length, "\r\n"]);
            body = vec![b'c'; length.trim().parse::<usize>().unwrap_or(0).min(100)];
        } else {
            lines.extend(["Transfer-Encoding: ", dice.one_of(&CODINGS), "\r\n"]);
            body.clear();
            for _ in 0..dice.below(3) {
                let size = dice.one_of(&["1", "01", "3", "3;a=b", "3 ", "0x3", "3;a=\"\r\n\"", "ffffffffffffffff"]);
                body.extend(size.bytes().chain(*b"\r\n"));
                body.extend(
                    dice.one_of(&[&b"a"[..], b"abc", b"\r\n\r", b"0\r\n\r\n"]).iter().chain(dice.one_of(&[b"\r\n", b"\r\n", b"\n\n"])),
                );
            }
            body.extend(dice.one_of(&[&b"0\r\n\r\n"[..], b"0\r\n\r\n", b"00\r\nX: y\r\n\r\n", b"0\r\nGET / HTTP/1.1\r\n\r\n", b"0\n\n"]));
        }
    }
    out.extend(lines.bytes().chain(*b"\r\n").chain(body));
}

fn lines(dice: &mut Dice, host: &str) -> String {
    let mut text = String::new();
    for _ in 0..dice.one_of(&[0, 1, 1, 1, 1, 1, 1, 2]) {
        text.extend([dice.one_of(&["Host", "host", "HOST"]), ": ", host, dice.one_of(&ENDS)]);
    }
    for _ in 0..dice.below(4) {
        text.extend([dice.one_of(&HEADERS), dice.one_of(&ENDS)]);
    }
    text
}

/// One to three requests on one connection, for one host or for others.
pub(crate) fn requests(dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=dice.below(3) {
        let host = if dice.once_in(4) { authority(dice) } else { "good.test".to_owned() };
        out.extend(format!("{} {} {}{}", dice.one_of(&METHODS), dice.one_of(&PATHS), dice.one_of(&VERSIONS), dice.one_of(&ENDS)).bytes());
        out.extend(lines(dice, &host).bytes());
        framed(dice, &mut out);
    }
    out
}

/// What a client says to a proxy.
pub(crate) fn to_proxy(dice: &mut Dice) -> Vec<u8> {
    let (wanted, named) = (authority(dice), authority(dice));
    let named = if dice.once_in(3) { named } else { wanted.clone() };
    let first = if dice.once_in(2) {
        format!("CONNECT {wanted}")
    } else {
        let scheme = dice.one_of(&["http://", "http://", "HTTP://", "https://", "http:/", "ws://", "//", ""]);
        format!("{} {scheme}{wanted}{}", dice.one_of(&METHODS), dice.one_of(&["/", "/x", "?x", "", "#x", "\\x", "/@evil.test/"]))
    };
    let mut out = format!("{first} {}{}", dice.one_of(&VERSIONS), dice.one_of(&ENDS)).into_bytes();
    out.extend(lines(dice, &named).bytes());
    framed(dice, &mut out);
    out
}

/// A greeting and a request of SOCKS, each perhaps alone.
pub(crate) fn socks(dice: &mut Dice) -> Vec<u8> {
    let mut out = Vec::new();
    if dice.once_in(2) {
        let methods: Vec<u8> = (0..dice.below(5)).map(|_| dice.one_of(&[0, 2, 1, 0x80, 0xff])).collect();
        let count = if dice.once_in(6) { dice.byte() } else { u8::try_from(methods.len()).expect("few") };
        out.extend([dice.one_of(&[5, 5, 5, 4, 0]), count]);
        out.extend(methods);
    }
    out.extend([dice.one_of(&[5, 5, 5, 5, 4]), dice.one_of(&[1, 1, 1, 2, 3, 0xf0]), dice.one_of(&[0, 0, 0, 1])]);
    match dice.below(6) {
        0 => out.extend([&[1][..], &dice.next().to_be_bytes()[..4]].concat()),
        1 => out.extend([&[4][..], &dice.next().to_be_bytes(), &dice.next().to_be_bytes()].concat()),
        2 => out.push(dice.byte()),
        _ => {
            let mut name = dice.one_of(&HOSTS).as_bytes().to_vec();
            if dice.once_in(4) {
                name.extend(dice.one_of(&[&b"\0"[..], b"\0.good.test", b"\r\n", b" ", b"\xff", &[b'a'; 64], &[b'.'; 3]]));
            }
            let length = if dice.once_in(6) { dice.byte() } else { u8::try_from(name.len()).expect("short") };
            out.extend([3, length]);
            out.extend(name);
        }
    }
    out.extend(dice.one_of(&[[1, 0xbb], [0, 80], [0, 0], [0xff, 0xff]]));
    out
}

fn dns_name(dice: &mut Dice, out: &mut Vec<u8>) {
    for _ in 0..dice.below(4) {
        let label = dice.one_of(&[&b"good"[..], b"test", b"GooD", b"a.b", b"\0", b"-a", b"_x", b"\xff", b"evil\0good", &[b'l'; 63]]);
        let length = if dice.once_in(10) { dice.byte() } else { u8::try_from(label.len()).expect("short") };
        out.push(length);
        out.extend(label);
    }
    match dice.below(8) {
        // Back to a name, into the middle of one, to itself, forward, into the head.
        0 | 1 => out.extend([0xc0, dice.one_of(&[12, 13, 17, 0, 2, 4])]),
        2 => out.extend([0xc0 | dice.byte() & 0x3f, dice.byte()]),
        3 => out.extend([0xc0, u8::try_from(out.len() & 0xff).expect("a byte")]),
        _ => out.push(0),
    }
}

/// A question, or an answer to the question `good.test A` with the number 7.
pub(crate) fn names(dice: &mut Dice) -> Vec<u8> {
    let flags = dice.one_of(&[[1, 0], [1, 0], [0, 0], [0x81, 0x80], [0x81, 0x80], [0x81, 0x83], [0x83, 0x80], [0x28, 0], [0x81, 0x82]]);
    let records = dice.one_of(&[0, 0, 1, 1, 2, 3, 20]);
    let mut out = [&[0, 7][..], &flags, &[0, dice.one_of(&[1, 1, 1, 1, 0, 2])], &[0, records], &[0, 0, 0, dice.one_of(&[0, 1])]].concat();
    if dice.once_in(3) {
        dns_name(dice, &mut out);
    } else {
        out.extend(dice.one_of(&[&b"\x04good\x04test\0"[..], b"\x04gOOd\x04teSt\0"]));
    }
    out.extend([0, dice.one_of(&[1, 1, 1, 28, 5, 255]), 0, dice.one_of(&[1, 1, 1, 3, 255])]);
    for _ in 0..records {
        if dice.once_in(2) {
            out.extend([0xc0, 12]);
        } else {
            dns_name(dice, &mut out);
        }
        let kind = dice.one_of(&[1, 1, 5, 28, 41]);
        out.extend([0, kind, 0, dice.one_of(&[1, 1, 1, 3]), 0, 0, 0, 9]);
        let mut data = match kind {
            1 => vec![93, 184, 216, 34],
            28 => vec![0x20; 16],
            _ => Vec::new(),
        };
        if kind == 5 {
            dns_name(dice, &mut data);
        }
        let length = if dice.once_in(8) { dice.byte() } else { u8::try_from(data.len() & 0xff).expect("a byte") };
        out.extend([0, length]);
        out.extend(data);
    }
    out
}

fn field(prefix: usize, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_be_bytes();
    [&length[8 - prefix..], content].concat()
}

/// A real client's hello with its extensions doubled, dropped, mixed and written anew, in records of other sizes.
pub(crate) fn hello(dice: &mut Dice, real: &[u8]) -> Vec<u8> {
    // The record's head, the message's head, version and random number; then three fields, and the extensions.
    let mut at = 5 + 4 + 2 + 32;
    for prefix in [1, 2, 1] {
        at += prefix + real[at..at + prefix].iter().fold(0, |n, b| n << 8 | usize::from(*b));
    }
    let (front, mut rest) = (&real[9..at], &real[at + 2..]);
    let mut extensions: Vec<(u16, Vec<u8>)> = Vec::new();
    while let [a, b, c, d, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        extensions.push((u16::from_be_bytes([*a, *b]), tail[..length].to_vec()));
        rest = &tail[length..];
    }
    for _ in 0..dice.below(4) {
        let n = dice.below(extensions.len().max(1));
        match dice.below(6) {
            0 if !extensions.is_empty() => drop(extensions.remove(n)),
            1 if !extensions.is_empty() => extensions.push(extensions[n].clone()),
            2 if !extensions.is_empty() => extensions.swap(0, n),
            3 => extensions.insert(n, (dice.one_of(&[0xfe0d, 0xffce, 41, 42, 0x0a0a, 21, 17513]), vec![0; dice.below(40)])),
            _ => {
                let name = dice.one_of(&HOSTS).as_bytes();
                let one = [&[dice.one_of(&[0, 0, 0, 1])][..], &field(2, name)].concat();
                let list = match dice.below(5) {
                    0 => [&one[..], &one].concat(),
                    1 => [&one[..], &[0]].concat(),
                    2 => Vec::new(),
                    _ => one,
                };
                extensions.retain(|(kind, _)| *kind != 0);
                extensions.insert(n.min(extensions.len()), (0, field(2, &list)));
            }
        }
    }
    let all: Vec<u8> = extensions.iter().flat_map(|(kind, data)| [&kind.to_be_bytes()[..], &field(2, data)].concat()).collect();
    let mut body = [front, &field(2, &all)].concat();
    match dice.below(10) {
        0 => body.push(0),
        1 => drop(body.pop()),
        _ => {}
    }
    let message = [&[dice.one_of(&[1, 1, 1, 1, 1, 1, 1, 2])][..], &field(3, &body)].concat();
    let size = dice.one_of(&[usize::MAX, usize::MAX, 1, 5, 100]).min(message.len());
    message.chunks(size).flat_map(|part| [&[22, 3, dice.one_of(&[1, 1, 3])][..], &field(2, part)].concat()).collect()
}

/// A rule, as a person or a stranger might write one.
pub(crate) fn rule(dice: &mut Dice) -> Vec<u8> {
    let methods = dice.one_of(&["", "", "", "GET ", "GET,HEAD ", ", ", "get ", "* "]);
    let host = match dice.below(4) {
        0 => format!("*.{}", dice.one_of(&HOSTS)),
        1 => dice.one_of(&["10.0.0.0/8", "10.0.0.0/33", "10.0.0.1/8", "::/0", "[fd00::]/8", "*", "*.*", "a.*.test"]).to_owned(),
        _ => dice.one_of(&HOSTS).to_owned(),
    };
    let path = dice.one_of(&["", "", "", "/", "/api/", "/a/../b", "/%2e", "//", "/a;b", "/*"]);
    let more =
        dice.one_of(&["", "", "", " opaque", " up=1MiB", " down=2GiB up=0", " up=-1", " opaque opaque", " allow", " up=99999999999999GiB"]);
    format!("{}{methods}{host}{}{path}{more}", dice.one_of(&["", "", "!", "!!"]), dice.one_of(&PORTS)).into_bytes()
}

use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Result<RequestHead<'_>, Flaw> {
    request(text.as_bytes())
}

#[test]
fn a_plain_request_is_read() {
    let head = read("GET http://a.b/x HTTP/1.1\r\nHost: a.b\r\nX:  y \r\n\r\n").expect("a request");
    assert_eq!((head.method, head.target, head.minor, head.headers.len()), ("GET", "http://a.b/x", 1, 2));
    assert_eq!(only(&head.headers, "x"), Ok(Some(&b"y"[..])));
    assert_eq!(head.length(), Ok(Length::Known(0)));
    assert!(head.keeps() && !read("GET / HTTP/1.0\r\n\r\n").expect("a request").keeps());
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    for bad in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\n: x\r\n\r\n",
        "GET / HTTP/1.1\r\nX: a\0b\r\n\r\n",
        "GET  / HTTP/1.1\r\n\r\n",
        "GET / x HTTP/1.1\r\n\r\n",
        "GET /\tx HTTP/1.1\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "GET / http/1.1\r\n\r\n",
        "GET /\r\n\r\n",
        "G\u{e9}T / HTTP/1.1\r\n\r\n",
        "GET /#x HTTP/1.1\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
        "\r\n\r\n",
    ] {
        assert!(read(bad).is_err(), "{bad:?} is a request");
    }
}

#[test]
fn one_length_and_no_other() {
    for bad in [
        "Content-Length: 1\r\nTransfer-Encoding: chunked",
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: 1\r\ncontent-length: 2",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length: ",
        "Content-Length: 9999999999999999999",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding:",
    ] {
        let text = format!("POST / HTTP/1.1\r\n{bad}\r\n\r\n");
        assert!(read(&text).expect("a head").length().is_err(), "{bad:?}");
        let text = format!("HTTP/1.1 200 OK\r\n{bad}\r\n\r\n");
        assert!(response(text.as_bytes()).expect("a head").length("GET").is_err(), "{bad:?}");
    }
    assert!(read("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n").expect("a head").length().is_err());
    assert_eq!(read("POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n").expect("a head").length(), Ok(Length::Chunked));
    assert_eq!(read("POST / HTTP/1.1\r\nContent-Length: 007\r\n\r\n").expect("a head").length(), Ok(Length::Known(7)));
}

#[test]
fn a_response_without_a_body_has_none() {
    let with = |status: &str, method: &str| {
        let text = format!("HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\n");
        response(text.as_bytes()).expect("a head").length(method)
    };
    assert_eq!(with("200 OK", "HEAD"), Ok(Length::Known(0)));
    assert_eq!(with("204 No", "GET"), Ok(Length::Known(0)));
    assert_eq!(with("304", "GET"), Ok(Length::Known(0)));
    assert_eq!(with("100 Continue", "GET"), Ok(Length::Known(0)));
    assert_eq!(with("200 OK", "GET"), Ok(Length::Known(9)));
    assert_eq!(response(b"HTTP/1.0 200\r\n\r\n").expect("a head").length("GET"), Ok(Length::UntilClose));
    for bad in [
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000\r\n\r\n",
        "HTTP/1.1  200\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "HTTP/1.1 200 O\x07K\r\n\r\n",
        "HTTP/1.1 099 x\r\n\r\n",
    ] {
        assert!(response(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn heads_have_an_end_and_a_bound() {
    assert_eq!(head_end(b"GET / HTTP/1.1\r\n\r\nrest", 0), Ok(Some(18)));
    assert_eq!(head_end(b"GET / HTTP/1.1\r\n\r", 0), Ok(None));
    assert!(head_end(&vec![b'a'; LONGEST_HEAD + 1], 0).is_err());
    assert!(head_end(b"\r\nGET / HTTP/1.1\r\n", 0).is_err(), "an empty line before a request");
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(MOST_HEADERS + 1));
    assert!(request(many.as_bytes()).is_err());
}

fn chunks(bytes: &[u8]) -> Result<(Vec<u8>, usize, bool), Flaw> {
    let mut body = Body::new(Length::Chunked);
    let mut content = Vec::new();
    let taken = body.take(bytes, |range| content.extend_from_slice(&bytes[range]))?;
    Ok((content, taken, body.is_done()))
}

#[test]
fn chunks_are_read_and_their_tricks_are_refused() {
    assert_eq!(chunks(b"5\r\nhello\r\n0\r\n\r\nGET"), Ok((b"hello".to_vec(), 15, true)));
    assert_eq!(chunks(b"A;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n").map(|c| c.2), Ok(true));
    for bad in [
        &b"5\nhello\r\n0\r\n\r\n"[..],
        b"5\r\nhello0\r\n\r\n",
        b"5\r\nhelloX\r\n",
        b"\r\n",
        b"-1\r\n",
        b"0x5\r\n",
        b"5 \r\n",
        b" 5\r\n",
        b"g\r\n",
        b"5\r\nhello\n0\r\n",
        b"FFFFFFFFFFFFFFFF\r\n",
        b"0\r\nX\n\r\n\r\n",
        b"0\r\n\n",
        b"5;\n\r\n",
        b"0\r\n\r\r",
    ] {
        assert!(chunks(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[ -~\r\n]{0,80}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            let _ = head_end(bytes, 0).is_ok();
            let _ = request(bytes).map(|head| (head.length(), head.keeps())).is_ok();
            let _ = response(bytes).map(|head| head.length("GET")).is_ok();
            let _ = chunks(bytes).is_ok();
        }
    }

    /// What is read does not depend on how the bytes arrive.
    #[test]
    fn chunked_bodies_are_the_same_in_any_pieces(
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..6), cut in 1_usize..9, tail in proptest::collection::vec(any::<u8>(), 0..5),
    ) {
        let mut wire = Vec::new();
        for part in &parts {
            wire.extend(format!("{:x}\r\n", part.len()).bytes().chain(part.iter().copied()).chain(*b"\r\n"));
        }
        wire.extend(b"0\r\n\r\n");
        let whole = wire.len();
        wire.extend(&tail);
        let (mut body, mut content, mut taken) = (Body::new(Length::Chunked), Vec::new(), 0);
        for piece in wire.chunks(cut) {
            let n = body.take(piece, |range| content.extend_from_slice(&piece[range])).expect("well formed");
            taken += n;
            if body.is_done() { break; }
            prop_assert_eq!(n, piece.len());
        }
        prop_assert!(body.is_done());
        prop_assert_eq!((taken, content), (whole, parts.concat()));
    }

    /// What is accepted means the same to a reader that only splits at CRLF and the first colon.
    #[test]
    fn an_accepted_head_has_one_reading(text in "(GET|POST) /[a-z]{0,3} HTTP/1\\.1\r\n([A-Za-z -]{1,8}:[ -~\r\n\t]{0,8}\r\n){0,3}\r\n") {
        if let Ok(head) = request(text.as_bytes()) {
            let lines: Vec<&str> = text.split("\r\n").skip(1).take_while(|l| !l.is_empty()).collect();
            prop_assert_eq!(lines.len(), head.headers.len());
            for (line, header) in lines.iter().zip(&head.headers) {
                let (name, value) = line.split_once(':').expect("a colon");
                prop_assert_eq!((name, value.as_bytes().trim_ascii()), (header.name, header.value));
            }
        }
    }
}

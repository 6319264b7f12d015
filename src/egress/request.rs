//! What a request wants, and how it is written anew for the server. Pure.

use super::http1::{Flaw, Length, RequestHead, is_hop, only, words};
use crate::base::host::Authority;

/// What a request on the proxy's port wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    Tunnel(Authority),
    /// One request, with its path and query.
    Fetch(Authority, String),
}

/// What is wanted of the proxy: a tunnel, or a whole `http://` address.
///
/// # Errors
/// When it says two things, or nothing that a proxy can do.
pub fn of_proxy(head: &RequestHead<'_>) -> Result<Wanted, Flaw> {
    if head.method == "CONNECT" {
        let target = Authority::parse(head.target, None).map_err(Flaw)?;
        if host(head)?.is_some_and(|named| Authority::parse(named, Some(target.port)) != Ok(target.clone())) {
            return Err(Flaw("its Host differs from what it asks for"));
        }
        return Ok(Wanted::Tunnel(target));
    }
    let rest = strip_scheme(head.target).ok_or(Flaw("this is a proxy: it takes CONNECT and addresses that begin with http://"))?;
    let (target, path) = split(rest)?;
    if host(head)?.is_some_and(|named| Authority::parse(named, Some(80)) != Ok(target.clone())) {
        return Err(Flaw("its Host differs from what it asks for"));
    }
    Ok(Wanted::Fetch(target, path))
}

/// The path of a request that came where only `target` is served.
///
/// # Errors
/// When it is for another host.
pub fn of_host(head: &RequestHead<'_>, target: &Authority) -> Result<String, Flaw> {
    let usual = if target.port == 443 { 443 } else { 80 };
    let same = |named: &str| Authority::parse(named, Some(if target.port == usual { usual } else { target.port })) == Ok(target.clone());
    // A client that leaves the port out means the one it connected to; one that gives it must give the right one.
    if !host(head)?.is_some_and(same) {
        return Err(Flaw("its Host differs from the host it was sent to"));
    }
    if head.target.starts_with('/') {
        return Ok(head.target.to_owned());
    }
    if head.target == "*" && head.method == "OPTIONS" {
        return Ok("*".to_owned());
    }
    let rest = strip_scheme(head.target).ok_or(Flaw("its target is neither a path nor an address"))?;
    let (named, path) = split(rest)?;
    if named == *target { Ok(path) } else { Err(Flaw("its address differs from the host it was sent to")) }
}

fn strip_scheme(target: &str) -> Option<&str> {
    let (scheme, rest) = target.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case("http://").then_some(rest)
}

fn split(rest: &str) -> Result<(Authority, String), Flaw> {
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let target = Authority::parse(&rest[..end], Some(80)).map_err(Flaw)?;
    let path = &rest[end..];
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((target, path))
}

/// The one `Host`. A request of version 1.1 must have it.
fn host<'a>(head: &RequestHead<'a>) -> Result<Option<&'a str>, Flaw> {
    match only(&head.headers, "host")? {
        Some(value) => std::str::from_utf8(value).map(Some).map_err(|_| Flaw("its Host is not ASCII")),
        None if head.minor == 1 && head.method != "CONNECT" => Err(Flaw("its Host is missing")),
        None => Ok(None),
    }
}

/// A header that we add, or put in the place of the client's own.
#[derive(Clone, Debug)]
pub struct Added {
    pub name: String,
    pub value: String,
}

/// The head as the server gets it: written from what was understood, without what concerns our own connection.
///
/// # Errors
/// When the body's length is not said plainly.
pub fn rewritten(
    head: &RequestHead<'_>,
    target: &Authority,
    usual_port: u16,
    path: &str,
    added: &[Added],
    without: &[&str],
) -> Result<(Vec<u8>, Length), Flaw> {
    let length = head.length()?;
    let connection = words(&head.headers, "connection");
    let mut out = Vec::with_capacity(512);
    out.extend(format!("{} {path} HTTP/1.1\r\nHost: {}", head.method, target.host).bytes());
    if target.port != usual_port {
        out.extend(format!(":{}", target.port).bytes());
    }
    out.extend(b"\r\n");
    for header in &head.headers {
        let replaced =
            added.iter().any(|a| a.name.eq_ignore_ascii_case(header.name)) || without.iter().any(|w| w.eq_ignore_ascii_case(header.name));
        if header.name.eq_ignore_ascii_case("host") || replaced || is_hop(header.name, &connection) {
            continue;
        }
        out.extend(header.name.bytes().chain(*b": ").chain(header.value.iter().copied()).chain(*b"\r\n"));
    }
    for Added { name, value } in added {
        out.extend(name.bytes().chain(*b": ").chain(value.bytes()).chain(*b"\r\n"));
    }
    if length == Length::Chunked {
        out.extend(b"Transfer-Encoding: chunked\r\n");
    }
    out.extend(b"\r\n");
    Ok((out, length))
}

#[cfg(test)]
mod tests {
    use super::super::http1;
    use super::*;

    fn proxy(text: &str) -> Result<Wanted, Flaw> {
        of_proxy(&http1::request(text.as_bytes())?)
    }

    fn at(text: &str) -> Authority {
        Authority::parse(text, None).unwrap()
    }

    #[test]
    fn a_proxy_request_names_one_host() {
        assert_eq!(proxy("CONNECT A.b.:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n"), Ok(Wanted::Tunnel(at("a.b:443"))));
        assert_eq!(proxy("CONNECT a.b:443 HTTP/1.1\r\n\r\n"), Ok(Wanted::Tunnel(at("a.b:443"))));
        assert_eq!(proxy("GET http://a.b/x?y HTTP/1.1\r\nHost: a.b\r\n\r\n"), Ok(Wanted::Fetch(at("a.b:80"), "/x?y".to_owned())));
        assert_eq!(proxy("GET HTTP://a.b?y HTTP/1.1\r\nHost: a.b:80\r\n\r\n"), Ok(Wanted::Fetch(at("a.b:80"), "/?y".to_owned())));
        for bad in [
            "CONNECT a.b HTTP/1.1\r\n\r\n",
            "CONNECT a.b:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n",
            "CONNECT user@a.b:443 HTTP/1.1\r\n\r\n",
            "CONNECT http://a.b:443 HTTP/1.1\r\n\r\n",
            "CONNECT a.b:443/x HTTP/1.1\r\n\r\n",
            "GET http://a.b/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            "GET http://a.b/ HTTP/1.1\r\nHost: a.b\r\nHost: a.b\r\n\r\n",
            "GET http://a.b/ HTTP/1.1\r\n\r\n",
            "GET http://a.b@evil.test/ HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            "GET http://evil.test/.a.b HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "GET http://a.b%2eevil.test/ HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "GET http://a.b\\@evil.test/ HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "GET https://a.b/ HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "GET ftp://a.b/ HTTP/1.1\r\nHost: a.b\r\n\r\n",
        ] {
            assert!(proxy(bad).is_err(), "{bad:?}: {:?}", proxy(bad));
        }
    }

    #[test]
    fn where_one_host_is_served_others_are_refused() {
        let path = |text: &str, target: &str| of_host(&http1::request(text.as_bytes())?, &at(target));
        assert_eq!(path("GET /x HTTP/1.1\r\nHost: a.b\r\n\r\n", "a.b:443"), Ok("/x".to_owned()));
        assert_eq!(path("GET /x HTTP/1.1\r\nHost: A.b.:8443\r\n\r\n", "a.b:8443"), Ok("/x".to_owned()));
        assert_eq!(path("GET http://a.b/x HTTP/1.1\r\nHost: a.b\r\n\r\n", "a.b:80"), Ok("/x".to_owned()));
        for bad in [
            "GET /x HTTP/1.1\r\nHost: evil.test\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: a.b:444\r\n\r\n",
            "GET http://evil.test/x HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "GET x HTTP/1.1\r\nHost: a.b\r\n\r\n",
            "GET /x HTTP/1.0\r\n\r\n",
        ] {
            assert!(path(bad, "a.b:443").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_head_is_written_anew() {
        let text = "POST http://a.b/x HTTP/1.1\r\nHost: A.B\r\nConnection: x-private, close\r\nX-Private: 1\r\nProxy-Authorization: secret\r\nX-Api-Key: theirs\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\nX-Gone: z\r\nX: y\r\n\r\n";
        let head = http1::request(text.as_bytes()).unwrap();
        let added = [Added { name: "x-api-key".to_owned(), value: "ours".to_owned() }];
        let (out, length) = rewritten(&head, &at("a.b:80"), 80, "/x", &added, &["x-gone"]).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /x HTTP/1.1\r\nHost: a.b\r\nX: y\r\nx-api-key: ours\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        assert_eq!(length, Length::Chunked);
    }

    #[test]
    fn a_body_never_goes_on_without_its_length() {
        let text = "POST /x HTTP/1.1\r\nHost: a.b\r\nConnection: Content-Length, host, transfer-encoding\r\nContent-Length: 5\r\n\r\n";
        let head = http1::request(text.as_bytes()).unwrap();
        let (out, length) = rewritten(&head, &at("a.b:80"), 80, "/x", &[], &[]).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "POST /x HTTP/1.1\r\nHost: a.b\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(length, Length::Known(5));
    }
}

//! A small HTTP client for the API of a CI: one request, one connection, strictly read, remembered by its ETag.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::base::host::{Authority, Host};
use crate::egress::http1::{self, Body, Flaw};

/// A server that does not let us in any faster is not there.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest silence of a server in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// A page of a hundred checks is a tenth of this.
const LONGEST_BODY: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("`{address}` is no address of an API: {why}")]
    Address { address: String, why: &'static str },
    #[error("{host} cannot be reached: {source}")]
    Reach { host: String, source: io::Error },
    #[error("{host} speaks no HTTP that can be trusted: {flaw}")]
    Flaw { host: String, flaw: Flaw },
}

/// Where an API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    tls: bool,
    authority: Authority,
    /// Of every path, without a slash at its end.
    prefix: String,
}

impl Address {
    /// `https://HOST[:PORT][/PREFIX]`. Without TLS only on this very host: a token is sent there.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(text: &str) -> Result<Self, HttpError> {
        let bad = |why| HttpError::Address { address: text.to_owned(), why };
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(bad("it begins with neither https:// nor http://")),
        };
        let (host, prefix) = rest.split_once('/').map_or((rest, ""), |(host, prefix)| (host, prefix));
        let authority = Authority::parse(host, Some(if tls { 443 } else { 80 })).map_err(bad)?;
        let is_here = match &authority.host {
            Host::Name(name) => name.as_str() == "localhost",
            Host::Address(ip) => ip.is_loopback(),
        };
        if !tls && !is_here {
            return Err(bad("a token is not sent without TLS"));
        }
        if !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./~".contains(&b)) {
            return Err(bad("its path holds characters that none needs"));
        }
        let prefix = prefix.trim_end_matches('/');
        Ok(Self { tls, authority, prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") } })
    }
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// How long it asks us to leave it alone.
    pub wait: Option<Duration>,
}

/// Talks to one API.
pub struct Client {
    address: Address,
    token: Option<String>,
    tls: Option<Arc<ClientConfig>>,
    /// By path: what was answered last, and its ETag.
    known: HashMap<String, (String, Answer)>,
}

impl std::fmt::Debug for Client {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Client {
    /// # Errors
    /// When this host trusts nobody.
    pub fn new(address: Address, token: Option<String>) -> io::Result<Self> {
        let tls = if address.tls { Some(Arc::new(crate::egress::client_config()?)) } else { None };
        Ok(Self { address, token, tls, known: HashMap::new() })
    }

    /// Asks for one page. What did not change since is not sent again.
    ///
    /// # Errors
    /// When there is no answer that can be understood.
    pub fn get(&mut self, path: &str) -> Result<Answer, HttpError> {
        let known = self.known.get(path).map(|(tag, _)| tag.clone());
        let (answer, tag) = self.ask(path, known.as_deref())?;
        if answer.status == 304
            && let Some((_, before)) = self.known.get(path)
        {
            return Ok(before.clone());
        }
        match tag.filter(|_| answer.status == 200) {
            Some(tag) => drop(self.known.insert(path.to_owned(), (tag, answer.clone()))),
            None => drop(self.known.remove(path)),
        }
        Ok(answer)
    }

    fn ask(&self, path: &str, tag: Option<&str>) -> Result<(Answer, Option<String>), HttpError> {
        let host = self.address.authority.to_string();
        let reach = |source| HttpError::Reach { host: host.clone(), source };
        let stream = self.connect().map_err(reach)?;
        let request = self.request(path, tag);
        let answered = match &self.tls {
            None => exchange(stream, &request),
            Some(config) => {
                let name = match &self.address.authority.host {
                    Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).map_err(|error| reach(io::Error::other(error)))?,
                    Host::Address(ip) => ServerName::IpAddress((*ip).into()),
                };
                let session = ClientConnection::new(config.clone(), name).map_err(|error| reach(io::Error::other(error)))?;
                exchange(StreamOwned::new(session, stream), &request)
            }
        };
        answered.map_err(|error| match error {
            Talk::Io(source) => reach(source),
            Talk::Flaw(flaw) => HttpError::Flaw { host: host.clone(), flaw },
        })
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let authority = &self.address.authority;
        let addresses: Vec<_> = match &authority.host {
            Host::Address(ip) => vec![(*ip, authority.port).into()],
            Host::Name(name) => (name.as_str(), authority.port).to_socket_addrs()?.collect(),
        };
        let mut last = io::Error::other("its name has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(SILENCE))?;
                    stream.set_write_timeout(Some(SILENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn request(&self, path: &str, tag: Option<&str>) -> Vec<u8> {
        let token = self.token.as_ref().map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
        let tag = tag.map_or_else(String::new, |tag| format!("If-None-Match: {tag}\r\n"));
        let head = format!(
            "GET {}{path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: cofferdam/{}\r\nAccept: application/vnd.github+json\r\n\
             X-GitHub-Api-Version: 2022-11-28\r\nConnection: close\r\n{token}{tag}\r\n",
            self.address.prefix,
            self.address.authority,
            env!("CARGO_PKG_VERSION")
        );
        head.into_bytes()
    }
}

enum Talk {
    Io(io::Error),
    Flaw(Flaw),
}

impl From<io::Error> for Talk {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Flaw> for Talk {
    fn from(flaw: Flaw) -> Self {
        Self::Flaw(flaw)
    }
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Result<(Answer, Option<String>), Talk> {
    stream.write_all(request)?;
    stream.flush()?;
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 16 << 10]);
    let mut read = |bytes: &mut Vec<u8>| -> Result<bool, Talk> {
        let count = match stream.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        bytes.extend_from_slice(&chunk[..count]);
        Ok(count > 0)
    };
    let cut_off = || Talk::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "the answer was cut off"));
    let mut from = 0;
    let end = loop {
        if let Some(end) = http1::head_end(&bytes, from)? {
            break end;
        }
        from = bytes.len();
        if !read(&mut bytes)? {
            return Err(cut_off());
        }
    };
    let head = http1::response(&bytes[..end])?;
    let text = |name: &str| -> Result<Option<String>, Flaw> {
        Ok(http1::only(&head.headers, name)?.and_then(|value| std::str::from_utf8(value).ok()).map(|value| value.trim().to_owned()))
    };
    let (status, wait) = (head.status, wait(&text)?);
    // What goes into our next request must be one plain line.
    let tag = text("etag")?.filter(|tag| tag.len() <= 200 && tag.bytes().all(|b| (b' '..127).contains(&b)));
    let (mut body, mut content) = (Body::new(head.length("GET")?), Vec::new());
    let mut rest = bytes.split_off(end);
    loop {
        let taken = body.take(&rest, |range| content.extend_from_slice(&rest[range]))?;
        rest.drain(..taken);
        if content.len() > LONGEST_BODY {
            return Err(Flaw("the answer is too long").into());
        }
        if body.is_done() {
            break;
        }
        if !read(&mut rest)? {
            if body.may_end() {
                break;
            }
            return Err(cut_off());
        }
    }
    Ok((Answer { status, body: content, wait }, tag))
}

/// How long the server asks us to wait: in so many words, or because the limit of requests is used up.
fn wait(text: &impl Fn(&str) -> Result<Option<String>, Flaw>) -> Result<Option<Duration>, Flaw> {
    let seconds = |value: Option<String>| value.and_then(|value| value.parse::<u64>().ok());
    if let Some(after) = seconds(text("retry-after")?) {
        return Ok(Some(Duration::from_secs(after)));
    }
    if seconds(text("x-ratelimit-remaining")?) != Some(0) {
        return Ok(None);
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Ok(seconds(text("x-ratelimit-reset")?).map(|reset| Duration::from_secs(reset.saturating_sub(now).max(1))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchanged(answer: &[u8]) -> Result<(Answer, Option<String>), Talk> {
        struct Wire<'a>(&'a [u8]);
        impl Read for Wire<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                // A byte at a time: nothing may depend on how it comes.
                let count = self.0.len().min(1).min(into.len());
                into[..count].copy_from_slice(&self.0[..count]);
                self.0 = &self.0[count..];
                Ok(count)
            }
        }
        impl Write for Wire<'_> {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        exchange(Wire(answer), b"GET")
    }

    #[test]
    fn answers_are_read_strictly() {
        for (answer, status, body) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"x\"\r\n\r\nhi"[..], 200, &b"hi"[..]),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", 200, b"hi"),
            (b"HTTP/1.0 404 No\r\n\r\nhi", 404, b"hi"),
            (b"HTTP/1.1 304 Same\r\nETag: \"x\"\r\n\r\n", 304, b""),
        ] {
            let Ok((answer, _)) = exchanged(answer) else { panic!("{}", String::from_utf8_lossy(answer)) };
            assert_eq!((answer.status, &answer.body[..]), (status, body));
        }
        for bad in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nhi",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhi",
            b"SSH-2.0-x\r\n\r\n",
        ] {
            assert!(exchanged(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_limit_says_how_long_to_wait() {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs();
        let waits = |headers: &str| {
            let answer = format!("HTTP/1.1 429 No\r\n{headers}Content-Length: 0\r\n\r\n");
            exchanged(answer.as_bytes()).map_or(None, |(answer, _)| answer.wait).map(|wait| wait.as_secs())
        };
        assert_eq!(waits("Retry-After: 7\r\n"), Some(7));
        let reset = waits(&format!("X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: {}\r\n", now + 100)).expect("a wait");
        assert!((98..=100).contains(&reset), "{reset}");
        assert_eq!(waits("X-RateLimit-Remaining: 5\r\nX-RateLimit-Reset: 99999999999\r\n"), None);
        assert_eq!(waits("Retry-After: soon\r\n"), None);
    }

    #[test]
    fn a_token_goes_nowhere_without_tls_but_to_this_host() {
        for good in [
            "https://api.github.com",
            "https://ghe.example.org:8443/api/v3/",
            "http://127.0.0.1:8080",
            "http://localhost/x",
            "http://[::1]:1",
        ] {
            assert!(Address::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "http://api.github.com",
            "api.github.com",
            "ftp://x",
            "https://",
            "https://a b",
            "https://x/a?b",
            "https://x/\r\nA: b",
            "http://localhost.example.org",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}

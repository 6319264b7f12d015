//! HTTP/1.1 as bytes: heads and bodies, read strictly, without any input or output of its own. Pure.
//!
//! Where two readers could disagree, this one refuses: a lone LF or CR, a space before a colon, a folded line, two `Host`, two lengths, a
//! length beside a transfer coding. What is sent on is written anew from what was understood, never copied.

use std::ops::Range;

/// No head is longer.
pub const LONGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 128;
const LONGEST_TARGET: usize = 16 * 1024;
/// The longest line that says how long a chunk is, and the longest trailer behind the last one.
const LONGEST_CHUNK_LINE: usize = 256;
const LONGEST_TRAILER: usize = 8 * 1024;

/// Why bytes are refused, in words for a 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Flaw(pub &'static str);

/// A line with a name and a value; the value may hold bytes beyond ASCII, and no control characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    pub name: &'a str,
    pub value: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    pub method: &'a str,
    pub target: &'a str,
    /// 0 or 1.
    pub minor: u8,
    pub headers: Vec<Header<'a>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead<'a> {
    pub status: u16,
    pub reason: &'a [u8],
    pub minor: u8,
    pub headers: Vec<Header<'a>>,
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    Known(u64),
    Chunked,
    /// To the end of the connection; only a response may be.
    UntilClose,
}

/// Where the head ends (behind its empty line), looking from `from`, up to where it was looked before. Bytes before a head are not skipped.
///
/// # Errors
/// When there is none within the bound.
pub fn head_end(bytes: &[u8], from: usize) -> Result<Option<usize>, Flaw> {
    let start = from.saturating_sub(3);
    let found = bytes.get(start..).and_then(|rest| rest.windows(4).position(|w| w == b"\r\n\r\n")).map(|at| start + at + 4);
    match found {
        Some(end) if end > LONGEST_HEAD => Err(Flaw("the head is too long")),
        None if bytes.len() > LONGEST_HEAD => Err(Flaw("the head is too long")),
        // An empty line cannot be the end of a head that has not begun.
        None if bytes.first().is_some_and(|b| !b.is_ascii_graphic()) => Err(Flaw("it does not begin with a request")),
        found => Ok(found),
    }
}

/// Reads a request's head: everything up to and with its empty line.
///
/// # Errors
/// What is wrong with it.
pub fn request(head: &[u8]) -> Result<RequestHead<'_>, Flaw> {
    let mut lines = lines(head)?;
    let line = std::str::from_utf8(lines.next().ok_or(Flaw("it is empty"))?).map_err(|_| Flaw("the request line is not ASCII"))?;
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err(Flaw("the request line is not METHOD TARGET VERSION"));
    };
    if method.is_empty() || method.len() > 32 || !method.bytes().all(is_token) {
        return Err(Flaw("the method is not one"));
    }
    if target.is_empty() || target.len() > LONGEST_TARGET || !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
        return Err(Flaw("the target holds characters that none may hold, or is too long"));
    }
    let minor = minor(version)?;
    Ok(RequestHead { method, target, minor, headers: headers(lines)? })
}

/// Reads a response's head.
///
/// # Errors
/// What is wrong with it.
pub fn response(head: &[u8]) -> Result<ResponseHead<'_>, Flaw> {
    let mut lines = lines(head)?;
    let line = lines.next().ok_or(Flaw("it is empty"))?;
    let (version, rest) = line.split_at_checked(8).ok_or(Flaw("the status line is too short"))?;
    let minor = minor(std::str::from_utf8(version).map_err(|_| Flaw("the version is not ASCII"))?)?;
    let status = match rest {
        [b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', tail @ ..] if tail.first().is_none_or(|b| *b == b' ') => {
            u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
        }
        _ => return Err(Flaw("the status is not three digits")),
    };
    let reason = rest.get(5..).unwrap_or_default();
    if !reason.iter().all(|b| is_text(*b)) {
        return Err(Flaw("the reason holds control characters"));
    }
    Ok(ResponseHead { status, reason, minor, headers: headers(lines)? })
}

/// The lines of a head, each without its CRLF; a CR or LF of any other kind is refused.
fn lines(head: &[u8]) -> Result<impl Iterator<Item = &[u8]>, Flaw> {
    let body = head.strip_suffix(b"\r\n\r\n").ok_or(Flaw("the head has no end"))?;
    let mut rest = body;
    while let Some(at) = rest.iter().position(|b| *b == b'\r' || *b == b'\n') {
        if rest.get(at..at + 2) != Some(b"\r\n") {
            return Err(Flaw("a line ends with a lone CR or LF"));
        }
        rest = &rest[at + 2..];
    }
    let mut left = Some(body);
    Ok(std::iter::from_fn(move || {
        let rest = left?;
        let at = rest.windows(2).position(|w| w == b"\r\n");
        left = at.map(|at| &rest[at + 2..]);
        Some(at.map_or(rest, |at| &rest[..at]))
    }))
}

fn minor(version: &str) -> Result<u8, Flaw> {
    match version {
        "HTTP/1.1" => Ok(1),
        "HTTP/1.0" => Ok(0),
        _ => Err(Flaw("the version is neither HTTP/1.1 nor HTTP/1.0")),
    }
}

fn headers<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Header<'a>>, Flaw> {
    let mut headers = Vec::new();
    for line in lines {
        if headers.len() == MOST_HEADERS {
            return Err(Flaw("there are too many headers"));
        }
        let colon = line.iter().position(|b| *b == b':').ok_or(Flaw("a header has no colon"))?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        // A folded line begins with a space, and a space before the colon hides a name.
        if name.is_empty() || !name.iter().copied().all(is_token) {
            return Err(Flaw("a header's name is not one, or is folded"));
        }
        if !value.iter().all(|b| is_text(*b)) {
            return Err(Flaw("a header's value holds control characters"));
        }
        let name = std::str::from_utf8(name).map_err(|_| Flaw("a header's name is not ASCII"))?;
        headers.push(Header { name, value: value.trim_ascii() });
    }
    Ok(headers)
}

pub const fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

const fn is_text(b: u8) -> bool {
    b == b'\t' || (b >= b' ' && b != 127)
}

/// The one value of a header. `None` when it is not there.
///
/// # Errors
/// When it is there twice.
pub fn only<'a>(headers: &[Header<'a>], name: &str) -> Result<Option<&'a [u8]>, Flaw> {
    let mut found = headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    let first = found.next();
    if found.next().is_some() { Err(Flaw("a header that may be there once is there twice")) } else { Ok(first) }
}

/// The words of a list header such as `Connection`, in lower case.
pub fn words(headers: &[Header<'_>], name: &str) -> Vec<String> {
    let values =
        headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name)).map(|h| String::from_utf8_lossy(h.value).to_ascii_lowercase());
    values.flat_map(|v| v.split(',').map(|w| w.trim().to_owned()).collect::<Vec<_>>()).filter(|w| !w.is_empty()).collect()
}

fn declared(headers: &[Header<'_>], minor: u8) -> Result<Option<Length>, Flaw> {
    let coding = only(headers, "transfer-encoding")?;
    let length = only(headers, "content-length")?;
    match (coding, length) {
        (Some(_), Some(_)) => Err(Flaw("both a length and a transfer coding are given")),
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") && minor == 1 => Ok(Some(Length::Chunked)),
        (Some(_), None) => Err(Flaw("the transfer coding is not chunked")),
        (None, Some(digits)) => {
            let plain = !digits.is_empty() && digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit);
            let number = std::str::from_utf8(digits).ok().filter(|_| plain).and_then(|d| d.parse().ok());
            number.map(|n| Some(Length::Known(n))).ok_or(Flaw("the length is not a number"))
        }
        (None, None) => Ok(None),
    }
}

impl RequestHead<'_> {
    /// # Errors
    /// When it is said twice, or not plainly.
    pub fn length(&self) -> Result<Length, Flaw> {
        Ok(declared(&self.headers, self.minor)?.unwrap_or(Length::Known(0)))
    }

    /// Does the client want to speak WebSocket on this connection? Offers of HTTP/2 are declined by silence.
    pub fn upgrades(&self) -> bool {
        words(&self.headers, "upgrade").iter().any(|w| w == "websocket")
    }

    /// Does the client want to go on with this connection?
    pub fn keeps(&self) -> bool {
        keeps(&self.headers, self.minor)
    }
}

impl ResponseHead<'_> {
    /// # Errors
    /// When it is said twice, or not plainly.
    pub fn length(&self, method: &str) -> Result<Length, Flaw> {
        let declared = declared(&self.headers, self.minor)?;
        if method == "HEAD" || self.status < 200 || matches!(self.status, 204 | 304) {
            return Ok(Length::Known(0));
        }
        Ok(declared.unwrap_or(Length::UntilClose))
    }

    pub fn keeps(&self) -> bool {
        keeps(&self.headers, self.minor)
    }
}

fn keeps(headers: &[Header<'_>], minor: u8) -> bool {
    let words = words(headers, "connection");
    if minor == 0 { words.iter().any(|w| w == "keep-alive") } else { !words.iter().any(|w| w == "close") }
}

/// Headers that concern one connection only and are never passed on.
pub fn is_hop(name: &str, connection: &[String]) -> bool {
    const HOP: [&str; 10] = [
        "connection",
        "proxy-connection",
        "keep-alive",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    ];
    // Whoever names the length a matter of one connection would have its body go on without it, to be read as a request.
    let named = connection.iter().any(|named| name.eq_ignore_ascii_case(named)) && !name.eq_ignore_ascii_case("content-length");
    named || HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop))
}

/// A body as it passes: how much of the bytes at hand belongs to it, and which of them are its content.
#[derive(Clone, Debug)]
pub struct Body {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Counted(u64),
    UntilClose,
    /// The line that says how long the next chunk is.
    Size {
        number: u64,
        digits: u8,
        line: usize,
        extension: bool,
        cr: bool,
    },
    Data(u64),
    /// CR and LF behind a chunk.
    AfterData(u8),
    /// Headers behind the last chunk, up to an empty line: how long they are, the last four bytes, how long the name is, and whether its colon was
    /// there.
    Trailer {
        length: usize,
        last: [u8; 4],
        name: usize,
        value: bool,
    },
    Done,
}

const NEW_SIZE: State = State::Size { number: 0, digits: 0, line: 0, extension: false, cr: false };

impl Body {
    pub fn new(length: Length) -> Self {
        let state = match length {
            Length::Known(0) => State::Done,
            Length::Known(n) => State::Counted(n),
            Length::Chunked => NEW_SIZE,
            Length::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// May the connection end here? Only a body without a length ends with it.
    pub fn may_end(&self) -> bool {
        matches!(self.state, State::Done | State::UntilClose)
    }

    /// Takes what belongs to the body from the front of `bytes`: how many bytes that are. `content` gets the ranges that are content.
    ///
    /// # Errors
    /// When the chunks are not written as they must be.
    pub fn take(&mut self, bytes: &[u8], mut content: impl FnMut(Range<usize>)) -> Result<usize, Flaw> {
        let mut at = 0;
        while at < bytes.len() {
            match &mut self.state {
                State::Done => break,
                State::UntilClose => {
                    content(at..bytes.len());
                    at = bytes.len();
                }
                State::Counted(left) | State::Data(left) => {
                    let n = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - at);
                    content(at..at + n);
                    at += n;
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = if matches!(self.state, State::Data(_)) { State::AfterData(0) } else { State::Done };
                    }
                }
                _ => {
                    self.structure(bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    fn structure(&mut self, byte: u8) -> Result<(), Flaw> {
        match &mut self.state {
            State::Size { number, digits, line, extension, cr } => {
                *line += 1;
                if *line > LONGEST_CHUNK_LINE {
                    return Err(Flaw("the line before a chunk is too long"));
                }
                match (byte, *cr) {
                    (b'\n', true) if *digits > 0 => {
                        self.state = if *number == 0 {
                            State::Trailer { length: 0, last: *b"\0\0\r\n", name: 0, value: false }
                        } else {
                            State::Data(*number)
                        };
                    }
                    (b'\r', false) => *cr = true,
                    (b';', false) if *digits > 0 => *extension = true,
                    (b, false) if *extension && is_text(b) => {}
                    (b, false) if !*extension && b.is_ascii_hexdigit() && *digits < 15 => {
                        *digits += 1;
                        *number = *number << 4 | u64::from(char::from(b).to_digit(16).unwrap_or(0));
                    }
                    _ => return Err(Flaw("the length of a chunk is not a number")),
                }
            }
            State::AfterData(seen) => match (byte, *seen) {
                (b'\r', 0) => *seen = 1,
                (b'\n', 1) => self.state = NEW_SIZE,
                _ => return Err(Flaw("a chunk is longer than it says")),
            },
            State::Trailer { length, last, name, value } => {
                *length += 1;
                if *length > LONGEST_TRAILER {
                    return Err(Flaw("what follows the last chunk is too long"));
                }
                let before = last[3];
                last.rotate_left(1);
                last[3] = byte;
                // A server that knows no trailers takes what it finds there for its next request: it must be nothing but headers.
                match byte {
                    b'\n' if before == b'\r' => (*name, *value) = (0, false),
                    _ if before == b'\r' => return Err(Flaw("what follows the last chunk is not lines")),
                    b'\r' if *value || *name == 0 => {}
                    b':' if *name > 0 => *value = true,
                    b if *value && is_text(b) => {}
                    b if !*value && is_token(b) => *name += 1,
                    _ => return Err(Flaw("what follows the last chunk is no header")),
                }
                if last == b"\r\n\r\n" {
                    self.state = State::Done;
                }
            }
            State::Counted(_) | State::UntilClose | State::Data(_) | State::Done => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "http1_tests.rs"]
mod tests;

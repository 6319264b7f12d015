//! The first message of a TLS client, as far as it says which name it is for. Pure.
//!
//! Only what decides is read: that it is a ClientHello, its server name, and whether the real name is hidden from us. The message may come in
//! several records; it is bounded, and what does not add up is refused.

use super::http1::Flaw;
use crate::base::host::Name;

/// No hello is longer; with post-quantum keys they reach some 2 KiB.
pub const LONGEST: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
/// Encrypted names: ECH, its old draft form, and ESNI before it.
const HIDDEN: [u16; 2] = [0xfe0d, 0xffce];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    pub name: Option<Name>,
    /// A name is there that only the server can read.
    pub hidden: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    More,
    Hello(Hello),
    /// The first bytes are not those of TLS.
    NotTls,
}

/// Looks at what a client sent first.
///
/// # Errors
/// When it begins like TLS and is none, or names its server in a way that is no name.
pub fn look(bytes: &[u8]) -> Result<Seen, Flaw> {
    match bytes {
        [] => return Ok(Seen::More),
        [first, ..] if *first != HANDSHAKE => return Ok(Seen::NotTls),
        [_, major, ..] if *major != 3 => return Ok(Seen::NotTls),
        _ => {}
    }
    let mut message = Vec::new();
    let mut rest = bytes;
    loop {
        if let [kind, a, b, c, ..] = message[..] {
            if kind != CLIENT_HELLO {
                return Err(Flaw("the first TLS message is not a client's hello"));
            }
            let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            if length > LONGEST {
                return Err(Flaw("the client's hello is too long"));
            }
            if let Some(body) = message.get(4..4 + length) {
                return hello(body).map(Seen::Hello);
            }
        }
        let [kind, major, _, high, low, tail @ ..] = rest else { return more(bytes) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if *kind != HANDSHAKE || *major != 3 || length == 0 || length > LONGEST {
            return Err(Flaw("the client's hello is cut into records that are none"));
        }
        let (record, after) = tail.split_at_checked(length).unwrap_or((tail, &[]));
        message.extend_from_slice(record);
        if tail.len() < length {
            // The whole message may be here although its record is not: wait for the record, so that nothing depends on timing.
            return more(bytes);
        }
        rest = after;
    }
}

fn more(bytes: &[u8]) -> Result<Seen, Flaw> {
    if bytes.len() > LONGEST + 1024 { Err(Flaw("the client's hello is too long")) } else { Ok(Seen::More) }
}

/// Reads length-prefixed fields from the front.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Flaw> {
        let (field, rest) = self.0.split_at_checked(length).ok_or(Flaw("a field of the client's hello is longer than the hello"))?;
        self.0 = rest;
        Ok(field)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, Flaw> {
        Ok(self.take(bytes)?.iter().fold(0, |n, b| n << 8 | usize::from(*b)))
    }

    fn field(&mut self, prefix: usize) -> Result<&'a [u8], Flaw> {
        let length = self.number(prefix)?;
        self.take(length)
    }
}

fn hello(body: &[u8]) -> Result<Hello, Flaw> {
    let mut fields = Fields(body);
    fields.take(2 + 32)?;
    fields.field(1)?;
    fields.field(2)?;
    fields.field(1)?;
    let mut found = Hello { name: None, hidden: false };
    if fields.0.is_empty() {
        return Ok(found);
    }
    let mut extensions = Fields(fields.field(2)?);
    if !fields.0.is_empty() {
        return Err(Flaw("there are bytes behind the client's hello"));
    }
    let mut seen = Vec::new();
    while !extensions.0.is_empty() {
        let kind = u16::try_from(extensions.number(2)?).unwrap_or(u16::MAX);
        let data = extensions.field(2)?;
        if seen.contains(&kind) {
            return Err(Flaw("an extension of the client's hello is there twice"));
        }
        seen.push(kind);
        if HIDDEN.contains(&kind) {
            found.hidden = true;
        }
        if kind == SERVER_NAME {
            found.name = Some(server_name(data)?);
        }
    }
    Ok(found)
}

/// Exactly one name, of the one kind there is.
fn server_name(data: &[u8]) -> Result<Name, Flaw> {
    let mut outer = Fields(data);
    let mut list = Fields(outer.field(2)?);
    let kind = list.number(1)?;
    let name = list.field(2)?;
    if kind != 0 || !list.0.is_empty() || !outer.0.is_empty() {
        return Err(Flaw("the client's hello names more than one server"));
    }
    // A name in a hello has no dot at its end; servers differ on what one with a dot means.
    let text = std::str::from_utf8(name).ok().filter(|text| !text.ends_with('.'));
    text.and_then(|text| Name::parse(text).ok()).ok_or(Flaw("the server's name in the client's hello is no host name"))
}

#[cfg(test)]
#[path = "client_hello_tests.rs"]
mod tests;

//! DNS as bytes (RFC 1035): questions from inside and our answers to them; our own questions to a name server and its answers. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::http1::Flaw;
use crate::base::host::Name;

pub const A: u16 = 1;
pub const AAAA: u16 = 28;
const CNAME: u16 = 5;
const IN: u16 = 1;
const HEADER: usize = 12;
/// No more records of an answer are looked at.
const MOST_RECORDS: usize = 256;
/// No chain of other names is longer.
const MOST_ALIASES: usize = 16;
const MOST_ADDRESSES: usize = 32;

const LONGEST_TTL: u32 = i32::MAX.unsigned_abs();

/// How long what we answer may be remembered: our addresses stay as long as the sandbox.
const OUR_TTL: u32 = 60;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub id: u16,
    /// `None` when what is asked about is no host name.
    pub name: Option<Name>,
    pub kind: u16,
    /// As it was sent, for the answer.
    wire: Vec<u8>,
    recursion: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Address(Ipv4Addr),
    /// The name is there, and has nothing of this kind.
    Nothing,
    NoSuchName,
    /// We could not find out.
    Failure,
    NotImplemented,
}

/// Reads a question from inside.
///
/// # Errors
/// When it is none; nothing is answered then.
pub fn question(bytes: &[u8]) -> Result<Question, Flaw> {
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Flaw("it is too short for a question"))?;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let flags = number(2);
    if flags & 0x8000 != 0 || number(4) != 1 {
        return Err(Flaw("it is not one question"));
    }
    let (text, end) = name(bytes, HEADER)?;
    if !is_written_out(&bytes[HEADER..end]) {
        // There is nothing before it that it could point to: another reader may find another name, and our answer would hold a third.
        return Err(Flaw("the question's name is not written out"));
    }
    let tail = bytes.get(end..end + 4).ok_or(Flaw("the question is cut"))?;
    let (kind, class) = (u16::from_be_bytes([tail[0], tail[1]]), u16::from_be_bytes([tail[2], tail[3]]));
    let plain = flags & 0x7800 == 0 && class == IN;
    let wire = bytes[HEADER..end + 4].to_vec();
    Ok(Question {
        id: number(0),
        name: text.filter(|_| plain).and_then(|t| Name::parse(&t).ok()),
        kind,
        wire,
        recursion: flags & 0x100 != 0,
    })
}

/// Our answer to a question.
pub fn answer(question: &Question, answer: Answer) -> Vec<u8> {
    let (code, address) = match answer {
        Answer::Address(ip) => (0, Some(ip)),
        Answer::Nothing => (0, None),
        Answer::NoSuchName => (3, None),
        Answer::Failure => (2, None),
        Answer::NotImplemented => (4, None),
    };
    // An answer, with recursion when it was asked for.
    let flags = 0x8080 | u16::from(question.recursion) << 8 | code;
    let mut out = Vec::with_capacity(HEADER + question.wire.len() + 16);
    for number in [question.id, flags, 1, u16::from(address.is_some()), 0, 0] {
        out.extend(number.to_be_bytes());
    }
    out.extend(&question.wire);
    if let Some(ip) = address {
        out.extend([0xc0, 12, 0, 1, 0, 1]);
        out.extend(OUR_TTL.to_be_bytes());
        out.extend([0, 4]);
        out.extend(ip.octets());
    }
    out
}

/// Our own question to a name server.
pub fn ask(id: u16, wanted: &Name, kind: u16) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + wanted.as_str().len() + 6);
    for number in [id, 0x0100, 1, 0, 0, 0] {
        out.extend(number.to_be_bytes());
    }
    for label in wanted.as_str().split('.') {
        out.push(u8::try_from(label.len()).unwrap_or(0));
        out.extend(label.bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend(IN.to_be_bytes());
    out
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The addresses, and for how many seconds they hold.
    Addresses(Vec<IpAddr>, u32),
    NoSuchName,
    /// The answer did not fit: ask again over TCP.
    Cut,
    /// The server refused or failed.
    Failed,
}

/// Reads a name server's answer to [`ask`].
///
/// # Errors
/// When it is no answer to that very question: somebody else's, or nonsense.
pub fn reply(bytes: &[u8], id: u16, wanted: &Name, kind: u16) -> Result<Reply, Flaw> {
    let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Flaw("it is too short for an answer"))?;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let flags = number(2);
    if number(0) != id || flags & 0xf800 != 0x8000 || number(4) != 1 {
        return Err(Flaw("it is no answer to our question"));
    }
    let (asked, end) = name(bytes, HEADER)?;
    let same = asked.as_deref().is_some_and(|asked| asked.eq_ignore_ascii_case(wanted.as_str()));
    if !same || bytes.get(end..end + 4) != Some(&[kind.to_be_bytes(), IN.to_be_bytes()].concat()[..]) {
        return Err(Flaw("it answers another question"));
    }
    match (flags & 0x0200 != 0, flags & 0xf) {
        (true, _) => return Ok(Reply::Cut),
        (_, 0) => {}
        (_, 3) => return Ok(Reply::NoSuchName),
        _ => return Ok(Reply::Failed),
    }
    let records = records(bytes, end + 4, usize::from(number(6)).min(MOST_RECORDS))?;
    // Follow the chain of other names from ours: addresses of names that it does not lead to are not ours.
    let mut at = wanted.as_str().to_owned();
    let mut ttl = u32::MAX;
    for _ in 0..MOST_ALIASES {
        let Some(alias) = records.iter().find(|r| r.kind == CNAME && r.owner.eq_ignore_ascii_case(&at)) else { break };
        ttl = ttl.min(alias.ttl);
        at = name(bytes, alias.data.start)?.0.ok_or(Flaw("an alias is no name"))?;
    }
    let mut addresses = Vec::new();
    for record in records.iter().filter(|r| r.kind == kind && r.owner.eq_ignore_ascii_case(&at)).take(MOST_ADDRESSES) {
        let data = &bytes[record.data.clone()];
        let ip = match kind {
            A => <[u8; 4]>::try_from(data).ok().map(|a| IpAddr::from(Ipv4Addr::from(a))),
            _ => <[u8; 16]>::try_from(data).ok().map(|a| IpAddr::from(Ipv6Addr::from(a))),
        };
        addresses.push(ip.ok_or(Flaw("an address is of the wrong length"))?);
        ttl = ttl.min(record.ttl);
    }
    Ok(Reply::Addresses(addresses, ttl))
}

struct Record {
    owner: String,
    kind: u16,
    ttl: u32,
    data: std::ops::Range<usize>,
}

fn records(bytes: &[u8], mut at: usize, count: usize) -> Result<Vec<Record>, Flaw> {
    let mut found = Vec::new();
    for _ in 0..count {
        let (owner, end) = name(bytes, at)?;
        let fixed: &[u8; 10] = bytes.get(end..).and_then(|rest| rest.first_chunk()).ok_or(Flaw("a record is cut"))?;
        let data = end + 10..end + 10 + usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        at = data.end;
        if at > bytes.len() {
            return Err(Flaw("a record is cut"));
        }
        let (kind, class) = (u16::from_be_bytes([fixed[0], fixed[1]]), u16::from_be_bytes([fixed[2], fixed[3]]));
        if let (Some(owner), IN) = (owner, class) {
            let ttl = u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]);
            // One with its highest bit set is none at all (RFC 2181, section 8), and the answer holds for no longer than it is used.
            found.push(Record { owner, kind, ttl: if ttl > LONGEST_TTL { 0 } else { ttl }, data });
        }
    }
    Ok(found)
}

/// Is this a name of labels alone, without a pointer to elsewhere?
fn is_written_out(mut name: &[u8]) -> bool {
    while let [length @ 1..=63, rest @ ..] = name {
        name = rest.get(usize::from(*length)..).unwrap_or_default();
    }
    name == [0]
}

/// The name at a place, and where it ends. `None` for one that holds bytes no host name has, and for the root.
fn name(bytes: &[u8], start: usize) -> Result<(Option<String>, usize), Flaw> {
    let (mut at, mut end, mut text, mut plain) = (start, None, String::new(), true);
    // Each pointer leads further back, so that there is no circle; and a name has no more than 255 bytes.
    let mut before = start;
    loop {
        match *bytes.get(at).ok_or(Flaw("a name is cut"))? {
            0 => break,
            length @ 1..=63 => {
                let label = bytes.get(at + 1..at + 1 + usize::from(length)).ok_or(Flaw("a name is cut"))?;
                at += 1 + label.len();
                plain &= label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
                if !text.is_empty() {
                    text.push('.');
                }
                text.extend(label.iter().map(|b| char::from(*b)));
                if text.len() > 1024 {
                    return Err(Flaw("a name is too long"));
                }
            }
            high @ 0xc0.. => {
                let low = *bytes.get(at + 1).ok_or(Flaw("a name is cut"))?;
                end.get_or_insert(at + 2);
                at = usize::from(high & 0x3f) << 8 | usize::from(low);
                if at >= before {
                    return Err(Flaw("a name points forward"));
                }
                before = at;
            }
            _ => return Err(Flaw("a name has a label of an unknown kind")),
        }
    }
    Ok(((plain && !text.is_empty()).then_some(text), end.unwrap_or(at + 1)))
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;

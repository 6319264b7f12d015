//! Names to addresses, by a small resolver of our own: libc's does not work in a static program, and what it asks is not seen.
//!
//! Asks the host's name servers (`/etc/resolv.conf`), after `/etc/hosts`; no search domains: a name is asked for as it was decided about.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::dns::{self, Reply};
use crate::base::host::Name;

/// How long one server may take for one answer, and how often all are asked.
const PATIENCE: Duration = Duration::from_secs(3);
const ROUNDS: usize = 2;
const MOST_SERVERS: usize = 3;
/// No answer is remembered longer, whatever it says.
const LONGEST_TTL: u32 = 60;
const MOST_REMEMBERED: usize = 512;
/// No answer over UDP is larger than what fits without fragments; a cut one is asked for again over TCP.
const LARGEST: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("no such name")]
    NoSuchName,
    #[error("the name has no address")]
    NoAddress,
    #[error("no name server answered")]
    NoAnswer,
    #[error("this host names no name server in /etc/resolv.conf")]
    NoServer,
}

/// Where names are asked for.
#[derive(Debug)]
pub struct Resolver {
    servers: Vec<SocketAddr>,
    hosts: HashMap<Name, Vec<IpAddr>>,
    remembered: Mutex<HashMap<Name, (Vec<IpAddr>, Instant)>>,
}

impl Resolver {
    /// With the host's own settings.
    pub fn of_host() -> Self {
        let text = |path: &str| fs_err::read_to_string(Path::new(path)).unwrap_or_default();
        Self::new(servers(&text("/etc/resolv.conf")), hosts(&text("/etc/hosts")))
    }

    /// With one name server and nothing else: what a human names.
    pub fn with_server(server: SocketAddr) -> Self {
        Self::new(vec![server], HashMap::new())
    }

    fn new(servers: Vec<SocketAddr>, hosts: HashMap<Name, Vec<IpAddr>>) -> Self {
        Self { servers, hosts, remembered: Mutex::default() }
    }

    /// The addresses of a name, those of IPv4 first: fewer hosts have none.
    ///
    /// # Errors
    /// When there are none.
    pub async fn resolve(&self, name: &Name) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(addresses) = self.hosts.get(name) {
            return Ok(addresses.clone());
        }
        if let Some(addresses) = self.remembered(name) {
            return Ok(addresses);
        }
        let (four, six) = tokio::join!(self.ask(name, dns::A), self.ask(name, dns::AAAA));
        let mut addresses = Vec::new();
        let mut lasts = LONGEST_TTL;
        let mut why = None;
        for answer in [four, six] {
            match answer {
                Ok((found, ttl)) => {
                    lasts = if found.is_empty() { lasts } else { lasts.min(ttl) };
                    addresses.extend(found);
                }
                Err(error) => why = Some(error),
            }
        }
        if addresses.is_empty() {
            return Err(why.unwrap_or(ResolveError::NoAddress));
        }
        self.remember(name, &addresses, lasts);
        Ok(addresses)
    }

    fn remembered(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let remembered = self.remembered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        remembered.get(name).filter(|(_, until)| Instant::now() < *until).map(|(addresses, _)| addresses.clone())
    }

    fn remember(&self, name: &Name, addresses: &[IpAddr], seconds: u32) {
        let mut remembered = self.remembered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if remembered.len() >= MOST_REMEMBERED {
            remembered.clear();
        }
        remembered.insert(name.clone(), (addresses.to_vec(), Instant::now() + Duration::from_secs(seconds.into())));
    }

    async fn ask(&self, name: &Name, kind: u16) -> Result<(Vec<IpAddr>, u32), ResolveError> {
        if self.servers.is_empty() {
            return Err(ResolveError::NoServer);
        }
        for _ in 0..ROUNDS {
            for server in &self.servers {
                match ask_one(*server, name, kind).await {
                    Ok(Reply::Addresses(addresses, ttl)) => return Ok((addresses, ttl)),
                    Ok(Reply::NoSuchName) => return Err(ResolveError::NoSuchName),
                    // Another server may know better.
                    Ok(Reply::Cut | Reply::Failed) | Err(_) => {}
                }
            }
        }
        Err(ResolveError::NoAnswer)
    }
}

async fn ask_one(server: SocketAddr, name: &Name, kind: u16) -> io::Result<Reply> {
    let id = random()?;
    let question = dns::ask(id, name, kind);
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0; 16], 0).into() };
    // A fresh socket for each question: its port is random too, and only the server's answers reach it.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(&question).await?;
    let mut bytes = vec![0; LARGEST];
    let answered = timeout(PATIENCE, async {
        loop {
            let length = socket.recv(&mut bytes).await?;
            // Somebody else's answer, or a late one: the right one may still come.
            if let Ok(reply) = dns::reply(&bytes[..length], id, name, kind) {
                return io::Result::Ok(reply);
            }
        }
    });
    match answered.await?? {
        Reply::Cut => timeout(PATIENCE, ask_by_tcp(server, &question, id, name, kind)).await?,
        reply => Ok(reply),
    }
}

async fn ask_by_tcp(server: SocketAddr, question: &[u8], id: u16, name: &Name, kind: u16) -> io::Result<Reply> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await?;
    dns::reply(&bytes, id, name, kind).map_err(io::Error::other)
}

fn random() -> io::Result<u16> {
    let mut bytes = [0; 2];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut bytes).map_err(|_| io::Error::other("the kernel gives no random numbers"))?;
    Ok(u16::from_be_bytes(bytes))
}

/// The `nameserver` lines. Without any, libc asks this machine itself, and so do we.
fn servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses =
        lines.filter(|rest| rest.starts_with([' ', '\t'])).filter_map(|rest| rest.split_whitespace().next()?.parse::<IpAddr>().ok());
    addresses.take(MOST_SERVERS).map(|ip| SocketAddr::new(ip, 53)).collect()
}

fn hosts(text: &str) -> HashMap<Name, Vec<IpAddr>> {
    let mut hosts: HashMap<Name, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        for name in words.filter_map(|word| Name::parse(word).ok()) {
            hosts.entry(name).or_default().push(address);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_files_are_read() {
        let found = servers("# x\nnameserver 1.1.1.1\nsearch a.b\n nameserver  ::1 \nnameserver bad\nnameservers 2.2.2.2\noptions edns0\n");
        assert_eq!(found, ["1.1.1.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
        let known = hosts("127.0.0.1 localhost Some.Name # other\n::1 localhost\nbad line\n");
        assert_eq!(known[&Name::parse("localhost").unwrap()].len(), 2);
        assert!(known.contains_key(&Name::parse("some.name").unwrap()) && !known.contains_key(&Name::parse("other").unwrap()));
    }
}

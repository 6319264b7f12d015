//! Connections whose content is not ours to read: it is looked at until it is known for whom it is, then passed on.

use std::io;
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::time::timeout;

use super::super::client_hello::{self, Hello, Seen};
use super::super::door::{Door, Pass, Permit, Refused, Way};
use super::super::http1::Flaw;
use super::super::notice::{Notice, Refusal};
use super::conn::Conn;
use super::{FIRST, http, opened};
use crate::base::host::{Authority, Host};

/// How much is read at once; an idle tunnel holds nothing.
const PIECE: usize = 64 * 1024;
/// The alert "access denied", for a client that speaks TLS.
const DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// A connection that did not ask a proxy: it is judged first.
pub(super) async fn open(door: &Arc<Door>, target: Authority, mut client: Conn<TcpStream>) {
    match door.permit(&target, None) {
        Ok(permit) => carry(door, target, permit, client).await,
        Err(refusal) => turn_away(door, &mut client, &refusal).await,
    }
}

/// Tells a client that it is refused, in the language that it speaks.
async fn turn_away(door: &Door, client: &mut Conn<TcpStream>, refusal: &Refusal) {
    match first(client).await {
        Ok(First::Http) => http::Own::refused(door, refusal).send(client).await,
        Ok(First::Tls(_)) | Err(No::Flaw(_)) => alert(client).await,
        Ok(First::Other) | Err(No::Silent | No::Gone) => {}
    }
}

async fn alert(client: &mut Conn<TcpStream>) {
    // The client may be gone; then there is nobody to tell.
    client.stream.write_all(&DENIED).await.ok();
    client.stream.shutdown().await.ok();
}

/// Carries a connection to a target that is allowed.
pub(super) async fn carry(door: &Arc<Door>, target: Authority, permit: Permit, mut client: Conn<TcpStream>) {
    let pass = match permit {
        // What may be anything is not opened, and gets no key.
        Permit::Pass(pass) if pass.opaque => return through(door, &target, &pass, client).await,
        Permit::Pass(pass) => Some(pass),
        Permit::Look => None,
    };
    let opaque = || Some(format!("{target} opaque"));
    let refusal = match first(&mut client).await {
        Ok(First::Tls(hello)) => match (for_target(&hello, &target), pass) {
            (Ok(()), Some(pass)) if door.grants(&target).next().is_none() => return through(door, &target, &pass, client).await,
            (Ok(()), _) if let (Some(issuer), Some(outward)) = (door.issuer(), door.outward()) => {
                return opened::serve(door, &target, client, issuer, outward).await;
            }
            (Ok(()), _) => Refusal::manner(
                &target,
                "only some requests are allowed there, and inside TLS they cannot be seen",
                Some(target.to_string()),
            ),
            (Err(why), _) => Refusal::manner(&target, why, opaque()),
        },
        Ok(First::Http) => return http::one_host(door, &target, client, None).await,
        Ok(First::Other) => Refusal::manner(&target, "what is sent there is neither TLS nor HTTP", opaque()),
        Err(No::Silent) => {
            Refusal::manner(&target, "the client waits for the server to speak first, so that it is neither TLS nor HTTP", opaque())
        }
        Err(No::Flaw(flaw)) => Refusal::manner(&target, flaw.to_string(), opaque()),
        Err(No::Gone) => return,
    };
    door.refuse(refusal);
    alert(&mut client).await;
}

enum First {
    Tls(Hello),
    Http,
    Other,
}

enum No {
    Silent,
    Flaw(Flaw),
    Gone,
}

/// What the first bytes are, once there are enough of them.
async fn first(client: &mut Conn<TcpStream>) -> Result<First, No> {
    let wait = async {
        loop {
            match client_hello::look(client.pending()).map_err(No::Flaw)? {
                Seen::Hello(hello) => return Ok(First::Tls(hello)),
                Seen::NotTls => match looks_like_http(client.pending()) {
                    Some(true) => return Ok(First::Http),
                    Some(false) => return Ok(First::Other),
                    None => {}
                },
                Seen::More => {}
            }
            if !matches!(client.fill().await, Ok(1..)) {
                return Err(No::Gone);
            }
        }
    };
    timeout(FIRST, wait).await.unwrap_or(Err(No::Silent))
}

/// Do the bytes begin with a method and a space? Not known before the space is there.
fn looks_like_http(bytes: &[u8]) -> Option<bool> {
    const LONGEST_METHOD: usize = 20;
    let method = bytes.iter().take_while(|b| b.is_ascii_uppercase()).count();
    match bytes.get(method) {
        _ if method > LONGEST_METHOD => Some(false),
        Some(b' ') => Some(method > 0),
        Some(_) => Some(false),
        None => None,
    }
}

/// Is the hello for the host that was asked for?
fn for_target(hello: &Hello, target: &Authority) -> Result<(), String> {
    if hello.hidden {
        return Err("the TLS hello hides the name it is for".to_owned());
    }
    match (&target.host, &hello.name) {
        (Host::Name(asked), Some(named)) if asked == named => Ok(()),
        // There is no name to hide behind: the address itself is allowed.
        (Host::Address(_), None) => Ok(()),
        (_, Some(named)) => Err(format!("the TLS hello is for {named}")),
        (Host::Name(_), None) => Err("the TLS hello names no host".to_owned()),
    }
}

/// Dials, and passes bytes both ways until both are at their end, the rule's bytes are used up, or the rule is gone.
async fn through(door: &Arc<Door>, target: &Authority, pass: &Pass, mut client: Conn<TcpStream>) {
    let mut server = match door.dial(target, false).await {
        Ok(server) => server,
        Err(Refused::Denied(_) | Refused::Failed(_)) => return alert_if_tls(&mut client).await,
    };
    let pending = client.take_pending();
    if !pass.spend(Way::Up, pending.len()) || server.write_all(&pending).await.is_err() {
        return;
    }
    let (mut up, mut down) = (pending.len() as u64, 0);
    let ended = {
        let (client_read, client_write) = client.stream.split();
        let (server_read, server_write) = server.split();
        let upward = pump(client_read, server_write, pass, Way::Up, &mut up);
        let downward = pump(server_read, client_write, pass, Way::Down, &mut down);
        tokio::select! {
            both = async { tokio::try_join!(upward, downward) } => both.map(drop),
            () = door.until_forbidden(target, None) => Ok(()),
        }
    };
    if matches!(&ended, Err(error) if error.kind() == io::ErrorKind::QuotaExceeded) {
        door.refuse(Refusal::manner(target, "the bytes that its rule allows are used up", None));
    }
    door.tell(Notice::Passed { target: target.to_string(), up, down });
}

async fn alert_if_tls(client: &mut Conn<TcpStream>) {
    if client.pending().first() == Some(&22) {
        alert(client).await;
    }
}

async fn pump(from: ReadHalf<'_>, mut to: WriteHalf<'_>, pass: &Pass, way: Way, sum: &mut u64) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut piece = Vec::with_capacity(PIECE);
        match from.try_read_buf(&mut piece) {
            Ok(0) => return to.shutdown().await,
            Ok(read) => {
                if !pass.spend(way, read) {
                    return Err(io::ErrorKind::QuotaExceeded.into());
                }
                to.write_all(&piece).await?;
                *sum += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

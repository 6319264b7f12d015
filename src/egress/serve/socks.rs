//! SOCKS 5 from inside: the same judgement as for the proxy's tunnels.

use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::door::Door;
use super::super::http1::Flaw;
use super::super::notice::Refusal;
use super::super::socks5::{self, Reply, Taken};
use super::conn::Conn;
use super::{HEAD, tunnel};

pub(super) async fn serve(door: &Arc<Door>, stream: TcpStream) {
    let mut client = Conn::new(stream);
    let greeted = timeout(HEAD, take(&mut client, socks5::greeting)).await;
    let offer = match greeted {
        Ok(Ok(Some(plain))) => plain,
        Ok(Err(flaw)) => return refuse(door, flaw),
        Ok(Ok(None)) | Err(_) => return,
    };
    let method = if offer { socks5::NO_AUTHENTICATION } else { socks5::NO_METHOD };
    if client.stream.write_all(&method).await.is_err() || !offer {
        return;
    }
    let target = match timeout(HEAD, take(&mut client, socks5::request)).await {
        Ok(Ok(Some(Ok(target)))) => door.identify(target),
        Ok(Ok(Some(Err(code)))) => return reply(&mut client, code).await,
        Ok(Err(flaw)) => {
            refuse(door, flaw);
            return reply(&mut client, Reply::Failure).await;
        }
        Ok(Ok(None)) | Err(_) => return,
    };
    match door.permit(&target, None) {
        Ok(permit) => {
            if client.stream.write_all(&socks5::reply(Reply::Granted)).await.is_ok() {
                tunnel::carry(door, target, permit, client).await;
            }
        }
        Err(_) => reply(&mut client, Reply::NotAllowed).await,
    }
}

/// Reads until something complete is there. `None` when the client went away before.
async fn take<T>(client: &mut Conn<TcpStream>, read: impl Fn(&[u8]) -> Taken<T>) -> Result<Option<T>, Flaw> {
    loop {
        if let Some((found, length)) = read(client.pending())? {
            client.consume(length);
            return Ok(Some(found));
        }
        if !matches!(client.fill().await, Ok(1..)) {
            return Ok(None);
        }
    }
}

async fn reply(client: &mut Conn<TcpStream>, code: Reply) {
    // A client that went away needs no answer.
    client.stream.write_all(&socks5::reply(code)).await.ok();
    client.stream.shutdown().await.ok();
}

fn refuse(door: &Door, flaw: Flaw) {
    door.refuse(Refusal { target: "a request".to_owned(), why: flaw.to_string(), allow: None });
}

//! Questions for names from inside. Answered here, with addresses of ours: no question of the sandbox ever reaches a name server.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::super::dns::{self, A, Answer};
use super::super::door::Door;
use super::IDLE;

/// No question is longer.
const LONGEST: usize = 1024;

pub(super) async fn by_udp(door: Arc<Door>, socket: UdpSocket) {
    let mut bytes = [0; LONGEST];
    loop {
        match socket.recv_from(&mut bytes).await {
            Ok((length, from)) => {
                if let Some(answer) = answer(&door, &bytes[..length]) {
                    // A client that went away needs no answer.
                    socket.send_to(&answer, from).await.ok();
                }
            }
            // An earlier answer met nobody; the socket goes on.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

pub(super) async fn by_tcp(door: &Arc<Door>, mut stream: TcpStream) {
    while let Ok(Ok(length)) = timeout(IDLE, stream.read_u16()).await {
        let mut bytes = vec![0; usize::from(length)];
        if usize::from(length) > LONGEST || !matches!(timeout(IDLE, stream.read_exact(&mut bytes)).await, Ok(Ok(_))) {
            return;
        }
        let Some(answer) = answer(door, &bytes) else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        if stream.write_all(&[&length.to_be_bytes()[..], &answer].concat()).await.is_err() {
            return;
        }
    }
}

fn answer(door: &Door, bytes: &[u8]) -> Option<Vec<u8>> {
    let question = dns::question(bytes).ok()?;
    let answer = match &question.name {
        None => Answer::NotImplemented,
        Some(name) if name.as_str() == "localhost" => {
            if question.kind == A {
                Answer::Address(Ipv4Addr::LOCALHOST)
            } else {
                Answer::Nothing
            }
        }
        // Asked by tools on their own account: no name of a host, and no denial worth a line.
        Some(name) if name.as_str().ends_with(".arpa") => Answer::NoSuchName,
        Some(name) => match (door.address_of(name), question.kind) {
            (Some(address), A) => Answer::Address(address),
            (Some(_), _) => Answer::Nothing,
            (None, _) => Answer::NoSuchName,
        },
    };
    Some(dns::answer(&question, answer))
}

//! The tasks that serve one sandbox's listeners, from outside.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::Backlog;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::door::{Door, is_ours};
use super::inside::Service;
use crate::base::host::{Authority, Host};

pub(crate) mod conn;
mod exchange;
mod http;
mod lookup;
mod model;
mod opened;
mod socks;
mod tunnel;

use conn::Conn;

/// How long a connection may be idle between requests, and how long a head may take once it began.
const IDLE: Duration = Duration::from_secs(75);
const HEAD: Duration = Duration::from_secs(30);
/// How long a client may take to say what it wants of a tunnel.
const FIRST: Duration = Duration::from_secs(15);
/// How long a server may think before it answers: models take minutes.
const ANSWER: Duration = Duration::from_secs(15 * 60);
/// No sandbox has more connections at once; further ones wait in the kernel's queue, which is the sandbox's own.
const MOST_CONNECTIONS: usize = 1024;

/// How many wait there.
const QUEUE: i32 = 1024;

/// Serves each socket with its service until the set is dropped.
pub(super) fn all(door: &Arc<Door>, sockets: Vec<(Service, OwnedFd)>) -> io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let slots = Arc::new(Semaphore::new(most_connections()));
    for (service, socket) in sockets {
        if service == Service::DnsUdp {
            let socket = std::net::UdpSocket::from(socket);
            socket.set_nonblocking(true)?;
            tasks.spawn(lookup::by_udp(door.clone(), UdpSocket::from_std(socket)?));
            continue;
        }
        // The queue that it was opened with is short for a build that fetches a thousand files.
        nix::sys::socket::listen(&socket, Backlog::new(QUEUE)?)?;
        let listener = std::net::TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        tasks.spawn(accept(door.clone(), TcpListener::from_std(listener)?, service, slots.clone()));
    }
    Ok(tasks)
}

/// Each connection takes two descriptors of the supervisor, which other sandboxes need too: one sandbox gets no more than an eighth.
fn most_connections() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(MOST_CONNECTIONS as u64, |(soft, _)| soft);
    MOST_CONNECTIONS.min(usize::try_from(limit / 16).unwrap_or(MOST_CONNECTIONS)).max(8)
}

async fn accept(door: Arc<Door>, listener: TcpListener, service: Service, slots: Arc<Semaphore>) {
    // Owned by this task: when the gateway ends, so do its connections.
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match stream {
            Ok((stream, _)) => {
                let (door, service) = (door.clone(), service.clone());
                connections.spawn(async move {
                    stream.set_nodelay(true).ok();
                    serve(&door, stream, &service).await;
                    drop(slot);
                });
            }
            // Out of descriptors, or the client is gone already: neither is a reason to end.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn serve(door: &Arc<Door>, stream: TcpStream, service: &Service) {
    match service {
        Service::Proxy => http::proxy(door, stream).await,
        Service::Socks => socks::serve(door, stream).await,
        Service::DnsTcp => lookup::by_tcp(door, stream).await,
        Service::DnsUdp => {}
        Service::Capture(port) => {
            let Some(target) = captured(door, &stream, *port) else { return };
            tunnel::open(door, target, Conn::new(stream)).await;
        }
        Service::Model(provider) => {
            if let Some(endpoint) = door.endpoint(*provider) {
                model::serve(door, stream, endpoint).await;
            }
        }
        Service::Fixed(target) => tunnel::open(door, target.clone(), Conn::new(stream)).await,
    }
}

/// What a program meant that connected to an address of ours. Nothing for the sandbox's own loopback: nobody is there.
fn captured(door: &Door, stream: &TcpStream, port: u16) -> Option<Authority> {
    let ip = stream.local_addr().ok()?.ip();
    if ip.is_loopback() {
        return None;
    }
    let target = door.identify(Authority { host: Host::Address(ip), port });
    // An address of ours that no name was given for means nothing.
    (!matches!(target.host, Host::Address(ip) if is_ours(ip))).then_some(target)
}

//! The canary listeners: they answer whoever reaches them, and remember it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::scene::Finding;

/// What a listener says to whoever reaches it.
pub(super) const ANSWER: &[u8] = b"canary";

/// How long a visitor may take to say its name: attackers say it at once.
const PATIENCE: Duration = Duration::from_millis(500);

/// The listeners, and the thread that serves them until this is dropped.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) tcp4: u16,
    pub(super) tcp6: Option<u16>,
    pub(super) udp4: u16,
    pub(super) lan: Option<(Ipv4Addr, u16)>,
    heard: Arc<Mutex<Vec<Finding>>>,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

enum Ear {
    Tcp(TcpListener, &'static str),
    Unix(UnixListener, &'static str),
    Udp(UdpSocket),
}

impl Listeners {
    pub(super) fn start(paths: &[PathBuf; 3], abstract_name: &str) -> io::Result<Self> {
        let tcp = |address: IpAddr| TcpListener::bind(SocketAddr::new(address, 0));
        let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
        let tcp4 = tcp(Ipv4Addr::LOCALHOST.into())?;
        let udp4 = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let tcp6 = tcp(Ipv6Addr::LOCALHOST.into()).ok();
        let lan = own_address().and_then(|address| tcp(address.into()).ok().map(|listener| (address, listener)));
        let mut listeners = Self {
            tcp4: port(&tcp4)?,
            udp4: udp4.local_addr()?.port(),
            tcp6: tcp6.as_ref().map(&port).transpose()?,
            lan: lan.as_ref().map(|(address, listener)| port(listener).map(|port| (*address, port))).transpose()?,
            heard: Arc::default(),
            stop: None,
            thread: None,
        };
        let mut ears = vec![Ear::Tcp(tcp4, "TCP on the host's loopback"), Ear::Udp(udp4)];
        ears.extend(tcp6.map(|listener| Ear::Tcp(listener, "TCP on the host's IPv6 loopback")));
        ears.extend(lan.map(|(_, listener)| Ear::Tcp(listener, "TCP on the host's own address")));
        let names = ["a socket outside", "a socket in a readable folder", "a socket in the workspace"];
        for (path, name) in paths.iter().zip(names) {
            ears.push(Ear::Unix(UnixListener::bind(path)?, name));
        }
        ears.push(Ear::Unix(UnixListener::bind_addr(&UnixAddr::from_abstract_name(abstract_name)?)?, "an abstract socket"));
        let (reader, writer) = io::pipe()?;
        listeners.stop = Some(writer.into());
        let heard = Arc::clone(&listeners.heard);
        listeners.thread = Some(std::thread::spawn(move || serve(&ears, &reader.into(), &heard)));
        Ok(listeners)
    }

    /// Who came.
    pub(super) fn heard(&self) -> Vec<Finding> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// An address of this host that is not loopback. Nothing is sent: connecting a datagram socket only asks the routing table.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    }
}

fn serve(ears: &[Ear], stop: &OwnedFd, heard: &Mutex<Vec<Finding>>) {
    let mut message = [0_u8; 256];
    loop {
        let mut fds: Vec<PollFd<'_>> = ears
            .iter()
            .map(|ear| match ear {
                Ear::Tcp(listener, _) => listener.as_fd(),
                Ear::Unix(listener, _) => listener.as_fd(),
                Ear::Udp(socket) => socket.as_fd(),
            })
            .chain([stop.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        if poll(&mut fds, PollTimeout::NONE).is_err() {
            continue;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        if ready.last() == Some(&true) {
            return;
        }
        for (ear, _) in ears.iter().zip(ready).filter(|(_, ready)| *ready) {
            let (name, length) = match ear {
                Ear::Tcp(listener, name) => match listener.accept() {
                    Ok((mut stream, _)) => {
                        drop(stream.set_read_timeout(Some(PATIENCE)));
                        let length = stream.read(&mut message).unwrap_or(0);
                        drop(stream.write_all(ANSWER));
                        (*name, length)
                    }
                    Err(_) => continue,
                },
                Ear::Unix(listener, name) => match listener.accept() {
                    Ok((mut stream, _)) => {
                        drop(stream.set_read_timeout(Some(PATIENCE)));
                        let length = stream.read(&mut message).unwrap_or(0);
                        drop(stream.write_all(ANSWER));
                        (*name, length)
                    }
                    Err(_) => continue,
                },
                Ear::Udp(socket) => match socket.recv_from(&mut message) {
                    Ok((length, from)) => {
                        drop(socket.send_to(ANSWER, from));
                        ("UDP on the host's loopback", length)
                    }
                    Err(_) => continue,
                },
            };
            let said = crate::base::text::bytes_line(&message[..length]);
            let finding = Finding { what: format!("{name} was reached"), id: (!said.is_empty()).then_some(said) };
            heard.lock().unwrap_or_else(PoisonError::into_inner).push(finding);
        }
    }
}

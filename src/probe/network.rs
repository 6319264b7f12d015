//! Section D: nobody outside can be reached, by any kind of socket.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::path::Path;
use std::time::Duration;

use super::attack::{Attack, Attempt, Control, Gap, Stage, Tried, inapplicable, not_there, prepare, said};
use super::calls::{call, fd, owned};
use super::listeners::ANSWER;

/// There is no way there.
const NO_WAY: &[i32] = &[libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EPERM, libc::EACCES, libc::EADDRNOTAVAIL];
/// The same; or the private loopback answers that nobody listens there. The host's listener tells whether it was reached.
const NOBODY: &[i32] = &[libc::ECONNREFUSED, libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EPERM, libc::EACCES, libc::EADDRNOTAVAIL];
const GONE: &[i32] = &[libc::ENOENT];
const NO_SOCKET: &[i32] = &[libc::EPERM, libc::EACCES, libc::EAFNOSUPPORT, libc::ENOSYS, libc::EPROTONOSUPPORT];
/// A family, type or protocol that the host's kernel does not have.
const NO_FAMILY: &[i32] = &[libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT, libc::ESOCKTNOSUPPORT, libc::ENODEV];

const STRANGERS: Control = Control::No("it would send packets to strangers");

pub(super) const ATTACKS: &[Attack] = &[
    Attack::new("D-tcp", "TCP to the host's loopback", NOBODY, |s| tcp(s, Ipv4Addr::LOCALHOST.into(), Some(s.scene.tcp4))),
    Attack::new("D-tcp6", "TCP to the host's IPv6 loopback", NOBODY, |s| tcp(s, Ipv6Addr::LOCALHOST.into(), s.scene.tcp6)),
    Attack::new("D-tcp-mapped", "the same by a mapped address, ::ffff:127…", NOBODY, |s| {
        tcp(s, Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), Some(s.scene.tcp4))
    }),
    Attack::new("D-tcp-zero", "the same as 0.0.0.0", NOBODY, |s| tcp(s, Ipv4Addr::UNSPECIFIED.into(), Some(s.scene.tcp4))),
    Attack::new("D-tcp-lan", "TCP to the host's own address", NO_WAY, |s| match s.scene.lan {
        Some((address, port)) => tcp(s, address.into(), Some(port)),
        None => inapplicable("the host has no address but loopback"),
    }),
    Attack::new("D-tcp-fast-open", "TCP with data in the first packet", NOBODY, |s| {
        let socket = tcp_socket(0)?;
        let address = raw_address(s.scene.tcp4);
        let data = s.id.as_bytes();
        let flags = libc::MSG_FASTOPEN as usize;
        said("sendto", call(libc::SYS_sendto, [fd(&socket), data.as_ptr() as usize, data.len(), flags, address.as_ptr() as usize, 16]))?;
        answer(fs::File::from(socket))
    }),
    Attack::new(
        "D-mptcp",
        "multipath TCP to the host's loopback",
        &[libc::ECONNREFUSED, libc::ENETUNREACH, libc::EPERM, libc::EACCES, libc::EPROTONOSUPPORT, libc::ENOSYS, libc::EAFNOSUPPORT],
        |s| {
            let socket = said("socket", owned(call(libc::SYS_socket, [2, 1, libc::IPPROTO_MPTCP as usize])))?;
            connect(&socket, s.scene.tcp4)?;
            let mut stream = TcpStream::from(socket);
            prepare("write", stream.write_all(s.id.as_bytes()))?;
            answer(stream)
        },
    )
    .absent(NO_FAMILY),
    Attack::new("D-udp", "UDP to the host's loopback", NOBODY, |s| udp(s, Ipv4Addr::LOCALHOST, s.scene.udp4)),
    Attack::new("D-internet", "TCP to an address of the internet", NO_WAY, |s| tcp(s, Ipv4Addr::new(192, 0, 2, 1).into(), Some(443)))
        .control(STRANGERS),
    Attack::new("D-internet6", "the same over IPv6", NO_WAY, |s| {
        tcp(s, "2001:db8::1".parse().unwrap_or(Ipv6Addr::LOCALHOST.into()), Some(443))
    })
    .control(STRANGERS),
    Attack::new("D-dns", "ask a name server of the internet", NO_WAY, |s| udp(s, Ipv4Addr::new(192, 0, 2, 53), 53)).control(STRANGERS),
    Attack::new("D-own-dns", "ask the host's name servers", NOBODY, own_name_servers).control(STRANGERS),
    Attack::new("D-metadata", "TCP to 169.254.169.254", NO_WAY, |s| tcp(s, Ipv4Addr::new(169, 254, 169, 254).into(), Some(80)))
        .control(STRANGERS),
    Attack::new("D-multicast", "UDP to a multicast group", NO_WAY, |s| udp(s, Ipv4Addr::new(224, 0, 0, 251), 5353)).control(STRANGERS),
    Attack::new(
        "D-ping",
        "ICMP by a datagram socket",
        &[libc::EACCES, libc::EPERM, libc::ENETUNREACH, libc::EPROTONOSUPPORT, libc::ENOSYS],
        |_| {
            let socket = said("socket", owned(call(libc::SYS_socket, [2, 2, 1])))?;
            let echo: [u8; 8] = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
            let mut address = raw_address(0);
            address[4..8].copy_from_slice(&[192, 0, 2, 1]);
            said("sendto", call(libc::SYS_sendto, [fd(&socket), echo.as_ptr() as usize, 8, 0, address.as_ptr() as usize, 16]))
                .map(|_| "sent".into())
        },
    )
    .control(STRANGERS),
    Attack::new("D-raw", "a raw socket", NO_SOCKET, |_| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP))
        .control(Control::WorksForRoot),
    Attack::new("D-raw6", "a raw IPv6 socket", NO_SOCKET, |_| socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6))
        .control(Control::WorksForRoot)
        .absent(NO_FAMILY),
    Attack::new("D-packet", "a packet socket", NO_SOCKET, |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0))
        .control(Control::WorksForRoot)
        .absent(NO_FAMILY),
    Attack::new("D-interfaces", "find an interface beside lo", &[], |_| {
        let interfaces = prepare("if_nameindex", nix::net::if_::if_nameindex().map_err(io::Error::from))?;
        let others: Vec<_> = interfaces.iter().map(|i| i.name().to_string_lossy().into_owned()).filter(|name| name != "lo").collect();
        if others.is_empty() { not_there("nothing but lo") } else { Ok(others.join(" ")) }
    })
    .control(Control::No("a host may have no other interface")),
    Attack::new("D-interface-down", "change an interface", &[libc::EPERM, libc::EACCES, libc::ENOSYS], |_| {
        // SIOCSIFFLAGS of an interface that is not there: refused behind the check for the right to try.
        let socket = prepare("socket", owned(call(libc::SYS_socket, [2, 2, 0])))?;
        let mut request = [0_u8; 40];
        request[..9].copy_from_slice(b"cofferdam");
        said("ioctl", call(libc::SYS_ioctl, [fd(&socket), libc::SIOCSIFFLAGS as usize, request.as_ptr() as usize]))
            .map(|_| "changed".into())
    })
    .control(Control::ArrivesForRoot),
    Attack::new("D-namespace", "share the host's network", &[], |s| {
        let own = prepare("stat", fs::metadata("/proc/self/ns/net"))?.ino();
        if own == s.scene.network { Ok("it is the host's own".into()) } else { not_there("a network namespace of its own") }
    }),
    Attack::new("D-listen", "listen, unbound, where the host can connect", &[libc::EACCES, libc::EPERM], |s| {
        let socket = tcp_socket(0)?;
        said("listen", call(libc::SYS_listen, [fd(&socket), 1]))?;
        shared_loopback(s, "listens on the host's loopback")
    }),
    Attack::new("D-same-port", "compete for a port of a sibling", &[libc::EACCES, libc::EPERM], |s| {
        match std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, s.scene.tcp4)) {
            Ok(_) => not_there("the port is free here: a private loopback"),
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Ok("the sibling's port is seen".into()),
            Err(error) => said("bind", Err(error)),
        }
    }),
    Attack::new("D-unix", "connect to a socket file outside", GONE, |s| unix(s, &s.scene.outside.join("canary.sock"))),
    Attack::new("D-unix-link", "the same through a link in W", GONE, |s| {
        let link = s.scratch()?.join("socket");
        prepare("symlink", std::os::unix::fs::symlink(s.scene.outside.join("canary.sock"), &link))?;
        unix(s, &link)
    }),
    Attack::new("D-unix-granted", "connect to a socket in a readable folder", SOCKET_FILE, |s| {
        unix(s, &s.scene.granted.join("canary.sock"))
    })
    .gap_without(Gap::Landlock(9)),
    Attack::new("D-unix-workspace", "connect to a host's socket in the workspace", SOCKET_FILE, |s| unix(s, Path::new("canary.sock")))
        .gap_without(Gap::Landlock(9)),
    Attack::new("D-abstract", "connect to an abstract socket of the host", &[libc::ECONNREFUSED, libc::EPERM, libc::EACCES], |s| {
        let address = prepare("address", UnixAddr::from_abstract_name(&s.scene.abstract_name))?;
        let mut stream = said("connect", UnixStream::connect_addr(&address))?;
        prepare("write", stream.write_all(s.id.as_bytes()))?;
        answer(stream)
    }),
    Attack::new("D-well-known", "find docker, ssh-agent, D-Bus, systemd", &[], well_known).control(Control::No("they are the host's own")),
    Attack::new("D-stdio", "pass a descriptor over a standard stream", &[], |_| {
        let sockets =
            [0, 1, 2].into_iter().filter(|n| fs::metadata(format!("/proc/self/fd/{n}")).is_ok_and(|meta| meta.file_type().is_socket()));
        match sockets.collect::<Vec<_>>().as_slice() {
            [] => not_there("none of them is a socket"),
            found => Ok(format!("descriptors {found:?} are sockets of the supervisor")),
        }
    })
    .control(Control::No("outside, the test's own streams are pipes too")),
    Attack::new("D-credentials", "claim to be process 1", &[libc::EPERM], |_| {
        let (left, _right) = prepare("socketpair", UnixStream::pair())?;
        claim(&left, 1)
    })
    .control(Control::WorksForRoot),
    Attack::new("D-vsock", "a VSOCK socket", NO_SOCKET, |_| socket(40, libc::SOCK_STREAM, 0)).absent(NO_FAMILY),
    Attack::new("D-alg", "an AF_ALG socket", NO_SOCKET, |_| socket(38, libc::SOCK_SEQPACKET, 0)).absent(NO_FAMILY),
    Attack::new("D-bluetooth", "a Bluetooth socket", NO_SOCKET, |_| socket(31, libc::SOCK_RAW, 1))
        .absent(NO_FAMILY)
        .control(Control::WorksForRoot),
    Attack::new("D-xdp", "an XDP socket", NO_SOCKET, |_| socket(44, libc::SOCK_RAW, 0)).absent(NO_FAMILY).control(Control::WorksForRoot),
    Attack::new("D-key", "an AF_KEY socket", NO_SOCKET, |_| socket(15, libc::SOCK_RAW, 2)).absent(NO_FAMILY).control(Control::WorksForRoot),
    Attack::new("D-other-families", "a socket of any other family", &[], other_families)
        .control(Control::No("which families a kernel has is its own business")),
    Attack::new("D-other-protocols", "SCTP, UDP-Lite, DCCP or SMC over IP", &[], |_| {
        let protocols = [(1, libc::IPPROTO_SCTP), (5, libc::IPPROTO_SCTP), (2, libc::IPPROTO_UDPLITE), (6, libc::IPPROTO_DCCP), (1, 256)];
        let open = |&(kind, protocol): &(i32, i32)| owned(call(libc::SYS_socket, [2, kind as usize, protocol as usize])).is_ok();
        protocols.iter().find(|pair| open(pair)).map_or_else(|| not_there("none can be had"), |(_, p)| Ok(format!("protocol {p}")))
    })
    .control(Control::No("which protocols a kernel has is its own business")),
    Attack::new("D-high-family", "AF_PACKET with high bits set", NO_SOCKET, |_| {
        said("socket", owned(call(libc::SYS_socket, [libc::AF_PACKET as usize | 1 << 32, libc::SOCK_RAW as usize, 0])))
            .map(|_| "got one".into())
    })
    .control(Control::WorksForRoot)
    .absent(NO_FAMILY),
    Attack::new("D-netlink-audit", "talk to the audit system", NO_SOCKET, |_| netlink(libc::NETLINK_AUDIT)).absent(NO_FAMILY),
    Attack::new("D-netlink-diag", "list sockets by netlink", NO_SOCKET, |_| netlink(libc::NETLINK_SOCK_DIAG)).absent(NO_FAMILY),
    Attack::new("D-netlink-uevent", "hear of devices by netlink", NO_SOCKET, |_| netlink(libc::NETLINK_KOBJECT_UEVENT)).absent(NO_FAMILY),
    Attack::new("D-netlink-filter", "talk to the packet filter", NO_SOCKET, |_| netlink(libc::NETLINK_NETFILTER)).absent(NO_FAMILY),
    Attack::new("D-netlink-xfrm", "talk to IPsec", NO_SOCKET, |_| netlink(libc::NETLINK_XFRM)).absent(NO_FAMILY),
    Attack::new("D-netlink-generic", "talk to generic netlink", NO_SOCKET, |_| netlink(libc::NETLINK_GENERIC)).absent(NO_FAMILY),
    Attack::new("D-netlink-crypto", "talk to the crypto system", NO_SOCKET, |_| netlink(libc::NETLINK_CRYPTO)).absent(NO_FAMILY),
    Attack::new("D-netlink-connector", "hear of every process", NO_SOCKET, |_| netlink(libc::NETLINK_CONNECTOR)).absent(NO_FAMILY),
];

/// A socket file that is in sight must not lead to its owner.
const SOCKET_FILE: &[i32] = &[libc::ENOENT, libc::EACCES, libc::EPERM, libc::ECONNREFUSED];

/// What a listener of the harness says to whoever reaches it.
fn answer(mut stream: impl Read) -> Tried {
    let mut said = [0; 16];
    match stream.read(&mut said) {
        Ok(length) if said[..length] == *ANSWER => Ok("the host's listener answered".into()),
        Ok(_) => not_there("somebody accepted, but not the host's listener"),
        Err(error) => Err(Attempt::CouldNotTry { step: "read an answer".to_owned(), errno: error.raw_os_error().unwrap_or(0) }),
    }
}

fn tcp(stage: &Stage, address: IpAddr, port: Option<u16>) -> Tried {
    let Some(port) = port else { return inapplicable("the host has no such address") };
    let mut stream = said("connect", TcpStream::connect_timeout(&SocketAddr::new(address, port), Duration::from_secs(2)))?;
    prepare("timeout", stream.set_read_timeout(Some(Duration::from_secs(1))))?;
    prepare("write", stream.write_all(stage.id.as_bytes()))?;
    answer(stream)
}

fn udp(stage: &Stage, address: Ipv4Addr, port: u16) -> Tried {
    let socket = said("bind", UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?;
    said("connect", socket.connect((address, port)))?;
    said("send", socket.send(stage.id.as_bytes()))?;
    prepare("timeout", socket.set_read_timeout(Some(Duration::from_millis(500))))?;
    let mut answer = [0; 16];
    match socket.recv(&mut answer) {
        Ok(length) if answer[..length] == *ANSWER => Ok("the host's listener answered".into()),
        Ok(_) => Ok("somebody answered".into()),
        // On loopback silence is an answer: whoever listens there answers at once.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock && address.is_loopback() => not_there("nobody answered"),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok("the packet went out".into()),
        Err(error) => said("recv", Err(error)),
    }
}

fn own_name_servers(stage: &Stage) -> Tried {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver")?.trim().parse::<Ipv4Addr>().ok());
    // The sandbox's own loopback, and the network that a gateway answers on in there, are not the host's.
    let servers = servers.filter(|server| !server.is_loopback() && !matches!(server.octets(), [198, 18 | 19, ..]));
    let mut last = not_there("no name server is named");
    for server in servers {
        last = udp(stage, server, 53);
        if last.is_ok() {
            return last;
        }
    }
    last
}

/// `struct sockaddr_in` of the loopback.
fn raw_address(port: u16) -> [u8; 16] {
    let mut address = [0_u8; 16];
    address[..2].copy_from_slice(&2_u16.to_ne_bytes());
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&[127, 0, 0, 1]);
    address
}

fn tcp_socket(protocol: usize) -> Result<OwnedFd, Attempt> {
    said("socket", owned(call(libc::SYS_socket, [libc::AF_INET as usize, libc::SOCK_STREAM as usize, protocol])))
}

fn connect(socket: &OwnedFd, port: u16) -> Result<isize, Attempt> {
    let address = raw_address(port);
    said("connect", call(libc::SYS_connect, [fd(socket), address.as_ptr() as usize, 16]))
}

fn unix(stage: &Stage, path: &Path) -> Tried {
    let mut stream = said("connect", UnixStream::connect(path))?;
    prepare("write", stream.write_all(stage.id.as_bytes()))?;
    answer(stream)
}

fn shared_loopback(stage: &Stage, what: &str) -> Tried {
    let own = prepare("stat", fs::metadata("/proc/self/ns/net"))?.ino();
    if own == stage.scene.network { Ok(what.to_owned()) } else { not_there("it works, on a private loopback") }
}

fn well_known(_: &Stage) -> Tried {
    let user = nix::unistd::getuid();
    let paths = [
        "/run/docker.sock",
        "/var/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/podman/podman.sock",
        "/run/dbus/system_bus_socket",
        "/run/systemd/private",
        "/run/systemd/notify",
        "/run/systemd/journal/socket",
        "/run/udev/control",
        "/run/snapd.socket",
        "/run/libvirt/libvirt-sock",
        "/tmp/.X11-unix",
    ];
    let own = ["bus", "systemd/private", "gnupg/S.gpg-agent", "keyring/ssh", "pipewire-0", "wayland-0"];
    let own = own.iter().map(|name| format!("/run/user/{user}/{name}"));
    let named = ["SSH_AUTH_SOCK", "DBUS_SESSION_BUS_ADDRESS", "DOCKER_HOST", "DISPLAY", "WAYLAND_DISPLAY", "GPG_AGENT_INFO"];
    if let Some(name) = named.into_iter().find(|name| std::env::var_os(name).is_some()) {
        return Ok(format!("{name} is set"));
    }
    let there = paths.into_iter().map(str::to_owned).chain(own).find(|path| fs::symlink_metadata(path).is_ok());
    there.map_or_else(|| not_there("none of them"), Ok)
}

/// Sends a message whose credentials claim to be another process.
fn claim(socket: &UnixStream, pid: i32) -> Tried {
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixCredentials, sendmsg};
    let claimed = UnixCredentials::from(libc::ucred { pid, uid: nix::unistd::getuid().as_raw(), gid: nix::unistd::getgid().as_raw() });
    let messages = [ControlMessage::ScmCredentials(&claimed)];
    let data = [io::IoSlice::new(b"x")];
    let number = std::os::fd::AsRawFd::as_raw_fd(socket);
    let sent = sendmsg::<()>(number, &data, &messages, MsgFlags::empty(), None);
    said("sendmsg", sent.map_err(io::Error::from)).map(|_| "believed".into())
}

fn socket(family: i32, kind: i32, protocol: i32) -> Tried {
    said("socket", owned(call(libc::SYS_socket, [family as usize, kind as usize, protocol as usize]))).map(|_| "got one".into())
}

fn netlink(protocol: i32) -> Tried {
    socket(libc::AF_NETLINK, libc::SOCK_RAW, protocol)
}

fn other_families(_: &Stage) -> Tried {
    let known = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    for family in (0..64).filter(|family| !known.contains(family)) {
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
            if owned(call(libc::SYS_socket, [family as usize, kind as usize, 0])).is_ok() {
                return Ok(format!("family {family}"));
            }
        }
    }
    not_there("none can be had")
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn an_answer_counts_only_when_it_is_the_canary_s() {
        assert!(answer(ANSWER).is_ok());
        assert!(matches!(answer(&b"somebody else"[..]), Err(Attempt::NotThere { .. })));
    }

    #[test]
    fn a_socket_file_nobody_listens_on_refuses() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("s");
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(said("connect", UnixStream::connect(&path)), Err(Attempt::Refused { errno: libc::ECONNREFUSED, .. })));
    }
}

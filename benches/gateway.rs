//! Requests per second and added latency of the gateway beside nginx as a plain reverse proxy: the same client, the same server, in turns.
//!
//! `bench/gateway.sh` gives it a running nginx; `cargo bench --bench gateway` alone measures the gateway and the way without one.
#![allow(clippy::print_stdout, clippy::allow_attributes, reason = "a bench prints its result")]

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cofferdam::egress::inside::Service;
use cofferdam::egress::names::Names;
use cofferdam::egress::{Gateway, Inside, Opened, Resolver, Rules, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CLIENTS: usize = 16;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1500);
const PAGE: usize = 1024;

/// A server that answers every request with the same page, and `/large` with 256 MiB.
async fn server(listener: TcpListener) {
    let page = format!("HTTP/1.1 200 OK\r\nContent-Length: {PAGE}\r\n\r\n{}", "x".repeat(PAGE)).into_bytes();
    let page: &'static [u8] = page.leak();
    while let Ok((mut stream, _)) = listener.accept().await {
        stream.set_nodelay(true).ok();
        tokio::spawn(async move {
            let mut bytes = Vec::with_capacity(16384);
            loop {
                while let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                    let large = bytes.starts_with(b"GET /large");
                    bytes.drain(..at + 4);
                    if large {
                        let piece = vec![b'y'; 1 << 20];
                        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 268435456\r\n\r\n").await.ok();
                        for _ in 0..256 {
                            if stream.write_all(&piece).await.is_err() {
                                return;
                            }
                        }
                    } else if stream.write_all(page).await.is_err() {
                        return;
                    }
                }
                if !matches!(stream.read_buf(&mut bytes).await, Ok(1..)) {
                    return;
                }
            }
        });
    }
}

/// One client that asks again as soon as it is answered; how long each answer took.
async fn client(to: SocketAddr, request: Arc<Vec<u8>>, stop: Arc<AtomicBool>) -> Vec<u32> {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    stream.set_nodelay(true).ok();
    let (mut took, mut bytes) = (Vec::with_capacity(100_000), Vec::with_capacity(16384));
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        stream.write_all(&request).await.expect("written");
        bytes.clear();
        loop {
            assert!(stream.read_buf(&mut bytes).await.expect("read") > 0, "{}", String::from_utf8_lossy(&bytes));
            if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n")
                && bytes.len() >= at + 4 + PAGE
            {
                break;
            }
        }
        assert!(bytes.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&bytes));
        took.push(u32::try_from(begun.elapsed().as_nanos() / 100).unwrap_or(u32::MAX));
    }
    took
}

/// Requests a second, and the median in microseconds.
async fn round(to: SocketAddr, request: &Arc<Vec<u8>>, clients: usize) -> (f64, f64) {
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..clients).map(|_| tokio::spawn(client(to, request.clone(), stop.clone()))).collect();
    tokio::time::sleep(ROUND).await;
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("no panic"));
    }
    let rate = all.len() as f64 / begun.elapsed().as_secs_f64();
    all.sort_unstable();
    (rate, f64::from(all[all.len() / 2]) / 10.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn large(to: SocketAddr, request: &[u8]) -> f64 {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    stream.write_all(request).await.expect("written");
    let (begun, mut sum, mut piece) = (Instant::now(), 0, vec![0; 1 << 20]);
    while sum < 256 << 20 {
        let read = stream.read(&mut piece).await.expect("read");
        assert!(read > 0, "it ended after {sum} bytes");
        sum += read;
    }
    sum as f64 / (1 << 20) as f64 / begun.elapsed().as_secs_f64()
}

fn resident() -> f64 {
    let statm = fs_err::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) * 4096.0 / 1024.0
}

/// Memory that a thousand idle tunnels take, their sockets' ends on both sides of this process included.
async fn tunnels(proxy: SocketAddr, target: &str) -> f64 {
    let open = async || {
        let mut stream = TcpStream::connect(proxy).await.expect("a connection");
        stream.write_all(format!("CONNECT {target} HTTP/1.1\r\n\r\nx").as_bytes()).await.expect("written");
        let mut bytes = [0; 256];
        assert!(stream.read(&mut bytes).await.expect("read") > 0);
        stream
    };
    let first = open().await;
    let before = resident();
    let mut held = vec![first];
    for _ in 0..1000 {
        held.push(open().await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    resident() - before
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let gateway_runtime = cofferdam::egress::Threads::start().expect("threads");
    let nginx: Option<SocketAddr> = std::env::var("NGINX").ok().and_then(|at| at.parse().ok());
    let upstream: SocketAddr =
        std::env::var("UPSTREAM").ok().and_then(|at| at.parse().ok()).unwrap_or_else(|| ([127, 0, 0, 1], 18181).into());
    let listener = runtime.block_on(TcpListener::bind(upstream)).expect("the upstream's port");
    runtime.spawn(server(listener));
    let proxy = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = proxy.local_addr().expect("an address");
    let setup = Setup {
        rules: Rules::parse(&[format!("{upstream} opaque")]).expect("rules"),
        inside: Inside { services: vec![Service::Proxy], names: Names::default() },
        resolver: Arc::new(Resolver::with_server(([127, 0, 0, 1], 9).into())),
        notices: None,
        observe: false,
        endpoints: Vec::new(),
        opened: Opened::default(),
        accounts: None,
    };
    let _gateway = Gateway::start(gateway_runtime.handle(), setup, vec![OwnedFd::from(proxy)]).expect("a gateway");
    let plain = Arc::new(format!("GET / HTTP/1.1\r\nHost: {upstream}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n").into_bytes());
    let proxied =
        Arc::new(format!("GET http://{upstream}/ HTTP/1.1\r\nHost: {upstream}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n").into_bytes());
    let mut ways = vec![("direct", upstream, plain.clone()), ("gateway", at, proxied)];
    ways.extend(nginx.map(|nginx| ("nginx", nginx, plain.clone())));
    let mut found: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); ways.len()];
    for _ in 0..ROUNDS {
        for ((_, to, request), (rates, medians)) in ways.iter().zip(&mut found) {
            rates.push(runtime.block_on(round(*to, request, CLIENTS)).0);
            // Latency is measured without a queue.
            medians.push(runtime.block_on(round(*to, request, 1)).1);
        }
    }
    for ((name, ..), (rates, medians)) in ways.iter().zip(&found) {
        println!(
            "{name:8} {:9.0} requests/s with {CLIENTS} connections   p50 {:7.1} µs with one",
            median(rates.clone()),
            median(medians.clone())
        );
    }
    let latency = |n: usize| median(found[n].1.clone());
    println!("added by the gateway: {:.3} ms", (latency(1) - latency(0)) / 1000.0);
    if ways.len() > 2 {
        println!("added by nginx:       {:.3} ms", (latency(2) - latency(0)) / 1000.0);
        println!("requests/s, gateway beside nginx: {:.2}", median(found[1].0.clone()) / median(found[2].0.clone()));
    }
    let big = format!("GET http://{upstream}/large HTTP/1.1\r\nHost: {upstream}\r\n\r\n");
    println!("one large body: {:.0} MiB/s through the gateway", runtime.block_on(large(at, big.as_bytes())));
    if let Some(nginx) = nginx {
        println!(
            "one large body: {:.0} MiB/s through nginx",
            runtime.block_on(large(nginx, format!("GET /large HTTP/1.1\r\nHost: {upstream}\r\n\r\n").as_bytes()))
        );
    }
    println!("1000 idle tunnels: {:.0} KiB", runtime.block_on(tunnels(at, &upstream.to_string())));
}

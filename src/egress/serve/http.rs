//! HTTP from inside: requests to the proxy, and requests where one host is served.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::super::door::{Door, Held, Pass, Permit, Refused};
use super::super::http1::{self, Flaw, Length};
use super::super::notice::{Notice, Refusal};
use super::super::request::{self, Wanted};
use super::super::rule::Request;
use super::super::tls::Outward;
use super::conn::{Conn, NoHead};
use super::exchange::{Broken, Done, Sent, Tap, exchange};
use super::opened::Keys;
use super::{HEAD, IDLE, tunnel};
use crate::base::host::Authority;

/// A connection to a server.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

pub(super) type Server = (Authority, Conn<Box<dyn Duplex>>);

/// An answer of our own; the connection ends with it.
pub(super) struct Own {
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) page: String,
    /// The page's media type.
    pub(super) kind: &'static str,
}

/// Plain text.
const TEXT: &str = "text/plain; charset=utf-8";

/// Where a request goes, and how.
pub(super) struct Route<'a> {
    pub(super) target: &'a Authority,
    pub(super) path: &'a str,
    /// Over TLS; without it in the clear.
    pub(super) outward: Option<&'a Outward>,
    /// The target was named by whoever set the sandbox up, and by no rule.
    pub(super) granted: bool,
}

/// How a request went.
pub(super) struct Went {
    /// May the client send another one?
    pub(super) again: bool,
    pub(super) up: u64,
}

const OVER: Went = Went { again: false, up: 0 };

impl Own {
    pub(super) fn bad(flaw: Flaw) -> Self {
        let reason = format!("cofferdam: this request is refused: {flaw}");
        Self { status: 400, page: format!("{reason}\n"), reason, kind: TEXT }
    }

    pub(super) fn refused(door: &Door, refusal: &Refusal) -> Self {
        Self { status: 403, reason: refusal.line(), page: refusal.page(&door.active().rules), kind: TEXT }
    }

    fn failed(target: &Authority, why: &str) -> Self {
        let reason = format!("cofferdam: {target} is allowed and cannot be reached: {why}");
        Self { status: 502, page: format!("{reason}\n"), reason, kind: TEXT }
    }

    fn failure(door: &Door, target: &Authority, why: String) -> Self {
        let own = Self::failed(target, &why);
        door.fail(target, why);
        own
    }

    fn budget(door: &Door, target: &Authority) -> Self {
        let refusal = door.refuse(Refusal::manner(target, "the bytes that its rule allows are used up", None));
        Self::refused(door, &refusal)
    }

    /// Writes it, and ends the connection in a way that lets the client read it.
    pub(super) async fn send<S: AsyncRead + AsyncWrite + Unpin>(&self, client: &mut Conn<S>) {
        // Many clients show the reason and not the page.
        let reason: String = self.reason.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(400).collect();
        let text = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
            self.status,
            self.kind,
            self.page.len(),
            self.page
        );
        if client.stream.write_all(text.as_bytes()).await.is_err() || client.stream.shutdown().await.is_err() {
            return;
        }
        // What the client still sends would otherwise reset the connection before it has read the answer.
        let drain = async {
            let mut left = 1_usize << 20;
            while let Ok(n @ 1..) = client.fill().await {
                let pending = client.pending().len();
                client.consume(pending);
                left = left.saturating_sub(n);
                if left == 0 {
                    break;
                }
            }
        };
        drop(timeout(Duration::from_secs(2), drain).await);
    }
}

/// The proxy's port.
pub(super) async fn proxy(door: &Arc<Door>, stream: TcpStream) {
    let mut client = Conn::new(stream);
    let mut server = None;
    while let Some(step) = next(door, &mut client, &Place { only: None, outward: None }, &mut server).await {
        match step {
            Step::Again => {}
            Step::Tunnel(target, permit) => {
                let wants_answer = client.stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
                if wants_answer.is_ok() {
                    tunnel::carry(door, target, permit, client).await;
                }
                return;
            }
        }
    }
}

/// Where only one host is served: a captured connection, or a tunnel with HTTP in it. With `outward` what came here was TLS, and it goes on
/// as TLS.
pub(super) async fn one_host<S: AsyncRead + AsyncWrite + Unpin + Send>(
    door: &Arc<Door>,
    target: &Authority,
    mut client: Conn<S>,
    outward: Option<&Outward>,
) {
    let place = Place { only: Some(target), outward };
    let mut server = None;
    while let Some(Step::Again) = next(door, &mut client, &place, &mut server).await {}
}

/// Where requests come in.
struct Place<'a> {
    /// The one host that is served there.
    only: Option<&'a Authority>,
    outward: Option<&'a Outward>,
}

enum Step {
    Again,
    Tunnel(Authority, Permit),
}

/// One request. `None` when the connection is over.
async fn next<S: AsyncRead + AsyncWrite + Unpin + Send>(
    door: &Arc<Door>,
    client: &mut Conn<S>,
    place: &Place<'_>,
    server: &mut Option<Server>,
) -> Option<Step> {
    let &Place { only, outward } = place;
    let end = match client.head(IDLE, HEAD).await {
        Ok(end) => end?,
        Err(NoHead::Gone) => return None,
        Err(NoHead::Slow) => return refuse(door, client, only, Flaw("its head took too long")).await,
        Err(NoHead::Flaw(flaw)) => return refuse(door, client, only, flaw).await,
    };
    let bytes = client.pending()[..end].to_vec();
    let read = http1::request(&bytes).and_then(|head| {
        let wanted = match only {
            None => request::of_proxy(&head)?,
            Some(target) => Wanted::Fetch(target.clone(), request::of_host(&head, target)?),
        };
        Ok((head, wanted))
    });
    let (head, wanted) = match read {
        Ok(read) => read,
        Err(flaw) => return refuse(door, client, only, flaw).await,
    };
    let (target, path) = match wanted {
        Wanted::Tunnel(target) => {
            client.consume(end);
            let target = door.identify(target);
            return match door.permit(&target, None) {
                Ok(permit) => Some(Step::Tunnel(target, permit)),
                Err(refusal) => answer(client, &Own::refused(door, &refusal)).await,
            };
        }
        Wanted::Fetch(target, path) => (door.identify(target), path),
    };
    let request = Request { method: head.method, path: &path };
    let pass = match door.permit(&target, Some(request)) {
        Ok(Permit::Pass(pass)) => pass,
        Ok(Permit::Look) => return refuse(door, client, only, Flaw("it cannot be judged")).await,
        Err(refusal) => return answer(client, &Own::refused(door, &refusal)).await,
    };
    if head.upgrades() {
        let why = "it asks for a WebSocket, and here each request is judged by itself";
        let refusal = door.refuse(Refusal::manner(&target, why, None));
        return answer(client, &Own::refused(door, &refusal)).await;
    }
    let keys = match outward {
        Some(_) => Keys::take(door, &target, request).await,
        None => Ok(Keys::default()),
    };
    let mut keys = match keys {
        // An answer to TRACE is the request: the key would come in.
        Ok(keys) if keys.added.is_empty() || head.method != "TRACE" => keys,
        Ok(_) => return refuse(door, client, only, Flaw("its answer would show the key that is put into it")).await,
        Err(why) => return answer(client, &Own::failure(door, &target, why)).await,
    };
    let without: Vec<&str> = keys.without.iter().map(String::as_str).collect();
    let usual = if outward.is_some() { 443 } else { 80 };
    let (out, length) = match request::rewritten(&head, &target, usual, &path, &keys.added, &without) {
        Ok(out) => out,
        Err(flaw) => return refuse(door, client, only, flaw).await,
    };
    let marks = door.marks(|held| outward.is_some() && matches!(held, Held::Grant(grant) if grant.to == target));
    let sent = Sent { head: &out, length, method: head.method, minor: head.minor, keeps: head.keeps(), marks: &marks };
    client.consume(end);
    let route = Route { target: &target, path: &path, outward, granted: false };
    forward(door, client, server, &route, &sent, &pass, &mut keys).await.again.then_some(Step::Again)
}

/// Sends it on, by the connection that is there or a new one.
pub(super) async fn forward<S: AsyncRead + AsyncWrite + Unpin + Send>(
    door: &Arc<Door>,
    client: &mut Conn<S>,
    server: &mut Option<Server>,
    route: &Route<'_>,
    sent: &Sent<'_>,
    pass: &Pass,
    tap: &mut dyn Tap,
) -> Went {
    let target = route.target;
    let mut old = server.take().filter(|(to, _)| to == target);
    loop {
        let reused = old.is_some();
        let mut conn = match old.take() {
            Some((_, conn)) => conn,
            None => match connect(door, route).await {
                Ok(conn) => conn,
                Err(Refused::Denied(refusal)) => return answered(client, &Own::refused(door, &refusal)).await,
                Err(Refused::Failed(why)) => return answered(client, &Own::failed(target, &why)).await,
            },
        };
        let forbidden = async {
            if route.granted { std::future::pending().await } else { door.until_forbidden(target, Some((sent.method, route.path))).await }
        };
        let done = tokio::select! {
            done = exchange(client, &mut conn, sent, pass, tap) => done,
            () = forbidden => return OVER,
        };
        let own = match done {
            Ok(Done { client_keeps, server_keeps, up, down }) => {
                door.tell(Notice::Passed { target: target.to_string(), up, down });
                *server = server_keeps.then(|| (target.clone(), conn));
                return Went { again: client_keeps, up };
            }
            // A connection that had ended while it was idle: a request without a body is sent again, once.
            Err(Broken::Unanswered) if reused && sent.length == Length::Known(0) => continue,
            Err(Broken::Unanswered) => Own::failure(door, target, "it closed the connection without an answer".to_owned()),
            Err(Broken::Upstream(why)) => Own::failure(door, target, why),
            Err(Broken::Request(flaw)) => {
                door.refuse(Refusal { target: target.to_string(), why: flaw.to_string(), allow: None });
                Own::bad(flaw)
            }
            Err(Broken::Budget) => Own::budget(door, target),
            Err(Broken::Mark) => {
                let why = "it holds the placeholder of a key that belongs to another host";
                Own::refused(door, &door.refuse(Refusal::manner(target, why, None)))
            }
            Err(Broken::Midway) => return OVER,
        };
        return answered(client, &own).await;
    }
}

async fn connect(door: &Door, route: &Route<'_>) -> Result<Conn<Box<dyn Duplex>>, Refused> {
    let stream = door.dial(route.target, route.granted).await?;
    let Some(outward) = route.outward else { return Ok(Conn::new(Box::new(stream))) };
    match timeout(HEAD, outward.connect(&route.target.host, stream)).await {
        Ok(Ok(stream)) => Ok(Conn::new(Box::new(stream))),
        Ok(Err(error)) => Err(door.fail(route.target, format!("TLS: {error}"))),
        Err(_) => Err(door.fail(route.target, "TLS took too long".to_owned())),
    }
}

async fn answered<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Conn<S>, own: &Own) -> Went {
    own.send(client).await;
    OVER
}

async fn refuse<S: AsyncRead + AsyncWrite + Unpin>(door: &Door, client: &mut Conn<S>, to: Option<&Authority>, flaw: Flaw) -> Option<Step> {
    door.refuse(Refusal { target: to.map_or_else(|| "a request".to_owned(), Authority::to_string), why: flaw.to_string(), allow: None });
    answer(client, &Own::bad(flaw)).await
}

async fn answer<S: AsyncRead + AsyncWrite + Unpin>(client: &mut Conn<S>, own: &Own) -> Option<Step> {
    own.send(client).await;
    None
}

//! One request and its response, between a client inside and a server outside. Nothing is held back: bytes go on as they come.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};

use super::super::door::{Pass, Way};
use super::super::http1::{self, Body, Length, ResponseHead, is_hop, words};
use super::conn::{Conn, NoHead};
use super::{ANSWER, HEAD};

/// Who wants to see the response as it passes.
pub(crate) trait Tap: Send {
    fn head(&mut self, _head: &ResponseHead<'_>) {}
    fn content(&mut self, _bytes: &[u8]) {}
}

/// What is sent, and to whom the answer goes.
pub(crate) struct Sent<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) length: Length,
    pub(crate) method: &'a str,
    /// Of the client's HTTP.
    pub(crate) minor: u8,
    /// Does the client want to go on?
    pub(crate) keeps: bool,
    /// Texts that must not leave: placeholders of keys that belong to another host.
    pub(crate) marks: &'a [String],
}

/// Finds a text in bytes that come in pieces.
struct Search<'a> {
    marks: &'a [String],
    tail: Vec<u8>,
}

impl Search<'_> {
    fn finds(&mut self, piece: &[u8]) -> bool {
        let longest = self.marks.iter().map(String::len).max().unwrap_or(0);
        if longest == 0 {
            return false;
        }
        self.tail.extend_from_slice(piece);
        let found = self.marks.iter().any(|mark| self.tail.windows(mark.len()).any(|w| w == mark.as_bytes()));
        let over = self.tail.len().saturating_sub(longest - 1);
        self.tail.drain(..over);
        found
    }
}

/// How an exchange ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) client_keeps: bool,
    pub(crate) server_keeps: bool,
    pub(crate) up: u64,
    pub(crate) down: u64,
}

#[derive(Debug)]
pub(crate) enum Broken {
    /// The server closed without a byte of an answer: an idle connection that had ended.
    Unanswered,
    /// The server's answer is none; nothing of it was passed on.
    Upstream(String),
    /// The client's body is none.
    Request(http1::Flaw),
    /// The rule's bytes are used up.
    Budget,
    /// What must not leave is in it.
    Mark,
    /// It broke when a part had gone over already: both connections must be closed.
    Midway,
}

type Result<T> = std::result::Result<T, Broken>;

pub(crate) async fn exchange<C, U>(
    client: &mut Conn<C>,
    server: &mut Conn<U>,
    sent: &Sent<'_>,
    pass: &Pass,
    tap: &mut dyn Tap,
) -> Result<Done>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let mut search = Search { marks: sent.marks, tail: Vec::new() };
    if search.finds(sent.head) {
        return Err(Broken::Mark);
    }
    if !pass.spend(Way::Up, sent.head.len()) {
        return Err(Broken::Budget);
    }
    let sending = async { server.stream.write_all(sent.head).await.is_ok() && server.stream.flush().await.is_ok() };
    if !sending.await {
        return Err(Broken::Unanswered);
    }
    let up = sent.head.len() as u64;
    if sent.length == Length::Known(0) {
        let (server_keeps, client_keeps, down) = respond(&mut client.stream, server, sent, pass, tap).await?;
        return Ok(Done { client_keeps, server_keeps, up, down });
    }
    // Both directions at once: a server may answer before it has read everything.
    let (client_pending, server_pending) = (client.take_pending(), server.take_pending());
    let (client_read, mut client_write) = split(&mut client.stream);
    let (server_read, mut server_write) = split(&mut server.stream);
    let mut from_client = Conn::with(client_read, client_pending);
    let mut from_server = Conn::with(server_read, server_pending);
    let (sent_whole, answered) = {
        let mut request = std::pin::pin!(send_body(&mut from_client, &mut server_write, sent.length, pass, &mut search));
        let mut response = std::pin::pin!(respond(&mut client_write, &mut from_server, sent, pass, tap));
        tokio::select! {
            done = &mut request => match done {
                Ok(bytes) => (Some(bytes), response.await?),
                // The server stopped reading: its answer may say why.
                Err(Broken::Midway) => (None, response.await?),
                Err(other) => return Err(other),
            },
            answered = &mut response => {
                let answered = answered?;
                // An answer before the end of the request: what is left of it is read by nobody.
                let rest = result_now(request.as_mut()).await;
                (rest.and_then(std::result::Result::ok), answered)
            }
        }
    };
    let (left_client, left_server) = (from_client.take_pending(), from_server.take_pending());
    drop((from_client, from_server, client_write, server_write));
    client.put_back(left_client);
    server.put_back(left_server);
    let (server_keeps, client_keeps, down) = answered;
    let whole = sent_whole.is_some();
    Ok(Done { client_keeps: client_keeps && whole, server_keeps: server_keeps && whole, up: up + sent_whole.unwrap_or(0), down })
}

/// The result of a future if it is there already.
async fn result_now<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

async fn send_body<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    from: &mut Conn<R>,
    to: &mut W,
    length: Length,
    pass: &Pass,
    search: &mut Search<'_>,
) -> Result<u64> {
    let mut body = Body::new(length);
    let mut sum = 0;
    while !body.is_done() {
        if from.pending().is_empty() && !matches!(from.fill().await, Ok(1..)) {
            return Err(Broken::Midway);
        }
        let taken = body.take(from.pending(), |_| {}).map_err(Broken::Request)?;
        if search.finds(&from.pending()[..taken]) {
            return Err(Broken::Mark);
        }
        if !pass.spend(Way::Up, taken) {
            return Err(Broken::Budget);
        }
        to.write_all(&from.pending()[..taken]).await.map_err(|_| Broken::Midway)?;
        to.flush().await.map_err(|_| Broken::Midway)?;
        from.consume(taken);
        sum += taken as u64;
    }
    Ok(sum)
}

/// Passes the response on. Whether the server's and the client's connection may be used again, and how many bytes came.
async fn respond<W: AsyncWrite + Unpin, R: AsyncRead + Unpin>(
    client: &mut W,
    server: &mut Conn<R>,
    sent: &Sent<'_>,
    pass: &Pass,
    tap: &mut dyn Tap,
) -> Result<(bool, bool, u64)> {
    let mut down = 0;
    loop {
        let end = match server.head(ANSWER, HEAD).await {
            Ok(Some(end)) => end,
            Ok(None) => return Err(Broken::Unanswered),
            Err(NoHead::Flaw(flaw)) => return Err(Broken::Upstream(format!("the server's answer is none: {flaw}"))),
            Err(NoHead::Slow | NoHead::Gone) => return Err(Broken::Upstream("the server's answer broke off".to_owned())),
        };
        down += end as u64;
        if !pass.spend(Way::Down, end) {
            return Err(Broken::Budget);
        }
        let bad = |flaw: http1::Flaw| Broken::Upstream(format!("the server's answer is none: {flaw}"));
        let head = http1::response(&server.pending()[..end]).map_err(bad)?;
        if head.status == 101 {
            return Err(Broken::Upstream("the server changed the protocol, which nobody asked for".to_owned()));
        }
        let length = head.length(sent.method).map_err(bad)?;
        let last = head.status >= 200;
        let (server_keeps, decode) = (head.keeps() && length != Length::UntilClose, length == Length::Chunked && sent.minor == 0);
        let client_keeps = sent.keeps && length != Length::UntilClose && !decode;
        if last {
            tap.head(&head);
        }
        // An old client knows no answers before the answer.
        if last || sent.minor == 1 {
            let out = head_for_client(&head, length, sent.minor, client_keeps);
            client.write_all(&out).await.map_err(|_| Broken::Midway)?;
        }
        server.consume(end);
        if last {
            down += relay(client, server, length, decode, pass, tap).await?;
            return Ok((server_keeps, client_keeps, down));
        }
        client.flush().await.map_err(|_| Broken::Midway)?;
    }
}

fn head_for_client(head: &ResponseHead<'_>, length: Length, minor: u8, keeps: bool) -> Vec<u8> {
    let connection = words(&head.headers, "connection");
    let mut out = Vec::with_capacity(512);
    out.extend(format!("HTTP/1.1 {} ", head.status).bytes().chain(head.reason.iter().copied()).chain(*b"\r\n"));
    for header in &head.headers {
        if !is_hop(header.name, &connection) {
            out.extend(header.name.bytes().chain(*b": ").chain(header.value.iter().copied()).chain(*b"\r\n"));
        }
    }
    if length == Length::Chunked && minor == 1 {
        out.extend(b"Transfer-Encoding: chunked\r\n");
    }
    if head.status >= 200 {
        match (keeps, minor) {
            (true, 0) => out.extend(b"Connection: keep-alive\r\n"),
            (false, _) => out.extend(b"Connection: close\r\n"),
            (true, _) => {}
        }
    }
    out.extend(b"\r\n");
    out
}

async fn relay<W: AsyncWrite + Unpin, R: AsyncRead + Unpin>(
    client: &mut W,
    server: &mut Conn<R>,
    length: Length,
    decode: bool,
    pass: &Pass,
    tap: &mut dyn Tap,
) -> Result<u64> {
    let mut body = Body::new(length);
    let mut sum = 0;
    let mut content = Vec::new();
    while !body.is_done() {
        if server.pending().is_empty() {
            match server.fill().await {
                Ok(1..) => {}
                Ok(0) if body.may_end() => break,
                Ok(0) | Err(_) => return Err(Broken::Midway),
            }
        }
        let pending = server.pending();
        content.clear();
        let taken = body.take(pending, |range| {
            tap.content(&pending[range.clone()]);
            if decode {
                content.extend_from_slice(&pending[range]);
            }
        });
        let taken = taken.map_err(|_| Broken::Midway)?;
        if !pass.spend(Way::Down, taken) {
            return Err(Broken::Budget);
        }
        let out = if decode { &content[..] } else { &pending[..taken] };
        client.write_all(out).await.map_err(|_| Broken::Midway)?;
        client.flush().await.map_err(|_| Broken::Midway)?;
        server.consume(taken);
        sum += taken as u64;
    }
    client.flush().await.map_err(|_: io::Error| Broken::Midway)?;
    Ok(sum)
}

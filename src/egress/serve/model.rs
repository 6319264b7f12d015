//! A model's API inside: the key is put in, the call is counted, the answer is read for what it cost as it passes.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::super::door::{Door, Held, Pass};
use super::super::endpoint::Endpoint;
use super::super::http1::{self, Flaw, RequestHead, ResponseHead};
use super::super::ledger::Exceeded;
use super::super::meter::{Meter, Usage};
use super::super::notice::{Notice, Refusal};
use super::super::request::{self, Added};
use super::conn::{Conn, NoHead};
use super::exchange::{Sent, Tap};
use super::http::{Own, Route, Server, Went, forward};
use super::{HEAD, IDLE};
use crate::base::text::list;
use crate::event::Amount;

pub(super) async fn serve(door: &Arc<Door>, stream: TcpStream, endpoint: &Endpoint) {
    let mut client = Conn::new(stream);
    let mut server = None;
    while next(door, &mut client, &mut server, endpoint).await.is_some() {}
}

/// One request. `None` when the connection is over.
async fn next(door: &Arc<Door>, client: &mut Conn<TcpStream>, server: &mut Option<Server>, endpoint: &Endpoint) -> Option<()> {
    let end = match client.head(IDLE, HEAD).await {
        Ok(end) => end?,
        Err(NoHead::Gone) => return None,
        Err(NoHead::Slow) => return bad(client, Flaw("its head took too long")).await,
        Err(NoHead::Flaw(flaw)) => return bad(client, flaw).await,
    };
    let bytes = client.pending()[..end].to_vec();
    let head = match http1::request(&bytes) {
        Ok(head) if head.target.starts_with('/') => head,
        Ok(_) => return bad(client, Flaw("its target is no path")).await,
        Err(flaw) => return bad(client, flaw).await,
    };
    let provider = endpoint.provider;
    if let Some(login) = endpoint.login.as_ref().filter(|login| !login.is_for(head.target)) {
        let paths = list(&login.login.paths);
        let why = format!("the login in {} is for requests below {paths} and for no other", login.shown());
        let path = head.target.split('?').next().unwrap_or_default();
        door.refuse(Refusal { target: format!("{} {}{path}", head.method, endpoint.upstream), why: why.clone(), allow: None });
        return own(client, endpoint, 403, &why).await;
    }
    let keys = match keys(endpoint, &head).await {
        Ok(keys) => keys,
        Err(why) => {
            door.fail(&endpoint.upstream, format!("there is no key: {why}"));
            return own(client, endpoint, 401, &format!("there is no key for {}: {why}", provider.name())).await;
        }
    };
    let mut without: Vec<&str> = provider.stripped().to_vec();
    // Only we say who somebody is.
    without.extend(endpoint.login.iter().flat_map(|login| login.login.headers.keys().map(String::as_str)));
    // A packed answer cannot be counted.
    without.push("accept-encoding");
    let (out, length) = match request::rewritten(&head, &endpoint.upstream, 443, head.target, &keys, &without) {
        Ok(out) => out,
        Err(flaw) => return bad(client, flaw).await,
    };
    let call = provider.is_call(head.method, head.target);
    if call && let Err(exceeded) = admit(door) {
        let why = format!("{exceeded}: no further call is made for this work");
        door.tell(Notice::Exceeded { provider, exceeded });
        return own(client, endpoint, 400, &why).await;
    }
    let marks = door.marks(|held| matches!(held, Held::Model(own) if own == provider));
    let sent = Sent { head: &out, length, method: head.method, minor: head.minor, keeps: head.keeps(), marks: &marks };
    client.consume(end);
    let mut tap = Counter { endpoint, meter: None, status: 0, retry_after: None };
    let route = Route { target: &endpoint.upstream, path: head.target, outward: door.outward(), granted: true };
    let went = forward(door, client, server, &route, &sent, &Pass::free(), &mut tap).await;
    settle(door, endpoint, call, tap, &went);
    went.again.then_some(())
}

/// What says to the provider who pays: a key, or a login of the host with what belongs to it.
async fn keys(endpoint: &Endpoint, head: &RequestHead<'_>) -> Result<Vec<Added>, String> {
    if let Some(login) = &endpoint.login {
        // A small file that is read in no time.
        return login.headers(head, jiff::Timestamp::now());
    }
    let Some(credential) = &endpoint.credential else { return Ok(Vec::new()) };
    Ok(vec![Added { name: credential.header.clone(), value: credential.value().await? }])
}

fn admit(door: &Door) -> Result<(), Exceeded> {
    let Some(accounts) = door.accounts() else { return Ok(()) };
    for (n, ledger) in accounts.ledgers.iter().enumerate() {
        if let Err(exceeded) = ledger.admit() {
            accounts.ledgers[..n].iter().for_each(|before| before.give_back());
            return Err(exceeded);
        }
    }
    Ok(())
}

/// After the answer: what it cost, and what its status means for the calls to come.
fn settle(door: &Door, endpoint: &Endpoint, call: bool, tap: Counter<'_>, went: &Went) {
    let provider = endpoint.provider;
    if tap.status == 401 {
        if let Some(credential) = &endpoint.credential {
            credential.forget();
        }
        let what = match &endpoint.login {
            Some(login) => format!("it refused the login in {}; run `{}` on the host", login.shown(), login.login.renew),
            None => "it refused the key".to_owned(),
        };
        if endpoint.login.is_some() || endpoint.credential.is_some() {
            door.fail(&endpoint.upstream, what);
        }
    }
    if tap.status == 429 || tap.status == 529 {
        door.tell(Notice::Paused { provider, wait: tap.retry_after });
    }
    if !call {
        return;
    }
    let Some(accounts) = door.accounts() else { return };
    if tap.status == 0 || tap.status >= 400 {
        // No work was done for it.
        accounts.ledgers.iter().for_each(|ledger| ledger.give_back());
        return;
    }
    let usage = tap.meter.map_or_else(Usage::default, |meter| meter.finish(went.up));
    let amount = Amount {
        model_calls: 1,
        tokens_in: usage.tokens_in(),
        tokens_out: usage.output,
        cost_microusd: accounts.prices.cost(&usage),
        wall_ms: 0,
    };
    accounts.ledgers.iter().for_each(|ledger| ledger.add(amount));
    door.tell(Notice::Spent { provider, model: usage.model, amount, reported: usage.reported });
}

/// Reads an answer as it passes.
struct Counter<'a> {
    endpoint: &'a Endpoint,
    meter: Option<Meter>,
    status: u16,
    retry_after: Option<Duration>,
}

impl Tap for Counter<'_> {
    fn head(&mut self, head: &ResponseHead<'_>) {
        let text = |name: &str| http1::only(&head.headers, name).ok().flatten().map(|v| String::from_utf8_lossy(v).into_owned());
        self.status = head.status;
        self.meter = Some(Meter::new(self.endpoint.provider, &text("content-type").unwrap_or_default()));
        self.retry_after = pause(text, jiff::Timestamp::now());
    }

    fn content(&mut self, bytes: &[u8]) {
        if let Some(meter) = &mut self.meter {
            meter.push(bytes);
        }
    }
}

/// How long the provider wants no further call, as far as its headers say.
fn pause(header: impl Fn(&str) -> Option<String>, now: jiff::Timestamp) -> Option<Duration> {
    let number = |name: &str| header(name).and_then(|value| value.trim().parse::<u64>().ok());
    // A subscription's window ends at a moment; its usual `retry-after` is shorter than that.
    let window = number("anthropic-ratelimit-unified-reset").and_then(|at| at.checked_sub(now.as_second().unsigned_abs()));
    let seconds = window.or_else(|| number("retry-after")).map(Duration::from_secs);
    seconds.or_else(|| number("retry-after-ms").map(Duration::from_millis))
}

async fn bad(client: &mut Conn<TcpStream>, flaw: Flaw) -> Option<()> {
    Own::bad(flaw).send(client).await;
    None
}

/// An answer that the provider's client shows to the model or the person.
async fn own(client: &mut Conn<TcpStream>, endpoint: &Endpoint, status: u16, why: &str) -> Option<()> {
    let refusal = Refusal { target: endpoint.provider.name().to_owned(), why: why.to_owned(), allow: None };
    let page = endpoint.provider.error(&format!("cofferdam: {why}"));
    Own { status, reason: refusal.line(), page, kind: "application/json" }.send(client).await;
    None
}

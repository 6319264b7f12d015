//! What one sandbox's listeners share: its rules as they are now, the names it met, what it has used, and what is told about it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::base::host::{Authority, Host};
use crate::base::size::Size;

use super::endpoint::{Accounts, Endpoint};
use super::grant::{Grant, Opened};
use super::issuer::Issuer;
use super::names::{self, Names};
use super::notice::{Notice, Refusal};
use super::provider::Provider;
use super::resolver::Resolver;
use super::rule::{Decision, Denied, Request, Rules};
use super::tally::Tally;
use super::tls::Outward;

/// How long one address may take to answer.
const DIAL: Duration = Duration::from_secs(10);
/// No more addresses of one name are tried.
const MOST_TRIED: usize = 6;

#[derive(Debug)]
pub(super) struct Door {
    active: watch::Sender<Arc<Active>>,
    resolver: Arc<Resolver>,
    names: Mutex<Names>,
    tally: Mutex<Tally>,
    notices: Option<SyncSender<Notice>>,
    /// Every name gets an address, so that one sees what is wanted of it. It is refused all the same.
    observe: bool,
    endpoints: Vec<Endpoint>,
    opened: Opened,
    accounts: Option<Accounts>,
    outward: Option<Outward>,
}

/// What a door has beside its rules.
#[derive(Debug)]
pub(super) struct Fittings {
    pub(super) names: Names,
    pub(super) resolver: Arc<Resolver>,
    pub(super) notices: Option<SyncSender<Notice>>,
    pub(super) observe: bool,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) opened: Opened,
    pub(super) accounts: Option<Accounts>,
    pub(super) outward: Option<Outward>,
}

/// What a placeholder stands for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Held<'a> {
    Model(Provider),
    Grant(&'a Grant),
}

/// The rules of a moment, and what was used under each.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) rules: Rules,
    used: Vec<Arc<Used>>,
}

/// Bytes that went out and came in under one rule.
#[derive(Debug, Default)]
pub(super) struct Used {
    up: AtomicU64,
    down: AtomicU64,
}

/// What may be done with a target.
#[derive(Clone, Debug)]
pub(super) enum Permit {
    Pass(Pass),
    /// Requests must be seen one by one.
    Look,
}

/// Leave to pass, and how much.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) opaque: bool,
    up: Option<Size>,
    down: Option<Size>,
    used: Arc<Used>,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

impl Pass {
    /// Without a bound of bytes: what is spent there is counted in another way.
    pub(super) fn free() -> Self {
        Self { opaque: false, up: None, down: None, used: Arc::default() }
    }

    /// Counts bytes that are about to pass. False when they are more than the rule allows.
    pub(super) fn spend(&self, way: Way, bytes: usize) -> bool {
        let (used, limit) = match way {
            Way::Up => (&self.used.up, self.up),
            Way::Down => (&self.used.down, self.down),
        };
        let bytes = bytes as u64;
        let before = used.fetch_add(bytes, Ordering::Relaxed);
        limit.is_none_or(|limit| before.saturating_add(bytes) <= limit.bytes())
    }
}

impl Active {
    fn new(rules: Rules, before: Option<&Self>) -> Self {
        // What was used under a rule stays used when the rule stays.
        let kept = |text: &str| before.and_then(|b| b.rules.iter().position(|(t, _)| t == text).and_then(|n| b.used.get(n).cloned()));
        let used = rules.iter().map(|(text, _)| kept(text).unwrap_or_default()).collect();
        Self { rules, used }
    }
}

impl Door {
    pub(super) fn new(rules: Rules, fittings: Fittings) -> Self {
        let Fittings { names, resolver, notices, observe, endpoints, opened, accounts, outward } = fittings;
        let (active, _) = watch::channel(Arc::new(Active::new(rules, None)));
        Self { active, resolver, names: Mutex::new(names), tally: Mutex::default(), notices, observe, endpoints, opened, accounts, outward }
    }

    pub(super) fn endpoint(&self, provider: Provider) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.provider == provider)
    }

    /// The placeholders of its keys, but those that may go where this goes.
    pub(super) fn marks(&self, mut may_go: impl FnMut(Held<'_>) -> bool) -> Vec<String> {
        let models = self.endpoints.iter().filter(|endpoint| !may_go(Held::Model(endpoint.provider))).map(|e| &e.placeholder);
        let mut marks: Vec<String> = models.cloned().collect();
        marks.extend(self.opened.grants.iter().filter(|grant| !may_go(Held::Grant(grant))).map(|grant| grant.placeholder.clone()));
        marks
    }

    /// Who stands for hosts whose TLS ends here.
    pub(super) fn issuer(&self) -> Option<&Issuer> {
        self.opened.issuer.as_deref()
    }

    /// The keys that are put in there.
    pub(super) fn grants<'a>(&'a self, target: &'a Authority) -> impl Iterator<Item = &'a Grant> {
        self.opened.to(target)
    }

    pub(super) fn accounts(&self) -> Option<&Accounts> {
        self.accounts.as_ref()
    }

    pub(super) fn outward(&self) -> Option<&Outward> {
        self.outward.as_ref()
    }

    /// Other rules from now on: all of them, or none when the text was bad before this.
    pub(super) fn replace(&self, rules: Rules) {
        self.active.send_modify(|active| *active = Arc::new(Active::new(rules, Some(active))));
    }

    pub(super) fn active(&self) -> Arc<Active> {
        self.active.borrow().clone()
    }

    /// Comes back when this is no longer allowed.
    pub(super) async fn until_forbidden(&self, target: &Authority, request: Option<(&str, &str)>) {
        let mut changes = self.active.subscribe();
        loop {
            let seen = request.map(|(method, path)| Request { method, path });
            if matches!(changes.borrow_and_update().rules.decide(target, seen), Decision::Deny(_)) {
                return;
            }
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// An address of ours stands for the name it was given for.
    pub(super) fn identify(&self, asked: Authority) -> Authority {
        let Host::Address(IpAddr::V4(ip)) = asked.host else { return asked };
        match lock(&self.names).name(ip) {
            Some(name) => Authority { host: Host::Name(name.clone()), port: asked.port },
            None => asked,
        }
    }

    pub(super) fn permit(&self, target: &Authority, request: Option<Request<'_>>) -> Result<Permit, Refusal> {
        let active = self.active();
        match active.rules.decide(target, request) {
            Decision::Allow { rule, opaque } => {
                let reach = active.rules.get(rule);
                let used = active.used.get(rule).cloned().unwrap_or_default();
                Ok(Permit::Pass(Pass { opaque, up: reach.and_then(|r| r.up), down: reach.and_then(|r| r.down), used }))
            }
            Decision::Look => Ok(Permit::Look),
            Decision::Deny(denied) => Err(self.refuse(Refusal::of(target, &denied))),
        }
    }

    /// The address that stands for a looked-up name.
    pub(super) fn address_of(&self, name: &crate::base::host::Name) -> Option<std::net::Ipv4Addr> {
        let host = Host::Name(name.clone());
        let known = self.active().rules.may_mean(&host);
        if !known && !self.observe {
            let target = Authority { host, port: 443 };
            let refusal = Refusal::of(&target, &Denied::Unlisted);
            self.refuse(Refusal { target: name.to_string(), allow: Some(name.to_string()), ..refusal });
            return None;
        }
        lock(&self.names).address(name)
    }

    /// Connects to a target that a rule allows. The name is resolved here, once, and every address is judged before it is dialled.
    /// `granted`: whoever set the sandbox up named the target; as a literal address it may be any.
    pub(super) async fn dial(&self, target: &Authority, granted: bool) -> Result<TcpStream, Refused> {
        let addresses = match &target.host {
            Host::Address(ip) => vec![ip.to_canonical()],
            Host::Name(name) => match self.resolver.resolve(name).await {
                Ok(addresses) => addresses,
                Err(error) => return Err(self.fail(target, error.to_string())),
            },
        };
        let active = self.active();
        let (mut refusal, mut last) = (None, None);
        for ip in addresses.into_iter().take(MOST_TRIED) {
            let named = granted && matches!(target.host, Host::Address(_));
            if !named && let Err(kind) = active.rules.may_dial(ip, target.port) {
                refusal.get_or_insert_with(|| Refusal::address(target, ip, kind));
                continue;
            }
            match tokio::time::timeout(DIAL, TcpStream::connect(SocketAddr::new(ip, target.port))).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).ok();
                    return Ok(stream);
                }
                Ok(Err(error)) => last = Some(format!("{ip}: {error}")),
                Err(_) => last = Some(format!("{ip} did not answer within {} s", DIAL.as_secs())),
            }
        }
        match (refusal, last) {
            (_, Some(why)) => Err(self.fail(target, why)),
            (Some(refusal), None) => Err(Refused::Denied(self.refuse(refusal))),
            (None, None) => Err(self.fail(target, "the name has no address".to_owned())),
        }
    }

    /// Notes a refusal, and gives it back for the answer.
    pub(super) fn refuse(&self, refusal: Refusal) -> Refusal {
        self.tell(Notice::Refused(refusal.clone()));
        refusal
    }

    pub(super) fn fail(&self, target: &Authority, why: String) -> Refused {
        self.tell(Notice::Failed { target: target.to_string(), why: why.clone() });
        Refused::Failed(why)
    }

    pub(super) fn tell(&self, notice: Notice) {
        lock(&self.tally).note(&notice);
        if let Some(notices) = &self.notices {
            // A reader that does not keep up loses notices; the tally has them.
            drop(notices.try_send(notice));
        }
    }

    pub(super) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Refused {
    Denied(Refusal),
    /// Allowed, and not to be had.
    Failed(String),
}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Denied(refusal) => Self::other(refusal.line()),
            Refused::Failed(why) => Self::other(why),
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Is this one of our own addresses? Such a connection is nobody's when no name stands behind it.
pub(super) fn is_ours(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if names::is_ours(ip))
}

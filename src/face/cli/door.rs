//! The gateway of one command: made ready before its sandbox is, served from threads of our own once it runs, summed up at its end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::failure::{Exit, Failure};
use super::printer;
use crate::agents::adapter;
use crate::base::host::Authority;
use crate::base::text::{one_line, plural};
use crate::egress::{
    self, Accounts, Budget, Endpoint, Gateway, Grant, Inside, Kept, Ledger, Opened, Prices, Provider, Resolver, Rules, Setup, Source,
    Tally, Threads,
};
use crate::event::Amount;
use crate::sandbox::policy::{NetworkMode, Policy, Tier};
use crate::sandbox::toolchains::Surroundings;
use crate::sandbox::{Denial, Outcome, Running};

/// No more lines are printed at the end of a run.
const MOST_LINES: usize = 20;

/// The operation that the gateway refuses.
const REACH: &str = "reach";

/// What a person asks of the gateway beside the rules.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    pub(super) observe: bool,
    pub(super) resolver: Option<SocketAddr>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) grants: Vec<Grant>,
    pub(super) accounts: Option<Accounts>,
}

/// A model that a person named: the provider, and where its service is when it is not the provider's own.
#[derive(Clone, Debug)]
pub(super) struct Model {
    provider: Provider,
    upstream: Option<Authority>,
}

/// Reads `PROVIDER[=HOST[:PORT]]`.
pub(super) fn model(text: &str) -> Result<Model, String> {
    let (provider, upstream) = text.split_once('=').map_or((text, None), |(provider, host)| (provider, Some(host)));
    let upstream = upstream.map(|host| Authority::parse(host, Some(443)).map_err(str::to_owned)).transpose()?;
    Ok(Model { provider: provider.parse()?, upstream })
}

/// Reads `HEADER@HOST[:PORT]=SOURCE`.
pub(super) fn grant(text: &str) -> Result<Grant, String> {
    // Whatever it is, it may hold a key: it is not repeated.
    let form = "it must be HEADER@HOST[:PORT]=SOURCE, such as authorization@api.example.org=env:TOKEN";
    let (header, rest) = text.split_once('@').ok_or(form)?;
    let (host, source) = rest.split_once('=').ok_or(form)?;
    if header.is_empty() || !header.bytes().all(egress::http1::is_token) {
        return Err(form.to_owned());
    }
    Ok(Grant::new(Authority::parse(host, Some(443))?, header, source.parse()?))
}

impl Model {
    pub(super) fn endpoint(&self, key: Option<&Source>) -> Endpoint {
        let key = key.map(|source| (self.provider.header().to_owned(), source.clone()));
        Endpoint::new(self.provider, self.upstream.clone(), key)
    }
}

/// The model of an agent's own login on this host.
pub(super) fn login(agent: &str, around: &Surroundings) -> Result<Endpoint, Failure> {
    let own = around.profiles.as_deref().and_then(Path::parent).map(|config| config.join("adapters"));
    let adapter = adapter::load(agent, own.as_deref()).map_err(|error| Failure::usage(error.to_string()).next(error.next()))?;
    let Some(first) = adapter.logins.first() else {
        return Err(
            Failure::usage(format!("the adapter {agent} knows of no login; nothing was run")).next("pass --model PROVIDER, with a key")
        );
    };
    let variable = |name: &str| around.variables.get(name).map(PathBuf::from);
    let kept = around.home.as_deref().and_then(|home| Kept::find(&adapter.logins, home, &variable));
    let endpoint = kept.and_then(|kept| Arc::new(kept).endpoint());
    endpoint
        .ok_or_else(|| Failure::usage(format!("nobody is logged in to {agent} here; nothing was run")).next(format!("run {}", first.renew)))
}

/// What calls cost here, and how many there may be.
pub(super) fn accounts(around: &Surroundings, model_calls: Option<u64>) -> Result<Accounts, Failure> {
    let own = around.profiles.as_ref().and_then(|profiles| profiles.parent()).map(|config| config.join("prices.toml"));
    let text = own.as_ref().and_then(|path| fs_err::read_to_string(path).ok());
    let prices = Prices::with(text.as_deref()).map_err(|why| {
        Failure::usage("the table of prices cannot be read").why(why).next("mend or remove prices.toml beside your profiles")
    })?;
    let ledger = Ledger::new(Budget { model_calls, ..Budget::default() }, Amount::default());
    Ok(Accounts { ledgers: vec![Arc::new(ledger)], prices: Arc::new(prices) })
}

/// A gateway whose sandbox is not there yet.
#[derive(Debug)]
pub(super) struct Ready {
    rules: Rules,
    inside: Inside,
    opened: Opened,
    wishes: Wishes,
}

/// One that serves.
#[derive(Debug)]
pub(super) struct Serving {
    gateway: Gateway,
    _threads: Threads,
}

/// Puts into the policy what the gateway needs inside. Nothing when the policy has no gateway: then no thread is started for it either.
pub(super) fn prepare(policy: &mut Policy, mut wishes: Wishes) -> Result<Option<Ready>, Failure> {
    if policy.network.mode != NetworkMode::Gateway {
        return if wishes.observe || !wishes.endpoints.is_empty() || !wishes.grants.is_empty() {
            Err(Failure::usage("--observe, --model, --login and --credential need the gateway; nothing was run")
                .next("leave out --net, or pass --net gateway"))
        } else {
            Ok(None)
        };
    }
    let rules = Rules::parse(&policy.network.allow).map_err(|(rule, why)| {
        Failure::usage(format!("the rule {} cannot be read, so nothing is allowed and nothing was run", one_line(&rule))).why(why)
    })?;
    if policy.tier == Tier::NoUserns {
        // Without a network namespace there are no sockets inside at all.
        return if rules.is_empty() && wishes.endpoints.is_empty() {
            Ok(None)
        } else {
            Err(Failure::usage("the gateway needs the tier full; nothing was run")
                .why("in the tier no-userns there is no network namespace that it could stand in")
                .next("leave out --require no-userns, or run without network"))
        };
    }
    if let Some(grant) = wishes.grants.iter().find(|grant| !rules.may_mean(&grant.to.host)) {
        return Err(Failure::usage(format!("no rule allows {}, so its credential would never be used; nothing was run", grant.to.host))
            .next(format!("pass --allow {} too", grant.to)));
    }
    let opened = Opened::new(&rules, std::mem::take(&mut wishes.grants))
        .map_err(|e| Failure::new(Exit::ExecOurs, "no authority for TLS can be made; nothing was run").because(&e))?;
    let inside = egress::furnish(policy, &rules, &wishes.endpoints, &opened);
    Ok(Some(Ready { rules, inside, opened, wishes }))
}

impl Ready {
    /// Serves the sockets that came out of the sandbox. From here on this process has threads: nothing may be forked any more.
    pub(super) fn serve(self, running: &mut Running<'_>) -> Result<Serving, Failure> {
        let failed = |e: std::io::Error| Failure::new(Exit::ExecOurs, "the gateway cannot be started; the command was ended").because(&e);
        let threads = Threads::start().map_err(failed)?;
        let resolver = Arc::new(self.wishes.resolver.map_or_else(Resolver::of_host, Resolver::with_server));
        let setup = Setup {
            rules: self.rules,
            inside: self.inside,
            resolver,
            notices: None,
            observe: self.wishes.observe,
            endpoints: self.wishes.endpoints,
            opened: self.opened,
            accounts: self.wishes.accounts,
        };
        let gateway = Gateway::start(threads.handle(), setup, running.listeners()).map_err(failed)?;
        Ok(Serving { gateway, _threads: threads })
    }
}

impl Serving {
    pub(super) fn stop(self) -> Tally {
        self.gateway.stop()
    }
}

/// What was refused becomes part of the outcome.
pub(super) fn record(outcome: &mut Outcome, tally: &Tally) {
    // Connections to our own addresses were judged here, and are no denials of the kernel.
    for line in tally.lines().filter(|line| line.refused) {
        let refusal = egress::Refusal { target: line.target.clone(), why: line.why.clone(), allow: line.allow.clone() };
        outcome.denials.push(Denial {
            operation: REACH.to_owned(),
            target: line.target.clone(),
            rule: line.why.clone(),
            errno: None,
            allow: refusal.option(),
            count: line.count,
        });
    }
}

/// What the kernel refused, beside what the gateway did.
pub(super) fn others(outcome: &Outcome) {
    let others = outcome.denials.iter().filter(|denial| denial.operation != REACH);
    others.for_each(|denial| printer::err(&format!("cofferdam: {denial}")));
}

/// The summary at the end: what was refused, what could not be had, and, when it was asked for, the rules that would allow it.
pub(super) fn report(outcome: &Outcome, tally: &Tally, observe: bool) {
    let refused: Vec<_> = outcome.denials.iter().filter(|denial| denial.operation == REACH).collect();
    refused.iter().take(MOST_LINES).for_each(|denial| printer::err(&format!("cofferdam: {denial}")));
    let more = (refused.len().saturating_sub(MOST_LINES)) as u64 + tally.more;
    if more > 0 {
        printer::err(&format!("cofferdam: and {more} more refusals"));
    }
    for line in tally.lines().filter(|line| !line.refused).take(MOST_LINES) {
        printer::err(&format!("cofferdam: {} is allowed and could not be reached: {}", one_line(&line.target), one_line(&line.why)));
    }
    if tally.spent.model_calls > 0 {
        let Amount { model_calls, tokens_in, tokens_out, cost_microusd, .. } = tally.spent;
        let calls = plural(model_calls, "model call", "model calls");
        let dollars = cost_microusd as f64 / 1e6;
        printer::err(&format!("cofferdam: {calls}, {tokens_in} tokens read, {tokens_out} written, about {dollars:.4} US dollars"));
    }
    if !observe {
        return;
    }
    let proposal = tally.proposal();
    if proposal.is_empty() {
        return printer::err("cofferdam: observed: it wanted nothing of the network");
    }
    let quoted: Vec<String> = proposal.iter().map(|rule| format!("\"{}\"", one_line(rule))).collect();
    printer::err(&format!(
        "cofferdam: observed; what would allow all of it, for you to read first:\n  [network]\n  allow = [{}]",
        quoted.join(", ")
    ));
}

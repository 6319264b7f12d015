//! The network of a role's process: a gateway with the configured hosts, and for agents the models, whose keys stay outside.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::base::host::{Authority, Host};
use crate::base::text::one_line;
use crate::config::{Config, Credential, Role, Secret};
use crate::egress::{
    self, Accounts, Budget, Endpoint, Gateway, Grant, Kept, Ledger, Login, Opened, Prices, Provider, Resolver, Rules, Setup, Source, Tally,
    Threads,
};
use crate::event::{Amount, Kind};
use crate::sandbox::policy::{NetworkMode, Policy};
use crate::sandbox::toolchains::Surroundings;

use super::Workshop;

/// No more refused targets of one process are stored.
const MOST_DENIALS: usize = 50;

/// What all gateways of a run share.
#[derive(Debug, Default)]
pub(super) struct Doors {
    threads: Mutex<Option<Arc<Threads>>>,
    resolver: OnceLock<Arc<Resolver>>,
    prices: OnceLock<Arc<Prices>>,
    /// What a command printed for one process is kept for the next one.
    keys: Mutex<Vec<(Authority, Arc<egress::Credential>)>>,
}

/// What one process may spend on models, and is counted against.
#[derive(Clone, Debug)]
pub struct Purse {
    ledgers: Vec<Arc<Ledger>>,
    /// The model that only this process has: by a person's login, for the one program that it is of.
    own: Option<Endpoint>,
}

impl Purse {
    /// Of a story: what its rules allow, less what it has spent.
    pub fn of_story(limits: &crate::event::Limits, spent: Amount) -> Self {
        let budget = Budget { model_calls: limits.model_calls, tokens: limits.tokens, cost_microusd: limits.cost_microusd };
        Self { ledgers: vec![Arc::new(Ledger::new(budget, spent))], own: None }
    }

    /// The same purse, for a process with a model of its own.
    pub fn with(&self, own: Option<Endpoint>) -> Self {
        Self { ledgers: self.ledgers.clone(), own }
    }
}

/// A gateway that waits for its sandbox.
pub(super) struct Door {
    rules: Rules,
    inside: egress::Inside,
    endpoints: Vec<Endpoint>,
    opened: Opened,
    accounts: Option<Accounts>,
}

/// One that serves, and the threads that it is served from.
pub(super) struct Open {
    gateway: Gateway,
    _threads: Arc<Threads>,
}

impl Open {
    pub(super) fn close(self) -> Tally {
        self.gateway.stop()
    }
}

/// Does this role talk to a model?
pub(super) const fn is_agent(role: Role) -> bool {
    match role {
        Role::Planner | Role::Implementer | Role::Reviewer | Role::Verifier | Role::Diagnoser => true,
        Role::Gate => false,
    }
}

/// The models that the configuration has keys for: by `[[credential]]`, else, for an agent that needs one, by the variable that holds it.
pub(super) fn endpoints(config: &Config, around: &Surroundings) -> Vec<Endpoint> {
    let mut found: Vec<Endpoint> = config.credentials.iter().filter_map(of_credential).collect();
    for agent in config.agents.values() {
        let provider = match agent.adapter.as_str() {
            "claude" | "opencode" => Provider::Anthropic,
            "codex" | "qwen" | "aider" => Provider::OpenAi,
            "gemini" => Provider::Gemini,
            _ => continue,
        };
        let has_key = around.variables.get(provider.key_variable()).is_some_and(|key| !key.is_empty());
        if has_key && !found.iter().any(|endpoint| endpoint.provider == provider) {
            found.push(Endpoint::new(provider, None, None));
        }
    }
    found
}

fn of_credential(credential: &Credential) -> Option<Endpoint> {
    let upstream = Authority::parse(&credential.host, Some(443)).ok()?;
    let provider = provider_of(credential, &upstream)?;
    Some(Endpoint::new(provider, Some(upstream), Some((credential.header.clone(), source(&credential.from)))))
}

/// The model API that a credential is for, when it is for one.
fn provider_of(credential: &Credential, upstream: &Authority) -> Option<Provider> {
    let by_host = || Provider::ALL.into_iter().find(|p| matches!(&upstream.host, Host::Name(name) if name.as_str() == p.host()));
    credential.api.as_deref().and_then(|api| api.parse().ok()).or_else(by_host)
}

/// What a configured secret is.
///
/// # Errors
/// When it cannot be had.
pub fn secret(from: &Secret) -> Result<String, String> {
    source(from).key()
}

fn source(secret: &Secret) -> Source {
    match secret {
        Secret::Env(name) => Source::Env(name.clone()),
        Secret::File(path) => Source::File(path.into()),
        Secret::Command(command) => Source::Command(command.clone()),
    }
}

/// The credentials that are put in for whatever role may reach their hosts.
pub fn grants(config: &Config) -> Vec<Grant> {
    config.credentials.iter().filter_map(grant).collect()
}

/// A credential for a host that is no model's: it is put in there, for whatever role may reach the host.
fn grant(credential: &Credential) -> Option<Grant> {
    let to = Authority::parse(&credential.host, Some(443)).ok()?;
    if provider_of(credential, &to).is_some() {
        return None;
    }
    let plain = Grant::new(to, &credential.header, source(&credential.from));
    let variable = credential.variable.clone().or(plain.variable);
    Some(Grant { methods: credential.methods.clone(), path: credential.path.clone(), variable, ..plain })
}

impl Workshop {
    /// The first of these logins that is there on this host.
    pub fn login(&self, logins: &[Login]) -> Option<Kept> {
        let variable = |name: &str| self.around.variables.get(name).map(PathBuf::from);
        Kept::find(logins, self.around.home.as_deref()?, &variable)
    }

    /// Where the model of this provider's host is, inside an agent's sandbox. None when there is no key for it.
    pub fn endpoint_of(&self, host: &str) -> Option<String> {
        let provider = Provider::ALL.into_iter().find(|provider| provider.host() == host)?;
        let there = endpoints(&self.config(), &self.around).iter().any(|endpoint| endpoint.provider == provider);
        there.then(|| Endpoint::address(provider))
    }

    /// Puts into a policy what its gateway needs inside. Nothing when it has none.
    pub(super) fn furnish(&self, policy: &mut Policy, purse: Option<&Purse>) -> io::Result<Option<Door>> {
        if policy.network.mode != NetworkMode::Gateway {
            return Ok(None);
        }
        let bad = |(rule, why): (String, &str)| io::Error::other(format!("the rule {} cannot be read: {why}", one_line(&rule)));
        let rules = Rules::parse(&policy.network.allow).map_err(bad)?;
        let config = self.config();
        let mut endpoints = purse.map(|_| endpoints(&config, &self.around)).unwrap_or_default();
        if let Some(own) = purse.and_then(|purse| purse.own.clone()) {
            endpoints.retain(|endpoint| endpoint.provider != own.provider);
            endpoints.push(own);
        }
        let mut opened = Opened::new(&rules, grants(&config))?;
        for endpoint in &mut endpoints {
            endpoint.credential = endpoint.credential.take().map(|key| self.kept(&endpoint.upstream, key));
        }
        for grant in &mut opened.grants {
            grant.credential = self.kept(&grant.to, grant.credential.clone());
        }
        let inside = egress::furnish(policy, &rules, &endpoints, &opened);
        let accounts = purse.map(|purse| self.prices().map(|prices| Accounts { ledgers: purse.ledgers.clone(), prices })).transpose()?;
        Ok(Some(Door { rules, inside, endpoints, opened, accounts }))
    }

    /// The same credential as an earlier process had, when there is one.
    fn kept(&self, to: &Authority, key: Arc<egress::Credential>) -> Arc<egress::Credential> {
        let mut keys = self.doors.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let same = keys.iter().find(|(at, known)| at == to && known.header == key.header && known.source == key.source);
        if let Some((_, known)) = same {
            return known.clone();
        }
        keys.push((to.clone(), key.clone()));
        key
    }

    /// Serves the sockets that came out of the sandbox.
    pub(super) fn open(&self, door: Door, sockets: Vec<std::os::fd::OwnedFd>) -> io::Result<Open> {
        let threads = {
            let mut threads = self.doors.threads.lock().unwrap_or_else(PoisonError::into_inner);
            match &*threads {
                Some(threads) => threads.clone(),
                None => threads.insert(Arc::new(Threads::start()?)).clone(),
            }
        };
        let resolver = self.doors.resolver.get_or_init(|| Arc::new(Resolver::of_host())).clone();
        let Door { rules, inside, endpoints, opened, accounts } = door;
        let setup = Setup { rules, inside, resolver, notices: None, observe: false, endpoints, opened, accounts };
        let gateway = Gateway::start(threads.handle(), setup, sockets)?;
        Ok(Open { gateway, _threads: threads })
    }

    fn prices(&self) -> io::Result<Arc<Prices>> {
        if let Some(prices) = self.doors.prices.get() {
            return Ok(prices.clone());
        }
        let own = self.around.profiles.as_ref().and_then(|profiles| profiles.parent()).map(|config| config.join("prices.toml"));
        let text = own.and_then(|path| fs_err::read_to_string(path).ok());
        let prices = Prices::with(text.as_deref()).map_err(|why| io::Error::other(format!("prices.toml cannot be read: {why}")))?;
        Ok(self.doors.prices.get_or_init(|| Arc::new(prices)).clone())
    }
}

/// The events of what a process was refused.
pub fn denials(role: Role, tally: &Tally) -> Vec<Kind> {
    let refused = tally.lines().filter(|line| line.refused).take(MOST_DENIALS);
    let event = |line: &egress::tally::Line| Kind::NetworkDenied {
        role: role.name().to_owned(),
        target: line.target.clone(),
        rule: line.why.clone(),
        count: line.count,
    };
    refused.map(event).collect()
}

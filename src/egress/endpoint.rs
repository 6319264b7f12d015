//! A model's API inside a sandbox: plain HTTP there, TLS with the real key outside.

use std::sync::Arc;

use super::credential::{Credential, Source};
use super::ledger::Ledger;
use super::login::Kept;
use super::names::OURS;
use super::price::Prices;
use super::provider::Provider;
use crate::base::host::Authority;

/// Where the first provider's endpoint listens; the others follow.
const FIRST_PORT: u16 = 4000;

/// One provider that a sandbox may call.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub provider: Provider,
    /// Where the service really is.
    pub upstream: Authority,
    pub credential: Option<Arc<Credential>>,
    /// A login of the host, in the place of a key.
    pub login: Option<Arc<Kept>>,
    /// What the tools inside take for a key.
    pub placeholder: String,
}

/// What calls cost, and which accounts pay for them: all of them must have something left.
#[derive(Clone, Debug)]
pub struct Accounts {
    pub ledgers: Vec<Arc<Ledger>>,
    pub prices: Arc<Prices>,
}

impl Endpoint {
    /// The provider's own service, with its key from the usual variable, unless something else is named.
    pub fn new(provider: Provider, upstream: Option<Authority>, key: Option<(String, Source)>) -> Self {
        let own = || Authority { host: crate::base::host::Host::parse(provider.host()).unwrap_or_else(|_| unreachable_host()), port: 443 };
        let (header, source) = key.unwrap_or_else(|| (provider.header().to_owned(), Source::Env(provider.key_variable().to_owned())));
        let credential = Some(Arc::new(Credential::new(header, source)));
        Self { provider, upstream: upstream.unwrap_or_else(own), credential, login: None, placeholder: provider.placeholder(&mark()) }
    }

    pub fn port(provider: Provider) -> u16 {
        FIRST_PORT + Provider::ALL.iter().position(|p| *p == provider).map_or(0, |n| u16::try_from(n).unwrap_or(0))
    }

    /// Its address inside.
    pub fn address(provider: Provider) -> String {
        format!("http://{OURS}:{}", Self::port(provider))
    }

    /// The variables that lead the provider's tools here.
    pub fn environment(&self) -> Vec<(String, String)> {
        if let Some(login) = &self.login {
            // A program that sees a key takes it, and looks for no login.
            return login.environment();
        }
        let base = Self::address(self.provider);
        let bases = self.provider.base_variables().iter().map(|(name, tail)| ((*name).to_owned(), format!("{base}{tail}")));
        bases.chain([(self.provider.key_variable().to_owned(), self.placeholder.clone())]).collect()
    }

    /// Files of the private home for tools that no variable leads here.
    pub fn files(&self) -> Vec<(String, String)> {
        if let Some(login) = &self.login {
            return login.files();
        }
        match self.provider {
            Provider::Anthropic => Vec::new(),
            Provider::OpenAi => {
                let base = Self::address(Provider::OpenAi);
                let text = format!(
                    "# Written by cofferdam: the model is reached through its gateway.\nmodel_provider = \"cofferdam\"\ncheck_for_update_on_startup = false\n\n\
                     [model_providers.cofferdam]\nname = \"cofferdam\"\nbase_url = \"{base}/v1\"\nwire_api = \"responses\"\nenv_key = \"OPENAI_API_KEY\"\n\
                     supports_websockets = false\n\n[analytics]\nenabled = false\n"
                );
                vec![(".codex/config.toml".to_owned(), text)]
            }
            Provider::Gemini => {
                let text =
                    "{\"security\":{\"auth\":{\"selectedType\":\"gemini-api-key\"}},\"privacy\":{\"usageStatisticsEnabled\":false}}\n";
                vec![(".gemini/settings.json".to_owned(), text.to_owned())]
            }
        }
    }
}

/// A mark that no other run's placeholder has, and that is found wherever it turns up.
pub(super) fn mark() -> String {
    let mut bytes = [0; 12];
    // Without random numbers the mark is only less unusual; it guards nothing.
    rustls::crypto::ring::default_provider().secure_random.fill(&mut bytes).ok();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The providers' own names are names; this is never asked for.
fn unreachable_host() -> crate::base::host::Host {
    crate::base::host::Host::Address(std::net::Ipv4Addr::UNSPECIFIED.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_has_a_place_of_its_own() {
        for provider in Provider::ALL {
            let endpoint = Endpoint::new(provider, None, None);
            assert_eq!(endpoint.upstream.to_string(), format!("{}:443", provider.host()));
            let environment = endpoint.environment();
            assert!(environment.iter().any(|(name, value)| name == provider.key_variable() && value.contains("cofferdam")));
            assert!(environment.iter().any(|(_, value)| value.starts_with(&Endpoint::address(provider))));
            assert_ne!(endpoint.placeholder, Endpoint::new(provider, None, None).placeholder);
        }
        let ports: std::collections::BTreeSet<u16> = Provider::ALL.into_iter().map(Endpoint::port).collect();
        assert_eq!(ports.len(), Provider::ALL.len());
    }
}

//! What a log must never keep, as far as the environment and the configuration know it.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::{Config, Secret};
use crate::base::redact::Secrets;

/// Values that must never be kept: what the environment and the configuration call a secret.
pub fn known_secrets(variables: &BTreeMap<String, OsString>, config: &Config) -> Secrets {
    let named = |name: &str| variables.get(name).map(|value| (name.to_owned(), value.as_encoded_bytes().to_vec()));
    let named_so = variables.keys().filter(|name| Secrets::is_secret_name(name)).filter_map(|name| named(name));
    let credentials = config.credentials.iter().filter_map(|credential| match &credential.from {
        Secret::Env(name) => named(name),
        Secret::File(path) => Some((format!("the credential of {}", credential.host), fs_err::read(path).ok()?)),
        // Whoever runs the command knows the value; it is not run only to keep its answer out.
        Secret::Command(_) => None,
    });
    Secrets::new(named_so.chain(credentials))
}

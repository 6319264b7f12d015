//! The authority of one sandbox: it vouches for the hosts whose TLS ends at the gateway, so that requests can be judged one by one.
//!
//! Made anew for each sandbox. Its key is in this process's memory and nowhere else; what is inside is its certificate, in a bundle with
//! what this host trusts. It signs for a host only after the rules allowed the connection.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::door::lock;
use super::{java, tls};
use crate::base::host::Host;

/// Longer than any run, and short enough that a certificate that got out is soon worth nothing.
const DAYS: i64 = 30;
/// No more hosts are remembered: a rule for all subdomains of a name has no end of them.
const MOST_HOSTS: usize = 512;

pub struct Issuer {
    authority: CertifiedIssuer<'static, KeyPair>,
    bundle: String,
    made: Mutex<HashMap<Host, Arc<ServerConfig>>>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").finish_non_exhaustive()
    }
}

impl Issuer {
    /// # Errors
    /// When no key can be made.
    pub fn new() -> io::Result<Self> {
        let mut params = params(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "cofferdam, for one sandbox");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let authority = CertifiedIssuer::self_signed(params, key).map_err(io::Error::other)?;
        let bundle = format!("{}{}", pem(authority.der()), tls::trusted().iter().map(pem).collect::<String>());
        Ok(Self { authority, bundle, made: Mutex::default() })
    }

    /// What programs inside trust: this authority, and what this host trusts.
    pub fn bundle(&self) -> &str {
        &self.bundle
    }

    /// The same as Java reads it.
    pub fn java_store(&self) -> Vec<u8> {
        java::trust_store(std::iter::once(self.authority.der()).chain(tls::trusted()).map(AsRef::as_ref))
    }

    /// The server that stands for a host. Another one for each, with a key of its own.
    pub(super) fn server(&self, host: &Host) -> io::Result<Arc<ServerConfig>> {
        let mut made = lock(&self.made);
        if let Some(server) = made.get(host) {
            return Ok(server.clone());
        }
        if made.len() >= MOST_HOSTS {
            made.clear();
        }
        let server = Arc::new(self.certify(host)?);
        made.insert(host.clone(), server.clone());
        Ok(server)
    }

    fn certify(&self, host: &Host) -> io::Result<ServerConfig> {
        let mut params = params(vec![host.to_string()])?;
        params.distinguished_name.push(DnType::CommonName, "a host, as cofferdam stands for it");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.authority).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
        let mut config = config.map_err(io::Error::other)?;
        // What is said over it is read here, and that is HTTP/1.1. No early data: it could be sent twice.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn params(names: Vec<String>) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let day = |offset: i64| {
        let date = today.saturating_add(jiff::Span::new().days(offset));
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    // Clocks differ.
    (params.not_before, params.not_after) = (day(-1), day(DAYS));
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params)
}

/// A certificate as programs read it from a file.
fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in base64(certificate).as_bytes().chunks(64) {
        text.extend(line.iter().map(|b| char::from(*b)));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let number = (0..3).fold(0, |n, i| n << 8 | u32::from(three.get(i).copied().unwrap_or(0)));
        let digit = |i: usize| char::from(DIGITS[(number >> (18 - 6 * i)) as usize & 63]);
        text.extend((0..4).map(|i| if i <= three.len() { digit(i) } else { '=' }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn what_is_written_is_what_is_read() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy"), ("\u{3ff}", "z78=")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_back(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            let text = pem(&CertificateDer::from(bytes.clone()));
            prop_assert_eq!(CertificateDer::from_pem_slice(text.as_bytes()).expect("a certificate").to_vec(), bytes);
        }
    }

    #[test]
    fn each_sandbox_has_an_authority_of_its_own_and_no_key_gets_out() {
        let (one, other) = (Issuer::new().expect("an issuer"), Issuer::new().expect("an issuer"));
        assert_ne!(one.authority.der(), other.authority.der());
        assert!(one.bundle().starts_with(&pem(one.authority.der())) && !one.bundle().contains("PRIVATE KEY"));
        assert_eq!(format!("{one:?}"), "Issuer { .. }");
        let host = Host::parse("a.test").expect("a host");
        assert!(Arc::ptr_eq(&one.server(&host).expect("a server"), &one.server(&host).expect("a server")));
        for n in 0..MOST_HOSTS + 5 {
            drop(one.server(&Host::parse(&format!("h{n}.test")).expect("a host")).expect("a server"));
        }
        assert!(lock(&one.made).len() <= MOST_HOSTS);
    }
}

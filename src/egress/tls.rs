//! TLS to the outside: with the host's own certificates of authorities, and nothing that is not in order.

use std::io;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::base::host::Host;

/// The certificates of the authorities that this host trusts, read once.
pub(super) fn trusted() -> &'static [CertificateDer<'static>] {
    static TRUSTED: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    TRUSTED.get_or_init(|| rustls_native_certs::load_native_certs().certs)
}

/// Connects as a client that trusts what this host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR`, else the system's).
#[derive(Clone)]
pub(super) struct Outward {
    connector: TlsConnector,
}

impl std::fmt::Debug for Outward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outward").finish_non_exhaustive()
    }
}

/// A client that trusts what this host trusts, and speaks HTTP/1.1.
///
/// # Errors
/// When this host trusts nobody.
pub fn client_config() -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(trusted().iter().cloned());
    if added == 0 {
        return Err(io::Error::other("this host has no certificates of authorities; install ca-certificates, or set SSL_CERT_FILE"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    // What is said over it is read here, and that is HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

impl Outward {
    /// # Errors
    /// When this host trusts nobody.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { connector: TlsConnector::from(Arc::new(client_config()?)) })
    }

    /// # Errors
    /// When the server is not who it must be, or speaks no TLS.
    pub(super) async fn connect(&self, host: &Host, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.as_str().to_owned()).map_err(io::Error::other)?,
            Host::Address(ip) => ServerName::IpAddress((*ip).into()),
        };
        self.connector.connect(name, stream).await
    }
}

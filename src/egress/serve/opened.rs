//! TLS that ends here, for the hosts that need it: each request in it is judged, gets the keys that are for it, and goes on over TLS of ours.

use std::io::Cursor;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, join};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::super::credential::Credential;
use super::super::door::Door;
use super::super::http1::ResponseHead;
use super::super::issuer::Issuer;
use super::super::request::Added;
use super::super::rule::Request;
use super::super::tls::Outward;
use super::conn::Conn;
use super::exchange::Tap;
use super::{HEAD, http};
use crate::base::host::Authority;

/// Serves a client whose hello was read, and is for the target.
pub(super) async fn serve(door: &Arc<Door>, target: &Authority, mut client: Conn<TcpStream>, issuer: &Issuer, outward: &Outward) {
    let server = match issuer.server(&target.host) {
        Ok(server) => server,
        Err(error) => return drop(door.fail(target, format!("no certificate can be made for it: {error}"))),
    };
    let hello = Cursor::new(client.take_pending());
    let (read, write) = client.stream.into_split();
    let accepting = TlsAcceptor::from(server).accept(join(AsyncReadExt::chain(hello, read), write));
    match timeout(HEAD, accepting).await {
        Ok(Ok(stream)) => http::one_host(door, target, Conn::new(stream), Some(outward)).await,
        // It is told to the program too, by an alert.
        Ok(Err(error)) => {
            let why = format!(
                "TLS ends at the gateway for this host, and the program does not take it ({error}); it must trust what SSL_CERT_FILE names, and speak HTTP/1.1"
            );
            drop(door.fail(target, why));
        }
        Err(_) => drop(door.fail(target, "the program's TLS took too long".to_owned())),
    }
}

/// What is done to the headers of one request, and the keys that it takes.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) added: Vec<Added>,
    /// Headers in which only we may say something to this host.
    pub(super) without: Vec<String>,
    used: Vec<Arc<Credential>>,
}

impl Keys {
    /// Reads the keys for a request.
    ///
    /// # Errors
    /// Which one is not to be had.
    pub(super) async fn take(door: &Door, target: &Authority, request: Request<'_>) -> Result<Self, String> {
        let mut keys = Self::default();
        for grant in door.grants(target) {
            let header = &grant.credential.header;
            keys.without.push(header.clone());
            if grant.is_for(request) {
                let value = grant.credential.value().await.map_err(|why| format!("there is no key for its header {header}: {why}"))?;
                keys.added.push(Added { name: header.clone(), value });
                keys.used.push(grant.credential.clone());
            }
        }
        Ok(keys)
    }
}

/// A key that is refused is read anew for the next request.
impl Tap for Keys {
    fn head(&mut self, head: &ResponseHead<'_>) {
        if head.status == 401 {
            self.used.iter().for_each(|credential| credential.forget());
        }
    }
}

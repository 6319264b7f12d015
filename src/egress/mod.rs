//! The one door out of a sandbox.
//!
//! ```text
//!  inside, no route out            outside, in the supervisor
//!  program ─▶ socket opened by init ─▶ serve ─▶ request / hello (pure) ─▶ rule (pure) ─▶ resolver ─▶ address (pure) ─▶ dial
//!                                        └────────── refusal: a 403 to read, a notice, a line in the tally
//! ```
//!
//! The sandbox's init opens listening sockets *inside* its network namespace and hands them out: whoever is accepted there is that
//! sandbox, without a token, and a supervisor that dies takes the door along. A name is validated, decided about, resolved once, and every
//! address is judged again before it is dialled.
//!
//! Decisions are pure ([`rule`], [`address`], [`request`], and the parsers [`http1`], [`socks5`], [`dns`], [`client_hello`]); effects live in
//! [`resolver`], `door` and `serve`. TLS passes through unopened, but where a rule is about single requests or a key is put in: there it
//! ends here ([`grant`], [`issuer`]), and begins anew to the server.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

pub mod address;
pub mod client_hello;
pub mod credential;
pub mod dns;
mod door;
pub mod endpoint;
pub mod grant;
pub mod http1;
pub mod inside;
pub mod issuer;
mod java;
pub mod ledger;
pub mod login;
pub mod meter;
pub mod names;
pub mod notice;
pub mod price;
pub mod provider;
pub mod request;
pub mod resolver;
pub mod rule;
mod serve;
pub mod socks5;
pub mod tally;
mod tls;

pub use credential::{Credential, Source};
pub use endpoint::{Accounts, Endpoint};
pub use grant::{Grant, Opened};
pub use inside::{Inside, furnish};
pub use issuer::Issuer;
pub use ledger::{Budget, Ledger};
pub use login::{Kept, Login};
pub use notice::{Notice, Refusal};
pub use price::Prices;
pub use provider::Provider;
pub use resolver::Resolver;
pub use rule::Rules;
pub use tally::Tally;
pub use tls::client_config;

/// How one sandbox's gateway works.
#[derive(Debug)]
pub struct Setup {
    pub rules: Rules,
    /// From [`furnish`].
    pub inside: Inside,
    pub resolver: Arc<Resolver>,
    /// Where notices go as they happen. Bounded: a reader that does not keep up loses some.
    pub notices: Option<SyncSender<Notice>>,
    /// Record what is wanted, and allow no more for it.
    pub observe: bool,
    /// The models it may call.
    pub endpoints: Vec<Endpoint>,
    /// The hosts whose TLS ends here, and the keys that are put in there.
    pub opened: Opened,
    /// Who pays for the calls. Without accounts they are not counted.
    pub accounts: Option<Accounts>,
}

/// The gateway of one sandbox. Dropping it closes the door and everything that goes through it.
#[derive(Debug)]
pub struct Gateway {
    door: Arc<door::Door>,
    tasks: JoinSet<()>,
}

impl Gateway {
    /// Serves the sockets that the sandbox's init handed out, in the order of its policy's listeners, on a runtime that somebody else owns.
    ///
    /// # Errors
    /// When a socket is none.
    pub fn start(runtime: &Handle, setup: Setup, sockets: Vec<OwnedFd>) -> io::Result<Self> {
        let Setup { rules, inside, resolver, notices, observe, endpoints, opened, accounts } = setup;
        if inside.services.len() != sockets.len() {
            return Err(io::Error::other(format!(
                "{} sockets came out of the sandbox instead of {}",
                sockets.len(),
                inside.services.len()
            )));
        }
        let speaks = !endpoints.is_empty() || opened.issuer.is_some();
        if speaks {
            // Keys are in this process's memory. 1, not 0: it keeps core handlers that are programs away as well.
            setrlimit(Resource::RLIMIT_CORE, 1, 1)?;
        }
        // The certificates of authorities are read only by whoever speaks TLS to the outside itself.
        let outward = if speaks { Some(tls::Outward::new()?) } else { None };
        let names = inside.names;
        let fittings = door::Fittings { names, resolver, notices, observe, endpoints, opened, accounts, outward };
        let door = Arc::new(door::Door::new(rules, fittings));
        let _entered = runtime.enter();
        let tasks = serve::all(&door, inside.services.into_iter().zip(sockets).collect())?;
        Ok(Self { door, tasks })
    }

    /// Other rules from now on, all at once; what they no longer allow is closed.
    pub fn replace(&self, rules: Rules) {
        self.door.replace(rules);
    }

    /// What happened so far.
    pub fn tally(&self) -> Tally {
        self.door.tally()
    }

    /// Closes the door, and says what happened.
    pub fn stop(mut self) -> Tally {
        self.tasks.abort_all();
        self.door.tally()
    }
}

/// The threads that gateways are served from, of a process that has none. Made after the process has forked for the last time, or by one
/// whose forks a helper makes.
#[derive(Debug)]
pub struct Threads(Option<tokio::runtime::Runtime>);

impl Threads {
    /// # Errors
    /// When they cannot be started.
    pub fn start() -> io::Result<Self> {
        // As many descriptors as this process may have: every connection takes two.
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < hard
        {
            // Where it is refused, sandboxes get fewer connections.
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).ok();
        }
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(threads).thread_name("gateway").enable_io().enable_time().build();
        runtime.map(|runtime| Self(Some(runtime)))
    }

    /// # Panics
    /// Never: they are there until this is dropped.
    pub fn handle(&self) -> &Handle {
        self.0.as_ref().expect("they are there until this is dropped").handle()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waits for nobody: this may be dropped by a thread that must not wait.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// The name server to ask: the host's own, or the one that was named.
pub fn resolver(server: Option<SocketAddr>) -> Arc<Resolver> {
    Arc::new(server.map_or_else(Resolver::of_host, Resolver::with_server))
}

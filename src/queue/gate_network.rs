//! The network of a gate that names hosts: the gateway that roles have, without a model.

use std::io;
use std::os::fd::OwnedFd;

use crate::base::text::one_line;
use crate::egress::{Gateway, Grant, Inside, Opened, Resolver, Rules, Setup, Tally, Threads, furnish};
use crate::sandbox::policy::{NetworkMode, Policy};

/// A gateway that waits for its sandbox.
pub(super) struct Door {
    rules: Rules,
    inside: Inside,
    opened: Opened,
}

/// One that serves, and the threads that it is served from.
pub(super) struct Open {
    gateway: Gateway,
    _threads: Threads,
}

impl Door {
    /// Puts into a policy what the gateway needs inside. None when nothing may be reached.
    pub(super) fn of(policy: &mut Policy, grants: &[Grant]) -> io::Result<Option<Self>> {
        if policy.network.mode != NetworkMode::Gateway {
            return Ok(None);
        }
        let bad = |(rule, why): (String, &str)| io::Error::other(format!("the rule {} cannot be read: {why}", one_line(&rule)));
        let rules = Rules::parse(&policy.network.allow).map_err(bad)?;
        let opened = Opened::new(&rules, grants.to_vec())?;
        let inside = furnish(policy, &rules, &[], &opened);
        Ok(Some(Self { rules, inside, opened }))
    }

    /// Serves the sockets that came out of the sandbox.
    pub(super) fn open(self, sockets: Vec<OwnedFd>) -> io::Result<Open> {
        let Self { rules, inside, opened } = self;
        let threads = Threads::start()?;
        let resolver = std::sync::Arc::new(Resolver::of_host());
        let setup = Setup { rules, inside, resolver, notices: None, observe: false, endpoints: Vec::new(), opened, accounts: None };
        Ok(Open { gateway: Gateway::start(threads.handle(), setup, sockets)?, _threads: threads })
    }
}

impl Open {
    /// Closes it, and says what happened.
    pub(super) fn close(self) -> Tally {
        self.gateway.stop()
    }
}

//! The services behind: where they are, which of them are well, and the connections to them.
//!
//! An [`Upstream`] is a pool of addresses that serve the same. A request goes to one of those that
//! are well; where it certainly did not arrive, or may arrive twice, it goes to another.

mod address;
mod body;
mod dial;
mod fields;
mod health;
mod link;
mod proxy;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::observe::metrics::Metrics;
use crate::tls::{TlsError, Trust};

pub use address::{Address, Location};
pub(crate) use body::{Download, Upload, UploadLimits};
pub(crate) use fields::asks_for_websocket;
pub use health::{Health, Probe, Prober};
pub(crate) use proxy::Proxy;

/// How requests are spread over addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// To the address with the fewest requests under way.
    #[default]
    LeastRequests,
    /// To each in turn.
    RoundRobin,
}

/// The version of HTTP that is spoken to a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1, one request at a time on each connection.
    #[default]
    Http1,
    /// HTTP/2: agreed on by ALPN over TLS, known beforehand without (RFC 9113 §3.3).
    Http2,
}

/// How long a service may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// To accept a connection, with TLS.
    pub connect: Duration,
    /// To begin its answer, once it has the whole request.
    pub answer: Duration,
    /// Between two pieces of its answer.
    pub pause: Duration,
}

/// How a pool of addresses is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Its name, for logs and metrics.
    pub name: String,
    /// Where its addresses are.
    pub locations: Vec<Location>,
    /// How requests are spread.
    pub balance: Balance,
    /// What is spoken.
    pub version: Version,
    /// How long everything may take.
    pub patience: Patience,
    /// How often a request is tried again, at another address if there is one.
    pub retries: u32,
    /// How addresses are looked after, besides by their answers.
    pub probe: Option<Probe>,
    /// The file with the certificates that addresses are verified by; nothing means the system's.
    pub authorities: Option<PathBuf>,
}

impl Setup {
    /// Reads by whom addresses are verified, if any is spoken to by TLS.
    ///
    /// # Errors
    /// [`TlsError`] when they are to be verified, and nothing is known to do it by.
    pub fn trust(&self) -> Result<Option<Trust>, TlsError> {
        let protocol: &[u8] = match self.version {
            Version::Http1 => b"http/1.1",
            Version::Http2 => b"h2",
        };
        let needs_tls = self.locations.iter().any(|location| location.is_tls);
        needs_tls.then(|| Trust::load(self.authorities.as_ref(), protocol)).transpose()
    }
}

/// A pool of addresses that serve the same.
#[derive(Debug)]
pub struct Upstream {
    setup: Setup,
    addresses: Vec<Arc<Address>>,
    trust: Option<Trust>,
    /// Where the search for the next address begins.
    turn: AtomicUsize,
}

impl Upstream {
    /// Makes a pool for so many workers.
    pub(crate) fn new(
        setup: Setup,
        trust: Option<Trust>,
        workers: usize,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let address = |at: &Location| Arc::new(Address::new(at.clone(), workers, metrics));
        let addresses = setup.locations.iter().map(address).collect();
        Arc::new(Self { setup, addresses, trust, turn: AtomicUsize::new(0) })
    }

    /// Tells whether a route that names this service means it.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        self.setup.name == name
    }

    /// Returns how the pool is set up.
    #[must_use]
    pub const fn setup(&self) -> &Setup {
        &self.setup
    }

    /// Tells whether its services can be asked for a WebSocket.
    pub(crate) fn takes_tunnels(&self) -> bool {
        self.setup.version == Version::Http1
    }

    /// Returns the addresses of the pool.
    #[must_use]
    pub fn addresses(&self) -> &[Arc<Address>] {
        &self.addresses
    }

    /// Returns by whom addresses are verified, if any is spoken to by TLS.
    pub(crate) const fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// Closes the connections of a worker that nobody has used for long.
    pub(crate) fn prune(&self, worker: usize) {
        for address in &self.addresses {
            address.prune(worker);
            address.metrics().set_healthy(address.health().is_well());
        }
    }

    /// Closes the unused connections, and keeps none from now on: only requests that are under way
    /// still use the pool.
    pub(crate) fn retire(&self) {
        self.addresses.iter().for_each(|address| address.retire());
    }

    /// Chooses an address that was not tried yet: one that is well, or any if none is.
    pub(crate) fn choose(&self, tried: &[Arc<Address>]) -> Option<Arc<Address>> {
        if let ([only], []) = (self.addresses.as_slice(), tried) {
            return Some(Arc::clone(only));
        }
        let is_left = |address: &&Arc<Address>| !tried.iter().any(|it| Arc::ptr_eq(it, address));
        let first = self.turn.fetch_add(1, Ordering::Relaxed);
        let first = first.checked_rem(self.addresses.len()).unwrap_or_default();
        let (before, after) = self.addresses.split_at_checked(first)?;
        let in_turn = || after.iter().chain(before).filter(is_left);
        let well = || in_turn().filter(|address| address.health().is_well());
        let chosen = match self.setup.balance {
            Balance::RoundRobin => well().next(),
            Balance::LeastRequests => well().min_by_key(|address| address.load()),
        };
        // If none is well, what was learnt of them may be old.
        chosen.or_else(|| in_turn().next()).cloned()
    }
}

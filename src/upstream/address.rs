//! One address of a service, with the connections that are open to it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::uri::Authority;
use tokio::sync;

use super::health::Health;
use super::link::Link;
use crate::observe::metrics::{Metrics, UpstreamMetrics};

/// How long an unused connection is kept.
const IDLE_MAX: Duration = Duration::from_secs(30);
/// The greatest number of unused connections that a worker keeps to one address.
const IDLE_LINKS_MAX: usize = 512;

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// Whether it is spoken to by TLS.
    pub is_tls: bool,
    /// Its host and port.
    pub authority: Authority,
    /// What stands before every path, without a slash at its end.
    pub base: String,
}

impl Location {
    /// Returns the host and port to connect to.
    #[must_use]
    pub fn host_and_port(&self) -> (&str, u16) {
        let standard = if self.is_tls { 443 } else { 80 };
        let host = self.authority.host();
        let host = host.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(host);
        (host, self.authority.port_u16().unwrap_or(standard))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.base)
    }
}

/// One address of a service.
#[derive(Debug)]
pub struct Address {
    location: Location,
    name: Arc<str>,
    host: Option<HeaderValue>,
    health: Health,
    metrics: Arc<UpstreamMetrics>,
    /// How many requests are under way.
    load: AtomicUsize,
    /// The unused connections of each worker, the one that was used last at the end. A connection
    /// belongs to the worker that has made it, so no two workers ever wait for each other.
    idle: Vec<Mutex<Vec<Idle>>>,
    /// Whether no connection is kept any more.
    is_retired: AtomicBool,
    /// Held by whoever opens a connection of a worker that many requests share.
    gates: Vec<sync::Mutex<()>>,
}

#[derive(Debug)]
struct Idle {
    link: Link,
    /// When it was first seen to be unused, since it was used last.
    since: Option<Instant>,
}

impl Idle {
    /// Tells whether it takes another request.
    fn is_fit(&self, now: Instant) -> bool {
        !self.link.is_closed() && !self.link.is_old(now)
    }

    /// Returns a handle for one request, where one more is taken.
    fn share(&mut self, now: Instant) -> Option<Link> {
        let link = self.is_fit(now).then(|| self.link.share())??;
        self.since = None;
        Some(link)
    }
}

impl Address {
    pub(super) fn new(location: Location, workers: usize, metrics: &Metrics) -> Self {
        let name: Arc<str> = location.to_string().into();
        let metrics = metrics.upstream(&name);
        let host = HeaderValue::from_str(location.authority.as_str()).ok();
        let idle = (0..workers).map(|_| Mutex::default()).collect();
        let gates = (0..workers).map(|_| sync::Mutex::default()).collect();
        let (health, load) = (Health::default(), AtomicUsize::new(0));
        let is_retired = AtomicBool::new(false);
        Self { location, name, host, health, metrics, load, idle, is_retired, gates }
    }

    /// Returns where it is.
    #[must_use]
    pub const fn location(&self) -> &Location {
        &self.location
    }

    /// Returns its name in logs.
    pub(crate) const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns what is counted of it.
    pub(crate) fn metrics(&self) -> &UpstreamMetrics {
        &self.metrics
    }

    /// Returns what is known of its health.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Returns how many requests are under way.
    #[must_use]
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// Returns the value of its `Host` field.
    pub(super) const fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    /// Notes that a request is under way, until the value is dropped.
    pub(super) fn enter(self: &Arc<Self>) -> Visit {
        self.load.fetch_add(1, Ordering::Relaxed);
        self.metrics.asked();
        Visit(Arc::clone(self))
    }

    /// Takes an unused connection of a worker, or a place on one that takes more requests.
    pub(super) fn take(&self, worker: usize, now: Instant) -> Option<Link> {
        let mut idle = self.idle(worker)?;
        if idle.last().is_some_and(|last| last.link.is_shared()) {
            // The ones opened first are filled first, so that those opened for a crowd end with it.
            return idle.iter_mut().find_map(|idle| idle.share(now));
        }
        while let Some(last) = idle.pop() {
            if last.is_fit(now) {
                return Some(last.link);
            }
        }
        None
    }

    /// Waits until nobody else opens a connection of a worker.
    pub(super) async fn gate(&self, worker: usize) -> Option<sync::MutexGuard<'_, ()>> {
        Some(self.gates.get(worker)?.lock().await)
    }

    /// Keeps a connection of a worker for the next request.
    pub(super) fn keep(&self, worker: usize, link: Link) {
        let Some(mut idle) = self.idle(worker) else { return };
        // Asked under the lock, or it could come after the last ones were closed.
        let is_retired = self.is_retired.load(Ordering::Relaxed);
        if !is_retired && !link.is_closed() && idle.len() < IDLE_LINKS_MAX {
            idle.push(Idle { link, since: None });
        }
    }

    /// Forgets the connections of a worker that are closed or old, or that nobody has used for long.
    pub(super) fn prune(&self, worker: usize) {
        let now = Instant::now();
        if let Some(mut idle) = self.idle(worker) {
            idle.retain_mut(|idle| {
                let since = *idle.since.get_or_insert(now);
                idle.is_fit(now) && now.saturating_duration_since(since) < IDLE_MAX
            });
        }
    }

    /// Closes the unused connections of all workers, and keeps none from now on.
    pub(super) fn retire(&self) {
        self.is_retired.store(true, Ordering::Relaxed);
        for worker in 0..self.idle.len() {
            if let Some(mut idle) = self.idle(worker) {
                idle.clear();
            }
        }
    }

    fn idle(&self, worker: usize) -> Option<MutexGuard<'_, Vec<Idle>>> {
        let idle = self.idle.get(worker)?;
        Some(idle.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A request under way at an address, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Visit(Arc<Address>);

impl Visit {
    /// Returns the address.
    pub(super) const fn address(&self) -> &Arc<Address> {
        &self.0
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

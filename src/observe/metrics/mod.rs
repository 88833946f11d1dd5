//! Metrics for Prometheus.
//!
//! What is counted per request are plain atomics that a worker finds once for each route. Labels
//! come from the configuration and from our own enums only, never from a request, so that nobody
//! outside can make the list longer. Everything else is read when Prometheus asks.

mod ask;
mod histogram;
mod limit;
mod money;
mod route;
mod scrape;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farebox_middleware::ProblemKind;
use prometheus_client::registry::Registry;

use super::record::Figures;
pub(crate) use ask::AskMetrics;
pub(crate) use limit::Limit;
use limit::Rejected;
pub(crate) use money::{Money, MoneySource};
pub(crate) use route::{Outcome, RouteMetrics};
use scrape::Scraped;

/// The type of what [`Metrics::scrape`] returns.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The name of what has no route.
pub(crate) const NO_ROUTE: &str = "-";

/// Everything that is counted. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    counted: Arc<Counters>,
    registry: Arc<Registry>,
}

/// The counters.
#[derive(Debug, Default)]
struct Counters {
    routes: Mutex<BTreeMap<Arc<str>, Workers>>,
    upstreams: Mutex<BTreeMap<Arc<str>, Arc<UpstreamMetrics>>>,
    asks: Mutex<BTreeMap<Arc<str>, Arc<AskMetrics>>>,
    rejected: Rejected,
    refusals: Refusals,
    connections: Level,
    requests: Level,
    reloads: AtomicU64,
    failed_reloads: AtomicU64,
    dropped_lines: Arc<AtomicU64>,
    dropped_spans: Arc<AtomicU64>,
}

/// What each worker has counted of one route.
type Workers = BTreeMap<usize, Arc<RouteMetrics>>;

/// How often each kind of problem was answered, in the order of [`ProblemKind::ALL`].
#[derive(Debug)]
struct Refusals([AtomicU64; ProblemKind::ALL.len()]);

impl Default for Refusals {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; ProblemKind::ALL.len()])
    }
}

/// How many of something there are now.
type Level = Arc<AtomicU64>;

impl Metrics {
    /// Makes metrics that read the money from `money` each time they are asked.
    pub(crate) fn new(money: MoneySource) -> Self {
        let counted = Arc::<Counters>::default();
        let mut registry = Registry::with_prefix("farebox");
        let counters = Arc::clone(&counted);
        registry.register_collector(Box::new(Scraped { counters, money }));
        Self { counted, registry: Arc::new(registry) }
    }

    /// Returns what one worker counts of one route; [`NO_ROUTE`] counts what has none.
    ///
    /// It lasts: after a reload the same name goes on counting where it was.
    pub(crate) fn route(&self, worker: usize, name: &str) -> Arc<RouteMetrics> {
        let mut routes = lock(&self.counted.routes);
        let workers = routes.entry(name.into()).or_default();
        Arc::clone(workers.entry(worker).or_default())
    }

    /// Returns what is counted of the service at an address of the configuration.
    pub(crate) fn upstream(&self, address: &str) -> Arc<UpstreamMetrics> {
        Arc::clone(lock(&self.counted.upstreams).entry(address.into()).or_default())
    }

    /// Returns what is counted of the prices that are asked for a route.
    pub(crate) fn ask(&self, route: &str) -> Arc<AskMetrics> {
        Arc::clone(lock(&self.counted.asks).entry(route.into()).or_default())
    }

    /// Forgets the services that the configuration does not name any more.
    pub(crate) fn keep_upstreams(&self, is_named: impl Fn(&str) -> bool) {
        lock(&self.counted.upstreams).retain(|address, _| is_named(address));
    }

    /// Counts what a limit has rejected.
    pub(crate) fn limited(&self, limit: Limit) {
        self.counted.rejected.by(limit).fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request whose answer has ended.
    pub(crate) fn record(&self, route: &RouteMetrics, figures: &Figures) {
        route.record(figures);
        if let Some(refusal) = figures.refusal {
            let place = ProblemKind::ALL.iter().position(|kind| *kind == refusal);
            if let Some(count) = place.and_then(|place| self.counted.refusals.0.get(place)) {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts a connection for as long as the value lives.
    pub(crate) fn connection(&self) -> Counted {
        Counted::up(&self.counted.connections)
    }

    /// Counts a request as under way for as long as the value lives.
    pub(crate) fn request(&self) -> Counted {
        Counted::up(&self.counted.requests)
    }

    /// Counts a reload of the configuration.
    pub(crate) fn reloaded(&self, is_taken: bool) {
        let counted = &self.counted;
        let count = if is_taken { &counted.reloads } else { &counted.failed_reloads };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns what counts the lines that the access log has dropped.
    pub(crate) fn dropped_lines(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.counted.dropped_lines)
    }

    /// Returns what counts the spans that were dropped.
    pub(crate) fn dropped_spans(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.counted.dropped_spans)
    }

    /// Returns everything as text, of the type [`CONTENT_TYPE`].
    pub(crate) fn scrape(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _written = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// One of several, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Counted(Level);

impl Counted {
    fn up(level: &Level) -> Self {
        level.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(level))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is counted of one service behind.
#[derive(Debug)]
pub(crate) struct UpstreamMetrics {
    requests: AtomicU64,
    failures: AtomicU64,
    is_healthy: AtomicBool,
}

impl Default for UpstreamMetrics {
    fn default() -> Self {
        let (requests, failures) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { requests, failures, is_healthy: AtomicBool::new(true) }
    }
}

impl UpstreamMetrics {
    /// Counts a request that was sent there.
    pub(crate) fn asked(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that got no answer, or one that counts as a failure.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes whether the service is taken for healthy.
    pub(crate) fn set_healthy(&self, is_healthy: bool) {
        self.is_healthy.store(is_healthy, Ordering::Relaxed);
    }
}

/// Locks a table that no holder can leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

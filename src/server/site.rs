//! All that a reload replaces: each request is served by one of them from its beginning to its end.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use farebox_chain::Bitcoind;
use farebox_middleware::{Cashier, FreeAllowance, PaywallLayer, PricedRoute};
use http::Response;
use rustls::ServerConfig;

use super::call::Decided;
use crate::config::{Config, Cors, Limits, TrustedProxies};
use crate::guard::Guards;
use crate::guard::allowance::Allowances;
use crate::observe::Observers;
use crate::observe::metrics::{NO_ROUTE, RouteMetrics};
use crate::observe::monitor::{Monitor, UpstreamState};
use crate::routes::{Price, Route, Tariff};
use crate::tls::TlsError;
use crate::upstream::{Address, Prober, Upstream};
use crate::watcher::Watcher;

/// What takes the payments.
pub(crate) type Paywall = PaywallLayer<Watcher<Bitcoind>, Decided>;

/// What a gateway serves, and how.
#[derive(Debug)]
pub(crate) struct Site {
    /// What is served, and for how much.
    pub(crate) tariff: Tariff,
    /// What takes the payments, for each worker.
    paywalls: Vec<Paywall>,
    /// The services behind.
    pub(crate) upstreams: Vec<Arc<Upstream>>,
    /// How clients verify the gateway; nothing means plain HTTP.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// How much is taken.
    pub(crate) limits: Limits,
    /// Who sees to it.
    pub(crate) guards: Arc<Guards>,
    /// The proxies in front.
    pub(crate) proxies: TrustedProxies,
    /// What pages of other origins may do.
    pub(crate) cors: Option<Cors>,
    /// Who is told of each request.
    pub(crate) observers: Observers,
    /// Who tells how the gateway is.
    monitor: Monitor,
    /// What each worker counts of requests that have no route.
    no_route: Vec<Arc<RouteMetrics>>,
    /// What belongs to the routes, by their names.
    lanes: HashMap<String, Arc<Lane>>,
    /// Who asks the services whether they are well, for as long as this site is in force.
    _prober: Prober,
}

/// What belongs to one route.
#[derive(Debug)]
pub(crate) struct Lane {
    /// The route's name.
    pub(crate) name: Arc<str>,
    /// Where its requests go.
    pub(crate) upstream: Arc<Upstream>,
    /// What clients have free, if anything.
    pub(crate) allowances: Option<Arc<Allowances>>,
    /// What each worker counts.
    metrics: Vec<Arc<RouteMetrics>>,
}

impl Lane {
    /// Returns what a worker counts.
    pub(crate) fn metrics(&self, worker: usize) -> Option<&RouteMetrics> {
        self.metrics.get(worker).map(AsRef::as_ref)
    }
}

impl Site {
    /// Makes the site of a configuration. What is the same as `before` is kept, so that connections
    /// and counts last; and prices that were quoted before hold for their time.
    ///
    /// # Errors
    /// [`TlsError`] when a certificate cannot be used.
    pub(crate) fn new(
        config: &Config,
        cashiers: &[Cashier<Watcher<Bitcoind>>],
        (monitor, observers): (Monitor, Observers),
        before: Option<&Self>,
    ) -> Result<Self, TlsError> {
        let now = Instant::now();
        let known = before.map_or(&[][..], |before| before.upstreams.as_slice());
        let upstreams = config.upstreams.iter().map(|setup| {
            match known.iter().find(|known| known.setup() == setup) {
                Some(known) => Ok(Arc::clone(known)),
                None => Upstream::new(setup.clone(), super::workers(), observers.metrics()),
            }
        });
        let upstreams = upstreams.collect::<Result<Vec<_>, _>>()?;
        let tls = config.tls.as_ref().map(|identity| identity.load()).transpose()?;
        let table = config.routes.clone();
        let prices = Arc::from_iter(table.routes().map(|route| listed(route)));
        let lanes = table.routes().filter_map(|route| {
            let name = route.upstream.as_deref();
            let upstream = upstreams.iter().find(|it| name.is_none_or(|name| it.is_named(name)))?;
            let lane = Lane::new(route, upstream, &observers, before, now);
            Some((route.name().to_owned(), Arc::new(lane)))
        });
        let lanes = lanes.collect();
        let quoted_for = table.quoted_for();
        let paywall = |cashier: &Cashier<_>| {
            PaywallLayer::new(cashier.clone(), Decided { prices: Arc::clone(&prices) })
                .release(config.release)
                .usage(config.usage_header.clone())
                .memo(config.memo_header.clone())
                .requests_per_channel(config.limits.requests_per_channel)
                .quote(quoted_for)
        };
        let prober = Prober::start(&upstreams);
        let guards = match before.filter(|before| before.limits == config.limits) {
            Some(before) => Arc::clone(&before.guards),
            None => Arc::new(Guards::new(&config.limits, now)),
        };
        Ok(Self {
            tariff: match before {
                Some(before) => before.tariff.succeed(table, now),
                None => Tariff::new(table),
            },
            paywalls: cashiers.iter().map(paywall).collect(),
            upstreams,
            tls,
            limits: config.limits.clone(),
            guards,
            proxies: config.trusted_proxies.clone(),
            cors: config.cors.clone(),
            no_route: observers.route(super::workers(), NO_ROUTE),
            monitor,
            observers,
            lanes,
            _prober: prober,
        })
    }

    /// Returns what takes the payments for a worker.
    pub(crate) fn paywall(&self, worker: usize) -> Option<&Paywall> {
        self.paywalls.get(worker)
    }

    /// Answers whoever asks how the gateway is, unless a route of that name does.
    pub(crate) fn probe(&self, path: &str) -> Option<Response<Bytes>> {
        let told = self.monitor.probe(path)?;
        let is_taken = self.tariff.table().routes().any(|route| route.path.as_str() == path);
        (!is_taken).then_some(told)
    }

    /// Returns what a worker counts of requests that have no route.
    pub(crate) fn no_route(&self, worker: usize) -> Option<&RouteMetrics> {
        self.no_route.get(worker).map(AsRef::as_ref)
    }

    /// Returns what belongs to a route.
    pub(crate) fn lane(&self, route: &Route) -> Option<&Arc<Lane>> {
        self.lanes.get(route.name())
    }
}

impl Lane {
    fn new(
        route: &Route,
        upstream: &Arc<Upstream>,
        observers: &Observers,
        before: Option<&Site>,
        now: Instant,
    ) -> Self {
        let known = before.and_then(|before| before.lane(route)?.allowances.as_ref());
        let allowances = route.allowance.map(|allowance| {
            match known.filter(|known| known.allowance() == allowance) {
                Some(known) => Arc::clone(known),
                None => Arc::new(Allowances::new(allowance, now)),
            }
        });
        Self {
            name: route.name().into(),
            upstream: Arc::clone(upstream),
            allowances,
            metrics: observers.route(super::workers(), route.name()),
        }
    }
}

/// Returns a route's line of the price list.
fn listed(route: &Route) -> PricedRoute {
    let (price, is_shadow) = match route.price {
        Price::Free => (None, false),
        Price::Charged(price) => (Some(price), false),
        Price::Shadow(price) => (Some(price), true),
    };
    PricedRoute {
        path: route.path.as_str().to_owned(),
        host: route.host.as_ref().map(ToString::to_string),
        methods: route.methods.iter().flat_map(|methods| methods.names()).collect(),
        price,
        allowance: route.allowance.map(|it| FreeAllowance { requests: it.requests, span: it.span }),
        is_shadow,
    }
}

/// The site in force, shared by all workers.
#[derive(Clone, Debug)]
pub(crate) struct Current(Arc<RwLock<Arc<Site>>>);

impl Current {
    pub(crate) fn new(site: Site) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(site))))
    }

    /// Returns the site in force now. The lock is held for as long as it takes to copy a pointer.
    pub(crate) fn get(&self) -> Arc<Site> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns how the services behind are.
    pub(crate) fn health(&self) -> Vec<UpstreamState> {
        let site = self.get();
        let addresses = site.upstreams.iter().flat_map(|upstream| upstream.addresses());
        let state = |address: &Arc<Address>| UpstreamState {
            address: address.name().to_string(),
            is_healthy: address.health().is_well(),
        };
        addresses.map(state).collect()
    }

    /// Puts another site in force. Requests under way go on with theirs.
    pub(crate) fn replace(&self, site: Site) {
        let site = Arc::new(site);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = site;
    }
}

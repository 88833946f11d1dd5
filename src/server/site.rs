//! All that a reload replaces: each request is served by one of them from its beginning to its end.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use bytes::Bytes;
use farebox_chain::Bitcoind;
use farebox_channel::Msat;
use farebox_middleware::{Cashier, FreeAllowance, PaywallLayer, PricedRoute};
use http::Response;
use rustls::ServerConfig;

use super::booth::Seat;
use super::call::Decided;
use crate::asking::{self, Asker, Key, Promises};
use crate::config::{Config, Cors, Limits, TrustedProxies};
use crate::guard::Guards;
use crate::guard::allowance::Allowances;
use crate::observe::Observers;
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
    /// What clients have free, by the names of the routes.
    allowances: HashMap<String, Arc<Allowances>>,
    /// Who asks for prices, by the names of the routes.
    askers: HashMap<String, Arc<Asker>>,
    /// The asked prices that clients were told.
    pub(crate) promises: Arc<Promises>,
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
            // The file of the certificates may have others than before.
            let trust = setup.trust()?;
            let is_same = |it: &&Arc<Upstream>| it.setup() == setup && it.trust() == trust.as_ref();
            Ok(match known.iter().find(is_same) {
                Some(known) => Arc::clone(known),
                None => Upstream::new(setup.clone(), trust, super::workers(), observers.metrics()),
            })
        });
        let upstreams = upstreams.collect::<Result<Vec<_>, TlsError>>()?;
        let tls = config.tls.as_ref().map(|identity| identity.load()).transpose()?;
        let table = config.routes.clone();
        let prices = Arc::from_iter(table.routes().map(|route| listed(route)));
        let allowances = table.routes().filter_map(|route| {
            let allowance = route.allowance?;
            let known = before.and_then(|before| before.allowances(route));
            let allowances = match known.filter(|known| known.allowance() == allowance) {
                Some(known) => Arc::clone(known),
                None => Arc::new(Allowances::new(allowance, now)),
            };
            Some((route.name().to_owned(), allowances))
        });
        let allowances = allowances.collect();
        let asked = table.routes().filter_map(|route| Some((route, route.ask.as_ref()?)));
        let askers = asked.map(|(route, ask)| {
            let trust = asking::trust(ask)?;
            let known = before.and_then(|before| before.asker(route));
            let asker = match known.filter(|known| known.asks_like(ask, &trust)) {
                Some(known) => Arc::clone(known),
                None => {
                    let metrics = observers.metrics().ask(route.name());
                    Arc::new(Asker::new(route.name(), ask.clone(), trust, metrics)?)
                }
            };
            Ok((route.name().to_owned(), asker))
        });
        let askers = askers.collect::<Result<_, TlsError>>()?;
        let quoted_for = table.quoted_for();
        let paywall = |cashier: &Cashier<_>| {
            PaywallLayer::new(cashier.clone(), Decided { prices: Arc::clone(&prices) })
                .release(config.release)
                .usage(config.usage_header.clone())
                .memo(config.memo_header.clone())
                .requests_per_channel(config.limits.requests_per_channel)
                .quote(quoted_for)
        };
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
            monitor,
            observers,
            allowances,
            askers,
            promises: before.map_or_else(Arc::default, |before| Arc::clone(&before.promises)),
        })
    }

    /// Returns what takes the payments, for each worker.
    pub(super) fn paywalls(&self) -> &[Paywall] {
        &self.paywalls
    }

    /// Answers whoever asks how the gateway is, unless a route of that name does.
    pub(crate) fn probe(&self, path: &str) -> Option<Response<Bytes>> {
        let told = self.monitor.probe(path)?;
        let is_taken = self.tariff.table().routes().any(|route| route.path.as_str() == path);
        (!is_taken).then_some(told)
    }

    /// Returns where a route's requests go.
    pub(super) fn upstream(&self, route: &Route) -> Option<&Arc<Upstream>> {
        let name = route.upstream.as_deref();
        self.upstreams.iter().find(|it| name.is_none_or(|name| it.is_named(name)))
    }

    /// Returns what clients have free on a route, if anything.
    pub(super) fn allowances(&self, route: &Route) -> Option<&Arc<Allowances>> {
        self.allowances.get(route.name())
    }

    /// Notes that an asked price was told for a request.
    pub(super) fn tell(&self, key: Key, price: Msat) {
        let now = Instant::now();
        if let Some(until) = self.tariff.holds_until(now) {
            self.promises.tell(key, price, now, until);
        }
    }

    /// Returns who asks for the prices of a route, if anybody does.
    pub(super) fn asker(&self, route: &Route) -> Option<&Arc<Asker>> {
        self.askers.get(route.name())
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
        is_asked: route.ask.is_some(),
        is_shadow,
        billing: route.billing.clone(),
    }
}

/// The site in force. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    in_force: Arc<RwLock<InForce>>,
    /// What each worker has of it.
    seats: Arc<[Arc<Seat>]>,
}

/// The site in force, with what ends with it although requests go on with theirs.
#[derive(Debug)]
struct InForce {
    site: Arc<Site>,
    /// Who asks the services whether they are well.
    _prober: Prober,
}

impl InForce {
    fn new(site: &Arc<Site>) -> Self {
        Self { site: Arc::clone(site), _prober: Prober::start(&site.upstreams) }
    }
}

impl Current {
    pub(crate) fn new(site: Site) -> Self {
        let site = Arc::new(site);
        let in_force = Arc::new(RwLock::new(InForce::new(&site)));
        Self { in_force, seats: Seat::all(&site).into() }
    }

    /// Returns the site in force now.
    pub(crate) fn get(&self) -> Arc<Site> {
        Arc::clone(&self.in_force.read().unwrap_or_else(PoisonError::into_inner).site)
    }

    /// Returns what each worker has.
    pub(crate) fn seats(&self) -> &[Arc<Seat>] {
        &self.seats
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

    /// Puts another site in force. Requests under way go on with theirs; of services that are left
    /// out nothing else is kept.
    pub(crate) fn replace(&self, site: Site) {
        let site = Arc::new(site);
        let next = InForce::new(&site);
        let before = {
            let mut current = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
            mem::replace(&mut *current, next).site
        };
        Seat::replace(&self.seats, &site);
        let is_gone =
            |it: &&Arc<Upstream>| !site.upstreams.iter().any(|kept| Arc::ptr_eq(kept, it));
        for upstream in before.upstreams.iter().filter(is_gone) {
            upstream.retire();
        }
        let addresses = || site.upstreams.iter().flat_map(|upstream| upstream.addresses());
        let is_named = |name: &str| addresses().any(|address| **address.name() == *name);
        site.observers.metrics().keep_upstreams(is_named);
    }
}

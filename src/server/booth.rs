//! A site as one worker has it.
//!
//! Workers that count in the same place for each request keep waiting for each other's cache, although
//! none of them takes a lock for long. So each has a handle of its own to the site in force.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, PoisonError, RwLock};

use super::site::{Paywall, Site};
use crate::asking::Asker;
use crate::guard::allowance::Allowances;
use crate::observe::id::RequestIds;
use crate::observe::metrics::{NO_ROUTE, RouteMetrics};
use crate::routes::Route;
use crate::upstream::Upstream;

/// What a worker serves requests with.
#[derive(Debug)]
// Two workers' counts never stand in the same lines of the cache.
#[repr(align(128))]
pub(crate) struct Booth {
    /// What is served.
    pub(crate) site: Arc<Site>,
    /// The number of the worker.
    pub(crate) worker: usize,
    /// What takes the payments.
    pub(crate) paywall: Paywall,
    /// What belongs to the routes, by their names.
    lanes: HashMap<String, Arc<Lane>>,
    /// What is counted of requests that have no route.
    no_route: Arc<RouteMetrics>,
}

/// What belongs to one route.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Lane {
    /// The route's name.
    pub(crate) name: Arc<str>,
    /// Where its requests go.
    pub(crate) upstream: Arc<Upstream>,
    /// What clients have free, if anything.
    pub(crate) allowances: Option<Arc<Allowances>>,
    /// Who asks for the prices, if anybody does.
    pub(crate) asker: Option<Arc<Asker>>,
    metrics: Arc<RouteMetrics>,
}

impl Booth {
    fn new(worker: usize, site: &Arc<Site>, paywall: &Paywall) -> Self {
        let metrics = |name| site.observers.metrics().route(worker, name);
        let lanes = site.tariff.table().routes().filter_map(|route| {
            let lane = Lane {
                name: route.name().into(),
                upstream: Arc::clone(site.upstream(route)?),
                allowances: site.allowances(route).cloned(),
                asker: site.asker(route).cloned(),
                metrics: metrics(route.name()),
            };
            Some((route.name().to_owned(), Arc::new(lane)))
        });
        let (lanes, no_route) = (lanes.collect(), metrics(NO_ROUTE));
        Self { site: Arc::clone(site), worker, paywall: paywall.clone(), lanes, no_route }
    }

    /// Makes one for each worker.
    fn all(site: &Arc<Site>) -> impl Iterator<Item = Arc<Self>> {
        let paywalls = site.paywalls().iter().enumerate();
        paywalls.map(|(worker, paywall)| Arc::new(Self::new(worker, site, paywall)))
    }

    /// Returns what belongs to a route.
    pub(crate) fn lane(&self, route: &Route) -> Option<&Arc<Lane>> {
        self.lanes.get(route.name())
    }

    /// Returns what is counted of the requests of a lane, or of those that have none.
    pub(crate) fn metrics<'b>(&'b self, lane: Option<&'b Lane>) -> &'b RouteMetrics {
        lane.map_or(&self.no_route, |lane| &lane.metrics)
    }
}

/// Where a worker finds its booth in force.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Seat {
    /// What names the worker's requests.
    pub(crate) ids: RequestIds,
    booth: RwLock<Arc<Booth>>,
}

impl Seat {
    /// Makes one for each worker.
    pub(super) fn all(site: &Arc<Site>) -> Vec<Arc<Self>> {
        let seat = |booth: Arc<Booth>| {
            let ids = RequestIds::new(booth.worker);
            Arc::new(Self { ids, booth: RwLock::new(booth) })
        };
        Booth::all(site).map(seat).collect()
    }

    /// Puts another site in force for all workers.
    pub(super) fn replace(seats: &[Arc<Self>], site: &Arc<Site>) {
        for (seat, booth) in seats.iter().zip(Booth::all(site)) {
            let mut current = seat.booth.write().unwrap_or_else(PoisonError::into_inner);
            let before = mem::replace(&mut *current, booth);
            // What it may be the last to hold is let go without the lock.
            drop(current);
            drop(before);
        }
    }

    /// Returns the booth in force now. The lock is held for as long as it takes to copy a pointer.
    pub(crate) fn booth(&self) -> Arc<Booth> {
        Arc::clone(&self.booth.read().unwrap_or_else(PoisonError::into_inner))
    }
}

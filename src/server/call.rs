//! What is known of a request, and what was decided of it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use farebox_channel::Msat;
use farebox_middleware::{Billing, PaidBy, PricedRoute, Pricing, RunningBill, bare_host};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Version};

use super::booth::{Booth, Lane};
use crate::guard::address::Scheme;
use crate::observe::id::RequestId;
use crate::observe::trace::TraceContext;
use crate::routes::Price;
use crate::upstream::{Address, UploadLimits};

/// A request: what its head says, and what was decided of it once, for its price and for its way to
/// the service alike.
#[derive(Debug)]
pub(crate) struct Call {
    /// What it is served by, from its beginning to its end.
    pub(crate) booth: Arc<Booth>,
    /// When its head had come.
    pub(crate) began: Instant,
    /// Its name in logs, and for the service.
    pub(crate) id: RequestId,
    /// Whose it is.
    pub(crate) client: IpAddr,
    /// Whether a proxy that is trusted has passed it on.
    pub(crate) is_peer_trusted: bool,
    /// Its method.
    pub(crate) method: Method,
    /// Its version of HTTP.
    pub(crate) version: Version,
    /// Whether its client speaks gRPC.
    pub(crate) is_grpc: bool,
    /// The host that the client has asked.
    pub(crate) host: Option<HeaderValue>,
    /// The scheme that the client has used.
    pub(crate) scheme: Scheme,
    /// Its path with the query: in the one spelling that is matched and sent, once it is decided.
    pub(crate) target: PathAndQuery,
    /// The addresses that it has come from.
    pub(crate) forwarded_for: Option<HeaderValue>,
    /// Its place in a trace, where requests are traced.
    pub(crate) trace: Option<TraceContext>,
    /// Whether it asks for a WebSocket.
    pub(crate) is_tunnel: bool,
    /// What is taken of its body.
    pub(crate) upload: UploadLimits,
    /// How much of its body has come, in bytes.
    pub(crate) received: AtomicU64,
    /// Whether its body waits for credit.
    pub(crate) is_unpaid: AtomicBool,
    /// Who pays for it, if anybody does, and what tells the cost, where its body costs something. So it
    /// is known also where there is no answer.
    pub(crate) paid: OnceLock<(Option<PaidBy>, RunningBill)>,
    /// The address that has answered, or was asked last.
    pub(crate) asked: OnceLock<Arc<str>>,
    /// Where it goes, once that is decided.
    pub(crate) lane: OnceLock<Arc<Lane>>,
    /// What it costs, once that is decided. What is free to its client costs nothing.
    pub(crate) costs: OnceLock<Costs>,
}

/// What a request costs.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    /// What it is charged.
    pub(crate) charged: Price,
    /// How its answer is billed, where it is charged.
    pub(crate) billing: Billing,
    /// What its client is told that it costs.
    pub(crate) offered: Price,
}

impl Call {
    /// Returns the host that the client has asked, as routes are chosen by it.
    pub(crate) fn host(&self) -> Option<&str> {
        self.host.as_ref().and_then(|host| host.to_str().ok())
    }

    /// Returns where it goes, once that is decided.
    pub(crate) fn lane(&self) -> Option<&Arc<Lane>> {
        self.lane.get()
    }

    /// Returns what it is charged, or nothing where it is free.
    pub(crate) fn charged(&self) -> Option<Msat> {
        self.costs.get()?.charged.charged()
    }

    /// Returns what its client is told that it costs.
    fn offered(&self) -> Option<Msat> {
        let costs = self.costs.get()?;
        let charged = costs.charged.charged()?;
        Some(costs.offered.charged().unwrap_or(charged))
    }

    /// Returns what it would be charged, where that is only reported.
    pub(crate) fn would_charge(&self) -> Option<Msat> {
        match self.costs.get()?.charged {
            Price::Shadow(price) => Some(price),
            Price::Free | Price::Charged(_) => None,
        }
    }

    /// Notes which address has answered, or was asked last.
    pub(crate) fn ask(&self, address: &Address) {
        // The first one to be noted is the last one that is asked.
        let _noted = self.asked.set(Arc::clone(address.name()));
    }

    /// Notes that so many bytes of its body have come.
    pub(crate) fn receive(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns how much of its body has come, in bytes.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Notes whether its body waits for credit.
    pub(crate) fn waits_for_credit(&self, is_unpaid: bool) {
        self.is_unpaid.store(is_unpaid, Ordering::Relaxed);
    }

    /// Tells whether it does.
    pub(crate) fn is_waiting_for_credit(&self) -> bool {
        self.is_unpaid.load(Ordering::Relaxed)
    }

    /// Notes who pays for it, and what tells the cost.
    pub(crate) fn note_charge(&self, paid: Option<PaidBy>, bill: Option<RunningBill>) {
        if let Some(bill) = bill {
            let _noted = self.paid.set((paid, bill));
        }
    }

    /// Sets the fields that tell the service of the trace.
    pub(crate) fn hand_trace_over(&self, headers: &mut HeaderMap) {
        if let Some(trace) = &self.trace {
            trace.hand_over(headers);
        }
    }
}

/// Charges what was decided of each request.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    /// The price list.
    pub(crate) prices: Arc<[PricedRoute]>,
}

impl Pricing for Decided {
    fn price(&self, request: &Parts) -> Option<Msat> {
        request.extensions.get::<Arc<Call>>()?.charged()
    }

    fn offered(&self, request: &Parts) -> Option<Msat> {
        request.extensions.get::<Arc<Call>>()?.offered()
    }

    fn trial(&self, request: &Parts) -> Option<Msat> {
        request.extensions.get::<Arc<Call>>()?.would_charge()
    }

    fn billing(&self, request: &Parts) -> Billing {
        let call = request.extensions.get::<Arc<Call>>();
        call.and_then(|call| Some(call.costs.get()?.billing.clone())).unwrap_or_default()
    }

    /// Returns the host by which the route was chosen, which a trusted proxy may have told.
    fn sold_at<'r>(&self, request: &'r Parts) -> Cow<'r, str> {
        let host = request.extensions.get::<Arc<Call>>().and_then(|call| call.host());
        Cow::Borrowed(bare_host(host.unwrap_or_default()))
    }

    fn prices(&self) -> Arc<[PricedRoute]> {
        Arc::clone(&self.prices)
    }
}

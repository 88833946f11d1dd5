//! The layer: what a paywall is made of.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use farebox_channel::Seconds;
use http::HeaderMap;
use http::header::HeaderName;
use tower_layer::Layer;

use crate::cashier::Cashier;
use crate::fault::ClientFault;
use crate::grpc::has_deadline;
use crate::metering::Forgiveness;
use crate::node::Node;
use crate::pricing::Pricing;
use crate::service::Paywall;

/// When a charge is taken back. A client's own disconnect is always charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleasePolicy {
    /// When the service answers 5xx, or does not answer.
    pub server_error: bool,
    /// When the service breaks its answer off.
    pub broken_answer: bool,
}

impl Default for ReleasePolicy {
    fn default() -> Self {
        Self { server_error: true, broken_answer: true }
    }
}

/// Puts a paywall before a service. See the [crate docs](crate) for an example.
#[derive(Debug)]
pub struct PaywallLayer<N, P>(Arc<Gate<N, P>>);

impl<N, P> Clone for PaywallLayer<N, P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What all services behind one paywall share.
#[derive(Clone, Debug)]
pub(crate) struct Gate<N, P> {
    pub(crate) cashier: Cashier<N>,
    pub(crate) pricing: P,
    pub(crate) release: ReleasePolicy,
    pub(crate) fields: ServiceFields,
    pub(crate) requests_per_channel: NonZeroU32,
    /// For how long a price that was told holds, if that is promised.
    pub(crate) quote: Option<Seconds>,
}

impl<N, P> Gate<N, P> {
    /// Returns what is forgiven of the answer to a request with this head.
    pub(crate) fn forgiveness(&self, request: &HeaderMap) -> Forgiveness {
        Forgiveness {
            is_granted: self.release.broken_answer,
            fault: ClientFault::default(),
            has_deadline: has_deadline(request),
        }
    }
}

/// The fields in which a paywall and the service behind it talk to each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceFields {
    /// What the answer has used, in millisatoshi.
    pub(crate) usage: Option<HeaderName>,
    /// The memo of the payment, and of the answer.
    pub(crate) memo: Option<HeaderName>,
}

impl<N: Node, P: Pricing> PaywallLayer<N, P> {
    /// Makes a layer that charges what `pricing` says.
    #[must_use]
    pub fn new(cashier: Cashier<N>, pricing: P) -> Self {
        let (release, fields) = (ReleasePolicy::default(), ServiceFields::default());
        let requests_per_channel = NonZeroU32::MAX;
        let quote = None;
        Self(Arc::new(Gate { cashier, pricing, release, fields, requests_per_channel, quote }))
    }

    /// Takes charges back as `release` says.
    #[must_use]
    pub fn release(mut self, release: ReleasePolicy) -> Self {
        Arc::make_mut(&mut self.0).release = release;
        self
    }

    /// Refuses requests of a channel that has so many under way.
    #[must_use]
    pub fn requests_per_channel(mut self, most: NonZeroU32) -> Self {
        Arc::make_mut(&mut self.0).requests_per_channel = most;
        self
    }

    /// Tells clients that a price which they were told holds for so long from the beginning of
    /// their request on, in whole seconds. Less than one is not told.
    ///
    /// It is `pricing` that keeps the promise, whatever the prices become.
    #[must_use]
    pub fn quote(mut self, quote: Duration) -> Self {
        let secs = u32::try_from(quote.as_secs()).unwrap_or(u32::MAX);
        Arc::make_mut(&mut self.0).quote = (secs > 0).then_some(Seconds::new(secs));
        self
    }

    /// Charges what the service reports in a field of its answer, in millisatoshi, where that is
    /// less than the price. Until then the price is reserved.
    #[must_use]
    pub fn usage(mut self, field: Option<HeaderName>) -> Self {
        Arc::make_mut(&mut self.0).fields.usage = field;
        self
    }

    /// Passes the client's memo to the service in a field of the request, and the service's own
    /// back to the client: in both it is a Byte Sequence of RFC 9651.
    ///
    /// The client cannot set the field itself.
    #[must_use]
    pub fn memo(mut self, field: Option<HeaderName>) -> Self {
        Arc::make_mut(&mut self.0).fields.memo = field;
        self
    }
}

impl<S, N, P> Layer<S> for PaywallLayer<N, P> {
    type Service = Paywall<S, N, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Paywall::new(inner, Arc::clone(&self.0))
    }
}

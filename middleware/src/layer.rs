//! The layer: what a paywall is made of.

use http::header::HeaderName;
use tower_layer::Layer;

use crate::cashier::Cashier;
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
#[derive(Clone, Debug)]
pub struct PaywallLayer<N, P> {
    cashier: Cashier<N>,
    pricing: P,
    release: ReleasePolicy,
    fields: ServiceFields,
}

/// The fields in which a paywall and the service behind it talk to each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceFields {
    /// What the answer has used, in millisatoshi.
    pub(crate) usage: Option<HeaderName>,
    /// The memo of the payment, and of the answer.
    pub(crate) memo: Option<HeaderName>,
}

impl<N, P> PaywallLayer<N, P> {
    /// Makes a layer that charges what `pricing` says.
    #[must_use]
    pub fn new(cashier: Cashier<N>, pricing: P) -> Self {
        Self {
            cashier,
            pricing,
            release: ReleasePolicy::default(),
            fields: ServiceFields::default(),
        }
    }

    /// Takes charges back as `release` says.
    #[must_use]
    pub const fn release(mut self, release: ReleasePolicy) -> Self {
        self.release = release;
        self
    }

    /// Charges what the service reports in a field of its answer, in millisatoshi, where that is
    /// less than the price. Until then the price is reserved.
    #[must_use]
    pub fn usage(mut self, field: Option<HeaderName>) -> Self {
        self.fields.usage = field;
        self
    }

    /// Passes the client's memo to the service in a field of the request, and the service's own
    /// back to the client: in both it is a Byte Sequence of RFC 9651.
    ///
    /// The client cannot set the field itself.
    #[must_use]
    pub fn memo(mut self, field: Option<HeaderName>) -> Self {
        self.fields.memo = field;
        self
    }
}

impl<S, N, P: Clone> Layer<S> for PaywallLayer<N, P> {
    type Service = Paywall<S, N, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Paywall::new(
            inner,
            self.cashier.clone(),
            self.pricing.clone(),
            self.release,
            self.fields.clone(),
        )
    }
}

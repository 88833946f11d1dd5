//! The layer: what a paywall is made of.

use tower_layer::Layer;

use crate::cashier::Cashier;
use crate::service::Paywall;

/// Puts a paywall before a service. See the [crate docs](crate) for an example.
#[derive(Clone, Debug)]
pub struct PaywallLayer<N, P> {
    cashier: Cashier<N>,
    pricing: P,
}

impl<N, P> PaywallLayer<N, P> {
    /// Makes a layer that charges what `pricing` says.
    #[must_use]
    pub const fn new(cashier: Cashier<N>, pricing: P) -> Self {
        Self { cashier, pricing }
    }
}

impl<S, N, P: Clone> Layer<S> for PaywallLayer<N, P> {
    type Service = Paywall<S, N, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Paywall::new(inner, self.cashier.clone(), self.pricing.clone())
    }
}

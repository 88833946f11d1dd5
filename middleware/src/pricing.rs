//! What a request costs.

use farebox_channel::Msat;
use http::request::Parts;

/// Tells what a request costs, from its head alone.
pub trait Pricing: Clone + Send + Sync + 'static {
    /// Returns the price, or nothing where the request is free.
    fn price(&self, request: &Parts) -> Option<Msat>;
}

impl<F> Pricing for F
where
    F: Fn(&Parts) -> Option<Msat> + Clone + Send + Sync + 'static,
{
    fn price(&self, request: &Parts) -> Option<Msat> {
        self(request)
    }
}

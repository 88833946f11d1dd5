//! What resources cost the last time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use farebox_channel::Msat;
use farebox_channel::message::Offer;
use reqwest::{Method, Url};

use crate::paying::lock;

/// The greatest number of prices to remember.
const PRICES_MAX: usize = 10_000;

/// What a resource costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quote {
    /// What is charged first.
    pub(crate) price: Msat,
    /// Whether its answer is charged while it passes.
    pub(crate) is_running: bool,
    /// Whether what is sent for it is charged while it passes.
    pub(crate) charges_body: bool,
}

impl Quote {
    /// Returns what an offer says.
    pub(crate) fn of(offer: &Offer) -> Self {
        let charges_body = offer
            .rates
            .is_some_and(|it| it.request_bytes.is_some() || it.request_messages.is_some());
        Self { price: offer.price, is_running: offer.rates.is_some(), charges_body }
    }
}

/// What each resource cost the last time. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prices(Arc<Mutex<HashMap<(Method, Url), Quote>>>);

impl Prices {
    /// Returns what a resource cost the last time.
    pub(crate) fn of(&self, resource: &(Method, Url)) -> Option<Quote> {
        lock(&self.0).get(resource).copied()
    }

    /// Forgets what a resource cost.
    pub(crate) fn forget(&self, resource: &(Method, Url)) {
        lock(&self.0).remove(resource);
    }

    /// Remembers what a resource costs, for a limited number of them.
    pub(crate) fn remember(&self, resource: &(Method, Url), quote: Quote) {
        let mut prices = lock(&self.0);
        if prices.len() >= PRICES_MAX {
            prices.clear();
        }
        prices.insert(resource.clone(), quote);
    }
}

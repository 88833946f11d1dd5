//! One route: which requests it takes, what they cost, and where they go.

use farebox_channel::{Msat, Seconds};
use farebox_middleware::Billing;
use http::Method;

use super::ask::Ask;
use super::host::Host;
use super::methods::Methods;
use super::pattern::Pattern;
use super::price::Price;

/// Requests that are served alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The name, where it is another one than the pattern.
    pub label: Option<String>,
    /// The hosts, or nothing for all.
    pub host: Option<Host>,
    /// The paths.
    pub path: Pattern,
    /// The methods, or nothing for all.
    pub methods: Option<Methods>,
    /// The price of a request.
    pub price: Price,
    /// How the answer is billed.
    pub billing: Billing,
    /// How the price of each request is asked, where it is not the same for all.
    pub ask: Option<Ask>,
    /// How many requests a client has free, if any.
    pub allowance: Option<Allowance>,
    /// The name of the service that the requests go to, or nothing for the one of `[upstream]`.
    pub upstream: Option<String>,
}

/// What a client has free, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// So many requests.
    pub requests: u32,
    /// In each such span.
    pub span: Seconds,
}

impl Route {
    /// Makes a route for all that have such a path.
    #[must_use]
    pub const fn new(path: Pattern, price: Price) -> Self {
        Self {
            label: None,
            host: None,
            path,
            methods: None,
            price,
            billing: Billing::Flat,
            ask: None,
            allowance: None,
            upstream: None,
        }
    }

    /// Returns the name for logs and metrics: the one that is given, or the pattern as it is
    /// written.
    #[must_use]
    pub fn name(&self) -> &str {
        self.label.as_deref().unwrap_or_else(|| self.path.as_str())
    }

    /// Returns the least that is ever charged for a request, if anything is. A price in shadow is
    /// what will be charged after the trial.
    #[must_use]
    pub fn least(&self) -> Option<Msat> {
        let asked = self.ask.as_ref().map(|ask| ask.least);
        match self.price {
            Price::Charged(price) | Price::Shadow(price) => {
                Some(asked.map_or(price, |asked| asked.min(price)))
            }
            Price::Free => None,
        }
    }

    /// Tells whether the host and the path are this route's. Both are bare, and the path is in lower
    /// case.
    pub(super) fn is_at(&self, host: Option<&str>, path: &[u8]) -> bool {
        self.path.matches(path)
            && self.host.as_ref().is_none_or(|own| host.is_some_and(|host| own.matches(host)))
    }

    /// Tells whether the method is this route's.
    pub(super) fn takes(&self, method: &Method) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.contains(method))
    }

    /// Tells whether this surely takes all that `other` takes.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let has_hosts = match (&self.host, &other.host) {
            (None, _) => true,
            (Some(own), Some(other)) => own.covers(other),
            (Some(_), None) => false,
        };
        let has_methods = match (&self.methods, &other.methods) {
            (None, _) => true,
            (Some(own), Some(other)) => own.covers(other),
            (Some(_), None) => false,
        };
        has_hosts && has_methods && self.path.covers(&other.path)
    }
}

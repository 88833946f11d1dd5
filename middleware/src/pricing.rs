//! What a request costs, and what the price list says.

use std::borrow::Cow;
use std::sync::Arc;

use farebox_channel::message::OfferedRates;
use farebox_channel::{Msat, Seconds};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use crate::host;
use crate::metering::{Counter, Metering, Rates, Usage};

/// Tells what a request costs, from its head alone.
pub trait Pricing: Clone + Send + Sync + 'static {
    /// Returns the price, or nothing where the request is free.
    fn price(&self, request: &Parts) -> Option<Msat>;

    /// Returns the price that the client is told, or nothing where the request is free: another
    /// one than is charged where a lower price was told before and still holds.
    fn offered(&self, request: &Parts) -> Option<Msat> {
        self.price(request)
    }

    /// Returns what a free request would be charged, where that is only reported. What its answer would
    /// cost is among the extensions of the answer, as a [`RunningBill`](crate::RunningBill), where it
    /// is not this.
    fn trial(&self, request: &Parts) -> Option<Msat> {
        let _none = request;
        None
    }

    /// Returns how the answer to a request is billed. What [`Pricing::price`] says is charged first
    /// in any case.
    fn billing(&self, request: &Parts) -> Billing {
        let _all_alike = request;
        Billing::Flat
    }

    /// Returns where a request is sold: what sets it apart from others with the same method, path
    /// and query. A named request is the same, and not charged again, only if this is the same too,
    /// but for the case of its letters. So a pricing that looks at more than host, method, path and
    /// query says here what else it looks at.
    fn sold_at<'r>(&self, request: &'r Parts) -> Cow<'r, str> {
        Cow::Borrowed(host::named(request))
    }

    /// Returns the price list, as it is now. It is asked for anew each time, so it should be made
    /// when prices change. An empty list says nothing of prices.
    fn prices(&self) -> Arc<[PricedRoute]> {
        Arc::default()
    }
}

/// How an answer is billed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Billing {
    /// It costs the price, whatever comes.
    #[default]
    Flat,
    /// It costs what its service reports, and the price at most. The price is charged first, and what
    /// was not used is given back at its end.
    Reported(Arc<Usage>),
    /// It costs what passes. The price is charged first, more as it goes on, and what was not used is
    /// given back at its end.
    Running(Arc<Rates>),
}

impl Billing {
    /// Returns how an answer is billed that may cost no more than by either: where the two are of one
    /// kind, by the lower of each rate. Whoever was told a price and no rates pays no more than that.
    #[must_use]
    pub fn or_lower(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Reported(one), Self::Reported(other)) => {
                Self::Reported(Arc::new(one.or_lower(other)))
            }
            (Self::Reported(usage), _) | (_, Self::Reported(usage)) => {
                Self::Reported(Arc::clone(usage))
            }
            (Self::Running(one), Self::Running(other)) => {
                Self::Running(Arc::new(one.or_lower(other)))
            }
            (Self::Flat, _) | (_, Self::Flat) => Self::Flat,
        }
    }

    /// Begins to meter an answer with this head.
    pub(crate) fn metering(self, status: StatusCode, head: &HeaderMap) -> Metering {
        match self {
            Self::Flat => Metering::Flat,
            Self::Running(rates) if status == StatusCode::SWITCHING_PROTOCOLS => {
                if rates.apply_beyond_http() { Metering::Left(rates) } else { Metering::Flat }
            }
            // What follows is no answer, and no service reports what it has used.
            Self::Reported(_) if status == StatusCode::SWITCHING_PROTOCOLS => Metering::Flat,
            Self::Reported(usage) => Metering::reported(usage, head),
            Self::Running(rates) => Metering::running(rates, head),
        }
    }

    /// Returns what an offer tells of an answer that costs what passes.
    pub(crate) fn offered(&self) -> Option<OfferedRates> {
        match self {
            Self::Flat | Self::Reported(_) => None,
            Self::Running(rates) => Some(rates.offered()),
        }
    }

    /// Begins to count a request with this head, where what passes of it costs something.
    pub(crate) fn upload(&self, head: &HeaderMap) -> Option<(Arc<Rates>, Counter)> {
        let Self::Running(rates) = self else { return None };
        let counter = Counter::of_request(head);
        rates.apply_to_request(&counter).then(|| (Arc::clone(rates), counter))
    }

    /// Tells whether the body of an answer is read, so that it must not be encoded.
    pub(crate) fn reads_bodies(&self) -> bool {
        match self {
            Self::Flat => false,
            Self::Reported(usage) => usage.reads_bodies(),
            Self::Running(rates) => rates.events.is_some(),
        }
    }
}

impl<F> Pricing for F
where
    F: Fn(&Parts) -> Option<Msat> + Clone + Send + Sync + 'static,
{
    fn price(&self, request: &Parts) -> Option<Msat> {
        self(request)
    }
}

/// A line of the price list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PricedRoute {
    /// The path, as it is written in the configuration.
    pub path: String,
    /// The host that it belongs to; nothing means every host.
    pub host: Option<String>,
    /// The methods that it belongs to; none means every method.
    pub methods: Vec<String>,
    /// What a request costs; nothing means that it is free.
    pub price: Option<Msat>,
    /// How many requests a client has for nothing.
    pub allowance: Option<FreeAllowance>,
    /// Whether each request may have another price, which its own offer tells.
    pub is_asked: bool,
    /// Whether the price is only told, and nothing is charged.
    pub is_shadow: bool,
    /// How the answer is billed.
    pub billing: Billing,
}

/// How many requests are free in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeAllowance {
    /// The requests.
    pub requests: u32,
    /// The span.
    pub span: Seconds,
}

impl PricedRoute {
    /// Returns the line as it stands in the document.
    pub(crate) fn document(&self) -> Value {
        let allowance = self.allowance.map(|allowance| {
            json!({ "requests": allowance.requests, "span_secs": allowance.span.get() })
        });
        let (unit, rates) = match &self.billing {
            Billing::Flat => (None, None),
            Billing::Reported(usage) => (Some(usage.unit.get()), None),
            Billing::Running(rates) => (None, Some(rates.document())),
        };
        json!({
            "path": self.path,
            "host": self.host,
            "methods": self.methods,
            "price_msat": self.price.unwrap_or(Msat::ZERO).get(),
            "free": self.price.is_none(),
            "asked": self.is_asked,
            "free_allowance": allowance,
            "shadow": self.is_shadow,
            "rates": rates,
            "unit_msat": unit,
        })
    }
}

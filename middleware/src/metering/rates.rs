//! What the pieces of an answer cost.

use std::num::NonZeroU64;
use std::time::Duration;

use farebox_channel::message::{OfferedRate, OfferedRates};
use farebox_channel::{Msat, Seconds};
use serde_json::{Value, json};

use super::counter::Counter;

/// A price for so many units. What does not divide is rounded up, once for all units together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The price.
    pub price: Msat,
    /// How many units it buys.
    pub units: NonZeroU64,
}

impl Rate {
    /// Returns the one of two by which the same costs less.
    fn or_lower(self, other: Self) -> Self {
        let parts = |rate: Self, units: NonZeroU64| {
            u128::from(rate.price.get()).saturating_mul(units.get().into())
        };
        if parts(other, self.units) < parts(self, other.units) { other } else { self }
    }

    /// Returns what so many units cost, and the greatest amount where that is more.
    #[must_use]
    pub fn cost(self, units: u64) -> Msat {
        let cost = u128::from(self.price.get()).saturating_mul(units.into());
        let cost = cost.div_ceil(self.units.get().into());
        u64::try_from(cost).ok().and_then(|cost| Msat::new(cost).ok()).unwrap_or(Msat::MAX)
    }
}

/// What a request costs by what passes. Whatever has no rate costs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rates {
    /// What every answer costs.
    pub answer: Msat,
    /// What the bytes of the answer's body cost.
    pub bytes: Option<Rate>,
    /// What its Server-Sent Events cost, those with data.
    pub events: Option<Rate>,
    /// What its gRPC messages cost.
    pub messages: Option<Rate>,
    /// What the bytes of the request's body cost.
    pub request_bytes: Option<Rate>,
    /// What its gRPC messages cost.
    pub request_messages: Option<Rate>,
    /// What the time costs from the answer's head to its end, in milliseconds. A pause for want of
    /// credit is left out.
    pub millis: Option<Rate>,
    /// How much is charged ahead at a time, while little passes.
    pub draw: Msat,
    /// How long a request waits for credit before it is ended.
    pub patience: Duration,
}

/// What has passed one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) bytes: u64,
    pub(crate) events: u64,
    pub(crate) messages: u64,
}

impl Counts {
    /// Returns the same with so much more.
    pub(crate) const fn and(self, more: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(more.bytes),
            events: self.events.saturating_add(more.events),
            messages: self.messages.saturating_add(more.messages),
        }
    }

    /// Returns the same with so much less.
    pub(crate) const fn without(self, less: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(less.bytes),
            events: self.events.saturating_sub(less.events),
            messages: self.messages.saturating_sub(less.messages),
        }
    }
}

impl Rates {
    /// Returns the rates by which nothing costs more than by either.
    pub(crate) fn or_lower(&self, other: &Self) -> Self {
        let lower = |one: Option<Rate>, other: Option<Rate>| Some(one?.or_lower(other?));
        Self {
            answer: self.answer.min(other.answer),
            bytes: lower(self.bytes, other.bytes),
            events: lower(self.events, other.events),
            messages: lower(self.messages, other.messages),
            request_bytes: lower(self.request_bytes, other.request_bytes),
            request_messages: lower(self.request_messages, other.request_messages),
            millis: lower(self.millis, other.millis),
            draw: self.draw.min(other.draw),
            patience: self.patience.max(other.patience),
        }
    }

    /// Tells whether something is counted of what has left HTTP. Events are not.
    pub(crate) fn apply_beyond_http(&self) -> bool {
        [self.bytes, self.messages, self.request_bytes, self.request_messages, self.millis]
            .iter()
            .any(Option::is_some)
    }

    /// Tells whether an answer with such a body has anything that is counted. Of a request that has
    /// nothing either way, the price is charged.
    pub(crate) fn apply_to(&self, counter: &Counter) -> bool {
        self.bytes.is_some()
            || self.millis.is_some()
            || self.request_bytes.is_some()
            || self.events.is_some() && counter.is_between_events()
            || self.messages.is_some() && counter.is_grpc()
    }

    /// Tells whether a request with such a body has anything that is counted.
    pub(crate) fn apply_to_request(&self, counter: &Counter) -> bool {
        self.request_bytes.is_some() || self.request_messages.is_some() && counter.is_grpc()
    }

    /// Returns the rates as they stand in the price list.
    pub(crate) fn document(&self) -> Value {
        let rate = |rate: Rate| json!({ "msat": rate.price.get(), "per": rate.units.get() });
        json!({
            "answer_msat": self.answer.get(),
            "bytes": self.bytes.map(rate),
            "events": self.events.map(rate),
            "messages": self.messages.map(rate),
            "request_bytes": self.request_bytes.map(rate),
            "request_messages": self.request_messages.map(rate),
            "millis": self.millis.map(rate),
            "wait_secs": self.patience.as_secs(),
        })
    }

    /// Returns the rates as an offer tells them.
    pub(crate) fn offered(&self) -> OfferedRates {
        let rate = |rate: Rate| OfferedRate::new(rate.price, rate.units.get()).ok();
        OfferedRates {
            answer: self.answer,
            bytes: self.bytes.and_then(rate),
            events: self.events.and_then(rate),
            messages: self.messages.and_then(rate),
            millis: self.millis.and_then(rate),
            request_bytes: self.request_bytes.and_then(rate),
            request_messages: self.request_messages.and_then(rate),
            wait: Seconds::new(u32::try_from(self.patience.as_secs()).unwrap_or(u32::MAX)),
        }
    }

    /// Returns what so much costs that has passed from the client and from the service, after so long,
    /// all in all.
    pub(crate) fn cost(&self, client: Counts, service: Counts, time: Duration) -> Msat {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        [
            (self.bytes, service.bytes),
            (self.events, service.events),
            (self.messages, service.messages),
            (self.request_bytes, client.bytes),
            (self.request_messages, client.messages),
            (self.millis, millis),
        ]
        .into_iter()
        .filter_map(|(rate, units)| Some(rate?.cost(units)))
        .fold(self.answer, |sum, cost| sum.checked_add(cost).unwrap_or(Msat::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(price: u64, units: u64) -> Rate {
        Rate { price: Msat::new(price).unwrap(), units: NonZeroU64::new(units).unwrap() }
    }

    #[test]
    fn what_does_not_divide_is_rounded_up_once_for_all_units() {
        let rate = rate(3, 1_024);
        let cost = |units| rate.cost(units).get();
        assert_eq!([0, 1, 341, 342, 1_024, 1_025].map(cost), [0, 1, 1, 2, 3, 4]);
    }

    #[test]
    fn of_two_rates_the_lower_is_taken_each_and_what_one_leaves_out_costs_nothing() {
        let rates = |answer, bytes, events, secs| Rates {
            answer: Msat::new(answer).unwrap(),
            bytes: Some(bytes),
            events,
            messages: None,
            request_bytes: None,
            request_messages: None,
            millis: None,
            draw: Msat::new(answer).unwrap(),
            patience: Duration::from_secs(secs),
        };
        let one = rates(5, rate(3, 1_024), Some(rate(7, 1)), 30);
        let other = rates(6, rate(2, 1_000), None, 10);

        let both = rates(5, rate(2, 1_000), None, 30);

        assert_eq!((one.or_lower(&other), other.or_lower(&one)), (both.clone(), both));
    }

    #[test]
    fn a_cost_beyond_all_amounts_is_the_greatest_one() {
        assert_eq!(rate(u64::from(u32::MAX), 1).cost(u64::MAX), Msat::MAX);
    }
}

//! What an answer costs that is charged while it passes, as an offer tells it.

use crate::units::{Msat, OutOfBounds, Seconds};

/// The greatest Integer of a structured field (RFC 9651 §3.3.1).
const UNITS_MAX: u64 = 999_999_999_999_999;

/// A price for so many units. What does not divide is rounded up, once for the whole answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedRate {
    price: Msat,
    units: u64,
}

impl OfferedRate {
    /// Makes a rate of a price and of how many units it buys.
    ///
    /// # Errors
    /// [`OutOfBounds`] when it buys none, or more than can be told.
    pub const fn new(price: Msat, units: u64) -> Result<Self, OutOfBounds> {
        if units == 0 || units > UNITS_MAX {
            return Err(OutOfBounds { value: units, least: 1, most: UNITS_MAX });
        }
        Ok(Self { price, units })
    }

    /// Returns the price.
    #[must_use]
    pub const fn price(self) -> Msat {
        self.price
    }

    /// Returns how many units it buys.
    #[must_use]
    pub const fn units(self) -> u64 {
        self.units
    }

    /// Returns what a single unit costs, as it is rounded up.
    fn each(self) -> Msat {
        let rest = self.price.get().checked_rem(self.units).map_or(0, |rest| rest.min(1));
        let each = self.price.get().checked_div(self.units);
        each.and_then(|each| Msat::new(each.checked_add(rest)?).ok()).unwrap_or(self.price)
    }
}

/// What an answer costs by what passes. Whatever has no rate costs nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfferedRates {
    /// What every answer costs.
    pub answer: Msat,
    /// What the bytes of the answer's body cost.
    pub bytes: Option<OfferedRate>,
    /// What its Server-Sent Events cost, those with data.
    pub events: Option<OfferedRate>,
    /// What its gRPC messages, or the messages of a WebSocket, cost.
    pub messages: Option<OfferedRate>,
    /// What the time costs from the answer's head to its end, in milliseconds.
    pub millis: Option<OfferedRate>,
    /// What the bytes of the request's body cost.
    pub request_bytes: Option<OfferedRate>,
    /// What the messages cost that the client sends.
    pub request_messages: Option<OfferedRate>,
    /// How long the answer waits for credit before it is ended.
    pub wait: Seconds,
}

impl OfferedRates {
    /// Returns the greatest price that has to be paid at a time: that of the answer itself, or of a
    /// single unit of what passes.
    #[must_use]
    pub fn dearest(&self) -> Msat {
        let Self {
            answer, bytes, events, messages, millis, request_bytes, request_messages, ..
        } = *self;
        [bytes, events, messages, millis, request_bytes, request_messages]
            .into_iter()
            .flatten()
            .map(OfferedRate::each)
            .fold(answer, Msat::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_buys_something() {
        let rate = |units| OfferedRate::new(Msat::ONE, units);
        assert!(rate(1).is_ok() && rate(UNITS_MAX).is_ok());
        assert!(rate(0).is_err() && rate(UNITS_MAX + 1).is_err());
    }

    #[test]
    fn the_dearest_price_is_that_of_the_answer_or_of_a_single_unit() {
        let msat = |msat| Msat::new(msat).unwrap();
        let rate = |price, units| OfferedRate::new(msat(price), units).ok();
        let rates = OfferedRates { answer: msat(7), ..OfferedRates::default() };
        let dearest = |bytes| OfferedRates { bytes, ..rates }.dearest().get();
        let told = [None, rate(9, 1), rate(9_000, 1_000), rate(9_001, 1_000), rate(3, 1_024)];
        assert_eq!(told.map(dearest), [7, 9, 9, 10, 7]);
        assert_eq!(OfferedRates { request_messages: rate(9, 1), ..rates }.dearest(), msat(9));
    }
}

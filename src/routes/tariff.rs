//! The tariff: the table in force, and for a while what was quoted before it.
//!
//! A client that was told a price has a time to pay it, also when the prices have changed since.
//! So for as long as an earlier table's prices hold, the lowest of all prices is charged, and answers
//! are billed by the lowest of all rates.

use std::time::{Duration, Instant};

use farebox_channel::Msat;
use farebox_middleware::Billing;
use http::{HeaderValue, Method};

use super::price::Price;
use super::route::Route;
use super::table::{Found, Table};

/// How many earlier tables are kept. With more reloads than this within the time that prices hold,
/// the prices of the earliest hold no longer.
const EARLIER_MAX: usize = 32;
/// How much longer than promised prices hold: a promise counts from the beginning of the request
/// that it answers, less a second at most; and the request that it leads to may be on its way.
const ON_ITS_WAY: Duration = Duration::from_secs(5);

/// What a tariff has for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fare<'a> {
    /// It is served at this price.
    Quote(Quote<'a>),
    /// Nothing is served there.
    Unknown,
    /// Other methods are served there: the value of the `Allow` field.
    OtherMethod(HeaderValue),
}

/// What a request costs, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Its route in the table in force.
    pub route: &'a Route,
    /// The lowest of the earlier routes' prices that hold, if any does.
    pub earlier: Option<Price>,
    /// How its answer is billed, where it is charged: by the lower of all that was told and holds.
    pub billing: Billing,
    /// Whether its price was asked before, so that what was told then may hold.
    pub was_asked: bool,
}

impl Quote<'_> {
    /// Returns what it costs at a price of the table in force: the lowest of the prices that hold. The
    /// allowance of the route is not taken off.
    #[must_use]
    pub fn charged_at(&self, price: Price) -> Price {
        self.earlier.map_or(price, |earlier| price.or_lower(earlier))
    }

    /// Returns what it costs now, if its price is not asked.
    #[must_use]
    pub fn price(&self) -> Price {
        self.charged_at(self.route.price)
    }

    /// Returns the price to tell a client: the one of the table in force, which goes on holding.
    #[must_use]
    pub const fn offered(&self) -> Price {
        self.route.price
    }
}

/// The table in force, and earlier ones whose prices still hold.
#[derive(Clone, Debug, Default)]
pub struct Tariff {
    table: Table,
    /// Earlier tables, the last one at the end.
    earlier: Vec<Earlier>,
}

/// A table that was in force.
#[derive(Clone, Debug)]
struct Earlier {
    table: Table,
    /// When its prices hold no longer.
    until: Instant,
}

impl Tariff {
    /// Makes a tariff of a first table.
    #[must_use]
    pub const fn new(table: Table) -> Self {
        Self { table, earlier: Vec::new() }
    }

    /// Returns the table in force.
    #[must_use]
    pub const fn table(&self) -> &Table {
        &self.table
    }

    /// Puts another table in force. The prices of this one hold for as long as it says.
    #[must_use]
    pub fn succeed(&self, new: Table, now: Instant) -> Self {
        let mut earlier: Vec<Earlier> =
            self.earlier.iter().filter(|earlier| now < earlier.until).cloned().collect();
        if new != self.table
            && let Some(until) = self.holds_until(now)
        {
            earlier.push(Earlier { table: self.table.clone(), until });
        }
        let surplus = earlier.len().saturating_sub(EARLIER_MAX);
        earlier.drain(..surplus);
        Self { table: new, earlier }
    }

    /// Returns what a request costs. Its path is normal (see [`normalise`](super::normalise)).
    ///
    /// What the table in force does not serve is not served, whatever it cost before.
    #[must_use]
    pub fn price(&self, host: Option<&str>, method: &Method, path: &str, now: Instant) -> Fare<'_> {
        let route = match self.table.find(host, method, path) {
            Found::Route(route) => route,
            Found::Unknown => return Fare::Unknown,
            Found::OtherMethod(allowed) => return Fare::OtherMethod(allowed),
        };
        let billing = route.billing.clone();
        let mut quote = Quote { route, earlier: None, billing, was_asked: false };
        for earlier in self.earlier.iter().filter(|earlier| now < earlier.until) {
            let Found::Route(earlier) = earlier.table.find(host, method, path) else { continue };
            if earlier.price.charged().is_some() {
                quote.billing = quote.billing.or_lower(&earlier.billing);
            }
            match earlier.price {
                // Nobody was told the price of the route itself.
                Price::Charged(_) if earlier.ask.is_some() => quote.was_asked = true,
                price if quote.earlier.is_none_or(|known| price.is_below(known)) => {
                    quote.earlier = Some(price);
                }
                _ => {}
            }
        }
        Fare::Quote(quote)
    }

    /// Returns until when a price holds that is told now, if it does at all.
    #[must_use]
    pub fn holds_until(&self, now: Instant) -> Option<Instant> {
        let holds = self.table.quoted_for();
        if holds.is_zero() { None } else { now.checked_add(holds.saturating_add(ON_ITS_WAY)) }
    }

    /// Returns when the next of the earlier prices hold no longer, if any hold still.
    #[must_use]
    pub fn next_lapse(&self, now: Instant) -> Option<Instant> {
        self.earlier.iter().map(|earlier| earlier.until).filter(|until| now < *until).min()
    }

    /// Returns the least that can be charged from `now` on.
    #[must_use]
    pub fn cheapest(&self, now: Instant) -> Msat {
        let earlier = self.earlier.iter().filter(|earlier| now < earlier.until);
        let least = earlier.map(|earlier| earlier.table.cheapest()).min();
        least.map_or_else(|| self.table.cheapest(), |least| least.min(self.table.cheapest()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use farebox_middleware::{Rates, Usage};

    use super::*;
    use crate::routes::Pattern;

    fn charged(msat: u64) -> Price {
        Price::Charged(Msat::new(msat).unwrap())
    }

    fn table(price: Price) -> Table {
        let route = Route::new(Pattern::new("/a", false).unwrap(), price);
        Table::new(vec![route]).unwrap().quote(Duration::from_secs(60))
    }

    fn price(tariff: &Tariff, now: Instant) -> Price {
        match tariff.price(None, &Method::GET, "/a/x", now) {
            Fare::Quote(quote) => quote.price(),
            Fare::Unknown | Fare::OtherMethod(_) => panic!("the path has a route"),
        }
    }

    #[test]
    fn a_quoted_price_is_honoured_for_its_time() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let raised = Tariff::new(table(charged(5))).succeed(table(charged(9)), at(0));
        assert_eq!(price(&raised, at(0)), charged(5));
        assert_eq!(price(&raised, at(64)), charged(5));
        assert_eq!(price(&raised, at(65)), charged(9));
        let Fare::Quote(quote) = raised.price(None, &Method::GET, "/a", at(0)) else { panic!() };
        assert_eq!(quote.offered(), charged(9));

        let lowered = Tariff::new(table(charged(5))).succeed(table(charged(3)), at(0));
        assert_eq!(price(&lowered, at(0)), charged(3));
    }

    #[test]
    fn what_was_free_stays_free_for_its_time() {
        let start = Instant::now();
        let later = start + Duration::from_secs(65);
        for nothing in [Price::Free, Price::Shadow(Msat::MAX)] {
            let tariff = Tariff::new(table(nothing)).succeed(table(charged(9)), start);
            assert_eq!(price(&tariff, start), nothing);
            assert_eq!(price(&tariff, later), charged(9));
        }
    }

    #[test]
    fn each_quote_of_a_chain_of_reloads_is_honoured() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let tariff = Tariff::new(table(charged(5)))
            .succeed(table(charged(3)), at(0))
            .succeed(table(charged(9)), at(30))
            .succeed(table(charged(9)), at(40))
            .succeed(table(charged(8)), at(50));
        assert_eq!(price(&tariff, at(50)), charged(3));
        assert_eq!(price(&tariff, at(94)), charged(3));
        assert_eq!(price(&tariff, at(95)), charged(8));
        assert_eq!(tariff.earlier.len(), 3);
        let settled = tariff.succeed(table(charged(7)), at(500));
        assert_eq!(settled.earlier.len(), 1);
    }

    #[test]
    fn an_answer_is_billed_by_no_more_than_was_told_within_the_time() {
        let start = Instant::now();
        let later = start + Duration::from_secs(65);
        let usage = |unit| {
            let (sources, unit) = (Vec::new(), Msat::new(unit).unwrap());
            Billing::Reported(Arc::new(Usage { sources, unit }))
        };
        let rates = |answer| {
            let answer = Msat::new(answer).unwrap();
            let rates = Rates {
                answer,
                bytes: None,
                events: None,
                messages: None,
                request_bytes: None,
                request_messages: None,
                millis: None,
                draw: answer,
                patience: Duration::ZERO,
            };
            Billing::Running(Arc::new(rates))
        };
        let table = |billing: &Billing| {
            let route = Route::new(Pattern::new("/a", false).unwrap(), charged(5));
            let route = Route { billing: billing.clone(), ..route };
            Table::new(vec![route]).unwrap().quote(Duration::from_secs(60))
        };
        for (old, new, charged) in [
            (usage(3), usage(7), usage(3)),
            (usage(7), usage(3), usage(3)),
            (rates(3), rates(7), rates(3)),
            (rates(7), rates(3), rates(3)),
            (rates(7), usage(3), usage(3)),
            (Billing::Flat, usage(3), usage(3)),
            (Billing::Flat, rates(3), Billing::Flat),
            (rates(3), Billing::Flat, Billing::Flat),
        ] {
            let tariff = Tariff::new(table(&old)).succeed(table(&new), start);
            let billing = |now| match tariff.price(None, &Method::GET, "/a", now) {
                Fare::Quote(quote) => quote.billing,
                Fare::Unknown | Fare::OtherMethod(_) => panic!("the path has a route"),
            };
            assert_eq!((billing(start), billing(later)), (charged, new));
        }
    }

    #[test]
    fn what_the_new_table_does_not_serve_is_not_served() {
        let start = Instant::now();
        let other = Route::new(Pattern::new("/b", false).unwrap(), Price::Free);
        let tariff =
            Tariff::new(table(charged(5))).succeed(Table::new(vec![other]).unwrap(), start);
        assert_eq!(tariff.price(None, &Method::GET, "/a", start), Fare::Unknown);
        assert!(matches!(tariff.price(None, &Method::GET, "/b", start), Fare::Quote(_)));
    }

    #[test]
    fn the_cheapest_counts_earlier_prices_for_as_long_as_they_hold() {
        let start = Instant::now();
        let later = start + Duration::from_secs(65);
        let tariff = Tariff::new(table(charged(5))).succeed(table(charged(9)), start);
        assert_eq!(tariff.cheapest(start), Msat::new(5).unwrap());
        assert_eq!(tariff.cheapest(later), Msat::new(9).unwrap());
        assert_eq!(tariff.next_lapse(start), Some(later));
        assert_eq!(tariff.next_lapse(later), None);
    }

    #[test]
    fn many_reloads_are_bounded_and_none_that_changes_nothing_counts() {
        let start = Instant::now();
        let mut tariff = Tariff::new(table(charged(1)));
        for msat in 2..100 {
            tariff = tariff.succeed(table(charged(msat)), start);
        }
        assert_eq!(tariff.earlier.len(), EARLIER_MAX);
        assert_eq!(tariff.succeed(table(charged(99)), start).earlier.len(), EARLIER_MAX);
    }
}

//! Prices that clients were told, for as long as they hold.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use farebox_channel::Msat;

use super::question::Key;
use super::recent::Recent;

/// So many different prices of one request are remembered exactly.
const EXACT_MAX: usize = 8;

/// The prices that clients were told for requests. Whatever a service says later, the lowest of those
/// that hold is charged.
#[derive(Debug, Default)]
pub(crate) struct Promises(Mutex<Recent<Promised>>);

impl Promises {
    /// Notes that a price was told for a request, and holds until then.
    pub(crate) fn tell(&self, key: Key, price: Msat, now: Instant, until: Instant) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(&key) {
            Some(promised) => promised.add(Promise { price, until }, now),
            None => all.insert(key, Promised(vec![Promise { price, until }])),
        }
    }

    /// Returns the lowest price that holds for a request.
    pub(crate) fn lowest(&self, key: &Key, now: Instant) -> Option<Msat> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key)?.lowest(now)
    }
}

/// What was told for one request: each price is above the one before, and holds for longer.
#[derive(Debug)]
struct Promised(Vec<Promise>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Promise {
    price: Msat,
    until: Instant,
}

impl Promised {
    fn add(&mut self, new: Promise, now: Instant) {
        let Self(all) = self;
        if all.iter().any(|it| it.price <= new.price && it.until >= new.until) {
            return;
        }
        all.retain(|it| it.until > now && (it.price < new.price || it.until > new.until));
        let place = all.partition_point(|it| it.price < new.price);
        all.insert(place, new);
        // Of too many, the two lowest become one that keeps both.
        if all.len() > EXACT_MAX
            && let [lowest, next, ..] = all.as_mut_slice()
        {
            next.price = lowest.price;
            all.remove(0);
        }
    }

    fn lowest(&self, now: Instant) -> Option<Msat> {
        self.0.iter().filter(|it| it.until > now).map(|it| it.price).min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn msat(amount: u64) -> Msat {
        Msat::new(amount).unwrap()
    }

    #[test]
    fn the_lowest_of_the_prices_that_hold_is_charged() {
        let (promises, start) = (Promises::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        let (key, other) = (Key::of(b"a"), Key::of(b"b"));
        promises.tell(key, msat(5), at(0), at(60));
        promises.tell(key, msat(9), at(10), at(70));
        promises.tell(key, msat(7), at(20), at(80));
        promises.tell(key, msat(5), at(21), at(50));

        assert_eq!(promises.lowest(&key, at(59)), Some(msat(5)));
        assert_eq!(promises.lowest(&key, at(60)), Some(msat(7)));
        assert_eq!(promises.lowest(&key, at(80)), None);
        assert_eq!(promises.lowest(&other, at(0)), None);
    }

    #[test]
    fn a_price_that_changes_all_the_time_breaks_no_promise_and_is_bounded() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut promised = Promised(Vec::new());
        for secs in 0..1_000 {
            promised.add(Promise { price: msat(secs + 1), until: at(secs + 600) }, at(secs));
            assert!(promised.0.len() <= EXACT_MAX);
            let oldest = secs.saturating_sub(599) + 1;
            assert!(promised.lowest(at(secs)).unwrap() <= msat(oldest), "{secs}");
        }
    }
}

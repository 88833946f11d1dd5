//! How long orders gather before they are committed.

use std::time::{Duration, Instant};

/// The fewest orders that are worth waiting for. Fewer commit at once: with so few clients the wait
/// of each would be longer, and the work of all hardly less.
const CROWD_MIN: usize = 8;
/// How long after a commit the next one may wait for the orders that it is expected to have.
const GATHER: Duration = Duration::from_micros(1_500);
/// How slowly less is expected: by this part of it with each commit.
const FORGETTING: usize = 16;

/// The pace of commits.
///
/// A commit costs the processor about as much for one order as for ten, and the same sync of the
/// disk. Whoever takes what waits as soon as the last commit is done takes few orders at a time under
/// load, since those who were just answered have not come back yet. Whoever always waits a little
/// makes a few clients wait for nobody. So the rule is:
///
/// 1. As many orders are expected as the last commit had, or as were expected before it, less a
///    sixteenth.
/// 2. Orders are committed at once when fewer than 8 are expected, or when the last commit ended more
///    than 1.5 ms ago: nobody else is about to come.
/// 3. Otherwise they wait until as many are there as are expected, or half as many while all threads that
///    bring orders rest ([`Hand`](crate::Hand)), or until 1.5 ms after the end of the last commit.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    expected: usize,
    ended: Option<Instant>,
}

/// A wait for more orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gathering {
    /// How many orders end it.
    pub(crate) enough: usize,
    /// When it ends at the latest.
    pub(crate) until: Instant,
}

impl Pace {
    /// Returns how long to wait for more than the orders that are `waiting`, if that is worth it.
    pub(crate) fn gathering(&self, waiting: usize, now: Instant) -> Option<Gathering> {
        let enough = self.expected;
        let until = self.ended?.checked_add(GATHER)?;
        let is_worth_it = enough >= CROWD_MIN && waiting < enough && now < until;
        is_worth_it.then_some(Gathering { enough, until })
    }

    /// Notes that a commit of so many orders has ended.
    pub(crate) fn note(&mut self, orders: usize, now: Instant) {
        let less = self.expected.saturating_sub(self.expected.div_ceil(FORGETTING));
        self.expected = less.max(orders);
        self.ended = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pace after one commit of so many orders, and when that ended.
    fn after(orders: usize) -> (Pace, Instant) {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.note(orders, now);
        (pace, now)
    }

    #[test]
    fn the_first_order_does_not_wait() {
        assert_eq!(Pace::default().gathering(1, Instant::now()), None);
    }

    #[test]
    fn a_few_clients_do_not_wait_for_each_other() {
        let (pace, now) = after(CROWD_MIN - 1);
        assert_eq!(pace.gathering(1, now), None);
    }

    #[test]
    fn a_crowd_waits_for_as_many_as_came_last_time_but_not_long() {
        let (pace, now) = after(64);
        let gathering = Some(Gathering { enough: 64, until: now + GATHER });
        assert_eq!(pace.gathering(1, now), gathering);
        assert_eq!(pace.gathering(63, now + GATHER / 2), gathering);
        assert_eq!(pace.gathering(64, now), None, "all are there");
        assert_eq!(pace.gathering(1, now + GATHER), None, "it has taken long enough");
    }

    #[test]
    fn an_order_after_a_break_does_not_wait() {
        let (pace, now) = after(64);
        assert_eq!(pace.gathering(1, now + Duration::from_secs(1)), None);
    }

    #[test]
    fn one_small_commit_does_not_end_a_crowd() {
        let (mut pace, now) = after(64);
        pace.note(30, now);
        assert_eq!(pace.gathering(59, now).map(|it| it.enough), Some(60));
    }

    #[test]
    fn a_crowd_that_has_gone_is_forgotten() {
        let (mut pace, now) = after(1_024);
        let forgotten = (1..).find(|_| {
            pace.note(4, now);
            pace.gathering(1, now).is_none()
        });
        assert!(forgotten.is_some_and(|commits| commits < 100), "{forgotten:?}");
    }
}

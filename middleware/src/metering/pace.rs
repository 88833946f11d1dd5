//! How much is drawn ahead at a time.

use std::time::Duration;

use farebox_channel::Msat;
use tokio::time::Instant;

/// A draw is meant to last for so long.
const DRAW_LASTS: Duration = Duration::from_millis(100);

/// Sees how fast something costs, so that it draws neither too often nor more than it is about to use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The least that is meant to be drawn at a time.
    least: Msat,
    /// What it had cost at two times. The later one is the last that is known, or a little older.
    earlier: Mark,
    later: Mark,
    /// Whether the last draw gave all that was asked for.
    was_full: bool,
}

/// What something had cost at a time.
#[derive(Clone, Copy, Debug)]
struct Mark {
    at: Instant,
    cost: Msat,
}

/// How much is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    /// The most that is taken.
    pub(crate) most: Msat,
    /// What would be taken, were there credit without an end. Where less than that is left, credit
    /// runs low.
    pub(crate) wished: Msat,
}

impl Pace {
    /// Begins with what costs nothing yet.
    pub(crate) const fn new(least: Msat, now: Instant) -> Self {
        let mark = Mark { at: now, cost: Msat::ZERO };
        Self { least, earlier: mark, later: mark, was_full: true }
    }

    /// Returns how much to ask for where so much is `missing` of what is to pass next, so much was the
    /// `cost` until now, and so much `credit` is left. Of what is left besides what is missing half is
    /// let be, for others of the channel.
    pub(crate) fn ask(&mut self, now: Instant, cost: Msat, missing: Msat, credit: Msat) -> Ask {
        if now.duration_since(self.later.at) >= DRAW_LASTS {
            (self.earlier, self.later) = (self.later, Mark { at: now, cost });
        }
        let ahead = if self.was_full { self.lately(now, cost).max(self.least) } else { self.least };
        let wished = missing.max(ahead);
        let beyond = wished.checked_sub(missing).unwrap_or_default();
        let left = credit.checked_sub(missing).unwrap_or_default();
        let half = Msat::new(left.get() / 2).unwrap_or_default();
        let most = missing.checked_add(beyond.min(half)).unwrap_or(Msat::MAX);
        Ask { most, wished }
    }

    /// Notes whether the last draw gave all that was asked for.
    pub(crate) const fn drew(&mut self, was_full: bool) {
        self.was_full = was_full;
    }

    /// Returns what the time that a draw is meant to last has cost lately, as far as is known.
    fn lately(&self, now: Instant, cost: Msat) -> Msat {
        let spent = cost.checked_sub(self.earlier.cost).unwrap_or_default();
        let took = now.duration_since(self.earlier.at).max(DRAW_LASTS);
        let lately = u128::from(spent.get()).saturating_mul(DRAW_LASTS.as_micros());
        let lately = lately.checked_div(took.as_micros()).unwrap_or_default();
        u64::try_from(lately).ok().and_then(|lately| Msat::new(lately).ok()).unwrap_or(Msat::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RICH: u64 = 1_000_000_000;

    fn msat(msat: u64) -> Msat {
        Msat::new(msat).unwrap()
    }

    /// A pace with a least draw of a thousand, and a clock.
    struct Course(Pace, Instant, u64);

    impl Course {
        fn begin() -> Self {
            let now = Instant::now();
            Self(Pace::new(msat(1_000), now), now, 0)
        }

        /// Costs so much more in so many milliseconds, and asks for what is missing then.
        fn ask(&mut self, (cost, millis): (u64, u64), missing: u64, credit: u64) -> Ask {
            let Self(pace, now, sum) = self;
            (*now, *sum) = (*now + Duration::from_millis(millis), *sum + cost);
            pace.ask(*now, msat(*sum), msat(missing), msat(credit))
        }
    }

    #[test]
    fn a_draw_is_what_a_tenth_of_a_second_has_cost_but_no_less_than_the_least() {
        let mut course = Course::begin();
        assert_eq!(course.ask((0, 0), 1, RICH).most, msat(1_000));
        // However many draws there are in it.
        for nth in 1..=10 {
            let most = course.ask((50_000, 10), 1, RICH).most;
            assert_eq!(most, msat(50_000 * nth));
        }
        for _ in 0..100 {
            let most = course.ask((50_000, 10), 1, RICH).most.get();
            assert!((450_000..=500_000).contains(&most), "{most}");
        }
    }

    #[test]
    fn slow_traffic_after_a_burst_draws_little_again() {
        let mut course = Course::begin();
        for _ in 0..50 {
            course.ask((1_000_000, 10), 1, RICH);
        }
        for _ in 0..2 {
            course.ask((1_500, 1_000), 500, RICH);
        }
        assert_eq!(course.ask((1_500, 1_000), 500, RICH).most, msat(1_000));
    }

    #[test]
    fn what_is_missing_is_asked_for_and_of_the_rest_no_more_than_half() {
        let mut course = Course::begin();
        for (missing, credit, most) in [
            (5_000, RICH, 5_000),
            (400, 1_000, 700),
            (400, 401, 400),
            (400, 100, 400),
            (400, 0, 400),
            (1, 1_201, 601),
        ] {
            assert_eq!(course.ask((0, 0), missing, credit).most, msat(most), "{missing} {credit}");
        }
    }

    #[test]
    fn after_a_draw_that_was_not_granted_in_full_the_least_is_drawn() {
        let mut course = Course::begin();
        assert_eq!(course.ask((70_000, 50), 1, RICH).most, msat(70_000));
        course.0.drew(false);
        assert_eq!(course.ask((70_000, 20), 1, RICH).most, msat(1_000));
        course.0.drew(true);
        assert_eq!(course.ask((0, 20), 1, RICH).most, msat(140_000));
    }

    #[test]
    fn what_is_wished_for_does_not_fall_with_the_credit() {
        let mut course = Course::begin();
        assert_eq!(course.ask((9_000, 50), 1, 3).wished, msat(9_000));
    }
}

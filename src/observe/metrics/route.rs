//! What is counted of one route: plain atomics, found once and then only added to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farebox_channel::Msat;
use farebox_middleware::ProblemKind;

use super::super::record::Figures;
use super::histogram::{Counted, Histogram};

/// The classes of statuses, in order.
pub(super) const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was served without a charge.
    Free,
    /// It was served and charged.
    Paid,
    /// It was served, and would have been charged.
    Shadow,
    /// The gateway has answered it with a problem.
    Refused,
    /// Its charge was taken back.
    Released,
}

impl Outcome {
    /// Every outcome, in the order of its number.
    pub(super) const ALL: [Self; 5] =
        [Self::Free, Self::Paid, Self::Shadow, Self::Refused, Self::Released];

    /// Tells what came of a request.
    pub(crate) fn of(figures: &Figures) -> Self {
        match figures {
            _ if figures.is_released => Self::Released,
            _ if figures.refusal.is_some() => Self::Refused,
            _ if figures.would_charge.is_some() => Self::Shadow,
            _ if figures.price.is_some_and(|price| price > Msat::ZERO) => Self::Paid,
            _ => Self::Free,
        }
    }

    /// Returns the value of its label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Paid => "paid",
            Self::Shadow => "shadow",
            Self::Refused => "refused",
            Self::Released => "released",
        }
    }

    /// Returns its place in [`Outcome::ALL`].
    const fn index(self) -> usize {
        match self {
            Self::Free => 0,
            Self::Paid => 1,
            Self::Shadow => 2,
            Self::Refused => 3,
            Self::Released => 4,
        }
    }
}

/// What one worker has counted of one route. The worker keeps it for as long as the route is there.
#[derive(Debug, Default)]
pub(crate) struct RouteMetrics {
    requests: [[AtomicU64; Outcome::ALL.len()]; CLASSES.len()],
    total: Histogram,
    first_byte: Histogram,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
    charges: AtomicU64,
    charged_msat: AtomicU64,
    releases: AtomicU64,
    shadow_msat: AtomicU64,
    unpaid: AtomicU64,
    left: AtomicU64,
}

impl RouteMetrics {
    /// Counts a request whose answer has ended.
    pub(super) fn record(&self, figures: &Figures) {
        let add = |counter: &AtomicU64, count: u64| {
            counter.fetch_add(count, Ordering::Relaxed);
        };
        let outcome = Outcome::of(figures);
        let class = usize::from(figures.status.as_u16() / 100).saturating_sub(1);
        let counter = self.requests.get(class).and_then(|class| class.get(outcome.index()));
        if let Some(counter) = counter {
            add(counter, 1);
        }
        self.total.add(figures.duration);
        if let Some(first_byte) = figures.first_byte {
            self.first_byte.add(first_byte);
        }
        if figures.bytes_in > 0 {
            add(&self.received_bytes, figures.bytes_in);
        }
        add(&self.sent_bytes, figures.bytes_out);
        match (outcome, figures.price, figures.would_charge) {
            (Outcome::Paid, Some(price), _) => {
                add(&self.charges, 1);
                add(&self.charged_msat, price.get());
            }
            (Outcome::Shadow, _, Some(price)) => add(&self.shadow_msat, price.get()),
            (Outcome::Released, ..) => add(&self.releases, 1),
            (Outcome::Free | Outcome::Paid | Outcome::Shadow | Outcome::Refused, ..) => {}
        }
        if figures.refusal == Some(ProblemKind::PaymentRequired) {
            add(&self.unpaid, 1);
        }
        if figures.has_client_left {
            add(&self.left, 1);
        }
    }
}

/// What all workers have counted of one route.
#[derive(Clone, Debug, Default)]
pub(super) struct RouteTotal {
    pub(super) requests: [[u64; Outcome::ALL.len()]; CLASSES.len()],
    pub(super) total: Counted,
    pub(super) first_byte: Counted,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) charges: u64,
    pub(super) charged_msat: u64,
    pub(super) releases: u64,
    pub(super) shadow_msat: u64,
    pub(super) unpaid: u64,
    pub(super) left: u64,
}

impl RouteTotal {
    /// Adds up what the workers have counted.
    pub(super) fn of<'r>(workers: impl Iterator<Item = &'r Arc<RouteMetrics>>) -> Self {
        let mut sum = Self::default();
        for worker in workers {
            let counters = worker.requests.iter().flatten();
            for (total, counter) in sum.requests.iter_mut().flatten().zip(counters) {
                *total = total.saturating_add(counter.load(Ordering::Relaxed));
            }
            worker.total.add_to(&mut sum.total);
            worker.first_byte.add_to(&mut sum.first_byte);
            for (total, counter) in [
                (&mut sum.received_bytes, &worker.received_bytes),
                (&mut sum.sent_bytes, &worker.sent_bytes),
                (&mut sum.charges, &worker.charges),
                (&mut sum.charged_msat, &worker.charged_msat),
                (&mut sum.releases, &worker.releases),
                (&mut sum.shadow_msat, &worker.shadow_msat),
                (&mut sum.unpaid, &worker.unpaid),
                (&mut sum.left, &worker.left),
            ] {
                *total = total.saturating_add(counter.load(Ordering::Relaxed));
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::record::sample;
    use super::*;

    #[test]
    fn a_released_charge_is_no_payment() {
        let paid = sample().figures;
        let released = Figures { is_released: true, ..paid };
        let metrics = Arc::new(RouteMetrics::default());
        metrics.record(&paid);
        metrics.record(&released);
        let total = RouteTotal::of([metrics].iter());
        assert_eq!((total.charges, total.charged_msat, total.releases), (1, 1_500, 1));
    }

    #[test]
    fn what_would_have_been_charged_is_counted_apart() {
        let shadow = Figures { price: None, would_charge: Msat::new(700).ok(), ..sample().figures };
        let metrics = Arc::new(RouteMetrics::default());
        metrics.record(&shadow);
        let total = RouteTotal::of([metrics].iter());
        assert_eq!((total.charges, total.charged_msat, total.shadow_msat), (0, 0, 700));
    }

    #[test]
    fn each_outcome_stands_at_its_own_place() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome.index(), index);
        }
    }
}

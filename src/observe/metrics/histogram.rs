//! Durations counted by how long they were, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::super::record::micros;

/// The upper bounds in microseconds: from half a millisecond to half a minute.
const BOUNDS_MICROS: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000,
];
/// The bounds, and one for what is longer than all of them.
const BUCKETS: usize = BOUNDS_MICROS.len() + 1;

/// Durations, counted in buckets.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Counts a duration.
    pub(super) fn add(&self, duration: Duration) {
        let micros = micros(duration);
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Adds what was counted to a sum.
    pub(super) fn add_to(&self, sum: &mut Counted) {
        for (total, count) in sum.counts.iter_mut().zip(&self.counts) {
            *total = total.saturating_add(count.load(Ordering::Relaxed));
        }
        sum.micros = sum.micros.saturating_add(self.sum_micros.load(Ordering::Relaxed));
    }
}

/// What several histograms have counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    counts: [u64; BUCKETS],
    micros: u64,
}

impl Counted {
    /// Returns the sum of the durations in seconds.
    pub(super) fn seconds(&self) -> f64 {
        Duration::from_micros(self.micros).as_secs_f64()
    }

    /// Returns how many durations were counted.
    pub(super) fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Returns the upper bounds in seconds, each with what lies below it and above the one before.
    pub(super) fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = BOUNDS_MICROS.iter().map(|bound| Duration::from_micros(*bound).as_secs_f64());
        bounds.chain([f64::INFINITY]).zip(self.counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::default();
        for micros in [500, 501, 30_000_000, 30_000_001] {
            histogram.add(Duration::from_micros(micros));
        }
        let mut counted = Counted::default();
        histogram.add_to(&mut counted);
        let filled: Vec<_> =
            counted.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.0005, 1), (0.001, 1), (30.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(counted.count(), 4);
        assert!((counted.seconds() - 60.001_002).abs() < 1e-9);
    }
}

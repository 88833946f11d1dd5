//! What is counted of the prices that are asked for one route.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::{Counted, Histogram};

/// What is counted of the questions for the prices of one route.
#[derive(Debug, Default)]
pub(crate) struct AskMetrics {
    questions: AtomicU64,
    failures: AtomicU64,
    seconds: Histogram,
}

impl AskMetrics {
    /// Counts a question that is sent.
    pub(crate) fn asked(&self) {
        self.questions.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a question that got no price.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts how long an answer took.
    pub(crate) fn took(&self, duration: Duration) {
        self.seconds.add(duration);
    }

    /// Returns how many questions were sent.
    pub(super) fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }

    /// Returns how many questions got no price.
    pub(super) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns how long answers took.
    pub(super) fn seconds(&self) -> Counted {
        let mut counted = Counted::default();
        self.seconds.add_to(&mut counted);
        counted
    }
}

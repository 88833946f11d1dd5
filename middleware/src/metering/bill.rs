//! What a running answer has cost, for whoever stands before the paywall.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use farebox_channel::Msat;

/// What a running answer has cost so far. It is among the extensions of the answer; clones tell the
/// same.
#[derive(Clone, Debug, Default)]
pub struct RunningBill(Arc<AtomicU64>);

impl RunningBill {
    /// Returns the cost, all in all.
    #[must_use]
    pub fn cost(&self) -> Msat {
        Msat::new(self.0.load(Ordering::Relaxed)).unwrap_or(Msat::MAX)
    }

    pub(crate) fn set(&self, cost: Msat) {
        self.0.store(cost.get(), Ordering::Relaxed);
    }
}

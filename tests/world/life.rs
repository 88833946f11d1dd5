//! What one run of the gateway's process shares: whether it still lives, and what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether a process lives. What a dead one still does reaches nobody.
#[derive(Clone, Debug)]
pub(crate) struct Life(Arc<AtomicBool>);

impl Life {
    /// Begins a life.
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Tells whether the process lives.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// The clock on everybody's wall, in Unix seconds.
#[derive(Clone, Debug)]
pub(crate) struct WallClock(Arc<AtomicU64>);

impl WallClock {
    /// Sets a clock.
    pub(crate) fn new(seconds: u64) -> Self {
        Self(Arc::new(AtomicU64::new(seconds)))
    }

    /// Returns the time.
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

/// Locks a value, also after a thread has panicked over it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

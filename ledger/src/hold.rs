//! The requests that are under way.

use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use bitcoin::OutPoint;

use crate::Table;

/// How many requests each channel has under way. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(Arc<Mutex<Table<OutPoint, usize>>>);

/// A request under way, for as long as this value lives.
#[derive(Debug)]
pub struct Hold {
    holds: Holds,
    outpoint: OutPoint,
    count: usize,
}

impl Hold {
    /// Returns how many requests of the channel were under way when this one began, itself too.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }
}

impl Holds {
    /// Notes that a request of a channel is under way, until the value is dropped.
    pub(crate) fn hold(&self, outpoint: OutPoint) -> Hold {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(outpoint).or_default();
        *count = count.saturating_add(1);
        let count = *count;
        drop(counts);
        Hold { holds: self.clone(), outpoint, count }
    }

    /// Tells whether no request is under way.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Tells whether a channel has requests under way.
    pub(crate) fn has(&self, outpoint: OutPoint) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&outpoint)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut counts = self.holds.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = counts.entry(self.outpoint) {
            *entry.get_mut() = entry.get().saturating_sub(1);
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

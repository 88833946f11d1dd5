//! The requests that are under way.

use std::array;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::OutPoint;
use bitcoin::hashes::Hash;

use crate::Table;

/// How many parts the counts have. Threads that serve different channels seldom meet in one.
const PARTS: usize = 64;

/// How many requests each channel has under way. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Holds(Arc<[Part; PARTS]>);

/// A part of the counts, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Part(Mutex<Table<OutPoint, usize>>);

impl Part {
    /// Nobody panics with the lock in hand, so a poisoned one is still good.
    fn lock(&self) -> MutexGuard<'_, Table<OutPoint, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
        let mut counts = self.part(outpoint).lock();
        let count = counts.entry(outpoint).or_default();
        *count = count.saturating_add(1);
        let count = *count;
        drop(counts);
        Hold { holds: self.clone(), outpoint, count }
    }

    /// Tells whether no request is under way, once no channel without any gets another one.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|part| part.lock().is_empty())
    }

    /// Tells whether a channel has requests under way.
    pub(crate) fn has(&self, outpoint: OutPoint) -> bool {
        self.part(outpoint).lock().contains_key(&outpoint)
    }

    /// Returns the part that counts a channel.
    fn part(&self, outpoint: OutPoint) -> &Part {
        let [first, ..] = outpoint.txid.to_byte_array();
        let [.., last] = outpoint.vout.to_be_bytes();
        let [zeroth, ..] = &*self.0;
        self.0.get(usize::from(first ^ last) % PARTS).unwrap_or(zeroth)
    }
}

impl Default for Holds {
    fn default() -> Self {
        Self(Arc::new(array::from_fn(|_| Part::default())))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut counts = self.holds.part(self.outpoint).lock();
        if let Entry::Occupied(mut entry) = counts.entry(self.outpoint) {
            *entry.get_mut() = entry.get().saturating_sub(1);
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

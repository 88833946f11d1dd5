//! How much may be under way at the same time: in all, and for each key.
//!
//! A place is held by a value and is free again when the value is dropped. A key has an entry only
//! while something of it is under way, so the table is never larger than what is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many parts of a table can be used at the same time, as a power of two.
const SHARDS: usize = 16;

/// All places are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// How much is under way in all.
#[derive(Clone, Debug)]
pub(crate) struct Total {
    most: NonZeroU32,
    count: Arc<AtomicU32>,
}

impl Total {
    /// Makes so many places.
    pub(crate) fn new(most: NonZeroU32) -> Self {
        Self { most, count: Arc::default() }
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`Full`] when there is none.
    pub(crate) fn enter(&self) -> Result<TotalSlot, Full> {
        let more = |count: u32| count.checked_add(1).filter(|count| *count <= self.most.get());
        match self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(TotalSlot(Arc::clone(&self.count))),
            Err(_) => Err(Full),
        }
    }

    /// Returns how many places are taken.
    #[cfg(test)]
    fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }
}

/// A place among all. Dropped, it is free again.
#[derive(Debug)]
#[must_use = "a place that is dropped is free again"]
pub(crate) struct TotalSlot(Arc<AtomicU32>);

impl Drop for TotalSlot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How much is under way for each key.
#[derive(Clone, Debug)]
pub(crate) struct InFlight<K>(Arc<Table<K>>);

/// The counts of all keys.
#[derive(Debug)]
struct Table<K> {
    most: NonZeroU32,
    hasher: RandomState,
    shards: [Mutex<Shard<K>>; SHARDS],
}

/// The counts of some keys.
type Shard<K> = HashMap<Hashed<K>, NonZeroU32, BuildHasherDefault<Known>>;

/// A key with its hash, which is worked out once for each place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hashed<K> {
    hash: u64,
    key: K,
}

impl<K: Eq> Hash for Hashed<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Takes a hash for what it is.
#[derive(Debug, Default)]
struct Known(u64);

impl Hasher for Known {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        // Only whole hashes come here.
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl<K: Hash + Eq + Clone> InFlight<K> {
    /// Makes so many places for each key.
    pub(crate) fn new(most: NonZeroU32) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self(Arc::new(Table { most, hasher: RandomState::new(), shards }))
    }

    /// Takes a place of a key.
    ///
    /// # Errors
    /// [`Full`] when it has none.
    pub(crate) fn enter(&self, key: K) -> Result<Slot<K>, Full> {
        let key = Hashed { hash: self.0.hasher.hash_one(&key), key };
        if let Some(mut shard) = self.0.shard(&key) {
            match shard.entry(key.clone()) {
                Entry::Occupied(mut entry) => {
                    let count = *entry.get();
                    if count >= self.0.most {
                        return Err(Full);
                    }
                    entry.insert(count.saturating_add(1));
                }
                Entry::Vacant(entry) => {
                    entry.insert(NonZeroU32::MIN);
                }
            }
        }
        Ok(Slot { key, table: Arc::clone(&self.0) })
    }

    /// Returns for how many keys something is under way.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| shard.lock().unwrap().len()).sum()
    }
}

impl<K: Hash + Eq> Table<K> {
    /// Returns the part of a key. There always is one.
    fn shard(&self, key: &Hashed<K>) -> Option<MutexGuard<'_, Shard<K>>> {
        // A map uses the lowest and the highest bits itself.
        let mask = u64::try_from(SHARDS.saturating_sub(1)).unwrap_or(0);
        let index = usize::try_from((key.hash >> 32) & mask).unwrap_or(0);
        let shard = self.shards.get(index)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives a place of a key back.
    fn leave(&self, key: &Hashed<K>) {
        let Some(mut shard) = self.shard(key) else { return };
        let Some(count) = shard.get_mut(key) else { return };
        match NonZeroU32::new(count.get().saturating_sub(1)) {
            Some(less) => *count = less,
            None => {
                shard.remove(key);
            }
        }
    }
}

/// A place of a key. Dropped, it is free again.
#[derive(Debug)]
#[must_use = "a place that is dropped is free again"]
pub(crate) struct Slot<K: Hash + Eq> {
    key: Hashed<K>,
    table: Arc<Table<K>>,
}

impl<K: Hash + Eq> Drop for Slot<K> {
    fn drop(&mut self) {
        self.table.leave(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(most: u32) -> NonZeroU32 {
        NonZeroU32::new(most).unwrap()
    }

    #[test]
    fn a_key_has_its_places_and_no_others() {
        let requests = InFlight::new(places(2));

        let first = requests.enter("a").unwrap();
        let _second = requests.enter("a").unwrap();
        assert!(requests.enter("a").is_err());
        let _other = requests.enter("b").unwrap();

        drop(first);
        let _third = requests.enter("a").unwrap();
        assert!(requests.enter("a").is_err());
    }

    #[test]
    fn a_key_without_requests_is_forgotten() {
        let requests = InFlight::new(places(3));
        for round in 0..3 {
            let held: Vec<_> = (0..1_000).map(|key| requests.enter(key).unwrap()).collect();
            let again: Vec<_> = (0..1_000).map(|key| requests.enter(key).unwrap()).collect();
            assert_eq!(requests.len(), 1_000, "round {round}");
            drop(held);
            assert_eq!(requests.len(), 1_000, "round {round}");
            drop(again);
            assert_eq!(requests.len(), 0, "round {round}");
        }
    }

    #[test]
    fn a_refused_request_takes_no_place() {
        let (requests, total) = (InFlight::new(places(1)), Total::new(places(1)));
        let held = (requests.enter(7).unwrap(), total.enter().unwrap());
        for _ in 0..10 {
            assert!(requests.enter(7).is_err());
            assert!(total.enter().is_err());
        }
        drop(held);

        assert!(requests.enter(7).is_ok());
        assert_eq!(total.count(), 0);
        assert!(total.enter().is_ok());
    }

    #[test]
    fn threads_never_hold_more_places_than_there_are() {
        let (requests, total) = (InFlight::new(places(3)), Total::new(places(2)));
        let most = AtomicU32::new(0);
        let work = || {
            for turn in 0..20_000_u32 {
                let Ok(place) = total.enter() else { continue };
                most.fetch_max(total.count(), Ordering::Relaxed);
                let _slot = requests.enter(turn % 2);
                drop(place);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(work);
            }
        });

        assert!(most.load(Ordering::Relaxed) <= 2);
        assert_eq!((total.count(), requests.len()), (0, 0));
    }
}

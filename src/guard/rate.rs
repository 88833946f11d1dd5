//! How often each client may do something: one bucket for each, in a table that never grows.
//!
//! A bucket holds `burst` requests and gets `per_sec` of them back each second (the generic cell
//! rate algorithm: all that is kept is when the bucket will be full again).
//!
//! The table has 65,536 places, in sets of eight; which set a client belongs to is secret. A
//! bucket that is full needs no place. When all eight hold buckets that are not, a newcomer takes
//! the place of the one that is the nearest to full. So a newcomer always gets a bucket, and a
//! bucket that is empty stays, unless somebody empties eight others of its set further: with many
//! addresses, and by as many requests for each as it would give back.

use std::hash::{BuildHasher, RandomState};
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::address::ClientKey;

/// How many parts of the table can be used at the same time.
const SHARDS: usize = 16;
/// How many sets each part has.
const SETS: usize = 512;
/// How many buckets each set has.
const WAYS: usize = 8;
/// How many clients are known at most.
#[cfg(test)]
const BUCKETS_MAX: usize = SHARDS * SETS * WAYS;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

/// How often something may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How often in each second, in the long run.
    pub per_sec: NonZeroU32,
    /// How often at once, after a rest.
    pub burst: NonZeroU32,
}

/// How long to wait until something may be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(u32);

impl Wait {
    /// The shortest wait.
    pub(crate) const SHORTEST: Self = Self(1);

    /// Returns the whole seconds, at least one, as `Retry-After` has them (RFC 9110 §10.2.3).
    pub(crate) const fn secs(self) -> u32 {
        self.0
    }

    /// Rounds a time up.
    fn of(nanos: u64) -> Self {
        let secs = u32::try_from(nanos.div_ceil(SECOND)).unwrap_or(u32::MAX);
        Self(secs.max(Self::SHORTEST.0))
    }
}

/// The buckets of all clients, for one thing that they do.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// How long a bucket takes to get one request back, in nanoseconds.
    interval: u64,
    /// How long a bucket takes from empty to full, in nanoseconds.
    whole: u64,
    start: Instant,
    hasher: RandomState,
    shards: Box<[Mutex<Box<[Set]>>]>,
}

/// A few buckets, of whatever clients fall together.
type Set = [Bucket; WAYS];

/// What is known of one client.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    key: ClientKey,
    /// When it will be full, in nanoseconds since the start. In the past, it is as good as none.
    full_at: u64,
}

/// A bucket that is full.
const FULL: Bucket = Bucket { key: ClientKey::V4(0), full_at: 0 };

impl Buckets {
    /// Makes the table. All buckets are full.
    pub(crate) fn new(rate: Rate, now: Instant) -> Self {
        let interval = (SECOND / NonZeroU64::from(rate.per_sec)).max(1);
        let whole = interval.saturating_mul(rate.burst.get().into());
        let shard = || Mutex::new(vec![[FULL; WAYS]; SETS].into_boxed_slice());
        let shards = std::iter::repeat_with(shard).take(SHARDS).collect();
        Self { interval, whole, start: now, hasher: RandomState::new(), shards }
    }

    /// Takes one request out of a client's bucket.
    ///
    /// # Errors
    /// [`Wait`] says when there will be one. Nothing is taken then.
    pub(crate) fn take(&self, key: ClientKey, now: Instant) -> Result<(), Wait> {
        self.with(key, now, |missing| match self.allows(missing) {
            Ok(()) => (missing.saturating_add(self.interval), Ok(())),
            Err(wait) => (missing, Err(wait)),
        })
    }

    /// Tells whether there is a request in a client's bucket, and takes nothing.
    ///
    /// # Errors
    /// [`Wait`] says when there will be one.
    pub(crate) fn check(&self, key: ClientKey, now: Instant) -> Result<(), Wait> {
        self.with(key, now, |missing| (missing, self.allows(missing)))
    }

    /// Counts a request after the fact, whether the bucket has it or not.
    ///
    /// A bucket owes no more than a whole one.
    pub(crate) fn debit(&self, key: ClientKey, now: Instant) {
        let most = self.whole.saturating_mul(2);
        self.with(key, now, |missing| (missing.saturating_add(self.interval).min(most), ()));
    }

    /// Tells whether a bucket that is full after `missing` nanoseconds has a request.
    fn allows(&self, missing: u64) -> Result<(), Wait> {
        let after = missing.saturating_add(self.interval);
        match after.checked_sub(self.whole) {
            Some(over) if over > 0 => Err(Wait::of(over)),
            _ => Ok(()),
        }
    }

    /// Changes a client's bucket. It is given, and returns, the time until it is full.
    fn with<R>(&self, key: ClientKey, now: Instant, act: impl FnOnce(u64) -> (u64, R)) -> R {
        let now = nanos(now.saturating_duration_since(self.start));
        let hash = self.hasher.hash_one(key);
        let shard = self.shards.get(part(hash, SHARDS));
        let mut shard = shard.map(|it| it.lock().unwrap_or_else(PoisonError::into_inner));
        let set = shard.as_mut().and_then(|shard| shard.get_mut(part(hash >> 32, SETS)));
        let Some(set) = set else { return act(0).1 };
        let known = set.iter().find(|bucket| bucket.key == key);
        let (is_known, before) =
            known.map_or((false, 0), |bucket| (true, bucket.full_at.saturating_sub(now)));
        let (after, outcome) = act(before);
        if after != before {
            let place = if is_known {
                set.iter_mut().find(|bucket| bucket.key == key)
            } else {
                set.iter_mut().min_by_key(|bucket| bucket.full_at)
            };
            if let Some(place) = place {
                *place = Bucket { key, full_at: now.saturating_add(after) };
            }
        }
        outcome
    }

    /// Counts the clients whose buckets are not full.
    #[cfg(test)]
    fn len(&self, now: Instant) -> usize {
        let now = nanos(now.saturating_duration_since(self.start));
        let count = |shard: &Mutex<Box<[Set]>>| {
            let shard = shard.lock().unwrap();
            shard.iter().flatten().filter(|bucket| bucket.full_at > now).count()
        };
        self.shards.iter().map(count).sum()
    }
}

/// Returns which of so many parts a hash falls into.
fn part(hash: u64, parts: usize) -> usize {
    let parts = u64::try_from(parts).ok().and_then(NonZeroU64::new);
    parts.map_or(0, |parts| usize::try_from(hash % parts).unwrap_or(0))
}

/// Returns a time in nanoseconds. There are 584 years of them.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_sec: u32, burst: u32) -> Rate {
        Rate { per_sec: per_sec.try_into().unwrap(), burst: burst.try_into().unwrap() }
    }

    fn client(number: u32) -> ClientKey {
        ClientKey::V4(number)
    }

    /// Takes as often as it goes, up to a limit.
    fn taken(buckets: &Buckets, key: ClientKey, now: Instant) -> usize {
        (0..1_000).take_while(|_| buckets.take(key, now).is_ok()).count()
    }

    #[test]
    fn a_burst_is_served_and_then_the_rate() {
        let start = Instant::now();
        let buckets = Buckets::new(rate(10, 100), start);

        assert_eq!(taken(&buckets, client(1), start), 100);
        assert_eq!(taken(&buckets, client(2), start), 100, "each has its own bucket");
        assert_eq!(taken(&buckets, client(1), start + Duration::from_millis(99)), 0);
        assert_eq!(taken(&buckets, client(1), start + Duration::from_millis(100)), 1);
        assert_eq!(taken(&buckets, client(1), start + Duration::from_millis(1_100)), 10);
        assert_eq!(taken(&buckets, client(1), start + Duration::from_secs(1_000)), 100);
    }

    #[test]
    fn a_refusal_takes_nothing_and_says_when_to_come_back() {
        let start = Instant::now();
        let buckets = Buckets::new(rate(1, 3), start);
        assert_eq!(taken(&buckets, client(1), start), 3);

        for _ in 0..10 {
            assert_eq!(buckets.take(client(1), start).unwrap_err().secs(), 1);
        }
        assert_eq!(buckets.take(client(1), start + Duration::from_secs(1)), Ok(()));
        let quick = Buckets::new(rate(1_000, 1), start);
        assert_eq!(taken(&quick, client(1), start), 1);
        assert_eq!(
            quick.take(client(1), start),
            Err(Wait::SHORTEST),
            "a wait is a second at least"
        );
    }

    #[test]
    fn what_is_counted_after_the_fact_is_owed_up_to_a_whole_bucket() {
        let start = Instant::now();
        let buckets = Buckets::new(rate(2, 10), start);
        assert_eq!(buckets.check(client(1), start), Ok(()));

        for _ in 0..10 {
            assert_eq!(buckets.check(client(1), start), Ok(()), "checking takes nothing");
            buckets.debit(client(1), start);
        }
        assert_eq!(buckets.check(client(1), start).unwrap_err().secs(), 1);
        for _ in 0..1_000 {
            buckets.debit(client(1), start);
        }

        // Ten that are owed and one to take, at two each second.
        assert_eq!(buckets.check(client(1), start).unwrap_err().secs(), 6);
        assert_eq!(buckets.check(client(1), start + Duration::from_secs(6)), Ok(()));
    }

    #[test]
    fn a_clock_that_goes_back_gives_nothing_back() {
        let start = Instant::now();
        let later = start + Duration::from_secs(5);
        let buckets = Buckets::new(rate(1, 2), later);
        assert_eq!(taken(&buckets, client(1), later), 2);

        assert!(buckets.take(client(1), start).is_err());
    }

    #[test]
    fn a_flood_of_addresses_keeps_the_table_small_resets_nobody_and_locks_nobody_out() {
        let start = Instant::now();
        let buckets = Buckets::new(rate(50, 500), start);
        let (greedy, calm) = (ClientKey::V6(1), ClientKey::V6(2));
        assert_eq!(taken(&buckets, greedy, start), 500);

        // A million addresses in half a second, and a client that asks every tenth of a second.
        let random = RandomState::new();
        for number in 0..1_000_000_u32 {
            let now = start + Duration::from_nanos(u64::from(number) * 500);
            let stranger = ClientKey::V6(random.hash_one(number));
            assert_eq!(buckets.take(stranger, now), Ok(()), "a newcomer is served");
            if number.is_multiple_of(200_000) {
                assert_eq!(buckets.take(calm, now), Ok(()), "a known client is served");
                assert!(buckets.len(now) <= BUCKETS_MAX);
            }
        }

        let end = start + Duration::from_millis(500);
        assert_eq!(taken(&buckets, greedy, end), 25, "what it has had back since, and no more");
        let places: usize = buckets.shards.iter().map(|it| it.lock().unwrap().len() * WAYS).sum();
        assert_eq!(places, BUCKETS_MAX);
    }

    #[test]
    fn two_threads_take_no_more_than_there_is() {
        let start = Instant::now();
        let buckets = Buckets::new(rate(1, 1_000), start);

        let count = || (0..900).filter(|_| buckets.take(client(1), start).is_ok()).count();
        let (first, second) = std::thread::scope(|scope| {
            let (first, second) = (scope.spawn(count), scope.spawn(count));
            (first.join().unwrap(), second.join().unwrap())
        });

        assert_eq!(first + second, 1_000);
    }
}

//! Names of requests, and random numbers for traces: one system call for the whole process.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bitcoin::hex::DisplayHex;

/// The step of the generator `SplitMix64`, an odd number, so that no value comes twice.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// How far the counters of two workers are apart: so many requests each can name.
const WORKER_SHIFT: u32 = 48;

/// The name of a request: 32 hexadecimal digits, and no two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestId([u8; 16]);

impl RequestId {
    /// Makes a name of its bytes.
    #[cfg(test)]
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Returns its bytes.
    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hex().fmt(f)
    }
}

/// Names requests. Each worker has its own, so that none waits for another.
#[derive(Debug)]
pub(crate) struct RequestIds {
    process: u64,
    offset: u64,
    named: AtomicU64,
    random: AtomicU64,
}

impl RequestIds {
    /// Makes the names of one worker.
    ///
    /// Names are unique among workers with different numbers. They tell neither the worker nor how
    /// many requests there were.
    pub(crate) fn new(worker: usize) -> Self {
        let start = Start::get();
        let worker = u64::try_from(worker).unwrap_or_default();
        Self {
            process: start.process,
            offset: start.offset,
            named: AtomicU64::new(worker << WORKER_SHIFT),
            random: AtomicU64::new(mixed(start.random ^ (worker << WORKER_SHIFT))),
        }
    }

    /// Names a request.
    pub(crate) fn next(&self) -> RequestId {
        let count = self.named.fetch_add(1, Ordering::Relaxed);
        // Each step can be undone, so that different counts give different names.
        let low = mixed(count.wrapping_add(self.offset).wrapping_mul(STEP));
        RequestId(((u128::from(self.process) << 64) | u128::from(low)).to_be_bytes())
    }

    /// Returns a number that looks random. It is not for secrets.
    pub(crate) fn random(&self) -> u64 {
        mixed(self.random.fetch_add(STEP, Ordering::Relaxed))
    }
}

/// What the operating system gave at the start.
#[derive(Clone, Copy)]
struct Start {
    process: u64,
    offset: u64,
    random: u64,
}

impl Start {
    /// Returns the numbers of this process.
    fn get() -> Self {
        static START: OnceLock<Start> = OnceLock::new();
        *START.get_or_init(|| {
            let number = || getrandom::u64().unwrap_or_else(|_| fallback());
            Self { process: number(), offset: number(), random: number() }
        })
    }
}

/// Returns a number where the system has no randomness: names need to differ, not to be secret.
fn fallback() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| u64::from(since.subsec_nanos()) ^ since.as_secs());
    mixed(nanos ^ (u64::from(std::process::id()) << 32))
}

/// Mixes the bits of a number, one to one (the finish of `SplitMix64`).
const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_requests_of_any_worker_have_one_name() {
        let workers: Vec<_> = (0..4).map(RequestIds::new).collect();
        let names: HashSet<_> =
            workers.iter().flat_map(|worker| (0..1_000).map(|_| worker.next())).collect();
        assert_eq!(names.len(), 4_000);
    }

    #[test]
    fn a_name_is_32_hexadecimal_digits() {
        let name = RequestIds::new(0).next().to_string();
        assert_eq!(name.len(), 32);
        assert!(name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
        assert_eq!(RequestId::from_bytes([1; 16]).to_string(), "01".repeat(16));
    }

    #[test]
    fn random_numbers_of_two_workers_differ() {
        let (one, other) = (RequestIds::new(0), RequestIds::new(1));
        let numbers: HashSet<_> = (0..1_000).flat_map(|_| [one.random(), other.random()]).collect();
        assert_eq!(numbers.len(), 2_000);
    }
}

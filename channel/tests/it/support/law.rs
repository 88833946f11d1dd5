//! Laws: what holds for every input, tried with many.

use std::hash::{BuildHasher, RandomState};

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Where a seed is taken from, to see a failure again.
const SEED: &str = "FAREBOX_TEST_SEED";

/// Checks that `holds` for `cases` random values, and says the seed when it does not.
pub(crate) fn law<S: Strategy>(cases: u32, values: S, holds: impl Fn(S::Value)) {
    let number = seed();
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new_with_rng(config, rng).run(&values, |value| {
        holds(value);
        Ok(())
    });
    assert!(outcome.is_ok(), "{SEED}={number}: {}", outcome.unwrap_err());
}

fn seed() -> u64 {
    match std::env::var_os(SEED) {
        Some(seed) => seed.to_str().unwrap().parse().unwrap(),
        None => RandomState::new().hash_one(SEED),
    }
}

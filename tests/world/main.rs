//! A world from one seed: many clients, the real gateway over a toy disk, and a toy chain.
//!
//! Letters are lost, doubled and overtake each other; blocks are mined and taken away; processes
//! are lost at every durable write; peers lie. After every step the laws of [`laws`] are checked.
//! Nothing but the seed decides what happens, so a seed that breaks a law breaks it again:
//! `FAREBOX_WORLD_SEED=123` plays one seed and prints its events, `FAREBOX_WORLD_SEEDS=5000` plays
//! that many, from `FAREBOX_WORLD_FIRST` on.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod books;
mod chain;
mod client;
mod coverage;
mod disk;
mod gateway;
mod laws;
mod lies;
mod life;
mod net;
mod rng;
mod scene;
#[path = "../../channel/tests/it/support/node.rs"]
mod script;
mod upstream;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use coverage::{Coverage, WANTED};
use life::lock;
use world::World;

/// The seeds that every run of the tests plays.
const SEEDS: u64 = 180;
/// The threads that play them.
const THREADS: usize = 2;

#[test]
fn no_law_is_broken_in_any_world() {
    if let Some(seed) = number("FAREBOX_WORLD_SEED") {
        let outcome = play(seed, true);
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        return;
    }
    let seeds = number("FAREBOX_WORLD_SEEDS");
    let first = number("FAREBOX_WORLD_FIRST").unwrap_or(0);
    let coverage = play_all(first, seeds.unwrap_or(SEEDS));
    if number("FAREBOX_WORLD_SHOW").is_some() {
        show(&coverage);
    }
    if seeds.is_none() {
        let missing = coverage.missing(WANTED);
        assert!(missing.is_empty(), "never happened in {SEEDS} worlds: {missing:#?}");
    }
}

#[test]
fn a_seed_plays_the_same_world_again() {
    let events = || {
        let mut world = World::new(7, false);
        let outcome = runtime().block_on(world.play());
        (outcome, world.events(), world.coverage().table())
    };
    assert_eq!(events(), events());
}

/// Plays seeds on some threads, and fails with the report of the first one that breaks a law.
fn play_all(first: u64, count: u64) -> Coverage {
    let next = AtomicU64::new(first);
    let outcome: Mutex<Result<Coverage, String>> = Mutex::new(Ok(Coverage::default()));
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::SeqCst);
                    if seed >= first + count || lock(&outcome).is_err() {
                        return;
                    }
                    let played = play(seed, false);
                    let mut outcome = lock(&outcome);
                    match (&mut *outcome, played) {
                        (Ok(all), Ok(coverage)) => all.add(&coverage),
                        (Ok(_), Err(report)) => *outcome = Err(report),
                        (Err(_), _) => {}
                    }
                }
            });
        }
    });
    let outcome = outcome.into_inner().unwrap();
    outcome.unwrap_or_else(|report| panic!("{report}"))
}

/// Plays one seed. A broken law is reported with what has led to it.
fn play(seed: u64, is_printed: bool) -> Result<Coverage, String> {
    let mut world = World::new(seed, is_printed);
    let played = catch_unwind(AssertUnwindSafe(|| runtime().block_on(world.play())));
    let law = match played {
        Ok(Ok(())) => return Ok(world.coverage().clone()),
        Ok(Err(law)) => law,
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
            format!("nobody panics: {}", words.unwrap_or_default())
        }
    };
    Err(format!(
        "seed {seed}, step {}: a law is broken\n\n  {law}\n\nwhat has happened:\n{}\nreplay:  \
         FAREBOX_WORLD_SEED={seed} cargo test --test world no_law -- --nocapture",
        world.step_number(),
        world.events(),
    ))
}

/// Makes a runtime that polls one thing at a time.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Prints how often what has happened.
#[expect(clippy::print_stderr, reason = "it was asked for")]
fn show(coverage: &Coverage) {
    eprintln!("{}", coverage.table());
}

/// Reads a number that a run may be given.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap())
}

//! Replays what is kept of the fuzzers' inputs.

#![expect(clippy::unwrap_used, reason = "a helper of a test is for clippy no test")]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Replays all inputs of a target, and names those that fail.
fn replay(target: fn(&[u8]), name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap();
    let inputs: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    let fails = |input: &&PathBuf| {
        let bytes = fs::read(input).unwrap();
        catch_unwind(|| target(&bytes)).is_err()
    };
    let failed: Vec<_> = inputs.iter().filter(fails).collect();
    assert!(failed.is_empty(), "these fail: {failed:#?}");
}

#[test]
fn kept_header_fields_are_read_as_they_are_written() {
    replay(farebox_fuzz::header, "header");
}

#[test]
fn kept_contract_transactions_lock_what_they_are_taken_for() {
    replay(farebox_fuzz::contract, "contract");
}

#[test]
fn kept_configurations_keep_their_bounds() {
    replay(farebox_fuzz::config, "config");
}

#[test]
fn kept_runs_of_a_channel_break_no_law() {
    replay(farebox_fuzz::channel, "channel");
}

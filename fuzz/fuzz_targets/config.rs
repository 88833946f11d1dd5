//! Lets libFuzzer choose the bytes of [`farebox_fuzz::config`]: configuration files.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| farebox_fuzz::config(data));

/// Does nothing: without `cargo fuzz` there is no libFuzzer, and `make test` replays the corpus.
#[cfg(not(fuzzing))]
fn main() {}

//! What must hold for any bytes: of a header field, of a contract's transaction, of the
//! configuration file, and of what happens to a channel.
//!
//! Each function takes bytes and panics when something does not hold. libFuzzer calls them through
//! `fuzz_targets` with bytes that it makes up (`make fuzz TARGET=header`), and `tests/corpus.rs`
//! with those that are kept in `corpus`. Nothing here is part of the program.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "to panic is how a target tells that something does not hold"
)]

mod bytes;
mod channel;
mod config;
mod contract;
mod header;
mod parties;
mod plan;
mod purse;

pub use channel::channel;
pub use config::config;
pub use contract::contract;
pub use header::header;

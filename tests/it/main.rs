//! The program over real sockets, on a real bitcoind and a real SQLite file.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod admin;
mod chain;
mod config;
mod crash;
mod durability;
mod named_request;
mod node;
mod node_away;
mod paid_request;
mod program;
mod proxy;
mod refusals;
mod restored;
mod resync;
mod settling;
mod settling_crash;
mod support;
mod threats;
mod written;

//! The program over real sockets, on a real bitcoind and a real SQLite file.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod admin;
mod behind;
mod budgets;
mod chain;
mod config;
mod crash;
mod durability;
mod front;
mod history;
mod metered;
mod named_request;
mod node;
mod node_away;
mod outside_payer;
mod outside_wallet;
mod own_wallet;
mod paid_request;
mod pay_command;
mod payer_crash;
mod paying;
mod program;
mod proxy;
mod refunding;
mod refusals;
mod restored;
mod resync;
mod settling;
mod settling_crash;
mod soak;
mod support;
mod threats;
mod written;
mod wrong_config;

//! Both sides of a channel through the crate's public face: scripts, transactions, states, fields.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy takes a helper of a test for no test; what fails here fails a test"
)]

mod batch;
mod client;
mod event;
mod gateway;
mod laws;
mod money;
mod onchain;
mod opening;
mod payment;
mod plan;
mod plan_fees;
mod plan_laws;
mod proof;
mod purse;
mod recognise;
mod recovery;
mod refund;
mod restored;
mod running;
mod script;
mod settlement;
mod shown;
mod stake;
mod support;
mod threats;
mod trusted;
mod vectors;
mod wire;

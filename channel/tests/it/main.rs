//! Both sides of a channel through the crate's public face: scripts, transactions, states, fields.

mod client;
mod gateway;
mod laws;
mod onchain;
mod opening;
mod payment;
mod proof;
mod refund;
mod script;
mod settlement;
mod support;
mod wire;

//! The paywall before a service, without sockets: a real ledger on disk, and a node that is quiet.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]

mod breaking;
mod closed;
mod events;
mod grpc;
mod limits;
mod memo;
mod metered;
mod named;
mod price;
mod prices;
mod privacy;
mod stopped;
mod support;

//! The ledger over real `SQLite` files: what is answered is on disk, in order, and nothing else.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "clippy takes a helper of a test for no test; what fails here fails a test"
)]

mod batch;
mod closing;
mod crash;
mod draw;
mod events;
mod failure;
mod file;
mod index;
mod log;
mod named;
mod record;
mod replay;
mod restore;
mod settle;
mod support;

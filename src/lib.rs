//! Farebox: an HTTP micropayment gateway.
//!
//! This crate is the program: the reverse proxy, the watcher of the chain, and the command line.
//! What a channel is stands in `farebox-channel`, how it is kept in `farebox-ledger`, how a
//! request is charged in `farebox-middleware`, and how it is paid in `farebox-client`.
//!
//! An embedder who wants the paywall without the proxy starts at [`watcher::Watcher`] and
//! `farebox_middleware::PaywallLayer`; `examples/paywall.rs` shows it.

pub mod admin;
pub mod app;
mod asking;
pub mod cli;
pub mod config;
mod cors;
pub mod demo;
mod guard;
pub mod keyfile;
mod observe;
pub mod regtest;
pub mod reload;
pub mod routes;
mod server;
pub mod tls;
mod tunnel;
pub mod upstream;
pub mod watcher;

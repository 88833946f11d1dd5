//! The rows of `docs/threats.md` that need the whole program: a stranger's, the chain's and the
//! client's.

mod chain;
mod clients;
mod configuration;
mod refunds;
mod strangers;

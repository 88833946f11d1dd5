//! The rows of `docs/threats.md` that need the whole program: a stranger's, the chain's and the
//! client's.

mod answers;
mod chain;
mod clients;
mod configuration;
mod liar;
mod lying;
mod programs;
mod refunds;
mod refused;
mod scene;
mod strangers;

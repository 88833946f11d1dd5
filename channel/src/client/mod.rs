//! The client's side of a channel: what it checks, and what it must hold before its next step.
//!
//! [`Draft`] → [`Funded`] → [`Held`] → [`Purse`]: each is made from the one before it, and only
//! once the gateway's answer has been checked. Save each before sending what it asks for.

mod opening;
mod purse;
mod recovery;
mod running;

pub use opening::{Draft, Funded, FundingMismatch, Held, Limits, TermsRefused};
pub use purse::{CannotPay, Distrust, Purse};
pub use recovery::Recovered;
pub use running::{Ahead, NoMore};

//! Answers that are charged by what passes.
//!
//! An answer draws on the credit of its channel before it delivers, in one durable write each time,
//! and at its end takes back what it has not used. Without credit it pauses, reads nothing from the
//! service, and goes on once the client has paid on any other request of the channel.

mod account;
mod bill;
mod body;
mod clock;
mod counter;
mod notice;
mod pace;
mod purse;
mod rates;
mod reported;
mod tab;

use std::sync::Arc;

use farebox_channel::Msat;
use http::HeaderMap;

pub(crate) use account::{Account, Forgiveness};
pub use bill::RunningBill;
pub(crate) use body::{Metered, Stop};
use counter::Counter;
pub(crate) use purse::Running;
pub use rates::{Rate, Rates};
use reported::Reading;
pub(crate) use reported::Reported;
pub use reported::Usage;
pub(crate) use tab::Tab;

/// What is left to be known of an answer's cost, once its head has come.
pub(crate) enum Metering {
    /// Nothing: it costs the price.
    Flat,
    /// Nothing: its head says what it has used, if that was reported.
    Known(Option<Msat>),
    /// What its service reports until its end.
    Reported(Reading),
    /// What passes.
    Running(Arc<Rates>, Counter),
}

impl Metering {
    /// Begins to read what a service reports.
    pub(crate) fn reported(usage: Arc<Usage>, head: &HeaderMap) -> Self {
        let reading = Reading::new(usage, head);
        if reading.is_over() { Self::Known(reading.cost()) } else { Self::Reported(reading) }
    }

    /// Begins to count what passes. An answer in which there is nothing to count costs the price.
    pub(crate) fn running(rates: Arc<Rates>, head: &HeaderMap) -> Self {
        let counter = Counter::new(head);
        if rates.apply_to(&counter) { Self::Running(rates, counter) } else { Self::Flat }
    }
}

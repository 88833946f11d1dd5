//! Requests that are charged by what passes, both ways.
//!
//! A request draws on the credit of its channel before anything is delivered, in one durable write
//! each time, and at its end takes back what it has not used. Without credit it pauses, reads nothing
//! from either side, and goes on once the client has paid on any other request of the channel.

mod account;
mod bill;
mod body;
mod clock;
mod counter;
mod kept;
mod meter;
mod meters;
mod notice;
mod pace;
mod passage;
mod purse;
mod rates;
mod reported;
mod tab;
mod trial;
mod upload;

use std::sync::Arc;

use farebox_channel::Msat;
use http::HeaderMap;

pub(crate) use account::{Account, Forgiveness, behind};
pub use bill::RunningBill;
pub(crate) use body::{Metered, Stop};
pub(crate) use counter::Counter;
pub(crate) use kept::Kept;
pub(crate) use meter::{End, Meter};
pub(crate) use meters::Meters;
pub use passage::{Load, Passage};
pub(crate) use purse::Running;
pub use rates::{Rate, Rates};
use reported::Reading;
pub(crate) use reported::Reported;
pub use reported::Usage;
pub use tab::Party;
pub(crate) use trial::{failed, on_trial, tried, uploaded};
pub use upload::{PaidUpload, UploadError};

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
    /// What passes once it has left HTTP, if somebody counts that.
    Left(Arc<Rates>),
}

impl Metering {
    /// Begins to read what a service reports.
    pub(crate) fn reported(usage: Arc<Usage>, head: &HeaderMap) -> Self {
        let reading = Reading::new(usage, head);
        if reading.is_over() { Self::Known(reading.cost()) } else { Self::Reported(reading) }
    }

    /// Begins to count what passes. A request of which nothing is counted either way costs the price.
    pub(crate) fn running(rates: Arc<Rates>, head: &HeaderMap) -> Self {
        let counter = Counter::new(head);
        if rates.apply_to(&counter) { Self::Running(rates, counter) } else { Self::Flat }
    }
}

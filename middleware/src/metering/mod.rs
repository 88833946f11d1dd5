//! Answers that are charged by what passes.
//!
//! An answer draws on the credit of its channel before it delivers, in one durable write each time,
//! and at its end takes back what it has not used. Without credit it pauses, reads nothing from the
//! service, and goes on once the client has paid on any other request of the channel.

mod bill;
mod body;
mod clock;
mod counter;
mod notice;
mod purse;
mod rates;
mod reported;
mod tab;

pub use bill::RunningBill;
pub(crate) use body::{Metered, Stop};
pub(crate) use counter::Counter;
pub(crate) use purse::Running;
pub use rates::{Rate, Rates};
pub use reported::Usage;
pub(crate) use reported::{Reading, Reported};
pub(crate) use tab::{Forgiveness, Tab};

//! What a request is charged, before and after.

use farebox_channel::gateway::RequestName;
use farebox_channel::message::{Memo, Receipt};
use farebox_channel::{Msat, VerifiedPayment};

use crate::AttemptId;

/// What a client pays, and what it is charged for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The payment, verified.
    pub payment: VerifiedPayment,
    /// The price to charge.
    pub price: Msat,
    /// The most that the client agrees to, if it has said so.
    pub price_max: Option<Msat>,
    /// The request's name, if it has one.
    pub name: Option<RequestName>,
    /// What the client has sent along.
    pub memo: Option<Memo>,
}

/// A charge on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paid {
    /// The receipt of the charge, the first one where a request was named before.
    pub receipt: Receipt,
    /// The request's name, if it has one.
    pub id: Option<AttemptId>,
}

impl Paid {
    /// Tells whether nothing is left to be saved once its answer begins, which leaves so much unused.
    #[must_use]
    pub fn is_final(&self, unused: Msat) -> bool {
        self.id.is_none() && unused == Msat::ZERO
    }
}

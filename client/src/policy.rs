//! What a client agrees to without being asked.

use std::time::Duration;

use bitcoin::FeeRate;
use farebox_channel::message::Offer;
use farebox_channel::{Kind, Msat, Sat, Seconds};

use crate::error::PayError;

/// How a client opens channels, and what it pays at most.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The kind of contract.
    pub kind: Kind,
    /// The amount to lock; nothing takes the least that is offered.
    pub capacity: Option<Sat>,
    /// The time until the expiry; nothing takes the shortest that is offered.
    pub lifetime: Option<Seconds>,
    /// The greatest amount to lock.
    pub capacity_max: Sat,
    /// The longest time to lock it.
    pub lifetime_max: Seconds,
    /// The greatest first payment to agree to.
    pub first_payment_max: Sat,
    /// The most to pay for one request.
    pub price_max: Msat,
    /// How much to pay ahead at first for an answer that is charged while it passes. It grows with
    /// what the answer costs.
    pub ahead: Msat,
    /// The most that one such answer may cost. Several at a time may cost so much each, together. An
    /// answer that has drawn more, on credit that was there before it, is left as soon as that is
    /// seen.
    pub answer_max: Msat,
    /// The fee rate of the contract, where the node has no estimate.
    pub fee_rate_fallback: FeeRate,
    /// How long to wait for the contract's confirmations.
    pub patience: Duration,
    /// How long a server may take to begin its answer, where nothing is charged for the request's body.
    pub answer_patience: Duration,
}

impl Policy {
    /// Makes a policy with cautious limits: 1,000,000 sat for 30 days, 20,000 sat at first, 1,000 sat
    /// for one request, and 5,000 sat for an answer that is charged while it passes, 100 sat ahead.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            capacity: None,
            lifetime: None,
            capacity_max: Sat::saturating(1_000_000),
            lifetime_max: Seconds::new(30 * 24 * 60 * 60),
            first_payment_max: Sat::saturating(20_000),
            price_max: Sat::saturating(1_000).to_msat(),
            ahead: Sat::saturating(100).to_msat(),
            answer_max: Sat::saturating(5_000).to_msat(),
            fee_rate_fallback: FeeRate::from_sat_per_vb_u32(2),
            patience: Duration::from_secs(2 * 60 * 60),
            answer_patience: Duration::from_secs(10 * 60),
        }
    }

    /// Checks what an offer asks for.
    pub(crate) fn check(&self, offer: &Offer) -> Result<(), PayError> {
        let price = offer.price.max(offer.rates.map(|rates| rates.dearest()).unwrap_or_default());
        if price > self.price_max {
            return Err(PayError::TooExpensive { price, most: self.price_max });
        }
        if offer.rates.is_some() && price > self.answer_max {
            return Err(PayError::TooExpensive { price, most: self.answer_max });
        }
        Ok(())
    }

    /// Returns what answers may cost that are charged while they pass.
    pub(crate) const fn allowance(&self) -> Allowance {
        Allowance { ahead: self.ahead, answer_max: self.answer_max }
    }
}

/// What answers may cost that are charged while they pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// How much is paid ahead at first.
    pub(crate) ahead: Msat,
    /// The most that one of them may cost.
    pub(crate) answer_max: Msat,
}

impl Allowance {
    /// Returns what so many answers may cost together.
    pub(crate) fn pool_max(self, answers: u32) -> Msat {
        let most = self.answer_max.get().saturating_mul(answers.into());
        Msat::new(most).unwrap_or(Msat::MAX)
    }
}

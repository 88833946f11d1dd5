//! What a client agrees to without being asked.

use std::time::Duration;

use bitcoin::FeeRate;
use farebox_channel::{Kind, Msat, Sat, Seconds};

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
    /// The fee rate of the contract, where the node has no estimate.
    pub fee_rate_fallback: FeeRate,
    /// How long to wait for the contract's confirmations.
    pub patience: Duration,
}

impl Policy {
    /// Makes a policy with cautious limits: 1,000,000 sat for 30 days, 20,000 sat at first, and
    /// 1,000 sat for one request.
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
            fee_rate_fallback: FeeRate::from_sat_per_vb_u32(2),
            patience: Duration::from_secs(2 * 60 * 60),
        }
    }
}

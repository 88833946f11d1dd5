//! The gateway's rules: what it offers, and when it stops taking payments.

use std::ops::RangeInclusive;

use super::Refusal;
use crate::contract::Kind;
use crate::message::Offer;
use crate::units::{Clock, Expiry, Msat, Sat, Seconds, Timestamp};

/// What a gateway offers and how long before an expiry it acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The kinds of contract that are taken.
    pub kinds: Vec<Kind>,
    /// The least and the greatest capacity.
    pub capacity: RangeInclusive<Sat>,
    /// The shortest and the longest lifetime.
    pub lifetime: RangeInclusive<Seconds>,
    /// The first payment.
    pub first_payment: Sat,
    /// The cheapest price: less credit than this buys nothing.
    pub cheapest: Msat,
    /// The confirmations that a contract needs before it is served.
    pub confirmations: u32,
    /// How long before the expiry payments stop.
    pub stop: Seconds,
    /// How long before the expiry the settlement goes out.
    pub settle: Seconds,
    /// The height of the tip when the record was last restored from a backup, if it ever was.
    pub restored: Option<u32>,
}

impl Rules {
    /// Returns the offer for a request that costs `price`.
    #[must_use]
    pub fn offer(&self, price: Msat, network: bitcoin::Network) -> Offer {
        Offer {
            price,
            network,
            kinds: self.kinds.clone(),
            capacity: self.capacity.clone(),
            lifetime: self.lifetime.clone(),
            first_payment: self.first_payment,
            confirmations: self.confirmations,
        }
    }

    /// Checks that contracts of `kind` are offered.
    pub(super) fn check_kind(&self, kind: Kind) -> Result<(), Refusal> {
        if self.kinds.contains(&kind) { Ok(()) } else { Err(Refusal::KindNotOffered(kind)) }
    }

    /// Checks that `capacity` is within the offer.
    pub(super) fn check_capacity(&self, capacity: Sat) -> Result<(), Refusal> {
        if self.capacity.contains(&capacity) {
            return Ok(());
        }
        let (least, most) = (*self.capacity.start(), *self.capacity.end());
        Err(Refusal::CapacityOutOfBounds { capacity, least, most })
    }

    /// Returns the expiry of a channel that lives for `lifetime` from now on.
    pub(super) fn expiry(&self, lifetime: Seconds, clock: Clock) -> Result<Expiry, Refusal> {
        let (least, most) = (*self.lifetime.start(), *self.lifetime.end());
        let left_secs = u64::from(lifetime.get());
        let refusal = Refusal::ExpiryOutOfBounds { left_secs, least, most };
        if !self.lifetime.contains(&lifetime) {
            return Err(refusal);
        }
        Expiry::new(clock.now().after(lifetime).get()).map_err(|_| refusal)
    }

    /// Checks that `expiry` is still within the offer once the client has come so far.
    ///
    /// Funding takes its time, so only half of the shortest lifetime must be left. After a restore
    /// a client may show a contract that was served for long, so only payments must go on.
    pub(super) fn check_expiry(&self, expiry: Expiry, clock: Clock) -> Result<(), Refusal> {
        let half = Seconds::new(self.lifetime.start().get().div_euclid(2));
        let least = if self.restored.is_some() { half.min(self.stop) } else { half };
        self.check_left(expiry, clock, least)
    }

    /// Checks that `expiry` is no later than the longest lifetime.
    pub(super) fn check_latest(&self, expiry: Expiry, clock: Clock) -> Result<(), Refusal> {
        self.check_left(expiry, clock, Seconds::new(0))
    }

    fn check_left(&self, expiry: Expiry, clock: Clock, least: Seconds) -> Result<(), Refusal> {
        let most = *self.lifetime.end();
        let left_secs = expiry.timestamp().get().saturating_sub(clock.now().get());
        if (u64::from(least.get())..=u64::from(most.get())).contains(&left_secs) {
            return Ok(());
        }
        Err(Refusal::ExpiryOutOfBounds { left_secs, least, most })
    }

    /// Tells whether payments on a channel have stopped.
    pub(super) fn is_stopped(&self, expiry: Expiry, now: Timestamp) -> bool {
        now >= expiry.before(self.stop)
    }

    /// Tells whether a channel must be settled, whatever its client does.
    pub(super) fn is_overdue(&self, expiry: Expiry, now: Timestamp) -> bool {
        now >= expiry.before(self.settle)
    }
}

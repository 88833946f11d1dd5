//! The gateway's rules: what it offers, and when it stops taking payments.

use std::ops::RangeInclusive;

use super::Refusal;
use crate::contract::Kind;
use crate::message::Offer;
use crate::payout::DUST_MAX;
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
    /// The cheapest price: less credit than this buys nothing. Where nothing is charged it is zero,
    /// and no channel is exhausted.
    pub cheapest: Msat,
    /// The confirmations that a contract needs before it is served.
    pub confirmations: u32,
    /// How long before the expiry payments stop.
    pub stop: Seconds,
    /// How long before the expiry the settlement goes out.
    pub settle: Seconds,
    /// When a channel is settled besides, and how.
    pub settling: Settling,
    /// What is served before a contract is confirmed, if anything is.
    pub unconfirmed: Option<Unconfirmed>,
    /// The height of the tip when the record was last restored from a backup, if it ever was.
    pub restored: Option<u32>,
}

/// When channels are settled, and with how many others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settling {
    /// How long before the expiry a settlement that is not mined is bumped toward what is at stake.
    pub emergency: Seconds,
    /// The greatest part of what is at stake that a fee takes, in percent. It is reached at the
    /// expiry.
    pub stake_percent: u8,
    /// How long a closing channel waits for others to be settled with.
    pub wait: Seconds,
    /// How many closing channels do not wait any longer.
    pub most: usize,
    /// How long a channel may lie unused before it is closed; nothing means until its mark.
    pub idle: Option<Seconds>,
}

impl Default for Settling {
    fn default() -> Self {
        Self {
            emergency: Seconds::new(4 * 60 * 60),
            stake_percent: 50,
            wait: Seconds::new(10 * 60),
            most: 50,
            idle: None,
        }
    }
}

/// What is served on contracts that are in the mempool only. Each of them may still be spent
/// otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unconfirmed {
    /// The most that one channel is charged until its contract is confirmed.
    pub each: Sat,
    /// The most that all of them are charged together.
    pub total: Sat,
}

impl Unconfirmed {
    /// Returns how many channels may be served so, or have been and are in no block since.
    #[must_use]
    pub const fn places(&self) -> u64 {
        match self.total.get().checked_div(self.each.get()) {
            Some(places) => places,
            None => 0,
        }
    }
}

impl Rules {
    /// Returns the offer for a request that costs `price`. It does not say for how long.
    #[must_use]
    pub fn offer(&self, price: Msat, network: bitcoin::Network) -> Offer {
        Offer {
            price,
            price_holds: None,
            rates: None,
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

    /// Returns when the gateway closes a channel by itself: early enough before the settlement goes
    /// out to be settled together with others.
    #[must_use]
    pub fn closes_at(&self, expiry: Expiry) -> Timestamp {
        let wait = self.settling.wait.get().saturating_mul(2);
        expiry.before(Seconds::new(self.settle.get().saturating_add(wait)))
    }

    /// Tells whether a channel's settlement must be out, whatever that costs.
    pub(super) fn is_overdue(&self, expiry: Expiry, now: Timestamp) -> bool {
        now >= expiry.before(self.settle)
    }

    /// Returns how much of a stake a fee may take now: nothing before the emergency mark, and
    /// evenly more from there to the expiry. What is left is worth an output.
    pub(super) fn stake_at(&self, stake: Sat, expiry: Expiry, now: Timestamp) -> Sat {
        let span = u64::from(self.settling.emergency.get()).max(1);
        let mark = expiry.before(self.settling.emergency).get();
        let gone = now.get().saturating_sub(mark).min(span);
        let most = u128::from(stake.get()).saturating_mul(self.settling.stake_percent.into());
        let part =
            most.saturating_mul(gone.into()).checked_div(u128::from(span).saturating_mul(100));
        let part = part.and_then(|part| u64::try_from(part).ok()).unwrap_or(0);
        Sat::saturating(part.min(stake.get().saturating_sub(DUST_MAX.get())))
    }
}

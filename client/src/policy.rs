//! What a client agrees to without being asked.

use std::time::Duration;

use bitcoin::{FeeRate, Network};
use farebox_channel::client::Limits;
use farebox_channel::message::Offer;
use farebox_channel::{Kind, Msat, Sat, Seconds};

use crate::again::Tries;
use crate::budget::Budgets;
use crate::error::Limit;

/// How a client opens channels, and what it pays at most.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The kind of contract of a new channel. One that is there pays, whatever its kind.
    pub kind: Kind,
    /// The amount to lock; nothing takes the least that is offered and pays the first request.
    pub capacity: Option<Sat>,
    /// The time until the expiry; nothing takes the shortest that is offered.
    pub lifetime: Option<Seconds>,
    /// The greatest amount to lock.
    pub capacity_max: Sat,
    /// The longest time to lock it.
    pub lifetime_max: Seconds,
    /// How many channels may be opened with one server on one day (UTC): each costs a first payment and
    /// the fee of its contract, whatever the server says of the one before.
    pub openings_max: u32,
    /// The greatest first payment to agree to.
    pub first_payment_max: Sat,
    /// The most to pay for one request.
    pub price_max: Msat,
    /// The most to pay to one server: one scheme, host and port. What counts, here and below, is what
    /// is signed for, over all runs that use the same file.
    pub host_max: Option<Msat>,
    /// The most to pay on one day (UTC).
    pub day_max: Option<Msat>,
    /// The most to pay in all.
    pub total_max: Option<Msat>,
    /// How much to pay ahead at first for an answer that is charged while it passes. It grows with
    /// what the answer costs.
    pub ahead: Msat,
    /// The most that one such answer may cost. Several at a time may cost so much each, together. An
    /// answer that has drawn more, on credit that was there before it, is left as soon as that is
    /// seen.
    pub answer_max: Msat,
    /// How much more to sign, where a request at a price needs a new signature: the following ones
    /// repeat that payment, which is less work on both sides. It is at risk: a gateway keeps it when it
    /// closes by itself. Nothing by default.
    pub credit: Msat,
    /// How often a request with an `Idempotency-Key` is sent again, where it is not known what has
    /// come of it. The gateway charges it once. 5 times by default, which takes 6 s and the time of the
    /// answers; a request without such a name is never sent again. The gateway knows a name on one
    /// channel, so none is sent again on another one.
    pub retries: u32,
    /// Whether requests that have no `Idempotency-Key` are given one, of random, unless their body is
    /// a stream. The gateway keeps each for a day. Not by default.
    pub names_requests: bool,
    /// How long before its expiry a channel is replaced by another one, while it still pays: 14 hours
    /// by default, and a third of its lifetime at most. Gateways stop 12 hours before the expiry unless
    /// they are set up otherwise. 0 replaces a channel once the gateway serves it no more.
    pub renew_before: Seconds,
    /// Replaces a channel by another one once less than this is left of it, so that no request waits
    /// for confirmations. With nothing, which is the default, another one is opened when it is needed.
    pub renew_below: Msat,
    /// The fee rate of the contract, where the node has no estimate.
    pub fee_rate_fallback: FeeRate,
    /// How long to wait until somebody who was asked to pay the contract has done so, and for its
    /// confirmations.
    pub patience: Duration,
    /// How long a server may take to begin its answer, where nothing is charged for the request's body
    /// and that is no stream.
    pub answer_patience: Duration,
}

impl Policy {
    /// Makes a policy with cautious limits: 10 channels a day with one server, 1,000,000 sat for 30 days, 20,000 sat at first, 1,000 sat
    /// for one request, and 5,000 sat for an answer that is charged while it passes, 100 sat ahead. What
    /// all of that may come to, for one server, on one day and in all, it does not limit.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            capacity: None,
            lifetime: None,
            capacity_max: Sat::saturating(1_000_000),
            lifetime_max: Seconds::new(30 * 24 * 60 * 60),
            openings_max: 10,
            first_payment_max: Sat::saturating(20_000),
            price_max: Sat::saturating(1_000).to_msat(),
            host_max: None,
            day_max: None,
            total_max: None,
            ahead: Sat::saturating(100).to_msat(),
            answer_max: Sat::saturating(5_000).to_msat(),
            credit: Msat::ZERO,
            retries: 5,
            names_requests: false,
            renew_before: Seconds::new(14 * 60 * 60),
            renew_below: Msat::ZERO,
            fee_rate_fallback: FeeRate::from_sat_per_vb_u32(2),
            patience: Duration::from_secs(2 * 60 * 60),
            answer_patience: Duration::from_secs(10 * 60),
        }
    }

    /// Checks what an offer asks for.
    pub(crate) fn check(&self, offer: &Offer) -> Result<(), Limit> {
        let price = offer.price.max(offer.rates.map(|rates| rates.dearest()).unwrap_or_default());
        if price > self.price_max {
            return Err(Limit::Price { asked: price, most: self.price_max });
        }
        if offer.rates.is_some() && price > self.answer_max {
            return Err(Limit::Price { asked: price, most: self.answer_max });
        }
        Ok(())
    }

    /// Returns what to ask for in a new channel: the wish, or the least that is offered and pays the
    /// price.
    pub(crate) fn limits(&self, offer: &Offer, network: Network) -> Result<Limits, Limit> {
        let price = offer.price.to_sat_ceil();
        let capacity = self.capacity.unwrap_or_else(|| price.max(*offer.capacity.start()));
        if capacity < price {
            return Err(Limit::Capacity { asked: price, most: capacity });
        }
        let lifetime = self.lifetime.unwrap_or_else(|| *offer.lifetime.start());
        if capacity > self.capacity_max {
            return Err(Limit::Capacity { asked: capacity, most: self.capacity_max });
        }
        if lifetime > self.lifetime_max {
            return Err(Limit::Lifetime { asked: lifetime, most: self.lifetime_max });
        }
        let (first_payment, first_payment_max) = (offer.first_payment, self.first_payment_max);
        if first_payment > first_payment_max {
            return Err(Limit::FirstPayment { asked: first_payment, most: first_payment_max });
        }
        Ok(Limits { network, kind: self.kind, capacity, lifetime, first_payment_max })
    }

    /// Returns how a request may be sent whose body costs nothing.
    pub(crate) const fn tries(&self) -> Tries {
        Tries { retries: self.retries, patience: Some(self.answer_patience) }
    }

    /// Returns what may be signed for over all runs.
    pub(crate) const fn budgets(&self) -> Budgets {
        Budgets { host: self.host_max, day: self.day_max, total: self.total_max }
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

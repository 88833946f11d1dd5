//! The account of a channel: what is paid, what is spent, what is left.

use std::sync::Arc;

use bitcoin::OutPoint;

use super::{Refusal, Rules};
use crate::contract::Contract;
use crate::message::Receipt;
use crate::payment::VerifiedPayment;
use crate::settlement::Member;
use crate::units::{Msat, Sat, Timestamp};

/// What a channel has paid and spent. `spent ≤ paid × 1000` always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The channel's contract.
    pub contract: Arc<Contract>,
    /// The payment with the greatest amount.
    pub payment: VerifiedPayment,
    /// All that is charged.
    pub spent: Msat,
    /// The least that a close settles for: the first payment that was asked for at the opening.
    pub least: Sat,
    /// Whether the record may be older than the client's own: the gateway was restored from a
    /// backup, and the client has not shown its newest payment since.
    pub is_stale: bool,
    /// When the client has paid last.
    pub used_at: Timestamp,
    /// The coins that the contract's transaction spends, where it was served unconfirmed: whoever
    /// spends one of them otherwise has taken the contract back.
    pub coins: Arc<[OutPoint]>,
}

impl Account {
    /// Returns what is paid and not spent.
    #[must_use]
    pub fn credit(&self) -> Msat {
        self.payment.paid().to_msat().checked_sub(self.spent).unwrap_or_default()
    }

    /// Returns the channel as a member of a settlement.
    #[must_use]
    pub fn member(&self) -> Member<'_> {
        Member { contract: &self.contract, payment: &self.payment }
    }

    /// Returns the account as a receipt for a request that cost `price`.
    #[must_use]
    pub fn receipt(&self, price: Msat) -> Receipt {
        let (paid, is_running) = (self.payment.paid(), false);
        Receipt { paid, spent: self.spent, credit: self.credit(), price, is_running }
    }

    /// Returns what is left, if everything is paid.
    pub(super) fn last_credit(&self) -> Option<Msat> {
        (self.payment.paid() == self.contract.capacity).then(|| self.credit())
    }

    /// Takes a payment and charges a price.
    ///
    /// An equal or lower amount adds nothing, and the request is judged by the credit: so
    /// requests may run in parallel and overtake each other.
    pub(super) fn pay(
        &self,
        payment: VerifiedPayment,
        price: Msat,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let is_newer = payment.paid() > self.payment.paid();
        let payment = if is_newer { payment } else { self.payment };
        let paid = payment.paid();
        let credit = paid.to_msat().checked_sub(self.spent).unwrap_or_default();
        let underpaid = Refusal::Underpaid { paid, spent: self.spent, credit, price };
        let spent = self.spent.checked_add(price).filter(|_| price <= credit).ok_or(underpaid)?;
        // A contract that is shown again, with what is on record, is no use of the channel.
        let is_used = price > Msat::ZERO || is_newer;
        let used_at = if is_used { now.max(self.used_at) } else { self.used_at };
        Ok(Self { payment, spent, used_at, ..self.clone() })
    }

    /// Takes the newest payment of a client whose record is from a backup.
    ///
    /// What it adds was signed for requests that are not on record, so it counts as spent: credit
    /// would be granted twice otherwise.
    pub(super) fn catch_up(
        &self,
        payment: VerifiedPayment,
        now: Timestamp,
    ) -> Result<Self, Refusal> {
        let paid = self.pay(payment, Msat::ZERO, now)?;
        Ok(Self { is_stale: false, ..paid.count_as_spent() })
    }

    /// Counts all that is paid as spent.
    pub(super) fn count_as_spent(&self) -> Self {
        Self { spent: self.payment.paid().to_msat(), ..self.clone() }
    }

    /// Returns the account once its contract is found in the block at `height`.
    ///
    /// A contract that was first mined after the restore was never served before it. For an older
    /// one that is as unknown as for a channel on record.
    pub(super) fn confirmed(&self, height: u32, rules: &Rules) -> Self {
        let is_new = rules.restored.is_some_and(|restored| height > restored);
        match self.is_stale {
            true if is_new && self.spent == Msat::ZERO => Self { is_stale: false, ..self.clone() },
            true => self.count_as_spent(),
            false => self.clone(),
        }
    }

    /// Tells whether no request was ever charged, also none that a restore has forgotten.
    pub(super) fn is_unserved(&self) -> bool {
        self.spent == Msat::ZERO && !self.is_stale
    }

    /// Tells whether what is charged is within what is served on an unconfirmed contract.
    pub(super) fn is_within_trust(&self, rules: &Rules) -> bool {
        rules.unconfirmed.is_some_and(|unconfirmed| self.spent <= unconfirmed.each.to_msat())
    }

    /// Returns what is left of that.
    pub(super) fn trusted(&self, rules: &Rules) -> Msat {
        let most = rules.unconfirmed.map_or(Msat::ZERO, |unconfirmed| unconfirmed.each.to_msat());
        most.checked_sub(self.spent).unwrap_or_default()
    }

    /// Takes a charge back.
    pub(super) fn release(&self, charge: Msat) -> Self {
        Self { spent: self.spent.checked_sub(charge).unwrap_or_default(), ..self.clone() }
    }

    /// Replaces the payment by the final one, which may be lower, but covers what is spent.
    ///
    /// It may be higher too: then a request with a newer payment was lost on its way.
    pub(super) fn conclude(&self, payment: VerifiedPayment) -> Result<Self, Refusal> {
        let paid = payment.paid();
        let least = self.spent.to_sat_ceil().max(self.least);
        // Change below dust cannot be signed, so the least amount may be the whole capacity.
        let most = self.contract.capacity;
        let least = self.contract.payable(least).unwrap_or(most);
        if paid < least {
            return Err(Refusal::FinalOutOfBounds { paid, least, most });
        }
        Ok(Self { payment, ..self.clone() })
    }
}

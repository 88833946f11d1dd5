//! Answers that are charged while they pass: what is signed for them, and what comes back.
//!
//! While any of them runs, the gateway may draw on all that is signed, whichever request it was
//! signed for. So all of it counts as spent. What is owed for everything else is counted apart, and
//! the rest is the pool that the running answers share.

use secp256k1::SecretKey;
use thiserror::Error;

use super::{CannotPay, Distrust, Purse};
use crate::message::{PayRequest, Receipt};
use crate::payment::{Payment, PaymentError};
use crate::units::{Msat, Sat};

/// How much is paid ahead for answers that run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// What is to be there beyond what is needed now.
    pub wished: Msat,
    /// What there may be for all of them together.
    pub pool_max: Msat,
}

/// Why no more is signed for running answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoMore {
    /// They may not cost more.
    #[error("running answers may cost {0} together, and so much is signed")]
    Budget(Msat),
    /// The channel holds no more.
    #[error("the channel holds no more than {0}")]
    Capacity(Sat),
    /// The contract cannot pay the amount.
    #[error(transparent)]
    Payment(#[from] PaymentError),
}

impl Purse {
    /// Returns what the running answers may draw together.
    #[must_use]
    pub fn pool(&self) -> Msat {
        self.known.and_then(|known| self.spent.checked_sub(known)).unwrap_or_default()
    }

    /// Returns what running answers have drawn by a receipt, as far as can be told.
    #[must_use]
    pub fn drawn(&self, receipt: &Receipt) -> Msat {
        self.known.and_then(|known| receipt.spent.checked_sub(known)).unwrap_or_default()
    }

    /// Counts all that is signed as spent, because an answer may draw on it.
    #[must_use]
    pub fn shared(&self) -> Self {
        let known = Some(self.known.unwrap_or(self.spent));
        Self { known, spent: self.spent.max(self.payment.paid.to_msat()), ..self.clone() }
    }

    /// Signs for an answer that is charged while it passes: `price`, and so much ahead as there is.
    ///
    /// # Errors
    /// [`CannotPay`] when the channel holds too little for the price; then nothing has changed.
    pub fn begin(
        &self,
        price: Msat,
        ahead: Ahead,
        key: &SecretKey,
    ) -> Result<(Self, PayRequest), CannotPay> {
        let exhausted = CannotPay::Exhausted { left: self.left(), price };
        let least = self.spent.checked_add(price).ok_or(exhausted)?;
        let contract = self.contract();
        let least_paid = contract.payable(least.to_sat_ceil()).ok_or(exhausted)?;
        let paid = self.ahead_of(least, ahead).unwrap_or(least_paid).max(least_paid);
        let payment = if paid <= self.payment.paid {
            self.payment
        } else {
            Payment::sign(contract, paid, key)?
        };
        let next = Self { payment, ..self.clone() }.shared();
        let request = PayRequest { price_max: Some(price), ..next.top_up() };
        Ok((next, request))
    }

    /// Signs more for the answers that run, to be sent as a top-up.
    ///
    /// # Errors
    /// [`NoMore`] says what does not allow it; then nothing has changed.
    pub fn pay_ahead(&self, ahead: Ahead, key: &SecretKey) -> Result<Self, NoMore> {
        let capacity = self.contract().capacity;
        let shared = self.shared();
        let is_full = shared.payment.paid >= capacity;
        let no_more =
            if is_full { NoMore::Capacity(capacity) } else { NoMore::Budget(ahead.pool_max) };
        let paid = shared.ahead_of(shared.spent, ahead);
        let paid = paid.filter(|paid| *paid > shared.payment.paid).ok_or(no_more)?;
        let payment = Payment::sign(self.contract(), paid, key)?;
        Ok(Self { payment, ..shared }.shared())
    }

    /// Returns the amount that is so much ahead of `least`, within what there may be. It is whole,
    /// so that no more is signed than that.
    fn ahead_of(&self, least: Msat, ahead: Ahead) -> Option<Sat> {
        let contract = self.contract();
        let known = self.known.unwrap_or(self.spent);
        let most = known.checked_add(ahead.pool_max).unwrap_or(Msat::MAX);
        let wished = least.checked_add(ahead.wished).unwrap_or(Msat::MAX);
        let paid = wished.min(most).to_sat_floor().min(contract.capacity);
        contract.payable(paid).filter(|paid| paid.to_msat() <= most)
    }

    /// Counts a request whose answer turns out to run as one that runs.
    #[must_use]
    pub fn adopt(&self, price: Msat) -> Self {
        self.shared().less(price)
    }

    /// Takes the receipt of an answer that has run: what it has cost is taken from the pool. By
    /// `slack` other requests may have cost less than they are counted.
    ///
    /// # Errors
    /// [`Distrust`] when it claims more than the pool, or the account more than is signed.
    pub fn end(&self, receipt: &Receipt, slack: Msat) -> Result<Self, Distrust> {
        self.check(receipt)?;
        let Some(known) = self.known else { return Ok(self.clone()) };
        let agreed = self.pool().checked_add(slack).map_or(self.spent, |sum| sum.min(self.spent));
        if receipt.price > agreed {
            return Err(Distrust::Overcharged { charged: receipt.price, agreed });
        }
        let known = known.checked_add(receipt.price).unwrap_or(Msat::MAX);
        Ok(Self { known: Some(known), ..self.clone() })
    }

    /// Takes back what is left of the pool: no answer runs, and what each has cost is known.
    ///
    /// Where more is owed than is signed, answers have used the credit of a request that is under way.
    /// Nothing is left then, and what comes of that request is counted first.
    #[must_use]
    pub fn rest(&self) -> Self {
        match self.known {
            Some(known) if known <= self.spent => {
                Self { spent: known, known: None, ..self.clone() }
            }
            Some(_) | None => self.clone(),
        }
    }

    /// The same where it is not known what each has cost, by the receipt of a top-up that was sent
    /// while nothing was under way. Of what it does not count, `lost` may still come.
    ///
    /// # Errors
    /// [`Distrust`] when it claims more than is signed.
    pub fn reckon(&self, receipt: &Receipt, lost: Msat) -> Result<Self, Distrust> {
        self.check(receipt)?;
        let spent = receipt.spent.checked_add(lost).unwrap_or(Msat::MAX).min(self.spent);
        Ok(Self { spent, known: None, ..self.clone() })
    }

    /// Checks that a receipt claims no more than what was signed and agreed to.
    ///
    /// # Errors
    /// [`Distrust`] when it does.
    pub fn check(&self, receipt: &Receipt) -> Result<(), Distrust> {
        let (named, signed) = (receipt.paid, self.payment.paid);
        if named > signed {
            return Err(Distrust::OtherPayment { named, signed });
        }
        let (charged, agreed) = (receipt.spent, self.spent);
        if charged > agreed {
            return Err(Distrust::Overcharged { charged, agreed });
        }
        Ok(())
    }
}

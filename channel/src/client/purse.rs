//! A client's open channel: how much it has signed away, and for what.

use secp256k1::SecretKey;
use thiserror::Error;

use crate::contract::Contract;
use crate::message::{CloseRequest, PayRequest, Receipt};
use crate::pass::Pass;
use crate::payment::{Payment, PaymentError};
use crate::proof::{Place, Proof, Subject};
use crate::refund::Refund;
use crate::units::{Msat, Sat, Timestamp};

/// Why the channel cannot pay a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CannotPay {
    /// The channel holds too little.
    #[error("the channel has {left} left and the request costs {price}")]
    Exhausted {
        /// What is left to spend.
        left: Msat,
        /// The price.
        price: Msat,
    },
    /// The contract cannot pay the amount.
    #[error(transparent)]
    Payment(#[from] PaymentError),
}

/// Why the client no longer trusts the gateway's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Distrust {
    /// The gateway has charged more than the client agreed to.
    #[error("the gateway has charged {charged}, and only {agreed} were agreed to")]
    Overcharged {
        /// What the gateway says.
        charged: Msat,
        /// What the client has agreed to.
        agreed: Msat,
    },
    /// The gateway names a greater payment than the client knows of: one of the two is wrong, or
    /// the client's copy is old.
    #[error("the gateway names a payment of {named}, and {signed} were signed")]
    OtherPayment {
        /// What the gateway says.
        named: Sat,
        /// What the client has signed.
        signed: Sat,
    },
    /// The gateway tells of another contract than the client's.
    #[error("the gateway tells of another contract than the client's own")]
    OtherContract,
    /// The client has not signed the payment that the gateway names.
    #[error("the gateway names a payment of {named} for a contract that was not signed like this")]
    Unsigned {
        /// What the gateway says.
        named: Sat,
    },
}

/// An open channel as its client knows it. Save it before its payment is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purse {
    /// The refund, with its contract.
    pub refund: Refund,
    /// The payment with the greatest amount.
    pub payment: Payment,
    /// All that the client has agreed to be charged: while answers run, all that is signed.
    pub spent: Msat,
    /// What it has agreed to be charged besides, while answers run that are charged as they pass, or
    /// as long as it is not known what they have cost.
    pub known: Option<Msat>,
    /// The least that a close settles for.
    pub least: Sat,
    /// The channel's pass.
    pub pass: Pass,
}

impl Purse {
    /// Makes the purse of a channel that has just been shown.
    #[must_use]
    pub(super) const fn new(refund: Refund, payment: Payment, least: Sat, pass: Pass) -> Self {
        Self { refund, payment, spent: Msat::ZERO, known: None, least, pass }
    }

    /// Returns the contract.
    #[must_use]
    pub const fn contract(&self) -> &Contract {
        self.refund.contract()
    }

    /// Returns what can still be spent.
    #[must_use]
    pub fn left(&self) -> Msat {
        self.contract().capacity.to_msat().checked_sub(self.spent).unwrap_or_default()
    }

    /// Signs for a request that costs `price`: the least amount that covers it.
    ///
    /// While the credit covers it, the latest payment is repeated.
    ///
    /// # Errors
    /// [`CannotPay`] when the channel holds too little; then nothing has changed.
    pub fn pay(&self, price: Msat, key: &SecretKey) -> Result<(Self, PayRequest), CannotPay> {
        self.pay_with_credit(price, Msat::ZERO, key)
    }

    /// Does the same, and where it signs, it signs for so much `credit` more, as far as the channel
    /// holds it: the next requests repeat this payment. The gateway may keep what is not spent.
    ///
    /// Nothing more is signed while answers run, which would draw on it.
    ///
    /// # Errors
    /// [`CannotPay`] when the channel holds too little; then nothing has changed.
    pub fn pay_with_credit(
        &self,
        price: Msat,
        credit: Msat,
        key: &SecretKey,
    ) -> Result<(Self, PayRequest), CannotPay> {
        let exhausted = CannotPay::Exhausted { left: self.left(), price };
        let spent = self.spent.checked_add(price).ok_or(exhausted)?;
        let contract = self.contract();
        let payment = if spent <= self.payment.paid.to_msat() {
            self.payment
        } else {
            let least = contract.payable(spent.to_sat_ceil()).ok_or(exhausted)?;
            let credit = if self.known.is_none() { credit } else { Msat::ZERO };
            let wished = spent.checked_add(credit).unwrap_or(Msat::MAX).to_sat_ceil();
            let wished = wished.min(contract.capacity);
            // The change at the end is not signed away for the sake of what is ahead.
            let paid = contract.payable(wished).filter(|paid| *paid == wished).unwrap_or(least);
            Payment::sign(contract, paid, key)?
        };
        let request = PayRequest { payment, price_max: Some(price), ..self.top_up() };
        let known = self.known.and_then(|known| known.checked_add(price));
        let next = Self { payment, spent, known, ..self.clone() };
        Ok((if known.is_some() { next.shared() } else { next }, request))
    }

    /// Returns the newest payment as a message that pays for no request.
    #[must_use]
    pub const fn top_up(&self) -> PayRequest {
        let Self { pass, payment, .. } = *self;
        PayRequest { channel: self.contract().outpoint, pass, payment, price_max: None }
    }

    /// Takes the receipt of a request that was agreed to cost `price`.
    ///
    /// A lower total than the client's own is no news: other requests may be under way, and one
    /// whose answer was lost may still be charged.
    ///
    /// # Errors
    /// [`Distrust`] when the gateway claims more than was agreed to.
    pub fn receive(&self, receipt: &Receipt, price: Msat) -> Result<Self, Distrust> {
        self.check(receipt)?;
        if receipt.price > price {
            return Err(Distrust::Overcharged { charged: receipt.spent, agreed: self.spent });
        }
        Ok(self.less(price.checked_sub(receipt.price).unwrap_or_default()))
    }

    /// Takes back the price of a request that was refused before it was charged.
    #[must_use]
    pub fn take_back(&self, price: Msat) -> Self {
        self.less(price)
    }

    /// Counts so much less. While answers run they may draw on it instead.
    pub(super) fn less(&self, amount: Msat) -> Self {
        let less = |sum: Msat| sum.checked_sub(amount).unwrap_or(sum);
        match self.known {
            Some(known) => Self { known: Some(less(known)), ..self.clone() },
            None => Self { spent: less(self.spent), ..self.clone() },
        }
    }

    /// Returns the final amount of a close: what is spent, and no less than the first payment. It is
    /// never more than what is signed, beyond which nothing was charged.
    #[must_use]
    pub fn final_amount(&self) -> Sat {
        let contract = self.contract();
        let least = self.spent.to_sat_ceil().max(self.least).min(self.payment.paid);
        contract.payable(least).unwrap_or(contract.capacity)
    }

    /// Signs the close of the channel.
    ///
    /// # Errors
    /// [`PaymentError`] when the contract cannot pay the final amount.
    pub fn close(
        &self,
        place: Place<'_>,
        time: Timestamp,
        key: &SecretKey,
    ) -> Result<CloseRequest, PaymentError> {
        let contract = self.contract();
        let channel = contract.outpoint;
        let proof = Proof::sign(&Subject::Close(channel), place, time, key);
        let payment = Payment::sign(contract, self.final_amount(), key)?;
        Ok(CloseRequest { channel, proof, payment })
    }
}

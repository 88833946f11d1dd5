//! Going on after a loss: with an old copy of a channel, or with nothing but its key.
//!
//! The gateway tells what is on record, and the client believes what its own signature bears out:
//! a payment commits to the outpoint, the capacity, the script with both keys, the amount
//! and, while anything is left, the payout script (`BIP-0143`). The script of a `refund` contract
//! does not name `T`: that is borne out by the refund, which the gateway signs for it. What is
//! spent cannot be shown, nor the least that a close settles for; but neither is ever more than what is
//! signed.

use bitcoin::Network;
use secp256k1::SecretKey;
use secp256k1::ecdsa::Signature;

use super::{Distrust, Held, Purse};
use crate::contract::{Contract, Terms};
use crate::message::{ChannelStatus, Receipt, RefundRequest};
use crate::payment::Payment;
use crate::refund::{Refund, RefundError};
use crate::units::{Msat, Sat};

/// A channel that its client has found again with nothing but its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    contract: Contract,
    told: ChannelStatus,
}

impl Recovered {
    /// Takes what a gateway tells of a channel of `key`.
    ///
    /// # Errors
    /// [`Distrust`] when the key has not signed for it.
    pub fn verify(
        told: &ChannelStatus,
        network: Network,
        key: &SecretKey,
    ) -> Result<Self, Distrust> {
        let terms = Terms {
            network,
            kind: told.kind,
            gateway_key: told.gateway_key,
            client_key: key.public_key(secp256k1::SECP256K1),
            expiry: told.expiry,
        };
        let contract = Contract {
            terms,
            outpoint: told.channel,
            capacity: told.capacity,
            payout: told.payout.clone(),
        };
        signed(told, &contract)?;
        Ok(Self { contract, told: told.clone() })
    }

    /// Returns the contract.
    #[must_use]
    pub const fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns what the gateway is asked to sign, if the kind of contract needs it: its half of
    /// the refund was lost with the client's copy.
    #[must_use]
    pub fn refund_request(&self) -> Option<RefundRequest> {
        RefundRequest::of(&self.contract)
    }

    /// Makes a purse of it, once the refund is complete again.
    ///
    /// # Errors
    /// [`RefundError`] when it is not.
    pub fn hold(self, gateway: Option<Signature>) -> Result<Purse, RefundError> {
        let refund = Refund::new(self.contract.clone(), gateway)?;
        let least = self.told.least;
        Ok(self.purse(refund, least))
    }

    /// Makes a purse of it with the refund and the first payment that the client has kept.
    #[must_use]
    pub fn with(self, held: Held) -> Purse {
        self.purse(held.refund, held.first_payment)
    }

    fn purse(self, refund: Refund, least: Sat) -> Purse {
        let ChannelStatus { payment, pass, spent, .. } = self.told;
        Purse { spent, ..Purse::new(refund, payment, least, pass) }
    }
}

impl Purse {
    /// Takes what the gateway tells of this channel, where the client's own record may be old.
    ///
    /// The greater payment counts, and the greater amount spent.
    ///
    /// # Errors
    /// [`Distrust`] when the client has not signed for what is told.
    pub fn resynchronise(&self, told: &ChannelStatus) -> Result<Self, Distrust> {
        let contract = self.contract();
        let is_ours = told.channel == contract.outpoint
            && told.gateway_key == contract.terms.gateway_key
            && told.kind == contract.terms.kind
            && told.expiry == contract.terms.expiry
            && told.capacity == contract.capacity
            && told.payout == contract.payout;
        if !is_ours {
            return Err(Distrust::OtherContract);
        }
        let payment = signed(told, contract)?;
        let payment = if payment.paid > self.payment.paid { payment } else { self.payment };
        let next = Self { payment, spent: self.spent.max(told.spent), ..self.clone() };
        Ok(if next.known.is_some() { next.shared() } else { next })
    }

    /// Takes the receipt of the newest payment, sent as a top-up to a gateway whose record is old.
    ///
    /// What is signed may count as spent as a whole; then the next request is paid anew.
    ///
    /// # Errors
    /// [`Distrust`] when the gateway claims more than what is signed.
    pub fn catch_up(&self, receipt: &Receipt) -> Result<Self, Distrust> {
        let (named, signed) = (receipt.paid, self.payment.paid);
        if named > signed {
            return Err(Distrust::OtherPayment { named, signed });
        }
        let (charged, agreed) = (receipt.spent, signed.to_msat());
        if charged > agreed {
            return Err(Distrust::Overcharged { charged, agreed });
        }
        Ok(Self { spent: self.spent.max(charged), ..self.clone() })
    }

    /// Counts requests that wait for their answers besides what the gateway has `charged`: it may not
    /// have seen them yet, and charges them when they come.
    #[must_use]
    pub fn besides(&self, charged: Msat, waiting: Msat) -> Self {
        let spent = charged.checked_add(waiting).unwrap_or(Msat::MAX);
        let spent = spent.min(self.contract().capacity.to_msat()).max(self.spent);
        Self { spent, ..self.clone() }
    }
}

/// Returns the payment that is told, if its client has signed it and it covers what is spent, and the
/// least that a close settles for.
fn signed(told: &ChannelStatus, contract: &Contract) -> Result<Payment, Distrust> {
    let payment = told.payment;
    payment.verify(contract).map_err(|_| Distrust::Unsigned { named: payment.paid })?;
    let (charged, agreed) = (told.spent.max(told.least.to_msat()), payment.paid.to_msat());
    if charged > agreed {
        return Err(Distrust::Overcharged { charged, agreed });
    }
    Ok(payment)
}

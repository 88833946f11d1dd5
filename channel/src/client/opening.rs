//! Opening a channel, refund first: nothing is shown before the refund is held.

use bitcoin::{Network, OutPoint, Transaction};
use secp256k1::SecretKey;
use secp256k1::ecdsa::Signature;
use thiserror::Error;

use super::Purse;
use crate::contract::{Contract, Kind, Terms};
use crate::message::{ContractRequest, Offer, OpenRequest, RefundRequest, StateReply, TermsReply};
use crate::payment::{Payment, PaymentError};
use crate::payout::{DUST_MAX, Payout};
use crate::refund::{Refund, RefundError};
use crate::units::{Clock, Sat, Seconds};

/// Seconds by which the two sides' clocks may differ when the gateway adds the lifetime.
const CLOCK_SKEW_MAX_SECS: u64 = 2 * 60 * 60;

/// What the client is ready to agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The network of the client's coins.
    pub network: Network,
    /// The kind of contract that is wanted.
    pub kind: Kind,
    /// The amount to lock.
    pub capacity: Sat,
    /// The time until the expiry.
    pub lifetime: Seconds,
    /// The greatest first payment to agree to.
    pub first_payment_max: Sat,
}

/// Why the client does not agree to an offer or to terms.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TermsRefused {
    /// The gateway is on another network.
    #[error("the gateway's channels are on `{0}`, the coins are on another network")]
    OtherNetwork(Network),
    /// The gateway does not take this kind of contract.
    #[error("the gateway does not take contracts of kind `{0}`")]
    KindNotOffered(Kind),
    /// The wished capacity is outside the offer.
    #[error("the gateway takes capacities from {least} to {most}, not {wished}")]
    Capacity {
        /// The least capacity offered.
        least: Sat,
        /// The greatest capacity offered.
        most: Sat,
        /// The wished capacity.
        wished: Sat,
    },
    /// The wished lifetime is outside the offer.
    #[error("the gateway takes lifetimes from {} s to {} s, not {} s", least.get(), most.get(), wished.get())]
    Lifetime {
        /// The shortest lifetime offered.
        least: Seconds,
        /// The longest lifetime offered.
        most: Seconds,
        /// The wished lifetime.
        wished: Seconds,
    },
    /// The first payment is more than the client agrees to.
    #[error("the first payment of {asked} is more than {most}")]
    FirstPayment {
        /// The first payment asked for.
        asked: Sat,
        /// The most that the client agrees to.
        most: Sat,
    },
    /// The terms name another kind than the one asked for.
    #[error("the terms are for a contract of kind `{0}`")]
    OtherKind(Kind),
    /// The expiry is not the one asked for.
    #[error("the expiry {expiry} is not the lifetime that was asked for")]
    OtherExpiry {
        /// The expiry in Unix seconds.
        expiry: u32,
    },
    /// The script is not the one that the terms make.
    #[error("the script or the address is not the one that the terms make")]
    OtherScript,
}

impl Limits {
    /// Checks an offer, and returns the wish for terms that fits it.
    ///
    /// # Errors
    /// [`TermsRefused`] says what the client does not agree to.
    pub fn request(&self, offer: &Offer, key: &SecretKey) -> Result<OpenRequest, TermsRefused> {
        if offer.network != self.network {
            return Err(TermsRefused::OtherNetwork(offer.network));
        }
        if !offer.kinds.contains(&self.kind) {
            return Err(TermsRefused::KindNotOffered(self.kind));
        }
        if !offer.capacity.contains(&self.capacity) {
            let (least, most) = (*offer.capacity.start(), *offer.capacity.end());
            return Err(TermsRefused::Capacity { least, most, wished: self.capacity });
        }
        if !offer.lifetime.contains(&self.lifetime) {
            let (least, most) = (*offer.lifetime.start(), *offer.lifetime.end());
            return Err(TermsRefused::Lifetime { least, most, wished: self.lifetime });
        }
        // What is left must be worth an output of any kind.
        let payable = self.capacity.checked_sub(DUST_MAX).unwrap_or_default();
        let most = self.first_payment_max.min(payable);
        if offer.first_payment > most {
            return Err(TermsRefused::FirstPayment { asked: offer.first_payment, most });
        }
        Ok(OpenRequest {
            kind: self.kind,
            client_key: key.public_key(secp256k1::SECP256K1),
            capacity: self.capacity,
            lifetime: self.lifetime,
        })
    }
}

/// Agreed terms, before any coin moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The terms, with the script that the client has built itself.
    pub terms: Terms,
    /// The amount to lock.
    pub capacity: Sat,
    /// The first payment that the gateway asks for.
    pub first_payment: Sat,
}

impl Draft {
    /// Checks the gateway's terms against what was asked for.
    ///
    /// # Errors
    /// [`TermsRefused`] when the gateway's script, address, expiry, kind or network is another.
    pub fn accept(
        offer: &Offer,
        request: &OpenRequest,
        reply: &TermsReply,
        clock: Clock,
    ) -> Result<Self, TermsRefused> {
        if reply.network != offer.network {
            return Err(TermsRefused::OtherNetwork(reply.network));
        }
        if reply.kind != request.kind {
            return Err(TermsRefused::OtherKind(reply.kind));
        }
        let wished = clock.now().after(request.lifetime);
        if reply.expiry.timestamp().distance(wished) > CLOCK_SKEW_MAX_SECS {
            return Err(TermsRefused::OtherExpiry { expiry: reply.expiry.get() });
        }
        let terms = Terms {
            network: reply.network,
            kind: reply.kind,
            gateway_key: reply.gateway_key,
            client_key: request.client_key,
            expiry: reply.expiry,
        };
        let is_ours =
            terms.witness_script() == reply.script && terms.address().to_string() == reply.address;
        if !is_ours {
            return Err(TermsRefused::OtherScript);
        }
        Ok(Self { terms, capacity: request.capacity, first_payment: offer.first_payment })
    }

    /// Takes the transaction that funds the contract. It is kept secret until the refund is held.
    ///
    /// # Errors
    /// [`FundingMismatch`] when the transaction does not pay the contract, or a `refund`
    /// contract's id could change.
    pub fn fund(self, transaction: Transaction, payout: Payout) -> Result<Funded, FundingMismatch> {
        let script = self.terms.script_pubkey();
        let value = self.capacity.to_amount();
        let pays =
            |output: &bitcoin::TxOut| output.script_pubkey == script && output.value == value;
        let index = transaction.output.iter().position(pays).ok_or(FundingMismatch::Unpaid)?;
        let vout = u32::try_from(index).map_err(|_| FundingMismatch::Unpaid)?;
        self.terms.check_stable(&transaction).map_err(|_| FundingMismatch::NotSegwit)?;
        if self.terms.kind == Kind::Refund && transaction.is_explicitly_rbf() {
            return Err(FundingMismatch::Replaceable);
        }
        let outpoint = OutPoint { txid: transaction.compute_txid(), vout };
        let Self { terms, capacity, first_payment } = self;
        let contract = Contract { terms, outpoint, capacity, payout };
        Ok(Funded { contract, transaction, first_payment })
    }

    /// Takes an output that pays the address of a `cltv` contract, whatever it has paid. It can be
    /// refunded without the gateway.
    ///
    /// # Errors
    /// [`FundingMismatch::NeedsTransaction`] for a `refund` contract, which would be at the
    /// gateway's mercy.
    pub fn found(
        self,
        outpoint: OutPoint,
        capacity: Sat,
        payout: Payout,
    ) -> Result<Held, FundingMismatch> {
        let Self { terms, first_payment, .. } = self;
        let contract = Contract { terms, outpoint, capacity, payout };
        let refund = Refund::new(contract, None).map_err(|_| FundingMismatch::NeedsTransaction)?;
        Ok(Held { refund, transaction: None, first_payment })
    }
}

/// Why a transaction does not fund the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FundingMismatch {
    /// No output pays the contract's script and capacity.
    #[error("the funding transaction does not pay the contract")]
    Unpaid,
    /// An input is not native segwit, so the contract's id could change and void the refund.
    #[error("a `refund` contract spends native segwit coins only")]
    NotSegwit,
    /// The transaction says that it may be replaced, which would void the refund.
    #[error(
        "a `refund` contract is funded by a transaction that opts out of replacement (BIP-0125)"
    )]
    Replaceable,
    /// A `refund` contract was paid before its refund was signed.
    #[error("a `refund` contract is funded by a transaction that nobody has seen")]
    NeedsTransaction,
}

/// A contract transaction that nobody else has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Funded {
    /// The contract.
    pub contract: Contract,
    /// The transaction that funds it.
    pub transaction: Transaction,
    /// The first payment that the gateway asks for.
    pub first_payment: Sat,
}

impl Funded {
    /// Returns what the gateway is asked to sign, if the kind of contract needs it.
    #[must_use]
    pub fn refund_request(&self) -> Option<RefundRequest> {
        RefundRequest::of(&self.contract)
    }

    /// Checks that the refund is complete.
    ///
    /// # Errors
    /// [`RefundError`] when it is not; then the contract must not be shown.
    pub fn hold(self, gateway: Option<Signature>) -> Result<Held, RefundError> {
        let Self { contract, transaction, first_payment } = self;
        let refund = Refund::new(contract, gateway)?;
        Ok(Held { refund, transaction: Some(transaction), first_payment })
    }
}

/// A contract whose refund is held: now it can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The refund, with its contract.
    pub refund: Refund,
    /// The contract transaction, unless it is broadcast already.
    pub transaction: Option<Transaction>,
    /// The first payment that the gateway asks for.
    pub first_payment: Sat,
}

impl Held {
    /// Returns the message that shows the contract with the first payment.
    ///
    /// # Errors
    /// [`PaymentError`] when the contract cannot pay the first payment.
    pub fn show(&self, key: &SecretKey) -> Result<ContractRequest, PaymentError> {
        let contract = self.refund.contract();
        let capacity = contract.capacity;
        let paid = contract
            .payable(self.first_payment)
            .ok_or(PaymentError::BeyondCapacity { capacity })?;
        let payment = Payment::sign(contract, paid, key)?;
        Ok(ContractRequest::of(contract, payment, self.transaction.clone()))
    }

    /// Makes a purse of the gateway's answer to the shown contract.
    #[must_use]
    pub fn open(self, shown: &ContractRequest, reply: &StateReply) -> Purse {
        Purse::new(self.refund, shown.payment, self.first_payment, reply.pass)
    }
}

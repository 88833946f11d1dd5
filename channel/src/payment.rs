//! A payment: the cumulative amount that the client signs away.
//!
//! The client signs the settlement that returns `capacity − paid` to its payout script. The
//! gateway needs nothing else to be paid, and can add its own output, further channels and the
//! fee, because the signature commits to this one input and output only.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::sighash::SighashCache;
use bitcoin::transaction::Version;
use bitcoin::{EcdsaSighashType, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, SECP256K1, SecretKey};
use thiserror::Error;

use crate::contract::{Contract, Terms};
use crate::units::Sat;

/// The version of every settlement: TRUC (`BIP-0431`), so that nobody can pin it.
pub(crate) const SETTLEMENT_VERSION: Version = Version(3);
/// The sequence of every input: replaceable (`BIP-0125`), and no relative lock.
pub(crate) const SEQUENCE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

/// Why an amount cannot be paid on a contract, or why its signature does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PaymentError {
    /// More is paid than the contract holds.
    #[error("paid is more than the capacity of {capacity}")]
    BeyondCapacity {
        /// The contract's capacity.
        capacity: Sat,
    },
    /// The client is left with less than the network relays.
    #[error(
        "the client's change of {change} is below its dust of {dust}; pay the whole capacity instead"
    )]
    ChangeBelowDust {
        /// What the client would be left with.
        change: Sat,
        /// The least it can be left with, besides nothing.
        dust: Sat,
    },
    /// The signature is not the client's over this amount, or not in its low-S form.
    #[error("the signature is not the client key's over this amount")]
    BadSignature,
}

/// A cumulative amount and the client's signature for it, as they travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payment {
    /// All that is paid since the channel opened.
    pub paid: Sat,
    /// The client's signature over the settlement that pays it.
    pub signature: Signature,
}

impl Payment {
    /// Signs `paid` with the client's key.
    ///
    /// # Errors
    /// [`PaymentError`] when the contract cannot pay that amount.
    pub fn sign(
        contract: &Contract,
        paid: Sat,
        client_key: &SecretKey,
    ) -> Result<Self, PaymentError> {
        let template = contract.template(paid)?;
        let signature = SECP256K1.sign_ecdsa(&template.digest(contract), client_key);
        Ok(Self { paid, signature })
    }

    /// Verifies the signature against `contract`.
    ///
    /// # Errors
    /// [`PaymentError`] says what is wrong.
    pub fn verify(self, contract: &Contract) -> Result<VerifiedPayment, PaymentError> {
        let template = contract.template(self.paid)?;
        SECP256K1
            .verify_ecdsa(&template.digest(contract), &self.signature, &contract.terms.client_key)
            .map_err(|_| PaymentError::BadSignature)?;
        Ok(VerifiedPayment(self))
    }
}

/// A payment whose signature was verified against its contract.
///
/// Only [`Payment::verify`] makes one out of what a peer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedPayment(Payment);

impl VerifiedPayment {
    /// Takes back a payment from one's own durable record, where only verified ones are kept.
    #[must_use]
    pub const fn from_record(payment: Payment) -> Self {
        Self(payment)
    }

    /// Returns all that is paid since the channel opened.
    #[must_use]
    pub const fn paid(&self) -> Sat {
        self.0.paid
    }

    /// Returns the payment as it travelled.
    #[must_use]
    pub const fn payment(&self) -> &Payment {
        &self.0
    }
}

/// What a client signs for one amount: the flag and output follow from the amount alone.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// The client's change, or nothing when all is paid.
    pub(crate) change: Option<TxOut>,
}

impl Template {
    /// Returns the flag of the client's signature.
    ///
    /// `SINGLE` binds the output at the input's own index. With no output there, it would bind
    /// nothing at all, so an exhausting payment says `NONE` openly (`BIP-0143`).
    pub(crate) const fn flag(&self) -> EcdsaSighashType {
        match self.change {
            Some(_) => EcdsaSighashType::SinglePlusAnyoneCanPay,
            None => EcdsaSighashType::NonePlusAnyoneCanPay,
        }
    }

    /// Returns the digest that the client signs.
    pub(crate) fn digest(&self, contract: &Contract) -> Message {
        let transaction = Transaction {
            version: SETTLEMENT_VERSION,
            lock_time: LockTime::ZERO,
            input: vec![input(contract.outpoint)],
            output: self.change.iter().cloned().collect(),
        };
        digest(&transaction, 0, &contract.terms, contract.capacity, self.flag())
    }
}

impl Contract {
    /// Returns what a client signs to pay `paid`.
    pub(crate) fn template(&self, paid: Sat) -> Result<Template, PaymentError> {
        let change = self
            .capacity
            .checked_sub(paid)
            .ok_or(PaymentError::BeyondCapacity { capacity: self.capacity })?;
        if change == Sat::ZERO {
            return Ok(Template { change: None });
        }
        let dust = self.payout.dust();
        if change < dust {
            return Err(PaymentError::ChangeBelowDust { change, dust });
        }
        let script_pubkey = self.payout.script().to_owned();
        Ok(Template { change: Some(TxOut { value: change.to_amount(), script_pubkey }) })
    }

    /// Returns the least amount of at least `paid` that the contract can pay, if there is one.
    ///
    /// It is `paid` itself, or the whole capacity when less than dust would be left.
    #[must_use]
    pub fn payable(&self, paid: Sat) -> Option<Sat> {
        match self.template(paid) {
            Ok(_) => Some(paid),
            Err(PaymentError::ChangeBelowDust { .. }) => Some(self.capacity),
            Err(PaymentError::BeyondCapacity { .. } | PaymentError::BadSignature) => None,
        }
    }
}

/// Returns the input that spends a contract, without its witness.
pub(crate) fn input(outpoint: OutPoint) -> TxIn {
    TxIn {
        previous_output: outpoint,
        script_sig: ScriptBuf::new(),
        sequence: SEQUENCE,
        witness: Witness::new(),
    }
}

/// Returns the digest of the input `index` that spends a contract under `terms` (`BIP-0143`).
pub(crate) fn digest(
    transaction: &Transaction,
    index: usize,
    terms: &Terms,
    capacity: Sat,
    flag: EcdsaSighashType,
) -> Message {
    let hash = SighashCache::new(transaction)
        .p2wsh_signature_hash(index, &terms.witness_script(), capacity.to_amount(), flag)
        .map(|hash| hash.to_byte_array());
    // Only an index beyond the inputs fails, and a digest of zeros is nobody's signature.
    Message::from_digest(hash.unwrap_or_default())
}

/// Returns a signature as it stands in a witness: DER and its flag.
pub(crate) fn witness_signature(signature: Signature, flag: EcdsaSighashType) -> Vec<u8> {
    bitcoin::ecdsa::Signature { signature, sighash_type: flag }.to_vec()
}

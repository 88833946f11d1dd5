//! The refund: how the client takes its money back alone once T has passed.

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{EcdsaSighashType, FeeRate, Network, OutPoint, Transaction, TxIn, TxOut, Witness};
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use thiserror::Error;

use crate::contract::{Contract, Kind, Terms};
use crate::payment::{digest, input, witness_signature};
use crate::payout::Payout;
use crate::units::{Expiry, Sat};

/// The flag of the gateway's half: the client alone chooses outputs and fee, and can bump it.
const GATEWAY_FLAG: EcdsaSighashType = EcdsaSighashType::NonePlusAnyoneCanPay;

/// The client's signature in a witness: low R, low S, and the flag.
const CLIENT_SIGNATURE_LEN: usize = 71;

/// What the gateway is told to sign a refund of a `refund` contract.
///
/// It names no sequence and no lock time of its own: they follow from T.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefundRequest {
    /// The outpoint of the contract, which the client still keeps to itself.
    pub outpoint: OutPoint,
    /// The contract's capacity.
    pub capacity: Sat,
    /// The client's key C.
    pub client_key: PublicKey,
    /// The expiry T.
    pub expiry: Expiry,
}

impl RefundRequest {
    /// Returns what the gateway is asked to sign for `contract`, if its kind needs it.
    #[must_use]
    pub fn of(contract: &Contract) -> Option<Self> {
        let Contract { terms, outpoint, capacity, .. } = contract;
        let (client_key, expiry) = (terms.client_key, terms.expiry);
        (terms.kind == Kind::Refund).then_some(Self {
            outpoint: *outpoint,
            capacity: *capacity,
            client_key,
            expiry,
        })
    }

    /// Returns the digest that the gateway signs.
    pub(crate) fn digest(&self, gateway_key: PublicKey, network: Network) -> Message {
        let Self { client_key, expiry, .. } = *self;
        let terms = Terms { network, kind: Kind::Refund, gateway_key, client_key, expiry };
        digest(&skeleton(self.outpoint, expiry), 0, &terms, self.capacity, GATEWAY_FLAG)
    }
}

/// Why there is no refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RefundError {
    /// The gateway's signature does not make the refund valid.
    #[error("the gateway's signature does not make the refund valid")]
    BadSignature,
    /// The contract's kind needs a signature of the gateway, and there is none.
    #[error("the gateway has not signed the refund")]
    Unsigned,
    /// The fee leaves less than dust.
    #[error("a fee of {fee_sat} sat leaves less than dust of the contract")]
    FeeTooHigh {
        /// The fee in satoshi.
        fee_sat: u64,
    },
}

/// A contract whose refund the client can complete without anybody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refund {
    contract: Contract,
    gateway: Option<Signature>,
}

impl Refund {
    /// Checks that the client can refund `contract`, with the gateway's signature if its kind
    /// needs one.
    ///
    /// # Errors
    /// [`RefundError`] when the signature is missing or wrong: then the contract must not be shown.
    pub fn new(contract: Contract, gateway: Option<Signature>) -> Result<Self, RefundError> {
        let Some(request) = RefundRequest::of(&contract) else {
            return Ok(Self { contract, gateway: None });
        };
        let signature = gateway.ok_or(RefundError::Unsigned)?;
        let Terms { network, gateway_key, .. } = contract.terms;
        SECP256K1
            .verify_ecdsa(&request.digest(gateway_key, network), &signature, &gateway_key)
            .map_err(|_| RefundError::BadSignature)?;
        Ok(Self { contract, gateway: Some(signature) })
    }

    /// Returns the contract.
    #[must_use]
    pub const fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns the gateway's signature, which a `refund` contract needs.
    #[must_use]
    pub const fn gateway_signature(&self) -> Option<&Signature> {
        self.gateway.as_ref()
    }

    /// Builds the refund transaction, complete and signed: it is valid once the median time past
    /// is beyond T.
    ///
    /// # Errors
    /// [`RefundError::FeeTooHigh`] when `rate` leaves less than dust.
    pub fn transaction(
        &self,
        destination: &Payout,
        rate: FeeRate,
        client_key: &SecretKey,
    ) -> Result<Transaction, RefundError> {
        let Contract { ref terms, outpoint, capacity, .. } = self.contract;
        let mut transaction = skeleton(outpoint, terms.expiry);
        transaction.output.push(TxOut {
            value: capacity.to_amount(),
            script_pubkey: destination.script().to_owned(),
        });
        transaction.input = vec![self.input(&[0; CLIENT_SIGNATURE_LEN])];
        let fee = rate.fee_vb(u64::try_from(transaction.vsize()).unwrap_or(u64::MAX));
        let fee_sat = fee.map_or(u64::MAX, bitcoin::Amount::to_sat);
        let value = Sat::new(fee_sat)
            .ok()
            .and_then(|fee| capacity.checked_sub(fee))
            .filter(|value| *value >= destination.dust())
            .ok_or(RefundError::FeeTooHigh { fee_sat })?;
        for output in &mut transaction.output {
            output.value = value.to_amount();
        }
        let Contract { ref terms, capacity, .. } = self.contract;
        let message = digest(&transaction, 0, terms, capacity, EcdsaSighashType::All);
        let signature = SECP256K1.sign_ecdsa_low_r(&message, client_key);
        transaction.input = vec![self.input(&witness_signature(signature, EcdsaSighashType::All))];
        Ok(transaction)
    }

    /// Returns the refund's only input, with its witness.
    fn input(&self, client: &[u8]) -> TxIn {
        let script = self.contract.terms.witness_script();
        let witness = match self.gateway {
            Some(signature) => {
                let gateway = witness_signature(signature, GATEWAY_FLAG);
                Witness::from_slice(&[&[], client, &gateway, script.as_bytes()])
            }
            None => Witness::from_slice(&[client, &[], script.as_bytes()]),
        };
        TxIn { witness, ..input(self.contract.outpoint) }
    }
}

/// Returns what every refund has in common: version 2, one input, lock time T.
fn skeleton(outpoint: OutPoint, expiry: Expiry) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(expiry.get()),
        input: vec![input(outpoint)],
        output: Vec::new(),
    }
}

//! The gateway's side of opening a channel. It keeps no record before money is shown.

use std::sync::Arc;

use bitcoin::{Network, OutPoint, TxOut};
use secp256k1::PublicKey;

use super::{Account, Channel, Pending, Refusal, Rules};
use crate::contract::{ChainTime, Contract, Kind, Terms};
use crate::keys::Keyring;
use crate::message::{ContractRequest, OpenRequest, RefundReply, RefundRequest, TermsReply};
use crate::pass::Pass;
use crate::payment::VerifiedPayment;
use crate::units::{Clock, Expiry, Msat, Sat, Timestamp};

/// The keys and rules of a gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// The keys.
    pub keyring: Keyring,
    /// The rules.
    pub rules: Rules,
}

impl Gateway {
    /// Returns the network of the channels.
    #[must_use]
    pub const fn network(&self) -> Network {
        self.keyring.network()
    }

    /// Returns the pass of the channel at `outpoint`.
    #[must_use]
    pub fn pass(&self, outpoint: OutPoint) -> Pass {
        self.keyring.pass(outpoint)
    }

    /// Returns a key that nobody holds, to verify against where there is no channel.
    ///
    /// So an unknown channel takes as long to refuse as a foreign one.
    #[must_use]
    pub fn decoy_key(&self) -> PublicKey {
        self.keyring.decoy_key()
    }

    /// Answers a wish for terms.
    ///
    /// # Errors
    /// [`Refusal`] when kind, capacity or lifetime are not offered.
    pub fn terms(&self, request: &OpenRequest, clock: Clock) -> Result<TermsReply, Refusal> {
        self.rules.check_kind(request.kind)?;
        self.rules.check_capacity(request.capacity)?;
        let expiry = self.rules.expiry(request.lifetime, clock)?;
        let terms = self.keyring.terms(request.kind, request.client_key, expiry);
        Ok(TermsReply {
            kind: terms.kind,
            network: terms.network,
            gateway_key: terms.gateway_key,
            expiry,
            script: terms.witness_script(),
            address: terms.address().to_string(),
        })
    }

    /// Signs the refund of a contract.
    ///
    /// A client that has lost its copy may ask again at any time, so `T` has no least distance
    /// here: the refund is the client's right, and is valid from `T` on only.
    ///
    /// # Errors
    /// [`Refusal`] when the kind or the capacity is not offered, or the expiry is too far.
    pub fn sign_refund(
        &self,
        request: &RefundRequest,
        clock: Clock,
    ) -> Result<RefundReply, Refusal> {
        self.rules.check_kind(Kind::Refund)?;
        self.rules.check_capacity(request.capacity)?;
        self.rules.check_latest(request.expiry, clock)?;
        let key = self.keyring.channel_key(Kind::Refund, &request.client_key, request.expiry);
        Ok(RefundReply { signature: key.sign_refund(request, self.network()) })
    }

    /// Returns the terms of the `cltv` contract whose address is to be watched.
    ///
    /// # Errors
    /// [`Refusal`] when the kind or the expiry is not offered.
    pub fn watched_terms(
        &self,
        client_key: PublicKey,
        expiry: Expiry,
        clock: Clock,
    ) -> Result<Terms, Refusal> {
        self.rules.check_kind(Kind::Cltv)?;
        self.rules.check_expiry(expiry, clock)?;
        Ok(self.keyring.terms(Kind::Cltv, client_key, expiry))
    }

    /// Checks all that can be checked of a shown contract without asking a node.
    ///
    /// The payment's signature commits to the capacity, so it is verified here.
    ///
    /// # Errors
    /// [`Refusal`] says what is wrong.
    pub fn check_shown(
        &self,
        request: &ContractRequest,
        clock: Clock,
        chain: ChainTime,
    ) -> Result<Shown, Refusal> {
        self.rules.check_kind(request.kind)?;
        self.rules.check_expiry(request.expiry, clock)?;
        self.rules.check_capacity(request.capacity)?;
        let terms = self.keyring.terms(request.kind, request.client_key, request.expiry);
        if let Some(transaction) = &request.transaction {
            let found = terms.check_transaction(transaction, request.outpoint, chain)?;
            check_capacity(request.capacity, found)?;
        }
        let contract = Contract {
            terms,
            outpoint: request.outpoint,
            capacity: request.capacity,
            payout: request.payout.clone(),
        };
        let payment = request.payment.verify(&contract)?;
        let least = self.rules.first_payment;
        if payment.paid() < least {
            return Err(Refusal::FirstPaymentTooSmall { paid: payment.paid(), least });
        }
        let is_stale = self.rules.restored.is_some();
        Ok(Shown { contract, payment, least, is_stale, shown_at: clock.now() })
    }
}

/// A shown contract whose every local check has passed. Only the node can tell more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    contract: Contract,
    payment: VerifiedPayment,
    least: Sat,
    is_stale: bool,
    shown_at: Timestamp,
}

impl Shown {
    /// Returns the contract.
    #[must_use]
    pub const fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Returns the verified payment that came with it.
    #[must_use]
    pub const fn payment(&self) -> VerifiedPayment {
        self.payment
    }

    /// Makes a channel of it, now that the node has told what the outpoint holds.
    ///
    /// # Errors
    /// [`Refusal`] when the output is another than the client says.
    pub fn admit(self, output: &TxOut) -> Result<Channel, Refusal> {
        let found = self.contract.terms.check_output(output)?;
        check_capacity(self.contract.capacity, found)?;
        let Self { contract, payment, least, is_stale, shown_at } = self;
        let contract = Arc::new(contract);
        let account = Account {
            contract,
            payment,
            spent: Msat::ZERO,
            least,
            is_stale,
            used_at: shown_at,
            coins: Arc::default(),
        };
        Ok(Channel::Pending(Pending { account, height: None }))
    }
}

/// Checks that the output holds what the client says.
fn check_capacity(shown: Sat, found: Sat) -> Result<(), Refusal> {
    if shown == found { Ok(()) } else { Err(Refusal::OtherCapacity { shown, found }) }
}

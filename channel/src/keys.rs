//! The gateway's keys: all of them come from one seed, and none needs a record.

use std::fmt;

use bitcoin::hashes::{Hash, HashEngine, Hmac, HmacEngine, sha256};
use bitcoin::{EcdsaSighashType, Network, OutPoint, Transaction};
use secp256k1::ecdsa::Signature;
use secp256k1::{PublicKey, SECP256K1, SecretKey};

use crate::contract::{Contract, Kind, Terms};
use crate::pass::{Label, Pass};
use crate::payment::digest;
use crate::refund::RefundRequest;
use crate::units::Expiry;

/// The secret that every key of a gateway is derived from.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Takes 32 random bytes as a seed.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Derives 32 bytes for one purpose.
    fn derive(&self, purpose: &str, parts: &[&[u8]]) -> [u8; 32] {
        let mut engine = HmacEngine::<sha256::Hash>::new(&self.0);
        engine.input(purpose.as_bytes());
        engine.input(&[0]);
        for part in parts {
            engine.input(part);
        }
        Hmac::from_engine(engine).to_byte_array()
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// The keys of a gateway on one network.
#[derive(Clone)]
pub struct Keyring {
    seed: Seed,
    network: Network,
    pass_key: HmacEngine<sha256::Hash>,
    decoy_key: PublicKey,
}

impl Keyring {
    /// Makes the keyring of `seed` on `network`.
    #[must_use]
    pub fn new(seed: Seed, network: Network) -> Self {
        let pass_key = HmacEngine::new(&seed.derive("farebox/v1/pass", &[]));
        let decoy_key = secret_key(&seed, "farebox/v1/decoy", &[]).public_key(SECP256K1);
        Self { seed, network, pass_key, decoy_key }
    }

    /// Returns the network whose channels these keys are for.
    #[must_use]
    pub const fn network(&self) -> Network {
        self.network
    }

    /// Returns what tells this keyring from others without giving it away.
    ///
    /// A store keeps it, so that it is never used with another seed or network.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 16] {
        let network = self.network.to_core_arg();
        let derived = self.seed.derive("farebox/v1/fingerprint", &[network.as_bytes()]);
        truncate(&derived)
    }

    /// Returns the key S for a kind, a client's key and an expiry.
    #[must_use]
    pub fn channel_key(&self, kind: Kind, client_key: &PublicKey, expiry: Expiry) -> ChannelKey {
        ChannelKey(secret_key(
            &self.seed,
            "farebox/v1/channel-key",
            &[
                self.network.to_core_arg().as_bytes(),
                &[0],
                kind.as_str().as_bytes(),
                &[0],
                &client_key.serialize(),
                &expiry.get().to_be_bytes(),
            ],
        ))
    }

    /// Returns a public key that no client has.
    pub(crate) const fn decoy_key(&self) -> PublicKey {
        self.decoy_key
    }

    /// Returns the terms for a kind, a client's key and an expiry.
    #[must_use]
    pub fn terms(&self, kind: Kind, client_key: PublicKey, expiry: Expiry) -> Terms {
        let gateway_key = self.channel_key(kind, &client_key, expiry).public_key();
        Terms { network: self.network, kind, gateway_key, client_key, expiry }
    }

    /// Returns the pass of the channel at `outpoint`.
    #[must_use]
    pub fn pass(&self, outpoint: OutPoint) -> Pass {
        self.pass_and_label(outpoint).0
    }

    /// Returns the pass of the channel at `outpoint`, and its name for logs.
    ///
    /// They are parts of one code that nobody else can make, and neither tells of the other.
    #[must_use]
    pub fn pass_and_label(&self, outpoint: OutPoint) -> (Pass, Label) {
        let mut engine = self.pass_key.clone();
        engine.input(outpoint.txid.as_ref());
        engine.input(&outpoint.vout.to_be_bytes());
        let code = Hmac::from_engine(engine).to_byte_array();
        let (pass, rest) = code.split_first_chunk().unwrap_or((&[0; 16], &[]));
        let label = rest.first_chunk().unwrap_or(&[0; 8]);
        (Pass::new(*pass), Label::new(*label))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("network", &self.network).finish_non_exhaustive()
    }
}

/// The gateway's key S of one channel.
///
/// It signs in two ways only: settlements with `ALL`, and refunds with the flag, sequence and
/// lock time that make them refunds.
pub struct ChannelKey(SecretKey);

impl ChannelKey {
    /// Returns the public key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.0.public_key(SECP256K1)
    }

    /// Signs input `index` of a settlement with `ALL`.
    pub(crate) fn sign_settlement(
        &self,
        transaction: &Transaction,
        index: usize,
        contract: &Contract,
    ) -> Signature {
        let flag = EcdsaSighashType::All;
        let message = digest(transaction, index, &contract.terms, contract.capacity, flag);
        SECP256K1.sign_ecdsa_low_r(&message, &self.0)
    }

    /// Signs the client's refund of a `refund` contract.
    ///
    /// The digest is built here: version 2, sequence 0xfffffffd, lock time T. A signature over
    /// another sequence could make the refund valid at once.
    #[must_use]
    pub fn sign_refund(&self, request: &RefundRequest, network: Network) -> Signature {
        SECP256K1.sign_ecdsa_low_r(&request.digest(self.public_key(), network), &self.0)
    }
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChannelKey").field(&self.public_key()).finish()
    }
}

/// Derives a secret key for one purpose.
fn secret_key(seed: &Seed, purpose: &str, parts: &[&[u8]]) -> SecretKey {
    let mut counter = 0_u8;
    loop {
        let last: &[u8] = &[counter];
        let counted = [parts, &[last]].concat();
        // All but one in 2^128 of all strings of 32 bytes are keys.
        if let Ok(secret) = SecretKey::from_slice(&seed.derive(purpose, &counted)) {
            return secret;
        }
        counter = counter.wrapping_add(1);
    }
}

/// Returns the first 16 bytes.
fn truncate(bytes: &[u8; 32]) -> [u8; 16] {
    let mut truncated = [0; 16];
    for (to, from) in truncated.iter_mut().zip(bytes) {
        *to = *from;
    }
    truncated
}

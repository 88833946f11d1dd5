//! The proof: a client shows that it holds its key, for one action, here and now.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::{Network, OutPoint};
use secp256k1::ecdsa::Signature;
use secp256k1::{Message, PublicKey, SECP256K1, SecretKey};
use thiserror::Error;

use crate::units::{Seconds, Timestamp};

/// The tag of the hash that is signed (in the manner of `BIP-0340`).
const TAG: &[u8] = b"farebox/v1/proof";
/// How old, or how far ahead, a proof's time may be.
pub const PROOF_AGE_MAX: Seconds = Seconds::new(60);

/// What a proof is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Tell what is on record of all channels of a key.
    StatusOfKey(PublicKey),
    /// Tell what is on record of one channel.
    StatusOfChannel(OutPoint),
    /// Close a channel.
    Close(OutPoint),
}

impl Subject {
    /// Returns the action's name and the bytes that it is about.
    fn parts(&self) -> (&'static str, Vec<u8>) {
        match self {
            Self::StatusOfKey(key) => ("status", key.serialize().to_vec()),
            Self::StatusOfChannel(outpoint) => ("status", outpoint_bytes(outpoint)),
            Self::Close(outpoint) => ("close", outpoint_bytes(outpoint)),
        }
    }
}

/// Where a proof is shown: it is worth nothing elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The network of the channels.
    pub network: Network,
    /// The gateway's host, with its port unless it is the scheme's own.
    pub host: &'a str,
}

/// Why a proof shows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ProofError {
    /// The proof was made too long ago, or lies too far ahead.
    #[error("the proof's time is more than 60 s away")]
    Stale,
    /// The signature is not the client key's.
    #[error("the proof is not signed by the client's key")]
    BadSignature,
}

/// A signature by the client's key over an action, a place and a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof {
    /// When it was made.
    pub time: Timestamp,
    /// The signature over the tagged hash.
    pub signature: Signature,
}

impl Proof {
    /// Signs a proof.
    #[must_use]
    pub fn sign(subject: &Subject, place: Place<'_>, time: Timestamp, key: &SecretKey) -> Self {
        let signature = SECP256K1.sign_ecdsa(&digest(subject, place, time), key);
        Self { time, signature }
    }

    /// Verifies that the holder of `key` made this proof, and lately.
    ///
    /// # Errors
    /// [`ProofError`] says why it shows nothing.
    pub fn verify(
        &self,
        subject: &Subject,
        place: Place<'_>,
        wall: Timestamp,
        key: &PublicKey,
    ) -> Result<(), ProofError> {
        if self.time.distance(wall) > u64::from(PROOF_AGE_MAX.get()) {
            return Err(ProofError::Stale);
        }
        SECP256K1
            .verify_ecdsa(&digest(subject, place, self.time), &self.signature, key)
            .map_err(|_| ProofError::BadSignature)
    }
}

/// Returns the tagged hash that is signed; each part of varying length follows its length.
fn digest(subject: &Subject, place: Place<'_>, time: Timestamp) -> Message {
    let (action, bytes) = subject.parts();
    let tag = sha256::Hash::hash(TAG);
    let mut engine = sha256::Hash::engine();
    engine.input(tag.as_byte_array());
    engine.input(tag.as_byte_array());
    for part in
        [action.as_bytes(), place.network.to_core_arg().as_bytes(), place.host.as_bytes(), &bytes]
    {
        let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
        engine.input(&length.to_be_bytes());
        engine.input(part);
    }
    engine.input(&time.get().to_be_bytes());
    Message::from_digest(sha256::Hash::from_engine(engine).to_byte_array())
}

/// Returns the 36 bytes of an outpoint: txid in wire order, index big-endian.
fn outpoint_bytes(outpoint: &OutPoint) -> Vec<u8> {
    let txid: &[u8] = outpoint.txid.as_ref();
    [txid, &outpoint.vout.to_be_bytes()].concat()
}

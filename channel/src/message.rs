//! What travels between a client and a gateway, whatever carries it.
//!
//! A message holds typed values and no rule. [`crate::wire`] turns messages into header fields;
//! another dialect would turn the same messages into something else.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use bitcoin::{Network, OutPoint, ScriptBuf, Transaction, Txid};
use secp256k1::PublicKey;
use secp256k1::ecdsa::Signature;
use thiserror::Error;

use crate::contract::{Contract, Kind};
use crate::pass::Pass;
use crate::payment::Payment;
use crate::payout::Payout;
use crate::proof::{Proof, Subject};
pub use crate::rates::{OfferedRate, OfferedRates};
pub use crate::refund::RefundRequest;
use crate::units::{Expiry, Msat, Sat, Seconds};

/// What the gateway asks and offers, on a 402 answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The price of the request that was refused.
    pub price: Msat,
    /// For how long that price holds, also if it is raised meanwhile; nothing means that nothing
    /// is promised.
    pub price_holds: Option<Seconds>,
    /// What the answer costs in the end, where it is charged while it passes; nothing means that it
    /// costs the price.
    pub rates: Option<OfferedRates>,
    /// The network of the channels.
    pub network: Network,
    /// The kinds of contract that are taken.
    pub kinds: Vec<Kind>,
    /// The least and the greatest capacity.
    pub capacity: RangeInclusive<Sat>,
    /// The shortest and the longest time until the expiry.
    pub lifetime: RangeInclusive<Seconds>,
    /// The first payment: ordinary credit, and the least that a close settles for.
    pub first_payment: Sat,
    /// The confirmations that a contract needs before it is served.
    pub confirmations: u32,
}

/// The client wishes for terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenRequest {
    /// The wished kind.
    pub kind: Kind,
    /// The client's key C, fresh for each channel.
    pub client_key: PublicKey,
    /// The wished capacity.
    pub capacity: Sat,
    /// The wished time until the expiry.
    pub lifetime: Seconds,
}

/// The gateway's terms. The client builds script and address itself and compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TermsReply {
    /// The kind.
    pub kind: Kind,
    /// The network.
    pub network: Network,
    /// The gateway's key S.
    pub gateway_key: PublicKey,
    /// The expiry T.
    pub expiry: Expiry,
    /// The witness script.
    pub script: ScriptBuf,
    /// The address of the contract.
    pub address: String,
}

/// The gateway's half of a refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefundReply {
    /// The signature, flag `NONE|ANYONECANPAY`.
    pub signature: Signature,
}

/// The client asks whether somebody has paid the address of its `cltv` contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    /// The client's key C.
    pub client_key: PublicKey,
    /// The expiry T.
    pub expiry: Expiry,
}

/// The output that pays the address of a `cltv` contract, once one is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchReply {
    /// The output and its value.
    pub seen: Option<(OutPoint, Sat)>,
}

/// The client shows its contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractRequest {
    /// The contract's outpoint.
    pub outpoint: OutPoint,
    /// The contract transaction, unless it is broadcast already.
    pub transaction: Option<Transaction>,
    /// The contract's capacity: the payment's signature commits to it, so it is checked before
    /// any node is asked.
    pub capacity: Sat,
    /// The kind.
    pub kind: Kind,
    /// The client's key C.
    pub client_key: PublicKey,
    /// The expiry T.
    pub expiry: Expiry,
    /// Where the client's change goes.
    pub payout: Payout,
    /// The newest payment.
    pub payment: Payment,
}

impl ContractRequest {
    /// Makes the message that shows `contract` with a payment, and with its transaction unless
    /// that is broadcast already.
    #[must_use]
    pub fn of(contract: &Contract, payment: Payment, transaction: Option<Transaction>) -> Self {
        let Contract { terms, outpoint, capacity, payout } = contract;
        Self {
            outpoint: *outpoint,
            transaction,
            capacity: *capacity,
            kind: terms.kind,
            client_key: terms.client_key,
            expiry: terms.expiry,
            payout: payout.clone(),
            payment,
        }
    }
}

/// Where a channel stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateName {
    /// The contract is not confirmed enough.
    Pending,
    /// The contract confirmed too late before its expiry, or never; it is never served.
    Late,
    /// Payments are taken.
    Open,
    /// A settlement is on its way.
    Closing,
    /// The gateway has given up on a settlement, and leaves the contract to the client's refund.
    WrittenOff,
    /// The settlement is deep in the chain.
    Settled,
    /// The contract was spent by another transaction than a settlement.
    Lost,
}

impl StateName {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Late,
        Self::Open,
        Self::Closing,
        Self::WrittenOff,
        Self::Settled,
        Self::Lost,
    ];

    /// Returns the state's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Late => "late",
            Self::Open => "open",
            Self::Closing => "closing",
            Self::WrittenOff => "written-off",
            Self::Settled => "settled",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no state of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a state is `pending`, `late`, `open`, `closing`, `written-off`, `settled` or `lost`")]
pub struct UnknownState;

impl FromStr for StateName {
    type Err = UnknownState;

    fn from_str(name: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == name).ok_or(UnknownState)
    }
}

/// Where a channel stands, after its contract was shown or its close was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateReply {
    /// The channel.
    pub channel: OutPoint,
    /// Its state.
    pub state: StateName,
    /// The channel's pass.
    pub pass: Pass,
    /// All that is paid, or what is settled once the channel closes.
    pub paid: Sat,
    /// The settlement's id, once there is one.
    pub settlement: Option<Txid>,
}

/// The client pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PayRequest {
    /// The channel.
    pub channel: OutPoint,
    /// The channel's pass.
    pub pass: Pass,
    /// The newest payment, or the latest one again.
    pub payment: Payment,
    /// The most that the request may cost; nothing agrees to whatever it costs now.
    pub price_max: Option<Msat>,
}

/// A few bytes that go along with a payment, and with its answer: the two sides agree on what they
/// mean. No signature covers them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Memo(Vec<u8>);

/// The greatest length of a memo in bytes.
pub const MEMO_LEN_MAX: usize = 128;

/// A memo is longer than [`MEMO_LEN_MAX`] bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a memo has at most {MEMO_LEN_MAX} bytes")]
pub struct MemoTooLong;

impl Memo {
    /// Makes a memo of bytes.
    ///
    /// # Errors
    /// [`MemoTooLong`] when there are too many.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, MemoTooLong> {
        let bytes = bytes.into();
        if bytes.len() > MEMO_LEN_MAX { Err(MemoTooLong) } else { Ok(Self(bytes)) }
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The gateway's account after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// All that is paid.
    pub paid: Sat,
    /// All that is charged.
    pub spent: Msat,
    /// What is left: paid less spent.
    pub credit: Msat,
    /// What this request was charged.
    pub price: Msat,
    /// Whether there is more to come: the answer that begins here goes on charging, or, where nothing
    /// is charged, other requests of the channel are under way.
    pub is_running: bool,
}

/// The client asks what is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRequest {
    /// Whose or which channels.
    pub subject: StatusSubject,
    /// The proof of the client's key.
    pub proof: Proof,
}

/// What a status is asked of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusSubject {
    /// All channels of a client's key.
    Key(PublicKey),
    /// One channel.
    Channel(OutPoint),
}

impl StatusSubject {
    /// Returns what the proof is about.
    #[must_use]
    pub const fn proven(&self) -> Subject {
        match *self {
            Self::Key(key) => Subject::StatusOfKey(key),
            Self::Channel(outpoint) => Subject::StatusOfChannel(outpoint),
        }
    }
}

/// What is on record of one channel. The client believes only what its own signature bears out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelStatus {
    /// The channel.
    pub channel: OutPoint,
    /// The gateway's key S: with it and its own key a client can rebuild the script.
    pub gateway_key: PublicKey,
    /// The kind.
    pub kind: Kind,
    /// The expiry T.
    pub expiry: Expiry,
    /// The capacity.
    pub capacity: Sat,
    /// Where the client's change goes.
    pub payout: Payout,
    /// The newest payment.
    pub payment: Payment,
    /// The least that a close settles for.
    pub least: Sat,
    /// All that is charged.
    pub spent: Msat,
    /// What is left: paid less spent.
    pub credit: Msat,
    /// The state.
    pub state: StateName,
    /// The channel's pass.
    pub pass: Pass,
}

/// What is on record of a client's channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReply {
    /// The channels, newest expiry first.
    pub channels: Vec<ChannelStatus>,
}

/// The client closes its channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseRequest {
    /// The channel.
    pub channel: OutPoint,
    /// The proof of the client's key.
    pub proof: Proof,
    /// The final payment: what is spent, so that unspent credit goes back.
    pub payment: Payment,
}

//! What is on record of one channel of a client: enough to go on, and to get the money back.

use bitcoin::{FeeRate, OutPoint, Transaction, Txid};
use farebox_channel::client::{Draft, Funded, Held, Purse};
use farebox_channel::{Contract, Payout, Refund, RefundError};
use secp256k1::SecretKey;

use crate::outside::Invoice;

/// How far a channel has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The contract is built, and nobody has seen it.
    Funded(Funded),
    /// The refund is held, so the contract may be shown.
    Held(Held),
    /// The gateway has taken the contract.
    Open(Purse),
    /// The channel closes, with this settlement if the gateway has told.
    Closing(Purse, Option<Txid>),
}

/// A contract that somebody was asked to pay, and its key.
#[derive(Clone)]
pub(crate) struct Wanted {
    /// The scheme, host and port of the server.
    pub(crate) origin: String,
    /// The client's secret key of this channel.
    pub(crate) key: SecretKey,
    /// What was agreed on.
    pub(crate) draft: Draft,
    /// Where the change and the refund go.
    pub(crate) payout: Payout,
    /// The height of the chain when that was agreed on, or as far as it was looked at since: no earlier
    /// block pays it, but for what was pruned.
    pub(crate) height: u32,
    /// Whether it was found, so that nobody is asked for it again.
    pub(crate) is_found: bool,
    /// The height of the first block that was pruned before it was looked at: it may pay it.
    pub(crate) pruned: Option<u32>,
}

impl Wanted {
    /// Returns what somebody was asked to pay.
    pub(crate) fn invoice(&self) -> Invoice {
        let Draft { terms, capacity, .. } = self.draft;
        Invoice { address: terms.address(), amount: capacity.to_amount() }
    }
}

/// A channel and its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The scheme, host and port of the server.
    pub origin: String,
    /// The client's secret key of this channel.
    pub key: SecretKey,
    /// How far the channel has come.
    pub stage: Stage,
}

impl std::fmt::Debug for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Record")
            .field("origin", &self.origin)
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl Record {
    /// Returns the contract.
    #[must_use]
    pub const fn contract(&self) -> &Contract {
        match &self.stage {
            Stage::Funded(funded) => &funded.contract,
            Stage::Held(held) => held.refund.contract(),
            Stage::Open(purse) | Stage::Closing(purse, _) => purse.contract(),
        }
    }

    /// Returns the channel's outpoint.
    #[must_use]
    pub const fn outpoint(&self) -> OutPoint {
        self.contract().outpoint
    }

    /// Returns the refund, once it is complete.
    #[must_use]
    pub const fn refund(&self) -> Option<&Refund> {
        match &self.stage {
            Stage::Funded(_) => None,
            Stage::Held(held) => Some(&held.refund),
            Stage::Open(purse) | Stage::Closing(purse, _) => Some(&purse.refund),
        }
    }

    /// Returns the refund as a transaction that any node takes once the median time past is
    /// beyond the expiry.
    ///
    /// # Errors
    /// [`RefundError`] when there is none, or the fee is too high.
    pub fn refund_transaction(&self, rate: FeeRate) -> Result<Transaction, RefundError> {
        let refund = self.refund().ok_or(RefundError::Unsigned)?;
        refund.transaction(&self.contract().payout, rate, &self.key)
    }
}

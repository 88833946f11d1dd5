//! The gateway's side of a channel: one state in, one input, the next state out.
//!
//! Nothing here waits, stores or sends. [`Channel::handle`] takes `&self`, so on any failure the
//! old state is still true; [`Channel::due`] says what is to be done on chain, and says it again
//! until an input tells that it is done.

mod account;
mod attempt;
mod event;
mod opening;
mod refusal;
mod rules;
mod state;

use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, Txid};

pub use account::Account;
pub use attempt::{ATTEMPT_LIFETIME, Attempt, RequestName};
pub use event::{Event, Happened};
pub use opening::{Gateway, Shown};
pub use refusal::Refusal;
pub use rules::Rules;
pub use state::{Closing, Ended, Late, Mined, Open, Pending, Spender};

use crate::contract::Contract;
use crate::message::{ChannelStatus, StateName};
use crate::pass::Pass;
use crate::payment::VerifiedPayment;
use crate::settlement::Settlement;
use crate::units::{Clock, Msat};

/// The depth at which a transaction counts as final.
pub const DEPTH_FINAL: u32 = 6;

/// A channel as the gateway knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The contract is not confirmed enough.
    Pending(Pending),
    /// The contract confirmed too late or never; the client waits for its refund.
    Late(Late),
    /// Payments are taken.
    Open(Open),
    /// A settlement is wanted, on its way or mined.
    Closing(Closing),
    /// The contract's spending is deep in the chain.
    Ended(Ended),
}

/// Why a channel closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client asked for it.
    Client,
    /// Everything is paid and spent.
    Exhausted,
    /// The expiry is near.
    Expiring,
    /// The contract was spent without the gateway's doing.
    Spent,
}

/// What happens to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The client pays for a request.
    Pay {
        /// The payment, verified.
        payment: VerifiedPayment,
        /// The price to charge.
        price: Msat,
    },
    /// The client asks again for an answer that is paid for, with its newest payment, verified.
    Repeat(VerifiedPayment),
    /// A request was not answered, so its charge is taken back.
    Release {
        /// What was charged.
        charge: Msat,
    },
    /// The client closes with its final payment, verified.
    Close(VerifiedPayment),
    /// The gateway closes for what is paid.
    Expire(Cause),
    /// The contract was mined.
    Confirmed {
        /// The block's height.
        height: u32,
        /// The confirmations that it has now.
        confirmations: u32,
    },
    /// The contract is no longer in a block.
    Unconfirmed,
    /// The settlement is built; it goes to the node once this is saved.
    Settle(Settlement),
    /// The contract's output was spent in a block.
    Spent(Mined),
    /// That block is no longer in the chain.
    Unspent,
    /// The chain has grown to this height.
    Deepened {
        /// The height of the tip.
        height: u32,
    },
}

/// What a channel needs done on chain. Doing it twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Duty {
    /// Look whether the contract is confirmed.
    LookUp(OutPoint),
    /// Close the channel.
    Close(Cause),
    /// Build a settlement.
    Settle,
    /// Hand the settlement to the node.
    Broadcast(Transaction),
}

impl Channel {
    /// Returns the channel after `input`.
    ///
    /// # Errors
    /// [`Refusal`] when the input is not possible now; then nothing has changed.
    pub fn handle(&self, clock: Clock, rules: &Rules, input: Input) -> Result<Self, Refusal> {
        match (self, input) {
            (Self::Pending(pending), input) => pending.handle(clock, rules, input),
            (Self::Late(late), input) => late.handle(input),
            (Self::Open(open), input) => open.handle(clock, rules, input),
            (Self::Closing(closing), input) => closing.handle(input),
            (
                Self::Ended(_),
                Input::Pay { .. } | Input::Repeat(_) | Input::Close(_) | Input::Release { .. },
            ) => Err(Refusal::Ended),
            (
                Self::Ended(_),
                Input::Expire(_)
                | Input::Confirmed { .. }
                | Input::Unconfirmed
                | Input::Settle(_)
                | Input::Spent(_)
                | Input::Unspent
                | Input::Deepened { .. },
            ) => Ok(self.clone()),
        }
    }

    /// Returns the channel as it counts after its record was restored from a backup.
    ///
    /// Nobody knows what was paid and served since. So all credit counts as spent, the contract is
    /// looked up anew, and the client shows its newest payment before it is served again.
    #[must_use]
    pub fn restored(self) -> Self {
        match self {
            Self::Open(Open { account, .. }) => {
                let account = Account { is_stale: true, ..account.count_as_spent() };
                Self::Pending(Pending { account })
            }
            Self::Pending(Pending { account }) if account.spent == Msat::ZERO => {
                Self::Pending(Pending { account: Account { is_stale: true, ..account } })
            }
            Self::Pending(Pending { account }) => {
                let account = Account { is_stale: true, ..account.count_as_spent() };
                Self::Pending(Pending { account })
            }
            Self::Late(_) | Self::Closing(_) | Self::Ended(_) => self,
        }
    }

    /// Returns what is to be done on chain now.
    #[must_use]
    pub fn due(&self, clock: Clock, rules: &Rules) -> Option<Duty> {
        match self {
            Self::Pending(pending) => Some(pending.due(clock, rules)),
            Self::Open(open) => open.due(clock, rules),
            Self::Closing(closing) => closing.due(),
            Self::Late(_) | Self::Ended(_) => None,
        }
    }

    /// Returns the account.
    #[must_use]
    pub const fn account(&self) -> &Account {
        match self {
            Self::Pending(Pending { account })
            | Self::Late(Late { account, .. })
            | Self::Open(Open { account, .. })
            | Self::Closing(Closing { account, .. })
            | Self::Ended(Ended { account, .. }) => account,
        }
    }

    /// Returns the contract.
    #[must_use]
    pub const fn contract(&self) -> &Arc<Contract> {
        &self.account().contract
    }

    /// Returns the state's name on the wire.
    #[must_use]
    pub const fn name(&self) -> StateName {
        match self {
            Self::Pending(_) => StateName::Pending,
            Self::Late(_) => StateName::Late,
            Self::Open(_) => StateName::Open,
            Self::Closing(_) => StateName::Closing,
            Self::Ended(ended) => match ended.mined.by {
                Spender::Settlement => StateName::Settled,
                Spender::Refund => StateName::Lost,
            },
        }
    }

    /// Returns what is told of the channel to its client, with its pass.
    #[must_use]
    pub fn status(&self, pass: Pass) -> ChannelStatus {
        let (contract, account) = (self.contract(), self.account());
        ChannelStatus {
            channel: contract.outpoint,
            gateway_key: contract.terms.gateway_key,
            kind: contract.terms.kind,
            expiry: contract.terms.expiry,
            capacity: contract.capacity,
            payout: contract.payout.clone(),
            payment: *account.payment.payment(),
            least: account.least,
            spent: account.spent,
            credit: account.credit(),
            state: self.name(),
            pass,
        }
    }

    /// Returns the id of the transaction that has settled or will settle the channel.
    #[must_use]
    pub fn settlement_txid(&self) -> Option<Txid> {
        match self {
            Self::Closing(closing) => closing.txid(),
            Self::Ended(ended) => Some(ended.mined.txid),
            Self::Pending(_) | Self::Late(_) | Self::Open(_) => None,
        }
    }
}
